"""The report of a study: one self-contained HTML page, figures for print, CSV tables and the methods text, written together."""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path

from ...errors import InputError
from ...reporting.page_style import REPORT_STYLE, STYLE
from ...reporting.staged import staged
from . import figures
from .methods import headline, methods, p_text
from .report_parts import NONE, estimate_cell, html_table, interval_cell, kind_cell, plot, readers_cell, value_cell
from .report_style import STUDY_STYLE
from .results import ALL, PartResults, StudyResults
from .table import DESCRIPTION, REAL, REALISM, SYNTHETIC, kind_name
from .tables import csv_tables, reader_values

PAGE, METHODS, RESULTS = "report.html", "methods.txt", "results.json"


def write_study_report(results: StudyResults, folder: str | Path, title: str = "Reader study") -> list[Path]:
    """Write report.html, figures (SVG and PNG, for print), CSV tables, methods.txt and results.json into ``folder``.

    All files appear or none; files of the same name are replaced. Returns their paths, the page first. InputError when the folder cannot be
    written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror or error}); choose another folder") from None
    tables = csv_tables(results)
    drawn = figures.available(results)
    names = [PAGE, METHODS, RESULTS, *tables, *(f"{name}.{kind}" for name in drawn for kind in ("svg", "png"))]
    paths = [folder / name for name in names]
    with staged(paths) as temporary:
        target = dict(zip(names, temporary))
        for name, (_, draw) in drawn.items():
            figure = draw(figures.LIGHT)
            target[f"{name}.svg"].write_text(figures.svg(figure), encoding="utf-8")
            figure.savefig(target[f"{name}.png"], format="png", dpi=200, facecolor=figure.get_facecolor())
        for name, text in tables.items():
            target[name].write_text(text, encoding="utf-8")
        target[METHODS].write_text("\n\n".join(methods(results)) + "\n", encoding="utf-8")
        target[RESULTS].write_text(json.dumps(results.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        target[PAGE].write_text(page(results, title, names), encoding="utf-8")
    return paths


def page(results: StudyResults, title: str = "Reader study", files: list[str] | tuple[str, ...] = ()) -> str:
    """The HTML text of the report; ``files``: names of what lies beside it."""
    drawn = figures.available(results)
    sections = [
        *_realism(results.parts.get(REALISM), results, drawn),
        *_description(results.parts.get(DESCRIPTION), drawn),
        *_agreement(results),
        _readers(results),
        _missing(results),
        _methods(results),
    ]
    sections = [item for item in sections if item]
    links = "".join(f"<a href='#{key}'>{escape(name)}</a>" for key, name, _ in sections)
    body = (
        f"<header><h1>{escape(title)}</h1><ul class=facts>{''.join(f'<li>{escape(fact)}</li>' for fact in _facts(results))}</ul></header><main>"
        f"{_verdict(results)}{_list('Not computed', results.limits)}{_list('Notes', results.notes)}<nav aria-label=Sections>{links}</nav>"
        + "".join(f"<article id={key}><h2>{escape(name)}</h2>{content}</article>" for key, name, content in sections)
        + f"</main><footer><p>Numbers in brackets are {100 * results.settings.level:g} % intervals.</p>{_beside(files)}</footer>"
    )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}{REPORT_STYLE}{STUDY_STYLE}</style></head><body>{body}</body></html>"
    )


def _facts(results: StudyResults) -> list[str]:
    parts = list(results.parts.values())
    readers = sorted({reader for part in parts for reader in part.active})
    facts = [f"{len(readers)} reader{'s' if len(readers) != 1 else ''}"]
    for part in parts:
        counts = [sum(row[truth] for row in part.cases.values()) for truth in (REAL, SYNTHETIC)]
        mixture = f" ({counts[0]:,} real, {counts[1]:,} synthetic)" if part.name == REALISM else ""
        facts.append(f"{part.name}: {sum(counts):,} cases{mixture}")
    facts.append(f"{sum(sum(part.rated.values()) for part in parts):,} ratings")
    if results.practice_rows:
        facts.append(f"{results.practice_rows:,} ratings of practice cases left out")
    return facts


def _verdict(results: StudyResults) -> str:
    said = headline(results)
    return f"<section class=verdict>{''.join(f'<p>{escape(line)}</p>' for line in said)}</section>" if said else ""


def _list(name: str, lines: list[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<section class=limits><h2>{name}</h2><ul>{items}</ul></section>"


def _beside(files) -> str:
    if not files:
        return ""
    names = ", ".join(f"<a href='{escape(name)}'>{escape(name)}</a>" for name in files if name != PAGE)
    return f"<p>Beside this page: {names}.</p>"


# ---------------------------------------------------------------------------------------------------------------
# Sections: (anchor, heading, HTML)


def _realism(part: PartResults | None, results: StudyResults, drawn: dict) -> list[tuple[str, str, str] | None]:
    if part is None or part.realism is None:
        return []
    found, kinds = part.realism, (ALL, *part.kinds)
    real, synthetic = found.means.get(REAL, {}), found.means.get(SYNTHETIC, {})
    counts = {ALL: [sum(row[t] for row in part.cases.values()) for t in (REAL, SYNTHETIC)]}
    counts |= {kind: [part.cases[kind][t] for t in (REAL, SYNTHETIC)] for kind in part.kinds}
    rows = [
        [
            kind_cell(k),
            f"{counts[k][0]} + {counts[k][1]}",
            estimate_cell(real.get(k)),
            estimate_cell(synthetic.get(k)),
            estimate_cell(found.differences.get(k), sign=True),
        ]
        for k in kinds
    ]
    table = html_table(
        ["Lesion type", "Cases", "Real", "Synthetic", "Synthetic less real"], rows, wide=(1, 4), css="numbers"
    )
    sections: list[tuple[str, str, str] | None] = [
        ("realism", "Realism", plot(drawn, "realism_by_type") + table + plot(drawn, "use_of_scale"))
    ]
    if not found.tests:
        return sections
    difference = found.differences[ALL]
    tests = [
        [
            f"{escape(test.name)}<span class=narrow>{escape(test.claim)}</span>", escape(test.claim),
            interval_cell(test.value, test.interval, sign=test.name != "Telling apart"), f"{100 * test.level:g} %",
            ("<span class=agrees>shown</span>" if test.holds else "<span class=differs>not shown</span>") + f", {escape(p_text(test.p))}",
        ]
        for test in found.tests
    ]  # fmt: skip
    text = f"<p class=lead>Margin {results.settings.margin:g} points."
    if difference.generalises:
        text += (
            f" For these readers alone: difference {value_cell(difference.value, sign=True)} {readers_cell(difference, sign=True)}; "
            f"AUC {value_cell(found.auc[ALL].value)} {readers_cell(found.auc[ALL])}."
        )
    text += "</p>"
    head = ["Test", "Claim", "Value and interval", "Its level", f"At α = {results.settings.alpha:g}"]
    sections.append(
        (
            "tests",
            "Non-inferiority and equivalence",
            html_table(head, tests, wide=(1, 3), css="tests") + text + plot(drawn, "difference_by_type"),
        )
    )
    rows = [
        [kind_cell(k), estimate_cell(found.auc.get(k)), f"<span class=wide>{readers_cell(found.auc.get(k))}</span>"]
        for k in kinds
    ]
    lead = (
        "<p class=lead>0.5: readers cannot tell real from synthetic cases. Above 0.5: real cases get the higher scores. Types with the largest AUC are "
        "those that give themselves away.</p>"
    )
    beside = f"<div class=beside-plot>{plot(drawn, 'roc', 'square')}<div>{lead}{html_table(['Lesion type', 'AUC', 'These readers alone'], rows, wide=(2,), css='numbers')}</div></div>"
    sections.append(("auc", "Telling real from synthetic", beside))
    return sections


def _description(part: PartResults | None, drawn: dict) -> list[tuple[str, str, str] | None]:
    if part is None or not part.means:
        return []
    rows = []
    for kind in (ALL, *part.kinds):
        row = [part.means.get(question, {}).get(kind) for question in part.questions]
        rows.append(
            [
                kind_cell(kind),
                estimate_cell(part.means[ALL].get(kind)),
                *(value_cell(item.value if item else None) for item in row),
            ]
        )
    head = ["Lesion type", "Mean", *(question.capitalize() for question in part.questions)]
    table = html_table(head, rows, wide=tuple(range(2, len(head))), css="numbers")
    return [("description", "Accuracy of the description", plot(drawn, "description_by_type") + table)]


def _agreement(results: StudyResults) -> list[tuple[str, str, str] | None]:
    blocks = []
    for part in results.parts.values():
        if part.between:
            blocks.append(f"<h3>Between readers, {part.name} part</h3>" + _between(part))
        if part.within:
            blocks.append(f"<h3>Two readings by the same reader, {part.name} part</h3>" + _within(part))
    if not blocks:
        return []
    lead = (
        "<p class=lead>Kappa, alpha and ICC compare the spread between readers with the spread between cases. Where nearly all scores are 4 or 5 they "
        "are low even if readers rarely differ by more than a point, so the shares of equal and of neighbouring scores stand beside them.</p>"
    )
    return [("agreement", "Agreement", lead + "".join(blocks))]


def _between(part: PartResults) -> str:
    questions = list(part.between)
    names = [item.statistic for item in part.between[questions[0]]]
    rows = []
    for name in names:
        row = [escape(name[0].upper() + name[1:])]
        for question in questions:
            item = next((item for item in part.between[question] if item.statistic == name), None)
            row.append(_agreed(item))
        rows.append(row)
    head = ["Statistic", *(question.capitalize() for question in questions)]
    many = len(questions) > 1
    table = html_table(head, rows, css="numbers")
    return table if many else table + _pairs(part, questions[0])


def _agreed(item) -> str:
    if item is None:
        return NONE
    if not math.isfinite(item.value):
        return f"<span class=none>{escape(item.remark)}</span>"
    remark = f"<span class=interval> {escape(item.remark)}</span>" if item.remark else ""
    return interval_cell(item.value, (item.low, item.high)) + remark


def _pairs(part: PartResults, question: str) -> str:
    if not 2 < len(part.readers) <= 8:
        return ""
    matrix = part.pairs[question]
    rows = [
        [escape(reader), *("" if a == b else value_cell(float(matrix[a, b])) for b in range(len(part.readers)))]
        for a, reader in enumerate(part.readers)
    ]
    return (
        "<details><summary>Weighted kappa of every pair</summary>"
        + html_table(["", *map(escape, part.readers)], rows)
        + "</details>"
    )


def _within(part: PartResults) -> str:
    head = ["Cases", "Weighted kappa", "Equal scores", "At most one apart"]
    if len(part.within) > 1:  # five questions: all readers together are enough here, the CSV has the rest
        rows = [[question.capitalize(), *_twice(lists[-1])] for question, lists in part.within.items()]
        return html_table(["All readers", *head], rows, wide=(1, 4), css="numbers")
    (lists,) = part.within.values()
    rows = [[name, *_twice(found)] for name, found in zip((*map(escape, part.readers), "<b>All readers</b>"), lists)]
    return html_table(["Reader", *head], rows, wide=(1, 4), css="numbers")


def _twice(found: list) -> list[str]:
    return [str(found[0].cases), *map(_agreed, found)]


def _readers(results: StudyResults) -> tuple[str, str, str]:
    blocks = []
    for part in results.parts.values():
        head = ["Reader", "Ratings"]
        if part.realism is not None:
            head += ["Mean, real", "Mean, synthetic", "AUC"]
        head += ["Seconds per case, median (middle half)", "Hours"]
        rows = []
        for reader in part.readers:
            row = [escape(reader), f"{part.rated[reader]:,} of {part.expected[reader]:,}"]
            if part.realism is not None:
                real, synthetic, _, auc = reader_values(part, reader)
                row += [value_cell(real), value_cell(synthetic), value_cell(auc)]
            times = part.times.get(reader)
            row += [_seconds(times.quartiles), f"{times.hours:.1f}"] if times else [NONE] * 2
            rows.append(row)
        ratio = ""
        if part.time_ratio is not None and math.isfinite(part.time_ratio.value):
            low, high = part.time_ratio.shown
            interval = f" ({math.exp(low):.2f} to {math.exp(high):.2f})" if math.isfinite(low) else ""
            ratio = f"<p class=lead>Time on a synthetic case over time on a real one (geometric means): {math.exp(part.time_ratio.value):.2f}{interval}.</p>"
        blocks.append(
            f"<h3>{part.name.capitalize()} part</h3>"
            + html_table(head, rows, wide=(1, len(head) - 1), css="numbers")
            + ratio
        )
    return "readers", "Readers and reading times", "".join(blocks)


def _seconds(quartiles: tuple[float, float, float]) -> str:
    low, middle, high = quartiles
    return f"{middle:.0f} <span class=interval>({low:.0f} to {high:.0f})</span>"


def _missing(results: StudyResults) -> tuple[str, str, str]:
    lines = []
    for part in results.parts.values():
        expected = sum(part.expected.values())
        if not part.missing:
            lines.append(f"<p>{part.name.capitalize()} part: all {expected:,} ratings were given.</p>")
            continue
        by_reader = [
            f"{escape(r)} {part.expected[r] - part.rated[r]:,}"
            for r in part.expected
            if part.rated[r] < part.expected[r]
        ]
        by_kind = [f"{escape(kind_name(k))} {part.gaps[k]:,}" for k in part.kinds if part.gaps[k]]
        truth = (
            f" Real cases {part.gaps[REAL]:,}, synthetic cases {part.gaps[SYNTHETIC]:,}."
            if part.name == REALISM
            else ""
        )
        lines.append(
            f"<p>{part.name.capitalize()} part: {part.missing:,} of {expected:,} ratings ({100 * part.missing / expected:.1f} %) are missing. By reader: "
            f"{', '.join(by_reader)}.{truth} By type: {', '.join(by_kind)}.</p>"
        )
    note = "<p class=lead>Expected are all readers × all cases of the table × all questions, first reading.</p>"
    return "missing", "Missing ratings", "".join(lines) + note


def _methods(results: StudyResults) -> tuple[str, str, str]:
    return (
        "methods",
        "Methods",
        "<div class=methods>" + "".join(f"<p>{escape(text)}</p>" for text in methods(results)) + "</div>",
    )
