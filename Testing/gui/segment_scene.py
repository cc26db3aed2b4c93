"""A phantom with two lesions in the scene, as the panels of PASTASegment and PASTAReport meet it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from PASTALib import taxonomy

ROOT = Path(__file__).resolve().parents[2]
DELTA_HU = {"liver_tumor": -45, "kidney_cyst": -90}


@dataclass
class Torso:
    """A CT node, its organ map's node, and PASTA labels (z, y, x) with one ball of each type at ``centres_ras``."""

    ct: object
    organs: object
    labels: np.ndarray
    centres_ras: dict[str, np.ndarray]
    radius_mm: float

    def save_labels(self, folder: Path) -> str:
        np.save(folder / "labels.npy", self.labels)
        return str(folder / "labels.npy")

    def lesions_only(self) -> np.ndarray:
        return np.where(self.labels > len(taxonomy.ORGANS), self.labels, 0).astype(np.uint8)


def add_torso(phantom, name: str = "CT", radius_mm: float = 14.0) -> Torso:
    """Put a phantom into the scene, with a dark ball deep in the liver and one in a kidney."""
    import slicer
    from scipy import ndimage

    from PASTALib.gui.sample_data import phantom_nodes

    ct, organs = phantom_nodes(phantom, name)
    labels, array = phantom.organs.labels.array.copy(), slicer.util.arrayFromVolume(ct)
    spacing = phantom.ct.spacing_zyx_mm
    centres = {}
    for key, delta in DELTA_HU.items():
        organ = phantom.organs.mask(taxonomy.lesion(key).organ)
        depth = ndimage.distance_transform_edt(organ, sampling=spacing)
        middle = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
        grid = np.indices(labels.shape).transpose(1, 2, 3, 0)
        ball = (((grid - middle) * spacing) ** 2).sum(axis=-1) <= radius_mm**2
        labels[ball] = taxonomy.lesion(key).value
        array[ball] = (array[ball] + delta).astype(array.dtype)
        centres[key] = phantom.ct.to_ras(middle)
    slicer.util.arrayFromVolumeModified(ct)
    return Torso(ct, organs, labels, centres, radius_mm)


def stand_in_worker(python=None):
    """A worker whose networks are stand-ins."""
    from PASTALib.worker import Worker

    return Worker(python, {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, jobs="Testing.gui.segment_jobs")


def use_stand_ins(widget) -> None:
    """Let a panel that was just opened work with ``stand_in_worker``."""
    widget.jobs._make_worker = stand_in_worker


def node_ids() -> set[str]:
    import slicer

    return {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}


def slice_positions() -> list[tuple[float, float, float]]:
    """Where the slice views stand: the origin of each (world RAS mm)."""
    import slicer

    matrices = [node.GetSliceToRAS() for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")]
    return [tuple(matrix.GetElement(i, 3) for i in range(3)) for matrix in matrices]


def distance_to_slices(point) -> float:
    """The largest distance in mm of a point from the slice planes."""
    import slicer

    far = 0.0
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
        far = max(far, abs(float(matrix[:3, 2] @ (np.asarray(point) - matrix[:3, 3]))))
    return far
