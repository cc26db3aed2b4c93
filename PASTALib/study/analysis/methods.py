"""The methods paragraph and the sentences of the result, written from what was really done and found."""

from __future__ import annotations

import math

from ... import __version__
from .multireader import Estimate
from .results import ALL, PartResults, StudyResults, Test
from .table import DESCRIPTION, REAL, REALISM, SYNTHETIC


def methods(results: StudyResults) -> list[str]:
    """Paragraphs for the methods section of a paper."""
    settings = results.settings
    level = f"{100 * settings.level:g} %"
    text = []
    realism, description = (results.parts.get(name) for name in (REALISM, DESCRIPTION))
    if realism is not None:
        text.append(_design_of_realism(realism))
    if description is not None:
        text.append(_design_of_description(description))
    several = any(len(part.active) > 1 for part in results.parts.values())
    intervals = (
        f"Intervals have a level of {level}. The variation between cases came from a cluster bootstrap: {settings.resamples:,} resamples of "
        "cases within each lesion type and truth, in which all readings of a case stay together (n − 1 of n cases drawn and reweighted; Rao and "
        "Wu 1988)."
    )
    if several:
        intervals += (
            " Means and differences are averages over readers; their intervals speak of readers and cases like those of the study: the "
            "bootstrap covariance of the readers' values was joined with the variance between readers as in the method of Obuchowski and "
            "Rockette (1995) and Hillis (2007), with quantiles of Student's t (a bootstrap over so few readers would be too narrow) at Hillis's degrees "
            "of freedom, in which the variance between readers counts R / (R − 2) times for R readers, so that intervals of few readers cover "
            "what they should."
        )
    else:
        intervals += " With one reader, intervals speak of this reader only."
    text.append(intervals + " Intervals of means end at the ends of the scale.")
    if realism is not None and realism.realism is not None and realism.realism.tests:
        text.append(_tests(results, several))
    text.append(_agreement(results))
    text.append(_missing(results))
    text.append(f"The analysis was made with SlicerPASTA {__version__} (numpy, scipy), seed {settings.seed}.")
    return [item for item in text if item]


def _people(readers: tuple[str, ...]) -> str:
    return f"{len(readers)} readers" if len(readers) != 1 else "One reader"


def _design_of_realism(part: PartResults) -> str:
    real, synthetic = (sum(row[truth] for row in part.cases.values()) for truth in (REAL, SYNTHETIC))
    equal = all(row[REAL] == row[SYNTHETIC] for row in part.cases.values())
    mixing = "mixed 1:1 within each lesion type" if equal else "mixed in the numbers that the table gives"
    return (
        f"{_people(part.active)} rated the realism of {real + synthetic:,} cases ({real:,} real, {synthetic:,} synthetic, {mixing}; "
        f"{len(part.kinds)} lesion type{'s' if len(part.kinds) != 1 else ''}) from 1 (completely unrealistic) to 5 (indistinguishable from real CT), "
        "without knowing which was which."
    )


def _design_of_description(part: PartResults) -> str:
    cases = sum(sum(row.values()) for row in part.cases.values())
    return (
        f"{_people(part.active)} rated how well the structured report of {cases:,} cases fits the image from 1 (completely inaccurate) to 5 "
        f"(perfectly accurate), separately for {_listed(part.questions)}."
    )


def _listed(words) -> str:
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _tests(results: StudyResults, several: bool) -> str:
    settings = results.settings
    alpha, margin = f"{settings.alpha:g}", f"{settings.margin:g}"
    inner = f"{100 * (1 - 2 * settings.alpha):g} %"
    return (
        f"The margin of non-inferiority and of equivalence was {margin} points of the scale. Synthetic cases are called non-inferior if the mean "
        f"score of the synthetic cases less that of the real ones is above −{margin} (one-sided test at α = {alpha}, that is, the lower end of the {inner} "
        f"interval), and equivalent if it lies between −{margin} and {margin} (two one-sided tests at α = {alpha} each). How well readers tell real from "
        "synthetic cases is the area under the empirical ROC curve of their realism scores (0.5: not at all), averaged over readers, with the "
        f"jackknife over cases{' and the same method of Obuchowski, Rockette and Hillis' if several else ''}; its test against 0.5 is two-sided. "
        "Values for single lesion types describe; no correction for their number was made."
    )


