"""One unit of detection, staging, survival or report: trained on its folds' cubes, tested out of fold, probabilities kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from ...downstream import recipes
from ...downstream.classification import Cubes, predict
from ...runs import CONFIG, Run
from ..plan import Plan, Unit, preparation_of
from ..results import PREDICTIONS, Prediction, write_predictions
from .material import Material
from .source import RivalSource, keep_network


def run_classification(
    unit: Unit,
    plan: Plan,
    material: Material,
    folder: Path,
    work: Path,
    *,
    device: torch.device,
    workers: int = 0,
    keep: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write predictions.csv into ``folder``; what was done, JSON-ready.

    ``work``: for checkpoints, from which an interrupted unit goes on; ``keep``: a file for the trained values.
    """
    (task,) = plan.tasks_of(unit.run)
    entrant, settings = plan.entrants[unit.model], plan.settings(unit)
    table, splits = material.cases(task), material.splits(task)
    source = RivalSource(entrant, preparation_of(task, entrant, plan.conditions), plan.conditions.small)
    files = material.cubes(task, settings, progress)
    recipe = recipes.Recipe(task.command, table, settings, source, files, plan.conditions.seed)
    learn = [name for name in splits.training(unit.fold) if _known(table.of([name])[0])]
    if entrant.rival.trained:
        again = (work / CONFIG).is_file()
        kept = {**settings, **_of(unit), "weights": source.digest}
        with Run.open(work, task.command, kept, seed=plan.conditions.seed, resume=again) as run:
            network, about = recipes.train_part(
                run, recipe, learn, unit.fold, device=device, workers=workers, resume=again, progress=progress
            )
    else:
        network, about = _fitted(recipe, learn)
    if keep is not None:
        keep_network(network, keep)
    test = splits.test(unit.fold)
    cubes = Cubes([files[name] for name in test], labels_of(recipe, test), source.intensity, settings)
    probabilities, logits = predict(network.to(device), cubes, recipe.sizes, recipe.classes, settings, device)
    lines = []
    outcomes = material.outcomes(task)
    for number, case in enumerate(table.of(test)):
        if not torch.isfinite(logits[number]).all():
            raise InputError(
                f"{unit.words()}: case {case.id}: the prediction is NaN or infinite; the network diverged: train it again, with a lower rate"
            )
        for n, group in enumerate(table.groups):
            p = probabilities[n][number]
            where = (task.key, unit.model, unit.k, unit.draw, unit.fold, case.id, case.patient, group)
            lines.append(
                Prediction(*where, case.labels[group], tuple(map(float, p)), *outcomes.get(case.id, (None, None)))
            )
    write_predictions(folder / PREDICTIONS, lines)
    return {"trained_on": len(learn), "tested_on": len(test), **about}


def labels_of(recipe: recipes.Recipe, ids) -> np.ndarray:
    """Class numbers (n, groups)."""
    return np.array([[case.labels[group] for group in recipe.table.groups] for case in recipe.table.of(ids)], np.int64)


# ---------------------------------------------------------------------------------------------------------------


def _known(case) -> bool:
    """Whether there is anything to learn from it: survival of a patient who was lost early is unknown."""
    return any(label >= 0 for label in case.labels.values())


def _of(unit: Unit) -> Mapping[str, Any]:
    return {"unit": [unit.run, unit.model, unit.k, unit.draw, unit.fold]}


def _fitted(recipe: recipes.Recipe, learn) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The network of a system that is not trained but counts."""
    network, _ = recipe.start.classifier(sum(recipe.sizes), recipe.settings, recipe.seed)
    labels = labels_of(recipe, learn)
    counted: list[int] = []
    for n, size in enumerate(recipe.sizes):
        counted += np.bincount(labels[labels[:, n] >= 0, n], minlength=size).tolist()
    return network.fit(counted).eval(), {"start": "nothing is trained"}
