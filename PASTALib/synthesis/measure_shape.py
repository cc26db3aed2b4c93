"""Shape of a lesion mask in millimetres: distance field, size, axes, sphericity, solidity, roughness, place on a wall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.special import ndtri

# Largest number of voxels on which the convex hull is counted; larger masks are subsampled first.
_HULL_VOXELS = 60_000
# Gaussian scale (mm) of the smooth surface that roughness is measured against: waves shorter than about 11 mm count.
_ROUGHNESS_SIGMA_MM = 3.5
# Gaussian scale, in the coarsest voxel size, from which the surface between voxels is read.
_SURFACE_SIGMA_VOXELS = 0.9


def signed_distance(mask: np.ndarray, spacing_zyx, in_plane: bool = False) -> np.ndarray:
    """Signed distance (mm, float32, negative inside) of voxel centres to the smooth surface behind the voxels of ``mask``.

    Near the surface it is read off the Gaussian-smoothed mask, which undoes the staircase (error about 0.1 voxel on
    balls), farther off it is the Euclidean distance. ``in_plane`` measures within each slice only; slices in which the
    mask is empty or full then hold values beyond ±1000 mm.
    """
    import SimpleITK as sitk

    mask = np.ascontiguousarray(mask, np.uint8)
    if not mask.any():
        return np.full(mask.shape, 1e4, np.float32)
    if mask.all():
        return np.full(mask.shape, -1e4, np.float32)
    spacing = np.asarray(spacing_zyx, float)
    sides = []
    for half in (mask, np.uint8(1) - mask):
        image = sitk.GetImageFromArray(half)
        image.SetSpacing([float(h) for h in spacing[:0:-1]] + [1e5 if in_plane else float(spacing[0])])
        sides.append(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True)))
    inside = mask.astype(bool)
    far = np.where(inside, -sides[1], sides[0])  # to the nearest voxel centre of the other side
    sigma = _SURFACE_SIGMA_VOXELS * float((spacing[1:] if in_plane else spacing).max())
    scale = sigma / spacing
    if in_plane:
        scale[0] = 0.0
    soft = ndimage.gaussian_filter(mask.astype(np.float32), scale, truncate=3.0)
    band = np.flatnonzero((soft > 0.02) & (soft < 0.98))
    if band.size == 0:
        return far
    near = -sigma * ndtri(soft.ravel()[band].astype(float))
    count = int(np.count_nonzero(inside.ravel()[band]))
    if 0 < count < near.size:  # smoothing a curved surface shifts it: keep the volume
        near -= np.partition(near, (count - 1, count))[count - 1 : count + 1].mean()
    out = far.ravel().copy()
    other = out[band]
    for side in (False, True):
        here = inside.ravel()[band] == side
        match = here & (np.abs(near) > 0.8 * sigma) & (np.abs(near) < 1.6 * sigma)
        shift = float(np.median(other[match] - near[match])) if match.any() else 0.0
        other[here] -= shift
        whole = inside.ravel() == side
        out[whole] -= np.float32(shift)
    share = np.clip((1.7 * sigma - np.abs(near)) / (0.5 * sigma), 0.0, 1.0)
    out[band] = share * near + (1.0 - share) * other
    return out.reshape(mask.shape)


def bounding_box(mask: np.ndarray, spacing_zyx=None, margin_mm: float = 0.0) -> tuple[slice, slice, slice]:
    """Slices (z, y, x) of the box round ``mask``, grown by ``margin_mm`` where the array allows. ValueError if empty."""
    grow = np.zeros(3, int) if spacing_zyx is None else np.ceil(margin_mm / np.asarray(spacing_zyx, float)).astype(int)
    box = []
    for axis in range(3):
        line = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if line.size == 0:
            raise ValueError("the lesion mask is empty: nothing to measure; give a mask with at least one voxel")
        box.append(slice(max(0, int(line[0]) - grow[axis]), min(mask.shape[axis], int(line[-1]) + 1 + grow[axis])))
    return tuple(box)


def size_zxy_mm(mask: np.ndarray, spacing_zyx) -> tuple[float, float, float]:
    """Extent of the bounding box in mm, in the order of the paper's size string (z, x, y)."""
    z, y, x = (float((s.stop - s.start) * float(h)) for s, h in zip(bounding_box(mask), spacing_zyx))
    return (z, x, y)


