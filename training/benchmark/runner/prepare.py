"""A benchmark's folder: its conditions, its data made ready, its plan. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from ...runs import write_json
from ..datasets import describe
from ..plan import SMOKE_CASES, Conditions, Plan
from ..registry import SEGMENTATION
from .material import Material

BENCHMARK, PLAN, UNITS = "benchmark.json", "plan.json", "units"
REPLICAS = "replicas"


@dataclass(frozen=True)
class Workplace:
    """``out``: the benchmark's folder; ``data``: that of all data sets; ``extra``, ``partial``: as ``datasets.convert`` takes them."""

    out: Path
    plan: Plan
    data: Path | None = None
    extra: Mapping[str, Path] = field(default_factory=dict)
    partial: bool = False
    keep_weights: bool = False

    @property
    def units(self) -> Path:
        """Where results are."""
        return self.out / UNITS

    def material(self) -> Material:
        """A reader of the data."""
        return Material(self.out, self.data, self.plan.conditions, extra=self.extra, partial=self.partial)


def open_workplace(place: Workplace, *, resume: bool = False, overwrite: bool = False) -> None:
    """Begin a benchmark in ``place.out`` or go on with the one that is there: with more tasks and models, never under other conditions.

    InputError when the folder holds something else, or a benchmark and neither ``resume`` nor ``overwrite`` is given.
    """
    out, mark, wanted = place.out, place.out / BENCHMARK, place.plan.conditions.to_json()
    if out.is_file():
        raise InputError(f"--out {out} is a file; give a folder")
    found = _read(mark) if mark.is_file() else None
    if found is None and out.is_dir() and any(out.iterdir()):
        raise InputError(f"--out {out} is not empty and holds no benchmark; choose another folder")
    if found is not None and not (resume or overwrite):
        raise InputError(f"--out {out} holds a benchmark; add --resume to go on with it, or --overwrite to begin anew")
    if found is None and resume:
        raise InputError(f"--out {out}: no benchmark to resume there; leave --resume out to begin one")
    if found is not None and not overwrite:
        for key, now in wanted.items():
            if found["conditions"].get(key) != now:
                raise InputError(
                    f"--resume: {key} was {found['conditions'].get(key)!r} in {out} and is {now!r} now; results would not be comparable: "
                    "use the same, or another folder"
                )
        return
    if found is not None:
        import shutil

        for name in (UNITS, "splits", "draws", "tables", "canonical", "cubes", "prepared", "arrays", REPLICAS):
            shutil.rmtree(out / name, ignore_errors=True)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(mark, {"conditions": wanted})
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error.strerror}); choose another folder") from None


def read_conditions(out: Path) -> Conditions:
    """Those of the benchmark in ``out``. InputError when there is none."""
    path = out / BENCHMARK
    if not path.is_file():
        raise InputError(f"--out {out}: no benchmark there; run one first")
    found = _read(path)["conditions"]
    return Conditions(**{**found, "k": tuple(found["k"])})


def prepare(place: Workplace, material: Material, progress: Progress = silent) -> dict[str, dict[str, Any]]:
    """Data of every task converted, standardised, split; counts by task. Whatever is wrong with a case is said here. Writes plan.json.

    Tasks whose set is missing are an error, but for small runs, for which replicas are made.
    """
    plan = place.plan
    if plan.conditions.small and place.data == place.out / REPLICAS:
        _replicas(place, progress)
    found = {}
    for number, task in enumerate(plan.tasks):
        progress(number, len(plan.tasks), f"preparing {task.key}")
        unit = next(unit for unit in plan.units if unit.run == task.run)

        def tell(done: int, of: int, text: str, number: int = number) -> None:
            progress(number * 1000 + int(1000 * done / max(1, of)), len(plan.tasks) * 1000, text)

        found[task.key] = material.prepare(task, plan.settings(unit), tell)
        if task.network_kind != SEGMENTATION:
            for model in dict.fromkeys(unit.model for unit in plan.units if unit.run == task.run):
                material.cubes(task, plan.settings(replace(unit, model=model)), tell)
    write_json(place.out / PLAN, {"conditions": plan.conditions.to_json(), "data": found, "units": plan.table()})
    return found


# ---------------------------------------------------------------------------------------------------------------


def _replicas(place: Workplace, progress: Progress) -> None:
    from ..datasets import table_name
    from ..datasets.replicas import write_replica

    sets: dict[str, list[str]] = {}
    for task in place.plan.tasks:
        names = sets.setdefault(task.dataset.key, [])
        if task.dataset.key == "private":
            names.append(table_name(task))
    for number, (key, names) in enumerate(sets.items()):
        progress(number, len(sets), f"making a replica of {describe(key).title}")
        write_replica(key, place.data / key, SMOKE_CASES, place.plan.conditions.seed, names)


def _read(path: Path) -> dict:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["conditions"]["mode"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not readable ({type(error).__name__}); restore it, or begin anew with --overwrite"
        ) from None
    return data
