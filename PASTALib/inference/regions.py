"""The separate regions of any mask: where they are and how large; for work that asks for no lesion type. numpy and scipy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..volume import Volume

MIN_SIZE_MM = 3.0
_CONNECTED = np.ones((3, 3, 3), bool)  # 26-connected


@dataclass(frozen=True)
class Region:
    """``value`` of the mask, ``centre_ras`` a point inside in RAS mm, ``volume_ml``, ``box`` slices (z, y, x) of the mask's grid."""

    value: int
    centre_ras: tuple[float, float, float]
    volume_ml: float
    box: tuple[slice, slice, slice]


def find_regions(labels: Volume, values: Sequence[int], min_size_mm: float = MIN_SIZE_MM) -> tuple[list[Region], int]:
    """The 26-connected parts of each of ``values`` whose volume is at least that of a ball of ``min_size_mm``, by value, then largest
    first; and how many smaller ones were left out.

    The centre is the centroid, or the voxel of the region nearest to it where the centroid lies outside. InputError when none is left.
    """
    boxes = ndimage.find_objects(labels.array)
    voxel_mm3 = float(abs(np.linalg.det(labels.affine[:3, :3])))
    least_mm3 = np.pi / 6 * min_size_mm**3
    regions, small = [], []
    for value in sorted(set(values)):
        box = boxes[value - 1] if value <= len(boxes) else None
        if box is None:
            continue
        numbered, _ = ndimage.label(labels.array[box] == value, _CONNECTED)
        sizes = np.bincount(numbered.ravel())
        parts = ndimage.find_objects(numbered)
        for number in 1 + np.argsort(-sizes[1:], kind="stable"):
            volume_mm3 = float(sizes[number] * voxel_mm3)
            if volume_mm3 < least_mm3 * (1 - 1e-9):
                small.append(volume_mm3)
                continue
            inner = parts[number - 1]
            whole = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, inner))
            centre = _centre(numbered[inner] == number, labels.spacing_zyx_mm) + [side.start for side in whole]
            ras = tuple(round(float(x), 4) for x in labels.to_ras(centre))
            regions.append(Region(int(value), ras, volume_mm3 / 1000, whole))
    if not regions:
        largest = f"; the largest has {(6 / np.pi * max(small)) ** (1 / 3):.2g} mm" if small else ""
        raise InputError(
            f"no region of at least {min_size_mm:g} mm (diameter of a ball of the same volume) in the mask{largest}"
        )
    return regions, len(small)


def _centre(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Index (z, y, x) of the centroid, or of the voxel nearest to it where the centroid lies outside."""
    points = np.argwhere(mask)
    middle = points.mean(axis=0)
    if mask[tuple(np.rint(middle).astype(int))]:
        return middle
    apart = (((points - middle) * spacing) ** 2).sum(axis=1)
    return points[int(np.argmin(np.round(apart, 9)))].astype(float)
