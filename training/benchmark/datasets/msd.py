"""Medical Segmentation Decathlon: lung, liver, pancreas, colon, and brain, whose 4-D images are parted into their sequences. No torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from ...downstream.table import read_rows
from .about import About
from .items import Found, Item, find_folder, grid_problem, missing_files, visible
from .tables import SCANS, Table, write_scans

LISTING = "dataset.json"
REANNOTATION = "reannotation.csv"
KINDS = ("tumor", "cyst")


def find(about: About, folder: Path, extra: Mapping[str, Path]) -> Found:
    """The labelled cases: those that dataset.json lists, or that labelsTr holds where it lists none.

    For the pancreas those of ``about.kind``, by the table ``extra["reannotation"]`` or reannotation.csv beside dataset.json.
    """
    name = about.folders[0]
    advice = f"unpack {about.archive} ({about.source}) again"
    folder = find_folder(
        folder,
        lambda place: (place / LISTING).is_file() and _is_of(place, about),
        f"wanted {name} with dataset.json, imagesTr and labelsTr: unpack {about.archive} from {about.source}",
    )
    problems, items = [], []
    for image, mask in _listed(folder, advice):
        case = mask.name.removesuffix(".nii.gz")
        item = Item(case, case, (image,), mask)
        problem = missing_files(item, folder, advice) or grid_problem(item, len(about.channels))
        (items if problem is None else problems).append(item if problem is None else problem)
    found = Found(folder, tuple(items), tuple(problems), about.notes, len(items) + len(problems))
    return _of_kind(found, about, extra) if about.kind else found


def write(about: About, found: Found, out: Path, progress: Progress = silent) -> dict[str, Table]:
    """The scan table, referring to the set's own files; of the brain set to the sequences written below ``out``."""
    items = found.items
    if len(about.channels) > 1:
        items = tuple(
            replace(item, images=_sequences(item, about, out / "sequences", n, len(items), progress))
            for n, item in enumerate(items)
        )
        progress(len(items), len(items), "sequences written")
    return {SCANS: write_scans(out, items, about.labels, about.channels)}


# ---------------------------------------------------------------------------------------------------------------


def _is_of(place: Path, about: About) -> bool:
    """A folder called after the task or the key, or one whose listing says so: "Task06_Lung" has the name "Lung"."""
    if place.name in (about.key, *about.folders):
        return True
    try:
        said = json.loads((place / LISTING).read_text(encoding="utf-8")).get("name", "")
    except (OSError, ValueError, AttributeError):
        return False
    words = "".join(str(said).lower().split()), about.folders[0].split("_", 1)[1].lower()
    return bool(words[0]) and (words[0] == words[1] or words[0].startswith(words[1]) or words[1].startswith(words[0]))


def _listed(folder: Path, advice: str) -> list[tuple[Path, Path]]:
    path = folder / LISTING
    try:
        training = json.loads(path.read_text(encoding="utf-8")).get("training", [])
        pairs = [(folder / entry["image"], folder / entry["label"]) for entry in training]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not readable as the Decathlon's ({type(error).__name__}: {error}); {advice}"
        ) from None
    if not pairs:
        pairs = [(folder / "imagesTr" / mask.name, mask) for mask in visible(folder / "labelsTr", "*.nii.gz")]
    if not pairs:
        raise InputError(f"{folder}: lists no labelled case and labelsTr holds none; {advice}")
    return sorted(((Path(os.path.normpath(a)), Path(os.path.normpath(b))) for a, b in pairs), key=lambda pair: pair[1])


def _of_kind(found: Found, about: About, extra: Mapping[str, Path]) -> Found:
    """Only the scans whose mass is of the wanted kind: the masks have one label for both."""
    path = Path(extra.get("reannotation", found.folder / REANNOTATION))
    if not path.is_file():
        raise InputError(
            f"{path}: there is none, and {about.folders[0]} has one label for tumours and cysts; give a table with the columns id, kind "
            f"({' or '.join(KINDS)}), a row for each scan: see Docs/benchmark-data.md"
        )
    kinds: dict[str, str] = {}
    for number, row in read_rows(path, ["id", "kind"]):
        where, case, kind = f"{path}, line {number}", row["id"].removesuffix(".nii.gz"), row["kind"].lower()
        if kind not in KINDS:
            raise InputError(f"{where}: kind {row['kind']!r} of case {case}; wanted {' or '.join(KINDS)}")
        if kinds.setdefault(case, kind) != kind:
            raise InputError(f"{where}: case {case} is {kind} here and {kinds[case]} above; give it one row")
    unlisted = [item for item in found.items if item.id not in kinds]
    if unlisted:
        raise InputError(
            f"{path}: case {unlisted[0].id} ({len(unlisted)} in all) is not listed; add its kind, {' or '.join(KINDS)}"
        )
    names = {item.id for item in found.items} | {problem.case for problem in found.problems}
    unknown = sorted(kinds.keys() - names)
    if unknown:
        raise InputError(f"{path}: case {unknown[0]} is not in {found.folder}; correct the id or take the row out")
    items = tuple(item for item in found.items if kinds[item.id] == about.kind)
    problems = tuple(one for one in found.problems if kinds.get(one.case, about.kind) == about.kind)
    note = f"{len(items)} of {len(found.items)} scans are marked {about.kind} in {path.name}"
    return replace(found, items=items, problems=problems, notes=(*found.notes, note))


def _sequences(item: Item, about: About, out: Path, number: int, count: int, progress: Progress) -> tuple[Path, ...]:
    """One 3-D file per sequence of a 4-D image, as stored and on its grid; those that are there are kept."""
    import nibabel as nib

    paths = tuple(out / f"{item.id}_{n:04d}.nii.gz" for n in range(len(about.channels)))
    if all(path.is_file() and path.stat().st_mtime_ns >= item.images[0].stat().st_mtime_ns for path in paths):
        return paths
    progress(number, count, f"parting {item.id}")
    out.mkdir(parents=True, exist_ok=True)
    try:
        image = nib.load(item.images[0])
        for n, path in enumerate(paths):
            part = path.with_name(f".{os.getpid()}.{path.name}")  # nibabel goes by the ending
            nib.save(image.slicer[..., n], part)
            os.replace(part, path)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"case {item.id}: {item.images[0]} cannot be read ({error}); restore it") from None
    return paths
