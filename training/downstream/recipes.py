"""Detection, staging and survival, and attributes from table to figures: every fold trained, predicted and reported by itself."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from PASTALib.networks.card import ModelCard
from PASTALib.networks.load import save_model
from PASTALib.progress import Progress, silent

from ..runs import CONFIG, Run, write_json
from .classification import Cubes, predict, train
from .metrics import all_figures, majority_class, over_folds
from .splits import SPLITS, Splits, inner_split
from .start import Source
from .table import ATTRIBUTES, CaseTable

SUMMARY, PREDICTIONS, MODEL = "summary.json", "predictions.csv", "model.pth"
NOTE = "research use only, not for diagnosis"


@dataclass(frozen=True)
class Recipe:
    """What all folds share. ``files``: id -> cube; ``settings`` of the preset."""

    command: str
    table: CaseTable
    settings: Mapping[str, Any]
    start: Source
    files: Mapping[str, Path]
    seed: int

    @property
    def sizes(self) -> list[int]:
        """Outputs of every group; published scripts give the shape group one more than it has classes."""
        sizes = [len(names) for names in self.table.groups.values()]
        if self.command == ATTRIBUTES:
            sizes[0] = max(sizes[0], self.settings["shape_outputs"])
        return sizes

    @property
    def classes(self) -> list[int]:
        """Classes of every group."""
        return [len(names) for names in self.table.groups.values()]


def open_study(
    out: Path, command: str, settings: Mapping[str, Any], *, seed: int, resume: bool, overwrite: bool
) -> Run:
    """The run directory of a whole study, its folds in it; with ``overwrite`` what an earlier one left is removed."""
    run = Run.open(out, command, settings, seed=seed, resume=resume, overwrite=overwrite)
    if not resume:
        for name in (SUMMARY, PREDICTIONS, SPLITS, "draws.json"):
            (run.folder / name).unlink(missing_ok=True)
        for fold in run.folder.glob("fold_*"):
            if (fold / CONFIG).is_file() or any(fold.glob(f"k*/{CONFIG}")):
                shutil.rmtree(fold)
    return run


def new_network(recipe: Recipe, seed: int) -> tuple[nn.Module, str]:
    """Encoder and head from the starting weights, and what was taken from them."""
    return recipe.start.classifier(sum(recipe.sizes), recipe.settings, seed)


def train_part(
    run: Run, recipe: Recipe, ids: Sequence[str], fold: int, *, device, workers=0, resume=False, progress=silent
) -> tuple[nn.Module, dict[str, Any]]:
    """The network trained on ``ids``, a part of which is set aside to choose weights by; and what was done.

    Nothing of any other case is read: no cube, no label.
    """
    cases = recipe.table.of(ids)
    seed = int(np.random.default_rng([recipe.seed, fold]).integers(2**31))
    learn, choose = inner_split(cases, recipe.settings["validation_share"], seed)
    network, taken = new_network(recipe, seed)
    network, step = train(
        run,
        network,
        recipe.settings,
        recipe.sizes,
        _cubes(recipe, learn, seed),
        _cubes(recipe, choose) if choose else None,
        device=device,
        workers=workers,
        resume=resume,
        progress=progress,
    )
    labels = _labels(recipe, learn)
    about = {
        "trained_on": len(learn),
        "chosen_by": len(choose),
        "step": step,
        "start": taken,
        "class_counts": {
            group: np.bincount(labels[labels[:, n] >= 0, n], minlength=len(names)).tolist()
            for n, (group, names) in enumerate(recipe.table.groups.items())
        },
        "majority": [majority_class(labels[:, n], size) for n, size in enumerate(recipe.classes)],
    }
    return network, about


def run_fold(
    folder: Path,
    recipe: Recipe,
    splits: Splits,
    fold: int,
    *,
    device,
    workers: int = 0,
    resume: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train fold ``fold``, predict its test cases, and write model, predictions and summary into ``folder``; a finished one is read."""
    if resume and (folder / SUMMARY).is_file():
        return json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    again = resume and (folder / CONFIG).is_file()
    settings = {**recipe.settings, "fold": fold}
    with Run.open(folder, recipe.command, settings, seed=recipe.seed, resume=again, overwrite=not again) as run:
        network, about = train_part(
            run,
            recipe,
            splits.training(fold),
            fold,
            device=device,
            workers=workers,
            resume=again,
            progress=progress,
        )
        save_model(folder / MODEL, network, model_card(recipe, fold, about))
        ids = splits.test(fold)
        probabilities, _ = predict(
            network.to(device), _cubes(recipe, ids), recipe.sizes, recipe.classes, recipe.settings, device
        )
        _write_predictions(folder / PREDICTIONS, recipe, ids, fold, about["majority"], probabilities)
        figures = all_figures(_labels(recipe, ids), probabilities, about["majority"], list(recipe.table.groups))
        summary = {"fold": fold, **about, **figures}
        write_json(folder / SUMMARY, summary)
        (folder / "latest.pth").unlink(missing_ok=True)  # three times the weights, and of no more use
    return summary


