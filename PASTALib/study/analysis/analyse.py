"""The analysis of a reader study, from its ratings to ``StudyResults``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from ...errors import InputError
from ...progress import Progress, silent
from . import agreement
from .multireader import Estimate, auc_jackknife, average, roc_points
from .resample import CaseBootstrap, covariance
from .results import ALL, PartResults, ReaderTimes, Realism, Settings, StudyResults, Test
from .table import LEVELS, REAL, REALISM, SYNTHETIC, TRUTHS, Part, RatingTable, build_table, kind_name

SCALE = (1.0, float(LEVELS))


def analyse(
    rows: Iterable[Mapping] | RatingTable,
    margin: float = 0.5,
    *,
    level: float = 0.95,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
    planned: Mapping[str, Mapping[str, int]] | None = None,
    source: str = "ratings",
    progress: Progress = silent,
) -> StudyResults:
    """Analyse the ratings of a closed study.

    ``rows``: one mapping per final rating with the columns of ``table.COLUMNS`` (a list of dicts, a pandas DataFrame, or ``read_ratings``).
    ``margin``: of non-inferiority and equivalence in points of the scale. ``level``: of intervals. ``alpha``: of each test. ``resamples``: of the bootstrap over cases. ``planned``: part -> reader -> ratings that the study asked for in first readings, so that what nobody rated counts
    as missing too; without it every reader is expected to rate every case of the table. The same input and seed give the same results. What cannot be computed is said in ``StudyResults.limits``;
    InputError for a table that contradicts itself or has no truth.
    """
    settings = _settings(margin, level, alpha, resamples, seed)
    table = build_table(rows, source)
    results = StudyResults(settings, {}, table.practice_rows, [], list(table.notes), source)
    for number, part in enumerate(table.parts.values()):
        progress(number, len(table.parts), f"analysing the {part.name} part")
        results.parts[part.name] = analyse_part(part, settings, results.limits, (planned or {}).get(part.name))
    for name in set(planned or ()) - set(results.parts):
        results.limits.append(f"Nothing of the {name} part was rated.")
    return results


def _settings(margin: float, level: float, alpha: float, resamples: int, seed: int) -> Settings:
    if not (math.isfinite(margin) and 0 < margin < LEVELS - 1):
        raise InputError(
            f"margin {margin:g} is out of range; give points of the scale, more than 0 and less than {LEVELS - 1}"
        )
    for name, value in (("level", level), ("alpha", alpha)):
        if not 0 < value < 1:
            raise InputError(
                f"{name} {value:g} is out of range; give a number between 0 and 1, such as {0.95 if name == 'level' else 0.05}"
            )
    if not 200 <= resamples <= 100_000:
        raise InputError(f"{resamples} resamples; give 200 to 100000")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed {seed} is out of range; give a whole number from 0 to 2^63-1")
    return Settings(margin, level, alpha, resamples, seed)


def analyse_part(
    part: Part, settings: Settings, limits: list[str], planned: Mapping[str, int] | None = None
) -> PartResults:
    """Everything about one part of the study; adds to ``limits``. ``planned``: ratings asked for, by reader."""
    bootstrap = CaseBootstrap(part.strata, settings.resamples, np.random.default_rng(settings.seed))
    asked = np.isfinite(part.scores)
    rated = dict(zip(part.readers, map(int, asked.sum((0, 2)))))
    whole = asked.shape[0] * asked.shape[2]
    expected = {reader: max((planned or {}).get(reader, whole), rated[reader]) for reader in part.readers}
    here = PartResults(
        part.name, part.readers, part.kinds, part.questions, _composition(part), expected, rated, _gaps(part)
    )
    for reader in [name for name in planned or () if name not in rated]:
        expected[reader], rated[reader] = (planned or {})[reader], 0
    if not asked.any():
        limits.append(f"The {part.name} part holds no score at all; nothing of it can be computed.")
        return here
    silent_readers = [reader for reader, count in rated.items() if not count]
    if silent_readers:
        limits.append(f"The {part.name} part has no score of {', '.join(silent_readers)}.")
    if len(here.active) == 1:
        limits.append(
            f"The {part.name} part has one reader: intervals speak of this reader only, not of others, and agreement between readers cannot be computed."
        )
    lonely = [kind_name(kind) for kind, row in here.cases.items() if 1 in row.values()]
    if lonely:
        limits.append(
            f"{', '.join(lonely)}: a single real or synthetic case in the {part.name} part, so no interval for it."
        )
    values = part.scores[asked]
    if np.ptp(values) == 0:
        limits.append(
            f"Every score of the {part.name} part is {values[0]:g}: intervals have no width, and kappa, alpha and ICC are not defined."
        )
    if part.name == REALISM:
        here.realism = _realism(part, bootstrap, settings, limits)
    else:
        here.means = _attribute_means(part, bootstrap, settings)
    _agreements(part, here, bootstrap, settings, limits)
    _times(part, here, bootstrap, settings, limits)
    return here


def _composition(part: Part) -> dict[str, dict[str, int]]:
    return {kind: {truth: int(part.members(truth, kind).sum()) for truth in TRUTHS} for kind in part.kinds}


def _gaps(part: Part) -> dict[str, int]:
    missing = ~np.isfinite(part.scores)
    found = {truth: int(missing[:, :, part.members(truth)].sum()) for truth in TRUTHS}
    return found | {kind: int(missing[:, :, part.members(kind=kind)].sum()) for kind in part.kinds}


# ---------------------------------------------------------------------------------------------------------------
# Means and differences


def reader_means(values: np.ndarray, members: np.ndarray) -> np.ndarray:
    """(R,) mean over ``members`` of ``values`` (R, C), NaN for a reader without any."""
    chosen = values[:, members]
    there = np.isfinite(chosen)
    count = there.sum(1)
    return np.where(count > 0, np.where(there, chosen, 0).sum(1) / np.maximum(count, 1), np.nan)


def mean_of(
    values: np.ndarray,
    members: np.ndarray,
    groups: int,
    bootstrap: CaseBootstrap,
    settings: Settings,
    bounds: tuple[float, float] = SCALE,
) -> Estimate:
    """Mean over readers and the cases ``members``; ``groups``: the strata that these are drawn from."""
    cases = _rated_cases(values, members)
    spread = covariance(bootstrap.means(values, members))
    if cases < 2:
        spread = np.full_like(spread, np.nan)
    return average(
        reader_means(values, members), spread, cases, level=settings.level, bounds=bounds, case_df=cases - groups
    )


def difference_of(
    values: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    groups: int,
    bootstrap: CaseBootstrap,
    settings: Settings,
    span: float,
) -> Estimate:
    """Mean over ``one`` less mean over ``other``, averaged over readers; within plus or minus ``span``."""
    counts = [_rated_cases(values, members) for members in (one, other)]
    spread = covariance(bootstrap.means(values, one) - bootstrap.means(values, other))
    if min(counts) < 2:
        spread = np.full_like(spread, np.nan)
    apart = reader_means(values, one) - reader_means(values, other)
    return average(
        apart, spread, sum(counts), level=settings.level, bounds=(-span, span), case_df=sum(counts) - 2 * groups
    )


def _rated_cases(values: np.ndarray, members: np.ndarray) -> int:
    return int(np.isfinite(values[:, members]).any(0).sum())


def _realism(part: Part, bootstrap: CaseBootstrap, settings: Settings, limits: list[str]) -> Realism:
    scores = part.scores[0]
    kinds = (*part.kinds, ALL)
    means: dict[str, dict[str, Estimate]] = {}
    for truth in TRUTHS:
        for kind in kinds:
            members = _cases(part, truth, kind)
            if np.isfinite(scores[:, members]).any():
                found = mean_of(scores, members, _groups(part, kind), bootstrap, settings)
                means.setdefault(truth, {})[kind] = found
    here = Realism(means)
    for reader, own in zip(part.readers, scores):
        for truth in TRUTHS:
            here.spread[reader, truth] = [
                int((own[part.members(truth)] == score).sum()) for score in range(1, LEVELS + 1)
            ]
    lacking = [truth for truth in TRUTHS if truth not in means]
    if lacking:
        limits.append(
            f"There is no rated {' and no '.join(lacking)} case: differences, non-inferiority, equivalence and AUC cannot be computed."
        )
        return here
    for kind in kinds:
        if kind in means[REAL] and kind in means[SYNTHETIC]:
            here.differences[kind] = compare(part, bootstrap, settings, kind)
            here.auc[kind] = tell_apart(part, settings, kind)
    here.tests = tests(here.differences[ALL], here.auc[ALL], settings)
    undone = [test.name.lower() for test in here.tests if not np.isfinite(test.p)]
    if undone:
        limits.append(f"Too few cases, or scores without variation, for a test of {' and of '.join(undone)}.")
    for reader, own in zip(part.readers, scores):
        false, true = roc_points(own[~part.synthetic], own[part.synthetic])
        here.roc[reader] = (false.tolist(), true.tolist())
    return here


def _cases(part: Part, truth: str, kind: str) -> np.ndarray:
    return part.members(truth, None if kind == ALL else kind)


def _groups(part: Part, kind: str) -> int:
    return len(part.kinds) if kind == ALL else 1


def compare(part: Part, bootstrap: CaseBootstrap, settings: Settings, kind: str = ALL) -> Estimate:
    """Mean score of the synthetic less that of the real cases."""
    one, other = _cases(part, SYNTHETIC, kind), _cases(part, REAL, kind)
    return difference_of(part.scores[0], one, other, _groups(part, kind), bootstrap, settings, SCALE[1] - SCALE[0])


def tell_apart(part: Part, settings: Settings, kind: str = ALL) -> Estimate:
    """AUC of the readers' scores for real against synthetic cases."""
    real, synthetic = (part.scores[0][:, _cases(part, truth, kind)] for truth in (REAL, SYNTHETIC))
    value, spread = auc_jackknife(real, synthetic)
    rated = int(np.isfinite(real).any(0).sum()), int(np.isfinite(synthetic).any(0).sum())
    if min(rated) < 2:
        spread = np.full_like(spread, np.nan)
    return average(value, spread, sum(rated), level=settings.level, bounds=(0.0, 1.0))


