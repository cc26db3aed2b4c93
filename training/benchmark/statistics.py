"""Intervals and tests of the paper's tables, on out-of-fold predictions: scipy's, with one matrix of bootstrap draws shared by all models."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from PASTALib.errors import InputError

RESAMPLES, PERMUTATIONS, LEVEL = 1000, 10_000, 0.95
CORRECTIONS = ("none", "holm", "bh")
_DIGITS = 6  # differences are rounded: noise of the last bits would break ties of the signed ranks
ZERO_METHODS = ("wilcox", "pratt", "zsplit")


def bootstrap_draws(count: int, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """(resamples, count) numbers of drawn cases. The same draws serve every model, so that differences are paired."""
    if count < 1:
        raise InputError("no case to draw from; at least one is needed for an interval")
    return np.random.default_rng([seed, count]).integers(count, size=(resamples, count))


def mean_interval(values: np.ndarray, draws: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval of the mean of ``values`` (n,)."""
    return interval(np.asarray(values, float)[draws].mean(axis=1), level)


def score_interval(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    truth: np.ndarray,
    predicted: np.ndarray,
    draws: np.ndarray,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Percentile interval of ``score(truth, predicted)`` (of the last axis), as ``accuracy`` and ``MacroF1`` are."""
    return interval(score(np.asarray(truth)[draws], np.asarray(predicted)[draws]), level)


def interval(resampled: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Percentiles that leave half of 1 - level on each side."""
    tail = 50 * (1 - level)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return float(low), float(high)


# ---------------------------------------------------------------------------------------------------------------
# Tests, one-sided: is the first better?


def wilcoxon_greater(first: Sequence[float], second: Sequence[float], zero_method: str = "wilcox") -> float:
    """p of the signed-rank test of paired values. With five folds it is exact and never below 1/32.

    ``zero_method``: "wilcox" leaves equal pairs out (as scipy does by itself), "pratt" and "zsplit" keep them. 1 where all are equal.
    """
    if zero_method not in ZERO_METHODS:
        raise InputError(f"zero policy {zero_method!r}; wanted one of {', '.join(ZERO_METHODS)}")
    difference = _difference(first, second)
    if not difference.any():
        return 1.0
    return float(stats.wilcoxon(difference, zero_method=zero_method, alternative="greater").pvalue)


def permutation_greater(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """p of a gain in ``score``: the predictions of both models are exchanged within cases at random. Never below 1 / (permutations + 1)."""
    truth, first, second = (np.asarray(part) for part in (truth, first, second))
    if not len(truth) == len(first) == len(second) or not len(truth):
        raise InputError(f"{len(first)} and {len(second)} predictions of {len(truth)} cases; wanted as many, and one")
    if np.array_equal(first, second):
        return 1.0

    def gain(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        a, b = np.moveaxis(a, axis, -1), np.moveaxis(b, axis, -1)
        at = np.broadcast_to(truth, a.shape)
        return np.round(score(at, a) - score(at, b), 12)

    found = stats.permutation_test(
        (first, second),
        gain,
        permutation_type="samples",
        vectorized=True,
        n_resamples=permutations,
        batch=500,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def adjusted(p: Sequence[float], method: str = "holm") -> list[float]:
    """p values corrected for their number: "holm" (family-wise error), "bh" (false discovery rate) or "none"."""
    values = np.asarray(p, float)
    if method not in CORRECTIONS:
        raise InputError(f"correction {method!r}; wanted one of {', '.join(CORRECTIONS)}")
    if method == "none" or not len(values):
        return values.tolist()
    if method == "bh":
        return stats.false_discovery_control(values, method="bh").tolist()
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    found = np.empty_like(values)
    found[order] = np.minimum(stepped, 1.0)
    return found.tolist()


# ---------------------------------------------------------------------------------------------------------------
# Scores of whole arrays: cases along the last axis


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Share of right ones."""
    return (truth == predicted).mean(axis=-1)


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes that occur in truth or prediction, as scikit-learn's ``f1_score(average="macro")``."""
    truth, predicted = np.broadcast_arrays(truth, predicted)
    total, occurring = np.zeros(truth.shape[:-1]), np.zeros(truth.shape[:-1])
    for number in range(int(max(truth.max(), predicted.max())) + 1):
        is_there, is_said = truth == number, predicted == number
        both = is_there.sum(axis=-1) + is_said.sum(axis=-1)
        total += 2 * (is_there & is_said).sum(axis=-1) / np.maximum(both, 1)
        occurring += both > 0
    return total / occurring


# ---------------------------------------------------------------------------------------------------------------
# Survival


def concordance(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float | None:
    """Harrell's index: of the pairs whose order is known, the share in which the one who died first had the higher risk; equal risks count half.

    ``time`` (n,) to death or end of follow-up, ``event`` (n,) died. None where no order is known.
    """
    time, event, risk = np.asarray(time, float), np.asarray(event, bool), np.asarray(risk, float)
    comparable = event[:, None] & ((time[:, None] < time) | ((time[:, None] == time) & ~event))
    pairs = np.count_nonzero(comparable)
    if not pairs:
        return None
    higher, equal = risk[:, None] > risk, risk[:, None] == risk
    return float((np.count_nonzero(comparable & higher) + 0.5 * np.count_nonzero(comparable & equal)) / pairs)


def kaplan_meier(time: Sequence[float], event: Sequence[bool], level: float = LEVEL) -> dict[str, np.ndarray]:
    """The curve of survival: ``time`` of its steps, ``survival`` after each, and the log-log interval ``low``, ``high`` (NaN where undefined)."""
    time, event = np.asarray(time, float), np.asarray(event, bool)
    if not len(time):
        raise InputError("no case to draw a survival curve of")
    curve = stats.ecdf(stats.CensoredData.right_censored(time, ~event)).sf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the interval is not defined at the ends; scipy says so and gives NaN
        bounds = curve.confidence_interval(level, method="log-log")
    return {
        "time": curve.quantiles,
        "survival": curve.probabilities,
        "low": bounds.low.probabilities,
        "high": bounds.high.probabilities,
    }


def log_rank(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float | None:
    """Two-sided p that two groups, each ``(time, event)``, survive alike; None where nobody died or a group is empty."""
    if not len(first[0]) or not len(second[0]) or not (np.any(first[1]) or np.any(second[1])):
        return None
    groups = [
        stats.CensoredData.right_censored(np.asarray(time, float), ~np.asarray(event, bool))
        for time, event in (first, second)
    ]
    with np.errstate(all="ignore"):
        p = float(stats.logrank(*groups).pvalue)
    return p if np.isfinite(p) else None


def _difference(first: Sequence[float], second: Sequence[float]) -> np.ndarray:
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise InputError(f"{first.size} and {second.size} values; wanted pairs, at least one")
    return np.round(first - second, _DIGITS)
