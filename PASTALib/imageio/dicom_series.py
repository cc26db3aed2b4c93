"""A folder of DICOM slices as one CT volume: choosing the series, and refusing stacks that are no regular, untilted grid."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from .files import LPS_RAS, MAX_SHEAR, MIN_SLICES, VoxelSink, check_affine, check_shape, quiet_itk

REGULARIZE = "load it in Slicer with 'Acquisition geometry regularization' switched on (DICOM settings) and save the result as .nrrd"
_TAGS = {
    "series_uid": "0020|000e",
    "study_uid": "0020|000d",
    "description": "0008|103e",
    "modality": "0008|0060",
    "image_type": "0008|0008",
    "photometric": "0028|0004",
    "position": "0020|0032",
    "orientation": "0020|0037",
    "spacing": "0028|0030",
    "frames": "0028|0008",
}


@dataclass
class _Slice:
    file: Path
    size: tuple[int, int]  # columns, rows
    components: int
    tags: dict[str, str]

    def numbers(self, tag: str, count: int) -> np.ndarray | None:
        """The tag's decimal values, or None when it is absent or malformed."""
        try:
            values = np.array([float(v) for v in self.tags[tag].split("\\")])
        except ValueError:
            return None
        return values if len(values) == count and np.isfinite(values).all() else None


def read(folder: Path, kind: str, series_uid: str | None = None) -> tuple[np.ndarray, np.ndarray, dict]:
    """``(array (z, y, x) int16 HU, RAS affine, meta)`` of the CT series in ``folder`` (not its subfolders).

    Rescale slope and intercept are applied. ``meta["dicom"]`` holds ``series_uid, study_uid, description`` and ``files`` in array order
    (no patient data). Raises InputError for several equally likely series, another modality, or an irregular or tilted stack.
    """
    if kind != "ct":
        raise InputError(
            f"{folder}: a folder cannot be a label map; give a .nii.gz, .nrrd or .mha file on the grid of the CT"
        )
    found, unreadable = _scan(folder)
    slices, notes = _choose(folder, found, series_uid)
    if unreadable:
        notes.append(f"DICOM files without a readable image were passed over: {_names(unreadable)}")
    slices, affine = _geometry(folder, slices, unreadable)
    sink = VoxelSink((len(slices), *slices[0].size[::-1]), kind, folder, np.dtype(np.int16))
    for k, one in enumerate(slices):
        sink.put(k, _pixels(one))
    array, clipped = sink.finish()
    about = {tag: slices[0].tags[tag] for tag in ("series_uid", "study_uid", "description")}
    return (
        array,
        affine,
        {"format": "DICOM", "notes": notes + clipped, "dicom": {**about, "files": [str(s.file) for s in slices]}},
    )


def _scan(folder: Path) -> tuple[list[_Slice], list[Path]]:
    """Headers of all DICOM images directly in the folder, and the DICOM files that hold no image or a damaged one."""
    import SimpleITK as sitk

    found, unreadable = [], []
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    with quiet_itk():
        for file in sorted(f for f in folder.iterdir() if f.is_file()):
            reader.SetFileName(str(file))
            try:
                reader.ReadImageInformation()
            except RuntimeError:
                if _has_dicom_mark(file):
                    unreadable.append(file)
                continue
            tags = {
                name: reader.GetMetaData(key).strip(" \0") if reader.HasMetaDataKey(key) else ""
                for name, key in _TAGS.items()
            }
            found.append(_Slice(file, reader.GetSize()[:2], reader.GetNumberOfComponents(), tags))
    if not found:
        raise InputError(
            f"{folder}: no DICOM images directly in this folder; give the folder that holds the slices themselves"
        )
    return found, unreadable


