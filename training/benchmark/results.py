"""What a benchmark run writes and the report reads: ``metrics.csv`` (a figure per line) and ``predictions.csv`` (a case per line).

A results folder holds any number of both, at any depth, one pair for each unit of work, so that parallel runs never share a file.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from sys import intern

from PASTALib.errors import InputError

from ..runs import replacing
from .registry import Task, read_tasks

METRICS, PREDICTIONS = "metrics.csv", "predictions.csv"
METRIC_COLUMNS = ("task", "model", "k", "draw", "fold", "case", "patient", "label", "metric", "value")
PREDICTION_COLUMNS = ("task", "model", "k", "draw", "fold", "case", "patient", "group", "truth", "time", "event")

# Metrics that are not defined where a mask is empty: their value is then blank. Dice always has one (metrics.py states the policy).
MAY_BE_BLANK = ("nsd", "hd95")
COUNTS = ("lesions", "found", "false_positives")
KNOWN_METRICS = ("dice", *MAY_BE_BLANK, *COUNTS)
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of metrics.csv. ``k``: scans learned from, 0 for all; ``draw``: which few-shot draw; ``value`` None: not defined (blank)."""

    task: str
    model: str
    k: int
    draw: int
    fold: int
    case: str
    patient: str
    label: str
    metric: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One line of predictions.csv. ``group``: what is predicted; ``truth``: class number, -1 unknown; ``p``: a probability per class.

    Survival: ``time`` in days and ``event`` (died), None elsewhere; ``truth`` -1 where the follow-up ended before the limit.
    """

    task: str
    model: str
    k: int
    draw: int
    fold: int
    case: str
    patient: str
    group: str
    truth: int
    p: tuple[float, ...]
    time: float | None = None
    event: bool | None = None

    @property
    def predicted(self) -> int:
        """The likeliest class, the first of equals."""
        return max(range(len(self.p)), key=self.p.__getitem__)


@dataclass(frozen=True)
class Results:
    """All lines of a results folder, checked. ``folder`` for messages."""

    folder: Path
    figures: tuple[Figure, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    tasks: Mapping[str, Task] = field(default_factory=dict)

    def figures_of(self, task: str) -> list[Figure]:
        """Lines of metrics.csv of one task."""
        return self._figures.get(task, [])

    def predictions_of(self, task: str) -> list[Prediction]:
        """Lines of predictions.csv of one task."""
        return self._predictions.get(task, [])

    @cached_property
    def _figures(self) -> dict[str, list[Figure]]:
        return _by_task(self.figures)

    @cached_property
    def _predictions(self) -> dict[str, list[Prediction]]:
        return _by_task(self.predictions)

    @property
    def models(self) -> list[str]:
        """Keys of the models that have results."""
        return list(dict.fromkeys(line.model for line in (*self.figures, *self.predictions)))


def write_metrics(path: Path, lines: Iterable[Figure]) -> Path:
    """Write metrics.csv. InputError for a value that is no number."""
    rows = []
    for line in lines:
        _check_value(line, str(path))
        rows.append([*astuple(line)[:-1], "" if line.value is None else repr(float(line.value))])
    return _write(path, METRIC_COLUMNS, rows)


def write_predictions(path: Path, lines: Iterable[Prediction]) -> Path:
    """Write predictions.csv. InputError for probabilities that are none."""
    lines = list(lines)
    width = max((len(line.p) for line in lines), default=2)
    rows = []
    for line in lines:
        _check_probabilities(line, str(path))
        event = "" if line.event is None else int(line.event)
        time = "" if line.time is None else repr(float(line.time))
        p = [repr(float(value)) for value in line.p] + [""] * (width - len(line.p))
        where = (line.task, line.model, line.k, line.draw, line.fold, line.case, line.patient, line.group)
        rows.append([*where, line.truth, time, event, *p])
    return _write(path, (*PREDICTION_COLUMNS, *(f"p_{n}" for n in range(width))), rows)


def read_results(folder: str | Path, tasks: Sequence[Task] | None = None) -> Results:
    """All results below ``folder``, checked by ``check``. Lines of other tasks than ``tasks`` (default: all 46) are left out.

    InputError, naming file, line and case, for what cannot be read or cannot be right.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder that a benchmark run wrote")
    every = {item.key: item for item in read_tasks()}
    wanted = every if tasks is None else {item.key: item for item in tasks}
    figures, predictions = [], []
    for path in sorted(folder.rglob(METRICS)):
        for number, row in _rows(path, METRIC_COLUMNS):
            line = _figure(row, f"{path}, line {number}")
            _known(line.task, every, f"{path}, line {number}")
            if line.task in wanted:
                figures.append(line)
    for path in sorted(folder.rglob(PREDICTIONS)):
        for number, row in _rows(path, PREDICTION_COLUMNS):
            line = _prediction(row, f"{path}, line {number}")
            _known(line.task, every, f"{path}, line {number}")
            if line.task in wanted:
                predictions.append(line)
    if not figures and not predictions:
        raise InputError(f"{folder}: no {METRICS} or {PREDICTIONS} of these tasks below it; run the benchmark first")
    results = Results(folder, tuple(figures), tuple(predictions), wanted)
    from .checks import check

    check(results)
    return results