def tests(difference: Estimate, auc: Estimate, settings: Settings) -> list[Test]:
    """Non-inferiority, equivalence (two one-sided tests), and two-sided tests of difference 0 and AUC 0.5, each at ``settings.alpha``."""
    margin, alpha = settings.margin, settings.alpha
    inferior = difference.p_above(-margin)
    superior = 1 - difference.p_above(margin)
    inner = difference.interval(1 - 2 * alpha)
    both = difference.interval(1 - alpha)
    around = auc.interval(1 - alpha)
    cases = (
        ("Non-inferiority", f"synthetic > real − {margin:g}", difference.value, inner, 1 - 2 * alpha, inferior),
        (
            "Equivalence",
            f"|synthetic − real| < {margin:g}",
            difference.value,
            inner,
            1 - 2 * alpha,
            max(inferior, superior),
        ),
        ("Difference", "synthetic ≠ real", difference.value, both, 1 - alpha, difference.p_two_sided(0)),
        ("Telling apart", "AUC ≠ 0.5", auc.value, around, 1 - alpha, auc.p_two_sided(0.5)),
    )
    return [
        Test(name, claim, value, interval, level, p, bool(p < alpha))
        for name, claim, value, interval, level, p in cases
    ]


def _attribute_means(part: Part, bootstrap: CaseBootstrap, settings: Settings) -> dict[str, dict[str, Estimate]]:
    found: dict[str, dict[str, Estimate]] = {}
    for question in (*part.questions, ALL):
        values = part.mean_scores() if question == ALL else part.scores[part.questions.index(question)]
        for kind in (*part.kinds, ALL):
            members = part.members(kind=None if kind == ALL else kind)
            groups = len(np.unique(part.strata[members]))
            if np.isfinite(values[:, members]).any():
                found.setdefault(question, {})[kind] = mean_of(values, members, groups, bootstrap, settings)
    return found


