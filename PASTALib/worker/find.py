"""The job "findings": lesions of a scan, found and measured, as a report document and the masks of its findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import numpy as np
from scipy import ndimage

from .. import taxonomy
from ..findings import LesionMask, ScanPhase, find_lesions, scan_phase
from ..findings.find import MIN_SIZE_MM
from ..organs import OrganMap, location_detail
from ..progress import Progress
from ..reporting.document import ReportDocument, ScanFacts
from ..volume import Volume

_CONNECTED = np.ones((3, 3, 3), bool)  # 26-connected, as lesions are


def find(
    ct: Volume, labels: np.ndarray, types: Mapping[int, str], arrays: Mapping, given: Mapping, progress: Progress
) -> tuple[dict, dict[str, np.ndarray]]:
    """What ``jobs.findings`` returns; ``labels`` has the scan's shape, ``types`` label value -> lesion type."""
    notes: list[str] = []
    organs = _organs(ct, arrays, given)
    progress(0, 0, "finding lesions")
    labels, left_out = largest_parts(labels, types, given.get("most"))
    mask = LesionMask(Volume(labels, ct.affine), dict(types))
    measure = given.get("measure", True)
    phase = scan_phase(ct, organs) if measure else ScanPhase(None, "not looked at")
    found = find_lesions(
        ct,
        mask,
        organs=organs if measure else None,
        phase=phase,
        min_size_mm=given.get("min_size_mm", MIN_SIZE_MM),
        notes=notes,
        progress=progress,
    )
    if organs is not None and not measure:
        found = [_placed(item, organs) for item in found]
    created = given.get("created") or datetime.now().astimezone().isoformat(timespec="seconds")
    document = ReportDocument(ScanFacts.of(ct, phase), found, created, None, given.get("mask_name", ""), notes)
    masks = [item.mask.ravel().view(np.uint8) for item in found]
    return (
        {"document": document.to_json(), "left_out": left_out},
        {"masks": np.concatenate(masks) if masks else np.zeros(0, np.uint8)},
    )


def largest_parts(labels: np.ndarray, types: Mapping[int, str], most: int | None) -> tuple[np.ndarray, int]:
    """``labels`` with only the ``most`` largest connected parts of the values in ``types``, and how many parts went (None: all stay)."""
    if most is None:
        return labels, 0
    parts = []  # (voxels, label value, box, number in the box)
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None and value in types:
            numbered, count = ndimage.label(labels[box] == value, _CONNECTED)
            sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
            parts += [(int(size), value, box, number) for number, size in enumerate(sizes, start=1)]
    if len(parts) <= most:
        return labels, 0
    parts.sort(key=lambda part: -part[0])
    kept = np.zeros_like(labels)
    for value in types:
        numbers = [number for _size, of, _box, number in parts[:most] if of == value]
        if numbers:
            box = next(box for _size, of, box, _number in parts if of == value)
            numbered, _count = ndimage.label(labels[box] == value, _CONNECTED)
            kept[box][np.isin(numbered, numbers)] = value
    return kept, len(parts) - most


def split_masks(document: ReportDocument, masks: np.ndarray) -> ReportDocument:
    """The document with its findings' masks, which the job gives one after the other."""
    findings, start = [], 0
    for item in document.findings:
        shape = tuple(side.stop - side.start for side in item.box)
        stop = start + int(np.prod(shape))
        findings.append(replace(item, mask=masks[start:stop].reshape(shape) != 0))
        start = stop
    return replace(document, findings=findings)


def _organs(ct: Volume, arrays: Mapping, given: Mapping) -> OrganMap | None:
    if "organs" not in arrays:
        return None
    structures = arrays.get("structures")
    return OrganMap(
        Volume(arrays["organs"], ct.affine),
        None if structures is None else Volume(structures, ct.affine),
        {int(value): name for value, name in given.get("structure_names", {}).items()},
        given.get("scheme", "pasta"),
    )


def _placed(item, organs: OrganMap):
    organ = taxonomy.lesion(item.lesion).organ
    if not organs.has(organ):
        return item
    return replace(item, report=replace(item.report, location_detail=location_detail(organs, organ, item.centre_ras)))
