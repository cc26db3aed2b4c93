"""Stage 1 from settings to checkpoint: nnU-Net on stored cases or the plain loop on samples made on the fly, and scores at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.inference.intensity import PASTA_PIECEWISE
from PASTALib.networks.card import PASTA_LABELS
from PASTALib.networks.checkpoint import Weights, read_weights
from PASTALib.networks.load import load_model
from PASTALib.networks.matching import starting_weights
from PASTALib.networks.unet import PastaNet, initialise
from PASTALib.progress import Progress, silent

from ..runs import Run, write_json
from .calibrate import calibrate
from .dataset import list_cases
from .evaluate import evaluate
from .export import MODEL, export_model, make_card
from .loop import train
from .nnunet_env import require_nnunet
from .plans import network_shape
from .ranks import Ranks
from .recipe import make_optimiser, precision_of
from .sources import SynthesisSamples

ELSEWHERE = 25.0  # patches of a scan that one without regard to its lesion stands for
CASES, SYNTHESIS = SOURCES = ("cases", "synthesis")
SCORES, OFFSETS = "evaluation.json", "offsets.json"


def pretrain(
    run: Run,
    settings: Mapping[str, Any],
    *,
    ranks: Ranks,
    data: Path | None = None,
    scans: Path | None = None,
    weights: Path | None = None,
    nnunet: Path | None = None,
    name: str = "pretrained",
    seed: int = 0,
    workers: int = 1,
    resume: bool = False,
    progress: Progress = silent,
) -> Path | None:
    """Train as ``settings`` say and return the checkpoint ``model.pth`` in the run's folder.

    ``settings["source"]``: "cases" trains on the generated set under ``data`` with nnU-Net's trainer (its folders in ``nnunet``, by default
    in the run's); "synthesis" on lesions made on the fly in phantoms and in the CTs of the table ``scans``, with our plain loop.
    ``weights``: checkpoint to start from, as far as its tensors fit. Trained on regions there is no checkpoint of ours, and None is
    returned: nnU-Net predicts with its own. InputError for what does not go together.
    """
    source = settings["source"]
    check(settings, data, scans)
    start = None if weights is None else read_weights(weights)
    if source == CASES:
        from .nnunet_run import train_with_nnunet

        cases = list_cases(data)
        network, intensity = train_with_nnunet(
            run,
            settings,
            cases,
            root=nnunet or run.folder / "nnunet",
            ranks=ranks,
            weights=start,
            workers=workers,
            resume=resume,
            progress=progress,
        )
        told = f"{len(cases)} cases of {Path(data).name}"
    else:
        samples, intensity = SynthesisSamples(settings, scans, seed), PASTA_PIECEWISE
        if ranks.first:
            _same_data(run, samples.digest())
        ranks.wait()
        network = start_network(settings, start, seed)
        network = train(
            run,
            network,
            settings,
            samples,
            intensity,
            ranks=ranks,
            seed=seed,
            workers=workers,
            resume=resume,
            progress=progress,
        )
        told = samples.describe()
        if ranks.first and settings["calibration_patches"]:
            network = _calibrated(run, network, samples, intensity, settings, progress)
    if not ranks.first or settings["regions"]:
        return None
    if weights is not None:
        told += f", starting from {weights.name}"
    steps = settings["epochs"] * settings["iterations"]
    return export_model(run.folder / MODEL, network, make_card(settings, intensity, name, told, steps))


def _calibrated(run: Run, network: PastaNet, samples: SynthesisSamples, intensity, settings, progress: Progress):
    """With offsets of the lesion outputs, which are also kept as ``offsets.json``."""
    count, patch = settings["calibration_patches"], tuple(settings["patch"])

    def patches():
        for number in range(
            settings["validation_patches"], settings["validation_patches"] + count
        ):  # not those of validation
            hu, labels = samples.held_out(number, patch)
            yield torch.from_numpy(intensity(hu))[None, None], labels, 1.0
            # somewhere else in the same scan: most of what a network segments is no organ of interest
            hu, labels = samples.held_out(number, tuple(3 * side for side in patch))
            rng = np.random.default_rng(number)
            box = tuple(slice(start, start + side) for start, side in zip(rng.integers(2 * np.array(patch)), patch))
            yield torch.from_numpy(intensity(hu[box]))[None, None], labels[box], ELSEWHERE

    network, offsets = calibrate(network, patches(), 2 * count, progress)
    write_json(run.folder / OFFSETS, offsets)
    return network


def _same_data(run: Run, digest: str) -> None:
    """Note what the run draws from; InputError when it drew from something else before it was stopped."""
    note = run.folder / "data.json"
    if run.load() is not None and note.is_file() and json.loads(note.read_text("utf-8")) != {"scans": digest}:
        raise InputError(f"--resume: {run.folder} was trained on other scans; give the same --scans, or begin anew")
    write_json(note, {"scans": digest})


def check(settings: Mapping[str, Any], data: Path | None, scans: Path | None, weights: Path | None = None) -> None:
    """InputError, before anything is written, when the settings and the given files are not usable or do not go together."""
    source = settings["source"]
    if source not in SOURCES:
        raise InputError(f"source is {source!r}; wanted {CASES} (a generated set) or {SYNTHESIS} (made on the fly)")
    if source == CASES and data is None:
        raise InputError(
            "this preset trains on stored cases: give --data, a folder that `generate` wrote, or choose a preset with source=synthesis"
        )
    if source == CASES and scans is not None or source == SYNTHESIS and data is not None:
        raise InputError(
            f"source={source}: --data goes with stored cases, --scans with synthesis on the fly; leave one out"
        )
    if source == SYNTHESIS and settings["regions"]:
        raise InputError("regions=true needs nnU-Net's trainer and stored cases; set source=cases or regions=false")
    shape = network_shape(settings, len(PASTA_LABELS) + 1)
    for key in _COUNTS:
        if settings[key] < 1:
            raise InputError(f"{key} is {settings[key]}; wanted 1 or more")
    require_spacing(settings["spacing_mm"])
    if not settings["lesion_weight"] > 0:
        raise InputError(f"lesion_weight is {settings['lesion_weight']:g}; wanted above 0")
    if not set(settings["mirror_axes"]) <= {0, 1, 2}:
        raise InputError(f"mirror_axes is {settings['mirror_axes']}; wanted some of the array axes [0, 1, 2]")
    precision_of(settings["precision"], torch.device("cpu"))
    make_optimiser([torch.zeros(1)], settings)
    if source == CASES:
        require_nnunet()
        list_cases(data)
    else:
        SynthesisSamples(settings, scans)
    if weights is not None:
        starting_weights(read_weights(weights), shape)


_COUNTS = (
    "batch",
    "epochs",
    "iterations",
    "save_every",
    "validate_every",
    "validation_iterations",
    "validation_patches",
    "log_every",
)


def require_spacing(spacing_mm: float) -> None:
    """InputError for voxels that no network should see."""
    if not 0.5 <= spacing_mm <= 8:
        raise InputError(f"spacing_mm is {spacing_mm:g}; wanted 0.5 to 8 mm (the paper's is 1)")


def start_network(settings: Mapping[str, Any], weights: Weights | None, seed: int) -> PastaNet:
    """A new network of 25 classes, with all that ``weights`` have for it."""
    network = initialise(PastaNet(network_shape(settings, len(PASTA_LABELS) + 1)), seed)
    if weights is not None:
        state, _ = starting_weights(weights, network.shape)
        network.load_state_dict(state, strict=False)
        if settings["lesions_as_organs"]:
            lesions_as_organs(network)
    return network


@torch.no_grad()
def lesions_as_organs(network: PastaNet) -> None:
    """Let every lesion output begin as that of its organ, a little below it.

    A network that knows organs but no lesions gives those no probability at all where they lie, and softmax learns in proportion to it.
    """
    for name, value in network.state_dict().items():
        if name.startswith("seg_outputs."):
            for lesion in taxonomy.LESIONS:
                value[lesion.value] = 0.8 * value[taxonomy.organ(lesion.organ).value]


def score(run: Run, cases: Sequence[Path], device: str, progress: Progress = silent) -> dict:
    """Evaluate the run's checkpoint, keep the scores in ``evaluation.json`` and, in short, on its card."""
    path = run.folder / MODEL
    model = load_model(path)
    scores = evaluate(model, cases, device=device, progress=progress)
    write_json(run.folder / SCORES, scores)
    figures = ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in scores["mean"].items())
    notes = [line for line in model.card.notes if not line.startswith(_SCORED)]
    card = replace(model.card, notes=(*notes, f"{_SCORED} {scores['cases']} synthetic cases not trained on: {figures}"))
    export_model(path, model.networks[0], card)
    return scores


_SCORED = "scored on"
