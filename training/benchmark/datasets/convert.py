"""Data sets as they are downloaded, checked, and turned into the tables that training reads; nothing large is copied. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from ...downstream.table import ATTRIBUTES
from . import atlas, kits23, lung1, msd, private, tcga_blca
from .about import About, describe
from .items import Found, Problem, label_problems, refuse, twice
from .private import PLAIN
from .tables import DETECTION, SCANS, STAGING, SURVIVAL, Converted, Table, write_note

if TYPE_CHECKING:
    from ..registry import Task

NOTHING: Mapping[str, Path] = {}


def check(key: str, folder: str | Path, *, extra: Mapping[str, Path] = NOTHING) -> Found:
    """What is in a downloaded set's folder (or a folder at most three levels above it), by names and headers alone: seconds to minutes.

    ``problems`` of the result names every unsound case and, as case "", a count that differs from the published one. ``extra``: tables
    that do not lie beside the set: "reannotation", "clinical", "points". InputError for another layout. Private sets are checked by
    ``convert``.
    """
    about = describe(key)
    found = _module(about).find(about, Path(folder).absolute(), extra)
    found = found.without(twice(found.items))
    count = _count_problem(about, found)
    return replace(found, problems=(*found.problems, count)) if count else found


def convert(
    key: str,
    folder: str | Path,
    out: str | Path,
    *,
    extra: Mapping[str, Path] = NOTHING,
    names: Sequence[str] = (),
    partial: bool = False,
    progress: Progress = silent,
) -> Converted:
    """The set's tables in ``out``, referring to the set's own files; what an interrupted call wrote is used again.

    ``partial``: go on without cases that are missing or unsound, and say so in the notes; else InputError, one line naming the first.
    ``names``: of a private set only these tables. Written below ``out`` besides tables: the outlines of Lung1, and the brain set's
    sequences, which training cannot read from 4-D files.
    """
    about, folder, out = describe(key), Path(folder).absolute(), Path(out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    if key in ("private", "reports"):
        tables, notes = private.convert(
            folder, out, names=names or _default_names(key), partial=partial, progress=progress
        )
        converted = Converted(key, folder, tables, (*about.notes, *notes))
    else:
        module = _module(about)
        found = check(key, folder, extra=extra)
        refuse(found.problems, partial)
        found, notes = _examined(module, about, found, out, progress)
        notes = [*refuse(found.problems, partial), *notes]
        if not found.items:
            raise InputError(f"{folder}: no sound case of {about.title} is left; {notes[0]}")
        tables = module.write(about, found, out, progress)
        converted = Converted(key, found.folder, tables, (*found.notes, *notes))
    write_note(out, converted)
    return converted


def table_of(
    task: Task,
    data: str | Path,
    out: str | Path,
    *,
    extra: Mapping[str, Path] = NOTHING,
    partial: bool = False,
    progress: Progress = silent,
) -> Table:
    """The table that a task of the registry learns from; ``data``: the folder with all sets (see ``set_folder``).

    Converted into ``out``/<data set>; that is quick when it was done before, because every slow look at a case is kept there.
    """
    key, name = task.dataset.key, table_name(task)
    folder, place = set_folder(key, data), Path(out).absolute() / key
    if key == "private":
        place = place / name.replace("/", "-")
    names = (name,) if key == "private" else ()
    return convert(key, folder, place, extra=extra, names=names, partial=partial, progress=progress).table(name)


def table_name(task: Task) -> str:
    """Which table of its data set a task learns from: "scans", "survival", …; of private sets "<lesion>[-plain]/<table>"."""
    kind = {"detect": DETECTION, "stage": STAGING, "survival": SURVIVAL, "report": ATTRIBUTES}.get(task.group, SCANS)
    if task.dataset.key != "private":
        return kind
    plain = PLAIN if task.group in ("plain", "detect") else ""
    return f"{task.lesion}{plain}/{kind}"


def set_folder(key: str, data: str | Path) -> Path:
    """Where a set lies below the folder of all data: in a folder called after its key, or as its archive unpacks. InputError otherwise."""
    about, data = describe(key), Path(data).absolute()
    for name in (key, *about.folders):
        if (data / name).is_dir():
            return data / name
    wanted = " or ".join((key, *about.folders))
    raise InputError(
        f"{data}: no folder {wanted} for {about.title}; get it from {about.source} (Docs/benchmark-data.md)"
    )


# ---------------------------------------------------------------------------------------------------------------


def _module(about: About) -> ModuleType:
    modules = {"kits23": kits23, "atlas": atlas, "lung1": lung1, "tcga_blca": tcga_blca}
    if about.key in modules:
        return modules[about.key]
    if about.key.startswith("msd_"):
        return msd
    raise InputError(f"data set {about.key}: convert it at once; its tables are its layout (Docs/benchmark-data.md)")


def _default_names(key: str) -> tuple[str, ...]:
    return (ATTRIBUTES,) if key == "reports" else ()


def _count_problem(about: About, found: Found) -> Problem | None:
    """Fewer or more cases than were published."""
    if not about.cases or found.total == about.cases:
        return None
    return Problem("", f"{found.folder} holds {found.total} cases, published are {about.cases}; complete the set")


def _examined(module: ModuleType, about: About, found: Found, out: Path, progress: Progress) -> tuple[Found, list[str]]:
    """After the slow look into every case: masks of segmentation sets, series and outlines of DICOM sets."""
    if hasattr(module, "examine"):
        found = module.examine(about, found, out, progress)
        return found, lung1.outcome_notes(found)
    problems, holds = label_problems(found.items, about.labels, out, progress)
    found = found.without(problems)
    notes = []
    for value, name in enumerate(about.labels, 1):
        without = [item.id for item in found.items if value not in holds[item.id]]
        if without:
            notes.append(f"{len(without)} of {len(found.items)} scans show no {name}")
    return found, notes
