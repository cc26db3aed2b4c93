"""What detect, stage and attributes do once their options are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from PASTALib.errors import InputError

from ..presets import parse_changes
from ..presets import preset as preset_of
from .downstream_options import check_numbers, numbers


@dataclass(frozen=True)
class Asked:
    """The shared options as they were given."""

    out: Path
    preset: str
    changes: list[str]
    cases: Path | None
    model: str | None
    splits: Path | None
    folds: str | None
    workers: int
    threads: int
    seed: int
    device: str
    resume: bool
    overwrite: bool
    as_json: bool


def settings_of(command: str, asked: Asked) -> dict[str, Any]:
    """The preset with its changes and --model; InputError for what cannot be."""
    changes = parse_changes(asked.changes)
    if asked.model is not None:
        changes["model"] = asked.model
    settings = preset_of(command, asked.preset, changes)
    check_asked(asked, settings, asked.cases is not None, "--cases")
    if asked.cases is not None and not asked.cases.exists():
        raise InputError(f"--cases {asked.cases} does not exist; check the path")
    return settings


def check_asked(asked: Asked, settings: Mapping[str, Any], given: bool, option: str) -> None:
    """InputError for numbers out of range, missing weights and missing data."""
    check_numbers(asked.seed, asked.workers, asked.threads)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("a fold is trained by one process; without torchrun, start one per card with --folds 0, 1, …")
    if not settings["model"]:
        raise InputError("which weights to start from? give --model NAME|FILE, or --model none for new values")
    if not given and not settings["toy"]:
        raise InputError(f"{option} is missing; give labelled cases (or try --preset smoke, which makes its own)")


def fold_numbers(asked: Asked, settings: Mapping[str, Any], members) -> list[int]:
    """The folds that there will be, before anything is written; ``members`` None where they are made up."""
    from ..downstream.splits import make_splits, read_splits

    if members is None:
        return list(range(settings["folds"]))
    found = read_splits(asked.splits, members) if asked.splits else make_splits(members, settings["folds"], asked.seed)
    return list(range(len(found.folds)))


def classify(command: str, asked: Asked, organ: str | None = None) -> None:
    """Train, test and report every fold that was asked for."""
    settings = settings_of(command, asked)
    from PASTALib.commands.console import note, print_json, steps

    from ..downstream import recipes
    from ..downstream.classification import check_settings
    from ..downstream.cubes import cut_cubes
    from ..downstream.splits import SPLITS, kept_splits
    from ..downstream.start import read_start
    from ..downstream.table import read_cases
    from ..downstream.toy import write_toy

    check_settings(settings)
    import torch

    from PASTALib.inference.devices import pick_device

    device = pick_device(asked.device)
    if asked.threads:
        torch.set_num_threads(asked.threads)

    def read(path: Path):
        how = {"classes": settings["classes"], "survival_years": settings["survival_years"]}
        return read_cases(path, command, organ=organ, **how)

    with steps(quiet=asked.as_json) as shown:
        table = None
        if asked.cases is not None:
            shown.start("Reading the table")
            table = read(asked.cases)
            _check_weights(settings, table.groups)
        numbers(asked.folds, fold_numbers(asked, settings, table and table.cases), "--folds")
        start = read_start(settings["model"])
        recipes.new_network(recipes.Recipe(command, table or _toy_groups(command), settings, start, {}, 0), 0)
        kept = {**settings, "weights": start.digest, "cases": table.digest if table else "toy", "organ": organ or ""}
        with recipes.open_study(
            asked.out, command, kept, seed=asked.seed, resume=asked.resume, overwrite=asked.overwrite
        ) as run:
            if table is None:
                table = read(write_toy(run.folder / "toy", command, settings["toy"], asked.seed))
            splits = kept_splits(run.folder / SPLITS, table.cases, settings["folds"], asked.seed, asked.splits)
            chosen = numbers(asked.folds, list(range(len(splits.folds))), "--folds")
            files = cut_cubes(table.cases, settings, run.folder / "cubes", shown.start("Cutting cubes"))
            recipe = recipes.Recipe(command, table, settings, start, files, asked.seed)
            for fold in chosen:
                recipes.run_fold(
                    run.folder / f"fold_{fold}",
                    recipe,
                    splits,
                    fold,
                    device=device,
                    workers=asked.workers,
                    resume=asked.resume,
                    progress=shown.start(f"Fold {fold}"),
                )
            summary = recipes.summarise(run.folder, recipe, splits)
    if asked.as_json:
        print_json({"run": str(asked.out), **summary})
        return
    for line in summary["notes"]:
        note(line)
    _show(summary)
    typer.echo(f"Run: {asked.out} (predictions.csv, summary.json, fold_*/model.pth)")


def _check_weights(settings: Mapping[str, Any], groups: Mapping[str, tuple[str, ...]]) -> None:
    weights = settings["class_weights"]
    classes = [len(names) for names in groups.values()]
    fine = not weights or len(classes) == 1 and len(weights) == classes[0] and all(value > 0 for value in weights)
    if not fine:
        raise InputError(f"class_weights {weights} for {classes} classes; wanted one positive number per class, or []")


def _toy_groups(command: str):
    """Groups of the made-up cases, before they are made."""
    from PASTALib.attributes import LEARNED, TABLE

    from ..downstream.table import ATTRIBUTES, CaseTable

    groups = {key: TABLE[key].options for key in LEARNED} if command == ATTRIBUTES else {"label": ("0", "1")}
    return CaseTable(Path(), (), groups, "")


def _show(summary: Mapping[str, Any]) -> None:
    pooled = summary["pooled"]
    for group, figures in pooled["groups"].items():
        if not figures["cases"]:
            continue
        auc = f", AUC {figures['auc']:.3f}" if figures["auc"] is not None else ""
        typer.echo(
            f"{group}: accuracy {figures['accuracy']:.3f} (majority {figures['majority']['accuracy']:.3f}), "
            f"balanced {figures['balanced_accuracy']:.3f}, macro-F1 {figures['macro_f1']:.3f}{auc}"
            + ("; every case got the same class" if figures["collapsed"] else "")
        )
    ranges = summary["over_folds"].get("auc")
    if ranges:
        typer.echo(f"AUC over folds: {ranges['mean']:.3f} ({ranges['min']:.3f} to {ranges['max']:.3f})")
    if len(summary["folds_done"]) < summary["folds"]:
        typer.echo(f"{len(summary['folds_done'])} of {summary['folds']} folds are done; go on with --resume")
