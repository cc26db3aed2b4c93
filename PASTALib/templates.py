"""Which scans may carry which lesion: scan range, contrast phase and healthy-organ rules of the paper (its section 1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from . import taxonomy
from .anatomy.organ_map import OrganMap, voxel_volume_ml
from .anatomy.report_text import organ_mention
from .errors import InputError
from .volume import Volume, same_grid

CHEST = "Chest CT"
ABDOMEN_PELVIS = "Abdomen-pelvis CT"
THORAX_ABDOMEN_PELVIS = "Thorax-abdomen-pelvis CT"
OTHER = "Other"
UNKNOWN = "Unknown"

ENHANCED_FROM_HU = 80.0  # paper, section 1.4: aorta and inferior vena cava both below 80 HU on average = non-contrast
HEALTHY_MORE_THAN_MM3 = 4000.0  # paper, section 1.4
PRESENT_FROM_ML = 0.1  # ours: fewer voxels of a structure are taken for stray ones, not for its presence
CYST_FROM_ML = 0.1  # ours: a kidney cyst that the organ map itself outlines

_VESSELS = ("aorta", "inferior_vena_cava")
_LANDMARKS = {
    "T1": "vertebrae_T1",
    "T8": "vertebrae_T8",
    "L5": "vertebrae_L5",
    "left upper lobe": "lung_upper_lobe_left",
    "right upper lobe": "lung_upper_lobe_right",
    "bladder": "urinary_bladder",
}
_RULES = ("literal", "negation-aware")
_MIN_VOXELS = 20


@dataclass(frozen=True)
class RangeResult:
    """Study type of a scan (`CHEST`, `ABDOMEN_PELVIS`, `THORAX_ABDOMEN_PELVIS`, `OTHER`, `UNKNOWN`) and why."""

    study: str
    reason: str


@dataclass(frozen=True)
class PhaseResult:
    """Contrast phase: ``phase`` is `taxonomy.ENHANCED`, `taxonomy.PLAIN` or `UNKNOWN`; ``evidence`` mean or median HU per structure.

    ``estimated`` is True when no vessel was there and organs had to stand in.
    """

    phase: str
    reason: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    estimated: bool = False


@dataclass(frozen=True)
class HealthResult:
    """Whether an organ counts as healthy by the paper's rule, and why (not)."""

    ok: bool
    reason: str

    def __bool__(self) -> bool:
        return self.ok


# --- scan range ------------------------------------------------------------------------------------------------------


def scan_range(organs: OrganMap) -> RangeResult:
    """Study type by the paper's rules.

    Chest: vertebra T1 and both upper lobes, no L5. Abdomen-pelvis: T8 and bladder, no T1. Thorax-abdomen-pelvis: T1, both upper lobes
    and bladder. A scan that meets the first and the third (L5 missed by the segmentation) is the third, since the bladder shows that the
    pelvis is there. Needs vertebrae and lobes, hence a TotalSegmentator map; `UNKNOWN` without.
    """
    if organs.structures is None:
        return RangeResult(
            UNKNOWN, "the organ map has no vertebrae and lung lobes; use a TotalSegmentator map to tell the scan range"
        )
    have = _present(organs)
    thorax = {"vertebrae_T1", "lung_upper_lobe_left", "lung_upper_lobe_right"} <= have
    bladder = "urinary_bladder" in have
    if thorax and bladder:
        return RangeResult(THORAX_ABDOMEN_PELVIS, "T1, both upper lobes and the bladder are in the scan")
    if thorax and "vertebrae_L5" not in have:
        return RangeResult(CHEST, "T1 and both upper lobes are in the scan, L5 is not")
    if bladder and "vertebrae_T8" in have and "vertebrae_T1" not in have:
        return RangeResult(ABDOMEN_PELVIS, "T8 and the bladder are in the scan, T1 is not")
    seen = [word for word, name in _LANDMARKS.items() if name in have] or ["none of the landmarks"]
    return RangeResult(
        OTHER, f"no study type of the paper fits: of T1, T8, L5, upper lobes and bladder it has {', '.join(seen)}"
    )


