"""Euclidean distance to the surface of a mask, fast enough for every lesion: SimpleITK's multi-threaded Maurer map."""

from __future__ import annotations

import numpy as np

FAR_MM = 1e3  # where the mask has no surface


def _to_border(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Distance (mm) from every voxel outside ``mask`` to the nearest voxel centre of ``mask``; not positive inside."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing([float(s) for s in np.asarray(spacing)[::-1]])
    return sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True))


def interior_distance(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Depth (mm, float32) of every voxel of ``mask`` (z, y, x) below its surface, 0 outside; exact to half a voxel.

    The surface lies half a voxel before the nearest outside voxel. The array's border is no surface.
    """
    if mask.all():
        return np.full(mask.shape, FAR_MM, np.float32)
    half = np.float32(0.5 * float(np.min(spacing)))
    return np.where(mask, _to_border(~mask, spacing) - half, 0).astype(np.float32)


def exterior_distance(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Distance (mm, float32) of every voxel outside ``mask`` to its surface, 0 inside; 1000 everywhere for an empty mask."""
    if not mask.any():
        return np.full(mask.shape, FAR_MM, np.float32)
    half = np.float32(0.5 * float(np.min(spacing)))
    return np.maximum(_to_border(mask, spacing) - half, 0).astype(np.float32, copy=False)


def signed_distance(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Signed distance (mm, float32) to the surface of ``mask``, positive inside; ±1000 where the mask is full or empty."""
    if not mask.any():
        return np.full(mask.shape, -FAR_MM, np.float32)
    if mask.all():
        return np.full(mask.shape, FAR_MM, np.float32)
    half = np.float32(0.5 * float(np.min(spacing)))
    return np.where(mask, _to_border(~mask, spacing) - half, half - _to_border(mask, spacing)).astype(np.float32)
