"""Scans on the grid that a system asks for, whatever its spacing and orientation, and label maps back on the scan's own. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from PASTALib.errors import InputError
from PASTALib.volume import Canonical, Volume, from_canonical, to_canonical

from ..models.interface import Preparation


@dataclass(frozen=True)
class Grid:
    """``images`` (channels, …) on the system's grid, axes (z, y, x), not yet normalised; and the way back.

    ``canonical``: where voxels were resampled on the way; None where the scan's own are kept.
    """

    images: np.ndarray
    turned: np.ndarray
    reference: Volume
    canonical: Canonical | None

    def labels(self, mask: np.ndarray) -> np.ndarray:
        """A label map of the scan's own grid, on this one."""
        volume = Volume(mask, self.reference.affine)
        if self.canonical is not None:
            volume = to_canonical(volume, float(self.canonical.volume.spacing_zyx_mm[0]), "labels").volume
        return _turn(volume.array, self.turned)

    def back(self, labels: np.ndarray) -> np.ndarray:
        """A label map of this grid on the scan's own, uint8."""
        labels = _turn(np.asarray(labels, np.uint8), _inverse(self.turned))
        if self.canonical is None:
            return np.ascontiguousarray(labels)
        return from_canonical(labels, self.canonical, self.reference, "labels").array


def to_grid(volumes: Sequence[Volume], preparation: Preparation) -> Grid:
    """The scan's images on the grid of ``preparation`` (its spacing and orientation; the network's order of axes is ``arrange``)."""
    spacing, canonical = preparation.spacing_mm, None
    if spacing is not None:
        if len(set(spacing)) > 1:
            raise InputError(f"spacing {spacing} mm; wanted the same along all axes, or None for the scan's own")
        moved = [to_canonical(volume, float(spacing[0])) for volume in volumes]
        canonical, arrays, affine = moved[0], [one.volume.array for one in moved], moved[0].volume.affine
    else:
        arrays, affine = [volume.array for volume in volumes], volumes[0].affine
    turned = ornt_transform(io_orientation(affine), axcodes2ornt(preparation.orientation))
    images = np.stack([_turn(array, turned) for array in arrays])
    return Grid(images, turned, volumes[0], canonical)


def _turn(array: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Axes of an array (z, y, x) permuted and flipped as ``transform`` says for (x, y, z)."""
    return np.ascontiguousarray(apply_orientation(array.transpose(2, 1, 0), transform).transpose(2, 1, 0))


def _inverse(transform: np.ndarray) -> np.ndarray:
    back = np.empty_like(transform)
    for axis, (to, flip) in enumerate(transform):
        back[int(to)] = (axis, flip)
    return back
