"""What the priors lead one to expect of a set of cases, to hold against what its reports say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from PASTALib import attributes
from PASTALib.synthesis.draw import APART, CLOSE, HETEROGENEOUS, HOMOGENEOUS, HYPER, HYPO, ILL, ISO, ISO_LIMIT_HU, WELL
from PASTALib.synthesis.priors import WALL, DensityPart, TypePriors, load_priors

COMPARED = ("shape", "density", "heterogeneity", "surface", "invasion")
SIZE_BINS = 14


@dataclass(frozen=True)
class Share:
    """One option of an attribute: how many lesions have it, its share, and the share that the priors give (None where unknown)."""

    option: str
    count: int
    share: float
    expected: float | None

    def unusual(self, lesions: int) -> bool:
        """Farther from the priors than chance (three standard errors) and 5 % more explain."""
        if self.expected is None:
            return False
        error = (max(self.expected * (1 - self.expected), 0.01) / max(lesions, 1)) ** 0.5
        return abs(self.share - self.expected) > 3 * error + 0.05


def shares(lesions: Sequence[dict], kind: str) -> dict[str, list[Share]]:
    """Per compared attribute the shares of its options among lesions (manifest entries) of one type.

    Expectations follow from ``priors.toml``, each lesion's own length and the level of its reference tissue. Draws that the scan did not allow
    (too large for the organ, touching a neighbour) were drawn again, so that small differences are to be expected.
    """
    expected = _expected(lesions, load_priors()[kind]) if _measured(lesions) else {}
    found = {}
    for key in COMPARED:
        counts = Counter(item["attributes"].get(key) for item in lesions)
        total = sum(counts[option] for option in attributes.options(key))
        found[key] = [
            Share(option, counts[option], counts[option] / total if total else 0.0, expected.get(key, {}).get(option))
            for option in attributes.options(key)
            if counts[option] or expected.get(key, {}).get(option)
        ]
    return found


def _measured(lesions: Sequence[dict]) -> bool:
    return bool(lesions) and all(item.get("major_axis_mm") and item.get("reference_hu") is not None for item in lesions)


def _expected(lesions: Sequence[dict], priors: TypePriors) -> dict[str, dict[str, float]]:
    lengths = [float(item["major_axis_mm"]) for item in lesions]
    heterogeneous, density = [], []
    for item, length in zip(lesions, lengths):
        parts = priors.density[item["attributes"]["enhancement"]]
        with_component = sum(part.weight for part in parts if part.component)
        heterogeneous.append(with_component + (1 - with_component) * priors.heterogeneous.at(length))
        density.append(_density(parts, float(item["reference_hu"])))
    share = float(np.mean(heterogeneous))
    ill = float(np.mean([priors.ill_defined.at(length) for length in lengths]))
    close = float(np.mean([priors.close.at(length) for length in lengths]))
    return {
        "shape": dict(priors.shape),
        "density": {option: float(np.mean([item[option] for item in density])) for option in (HYPO, ISO, HYPER)},
        "heterogeneity": {HOMOGENEOUS: 1 - share, HETEROGENEOUS: share},
        "surface": {WELL: 1 - ill, ILL: ill},
        "invasion": {APART: 1 - close, CLOSE: close},
    }


def _density(parts: Sequence[DensityPart], reference_hu: float) -> dict[str, float]:
    """Probability of each density option beside a reference tissue."""
    low = high = 0.0
    for part in parts:
        level = 0.0 if part.kind == "delta" else reference_hu
        low += part.weight * _below(part, level - ISO_LIMIT_HU)
        high += part.weight * (1 - _below(part, level + ISO_LIMIT_HU))
    return {HYPO: low, ISO: 1 - low - high, HYPER: high}


def _below(part: DensityPart, hu: float) -> float:
    value = part.value
    if value.sd == 0:
        return float(value.mean <= hu)
    normal = NormalDist(value.mean, value.sd)
    floor, ceiling = normal.cdf(value.low), normal.cdf(value.high)
    return float(np.clip((normal.cdf(hu) - floor) / (ceiling - floor), 0.0, 1.0))


def size_bins(kind: str) -> np.ndarray:
    """Bin edges in mm (logarithmic) over what the type's priors allow."""
    priors = load_priors()[kind]
    ranges = [(item.low, item.high) for _, item in _size_priors(priors)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    return np.geomspace(low, high, SIZE_BINS + 1)


def size_expected(kind: str, edges: np.ndarray) -> np.ndarray:
    """Share of lesions per bin that the priors give, before any is fitted into an organ."""
    priors = load_priors()[kind]
    cumulated = np.array([sum(weight * item.cdf(edge) for weight, item in _size_priors(priors)) for edge in edges])
    return np.diff(cumulated)


def size_median(kind: str) -> float:
    """Median length in mm that the priors give."""
    edges = np.geomspace(size_bins(kind)[0], size_bins(kind)[-1], 400)
    return float(np.interp(0.5, np.cumsum(size_expected(kind, edges)), edges[1:]))


def _size_priors(priors: TypePriors):
    """(weight, size prior) per shape; the length along the organ for thickened walls."""
    for shape, weight in priors.shape.items():
        if weight > 0:
            yield weight, priors.wall.length if shape == WALL and priors.wall else priors.size_for(shape)