@dataclass(frozen=True)
class ShapeFigures:
    """Numbers behind the shape: mm, mm², mm³ and ratios. ``face_factor`` turns voxel-face area into surface area."""

    volume_mm3: float
    area_mm2: float
    sphericity: float
    solidity: float
    major_mm: float
    middle_mm: float
    minor_mm: float
    roughness_mm: float
    face_factor: float

    @property
    def axis_ratio(self) -> float:
        """Shortest over longest axis of the ellipsoid with the same second moments."""
        return self.minor_mm / max(self.major_mm, 1e-6)


def shape_figures(mask: np.ndarray, spacing_zyx) -> ShapeFigures:
    """Size-independent shape of ``mask`` (bool, z y x).

    Surface area is SimpleITK's Crofton estimate (13 directions; within 1 % on digital balls of at least 5 voxels across,
    thick slices included), axes come from the second moments of the voxel boxes, solidity counts the grid points of the
    convex hull, so that every convex body reads 1 on every grid.
    """
    import SimpleITK as sitk

    spacing = np.asarray(spacing_zyx, float)
    mask = np.pad(mask[bounding_box(mask)], 1)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing([float(s) for s in spacing[::-1]])
    stats = sitk.LabelShapeStatisticsImageFilter()
    stats.ComputePerimeterOn()
    stats.Execute(image)
    area = float(stats.GetPerimeter(1))
    count = int(np.count_nonzero(mask))
    volume = count * float(np.prod(spacing))
    sphericity = float(np.clip(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / max(area, 1e-6), 0.0, 1.0))
    faces = sum(
        np.count_nonzero(np.diff(mask.astype(np.int8), axis=axis)) * np.prod(np.delete(spacing, axis))
        for axis in range(3)
    )
    minor, middle, major = (float(a) for a in _axes(mask, spacing))
    return ShapeFigures(
        volume_mm3=volume,
        area_mm2=area,
        sphericity=sphericity,
        solidity=_solidity(mask),
        major_mm=major,
        middle_mm=middle,
        minor_mm=minor,
        roughness_mm=_roughness(mask, spacing),
        face_factor=area / max(float(faces), 1e-6),
    )