# ---------------------------------------------------------------------------------------------------------------
# Agreement and times


def _agreements(part: Part, here: PartResults, bootstrap: CaseBootstrap, settings: Settings, limits: list[str]) -> None:
    rated = np.isfinite(part.scores).any((0, 2))
    repeated = np.isfinite(part.second).any()
    for number, question in enumerate(part.questions):
        scores = part.scores[number][rated]
        if len(scores) > 1:
            here.between[question] = agreement.between_readers(scores, bootstrap, settings.level)
            here.pairs[question] = agreement.pairwise_kappas(part.scores[number])
        if repeated:
            found = agreement.within_readers(part.scores[number], part.second[number], bootstrap, settings.level)
            if found:
                here.within[question] = found
    if not here.within:
        limits.append(
            f"The {part.name} part has no case read twice: agreement of each reader with himself or herself cannot be computed."
        )


def _times(part: Part, here: PartResults, bootstrap: CaseBootstrap, settings: Settings, limits: list[str]) -> None:
    seconds = np.where(part.seconds > 0, part.seconds, np.nan)
    if not np.isfinite(seconds).any():
        limits.append(f"The {part.name} part has no reading times.")
        return
    for reader, own in zip(part.readers, seconds):
        own = own[np.isfinite(own)]
        if own.size:
            low, middle, high = map(float, np.quantile(own, (0.25, 0.5, 0.75)))
            here.times[reader] = ReaderTimes((low, middle, high), float(own.sum()) / 3600, int(own.size))
    one, other = part.members(SYNTHETIC), part.members(REAL)
    if np.isfinite(seconds[:, one]).any() and np.isfinite(seconds[:, other]).any():
        here.time_ratio = difference_of(np.log(seconds), one, other, len(part.kinds), bootstrap, settings, np.inf)
    for reader, own in zip(part.readers, part.confidence):
        for truth in TRUTHS:
            chosen = own[part.members(truth)]
            if np.isfinite(chosen).any():
                here.confidence[reader, truth] = float(np.nanmean(chosen))


__all__ = ["analyse", "analyse_part", "kind_name"]
