"""Labelled scans to segment: nnU-Net raw folders and case tables, checked, and brought once to canonical space. No torch.

Canonical space (axes to L, P, S, isotropic voxels) looks at geometry alone, so that its files may be shared by all folds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from PASTALib.errors import InputError
from PASTALib.imageio.files import lps_affine, quiet_itk
from PASTALib.progress import Progress, silent
from PASTALib.volume import Canonical, Volume, read_volume, same_grid, to_canonical, write_volume

from ..runs import write_json
from .table import existing, read_rows

CT = "CT"
ENDING = ".nii.gz"
DATASET_JSON = "dataset.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Scan:
    """A labelled scan of one or several images on one grid. ``holds``: label values in its mask, once it was read."""

    id: str
    patient: str
    images: tuple[Path, ...]
    mask: Path
    holds: tuple[int, ...] = ()

    @property
    def stratum(self) -> str:
        """What folds are balanced by: the labels that the scan shows."""
        return ",".join(map(str, self.holds))


@dataclass(frozen=True)
class ScanSet:
    """``labels``: foreground name -> value 1, 2, …; ``channels``: what the images are, "CT" or another name; ``digest`` of the listing."""

    name: str
    scans: tuple[Scan, ...]
    labels: Mapping[str, int]
    channels: tuple[str, ...] = (CT,)
    digest: str = field(default="")

    def of(self, ids: Sequence[str]) -> list[Scan]:
        """The scans of these ids, in their order."""
        by_id = {scan.id: scan for scan in self.scans}
        return [by_id[name] for name in ids]

    @property
    def plain_ct(self) -> bool:
        """Whether it is single CTs, which our own inference takes."""
        return self.channels == (CT,)

    def dataset_json(self, count: int) -> dict:
        """nnU-Net's description."""
        return {
            "name": self.name,
            "channel_names": {str(n): name for n, name in enumerate(self.channels)},
            "labels": {"background": 0, **self.labels},
            "numTraining": count,
            "file_ending": ENDING,
            "overwrite_image_reader_writer": "SimpleITKIO",
        }


def read_raw_folder(folder: str | Path, patients: str | Path | None = None) -> ScanSet:
    """The training cases of an nnU-Net raw folder (dataset.json, imagesTr, labelsTr, or files listed under "dataset").

    ``patients``: table with the columns id and patient; without it every case is a patient of its own. InputError for regions and ignored
    labels, values that are not 1, 2, …, and files that are missing.
    """
    folder = Path(folder)
    try:
        data = json.loads((folder / DATASET_JSON).read_text(encoding="utf-8"))
        labels, channels, ending = data["labels"], data.get("channel_names", data.get("modality")), data["file_ending"]
        channels = tuple(str(channels[key]) for key in sorted(channels, key=int))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / DATASET_JSON}: not readable as nnU-Net's ({type(error).__name__}: {error}); wanted labels, channel_names, file_ending"
        ) from None
    labels = _checked_labels({str(name): value for name, value in labels.items()}, folder / DATASET_JSON)
    listed = data.get("dataset") or {}
    if not listed:
        masks = sorted((folder / "labelsTr").glob(f"*{ending}"))
        for mask in masks:
            stem = mask.name.removesuffix(ending)
            images = [f"imagesTr/{stem}_{n:04d}{ending}" for n in range(len(channels))]
            listed[stem] = {"images": images, "label": f"labelsTr/{mask.name}"}
    of_patient = _patients(patients)
    scans = []
    for name, entry in listed.items():
        images = tuple(folder / item for item in entry["images"])
        missing = next((path for path in (*images, folder / entry["label"]) if not path.is_file()), None)
        if missing is not None:
            raise InputError(f"{folder}: case {name}: {missing} is missing; restore it, or take the case out")
        if of_patient and name not in of_patient:
            raise InputError(f"{patients}: case {name!r} of {folder} is not listed; add its patient")
        scans.append(Scan(_checked_name(name, folder), of_patient.get(name, name), images, folder / entry["label"]))
    return _set(folder.name, scans, labels, channels, folder)


