"""The series of a TCIA download: one folder each, told by the header of one file, whatever the folders are called. No torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from PASTALib.errors import InputError
from PASTALib.volume import Volume, read_volume

PIP_COMMAND = 'pip install "pydicom>=3.0" "highdicom>=0.24"'
_TAGS = (
    "PatientID",
    "Modality",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "SeriesDescription",
    "StudyDate",
    "ImageType",
)


@dataclass(frozen=True)
class Series:
    """A DICOM series: its folder, the first file in it, and how many files there are."""

    patient: str
    modality: str
    uid: str
    frame: str
    folder: Path
    file: Path
    files: int
    description: str = ""
    date: str = ""
    localizer: bool = False


def require_pydicom() -> None:
    """InputError with the pip command when pydicom or highdicom is missing."""
    try:
        import highdicom  # noqa: F401
        import pydicom  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"reading DICOM needs pydicom and highdicom ({error}); install it with: {PIP_COMMAND}"
        ) from None


def patient_folders(folder: Path, pattern: str) -> list[Path]:
    """Folders called after patients (a regular expression), as the NBIA Data Retriever writes them."""
    return sorted(place for place in folder.iterdir() if re.fullmatch(pattern, place.name) and place.is_dir())


def series_of(folder: Path) -> list[Series]:
    """All series below a patient's folder. A folder whose first and last file are of different series is read file by file."""
    found: dict[str, Series] = {}
    for place, _, names in os.walk(folder):
        files = sorted(Path(place, name) for name in names if not name.startswith(".") and name.lower() != "license")
        if not files:
            continue
        ends = [one for one in map(_read, {files[0], files[-1]}) if one is not None]
        if len({one.uid for one in ends}) == 1 and len(ends) == len({files[0], files[-1]}):
            one = min(ends, key=lambda series: series.file)
            _add(found, one, len(files))
        else:
            for path in files:
                one = _read(path)
                if one is not None:
                    _add(found, one, 1)
    return sorted(found.values(), key=lambda one: (str(one.folder), one.uid))


def read_series(folder: Path, uid: str) -> Volume:
    """The CT of a folder as training will read it; InputError when that is another series than ``uid``."""
    ct = read_volume(folder, "ct")
    if ct.meta["dicom"]["series_uid"] != uid:
        raise InputError(f"{folder}: holds several CT series; keep series {uid} alone in a folder")
    return ct


def _add(found: dict[str, Series], one: Series, files: int) -> None:
    before = found.get(one.uid)
    if before is not None:
        files += before.files
        one = before
    found[one.uid] = Series(**{**one.__dict__, "files": files})


def _read(path: Path) -> Series | None:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    except (InvalidDicomError, OSError, EOFError, ValueError):
        return None
    text = {name: str(header.get(name, "") or "") for name in _TAGS}
    if not text["SeriesInstanceUID"]:
        return None
    return Series(
        text["PatientID"].strip(),
        text["Modality"].upper(),
        text["SeriesInstanceUID"],
        text["FrameOfReferenceUID"],
        path.parent,
        path,
        0,
        text["SeriesDescription"],
        text["StudyDate"],
        "LOCALIZER" in text["ImageType"].upper(),
    )
