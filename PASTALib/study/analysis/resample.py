"""Cluster bootstrap by case: all readings of a case, by all readers, are drawn together, within the strata that the design fixes."""

from __future__ import annotations

import numpy as np


class CaseBootstrap:
    """Weights of resampled cases, drawn once and shared by every statistic.

    ``strata``: (C,) labels; cases are drawn within them. From each stratum of n cases n - 1 are drawn with replacement and weighted by
    n / (n - 1), which makes variances of means unbiased in strata as small as two cases (Rao & Wu 1988, JASA 83:231-241). Strata of one
    case, which tell nothing about variation, are drawn together with each other, those of real and of synthetic cases (label's last bit) apart.
    ``weights``: (resamples, C) float32.
    """

    def __init__(self, strata: np.ndarray, resamples: int, rng: np.random.Generator):
        strata = np.asarray(strata).copy()
        values, counts = np.unique(strata, return_counts=True)
        for value in values[counts == 1]:
            strata[strata == value] = -2 + (value & 1)
        self.weights = np.ones((resamples, len(strata)), np.float32)
        for value in np.unique(strata):
            cases = np.flatnonzero(strata == value)
            n = len(cases)
            if n < 2:
                continue
            drawn = rng.integers(n, size=(resamples, n - 1)) + np.arange(resamples)[:, None] * n
            counts = np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n)
            self.weights[:, cases] = counts * (n / (n - 1))

    def means(self, values: np.ndarray, members: np.ndarray) -> np.ndarray:
        """(resamples, R) means of ``values`` (R, C) with NaN where missing, over the cases ``members`` (C,) bool."""
        chosen, weights = values[:, members], self.weights[:, members]
        there = np.isfinite(chosen)
        total = weights @ np.where(there, chosen, 0).T.astype(np.float32)
        count = weights @ there.T.astype(np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(count > 0, total / count, np.nan)


def covariance(replicates: np.ndarray) -> np.ndarray:
    """(R, R) covariance of the columns of ``replicates`` (resamples, R); resamples without a value for every reader are passed over."""
    whole = replicates[np.isfinite(replicates).all(axis=1)].astype(float)
    if len(whole) < 2:
        return np.full((replicates.shape[1],) * 2, np.nan)
    return np.atleast_2d(np.cov(whole, rowvar=False))


def percentile_interval(replicates: np.ndarray, level: float) -> tuple[float, float]:
    """Percentile interval of the finite replicates; NaN when fewer than nine in ten are finite."""
    whole = replicates[np.isfinite(replicates)]
    if len(whole) < 0.9 * len(replicates) or not len(whole):
        return float("nan"), float("nan")
    low, high = np.quantile(whole, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)
