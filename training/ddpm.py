"""Training of the denoising network: noise is added to healthy patches, the network learns to tell it from the image.

In some patches a part is spoilt first: it gets noise that is not the scan's. The network is to find that noise too, so that what a lesion
brought with it gives way to what the scan around it shows.

On a CPU a run that was stopped and resumed ends with the very weights of one that was not (with the same number of threads), because patches,
steps and noise follow from seed and number alone. On a GPU convolutions add up in varying order: the curves agree, the last digits do not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent
from PASTALib.refinement.checkpoint import DenoisingModel, state_of
from PASTALib.refinement.diffusion import REFINEMENT_MAP, HuMap, Schedule
from PASTALib.refinement.network import DenoiserShape, DenoisingNet, network_input, noise_table, parameter_count
from PASTALib.synthesis.noise import NoiseModel, relative_noise

from .patches import PatchSource, PreparedScan, ScanSpec
from .processes import Group
from .runs import Run

VALIDATION_TIMES = (1, 2, 3, 4, 5, 20, 100, 500)
LOW_TIMES = 5  # validation up to this step is what refinement uses; the best checkpoint is chosen by it
VALIDATION_SEED = 7_919_000  # added to the seed: never that of a training patch


@dataclass(frozen=True)
class Settings:
    """A preset of train-ddpm; see ``presets.toml`` for what each means and where its value is from."""

    channels: tuple[int, ...]
    blocks: int
    side: int
    batch: int
    steps: int
    learning_rate: float
    weight_decay: float
    warmup: int
    clip: float
    timesteps: int
    first_beta: float
    last_beta: float
    low_share: float
    low_until: int
    spoilt_share: float
    ema: float
    half: bool
    validation_patches: int
    validate_every: int
    save_every: int
    log_every: int
    workers: int
    patches_per_scan: int
    keep_scans: int

    def __post_init__(self) -> None:
        positive = ("side", "batch", "steps", "validate_every", "save_every", "log_every", "validation_patches")
        for name in positive:
            if getattr(self, name) < 1:
                raise InputError(f"train-ddpm: {name} {getattr(self, name)}; wanted at least 1")
        multiple = 2 ** (len(self.channels) - 1)
        if self.side % multiple:
            raise InputError(
                f"train-ddpm: side {self.side}; wanted a multiple of {multiple} for {len(self.channels)} levels"
            )
        shares = 0 <= self.low_share <= 1 and 0 <= self.spoilt_share <= 1
        if not 0 <= self.ema < 1 or not shares or not 1 <= self.low_until <= self.timesteps:
            raise InputError(
                "train-ddpm: wanted ema from 0 to below 1, low_share and spoilt_share 0 to 1, low_until 1 to timesteps"
            )

    @classmethod
    def of(cls, values: dict) -> Settings:
        """From a preset; keys that say where scans come from are passed over."""
        known = {item.name for item in fields(cls)}
        taken = {key: value for key, value in values.items() if key in known}
        return cls(**taken | {"channels": tuple(taken["channels"])})


class Sample(NamedTuple):
    """Image, the same with a part spoilt (or not), and mask of one organ, float32 (1, z, y, x); the scan's noise level, float32 ()."""

    image: torch.Tensor
    spoilt: torch.Tensor
    mask: torch.Tensor
    level: torch.Tensor


