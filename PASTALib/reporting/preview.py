"""The preview picture of one lesion: three planes, before, after and outlined, with scale bar, window and attributes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .. import taxonomy
from ..attributes import StructuredReport
from .rows import summary_lines
from .views import PLANES, LesionViews, scale_bar_mm

BACKGROUND = "#15181c"
TEXT = "#e8eaed"
QUIET = "#9aa3ad"
OUTLINE = "#ffb454"
BOX = "#62c7ff"


def save_preview(
    path: str | Path,
    ct_before: np.ndarray,
    ct_after: np.ndarray,
    label: np.ndarray,
    affine: np.ndarray,
    lesion_key: str,
    report: StructuredReport | None = None,
    *,
    min_field_mm: float = 120.0,
    pixels: int = 400,
) -> Path:
    """Write a PNG of one lesion and return its path.

    ``ct_before``, ``ct_after`` (HU) and ``label`` (lesion where true) are ``(z, y, x)`` arrays on the grid of ``affine`` (voxel (i, j, k) to RAS mm, any
    orientation and spacing). ``report`` is the lesion's StructuredReport (None: no attribute line). Rows are axial, coronal and sagittal, columns
    before, after, outline and the whole slice. The field of view is 2.75 times the lesion, at least ``min_field_mm``. ``ValueError`` for an empty mask.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    views = LesionViews(ct_before, ct_after, label, affine, lesion_key, min_field_mm)
    panel, gap, head, foot, margin = pixels, 8, 128, 40, 24
    small = round(panel * 0.72)
    width = 2 * margin + 3 * panel + 3 * gap + small
    height = head + 3 * panel + 2 * gap + foot
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)

    def axes(x: float, y: float, w: float, h: float):
        """Axes at pixel (x, y) from the top left."""
        item = figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height), facecolor="black")
        item.set_axis_off()
        return item

    def write(x: float, y: float, text: str, size: float, colour: str = TEXT, **style) -> None:
        figure.text(x / width, 1 - y / height, text, fontsize=size * 0.72, color=colour, **style)

    write(margin, 42, taxonomy.lesion(lesion_key).name, 26, weight="bold")
    for line, text in enumerate(summary_lines(report)):
        write(margin, 66 + 20 * line, text, 14.5, QUIET)
    columns = [margin + index * (panel + gap) for index in range(4)]
    for x, name in zip(columns, ("Before", "After", "Outline", "Whole slice")):
        write(x, head - 7, name, 14, weight="bold")

    for row, plane in enumerate(PLANES):
        y = head + row * (panel + gap)
        view = views.view(plane, panel)
        for x, picture in zip(columns, (view.before, view.after, view.after)):
            item = axes(x, y, panel, panel)
            item.imshow(
                picture, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0), interpolation="nearest", aspect="auto"
            )
            item.set(xlim=(0, 1), ylim=(1, 0))
            if x == columns[2]:
                for outline in view.outlines:
                    item.plot(outline[:, 0], outline[:, 1], color=OUTLINE, linewidth=1.1, solid_joinstyle="round")
            _letters(item, view.letters)
            if x == columns[0]:
                item.text(0.022, 0.03, plane.capitalize(), color=TEXT, fontsize=10, va="top", **_halo())
                _scale_bar(item, view.field_mm)
        overview = views.overview(plane, small)
        tall, wide = overview.picture.shape
        item = axes(columns[3] + (small - wide) / 2, y, wide, tall)
        item.imshow(
            overview.picture, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0), interpolation="nearest", aspect="auto"
        )
        x0, y0, x1, y1 = np.clip(overview.box, 0.003, 0.997)
        item.set(xlim=(0, 1), ylim=(1, 0))
        item.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=BOX, linewidth=1.1)
        _letters(item, overview.letters)

    width_hu, level_hu = views.window
    write(margin, height - 15, f"Window {width_hu:g} HU, level {level_hu:g} HU".replace("-", "\u2212"), 13, QUIET)
    write(width - margin, height - 15, "Synthetic lesion. Not for diagnosis.", 13, QUIET, ha="right")
    path = Path(path)
    figure.savefig(
        path, format="png", facecolor=BACKGROUND, pil_kwargs={"compress_level": 4}, metadata={"Software": "SlicerPASTA"}
    )
    return path


def _halo() -> dict:
    from matplotlib import patheffects

    return {"path_effects": [patheffects.withStroke(linewidth=2.2, foreground="black", alpha=0.75)]}


def _letters(item, letters: str) -> None:
    left, right, top, bottom = letters
    style = {"color": QUIET, "fontsize": 9, "transform": item.transAxes, **_halo()}
    item.text(0.015, 0.5, left, va="center", **style)
    item.text(0.985, 0.5, right, va="center", ha="right", **style)
    item.text(0.5, 0.985, top, va="top", ha="center", **style)
    item.text(0.5, 0.015, bottom, va="bottom", ha="center", **style)


def _scale_bar(item, field_mm: float) -> None:
    length_mm = scale_bar_mm(field_mm)
    x0, y0 = 0.03, 0.965
    item.plot([x0, x0 + length_mm / field_mm], [y0, y0], color=TEXT, linewidth=2.4, solid_capstyle="butt", **_halo())
    label = f"{length_mm / 10:g} cm" if length_mm >= 10 else f"{length_mm:g} mm"
    item.text(x0, y0 - 0.02, label, color=TEXT, fontsize=9, va="bottom", **_halo())
