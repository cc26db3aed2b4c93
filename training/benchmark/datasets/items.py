"""Cases as a data set's folder holds them, and what is wrong with them: missing files, other grids, unknown labels, one scan twice. No torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from PASTALib.errors import InputError
from PASTALib.imageio import nifti
from PASTALib.progress import Progress, silent
from PASTALib.volume import Volume, read_volume, same_grid

from ...runs import write_json

DEPTH = 3  # how far below a given folder a set may lie: manifest-123/Collection/…
CHECKED = "checked.json"
SAVE_EVERY = 10  # masks


@dataclass(frozen=True)
class Item:
    """A case. ``facts``: further columns of its tables (stage, os_days, event, point, …)."""

    id: str
    patient: str
    images: tuple[Path, ...]
    mask: Path | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a case ("": with the set), and what to do, in one line without the case's name."""

    case: str
    text: str

    @property
    def line(self) -> str:
        """The line with the case's name."""
        return f"case {self.case}: {self.text}" if self.case else self.text


@dataclass(frozen=True)
class Found:
    """What a folder holds. ``items``: the sound cases; ``problems``: the others; ``notes`` for the user; ``total``: cases of the release."""

    folder: Path
    items: tuple[Item, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    total: int = 0

    def without(self, problems: Iterable[Problem]) -> Found:
        """The same without the cases of ``problems``, which are added."""
        problems = tuple(problems)
        bad = {problem.case for problem in problems}
        items = tuple(item for item in self.items if item.id not in bad)
        return replace(self, items=items, problems=self.problems + problems)


def find_folder(folder: Path, holds: Callable[[Path], bool], wanted: str) -> Path:
    """``folder`` or the first one below it, ``DEPTH`` levels deep, for which ``holds``; InputError saying what was ``wanted``."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {wanted}")
    level = [folder]
    for _ in range(DEPTH + 1):
        for place in level:
            if holds(place):
                return place
        level = [Path(entry.path) for place in level for entry in _folders(place)]
    raise InputError(f"{folder}: not found in it or {DEPTH} levels below; {wanted}")


def visible(folder: Path, pattern: str) -> list[Path]:
    """Files that match, sorted, without the "._…" companions that macOS leaves in archives."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def missing_files(item: Item, folder: Path, advice: str) -> Problem | None:
    """The first of a case's files that is not there, or is empty."""
    for path in (*item.images, *([item.mask] if item.mask else [])):
        if not path.is_file():
            return Problem(item.id, f"{path.relative_to(folder)} is missing in {folder}; {advice}")
        if path.stat().st_size == 0:
            return Problem(item.id, f"{path} is empty (0 bytes); {advice}")
    return None


def grid_problem(item: Item, channels: int = 1) -> Problem | None:
    """Whether images and mask of a NIfTI case have one grid, by their headers. A single 4-D image of ``channels`` counts as that many."""
    try:
        headers = [nifti.read_header(path) for path in (*item.images, item.mask)]
    except InputError as error:
        return Problem(item.id, str(error))
    stacked = channels > 1 and len(item.images) == 1
    wanted = (*headers[-1].shape[:3], channels) if stacked else headers[-1].shape
    for path, header in zip(item.images, headers):
        if len(headers[-1].shape) != 3 or header.shape != wanted:
            sizes = " x ".join(map(str, header.shape)), " x ".join(map(str, headers[-1].shape))
            return Problem(item.id, f"{path.name} has {sizes[0]} voxels, its mask {item.mask} {sizes[1]}; restore both")
        difference = same_grid(_empty(header), _empty(headers[-1]))
        if difference:
            return Problem(item.id, f"{item.mask} is not on the grid of {path.name} ({difference}); restore both")
    return None


def label_problems(
    items: Sequence[Item], labels: Sequence[str], out: Path, progress: Progress = silent
) -> tuple[list[Problem], dict[str, tuple[int, ...]]]:
    """Masks with values beyond ``labels`` and scans that are there twice; and the values that each mask holds.

    What was read before is kept in ``out``/checked.json, so that an interrupted check goes on.
    """
    path = out / CHECKED
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    problems, holds, first = [], {}, {}
    for number, item in enumerate(items):
        progress(number, len(items), f"checking {item.id}")
        state = _state(item.mask)
        if known.get(item.id, {}).get("state") != state:
            try:
                array = read_volume(item.mask, "labels").array
            except InputError as error:
                problems.append(Problem(item.id, str(error)))
                continue
            digest = hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()[:24]
            known[item.id] = {"state": state, "holds": np.unique(array).tolist(), "digest": digest}
            if number % SAVE_EVERY == SAVE_EVERY - 1:
                write_json(path, known)
        entry = known[item.id]
        holds[item.id] = tuple(value for value in entry["holds"] if value)
        unknown = [value for value in holds[item.id] if value > len(labels)]
        if unknown:
            named = ", ".join(f"{n} {name}" for n, name in enumerate(labels, 1))
            problems.append(
                Problem(item.id, f"{item.mask} holds the label {unknown[0]}; wanted 0 and {named}: restore it")
            )
        elif holds[item.id]:
            twin = first.setdefault(entry["digest"], item)
            if twin.patient != item.patient:
                problems.append(
                    Problem(item.id, f"its mask is that of case {twin.id}, voxel by voxel: one patient twice; drop one")
                )
    if items:
        write_json(path, known)
    progress(len(items), len(items), "masks checked")
    return problems, holds


def twice(items: Sequence[Item]) -> list[Problem]:
    """Cases whose id, or whose patient, an earlier one has: the published sets have one scan of each patient."""
    problems, ids, patients = [], {}, {}
    for item in items:
        other = ids.get(item.id) or patients.get(item.patient)
        if other:
            where = " and ".join(str(one.images[0]) for one in (other, item))
            problems.append(Problem(item.id, f"patient {item.patient} is there twice ({where}); keep one of them"))
        ids[item.id] = patients[item.patient] = item
    return problems


def refuse(problems: Sequence[Problem], partial: bool) -> list[str]:
    """InputError naming the first case, unless ``partial``: then a note per case that is left out."""
    if problems and not partial:
        more = f" ({len(problems) - 1} more cases have problems)" if len(problems) > 1 else ""
        raise InputError(f"{problems[0].line}{more}; or go on without such cases (partial)")
    return [f"left out: {one.line}" if one.case else one.line for one in problems]


# ---------------------------------------------------------------------------------------------------------------


def _folders(place: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(place) as entries:
            return sorted((entry for entry in entries if entry.is_dir()), key=lambda entry: entry.name)
    except OSError:
        return []


def _empty(header: nifti.NiftiHeader) -> Volume:
    """A volume of a header's grid that takes no memory."""
    return Volume(np.broadcast_to(np.uint8(0), header.shape[2::-1]), header.affine)


def _state(path: Path) -> list:
    found = path.stat()
    return [str(path.absolute()), found.st_size, found.st_mtime_ns]
