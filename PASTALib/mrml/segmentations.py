"""Organs and lesions as segments: results as a segmentation node, quick updates of one segment, segments back as masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import slicer
from scipy import ndimage
from vtk import VTK_UNSIGNED_CHAR, vtkMatrix4x4

from .. import taxonomy
from ..errors import InputError
from ..volume import Volume
from .grids import paint, placed, present
from .looks import look
from .organ_source import BINARY, oriented_affine, oriented_array
from .volumes import Region, to_world_matrix

_CONNECTED = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class LesionPart:
    """One lesion: type key, box (z, y, x) in the scan, bool mask of the box."""

    key: str
    slices: Region
    mask: np.ndarray


@dataclass(frozen=True)
class LabelParts:
    """A PASTA label map taken apart: an image of the organs (values 1-10; None without any), their keys, and the lesions one by one."""

    organs: object
    keys: tuple[str, ...]
    lesions: list[LesionPart] = field(default_factory=list)


def split_labels(labels: np.ndarray, lesions: Iterable[LesionPart] | None = None) -> LabelParts:
    """Take a PASTA label map (z, y, x; organs 1-10, lesions 11-25) apart for ``segmentation_of``. Touches no node: a thread may call it.

    ``lesions``: the lesions when they are known, such as a report's findings (``LesionPart(f.lesion, f.box, f.mask)``); None: the
    26-connected parts of each lesion value, in the order of the values.
    """
    organs = np.where(labels <= len(taxonomy.ORGANS), labels, 0).astype(np.uint8, copy=False)
    box = _box(organs)
    parts = list(lesions) if lesions is not None else _lesion_parts(labels)
    if box is None:
        return LabelParts(None, (), parts)
    there = present(organs)
    keys = tuple(organ.key for organ in taxonomy.ORGANS if organ.value in there)
    return LabelParts(_image(box, organs[box]), keys, parts)


def segmentation_of(parts: LabelParts, reference, name: str):
    """A segmentation node with one segment per organ and per lesion, named, coloured and with terminology.

    ``reference``: the CT's node, whose grid the labels have and whose parent transform the new node gets. Segment ids are the organ's key
    (``"liver"``), and the lesion's with a number (``"liver_tumor_1"``). Organs share one layer, each lesion has its own.
    """
    node = new_segmentation_node(reference, name)
    segmentation = node.GetSegmentation()
    if parts.organs is not None:
        _orient(parts.organs, reference)
    for key in parts.keys:
        organ = taxonomy.organ(key)
        segmentation.AddSegment(_segment(key, organ.name, parts.organs, organ.value), key)
    count: dict[str, int] = {}
    for part in parts.lesions:
        count[part.key] = count.get(part.key, 0) + 1
        number = count[part.key]
        add_segment(
            node, reference, part.key, part.slices, part.mask, f"{look(part.key).name} {number}", f"{part.key}_{number}"
        )
    return node


def new_segmentation_node(reference, name: str):
    """An empty segmentation node with the geometry and parent transform of the volume node ``reference``."""
    scene = reference.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GetUniqueNameByString(name))
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
    return node


def add_segment(
    node, reference, key: str, slices: Region, mask: np.ndarray, name: str = "", identifier: str = ""
) -> str:
    """Add an organ or lesion as a segment with a layer of its own; returns its id.

    ``mask``: bool on the box ``slices`` (z, y, x) of the volume node ``reference``; ``name`` is the type's by default.
    """
    segmentation = node.GetSegmentation()
    identifier = segmentation.GenerateUniqueSegmentID(identifier or key)
    image = _oriented(reference, slices, mask)
    segmentation.AddSegment(_segment(key, name or look(key).name, image, 1), identifier)
    return identifier


def update_segment(node, identifier: str, reference, slices: Region, mask: np.ndarray) -> None:
    """Replace what a segment covers by ``mask`` (bool) on the box ``slices`` (z, y, x) of the volume node ``reference``, and by nothing else."""
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    image = _oriented(reference, slices, mask)
    if not logic.SetBinaryLabelmapToSegment(image, node, identifier, logic.MODE_REPLACE, image.GetExtent()):
        raise InputError(f"{node.GetName()}: there is no segment '{identifier}' any more; place the lesion again")


def dress_segment(segment, key: str, name: str) -> None:
    """Name, colour and terminology of an organ or lesion type."""
    kind = look(key)
    segment.SetName(name)
    segment.SetColor(*kind.colour)
    segment.SetTag(segment.GetTerminologyEntryTagName(), kind.terminology)


def take_segment(node, identifier: str):
    """Take a segment out of its node and return it, or None when it is gone; ``put_segment`` puts it back as it was."""
    segmentation = node.GetSegmentation()
    segment = segmentation.GetSegment(identifier)
    if segment is not None:
        segmentation.RemoveSegment(identifier)
    return segment


def put_segment(node, identifier: str, segment, before_id: str = "") -> None:
    """Put back a segment that ``take_segment`` took, with the same id and all that it held, ahead of ``before_id`` (last without one)."""
    node.GetSegmentation().AddSegment(segment, identifier, before_id)


def read_segment(node, identifier: str, ct: Volume) -> np.ndarray:
    """A segment as a bool mask on the grid of ``ct`` (z, y, x), resampled where its geometry differs.

    Raises InputError when there is no such segment, it has no binary labelmap, or the parent transform is not linear.
    """
    segment = node.GetSegmentation().GetSegment(identifier)
    if segment is None:
        raise InputError(f"{node.GetName()}: there is no segment '{identifier}'; choose one of this segmentation")
    image = segment.GetRepresentation(BINARY)
    if image is None:
        raise InputError(
            f"{node.GetName()}: segment '{segment.GetName()}' has no binary labelmap; create it in Segmentations"
        )
    mask = np.zeros(ct.array.shape, np.uint8)
    if image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        return mask.view(bool)
    array = oriented_array(image)
    lut = np.zeros(max(int(array.max(initial=0)), segment.GetLabelValue(), 255) + 1, np.uint8)
    lut[segment.GetLabelValue()] = 1
    paint(mask, placed(array, to_world_matrix(node) @ oriented_affine(image), ct), lut)
    return mask.view(bool)


def _segment(key: str, name: str, image, value: int):
    segment = slicer.vtkSegment()
    dress_segment(segment, key, name)
    segment.SetLabelValue(value)
    segment.AddRepresentation(BINARY, image)
    return segment


def _oriented(reference, slices: Region, array: np.ndarray):
    """A vtkOrientedImageData with ``array`` (bool or uint8) on the box ``slices`` of the volume node's grid."""
    image = _image(slices, array)
    _orient(image, reference)
    return image


