"""Figures of merit of out-of-fold predictions, by scikit-learn, beside what guessing the commonest class gives."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    roc_auc_score,
)

# Of several classes: the mean over those that are there and are not all there is, each against the rest.
FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "average_precision")


def group_figures(truth: np.ndarray, probabilities: np.ndarray, majority: int | np.ndarray) -> dict[str, Any]:
    """JSON-ready figures of one group: ``truth`` (n,) class numbers, -1 unknown; ``probabilities`` (n, classes).

    ``majority``: the commonest class of the *training* cases, one for all or (n,), whose accuracy and macro-F1 stand beside. ``macro_f1`` is the mean over the
    classes that occur in truth or prediction. ``auc`` and ``average_precision`` are None where only one class is there. ``collapsed``: every
    case was given the same class.
    """
    known = truth >= 0
    guess = np.broadcast_to(majority, truth.shape)[known]
    truth, probabilities = truth[known], probabilities[known]
    if not len(truth):
        return {"cases": 0, **dict.fromkeys(FIGURES), "majority": None, "collapsed": None}
    predicted = probabilities.argmax(axis=1)
    figures = {"cases": len(truth), **_of_labels(truth, predicted), **_of_ranks(truth, probabilities)}
    figures["majority"] = _of_labels(truth, guess)
    figures["collapsed"] = len(truth) > 1 and len(set(predicted.tolist())) == 1
    return figures


def all_figures(
    truth: np.ndarray,
    probabilities: Sequence[np.ndarray],
    majorities: Sequence[int | np.ndarray],
    groups: Sequence[str],
) -> dict[str, Any]:
    """``group_figures`` by group, of ``truth`` (n, groups), and the ``mean`` of every figure over the groups that have it."""
    by_group = {name: group_figures(truth[:, n], probabilities[n], majorities[n]) for n, name in enumerate(groups)}
    return {"groups": by_group, "mean": _means(list(by_group.values()))}


def over_folds(folds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean, smallest and largest fold value of every figure, as the paper's tables give them."""
    found = {}
    for figure in FIGURES:
        values = [fold["mean"][figure] for fold in folds if fold["mean"].get(figure) is not None]
        if values:
            found[figure] = {"mean": mean(values), "min": min(values), "max": max(values), "folds": len(values)}
    return found


def majority_class(labels: np.ndarray, classes: int) -> int:
    """The commonest of the known class numbers, the lowest of equals; 0 when none is known."""
    known = labels[labels >= 0]
    return int(np.bincount(known, minlength=classes).argmax())


def _of_labels(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # predicted classes that are not in the truth: macro_f1 counts them, balanced cannot
        return {
            "accuracy": float(accuracy_score(truth, predicted)),
            "balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
            "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),
        }


def _of_ranks(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    classes = [number for number in range(probabilities.shape[1]) if 0 < (truth == number).sum() < len(truth)]
    if probabilities.shape[1] == 2:
        classes = [number for number in classes if number == 1]
    if not classes:
        return {"auc": None, "average_precision": None}
    pairs = [(truth == number, probabilities[:, number]) for number in classes]
    return {
        "auc": mean(float(roc_auc_score(*pair)) for pair in pairs),
        "average_precision": mean(float(average_precision_score(*pair)) for pair in pairs),
    }


def _means(groups: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    groups = [group for group in groups if group["cases"]]
    found: dict[str, float | None] = {}
    for figure in FIGURES:
        values = [group[figure] for group in groups if group[figure] is not None]
        found[figure] = mean(values) if values else None
    if groups:
        for figure in ("accuracy", "macro_f1"):
            found[f"majority_{figure}"] = mean(group["majority"][figure] for group in groups)
    return found
