"""Resampling along an image's own axes with bounded memory: linear for intensities, per-label linear for label maps.

Both functions take, for each array axis, the continuous source index of every output sample; no rotation is involved. They work a few
output slices at a time, so that beside source and result only a small buffer is held.
"""

from __future__ import annotations

import itertools

import numpy as np

SLAB_VOXELS = 1 << 22  # output voxels computed at a time


def linear(array: np.ndarray, positions: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Trilinear samples of ``array`` (z, y, x) at the grid of ``positions`` (source indices per axis, clamped to the image).

    Computes in float32; returns the array's own type, integers rounded to nearest.
    """
    (z0, z1, wz), (y0, y1, wy), (x0, x1, wx) = [_neighbours(p, n) for p, n in zip(positions, array.shape)]
    out = np.empty(tuple(map(len, positions)), array.dtype)
    for k in _slabs(out.shape):
        slab = _mix(array[z0[k]].astype(np.float32), array[z1[k]], wz[k], 0)
        slab = _mix(slab.take(y0, 1), slab.take(y1, 1), wy, 1)
        slab = _mix(slab.take(x0, 2), slab.take(x1, 2), wx, 2)
        out[k] = np.rint(slab) if array.dtype.kind in "iu" else slab
    return out


def labels(array: np.ndarray, positions: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Label map ``array`` (z, y, x) sampled at ``positions``: each voxel gets the label whose linearly interpolated mask is largest.

    Ties go to the lower label. Never makes a value that its eight neighbours do not hold. Cost does not grow with the number of labels.
    """
    ends = [_neighbours(p, n) for p, n in zip(positions, array.shape)]
    out = np.empty(tuple(map(len, positions)), array.dtype)
    for k in _slabs(out.shape):
        low_z, high_z, weight_z = (a[k] for a in ends[0])
        slab = array[low_z][:, ends[1][0]][:, :, ends[2][0]]
        first, last = int(low_z.min()), int(high_z.max()) + 1
        mixed = _mixed_cells(array[first:last])[low_z - first][:, ends[1][0]][:, :, ends[2][0]]
        where = np.nonzero(mixed)
        if len(where[0]):
            axes = ((low_z, high_z, weight_z), ends[1], ends[2])
            slab[where] = _vote(array, [tuple(a[w] for a in axis) for axis, w in zip(axes, where)])
        out[k] = slab
    return out


def _slabs(shape: tuple[int, ...]) -> list[slice]:
    step = max(1, SLAB_VOXELS // max(1, shape[1] * shape[2]))
    return [slice(k, min(k + step, shape[0])) for k in range(0, shape[0], step)]


def _neighbours(positions: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper source index and the upper one's weight, per output sample."""
    inside = np.clip(np.asarray(positions, float), 0, count - 1)
    nearest = np.rint(inside)
    inside = np.where(
        np.abs(inside - nearest) < 1e-6, nearest, inside
    )  # a sample on a voxel centre takes that voxel alone
    low = np.minimum(inside.astype(np.intp), max(count - 2, 0))
    return low, np.minimum(low + 1, count - 1), (inside - low).astype(np.float32)


def _mix(low: np.ndarray, high: np.ndarray, weight: np.ndarray, axis: int) -> np.ndarray:
    if not weight.any():
        return low
    w = weight.reshape([-1 if a == axis else 1 for a in range(3)])
    return low + (high - low) * w


def _mixed_cells(array: np.ndarray) -> np.ndarray:
    """True at the lower corner of each 2x2x2 cell that holds more than one label (the last index of an axis stands for itself)."""
    low = high = array
    for axis in range(3):
        following = np.minimum(np.arange(array.shape[axis]) + 1, array.shape[axis] - 1)
        low, high = np.minimum(low, low.take(following, axis)), np.maximum(high, high.take(following, axis))
    return low != high


def _vote(array: np.ndarray, axes: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """Label with the largest trilinear weight at each of N points; ``axes``: (low, high, weight of high), each (N,), for z, y, x."""
    corners, weights = [], []
    for side in itertools.product((0, 1), repeat=3):
        corners.append(array[tuple(axis[s] for axis, s in zip(axes, side))])
        weights.append(np.prod([axis[2] if s else 1 - axis[2] for axis, s in zip(axes, side)], axis=0))
    best, score = corners[0], np.full(len(corners[0]), -1, np.float32)
    for label in corners:
        total = sum(w * (other == label) for other, w in zip(corners, weights))
        better = (total > score + 1e-6) | ((np.abs(total - score) <= 1e-6) & (label < best))
        best, score = np.where(better, label, best), np.where(better, total, score)
    return best