def _present(organs: OrganMap) -> set[str]:
    """Names of the landmarks with at least `PRESENT_FROM_ML`."""
    least = PRESENT_FROM_ML / voxel_volume_ml(organs.structures)
    values = {name: value for value, name in organs.structure_names.items() if name in _LANDMARKS.values()}
    array = organs.structures.array
    return {name for name, value in values.items() if sum(np.count_nonzero(plane == value) for plane in array) >= least}


# --- contrast phase --------------------------------------------------------------------------------------------------


def contrast_phase(ct: Volume, organs: OrganMap) -> PhaseResult:
    """Plain or enhanced, by the mean HU of aorta and inferior vena cava (paper: both below 80 HU = plain, otherwise enhanced).

    Vessel masks lose their outermost voxels first (partial volume). With one vessel only, that one decides. Without vessels the median
    HU of kidney, liver, spleen and heart stand in, `estimated`: one of them at 80 HU or more means enhanced (plain: kidney about 30,
    liver 40-65, spleen 45, blood 40 HU). Nothing of that: `UNKNOWN`. InputError if CT and map lie on different grids.
    """
    difference = same_grid(ct, organs.labels)
    if difference:
        raise InputError(
            f"CT and organ map lie on different grids ({difference}); resample the organ map to the CT first"
        )
    vessels = _structure_hu(ct, organs, _VESSELS, np.mean)
    if vessels:
        return _phase_from_vessels(vessels)
    proxies = _structure_hu(ct, organs, ("spleen", "heart"), np.median)
    for key in ("kidney", "liver"):
        value = _inner_hu(ct.array, organs.labels.array, taxonomy.organ(key).value, np.median)
        if value is not None:
            proxies[key] = value
    return _phase_from_organs(proxies)


def _phase_from_vessels(hu: dict[str, float]) -> PhaseResult:
    phase = taxonomy.PLAIN if max(hu.values()) < ENHANCED_FROM_HU else taxonomy.ENHANCED
    reason = f"mean {_listed(hu)} ({'both below' if phase == taxonomy.PLAIN else 'not both below'} {ENHANCED_FROM_HU:.0f} HU)"
    if len(hu) == 1:
        missing = next(name for name in _VESSELS if name not in hu).replace("_", " ")
        side = "below" if phase == taxonomy.PLAIN else "not below"
        reason = f"mean {_listed(hu)} ({side} {ENHANCED_FROM_HU:.0f} HU); the {missing} is not in the organ map"
    return PhaseResult(phase, reason, hu)


def _phase_from_organs(hu: dict[str, float]) -> PhaseResult:
    if not hu:
        return PhaseResult(
            UNKNOWN, "neither aorta, inferior vena cava, kidney, liver, spleen nor heart is in the organ map"
        )
    phase = taxonomy.ENHANCED if max(hu.values()) >= ENHANCED_FROM_HU else taxonomy.PLAIN
    return PhaseResult(
        phase, f"estimated, no aorta or inferior vena cava in the organ map: median {_listed(hu)}", hu, True
    )


def _listed(hu: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.0f} HU" for name, value in hu.items())


def _structure_hu(ct: Volume, organs: OrganMap, names: tuple[str, ...], statistic) -> dict[str, float]:
    """HU statistic per named structure, for those that the map has."""
    if organs.structures is None:
        return {}
    numbers = {name: value for value, name in organs.structure_names.items() if name in names}
    found = {
        name: _inner_hu(ct.array, organs.structures.array, numbers[name], statistic)
        for name in names
        if name in numbers
    }
    return {name: value for name, value in found.items() if value is not None}


def _inner_hu(ct: np.ndarray, labels: np.ndarray, value: int, statistic) -> float | None:
    """HU statistic of one label without its outermost voxels (with them where it is that thin); None below 20 voxels."""
    box = _box(labels, value)
    if box is None:
        return None
    mask = labels[box] == value
    inner = ndimage.binary_erosion(mask)
    chosen = inner if inner.sum() >= _MIN_VOXELS else mask
    return (
        float(statistic(ct[box][chosen], dtype=float) if statistic is np.mean else statistic(ct[box][chosen]))
        if chosen.sum() >= _MIN_VOXELS
        else None
    )


