"""Units one after the other: those that are done are passed over, those that another process has in hand as well."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import PASTALib
from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from ...generate.locks import locked
from ...runs import CONFIG, write_json
from ..plan import Unit
from ..registry import SEGMENTATION
from .material import Material
from .prepare import Workplace
from .source import file_digest

NOTE, WORK, WEIGHTS = "unit.json", "work", "network.pth"
_MEMORY = "the card has not enough memory for this network and batch; use one with more"
Tell = Callable[[Unit, str, dict[str, Any]], None]


def run_units(
    place: Workplace,
    material: Material,
    units: Sequence[Unit],
    *,
    device: str = "auto",
    workers: int = 0,
    progress: Progress = silent,
    tell: Tell = lambda unit, state, about: None,
) -> list[str]:
    """Run them; one line for each that failed. The others are done, or in the hands of another process.

    ``tell(unit, state, about)``: "done" (with what was done) or "failed" (with a line); ``progress`` counts seconds of the plan.
    """
    import torch

    from PASTALib.inference.devices import pick_device

    picked, failed = pick_device(device), []
    done = set(done_units(place, units))  # they take no time, so that what is left can be foretold
    weight = [1e-9 if unit in done else max(place.plan.seconds(unit), 1e-6) for unit in units]
    total, before = sum(weight), 0.0
    for unit, one in zip(units, weight):

        def update(
            step: int, of: int, text: str = "", one: float = one, unit: Unit = unit, before: float = before
        ) -> None:
            share = (before + one * (step / of if of else 0)) / total
            progress(round(share * 1e6), 10**6, f"{unit.words()}: {text}" if text else unit.words())

        update(0, 1)
        try:
            found = run_unit(place, material, unit, device=picked, workers=workers, progress=update)
        except (InputError, torch.OutOfMemoryError) as error:
            line = str(error) if isinstance(error, InputError) else f"{unit.words()}: {_MEMORY}"
            failed.append(line)
            tell(unit, "failed", {"error": line})
        else:
            if found is not None:
                _forget(place, material, unit)
                tell(unit, "done", found)
        before += one
        if picked.type == "cuda":
            torch.cuda.empty_cache()
    return failed


def run_unit(
    place: Workplace, material: Material, unit: Unit, *, device, workers: int = 0, progress: Progress = silent
) -> dict[str, Any] | None:
    """Train, test and score one unit; what was done, None when another process is at it. A finished one is read.

    InputError when the finished one was made with other weights or settings.
    """
    entrant = place.plan.entrants[unit.model]
    folder = place.units / unit.folder(entrant)
    settings = json.loads(json.dumps(place.plan.settings(unit)))
    weights = "new" if entrant.weights is None else file_digest(entrant.weights)
    made_of = {"unit": asdict(unit), "settings": settings, "weights": weights}
    found = read_unit(folder)
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock") as mine:
            if not mine:
                return None
            found = read_unit(folder)
            if found is None:
                return _run(place, material, unit, folder, made_of, device, workers, progress)
    for key in ("weights", "settings"):
        if found[key] != made_of[key]:
            before, now = _difference(found[key], made_of[key]) if key == "settings" else (found[key], weights)
            raise InputError(
                f"{folder}: done with {key} {before}, now {now}; use the same, remove that folder, or choose another --out"
            )
    return found


def read_unit(folder: Path) -> dict[str, Any] | None:
    """What a finished unit says of itself."""
    path = folder / NOTE
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({type(error).__name__}); remove that folder and --resume") from None


def done_units(place: Workplace, units: Sequence[Unit]) -> list[Unit]:
    """Those that are finished."""
    return [unit for unit in units if (place.units / unit.folder(place.plan.entrants[unit.model]) / NOTE).is_file()]


# ---------------------------------------------------------------------------------------------------------------


def _run(place: Workplace, material: Material, unit: Unit, folder: Path, made_of, device, workers, progress) -> dict:
    from .classification import run_classification
    from .segmentation import run_segmentation

    kind = place.plan.tasks_of(unit.run)[0].network_kind
    run = run_segmentation if kind == SEGMENTATION else run_classification
    work, begun = folder / WORK, time.perf_counter()
    if not (work / CONFIG).is_file():  # stopped before it began
        shutil.rmtree(work, ignore_errors=True)
    keep = folder / WEIGHTS if place.keep_weights else None
    about = run(unit, place.plan, material, folder, work, device=device, workers=workers, keep=keep, progress=progress)
    seconds = round(time.perf_counter() - begun, 2)
    note = {**made_of, **about, "seconds": seconds, "device": device.type, "version": PASTALib.__version__}
    write_json(folder / NOTE, note)
    shutil.rmtree(work, ignore_errors=True)
    return note


def _forget(place: Workplace, material: Material, unit: Unit) -> None:
    """Remove the preprocessed scans that no unit is left for: of few-shot draws they would be hundreds of gigabytes."""
    beside = place.plan.beside[unit.run, unit.k, unit.draw, unit.fold]
    if place.plan.tasks_of(unit.run)[0].kind == SEGMENTATION and len(done_units(place, beside)) == len(beside):
        from .segmentation import prepared_scans

        for folder in {prepared_scans(one, place.plan, material) for one in beside} - {None}:
            shutil.rmtree(folder, ignore_errors=True)


def _difference(before: dict, now: dict) -> tuple[str, str]:
    key = next(key for key in sorted({*before, *now}) if before.get(key) != now.get(key))
    return f"{key} = {before.get(key)!r}", f"{key} = {now.get(key)!r}"
