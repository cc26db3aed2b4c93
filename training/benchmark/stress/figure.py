"""Detectability curves as a figure: one column per attribute, one row per measure; for the page and for print."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from PASTALib import taxonomy

from ...runs import replacing
from .curves import Curve
from .design import ATTRIBUTES, DENSITY, GRID, LOCATION, SIZE, SURFACE

AXES = {
    SIZE: "Diameter (mm)",
    DENSITY: "Difference to surroundings (HU, magnitude)",
    SURFACE: "Width of the margin (× sharp edge)",
    LOCATION: "",
}
TITLES = {SIZE: "Size", DENSITY: "Density", SURFACE: "Margin", LOCATION: "Location"}
MEASURES = {"found": "Lesions found", "dice": "Dice of the lesion", "auc": "Lesion evidence (AUC)"}
_COLOURS = {  # light, dark: told apart with the usual kinds of colour blindness
    "light": ("#0b62a4", "#c8501a", "#2b8a5b", "#8a4fa3", "#8a6d00", "#444444"),
    "dark": ("#62c7ff", "#ffb454", "#8fd18f", "#d79bf0", "#e8d36b", "#cccccc"),
}
_INK = {"light": ("#ffffff", "#222222", "#666666", "#dddddd"), "dark": ("#1a1d21", "#e6e8eb", "#9aa3ad", "#2b3036")}
_DASHES = ("-", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.2, 1, 1.2)))
_MARKERS = "osD^v"


@dataclass(frozen=True)
class Series:
    """Curves that share a colour: those of one model. ``label`` as the legend has it."""

    label: str
    curves: list[Curve]


def draw_curves(series: Sequence[Series], theme: str = "light", title: str = ""):
    """A matplotlib Figure. Colours are models; dashes and markers are scans and lesion types (colours too, where there is one model)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    everything = [curve for one in series for curve in one.curves]
    factors = [name for name in ATTRIBUTES if any(curve.factor == name for curve in everything)]
    places = _places(everything)
    ticks = {
        factor: sorted({level for curve in everything if curve.factor == factor for level in curve.levels})
        for factor in factors
        if factor != LOCATION
    }
    ground, ink, quiet, rule = _INK[theme]
    widths = [1.25 if name == LOCATION else 1.0 for name in factors]
    figure = Figure(figsize=(3.15 * sum(widths) + 0.5, 7.2), facecolor=ground, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(MEASURES), len(factors), width_ratios=widths)
    labelled: dict[str, object] = {}
    for row, (measure, name) in enumerate(MEASURES.items()):
        for column, factor in enumerate(factors):
            axes = figure.add_subplot(grid[row, column])
            _dress(axes, factor, measure, row, column, name, places, ticks, ground, ink, quiet, rule)
            for label, curve, look in _looks(series, factor, measure, theme):
                draw = _draw_places if factor == LOCATION else _draw_curve
                handle = draw(axes, curve, look, places)
                labelled.setdefault(label, handle)
            if measure == "found" and factor != LOCATION:
                for _, curve, look in _looks(series, factor, "marked_before", theme):
                    axes.plot(curve.levels, curve.mean, color=look["color"], lw=0.9, ls=(0, (1, 2)), alpha=0.8)
    legend = figure.legend(
        labelled.values(),
        labelled.keys(),
        loc="outside lower center",
        ncols=min(len(labelled), 4),
        frameon=False,
        fontsize=9,
        handlelength=3.2,
    )
    for text in legend.get_texts():
        text.set_color(ink)
    if title:
        figure.suptitle(title, color=ink, fontsize=12.5, x=0.01, ha="left")
    return figure


def draw_grid(curves: Sequence[Curve], axes_names: Sequence[str], theme: str = "light"):
    """Share of lesions found over size and density as a Figure of heat maps, one per scan, type and level of the margin; None without a grid."""
    found = [curve for curve in curves if curve.factor == GRID and curve.measure == "found"]
    if not found or len(axes_names) < 2:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ground, ink, quiet, _ = _INK[theme]
    panels = []
    for curve in found:
        points = [(tuple(map(float, level.split())), mean) for level, mean in zip(curve.levels, curve.mean)]
        for third in sorted(
            {place[2] if len(place) > 2 else None for place, _ in points}, key=lambda value: value or 0
        ):
            own = {place[:2]: mean for place, mean in points if len(place) < 3 or place[2] == third}
            panels.append((curve, third, own))
    columns = min(len(panels), 4)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.3 * columns + 0.6, 3.1 * rows + 0.3), facecolor=ground, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (curve, third, own) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        xs, ys = (sorted({place[axis] for place in own}) for axis in (0, 1))
        picture = np.array([[own.get((x, y), np.nan) for x in xs] for y in ys])
        axes.imshow(picture, origin="lower", vmin=0, vmax=1, cmap="cividis", aspect="auto")
        for (j, i), value in np.ndenumerate(picture):
            if np.isfinite(value):
                axes.text(
                    i,
                    j,
                    f"{100 * value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if value < 0.6 else "black",
                )
        axes.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
        axes.set_yticks(range(len(ys)), [f"{y:g}" for y in ys])
        margin = "" if third is None else f", margin × {third:g}"
        axes.set_title(
            f"{curve.scan}, {taxonomy.lesion(curve.lesion).name.lower()}{margin}", fontsize=9, color=ink, loc="left"
        )
        axes.set_xlabel(AXES[axes_names[0]], fontsize=8.5, color=ink)
        axes.set_ylabel(AXES[axes_names[1]], fontsize=8.5, color=ink)
        axes.tick_params(colors=quiet, labelsize=8)
    return figure


