"""Tables of the benchmark page as HTML: the paper's form, the published figure under each value, what is missing said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..registry import TRIVIAL
from .analysis import Cell, Row
from .words import BESIDE, CORRECTIONS, METRICS, budget, columns, entry, p_words, title


def paper_table(rows: Sequence[Row], correction: str, rivals: Mapping[str, Any]) -> str:
    """Rows of one group: a model per column, best bold, second underlined, p of best against second, and the paper's p below."""
    task, models = rows[0].task, columns(rows)
    corrected = [] if correction == "none" else [f"p, {CORRECTIONS[correction]}"]
    heads = ["", *(escape(title(name, rivals, task)) for name in models), "p", *corrected]
    body, before = [], None
    for row in rows:
        cells = [_cell(row, model) for model in models]
        paper = next(iter(row.entries.values()), None)
        below = f"<span class=paper>paper {escape(paper.p_text)}</span>" if paper else ""
        cells.append(f"<td>{escape(p_words(row.p))}{below}</td>")
        cells += [f"<td>{escape(p_words(row.corrected(correction)))}</td>" for _ in corrected]
        name, small = _row_name(row, before)
        begins = " class=begins" if before is not None and before.name != row.name and _several(rows) else ""
        body.append(f"<tr{begins}><th scope=row>{name}{small}</th>{''.join(cells)}</tr>")
        before = row
    return _table(heads, body)


def beside_table(rows: Sequence[Row], rivals: Mapping[str, Any]) -> str:
    """What the paper does not print, of the models that were run; "" where there is nothing."""
    task = rows[0].task
    models = [name for name in columns(rows) if any(name in row.cells for row in rows)]
    kept, seen = [], set()
    for row in rows:  # figures beside are the same for all metrics of a task
        key = (row.task.key, row.group, row.k)
        if row.cells and key not in seen:
            seen.add(key)
            kept.append(row)
    body = []
    for row in kept:
        names = [name for name in BESIDE if any(cell.beside.get(name) is not None for cell in row.cells.values())]
        names = [name for name in names if name != "accuracy" or "accuracy" not in row.task.metrics]
        for number, name in enumerate(names):
            cells = "".join(_beside_cell(row, model, name) for model in models)
            about = _what(row) if number == 0 else ""
            begins = " class=begins" if number == 0 and body else ""
            body.append(f"<tr{begins}><th scope=row>{about}</th><td>{escape(BESIDE[name][0])}</td>{cells}</tr>")
    heads = ["", "figure", *(escape(title(name, rivals, task)) for name in models)]
    return _table(heads, body) if body else ""


def summary_table(rows: Sequence[Row], rivals: Mapping[str, Any]) -> str:
    """How often each model leads. Ranks are taken where two or more were run, guessing apart."""
    models = sorted({name for row in rows for name in row.cells if name != TRIVIAL})
    contests = [row for row in rows if row.second is not None]
    places: dict[str, list[int]] = {name: [] for name in models}
    for row in contests:
        order = sorted((-round(cell.value, 6), name) for name, cell in row.cells.items() if name != TRIVIAL)
        for value, name in order:
            places[name].append(1 + sum(other < value for other, _ in order))
    models.sort(key=lambda name: (sum(places[name]) / len(places[name]) if places[name] else 99, name))
    body = []
    for name in models:
        mine = [row for row in rows if name in row.cells]
        led = sum(row.best == name for row in contests)
        rank = f"{sum(places[name]) / len(places[name]):.2f}" if places[name] else "–"
        guess = sum(row.not_above_trivial(name) for row in mine)
        flat = sum(row.cells[name].collapsed for row in mine)
        unfinished = sum(row.cells[name].folds < row.task.folds for row in mine)
        rival = rivals.get(name) or rivals.get(name.partition(":")[0])
        licence = f"<small>{escape(rival.licence)}</small>" if rival is not None and rival.licence else ""
        figures = (
            f"{len(mine)}",
            f"{led} of {len(places[name])}",
            rank,
            f"{guess or '–'}",
            f"{flat or '–'}",
            f"{unfinished or '–'}",
        )
        cells = "".join(f"<td>{figure}</td>" for figure in figures)
        body.append(f"<tr><th scope=row>{escape(title(name, rivals))}{licence}</th>{cells}</tr>")
    heads = ["", "table rows", "best in", "mean rank", "no better than<br>guessing", "collapsed", "folds missing"]
    return _table(heads, body)


