"""One unit of segmentation: a network trained on its scans, masks of the scans that it never saw, and their scores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent
from PASTALib.volume import Volume, write_volume

from ...downstream.finetuning import train_on
from ...downstream.labelled import ENDING, read_images, read_mask
from ...downstream.segmentation import by_nnunet
from ...downstream.splits import inner_split
from ...runs import CONFIG, Run
from ..metrics import score_masks
from ..models.interface import FIXED, IMAGE, Preparation
from ..plan import Plan, Unit, preparation_of
from ..registry import Task
from ..results import METRICS, Figure, write_metrics
from .material import Material
from .own import normaliser, predict_own, train_own
from .source import RivalSource, keep_network

MASKS, FRAMEWORK = "masks", "nnU-Net"


def run_segmentation(
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
    """Write masks/ and metrics.csv into ``folder``; what was done, JSON-ready.

    ``work``: for checkpoints, from which an interrupted unit goes on; ``keep``: a file for the trained values.
    """
    tasks = plan.tasks_of(unit.run)
    learn, choose, seed = _learning(unit, plan, material)
    network, predict, about = _predictor(unit, plan, material, work, learn, choose, seed, device, workers, progress)
    if keep is not None:
        keep_network(network, keep)
    scans = material.scans(tasks[0])
    test = scans.of(material.splits(tasks[0]).test(unit.fold))
    (folder / MASKS).mkdir(parents=True, exist_ok=True)
    lines = []
    for number, scan in enumerate(test):
        progress(number, len(test), f"testing {scan.id}")
        volumes = read_images(scan, scans.channels)
        with _naming(f"{unit.words()}: case {scan.id}"):
            found = predict(volumes)
        write_volume(Volume(found, volumes[0].affine), folder / MASKS / f"{scan.id}{ENDING}")
        truth, spacing = read_mask(scan, volumes[0]), [float(mm) for mm in volumes[0].spacing_zyx_mm]
        for task in tasks:
            labels = {name: scans.labels[name] for name in task.scored}
            where = (task.key, unit.model, unit.k, unit.draw, unit.fold, scan.id, scan.patient)
            lines += [Figure(*where, *row) for row in score_masks(found, truth, spacing, labels)]
    write_metrics(folder / METRICS, lines)
    return {"trained_on": learn, "chosen_by": choose, "tested_on": len(test), **about}


def prepared_scans(unit: Unit, plan: Plan, material: Material) -> Path | None:
    """Where nnU-Net's preprocessed scans of a unit are, which other models' units share; None outside its framework."""
    task, entrant = plan.tasks_of(unit.run)[0], plan.entrants[unit.model]
    if not in_framework(entrant.rival, preparation_of(task, entrant, plan.conditions)):
        return None
    learn, choose, _ = _learning(unit, plan, material)
    return material.prepared(task, plan.settings(unit), learn, choose)


def in_framework(rival, preparation: Preparation) -> bool:
    """Whether a system is trained by nnU-Net's framework: by its recipe, and if that prepares images as the system wants them."""
    fits = preparation.orientation == "LPS" and preparation.axes == "zyx" and preparation.spacing_mm is not None
    return (
        rival.trained
        and fits
        and preparation.normalisation != FIXED
        and rival.manner("segmentation")["framework"] == FRAMEWORK
    )


# ---------------------------------------------------------------------------------------------------------------


def _learning(unit: Unit, plan: Plan, material: Material) -> tuple[list[str], list[str], int]:
    """Ids to learn from and to choose weights by, the same for every model; and the seed."""
    task, settings = plan.tasks_of(unit.run)[0], plan.settings(unit)
    scans, splits = material.scans(task), material.splits(task)
    seed = int(np.random.default_rng([plan.conditions.seed, unit.fold, unit.k, unit.draw]).integers(2**31))
    if unit.k:
        names, share = material.draws(task, settings)[str(unit.fold)][str(unit.draw)][: unit.k], 0.0
    else:
        names, share = splits.training(unit.fold), settings["validation_share"]
    return *inner_split(scans.of(names), share, seed), seed


def _predictor(unit: Unit, plan: Plan, material: Material, work: Path, learn, choose, seed, device, workers, progress):
    """A network that was trained (or not), what makes a label map of a scan's images by it, and what was done."""
    task, settings, entrant = plan.tasks_of(unit.run)[0], plan.settings(unit), plan.entrants[unit.model]
    scans, preparation = material.scans(task), preparation_of(task, entrant, plan.conditions)
    source = RivalSource(entrant, preparation, plan.conditions.small)
    if not entrant.rival.trained:
        return _untrained(source, task, settings, device)
    kept = {**settings, "unit": [unit.run, unit.model, unit.k, unit.draw, unit.fold], "weights": source.digest}
    again = (work / CONFIG).is_file()
    how = {"seed": seed, "device": device, "workers": workers, "resume": again, "progress": progress}
    with Run.open(work, task.command, kept, seed=plan.conditions.seed, resume=again) as run:
        if not in_framework(entrant.rival, preparation):
            arrays = material.out / "arrays" / material.name_of(task)
            network, mapped, taken = train_own(run, source, scans, learn, settings, arrays, **how)
            _watch(network)
            return (
                network,
                lambda volumes: predict_own(network, volumes, preparation, mapped, settings, device),
                {"start": taken},
            )
        canonical = material.canonical(task, settings["spacing_mm"])
        prepared = prepared_scans(unit, plan, material)
        trained = train_on(run, canonical, learn, choose, settings, source, prepared=prepared, **how)
        _watch(trained.network)
        return trained.network, lambda volumes: by_nnunet(volumes, trained, settings, device), {"start": trained.start}


def _untrained(source: RivalSource, task: Task, settings, device: torch.device):
    network, _ = source.segmenter(len(task.channels), len(task.labels) + 1, settings, 0)
    network.deep_supervision = False
    preparation = source.preparation
    if preparation.normalisation != FIXED:
        preparation = replace(preparation, normalisation=IMAGE)
    settings = {**settings, "mirroring": False, "step": 1.0}  # nothing is gained by looking twice
    _watch(network)

    def predict(volumes):
        return predict_own(
            network, volumes, preparation, lambda images: normaliser(preparation, images), settings, device
        )

    return network, predict, {"start": "nothing is trained"}


def _watch(network: torch.nn.Module) -> None:
    """Stop at logits that are not finite: their largest would be background, silently."""

    def check(_, __, output) -> None:
        if not torch.isfinite(output).all():
            raise FloatingPointError

    network.register_forward_hook(check)


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    try:
        yield
    except FloatingPointError:
        raise InputError(
            f"{what}: the prediction is NaN or infinite; the network diverged: train it again, with a lower rate"
        ) from None
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
