"""Training the encoder with a head on cubes: Adam, cosine schedule, cross-entropy per group; weights chosen on an inner validation part.

Sample n of a training depends on the seed and n alone, so that a run that was killed goes on to the same weights: exactly on a CPU with the
same number of threads; on GPUs up to the order in which their kernels add. Folds are independent: run them on as many cards as there are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from ..runs import Run
from ..segmentation.recipe import autocast, careful_step, guard_thin_layers, precision_of
from .augment import CHANGES, augment
from .metrics import all_figures, majority_class
from .start import InputMap

BEST, LAST = CHOICES = ("best", "last")
MEASURES = ("accuracy", "auc")  # what weights are chosen by, on the inner validation part
_UNKNOWN = -1


@dataclass(frozen=True)
class Cubes(Dataset):
    """Cubes as the network gets them: image (1, side, side, side) float32 and class numbers (groups,).

    ``seed`` None: the cubes in order, unchanged. With a seed: sample n is a cube drawn evenly (as the authors draw), changed at random.
    """

    files: Sequence[Path]
    labels: np.ndarray
    intensity: InputMap
    shares: Mapping[str, Any]
    seed: int | None = None

    def __len__(self) -> int:
        return len(self.files) if self.seed is None else 2**62

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if self.seed is None:
            return self._image(number)[None], torch.from_numpy(self.labels[number])
        rng = np.random.default_rng([self.seed, number])
        case = int(rng.integers(len(self.files)))
        image = augment(self._image(case), self.shares, rng, self.intensity.air)
        return image[None], torch.from_numpy(self.labels[case])

    def _image(self, case: int) -> Tensor:
        return torch.from_numpy(self.intensity(np.load(self.files[case])))


def check_settings(settings: Mapping[str, Any]) -> None:
    """InputError for settings that cannot be, before anything is written."""
    for key in ("steps", "batch", "validate_every", "save_every", "log_every", "folds"):
        if settings[key] < 1:
            raise InputError(f"{key} is {settings[key]}; wanted 1 or more")
    for key in CHANGES:
        if not 0 <= settings[key] <= 1:
            raise InputError(f"{key} is {settings[key]}; wanted the share of samples that are changed so, 0 to 1")
    for key, known in (("choose", CHOICES), ("choose_by", MEASURES)):
        if settings[key] not in known:
            raise InputError(f"{key} is {settings[key]!r}; wanted {' or '.join(known)}")
    if settings["choose"] == BEST and not settings["validation_share"]:
        raise InputError("choose=best needs cases to choose by: set validation_share above 0, or choose=last")
    precision_of(settings["precision"], torch.device("cpu"))


def train(
    run: Run,
    network: nn.Module,
    settings: Mapping[str, Any],
    sizes: Sequence[int],
    training: Cubes,
    validation: Cubes | None,
    *,
    device: torch.device,
    workers: int = 0,
    resume: bool = False,
    progress: Progress = silent,
) -> tuple[nn.Module, int]:
    """Train ``network`` for ``settings["steps"]`` steps; returns it with the chosen weights, on the CPU, and the step that they are of.

    ``sizes``: outputs of every group, in the order of the labels. ``validation`` never reaches the gradient: with ``choose`` "best" the
    weights with the best ``choose_by`` on it are taken (of equals those with the lower loss). ``workers`` processes make the samples
    (0: this one). ``progress`` counts steps.
    """
    steps, rate = settings["steps"], settings["learning_rate"]
    layout = torch.channels_last_3d if device.type == "cuda" else torch.contiguous_format
    network = network.to(device, memory_format=layout).train()
    if device.type == "cpu":
        guard_thin_layers(network)
    optimiser = torch.optim.Adam(network.parameters(), rate, weight_decay=settings["weight_decay"])
    precision = precision_of(settings["precision"], device)
    scaler = torch.amp.GradScaler(device.type) if precision == torch.float16 else None
    weights = torch.tensor(settings["class_weights"] or [1.0], device=device)
    state = State(run, network, optimiser, scaler)
    first = state.load() if resume else 0
    run.forget_after(first)
    loader = DataLoader(
        training,
        batch_size=settings["batch"],
        sampler=range(first * settings["batch"], steps * settings["batch"]),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
    )
    losses: list[Tensor] = []
    clock = time.perf_counter()
    for step, (images, labels) in enumerate(loader, first):
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        images = images.to(device, memory_format=layout, non_blocking=True)
        with autocast(device, precision):
            logits = network.attributes(images)
        loss = group_loss(logits.float(), labels.to(device), sizes, weights)
        state.skipped += not careful_step(loss, network, optimiser, scaler)
        losses.append(loss.detach())
        done = step + 1
        if done % settings["log_every"] == 0 or done == steps:
            mean, speed = float(torch.stack(losses).mean()), len(losses) / (time.perf_counter() - clock)
            run.log(done, loss=mean, learning_rate=group["lr"], steps_per_s=speed, skipped=state.skipped)
            progress(done, steps, f"loss {mean:.3f}")
            losses, clock = [], time.perf_counter()
        if validation is not None and (done % settings["validate_every"] == 0 or done == steps):
            figures = _validate(network, validation, sizes, settings, weights, device)
            run.log(done, **{f"validation_{key}": value for key, value in figures.items()})
            if settings["choose"] == BEST:
                state.keep_best(done, figures[settings["choose_by"]], figures["loss"])
            clock = time.perf_counter()
        if done % settings["save_every"] == 0 or done == steps:
            state.save(done)
    chosen = steps
    if settings["choose"] == BEST:
        best = run.load("best")
        network.load_state_dict(best["network"])
        chosen = best["step"]
    return network.cpu().eval(), chosen


def group_loss(logits: Tensor, labels: Tensor, sizes: Sequence[int], weights: Tensor) -> Tensor:
    """Mean over groups of the cross-entropy of ``logits`` (n, sum of sizes); labels (n, groups), -1 unknown.

    ``weights`` of the classes where there is a single group; [1] for none. A group of which a batch knows nothing is left out.
    """
    parts = []
    for group, part in enumerate(logits.split(list(sizes), dim=1)):
        wanted = labels[:, group]
        if bool((wanted != _UNKNOWN).any()):
            weight = weights if len(weights) == part.shape[1] > 1 else None
            parts.append(F.cross_entropy(part, wanted, weight, ignore_index=_UNKNOWN))
    return torch.stack(parts).mean() if parts else logits.sum() * 0


@torch.no_grad()
def predict(
    network: nn.Module, cubes: Cubes, sizes: Sequence[int], classes: Sequence[int], settings: Mapping[str, Any], device
) -> tuple[list[np.ndarray], Tensor]:
    """Probabilities (n, classes) float64 by group, and the logits. Outputs beyond a group's classes are taken out, the others scaled up."""
    training = network.training
    network.eval()
    precision = precision_of(settings["precision"], device)
    parts = []
    for images, _ in DataLoader(cubes, batch_size=settings["batch"]):
        with autocast(device, precision):
            parts.append(network.attributes(images.to(device)).float().cpu())
    network.train(training)
    logits = torch.cat(parts)
    found = [part[:, :count].double().softmax(1).numpy() for part, count in zip(logits.split(list(sizes), 1), classes)]
    return found, logits


