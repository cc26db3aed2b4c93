"""Fine-tuning a segmentation network on some scans with nnU-Net's framework: statistics, preprocessing and training see those scans alone.

In nnU-Net, and in the authors' runs, intensity statistics come from the whole set, test cases included; here from the training scans.
nnU-Net draws patches and augmentation from Python's, numpy's and torch's global generators. They are seeded at every epoch, so that with
``workers`` 0 on a CPU a run that was killed goes on to the same weights; with worker processes or on a GPU it goes on to similar ones.
"""

from __future__ import annotations

import contextlib
import copy
import io
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from PASTALib.errors import InputError
from PASTALib.networks.card import ModelCard
from PASTALib.networks.load import save_model
from PASTALib.networks.nnunet_folder import card_of
from PASTALib.progress import Progress, silent

from ..generate.locks import locked
from ..runs import Run, write_json
from ..segmentation.nnunet_env import nnunet_folders, nnunet_processes, require_nnunet
from ..segmentation.plans import CONFIGURATION, fingerprint, make_plans, preprocess
from ..segmentation.trainer import BEST, FINAL, LATEST, PastaTrainer
from .labelled import ScanSet
from .recipes import MODEL, NOTE
from .start import Source

DATASET = "Dataset900_Downstream"
NNUNET = "nnunet"
_WAIT_S = 24 * 3600.0  # for another process that preprocesses the same scans
SAMPLES = (
    10**6
)  # voxels of a scan for the intensity statistics, as nnU-Net draws of a hundred scans; of a few it would draw 100 times as many
MONITORED = 4  # training scans whose patches nnU-Net's pseudo Dice is computed on where none are set aside


class PastaFoldTrainer(PastaTrainer):
    """``PastaTrainer`` of a network that it is ``given``, with random numbers that depend on ``seed`` and epoch alone (in this process).

    A network with ``output_strides`` is supervised at these; one with a single output at that.
    """

    seed = 0
    given: nn.Module | None = None

    def build_network_architecture(
        self,
        plans_manager,
        configuration_manager,
        num_input_channels,
        num_output_channels,
        enable_deep_supervision=True,
    ) -> nn.Module:
        return self.given

    def _get_deep_supervision_scales(self) -> list[list[float]]:
        strides = getattr(self.given, "output_strides", None)
        if strides is None:
            return super()._get_deep_supervision_scales()
        return [[1 / step for step in stride] for stride in strides]

    def _build_loss(self) -> nn.Module:
        if len(self._get_deep_supervision_scales()) > 1:
            return super()._build_loss()
        from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

        self.enable_deep_supervision = False  # nnU-Net gives the last output no weight, which here is the only one
        loss = super()._build_loss()
        self.enable_deep_supervision = True
        return DeepSupervisionWrapper(loss, [1.0])

    def on_epoch_start(self) -> None:
        super().on_epoch_start()
        self.seed_epoch()

    def seed_epoch(self) -> None:
        """nnU-Net passes no generators down: its global ones are set."""
        value = int(np.random.default_rng([self.seed, self.current_epoch]).integers(2**31))
        random.seed(value)
        np.random.seed(value)  # noqa: NPY002
        torch.manual_seed(value)


@dataclass(frozen=True)
class Trained:
    """A trained network (on the CPU), nnU-Net's plans for it, and one sentence on what it started from. ``plans``, ``described``: for its predictor."""

    network: nn.Module
    plans: dict
    described: dict
    start: str


def check_settings(settings: Mapping[str, Any], start: Source, outputs: int) -> None:
    """InputError for settings that cannot be, before anything is written."""
    require_nnunet()
    for key in ("epochs", "iterations", "validation_iterations", "batch", "save_every", "folds"):
        if settings[key] < 1:
            raise InputError(f"{key} is {settings[key]}; wanted 1 or more")
    if settings["choose"] not in ("best", "last"):
        raise InputError(f"choose is {settings['choose']!r}; wanted best or last")
    if settings["choose"] == "best" and not settings["validation_share"]:
        raise InputError("choose=best needs scans to choose by: set validation_share above 0, or choose=last")
    start.planned(settings, outputs)


