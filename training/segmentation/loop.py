"""The plain training loop, for samples that are made on the fly: nnU-Net's recipe without its folders, on one CPU or many cards.

nnU-Net's own loop wants preprocessed cases on disk and gives its random numbers no seed. Here sample n depends on the seed and n alone,
whatever the number of worker processes, so that a training that was killed goes on to the same weights: exactly on one CPU with the same
number of threads; on GPUs up to the order in which their kernels add.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from PASTALib import taxonomy
from PASTALib.inference.intensity import Intensity
from PASTALib.networks.card import PASTA_LABELS
from PASTALib.networks.unet import PastaNet
from PASTALib.progress import Progress, silent

from ..runs import Run
from .augment import augment, margin_sides
from .ranks import Ranks
from .recipe import (
    DiceCounter,
    autocast,
    careful_step,
    guard_thin_layers,
    learning_rate,
    make_loss,
    make_optimiser,
    means,
    precision_of,
    targets,
)

_AUGMENTING = 77  # keeps the random numbers of augmentation apart from those of synthesis
_GROUPS = {"organs": taxonomy.ORGAN_KEYS, "lesions": taxonomy.LESION_KEYS}


class Samples(Protocol):
    """Where patches come from; pickled to the worker processes.

    Both return HU (any number type) and labels 0-25 (uint8) of ``sides`` voxels (z, y, x), which depend on the number alone. Held-out
    samples show anatomy that no training sample shows. ``ignores``: whether labels may be 255, which counts neither way.
    """

    ignores: bool

    def training(self, number: int, sides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]: ...

    def held_out(self, number: int, sides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class _Batches(Dataset):
    """Sample n as the network gets it: image ``(1, z, y, x)`` float32, labels ``(z, y, x)`` uint8."""

    samples: Samples
    intensity: Intensity
    patch: tuple[int, int, int]
    mirror_axes: tuple[int, ...]
    seed: int

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        hu, labels = self.samples.training(number, margin_sides(self.patch))
        rng = np.random.default_rng([self.seed, _AUGMENTING, number])
        image = torch.from_numpy(self.intensity(hu))
        image, labels = augment(
            image, torch.from_numpy(np.ascontiguousarray(labels)), self.patch, rng, self.mirror_axes
        )
        return image[None], labels


@dataclass(frozen=True)
class _Numbers:
    """Lists of sample numbers, one per step from ``first`` on, of one process."""

    first: int
    steps: int
    batch: int
    ranks: Ranks

    def __iter__(self) -> Iterator[list[int]]:
        part = self.batch // self.ranks.world
        for step in range(self.first, self.steps):
            low = step * self.batch + self.ranks.rank * part
            yield list(range(low, low + part))

    def __len__(self) -> int:
        return self.steps - self.first


def train(
    run: Run,
    network: PastaNet,
    settings: Mapping[str, Any],
    samples: Samples,
    intensity: Intensity,
    *,
    ranks: Ranks,
    seed: int = 0,
    workers: int = 1,
    resume: bool = False,
    progress: Progress = silent,
) -> PastaNet:
    """Train ``network`` (already with its starting weights) for ``epochs`` x ``iterations`` steps and return it, on the CPU.

    Every ``log_every`` steps the mean loss, learning rate and speed are logged; every ``validate_every`` epochs Dice per class on
    ``validation_patches`` fixed patches; every ``save_every`` epochs the state is saved, from which ``resume`` goes on. ``workers``
    processes make the samples (0: this one). ``progress`` counts steps. InputError for a batch that the processes
    cannot share.
    """
    ranks.share(settings["batch"], "batch")
    epoch, device = settings["iterations"], ranks.device
    steps = settings["epochs"] * epoch
    # on a CPU channels-last is quicker forwards and slower backwards, by more
    layout = torch.channels_last_3d if device.type == "cuda" else torch.contiguous_format
    network = network.to(device, memory_format=layout).train()
    network.deep_supervision = True
    if device.type == "cpu":
        guard_thin_layers(network)
    optimiser = make_optimiser(network.parameters(), settings)
    precision = precision_of(settings["precision"], device)
    scaler = torch.amp.GradScaler(device.type) if precision == torch.float16 else None
    state = _State(run, network, optimiser, scaler)
    first = state.load() if resume else 0
    if ranks.first:
        run.forget_after(first)
    whole = (
        DistributedDataParallel(network, [device.index] if device.index is not None else None)
        if ranks.several
        else network
    )
    weights = [
        settings["lesion_weight"] if PASTA_LABELS.get(n) in taxonomy.LESION_KEYS else 1.0
        for n in range(network.shape.classes)
    ]
    loss_of = make_loss(
        network.shape.levels,
        settings["batch_dice"],
        ranks.several,
        samples.ignores,
        None if settings["lesion_weight"] == 1 else weights,
    ).to(device)
    patch = tuple(settings["patch"])
    if first < steps:
        progress(first, steps, "making the held-out patches")
    validate = _Validation(samples, intensity, patch, settings["validation_patches"], ranks, precision)
    loader = DataLoader(
        _Batches(samples, intensity, patch, tuple(settings["mirror_axes"]), seed),
        batch_sampler=_Numbers(first, steps, settings["batch"], ranks),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
    )
    losses: list[torch.Tensor] = []
    clock = time.perf_counter()
    for step, (images, labels) in enumerate(loader, first):
        rate = learning_rate(settings["learning_rate"], step // epoch, settings["epochs"])
        for group in optimiser.param_groups:
            group["lr"] = rate
        images = images.to(device, memory_format=layout, non_blocking=True)
        wanted = targets(labels.to(device, non_blocking=True), network.shape.levels)
        with autocast(device, precision):
            outputs = whole(images)
        loss = loss_of(outputs, wanted)
        state.skipped += not careful_step(loss, whole, optimiser, scaler)
        losses.append(loss.detach())
        done = step + 1
        if done % settings["log_every"] == 0 or done == steps:
            mean = float(torch.stack(losses).mean())
            speed = len(losses) / (time.perf_counter() - clock)
            if ranks.first:
                run.log(done, loss=mean, learning_rate=rate, steps_per_s=speed, skipped=state.skipped)
            progress(done, steps, f"loss {mean:.3f}")
            losses, clock = [], time.perf_counter()
        if done % (epoch * settings["validate_every"]) == 0 or done == steps:
            scores = validate(network)
            state.keep_best(done, scores, ranks.first)
            if ranks.first:
                run.log(done, **{f"dice_{key}": value for key, value in scores.items()})
            clock = time.perf_counter()
        if (done % (epoch * settings["save_every"]) == 0 or done == steps) and ranks.first:
            state.save(done)
    ranks.wait()
    network.deep_supervision = False
    return network.cpu().eval()


class _State:
    """What a checkpoint holds."""

    def __init__(self, run: Run, network: nn.Module, optimiser, scaler):
        self._run, self._network, self._optimiser, self._scaler = run, network, optimiser, scaler
        self.skipped, self.best = 0, -1.0

    def save(self, step: int, name: str = "latest") -> None:
        state = {"step": step, "skipped": self.skipped, "best": self.best, "network": self._network.state_dict()}
        if name == "latest":
            state["optimiser"] = self._optimiser.state_dict()
            state["scaler"] = None if self._scaler is None else self._scaler.state_dict()
        self._run.save(state, name)

    def load(self) -> int:
        """Steps that are done; 0 when there is no checkpoint yet."""
        state = self._run.load()
        if state is None:
            return 0
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._scaler is not None and state["scaler"] is not None:
            self._scaler.load_state_dict(state["scaler"])
        self.skipped, self.best = state["skipped"], state["best"]
        return state["step"]

    def keep_best(self, step: int, scores: Mapping[str, float], write: bool) -> None:
        """Save the weights alone as "best" when the mean of organ and lesion Dice is higher than ever."""
        score = float(np.mean([scores.get(group, 0.0) for group in _GROUPS]))
        if score > self.best:
            self.best = score
            if write:
                self.save(step, "best")


class _Validation:
    """Dice per class on fixed patches, which are made once; each process takes its share."""

    def __init__(self, samples: Samples, intensity: Intensity, patch, count: int, ranks: Ranks, precision):
        self._ranks, self._precision, self._patches = ranks, precision, []
        for number in range(ranks.rank, count, ranks.world):
            hu, labels = samples.held_out(number, patch)
            self._patches.append((np.clip(hu, -32768, 32767).astype(np.int16), labels.astype(np.uint8)))
        self._intensity = intensity

    @torch.no_grad()
    def __call__(self, network: PastaNet) -> dict[str, float]:
        counter = DiceCounter(network.shape.classes)
        network.eval()
        network.deep_supervision = False
        for hu, labels in self._patches:
            image = torch.from_numpy(self._intensity(hu))[None, None].to(self._ranks.device)
            with autocast(self._ranks.device, self._precision):
                logits = network(image)
            counter.add(logits, torch.from_numpy(labels)[None])
        network.train()
        network.deep_supervision = True
        if self._ranks.several:
            counter.reduce(self._ranks.device)
        scores = counter.scores(PASTA_LABELS)
        return scores | means(scores, _GROUPS)