class Healthy(Dataset):
    """Training samples by index, in network units, mirrored at random; ``spoilt_share`` of them with noise that is not the scan's."""

    def __init__(self, source: PatchSource, hu_map: HuMap, spoilt_share: float = 0.0):
        self._source, self._map, self._spoilt_share = source, hu_map, spoilt_share
        self._table = hu_map.units(np.arange(65536, dtype=np.uint16).view(np.int16))

    def __getitem__(self, index: int) -> Sample:
        patch = self._source[index]
        rng = np.random.default_rng([self._source.seed, index, 3])
        image = self._table[patch.hu.view(np.uint16)]
        present = np.unique(patch.organs[patch.organs > 0])
        mask = np.zeros(image.shape, np.float32)
        if present.size:  # "the corresponding organ": any of those that are there, as a lesion might be in any
            mask[patch.organs == present[rng.integers(present.size)]] = 1
        scan = self._source.scan(self._source.scan_number(index))
        noise_hu = scan.noise.sd_hu * relative_noise(patch.hu, scan.spacing, scan.noise)
        spoilt = image
        if rng.random() < self._spoilt_share:
            spoilt = self._map.units(patch.hu + noise_hu * foreign_noise(scan.noise, image.shape, rng))
        axes = [axis for axis in range(3) if rng.random() < 0.5]
        arrays = (torch.from_numpy(np.ascontiguousarray(np.flip(a, axes))[None]) for a in (image, spoilt, mask))
        return Sample(*arrays, torch.tensor(self._map.level(noise_hu), dtype=torch.float32))


def foreign_noise(noise: NoiseModel, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise in an ellipsoid within ``shape``, up to twice as strong as the scan's (1) and sometimes white; float32, 0 around it."""
    sides = np.array(shape, float)
    middle, radii = rng.uniform(0.25, 0.75, 3) * sides, rng.uniform(0.2, 0.5, 3) * sides
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True)
    inside = np.clip(3 * (1 - np.sqrt(sum(((g - m) / r) ** 2 for g, m, r in zip(grid, middle, radii)))), 0, 1)
    field = rng.standard_normal(shape, np.float32) if rng.random() < 0.3 else noise.sample(rng, shape)
    return (rng.uniform(0.2, 2.0) * inside * field).astype(np.float32)