def read_scan_table(path: str | Path, names: Sequence[str], channels: Sequence[str] = (CT,)) -> ScanSet:
    """The scans of a table with the columns id, ct (several images with ";" between), mask, and patient if wanted.

    ``names``: what the mask's values 1, 2, … are. InputError naming the line.
    """
    path = Path(path)
    if len({"background", *names}) != len(names) + 1:
        raise InputError(f"--labels {','.join(names)}: wanted different names for the values 1, 2, … of the masks")
    labels = _checked_labels({name: n for n, name in enumerate(names, 1)}, "--labels")
    scans, lines = [], {}
    for number, row in read_rows(path, ["id", "ct", "mask"]):
        where = f"{path}, line {number}"
        name = _checked_name(row["id"], where)
        if name in lines:
            raise InputError(f"{where}: id {name!r} is that of line {lines[name]} too; give every row its own")
        lines[name] = number
        images = [item.strip() for item in row["ct"].split(";")]
        if len(images) != len(channels):
            raise InputError(
                f"{where}: {len(images)} images; wanted {len(channels)} ({', '.join(channels)}), ; between"
            )
        files = [existing(path.parent, item, key, where) for key, item in zip(("ct",) * len(images), images)]
        mask = existing(path.parent, row["mask"], "mask", where)
        scans.append(Scan(name, row.get("patient") or name, tuple(files), mask))
    return _set(path.stem, scans, labels, tuple(channels), path)


def standardise(
    scans: ScanSet, folder: Path, spacing_mm: float, progress: Progress = silent
) -> tuple[ScanSet, ScanSet]:
    """``scans`` with the labels that each holds, and the same set in canonical space, in files below ``folder``; those there are kept.

    InputError naming the scan for images or masks on different grids, and masks with values that have no name ("unequal label sets").
    """
    folder.mkdir(parents=True, exist_ok=True)
    known, moved = [], []
    for number, scan in enumerate(scans.scans):
        progress(number, len(scans.scans), f"standardising {scan.id}")
        stem = f"{scan.id}-{_digest(scan, spacing_mm)}"
        note = folder / f"{stem}.json"
        images = tuple(folder / f"{stem}_{n:04d}{ENDING}" for n in range(len(scan.images)))
        mask = folder / f"{stem}{ENDING}"
        if not note.is_file():  # written last
            try:
                holds = _write_canonical(scan, scans, images, mask, spacing_mm)
            except InputError as error:
                raise InputError(f"case {scan.id}: {error}") from None
            write_json(note, {"holds": holds})
        holds = tuple(json.loads(note.read_text(encoding="utf-8"))["holds"])
        known.append(replace(scan, holds=holds))
        moved.append(Scan(scan.id, scan.patient, images, mask, holds))
    progress(len(scans.scans), len(scans.scans), "standardised")
    return replace(scans, scans=tuple(known)), replace(scans, scans=tuple(moved))


def read_images(scan: Scan, channels: Sequence[str]) -> list[Volume]:
    """The scan's images: CT in HU, int16; others as float32. InputError for images on different grids."""
    volumes = []
    for path, channel in zip(scan.images, channels):
        volumes.append(read_volume(path, "ct") if channel.upper() == CT else _read_float(path))
        difference = same_grid(volumes[0], volumes[-1])
        if difference:
            raise InputError(
                f"{path} is not on the grid of {scan.images[0].name} ({difference}); register and resample it"
            )
    return volumes


def read_mask(scan: Scan, like: Volume) -> np.ndarray:
    """The label map (z, y, x), on the grid of ``like``."""
    mask = read_volume(scan.mask, "labels")
    difference = same_grid(like, mask)
    if difference:
        raise InputError(f"{scan.mask} is not on the grid of the scan ({difference}); give the mask drawn on it")
    return mask.array


