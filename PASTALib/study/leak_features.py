"""What the voxels of an exported case say apart from its lesion: edges of the image, noise, compressibility, values."""

from __future__ import annotations

import zlib

import numpy as np
from scipy import ndimage

from .export import ExportGrid

_BLOCK = 8
_TISSUE_HU = (-200, 300)
_MARGIN = 2


def voxel_features(array: np.ndarray, half: tuple[int, ...], lesion_box: list, grid: ExportGrid) -> dict[str, float]:
    """Numbers from an exported array (z, y, x; int16 HU) without the region of the lesion.

    half: half size (z, y, x) of the region left out around the centre. lesion_box: [start, stop] by axis of this lesion, left out as well.
    """
    outside = np.ones(array.shape, bool)
    outside[tuple(slice(max(0, n // 2 - h), n // 2 + h + 1) for n, h in zip(array.shape, half))] = False
    outside[tuple(slice(max(0, start - _MARGIN), stop + _MARGIN) for start, stop in lesion_box)] = False
    blank = np.where(outside, array, 0).astype("<i2")
    values = array[outside]
    row = {"compressed size": len(zlib.compress(blank.tobytes(), 1))}
    row |= _border(array, grid)
    row |= {
        "mean outside": values.mean(),
        "spread outside": values.std(),
        "different values outside": len(np.unique(values)),
        "even values outside": (values % 2 == 0).mean(),
        "lowest value share": (values == grid.clip_hu[0]).mean(),
        "highest value share": (values == grid.clip_hu[1]).mean(),
    }
    row |= {
        f"percentile {p} outside": value
        for p, value in zip((5, 25, 50, 75, 95), np.percentile(values, (5, 25, 50, 75, 95)))
    }
    return {name: float(value) for name, value in (row | _noise(array, outside)).items()}


def _border(array: np.ndarray, grid: ExportGrid) -> dict[str, float]:
    row = {}
    for axis, name in enumerate(("foot", "front", "right")):
        for end, face in ((0, np.take(array, 0, axis)), (-1, np.take(array, -1, axis))):
            label = name if end == 0 else {"foot": "head", "front": "back", "right": "left"}[name]
            row[f"{label} face mean"] = face.mean()
            row[f"{label} face spread"] = face.std()
            row[f"{label} face padding"] = (face == grid.clip_hu[0]).mean()
    return row


def _noise(array: np.ndarray, outside: np.ndarray) -> dict[str, float]:
    """Noise away from the lesion: spread of second differences along each axis, its likeness between neighbours, quiet blocks."""
    row = {}
    image = array.astype(np.float32)
    tissue = outside & (array > _TISSUE_HU[0]) & (array < _TISSUE_HU[1])
    for axis, name in enumerate("zyx"):
        first = [slice(None)] * 3
        parts = []
        for shift in range(3):
            first[axis] = slice(shift, array.shape[axis] - 2 + shift)
            parts.append((image[tuple(first)], tissue[tuple(first)]))
        inside = parts[0][1] & parts[1][1] & parts[2][1]
        second = (parts[0][0] - 2 * parts[1][0] + parts[2][0])[inside]
        step = (parts[1][0] - parts[0][0])[inside]
        row[f"noise along {name}"] = _mad(second)
        row[f"step along {name}"] = _mad(step)
        row[f"smoothness along {name}"] = _mad(second) / max(_mad(step), 1e-3)
    mean = ndimage.uniform_filter(image, 3)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(image * image, 3) - mean * mean, 0))
    centres = tuple(slice(_BLOCK // 2, None, _BLOCK) for _ in range(3))
    quiet = spread[centres][tissue[centres]]
    lows = np.percentile(quiet, (5, 25, 50)) if len(quiet) else (0, 0, 0)
    return row | {f"noise of quiet places {p} %": value for p, value in zip((5, 25, 50), lows)}


def _mad(values: np.ndarray) -> float:
    return float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0