class Average:
    """Exponential moving average of a network's weights; its memory is short at first, so that the random start is soon forgotten."""

    def __init__(self, network: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.values = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update(self, network: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        now = network.state_dict()
        torch._foreach_lerp_(list(self.values.values()), [now[name].detach() for name in self.values], 1 - decay)


@dataclass
class Trained:
    """What training gives: the averaged network, its validation, and how fast it went."""

    model: DenoisingModel
    step: int
    validation: dict[str, float]
    steps_per_second: float
    finished: bool


def train(
    run: Run,
    settings: Settings,
    scans: Sequence[ScanSpec | PreparedScan],
    held_out: Sequence[ScanSpec | PreparedScan],
    *,
    seed: int = 0,
    device: str = "auto",
    minutes: float | None = None,
    about: dict | None = None,
    progress: Progress = silent,
) -> Trained:
    """Train, or go on from the run's last checkpoint.

    ``scans`` to learn from, ``held_out`` to validate on, both on their own voxels. ``minutes``: stop then, in good order, to be resumed.
    ``about`` goes into the checkpoint (source, licence, notes). Writes ``latest.pth`` (to resume from), ``ddpm.pth`` (averaged weights, for
    ``pasta synth --refine``), ``best.pth`` (the same, at the lowest validation loss over steps 1-5) and metrics. Under torchrun each process
    takes its share of every batch, and the first writes. ``progress`` is called at each step; what it raises passes through.
    """
    group = Group(device)
    torch.manual_seed(seed)
    schedule = Schedule(settings.timesteps, settings.first_beta, settings.last_beta)
    network = DenoisingNet(DenoiserShape(settings.channels, settings.blocks))
    network = network.to(group.device, memory_format=_layout(group.device))
    average = Average(network, settings.ema)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    model = DenoisingModel(
        network, schedule, HuMap(REFINEMENT_MAP), dict(about or {}) | {"name": "ddpm", "trained": True}
    )
    step, best = 0, math.inf
    if (state := run.load()) is not None:
        network.load_state_dict(state["network"])
        average.values = {name: value.to(group.device) for name, value in state["average"].items()}
        average.updates = state["updates"]
        optimizer.load_state_dict(state["optimizer"])
        step, best = state["step"], state["best"]
        if group.first:
            run.forget_after(step)
    loop = _Loop(settings, schedule, model.hu_map, group, seed, optimizer)
    check = loop.validation_set(held_out)
    shared = nn.parallel.DistributedDataParallel(network) if group.size > 1 else network
    found = check(_with(network, average.values)) if step else {}
    begun, first, seen, last_log = time.monotonic(), step, [], time.monotonic()

    def keep(finished: bool = False) -> None:
        if group.first:
            averaged = _with(network, average.values)
            export = DenoisingModel(averaged, schedule, model.hu_map, model.about | {"steps": step, **_told(found)})
            run.save(state_of(export), "ddpm")
            if best == found.get("val_low"):
                run.save(state_of(export), "best")
            run.save(
                {
                    "step": step,
                    "network": network.state_dict(),
                    "average": average.values,
                    "updates": average.updates,
                    "optimizer": optimizer.state_dict(),
                    "best": best,
                }
            )

    for batch in loop.batches(scans, step):
        if step >= settings.steps or group.agree(minutes is not None and time.monotonic() - begun > 60 * minutes):
            break
        progress(step, settings.steps, f"training, loss {np.mean(seen):.3f}" if seen else "training")
        seen.append(loop.step(shared, batch, step))
        average.update(network)
        step += 1
        last = step == settings.steps
        if step % settings.log_every == 0 or last:
            now = time.monotonic()
            rate = len(seen) / max(now - last_log, 1e-9)
            if group.first:
                run.log(step, loss=float(np.mean(seen)), steps_per_second=rate, learning_rate=loop.rate(step - 1))
            seen, last_log = [], now
        if step % settings.validate_every == 0 or last:
            found = check(_with(network, average.values))
            best = min(best, found["val_low"])
            if group.first:
                run.log(step, **found)
        if step % settings.save_every == 0 or last:
            keep()
    speed = (step - first) / max(time.monotonic() - begun, 1e-9)
    if step > first and (step % settings.save_every or not found):
        found = check(_with(network, average.values))
        best = min(best, found["val_low"])
        keep()
    progress(step, settings.steps, "trained")
    final = DenoisingModel(_with(network, average.values).cpu(), schedule, model.hu_map, model.about | {"steps": step})
    group.close()
    return Trained(final, step, found, speed, step >= settings.steps)


class _Loop:
    """One optimisation step after the other, and validation; all randomness follows from the seed and the step's number."""

    def __init__(self, settings: Settings, schedule: Schedule, hu_map: HuMap, group: Group, seed: int, optimizer):
        self._settings, self._hu_map, self._group, self._seed = settings, hu_map, group, seed
        self._optimizer = optimizer
        self._noise = noise_table(schedule, group.device)
        self._kept = torch.as_tensor(np.sqrt(schedule.kept), dtype=torch.float32, device=group.device)
        self._half = settings.half and group.has_bf16
        if settings.batch % group.size:
            raise InputError(
                f"train-ddpm: batch {settings.batch} over {group.size} processes; wanted a multiple of them"
            )
        self._share = settings.batch // group.size

    def batches(self, scans, start: int):
        """The samples of step ``start`` and those after it, to the last."""
        settings, group = self._settings, self._group
        source = PatchSource(
            scans, settings.side, None, self._seed, patches_per_scan=settings.patches_per_scan, keep=settings.keep_scans
        )
        if settings.workers and len(scans) <= settings.keep_scans:
            source.preload(settings.workers)
        order = (
            number * settings.batch + group.rank * self._share + place
            for number in range(start, settings.steps)
            for place in range(self._share)
        )
        return DataLoader(
            Healthy(source, self._hu_map, settings.spoilt_share),
            batch_size=self._share,
            sampler=_Order(order),
            num_workers=settings.workers,
            pin_memory=group.device.type == "cuda",
            persistent_workers=settings.workers > 0,
        )

    def rate(self, step: int) -> float:
        """Learning rate of a step: constant after a linear rise."""
        return self._settings.learning_rate * min(1.0, (step + 1) / max(1, self._settings.warmup))

    def step(self, network: nn.Module, batch: Sample, number: int) -> float:
        """One update; the mean absolute error of the predicted noise."""
        settings, device = self._settings, self._group.device
        draw = torch.Generator(device).manual_seed(_seed(self._seed, number, self._group.rank))
        count = len(batch.image)
        times = torch.randint(1, settings.timesteps + 1, (count,), generator=draw, device=device)
        low = torch.randint(1, settings.low_until + 1, (count,), generator=draw, device=device)
        chosen = torch.rand((count,), generator=draw, device=device) < settings.low_share
        times = torch.where(chosen, low, times)
        batch = Sample(*(part.to(device, non_blocking=True) for part in batch))
        noise = torch.randn(batch.image.shape, generator=draw, device=device)
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate(number)
        loss = self._loss(network, batch, noise, times).mean()
        if not torch.isfinite(loss):
            raise InputError(
                f"train-ddpm: the loss of step {number + 1} is not finite; use a lower learning_rate, or half=false"
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.clip > 0:
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        self._optimizer.step()
        return float(loss.detach())

    def _loss(self, network, batch: Sample, noise, times) -> torch.Tensor:
        """L1 per sample; the noise to be found is all that parts the noisy image from the one that was not spoilt."""
        kept, sd = (table[times].view(-1, 1, 1, 1, 1) for table in (self._kept, self._noise))
        x = kept * batch.spoilt + sd * noise
        inputs = network_input(x, batch.mask, self._noise[times]).contiguous(memory_format=_layout(self._group.device))
        with torch.autocast(self._group.device.type, torch.bfloat16, enabled=self._half):
            found = network(inputs, times, batch.level)
        return (found.float() - noise - kept / sd * (batch.spoilt - batch.image)).abs().mean(dim=(1, 2, 3, 4))

    def validation_set(self, scans):
        """Function: network -> loss per fixed step on fixed patches with fixed noise."""
        settings, device = self._settings, self._group.device
        source = PatchSource(scans, settings.side, None, self._seed + VALIDATION_SEED, patches_per_scan=1, keep=1)
        data = Healthy(source, self._hu_map, settings.spoilt_share)
        order = sorted(range(settings.validation_patches), key=source.scan_number)  # each scan is loaded once
        samples = {index: data[index] for index in order}
        times = [t for t in VALIDATION_TIMES if t <= settings.timesteps]

        def check(network: nn.Module) -> dict[str, float]:
            losses = np.zeros((len(samples), len(times)))
            network.eval()
            with torch.no_grad():
                for row, index in enumerate(sorted(samples)):
                    sample = Sample(*(a[None].to(device) for a in samples[index]))
                    for column, t in enumerate(times):
                        draw = torch.Generator("cpu").manual_seed(_seed(self._seed, index, 1000 + t))
                        noise = torch.randn(sample.image.shape, generator=draw).to(device)
                        at = torch.tensor([t], device=device)
                        losses[row, column] = float(self._loss(network, sample, noise, at)[0])
            found = {f"val_{t}": float(value) for t, value in zip(times, losses.mean(0))}
            low = [value for t, value in zip(times, losses.mean(0)) if t <= LOW_TIMES]
            return {"val_loss": float(losses.mean()), "val_low": float(np.mean(low)), **found}

        return check


class _Order:
    """A sampler of given indices."""

    def __init__(self, indices):
        self._indices = indices

    def __iter__(self):
        return iter(self._indices)


def _with(network: DenoisingNet, values: dict[str, torch.Tensor]) -> DenoisingNet:
    """A copy of the network with other weights."""
    copy = DenoisingNet(network.shape)
    copy.load_state_dict({name: value.detach().cpu() for name, value in values.items()})
    device = next(network.parameters()).device
    return copy.to(device, memory_format=_layout(device)).requires_grad_(False).eval()


def _layout(device: torch.device) -> torch.memory_format:
    """The quicker one for training: on a CPU channels-last gains less forwards than it loses backwards."""
    return torch.channels_last_3d if device.type == "cuda" else torch.contiguous_format


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def _told(found: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 5) for key, value in found.items()}


def size_mb(model: DenoisingModel) -> float:
    """Megabytes of the model's checkpoint in fp16."""
    return 2e-6 * parameter_count(model.network)