def _validate(network, cubes: Cubes, sizes, settings, weights: Tensor, device) -> dict[str, float]:
    probabilities, logits = predict(network, cubes, sizes, sizes, settings, device)
    majorities = [majority_class(cubes.labels[:, n], size) for n, size in enumerate(sizes)]
    mean = all_figures(cubes.labels, probabilities, majorities, [str(n) for n in range(len(sizes))])["mean"]
    loss = group_loss(logits, torch.from_numpy(cubes.labels), sizes, weights.cpu())
    return {"loss": float(loss)} | {key: math.nan if mean[key] is None else mean[key] for key in MEASURES}


class State:
    """What checkpoints hold."""

    def __init__(self, run: Run, network: nn.Module, optimiser, scaler):
        self._run, self._network, self._optimiser, self._scaler = run, network, optimiser, scaler
        self.skipped, self.best = 0, (-math.inf, -math.inf)

    def save(self, step: int) -> None:
        self._run.save(
            {
                "step": step,
                "skipped": self.skipped,
                "best": list(self.best),
                "network": self._network.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "scaler": None if self._scaler is None else self._scaler.state_dict(),
            }
        )

    def load(self) -> int:
        """Steps that are done; 0 when there is no checkpoint yet."""
        state = self._run.load()
        if state is None:
            return 0
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._scaler is not None and state["scaler"] is not None:
            self._scaler.load_state_dict(state["scaler"])
        self.skipped, self.best = state["skipped"], tuple(state["best"])
        return state["step"]

    def keep_best(self, step: int, score: float, loss: float) -> None:
        """Keep the weights as "best" when they are. A score that cannot be told (a single class) counts as 0, so that the loss decides."""
        found = tuple(value if math.isfinite(value) else floor for value, floor in ((score, 0.0), (-loss, -math.inf)))
        if found > self.best or not (self._run.folder / "best.pth").is_file():
            self.best = found
            self._run.save({"step": step, "network": self._network.state_dict()}, "best")
