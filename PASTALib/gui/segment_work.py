"""Segmenting a scan step by step: read it, let the model label it, find the lesions, take the labels apart for the scene. No Qt, no nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from slicer.i18n import tr as _

from .. import taxonomy
from ..errors import InputError
from ..findings import Finding
from ..mrml.organ_source import LabelSource
from ..mrml.segmentations import LabelParts, LesionPart, split_labels
from ..mrml.tables import volume_rows
from ..mrml.volumes import NodeImage, Region
from ..organs import voxel_volume_ml
from ..progress import Progress
from ..reporting.document import ReportDocument
from ..volume import Volume
from ..worker.find import split_masks
from .job_steps import InThread, InWorker, Steps

MOST_LESIONS = 60  # each is a segment of its own; beyond that the scene gets slow and nobody reads the list
_VALUE_OF = {item.key: item.value for item in (*taxonomy.ORGANS, *taxonomy.LESIONS)}


@dataclass(frozen=True)
class SegmentRequest:
    """What to segment. ``organs``: only around these organs of the map ``around``; empty for the whole scan."""

    ct: NodeImage
    model: str
    device: str = "auto"
    around: LabelSource | None = None
    organs: tuple[str, ...] = ()


@dataclass(frozen=True)
class OtherPart:
    """A class of the model that is none of PASTA's: its name, and its bool mask on a box (z, y, x) of the scan."""

    name: str
    slices: Region
    mask: np.ndarray


@dataclass(frozen=True)
class SegmentResult:
    """What ``segment_steps`` gives: parts for a segmentation node, findings (lesions, largest first within their type), volumes in ml, remarks."""

    parts: LabelParts
    findings: list[Finding]
    volumes: list[tuple[str, str, float]]
    model: str
    trained: bool
    others: list[OtherPart] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def segment_steps(request: SegmentRequest) -> Steps:
    """Steps that return a ``SegmentResult``. InputError for a CT that cannot be used and for a map without the organs asked for."""
    ct, region = yield InThread(lambda progress: _read(request, progress))
    arrays = {"ct": ct.array} | ({} if region is None else {"region": region})
    settings = {"affine": ct.affine, "model": request.model, "device": request.device}
    told, labelled = yield InWorker("segment", settings, arrays)
    names = {int(value): name for value, name in told["names"].items()}
    labels = yield InThread(lambda progress: _pasta_labels(labelled["labels"], names))
    types = {str(lesion.value): lesion.key for lesion in taxonomy.LESIONS}
    found, masks = yield InWorker(
        "findings",
        {"affine": ct.affine, "types": types, "measure": False, "most": MOST_LESIONS},
        {"ct": ct.array, "mask": labels, "organs": labels},
    )
    document = split_masks(ReportDocument.from_json(found["document"]), masks["masks"])
    return (
        yield InThread(
            lambda progress: _result(ct, labels, labelled["labels"], names, document, told, found["left_out"])
        )
    )


def _read(request: SegmentRequest, progress: Progress) -> tuple[Volume, np.ndarray | None]:
    progress(0, 0, _("reading the CT"))
    ct = request.ct.volume()
    if not request.organs:
        return ct, None
    progress(0, 0, _("reading the organ map"))
    organs = request.around.organ_map(ct)
    missing = [taxonomy.organ(key).name for key in request.organs if not organs.has(key)]
    if missing:
        raise InputError(
            _("{map}: shows no {organs}; choose other organs, another map, or the whole scan").format(
                map=request.around.name, organs=", ".join(missing).lower()
            )
        )
    wanted = [taxonomy.organ(key).value for key in request.organs]
    return ct, np.isin(organs.labels.array, wanted).view(np.uint8)


def _pasta_labels(labels: np.ndarray, names: Mapping[int, str]) -> np.ndarray:
    """The model's labels with PASTA's values; classes that PASTA does not know become background."""
    table = np.zeros(256, np.uint8)
    for value, name in names.items():
        table[value] = _VALUE_OF.get(name, 0)
    if (table[list(names)] == list(names)).all():
        return np.asarray(labels)
    return _translated(table, labels)


def _translated(table: np.ndarray, labels: np.ndarray) -> np.ndarray:
    out = np.empty(labels.shape, np.uint8)
    for source, target in zip(labels, out):
        target[...] = table[source]
    return out


def _result(
    ct: Volume,
    labels: np.ndarray,
    raw: np.ndarray,
    names: Mapping[int, str],
    document: ReportDocument,
    told: Mapping,
    left_out: int,
) -> SegmentResult:
    """Everything that the scene needs, ready made: what is left for the GUI's thread is to add nodes."""
    lesions = [LesionPart(item.lesion, item.box, item.mask) for item in document.findings]
    cleaned, rest = _cleaned(labels, lesions, keep_rest=left_out > 0)
    notes = [*document.notes, *told["notes"]]
    if left_out:
        notes.append(
            _("{count} more lesions are not listed; those of a type are one segment, the last of that type").format(
                count=left_out
            )
        )
    others = [
        OtherPart(name, box, np.asarray(raw[box] == value))
        for value, name in names.items()
        if name not in _VALUE_OF and (box := _box_of(raw, value)) is not None
    ]
    volumes = volume_rows(Volume(cleaned, ct.affine))
    volumes += [(part.name, "other", round(float(part.mask.sum()) * voxel_volume_ml(ct), 2)) for part in others]
    parts = split_labels(cleaned, [*lesions, *rest])
    return SegmentResult(parts, document.findings, volumes, told["model"], told["trained"], others, notes)


def _cleaned(labels: np.ndarray, lesions: list[LesionPart], keep_rest: bool) -> tuple[np.ndarray, list[LesionPart]]:
    """Labels without the lesion voxels that are in no finding (specks), which become their organ; or those voxels as a part per type."""
    to_organ = np.arange(256, dtype=np.uint8)
    for lesion in taxonomy.LESIONS:
        to_organ[lesion.value] = taxonomy.organ(lesion.organ).value
    cleaned = _translated(to_organ, labels)
    for part in lesions:
        cleaned[part.slices][part.mask] = _VALUE_OF[part.key]
    if not keep_rest:
        return cleaned, []
    rest = []
    for lesion in taxonomy.LESIONS:
        left = (labels == lesion.value) & (cleaned != lesion.value)
        box = _box_of(left, True)
        if box is not None:
            rest.append(LesionPart(lesion.key, box, left[box]))
    return np.array(labels), rest


def _box_of(array: np.ndarray, value) -> Region | None:
    """Bounding box of a value."""
    planes = [(k, plane) for k, plane in enumerate(array == value) if plane.any()]
    if not planes:
        return None
    sides = [slice(planes[0][0], planes[-1][0] + 1)]
    for axis in (1, 0):
        used = np.flatnonzero(np.any([plane.any(axis=axis) for _k, plane in planes], axis=0))
        sides.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(sides)


def numbered_names(findings: list[Finding]) -> list[str]:
    """ "Liver tumor 1", "Liver tumor 2", … as the segments are called."""
    count: dict[str, int] = {}
    names = []
    for item in findings:
        count[item.lesion] = count.get(item.lesion, 0) + 1
        names.append(f"{item.name} {count[item.lesion]}")
    return names
