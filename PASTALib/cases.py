"""One generated or published case on disk: ``<Organ>/<Type>/<case>/{img,label,total}.nii.gz, type.json, case.json``."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__, taxonomy
from .attributes import ORGAN_IDS, StructuredReport, organ_of_id, type_json
from .errors import InputError
from .organs import SCHEMES, OrganMap, from_labels
from .volume import Volume, read_volume, same_grid, write_volume

if TYPE_CHECKING:
    from .synthesis.spec import SynthesisResult

IMAGE, LABEL, TOTAL, TYPE = "img.nii.gz", "label.nii.gz", "total.nii.gz", "type.json"
INSTANCES, RECORD = "lesions.nii.gz", "case.json"
ORGAN_VALUE, LESION_VALUE = 1, 2
SCHEMA, SCHEMA_VERSION = "pasta-case", 1
_LARGEST_ARRAY = 1000  # elements; larger ones are only described in case.json


@dataclass
class Case:
    """A case as read from disk; all volumes share one grid.

    ``ct``: int16 HU. ``label``: uint8, parent organs 1, lesions 2. ``organs``: PASTA organ labels 1-10 (``total.nii.gz``).
    ``reports``: one per lesion, the main lesion first. ``instances``: uint8, value n on the n-th lesion, or None.
    ``record``: the contents of case.json, empty for published cases.
    """

    folder: Path
    ct: Volume
    label: Volume
    organs: OrganMap
    reports: list[StructuredReport]
    instances: Volume | None = None
    record: dict = field(default_factory=dict)


def case_folder(root: str | Path, lesion_key: str, name: str) -> Path:
    """Where a case called ``name`` with this main lesion type belongs under ``root``: ``<Organ>/<Type>/<name>``."""
    lesion = taxonomy.lesion(lesion_key)
    return Path(root) / taxonomy.organ(lesion.organ).folder / lesion.folder / name


def lesion_of_folder(folder: str | Path) -> str | None:
    """Lesion type key that a case folder's place tells (``…/Kidney/Stone/0001`` -> "kidney_stone"), or None."""
    parts = [part.casefold() for part in Path(folder).absolute().parts[-3:-1]]
    for lesion in taxonomy.LESIONS:
        if parts == [taxonomy.organ(lesion.organ).folder.casefold(), lesion.folder.casefold()]:
            return lesion.key
    return None


def find_cases(root: str | Path) -> Iterator[Path]:
    """Every case folder at or under ``root`` (one that holds an image), sorted; hidden folders are passed over."""
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds <Organ>/<Type>/<case>")
    for place, folders, files in os.walk(root):
        if IMAGE in files:
            folders.clear()
            yield Path(place)
        else:
            folders[:] = sorted(name for name in folders if not name.startswith("."))


# ---------------------------------------------------------------------------------------------------------------
# Writing


