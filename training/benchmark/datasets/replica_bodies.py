"""Made-up scans for replicas: a body with an organ and a lesion whose density, size and texture say its kind. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from PASTALib.volume import CANONICAL_RAS_SIGNS, Volume, write_volume

SIDE = 40  # voxels of the longest axis
AIR_HU, TISSUE_HU, ORGAN_HU, NOISE_HU = -1000.0, 30.0, 90.0, 8.0
BODY_MM, ORGAN_MM, LESION_MM = 37.0, 25.0, 10.0


@dataclass(frozen=True)
class Body:
    """Arrays (z, y, x) in canonical order (to S, P, L), float HU and masks; ``spacing_zyx_mm``; the middle in RAS mm of the volume."""

    hu: np.ndarray
    organ: np.ndarray
    lesion: np.ndarray
    second: np.ndarray
    spacing_zyx_mm: tuple[float, float, float]

    @property
    def affine(self) -> np.ndarray:
        """Of the arrays as they are, the first voxel at the origin."""
        steps = [sign * mm for sign, mm in zip(CANONICAL_RAS_SIGNS, self.spacing_zyx_mm[::-1])]
        return np.diag([*steps, 1.0])

    @property
    def centre_ras(self) -> np.ndarray:
        """The lesion's middle."""
        return Volume(self.hu, self.affine).to_ras(np.argwhere(self.lesion).mean(axis=0))


def make_body(
    rng: np.random.Generator,
    kind: int = 1,
    *,
    spacing_zyx_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    shape_zyx: tuple[int, int, int] = (SIDE, SIDE, SIDE),
    organ_hu: float = ORGAN_HU,
    lesion: bool = True,
) -> Body:
    """A body of 80 mm: kind 1 has a larger, bright, grainy lesion, kind 0 a smaller, dark, even one; the second lesion is a small dark ball."""
    size = np.multiply(shape_zyx, spacing_zyx_mm)
    axes = [np.arange(n) * mm for n, mm in zip(shape_zyx, spacing_zyx_mm)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    middle = size / 2 + rng.uniform(-3, 3, 3)
    aside = rng.uniform(-1, 1, 3)
    aside *= 8 / np.linalg.norm(aside)
    distance = np.linalg.norm(places - middle, axis=-1)
    organ = distance < ORGAN_MM
    radius = LESION_MM * (1.25 if kind else 0.9) * rng.uniform(0.95, 1.05)
    first = np.linalg.norm(places - middle - aside, axis=-1) < radius
    second = np.linalg.norm(places - middle + 1.6 * aside, axis=-1) < 0.55 * LESION_MM
    second &= ~first
    hu = np.where(organ, organ_hu, TISSUE_HU) + rng.normal(0, NOISE_HU, shape_zyx)
    if lesion:
        hu[first] = TISSUE_HU + (170 if kind else -80) + rng.normal(0, 25 if kind else 6, int(first.sum()))
    hu[second] = -10 + rng.normal(0, 5, int(second.sum()))
    flat = np.linalg.norm((places - size / 2)[..., 1:], axis=-1)
    hu[flat > BODY_MM] = AIR_HU
    first &= lesion
    return Body(hu, organ & ~first & ~second, first, second, spacing_zyx_mm)


def store(array: np.ndarray, body: Body, path: Path, axes: str = "LPS") -> None:
    """Write an array of the body as NIfTI whose axes run to ``axes``: "LPS" (as it is), "RAS" (MSD, ATLAS), or KiTS's "IPL"."""
    affine = body.affine
    if axes == "RAS":
        volume = _flipped(array, affine, (1, 2))
    elif axes == "IPL":  # KiTS stores (slice, row, column), from the top down
        volume = _flipped(array, affine, (0,))
        volume = Volume(volume.array.transpose(2, 1, 0), volume.affine[:, [2, 1, 0, 3]])
    else:
        volume = Volume(array, affine)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(np.ascontiguousarray(volume.array), volume.affine), path)


def rounded(hu: np.ndarray) -> np.ndarray:
    """int16."""
    return np.rint(hu).astype(np.int16)


def _flipped(array: np.ndarray, affine: np.ndarray, axes: tuple[int, ...]) -> Volume:
    volume = Volume(array, affine)
    corner = [array.shape[axis] - 1 if axis in axes else 0 for axis in range(3)]
    turned = affine.copy()
    turned[:3, 3] = volume.to_ras(corner)
    for axis in axes:
        turned[:3, 2 - axis] *= -1
    return Volume(np.flip(array, axes), turned)
