"""Training and testing of segmenters outside nnU-Net's framework: Universal, and others in their authors' own preprocessing.

Patches, two of three round a labelled voxel, quarter turns and shifts of brightness; the system's own loss; AdamW (or what the recipe
says) with warm-up and cosine; sliding windows by MONAI. Sample n depends on the seed and n alone, so that a killed run goes on to the same weights.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from PASTALib.inference.intensity import Intensity
from PASTALib.progress import Progress, silent
from PASTALib.volume import Volume

from ...downstream.classification import State
from ...downstream.labelled import Scan, ScanSet, read_images, read_mask
from ...runs import Run, replacing
from ...segmentation.recipe import (
    DiceCrossEntropy,
    autocast,
    careful_step,
    guard_thin_layers,
    make_optimiser,
    precision_of,
)
from ..models.interface import FIXED, TRAINING, Preparation
from .grids import to_grid
from .source import RivalSource

FOREGROUND = 2 / 3  # of patches lie round a labelled voxel [code of Universal: 2 to 1]
TURNED, SHIFTED, SHIFT = 0.1, 0.2, 0.1  # shares of patches, and the largest shift [code of Universal]
WARM_UP = 0.05  # of all steps at most [paper: 100 of 2,000 epochs]
_PLACES = 4096  # labelled voxels that are remembered of a scan


@dataclass(frozen=True)
class Stored:
    """A scan on a system's grid, in files that are mapped, not read: images (channels, z, y, x) and label map."""

    images: Path
    labels: Path


@dataclass(frozen=True)
class Normaliser:
    """What maps parts (channels, …) of a scan's images to network input, as the whole is mapped.

    ``channels``: for each its ``Intensity``, or its own mean and deviation; () where the preparation maps all alike.
    """

    preparation: Preparation
    channels: tuple[Intensity | tuple[float, float], ...] = ()

    def __call__(self, part: np.ndarray) -> np.ndarray:
        if not self.channels:
            return self.preparation(part)
        return np.stack([self._one(how, channel) for how, channel in zip(self.channels, part)])

    @staticmethod
    def _one(how: Intensity | tuple[float, float], channel: np.ndarray) -> np.ndarray:
        if isinstance(how, Intensity):
            return how(channel)
        mean, deviation = how
        return (np.asarray(channel, np.float32) - np.float32(mean)) / np.float32(max(deviation, 1e-8))


