"""NSCLC-Radiomics (Lung1): DICOM CT with the tumour's outline as RTSTRUCT or SEG, survival and stage from the clinical table. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from PASTALib.errors import InputError
from PASTALib.inference.regions import find_regions
from PASTALib.progress import Progress, silent
from PASTALib.volume import Volume, write_volume

from ...runs import write_json
from .about import About
from .clinical import read_lung1, table_beside
from .dicom_index import Series, patient_folders, read_series, require_pydicom, series_of
from .items import Found, Item, Problem, find_folder
from .outlines import segmentation_mask, structure_mask
from .tables import STAGING, SURVIVAL, Table, write_cases

PATIENT = r"LUNG1-\d+"
CLINICAL = ("*[Ll]ung1*clinical*.csv", "clinical.csv")
ADVICE = "download it again with the NBIA Data Retriever"


def find(about: About, folder: Path, extra: Mapping[str, Path]) -> Found:
    """The patients with a CT series and an outline. The clinical table is ``extra["clinical"]`` or lies in or above the set's folder."""
    require_pydicom()
    given = folder
    folder = find_folder(
        folder,
        lambda place: bool(patient_folders(place, PATIENT)),
        f"wanted the folder NSCLC-Radiomics with LUNG1-001, …, as the NBIA Data Retriever writes it ({about.source})",
    )
    clinical = extra.get("clinical") or table_beside(
        given, folder, CLINICAL, f"no clinical table; download NSCLC-Radiomics-Lung1.clinical….csv from {about.source}"
    )
    outcomes = read_lung1(Path(clinical))
    items, problems, notes, seen = [], [], list(about.notes), {}
    for place in patient_folders(folder, PATIENT):
        found = _item(place, outcomes, Path(clinical), about)
        if isinstance(found, str):
            notes.append(found)
        elif isinstance(found, Problem):
            problems.append(found)
        elif found.patient in seen:
            where = f"{seen[found.patient]} and {place}"
            problems.append(Problem(place.name, f"patient {found.patient} is there twice ({where}); keep one of them"))
        else:
            seen[found.patient] = place
            items.append(found)
    places = {place.name for place in patient_folders(folder, PATIENT)}
    missing = sorted(outcomes.keys() - places)
    problems += [
        Problem(name, f"{Path(clinical).name} lists the patient, {folder} has no such folder; {ADVICE}")
        for name in missing
    ]
    return Found(folder, tuple(items), tuple(problems), tuple(notes), len(places) + len(missing))


def examine(about: About, found: Found, out: Path, progress: Progress = silent) -> Found:
    """Every scan read, its outline drawn into ``out``/masks, and the outline's middle added; what is there already is kept."""
    folder = out / "masks"
    folder.mkdir(parents=True, exist_ok=True)
    items, problems, notes = [], [], []
    for number, item in enumerate(found.items):
        progress(number, len(found.items), f"outlining {item.id}")
        try:
            about_mask = _outlined(item, folder)
        except InputError as error:
            problems.append(Problem(item.id, str(error)))
            continue
        items.append(replace(item, facts={**item.facts, "point": about_mask["point"]}))
        if about_mask["note"]:
            notes.append(f"{item.id}: {about_mask['note']}")
    progress(len(found.items), len(found.items), "outlined")
    return replace(found, items=tuple(items), problems=(*found.problems, *problems), notes=(*found.notes, *notes))


def write(about: About, found: Found, out: Path, progress: Progress = silent) -> dict[str, Table]:
    """survival.csv and, for patients whose stage is known, staging.csv; the scans stay where they are."""
    return outcome_tables(found, out)


def outcome_tables(found: Found, out: Path) -> dict[str, Table]:
    """The tables of survival and of early and late stages, of the patients of whom either is known."""
    head = [
        {"id": item.id, "patient": item.patient, "ct": str(item.images[0].absolute()), "point": item.facts["point"]}
        for item in found.items
    ]
    survival = [
        {**row, "os_days": item.facts["os_days"], "event": item.facts["event"]}
        for row, item in zip(head, found.items)
        if item.facts["os_days"] and item.facts["event"]
    ]
    staging = [{**row, "label": item.facts["stage"]} for row, item in zip(head, found.items) if item.facts.get("stage")]
    tables = {SURVIVAL: write_cases(out, SURVIVAL, survival)}
    if staging:
        tables[STAGING] = write_cases(out, STAGING, staging)
    return tables


