"""What is known about one lesion, and what a network says about its attributes; plain data, ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .. import attributes, taxonomy
from ..attributes import LEARNED, TABLE, StructuredReport
from ..errors import InputError
from .axes import Line

_SUM_TOLERANCE = 0.01  # probabilities of one attribute add up to 1 but for rounding


@dataclass(frozen=True)
class AttributePrediction:
    """A network's answer for one lesion.

    ``probabilities``: attribute key (of the five in ``attributes.LEARNED``; all or some) -> option string -> probability.
    ``model``: name of the model. ``trained``: False for random weights, whose answers mean nothing. ``weak``: hardly better than guessing the
    commonest option, so that what is measured goes first.
    InputError for unknown attributes or options, missing options, and numbers that are no probabilities.
    """

    probabilities: dict[str, dict[str, float]]
    model: str
    trained: bool
    weak: bool = False

    def __post_init__(self) -> None:
        clean: dict[str, dict[str, float]] = {}
        for key in LEARNED:
            if key in self.probabilities:
                clean[key] = _distribution(key, self.probabilities[key])
        unknown = sorted(set(self.probabilities) - set(LEARNED))
        if unknown:
            raise InputError(f"prediction of {', '.join(unknown)}; a network predicts {', '.join(LEARNED)} only")
        object.__setattr__(self, "probabilities", clean)

    def best(self, key: str) -> tuple[str, float] | None:
        """The likeliest option of one attribute and its probability; None when the network does not predict it."""
        options = self.probabilities.get(key)
        return max(options.items(), key=lambda item: item[1]) if options else None

    def to_json(self) -> dict:
        """JSON-ready dictionary; ``from_json`` gives back an equal prediction."""
        weak = {"weak": True} if self.weak else {}
        return {"model": self.model, "trained": self.trained, **weak, "probabilities": self.probabilities}

    @classmethod
    def from_json(cls, data: Mapping) -> AttributePrediction:
        """The prediction of ``to_json``; InputError when it is malformed."""
        if not isinstance(data, Mapping) or not isinstance(data.get("probabilities"), Mapping):
            raise InputError('prediction without "probabilities" by attribute')
        return cls(
            dict(data["probabilities"]),
            str(data.get("model", "")),
            data.get("trained") is True,
            data.get("weak") is True,
        )


def _distribution(key: str, given: Mapping[str, float]) -> dict[str, float]:
    """Probabilities in the order of the paper's options, to 6 digits."""
    if not isinstance(given, Mapping):
        raise InputError(f"prediction of {key}: {given!r} must be a dictionary of probabilities by option")
    named = {attributes.parse(key, option): value for option, value in given.items()}
    missing = [option for option in TABLE[key].options if option not in named]
    if missing:
        raise InputError(f"prediction of {key}: no probability for {', '.join(missing)}")
    try:
        values = {option: float(f"{float(named[option]):.6g}") for option in TABLE[key].options}
    except (TypeError, ValueError):
        raise InputError(f"prediction of {key}: {dict(given)!r} must hold numbers") from None
    total = sum(values.values())
    if not all(0 <= value <= 1 for value in values.values()) or not math.isclose(total, 1, abs_tol=_SUM_TOLERANCE):
        raise InputError(f"prediction of {key}: {values} are not probabilities that add up to 1")
    return values


@dataclass(frozen=True)
class HuFigures:
    """Attenuation of a lesion's voxels in HU: mean, standard deviation, 5th and 95th percentile."""

    mean: float
    sd: float
    p5: float
    p95: float


@dataclass(frozen=True)
class Finding:
    """One lesion.

    ``number``: 1, 2, … in the document; ``lesion``: type key. ``box``: slices (z, y, x) of the scan; ``mask``: bool in that box, on the
    scan's own grid, None when the finding was read from a document. ``centre_ras``: a point inside the lesion, RAS mm. ``volume_ml``;
    ``hu``; ``size_zxy_mm``: extent along head-foot, right-left, front-back (of the scan axes nearest to them), the paper's Z×X×Y.
    ``long_axis``, ``short_axis``: longest diameter in the axial slice of largest area and longest diameter perpendicular to it.
    ``at_border``: the lesion reaches the border of the scan, so that its size is a lower bound.

    ``report``: the report to show. ``measured``: the report of what image and mask alone say of the five learned attributes, None where
    there was no organ map to measure against; ``reasons``: why keys could not be measured. ``prediction``: the network's answer, if any.
    """

    number: int
    lesion: str
    box: tuple[slice, slice, slice]
    mask: np.ndarray | None
    centre_ras: tuple[float, float, float]
    volume_ml: float
    hu: HuFigures
    size_zxy_mm: tuple[float, float, float]
    long_axis: Line
    short_axis: Line
    report: StructuredReport
    at_border: bool = False
    measured: StructuredReport | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    prediction: AttributePrediction | None = None

    @property
    def name(self) -> str:
        """Display name of the type, for example ``"Kidney cyst"``."""
        return taxonomy.lesion(self.lesion).name

    @property
    def place(self) -> str:
        """Where it is: ``"Right kidney"``, or the organ when no more is known."""
        return self.report.location_detail or self.report.organ.name

    @property
    def equivalent_diameter_mm(self) -> float:
        """Diameter of the ball of the same volume."""
        return equivalent_diameter_mm(self.volume_ml * 1000.0)


def equivalent_diameter_mm(volume_mm3: float) -> float:
    """Diameter in mm of the ball of this volume."""
    return (6.0 * volume_mm3 / math.pi) ** (1.0 / 3.0)
