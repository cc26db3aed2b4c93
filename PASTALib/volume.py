"""Volume: a scan or a mask as an array with its place in the world; reading, writing, canonical space and back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Volume:
    """An image on a regular grid.

    ``array`` is indexed ``(z, y, x)`` = ``(k, j, i)``; ``affine`` is 4x4 and maps voxel ``(i, j, k, 1)`` to world RAS mm.
    CT arrays hold HU (int16 on disk and at rest, float32 in computation), masks uint8.
    """

    array: np.ndarray
    affine: np.ndarray
    meta: dict = field(default_factory=dict)

    @property
    def spacing_zyx_mm(self) -> np.ndarray:
        """Voxel size along the array's axes ``(z, y, x)`` in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)[::-1]

    def to_ras(self, zyx: np.ndarray) -> np.ndarray:
        """World RAS mm of voxel indices ``(..., 3)`` in array order (z, y, x)."""
        ijk = np.asarray(zyx, float)[..., ::-1]
        return ijk @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, ras: np.ndarray) -> np.ndarray:
        """Continuous voxel indices (z, y, x) of world points ``(..., 3)`` in RAS mm."""
        ijk = (np.asarray(ras, float) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T
        return ijk[..., ::-1]
