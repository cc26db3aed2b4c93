"""Organ maps from any source: PASTA labels, TotalSegmentator v1/v2 file or folder, or running TotalSegmentator."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from . import taxonomy
from .anatomy import organ_classes as classes
from .anatomy.organ_checks import check_organs, location_detail, require_grid
from .anatomy.organ_map import OrganMap, apply_table, present_values, voxel_volume_ml
from .errors import InputError
from .volume import Volume, read_volume, same_grid, write_volume

__all__ = [
    "SCHEMES",
    "OrganMap",
    "check_organs",
    "from_labels",
    "location_detail",
    "read_organs",
    "run_totalsegmentator",
    "voxel_volume_ml",
]

SCHEMES = ("pasta", "totalseg-v1", "totalseg-v2")
PIP_COMMAND = 'pip install "TotalSegmentator>=2.4"'
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


def read_organs(path: str | Path, scheme: str | None = None, like: Volume | None = None) -> OrganMap:
    """Read an organ map: a multi-label file, a Slicer ``.seg.nrrd`` or a TotalSegmentator folder with one file per class.

    ``scheme`` is "pasta", "totalseg-v1", "totalseg-v2" or None to find out: from label names where the file has them (NIfTI header of
    TotalSegmentator, segment names, a JSON beside the file), else from the largest value (up to 25 PASTA, above 104 version 2).
    Versions 1 and 2 share the values 26-104; without names that is refused rather than guessed. ``like`` is the CT whose grid the map
    must have. InputError for anything unreadable, ambiguous, empty of organs or on another grid.
    """
    path = Path(path)
    if scheme is not None and scheme not in SCHEMES:
        raise InputError(f"unknown organ scheme {scheme!r}; use one of {', '.join(SCHEMES)}")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give an organ map file or a TotalSegmentator output folder")
    organs = _read_folder(path, scheme) if path.is_dir() else _read_file(path, scheme)
    if like is not None:
        require_grid(like, organs.labels, path)
    if not organs.labels.array.any():
        raise InputError(
            f"{path}: no voxel belongs to any of the ten organs (scheme {organs.scheme}); check the file and --organ-scheme"
        )
    return organs


def from_labels(labels: Volume, scheme: str, source: str = "organ map") -> OrganMap:
    """Build an `OrganMap` from a label volume whose scheme is known; InputError if a value does not belong to the scheme."""
    array, values = _as_uint8(labels.array, source)
    labels = Volume(array, labels.affine)
    if scheme not in SCHEMES:
        raise InputError(f"unknown organ scheme {scheme!r}; use one of {', '.join(SCHEMES)}")
    if scheme == "pasta":
        return _from_pasta(labels, values, source)
    return _from_table(labels, values, scheme, source)


def _read_file(path: Path, scheme: str | None) -> OrganMap:
    if path.name.lower().endswith(".seg.nrrd"):
        labels, names = classes.read_seg_nrrd(path)
    else:
        labels, names = read_volume(path, "labels"), classes.label_names_of(path)
    array, values = _as_uint8(labels.array, path)
    labels = Volume(array, labels.affine)
    if scheme is None and names:
        return _from_named_file(labels, values, names, path)
    scheme = scheme or _guess_scheme(values, path)
    return from_labels(labels, scheme, str(path))


def _from_named_file(labels: Volume, values: np.ndarray, names: Mapping[int, str], path: Path) -> OrganMap:
    """A file that names its labels: the names decide, whatever the numbers are."""
    present = {int(v): names.get(int(v), "") for v in values if v}
    known = {
        value: canonical
        for value, canonical in ((v, classes.canonical_name(n)) for v, n in present.items())
        if canonical
    }
    keys = {value: key for value, key in ((v, classes.organ_key(n)) for v, n in present.items()) if key}
    if not keys:
        listed = ", ".join(list(names.values())[:5])
        raise InputError(
            f"{path}: no label with voxels is named like one of the ten organs (names: {listed}, …); give --organ-scheme"
        )
    lut = np.zeros(256, np.uint8)
    for value, key in keys.items():
        lut[value] = taxonomy.organ(key).value
    organs = OrganMap(Volume(apply_table(lut, labels.array), labels.affine))
    ignored = [name or str(value) for value, name in present.items() if value not in known and value not in keys]
    if ignored:
        organs.notes.append(f"labels of {path.name} without a known name ignored: {', '.join(ignored)}")
    if any(classes.is_detail(name) for name in map(classes.canonical_name, names.values()) if name):
        organs.structures, organs.structure_names = _structures(labels, known)
        organs.scheme = classes.version_of(names.values())
    return organs


def _structures(labels: Volume, names: Mapping[int, str]) -> tuple[Volume, dict[int, str]]:
    """Labels named by v2 class names -> the same under our fixed class numbers, and those numbers' names."""
    lut = np.zeros(256, np.uint8)
    for value, name in names.items():
        lut[value] = classes.structure_id(name)
    found = {classes.structure_id(name): name for name in names.values()}
    return Volume(apply_table(lut, labels.array), labels.affine), dict(sorted(found.items()))


