"""Cubes cut from a scan for the networks: round a point for attributes and features, round a region for detection. numpy only.

Both lie along the scan's own axes, permuted and flipped to the closest of Left, Posterior and Superior as ``volume.to_canonical`` does;
nothing is rotated. Only the part of the scan under the cube is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..volume import Volume, to_canonical

AIR_HU = -1000.0
_LETTERS = ("LR", "PA", "SI")  # for image axes x, y, z, the canonical direction first
_EDGE = 1e-4  # voxels; a sample this close beyond the last voxel still belongs to it, whichever way the axis runs
_BLUR_FROM = 1.5  # voxels per sample above which a region is averaged rather than sampled
_SLAB_VOXELS = 1 << 22  # voxels read at a time


def lesion_crop(
    ct: Volume,
    centre_ras: Sequence[float],
    *,
    side: int = 96,
    spacing_mm: float = 1.0,
    orientation: str = "LPS",
) -> np.ndarray:
    """HU, float32 ``(side, side, side)`` in (z, y, x): the cube of ``side`` voxels of ``spacing_mm`` whose middle is the point in RAS mm.

    ``orientation``: where x, y and z run to. Values are trilinear between voxel centres and constant in the outer half of the scan's border
    voxels; beyond, there is air (-1000 HU). There is no smoothing before sampling: a scan finer than ``spacing_mm`` is sampled as in
    ``to_canonical``, which is right for the usual 0.6 mm pixels at 1 mm but would alias at several times the voxel size.

    InputError for a point that is none, an unknown orientation, and a cube that does not touch the scan.
    """
    centre = as_point(centre_ras)
    order, flipped = _axes(ct, orientation)
    index, step = ct.to_index(centre), spacing_mm / ct.spacing_zyx_mm
    offsets = np.arange(side) - (side - 1) / 2
    axes = []
    for axis, flip in zip(order, flipped):
        count = ct.array.shape[axis]
        positions = index[axis] + (-offsets if flip else offsets) * step[axis]
        axes.append(_Axis.of(positions, count, (-0.5, count - 0.5)))
    if any(axis is None for axis in axes):
        raise InputError(
            f"the {side * spacing_mm:g} mm cube round {_text(centre)} does not touch the scan, which covers {extent(ct)}"
        )
    return _sample(ct.array.transpose(order), axes)


def region_crop(
    ct: Volume,
    mask_or_box: np.ndarray | tuple[slice, slice, slice],
    *,
    side: int = 128,
    margin_mm: float = 24.0,
    spacing_mm: float = 1.0,
    orientation: str = "LPS",
) -> np.ndarray:
    """HU, float32 ``(side, side, side)`` in (z, y, x): the box round a region, ``margin_mm`` wider on every side, in the middle of a cube.

    ``mask_or_box``: array (z, y, x) on the scan's grid, positive inside the region, or three slices. The box ends at the scan's border; the
    rest of the cube is air. A box that fits is sampled at ``spacing_mm``; a larger one is shrunk until its longest side fits, by the same
    factor along all axes, averaging over the voxels that fall into one sample where these are more than 1.5.

    InputError for a mask on another grid and an empty mask or box.
    """
    box = _box(ct, mask_or_box)
    order, flipped = _axes(ct, orientation)
    spacing, shape = ct.spacing_zyx_mm, ct.array.shape
    low = np.array([max(-0.5, s.start - 0.5 - margin_mm / d) for s, d in zip(box, spacing)])
    high = np.array([min(n - 0.5, s.stop - 0.5 + margin_mm / d) for s, d, n in zip(box, spacing, shape)])
    sample_mm = max(spacing_mm, float(((high - low) * spacing).max()) / side)
    step, middle = sample_mm / spacing, (low + high) / 2
    offsets = np.arange(side) - (side - 1) / 2
    axes = []
    for axis, flip in zip(order, flipped):
        positions = middle[axis] + (-offsets if flip else offsets) * step[axis]
        blur = step[axis] if step[axis] > _BLUR_FROM else 1.0
        axes.append(_Axis.of(positions, shape[axis], (low[axis], high[axis]), blur))
    if any(axis is None for axis in axes):
        raise InputError(f"the region is less than one sample of {sample_mm:g} mm wide; use a larger margin")
    return _sample(ct.array.transpose(order), axes)


def as_point(values: Sequence[float]) -> np.ndarray:
    """Three finite numbers, float (3,); InputError otherwise."""
    try:
        point = np.asarray(values, float)
    except (TypeError, ValueError):
        point = np.empty(0)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise InputError(f"{values!r} is not a position; give three numbers R, A, S in mm")
    return point


def check_inside(ct: Volume, point_ras: Sequence[float], name: str = "the point") -> None:
    """InputError with the range of the scan when a point in RAS mm lies in none of its voxels."""
    index = ct.to_index(as_point(point_ras))
    if (index < -0.5 - _EDGE).any() or (index > np.array(ct.array.shape) - 0.5 + _EDGE).any():
        raise InputError(f"{name} {_text(point_ras)} lies outside the scan, which covers {extent(ct)}")


def extent(ct: Volume) -> str:
    """``"R -120 to 130, A -90 to 160, S 10 to 480 mm"``: the smallest upright box round the scan's voxel centres."""
    last = np.array(ct.array.shape) - 1
    corners = ct.to_ras(np.stack(np.meshgrid(*((0, n) for n in last), indexing="ij"), -1).reshape(-1, 3))
    ranges = zip("RAS", corners.min(axis=0), corners.max(axis=0))
    return ", ".join(f"{letter} {low:.0f} to {high:.0f}" for letter, low, high in ranges) + " mm"


