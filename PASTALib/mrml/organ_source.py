"""Organ maps and lesion masks out of segmentation and label-map nodes, on the grid of the CT."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .. import taxonomy
from ..anatomy import organ_classes as classes
from ..errors import InputError
from ..findings import LesionMask
from ..organs import SCHEMES, OrganMap, from_labels
from ..volume import Volume
from .grids import lut_size, paint, placed, present
from .looks import key_of_terminology, words_of_terminology
from .volumes import snapshot, to_world_matrix

BINARY = "Binary labelmap"


@dataclass(frozen=True)
class SegmentName:
    """What a segment is called: names to try in turn, and the organ or lesion key that its terminology names."""

    names: tuple[str, ...]
    key: str | None = None

    def lesion(self) -> str | None:
        """Lesion type, or None."""
        if self.key in taxonomy.LESION_KEYS:
            return self.key
        return next((key for key in map(_lesion_of_name, self.names) if key), None)

    def canonical(self) -> str | None:
        """TotalSegmentator's class name, or None."""
        return next((name for name in map(classes.canonical_name, self.names) if name), None)

    def organ(self) -> str | None:
        """Key of the organ that the segment belongs to (a lesion's is its parent organ), or None."""
        found = next((key for key in map(classes.organ_key, self.names) if key), None)
        if found is None and self.key is not None:
            found = taxonomy.lesion(self.key).organ if self.key in taxonomy.LESION_KEYS else self.key
        return found


@dataclass(frozen=True)
class Layer:
    """Labels (z, y, x), a view of a node's memory; ``affine`` (i, j, k) to world RAS mm; what each value is called."""

    array: np.ndarray
    affine: np.ndarray
    names: dict[int, SegmentName]


