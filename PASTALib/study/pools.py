"""Pools of cases that a study draws from: a folder of generated or published cases, or a manifest (CSV) of any images and masks."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import cases, taxonomy
from ..errors import InputError

COLUMNS = ("image", "mask", "lesion_type")
OPTIONAL = ("label", "id", "report")
REAL, SYNTHETIC = "real", "synthetic"


@dataclass(frozen=True)
class PoolCase:
    """One case of a pool. ``label``: the lesion's value in ``mask``, None for every value above 0. ``report``: case folder with a report."""

    id: str
    truth: str
    lesion_type: str
    image: Path
    mask: Path
    label: int | None = None
    report: Path | None = None


def read_pool(place: str | os.PathLike, truth: str) -> list[PoolCase]:
    """The cases of a pool, sorted by id.

    place: a folder that holds ``<Organ>/<Type>/<case>/img.nii.gz`` with ``label.nii.gz`` (as ``pasta synth`` and the published set), or a
        CSV with the columns image, mask, lesion_type and, if wanted, label (the lesion's value in the mask), id and report (a case folder
        with type.json or case.json). Paths in a CSV are relative to it.
    truth: "real" or "synthetic".

    Raises InputError for missing files or columns, unknown lesion types and two cases of the same id.
    """
    place = Path(place).expanduser()
    if place.is_dir():
        pool = [_folder_case(folder, place, truth) for folder in cases.find_cases(place)]
    elif place.suffix.lower() == ".csv" and place.is_file():
        pool = _manifest(place, truth)
    else:
        found = "is not a folder or a .csv file" if place.exists() else "does not exist"
        raise InputError(f"pool {place} {found}; give a folder of cases or a CSV with the columns {', '.join(COLUMNS)}")
    if not pool:
        raise InputError(f"pool {place} holds no case; wanted <Organ>/<Type>/<case>/{cases.IMAGE} or rows in a CSV")
    twice = [name for name, count in Counter(case.id for case in pool).items() if count > 1]
    if twice:
        raise InputError(f"pool {place}: the id {twice[0]!r} occurs twice; give every case an id of its own")
    return sorted(pool, key=lambda case: case.id)


def _folder_case(folder: Path, root: Path, truth: str) -> PoolCase:
    kind = cases.read_reports(folder)[0].lesion if (folder / cases.RECORD).is_file() else cases.lesion_of_folder(folder)
    if kind is None:
        raise InputError(f"{folder}: the lesion type cannot be told; place the case in <Organ>/<Type>/, or use a CSV")
    mask, label = folder / cases.LABEL, cases.LESION_VALUE
    if (folder / cases.INSTANCES).is_file():  # several lesions: the main one is the first
        mask, label = folder / cases.INSTANCES, 1
    _exists(mask, folder)
    name = folder.resolve().relative_to(root.resolve()).as_posix()
    return PoolCase(folder.name if name == "." else name, truth, kind, folder / cases.IMAGE, mask, label, folder)


def _manifest(path: Path, truth: str) -> list[PoolCase]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.DictReader(file, strict=True)
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            rows = list(reader)
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: not a CSV in UTF-8 ({error}); save it again as CSV UTF-8") from None
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        wanted = f"wanted {', '.join(COLUMNS)} and, if you like, {', '.join(OPTIONAL)}"
        raise InputError(f"{path}: the column {', '.join(missing)} is missing; {wanted}")
    return [_row(path, number, row, truth) for number, row in enumerate(rows, 2)]


def _row(path: Path, line: int, row: dict, truth: str) -> PoolCase:
    get = {key: (row.get(key) or "").strip() for key in (*COLUMNS, *OPTIONAL)}
    where = f"{path}, line {line}"
    if get["lesion_type"] not in taxonomy.LESION_KEYS:
        raise InputError(f"{where}: lesion_type {get['lesion_type']!r} is not one of {', '.join(taxonomy.LESION_KEYS)}")
    if get["label"] and not get["label"].isdecimal():
        raise InputError(f"{where}: label {get['label']!r} must be the whole number that the lesion has in the mask")
    if not get["image"] or not get["mask"]:
        raise InputError(f"{where}: image and mask must both be given")
    image, mask = path.parent / get["image"], path.parent / get["mask"]
    _exists(image, where)
    _exists(mask, where)
    report = path.parent / get["report"] if get["report"] else None
    if report is not None:
        _exists(report, where)
    name = get["id"] or get["image"]
    return PoolCase(name, truth, get["lesion_type"], image, mask, int(get["label"]) if get["label"] else None, report)


def _exists(path: Path, where) -> None:
    if not path.exists():
        raise InputError(f"{where}: {path} does not exist; check the path")


def check_pools(real: Iterable[PoolCase], synthetic: Iterable[PoolCase]) -> None:
    """InputError when a file is both a real and a synthetic case."""
    images = {case.image.resolve(): case.id for case in real}
    for case in synthetic:
        if case.image.resolve() in images:
            raise InputError(f"{case.image} is in both pools; a case is either real or synthetic")


def report_rows(case: PoolCase) -> list[list[str]]:
    """The (attribute, text) rows of a case's structured report that readers rate; InputError when there is none or a line is missing."""
    from ..attributes import LEARNED, TABLE

    if case.report is None:
        raise InputError(
            f"case {case.id}: no report; the description part needs a case folder with type.json or case.json"
        )
    report = cases.read_reports(case.report, case.lesion_type)[0]
    missing = [TABLE[key].title for key in LEARNED if report.value(key) is None]
    if missing:
        raise InputError(f"{case.report}: the report says nothing about {', '.join(missing)}; choose another case")
    return [[TABLE[key].title, report.value(key)] for key in LEARNED]
