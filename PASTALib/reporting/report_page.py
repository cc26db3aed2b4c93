"""A self-contained HTML page of one report: key images with size lines, the eight attributes and what stands behind them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from ..attributes import LEARNED, TABLE, format_size
from ..errors import InputError
from ..findings import Finding
from ..progress import Progress, silent
from ..volume import Volume
from .document import DISCLAIMER, ReportDocument, volume_text
from .page_parts import jpeg, orientation_letters, overview_figure, signed
from .page_style import REPORT_SCRIPT, REPORT_STYLE, STYLE
from .rows import attribute_rows
from .staged import staged
from .views import SOFT_TISSUE, LesionViews, View, scale_bar_mm

_PIXELS = 440
_UNSURE_BELOW = 0.7  # a confidence that deserves a second look is drawn in amber
_UNITS = {"_hu": "HU", "_mm": "mm", "_mm2": "mm²", "_mm3": "mm³", "_ml": "ml"}
_CLOSE = TABLE["invasion"].options[1]


@dataclass
class _SizeLine:
    """A size line in a picture: ends in picture fractions, its length, and which of the two it is."""

    ends: tuple[tuple[float, float], tuple[float, float]]
    length_mm: float
    kind: str


def write_page(
    document: ReportDocument, ct: Volume, path: str | Path, title: str = "Lesion report", progress: Progress = silent
) -> Path:
    """Write the page as one HTML file without external resources, complete or not at all; returns its path.

    ``ct``: the scan that the findings (with masks) lie in, int16 or float HU. InputError for findings without masks, for another scan and
    for a path that cannot be written.
    """
    text = page(document, ct, title, progress)
    with staged([path]) as (target,):
        target.write_text(text, encoding="utf-8")
    return Path(path)


def page(document: ReportDocument, ct: Volume, title: str = "Lesion report", progress: Progress = silent) -> str:
    """The text of ``write_page``."""
    if any(item.mask is None for item in document.findings):
        raise InputError(
            "the report has no masks (it was read from JSON); make the page from CT and mask with `pasta report`"
        )
    if tuple(ct.array.shape) != tuple(document.scan.shape_zyx):
        raise InputError(
            f"CT of shape {ct.array.shape}, the report is of a scan of {document.scan.shape_zyx}; give that scan"
        )
    cards = []
    for count, item in enumerate(document.findings):
        progress(count, len(document.findings), f"pictures of lesion {item.number}")
        cards.append(_card(item, ct, document.untrained))
    body = [
        f"<header><h1>{escape(title)}</h1><ul class=facts>",
        *(f"<li>{escape(fact)}</li>" for fact in document.facts()),
        "</ul>",
        _banner(document),
        _notes(document.notes),
        _summary(document.findings, document.untrained),
        "</header><main>",
        *cards,
        "</main><footer>",
        "<p>Patient right is on the left. Amber: outline of the lesion mask. Blue and green: longest diameter in the axial slice of largest "
        "area, and longest perpendicular to it. Blue box: part of the slice shown large. Key o: outlines and lines off and on.</p>"
        if document.findings
        else "",
        f"<p>{escape(DISCLAIMER)}</p></footer>",
    ]
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}{REPORT_STYLE}</style></head><body>{''.join(body)}<script>{REPORT_SCRIPT}</script></body></html>"
    )


# ---------------------------------------------------------------------------------------------------------------
# Head of the page


def _banner(document: ReportDocument) -> str:
    if not document.untrained:
        return ""
    return (
        "<div class=banner role=alert>Random weights: predictions mean nothing."
        "<span>The model has not been trained. Its shape, density, heterogeneity, surface and invasion are noise; only what is marked as "
        "measured comes from the scan.</span></div>"
    )


def _notes(notes: list[str]) -> str:
    items = "".join(f"<li>{escape(note[:1].upper() + note[1:])}</li>" for note in notes)
    return f"<ul class=notes>{items}</ul>" if items else ""


def _summary(findings: list[Finding], void: bool) -> str:
    if not findings:
        return "<p class=nothing>No lesion in this mask.</p>"
    head = (
        "<th>No.<th>Lesion<th class=wide>Place<th class='wide widest'>Size Z×X×Y<th>Axial diameters<th class=wide>Volume<th class='wide widest'>HU"
        "<th>Shape<th class=wide>Density<th class=wide>Texture<th class=wide>Margin<th class=wide>Adjacent structures"
    )
    rows = []
    for item in findings:
        place = escape(item.place)
        cells = [
            f"<td>{item.number}<td><a href='#lesion-{item.number}'>{escape(item.name)}</a><span class=narrow>{place}</span>",
            f"<td class=wide>{place}<td class='mm wide widest'>{escape(format_size(item.size_zxy_mm))}<td class=mm>{_axes(item)}",
            f"<td class='mm wide'>{volume_text(item.volume_ml)}<td class='mm wide widest'>{_hu(item)}",
            *(_summary_cell(item, key, void) for key in LEARNED),
        ]
        rows.append(f"<tr>{''.join(cells)}")
    return f"<div class=table><table><thead><tr>{head}<tbody>{''.join(rows)}</table></div>"


def _summary_cell(item: Finding, key: str, void: bool) -> str:
    entry = item.report.values.get(key)
    text = entry.value.removesuffix(" margin") if entry else "–"
    if key == "invasion" and entry:
        text = "Close" if entry.value == _CLOSE else "Apart"
    kinds = ["wide"] if key != "shape" else []
    kinds += ["void"] if void and entry and entry.basis == "predicted" else []
    return f"<td class='{' '.join(kinds)}'>{escape(text)}"


def _axes(item: Finding) -> str:
    return f"{item.long_axis.length_mm:.1f} × {item.short_axis.length_mm:.1f} mm"


def _hu(item: Finding) -> str:
    return f"{item.hu.mean:.0f} ± {item.hu.sd:.0f}".replace("-", "\u2212")


# ---------------------------------------------------------------------------------------------------------------
# One lesion


def _card(item: Finding, ct: Volume, void: bool) -> str:
    middle = ct.to_index(np.array([item.long_axis.start_ras, item.long_axis.end_ras, *_ends(item.short_axis)]))
    axial_axis = int(np.argmin(np.ptp(middle, axis=0)))  # both lines lie in one axial slice of the scan
    views = LesionViews(
        ct.array, ct.array, item.mask, ct.affine, item.lesion, 90.0, 2.3,
        box=item.box, axial_index=int(round(float(middle[0, axial_axis]))),
    )  # fmt: skip
    lines = [
        _SizeLine(tuple(views.place("axial", ct.to_index(np.array(end))) for end in _ends(line)), line.length_mm, kind)
        for line, kind in ((item.long_axis, "long"), (item.short_axis, "short"))
    ]
    pictures = [_figure(views.view("axial", _PIXELS), "Axial", lines)]
    if views.window[0] > 1000:  # lung and bone windows hide what soft tissue shows
        pictures.append(_figure(views.view("axial", _PIXELS, SOFT_TISSUE), "Axial, soft tissue"))
    pictures += [_figure(views.view(plane, _PIXELS), plane.capitalize()) for plane in ("coronal", "sagittal")]
    pictures.append(overview_figure(views.overview("axial", 380)))
    width, level = views.window
    remark = (
        "<p class=remark>The lesion reaches the border of the scan: its size is a lower bound.</p>"
        if item.at_border
        else ""
    )
    return (
        f"<article id=lesion-{item.number}><div class=title><h2>{item.number} · {escape(item.name)}</h2>"
        f"<p>{escape(item.place)} · window {signed(width)}, level {signed(level)} HU</p></div>{remark}"
        "<div class=switches><label><input type=checkbox checked value=outline>Outline</label>"
        "<label><input type=checkbox checked value=lines>Size lines</label></div>"
        f"<div class='pictures report' style='--count:{len(pictures)}'>{''.join(pictures)}</div>{_figures(item)}{_attributes(item, void)}{_details(item)}</article>"
    )


def _ends(line) -> tuple:
    return line.start_ras, line.end_ras


def _figure(view: View, caption: str, lines: list[_SizeLine] | None = None) -> str:
    outline = "".join(
        f"<polygon points='{' '.join(f'{100 * x:.2f},{100 * y:.2f}' for x, y in line)}'/>" for line in view.outlines
    )
    length_mm = scale_bar_mm(view.field_mm)
    label = f"{length_mm / 10:g} cm" if length_mm >= 10 else f"{length_mm:g} mm"
    bar = f"<path class=bar d='M4 96h{100 * length_mm / view.field_mm:.2f}'/><text x=4 y=93>{label}</text>"
    size = f"<g class=size>{_size_marks(lines)}</g>" if lines else ""
    marks = f"<g class=outline>{outline}</g>{size}{orientation_letters(view.letters)}{bar}"
    picture = f"<img alt='{escape(caption)} slice' src='{jpeg(view.after)}'>"
    return (
        f"<figure><div class=frame>{picture}<svg viewBox='0 0 100 100' aria-hidden=true>{marks}</svg></div>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _size_marks(lines: list[_SizeLine]) -> str:
    """The two lines, their mm just beyond an end: each on the side where the other has no text."""
    marks = []
    texts: list[tuple[float, float]] = []
    for line in lines:
        (x0, y0), (x1, y1) = ((100 * x, 100 * y) for x, y in line.ends)
        marks.append(f"<line class={line.kind} x1={x0:.2f} y1={y0:.2f} x2={x1:.2f} y2={y1:.2f} />")
        x, y, anchor = _text_place((x0, y0), (x1, y1), texts)
        texts.append((x, y))
        marks.append(f"<text class={line.kind} x={x:.2f} y={y:.2f} text-anchor={anchor}>{line.length_mm:.1f} mm</text>")
    return "".join(marks)


def _text_place(start, end, taken: list[tuple[float, float]]) -> tuple[float, float, str]:
    """Beyond one of the two ends, inside the picture, and as far from other texts as possible."""
    along = np.subtract(end, start) / max(float(np.hypot(*np.subtract(end, start))), 1e-6)
    candidates = []
    for point, outward in ((np.array(start), -along), (np.array(end), along)):
        x, y = point + outward * 3.0 + np.array([0.0, 1.6])
        y += 3.0 * outward[1]
        anchor = "middle" if abs(outward[0]) < 0.45 else "start" if outward[0] > 0 else "end"
        reach = {"middle": (12, 12), "start": (1, 24), "end": (24, 1)}[anchor]
        x = float(np.clip(x, 8 + reach[0], 92 - reach[1]))
        y = float(np.clip(y, 12.0, 88.0))
        distance = min((np.hypot((x - a) / 2, y - b) for a, b in taken), default=99.0)
        candidates.append((distance > 9, float(outward[0]), x, y, anchor))
    best = max(candidates)
    return best[2], best[3], best[4]


def _figures(item: Finding) -> str:
    centre = ", ".join(f"{value:.1f}" for value in item.centre_ras).replace("-", "\u2212")
    entries = [
        ("Longest axial", f"<b class=long>{item.long_axis.length_mm:.1f} mm</b>"),
        ("Perpendicular", f"<b class=short>{item.short_axis.length_mm:.1f} mm</b>"),
        ("Size Z×X×Y", escape(format_size(item.size_zxy_mm))),
        ("Volume", volume_text(item.volume_ml)),
        ("Mean ± SD", f"{_hu(item)} HU"),
        ("5–95 %", f"{item.hu.p5:.0f} to {item.hu.p95:.0f} HU".replace("-", "\u2212")),
        ("Centre R, A, S", f"{centre} mm"),
    ]
    return "<ul class=axes>" + "".join(f"<li data-name='{name}'>{text}</li>" for name, text in entries) + "</ul>"


def _attributes(item: Finding, void: bool) -> str:
    cells = []
    figures = item.measured.values if item.measured is not None else {}
    for row in attribute_rows(item.report, (), item.reasons):
        entry = item.report.values.get(row.key)
        kinds, origin = [], ""
        if entry is None:
            kinds.append("unknown")
            origin = (
                escape(row.remark or "needs a model, or an organ map to measure against") if row.key in LEARNED else ""
            )
        else:
            origin = f"<span class='tag {entry.basis}'>{entry.basis}</span>"
            if entry.basis == "predicted" and void:
                kinds.append("void")
                origin = "<span class=tag>random weights</span>"
            if entry.confidence is not None:
                kinds += ["unsure"] if entry.confidence < _UNSURE_BELOW else []
                origin += _meter(entry.confidence)
            origin += _beside(row.key, entry, figures)
        kind = f" class='{' '.join(kinds)}'" if kinds else ""
        cells.append(
            f"<div{kind}><dt>{escape(row.name)}</dt><dd>{escape(row.reported)}</dd><dd class=origin>{origin}</dd></div>"
        )
    return f"<dl>{''.join(cells)}</dl>"


def _beside(key: str, entry, measured: dict) -> str:
    """What was measured of the same attribute, and the figure that a reader asks for first."""
    other = measured.get(key)
    text = ""
    if other is not None and entry.basis != "measured":
        kind = "agrees" if other.value == entry.value else "differs"
        text = f"<span class=number>measured: <span class={kind}>{escape(other.value)}</span></span>"
    delta = ((other or entry).figure or {}).get("density_delta_hu")
    if delta is not None:
        text += f"<span class=number>{f'{delta:+.0f}'.replace('-', chr(0x2212))} HU to its surroundings</span>"
    return text


def _meter(share: float) -> str:
    return f"<span class=meter><i><b style='width:{100 * share:.0f}%'></b></i>{100 * share:.0f} %</span>"


def _details(item: Finding) -> str:
    """All option probabilities and all measured figures, folded away."""
    blocks = []
    for key, options in item.prediction.probabilities.items() if item.prediction is not None else ():
        best = item.prediction.best(key)[0]
        entries = "".join(
            f"<li{' class=best' if option == best else ''}>{escape(option)}{_meter(share)}</li>"
            for option, share in options.items()
        )
        blocks.append(f"<div><h3>{TABLE[key].title}, predicted</h3><ul>{entries}</ul></div>")
    for key, entry in (item.measured.values if item.measured is not None else {}).items():
        if key in LEARNED and entry.figure:
            entries = "".join(f"<li>{_named_figure(name, value)}</li>" for name, value in entry.figure.items())
            blocks.append(f"<div><h3>{TABLE[key].title}, measured: {escape(entry.value)}</h3><ul>{entries}</ul></div>")
    if not blocks:
        return ""
    words = [
        word
        for word, there in (("probabilities", item.prediction), ("measured figures", item.measured))
        if there is not None
    ]
    return f"<details><summary>All {' and '.join(words)}</summary><div class=more>{''.join(blocks)}</div></details>"


def _named_figure(name: str, value: float) -> str:
    ending = next((end for end in sorted(_UNITS, key=len, reverse=True) if name.endswith(end)), "")
    words = name.removesuffix(ending).replace("_", " ").replace(" hu", " HU")
    number = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if name == "gap_mm" and value >= 99:  # how the measurement writes that no other structure is near
        return "<span>gap</span><span>nothing near</span>"
    return f"<span>{escape(words)}</span><span>{number.replace('-', chr(0x2212))} {_UNITS.get(ending, '')}</span>"
