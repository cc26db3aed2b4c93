"""Where a volume node came from in DICOM, in the form in which ``PASTALib.reporting`` wants it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer

from ..imageio.files import LPS_RAS, quiet_itk

INSTANCES = "DICOM.instanceUIDs"  # the attribute that Slicer's DICOM plug-ins give to volumes they load


def dicom_origin(node, affine: np.ndarray) -> dict:
    """``{"format": "DICOM", "dicom": {series_uid, study_uid, description, files}, "notes": […]}`` of a volume loaded from DICOM, else ``{}``.

    ``affine``: the node's own, (i, j, k) to RAS mm; ``files`` are the slices in the order of k. They are left out, with a note, when the
    DICOM database no longer has them: the report then goes to JSON and HTML only.
    """
    uids = (node.GetAttribute(INSTANCES) or "").split()
    if not uids:
        return {}
    series_uid, study_uid, description = _hierarchy(node)
    about = {"series_uid": series_uid, "study_uid": study_uid, "description": description}
    files = _files(uids)
    if files is None:
        note = "the DICOM database does not have all slices of this volume; DICOM SEG and SR cannot refer to them"
        return {"format": "DICOM", "dicom": about, "notes": [note]}
    return {"format": "DICOM", "dicom": {**about, "files": _in_order(files, affine)}}


def _hierarchy(node) -> tuple[str, str, str]:
    """Series UID, study UID and series name that the subject hierarchy holds; empty where it holds none."""
    hierarchy = node.GetScene().GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode") if node.GetScene() else None
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    if not item:
        return "", "", node.GetName()
    return (
        hierarchy.GetItemUID(item, "DICOM"),
        hierarchy.GetItemUID(hierarchy.GetItemParent(item), "DICOM"),
        hierarchy.GetItemName(item),
    )


def _files(uids: list[str]) -> list[str] | None:
    database = getattr(slicer, "dicomDatabase", None)
    if database is None:
        return None
    files = [database.fileForInstance(uid) for uid in uids]
    return files if all(file and Path(file).is_file() for file in files) else None


def _in_order(files: list[str], affine: np.ndarray) -> list[str]:
    """The files as k runs: Slicer's order, turned round when the first file lies at the last slice."""
    first, last = (_position(file) for file in (files[0], files[-1]))
    if first is None or last is None or (last - first) @ affine[:3, 2] >= 0:
        return files
    return files[::-1]


def _position(file: str) -> np.ndarray | None:
    """RAS mm of a slice's first pixel, None when it cannot be read."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        with quiet_itk():
            reader.ReadImageInformation()
    except RuntimeError:
        return None
    return LPS_RAS[:3, :3] @ np.array(reader.GetOrigin()[:3])
