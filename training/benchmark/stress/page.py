"""The page of a detectability study: what half of the lesions needs to be found, the curves, the lesions themselves, every figure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from PASTALib import __version__, taxonomy
from PASTALib.reporting.page_parts import signed
from PASTALib.reporting.page_style import STYLE

from .curves import MEANS, PROPORTIONS, Curve
from .design import DENSITY, LOCATION, SIZE, SURFACE, Cell
from .figure import TITLES, place_name
from .models import Tested
from .scores import FOUND_SHARE
from .table import MADE, write_text
from .tiles import tile

UNITS = {SIZE: " mm", DENSITY: " HU", SURFACE: "×", LOCATION: ""}
_NAMES = {
    "found": "found", "found_type": "found as its type",
    "overlap": "overlapped", "marked_before": "marked before", "dice": "Dice",
    "auc": "AUC", "auc_before": "AUC before", "gain": "gain",
}  # fmt: skip
MONOTONE = 0.8  # rank correlation from which a curve is called monotone
_STYLE = """
.table{overflow-x:auto;margin:0 0 1.2rem;border:1px solid var(--line);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th{font-weight:500;color:var(--quiet);font-size:.78rem;text-align:left;vertical-align:bottom}
th,td{padding:.42rem .75rem;border-bottom:1px solid var(--line);white-space:nowrap}
tbody tr:last-child td{border-bottom:0}
th:not(:first-child),td:not(:first-child){text-align:right}
td small{color:var(--quiet);display:block;font-size:.8rem}
.warn{color:var(--amber)}
article>svg{max-width:100%;height:auto;display:block}
article h2{margin:0 0 .6rem}article h3{font-size:.95rem;font-weight:600;margin:1rem 0 .4rem}
.flips{display:flex;gap:.5rem;overflow-x:auto;padding-bottom:.3rem}
.flip{flex:0 0 clamp(104px,12vw,150px)}.flip figcaption{font-variant-numeric:tabular-nums}
.quiet{color:var(--quiet);font-size:.9rem;margin:.2rem 0 .8rem}
.legend{color:var(--quiet);font-size:.85rem;margin:.5rem 0 0}.legend .key{margin-right:1.2rem}
"""


def write_page(
    path: Path,
    tested: Tested,
    settings: Mapping,
    scans: Mapping[str, dict],
    cells: Mapping[str, Sequence[Cell]],
    rows: Sequence[dict],
    curves: Sequence[Curve],
    pictures: Sequence[str],
) -> Path:
    """Write the page as one HTML file without external resources. ``pictures``: SVG elements."""
    made = sum(row["status"] == MADE for row in rows)
    facts = [
        f"{made} lesions in {len(scans)} scan{'s' if len(scans) > 1 else ''}",
        f"{settings['repeats']} places per scan and type",
        f"seed {settings['seed']}",
        f"refined with {settings['refine']}" if settings["refine"] else "parametric lesions",
        f"SlicerPASTA {__version__}",
    ]
    title = f"What {tested.name} sees: detectability of synthetic lesions"
    notes = "".join(f"<p class=remark>{escape(note[:1].upper() + note[1:])}.</p>" for note in tested.notes)
    parts = [
        f"<header><h1>{escape(title)}</h1><ul class=facts>", *(f"<li>{escape(fact)}</li>" for fact in facts), "</ul>", notes,
        "</header><main>",
        _halves(curves, scans, rows),
        f"<article><h2>Curves</h2><p class=quiet>{_CAPTION}</p>{''.join(pictures)}</article>",
        _monotone(curves),
        _tiles(path.parent, cells),
        _everything(curves),
        _scans(scans, rows),
        f"<section class=left-out><h2>How it was measured</h2><ul>{''.join(f'<li>{line}</li>' for line in _method(settings))}</ul></section>",
        "</main><footer><p>Synthetic lesions, for research. Not for diagnosis.</p></footer>",
    ]  # fmt: skip
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )
    return write_text(path, page)


_CAPTION = (
    "Points: mean of the lesions at a level, whiskers their 95 % interval (Wilson for shares, bootstrap for Dice and AUC). Shares: monotone fit with "
    "its 95 % band; the upright tick is where it crosses one half. Dotted: the same voxels were marked already before the lesion was there. "
    "AUC: how well the model's lesion probability tells the lesion from the rest of its organ, decided or not; 0.5 is chance."
)


def half_text(curve: Curve) -> str:
    """ "12 mm (10 to 15)" and the like."""
    half, unit = curve.half, UNITS[curve.factor]
    low, high = curve.levels[0], curve.levels[-1]
    falling = curve.factor == SURFACE
    if half.value == -math.inf:
        main = f"fewer, from {low:g}{unit} on" if falling else f"under {low:g}{unit}"
    elif half.value == math.inf:
        main = f"not up to {high:g}{unit}" if not falling else f"beyond {high:g}{unit}"
    else:
        main = f"{half.value:.3g}{unit}"
    ends = [
        f"< {low:g}" if end == -math.inf else f"> {high:g}" if end == math.inf else f"{end:.3g}"
        for end in (half.low, half.high)
    ]
    return main if math.isinf(half.value) and ends[0] == ends[1] else f"{main} ({ends[0]} to {ends[1]})"


def _kinds(curves: Sequence[Curve]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((curve.scan, curve.lesion) for curve in curves))


def _by(curves: Sequence[Curve]) -> dict[tuple, Curve]:
    return {(curve.scan, curve.lesion, curve.factor, curve.measure): curve for curve in curves}


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Cells are HTML."""
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
    return f"<div class=table><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _halves(curves: Sequence[Curve], scans: Mapping[str, dict], rows: Sequence[dict]) -> str:
    known = _by(curves)
    factors = [factor for factor in (SIZE, DENSITY, SURFACE) if any(curve.factor == factor for curve in curves)]
    lines = []
    for scan, lesion in _kinds(curves):
        cells = []
        for factor in factors:
            curve = known.get((scan, lesion, factor, "found"))
            cells.append(escape(half_text(curve)) if curve is not None and curve.half is not None else "–")
        wrong = scans[scan]["false_positives"]
        before = [
            curve for curve in curves if (curve.scan, curve.lesion, curve.measure) == (scan, lesion, "marked_before")
        ]
        count = sum(sum(curve.count) for curve in before)
        share = sum(n * mean for curve in before for n, mean in zip(curve.count, curve.mean)) / max(count, 1)
        marked = f"{100 * share:.0f} %"
        lines.append([
            f"{escape(scan)}<small>{escape(taxonomy.lesion(lesion).name)}</small>", *cells,
            _called(rows, scan, lesion),
            f"{wrong['pieces']:g}<small>{wrong['volume_ml']:.1f} ml</small>",
            f"<span class=warn>{marked}</span>" if share > 0.05 else marked,
        ])  # fmt: skip
    heads = [
        "Scan",
        *({SIZE: "Diameter", DENSITY: "Difference", SURFACE: "Margin, × sharp"}[factor] for factor in factors),
    ]
    heads += ["Called", "False ones in the unaltered scan", "Place marked before the lesion"]
    return (
        f"<h2>Half of the lesions are found at</h2><p class=quiet>95 % interval in brackets.</p>{_table(heads, lines)}"
    )


def _called(rows: Sequence[dict], scan: str, lesion: str) -> str:
    """What the model calls the lesions that it finds, most often, and how often."""
    own = [row["named"] for row in rows if (row["scan"], row["lesion"], row["found"]) == (scan, lesion, 1)]
    if not own:
        return "–"
    name, count = Counter(own).most_common(1)[0]
    shown = taxonomy.lesion(name).name if name in taxonomy.LESION_KEYS else "Without a type"
    return f"{escape(shown)}<small>{100 * count / len(own):.0f} % of {len(own)} found</small>"


def _monotone(curves: Sequence[Curve]) -> str:
    known = _by(curves)
    lines = []
    for scan, lesion in _kinds(curves):
        for factor in (SIZE, DENSITY, SURFACE):
            line = []
            for measure in ("found", "dice", "auc", "gain"):
                curve = known.get((scan, lesion, factor, measure))
                if curve is None:
                    continue
                steady = round(abs(curve.spearman), 2) >= MONOTONE
                line.append(
                    "flat"
                    if math.isnan(curve.spearman)
                    else f"<span class={'agrees' if steady else 'warn'}>{signed(round(curve.spearman, 2))}</span>"
                )
            if line:
                lines.append(
                    [
                        f"{escape(scan)}, {TITLES[factor].lower()}<small>{escape(taxonomy.lesion(lesion).name)}</small>",
                        *line,
                    ]
                )
    if not lines:
        return ""
    heads = ["", "Found", "Dice", "AUC", "Probability gained"]
    return f"<h2>Rank correlation with the level</h2><p class=quiet>From {MONOTONE} on a curve counts as monotone. A wider margin may hide a lesion (negative) or make it reach farther (positive).</p>{_table(heads, lines)}"


def _tiles(folder: Path, cells: Mapping[str, Sequence[Cell]]) -> str:
    blocks = []
    for scan, planned in cells.items():
        inner = ""
        for lesion, factor in dict.fromkeys((cell.lesion, cell.factor) for cell in planned):
            if factor not in TITLES:
                continue
            shown = [
                tile(
                    folder,
                    scan,
                    cell.setting.key,
                    place_name(cell.level) if factor == LOCATION else f"{cell.level:g}{UNITS[factor]}",
                )
                for cell in planned
                if (cell.lesion, cell.factor) == (lesion, factor)
            ]
            if any(shown):
                inner += f"<h3>{TITLES[factor]}</h3><div class=flips>{''.join(shown)}</div>"
        if inner:
            blocks.append(f"<article><h2>{escape(scan)}: the lesions at the first place</h2>{inner}{_LEGEND}</article>")
    return "".join(blocks)


_LEGEND = "<p class=legend><span class='key outline'>Lesion</span><span class='key found-lesion'>Marked by the model</span>Patient right is on the left.</p>"


def _everything(curves: Sequence[Curve]) -> str:
    known = _by(curves)
    blocks = []
    for scan, lesion, factor in dict.fromkeys((curve.scan, curve.lesion, curve.factor) for curve in curves):
        own = {measure: known.get((scan, lesion, factor, measure)) for measure in (*PROPORTIONS, *MEANS)}
        own = {measure: curve for measure, curve in own.items() if curve is not None}
        levels = list(dict.fromkeys(level for curve in own.values() for level in curve.levels))
        lines = []
        for level in levels:
            name = (
                place_name(level)
                if factor == LOCATION
                else level
                if isinstance(level, str)
                else f"{level:g}{UNITS[factor]}"
            )
            lines.append([escape(name), str(_count(own, level)), *(_cell(curve, level) for curve in own.values())])
        heading = f"{scan}, {taxonomy.lesion(lesion).name.lower()}: {TITLES.get(factor, factor).lower()}"
        table = _table(["Level", "Lesions", *(_NAMES[measure] for measure in own)], lines)
        blocks.append(f"<details><summary>{escape(heading)}</summary>{table}</details>")
    return f"<section class=left-out><h2>All figures</h2>{''.join(blocks)}</section>"


def _count(own: Mapping[str, Curve], level) -> int:
    return max(curve.count[curve.levels.index(level)] for curve in own.values() if level in curve.levels)


def _cell(curve: Curve, level) -> str:
    if level not in curve.levels:
        return "–"
    at = curve.levels.index(level)
    digits = 0 if curve.measure in PROPORTIONS else 3 if curve.measure == "gain" else 2
    scale, unit = (100, " %") if curve.measure in PROPORTIONS else (1, "")
    mean, low, high = (f"{scale * values[at]:.{digits}f}" for values in (curve.mean, curve.low, curve.high))
    return f"{mean}{unit}<small>{low} to {high}</small>"


def _scans(scans: Mapping[str, dict], rows: Sequence[dict]) -> str:
    lines, left = [], []
    for name, fact in scans.items():
        size = " × ".join(str(side) for side in fact["shape"][::-1])
        voxel = " × ".join(f"{side:g}" for side in fact["spacing_mm"][::-1])
        kinds = [
            f"{key.removeprefix('pieces_').replace('_', ' ')} {value:g}"
            for key, value in fact["false_positives"].items()
            if key.startswith("pieces_")
        ]
        no_room = sum(row["scan"] == name and row["status"] != MADE for row in rows)
        lines.append([
            escape(name), escape(fact["phase"]), f"{size}<small>{voxel} mm</small>", f"{fact['noise_hu']:g} HU", f"{fact['edge_mm']:g} mm",
            escape(", ".join(kinds)) or "–", f"{no_room}",
        ])  # fmt: skip
        left += [f"<li><b>{escape(name)}</b> {escape(line)}</li>" for line in fact["left_out"]]
    heads = ["Scan", "Phase", "Voxels", "Noise", "Sharp edge, 10–90 %", "False ones by type", "Lesions without room"]
    out = f"<section class=left-out><h2>Left out</h2><ul>{''.join(left)}</ul></section>" if left else ""
    return f"<h2>Scans</h2>{_table(heads, lines)}{out}"


def _method(settings: Mapping) -> list[str]:
    return [
        "One attribute is changed at a time around a centre point, which is the level nearest to 15 mm, 25 HU and a margin as sharp as the scan. Lesions are round, "
        "homogeneous and keep off their neighbours. At one place all levels share outline and noise, so nothing but the attribute differs.",
        "A place is one where the largest lesion of the sweep fits; the model is shown the scan around it, 24 mm beyond the largest lesion and at least one window of the model.",
        f"Found: at least {100 * FOUND_SHARE:.0f} % of the lesion's voxels are marked as a lesion of any type and were not before the lesion was there, so that chance hits do not count; overlapped: marked, before or not. Dice: of the lesion with all newly marked pieces that touch it. "
        "Gain: mean lesion probability in the lesion minus that of the same voxels before.",
        "Each lesion has its control: the same voxels of the unaltered scan. False ones are pieces marked in the whole unaltered scan, as large as a ball of 3 mm or larger.",
        "Density is the difference to the surrounding tissue that was aimed at; lesions.csv has what was measured, and every other figure.",
    ]
