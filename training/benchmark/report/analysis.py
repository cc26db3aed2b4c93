"""From results to the rows of the report: a value, an interval and what stands beside it for every model; best, second and p for every row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from PASTALib.errors import InputError

from ...downstream.metrics import group_figures, majority_class
from .. import statistics as st
from ..published import Entry, published
from ..registry import REPORT, SEGMENTATION, TRIVIAL, Task
from ..results import Figure, Prediction, Results

SKIP, COUNT = EMPTY = ("skip", "count")
_SCORES = {"accuracy": st.accuracy, "macro_f1": st.macro_f1}
_PERMUTED = 7  # seeds apart from those of the bootstrap


@dataclass(frozen=True)
class Policy:
    """What the reader of a table must know, and may change.

    ``empty``: Dice of cases whose true mask is empty, "skip" (as the authors' script) or "count"; ``zeros``: equal pairs in the signed-rank
    test; ``correction`` of p shown beside the plain one; ``resamples`` and ``permutations`` as the paper's.
    """

    empty: str = SKIP
    zeros: str = "wilcox"
    correction: str = "holm"
    resamples: int = st.RESAMPLES
    permutations: int = st.PERMUTATIONS
    seed: int = 0

    def __post_init__(self) -> None:
        wanted = ((self.empty, EMPTY), (self.zeros, st.ZERO_METHODS), (self.correction, st.CORRECTIONS))
        for value, options in wanted:
            if value not in options:
                raise InputError(f"report policy {value!r}; wanted one of {', '.join(options)}")


@dataclass(frozen=True)
class Cell:
    """One model in one row. ``low``, ``high``: 95 % bootstrap interval, of AUC the range over folds; ``cases`` evaluated; ``folds`` done.

    ``paired``: what tests compare, by case or by fold. ``beside``: further figures. ``collapsed``: the same class for every case, or no
    lesion overlapped in any.
    """

    model: str
    value: float
    low: float
    high: float
    cases: int
    folds: int
    paired: Mapping[object, float]
    beside: Mapping[str, float | None] = field(default_factory=dict)
    collapsed: bool = False


@dataclass(frozen=True)
class Row:
    """One row of a table: a task's metric at one budget (and of one attribute). ``cells`` by model, missing where it was not run.

    ``best`` and ``second`` where two or more models compete; ``p``: is the best better than the second, one-sided; ``p_holm``, ``p_bh``: corrected over all rows of the report.
    """

    task: Task
    metric: str
    k: int
    group: str
    cells: Mapping[str, Cell]
    entries: Mapping[str, Entry]
    best: str | None = None
    second: str | None = None
    p: float | None = None
    p_holm: float | None = None
    p_bh: float | None = None

    @property
    def name(self) -> str:
        """What the row is, within its task's group."""
        if self.group:
            return self.group.capitalize()
        return self.task.title

    def corrected(self, method: str) -> float | None:
        """p by the name of a correction."""
        return {"none": self.p, "holm": self.p_holm, "bh": self.p_bh}[method]

    def not_above_trivial(self, model: str) -> bool:
        """Whether the model has at most what guessing (or an empty mask) has."""
        trivial, cell = self.cells.get(TRIVIAL), self.cells.get(model)
        return trivial is not None and cell is not None and model != TRIVIAL and cell.value <= trivial.value


def analyse(results: Results, tasks: Sequence[Task], policy: Policy) -> list[Row]:
    """A row for every task, budget, attribute and metric, whether run or not."""
    rows = []
    for task in tasks:
        lines = results.figures_of(task.key) if task.kind == SEGMENTATION else results.predictions_of(task.key)
        for k in task.budgets:
            for group in task.classes if task.kind == REPORT else ("",):
                part = [line for line in lines if line.k == k and (not group or line.group == group)]
                rows += [_row(task, metric, k, group, part, policy) for metric in task.metrics]
    return _corrected(rows)


def survival_groups(lines: Sequence[Prediction]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(time in days, died) of the patients predicted to live "short" and "long", those with a known follow-up."""
    known = [line for line in _mean_draws(lines) if line.time is not None]
    found = {}
    for name, number in (("short", 0), ("long", 1)):
        mine = [line for line in known if line.predicted == number]
        found[name] = (np.array([line.time for line in mine], float), np.array([line.event for line in mine], bool))
    return found


def pooled_binary(lines: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Truth (n,) and probability of class 1 (n,) of the cases whose truth is known."""
    known = [line for line in _mean_draws(lines) if line.truth >= 0]
    return np.array([line.truth for line in known], int), np.array([line.p[1] for line in known], float)


# ---------------------------------------------------------------------------------------------------------------


def _row(task: Task, metric: str, k: int, group: str, lines: Sequence, policy: Policy) -> Row:
    by_model = defaultdict(list)
    for line in lines:
        by_model[line.model].append(line)
    make = _dice_cell if task.kind == SEGMENTATION else _class_cell
    cells = {}
    for model, mine in by_model.items():
        cell = make(task, metric, mine, policy)
        if cell is not None:
            cells[model] = cell
    row = Row(task, metric, k, group, cells, published(task.key, metric, k, group))
    return _compared(row, by_model, policy)


def _compared(row: Row, lines: Mapping[str, Sequence], policy: Policy) -> Row:
    """With best and second of the models that compete (not of guessing), and p."""
    order = sorted((name for name in row.cells if name != TRIVIAL), key=lambda name: -round(row.cells[name].value, 6))
    if len(order) < 2:
        return row
    first, second = (row.cells[name] for name in order[:2])
    common = [key for key in first.paired if key in second.paired]
    p = None
    if common and row.task.test(row.metric) == "permutation":
        truth = {line.case: line.truth for line in lines[order[0]]}
        p = st.permutation_greater(
            _SCORES[row.metric],
            np.array([truth[case] for case in common]),
            np.array([int(first.paired[case]) for case in common]),
            np.array([int(second.paired[case]) for case in common]),
            permutations=policy.permutations,
            seed=policy.seed + _PERMUTED,
        )
    elif common:
        pairs = [[cell.paired[key] for key in common] for cell in (first, second)]
        p = st.wilcoxon_greater(*pairs, policy.zeros)
    return replace(row, best=order[0], second=order[1], p=p)


def _corrected(rows: list[Row]) -> list[Row]:
    tested = [number for number, row in enumerate(rows) if row.p is not None]
    p = [rows[number].p for number in tested]
    for number, holm, bh in zip(tested, st.adjusted(p, "holm"), st.adjusted(p, "bh")):
        rows[number] = replace(rows[number], p_holm=holm, p_bh=bh)
    return rows


# ---------------------------------------------------------------------------------------------------------------
# Segmentation


def _dice_cell(task: Task, metric: str, lines: Sequence[Figure], policy: Policy) -> Cell | None:
    table: dict[tuple[str, int, str], dict[str, float | None]] = defaultdict(dict)
    for line in lines:
        table[line.case, line.draw, line.label][line.metric] = line.value
    counted = {
        key: entry
        for key, entry in table.items()
        if policy.empty == COUNT or entry.get("lesions") != 0  # None: not counted
    }
    by_case = _by_case(counted, metric)
    if not by_case:
        return None
    values = np.array(list(by_case.values()))
    draws = st.bootstrap_draws(len(values), resamples=policy.resamples, seed=policy.seed)
    return Cell(
        model=lines[0].model,
        value=float(values.mean()),
        **dict(zip(("low", "high"), st.mean_interval(values, draws))),
        cases=len(values),
        folds=len({line.fold for line in lines}),
        paired=by_case,
        beside=_beside_dice(table),
        collapsed=not values.any() and lines[0].model != TRIVIAL,
    )


def _by_case(table: Mapping, metric: str) -> dict[str, float]:
    """Of every case the mean over its labels, then over the few-shot draws."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (case, draw, _), entry in table.items():
        found[case][draw].append(entry[metric])
    return {case: float(np.mean([np.mean(part) for part in found[case].values()])) for case in sorted(found)}


def _beside_dice(table: Mapping) -> dict[str, float | None]:
    entries = list(table.values())

    def mean(name: str) -> float | None:
        values = [entry[name] for entry in entries if entry.get(name) is not None]
        return float(np.mean(values)) if values else None

    lesions = sum(entry.get("lesions") or 0 for entry in entries)
    found = sum(entry.get("found") or 0 for entry in entries)
    return {
        "nsd": mean("nsd"),
        "hd95": mean("hd95"),
        "lesions_found": found / lesions if lesions else None,
        "false_positives": mean("false_positives"),
    }


# ---------------------------------------------------------------------------------------------------------------
# Classification


def _mean_draws(lines: Sequence[Prediction]) -> list[Prediction]:
    """One line per case, in their order by name: probabilities are averaged over draws (the paper's classifications have one)."""
    parts: dict[str, list[Prediction]] = defaultdict(list)
    for line in lines:
        parts[line.case].append(line)
    return [
        replace(part[0], p=tuple(np.mean([line.p for line in part], axis=0).tolist()))
        for _, part in sorted(parts.items())
    ]


def _class_cell(task: Task, metric: str, lines: Sequence[Prediction], policy: Policy) -> Cell | None:
    every = _mean_draws(lines)
    known = [line for line in every if line.truth >= 0]
    if not known:
        return None
    truth, p = np.array([line.truth for line in known]), np.array([line.p for line in known])
    said = np.array([line.predicted for line in known])
    figures = group_figures(truth, p, majority_class(truth, p.shape[1]))
    beside = {
        "accuracy": figures["accuracy"],
        "balanced_accuracy": figures["balanced_accuracy"],
        "average_precision": figures["average_precision"],
        "prevalence": float((truth == 1).mean()) if p.shape[1] == 2 else None,
        "majority_accuracy": figures["majority"]["accuracy"],
    }
    if task.survival_years:
        followed = [line for line in every if line.time is not None]
        beside["concordance"] = st.concordance(
            np.array([line.time for line in followed]),
            np.array([line.event for line in followed]),
            np.array([line.p[0] for line in followed]),
        )
    shared = {
        "model": lines[0].model,
        "cases": len(known),
        "folds": len({line.fold for line in lines}),
        "beside": beside,
        "collapsed": bool(figures["collapsed"]) and lines[0].model != TRIVIAL,
    }
    if metric == "auc":
        by_fold = _auc_by_fold(known)
        if not by_fold:
            return None
        values = list(by_fold.values())
        return Cell(value=float(np.mean(values)), low=min(values), high=max(values), paired=by_fold, **shared)
    score = _SCORES[metric]
    draws = st.bootstrap_draws(len(known), resamples=policy.resamples, seed=policy.seed)
    low, high = st.score_interval(score, truth, said, draws)
    paired = {line.case: float(number) for line, number in zip(known, said)}
    return Cell(value=float(score(truth, said)), low=low, high=high, paired=paired, **shared)


def _auc_by_fold(lines: Sequence[Prediction]) -> dict[int, float]:
    """Of the folds that hold both classes."""
    found = {}
    for fold in sorted({line.fold for line in lines}):
        mine = [line for line in lines if line.fold == fold]
        figures = group_figures(np.array([line.truth for line in mine]), np.array([line.p for line in mine]), 0)
        if figures["auc"] is not None:
            found[fold] = figures["auc"]
    return found
