"""The statistics of a reader study against published examples and against other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from PASTALib.study.analysis.agreement import (
    between_readers,
    coincidences,
    icc,
    krippendorff_alpha,
    pair_tables,
    weighted_kappa,
    within_readers,
)
from PASTALib.study.analysis.multireader import auc_jackknife, average, roc_points
from PASTALib.study.analysis.resample import CaseBootstrap, covariance, percentile_interval

# Van Dyke et al., "Cine MRI in the diagnosis of thoracic aortic dissection", RSNA 1993: five readers (rows) rated 69 patients without and 45
# with dissection from 1 to 5; spin-echo images. The example of the multireader literature since Dorfman, Berbaum & Metz 1992.
WITHOUT = (
    "122151111111411111111131311214111113121211233131133111111221111332111",
    "232222222322522232222222422223222222222222222222222222222432232222222",
    "222235112242422232221232411322112224121412112222223211211221151421212",
    "111111311111111111112111211112111111111111111111331111111111111311111",
    "351211112221211122113221111211211231221113332111211111111341231212113",
)
WITH = (
    "555545554555434245555555154454553555115554451",
    "535555542555442225555555243354552425225555352",
    "545555555555542355555555252255552555225555552",
    "555555555555555155555555554544553555125555555",
    "525255551545452235555554144322151515115553552",
)


def digits(rows) -> np.ndarray:
    return np.array([[float(character) if character != "*" else np.nan for character in row] for row in rows])


# ---------------------------------------------------------------------------------------------------------------
# Many readers


def test_auc_of_five_readers_as_published():
    """OR-DBM MRMC 2.51 (Schartz, Hillis, Pesce, Berbaum; University of Iowa) on Van Dyke's data: trapezoidal AUC, jackknife, treatment 1."""
    auc, spread = auc_jackknife(digits(WITH), digits(WITHOUT))
    assert_allclose(auc, (0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066), atol=5e-9)
    assert_allclose(np.diag(spread).mean(), 0.00101410, atol=5e-9)
    assert_allclose((spread.sum() - np.trace(spread)) / 20, 0.00048396, atol=5e-9)
    found = average(auc, spread, 114, as_published=True)
    assert_allclose((found.value, found.low, found.high), (0.89703704, 0.82522360, 0.96885048), atol=5e-9)
    assert_allclose((found.se, found.df), (0.03317360, 12.744648), atol=5e-7)
    assert_allclose(
        (found.fixed_low, found.fixed_high, found.fixed_se), (0.84943008, 0.94464399, 0.02428971), atol=5e-9
    )


def test_auc_and_its_jackknife_against_doing_it_case_by_case():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    real, synthetic = (rng.integers(1, 6, (3, n)).astype(float) for n in (23, 17))
    real[0, 2] = synthetic[1, 5] = np.nan

    def areas(keep_real, keep_synthetic) -> list[float]:
        found = []
        for ours, theirs in zip(real[:, keep_real], synthetic[:, keep_synthetic]):
            ours, theirs = ours[np.isfinite(ours)], theirs[np.isfinite(theirs)]
            truth = np.r_[np.ones(len(ours)), np.zeros(len(theirs))]
            found.append(sklearn.roc_auc_score(truth, np.r_[ours, theirs]))
        return found

    one, other = np.ones(23, bool), np.ones(17, bool)
    without = [areas(np.arange(23) != n, other) for n in range(23)] + [
        areas(one, np.arange(17) != n) for n in range(17)
    ]
    apart = np.array(without) - np.mean(without, axis=0)
    auc, spread = auc_jackknife(real, synthetic)
    assert_allclose(auc, areas(one, other))
    assert_allclose(spread, 39 / 40 * apart.T @ apart)


def test_average_of_one_reader_speaks_of_that_reader_only():
    found = average(np.array([4.0]), np.array([[0.01]]), 30, bounds=(1, 5))
    assert not found.generalises and np.isnan(found.low)
    assert_allclose(found.shown, (4 - 1.959964 * 0.1, 4 + 1.959964 * 0.1), rtol=1e-6)