@dataclass(frozen=True)
class Patches(Dataset):
    """Patches of the scans: image (channels, *patch) float32 and labels (*patch) uint8, in the network's order of axes."""

    scans: Sequence[Stored]
    maps: Sequence[Normaliser]
    places: Sequence[np.ndarray]
    preparation: Preparation
    patch: tuple[int, int, int]
    seed: int

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, number])
        case = int(rng.integers(len(self.scans)))
        images, labels = (np.load(path, mmap_mode="r") for path in (self.scans[case].images, self.scans[case].labels))
        side = self._sides()
        centre = [rng.integers(n) for n in labels.shape]
        if len(self.places[case]) and rng.random() < FOREGROUND:
            centre = self.places[case][rng.integers(len(self.places[case]))]
        start = [int(np.clip(c - s // 2, 0, max(0, n - s))) for c, s, n in zip(centre, side, labels.shape)]
        cut = tuple(slice(a, a + s) for a, s in zip(start, side))
        image = self.maps[case](np.asarray(images[(slice(None), *cut)]))
        wanted = np.asarray(labels[cut])
        pad = [((s - n) // 2, s - n - (s - n) // 2) for s, n in zip(side, wanted.shape)]
        image = np.pad(image, [(0, 0), *pad], constant_values=self.preparation.pad)
        wanted = np.pad(wanted, pad)
        image, wanted = self.preparation.arrange(image), self.preparation.arrange(wanted)
        return _changed(torch.from_numpy(image.copy()), torch.from_numpy(wanted.copy()), rng)

    def _sides(self) -> tuple[int, int, int]:
        return self.patch if self.preparation.axes == "zyx" else self.patch[::-1]


def train_own(
    run: Run,
    source: RivalSource,
    scans: ScanSet,
    learn: Sequence[str],
    settings: Mapping[str, Any],
    folder: Path,
    *,
    seed: int,
    device: torch.device,
    workers: int = 0,
    resume: bool = False,
    progress: Progress = silent,
) -> tuple[nn.Module, Callable, str]:
    """The network (on the CPU) after ``epochs`` x ``iterations`` steps on the scans ``learn``; how its images are mapped; what it started from.

    ``scans``: the files as given; ``folder``: for their arrays on the system's grid, which may be shared. The last weights are taken.
    """
    preparation, members = source.preparation, scans.of(learn)
    stored = [store(scan, scans, preparation, folder) for scan in members]
    statistics = _statistics(stored) if preparation.normalisation == TRAINING else None
    patches = Patches(
        stored,
        [normaliser(preparation, np.load(one.images, mmap_mode="r"), statistics) for one in stored],
        [_places(one) for one in stored],
        preparation,
        tuple(settings["patch"]),
        seed,
    )
    classes = len(scans.labels) + 1
    network, taken = source.segmenter(len(scans.channels), classes, settings, seed)
    network.deep_supervision = False
    network = network.to(device).train()
    if device.type == "cpu":
        guard_thin_layers(network)
    loss = source.entrant.rival.loss(classes) or DiceCrossEntropy(bool(settings["batch_dice"]), ignoring=False)
    _steps(run, network, loss, patches, settings, device, workers, resume, progress)
    return network.cpu().eval(), (lambda images: normaliser(preparation, images, statistics)), taken


@torch.no_grad()
def predict_own(
    network: nn.Module,
    volumes: Sequence[Volume],
    preparation: Preparation,
    mapped: Callable,
    settings: Mapping[str, Any],
    device: torch.device,
) -> np.ndarray:
    """The label map (z, y, x), uint8, on the scan's own grid. ``mapped``: as ``train_own`` returns it."""
    from monai.inferers import sliding_window_inference

    grid = to_grid(volumes, preparation)
    image = torch.from_numpy(np.ascontiguousarray(preparation.arrange(mapped(grid.images)(grid.images))))[None]
    network, precision = network.to(device).eval(), precision_of(settings["precision"], device)
    flips = [axes for n in range(4) for axes in combinations((2, 3, 4), n)] if settings["mirroring"] else [()]

    def logits(window: Tensor) -> Tensor:
        with autocast(device, precision):
            found = [torch.flip(network(torch.flip(window, axes)), axes).float() for axes in flips]
        return torch.stack(found).mean(0)

    found = sliding_window_inference(
        image,
        tuple(settings["patch"]),
        1,
        logits,
        overlap=1 - settings["step"],
        mode="gaussian",
        cval=preparation.pad,
        sw_device=device,
        device="cpu",
    )
    labels = found[0].argmax(0).numpy().astype(np.uint8)
    return grid.back(np.ascontiguousarray(preparation.arrange(labels)))


def store(scan: Scan, scans: ScanSet, preparation: Preparation, folder: Path) -> Stored:
    """A scan on the system's grid in files below ``folder``, named after all that they depend on; those there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in (*scan.images, scan.mask)]
    key = repr((states, preparation.spacing_mm, preparation.orientation, scans.channels))
    stem = f"{scan.id}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    found = Stored(folder / f"{stem}.npy", folder / f"{stem}_labels.npy")
    if not found.labels.is_file():  # written last
        volumes = read_images(scan, scans.channels)
        grid = to_grid(volumes, preparation)
        for path, array in ((found.images, grid.images), (found.labels, grid.labels(read_mask(scan, volumes[0])))):
            with replacing(path) as part, part.open("wb") as stream:
                np.save(stream, array)
    return found


def normaliser(preparation: Preparation, images: np.ndarray, statistics: Sequence[tuple] | None = None) -> Normaliser:
    """For the ``images`` (channels, …) of one scan; ``statistics`` of the training scans, by channel."""
    if preparation.normalisation == FIXED:
        return Normaliser(preparation)
    if preparation.normalisation == TRAINING:
        return Normaliser(preparation, tuple(Intensity.standardised(*values) for values in statistics or ()))
    moments = [(float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))) for image in images]
    return Normaliser(preparation, tuple(moments))


# ---------------------------------------------------------------------------------------------------------------


def _steps(run: Run, network, loss, patches: Patches, settings, device, workers: int, resume: bool, progress) -> None:
    iterations, steps = settings["iterations"], settings["epochs"] * settings["iterations"]
    optimiser, rate = make_optimiser(network.parameters(), settings), settings["learning_rate"]
    warm = min(settings.get("warmup_epochs", 0) * iterations, int(WARM_UP * steps))
    precision = precision_of(settings["precision"], device)
    scaler = torch.amp.GradScaler(device.type) if precision == torch.float16 else None
    state = State(run, network, optimiser, scaler)
    first = state.load() if resume else 0
    run.forget_after(first)
    loader = DataLoader(
        patches,
        batch_size=settings["batch"],
        sampler=range(first * settings["batch"], steps * settings["batch"]),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
    )
    losses = []
    for step, (images, labels) in enumerate(loader, first):
        for group in optimiser.param_groups:
            group["lr"] = rate * _schedule(step, warm, steps)
        with autocast(device, precision):
            logits = network(images.to(device, non_blocking=True))
        one = loss(logits.float(), labels.to(device, non_blocking=True)[:, None])
        state.skipped += not careful_step(one, network, optimiser, scaler)
        losses.append(one.detach())
        done = step + 1
        if done % iterations == 0 or done == steps:
            mean = float(torch.stack(losses).mean())
            run.log(done, loss=mean, learning_rate=optimiser.param_groups[0]["lr"], skipped=state.skipped)
            progress(done, steps, f"loss {mean:.3f}")
            losses = []
        if done % (settings["save_every"] * iterations) == 0 or done == steps:
            state.save(done)


def _schedule(step: int, warm: int, steps: int) -> float:
    """Linear warm-up, then a cosine to 0."""
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def _changed(image: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    if rng.random() < TURNED and image.shape[1] == image.shape[2]:
        turns = int(rng.integers(1, 4))
        image, labels = torch.rot90(image, turns, (1, 2)), torch.rot90(labels, turns, (0, 1))
    if rng.random() < SHIFTED:
        image = image + float(rng.uniform(-SHIFT, SHIFT))
    return image.contiguous(), labels.contiguous()


def _places(stored: Stored) -> np.ndarray:
    """Some labelled voxels, evenly chosen."""
    found = np.flatnonzero(np.load(stored.labels, mmap_mode="r"))
    shape = np.load(stored.labels, mmap_mode="r").shape
    found = found[:: max(1, len(found) // _PLACES)]
    return np.stack(np.unravel_index(found, shape), 1) if len(found) else np.empty((0, 3), int)


def _statistics(stored: Sequence[Stored]) -> list[tuple[float, float, float, float]]:
    """Low, high, mean and deviation of labelled voxels, by channel, as nnU-Net takes them."""
    parts = [np.load(one.images, mmap_mode="r")[:, np.load(one.labels) > 0] for one in stored]
    values = np.concatenate(parts, 1).astype(np.float64)
    return [(*np.percentile(row, (0.5, 99.5)), row.mean(), row.std()) for row in values]