def train_on(
    run: Run,
    scans: ScanSet,
    learn: Sequence[str],
    choose: Sequence[str],
    settings: Mapping[str, Any],
    start: Source,
    *,
    seed: int,
    device: torch.device,
    workers: int = 0,
    resume: bool = False,
    prepared: Path | None = None,
    progress: Progress = silent,
) -> Trained:
    """A network of the set's labels after ``epochs`` x ``iterations`` steps on the scans ``learn`` (canonical files).

    ``choose``: scans for nnU-Net's pseudo Dice, by whose running mean weights are chosen with ``settings["choose"]`` "best"; with "last"
    they are only looked at. No file of another scan is opened. ``workers``: processes that augment (0: this one). ``prepared``: a folder for
    the preprocessed scans, shared by trainings on the same ``learn``, ``choose``, spacing and channels.
    ``progress`` counts epochs.
    """
    settings = start.planned(settings, len(scans.labels) + 1)
    with nnunet_folders(run.folder / NNUNET, prepared) as places, nnunet_processes(workers):
        base = places["nnUNet_preprocessed"] / DATASET
        base.mkdir(parents=True, exist_ok=True)
        with locked(base / ".lock", wait_s=_WAIT_S):
            plans, described = _prepared(base, scans, learn, choose, settings, progress)
        network, taken = start.segmenter(len(scans.channels), len(scans.labels) + 1, settings, seed)
        trainer = _trainer(plans, described, network, device, seed, resume)
        folder = Path(trainer.output_folder)
        found = next((folder / name for name in (FINAL, LATEST) if (folder / name).is_file()), None) if resume else None
        if found is not None:
            trainer.load_checkpoint(str(found))
        _train(run, trainer, settings, found is not None and found.name == FINAL, progress)
        network = trainer.plain_network()
        if settings["choose"] == "best":
            state = torch.load(folder / BEST, map_location="cpu", weights_only=True)
            network.load_state_dict(state["network_weights"])
            shutil.copyfile(folder / BEST, folder / FINAL)
        network = network.cpu().eval()
        network.deep_supervision = False
    return Trained(network, plans, described, taken)


def tidy(folder: Path, keep: bool) -> None:
    """Remove what only the training of a finished unit needed: preprocessed scans, and with them most of the checkpoints' bytes.

    ``keep``: nnU-Net's folder stays usable, with the chosen weights (without the optimiser's state) as its final checkpoint; otherwise
    ``model.pth`` holds them, and the checkpoints go.
    """
    root = folder / NNUNET
    for name in ("preprocessed", "raw"):
        shutil.rmtree(root / name, ignore_errors=True)
    for final in root.glob(f"results/**/{FINAL}"):
        if keep:
            state = torch.load(final, map_location="cpu", weights_only=True)
            part = final.with_name(f".{final.name}.part")
            torch.save({**state, "optimizer_state": None, "grad_scaler_state": None}, part)
            part.replace(final)
        else:
            final.unlink()
    for name in (LATEST, BEST):
        for path in root.glob(f"results/**/{name}"):
            path.unlink()


def write_model(
    run: Run, trained: Trained, scans: ScanSet, name: str, start: Source, settings: Mapping[str, Any]
) -> Path:
    """``model.pth`` as `pasta segment` reads it. Only of single CTs: others stay in nnU-Net's folder, for its predictor."""
    card: ModelCard = card_of(trained.plans, trained.described, CONFIGURATION, run.folder, PastaFoldTrainer.__name__)
    steps = settings["epochs"] * settings["iterations"]
    about = {
        "name": name,
        "source": f"fine-tuned on {scans.name}: {steps} steps of {settings['batch']} patches, from {start.name}",
        "notes": (NOTE,),
    }
    card = ModelCard(**{**{key: getattr(card, key) for key in card.__dataclass_fields__}, **about})
    save_model(run.folder / MODEL, trained.network, card)
    return run.folder / MODEL