# ---------------------------------------------------------------------------------------------------------------


def _by_task(lines: Iterable) -> dict[str, list]:
    found: dict[str, list] = {}
    for line in lines:
        found.setdefault(line.task, []).append(line)
    return found


def _write(path: Path, head: Sequence[str], rows: Sequence[Sequence]) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([head, *rows])
    return path


def _rows(path: Path, columns: Sequence[str]):
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: no column {missing[0]}; wanted {', '.join(columns)}")
            yield from enumerate(reader, 2)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); run that unit again") from None


def _known(task: str, every: Mapping[str, Task], where: str) -> None:
    if task not in every:
        raise InputError(f"{where}: task {task!r} is none of the 46; results of another version? run it again")


def _place(row: Mapping[str, str], where: str) -> tuple:
    try:
        numbers = [int(row[name]) for name in ("k", "draw", "fold")]
    except (TypeError, ValueError):
        numbers = [-1]
    if min(numbers) < 0 or not all(row[name] for name in ("task", "model", "case", "patient")):
        found = ", ".join(f"{name}={row[name]!r}" for name in ("task", "model", "k", "draw", "fold", "case", "patient"))
        raise InputError(f"{where}: {found}; wanted names, and whole numbers for k, draw and fold")
    task, model, case, patient = (intern(row[name]) for name in ("task", "model", "case", "patient"))
    return (task, model, *numbers, case, patient)  # whole suites have millions of lines, and few words


def _figure(row: Mapping[str, str], where: str) -> Figure:
    place = _place(row, where)
    text = row["value"] or ""
    try:
        value = float(text) if text else None
    except ValueError:
        raise InputError(f"{where}: case {row['case']!r}: {row['metric']} is {text!r}; wanted a number") from None
    line = Figure(*place, intern(row["label"] or ""), intern(row["metric"] or ""), value)
    _check_value(line, where)
    return line


def _check_value(line: Figure, where: str) -> None:
    what = f"{where}: case {line.case!r} of {line.task}, model {line.model}: {line.metric} of {line.label}"
    if line.metric not in KNOWN_METRICS:
        raise InputError(f"{what}: no such metric; wanted one of {', '.join(KNOWN_METRICS)}")
    if line.value is None:
        if line.metric not in MAY_BE_BLANK:
            raise InputError(f"{what} is blank; only {' and '.join(MAY_BE_BLANK)} may be; score that case again")
        return
    high = 1.0 if line.metric in ("dice", "nsd") else math.inf
    if not (0 <= line.value <= high and math.isfinite(line.value)):
        raise InputError(f"{what} is {line.value:g}; wanted 0 to {high:g}; predict and score that case again")
    if line.metric in COUNTS and line.value != int(line.value):
        raise InputError(f"{what} is {line.value:g}; wanted a whole number; score that case again")


def _prediction(row: Mapping[str, str], where: str) -> Prediction:
    place = _place(row, where)
    case = f"{where}: case {row['case']!r}"
    try:
        names = sorted((name for name in row if name and name.startswith("p_")), key=lambda name: int(name[2:]))
        p = tuple(float(row[name]) for name in names if row[name] not in ("", None))
        truth = int(row["truth"]) if row["truth"] else -1
        time = float(row["time"]) if row["time"] else None
        event = {"": None, "0": False, "1": True}[row["event"] or ""]
    except (TypeError, ValueError, KeyError):
        raise InputError(
            f"{case}: truth {row['truth']!r}, time {row['time']!r}, event {row['event']!r} or a probability is not understood; "
            "wanted numbers, and event 0, 1 or blank"
        ) from None
    line = Prediction(*place, intern(row["group"] or ""), truth, p, time, event)
    _check_probabilities(line, where)
    return line


def _check_probabilities(line: Prediction, where: str) -> None:
    what = f"{where}: case {line.case!r} of {line.task}, model {line.model}"
    if any(not math.isfinite(value) for value in line.p):
        raise InputError(
            f"{what}: a probability of {line.group} is NaN or infinite; the network diverged, train it again"
        )
    if len(line.p) < 2 or min(line.p) < 0 or abs(sum(line.p) - 1) > _SUM_TOLERANCE:
        found = ", ".join(f"{value:g}" for value in line.p) or "none"
        raise InputError(
            f"{what}: probabilities of {line.group} are {found}; wanted two or more, 0 to 1, that sum to 1"
        )
    if not -1 <= line.truth < len(line.p):
        raise InputError(
            f"{what}: truth {line.truth} of {len(line.p)} classes; wanted a class number, or -1 for unknown"
        )
    if (line.time is None) != (line.event is None) or (
        line.time is not None and not (line.time >= 0 and math.isfinite(line.time))
    ):
        raise InputError(f"{what}: time {line.time}, event {line.event}; wanted both (days, died or not) or neither")
