"""Sets of your own in the documented folders: a folder per lesion, with tables of scans, detection, staging, survival, attributes. No torch.

``gallbladder_cancer/scans.csv``, ``gallbladder_cancer-plain/detection.csv``: the folder is called after the lesion type, with "-plain" for
scans without contrast medium; a table is called after what it is for. Docs/benchmark-data.md describes their columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from ...downstream.labelled import DATASET_JSON, read_raw_folder, read_scan_table
from ...downstream.table import ATTRIBUTES, existing, read_cases, read_rows
from .items import Item, Problem, grid_problem, label_problems, refuse
from .tables import CASE_TASKS, SCANS, SURVIVAL, Table, write_cases, write_scans

PLAIN = "-plain"
TABLES = (SCANS, *CASE_TASKS)
_FILES = ("ct", "mask", "organs")


@dataclass(frozen=True)
class Own:
    """A table found: its name, such as "gastric_cancer/staging", lesion type, kind, and place."""

    name: str
    lesion: taxonomy.Lesion | None
    kind: str
    path: Path


def own_tables(folder: Path, names: Sequence[str] = ()) -> list[Own]:
    """The tables of the documented folders below ``folder``, or those of ``names``; InputError for other names of folders, or none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; see Docs/benchmark-data.md")
    known = {lesion.key: lesion for lesion in taxonomy.LESIONS}
    found = []
    for place in sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")):
        tables = [kind for kind in TABLES if (place / f"{kind}.csv").is_file()]
        if (place / DATASET_JSON).is_file() and SCANS not in tables:
            tables.insert(0, SCANS)
        key = place.name.removesuffix(PLAIN)
        if not tables:
            continue  # images may lie in folders of their own
        if key not in known:
            raise InputError(
                f"{place}: {key!r} is no lesion type; name the folder {', '.join(known)} or one with {PLAIN}"
            )
        found += [Own(f"{place.name}/{kind}", known[key], kind, place / f"{kind}.csv") for kind in tables]
    if (folder / f"{ATTRIBUTES}.csv").is_file():
        found.append(Own(ATTRIBUTES, None, ATTRIBUTES, folder / f"{ATTRIBUTES}.csv"))
    missing = sorted(set(names) - {own.name for own in found})
    if missing:
        raise InputError(f"{folder}: no {missing[0]}.csv; see Docs/benchmark-data.md for what it must hold")
    if not found:
        raise InputError(
            f"{folder}: no tables in it; wanted such as gallbladder_cancer/scans.csv: see Docs/benchmark-data.md"
        )
    return [own for own in found if not names or own.name in names]


def convert(
    folder: Path,
    out: Path,
    *,
    names: Sequence[str] = (),
    partial: bool = False,
    progress: Progress = silent,
) -> tuple[dict[str, Table], list[str]]:
    """The tables of ``names`` (all of them otherwise), checked and written with full paths below ``out``; and notes.

    InputError naming the line or case: files that are missing, masks on other grids or with other labels, one patient's scan twice under
    different names, one id twice.
    """
    tables, notes = {}, []
    for own in own_tables(folder, names):
        write = _scans if own.kind == SCANS else _cases
        tables[own.name], more = write(own, out, partial, progress)
        notes += more
    return tables, notes


# ---------------------------------------------------------------------------------------------------------------


def _scans(own: Own, out: Path, partial: bool, progress: Progress) -> tuple[Table, list[str]]:
    labels = (own.lesion.key,)
    if own.path.is_file():
        scans = read_scan_table(own.path, labels)
    else:
        patients = own.path.with_name("patients.csv")
        scans = read_raw_folder(own.path.parent, patients if patients.is_file() else None)
        if len(scans.labels) != 1 or not scans.plain_ct:
            raise InputError(
                f"{own.path.parent / DATASET_JSON}: wanted the single label {own.lesion.key} and CT as the only channel"
            )
    items = [Item(scan.id, scan.patient, scan.images, scan.mask) for scan in scans.scans]
    problems = [one for one in map(_grid, items) if one is not None]
    bad = {one.case for one in problems}
    place = out / own.name.rpartition("/")[0]
    place.mkdir(parents=True, exist_ok=True)
    more, holds = label_problems([item for item in items if item.id not in bad], labels, place, progress)
    problems += more
    notes = refuse(problems, partial)
    bad = {one.case for one in problems}
    items = [item for item in items if item.id not in bad]
    none = [item.id for item in items if not holds[item.id]]
    if none:
        notes.append(f"{own.name}: {len(none)} masks are empty, {none[0]} the first")
    return write_scans(place, items, labels, ("CT",), own.name), notes


def _grid(item: Item) -> Problem | None:
    """Headers are compared where both are NIfTI; other formats are compared when they are read for training."""
    files = (*item.images, item.mask)
    return grid_problem(item) if all(path.name.endswith((".nii", ".nii.gz")) for path in files) else None


def _cases(own: Own, out: Path, partial: bool, progress: Progress) -> tuple[Table, list[str]]:
    if own.kind == SURVIVAL:
        _check_survival(own.path)
    else:
        read_cases(own.path, CASE_TASKS[own.kind], organ=own.lesion.organ if own.lesion else None)
    rows, problems, whose = [], [], {}
    for number, row in read_rows(own.path, ["id", "ct"]):
        where = f"{own.path}, line {number}"
        row = {key: value for key, value in row.items() if key}
        row["patient"] = row.get("patient") or row["id"]
        for key in _FILES:
            if row.get(key):
                row[key] = str(existing(own.path.parent, row[key], key, where).absolute())
        other = whose.setdefault(row["ct"], row["patient"])
        if other != row["patient"]:
            text = f"{where}: {row['ct']} is the scan of patient {other} too; correct one of the rows"
            problems.append(Problem(row["id"], text))
        rows.append(row)
    notes = refuse(problems, partial)
    bad = {one.case for one in problems}
    place = out / own.name.rpartition("/")[0]
    return write_cases(place, own.kind, [row for row in rows if row["id"] not in bad], own.name), notes


def _check_survival(path: Path) -> None:
    """Each row by itself: which cases are left out depends on the years asked for, which are not known here."""
    from ...downstream.table import survival_class

    for number, row in read_rows(path, ["id", "ct", "mask|point", "os_days", "event"]):
        survival_class(row["os_days"], row["event"], 1.0, f"{path}, line {number}")