def _has_dicom_mark(file: Path) -> bool:
    with open(file, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _names(files: list[Path]) -> str:
    return ", ".join(f.name for f in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def _choose(folder: Path, slices: list[_Slice], series_uid: str | None) -> tuple[list[_Slice], list[str]]:
    """The series asked for, the only CT series, or one with more than twice as many slices as any other."""
    if all(s.tags["modality"] != "CT" for s in slices):
        found = ", ".join(sorted({s.tags["modality"] or "none" for s in slices}))
        raise InputError(f"{folder}: DICOM modality {found}; CT is needed: give the folder of a CT series")
    series: dict[str, list[_Slice]] = defaultdict(list)
    for one in slices:
        if one.tags["modality"] == "CT" and "LOCALIZER" not in one.tags["image_type"].upper():
            series[one.tags["series_uid"]].append(one)
    if series_uid is not None:
        series = {uid: stack for uid, stack in series.items() if uid == series_uid}
    if not series:
        wanted = f"no CT series {series_uid}" if series_uid else "only CT localizers (scouts)"
        raise InputError(f"{folder}: {wanted}; give the folder of a CT series with at least {MIN_SLICES} slices")
    ranked = sorted(series.values(), key=len, reverse=True)
    if len(ranked) == 1:
        return ranked[0], []
    listing = ", ".join(f"'{_title(s)}' ({len(s)} slices)" for s in ranked)
    if len(ranked[0]) <= 2 * len(ranked[1]):
        raise InputError(f"{folder}: {len(ranked)} CT series: {listing}; keep one of them in the folder")
    return ranked[0], [f"of {len(ranked)} CT series in the folder the largest was read: {listing}"]


def _title(stack: list[_Slice]) -> str:
    return " ".join((stack[0].tags["description"] or stack[0].tags["series_uid"] or "unnamed").split())


def _geometry(folder: Path, slices: list[_Slice], unreadable: list[Path]) -> tuple[list[_Slice], np.ndarray]:
    """Slices sorted along their normal, and the RAS affine of the stack."""
    _check_alike(folder, slices)
    check_shape((*slices[0].size, len(slices)), max(s.components for s in slices), folder)
    rows, columns = slices[0].numbers("orientation", 6).reshape(2, 3)
    normal = np.cross(rows, columns)
    slices = sorted(slices, key=lambda s: float(s.numbers("position", 3) @ normal))
    positions = np.array([s.numbers("position", 3) for s in slices])
    along = positions @ normal
    _check_gaps(folder, along, unreadable)
    travel = positions[-1] - positions[0]
    drift = float(np.linalg.norm(travel - normal * (travel @ normal)))
    if drift > 0.1 and drift / np.linalg.norm(travel) > MAX_SHEAR:
        angle = np.degrees(np.arctan2(drift, travel @ normal))
        raise InputError(
            f"{folder}: slices are shifted against their normal by {angle:.2f} degrees (gantry tilt); {REGULARIZE}"
        )
    row_mm, column_mm = slices[0].numbers("spacing", 2)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([rows * column_mm, columns * row_mm, travel / (len(slices) - 1)])
    affine[:3, 3] = positions[0]
    affine = LPS_RAS @ affine
    check_affine(affine, folder)
    return slices, affine


def _check_alike(folder: Path, slices: list[_Slice]) -> None:
    """Every slice single-frame, grey, with a place in space, and of the same size, orientation and pixel spacing."""
    first = slices[0]
    for one in slices:
        where = f"{folder}: {one.file.name}"
        if one.tags["frames"] not in ("", "1"):
            raise InputError(f"{where} is a multi-frame DICOM image; load it in Slicer and save it as .nrrd")
        if one.tags["photometric"] != "MONOCHROME2" or one.components != 1:
            found = one.tags["photometric"] or "unknown"
            raise InputError(
                f"{where} has photometric interpretation {found}; CT slices are MONOCHROME2: give the original series"
            )
        geometry = [one.numbers(tag, count) for tag, count in (("position", 3), ("orientation", 6), ("spacing", 2))]
        if any(g is None for g in geometry):
            raise InputError(f"{where} lacks its position, orientation or pixel spacing; give the original CT series")
        same = one.size == first.size and np.allclose(geometry[1], first.numbers("orientation", 6), atol=1e-3)
        if not same or not np.allclose(geometry[2], first.numbers("spacing", 2), rtol=1e-3):
            raise InputError(
                f"{where} differs from {first.file.name} in size, orientation or pixel spacing; keep one stack in the folder"
            )


def _check_gaps(folder: Path, along: np.ndarray, unreadable: list[Path]) -> None:
    """``along``: sorted slice positions in mm; refuse duplicates, holes and varying spacing."""
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    if gaps.min() < 1e-3:
        at = along[int(gaps.argmin())]
        raise InputError(
            f"{folder}: several slices lie at {at:.2f} mm (several phases in one series?); keep one phase in the folder"
        )
    if gaps.max() > 1.9 * usual and np.abs(gaps / usual - np.rint(gaps / usual)).max() < 0.1:
        holes = int(np.rint(gaps / usual).sum()) - len(gaps)
        at = int(gaps.argmax())
        damaged = f"; not readable: {_names(unreadable)}" if unreadable else ""
        raise InputError(
            f"{folder}: {holes} slice(s) missing, the first gap between {along[at]:.2f} and {along[at + 1]:.2f} mm (usual distance "
            f"{usual:.2f} mm{damaged}); add the missing files, or {REGULARIZE}"
        )
    even = np.linspace(along[0], along[-1], len(along))
    if np.abs(along - even).max() > max(0.1, 0.05 * usual):
        raise InputError(
            f"{folder}: slice distance varies from {gaps.min():.2f} to {gaps.max():.2f} mm; one is needed: {REGULARIZE}"
        )


def _pixels(one: _Slice) -> np.ndarray:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(one.file))
    try:
        with quiet_itk():
            return sitk.GetArrayFromImage(reader.Execute()).reshape(1, *one.size[::-1])
    except RuntimeError as error:
        raise InputError(
            f"{one.file}: the slice's pixels cannot be read (truncated or damaged); copy the series again"
        ) from error
