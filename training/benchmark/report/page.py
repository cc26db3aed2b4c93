"""The benchmark page: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PASTALib.reporting.page_style import STYLE

from ...runs import replacing
from ..published import SOURCE
from ..registry import SEGMENTATION, TRIVIAL, Task
from ..results import Results
from . import plots
from .analysis import SKIP, Policy, Row
from .parts import beside_table, paper_table, summary_table
from .style import BENCHMARK_STYLE
from .words import CORRECTIONS, METRICS, TESTS

_ZEROS = {"wilcox": "left out", "pratt": "kept (Pratt)", "zsplit": "kept and split between both sides"}


def write_page(
    path: Path,
    groups: Mapping[str, Sequence[Row]],
    whole: Mapping[str, Row],
    results: Results,
    policy: Policy,
    rivals: Mapping[str, Any],
    warning: str = "",
) -> Path:
    """Write the page. ``warning``: a line above all figures; ``groups``: rows by group; ``whole``: full-data rows by lesion, for the few-shot plots."""
    rows = [row for part in groups.values() for row in part]
    run = {row.task.key for row in rows if row.cells}
    tasks = {row.task.key for row in rows}
    facts = [f"{len(run)} of {len(tasks)} tasks", f"{len([m for m in results.models if m != TRIVIAL])} models"]
    facts += [f"beside {SOURCE}"]
    parts = [
        "<header><h1>Benchmark</h1><ul class=facts>",
        *(f"<li>{escape(fact)}</li>" for fact in facts),
        "</ul></header><main>",
        f"<p class=warning role=note>{escape(warning)}</p>" if warning else "",
        summary_table(rows, rivals),
        _notes(rows, policy),
        "<nav aria-label='Groups of tasks'>",
        *(
            f"<a href='#{key}'{'' if any(row.cells for row in part) else ' class=idle'}>{escape(part[0].task.group_title)}</a>"
            for key, part in groups.items()
        ),
        "</nav>",
        *(_article(key, part, whole, results, policy, rivals) for key, part in groups.items()),
        "</main><footer><p>Research use only, not for diagnosis.</p></footer>",
    ]
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>Benchmark</title><style>{STYLE}{BENCHMARK_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


# ---------------------------------------------------------------------------------------------------------------


def _notes(rows: Sequence[Row], policy: Policy) -> str:
    tested = sum(row.p is not None for row in rows)
    family = (
        f"{CORRECTIONS[policy.correction]} over the {tested} tests of this page" if tested else "no row has two models"
    )
    empty = (
        "left out of its mean, as in the authors' script"
        if policy.empty == SKIP
        else "counted: 1 if the prediction is empty too, else 0"
    )
    zeros = _ZEROS[policy.zeros]
    lines = [
        "<b>Bold</b> is the best model, <u>underlined</u> the second; p asks whether the best is better than the second, one-sided. "
        "Guessing does not compete: an empty mask, or the commonest class of the training scans, is there to compare with.",
        f"Brackets are 95 % intervals ({policy.resamples:,} bootstrap draws of the cases, the same for all models); of AUC, which is the mean over "
        "folds, the smallest and largest fold.",
        f"Dice and AUC: Wilcoxon signed-rank test, over cases and over folds; equal pairs are {zeros}. Over five folds p cannot be below 1/32 = 0.031. "
        f"ACC and F1: paired permutation test, {policy.permutations:,} permutations.",
        f"p is shown plain, as in the paper, and corrected ({family}).",
        f"Dice of scans whose true mask is empty is {empty}. False lesions are counted in every scan; surface figures are means over the scans "
        "where both masks show the lesion, which flatters models that miss many.",
        "PR-AUC of two classes is that of the second (tumour, late stage, long survival), beside its share of the cases, which is what chance gives; of "
        "more classes the mean over them. The concordance index takes the probability of short survival as the risk, and all patients with a follow-up.",
        "The first table counts rows of those below. A rank is among the models of its row, so models that were run in different rows do not compare by it.",
        "<span style='color:var(--blue)'>Paper</span>: the published figure; <span style='color:var(--amber)'>amber</span> where it lies outside the "
        "brackets above it. Other data, folds or training budgets than the paper's make them differ.",
    ]
    return f"<details class=how><summary>How to read the tables</summary><ul class=notes>{''.join(f'<li>{line}</li>' for line in lines)}</ul></details>"


def _article(key: str, rows: Sequence[Row], whole, results: Results, policy: Policy, rivals) -> str:
    task, run = rows[0].task, [row for row in rows if row.cells]
    metrics = list(dict.fromkeys(row.metric for row in rows))
    tests = "; ".join(f"{METRICS[name]}: {TESTS[task.test(name)]}" for name in metrics)
    tasks = list({row.task.key: row.task for row in run}.values())
    absent = [row for row in rows if row.task not in tasks]
    count, total = len(tasks), len({row.task.key for row in rows})
    done = f"{count} of {total} tasks run" if count else "not run"
    paper = "Supplementary Tables 2 and 3" if task.table == 2 else f"Supplementary Table {task.table}"
    paper += f", Fig. {task.figure}" if task.figure != "none" else ""
    parts = [
        f"<article id={key}><div class=title><h2>{escape(task.group_title)}</h2><p>{done} · {escape(tests)} · paper: {paper}</p></div>"
    ]
    if run:
        table = paper_table([row for row in rows if row.task in tasks], policy.correction, rivals)
        parts += [_asides(rows), _pictures(rows, whole, results, rivals), table]
    beside = beside_table(rows, rivals)
    if beside and task.kind == SEGMENTATION:
        parts.append(f"<details><summary>Surface and lesion figures</summary>{beside}</details>")
    elif beside:
        parts.append(f"<h3>What accuracy and AUC do not show</h3>{beside}")
    if absent:
        names = ", ".join(dict.fromkeys(row.name for row in absent))
        table = paper_table(absent, policy.correction, rivals)
        parts.append(f"<details><summary>Not run: {escape(names)}. Published figures</summary>{table}</details>")
    return "".join([*parts, "</article>"])


def _asides(rows: Sequence[Row]) -> str:
    tasks = {row.task.key: row.task for row in rows}
    lines = [f"{task.title}: {task.note}" for task in tasks.values() if task.note]
    return f"<ul class=asides>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _pictures(rows: Sequence[Row], whole: Mapping[str, Row], results: Results, rivals) -> str:
    """The group's plots, under one legend."""
    task = rows[0].task
    if task.k:
        by_task: dict[str, list[Row]] = {}
        for row in rows:
            by_task.setdefault(row.task.key, []).append(row)
        drawn = [
            plots.few_shot(part, _whole_of(part[0].task, whole))
            for part in by_task.values()
            if any(r.cells for r in part)
        ]
        wide = ""
    else:
        by_metric = [[row for row in rows if row.metric == name] for name in dict.fromkeys(r.metric for r in rows)]
        drawn = [plot for part in by_metric for plot in plots.intervals(part)]
        wide = " wide"
    names = [name for name in plots.shown(rows) if name != TRIVIAL or not task.labels]
    legend = "".join(
        f"<li style='--tone:{tone}'>{escape(name)}</li>" for name, tone in plots.legend(names, rivals, task)
    )
    legend += "<li class=dots>published</li>" if task.k else "<li class=ring>published</li>"
    if task.k and any(_whole_of(row.task, whole) for row in rows):
        legend += "<li class=dashes>best on all data</li>"
    more = _curves(rows, results, rivals)
    return f"<ul class=legend>{legend}</ul><div class='plots{wide}'>{''.join(drawn)}</div>" + (
        f"<div class=plots>{''.join(more)}</div>" if more else ""
    )


def _whole_of(task: Task, whole: Mapping[str, Row]) -> Row | None:
    return whole.get(task.lesion or "") if task.group == "fewshot" else None


def _curves(rows: Sequence[Row], results: Results, rivals) -> list[str]:
    """ROC curves of detection, survival curves of survival."""
    found = []
    for row in rows:
        if row.metric != "auc" or not row.cells:
            continue
        lines: dict[str, list] = {}
        for line in results.predictions_of(row.task.key):
            lines.setdefault(line.model, []).append(line)
        if row.task.group == "detect":
            found.append(plots.roc(row, lines))
        elif row.task.survival_years:
            models = [name for name in row.cells if name != TRIVIAL]
            followed = [name for name in models if any(line.time is not None for line in lines[name])]
            found += [plots.survival(row.task, name, lines[name], rivals) for name in followed]
    return found