def _from_pasta(labels: Volume, values: np.ndarray, source: str) -> OrganMap:
    """PASTA values 0-25; lesions (11-25) become the organ they sit in."""
    if values[-1] > len(taxonomy.ORGANS) + len(taxonomy.LESIONS):
        raise InputError(
            f"{source}: holds label {values[-1]}, but PASTA labels end at 25; give --organ-scheme totalseg-v1 or totalseg-v2"
        )
    lut = np.arange(256, dtype=np.uint8)
    for lesion in taxonomy.LESIONS:
        lut[lesion.value] = taxonomy.organ(lesion.organ).value
    folded = [lesion.name for lesion in taxonomy.LESIONS if lesion.value in values]
    if not folded:
        return OrganMap(labels)
    note = f"lesion labels counted as part of their organ: {', '.join(folded)}"
    return OrganMap(Volume(apply_table(lut, labels.array), labels.affine), notes=[note])


def _from_table(labels: Volume, values: np.ndarray, scheme: str, source: str) -> OrganMap:
    """Labels numbered as a TotalSegmentator version numbers its classes."""
    table = classes.table(scheme)
    unknown = [int(v) for v in values if v and int(v) not in table]
    if unknown:
        raise InputError(
            f"{source}: label {unknown[0]} is not one of {scheme}'s {len(table)} classes; check --organ-scheme"
        )
    names = {int(v): classes.canonical_name(table[int(v)]) for v in values if v}
    lut = np.zeros(256, np.uint8)
    for value, name in names.items():
        lut[value] = classes.organ_value(name)
    organs = Volume(apply_table(lut, labels.array), labels.affine)
    return OrganMap(organs, *_structures(labels, names), scheme)


def _guess_scheme(values: np.ndarray, path: Path) -> str:
    highest = int(values[-1])
    if highest <= len(taxonomy.ORGANS) + len(taxonomy.LESIONS):
        return "pasta"
    if highest > len(classes.table("totalseg-v1")):
        return "totalseg-v2"
    raise InputError(
        f"{path}: labels up to {highest} and no label names; TotalSegmentator versions 1 and 2 both use these values for different organs. "
        "Give --organ-scheme totalseg-v1 (104 classes) or totalseg-v2 (117 classes)"
    )


def _as_uint8(array: np.ndarray, source: object) -> tuple[np.ndarray, np.ndarray]:
    """Label array as uint8 with its sorted values; InputError for fractions, negatives or values above 255."""
    if array.ndim != 3:
        raise InputError(f"{source}: organ maps have 3 dimensions, this one has {array.ndim}")
    out = array
    if array.dtype != np.uint8:
        out = np.empty(array.shape, np.uint8)
        for plane, target in zip(array, out):
            np.copyto(target, plane, casting="unsafe")
            if not np.array_equal(target, plane):
                raise InputError(
                    f"{source}: holds values that are no labels (from {array.min()} to {array.max()}); wanted whole numbers 0-255. Is it a CT?"
                )
    return out, present_values(out)


def _read_folder(folder: Path, scheme: str | None) -> OrganMap:
    """TotalSegmentator's output without ``--ml``: one 0/1 file per class."""
    files = _class_files(folder)
    if not any(classes.organ_value(name) for name in files):
        raise InputError(
            f"{folder}: no TotalSegmentator class file such as liver.nii.gz of any of the ten organs; choose its output folder"
        )
    found = classes.version_of([classes.stem(file) for group in files.values() for file in group])
    first: Volume | None = None
    structure_names: dict[int, str] = {}
    for name, group in files.items():
        number, value = classes.structure_id(name), classes.organ_value(name)
        for file in group:
            mask = read_volume(file, "labels")
            if first is None:
                first, first_file = mask, file
                structures, labels = np.zeros((2, *mask.array.shape), np.uint8)
            elif difference := same_grid(Volume(labels, first.affine), mask):
                raise InputError(
                    f"{file}: not on the grid of {first_file.name} ({difference}); one folder must come from one scan"
                )
            inside = mask.array > 0
            if inside.any():
                structures[inside] = number
                structure_names[number] = name
                if value:
                    labels[inside] = value
    affine = first.affine
    named = dict(sorted(structure_names.items()))
    return OrganMap(Volume(labels, affine), Volume(structures, affine), named, scheme or found)


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """v2 class name -> files that feed it, sorted by name (several where version 1 split a class)."""
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.name.lower().endswith(_SUFFIXES) and (name := classes.canonical_name(classes.stem(file), exact=True)):
            files.setdefault(name, []).append(file)
    return files


