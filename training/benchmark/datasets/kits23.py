"""KiTS23: a folder per case with imaging.nii.gz and segmentation.nii.gz, listed in kits23.json. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from .about import About
from .items import Found, Item, find_folder, grid_problem, missing_files
from .tables import SCANS, Table, write_scans

LISTING = "kits23.json"
ADVICE = "run kits23_download_data, which fetches what a clone of the repository lacks"


def find(about: About, folder: Path, extra: Mapping[str, Path]) -> Found:
    """The cases that kits23.json lists, or without it the folders case_…; each is a patient."""
    folder = find_folder(
        folder,
        lambda place: any(place.glob("case_[0-9]*")),
        f"wanted the folder dataset of {about.source} with case_00000, …: {ADVICE}",
    )
    items, problems = [], []
    for name in _listed(folder):
        item = Item(name, name, (folder / name / "imaging.nii.gz",), folder / name / "segmentation.nii.gz")
        problem = missing_files(item, folder, ADVICE) or grid_problem(item)
        (items if problem is None else problems).append(item if problem is None else problem)
    return Found(folder, tuple(items), tuple(problems), about.notes, len(items) + len(problems))


def write(about: About, found: Found, out: Path, progress: Progress = silent) -> dict[str, Table]:
    """The scan table, referring to the set's own files."""
    return {SCANS: write_scans(out, found.items, about.labels, about.channels)}


def _listed(folder: Path) -> list[str]:
    path = folder / LISTING
    there = sorted(place.name for place in folder.glob("case_[0-9]*") if place.is_dir())
    if not path.is_file():
        return there
    try:
        listed = [str(entry["case_id"]) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not readable as a list of cases with case_id ({error}); restore it") from None
    twice = next((name for name in listed if listed.count(name) > 1), None)
    if twice:
        raise InputError(f"{path}: case {twice} is listed twice; restore the file")
    unknown = sorted(set(there) - set(listed))
    if unknown:
        raise InputError(f"{path}: case {unknown[0]} lies in {folder} and is not listed; restore the file, or move it")
    return sorted(listed)