def _box(labels: np.ndarray, value: int) -> tuple[slice, ...] | None:
    """Bounding box ``(z, y, x)`` of one label, None if it is absent."""
    planes = [z for z, plane in enumerate(labels) if (plane == value).any()]
    if not planes:
        return None
    inside = labels[planes[0] : planes[-1] + 1] == value
    sides = [slice(planes[0], planes[-1] + 1)]
    for axis in (1, 2):
        hit = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        sides.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(sides)


# --- healthy organ and template --------------------------------------------------------------------------------------


def healthy_organ(
    ct: Volume | None, organs: OrganMap, organ_key: str, report_text: str | None = None, rule: str = "literal"
) -> HealthResult:
    """Paper's rule for a healthy organ: more than 4000 mm³, and the report's impression does not mention it.

    ``rule`` "literal" is the paper's keyword search; "negation-aware" lets statements of normality stand ("no focal liver lesion",
    "liver: normal"); anything unclear still counts as a mention. Without ``report_text`` only the volume is judged, and the reason
    says so. ``ct`` is not looked at yet and may be None. ValueError for another rule.
    """
    if rule not in _RULES:
        raise ValueError(f"unknown rule {rule!r}; use one of {', '.join(_RULES)}")
    name = taxonomy.organ(organ_key).name
    volume_mm3 = organs.volume_ml(organ_key) * 1000.0
    if volume_mm3 == 0:
        return HealthResult(False, f"{name} is not in the organ map")
    if volume_mm3 <= HEALTHY_MORE_THAN_MM3:
        return HealthResult(False, f"{name} has {volume_mm3:.0f} mm³; wanted more than {HEALTHY_MORE_THAN_MM3:.0f} mm³")
    if report_text is None:
        return HealthResult(
            True, f"{name} has {volume_mm3 / 1000:.0f} ml; no report was given, so disease cannot be excluded"
        )
    sentence = organ_mention(report_text, organ_key, negation_aware=rule == "negation-aware")
    if sentence is not None:
        return HealthResult(False, f"the report's impression mentions the {name.lower()}: “{sentence}”")
    return HealthResult(
        True, f"{name} has {volume_mm3 / 1000:.0f} ml and the report's impression does not mention it as diseased"
    )


def templates_for(lesion: str | taxonomy.Lesion) -> tuple[str, ...]:
    """Contrast phases of the template scans for a lesion type (Supplementary Table 6)."""
    return (taxonomy.lesion(lesion) if isinstance(lesion, str) else lesion).phases


def check_template(
    ct: Volume, organs: OrganMap, lesion_key: str, report_text: str | None = None, rule: str = "literal"
) -> list[str]:
    """Why this scan is not a proper template for this lesion type; empty when it is. Each entry is one sentence for the user."""
    lesion = taxonomy.lesion(lesion_key)
    reasons = []
    phase = contrast_phase(ct, organs)
    if phase.phase == UNKNOWN:
        reasons.append(f"contrast phase unknown: {phase.reason}")
    elif phase.phase not in templates_for(lesion):
        reasons.append(f"{lesion.name} needs {' or '.join(lesion.phases)}, this scan is {phase.phase}: {phase.reason}")
    health = healthy_organ(ct, organs, lesion.organ, report_text, rule)
    if not health.ok:
        reasons.append(health.reason)
    if lesion.organ == "kidney":
        reasons += _kidney_cysts(organs)
    return reasons


def _kidney_cysts(organs: OrganMap) -> list[str]:
    volume = organs.structure_mask("kidney_cyst_left", "kidney_cyst_right").sum() * voxel_volume_ml(organs.labels)
    return [f"the organ map itself outlines kidney cysts of {volume:.1f} ml"] if volume >= CYST_FROM_ML else []