def svg(figure) -> str:
    """The figure as an ``<svg>`` element, text as text, the same bytes for the same figure."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "stress", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def save_png(figure, path: Path, dpi: int = 160) -> Path:
    """Write a PNG, complete or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)
    return path


def _looks(series: Sequence[Series], factor: str, measure: str, theme: str):
    """(label, curve, look) of every curve of a panel."""
    kinds = list(dict.fromkeys((curve.scan, curve.lesion) for one in series for curve in one.curves))
    several_lesions = len({lesion for _, lesion in kinds}) > 1
    for number, one in enumerate(series):
        for curve in one.curves:
            if (curve.factor, curve.measure) != (factor, measure):
                continue
            kind = kinds.index((curve.scan, curve.lesion))
            colour = _COLOURS[theme][(number if len(series) > 1 else kind) % 6]
            parts = [one.label] if len(series) > 1 else []
            parts += [curve.scan] + ([taxonomy.lesion(curve.lesion).name.lower()] if several_lesions else [])
            count = len(series) * len(kinds)
            place = number * len(kinds) + kind
            look = {
                "color": colour, "dash": _DASHES[kind % 4], "marker": _MARKERS[kind % 5],
                "alpha": 0.13 if count < 3 else 0.07,
                "shift": (place - (count - 1) / 2) / max(count, 1),
            }  # fmt: skip
            yield ", ".join(parts), curve, look


def _draw_curve(axes, curve: Curve, look: dict, places):
    x = np.asarray(curve.levels, float)
    if curve.line is not None:
        at, middle, low, high = curve.line
        axes.fill_between(at, low, high, color=look["color"], alpha=look["alpha"], lw=0)
        axes.plot(at, middle, color=look["color"], lw=1.6, ls=look["dash"])
    else:
        axes.fill_between(x, curve.low, curve.high, color=look["color"], alpha=look["alpha"], lw=0)
        axes.plot(x, curve.mean, color=look["color"], lw=1.6, ls=look["dash"])
    # whiskers of several curves stand beside, not upon one another; the axis is logarithmic
    beside = x * np.exp(0.035 * look["shift"])
    below, above = np.asarray(curve.mean) - curve.low, np.asarray(curve.high) - curve.mean
    axes.errorbar(
        beside, curve.mean, [np.maximum(below, 0), np.maximum(above, 0)],
        fmt="none", ecolor=look["color"], elinewidth=0.9, alpha=0.75,
    )  # fmt: skip
    axes.plot(beside, curve.mean, look["marker"], color=look["color"], ms=4.2)
    if curve.half is not None and math.isfinite(curve.half.value):
        axes.plot([curve.half.value], [0.5], "|", color=look["color"], ms=13, mew=2)
    return _handle(look)


def _draw_places(axes, curve: Curve, look: dict, places):
    y = np.array([places.index(level) for level in curve.levels]) + 0.55 * look["shift"]
    below, above = np.asarray(curve.mean) - curve.low, np.asarray(curve.high) - curve.mean
    axes.errorbar(
        curve.mean, y, xerr=[np.maximum(below, 0), np.maximum(above, 0)],
        fmt=look["marker"], color=look["color"], ms=4.2, elinewidth=1.1,
    )  # fmt: skip
    return _handle(look)


def _handle(look: dict):
    from matplotlib.lines import Line2D

    return Line2D([], [], color=look["color"], ls=look["dash"], marker=look["marker"], ms=4.5, lw=1.6)


def _places(curves: Sequence[Curve]) -> list:
    """Names of places, first on top."""
    return list(dict.fromkeys(level for curve in curves if curve.factor == LOCATION for level in curve.levels))[::-1]


def place_name(level: str) -> str:
    """ "Liver, right lobe" for "liver_tumor/right_lobe"; the lesion type for one without a site."""
    lesion, _, site = level.partition("/")
    known = taxonomy.lesion(lesion)
    return f"{taxonomy.organ(known.organ).name}, {site.replace('_', ' ')}" if site else known.name


def _dress(axes, factor, measure, row, column, name, places, ticks, ground, ink, quiet, rule) -> None:
    axes.set_facecolor(ground)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(quiet)
    axes.tick_params(colors=quiet, labelsize=8.5, which="both")
    axes.grid(True, color=rule, lw=0.6)
    axes.set_axisbelow(True)
    if row == 0:
        axes.set_title(TITLES[factor], fontsize=11, color=ink, loc="left", fontweight="bold")
    if factor == LOCATION:
        axes.set_yticks(range(len(places)), [place_name(level) for level in places], color=ink)
        axes.set_ylim(-0.6, len(places) - 0.4)
        axes.set_xlim(-0.03, 1.03)
        axes.set_xlabel(name, fontsize=9, color=ink)
    else:
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(ticks[factor]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylim(-0.04, 1.04)
        if row == len(MEASURES) - 1:
            axes.set_xlabel(AXES[factor], fontsize=9, color=ink)
        if column == 0:
            axes.set_ylabel(name, fontsize=9.5, color=ink)
    reference = {"found": 0.5, "auc": 0.5}.get(measure)
    if reference is not None:
        (axes.axvline if factor == LOCATION else axes.axhline)(reference, color=quiet, lw=0.8, ls=(0, (3, 3)))
