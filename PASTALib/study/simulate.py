"""Readers with chosen bias, noise and ability: ratings with known truth, to test the analysis and to plan a study's size.

A score is a latent value rounded to 1 … 5: the case's own look, plus the reader's bias, less the reader's ability where the case is synthetic,
plus how this reader sees this case, plus noise that is drawn anew at every reading.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from .. import taxonomy
from ..errors import InputError
from ..progress import Progress, silent
from .analysis.analyse import compare, tell_apart, tests
from .analysis.resample import CaseBootstrap
from .analysis.results import Settings
from .analysis.table import ATTRIBUTES, DESCRIPTION, LEVELS, REAL, REALISM, SYNTHETIC, Part, RatingTable

# Extended Data Table 5 of the paper: real and synthetic cases of each type in the realism part.
_FIFTY = (
    "lung_tumor",
    "liver_tumor",
    "pancreas_tumor",
    "colorectal_cancer",
    "kidney_tumor",
    "pancreas_cyst",
    "kidney_cyst",
)
PAPER_COMPOSITION = {key: 50 if key in _FIFTY else 30 for key in taxonomy.LESION_KEYS}
PAPER_DESCRIPTION = dict.fromkeys(taxonomy.LESION_KEYS, 50)


@dataclass(frozen=True)
class SimulatedDesign:
    """A study with known truth. Standard deviations and shifts are points of the scale.

    ``realism``: cases of each lesion type, as many real as synthetic; ``description``: cases of each type, empty for no such part. ``repeats``:
    share of the cases that each reader reads twice. ``mean``: latent value of a real case, by default so that scores average like the paper's; ``type_spread``: lesion types are
    spread evenly over plus or minus this. ``ability``: how much lower readers see synthetic cases, on average, and ``ability_sd`` between
    readers. ``bias_sd``: between readers' leniency. ``case_sd``: between cases. ``reader_case_sd``: of a reader's lasting opinion about a case.
    ``noise``: of one reading. ``missing``: share of ratings not given. ``seconds``: typical time per case; ``time_factor``: time on synthetic cases over that on real.
    """

    realism: Mapping[str, int] = field(default_factory=lambda: dict(PAPER_COMPOSITION))
    description: Mapping[str, int] = field(default_factory=dict)
    readers: int = 4
    repeats: float = 0.1
    mean: float = 4.6
    type_spread: float = 0.2
    ability: float = 0.15
    ability_sd: float = 0.1
    bias_sd: float = 0.15
    case_sd: float = 0.35
    reader_case_sd: float = 0.2
    noise: float = 0.4
    missing: float = 0.0
    seconds: float = 20.0
    time_factor: float = 1.0

    def __post_init__(self):
        if not 1 <= self.readers <= 100:
            raise InputError(f"{self.readers} readers; give 1 to 100")
        if not 0 <= self.repeats <= 1:
            raise InputError(f"repeats {self.repeats:g} is out of range; give a share from 0 to 1")
        if not 0 <= self.missing < 1:
            raise InputError(f"missing {self.missing:g} is out of range; give a share from 0 to less than 1")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{item.name} {value} is not a finite number")
            if (item.name.endswith("_sd") or item.name in ("noise", "type_spread")) and value < 0:
                raise InputError(f"{item.name} {value:g} is negative; give a standard deviation, 0 or more")
        if self.seconds <= 0 or self.time_factor <= 0:
            raise InputError("seconds and time_factor must be above 0")
        for cases in (self.realism, self.description):
            if any(count < 0 for count in cases.values()):
                raise InputError("numbers of cases must be 0 or more")
        if not sum(self.realism.values()) + sum(self.description.values()):
            raise InputError("the design has no case; give at least one lesion type with cases")

    def offset(self, kind: str) -> float:
        """Latent shift of a lesion type against the mean over types."""
        kinds = _kinds(self.realism) or _kinds(self.description)
        if len(kinds) < 2 or kind not in kinds:
            return 0.0
        return self.type_spread * (2 * kinds.index(kind) / (len(kinds) - 1) - 1)


@dataclass(frozen=True)
class SimulatedReaders:
    """One draw of readers: ``bias``, ``ability`` (R,) in points of the scale, ``speed`` (R,) log of the time factor."""

    bias: np.ndarray
    ability: np.ndarray
    speed: np.ndarray


def _kinds(cases: Mapping[str, int]) -> list[str]:
    return [kind for kind in cases if cases[kind]]


def draw_readers(design: SimulatedDesign, rng: np.random.Generator) -> SimulatedReaders:
    """Readers of a population with the design's means and standard deviations."""
    drawn = rng.normal(size=(3, design.readers))
    return SimulatedReaders(design.bias_sd * drawn[0], design.ability + design.ability_sd * drawn[1], 0.3 * drawn[2])


def simulate_table(
    design: SimulatedDesign, seed: int | np.random.Generator = 0, readers: SimulatedReaders | None = None
) -> RatingTable:
    """Ratings of a simulated study as the arrays that ``analyse`` takes."""
    rng = np.random.default_rng(seed)
    readers = readers or draw_readers(design, rng)
    parts = {}
    if _kinds(design.realism):
        parts[REALISM] = _part(design, REALISM, design.realism, readers, rng)
    if _kinds(design.description):
        parts[DESCRIPTION] = _part(design, DESCRIPTION, design.description, readers, rng)
    return RatingTable(parts)


