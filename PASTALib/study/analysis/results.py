"""What the analysis of a study found, as plain records; the report, the CSV files and the Slicer module read these."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from .agreement import Agreement
from .multireader import Estimate

ALL = "all"  # key of all lesion types, or all attributes, together


@dataclass(frozen=True)
class Settings:
    """``margin``: of non-inferiority and equivalence, in points of the scale. ``level`` of intervals; ``alpha`` of each test."""

    margin: float = 0.5
    level: float = 0.95
    alpha: float = 0.05
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Test:
    """One test: ``claim`` holds if ``p`` < alpha. ``interval``: the confidence interval that says the same, at ``level``."""

    name: str
    claim: str
    value: float
    interval: tuple[float, float]
    level: float
    p: float
    holds: bool


@dataclass
class Realism:
    """Scores of real and synthetic cases; dictionaries are keyed by lesion type and ``ALL``.

    ``auc``: readers telling real from synthetic by their scores (0.5: they cannot). ``roc``: reader -> (false, true positive shares).
    ``spread``: (reader, truth) -> number of cases with each score 1 to 5.
    """

    means: dict[str, dict[str, Estimate]]
    differences: dict[str, Estimate] = field(default_factory=dict)
    auc: dict[str, Estimate] = field(default_factory=dict)
    tests: list[Test] = field(default_factory=list)
    roc: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    spread: dict[tuple[str, str], list[int]] = field(default_factory=dict)


@dataclass
class ReaderTimes:
    """Seconds per case of one reader: quartiles, hours in all, and cases with a time."""

    quartiles: tuple[float, float, float]
    hours: float
    cases: int


@dataclass
class PartResults:
    """Everything about one part. ``expected``, ``rated``: ratings per reader; ``gaps``: missing ratings by truth and by lesion type.

    ``means``: attribute or ``ALL`` -> lesion type or ``ALL`` -> mean (description part). ``between``, ``within``, ``pairs``: agreement by
    question. ``time_ratio``: log of seconds on synthetic over seconds on real cases.
    """

    name: str
    readers: tuple[str, ...]
    kinds: tuple[str, ...]
    questions: tuple[str, ...]
    cases: dict[str, dict[str, int]]
    expected: dict[str, int]
    rated: dict[str, int]
    gaps: dict[str, int]
    realism: Realism | None = None
    means: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    between: dict[str, list[Agreement]] = field(default_factory=dict)
    within: dict[str, list[list[Agreement]]] = field(default_factory=dict)
    pairs: dict[str, np.ndarray] = field(default_factory=dict)
    times: dict[str, ReaderTimes] = field(default_factory=dict)
    time_ratio: Estimate | None = None
    confidence: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def active(self) -> tuple[str, ...]:
        """The readers who rated anything."""
        return tuple(reader for reader in self.readers if self.rated[reader])

    @property
    def missing(self) -> int:
        return sum(self.expected.values()) - sum(self.rated.values())


@dataclass
class StudyResults:
    """Results of ``analyse``. ``limits``: what could not be computed and why; ``notes``: what else a reader of the report should know."""

    settings: Settings
    parts: dict[str, PartResults]
    practice_rows: int = 0
    limits: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    source: str = ""

    def to_json(self) -> dict:
        """All of it as JSON types; NaN becomes None."""
        return _plain(self)


def _plain(value):
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {" ".join(key) if isinstance(key, tuple) else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