# ---------------------------------------------------------------------------------------------------------------


def _cell(row: Row, model: str) -> str:
    cell, paper = row.cells.get(model), entry(row, model)
    if cell is None:
        below = f"<span class=paper>paper {paper.value:.3f}</span>" if paper else ""
        return f"<td class=none><i>not run</i>{below}</td>"
    kind, mark = {row.best: ("best", "b"), row.second: ("second", "u")}.get(model, ("", "i"))
    parts = [f"<{mark}>{cell.value:.3f}</{mark}>"]
    if cell.low != cell.high:
        parts.append(f"<span>{cell.low:.3f}–{cell.high:.3f}</span>")
    if paper is not None:
        off = "" if cell.low <= paper.value <= cell.high else " off"
        parts.append(f"<span class='paper{off}'>paper {paper.value:.3f}</span>")
    parts += [f"<span class=flag>{escape(flag)}</span>" for flag in _flags(row, model, cell)]
    return f"<td class='{kind}'>{''.join(parts)}</td>"


def _flags(row: Row, model: str, cell: Cell) -> list[str]:
    flags = []
    if cell.folds < row.task.folds:
        flags.append(f"{cell.folds} of {row.task.folds} folds")
    if cell.collapsed:
        flags.append("hits no lesion" if row.task.labels else "always one class")
    elif row.not_above_trivial(model):
        flags.append("no better than guessing")
    return flags


def _several(rows: Sequence[Row]) -> bool:
    return (
        len({(row.name, row.k) for row in rows}) != len({row.name for row in rows}) or len({r.metric for r in rows}) > 1
    )


def _row_name(row: Row, before: Row | None) -> tuple[str, str]:
    several_metrics = len(row.task.metrics) > 1
    name = escape(row.name) if before is None or before.name != row.name else ""
    small = []
    if row.k:
        small.append(budget(row.k))
    if several_metrics:
        small.append(METRICS[row.metric])
    if name or _cases(row) != _cases(before):
        small += _cases(row)
    return name, f"<small>{', '.join(small)}</small>" if small else ""


def _cases(row: Row) -> list[str]:
    """How many cases were evaluated, and how many the paper's figure is of."""
    cases = sorted({cell.cases for cell in row.cells.values()})
    if not cases:
        return []
    ours = f"{cases[0]}–{cases[-1]}" if len(cases) > 1 else f"{cases[0]}"
    return [f"n = {ours}" if cases == [row.task.cases] else f"n = {ours} (paper {row.task.cases})"]


def _what(row: Row) -> str:
    return escape(row.name) + (f"<small>{budget(row.k)}</small>" if row.k else "")


def _beside_cell(row: Row, model: str, name: str) -> str:
    cell = row.cells.get(model)
    value = cell.beside.get(name) if cell is not None else None
    if value is None:
        return "<td class=none>–</td>"
    digits = BESIDE[name][1]
    below = ""
    if name == "average_precision" and cell.beside.get("prevalence") is not None:
        below = f"<span>chance {cell.beside['prevalence']:.3f}</span>"
    elif name == "accuracy" and cell.beside.get("majority_accuracy") is not None:
        below = f"<span>majority {cell.beside['majority_accuracy']:.3f}</span>"
    return f"<td>{value:.{digits}f}{below}</td>"


def _table(heads: Sequence[str], body: Sequence[str]) -> str:
    head = "".join(f"<th>{text}</th>" for text in heads)
    return (
        f"<div class=table tabindex=0><table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