def test_average_without_shared_error_is_the_t_interval():
    values = np.array([4.1, 4.4, 4.2, 4.7])
    found = average(values, np.zeros((4, 4)), 50)
    half = 3.182446 * values.std(ddof=1) / 2  # t quantile of three degrees of freedom
    assert_allclose((found.low, found.high, found.df), (4.35 - half, 4.35 + half, 3), rtol=1e-6)


@pytest.mark.parametrize("readers,low,high", [(2, 2.2, 6.4), (3, 3.6, 5.8), (4, 4.2, 5.6), (6, 4.4, 5.6)])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_intervals_of_few_readers_miss_as_often_as_they_should(readers, low, high, share):
    """In % of 4000 studies. ``share``: of the variance that is the readers' own."""
    rng = np.random.default_rng(readers)
    shared = (1 - share) / readers
    missed = 0
    for _ in range(4000):
        values = np.sqrt(share) * rng.normal(size=readers) + np.sqrt(shared) * rng.normal()
        found = average(values, np.full((readers, readers), shared), 1000)
        missed += not found.low <= 0 <= found.high
    assert low - 1 <= missed / 40 <= high + 1


def test_readers_without_a_value_are_left_out():
    values, spread = np.array([4.0, np.nan, 4.4]), np.diag([0.01, np.nan, 0.01])
    found = average(values, spread, 20)
    assert found.readers == 2 and found.value == pytest.approx(4.2)
    assert np.isnan(found.per_reader[1]) and found.per_reader[2] == 4.4


def test_p_values_agree_with_intervals():
    found = average(np.array([0.1, 0.3, 0.2, 0.25]), 0.002 * np.eye(4), 100)
    low, high = found.interval(0.9)
    assert found.p_above(low) == pytest.approx(0.05) and found.p_above(high) == pytest.approx(0.95)
    assert found.p_two_sided(found.interval(0.95)[0]) == pytest.approx(0.05)


def test_roc_points():
    false, true = roc_points(np.array([5.0, 4, 5, 3]), np.array([1.0, 4, np.nan, 2]))
    assert_allclose(false, (1, 2 / 3, 1 / 3, 1 / 3, 0, 0))
    assert_allclose(true, (1, 1, 1, 0.75, 0.5, 0))


# ---------------------------------------------------------------------------------------------------------------
# Resampling


def test_bootstrap_variance_of_stratified_means_is_unbiased():
    """In strata as small as two, where an ordinary bootstrap would give half of the variance."""
    rng = np.random.default_rng(1)
    strata = np.repeat([0, 2, 4], [2, 3, 40])
    values = rng.normal(size=(2, 45)) + np.repeat([0, 5, 9], [2, 3, 40])
    bootstrap = CaseBootstrap(strata, 40_000, rng)
    assert_allclose(bootstrap.weights.sum(1), 45, rtol=1e-5)
    for stratum, n in ((0, 2), (2, 3), (4, 40)):
        members = strata == stratum
        spread = covariance(bootstrap.means(values, members))
        assert_allclose(spread, np.cov(values[:, members]) / n, rtol=0.06, atol=2e-4)
    spread = covariance(bootstrap.means(values, np.ones(45, bool)))
    exact = sum((n / 45) ** 2 * np.cov(values[:, strata == s]) / n for s, n in ((0, 2), (2, 3), (4, 40)))
    assert_allclose(spread, exact, rtol=0.06, atol=2e-4)


def test_bootstrap_draws_readings_of_a_case_together():
    bootstrap = CaseBootstrap(np.zeros(30, int), 500, np.random.default_rng(0))
    scores = np.tile(np.random.default_rng(1).normal(size=30), (3, 1))
    assert_allclose(np.ptp(bootstrap.means(scores, np.ones(30, bool)), axis=1), 0, atol=1e-6)


