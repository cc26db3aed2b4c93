"""One identical export of every case, so that nothing but the image differs: same grid, range, bytes of header, size and time stamp.

The exported volume is centred on the lesion, whose centre becomes the world's origin: neither header nor pointer can then tell cases apart.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..volume import Volume, crop, read_volume, same_grid
from .pools import PoolCase

FILE_TIME_S = 946_684_800  # 2000-01-01 00:00 UTC, given to every file of a study
CLIP_HU = (
    -1000,
    2000,
)  # what scanners write as padding (-1024, -2048, -3024) and as metal would tell where an image comes from
SMALLEST, LARGEST = 16, 512


@dataclass(frozen=True)
class ExportGrid:
    """The grid of all cases: ``shape_zyx`` voxels of ``spacing_mm`` (z, y, x), values clipped to ``clip_hu``."""

    shape_zyx: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    clip_hu: tuple[int, int] = CLIP_HU

    def __post_init__(self) -> None:
        if len(self.shape_zyx) != 3 or not all(SMALLEST <= n <= LARGEST for n in self.shape_zyx):
            raise InputError(
                f"export shape {tuple(self.shape_zyx)}; give three numbers (z, y, x) from {SMALLEST} to {LARGEST}"
            )
        if len(self.spacing_mm) != 3 or not all(0.2 <= s <= 10 for s in self.spacing_mm):
            raise InputError(f"export spacing {tuple(self.spacing_mm)}; give three numbers (z, y, x) from 0.2 to 10 mm")

    @property
    def extent_mm(self) -> tuple[float, ...]:
        return tuple(n * s for n, s in zip(self.shape_zyx, self.spacing_mm))

    @property
    def bytes_per_case(self) -> int:
        return len(self.header()) + 2 * int(np.prod(self.shape_zyx))

    def header(self) -> bytes:
        """The NRRD header: the same for every case of a study."""
        sizes = self.shape_zyx[::-1]
        spacing = self.spacing_mm[::-1]
        origin = [-(n // 2) * s for n, s in zip(sizes, spacing)]
        directions = [[f"{s:g}" if a == b else "0" for b in range(3)] for a, s in enumerate(spacing)]
        return (
            "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\n"
            f"sizes: {' '.join(map(str, sizes))}\n"
            f"space directions: {' '.join('(' + ','.join(row) + ')' for row in directions)}\n"
            "kinds: domain domain domain\nendian: little\nencoding: raw\n"
            f"space origin: ({','.join(f'{value:g}' for value in origin)})\n\n"
        ).encode("ascii")


def read_case(case: PoolCase) -> tuple[Volume, np.ndarray]:
    """The CT of a case and its lesion (bool, same grid): of several components of the mask the largest.

    Raises InputError for files that cannot be read, a mask on another grid, and an empty mask.
    """
    ct = read_volume(case.image, "ct")
    mask = read_volume(case.mask, "labels")
    difference = same_grid(mask, ct)
    if difference:
        raise InputError(f"{case.mask} is not on the grid of {case.image} ({difference}); resample it to the CT first")
    lesion = mask.array > 0 if case.label is None else mask.array == case.label
    if not lesion.any():
        what = "holds no voxel above 0" if case.label is None else f"holds no voxel of value {case.label}"
        raise InputError(
            f"{case.mask} {what}: the lesion is missing; correct the mask or take the case out of the pool"
        )
    return ct, largest_component(lesion)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest face-connected component (bool) of a mask; of equal ones the first."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    labels, count = ndimage.label(mask[box])
    if count == 1:
        return mask
    result = np.zeros(mask.shape, bool)
    result[box] = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return result


def centre_voxel(lesion: np.ndarray) -> tuple[int, int, int]:
    """The voxel (z, y, x) in the middle of a lesion's bounding box. A whole voxel, so that a scan on the study's own spacing is copied."""
    (box,) = ndimage.find_objects(lesion.astype(np.uint8))
    return tuple((part.start + part.stop - 1) // 2 for part in box)


def exported(volume: Volume, centre_zyx: tuple[int, int, int], grid: ExportGrid, kind: str = "ct") -> np.ndarray:
    """``volume`` sampled on the study's grid around a voxel: linear and clipped int16 HU for "ct", nearest uint8 for "labels".

    Array (z, y, x) whose axes run to Superior, Posterior and Left; what lies outside the scan has the lower end of the range.
    """
    import SimpleITK as sitk

    box = _needed(volume, centre_zyx, grid)
    part = crop(volume, box)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(part.affine, float)
    lps[:3, 3] -= np.array([-1.0, -1.0, 1.0]) * volume.to_ras(centre_zyx)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(part.array.astype(np.float32 if kind == "ct" else np.uint8))
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    target = sitk.ResampleImageFilter()
    target.SetSize(list(grid.shape_zyx[::-1]))
    target.SetOutputSpacing(list(map(float, grid.spacing_mm[::-1])))
    target.SetOutputOrigin([-(n // 2) * float(s) for n, s in zip(grid.shape_zyx[::-1], grid.spacing_mm[::-1])])
    target.SetInterpolator(sitk.sitkLinear if kind == "ct" else sitk.sitkNearestNeighbor)
    target.SetDefaultPixelValue(float(grid.clip_hu[0]) if kind == "ct" else 0)
    array = sitk.GetArrayFromImage(target.Execute(image))
    return np.clip(np.rint(array), *grid.clip_hu).astype("<i2") if kind == "ct" else array


def _needed(volume: Volume, centre_zyx, grid: ExportGrid) -> tuple[slice, slice, slice]:
    """The part of the scan that can reach the grid, with a margin for interpolation."""
    radius = np.linalg.norm(np.array(grid.extent_mm)) / 2 if _oblique(volume.affine) else None
    half = (
        np.array([radius] * 3)
        if radius
        else np.abs(volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)).T
        @ (np.array(grid.extent_mm[::-1]) / 2)
    )
    reach = np.ceil(half[::-1] / volume.spacing_zyx_mm).astype(int) + 2
    return tuple(slice(max(0, c - r), min(n, c + r + 1)) for c, r, n in zip(centre_zyx, reach, volume.array.shape))


def _oblique(affine: np.ndarray) -> bool:
    cosines = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    return bool(cosines.max(axis=0).min() < 0.999)


def write_nrrd(array: np.ndarray, grid: ExportGrid, path: Path) -> str:
    """Write one exported case and return the SHA-256 (hex) of the file: header, raw little-endian int16, the study's time stamp."""
    if array.shape != tuple(grid.shape_zyx) or array.dtype != np.dtype("<i2"):
        raise ValueError(f"array {array.shape} {array.dtype}; wanted {grid.shape_zyx} int16")
    content = grid.header() + np.ascontiguousarray(array).tobytes()
    path.write_bytes(content)
    os.utime(path, (FILE_TIME_S, FILE_TIME_S))
    return hashlib.sha256(content).hexdigest()


def read_nrrd(path: Path, grid: ExportGrid) -> np.ndarray:
    """The array (z, y, x) of an exported case; InputError when the file is not as it was written."""
    header = grid.header()
    content = path.read_bytes()
    if len(content) != grid.bytes_per_case or not content.startswith(header):
        raise InputError(f"{path}: not as the study was exported ({len(content)} bytes); copy it from the lead again")
    return np.frombuffer(content, "<i2", offset=len(header)).reshape(grid.shape_zyx)