def write_case(
    folder: str | Path,
    ct: Volume,
    organs: OrganMap,
    lesions: Sequence[SynthesisResult],
    *,
    seed: int,
    source: str = "",
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one case; either all of it appears at ``folder`` or nothing changes there.

    ``ct``: the scan in HU, with or without the lesions already in it: each lesion's changed voxels are written over it in
    turn. ``organs``: organ map on the same grid. ``lesions``: accepted lesions of one scan, the main one first; several
    types and organs may be mixed, and lesions.nii.gz is added when there is more than one. ``source``: name of the
    scan (folders in front of it are dropped). ``options``: how the case was made, kept in case.json.

    The same input gives the same bytes. Raises InputError for an existing folder (unless ``overwrite``), differing grids,
    no lesion, or a lesion without a voxel of its own.
    """
    folder = Path(folder)
    _check_input(ct, organs, lesions)
    total = _organ_labels(organs, lesions)
    label, instances = _masks(total, lesions)
    volumes = {IMAGE: _image(ct, lesions), LABEL: label, TOTAL: total}
    if len(lesions) > 1:
        volumes[INSTANCES] = instances
    types = type_json(lesion.report for lesion in lesions)
    record = _record(ct, organs, lesions, instances, seed, source, options or {})

    with _staged(folder, overwrite) as staging:
        for name, array in volumes.items():
            write_volume(Volume(array, ct.affine), staging / name)
        _write_json(types, staging / TYPE, ascii_only=True)
        _write_json(record, staging / RECORD)
    return folder


def _check_input(ct: Volume, organs: OrganMap, lesions: Sequence[SynthesisResult]) -> None:
    if not 1 <= len(lesions) <= 255:
        raise InputError(f"a case holds 1 to 255 lesions, found {len(lesions)}")
    _check_grid(organs.labels, ct, "organ map")
    if not np.isfinite(ct.array).all():
        raise InputError("the CT holds values that are not finite; write HU")
    for number, lesion in enumerate(lesions, 1):
        shape = ct.array[lesion.region].shape
        for name in ("after", "label", "organ", "changed"):
            if getattr(lesion, name).shape != shape:
                raise InputError(
                    f"lesion {number}: {name} has shape {getattr(lesion, name).shape}, its region in the CT {shape}"
                )
        if not isinstance(lesion.report, StructuredReport):
            raise InputError(f"lesion {number}: report is {type(lesion.report).__name__}, wanted StructuredReport")


def _check_grid(volume: Volume, reference: Volume, name: str) -> None:
    difference = same_grid(volume, reference)
    if difference:
        raise InputError(f"{name} is not on the grid of the CT: {difference}; resample it to the CT first")


def _image(ct: Volume, lesions: Sequence[SynthesisResult]) -> np.ndarray:
    image = _int16(ct.array)
    for lesion in lesions:
        image[lesion.region][lesion.changed] = _int16(lesion.after[lesion.changed])
    return image


def _int16(hu: np.ndarray) -> np.ndarray:
    """A rounded int16 copy of HU."""
    if np.issubdtype(hu.dtype, np.floating):
        hu = np.rint(hu)
    return np.clip(hu, -32768, 32767).astype(np.int16)


def _organ_labels(organs: OrganMap, lesions: Sequence[SynthesisResult]) -> np.ndarray:
    """The organ map; where a lesion pushed its organ aside, with the organ as it is in the image now."""
    total = np.array(organs.labels.array, dtype=np.uint8)
    for lesion in lesions:
        if lesion.moved_labels is not None:
            total[lesion.region][lesion.changed] = lesion.moved_labels[lesion.changed]
    return total


def _masks(total: np.ndarray, lesions: Sequence[SynthesisResult]) -> tuple[np.ndarray, np.ndarray]:
    """``label`` (organs 1, lesions 2) and the instance map; of overlapping lesions the later one is on top."""
    label = np.isin(total, [_organ_value(lesion) for lesion in lesions]).astype(np.uint8) * ORGAN_VALUE
    instances = np.zeros_like(label)
    for number, lesion in enumerate(lesions, 1):
        label[lesion.region][lesion.organ & ~lesion.label] = ORGAN_VALUE
        instances[lesion.region][lesion.label] = number
    label[instances > 0] = LESION_VALUE
    counts = np.bincount(instances.ravel(), minlength=len(lesions) + 1)
    for number, lesion in enumerate(lesions, 1):
        if counts[number] == 0:
            raise InputError(f"lesion {number} ({lesion.report.lesion}) has no voxel of its own in this case")
    return label, instances


def _organ_value(lesion: SynthesisResult) -> int:
    return lesion.report.organ.value


def _record(
    ct: Volume,
    organs: OrganMap,
    lesions: Sequence[SynthesisResult],
    instances: np.ndarray,
    seed: int,
    source: str,
    options: Mapping[str, Any],
) -> dict:
    """The contents of case.json."""
    voxel_mm3 = float(np.prod(ct.spacing_zyx_mm))
    counts = np.bincount(instances.ravel(), minlength=len(lesions) + 1)
    entries = []
    for number, lesion in enumerate(lesions, 1):
        entries.append(
            {
                "number": number,
                "lesion": lesion.report.lesion,
                "label_value": taxonomy.lesion(lesion.report.lesion).value,
                "center_ras_mm": lesion.center_ras,
                "region_zyx": [[part.start, part.stop] for part in lesion.region],
                "voxels": counts[number],
                "volume_mm3": counts[number] * voxel_mm3,
                "request": lesion.request,
                "requested": lesion.requested,
                "measured": lesion.measurement,
                "report": lesion.report.to_json(),
                "parameters": lesion.parameters,
                "tries": lesion.tries,
                "log": lesion.log,
            }
        )
    return {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "software": f"SlicerPASTA {__version__}",
        "seed": int(seed),
        "source": {"ct": PureWindowsPath(source).name, "organ_scheme": organs.scheme},
        "total_scheme": "pasta",
        "grid": _jsonable({"shape_zyx": ct.array.shape, "spacing_zyx_mm": ct.spacing_zyx_mm}),
        "options": _jsonable(options),
        "lesions": _jsonable(entries),
    }


def _jsonable(value: Any) -> Any:
    """``value`` for JSON: floats to 6 significant digits (None when not finite), paths to their last part.

    Data classes and numpy values are converted, sets sorted, arrays of more than 1000 elements only described.
    Raises TypeError for anything else.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, np.generic):
        return _jsonable(value.item())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        if value.size > _LARGEST_ARRAY:
            return {"shape": list(value.shape), "dtype": str(value.dtype)}
        return _jsonable(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _jsonable(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((_jsonable(item) for item in value), key=repr)
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, slice):
        return [_jsonable(value.start), _jsonable(value.stop)]
    if isinstance(value, PurePath):
        return value.name
    raise TypeError(f"{type(value).__name__} cannot be kept in {RECORD}")


def _write_json(data: Any, path: Path, ascii_only: bool = False) -> None:
    text = json.dumps(data, indent=1, ensure_ascii=ascii_only, allow_nan=False)
    path.write_bytes(text.encode("utf-8") + b"\n")


@contextmanager
def _staged(folder: Path, overwrite: bool) -> Iterator[Path]:
    """A hidden folder beside ``folder`` that takes its place when the block ends well, and is removed otherwise."""
    if folder.exists() and not overwrite:
        raise InputError(f"{folder} exists already; choose another name or allow overwriting")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.parent / f".{folder.name}.{secrets.token_hex(6)}.partial"
    staging.mkdir()
    try:
        yield staging
        _replace(staging, folder, overwrite)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _replace(staging: Path, folder: Path, overwrite: bool) -> None:
    """Rename ``staging`` to ``folder``; what was there is moved aside first and put back if the renaming fails."""
    old = None
    if overwrite and folder.exists():
        old = staging.with_suffix(".old")
        folder.rename(old)
    try:
        staging.rename(folder)
    except OSError as error:
        if old is not None:
            old.rename(folder)
        elif folder.exists():
            raise InputError(f"{folder} exists already; choose another name or allow overwriting") from error
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


# ---------------------------------------------------------------------------------------------------------------
# Reading


def read_case(folder: str | Path, lesion: str | None = None) -> Case:
    """Read a case that we or the authors of PASTA-Gen-30K wrote.

    ``lesion``: type key, needed only where case.json is missing, the folder is not ``<Organ>/<Type>/<case>`` and the
    organ has several lesion types. A ``total.nii.gz`` with TotalSegmentator (version 1) values is converted to PASTA's
    1-10, its structures kept in ``organs.structures``. Raises InputError for missing, damaged or contradictory files.
    """
    folder = Path(folder)
    _check_files(folder)
    record = _read_record(folder)
    reports = _reports(folder, record, lesion)
    ct = read_volume(folder / IMAGE, kind="ct")
    label = read_volume(folder / LABEL, kind="labels")
    _check_grid(label, ct, str(folder / LABEL))
    _check_values(label, LESION_VALUE, folder / LABEL, "0 background, 1 organ, 2 lesion")
    total = read_volume(folder / TOTAL, kind="labels")
    _check_grid(total, ct, str(folder / TOTAL))
    scheme = record.get("total_scheme") or _guess_scheme(total, label, reports[0].organ)
    organs = _organ_map(total, scheme, folder / TOTAL)
    instances = None
    if (folder / INSTANCES).is_file():
        instances = read_volume(folder / INSTANCES, kind="labels")
        _check_grid(instances, ct, str(folder / INSTANCES))
        _check_values(
            instances, len(reports), folder / INSTANCES, f"one value per lesion, of which there are {len(reports)}"
        )
    return Case(folder, ct, label, organs, reports, instances, record)


def read_reports(folder: str | Path, lesion: str | None = None) -> list[StructuredReport]:
    """Only the structured reports of a case, without reading its volumes; see ``read_case``."""
    folder = Path(folder)
    _check_files(folder)
    return _reports(folder, _read_record(folder), lesion)


def training_labels(case: Case) -> Volume:
    """The paper's 25-value training map (Supplementary Table 7): organs 1-10 with the lesions' values 11-25 on top.

    uint8 on the grid of the CT. InputError for several lesion types without lesions.nii.gz to tell them apart.
    """
    array = np.array(case.organs.labels.array, dtype=np.uint8)
    values = [taxonomy.lesion(report.lesion).value for report in case.reports]
    if case.instances is not None:
        lookup = np.array([0, *values], np.uint8)[case.instances.array]
        array[lookup > 0] = lookup[lookup > 0]
    elif len(set(values)) == 1:
        array[case.label.array == LESION_VALUE] = values[0]
    else:
        kinds = ", ".join(sorted({report.lesion for report in case.reports}))
        raise InputError(
            f"{case.folder}: several lesion types ({kinds}), and {INSTANCES} is missing to tell them apart"
        )
    return Volume(array, case.ct.affine)


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such case folder")
    missing = [name for name in (IMAGE, LABEL, TOTAL, TYPE) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder}: {', '.join(missing)} missing; a case holds {IMAGE}, {LABEL}, {TOTAL} and {TYPE}")


def _check_values(volume: Volume, largest: int, path: Path, wanted: str) -> None:
    found = int(volume.array.max(initial=0))
    if found > largest or int(volume.array.min(initial=0)) < 0:
        raise InputError(f"{path}: holds the value {found}; wanted {wanted}")


def _read_json(path: Path) -> dict:
    try:
        data = json.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON (line {error.lineno}: {error.msg}); it may be cut short") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: found {type(data).__name__}, wanted a dictionary")
    return data


