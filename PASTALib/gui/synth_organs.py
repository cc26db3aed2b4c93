"""Organ maps computed for a CT: by TotalSegmentator or by PASTA's starter model, in the worker, and as a node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..mrml.segmentations import LabelParts, segmentation_of, split_labels
from ..mrml.volumes import NodeImage, allocate_image
from ..progress import Progress
from .job_steps import InThread, InWorker, Steps

STARTER = "starter"
CT_OF_MAP = "CT"  # role of an organ map's reference to its CT, as in the sample data


@dataclass(frozen=True)
class ComputedOrgans:
    """``parts``: organs for a segmentation; or ``image``, a label map whose values ``names`` tells. ``notes``: one-line remarks."""

    parts: LabelParts | None = None
    image: object = None
    names: dict[int, str] | None = None
    notes: tuple[str, ...] = ()


def totalsegmentator_steps(ct: NodeImage, device: str) -> Steps:
    """Steps that return ``ComputedOrgans`` of TotalSegmentator, with all its structures."""
    volume = yield InThread(lambda tell: _read(ct, tell))
    told, maps = yield InWorker("organs", {"affine": volume.affine, "device": device}, {"ct": volume.array})
    return (yield InThread(lambda tell: _of_totalsegmentator(told, maps)))


def starter_steps(ct: NodeImage, device: str, model: str = STARTER) -> Steps:
    """Steps that return ``ComputedOrgans`` of a PASTA model."""
    volume = yield InThread(lambda tell: _read(ct, tell))
    told, maps = yield InWorker(
        "segment", {"affine": volume.affine, "model": model, "device": device}, {"ct": volume.array}
    )
    return (yield InThread(lambda tell: _of_model(told, maps["labels"])))


def add_organs(organs: ComputedOrgans, ct_node):
    """The node of an organ map, beside the CT."""
    name = f"{ct_node.GetName()} organs"
    node = _label_map(organs, ct_node, name) if organs.parts is None else segmentation_of(organs.parts, ct_node, name)
    node.SetNodeReferenceID(CT_OF_MAP, ct_node.GetID())
    return node


def _read(ct: NodeImage, tell: Progress):
    tell(0, 0, _("reading the CT"))
    return ct.volume()


def _of_totalsegmentator(told: dict, maps: dict) -> ComputedOrgans:
    notes = tuple(told["notes"])
    if "structures" not in maps:
        return ComputedOrgans(parts=split_labels(np.asarray(maps["labels"]), []), notes=notes)
    structures = maps["structures"]
    image, target = allocate_image(structures.shape, np.uint8)
    target[...] = structures
    names = {int(value): name for value, name in told["structure_names"].items()}
    return ComputedOrgans(image=image, names=names, notes=notes)


def _of_model(told: dict, labels) -> ComputedOrgans:
    """Lesions that the model sees count as part of their organ."""
    from .. import taxonomy

    lut = np.zeros(256, np.uint8)
    of_name = {organ.key: organ.value for organ in taxonomy.ORGANS}
    of_name |= {lesion.key: of_name[lesion.organ] for lesion in taxonomy.LESIONS}
    for value, name in told["names"].items():
        lut[int(value)] = of_name.get(name, 0)
    organs = np.empty(labels.shape, np.uint8)
    for source, target in zip(labels, organs):
        target[...] = lut[source]
    return ComputedOrgans(parts=split_labels(organs, []), notes=tuple(told["notes"]))


def _label_map(organs: ComputedOrgans, ct_node, name: str):
    scene = ct_node.GetScene()
    colours = scene.AddNewNodeByClass("vtkMRMLColorTableNode", scene.GetUniqueNameByString(f"{name} colours"))
    colours.SetTypeToUser()
    colours.SetHideFromEditors(True)
    colours.SetNumberOfColors(max(organs.names) + 1)
    random = np.random.default_rng(0)
    for value in range(max(organs.names) + 1):
        colours.SetColor(value, organs.names.get(value, "(none)"), *random.uniform(0.3, 0.9, 3), float(value > 0))
    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.SetName(scene.GetUniqueNameByString(name))
    node.CopyOrientation(ct_node)
    node.SetAndObserveImageData(organs.image)
    scene.AddNode(node)
    node.SetAndObserveTransformNodeID(ct_node.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAndObserveColorNodeID(colours.GetID())
    return node