def test_strata_of_one_case_are_drawn_together():
    strata = np.array([0, 2, 4, 6, 1, 1, 1])  # four types with one real case each; three synthetic of one type
    bootstrap = CaseBootstrap(strata, 300, np.random.default_rng(0))
    assert_allclose(bootstrap.weights[:, :4].sum(1), 4, rtol=1e-6)
    assert (bootstrap.weights[:, :4] == 0).any()


def test_percentile_interval_needs_most_replicates():
    assert_allclose(percentile_interval(np.arange(101.0), 0.9), (5, 95))
    assert np.isnan(percentile_interval(np.r_[np.arange(80.0), np.full(20, np.nan)], 0.9)).all()


# ---------------------------------------------------------------------------------------------------------------
# Agreement: published examples

# Shrout & Fleiss 1979, Psychol Bull 86:420-428, Table 2: four judges (rows here) rate six targets.
SHROUT_FLEISS = np.array([[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]], float)
# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section C: four observers, twelve units, missing values.
KRIPPENDORFF = digits(("123321412***", "1233224125*3", "*3332342251*", "12332441251*"))


def test_icc_as_published():
    """Table 4 of Shrout & Fleiss: ICC(2,1) 0.29, ICC(3,1) 0.71, ICC(2,4) 0.62."""
    found = icc(SHROUT_FLEISS)
    assert_allclose([found[name] for name in ("ICC(2,1)", "ICC(3,1)", "ICC(2,k)")], (0.29, 0.71, 0.62), atol=0.005)


def test_icc_against_pingouin():
    pingouin, pandas = pytest.importorskip("pingouin"), pytest.importorskip("pandas")
    scores = np.random.default_rng(0).integers(1, 6, (4, 30)) + np.arange(30) // 6
    rows = [(reader, case, float(scores[reader, case])) for reader in range(4) for case in range(30)]
    frame = pandas.DataFrame(rows, columns=["reader", "case", "score"])
    reference = pingouin.intraclass_corr(frame, targets="case", raters="reader", ratings="score")
    reference = sorted(reference["ICC"].astype(float))
    found = icc(scores.astype(float))
    for name in ("ICC(2,1)", "ICC(2,k)", "ICC(3,1)"):  # whatever pingouin calls them in this version
        assert min(abs(value - float(found[name])) for value in reference) < 1e-6, name


def test_icc_from_the_analysis_of_variance_of_statsmodels():
    api, pandas = pytest.importorskip("statsmodels.formula.api"), pytest.importorskip("pandas")
    from statsmodels.stats.anova import anova_lm

    rows = [(f"r{r}", f"c{c}", SHROUT_FLEISS[r, c]) for r in range(4) for c in range(6)]
    frame = pandas.DataFrame(rows, columns=["reader", "case", "score"])
    table = anova_lm(api.ols("score ~ C(case) + C(reader)", frame).fit())
    case, reader, rest = table["sum_sq"] / table["df"]
    assert_allclose(icc(SHROUT_FLEISS)["ICC(2,1)"], (case - rest) / (case + 3 * rest + 4 * (reader - rest) / 6))


def test_weights_of_cases_stand_for_repeated_cases():
    weights = np.array([[2, 1, 0, 3, 1, 1]])
    repeated = np.repeat(SHROUT_FLEISS, weights[0], axis=1)
    for name, value in icc(repeated).items():
        assert_allclose(icc(SHROUT_FLEISS, weights)[name], value)


def test_alpha_as_published():
    """Krippendorff 2011: 0.743 nominal, 0.815 ordinal, 0.849 interval."""
    summed = coincidences(KRIPPENDORFF).sum(0)
    found = [float(krippendorff_alpha(summed, metric)) for metric in ("nominal", "ordinal", "interval")]
    assert_allclose(found, (0.743, 0.815, 0.849), atol=0.0005)


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval"])
def test_alpha_against_the_package_krippendorff(metric):
    krippendorff = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(2)
    scores = np.clip(np.rint(rng.normal(3.6, 1, (1, 80)) + rng.normal(0, 0.7, (5, 80))), 1, 5)
    scores[rng.random(scores.shape) < 0.15] = np.nan
    reference = krippendorff.alpha(reliability_data=scores, level_of_measurement=metric, value_domain=[1, 2, 3, 4, 5])
    assert_allclose(krippendorff_alpha(coincidences(scores).sum(0), metric), reference, rtol=1e-9)