def _text(point: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in point)


def _axes(ct: Volume, orientation: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """The scan's array axis behind each axis (z, y, x) of the cube, and whether it runs the other way."""
    if len(orientation) != 3 or any(letter not in pair for letter, pair in zip(orientation, _LETTERS)):
        raise InputError(f"orientation {orientation!r} is not known; give L or R, P or A, S or I, such as LPS")
    one_voxel = to_canonical(Volume(np.zeros((1, 1, 1), np.int16), ct.affine))  # its axes are found in one place
    other = [letter != pair[0] for letter, pair in zip(orientation, _LETTERS)][::-1]
    return one_voxel.order, tuple(a != b for a, b in zip(one_voxel.flipped, other))


def _box(ct: Volume, mask_or_box: np.ndarray | tuple[slice, slice, slice]) -> tuple[slice, slice, slice]:
    """Three non-empty slices within the scan."""
    shape = ct.array.shape
    if isinstance(mask_or_box, np.ndarray):
        if mask_or_box.shape != shape:
            raise InputError(f"region mask of shape {mask_or_box.shape}; wanted the scan's, {shape}")
        mask = mask_or_box > 0
        found = [np.flatnonzero(mask.any(axis=tuple(o for o in range(3) if o != axis))) for axis in range(3)]
        if not len(found[0]):
            raise InputError("the region is empty; give a mask with at least one voxel")
        return tuple(slice(int(where[0]), int(where[-1]) + 1) for where in found)
    bounds = [part.indices(n) for part, n in zip(mask_or_box, shape)]
    if len(bounds) != 3 or any(step != 1 or stop <= start for start, stop, step in bounds):
        raise InputError(
            f"box {mask_or_box} holds nothing of a scan of shape {shape}; give three slices (z, y, x) within it"
        )
    return tuple(slice(start, stop) for start, stop, _ in bounds)


@dataclass(frozen=True)
class _Axis:
    """Sampling along one axis: voxels of ``part`` and their ``weights``, both (taps, samples); weights of samples ``outside`` are 0."""

    voxels: np.ndarray
    weights: np.ndarray
    part: slice
    outside: np.ndarray

    @classmethod
    def of(cls, positions: np.ndarray, count: int, limits: tuple[float, float], blur: float = 1.0) -> _Axis | None:
        """Linear interpolation at ``positions`` (voxel indices) within ``limits``; with ``blur`` above 1 a triangle of that many voxels
        to each side. None when no position lies within. In float64, so that a mirrored scan gives the same values.
        """
        outside = (positions < limits[0] - _EDGE) | (positions > limits[1] + _EDGE)
        if outside.all():
            return None
        at = np.clip(positions, 0, count - 1)
        voxels = np.floor(at - blur).astype(int) + 1 + np.arange(int(np.ceil(2 * blur)))[:, None]
        weights = np.maximum(0, 1 - np.abs(at - voxels) / blur)
        weights[(voxels < 0) | (voxels >= count) | outside] = 0
        weights[:, ~outside] /= weights[:, ~outside].sum(axis=0)
        used = voxels[weights > 0]
        first, last = int(used.min()), int(used.max())
        return cls(np.clip(voxels, first, last) - first, weights, slice(first, last + 1), outside)

    def apply(self, array: np.ndarray, axis: int) -> np.ndarray:
        """float64 samples of ``array``, which is cut to ``part`` along ``axis``."""
        shape = [-1 if other == axis else 1 for other in range(3)]
        total: np.ndarray | float = 0.0
        for voxels, weights in zip(self.voxels, self.weights):
            if weights.any():
                total = total + array.take(voxels, axis) * weights.reshape(shape)
        return total


def _sample(array: np.ndarray, axes: Sequence[_Axis]) -> np.ndarray:
    """float32 samples; the source is read a few planes at a time."""
    z, y, x = axes
    source = array[z.part, y.part, x.part]
    planes = np.empty((len(source), len(y.outside), len(x.outside)))
    step = max(1, _SLAB_VOXELS // (source.shape[1] * source.shape[2]))
    for k in range(0, len(source), step):
        planes[k : k + step] = x.apply(y.apply(source[k : k + step], 1), 2)
    cube = z.apply(planes, 0).astype(np.float32)
    cube[z.outside] = AIR_HU
    cube[:, y.outside] = AIR_HU
    cube[:, :, x.outside] = AIR_HU
    return cube