def outcome_notes(found: Found) -> list[str]:
    """How many patients lack what the tables need."""
    no_time = [item.id for item in found.items if not (item.facts["os_days"] and item.facts["event"])]
    no_stage = [item.id for item in found.items if not item.facts.get("stage")]
    return [
        f"{len(cases)} patients have no {what} and are not in its table: {', '.join(cases[:5])}{', …' * (len(cases) > 5)}"
        for cases, what in ((no_time, "survival"), (no_stage, "stage"))
        if cases
    ]


# ---------------------------------------------------------------------------------------------------------------


def _item(place: Path, outcomes, clinical: Path, about: About) -> Item | Problem | str:
    name = place.name
    series = series_of(place)
    if name in about.without_lesion:
        return f"{name} is left out: it has no tumour outlined"
    others = sorted({one.patient for one in series} - {name})
    if others:
        return Problem(name, f"{place} holds images of {others[0]}; {ADVICE}")
    ct = [one for one in series if one.modality == "CT" and not one.localizer]
    outlines = {kind: [one for one in series if one.modality == kind] for kind in ("RTSTRUCT", "SEG")}
    if not ct:
        return Problem(name, f"{place} has no CT series; {ADVICE}")
    if not any(outlines.values()):
        return Problem(name, f"{place} has neither RTSTRUCT nor SEG; {ADVICE}")
    if name not in outcomes:
        return Problem(name, f"{clinical.name} does not list the patient; use the table of the same release")
    chosen = _referred(ct, [one for kind in outlines.values() for one in kind])
    facts = {
        "rtstruct": str(outlines["RTSTRUCT"][0].file) if outlines["RTSTRUCT"] else "",
        "seg": str(outlines["SEG"][0].file) if outlines["SEG"] else "",
        "series_uid": chosen.uid,
        "os_days": outcomes[name].os_days,
        "event": outcomes[name].event,
        "stage": outcomes[name].early_late,
    }
    return Item(name, name, (chosen.folder,), None, facts)


def _referred(ct: list[Series], outlines: list[Series]) -> Series:
    """The CT in the outlines' frame of reference, the largest where several are."""
    frames = {one.frame for one in outlines if one.frame}
    same = [one for one in ct if one.frame in frames]
    return max(same or ct, key=lambda one: one.files)


def _outlined(item: Item, folder: Path) -> dict:
    """Point ("R,A,S") and a note; kept beside the mask, which is written first."""
    path, note = folder / f"{item.id}_gtv.nii.gz", folder / f"{item.id}.json"
    drawn = [Path(item.facts[key]) for key in ("rtstruct", "seg") if item.facts[key]]
    of = [str(item.images[0]), *(f"{one} {one.stat().st_mtime_ns}" for one in drawn)]
    known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() and path.is_file() else {}
    if known.get("of") == of:
        return known
    ct = read_series(item.images[0], item.facts["series_uid"])
    mask, remark = _drawn(item, ct)
    regions, _ = find_regions(Volume(mask, ct.affine), [1], min_size_mm=0.0)
    write_volume(Volume(mask, ct.affine), path)
    found = {
        "point": ",".join(f"{value:.3f}" for value in regions[0].centre_ras),
        "ml": f"{float(mask.sum()) * abs(np.linalg.det(ct.affine[:3, :3])) / 1000:.2f}",
        "note": remark,
        "of": of,
    }
    write_json(note, found)
    return found


def _drawn(item: Item, ct: Volume) -> tuple[np.ndarray, str]:
    """From the RTSTRUCT, which is what was drawn; from the SEG where that does not serve."""
    try:
        if item.facts["rtstruct"]:
            return structure_mask(Path(item.facts["rtstruct"]), ct)[0], ""
        reason = "it has no RTSTRUCT"
    except InputError as error:
        if not item.facts["seg"]:
            raise
        reason = str(error)
    return segmentation_mask(Path(item.facts["seg"]), ct)[0], f"outlined by its SEG, because {reason}"