# --- running TotalSegmentator ----------------------------------------------------------------------------------------


def run_totalsegmentator(
    ct: str | Path | Volume,
    out: str | Path | None = None,
    fast: bool = False,
    device: str = "auto",
    progress: Callable[[float, str], None] | None = None,
    roi_subset: Sequence[str] | None = None,
) -> OrganMap:
    """Segment a CT with TotalSegmentator (task "total", 117 classes) and return the map on the CT's grid.

    ``ct`` is a `Volume` or anything `read_volume` reads; ``out`` keeps the 117-class map, with its label names in ``<stem>_labels.json``
    beside it; ``fast`` uses the 3 mm model;
    ``device`` is "auto" (GPU if TotalSegmentator finds one, else CPU), "cpu", "cuda", "cuda:1" or "mps"; ``roi_subset`` limits the
    classes. ``progress(fraction, text)`` is called between steps. Text that TotalSegmentator prints goes to stderr. TotalSegmentator
    sends anonymous usage statistics unless "send_usage_stats" is false in its ``config.json``. InputError, saying what to do, when the
    package or its weights are missing.
    """
    tell = progress or (lambda fraction, text: None)
    device = _totalsegmentator_device(device)
    if out is not None and not str(out).lower().endswith(_SUFFIXES):
        raise InputError(f"{out}: unknown image format; name the organ map {', '.join(_SUFFIXES)}")
    segment = _import_totalsegmentator()
    tell(0.0, "preparing the CT")
    volume = ct if isinstance(ct, Volume) else read_volume(ct)
    with tempfile.TemporaryDirectory(prefix="pasta_organs_") as folder:
        source, result = Path(folder) / "ct.nii.gz", Path(folder) / "organs.nii.gz"
        write_volume(volume, source)
        tell(0.05, "TotalSegmentator is running")
        with contextlib.redirect_stdout(sys.stderr), _clear_failures():
            segment(
                input=source,
                output=result,
                ml=True,
                task="total",
                fast=fast,
                device=device,
                roi_subset=list(roi_subset) if roi_subset else None,
                quiet=True,
            )
        tell(0.95, "reading the organ map")
        organs = read_organs(result, "totalseg-v2", like=volume)
        if out is not None:
            Path(out).parent.mkdir(parents=True, exist_ok=True)
            write_volume(organs.structures, out)
            classes.write_names(Path(out), classes.table("totalseg-v2"))
    tell(1.0, "organs ready")
    return organs


def _import_totalsegmentator() -> Callable:
    try:
        from totalsegmentator.python_api import totalsegmentator
    except ImportError as error:
        raise InputError(f"TotalSegmentator cannot be imported ({error}); install it with: {PIP_COMMAND}") from error
    return totalsegmentator


def _totalsegmentator_device(device: str) -> str:
    """Our device names -> TotalSegmentator's ("gpu" falls back to the CPU by itself when there is none)."""
    kind, _, number = device.partition(":")
    if kind in ("auto", "cuda", "gpu") and (not number or number.isdecimal()):
        return f"gpu:{number}" if number else "gpu"
    if device in ("cpu", "mps"):
        return device
    raise InputError(f"unknown device {device!r}; use auto, cpu, cuda, cuda:1 or mps")


@contextlib.contextmanager
def _clear_failures():
    """Turn TotalSegmentator's failures that a user can mend (no network, no weights, licence exit) into one line."""
    try:
        yield
    except (OSError, SystemExit) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(
            f"TotalSegmentator could not run ({type(error).__name__}: {reason}). Its weights are downloaded on first use: connect once, or "
            "copy them from another computer into the folder named by TOTALSEG_WEIGHTS_PATH (default ~/.totalsegmentator/nnunet/results)"
        ) from error
