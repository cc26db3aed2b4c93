"""Intervals and tests: hand-worked examples, and agreement with scipy and scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from PASTALib.errors import InputError
from training.benchmark import statistics as st


def test_wilcoxon_over_five_folds_has_the_floor_of_1_in_32():
    assert st.wilcoxon_greater([0.8, 0.7, 0.9, 0.6, 0.75], [0.7, 0.65, 0.6, 0.5, 0.72]) == 1 / 32
    # ranks 1..5, the smallest difference negative: sums of 14 or 15 of 32 sign patterns
    assert st.wilcoxon_greater([5, 4, 3, 2, -1], [0, 0, 0, 0, 0]) == 2 / 32


def test_wilcoxon_is_all_sign_patterns_counted():
    difference = np.array([0.31, -0.12, 0.22, 0.05, 0.4, -0.27])
    ranks = stats.rankdata(abs(difference))
    observed = ranks[difference > 0].sum()
    sums = [np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=6)]
    assert st.wilcoxon_greater(difference, np.zeros(6)) == pytest.approx(np.mean([s >= observed for s in sums]))


def test_wilcoxon_rounds_what_only_the_last_bits_tell_apart():
    second = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    first = second + 0.1  # differences that are not bit for bit the same
    assert len(set(first - second)) > 1
    tied = float(stats.wilcoxon(np.full(5, 0.1), alternative="greater").pvalue)
    assert st.wilcoxon_greater(first, second) == tied


def test_wilcoxon_zero_policies():
    gains = np.array([0.3, 0.2, -0.1, 0.5, 0.4, -0.6, 0.7])
    with_zeros, nothing = np.r_[gains, np.zeros(4)], np.zeros(11)
    dropped = st.wilcoxon_greater(with_zeros, nothing)
    assert dropped == st.wilcoxon_greater(gains, np.zeros(7))
    for policy in ("pratt", "zsplit"):
        theirs = stats.wilcoxon(with_zeros, zero_method=policy, alternative="greater").pvalue
        assert st.wilcoxon_greater(with_zeros, nothing, policy) == theirs != dropped
    assert st.wilcoxon_greater([0.0, 0.0], [0.0, 0.0]) == 1.0
    with pytest.raises(InputError, match="zsplit"):
        st.wilcoxon_greater(gains, gains, "none")
    with pytest.raises(InputError, match="pairs"):
        st.wilcoxon_greater([1.0], [1.0, 2.0])


def test_permutation_of_few_cases_is_exact():
    truth, first = np.array([1, 1, 0, 1]), np.array([1, 1, 0, 1])
    second = np.array([0, 1, 1, 0])  # wrong in three of four: one exchange in 2^3 keeps the gain of 3
    assert st.permutation_greater(st.accuracy, truth, first, second) == pytest.approx(1 / 8)
    assert st.permutation_greater(st.accuracy, truth, first, first) == 1.0


def test_permutation_finds_a_gain_and_not_its_contrary():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=60)
    good = np.where(rng.random(60) < 0.9, truth, (truth + 1) % 3)
    poor = np.where(rng.random(60) < 0.5, truth, (truth + 1) % 3)
    better = st.permutation_greater(st.macro_f1, truth, good, poor, permutations=400, seed=1)
    assert better == st.permutation_greater(st.macro_f1, truth, good, poor, permutations=400, seed=1)
    assert 1 / 401 <= better < 0.01
    assert st.permutation_greater(st.macro_f1, truth, poor, good, permutations=400, seed=1) > 0.9


def test_permutation_agrees_with_the_sign_test():
    """Of accuracy: exchanging predictions tosses a coin for every case where just one model is right."""
    truth = np.ones(30, int)
    first, second = (
        np.r_[np.ones(20, int), np.zeros(10, int)],
        np.r_[np.ones(12, int), np.zeros(8, int), np.ones(10, int)],
    )
    second[20:26] = 0  # eight gains against four losses
    wanted = stats.binomtest(8, 12, alternative="greater").pvalue
    assert st.permutation_greater(st.accuracy, truth, first, second) == pytest.approx(wanted, abs=0.015)


def test_bootstrap_interval_is_scipys():
    values = np.random.default_rng(3).normal(0.6, 0.2, 80)
    low, high = st.mean_interval(values, st.bootstrap_draws(80, resamples=4000))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_bootstrap_draws_are_the_same_for_all_models():
    draws = st.bootstrap_draws(9, resamples=5, seed=2)
    assert draws.shape == (5, 9) and draws.max() < 9
    assert np.array_equal(draws, st.bootstrap_draws(9, resamples=5, seed=2))
    assert st.mean_interval(np.full(4, 0.5), st.bootstrap_draws(4)) == (0.5, 0.5)
    with pytest.raises(InputError, match="no case"):
        st.bootstrap_draws(0)


def test_macro_f1_is_scikit_learns():
    rng = np.random.default_rng(4)
    truth, said = rng.integers(4, size=(6, 40)), rng.integers(4, size=(6, 40))
    said[0] = 2  # one class alone
    truth[1, truth[1] == 3] = 0  # a class that is only predicted
    ours = st.macro_f1(truth, said)
    assert ours == pytest.approx([f1_score(a, b, average="macro", zero_division=0) for a, b in zip(truth, said)])
    low, high = st.score_interval(st.macro_f1, truth[2], said[2], st.bootstrap_draws(40, resamples=200))
    assert low <= ours[2] <= high


def test_corrections_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    assert st.adjusted(p, "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert st.adjusted(p, "bh") == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert st.adjusted(p, "none") == p
    assert st.adjusted([0.6, 0.7], "holm") == [1.0, 1.0]
    assert st.adjusted([], "holm") == []
    with pytest.raises(InputError, match="holm"):
        st.adjusted(p, "bonferroni")


def test_concordance_by_hand():
    time, event = [1, 2, 3, 4], [1, 1, 0, 1]
    assert st.concordance(time, event, [4, 3, 2, 1]) == 1.0
    assert st.concordance(time, event, [1, 2, 3, 4]) == 0.0
    assert st.concordance(time, event, [1, 1, 1, 1]) == 0.5
    # known orders: the first before three, the second before two; one of the five is wrong
    assert st.concordance(time, event, [4, 2, 3, 1]) == pytest.approx(4 / 5)
    # who is followed to the day on which another dies, lived longer
    assert st.concordance([2, 2], [1, 0], [0.9, 0.1]) == 1.0
    assert st.concordance([2, 3], [0, 0], [0.9, 0.1]) is None


def test_kaplan_meier_by_hand():
    # deaths at 1, 3 and 4, ends of follow-up at 2 and 5: 4/5, then 2/3 of it, then half of that
    curve = st.kaplan_meier([1, 2, 3, 4, 5], [1, 0, 1, 1, 0])
    at = dict(zip(curve["time"], curve["survival"]))
    assert at[1] == pytest.approx(0.8) and at[3] == pytest.approx(0.8 * 2 / 3) and at[4] == pytest.approx(0.8 / 3)
    inside = np.isfinite(curve["low"])
    assert np.all(curve["low"][inside] <= curve["survival"][inside])
    assert np.all(curve["high"][inside] >= curve["survival"][inside])
    with pytest.raises(InputError, match="no case"):
        st.kaplan_meier([], [])


def test_log_rank():
    early, late = (np.arange(1, 9), np.ones(8, bool)), (np.arange(11, 19), np.ones(8, bool))
    assert st.log_rank(early, late) < 0.001
    assert st.log_rank(early, early) == pytest.approx(1.0)
    assert st.log_rank((np.array([]), np.array([], bool)), late) is None
    assert st.log_rank((np.array([3.0]), np.array([False])), (np.array([4.0]), np.array([False]))) is None
