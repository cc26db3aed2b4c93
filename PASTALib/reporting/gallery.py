"""A self-contained HTML page of synthetic lesions: before, after and outline, with the eight attributes asked for and found."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from .. import taxonomy
from ..attributes import StructuredReport
from .page_parts import jpeg, orientation_letters, overview_figure, signed
from .page_style import SCRIPT, STYLE
from .rows import AttributeRow, attribute_rows
from .views import LesionViews, Overview, View, scale_bar_mm


@dataclass(frozen=True)
class Stage:
    """One more picture of a lesion's axial slice: HU in place of the scan's ``after``, or masks (name -> bool ``(z, y, x)``) to outline.

    ``compare``: holding it shows the picture to its left. Names of masks are classes of ``page_style``: "found-organ", "found-lesion".
    """

    caption: str
    hu: np.ndarray | None = None
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    compare: bool = False


@dataclass
class GalleryEntry:
    """One lesion on the page, drawn at once so that the scan can go on changing, or a type that was left out and why."""

    lesion_key: str
    report: StructuredReport | None = None
    views: dict[str, View] = field(default_factory=dict)
    overview: Overview | None = None
    window: tuple[float, float] = (0.0, 0.0)
    remarks: list[str] = field(default_factory=list)
    rows: list[AttributeRow] = field(default_factory=list)
    skipped: str = ""
    stages: list[tuple[Stage, View, dict[str, list[np.ndarray]]]] = field(default_factory=list)
    stage_facts: list[str] = field(default_factory=list)

    @classmethod
    def draw(
        cls,
        before: np.ndarray,
        after: np.ndarray,
        label: np.ndarray,
        affine: np.ndarray,
        report: StructuredReport,
        *,
        rows: list[AttributeRow] | None = None,
        remarks: list[str] | None = None,
        min_field_mm: float = 80.0,
        field_factor: float = 2.2,
        stages: list[Stage] | None = None,
        stage_facts: list[str] | None = None,
    ) -> GalleryEntry:
        """Draw one lesion. Arrays as for ``save_preview``: ``(z, y, x)`` HU before and after, lesion mask, affine to RAS mm.

        ``rows``: the attribute rows where more is known than the report tells (``rows_of``). ``stages``: a second row of pictures, with
        ``stage_facts`` (lines of text) beside them.
        """
        views = LesionViews(before, after, label, affine, report.lesion, min_field_mm, field_factor)
        drawn = {
            "axial": views.view("axial", 440),
            "coronal": views.view("coronal", 320),
            "sagittal": views.view("sagittal", 320),
        }
        rows = attribute_rows(report) if rows is None else rows
        further = []
        for stage in stages or []:
            image = after if stage.hu is None else stage.hu
            seen = LesionViews(image, image, label, affine, report.lesion, min_field_mm, field_factor)
            lines = {name: seen.outlines(mask, "axial") for name, mask in stage.masks.items()}
            further.append((stage, seen.view("axial", 440), lines))
        overview = views.overview("axial", 360)
        return cls(
            report.lesion,
            report,
            drawn,
            overview,
            views.window,
            list(remarks or []),
            rows,
            stages=further,
            stage_facts=list(stage_facts or []),
        )

    @classmethod
    def skip(cls, lesion_key: str, reason: str) -> GalleryEntry:
        """A lesion type that this scan does not allow."""
        return cls(lesion_key, skipped=reason)


def write_gallery(
    path: str | Path,
    entries: list[GalleryEntry],
    title: str,
    facts: list[str],
    links: list[tuple[str, str]] | None = None,
) -> Path:
    """Write the page as one HTML file without external resources and return its path.

    ``facts`` are short lines under the title, ``links`` pairs of a file beside the page and what to call it.
    """
    shown = [entry for entry in entries if entry.report is not None]
    left_out = [entry for entry in entries if entry.report is None]
    anchors = [f"lesion-{number}" for number in range(1, len(shown) + 1)]
    names = [_name(entry) for entry in shown]
    parts = [
        "<header><h1>", escape(title), "</h1><ul class=facts>",
        *(f"<li>{escape(fact)}</li>" for fact in facts),
        "</ul>",
        _links(links or []),
        _navigation(anchors, names) if len(shown) > 1 else "",
        "</header><main>",
        *(_card(entry, anchor, name) for entry, anchor, name in zip(shown, anchors, names)),
        _left_out(left_out),
        "</main><footer><p>Patient right is on the left. Amber: outline of the lesion mask. Blue box: part of the slice shown large.</p>"
        "<p>Synthetic lesions, for research and teaching. Not for diagnosis.</p></footer>",
    ]  # fmt: skip
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}<script>{SCRIPT}</script></body></html>"
    )
    path = Path(path)
    path.write_text(page, encoding="utf-8")
    return path


def _name(entry: GalleryEntry) -> str:
    return taxonomy.lesion(entry.lesion_key).name


def _navigation(anchors: list[str], names: list[str]) -> str:
    links = "".join(f"<a href='#{anchor}'>{escape(name)}</a>" for anchor, name in zip(anchors, names))
    return f"<nav aria-label='Lesions'>{links}</nav>"


def _links(links: list[tuple[str, str]]) -> str:
    items = " · ".join(f"<a href='{escape(file)}'>{escape(text)}</a>" for file, text in links)
    return f"<p class=beside>{items}</p>" if items else ""


def _card(entry: GalleryEntry, anchor: str, name: str) -> str:
    report, axial = entry.report, entry.views["axial"]
    width, level = entry.window
    pictures = [
        _figure(axial, "Before", scale=True),
        _figure(axial, "After", hold=True),
        _figure(axial, "Outline"),
        overview_figure(entry.overview),
    ]
    more = [
        _figure(
            entry.views[plane], f"{plane.capitalize()}, {kind.lower()}", scale=kind == "Before", hold=kind == "After"
        )
        for plane in ("coronal", "sagittal")
        for kind in ("Before", "After", "Outline")
    ]
    remarks = "".join(f"<p class=remark>{escape(remark[:1].upper() + remark[1:])}</p>" for remark in entry.remarks)
    return (
        f"<article id={anchor}><div class=title><h2>{escape(name)}</h2>"
        f"<p>{escape(report.location_detail or report.organ.name)} · {escape(report.value('size') or '')}"
        f" · window {signed(width)}, level {signed(level)} HU</p></div>{remarks}"
        f"<div class=pictures>{''.join(pictures)}</div>{_stages(entry)}{_attributes(entry.rows)}"
        f"<details><summary>Coronal and sagittal</summary><div class='pictures three'>{''.join(more)}</div></details></article>"
    )


def _stages(entry: GalleryEntry) -> str:
    if not entry.stages:
        return ""
    pictures = [
        _figure(view, stage.caption, hold=stage.compare, lines=lines or None) for stage, view, lines in entry.stages
    ]
    facts = "".join(f"<p>{escape(line)}</p>" for line in entry.stage_facts)
    names = dict.fromkeys(name for _, _, lines in entry.stages for name in lines)
    legend = "".join(f"<p class='key {name}'>{_LEGEND[name]}</p>" for name in names)
    return f"<div class='pictures stages'>{''.join(pictures)}<div class=told>{facts}{legend}</div></div>"


_LEGEND = {"found-organ": "Organ as segmented", "found-lesion": "Lesion as segmented", "outline": "True outline"}


def _attributes(rows: list[AttributeRow]) -> str:
    cells = []
    for row in rows:
        origin = escape(row.origin)
        if row.basis == "measured" and row.wanted:
            aim = "requested" if row.asked else "drawn"
            if row.differs:
                kind = "differs" if row.asked else "other"
                origin = f"<span class={kind}>measured</span>; {aim}: {escape(row.wanted)}"
            elif row.key == "size":
                origin = f"<span class=agrees>measured</span>; {aim}: {escape(row.wanted)}"
            else:
                origin = f"<span class=agrees>measured</span>, as {aim}"
        remark = f"<span class=number>{escape(row.remark)}</span>" if row.remark else ""
        cells.append(
            f"<div><dt>{escape(row.name)}</dt><dd>{escape(row.reported)}</dd><dd class=origin>{origin}{remark}</dd></div>"
        )
    return f"<dl>{''.join(cells)}</dl>"


def _left_out(entries: list[GalleryEntry]) -> str:
    if not entries:
        return ""
    items = "".join(f"<li><b>{escape(_name(entry))}</b> {escape(entry.skipped)}</li>" for entry in entries)
    return f"<section class=left-out><h2>Left out</h2><ul>{items}</ul></section>"


def _figure(
    view: View,
    caption: str,
    *,
    scale: bool = False,
    hold: bool = False,
    lines: dict[str, list[np.ndarray]] | None = None,
) -> str:
    before = caption.lower().endswith("before")
    marks = orientation_letters(view.letters)
    lines = lines or ({"outline": view.outlines} if caption.lower().endswith("outline") else {})
    for name, group in lines.items():
        polygons = "".join(
            f"<polygon points='{' '.join(f'{100 * x:.2f},{100 * y:.2f}' for x, y in line)}'/>" for line in group
        )
        marks = f"<g class='{name}'>{polygons}</g>{marks}"
    if scale:
        length_mm = scale_bar_mm(view.field_mm)
        label = f"{length_mm / 10:g} cm" if length_mm >= 10 else f"{length_mm:g} mm"
        marks += f"<path class=bar d='M4 96h{100 * length_mm / view.field_mm:.2f}'/><text x=4 y=93>{label}</text>"
    picture = f"<img alt='{escape(caption)}, {view.plane} slice' src='{jpeg(view.before if before else view.after)}'>"
    hint = " <span class=hint>hold to compare</span>" if hold else ""
    kind = " class=hold" if hold else ""
    return f"<figure{kind}><div class=frame>{picture}<svg viewBox='0 0 100 100' aria-hidden=true>{marks}</svg></div><figcaption>{caption}{hint}</figcaption></figure>"
