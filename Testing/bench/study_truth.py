"""True values behind a simulated study, by numerical integration: what the intervals of the analysis should cover."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import norm

from PASTALib.study.analysis.agreement import krippendorff_alpha
from PASTALib.study.simulate import SimulatedDesign, SimulatedReaders

SCORES = np.arange(1, 6)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def shares(centre, spread) -> np.ndarray:
    """(…, 5) chance of each score when the latent value is normal about ``centre`` with standard deviation ``spread``."""
    edges = np.array([-np.inf, 1.5, 2.5, 3.5, 4.5, np.inf])
    spread = np.maximum(np.asarray(spread, float), 1e-12)[..., None]
    return np.diff(norm.cdf((edges - np.asarray(centre, float)[..., None]) / spread), axis=-1)


def auc_of(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """AUC of two distributions over the scores, (…, 5) each."""
    below = np.cumsum(synthetic, -1) - synthetic
    return (real * (below + synthetic / 2)).sum(-1)


@dataclass
class Truth:
    """Of a population of readers: ``means[truth, kind]``, ``difference``, ``auc``, keyed by lesion type and "all"; ``description`` likewise."""

    means: dict
    difference: dict
    auc: dict
    description: dict


def population_truth(design: SimulatedDesign) -> Truth:
    """Values averaged over the population of readers that the design draws from."""
    one_reading = float(np.sqrt(design.case_sd**2 + design.reader_case_sd**2 + design.noise**2))
    kinds = [k for k in design.realism if design.realism[k]]
    bias, ability = (a.ravel() for a in np.meshgrid(_NODES, _NODES, indexing="ij"))
    weight = np.outer(_WEIGHTS, _WEIGHTS).ravel()
    look = np.array([design.mean + design.offset(k) for k in kinds])[:, None] + design.bias_sd * bias
    seen = {
        "real": shares(look, np.full(look.shape, one_reading)),
        "synthetic": shares(look - design.ability - design.ability_sd * ability, np.full(look.shape, one_reading)),
    }
    counts = np.array([design.realism[k] for k in kinds], float)
    for truth in seen:  # (kinds + 1, readers, 5); the last is all types together
        seen[truth] = np.concatenate([seen[truth], np.tensordot(counts / counts.sum(), seen[truth], 1)[None]])
    names = [*kinds, "all"]
    means = {(t, n): float(weight @ (p[i] @ SCORES)) for t, p in seen.items() for i, n in enumerate(names)}
    auc = {n: float(weight @ auc_of(seen["real"][i], seen["synthetic"][i])) for i, n in enumerate(names)}
    difference = {n: means["synthetic", n] - means["real", n] for n in names}
    spread = float(np.hypot(one_reading, design.bias_sd))
    told = [k for k in design.description if design.description[k]]
    description = {k: float(shares(design.mean + design.offset(k), spread) @ SCORES) for k in told}
    if told:
        number = np.array([design.description[k] for k in told], float)
        description["all"] = float(np.dot(number, [description[k] for k in told]) / number.sum())
    return Truth(means, difference, auc, description)


def difference_at(design: SimulatedDesign, wanted: float) -> float:
    """The ability that makes the true difference of mean scores equal ``wanted`` (points)."""
    from dataclasses import replace

    from scipy.optimize import brentq

    def miss(ability: float) -> float:
        return population_truth(replace(design, ability=ability)).difference["all"] - wanted

    return float(brentq(miss, -4, 4, xtol=1e-6))


def reader_truth(design: SimulatedDesign, readers: SimulatedReaders) -> dict[str, float]:
    """For these readers alone and all cases like these: agreement, AUC, difference, by the names that the analysis uses."""
    counts = np.array([design.realism[k] for k in design.realism if design.realism[k]], float)
    kinds = [k for k in design.realism if design.realism[k]]
    weight = np.concatenate([counts, counts]) / (2 * counts.sum())  # of the strata: real, then synthetic
    base = design.mean + np.array([design.offset(k) for k in kinds])
    latent = np.concatenate(
        [
            np.broadcast_to(base, (len(readers.bias), len(kinds))) + readers.bias[:, None],
            base - readers.ability[:, None] + readers.bias[:, None],
        ],
        axis=1,
    )  # (R, strata)
    own, lasting, drawn = design.reader_case_sd, design.case_sd, design.noise
    given_case = shares(
        latent[:, :, None] + lasting * _NODES, np.full(1, np.hypot(own, drawn))
    )  # (R, strata, nodes, 5)
    given_opinion = shares(latent[:, :, None] + np.hypot(lasting, own) * _NODES, np.full(1, drawn))
    joint_weight = weight[:, None] * _WEIGHTS
    readers_n = len(readers.bias)
    marginal = np.einsum("sn,rsnk->rk", joint_weight, given_case)
    mean, variance = marginal @ SCORES, marginal @ SCORES**2 - (marginal @ SCORES) ** 2
    pair = {
        (a, b): np.einsum("sn,snk,snl->kl", joint_weight, given_case[a], given_case[b])
        for a, b in combinations(range(readers_n), 2)
    }
    covariance = {ab: SCORES @ table @ SCORES - mean[ab[0]] * mean[ab[1]] for ab, table in pair.items()}
    kappas = [2 * covariance[a, b] / (variance[a] + variance[b] + (mean[a] - mean[b]) ** 2) for a, b in pair]
    table = sum(pair.values())
    table = (table + table.T) / (2 * len(pair))
    shared = float(np.mean(list(covariance.values())))
    between = float(mean.var(ddof=1))
    apart = np.abs(SCORES[:, None] - SCORES)
    again = [np.einsum("sn,snk,snl->kl", joint_weight, g, g) for g in given_opinion]
    kappa_again = [(SCORES @ t @ SCORES - mean[r] ** 2) / variance[r] for r, t in enumerate(again)]
    ceiling = shared + (variance.mean() - shared + between) / readers_n
    real, synthetic = (
        np.einsum("s,rsk->rk", counts / counts.sum(), np.einsum("n,rsnk->rsk", _WEIGHTS, given_case[:, part]))
        for part in (slice(0, len(kinds)), slice(len(kinds), None))
    )
    return {
        "weighted kappa, mean over pairs": float(np.mean(kappas)),
        "Krippendorff's alpha, ordinal": float(krippendorff_alpha(table * 1e9)),  # as of endless cases
        "ICC(2,1)": shared / (variance.mean() + between),
        "ICC(2,k)": shared / ceiling,
        "equal scores": float(table.trace()),
        "at most one apart": float(table[apart <= 1].sum()),
        "twice: weighted kappa": float(np.mean(kappa_again)),
        "twice: equal scores": float(np.mean([t.trace() for t in again])),
        "difference": float(((synthetic - real) @ SCORES).mean()),
        "auc": float(auc_of(real, synthetic).mean()),
    }
