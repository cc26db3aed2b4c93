"""Label arrays of any geometry on the grid of a CT: pasted where the grids coincide, resampled where they do not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..anatomy.organ_map import present_values
from ..volume import Volume

RESAMPLED = "resampled to the grid of the CT (nearest neighbour)"
_OFF_GRID_VOXELS = 1e-2  # by which a corner may lie off the CT's grid and still count as on it

# Slices of the CT's grid, and the labels that lie there.
Placed = tuple[tuple[slice, slice, slice], np.ndarray]


def placed(array: np.ndarray, affine: np.ndarray, ct: Volume, notes: list[str] | None = None) -> Placed:
    """Where labels (z, y, x) with ``affine`` (i, j, k to world RAS mm) lie on the grid of ``ct``; possibly nowhere.

    A remark is appended to ``notes`` (once) when they had to be resampled, by nearest neighbour.
    """
    mapping = np.linalg.inv(affine) @ ct.affine  # (i, j, k) of the CT to those of the labels
    offset = np.rint(mapping[:3, 3]).astype(int)
    drift = np.abs(mapping[:3, :3] - np.eye(3)) @ np.array(ct.array.shape[::-1]) + np.abs(mapping[:3, 3] - offset)
    if (drift <= _OFF_GRID_VOXELS).all():
        here, there = _overlap(ct.array.shape, array.shape, offset[::-1])
        return here, array[there]
    if notes is not None and RESAMPLED not in notes:
        notes.append(RESAMPLED)
    return (slice(None),) * 3, _resampled(array, mapping, ct.array.shape)


def paint(target: np.ndarray, source: Placed, lut: np.ndarray) -> None:
    """Write ``lut[label]`` into ``target`` (the CT's grid) wherever that is not 0."""
    here, labels = source
    for plane, found in zip(target[here], labels):
        if found.any():
            found = lut[found]
            np.copyto(plane, found, where=found > 0)


def lut_size(array: np.ndarray, values: Iterable[int]) -> int:
    """Entries that a look-up table for these labels needs."""
    return 256 if array.dtype == np.uint8 else max([int(array.max(initial=0)), *values]) + 1


def present(labels: np.ndarray) -> set[int]:
    """The values of a label array of any unsigned type, 0 included; one slice at a time, because large arrays take much memory else."""
    if labels.dtype == np.uint8:
        return set(present_values(labels).tolist())
    found: set[int] = set()
    for plane in labels:
        found.update(np.unique(plane).tolist())
    return found


def _overlap(shape, other, offset) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of two arrays that lie on each other: index i of the first is i + offset of the second."""
    here, there = [], []
    for n, m, shift in zip(shape, other, offset):
        low = int(min(max(0, -shift), n))
        high = int(max(low, min(n, m - shift)))
        here.append(slice(low, high))
        there.append(slice(low + int(shift), high + int(shift)))
    return tuple(here), tuple(there)


def _resampled(array: np.ndarray, mapping: np.ndarray, shape) -> np.ndarray:
    """Nearest neighbours; both images are given in their own indices, so that any affine between them will do."""
    import SimpleITK as sitk

    whole = array if array.dtype.kind in "iu" else array.astype(np.uint16)
    image = sitk.GetImageFromArray(np.ascontiguousarray(whole))
    transform = sitk.AffineTransform(mapping[:3, :3].ravel().tolist(), mapping[:3, 3].tolist())
    size = [int(n) for n in shape[::-1]]
    straight = np.eye(3).ravel().tolist()
    done = sitk.Resample(
        image, size, transform, sitk.sitkNearestNeighbor, (0.0,) * 3, (1.0,) * 3, straight, 0.0, image.GetPixelID()
    )
    return sitk.GetArrayFromImage(done)
