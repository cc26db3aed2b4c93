"""TCGA-BLCA: DICOM CT, outcomes from the Genomic Data Commons, and tumour centres from a table. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from PASTALib.errors import InputError
from PASTALib.imageio.files import MIN_SLICES
from PASTALib.inference.crops import check_inside
from PASTALib.progress import Progress, silent

from ...runs import write_json
from .about import About
from .clinical import Outcome, read_points, read_tcga, table_beside
from .dicom_index import patient_folders, read_series, require_pydicom, series_of
from .items import Found, Item, Problem, find_folder
from .lung1 import outcome_tables
from .tables import Table

PATIENT = "TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}"
CLINICAL = ("clinical.tsv", "*clinical_patient_blca*.txt", "clinical.csv")
POINTS = ("points.csv",)


def find(about: About, folder: Path, extra: Mapping[str, Path]) -> Found:
    """The patients with a CT, a centre and an outcome; tables are ``extra["clinical"]``, ``extra["points"]``, or lie in or above the folder."""
    require_pydicom()
    given = folder
    folder = find_folder(
        folder,
        lambda place: bool(patient_folders(place, PATIENT)),
        f"wanted the folder TCGA-BLCA with TCGA-4Z-AA7M, …, as the NBIA Data Retriever writes it ({about.source})",
    )
    clinical = extra.get("clinical") or table_beside(
        given,
        folder,
        CLINICAL,
        "no clinical table; download clinical.tsv of project TCGA-BLCA from https://portal.gdc.cancer.gov",
    )
    points_file = extra.get("points") or table_beside(
        given, folder, POINTS, "no points.csv with the tumours' centres; see Docs/benchmark-data.md"
    )
    outcomes, points = read_tcga(Path(clinical)), read_points(Path(points_file))
    places = patient_folders(folder, PATIENT)
    unknown = sorted(points.keys() - {place.name for place in places})
    if unknown:
        raise InputError(f"{points_file}: patient {unknown[0]} is not in {folder}; correct the id or take the row out")
    items, problems = [], []
    for place in places:
        found = _item(place, outcomes, points, Path(points_file).name, Path(clinical).name)
        (items if isinstance(found, Item) else problems).append(found)
    return Found(folder, tuple(items), tuple(problems), about.notes, len(places))


def examine(about: About, found: Found, out: Path, progress: Progress = silent) -> Found:
    """For every patient the largest CT series that reads and holds the centre, unless the table names one; kept in ``out``/series."""
    folder = out / "series"
    folder.mkdir(parents=True, exist_ok=True)
    items, problems = [], []
    for number, item in enumerate(found.items):
        progress(number, len(found.items), f"reading {item.id}")
        kept = folder / f"{item.id}.json"
        wanted = [[str(path) for path in item.images], item.facts["point"], item.facts["uids"]]
        data = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        if data.get("of") != wanted:
            try:
                data = {"of": wanted, "chosen": _readable(item)}
            except InputError as error:
                problems.append(Problem(item.id, str(error)))
                continue
            write_json(kept, data)
        items.append(replace(item, images=(item.images[data["chosen"]],)))
    progress(len(found.items), len(found.items), "series read")
    return replace(found, items=tuple(items), problems=(*found.problems, *problems))


def write(about: About, found: Found, out: Path, progress: Progress = silent) -> dict[str, Table]:
    """survival.csv and staging.csv; the scans stay where they are."""
    return outcome_tables(found, out)


# ---------------------------------------------------------------------------------------------------------------


def _item(place: Path, outcomes: Mapping[str, Outcome], points, points_name: str, clinical_name: str) -> Item | Problem:
    name = place.name
    series = series_of(place)
    ct = [one for one in series if one.modality == "CT" and not one.localizer and one.files >= MIN_SLICES]
    if not ct:
        kinds = ", ".join(sorted({one.modality for one in series})) or "nothing"
        return Problem(
            name, f"{place} has no CT series of {MIN_SLICES} slices or more (it holds {kinds}); leave it out"
        )
    if name not in points:
        return Problem(name, f"{points_name} does not list the patient; add the tumour's centre")
    if name not in outcomes:
        return Problem(name, f"{clinical_name} does not list the patient; use the table of project TCGA-BLCA")
    point, uid = points[name]
    chosen = [one for one in ct if one.uid == uid] if uid else sorted(ct, key=lambda one: (-one.files, one.uid))
    if not chosen:
        return Problem(name, f"{points_name} names series {uid}, which {place} does not hold; correct it")
    outcome = outcomes[name]
    facts = {
        "point": point,
        "uids": ";".join(one.uid for one in chosen),
        "os_days": outcome.os_days,
        "event": outcome.event,
        "stage": outcome.early_late,
    }
    return Item(name, name, tuple(one.folder for one in chosen), None, facts)


def _readable(item: Item) -> int:
    """The number of the first series that reads as a CT and holds the centre."""
    point = tuple(float(value) for value in item.facts["point"].split(","))
    reasons = []
    for number, (folder, uid) in enumerate(zip(item.images, item.facts["uids"].split(";"))):
        try:
            check_inside(read_series(folder, uid), point, "the tumour's centre")
            return number
        except InputError as error:
            reasons.append(str(error))
    more = f" (and {len(reasons) - 1} other series do not serve either)" if len(reasons) > 1 else ""
    raise InputError(reasons[0] + more)
