"""Section study: simulated reader studies with known truth: coverage of the intervals, type I error and power of the tests, speed."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from PASTALib.study.analysis import analyse
from PASTALib.study.analysis.analyse import compare, tell_apart, tests
from PASTALib.study.analysis.resample import CaseBootstrap
from PASTALib.study.analysis.results import ALL, Settings
from PASTALib.study.analysis.table import REALISM
from PASTALib.study.simulate import PAPER_DESCRIPTION, SimulatedDesign, draw_readers, simulate_ratings, simulate_table

from .options import Options
from .pool import run_all
from .study_truth import difference_at, population_truth, reader_truth
from .tables import Check, Section, percent, table

STUDIES = 500
MARGIN = 0.3  # points; the paper's real and synthetic means lie within this
DESIGN = SimulatedDesign(description=PAPER_DESCRIPTION)
COVERAGE, ERROR = (93, 97), (3, 7)  # %


def run(options: Options) -> Section:
    """Coverage over the paper's design, type I errors at the borders of the hypotheses, power, and the time of one analysis."""
    studies = STUDIES if options.cases is None else options.cases
    section = Section(
        f"study: {studies} simulated reader studies ({4 * studies} for the tests), 4 readers, the paper's composition"
    )
    covered = run_all(covered_by, [(DESIGN, seed, MARGIN) for seed in range(studies)], options.workers, "coverage")
    names = list(covered[0])
    rows = []
    for name in names:
        hits = np.concatenate([np.atleast_1d(item[name]) for item in covered])
        section.checks.append(Check(f"coverage of 95 % intervals: {name}", percent(hits), *COVERAGE, "%", len(hits)))
        rows.append((name, percent(hits), len(hits)))
    section.text.append("### coverage of 95 % intervals\n\n" + table(("interval", "covers %", "intervals"), rows))
    errors, powers = error_rates(
        4 * studies, options.workers
    )  # cheap, and 500 studies would tell 5 % only to within 2 %
    for (scenario, test), held in errors.items():
        section.checks.append(Check(f"type I error: {test} where {scenario}", percent(held), *ERROR, "%", len(held)))
    section.text.append(
        "### power\n\n"
        + table(
            ("true difference", "test", "holds in %", "studies"),
            [(*key, percent(held), len(held)) for key, held in powers.items()],
        )
    )
    seconds = speed()
    section.checks.append(Check("analysis of 4 readers × (1,180 + 750 × 5) ratings from rows", seconds, 0, 20, "s", 1))
    section.data = {
        "coverage": dict((row[0], row[1]) for row in rows),
        "power": {f"{s}: {t}": percent(held) for (s, t), held in powers.items()},
    }
    return section


def covered_by(task: tuple[SimulatedDesign, int, float]) -> dict[str, bool | list[bool]]:
    """Whether each interval of one simulated study holds the truth."""
    design, seed, margin = task
    rng = np.random.default_rng([seed, 1])
    readers = draw_readers(design, rng)
    results = analyse(simulate_table(design, rng, readers), margin, resamples=1000, seed=seed)
    truth, theirs = population_truth(design), reader_truth(design, readers)
    part = results.parts[REALISM]
    found = part.realism

    def holds(estimate, value: float) -> bool:
        return bool(estimate.low <= value <= estimate.high)

    kinds = list(part.kinds)
    hits: dict = {}
    for name in ("real", "synthetic"):
        hits[f"mean, {name}, all types"] = holds(found.means[name][ALL], truth.means[name, ALL])
        hits[f"mean, {name}, per type"] = [holds(found.means[name][k], truth.means[name, k]) for k in kinds]
    hits["difference, all types"] = holds(found.differences[ALL], truth.difference[ALL])
    hits["difference, per type"] = [holds(found.differences[k], truth.difference[k]) for k in kinds]
    hits["AUC, all types"] = holds(found.auc[ALL], truth.auc[ALL])
    hits["AUC, per type"] = [holds(found.auc[k], truth.auc[k]) for k in kinds]
    for name, estimate in (("difference", found.differences[ALL]), ("auc", found.auc[ALL])):
        hits[f"{name} of these readers"] = bool(estimate.fixed_low <= theirs[name] <= estimate.fixed_high)
    for item in part.between[REALISM]:
        hits[item.statistic] = bool(item.low <= theirs[item.statistic] <= item.high)
    for item in part.within[REALISM][-1]:
        name = {
            "weighted kappa, mean over readers": "twice: weighted kappa",
            "equal scores": "twice: equal scores",
        }.get(item.statistic)
        if name:
            hits[name] = bool(item.low <= theirs[name] <= item.high)
    hits["time on synthetic ÷ real"] = holds(part.time_ratio, np.log(design.time_factor))
    described = results.parts.get("description")
    if described is not None:
        hits["description, all types"] = holds(described.means[ALL][ALL], truth.description[ALL])
        hits["description, per type"] = [holds(described.means[ALL][k], truth.description[k]) for k in described.kinds]
        hits["description, per type and attribute"] = [
            holds(described.means[q][k], truth.description[k]) for q in described.questions for k in described.kinds
        ]
    return hits


def claims_of(task: tuple[SimulatedDesign, int, float]) -> dict[str, bool]:
    """Which claims hold in one simulated study (realism part alone)."""
    design, seed, margin = task
    rng = np.random.default_rng([seed, 2])
    part = simulate_table(replace(design, description={}), rng).parts[REALISM]
    settings = Settings(margin, resamples=1000)
    bootstrap = CaseBootstrap(part.strata, settings.resamples, rng)
    found = tests(compare(part, bootstrap, settings), tell_apart(part, settings), settings)
    return {test.name: test.holds for test in found}


def error_rates(studies: int, workers: int, design: SimulatedDesign = DESIGN) -> tuple[dict, dict]:
    """Type I errors where each claim is just false, and shares that hold elsewhere (power); keyed by (scenario, test)."""
    scenarios = {
        f"the difference is −{MARGIN:g}": (difference_at(design, -MARGIN), ("Non-inferiority", "Equivalence")),
        f"the difference is +{MARGIN:g}": (difference_at(design, MARGIN), ("Equivalence",)),
        "there is no difference": (difference_at(design, 0.0), ("Difference", "Telling apart")),
    }
    errors, powers = {}, {}
    for scenario, (ability, false) in scenarios.items():
        held = run_all(
            claims_of, [(replace(design, ability=ability), seed, MARGIN) for seed in range(studies)], workers, scenario
        )
        for test in held[0]:
            kept = errors if test in false else powers
            kept[scenario, test] = [item[test] for item in held]
    for difference in (-0.1, -0.2):
        one = replace(design, ability=difference_at(design, difference))
        held = run_all(claims_of, [(one, seed, MARGIN) for seed in range(studies)], workers, f"power at {difference:g}")
        powers |= {(f"the difference is −{abs(difference):g}", test): [item[test] for item in held] for test in held[0]}
    return errors, powers


def speed() -> float:
    """Seconds from the rows of a full study to its results."""
    rows = simulate_ratings(DESIGN)
    start = time.perf_counter()
    analyse(rows)
    return time.perf_counter() - start
