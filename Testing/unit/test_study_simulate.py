"""Simulated readers: they are what was asked for, and the analysis finds the truth behind them as often as it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from PASTALib.errors import InputError
from PASTALib.study.analysis import COLUMNS, analyse
from PASTALib.study.analysis.multireader import auc_jackknife
from PASTALib.study.analysis.results import ALL
from PASTALib.study.analysis.table import build_table
from PASTALib.study.simulate import (
    PAPER_COMPOSITION,
    PAPER_DESCRIPTION,
    SimulatedDesign,
    SimulatedReaders,
    draw_readers,
    power,
    score_of,
    simulate_ratings,
    simulate_table,
)
from Testing.bench.study import claims_of, covered_by
from Testing.bench.study_truth import difference_at, population_truth, reader_truth, shares

TYPES = ("lung_tumor", "liver_cyst", "kidney_stone")


def design(**changes) -> SimulatedDesign:
    return SimulatedDesign(**({"realism": dict.fromkeys(TYPES, 30), "repeats": 0.3} | changes))


def test_the_paper_s_composition():
    assert sum(PAPER_COMPOSITION.values()) == 590 and sum(PAPER_DESCRIPTION.values()) == 750
    assert PAPER_COMPOSITION["lung_tumor"] == 50 and PAPER_COMPOSITION["gallstone"] == 30


def test_rows_have_the_contract_s_columns_and_survive_the_way_back():
    small = design(description={"gallstone": 4}, missing=0.05)
    rows = simulate_ratings(small, seed=5)
    assert all(tuple(row) == COLUMNS for row in rows)
    table, again = simulate_table(small, 5), build_table(rows)
    for name, part in table.parts.items():
        np.testing.assert_array_equal(part.scores, again.parts[name].scores)
        np.testing.assert_array_equal(part.second, again.parts[name].second)
        np.testing.assert_array_equal(part.synthetic, again.parts[name].synthetic)
    assert simulate_ratings(small, seed=5) == rows != simulate_ratings(small, seed=6)


def test_half_of_each_type_is_synthetic_and_ids_do_not_tell():
    part = simulate_table(design(), 0).parts["realism"]
    for kind in TYPES:
        assert part.members("real", kind).sum() == part.members("synthetic", kind).sum() == 30
    order = np.flatnonzero(part.synthetic)
    assert 60 < order.mean() < 118 and order.min() < 15


def test_readers_have_the_bias_ability_and_noise_asked_for():
    big = design(
        realism={"lung_tumor": 20_000}, readers=2, mean=3.0, repeats=1.0, case_sd=0.5, reader_case_sd=0.0, noise=0.6
    )
    readers = SimulatedReaders(np.array([0.0, 0.4]), np.array([0.0, 0.5]), np.zeros(2))
    part = simulate_table(big, 1, readers).parts["realism"]
    means = [[part.scores[0][r, part.members(t)].mean() for t in ("real", "synthetic")] for r in (0, 1)]
    np.testing.assert_allclose(means, [[3.0, 3.0], [3.4, 2.9]], atol=0.03)
    change = part.scores[0][0] - part.second[0][0]
    rounding = 1 / 6  # of two rounded readings
    assert change.var() == pytest.approx(2 * 0.6**2 + rounding, rel=0.05)


def test_missing_share_and_time_factor():
    part = simulate_table(design(realism={"lung_tumor": 3000}, missing=0.2, time_factor=1.5), 0).parts["realism"]
    assert np.isnan(part.scores).mean() == pytest.approx(0.2, abs=0.01)
    logs = np.log(part.seconds)
    ratio = np.nanmean(logs[:, part.synthetic]) - np.nanmean(logs[:, ~part.synthetic])
    assert np.exp(ratio) == pytest.approx(1.5, rel=0.03)


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"readers": 0}, "0 readers"), ({"repeats": 1.5}, "repeats 1.5"), ({"missing": 1.0}, "missing 1"), ({"noise": -0.1}, "noise -0.1 is negative"),
        ({"mean": float("nan")}, "mean nan"), ({"seconds": 0.0}, "above 0"), ({"realism": {"lung_tumor": -1}}, "0 or more"), ({"realism": {}}, "no case"),
    ],
)  # fmt: skip
def test_designs_that_make_no_sense(changes, words):
    with pytest.raises(InputError, match=words):
        design(**changes)


def test_power_needs_real_and_synthetic_cases():
    with pytest.raises(InputError, match="realism part"):
        power(SimulatedDesign(realism={}, description={"gallstone": 3}), 2)


def test_power_grows_with_cases_and_falls_with_a_smaller_margin():
    few, many = (
        design(realism=dict.fromkeys(TYPES, 5), ability=0.2),
        design(realism=dict.fromkeys(TYPES, 60), ability=0.2),
    )
    small, large = power(few, 60, margin=0.3), power(many, 60, margin=0.3)
    assert large["Non-inferiority"] > small["Non-inferiority"] + 0.2
    assert power(many, 60, margin=0.15)["Non-inferiority"] < large["Non-inferiority"] - 0.2
    assert large["Non-inferiority"] >= large["Equivalence"]


# ---------------------------------------------------------------------------------------------------------------
# The truth that the analysis is held against, itself against a very large study


def test_truths_are_those_of_a_very_large_study():
    big = design(realism=dict.fromkeys(TYPES, 8000), repeats=1.0)
    readers = draw_readers(big, np.random.default_rng(3))
    truth = reader_truth(big, readers)
    part = analyse(simulate_table(big, 4, readers), resamples=200).parts["realism"]
    for item in part.between["realism"]:
        assert item.value == pytest.approx(truth[item.statistic], abs=0.012), item.statistic
    assert part.within["realism"][-1][0].value == pytest.approx(truth["twice: weighted kappa"], abs=0.012)
    assert part.realism.differences[ALL].value == pytest.approx(truth["difference"], abs=0.01)
    assert part.realism.auc[ALL].value == pytest.approx(truth["auc"], abs=0.005)


def test_population_truth_is_that_of_very_many_readers():
    many = design(realism={"lung_tumor": 400, "liver_cyst": 800}, readers=100)
    truth, parts = population_truth(many), [simulate_table(many, seed).parts["realism"] for seed in range(8)]
    for kind in ("lung_tumor", "liver_cyst", None):
        for name in ("real", "synthetic"):
            found = np.mean([part.scores[0][:, part.members(name, kind)].mean() for part in parts])
            assert found == pytest.approx(truth.means[name, kind or ALL], abs=0.03)
        pairs = [[part.scores[0][:, part.members(name, kind)] for name in ("real", "synthetic")] for part in parts]
        assert np.mean([auc_jackknife(*pair)[0].mean() for pair in pairs]) == pytest.approx(
            truth.auc[kind or ALL], abs=0.015
        )


def test_shares_and_rounding_agree():
    latent = np.random.default_rng(0).normal(4.2, 0.7, 400_000)
    found = [(score_of(latent) == score).mean() for score in range(1, 6)]
    np.testing.assert_allclose(shares(4.2, 0.7), found, atol=0.003)
    assert population_truth(design(ability=difference_at(design(), -0.25))).difference[ALL] == pytest.approx(
        -0.25, abs=1e-4
    )


# ---------------------------------------------------------------------------------------------------------------
# Coverage and error rates; the bench section `study` measures them over 500 studies of the paper's size

STUDIES = 200
TRUSTED = replace(
    design(), realism={"lung_tumor": 50, "liver_cyst": 50, "kidney_stone": 40}, description={"gallstone": 40}
)


def plausible(held: int, of: int, chance: float, doubt: float = 2e-4) -> bool:
    """Whether ``held`` of ``of`` is what a chance of ``chance`` gives, but for one time in 1 / ``doubt``."""
    return binom.ppf(doubt / 2, of, chance) <= held <= binom.ppf(1 - doubt / 2, of, chance)


@pytest.mark.slow
def test_intervals_cover_the_truth():
    hits = [covered_by((TRUSTED, seed, 0.3)) for seed in range(STUDIES)]
    for name, first in hits[0].items():
        if np.ndim(first):  # intervals of one study depend on each other: one at a time
            for place in range(len(first)):
                held = sum(item[name][place] for item in hits)
                assert plausible(held, STUDIES, 0.95), (name, place, held)
        else:
            held = sum(item[name] for item in hits)
            assert plausible(held, STUDIES, 0.95), (name, held)


@pytest.mark.slow
def test_intervals_that_forget_the_readers_do_not_cover_it():
    """The same check finds the mistake that the method avoids: intervals of "these readers" taken for intervals of all readers."""
    truth, held = population_truth(TRUSTED).means["real", ALL], 0
    for seed in range(STUDIES):
        found = analyse(simulate_table(TRUSTED, seed), resamples=200).parts["realism"].realism.means["real"][ALL]
        held += found.fixed_low <= truth <= found.fixed_high
    assert not plausible(held, STUDIES, 0.95)


@pytest.mark.slow
def test_error_rates_of_the_tests():
    studies = 400
    for ability, names in (
        (difference_at(TRUSTED, -0.3), ("Non-inferiority", "Equivalence")),
        (difference_at(TRUSTED, 0.0), ("Difference", "Telling apart")),
    ):
        found = [claims_of((replace(TRUSTED, ability=ability), seed, 0.3)) for seed in range(studies)]
        for name in names:
            held = sum(item[name] for item in found)
            assert plausible(held, studies, 0.05), (name, held)