def _image(slices: Region, array: np.ndarray):
    """The same without a place in the world; touches no node."""
    image = slicer.vtkOrientedImageData()
    image.SetExtent(*(int(n) for part in slices[::-1] for n in (part.start, part.stop - 1)))
    image.AllocateScalars(VTK_UNSIGNED_CHAR, 1)
    oriented_array(image)[...] = array
    return image


def _orient(image, reference) -> None:
    matrix = vtkMatrix4x4()
    reference.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)


def _box(array: np.ndarray) -> Region | None:
    """Bounding box of what is not 0."""
    sides = []
    for axis in range(3):
        used = np.flatnonzero(array.any(axis=tuple(i for i in range(3) if i != axis)))
        if used.size == 0:
            return None
        sides.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(sides)


def _lesion_parts(labels: np.ndarray) -> list[LesionPart]:
    parts = []
    boxes = ndimage.find_objects(labels.astype(np.uint8, copy=False), max_label=taxonomy.LESIONS[-1].value)
    for lesion in taxonomy.LESIONS:
        box = boxes[lesion.value - 1]
        if box is None:
            continue
        numbered, _ = ndimage.label(labels[box] == lesion.value, _CONNECTED)
        for number, inner in enumerate(ndimage.find_objects(numbered), start=1):
            whole = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, inner))
            parts.append(LesionPart(lesion.key, whole, numbered[inner] == number))
    return parts