def _read_record(folder: Path) -> dict:
    """Contents of case.json; empty when there is none."""
    path = folder / RECORD
    if not path.is_file():
        return {}
    record = _read_json(path)
    if record.get("schema") != SCHEMA or record.get("version") != SCHEMA_VERSION:
        found = f"{record.get('schema')!r} version {record.get('version')!r}"
        raise InputError(f'{path}: found {found}, wanted "{SCHEMA}" version {SCHEMA_VERSION}')
    lesions = record.get("lesions")
    if not isinstance(lesions, list) or not lesions or not all(isinstance(item, dict) for item in lesions):
        raise InputError(f'{path}: "lesions" must be a list with one entry per lesion')
    return record


def _reports(folder: Path, record: dict, lesion: str | None) -> list[StructuredReport]:
    if record:
        return [_named(folder / RECORD, StructuredReport.from_json, item.get("report")) for item in record["lesions"]]
    path = folder / TYPE
    return [_named(path, StructuredReport.from_type_json, _read_json(path), lesion or lesion_of_folder(folder))]


def _named(path: Path, read, *arguments) -> Any:
    """``read(*arguments)`` with the file's name in front of any InputError."""
    try:
        return read(*arguments)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _guess_scheme(total: Volume, label: Volume, organ: taxonomy.Organ) -> str:
    """Which numbers ``total.nii.gz`` uses where no case.json says so: those that agree with the organ in ``label``."""
    if int(total.array.max(initial=0)) > len(taxonomy.ORGANS):
        return "totalseg-v1"
    found = total.array[label.array == ORGAN_VALUE]
    version_1 = [number for number in ORGAN_IDS if organ_of_id(number) is organ]
    return "totalseg-v1" if np.isin(found, version_1).sum() > (found == organ.value).sum() else "pasta"


def _organ_map(total: Volume, scheme: str, path: Path) -> OrganMap:
    """The organ map of ``total.nii.gz`` in the stated scheme, in PASTA's values."""
    if scheme not in SCHEMES:
        raise InputError(f"{path}: organ scheme {scheme!r} is not known; wanted one of {', '.join(SCHEMES)}")
    return from_labels(total, scheme, str(path))
