"""The data of a benchmark: tables, scans in canonical space, folds and draws. Made once below the run's folder, read by every unit. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from ...downstream.cubes import cut_cubes
from ...downstream.labelled import ScanSet, standardise
from ...downstream.splits import Splits, kept_splits
from ...downstream.table import CaseTable, read_cases, read_rows
from ...runs import write_json
from ..datasets import Table, table_of
from ..datasets.tables import CASE_TASKS, SCANS
from ..plan import Conditions
from ..registry import SEGMENTATION, Task

TABLES, CANONICAL, CUBES, SPLITS, DRAWS = "tables", "canonical", "cubes", "splits", "draws"
NOTE = "table.json"


class Material:
    """What the tasks of one benchmark learn from.

    ``out``: the run's folder; ``data``: the folder of all data sets (None: only what was converted before). ``extra``, ``partial``: as
    ``datasets.convert`` takes them. Everything is made when it is first asked for, and kept in files and in memory.
    """

    def __init__(
        self,
        out: Path,
        data: Path | None,
        conditions: Conditions,
        *,
        extra: Mapping[str, Path] | None = None,
        partial: bool = False,
    ):
        self.out, self.data, self.conditions = Path(out), data, conditions
        self.extra, self.partial = dict(extra or {}), partial
        self._kept: dict[tuple, Any] = {}

    def table(self, task: Task) -> Table:
        """The task's table of cases."""
        return self._once(self._table, task)

    def scans(self, task: Task) -> ScanSet:
        """Its scans as given, with the labels that each holds."""
        return self._once(self._scans, task)

    def canonical(self, task: Task, spacing_mm: float) -> ScanSet:
        """The same in canonical space."""
        return self._once(self._canonical, task, spacing_mm)

    def cases(self, task: Task) -> CaseTable:
        """The cases of a classification; with survival those too whose class is unknown."""
        return self._once(self._cases, task)

    def outcomes(self, task: Task) -> dict[str, tuple[float, bool]]:
        """Id -> days and whether the patient died; {} of other tasks than survival."""
        return self._once(self._outcomes, task)

    def splits(self, task: Task) -> Splits:
        """Folds, the same for all tasks of a table."""
        return self._once(self._splits, task)

    def prepare(self, task: Task, settings: Mapping[str, Any], progress: Progress = silent) -> dict[str, Any]:
        """Make all that units of the task share, so that whatever is wrong with its data is said before a network is trained; counts."""
        self._convert(task, progress)
        if task.kind == SEGMENTATION:
            self._kept["_scans", task.key] = self._scans(task, progress)
            members = self.scans(task).scans
        else:
            members = self.cases(task).cases
        splits = self.splits(task)
        if task.k:
            self.draws(task, settings)
        patients = len({member.patient for member in members})
        return {"cases": len(members), "patients": patients, "folds": [len(part) for part in splits.folds]}

    def name_of(self, task: Task) -> str:
        """What the files of a task's table are called after: its set, and its own name where a set has several."""
        return self.table(task).name.replace("/", "-") if task.dataset.key == "private" else self._plain_name(task)

    def draws(self, task: Task, settings: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
        """Few-shot draws: fold -> draw -> ids in the order of drawing."""
        from ...downstream.segmentation import kept_draws

        path = self._folder(DRAWS) / f"{task.run}.json"
        return kept_draws(path, self.scans(task), self.splits(task), settings, self.conditions.seed)

    def cubes(self, task: Task, settings: Mapping[str, Any], progress: Progress = silent) -> dict[str, Path]:
        """Id -> cube."""
        return cut_cubes(self.cases(task).cases, settings, self._folder(CUBES) / self.name_of(task), progress)

    def prepared(self, task: Task, settings: Mapping[str, Any], learn, choose) -> Path:
        """A folder for nnU-Net's preprocessed scans: one for every set of scans to learn from and way of preparing them."""
        canonical = self.canonical(task, settings["spacing_mm"])
        files = [(scan.id, [path.name for path in scan.images]) for scan in canonical.of([*learn, *choose])]
        key = repr((files, list(learn), list(choose), settings["spacing_mm"], canonical.channels))
        return self._folder("prepared") / f"{task.run}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def _once(self, make: Callable, task: Task, *more) -> Any:
        key = (make.__name__, task.key, *more)
        if key not in self._kept:
            self._kept[key] = make(task, *more)
        return self._kept[key]

    # -- made once -------------------------------------------------------------------------------------------

    def _convert(self, task: Task, progress: Progress = silent) -> Table:
        if self.data is None:
            raise InputError(
                f"--data is missing, and {self.out} holds no converted data of {task.key}; give the folder of all data sets"
            )
        table = table_of(task, self.data, self.out / TABLES, extra=self.extra, partial=self.partial, progress=progress)
        place = self._folder(TABLES) / f"{task.key}.json"
        write_json(place, {"name": table.name, "kind": table.kind, "path": str(table.path), "cases": table.cases,
                           "labels": list(table.labels), "channels": list(table.channels)})  # fmt: skip
        return table

    def _table(self, task: Task) -> Table:
        place = self.out / TABLES / f"{task.key}.json"
        if not place.is_file():
            return self._convert(task)
        data = json.loads(place.read_text(encoding="utf-8"))
        return Table(
            **{**data, "path": Path(data["path"]), "labels": tuple(data["labels"]), "channels": tuple(data["channels"])}
        )

    def _scans(self, task: Task, progress: Progress = silent) -> ScanSet:
        return self._standardised(task, self._first_spacing(task), progress)[0]

    def _canonical(self, task: Task, spacing_mm: float) -> ScanSet:
        return self._standardised(task, spacing_mm, silent)[1]

    def _standardised(self, task: Task, spacing_mm: float, progress: Progress) -> tuple[ScanSet, ScanSet]:
        table = self.table(task)
        if table.kind != SCANS:
            raise InputError(f"{task.key}: table {table.name} holds no scans with masks; convert the data again")
        return standardise(table.scans(), self._folder(CANONICAL) / self.name_of(task), spacing_mm, progress)

    def _first_spacing(self, task: Task) -> float:
        from ..plan import Entrant, settings_of

        return settings_of(task, Entrant("trivial", _floor()), self.conditions)["spacing_mm"]

    def _cases(self, task: Task) -> CaseTable:
        table = self.table(task)
        classes = next(iter(task.classes.values())) if task.group in ("detect", "stage") else ()
        return read_cases(
            table.path,
            CASE_TASKS[table.kind],
            classes=classes,
            organ=task.organ,
            survival_years=task.survival_years,
            censored=True,
        )

    def _outcomes(self, task: Task) -> dict[str, tuple[float, bool]]:
        if not task.survival_years:
            return {}
        rows = read_rows(self.table(task).path, ["id", "os_days", "event"])
        return {row["id"]: (float(row["os_days"]), row["event"].lower() in ("1", "true")) for _, row in rows}

    def _splits(self, task: Task) -> Splits:
        members = self.scans(task).scans if task.kind == SEGMENTATION else self.cases(task).cases
        path = self._folder(SPLITS) / f"{self.name_of(task)}.json"
        found = kept_splits(path, members, self.conditions.folds, self.conditions.seed)
        if len(found.folds) != self.conditions.folds:
            raise InputError(f"{path}: {len(found.folds)} folds; wanted {self.conditions.folds}, as --folds says")
        return found

    def _plain_name(self, task: Task) -> str:
        name = self.table(task).name
        years = f"-{task.survival_years:g}y" if task.survival_years else ""
        return f"{task.dataset.key}-{name}{years}"

    def _folder(self, name: str) -> Path:
        place = self.out / name
        place.mkdir(parents=True, exist_ok=True)
        return place


@cache
def _floor():
    from ..models.interface import find_rival

    return find_rival("trivial")