# ---------------------------------------------------------------------------------------------------------------


def _prepared(
    base: Path,
    scans: ScanSet,
    learn: Sequence[str],
    choose: Sequence[str],
    settings: Mapping[str, Any],
    progress: Progress,
) -> tuple[dict, dict]:
    """Plans and description; the scans preprocessed by them in ``base``, unless they are there."""
    used = [*learn, *(name for name in choose if name not in learn)]
    described = scans.dataset_json(len(used))
    plans = _plans(base, scans, learn, settings, progress)
    write_json(base / "splits_final.json", [{"train": list(learn), "val": list(choose or learn[:MONITORED])}])
    preprocess(plans, described | _listing(scans, used), base, progress=progress)
    return plans, described


def _plans(base: Path, scans: ScanSet, learn: Sequence[str], settings: Mapping[str, Any], progress: Progress) -> dict:
    """Plans with the intensity statistics of the scans to learn from, channel by channel."""
    from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import get_normalization_scheme

    properties, found = {}, {}
    for channel in range(len(scans.channels)):
        folder = base if channel == 0 else base / f"channel_{channel}"
        folder.mkdir(exist_ok=True)
        one = _listing(scans, learn, channel)
        part = fingerprint(one, folder, most=SAMPLES, progress=progress)
        found = found or part
        properties[str(channel)] = part["foreground_intensity_properties_per_channel"]["0"]
    plans = make_plans(settings, len(scans.labels) + 1, found)
    plans["dataset_name"] = DATASET
    plans["foreground_intensity_properties_per_channel"] = properties
    configuration = plans["configurations"][CONFIGURATION]
    configuration["normalization_schemes"] = [get_normalization_scheme(name).__name__ for name in scans.channels]
    configuration["use_mask_for_norm"] = [False] * len(scans.channels)
    return plans


def _listing(scans: ScanSet, ids: Sequence[str], channel: int | None = None) -> dict:
    """nnU-Net's list of files, of one channel or all."""
    listed = {}
    for scan in scans.of(ids):
        images = scan.images if channel is None else scan.images[channel : channel + 1]
        listed[scan.id] = {"images": [str(path) for path in images], "label": str(scan.mask)}
    return {"dataset": listed}


def _trainer(
    plans: dict, described: dict, network: nn.Module, device: torch.device, seed: int, resume: bool
) -> PastaFoldTrainer:
    with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints its citation and device; they are in its log file
        trainer = PastaFoldTrainer(
            {**copy.deepcopy(plans), "continue_training": resume}, CONFIGURATION, 0, described, device
        )
        trainer.given, trainer.seed = network, seed
        trainer.logger.plot_progress_png = lambda folder: (
            None
        )  # seconds in every epoch; the run's metrics.jsonl has the figures
        trainer.seed_epoch()
        trainer.initialize()
    return trainer


def _train(
    run: Run, trainer: PastaFoldTrainer, settings: Mapping[str, Any], finished: bool, progress: Progress
) -> None:
    iterations, epochs = settings["iterations"], settings["epochs"]
    run.forget_after(trainer.current_epoch * iterations)
    names = list(trainer.label_manager.foreground_labels)

    def after_epoch(trainer: PastaFoldTrainer) -> None:
        done, value = trainer.current_epoch, trainer.logger.get_value
        loss = float(value("train_losses", step=-1))
        dice = value("dice_per_class_or_region", step=-1)
        run.log(
            done * iterations,
            loss=loss,
            validation_loss=float(value("val_losses", step=-1)),
            learning_rate=float(value("lrs", step=-1)),
            skipped=trainer.skipped,
            **{f"pseudo_dice_{name}": float(score) for name, score in zip(names, dice) if score == score},
        )
        progress(done, epochs, f"loss {loss:.3f}")

    trainer.after_epoch = after_epoch
    if not finished:
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.run_training()