@dataclass(frozen=True)
class LabelSource:
    """What ``label_source`` took from a node. Its methods touch no node, so a thread may call them."""

    name: str
    layers: list[Layer]
    named: bool
    notes: list[str] = field(default_factory=list)

    def organ_map(self, ct: Volume, scheme: str | None = None) -> OrganMap:
        """The organ map on the grid of ``ct``, resampled (nearest neighbour) where the geometry differs.

        ``scheme``: one of ``organs.SCHEMES`` when numbers decide; None: names (and terminology) decide where there are any, otherwise
        values up to 25 are PASTA's and above 104 TotalSegmentator's version 2, as for files.

        Raises InputError for a map without any of the ten organs, one beside the CT, and values that two schemes share.
        """
        if scheme is not None and scheme not in SCHEMES:
            raise InputError(f"unknown organ scheme {scheme!r}; use one of {', '.join(SCHEMES)}")
        notes = list(self.notes)
        if scheme is None and self.named:
            organs = self._by_names(ct, notes)
        else:
            labels = self._by_values(ct, notes)
            organs = from_labels(labels, scheme or _guess(labels.array, self.name), self.name)
        if not organs.labels.array.any():
            raise InputError(
                f"{self.name}: no voxel belongs to any of the ten organs ({', '.join(organ.name.lower() for organ in taxonomy.ORGANS)}); choose a "
                "segmentation with at least one of them, or its scheme"
            )
        organs.notes = [*notes, *organs.notes]
        return organs

    def lesion_mask(self, ct: Volume, lesion: str | None = None) -> LesionMask:
        """Its lesions on the grid of ``ct``: one label value per segment, their types told by terminology or name ("Liver tumor 2").

        A label map without names follows PASTA's numbering (11-25). ``lesion``: type of what tells nothing and is no organ. Raises
        InputError when there is no lesion.
        """
        notes = list(self.notes)
        if not any(layer.names for layer in self.layers):
            mask = self._unnamed_mask(ct, lesion, notes)
        else:
            mask = self._named_mask(ct, lesion, notes)
        if not mask.types:
            raise InputError(
                f"{self.name}: nothing in it that lies in the CT is named like a lesion type ({self._listed()}); name segments, for example, "
                "'Liver tumor', or choose the type"
            )
        mask.notes = notes
        return mask

    def _named_mask(self, ct: Volume, lesion: str | None, notes: list[str]) -> LesionMask:
        labels = np.zeros(ct.array.shape, np.uint16)
        types: dict[int, str] = {}
        for layer in self.layers:
            lut = np.zeros(lut_size(layer.array, layer.names), np.uint16)
            for value, name in layer.names.items():
                kind = name.lesion() or (lesion if name.organ() is None and name.canonical() is None else None)
                if kind is not None:
                    lut[value] = len(types) + 1
                    types[len(types) + 1] = kind
            paint(labels, placed(layer.array, layer.affine, ct, notes), lut)
        there = present(labels)
        kept = {value: key for value, key in types.items() if value in there}
        return LesionMask(Volume(labels, ct.affine.copy()), kept)

    def _unnamed_mask(self, ct: Volume, lesion: str | None, notes: list[str]) -> LesionMask:
        labels = self._by_values(ct, notes)
        if lesion is None:
            return LesionMask.of_pasta_labels(labels)
        return LesionMask(labels, {value: lesion for value in sorted(present(labels.array)) if value})

    def _by_names(self, ct: Volume, notes: list[str]) -> OrganMap:
        every = [name for layer in self.layers for name in layer.names.values()]
        if not any(name.organ() for name in every):
            raise InputError(
                f"{self.name}: no segment is named like one of the ten organs ({self._listed()}); rename the segments, or choose the scheme of "
                "their values"
            )
        labels, structures = np.zeros(ct.array.shape, np.uint8), np.zeros(ct.array.shape, np.uint8)
        for layer in self.layers:
            organ_lut, structure_lut = np.zeros((2, lut_size(layer.array, layer.names)), np.uint8)
            for value, name in layer.names.items():
                organ, canonical = name.organ(), name.canonical()
                organ_lut[value] = taxonomy.organ(organ).value if organ else 0
                structure_lut[value] = classes.structure_id(canonical) if canonical else 0
            here = placed(layer.array, layer.affine, ct, notes)
            paint(labels, here, organ_lut)
            paint(structures, here, structure_lut)
        organs = OrganMap(Volume(labels, ct.affine.copy()))
        organs.notes += _remarks(every)
        known = {name for name in (item.canonical() for item in every) if name}
        if any(classes.is_detail(name) for name in known):
            organs.structures = Volume(structures, ct.affine.copy())
            there, numbered = present(structures), {classes.structure_id(name): name for name in known}
            organs.structure_names = {value: numbered[value] for value in sorted(numbered) if value in there}
            organs.scheme = classes.version_of(name for item in every for name in item.names)
        return organs

    def _by_values(self, ct: Volume, notes: list[str]) -> Volume:
        if len(self.layers) > 1:
            raise InputError(
                f"{self.name}: its segments overlap or lie in several layers, so that values say nothing; name the segments after the organs"
            )
        layer = self.layers[0]
        low, high = int(layer.array.min(initial=0)), int(layer.array.max(initial=0))
        if layer.array.dtype.kind == "f" or low < 0 or high > 255:
            raise InputError(f"{self.name}: holds values {low} to {high}; an organ map holds whole numbers 0 to 255")
        labels = np.zeros(ct.array.shape, np.uint8)
        paint(labels, placed(layer.array, layer.affine, ct, notes), np.arange(256, dtype=np.uint8))
        return Volume(labels, ct.affine.copy())

    def _listed(self) -> str:
        names = [item.names[0] for layer in self.layers for item in layer.names.values()]
        return "names: " + ", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "it has no names"


def label_source(node) -> LabelSource:
    """Take what an organ map or lesion mask needs from a segmentation or label-map node, without copies (quick, application's thread).

    Raises InputError for another kind of node, an empty one, closed surfaces only, and a non-linear parent transform.
    """
    if node is None:
        raise InputError(
            "no organ map is chosen; choose a segmentation or a label map of this CT, or have one computed"
        )
    if node.IsA("vtkMRMLSegmentationNode"):
        return _of_segmentation(node)
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        image = snapshot(node, "labels")
        names = _colour_names(node, image.array)
        return LabelSource(
            image.name, [Layer(image.array, image.affine, names)], any(n.organ() for n in names.values())
        )
    raise InputError(f"{node.GetName()}: neither a segmentation nor a label map; choose one of these as organ map")


def organ_map_of(node, ct: Volume, scheme: str | None = None) -> OrganMap:
    """``label_source`` and ``LabelSource.organ_map`` in one."""
    return label_source(node).organ_map(ct, scheme)


def lesion_mask_of(node, ct: Volume, lesion: str | None = None) -> LesionMask:
    """``label_source`` and ``LabelSource.lesion_mask`` in one."""
    return label_source(node).lesion_mask(ct, lesion)


# ---------------------------------------------------------------------------------------------------------------
# Nodes to layers