def kappa(one, other) -> float:
    return float(weighted_kappa(pair_tables(np.asarray(one, float), np.asarray(other, float)).sum(0).reshape(5, 5)))


def test_weighted_kappa_as_documented():
    """The example that scikit-learn's own tests hold its quadratic weights to: 0.9541."""
    assert_allclose(kappa([1] * 46 + [2] * 44 + [3] * 10, [1] * 50 + [2] * 40 + [3] * 10), 0.9541, atol=5e-5)


def test_weighted_kappa_against_scikit_learn_and_statsmodels():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    one, other = rng.integers(1, 6, 60), rng.integers(2, 6, 60)
    reference = metrics.cohen_kappa_score(one, other, labels=[1, 2, 3, 4, 5], weights="quadratic")
    assert_allclose(kappa(one, other), reference)
    rater = pytest.importorskip("statsmodels.stats.inter_rater")
    table = pair_tables(one.astype(float), other.astype(float)).sum(0).reshape(5, 5)
    assert_allclose(kappa(one, other), rater.cohens_kappa(table, wt="quadratic", return_results=False))


def test_weighted_kappa_is_the_intraclass_correlation_of_endless_cases():
    """Fleiss & Cohen 1973, Educ Psychol Meas 33:613-619."""
    rng = np.random.default_rng(4)
    case = rng.normal(3.3, 0.9, 200_000)
    scores = np.clip(np.rint(case + rng.normal(0, 0.6, (2, 200_000)) + np.array([[0.0], [0.3]])), 1, 5)
    assert_allclose(kappa(*scores), icc(scores)["ICC(2,1)"], atol=1e-4)


def test_agreement_that_is_not_defined_says_so():
    bootstrap = CaseBootstrap(np.zeros(12, int), 200, np.random.default_rng(0))
    found = {item.statistic: item for item in between_readers(np.full((3, 12), 4.0), bootstrap)}
    for name in ("weighted kappa, mean over pairs", "Krippendorff's alpha, ordinal", "ICC(2,1)"):
        assert np.isnan(found[name].value) and "do not vary" in found[name].remark
    assert found["equal scores"].value == 1


def test_a_reader_who_never_varies_has_kappa_zero_not_an_error():
    scores = np.array([[4] * 10, [4, 5] * 5, [5, 4] * 5], float)
    bootstrap = CaseBootstrap(np.zeros(10, int), 200, np.random.default_rng(0))
    value = next(item.value for item in between_readers(scores, bootstrap) if "kappa" in item.statistic)
    assert_allclose(value, (0 + 0 - 1) / 3, atol=1e-6)


def test_two_readings_of_each_reader():
    first, second = np.array([[1.0, 2, 3, 4, 5, 5], [5.0, 4, 4, 5, 3, 3]]), np.full((2, 6), np.nan)
    second[0, :5], second[1, :4] = (1, 2, 3, 4, 4), (4, 4, 5, 5)
    bootstrap = CaseBootstrap(np.zeros(6, int), 200, np.random.default_rng(0))
    one, other, together = within_readers(first, second, bootstrap)
    assert [one[0].cases, other[0].cases, together[0].cases] == [5, 4, 5]
    assert_allclose(one[0].value, kappa(first[0], second[0]))
    assert_allclose(together[0].value, (one[0].value + other[0].value) / 2)
    assert_allclose([one[1].value, other[1].value, together[1].value], (0.8, 0.5, 6 / 9))
    assert within_readers(first, np.full((2, 6), np.nan), bootstrap) == []