def _axes(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Axis lengths (minor, middle, major; mm) of the ellipsoid with the second moments of the voxel boxes."""
    points = np.argwhere(mask[:: 1 + mask.shape[0] // 128, :: 1 + mask.shape[1] // 128, :: 1 + mask.shape[2] // 128])
    steps = 1 + np.array(mask.shape) // 128
    if len(points) == 0:
        points, steps = np.argwhere(mask), np.ones(3)
    points = points * (spacing * steps)
    centred = points - points.mean(0)
    covariance = centred.T @ centred / len(points) + np.diag((spacing * steps) ** 2 / 12.0)
    return 2.0 * np.sqrt(5.0 * np.clip(np.linalg.eigvalsh(covariance), 0.0, None))


def _solidity(mask: np.ndarray) -> float:
    """Voxels of ``mask`` over grid points inside the convex hull of their centres; 1 where there is no hull."""
    step = 1
    while np.prod(np.ceil(np.array(mask.shape) / step)) > _HULL_VOXELS:
        step += 1
    mask = mask[::step, ::step, ::step]
    ends = mask & ~(np.roll(mask, 1, 2) & np.roll(mask, -1, 2))  # the ends of each row span the hull
    points = np.argwhere(ends)
    if len(points) < 8:
        return 1.0
    try:
        hull = ConvexHull(points)
    except QhullError:  # flat: one slice thick
        return 1.0
    a, b = hull.equations[:, :3], hull.equations[:, 3]
    z, y = (g.ravel() for g in np.mgrid[: mask.shape[0], : mask.shape[1]])
    right = np.full(z.size, float(mask.shape[2]))
    left = np.full(z.size, -1.0)
    ok = np.ones(z.size, bool)
    rest = a[:, 0, None] * z + a[:, 1, None] * y + b[:, None]
    ax = a[:, 2]
    up, down, level = ax > 1e-9, ax < -1e-9, np.abs(ax) <= 1e-9
    right = np.minimum(right, (-rest[up] / ax[up, None]).min(0)) if up.any() else right
    left = np.maximum(left, (-rest[down] / ax[down, None]).max(0)) if down.any() else left
    ok &= (rest[level] <= 1e-6).all(0) if level.any() else True
    inside = np.floor(right + 1e-6) - np.ceil(left - 1e-6) + 1
    total = float(np.clip(inside, 0, None)[ok].sum())
    return float(min(1.0, np.count_nonzero(mask) / max(total, 1.0)))


def _roughness(mask: np.ndarray, spacing: np.ndarray) -> float:
    """SD (mm) of the surface round its own Gaussian-smoothed version: short waves only, staircase taken off."""
    steps = np.maximum(1, np.floor(1.2 / spacing)).astype(int) if mask.size > 150_000 else np.ones(3, int)
    spacing = spacing * steps
    pad = np.ceil(2 * _ROUGHNESS_SIGMA_MM / spacing).astype(int)
    mask = np.pad(mask[:: steps[0], :: steps[1], :: steps[2]], [(p, p) for p in pad])
    smooth = ndimage.gaussian_filter(mask.astype(np.float32), _ROUGHNESS_SIGMA_MM / spacing, truncate=2.5)
    values = []
    for axis in range(3):
        if spacing[axis] > 1.6 * spacing.min():
            continue  # steps between thick slices are not roughness
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        low, high = tuple(low), tuple(high)
        edge = mask[low] != mask[high]
        values.append(0.5 * (smooth[low][edge] + smooth[high][edge]))
    level = np.concatenate(values)
    if level.size < 12:
        return 0.0
    deviation = _ROUGHNESS_SIGMA_MM * ndtri(np.clip(level, 0.02, 0.98))
    staircase = float(np.sort(spacing)[:2].mean()) ** 2 / 12.0
    return float(np.sqrt(max(0.0, float(np.var(deviation)) - staircase)))


@dataclass(frozen=True)
class WallFigures:
    """How a lesion sits on the wall of a hollow organ (mm and fractions)."""

    thickness_mm: float
    depth_mm: float
    elongation: float
    lumen_contact: float
    lumen_enclosed: float


def wall_figures(
    mask: np.ndarray, organ: np.ndarray, distance: np.ndarray, depth: np.ndarray, major_mm: float
) -> WallFigures:
    """Thickness, median distance to the organ's outer surface, elongation along the wall, and what lumen is left.

    ``organ`` (bool) is the hollow organ with its lumen; ``distance`` the signed distance (mm) to the lesion and ``depth``
    the distance (mm, positive inside) to the outer surface of organ and lesion together. ``lumen_contact`` is the share
    of the lesion's voxel faces that look into the rest of the organ, ``lumen_enclosed`` the rest of the organ inside the
    lesion's box ends, as a share of the lesion's volume.
    """
    thickness = 2.0 * float(-distance[mask].min())
    rest = organ & ~mask
    contact = total = 0
    for axis in range(3):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        low, high = tuple(low), tuple(high)
        total += np.count_nonzero(mask[low] != mask[high])
        contact += np.count_nonzero((mask[low] & rest[high]) | (rest[low] & mask[high]))
    box = bounding_box(mask)
    enclosed = _enclosed(mask[box], rest[box])
    return WallFigures(
        thickness_mm=thickness,
        depth_mm=float(np.median(depth[mask])),
        elongation=float(major_mm / max(thickness, 1e-6)),
        lumen_contact=float(contact / max(total, 1)),
        lumen_enclosed=float(enclosed / max(np.count_nonzero(mask), 1)),
    )


def _enclosed(mask: np.ndarray, rest: np.ndarray) -> int:
    """Voxels of ``rest`` that have lesion on both sides along at least two of the three axes."""
    votes = np.zeros(mask.shape, np.uint8)
    for axis in range(3):
        before = np.maximum.accumulate(mask, axis=axis)
        after = np.flip(np.maximum.accumulate(np.flip(mask, axis), axis=axis), axis)
        votes += before & after
    return int(np.count_nonzero(rest & (votes >= 2)))
