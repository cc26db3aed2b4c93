"""Whether results can be compared: the same cases, folds, labels and truth for every model, no patient in two folds. One clear line if not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from PASTALib.errors import InputError

from .registry import SEGMENTATION, Task
from .results import Figure, Prediction, Results


def check(results: Results) -> None:
    """InputError, naming the case, for a leak, a missing or doubled case, unequal label sets, and truths that contradict each other.

    Folds that a model has not finished are not missing cases: a fold's cases are compared among the models that have the fold.
    """
    for key, task in results.tasks.items():
        lines = results.figures_of(key) if task.kind == SEGMENTATION else results.predictions_of(key)
        _check_kind(results, task)
        if not lines:
            continue
        _one_fold(task, lines)
        for (k, draw, fold), part in _by(lines, "k", "draw", "fold").items():
            where = f"{key}, k {k or 'all'}, draw {draw}, fold {fold}"
            by_model = _by(part, "model")
            _same_cases(by_model, where)
            for (model,), mine in by_model.items():
                _same_labels(task, mine, f"{where}, model {model}")
        if task.kind != SEGMENTATION:
            _same_truth(task, lines)


def _check_kind(results: Results, task: Task) -> None:
    wrong = results.predictions_of(task.key) if task.kind == SEGMENTATION else results.figures_of(task.key)
    if wrong:
        file = "predictions.csv" if task.kind == SEGMENTATION else "metrics.csv"
        raise InputError(
            f"{task.key}: case {wrong[0].case!r} is in a {file}, which {task.kind} does not have; remove it"
        )


def _one_fold(task: Task, lines: Sequence[Figure | Prediction]) -> None:
    """Every patient, and so every case, is tested in one fold alone, which is the same for all models and budgets."""
    folds: dict[str, tuple[int, str]] = {}
    patients: dict[str, str] = {}
    for line in lines:
        other = patients.setdefault(line.case, line.patient)
        if other != line.patient:
            raise InputError(
                f"{task.key}: case {line.case!r} is of the patients {other!r} and {line.patient!r}; correct the table of cases"
            )
        fold, case = folds.setdefault(line.patient, (line.fold, line.case))
        if fold != line.fold:
            same = f"case {case!r}" if case == line.case else f"the cases {case!r} and {line.case!r}"
            raise InputError(
                f"{task.key}: patient {line.patient!r} is tested in the folds {fold} and {line.fold} ({same}, model {line.model}), "
                "so that training has seen the test; use one splits file for all models"
            )


def _same_cases(by_model: dict, where: str) -> None:
    """Each model has what another has."""
    cases = {model: {line.case for line in part} for (model,), part in by_model.items()}
    union = set().union(*cases.values())
    for model, found in cases.items():
        missing = sorted(union - found)
        if missing:
            has = next(name for name, other in cases.items() if missing[0] in other)
            raise InputError(
                f"{where}: model {model} has no case {missing[0]!r} ({len(missing)} missing in all), which {has} has; "
                "predict it, or remove that unit's results"
            )


def _same_labels(task: Task, lines: Sequence[Figure | Prediction], where: str) -> None:
    """Every case once, with all labels that the task scores (or all groups that it predicts), and the same metrics."""
    segments = task.kind == SEGMENTATION
    wanted = set(task.scored if segments else task.classes)
    seen: dict[str, set] = defaultdict(set)
    for line in lines:
        item = (line.label, line.metric) if segments else (line.group,)
        if item in seen[line.case]:
            raise InputError(f"{where}: case {line.case!r} is there twice ({', '.join(item)}); remove one of the files")
        seen[line.case].add(item)
        if not segments and item[0] in wanted and len(line.p) != len(task.classes[line.group]):
            raise InputError(
                f"{where}: case {line.case!r} has {len(line.p)} probabilities of {line.group}; wanted {len(task.classes[line.group])}"
            )
    whole = set().union(*seen.values())
    for case, items in seen.items():
        labels = {item[0] for item in items}
        if labels != wanted:
            raise InputError(
                f"{where}: case {case!r} has the labels {', '.join(sorted(labels))}; wanted {', '.join(sorted(wanted))}; "
                "score it with the task's own labels"
            )
    for case, items in seen.items():
        if items != whole:
            lacks = ", ".join(sorted(whole - items)[0])
            raise InputError(f"{where}: case {case!r} lacks {lacks}, which other cases have; score that fold again")
    if segments and not any(metric == task.metric for _, metric in whole):
        raise InputError(f"{where}: case {lines[0].case!r} has no {task.metric}; score that fold again")


def _same_truth(task: Task, lines: Sequence[Prediction]) -> None:
    truths: dict[tuple[str, str], Prediction] = {}
    for line in lines:
        first = truths.setdefault((line.case, line.group), line)
        if (first.truth, first.time, first.event) != (line.truth, line.time, line.event):
            raise InputError(
                f"{task.key}: case {line.case!r}: {line.group} is {_words(first)} for model {first.model} and {_words(line)} for "
                f"{line.model}; both must be tested on the same labels"
            )


def _words(line: Prediction) -> str:
    return str(line.truth) if line.time is None else f"{line.truth} ({line.time:g} days, event {int(line.event)})"


def _by(lines: Sequence, *names: str) -> dict[tuple, list]:
    parts: dict[tuple, list] = defaultdict(list)
    for line in lines:
        parts[tuple(getattr(line, name) for name in names)].append(line)
    return parts
