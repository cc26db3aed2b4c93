"""OrganMap: which voxel belongs to which organ, and to which structure of the source segmentation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .. import taxonomy
from ..volume import Volume
from . import organ_classes as classes


@dataclass
class OrganMap:
    """Which voxel belongs to which organ, on the grid of its CT.

    ``labels`` holds PASTA values (0 background, 1-10 organs) as uint8. ``structures`` (optional, uint8) holds every class the source
    had, numbered by ``structure_names`` (value -> TotalSegmentator v2 class name): vessels, vertebrae, lobes, duodenum, …
    Only names with at least one voxel are listed. ``scheme`` says where it came from: "pasta", "totalseg-v1" or "totalseg-v2";
    ``notes`` what the reader had to decide, in words for the user.
    """

    labels: Volume
    structures: Volume | None = None
    structure_names: dict[int, str] = field(default_factory=dict)
    scheme: str = "pasta"
    notes: list[str] = field(default_factory=list)

    def mask(self, organ_key: str) -> np.ndarray:
        """Boolean ``(z, y, x)`` mask of one organ."""
        return self.labels.array == taxonomy.organ(organ_key).value

    def has(self, organ_key: str) -> bool:
        """Whether the organ has at least one voxel."""
        value = taxonomy.organ(organ_key).value
        return any(bool((plane == value).any()) for plane in self.labels.array)

    def volume_ml(self, organ_key: str) -> float:
        """Volume of one organ in ml, lumen included."""
        value = taxonomy.organ(organ_key).value
        voxels = sum(int(np.count_nonzero(plane == value)) for plane in self.labels.array)
        return voxels * voxel_volume_ml(self.labels)

    def structure_mask(self, *names: str) -> np.ndarray:
        """Boolean ``(z, y, x)`` mask of the named TotalSegmentator v2 classes together; all False for what the source lacks.

        KeyError for a name that no version of TotalSegmentator has, because a typing error would look like an absent vessel.
        """
        unknown = [name for name in names if name not in classes.known_names()]
        if unknown:
            raise KeyError(
                f"unknown structure {', '.join(map(repr, unknown))}; names are those of TotalSegmentator's task 'total'"
            )
        if self.structures is None:
            return np.zeros(self.labels.array.shape, bool)
        wanted = np.zeros(256, bool)
        wanted[[value for value, name in self.structure_names.items() if name in names]] = True
        return apply_table(wanted, self.structures.array)

    def has_structure(self, name: str) -> bool:
        """Whether the source had this TotalSegmentator v2 class with at least one voxel."""
        return name in self.structure_names.values()


def voxel_volume_ml(volume: Volume) -> float:
    """Volume of one voxel in ml."""
    return float(abs(np.linalg.det(volume.affine[:3, :3]))) / 1000.0


def apply_table(table: np.ndarray, array: np.ndarray) -> np.ndarray:
    """``table[array]`` for a uint8 label array ``(z, y, x)`` and a 256-entry uint8 or bool table, one slice at a time (fast, small)."""
    translation = table.astype(np.uint8).tobytes()
    out = np.empty(array.shape, table.dtype)
    for source, target in zip(array, out):
        target[...] = np.frombuffer(
            source.astype(np.uint8, copy=False).tobytes().translate(translation), table.dtype
        ).reshape(target.shape)
    return out


def present_values(array: np.ndarray) -> np.ndarray:
    """Sorted values of a uint8 label array ``(z, y, x)``; much faster than ``np.unique``."""
    found = bytearray()
    for plane in array:
        rest = plane.tobytes().translate(None, bytes(found))
        while rest:
            found.append(rest[0])
            rest = rest.translate(None, rest[:1])
    return np.sort(np.frombuffer(bytes(found), np.uint8))
