"""Averages over readers who all read the same cases: intervals for readers and cases like these, and for these readers alone.

Obuchowski & Rockette (1995) in the form of Hillis: the variance of the readers' average is [MS(R) + max(R Cov2, 0)] / R, where MS(R) is the
variance between the readers' values and Cov2 the mean covariance, due to the shared cases, between the errors of two readers; its degrees of freedom are (R - 1) / share², where share is the part of MS(R) in the sum
(Hillis 2007, Stat Med 26:596-619, "ddf_H single"). It holds for any value per reader: a mean score, a difference, an AUC.

With few readers a small MS(R) makes the variance too small and, by the same chance, the degrees of freedom too large: 95 % intervals of four readers
cover 93.5 % where most of the variance is the readers'. So the share is taken with MS(R) times R / (R - 2) (with two readers times 10), which
brings intervals of three and more readers to 94.6-96.1 % whatever the readers' part, and goes over into Hillis's with many readers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """An average over readers. ``low``, ``high``: for readers and cases like these (NaN with one reader); ``fixed_*``: for these readers alone.

    ``per_reader``: the value of every reader, NaN for one without any; ``readers``: those with a value.
    """

    value: float
    low: float
    high: float
    se: float
    df: float
    fixed_low: float
    fixed_high: float
    fixed_se: float
    readers: int
    cases: int
    per_reader: tuple[float, ...] = ()
    fixed_df: float = np.inf

    @property
    def shown(self) -> tuple[float, float]:
        """The interval to show: the general one, or with one reader that of this reader."""
        return (self.low, self.high) if np.isfinite(self.low) else (self.fixed_low, self.fixed_high)

    @property
    def generalises(self) -> bool:
        """Whether ``shown`` speaks of other readers too."""
        return bool(np.isfinite(self.low))

    def interval(self, level: float) -> tuple[float, float]:
        """The general interval at another level, not clipped; of the readers alone with one reader."""
        se, df = (self.se, self.df) if self.generalises else (self.fixed_se, self.fixed_df)
        half = float(stats.t.ppf((1 + level) / 2, df)) * se if se > 0 else 0.0
        return self.value - half, self.value + half

    def p_above(self, bound: float) -> float:
        """One-sided p-value against "the average is at most ``bound``"; NaN where nothing varies."""
        se, df = (self.se, self.df) if self.generalises else (self.fixed_se, self.fixed_df)
        if not np.isfinite(se) or se < 1e-6:  # where nothing varies, nothing can be tested
            return float("nan")
        return float(stats.t.sf((self.value - bound) / se, df))

    def p_two_sided(self, bound: float) -> float:
        """Two-sided p-value against "the average is ``bound``"."""
        above = self.p_above(bound)
        return min(1.0, 2 * min(above, 1 - above)) if np.isfinite(above) else above


def average(
    values: np.ndarray,
    covariance: np.ndarray,
    cases: int,
    *,
    level: float = 0.95,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    case_df: float = np.inf,
    as_published: bool = False,
) -> Estimate:
    """Average of ``values`` (R,), one per reader, whose errors due to the cases have ``covariance`` (R, R).

    ``case_df``: degrees of freedom of the covariance, which matter with few cases; infinite leaves them out. ``as_published``: Hillis's degrees of freedom without the change for few readers. Intervals are
    clipped to ``bounds``. Readers with a NaN value are left out.
    """
    there = np.isfinite(values)
    each = tuple(float(value) for value in values)
    values, covariance = np.asarray(values, float)[there], np.atleast_2d(covariance)[np.ix_(there, there)]
    readers = len(values)
    nan = float("nan")
    if not readers:
        return Estimate(nan, nan, nan, nan, nan, nan, nan, nan, 0, cases, each)
    mean, case_df = float(values.mean()), max(case_df, 1.0)
    error = float(np.diag(covariance).mean())
    shared = float((covariance.sum() - np.trace(covariance)) / (readers * (readers - 1))) if readers > 1 else 0.0
    shared = max(shared, 0.0)
    fixed_se = float(np.sqrt((error + (readers - 1) * shared) / readers))
    fixed = _interval(mean, fixed_se, case_df, level, bounds)
    if readers == 1:
        return Estimate(mean, nan, nan, nan, nan, *fixed, fixed_se, 1, cases, each, case_df)
    between = float(values.var(ddof=1))
    total = between + readers * shared
    raised = between if as_published else between * (readers / (readers - 2) if readers > 2 else 10)
    doubt = raised**2 / (readers - 1) + (readers * shared) ** 2 / case_df
    df = (raised + readers * shared) ** 2 / doubt if doubt > 0 else np.inf
    se = float(np.sqrt(total / readers))
    return Estimate(
        mean, *_interval(mean, se, df, level, bounds), se, df, *fixed, fixed_se, readers, cases, each, case_df
    )


def _interval(mean: float, se: float, df: float, level: float, bounds: tuple[float, float]) -> tuple[float, float]:
    if not np.isfinite(se):
        return float("nan"), float("nan")
    half = float(stats.t.ppf((1 + level) / 2, df)) * se if se > 0 else 0.0
    return max(mean - half, bounds[0]), min(mean + half, bounds[1])


# ---------------------------------------------------------------------------------------------------------------
# Telling real from synthetic


def auc_jackknife(real: np.ndarray, synthetic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Empirical AUC of each reader, (R,), and their covariance from the jackknife over cases, (R, R).

    ``real``, ``synthetic``: (R, n) scores, NaN where missing. AUC: the chance that a real case gets the higher score, ties counted half. A case
    that a reader did not score leaves that reader's AUC as it is. Leaving out one case changes an AUC by its placement value, so the jackknife
    needs no loop over cases.
    """
    one, other = np.isfinite(real), np.isfinite(synthetic)
    many, few = one.sum(1), other.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value, place_real = _placements(real, synthetic, other)
        _, place_synthetic = _placements(-synthetic, -real, one)
        auc = value
        left = (many[:, None] * auc[:, None] - place_real) / (many[:, None] - 1)
        right = (few[:, None] * auc[:, None] - place_synthetic) / (few[:, None] - 1)
    without = np.concatenate([np.where(one, left, auc[:, None]), np.where(other, right, auc[:, None])], axis=1)
    cases = without.shape[1]
    apart = without - without.mean(axis=1, keepdims=True)
    return auc, (cases - 1) / cases * (apart @ apart.T)


def _placements(high: np.ndarray, low: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUC per reader, and for every case of ``high`` the share of ``low`` below it (ties half), (R, n)."""
    placed = np.full(high.shape, np.nan)
    for reader, (ours, theirs, use) in enumerate(zip(high, low, there)):
        theirs = np.sort(theirs[use])
        if theirs.size:
            below = np.searchsorted(theirs, ours, "left") + np.searchsorted(theirs, ours, "right")
            placed[reader] = np.where(np.isfinite(ours), below / (2 * theirs.size), np.nan)
    count = np.isfinite(placed).sum(1)
    total = np.where(np.isfinite(placed), placed, 0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), placed


def roc_points(real: np.ndarray, synthetic: np.ndarray, levels: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """One reader's ROC points from (1, 1) to (0, 0): shares of synthetic and of real cases with a score of at least 1, 2 … ``levels`` + 1."""
    cuts = np.arange(1, levels + 2)[:, None]
    shares = []
    for scores in (synthetic, real):
        scores = scores[np.isfinite(scores)]
        shares.append((scores >= cuts).mean(axis=1) if scores.size else np.full(levels + 1, np.nan))
    return shares[0], shares[1]
