"""Organ maps from any source: PASTA labels, TotalSegmentator v1/v2 file or folder, or running TotalSegmentator."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from . import taxonomy
from .volume import Volume


@dataclass
class OrganMap:
    """Which voxel belongs to which organ, on the grid of its CT.

    ``labels`` holds PASTA values (0 background, 1-10 organs) as uint8. ``structures`` (optional, uint8) holds every class the source
    had, numbered by ``structure_names`` (value -> TotalSegmentator v2 class name): vessels, vertebrae, lobes, duodenum, …
    ``scheme`` says where it came from: "pasta", "totalseg-v1" or "totalseg-v2".
    """

    labels: Volume
    structures: Volume | None = None
    structure_names: dict[int, str] = field(default_factory=dict)
    scheme: str = "pasta"

    def mask(self, organ_key: str) -> np.ndarray:
        """Boolean ``(z, y, x)`` mask of one organ."""
        return self.labels.array == taxonomy.organ(organ_key).value
