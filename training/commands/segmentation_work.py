"""What finetune and fewshot do once their options are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from PASTALib.errors import InputError

from ..presets import parse_changes
from ..presets import preset as preset_of
from .downstream_options import numbers
from .downstream_work import Asked, check_asked, fold_numbers

FEWSHOT = "fewshot"


def read_set(data: Path | None, cases: Path | None, labels: str | None, channels: str, patients: Path | None):
    """The labelled scans that the options name; InputError for what does not go together."""
    from ..downstream.labelled import read_raw_folder, read_scan_table

    if (data is None) == (cases is None):
        raise InputError(
            f"give either --data DIR or --cases FILE; {'neither is' if data is None else 'both are'} given"
        )
    if data is not None:
        if labels or channels != "CT":
            raise InputError("--labels and --channels go with --cases; dataset.json says them for --data")
        return read_raw_folder(data, patients)
    if patients is not None:
        raise InputError("--patients goes with --data; the table of --cases has a column patient")
    if not labels:
        raise InputError("--labels is missing; name the values 1, 2, … of the masks, such as --labels organ,tumor")
    return read_scan_table(cases, _listed(labels), _listed(channels))


def segmentation(command: str, asked: Asked, source: Mapping[str, Any], k: str | None = None, runs: str | None = None):
    """Train, test and report every fold (and draw) that was asked for. ``source``: arguments of ``read_set``."""
    changes = parse_changes(asked.changes)
    if asked.model is not None:
        changes["model"] = asked.model
    settings = preset_of(command, asked.preset, changes)
    given = any(source[key] is not None for key in ("data", "cases"))
    check_asked(asked, settings, given, "--data or --cases")

    from PASTALib.commands.console import print_json, steps

    from ..downstream import recipes
    from ..downstream import segmentation as work
    from ..downstream.finetuning import check_settings
    from ..downstream.labelled import read_scan_table, standardise
    from ..downstream.splits import SPLITS, kept_splits
    from ..downstream.start import read_start
    from ..downstream.toy import write_toy

    scans = read_set(**source) if given else None
    import torch

    from PASTALib.inference.devices import pick_device

    device = pick_device(asked.device)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    start = read_start(settings["model"])
    check_settings(settings, start, len(scans.labels) + 1 if scans else 3)
    folds = numbers(asked.folds, fold_numbers(asked, settings, scans and scans.scans), "--folds")
    counts, drawn = [0], [0]
    if command == FEWSHOT:
        counts = numbers(k, settings["k"], "--k")
        drawn = numbers(runs, list(range(settings["runs"])), "--runs")
    kept = {**settings, "weights": start.digest, "cases": scans.digest if scans else "toy"}
    with steps(quiet=asked.as_json) as shown:
        with recipes.open_study(
            asked.out, command, kept, seed=asked.seed, resume=asked.resume, overwrite=asked.overwrite
        ) as run:
            if scans is None:
                table = write_toy(run.folder / "toy", "segment", settings["toy"], asked.seed)
                scans = read_scan_table(table, ["organ", "tumor"])
            scans, canonical = standardise(
                scans, run.folder / "canonical", settings["spacing_mm"], shown.start("Standardising scans")
            )
            splits = kept_splits(run.folder / SPLITS, scans.scans, settings["folds"], asked.seed, asked.splits)
            every = list(range(len(splits.folds)))
            draws: dict = {}
            if command == FEWSHOT:
                draws = work.kept_draws(run.folder / work.DRAWS, scans, splits, settings, asked.seed)
                units = [work.Unit(f, n, r) for n in settings["k"] for f in every for r in range(settings["runs"])]
            else:
                units = [work.Unit(fold) for fold in every]
            study = work.Study(command, scans, canonical, settings, start, splits, asked.seed, draws)
            for unit in units:
                if unit.fold in folds and unit.k in counts and unit.run in drawn:
                    work.run_unit(
                        run.folder,
                        study,
                        unit,
                        device=device,
                        workers=asked.workers,
                        resume=asked.resume,
                        progress=shown.start(f"Training {unit.folder}"),
                    )
            summary = work.summarise(run.folder, study, units)
    if asked.as_json:
        print_json({"run": str(asked.out), **summary})
        return
    _show(summary)
    typer.echo(f"Run: {asked.out} (dice.csv, summary.json, and model.pth of every training for `pasta segment`)")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _show(summary: Mapping[str, Any]) -> None:
    parts = {f"K = {k}": found for k, found in summary.get("by_k", {}).items()} or {"Dice": summary["pooled"]}
    for name, found in parts.items():
        figures = [
            f"{label} {entry['dice']:.3f} ({entry['scans_with']} scans)"
            for label, entry in found["by_label"].items()
            if entry["dice"] is not None
        ]
        typer.echo(f"{name}: {', '.join(figures) or 'nothing to score yet'}")
    if summary["units_done"] < summary["units"]:
        typer.echo(f"{summary['units_done']} of {summary['units']} trainings are done; go on with --resume")
