"""The quality page of a set of cases: attributes and sizes against the priors, acceptance, time, and pictures. One HTML file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from PASTALib import attributes, taxonomy
from PASTALib.cases import IMAGE, INSTANCES, LABEL, LESION_VALUE
from PASTALib.reporting.page_parts import jpeg, orientation_letters
from PASTALib.reporting.page_style import STYLE
from PASTALib.reporting.views import LesionViews, scale_bar_mm
from PASTALib.volume import read_volume

from . import marginals
from .manifest import in_order
from .quality_style import QUALITY_STYLE
from .words import duration, size

PER_TYPE = 4  # cases shown of each type
_PIXELS = 300


def to_show(lines: Sequence[Mapping]) -> list[Mapping]:
    """The first few cases of each type by number."""
    shown = []
    for kind in taxonomy.LESION_KEYS:
        shown += sorted((line for line in lines if line["type"] == kind), key=lambda line: line["id"])[:PER_TYPE]
    return shown


def picture(root: str, line: Mapping) -> tuple[str, str]:
    """Id of a case and its figure (HTML): axial slice through the main lesion with its outline."""
    folder = Path(root) / line["id"]
    ct = read_volume(folder / IMAGE, "ct")
    if (folder / INSTANCES).is_file():
        label = read_volume(folder / INSTANCES, "labels").array == 1
    else:
        label = read_volume(folder / LABEL, "labels").array == LESION_VALUE
    views = LesionViews(ct.array, ct.array, label, ct.affine, line["type"], 80.0, 2.2)
    view = views.view("axial", _PIXELS)
    lines = "".join(
        f"<polygon points='{' '.join(f'{100 * x:.1f},{100 * y:.1f}' for x, y in outline)}'/>"
        for outline in view.outlines
    )
    length = scale_bar_mm(view.field_mm)
    bar = f"<path class=bar d='M4 96h{100 * length / view.field_mm:.1f}'/><text x=4 y=93>{length / 10:g} cm</text>"
    words = [line["lesions"][0]["attributes"][key] for key in ("size", "shape", "density")]
    caption = " · ".join(str(word) for word in words if word)
    return line["id"], (
        f"<figure><div class=frame><img loading=lazy alt='{escape(line['id'])}, axial slice' src='{jpeg(view.after)}'>"
        f"<svg viewBox='0 0 100 100' aria-hidden=true><g class=outline>{lines}</g>{orientation_letters(view.letters)}{bar}</svg></div>"
        f"<figcaption><b>{escape(line['id'].rsplit('/', 1)[-1])}</b> {escape(caption)}</figcaption></figure>"
    )


def write_page(
    path: Path,
    lines: Sequence[Mapping],
    failed: Sequence[Mapping],
    pictures: Mapping[str, str],
    settings: Mapping,
    times: Mapping[str, Mapping],
) -> Path:
    """Write the page. ``lines``: manifest; ``failed``: cases given up; ``pictures``: figures by case id; ``times``: lines of times.jsonl by id."""
    kinds = [kind for kind in taxonomy.LESION_KEYS if any(line["type"] == kind for line in lines)]
    by_kind = {kind: [line for line in in_order(lines) if line["type"] == kind] for kind in kinds}
    title = "Generated cases" if settings else "Cases"
    parts = [
        f"<header><h1>{title}</h1><ul class=facts>",
        *(f"<li>{escape(fact)}</li>" for fact in _facts(lines, failed, settings, times)),
        "</ul><nav aria-label='Lesion types'>",
        *(f"<a href='#{kind}'>{escape(taxonomy.lesion(kind).name)}</a>" for kind in kinds),
        "</nav></header><main>",
        _table(by_kind, failed, times),
        *(_article(kind, by_kind[kind], pictures) for kind in kinds),
        _given_up(failed),
        "</main><footer><p>Bars: share of the lesions whose report says so. Blue mark: what the priors give for lesions of these lengths beside tissue of this "
        "density. Amber: farther apart than chance and 5 % explain; draws that the organ did not allow were drawn again.</p>"
        "<p>Patient right is on the left. Synthetic lesions, for research. Not for diagnosis.</p></footer>",
    ]
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{title}</title><style>{STYLE}{QUALITY_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, path)
    return path


def _facts(lines, failed, settings, times) -> list[str]:
    lesions = sum(len(line["lesions"]) for line in lines)
    facts = [
        f"{len(lines)} case{'s' if len(lines) > 1 else ''}"
        + (f" with {lesions} lesions" if lesions != len(lines) else "")
    ]
    facts.append(size(sum(line["bytes"] for line in lines)))
    if failed:
        facts.append(f"{len(failed)} given up")
    templates = {line["template"] for line in lines if line["template"]}
    if templates:
        patients = {line["patient"] for line in lines if line["patient"]}
        facts.append(f"{len(templates)} template scans of {len(patients)} patients")
    if settings:
        grid = f"{settings['spacing_mm']:g} mm" if settings["spacing_mm"] else "each scan's own grid"
        cube = f", {settings['cube']}³ voxels around the lesion" if settings["cube"] else ""
        facts += [grid + cube, f"seed {settings['seed']}"]
        if settings["phantom_mm"]:
            facts.append(f"generated torsos at about {settings['phantom_mm']:g} mm")
    timed = [times[line["id"]] for line in lines if line["id"] in times]
    if timed:
        total, loading = sum(item["seconds"] for item in timed), sum(item["loading_s"] for item in timed)
        facts.append(f"{duration(total)} of work, {duration(loading)} of it for preparing templates")
    return facts


def _table(by_kind, failed, times) -> str:
    head = (
        "Type",
        "Cases",
        "Given up",
        "First try",
        "Tries",
        "Length mm, median (10–90 %)",
        "Priors",
        "Templates",
        "s per case",
    )
    rows = []
    for kind, lines in by_kind.items():
        lost = sum(line["type"] == kind for line in failed)
        tries = [line["lesions"][0]["tries"] for line in lines if line["lesions"][0]["tries"]]
        first = [t == 1 and line["attempts"] == 1 for t, line in zip(tries, lines)]
        lengths = _lengths(lines)
        low, middle, high = np.quantile(lengths, (0.1, 0.5, 0.9)) if len(lengths) else (np.nan,) * 3
        timed = [times[line["id"]] for line in lines if line["id"] in times]
        timed = [item["seconds"] - item["loading_s"] for item in timed]
        templates = {line["template"] for line in lines if line["template"]}
        rows.append(
            (
                f"<a href='#{kind}'>{escape(taxonomy.lesion(kind).name)}</a>",
                str(len(lines)),
                str(lost) if lost else "–",
                f"{100 * np.mean(first):.0f} %" if tries else "–",
                f"{np.mean(tries):.1f}" if tries else "–",
                f"{middle:.0f} ({low:.0f}–{high:.0f})" if len(lengths) else "–",
                f"{marginals.size_median(kind):.0f}",
                str(len(templates)) if templates else "–",
                f"{np.mean(timed):.2f}" if timed else "–",
            )
        )
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=table tabindex=0><table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"


def _lengths(lines) -> np.ndarray:
    """Longest extent of each lesion in mm: along its own axis where that was measured, else of its box."""
    found = []
    for line in lines:
        for item in line["lesions"]:
            if item.get("major_axis_mm"):
                found.append(item["major_axis_mm"])
            elif item["size_zxy_mm"]:
                found.append(max(item["size_zxy_mm"]))
    return np.array(found, float)


def _article(kind: str, lines, pictures) -> str:
    item = taxonomy.lesion(kind)
    lesions = [lesion for line in lines for lesion in line["lesions"] if lesion["type"] == kind]
    figures = "".join(pictures[line["id"]] for line in lines if line["id"] in pictures)
    blocks = [_block(key, options, len(lesions)) for key, options in marginals.shares(lesions, kind).items()]
    phases = sorted({line["phase"] for line in lines if line["phase"]})
    return (
        f"<article id={kind}><div class=title><h2>{escape(item.name)}</h2><p>{len(lines)} case{'s' if len(lines) > 1 else ''} · {escape(', '.join(phases))}</p></div>"
        f"<div class='pictures sample'>{figures}</div><div class=blocks>{_histogram(kind, lines)}{''.join(blocks)}</div></article>"
    )


def _block(key: str, options: list[marginals.Share], lesions: int) -> str:
    rows = []
    for share in options:
        mark = "" if share.expected is None else f"<i class=mark style='left:{100 * share.expected:.1f}%'></i>"
        aim = "" if share.expected is None else f" <span>/ {100 * share.expected:.0f}</span>"
        odd = " class=odd" if share.unusual(lesions) else ""
        name = _SHORT.get(share.option, share.option)
        rows.append(
            f"<li{odd}><span class=name>{escape(name)}</span><span class=meter2><b style='width:{100 * share.share:.1f}%'></b>{mark}</span>"
            f"<span class=share>{100 * share.share:.0f}{aim} %</span></li>"
        )
    return f"<section><h3>{escape(attributes.attribute(key).title)}</h3><ul>{''.join(rows)}</ul></section>"


_SHORT = {
    **dict(zip(attributes.options("invasion"), ("Not close to neighbours", "Close to neighbours"))),
    "Punctate, nodular": "Punctate",
    "Well-defined margin": "Well-defined",
    "Ill-defined margin": "Ill-defined",
}


def _histogram(kind: str, lines) -> str:
    """Lengths as bars, the priors as a line, on a logarithmic axis in mm."""
    lengths = _lengths(lines)
    edges = marginals.size_bins(kind)
    counts = np.histogram(np.clip(lengths, edges[0], edges[-1]), edges)[0] / max(len(lengths), 1)
    expected = marginals.size_expected(kind, edges)
    top = max(float(counts.max(initial=0)), float(expected.max()), 1e-9)
    wide = 240 / len(counts)
    bars = "".join(
        f"<rect x={number * wide + 0.5:.1f} y={70 - 64 * share / top:.1f} width={wide - 1:.1f} height={64 * share / top:.1f} />"
        for number, share in enumerate(counts)
        if share > 0
    )
    points = " ".join(f"{(n + 0.5) * wide:.1f},{70 - 64 * share / top:.1f}" for n, share in enumerate(expected))
    ticks = ""
    for mm in (2, 5, 10, 20, 50, 100, 200):
        if edges[0] * 1.05 <= mm <= edges[-1] * 0.97:
            x = 240 * np.log(mm / edges[0]) / np.log(edges[-1] / edges[0])
            ticks += f"<path class=tick d='M{x:.1f} 70v4'/><text x={x:.1f} y=84 text-anchor=middle>{mm}</text>"
    return (
        f"<section class=sizes><h3>Length, mm</h3><svg viewBox='0 0 240 88' role=img aria-label='Lengths of {len(lengths)} lesions and the priors'>"
        f"<g class=bars>{bars}</g><polyline points='{points}'/><path class=tick d='M0 70H240'/>{ticks}</svg></section>"
    )


def _given_up(failed) -> str:
    if not failed:
        return ""
    items = "".join(
        f"<li><b>{escape(line['id'])}</b> {escape(line.get('problem') or (line.get('reasons') or [''])[-1])}</li>"
        for line in failed[:50]
    )
    more = f"<p>and {len(failed) - 50} more in failures.jsonl</p>" if len(failed) > 50 else ""
    return f"<section class=left-out><h2>Given up</h2><ul>{items}</ul>{more}</section>"