def _of_segmentation(node) -> LabelSource:
    segmentation, name = node.GetSegmentation(), node.GetName()
    if segmentation is None or segmentation.GetNumberOfSegments() == 0:
        raise InputError(f"{name}: the segmentation has no segments; choose another, or have one computed")
    if not segmentation.ContainsRepresentation(BINARY):
        raise InputError(
            f"{name}: holds closed surfaces only; create its binary labelmap in the Segmentations module (Representations) first"
        )
    to_world = to_world_matrix(node)
    by_image: dict = {}
    for index in range(segmentation.GetNumberOfSegments()):
        identifier = segmentation.GetNthSegmentID(index)
        segment = segmentation.GetSegment(identifier)
        image = segment.GetRepresentation(BINARY)
        if image is not None and image.GetPointData().GetScalars() is not None and image.GetNumberOfPoints() > 0:
            by_image.setdefault(image, {})[int(segment.GetLabelValue())] = _segment_name(segment, identifier)
    if not by_image:
        raise InputError(f"{name}: all segments are empty; choose another segmentation, or have one computed")
    layers = [
        Layer(oriented_array(image), to_world @ oriented_affine(image), names) for image, names in by_image.items()
    ]
    return LabelSource(name, layers, named=True)  # a segment's value says nothing: Slicer numbers them as it likes


def _segment_name(segment, identifier: str) -> SegmentName:
    value = vtk.reference("")
    entry = str(value) if segment.GetTag(segment.GetTerminologyEntryTagName(), value) else ""
    names = [name for name in (segment.GetName(), identifier, words_of_terminology(entry)) if name]
    return SegmentName(tuple(dict.fromkeys(names)), key_of_terminology(entry))


def oriented_array(image) -> np.ndarray:
    """The voxels (z, y, x) of a vtkOrientedImageData, not a copy."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def oriented_affine(image) -> np.ndarray:
    """4x4 from array indices (i, j, k) of a vtkOrientedImageData, counted from its extent's corner, to its own RAS mm."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    affine = slicer.util.arrayFromVTKMatrix(matrix)
    affine[:3, 3] += affine[:3, :3] @ np.array(image.GetExtent()[::2], float)
    return affine


def _colour_names(node, array: np.ndarray) -> dict[int, SegmentName]:
    """Names that a label map's own colour table gives. Slicer's built-in tables name other things, so they do not count."""
    display = node.GetDisplayNode()
    table = display.GetColorNode() if display is not None else None
    if table is None or table.GetSingletonTag() or array.dtype.kind == "f":
        return {}
    count = min(int(table.GetNumberOfColors()), 65536)
    named = {value: table.GetColorName(value) for value in range(1, count)}
    return {value: SegmentName((name,)) for value, name in named.items() if name and name != "(none)"}


def _lesion_of_name(name: str) -> str | None:
    """Type that a name tells: "Liver tumour", "kidney_stone_2"."""
    words = "".join(letter if letter.isalpha() else " " for letter in name.lower()).split()
    text = " ".join(words).replace("tumour", "tumor").replace("oesophageal", "esophageal")
    for lesion in taxonomy.LESIONS:
        if {text, text.removesuffix("s")} & {lesion.key.replace("_", " "), lesion.name.lower()}:
            return lesion.key
    return None


def _guess(array: np.ndarray, name: str) -> str:
    """The scheme that values alone tell, as ``organs.read_organs`` does for files."""
    highest = int(array.max(initial=0))
    if highest <= len(taxonomy.ORGANS) + len(taxonomy.LESIONS):
        return "pasta"
    if highest > len(classes.table("totalseg-v1")):
        return "totalseg-v2"
    raise InputError(
        f"{name}: labels up to {highest} and no names; TotalSegmentator versions 1 and 2 both use these values for different organs: choose "
        "the scheme totalseg-v1 (104 classes) or totalseg-v2 (117 classes)"
    )


def _remarks(every: list[SegmentName]) -> list[str]:
    remarks = []
    lesions = sorted({taxonomy.lesion(key).name for key in (item.lesion() for item in every) if key})
    ignored = [item.names[0] for item in every if not item.organ() and not item.canonical()]
    if lesions:
        remarks.append(f"lesion segments counted as part of their organ: {', '.join(lesions)}")
    if ignored:
        remarks.append(f"segments without a known name ignored: {', '.join(ignored)}")
    return remarks
