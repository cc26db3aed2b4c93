"""What can be asked of a lesion in a scan: types, options, and the user's wishes as a request. No Qt, no nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slicer.i18n import tr as _

from .. import taxonomy
from ..attributes import LEARNED
from ..synthesis.draw import HYPER, HYPO, ISO, ISO_LIMIT_HU, allowed_options
from ..synthesis.scan import PreparedScan
from ..synthesis.spec import LesionRequest

ANY = ""
BY_HU = "HU"  # a density that is given as a difference instead of a label


@dataclass(frozen=True)
class TypeChoice:
    """One lesion type in the list: ``why`` it cannot be placed in this scan, empty where it can."""

    key: str
    name: str
    why: str = ""


def type_choices(scan: PreparedScan | None, any_phase: bool = False) -> list[TypeChoice]:
    """The fifteen types in the order of the taxonomy. ``any_phase``: those too that the paper does not place in the scan's contrast phase."""
    return [TypeChoice(lesion.key, lesion.name, _why_not(lesion, scan, any_phase)) for lesion in taxonomy.LESIONS]


def _why_not(lesion: taxonomy.Lesion, scan: PreparedScan | None, any_phase: bool) -> str:
    if scan is None:
        return ""
    if lesion.organ not in scan.geometry:
        organ = taxonomy.organ(lesion.organ).name.lower()
        return _("The organ map of this scan has no {organ}.").format(organ=organ)
    if not any_phase and scan.phase not in lesion.phases:
        return _("The paper places it in {wanted}; this scan is {phase} ({reason}).").format(
            wanted=_(" or ").join(lesion.phases), phase=scan.phase, reason=scan.phase_reason
        )
    return ""


def option_choices(lesion: str, phase: str | None) -> dict[str, tuple[str, ...]]:
    """The options that a type allows, by attribute."""
    return allowed_options(lesion, phase)


# How far a type may differ from the tissue around it (HU), and what is proposed: lesions of soft tissue differ by tens, the others by hundreds.
_REACH_HU = {
    "lung_tumor": (1000, 850),
    "kidney_stone": (1000, 500),
    "gallstone": (800, 80),
    "bone_metastasis": (600, 200),
}
_SOFT_TISSUE_HU = (150, 40)


def difference_range(lesion: str, phase: str | None) -> tuple[int, int, int]:
    """Least and largest difference in HU to ask for, and one to begin with; all are of a density that the type allows."""
    allowed = option_choices(lesion, phase)["density"]
    reach, first = _REACH_HU.get(lesion, _SOFT_TISSUE_HU)
    iso = int(ISO_LIMIT_HU)
    low = -reach if HYPO in allowed else -iso if ISO in allowed else iso + 1
    high = reach if HYPER in allowed else iso if ISO in allowed else -iso - 1
    return low, high, -first if HYPO in allowed else first


@dataclass(frozen=True)
class Wishes:
    """What the panel asks for. ``options``: option strings by attribute, without those left open; ``size_mm`` along z, x, y, None for any."""

    lesion: str
    seed: int = 0
    size_mm: tuple[float, float, float] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    delta_hu: float | None = None
    mass_effect_mm: float = 0.0

    @classmethod
    def of(cls, parameters) -> Wishes:
        """Those of the module's parameter node."""
        size = (parameters.sizeZ, parameters.sizeX, parameters.sizeY) if parameters.sizeGiven else None
        options = {key: getattr(parameters, key) for key in LEARNED}
        by_hu = options["density"] == BY_HU
        kept = {key: option for key, option in options.items() if option not in (ANY, BY_HU)}
        delta = float(parameters.densityDelta) if by_hu else None
        return cls(parameters.lesion, parameters.seed, size, kept, delta, float(parameters.massEffect))

    @classmethod
    def of_request(cls, request: LesionRequest) -> Wishes:
        """Those behind a request."""
        return cls(
            request.lesion,
            request.seed,
            request.size_mm,
            dict(request.attributes),
            request.density_delta_hu,
            request.mass_effect_mm,
        )

    def into(self, parameters) -> None:
        """Write them into the module's parameter node (in one change, for the caller to batch)."""
        parameters.lesion, parameters.seed = self.lesion, self.seed
        parameters.sizeGiven = self.size_mm is not None
        if self.size_mm is not None:
            parameters.sizeZ, parameters.sizeX, parameters.sizeY = (float(side) for side in self.size_mm)
        for key in LEARNED:
            setattr(parameters, key, self.options.get(key, ANY))
        if self.delta_hu is not None:
            parameters.density, parameters.densityDelta = BY_HU, self.delta_hu
        parameters.massEffect = self.mass_effect_mm

    def request(self, at_ras: tuple[float, float, float] | None) -> LesionRequest:
        """The request at a point in scan coordinates, or wherever the type may lie."""
        return LesionRequest(
            self.lesion,
            seed=self.seed,
            at_ras=at_ras,
            size_mm=self.size_mm,
            attributes=dict(self.options),
            density_delta_hu=self.delta_hu,
            mass_effect_mm=self.mass_effect_mm,
        )