def _agreement(results: StudyResults) -> str:
    parts = [part for part in results.parts.values() if part.between or part.within]
    if not parts:
        return ""
    said = []
    if any(part.between for part in parts):
        said.append(
            "Agreement between readers: Cohen's kappa with quadratic weights averaged over pairs of readers, Krippendorff's alpha for ordinal data, "
            "and intraclass correlations for absolute agreement of single and of averaged scores (ICC(2,1), ICC(2,k); Shrout and Fleiss 1979)"
        )
    if any(part.within for part in parts):
        said.append("agreement of each reader with himself or herself: the same kappa over the cases read twice")
    return (
        "; ".join(said)
        + ". Their intervals are percentile intervals of the bootstrap over cases, those of the kappa of two readings from the jackknife over cases on Fisher's "
        "z scale, and speak of these readers."
    )


def _missing(results: StudyResults) -> str:
    lost, expected = (
        sum(p.missing for p in results.parts.values()),
        sum(sum(p.expected.values()) for p in results.parts.values()),
    )
    if not lost:
        return f"All {expected:,} first ratings (every reader, case and question) were given."
    return (
        f"{lost:,} of {expected:,} first ratings (every reader, case and question; {100 * lost / expected:.1f} %) are missing; all ratings given were used, none was "
        "filled in."
    )


# ---------------------------------------------------------------------------------------------------------------
# Results in sentences


def headline(results: StudyResults) -> list[str]:
    """What was found, most important first."""
    said = []
    realism, description = (results.parts.get(name) for name in (REALISM, DESCRIPTION))
    if realism is not None and realism.realism is not None:
        said += _realism_sentences(realism, results)
    if description is not None and ALL in description.means:
        found = description.means[ALL][ALL]
        kinds = {k: e for k, e in description.means[ALL].items() if k != ALL}
        low, high = min(e.value for e in kinds.values()), max(e.value for e in kinds.values())
        said.append(
            f"Descriptions fit the images with a mean of {number(found)}; lesion types range from {low:.2f} to {high:.2f}."
        )
    return said


def _realism_sentences(part: PartResults, results: StudyResults) -> list[str]:
    means = {truth: row[ALL] for truth, row in part.realism.means.items() if ALL in row}
    said = "; ".join(f"{truth} cases {number(means[truth])}" for truth in (REAL, SYNTHETIC) if truth in means)
    sentences = [f"Mean realism: {said}."] if said else []
    found = {test.name: test for test in part.realism.tests}
    if not found:
        return sentences
    margin = f"{results.settings.margin:g}"
    difference, auc = part.realism.differences[ALL], part.realism.auc[ALL]
    low = found["Non-inferiority"]
    verdict = "non-inferior to" if low.holds else "not shown to be non-inferior to"
    same = "equivalent" if found["Equivalence"].holds else "not shown to be equivalent"
    sentences.append(
        f"Synthetic less real: {number(difference, sign=True)}. With a margin of {margin} points, synthetic cases are {verdict} real ones "
        f"({p_text(low.p)}) and {same} ({p_text(found['Equivalence'].p)})."
    )
    sentences.append(
        f"Readers tell real from synthetic with an AUC of {number(auc)}: {_ability(auc, found['Telling apart'])}."
    )
    return sentences


def _ability(auc: Estimate, test: Test) -> str:
    low, high = auc.shown
    if not (math.isfinite(low) and math.isfinite(test.p)):
        return "how sure this is cannot be said"
    if test.holds:
        return f"{'better' if auc.value > 0.5 else 'worse'} than guessing ({p_text(test.p)})"
    return f"not shown to be better than guessing ({p_text(test.p)}); an AUC up to {high:.2f} is not ruled out"


def number(estimate: Estimate, digits: int = 2, sign: bool = False) -> str:
    """ "4.55 (4.49 to 4.62)", with true minus signs."""
    low, high = estimate.shown
    value = decimal(estimate.value, digits, sign)
    return f"{value} ({decimal(low, digits, sign)} to {decimal(high, digits, sign)})" if math.isfinite(low) else value


def decimal(value: float, digits: int = 2, sign: bool = False) -> str:
    """A number with a true minus sign, and none on zero; ``sign``: a plus too."""
    value = round(value, digits) + 0.0  # which turns -0.0 into 0.0
    text = f"{value:+.{digits}f}" if sign and value else f"{value:.{digits}f}"
    return text.replace("-", "\u2212")


def p_text(p: float) -> str:
    """ "p < 0.001" or "p = 0.012"."""
    if not math.isfinite(p):
        return "p not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