def _part(
    design: SimulatedDesign,
    name: str,
    composition: Mapping[str, int],
    readers: SimulatedReaders,
    rng: np.random.Generator,
) -> Part:
    kinds = tuple(_kinds(composition))
    truths = (False, True) if name == REALISM else (True,)
    kind = np.concatenate([np.full(composition[key], n) for _ in truths for n, key in enumerate(kinds)])
    per_truth = sum(composition[key] for key in kinds)
    synthetic = np.repeat(truths, per_truth)
    questions = (REALISM,) if name == REALISM else ATTRIBUTES
    shape = (len(questions), len(readers.bias), len(kind))
    look = (
        design.mean
        + np.array([design.offset(key) for key in kinds])[kind]
        + design.case_sd * rng.normal(size=(shape[0], 1, shape[2]))
    )
    opinion = look + readers.bias[:, None] + design.reader_case_sd * rng.normal(size=shape)
    if name == REALISM:
        opinion = opinion - readers.ability[:, None] * synthetic
    first, second = (score_of(opinion + design.noise * rng.normal(size=shape)) for _ in range(2))
    twice = np.zeros(shape[2], bool)
    twice[rng.permutation(shape[2])[: round(design.repeats * shape[2])]] = True
    second[:, :, ~twice] = np.nan
    if design.missing:
        for scores in (first, second):
            scores[:, rng.random(shape[1:]) < design.missing] = np.nan
    seconds = design.seconds * np.exp(
        readers.speed[:, None] + 0.2 * rng.normal(size=shape[2]) + 0.4 * rng.normal(size=shape[1:])
    )
    seconds = np.where(np.isfinite(first).any(0), seconds * np.where(synthetic, design.time_factor, 1.0), np.nan)
    order = rng.permutation(shape[2])  # so that ids tell nothing
    ids = tuple(f"{name[0]}{number + 1:04d}" for number in range(shape[2]))
    names = tuple(f"reader{number + 1}" for number in range(shape[1]))
    first, second, seconds = first[:, :, order], second[:, :, order], seconds[:, order]
    return Part(
        name,
        names,
        ids,
        kinds,
        kind[order],
        synthetic[order],
        questions,
        first,
        second,
        seconds,
        np.full(shape[1:], np.nan),
    )


def score_of(latent: np.ndarray) -> np.ndarray:
    """Latent values rounded to 1 … 5."""
    return np.clip(np.floor(latent + 0.5), 1, LEVELS)


def simulate_ratings(design: SimulatedDesign | None = None, seed: int = 0) -> list[dict]:
    """Rows of a simulated study, with the columns of ``analysis.table.COLUMNS``; missing ratings have an empty score."""
    table = simulate_table(design or SimulatedDesign(), seed)
    return [row for part in table.parts.values() for row in _rows(part)]


def _rows(part: Part):
    for r, reader in enumerate(part.readers):
        for repeat, scores in enumerate((part.scores, part.second)):
            for c, case in enumerate(part.cases):
                if repeat and not np.isfinite(part.second[:, :, c]).any():
                    continue
                for q, question in enumerate(part.questions):
                    score = scores[q, r, c]
                    yield {
                        "reader": reader,
                        "part": part.name,
                        "case": case,
                        "lesion_type": part.kinds[part.kind[c]],
                        "truth": SYNTHETIC if part.synthetic[c] else REAL,
                        "question": question,
                        "score": int(score) if np.isfinite(score) else "",
                        "confidence": "",
                        "seconds": round(float(part.seconds[r, c]), 1)
                        if np.isfinite(part.seconds[r, c]) and not repeat
                        else "",
                        "repeat": repeat,
                        "session": 1 + repeat,
                        "practice": 0,
                        "time": "",
                    }


# ---------------------------------------------------------------------------------------------------------------
# Planning


def power(
    design: SimulatedDesign,
    studies: int = 500,
    *,
    margin: float = 0.5,
    alpha: float = 0.05,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, float]:
    """Share of simulated studies in which each test's claim holds: the power, or the type I error where the design makes the claim false.

    Keys: the tests' names. Each study draws new readers and new cases.
    """
    if not 1 <= studies <= 100_000:
        raise InputError(f"{studies} studies; give 1 to 100000")
    if not _kinds(design.realism):
        raise InputError("power is that of the realism part, and the design has none; give real and synthetic cases")
    settings = Settings(margin, alpha=alpha, resamples=500)
    held: dict[str, int] = {}
    for number, stream in enumerate(np.random.SeedSequence(seed).spawn(studies)):
        progress(number, studies, "simulating studies")
        rng = np.random.default_rng(stream)
        part = simulate_table(design, rng).parts[REALISM]
        bootstrap = CaseBootstrap(part.strata, settings.resamples, rng)
        for test in tests(compare(part, bootstrap, settings), tell_apart(part, settings), settings):
            held[test.name] = held.get(test.name, 0) + test.holds
    return {name: count / studies for name, count in held.items()}
