"""From lesions to curves: means with bands at each level, a monotone line, and where half of the lesions are found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, binomtest, spearmanr
from sklearn.isotonic import isotonic_regression

from ..statistics import LEVEL, bootstrap_draws, mean_interval
from .design import LOCATION, SURFACE, Cell
from .table import MADE

PROPORTIONS = ("found", "found_type", "overlap", "marked_before")
MEANS = ("dice", "auc", "auc_before", "gain")
DRAWS = 1000  # of shares of found lesions
_GRID = 60


@dataclass(frozen=True)
class Half:
    """The level at which half of the lesions are found, with 95 % interval. ``value`` -inf: crossed before the lowest level; inf: not crossed
    up to the highest one. The ends likewise.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """One measure of one type in one scan against one attribute. ``levels`` numbers rising, or names of places; per level ``count`` lesions,
    ``mean``, ``low`` and ``high`` (95 %: Wilson for shares, bootstrap for means).

    ``spearman``: rank correlation of level and mean, NaN where there is none (a flat curve, places); ``line``: (x, y, low, high) of the monotone fit; both
    only for numbers, and the line only for shares. ``half``: only for shares.
    """

    scan: str
    lesion: str
    factor: str
    measure: str
    levels: tuple
    count: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    spearman: float = float("nan")
    line: tuple[tuple[float, ...], ...] | None = None
    half: Half | None = None


def curves_of(rows: Sequence[dict], cells: dict[str, list[Cell]], seed: int = 0) -> list[Curve]:
    """All curves of a study. ``rows`` of its table; ``cells``: what was planned, by scan."""
    values = defaultdict(list)
    for row in rows:
        if row["status"] == MADE:
            values[row["scan"], row["setting"]].append(row)
    found = []
    for scan, planned in cells.items():
        groups = defaultdict(list)
        for cell in planned:
            groups[cell.lesion, cell.factor].append(cell)
        for (lesion, factor), members in groups.items():
            for measure in (*PROPORTIONS, *MEANS):
                points = [(cell.level, _column(values[scan, cell.setting.key], measure)) for cell in members]
                points = [(level, numbers) for level, numbers in points if len(numbers)]
                if points:
                    found.append(_curve(scan, lesion, factor, measure, points, seed))
    return found


def _column(rows: list[dict], measure: str) -> np.ndarray:
    ordered = sorted(rows, key=lambda row: row["repeat"])
    return np.array([row[measure] for row in ordered if row[measure] is not None], float)


def _curve(scan: str, lesion: str, factor: str, measure: str, points, seed: int) -> Curve:
    levels = tuple(level for level, _ in points)
    mean = tuple(float(numbers.mean()) for _, numbers in points)
    share = measure in PROPORTIONS
    bands = [wilson(numbers) if share else mean_band(numbers, seed) for _, numbers in points]
    low, high = (tuple(column) for column in zip(*bands))
    common = (scan, lesion, factor, measure, levels, tuple(len(numbers) for _, numbers in points), mean, low, high)
    if any(isinstance(level, str) for level in levels) or factor == LOCATION or len(levels) < 2:
        return Curve(*common)
    rank = spearman(levels, mean)
    if not share:
        return Curve(*common, spearman=rank)
    falling = factor == SURFACE
    line, half = monotone(levels, [numbers.sum() for _, numbers in points], common[5], falling, seed)
    return Curve(*common, spearman=rank, line=line, half=half)


def spearman(levels: Sequence[float], mean: Sequence[float]) -> float:
    """Rank correlation; NaN where all means are the same, or fewer than three."""
    if len(levels) < 3 or np.ptp(mean) < 1e-12:
        return float("nan")
    return float(spearmanr(levels, mean).statistic)


def wilson(hits: np.ndarray) -> tuple[float, float]:
    """95 % Wilson interval of a share."""
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def mean_band(numbers: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean over 1,000 bootstrap samples."""
    return mean_interval(numbers, bootstrap_draws(len(numbers), seed=seed))


def monotone(levels: Sequence[float], hits: Sequence[float], counts: Sequence[int], falling: bool, seed: int):
    """Isotonic line of shares over the logarithm of ``levels``, its 95 % band, and the level where it crosses one half.

    Band and interval are of 1,000 draws of each level's share from its posterior under Jeffreys' prior, Beta(hits + ½, misses + ½), each
    made monotone: unlike those of resampled lesions they do not shrink to nothing where all or none are found.
    """
    x = np.log(np.asarray(levels, float))
    hits, counts = np.asarray(hits, float), np.asarray(counts, float)

    def fit(shares):
        return isotonic_regression(shares, sample_weight=counts, increasing=not falling)

    drawn = beta.rvs(hits + 0.5, counts - hits + 0.5, size=(DRAWS, len(x)), random_state=np.random.default_rng(seed))
    lines = np.array([fit(share) for share in drawn])
    best = fit(hits / counts)
    grid = np.linspace(x[0], x[-1], _GRID)
    on_grid = np.array([np.interp(grid, x, line) for line in lines])
    low, high = np.percentile(on_grid, [2.5, 97.5], axis=0)
    line = tuple(tuple(map(float, part)) for part in (np.exp(grid), np.interp(grid, x, best), low, high))
    crossings = np.sort([_crossing(x, one, falling) for one in lines])
    ends = crossings[[int(0.025 * DRAWS), min(int(0.975 * DRAWS), DRAWS - 1)]]  # no interpolation: ends may be infinite
    return line, Half(
        *(
            float(np.exp(value)) if np.isfinite(value) else float(value)
            for value in (_crossing(x, best, falling), *ends)
        )
    )


def _crossing(x: np.ndarray, line: np.ndarray, falling: bool) -> float:
    """Where a monotone line is one half: -inf where it begins beyond it, inf where it does not reach it."""
    above = line <= 0.5 if falling else line >= 0.5
    if above[0]:
        return -np.inf
    if not above[-1]:
        return np.inf
    after = int(np.argmax(above))
    y0, y1 = line[after - 1], line[after]
    return float(x[after - 1] + (0.5 - y0) / (y1 - y0) * (x[after] - x[after - 1]))
