"""What a lesion is asked to be (LesionRequest), what its image shows (Measurement), and what comes back (SynthesisResult)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# Attribute keys in the order of the paper's Extended Data Table 1, used everywhere as dictionary keys.
ATTRIBUTES = ("enhancement", "location", "size", "shape", "density", "heterogeneity", "surface", "invasion")


@dataclass(frozen=True)
class LesionRequest:
    """What the user asked for. Everything but ``lesion`` may be left open and is then drawn from the priors.

    ``at_ras``: wanted centre in RAS mm (the nearest allowed site is used). ``size_mm``: extent along (z, x, y) = (S-I, R-L, A-P) in
    mm, the paper's Z×X×Y. ``attributes``: option strings by key (``shape``, ``density``, ``heterogeneity``, ``surface``, ``invasion``).
    ``density_delta_hu``: wanted difference to the reference tissue, instead of a density label. ``mass_effect_mm``: largest
    displacement of the neighbourhood, 0 for none. ``prone``: gravity acts towards anterior (stones).
    """

    lesion: str
    seed: int = 0
    at_ras: tuple[float, float, float] | None = None
    size_mm: tuple[float, float, float] | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    density_delta_hu: float | None = None
    mass_effect_mm: float = 0.0
    prone: bool = False
    max_tries: int = 12


@dataclass
class Measurement:
    """What image and masks show, measured without knowledge of what was asked for.

    ``values``: option string per measurable attribute (keys ``shape, density, heterogeneity, surface, invasion``); a missing key means
    that it could not be measured (``reasons`` says why). ``ambiguous``: attributes whose figure lies in a dead zone between options.
    ``figures``: every number behind them (mm, HU, fractions).
    """

    size_zxy_mm: tuple[float, float, float]
    values: dict[str, str]
    ambiguous: tuple[str, ...]
    figures: dict[str, float]
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass
class SynthesisResult:
    """One accepted lesion, as a patch of the scan.

    ``region`` are slices (z, y, x) into the scan; ``before``/``after`` float32 HU and ``label`` (bool, lesion), ``organ`` (bool, parent organ without the
    lesion) live on it. ``changed`` (bool) marks every voxel that was allowed to change. Outside it ``after`` equals ``before`` bit for bit.
    ``moved_labels`` (uint8 PASTA values, only with a mass effect) is the organ map of the region after displacement; ``labels_before`` is kept for undo.
    ``accepted`` is False when no try showed all that was asked for; the report then says what was measured.
    """

    request: LesionRequest
    region: tuple[slice, slice, slice]
    before: np.ndarray
    after: np.ndarray
    label: np.ndarray
    organ: np.ndarray
    changed: np.ndarray
    center_ras: tuple[float, float, float]
    requested: dict
    measurement: Measurement
    report: object
    tries: int
    accepted: bool = True
    moved_labels: np.ndarray | None = None
    labels_before: np.ndarray | None = None
    log: list[str] = field(default_factory=list)
    parameters: dict = field(default_factory=dict)
