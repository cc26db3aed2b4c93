"""Stage 1 on stored cases, by nnU-Net: export, plans, preprocessing, training; every step takes up where it was stopped."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PASTALib.errors import InputError
from PASTALib.inference.intensity import Intensity
from PASTALib.networks.card import PASTA_LABELS
from PASTALib.networks.checkpoint import Weights
from PASTALib.networks.matching import starting_weights
from PASTALib.networks.nnunet_folder import card_of
from PASTALib.networks.unet import PastaNet
from PASTALib.progress import Progress, silent

from ..runs import Run, write_json
from .dataset import DATASET, dataset_json, export_dataset, set_digest
from .nnunet_env import nnunet_folders, nnunet_processes, require_nnunet
from .plans import CONFIGURATION, PLANS, fingerprint, make_plans, network_shape, preprocess, write_split
from .ranks import Ranks

_PREPARED = "prepared.json"  # what the folders below were made of


def train_with_nnunet(
    run: Run,
    settings: Mapping[str, Any],
    cases: Sequence[Path],
    *,
    root: Path,
    ranks: Ranks,
    weights: Weights | None = None,
    workers: int = 1,
    resume: bool = False,
    progress: Progress = silent,
) -> tuple[PastaNet, Intensity]:
    """The network after ``epochs`` x ``iterations`` steps of nnU-Net's trainer on ``cases``, and the intensity map of its input.

    ``root``: folder for nnU-Net's raw, preprocessed and results folders; the first two serve several trainings on the same set. ``workers``:
    processes that export, preprocess and augment (0: this one). Of several ``ranks`` the first prepares. InputError as its parts.
    """
    require_nnunet()
    if ranks.several and (ranks.device.type != "cuda" or os.environ.get("LOCAL_WORLD_SIZE") != str(ranks.world)):
        raise InputError(
            "nnU-Net's trainer shares a batch over the cards of one machine; start as many processes as it has cards"
        )
    outputs = len(PASTA_LABELS) + (not settings["regions"])
    network_shape(settings, outputs)  # before the long work
    with nnunet_folders(root) as places, nnunet_processes(workers):
        base = places["nnUNet_preprocessed"] / DATASET
        if ranks.first:
            _prepare(base, places["nnUNet_raw"], settings, cases, outputs, workers, progress)
        ranks.wait()
        plans = make_plans(settings, outputs, json.loads((base / "dataset_fingerprint.json").read_text("utf-8")))
        described = dataset_json([case.name for case in cases], settings["regions"])
        if not 0 <= settings["fold"] < len(json.loads((base / "splits_final.json").read_text("utf-8"))):
            raise InputError(f"fold {settings['fold']} does not exist: {len(cases)} cases give fewer folds; set fold=0")
        network = _train(run, plans, described, settings, ranks, weights, resume, progress)
    return network, card_of(plans, dataset_json(()), CONFIGURATION, root, "PastaTrainer").intensity


def _prepare(base: Path, raw: Path, settings, cases, outputs: int, workers: int, progress: Progress) -> None:
    base.mkdir(parents=True, exist_ok=True)
    made_of = {
        "cases": set_digest(cases),
        "spacing_mm": settings["spacing_mm"],
        "regions": settings["regions"],
    }
    note = base / _PREPARED
    if note.is_file() and json.loads(note.read_text("utf-8")) != made_of:
        raise InputError(
            f"{base.parent.parent}: prepared from other cases, voxels or regions; choose another folder for nnU-Net, or empty it"
        )
    write_json(note, made_of)
    data = export_dataset(cases, raw, spacing_mm=settings["spacing_mm"], regions=settings["regions"], progress=progress)
    write_split(base, list(data["dataset"]))
    found = fingerprint(data, base, workers=workers, progress=progress)
    plans = make_plans(settings, outputs, found)
    write_json(base / f"{PLANS}.json", plans)
    write_json(base / "dataset.json", {key: value for key, value in data.items() if key != "dataset"})
    preprocess(plans, data, base, workers=workers, progress=progress)


def _train(run: Run, plans: dict, described: dict, settings, ranks: Ranks, weights, resume, progress) -> PastaNet:
    from .trainer import BEST, FINAL, LATEST, PastaTrainer

    with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints its citation and device; they are in its log file
        trainer = PastaTrainer(
            {**copy.deepcopy(plans), "continue_training": resume},
            CONFIGURATION,
            settings["fold"],
            described,
            ranks.device,
        )
        trainer.initialize()
    folder = Path(trainer.output_folder)
    found = next((folder / name for name in (FINAL, LATEST, BEST) if (folder / name).is_file()), None)
    if resume and found:
        trainer.load_checkpoint(str(found))
    elif weights is not None:
        state, _ = starting_weights(weights, trainer.plain_network().shape)
        trainer.plain_network().load_state_dict(state, strict=False)
    iterations, epochs = settings["iterations"], settings["epochs"]
    if ranks.first:
        run.forget_after(trainer.current_epoch * iterations)

    def after_epoch(trainer: PastaTrainer) -> None:
        done = trainer.current_epoch  # counted up already
        value = trainer.logger.get_value
        loss = float(value("train_losses", step=-1))
        if ranks.first:
            dice = dict(zip(PASTA_LABELS.values(), value("dice_per_class_or_region", step=-1)))
            run.log(
                done * iterations,
                loss=loss,
                validation_loss=float(value("val_losses", step=-1)),
                learning_rate=float(value("lrs", step=-1)),
                skipped=trainer.skipped,
                **{f"dice_{name}": float(score) for name, score in dice.items() if score == score},
            )
        progress(done, epochs, f"loss {loss:.3f}")

    trainer.after_epoch = after_epoch
    if found is None or found.name != FINAL or not resume:
        with contextlib.redirect_stdout(io.StringIO()) if ranks.first else contextlib.nullcontext():
            trainer.run_training()
    network = trainer.plain_network().cpu().eval()
    network.deep_supervision = False
    return network