def canonical_images(volumes: Sequence[Volume], spacing_mm: float) -> list[Canonical]:
    """Every image in canonical space."""
    return [to_canonical(volume, spacing_mm) for volume in volumes]


# ---------------------------------------------------------------------------------------------------------------


def _write_canonical(scan: Scan, scans: ScanSet, images, mask: Path, spacing_mm: float) -> list[int]:
    volumes = read_images(scan, scans.channels)
    labels = read_mask(scan, volumes[0])
    holds = [int(value) for value in np.unique(labels) if value]
    unknown = [value for value in holds if value not in scans.labels.values()]
    if unknown:
        named = ", ".join(f"{value} {name}" for name, value in scans.labels.items())
        raise InputError(f"{scan.mask} holds the label {unknown[0]}, which has no name; named are {named}")
    for volume, path in zip(canonical_images(volumes, spacing_mm), images):
        write_volume(volume.volume, path)
    write_volume(to_canonical(Volume(labels, volumes[0].affine), spacing_mm, "labels").volume, mask)
    return holds


def _read_float(path: Path) -> Volume:
    import SimpleITK as sitk

    try:
        with quiet_itk():
            image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    except RuntimeError:
        raise InputError(f"{path}: cannot be read as an image; check the file") from None
    if image.GetDimension() != 3:
        raise InputError(f"{path}: {image.GetDimension()}-D; wanted one 3-D image")
    array = sitk.GetArrayFromImage(image)
    if not np.isfinite(array).all():
        raise InputError(f"{path}: holds values that are not finite; replace them and export again")
    return Volume(array, lps_affine(image.GetOrigin(), image.GetSpacing(), image.GetDirection()))


def _checked_labels(labels: Mapping[str, Any], source: object) -> dict[str, int]:
    if any(isinstance(value, (list, tuple)) for value in labels.values()):
        raise InputError(f"{source}: labels are regions; wanted one value per label, background 0")
    foreground = {name: value for name, value in labels.items() if value != 0}
    if "ignore" in foreground:
        raise InputError(f"{source}: has an ignore label, which these recipes do not train with; leave it out")
    values = [value for value in foreground.values() if isinstance(value, int)]
    if not foreground or sorted(values) != list(range(1, len(foreground) + 1)):
        raise InputError(f"{source}: labels {dict(labels)}; wanted background 0 and 1, 2, … for the others")
    return dict(sorted(foreground.items(), key=lambda item: item[1]))


def _checked_name(name: str, where: object) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"{where}: id {name!r}; wanted letters, digits, . _ and -, because files are named after it")
    return name


def _patients(path: str | Path | None) -> dict[str, str]:
    return {} if path is None else {row["id"]: row["patient"] for _, row in read_rows(path, ["id", "patient"])}


def _set(name: str, scans: list[Scan], labels: dict[str, int], channels: tuple[str, ...], source: Path) -> ScanSet:
    if len(scans) < 2:
        raise InputError(f"{source}: {len(scans)} labelled scans; wanted two or more")
    scans.sort(key=lambda scan: scan.id)
    channels = tuple(CT if channel.upper() == CT else channel for channel in channels)
    listing = [(scan.id, scan.patient, [path.name for path in scan.images], scan.mask.name) for scan in scans]
    digest = hashlib.sha256(repr((listing, labels, channels)).encode()).hexdigest()[:16]
    return ScanSet(re.sub(r"[^A-Za-z0-9_-]+", "-", name), tuple(scans), labels, channels, digest)


def _digest(scan: Scan, spacing_mm: float) -> str:
    """12 hexadecimal digits over files (path, size, time of change) and voxel size."""
    states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in (*scan.images, scan.mask)]
    return hashlib.sha256(repr((states, spacing_mm)).encode()).hexdigest()[:12]
