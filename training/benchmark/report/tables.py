"""The report's figures as CSV, one line per model and row, and its tables as LaTeX."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...runs import replacing
from .analysis import Row
from .words import BESIDE, CORRECTIONS, METRICS, TESTS, columns, entry, p_words, title

_COLUMNS = (
    *("task", "group", "metric", "k", "attribute", "model", "status", "value", "low", "high", "cases", "folds"),
    *("rank", "collapsed", "not_above_trivial", *BESIDE, "majority_accuracy", "prevalence"),
    *("test", "p", "p_holm", "p_bh", "published", "published_low", "published_high", "published_p", "difference"),
)


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    """Every cell of every row, those that were not run too. ``p`` is that of the row, between its ranks 1 and 2."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _COLUMNS, restval="")
        writer.writeheader()
        for row in rows:
            for model in columns([row]):
                writer.writerow({key: _text(value) for key, value in _line(row, model).items()})
    return path


def write_latex(path: Path, groups: Sequence[Sequence[Row]], correction: str, rivals: Mapping[str, Any]) -> Path:
    r"""One table per group; needs \usepackage{booktabs, longtable, multirow}. Best bold, second underlined, published figures in italics."""
    body = "\n\n".join(_latex(rows, correction, rivals) for rows in groups)
    head = "% Needs \\usepackage{booktabs,longtable}; wide, so set it in landscape and \\footnotesize. Italics: the paper's own figures. Not run: \\textemdash\n"
    with replacing(path) as part:
        part.write_text(head + body + "\n", encoding="utf-8")
    return path


# ---------------------------------------------------------------------------------------------------------------


def _line(row: Row, model: str) -> dict[str, Any]:
    cell, paper = row.cells.get(model), entry(row, model)
    line: dict[str, Any] = {
        "task": row.task.key,
        "group": row.task.group,
        "metric": row.metric,
        "k": row.k,
        "attribute": row.group,
        "model": model,
        "status": status(row, model),
    }
    if cell is not None:
        line |= {name: getattr(cell, name) for name in ("value", "low", "high", "cases", "folds", "collapsed")}
        line |= {name: value for name, value in cell.beside.items() if name in _COLUMNS}
        line["rank"] = {row.best: 1, row.second: 2}.get(model)
        line["not_above_trivial"] = row.not_above_trivial(model)
    if row.p is not None:
        line |= {"test": row.task.test(row.metric), "p": row.p, "p_holm": row.p_holm, "p_bh": row.p_bh}
    if paper is not None:
        line |= {"published": paper.value, "published_low": paper.low, "published_high": paper.high}
        line["published_p"] = paper.p_text
        if cell is not None:
            line["difference"] = cell.value - paper.value
    return line


def status(row: Row, model: str) -> str:
    """ "not run", how many folds are done, or "done"."""
    cell = row.cells.get(model)
    if cell is None:
        return "not run"
    folds = row.task.folds
    return "done" if cell.folds >= folds else f"{cell.folds} of {folds} folds"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _latex(rows: Sequence[Row], correction: str, rivals: Mapping[str, Any]) -> str:
    task = rows[0].task
    models = columns(rows)
    names = [_escaped(title(model, rivals, task)) for model in models]
    caption = f"{task.group_title}. " + "; ".join(
        dict.fromkeys(f"{METRICS[row.metric]}: {TESTS[row.task.test(row.metric)]}" for row in rows)
    )
    caption = _escaped(caption)
    if any(cell.collapsed for row in rows for cell in row.cells.values()):
        caption += f". $^\\dagger$ {'hits no lesion' if task.labels else 'always the same class'}"
    lines = [
        "\\begin{longtable}{ll" + "c" * len(models) + "rr}",
        f"\\caption{{{caption}}}\\\\",
        "\\toprule",
        " & ".join(["Task", "", *names, "$p$", f"$p$, {_escaped(CORRECTIONS[correction])}"]) + " \\\\",
        "\\midrule\\endhead",
    ]
    for row in rows:
        cells = [_latex_cell(row, model) for model in models]
        what = f"$K={row.k}$" if row.k else METRICS[row.metric]
        p = [_escaped_p(row.p), _escaped_p(row.corrected(correction))]
        lines.append(" & ".join([_escaped(row.name), what, *cells, *p]) + " \\\\")
        if row.entries:
            paper = [entry(row, model) for model in models]
            cells = [
                f"\\textit{{{item.value:.3f} ({item.low:.3f}--{item.high:.3f})}}" if item else "" for item in paper
            ]
            published_p = next(iter(row.entries.values())).p_text
            lines.append(
                " & ".join(["", "\\textit{paper}", *cells, f"\\textit{{{_escaped_p(published_p)}}}", ""]) + " \\\\"
            )
    return "\n".join([*lines, "\\bottomrule", "\\end{longtable}"])


def _latex_cell(row: Row, model: str) -> str:
    cell = row.cells.get(model)
    if cell is None:
        return "\\textemdash"
    text = f"{cell.value:.3f} ({cell.low:.3f}--{cell.high:.3f})"
    if model == row.best:
        text = f"\\textbf{{{text}}}"
    elif model == row.second:
        text = f"\\underline{{{text}}}"
    flag = "$^\\dagger$" if cell.collapsed else ""
    return text + flag


def _escaped_p(p: float | str | None) -> str:
    text = p if isinstance(p, str) else p_words(p)
    return {"–": "\\textendash"}.get(text, f"${text}$")


def _escaped(text: str) -> str:
    for sign in "&%#_":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("–", "--")