def summarise(out: Path, recipe: Recipe, splits: Splits) -> dict[str, Any]:
    """Figures over all folds that are finished, written to ``out``: out-of-fold predictions pooled, and mean and range over folds."""
    done = [number for number in range(len(splits.folds)) if (out / f"fold_{number}" / SUMMARY).is_file()]
    folds = [json.loads((out / f"fold_{number}" / SUMMARY).read_text(encoding="utf-8")) for number in done]
    lines: list[list[str]] = []
    head: list[str] = []
    for number in done:
        with (out / f"fold_{number}" / PREDICTIONS).open(newline="", encoding="utf-8") as stream:
            head, *rows = csv.reader(stream)
            lines += rows
    _write_csv(out / PREDICTIONS, head, lines)
    probabilities, majorities, truth = [], [], []
    for group, names in recipe.table.groups.items():
        column = {name: head.index(f"{group}:{name}") for name in names}
        probabilities.append(np.array([[float(line[column[name]]) for name in names] for line in lines]))
        for kept, key in ((truth, group), (majorities, f"{group}_majority")):
            at = head.index(key)
            kept.append(np.array([names.index(line[at]) if line[at] else -1 for line in lines]))
    pooled = all_figures(np.stack(truth, 1), probabilities, majorities, list(recipe.table.groups))
    summary = {
        "command": recipe.command,
        "folds_done": done,
        "folds": len(splits.folds),
        "cases": len(lines),
        "weights_chosen": _how_chosen(recipe.settings),
        "over_folds": over_folds(folds),
        "pooled": pooled,
        "by_fold": folds,
        "notes": list(recipe.table.notes),
    }
    write_json(out / SUMMARY, summary)
    return summary


def model_card(recipe: Recipe, fold: int, about: Mapping[str, Any]) -> ModelCard:
    """The card of one fold's network; with the five attributes it serves `pasta report`."""
    settings, groups = recipe.settings, recipe.table.groups
    what = "; ".join(f"{group}: {', '.join(names)}" for group, names in groups.items())
    return ModelCard(
        name=f"{recipe.command}-fold{fold}",
        spacing_mm=float(settings["spacing_mm"]),
        attribute_orientation=settings["orientation"],
        attribute_intensity=recipe.start.intensity,
        attribute_crop=settings["side"],
        source=f"python -m training {recipe.command}: {about['step']} steps of {settings['batch']} cubes, from {recipe.start.name}",
        notes=(f"outputs: {what}", NOTE),
    )


# ---------------------------------------------------------------------------------------------------------------


def _how_chosen(settings: Mapping[str, Any]) -> str:
    if settings["choose"] == "last":
        return "those of the last step; nothing was chosen"
    return (
        f"best {settings['choose_by']} on {settings['validation_share']:.0%} of the training folds' patients, "
        "set aside; never on the fold that is reported"
    )


def _labels(recipe: Recipe, ids: Sequence[str]) -> np.ndarray:
    cases = recipe.table.of(ids)
    return np.array([[case.labels[group] for group in recipe.table.groups] for case in cases], np.int64)


def _cubes(recipe: Recipe, ids: Sequence[str], seed: int | None = None) -> Cubes:
    files = [recipe.files[name] for name in ids]
    return Cubes(files, _labels(recipe, ids), recipe.start.intensity, recipe.settings, seed)


def _write_predictions(path: Path, recipe: Recipe, ids, fold: int, majority: Sequence[int], probabilities) -> None:
    """One line per case: for each group its truth, the prediction, majority guessing, and the probability of every class."""
    head = ["id", "patient", "fold"]
    for group, names in recipe.table.groups.items():
        head += [group, f"{group}_predicted", f"{group}_majority", *(f"{group}:{name}" for name in names)]
    lines = []
    for number, case in enumerate(recipe.table.of(ids)):
        line = [case.id, case.patient, str(fold)]
        for n, (group, names) in enumerate(recipe.table.groups.items()):
            row, known = probabilities[n][number], case.labels[group]
            line += [names[known] if known >= 0 else "", names[int(row.argmax())], names[majority[n]]]
            line += [f"{value:.9g}" for value in row]
        lines.append(line)
    _write_csv(path, head, lines)


def _write_csv(path: Path, head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([head, *lines])
    part.replace(path)
