"""Is an organ map plausible, and what is the place of a point in an organ called."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from .. import taxonomy
from ..errors import InputError
from ..volume import Volume, same_grid
from . import organ_classes as classes
from .organ_map import OrganMap

# Population bands (mean ± 6 SD) of an organ's median HU, from the quality control of NVIDIA's MAISI (NV-Generate-CTMR, Apache-2.0).
MEDIAN_HU_BANDS: dict[str, tuple[float, float]] = {
    "lung": (-1089, -552),
    "liver": (-22, 156),
    "pancreas": (-57, 150),
    "kidney": (-131, 267),
    "bone": (71, 472),
}
_EDGE_SHARE = 0.02  # a scan border that cuts through more of an organ's bounding box than this is reported


def require_grid(ct: Volume, labels: Volume, source: object) -> None:
    """InputError unless ``labels`` lies on the CT's grid; ``source`` names the map in the message."""
    difference = same_grid(ct, labels)
    if difference:
        raise InputError(
            f"{source}: not on the CT's grid ({difference}). Choose the map made from this CT, or resample it to the CT (nearest neighbour)"
        )


def check_organs(ct: Volume, organs: OrganMap) -> list[str]:
    """Warnings about an organ map, in words: implausible median HU, organs cut by the scan's border, no organ at all.

    ``ct`` in HU on the map's grid (InputError otherwise). An empty list means that nothing looked wrong.
    """
    require_grid(ct, organs.labels, "organ map")
    labels = organs.labels.array
    boxes = _boxes(labels)
    if not boxes:
        return ["the organ map is empty"]
    warnings = []
    for organ in taxonomy.ORGANS:
        box = boxes.get(organ.value)
        if box is None:
            continue
        inside = labels[box] == organ.value
        warnings += _hu_warning(organ, ct.array[box][inside])
        warnings += _border_warning(organ, box, inside, organs.labels)
    return warnings


def _hu_warning(organ: taxonomy.Organ, values: np.ndarray) -> list[str]:
    low, high = MEDIAN_HU_BANDS.get(organ.key, (-np.inf, np.inf))
    median = float(np.median(values))
    if low <= median <= high:
        return []
    return [
        f"{organ.name}: median {median:.0f} HU, expected {low:.0f} to {high:.0f} HU; check that CT and organ map belong together"
    ]


def _border_warning(organ: taxonomy.Organ, box: tuple[slice, ...], inside: np.ndarray, labels: Volume) -> list[str]:
    """Which borders cut the organ; the skeleton always leaves the scan, so bone is not reported."""
    if organ.key == "bone":
        return []
    sides = []
    for axis in range(3):
        for end, reached in ((0, box[axis].start == 0), (-1, box[axis].stop == labels.array.shape[axis])):
            if reached and np.take(inside, end, axis=axis).mean() > _EDGE_SHARE:
                sides.append(_border_name(labels.affine, axis, end))
    return [f"{organ.name} reaches the {' and '.join(sides)} end of the scan and may be incomplete"] if sides else []


def _border_name(affine: np.ndarray, axis: int, end: int) -> str:
    """Anatomical name of one end of an array axis (z, y, x)."""
    direction = affine[:3, 2 - axis] * (1 if end == -1 else -1)
    main = int(np.argmax(np.abs(direction)))
    return (("left", "right"), ("posterior", "anterior"), ("lower", "upper"))[main][int(direction[main] > 0)]


def _boxes(labels: np.ndarray) -> dict[int, tuple[slice, ...]]:
    """Bounding box per label value, in voxels."""
    return {value: box for value, box in enumerate(ndimage.find_objects(labels), start=1) if box is not None}


# --- where in the organ ----------------------------------------------------------------------------------------------

_NEAR_MM = 15.0  # a lesion centre may lie this far outside the segmented class and still be called by it


def location_detail(organs: OrganMap, organ_key: str, center_ras: Sequence[float]) -> str:
    """Name of the place of a lesion in its organ: "Right upper lobe of the lung", "Left kidney", "L3 vertebra", "Left 7th rib", "Liver".

    ``center_ras`` in mm. The nearest class of the organ within 15 mm decides; without structures paired organs get a side from the
    midline of the skeleton, of the organ's two halves or of the scan (in that order). Single organs keep their name.
    """
    organ = taxonomy.organ(organ_key)
    center = np.asarray(center_ras, float)
    name = _nearest_class(organs, organ_key, center)
    if name:
        return classes.place_name(name)
    if organ_key in ("lung", "kidney"):
        side = "Right" if center[0] > _midline_mm(organs, organ) else "Left"
        return f"{side} {organ.name.lower()}"
    return organ.name


def _nearest_class(organs: OrganMap, organ_key: str, center: np.ndarray) -> str | None:
    """Nearest paired or numbered class of the organ around ``center`` (RAS mm), None if the map does not divide the organ."""
    own = {value: name for value, name in organs.structure_names.items() if classes.organ_key(name) == organ_key}
    if organs.structures is None or not own or organ_key not in ("lung", "kidney", "bone"):
        return None
    volume = organs.structures
    index = volume.to_index(center)
    reach = _NEAR_MM / volume.spacing_zyx_mm
    low = np.maximum(np.floor(index - reach).astype(int), 0)
    high = np.minimum(np.ceil(index + reach).astype(int) + 1, volume.array.shape)
    if (low >= high).any():
        return None
    block = volume.array[tuple(slice(a, b) for a, b in zip(low, high))]
    voxels = np.argwhere(np.isin(block, list(own)))
    if not len(voxels):
        return None
    distance = np.linalg.norm((voxels + low - index) * volume.spacing_zyx_mm, axis=1)
    nearest = int(distance.argmin())
    return own[int(block[tuple(voxels[nearest])])] if distance[nearest] <= _NEAR_MM else None


def _midline_mm(organs: OrganMap, organ: taxonomy.Organ) -> float:
    """RAS x of the body's midline: median of the bones, else the middle of the organ's two halves, else of the scan."""
    volume = organs.labels
    step = np.maximum(1, np.array(volume.array.shape) // 96)
    coarse = volume.array[tuple(slice(None, None, int(s)) for s in step)]
    bone = np.argwhere(coarse == taxonomy.organ("bone").value)
    if len(bone) >= 50:
        return float(np.median(volume.to_ras(bone * step)[:, 0]))
    middle = float(volume.to_ras((np.array(volume.array.shape) - 1) / 2)[0])
    own = np.argwhere(coarse == organ.value)
    if len(own) < 10:
        return middle
    x = volume.to_ras(own * step)[:, 0]
    right = float((x > middle).mean())
    return float((x.min() + x.max()) / 2) if 0.15 < right < 0.85 else middle
