"""What is to be run: units of one task (or tasks that share a network), model, few-shot draw and fold, with settings and cost. No torch at import."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PASTALib.errors import InputError

from . import budget as budgets
from .registry import REPORT, SEGMENTATION, TRIVIAL, Task, read_tasks, select

ALL, PAPER_ROWS = "all", "paper"
SMOKE, PAPER = SUITES = ("smoke", "paper")
NEW = "none"  # weights that are not wanted

# What a smoke run changes in every recipe: seconds in all, the same code.
SMOKE_CASES, SMOKE_FOLDS, SMOKE_K, SMOKE_DRAWS = 4, 2, (1,), 1
_SMOKE_MASKS = {
    "patch": [24, 24, 24],
    "spacing_mm": 4.0,
    "epochs": 1,
    "iterations": 1,
    "validation_iterations": 1,
    "save_every": 1,
    "mirroring": False,
    "step": 1.0,
    "batch": 2,
}
_SMOKE_CLASSES = {
    "side": 32,
    "spacing_mm": 2.0,
    "margin_mm": 6.0,
    "steps": 2,
    "batch": 2,
    "validation_share": 0.0,
    "choose": "last",
    "validate_every": 2,
    "save_every": 2,
    "log_every": 2,
}


@dataclass(frozen=True)
class Conditions:
    """What must be the same for results to be comparable; a folder of results has one of it.

    ``mode``: "paper", as the paper's runs fed the models, or "native", as their authors do. ``budget``: see ``budget.parse_budget``.
    ``k``, ``draws``: few-shot numbers instead of the paper's. ``small``: narrow networks on coarse volumes, to try things out.
    """

    mode: str = "paper"
    folds: int = 5
    seed: int = 0
    budget: str = ""
    k: tuple[int, ...] = ()
    draws: int = 0
    small: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("paper", "native"):
            raise InputError(f"--mode {self.mode!r}; wanted paper or native")
        budgets.parse_budget(self.budget)
        if self.k and min(self.k) < 1:
            raise InputError(f"--k {','.join(map(str, self.k))}; wanted numbers of scans, 1 or more")

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "k": list(self.k)}


@dataclass(frozen=True)
class Entrant:
    """A model as it is entered: ``name`` in the results, the system, and its weights (None: new values)."""

    name: str
    rival: Any
    weights: Path | None = None

    @property
    def folder(self) -> str:
        """Its name as a folder."""
        return re.sub(r"[^A-Za-z0-9._=-]+", "-", self.name)

    @property
    def title(self) -> str:
        """For the report."""
        _, colon, options = self.name.partition(":")
        return f"{self.rival.title} ({options})" if colon else self.rival.title

    @property
    def licence(self) -> str:
        """For the report."""
        return self.rival.licence


@dataclass(frozen=True)
class Unit:
    """One training and its test. ``run``: of the registry; ``k`` 0: all training scans."""

    run: str
    model: str
    k: int
    draw: int
    fold: int

    def folder(self, entrant: Entrant) -> Path:
        """Below the folder of all units."""
        few = f"k{self.k:02d}_draw{self.draw}" if self.k else "all"
        return Path(self.run) / entrant.folder / few / f"fold_{self.fold}"

    def words(self) -> str:
        """For a person."""
        few = f", {self.k} scan{'s' if self.k > 1 else ''}, draw {self.draw}" if self.k else ""
        return f"{self.run}, {self.model}{few}, fold {self.fold}"


@dataclass(frozen=True)
class Plan:
    """``units`` in the order of running; ``tasks`` in the registry's."""

    conditions: Conditions
    tasks: tuple[Task, ...]
    entrants: Mapping[str, Entrant]
    units: tuple[Unit, ...]
    notes: tuple[str, ...] = ()
    _settings: dict = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def beside(self) -> dict[tuple, list[Unit]]:
        """(run, k, draw, fold) -> units that learn from the same scans."""
        found: dict[tuple, list[Unit]] = {}
        for unit in self.units:
            found.setdefault((unit.run, unit.k, unit.draw, unit.fold), []).append(unit)
        return found

    def tasks_of(self, run: str) -> tuple[Task, ...]:
        """Those that a run's network is scored on: all of the registry's, so that a run means the same whatever was asked for."""
        return tuple(task for task in read_tasks() if task.run == run)

    def settings(self, unit: Unit) -> dict[str, Any]:
        """Of the training."""
        key = (unit.run, unit.model)
        if key not in self._settings:
            self._settings[key] = settings_of(self.tasks_of(unit.run)[0], self.entrants[unit.model], self.conditions)
        return self._settings[key]

    def seconds(self, unit: Unit) -> float:
        """Of the training, on the card that ``budget.assumption`` names; 0 in a small run."""
        if self.conditions.small:
            return 0.0
        task, settings = self.tasks_of(unit.run)[0], self.settings(unit)
        kind, rival = task.network_kind, self.entrants[unit.model].rival
        outputs = len(task.labels) + 1 if kind == SEGMENTATION else sum(map(len, task.classes.values()))
        one = budgets.step_seconds(rival, kind, len(task.channels), outputs, settings, self.conditions.small)
        return budgets.steps_of(settings) * one if rival.trained else 0.0

    def table(self) -> list[dict[str, Any]]:
        """A row for each run and model: tasks, trainings, steps of each, seconds of a step, GPU hours in all."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for unit in self.units:
            row = rows.get((unit.run, unit.model))
            if row is None:
                trained, seconds = self.entrants[unit.model].rival.trained, self.seconds(unit)
                steps = budgets.steps_of(self.settings(unit)) if trained else 0
                row = rows[unit.run, unit.model] = {
                    "run": unit.run,
                    "tasks": [task.key for task in self.tasks_of(unit.run)],
                    "model": unit.model,
                    "trainings": 0,
                    "steps": steps,
                    "step_s": seconds / steps if steps else 0.0,
                    "gpu_hours": 0.0,
                }
            row["trainings"] += 1
            row["gpu_hours"] += self.seconds(unit) / 3600
        return list(rows.values())


def make_plan(
    conditions: Conditions,
    tasks: Iterable[str],
    models: Iterable[str],
    weights: Mapping[str, str] | None = None,
    *,
    only_cost: bool = False,
) -> Plan:
    """The units of the named tasks (keys, groups, "all") and models (keys with options, "all", "paper": the rows of the paper's tables).

    "trivial" is always among them. ``weights``: model -> file, or "none" for new values. InputError for what there is not, for a model that
    takes none of the tasks, and for one that means nothing without its weights and has none (but in a small run, or to know the cost alone).
    """
    chosen = select(tasks)
    runs = list(dict.fromkeys(task.run for task in chosen))
    wanted = tuple(task for task in read_tasks() if task.run in runs)
    entrants, listed = _entrants(conditions, list(models), dict(weights or {}), wanted)
    notes = []
    also = [task.key for task in wanted if task not in chosen]
    if also:
        notes.append(f"{', '.join(also)}: learned by the same networks, so scored as well")
    units = []
    for run in runs:
        task = next(item for item in wanted if item.run == run)
        mine = [
            e
            for e in entrants.values()
            if task.applicable(e.rival.kinds) and (not listed or e.rival.key in task.models)
        ]
        numbers = _numbers(task, conditions)
        # the floor first: it shows at once what is wrong with the data; then model after model on the same scans
        units += [Unit(run, e.name, *where) for e in mine if not e.rival.trained for where in numbers]
        units += [Unit(run, e.name, *where) for where in numbers for e in mine if e.rival.trained]
    named = {unit.model for unit in units}
    idle = [name for name in entrants if name not in named]
    if idle and not listed and ALL not in models:
        kinds = " and ".join(sorted(entrants[idle[0]].rival.kinds))
        raise InputError(
            f"--model {idle[0]}: does {kinds}, which none of these tasks is; choose other tasks, or leave it out"
        )
    entrants = {name: entrant for name, entrant in entrants.items() if name in named}
    if not (conditions.small or only_cost):
        for entrant in entrants.values():
            if entrant.rival.needs_weights and entrant.weights is None and entrant.name not in (weights or {}):
                raise InputError(
                    f"--model {entrant.name}: no weights; give --weights {entrant.name}=FILE ({entrant.rival.weights_note}), "
                    f"or {entrant.name}={NEW} to start from new values"
                )
    return Plan(conditions, wanted, entrants, tuple(units), tuple(notes))


def as_run(tasks: Iterable[Task], conditions: Conditions) -> tuple[Task, ...]:
    """The tasks with the folds and few-shot numbers of a benchmark, for its report: what was not asked for is not missing."""
    return tuple(
        replace(
            task,
            folds=conditions.folds,
            k=(conditions.k or task.k) if task.k else (),
            draws=(conditions.draws or task.draws) if task.k else task.draws,
        )
        for task in tasks
    )


def settings_of(task: Task, entrant: Entrant, conditions: Conditions) -> dict[str, Any]:
    """Settings of the training of a task's network: the paper's recipe, the model's preprocessing, the budget."""
    rival, kind = entrant.rival, task.network_kind
    settings = rival.recipe(task.key)
    preparation = preparation_of(task, entrant, conditions)
    settings |= {"orientation": preparation.orientation, "axes": preparation.axes}
    if preparation.spacing_mm is not None:
        settings["spacing_mm"] = float(preparation.spacing_mm[0])
    own = preparation != _shared(kind, modality(task))
    if kind == SEGMENTATION and own:
        settings["patch"] = list(preparation.patch)
    elif own and settings["cut"] == "lesion" and len(set(preparation.patch)) == 1:
        settings["side"] = preparation.patch[0]
    if kind != SEGMENTATION:
        settings |= {"classes": list(next(iter(task.classes.values()))) if task.kind != REPORT else []}
        if task.survival_years:
            settings |= {"classes": [], "survival_years": task.survival_years}
    settings["folds"] = conditions.folds
    if task.k:
        settings |= {"k": list(conditions.k or task.k), "runs": conditions.draws or task.draws}
    if conditions.small:
        small = _SMOKE_MASKS if kind == SEGMENTATION else _SMOKE_CLASSES
        settings |= {key: value for key, value in small.items() if key in settings}
    return budgets.apply_budget(settings, conditions.budget)


def preparation_of(task: Task, entrant: Entrant, conditions: Conditions):
    """How the model's images are prepared, coarse in a small run."""
    found = entrant.rival.prepare(conditions.mode, task.network_kind, modality(task))
    if conditions.small:
        mm = (_SMOKE_MASKS if task.network_kind == SEGMENTATION else _SMOKE_CLASSES)["spacing_mm"]
        spacing = None if found.spacing_mm is None else (mm,) * 3
        found = replace(found, spacing_mm=spacing, patch=tuple(_SMOKE_MASKS["patch"]))
    return found


def modality(task: Task) -> str:
    """ "ct" or "mri"."""
    return "ct" if task.channels == ("CT",) else "mri"


# ---------------------------------------------------------------------------------------------------------------


def _shared(kind: str, modality: str):
    from .models.wrap import paper_preparation

    return paper_preparation(kind, modality)


def _numbers(task: Task, conditions: Conditions) -> list[tuple[int, int, int]]:
    """(k, draw, fold) of every training."""
    if not task.k:
        return [(0, 0, fold) for fold in range(conditions.folds)]
    draws = range(conditions.draws or task.draws)
    return [(k, draw, fold) for k in conditions.k or task.k for draw in draws for fold in range(conditions.folds)]


def _entrants(
    conditions: Conditions, models: Sequence[str], weights: dict[str, str], tasks: Sequence[Task]
) -> tuple[dict[str, Entrant], bool]:
    """Name -> model; and whether each takes only the tasks whose table has it."""
    from .models.interface import find_rival, rivals

    listed = models == [PAPER_ROWS]
    if listed:
        names = list(dict.fromkeys(name for task in tasks for name in task.models))
    elif ALL in models:
        names = [*rivals(), *(name for name in models if name != ALL)]
    else:
        names = list(models)
    names = list(dict.fromkeys([TRIVIAL, *names]))
    entrants = {}
    for name in names:
        rival = find_rival(name if ":" in name or conditions.mode != "paper" else f"{name}:paper")
        entrants[name] = Entrant(name, rival, _weights(name, weights))
    unknown = sorted(weights.keys() - entrants.keys())
    if unknown:
        raise InputError(f"--weights {unknown[0]}=…: no such model is entered; entered are {', '.join(entrants)}")
    return entrants, listed


def _weights(name: str, weights: Mapping[str, str]) -> Path | None:
    from PASTALib import models

    given = weights.get(name, NEW)
    if given == NEW:
        return None
    path = Path(given).expanduser()
    if path.is_file():
        return path.absolute()
    stored = models.find_model(given)
    if stored is None:
        raise InputError(f"--weights {name}={given}: no such file, nor the name of a stored model; check the path")
    return Path(stored.path).absolute()
