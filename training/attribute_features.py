"""Stage 2, first half: lesion-centred crops and what the frozen encoder makes of them, computed once and kept on disk.

The encoder does not learn in stage 2, so its output for a crop never changes. Each lesion is encoded as it is and in several augmented forms
(the authors augment anew at every step; with the encoder frozen a few fixed forms per lesion cost far less).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from PASTALib.attributes import LEARNED
from PASTALib.cases import read_case, read_reports
from PASTALib.errors import InputError
from PASTALib.inference.crops import AIR_HU, lesion_crop
from PASTALib.networks.card import ModelCard
from PASTALib.networks.unet import PastaNet
from PASTALib.progress import Progress, silent

from .segmentation.evaluate import lesion_points
from .segmentation.ranks import Ranks
from .segmentation.recipe import autocast, precision_of
from .segmentation.sources import SynthesisSamples

SHARD = 32  # items of a source that are kept as one file
_FORM = 5  # keeps these random numbers apart from others of the same seed


class Lesions(Protocol):
    """Numbered items, each with some lesions; pickled to worker processes."""

    def __len__(self) -> int: ...

    def lesions(self, number: int, side: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """HU float32 cube of ``side`` voxels round the lesion, and its five option numbers (-1 unknown), of every lesion of an item."""


@dataclass(frozen=True)
class StoredLesions:
    """The lesions of generated cases, one case per item."""

    cases: Sequence[Path]
    card: ModelCard

    def __len__(self) -> int:
        return len(self.cases)

    def lesions(self, number: int, side: int) -> list[tuple[np.ndarray, np.ndarray]]:
        case = read_case(self.cases[number])
        settings = {"spacing_mm": self.card.spacing_mm, "orientation": self.card.attribute_orientation}
        return [
            (lesion_crop(case.ct, point, side=side, **settings), report.class_indices)
            for report, point in lesion_points(case)
        ]


@dataclass(frozen=True)
class FreshLesions:
    """``count`` lesions made on the fly, one per item (none where the scan had no place for it); axes to L, P, S."""

    samples: SynthesisSamples
    count: int
    held_out: bool = False

    def __len__(self) -> int:
        return self.count

    def lesions(self, number: int, side: int) -> list[tuple[np.ndarray, np.ndarray]]:
        cut = self.samples.held_out_patch if self.held_out else self.samples.training_patch
        patch, _ = cut(number, (2 * side,) * 3)  # the lesion lies within a quarter of the side from the middle
        if patch.report is None or not patch.lesions.any():
            return []
        middle = np.argwhere(patch.lesions).mean(axis=0)
        start = np.rint(middle - (side - 1) / 2).astype(int)
        padded = np.pad(patch.hu, side // 2, constant_values=int(AIR_HU))  # only beyond the scan's border
        box = tuple(slice(s + side // 2, s + side // 2 + side) for s in start)
        return [(padded[box].astype(np.float32), patch.report.class_indices)]


def forms(cube: np.ndarray, side: int, count: int, jitter: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """``count`` cubes of ``side`` voxels from a larger one: the middle, then augmented ones.

    As the authors augment: axes permuted, one axis flipped, one axis sampled up to twice as coarsely, each with a chance of one half; the
    middle moved by up to ``jitter`` voxels.
    """
    spare = (cube.shape[0] - side) // 2
    for number in range(count):
        shift = np.zeros(3, int) if number == 0 else rng.integers(-jitter, jitter + 1, 3)
        part = cube[tuple(slice(spare + s, spare + s + side) for s in shift)]
        if number:
            if rng.random() < 0.5:
                part = part.transpose(rng.permutation(3))
            if rng.random() < 0.5:
                part = np.flip(part, rng.integers(3))
            if rng.random() < 0.5:
                part = _coarser(part, int(rng.integers(3)), float(rng.uniform(1, 2)))
        yield np.ascontiguousarray(part)


def _coarser(cube: np.ndarray, axis: int, factor: float) -> np.ndarray:
    """Sampled every ``factor`` voxels along one axis and interpolated back."""
    side = cube.shape[axis]
    at = np.arange(side)
    knots = np.linspace(0, side - 1, max(2, round(side / factor)))
    low = np.minimum(np.searchsorted(knots, at, side="right") - 1, len(knots) - 2)
    share = ((at - knots[low]) / (knots[low + 1] - knots[low])).astype(np.float32)
    shape = [-1 if other == axis else 1 for other in range(3)]
    values = cube.take(np.rint(knots).astype(int), axis)
    return values.take(low, axis) * (1 - share).reshape(shape) + values.take(low + 1, axis) * share.reshape(shape)


@dataclass(frozen=True)
class _Crops(Dataset):
    """Item n: network input ``(lesions, forms, z, y, x)`` and option numbers ``(lesions, 5)``."""

    source: Lesions
    card: ModelCard
    forms: int
    jitter: int
    seed: int

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        side, images, options = self.card.attribute_crop, [], []
        rng = np.random.default_rng([self.seed, _FORM, number])
        for cube, indices in self.source.lesions(number, side + 2 * self.jitter):
            cubes = np.stack(list(forms(cube, side, self.forms, self.jitter, rng)))
            images.append(self.card.attribute_intensity(cubes))
            options.append(indices)
        shape = (len(images), self.forms, side, side, side)
        stacked = np.stack(images) if images else np.zeros(shape, np.float32)
        return torch.from_numpy(stacked), torch.from_numpy(np.array(options, np.int64).reshape(-1, len(LEARNED)))


def encode_lesions(
    folder: Path,
    source: Lesions,
    network: PastaNet,
    card: ModelCard,
    *,
    forms: int,
    jitter: int,
    seed: int,
    ranks: Ranks,
    workers: int = 0,
    batch: int = 8,
    precision: str = "auto",
    progress: Progress = silent,
) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 ``(lesions, forms, channels)`` and option numbers int64 ``(lesions, 5)`` of all lesions of ``source``.

    Kept in ``folder`` in files of 32 items each, so that a run that was stopped computes the rest only; ``ranks`` share them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(source), SHARD)
    files = {start: folder / f"{start:07d}.npz" for start in starts}
    todo = [start for start in list(starts)[ranks.rank :: ranks.world] if not files[start].is_file()]
    numbers = [n for start in todo for n in range(start, min(start + SHARD, len(source)))]
    loader = DataLoader(
        _Crops(source, card, forms, jitter, seed), batch_size=None, sampler=numbers, num_workers=workers
    )
    network = network.to(ranks.device).eval()
    kind = precision_of(precision, ranks.device)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for done, (number, (images, options)) in enumerate(zip(numbers, loader)):
        progress(done, len(numbers), "encoding lesions")
        flat = images.reshape(-1, 1, *images.shape[2:])
        parts = [_features(network, flat[n : n + batch], ranks.device, kind) for n in range(0, len(flat), batch)]
        vectors = torch.cat(parts) if parts else torch.zeros(0, network.shape.feature_channels)
        found.append((vectors.reshape(len(images), forms, -1).numpy(), options.numpy()))
        if (number + 1) % SHARD == 0 or number + 1 == len(source):
            _keep(files[number // SHARD * SHARD], found)
            found = []
    progress(len(numbers), len(numbers), "encoded")
    ranks.wait()
    parts = [_read(file) for file in files.values()]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


@torch.inference_mode()
def _features(network: PastaNet, images: torch.Tensor, device: torch.device, kind) -> torch.Tensor:
    with autocast(device, kind):
        maps = network.encode(images.to(device))[-1]
    return maps.float().mean(dim=(2, 3, 4)).cpu()


def _keep(file: Path, found: list[tuple[np.ndarray, np.ndarray]]) -> None:
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    with part.open("wb") as stream:
        np.savez(stream, features=np.concatenate([x for x, _ in found]), options=np.concatenate([y for _, y in found]))
    os.replace(part, file)


def _read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(file, allow_pickle=False) as data:
        return data["features"], data["options"]


def split_cases(cases: Sequence[Path], share: float, seed: int) -> tuple[list[Path], list[Path]]:
    """Cases to train on and held out, drawn by ``seed``; at least one of each. InputError for a single case or an odd share."""
    if not 0 < share < 1 or len(cases) < 2:
        raise InputError(
            f"held_out_share {share:g} of {len(cases)} cases; wanted a share between 0 and 1, and two cases or more"
        )
    count = min(len(cases) - 1, max(1, round(share * len(cases))))
    aside = set(np.random.default_rng([seed, _FORM]).permutation(len(cases))[:count].tolist())
    return [case for n, case in enumerate(cases) if n not in aside], [
        case for n, case in enumerate(cases) if n in aside
    ]


def require_reports(cases: Sequence[Path]) -> None:
    """InputError for the first case whose reports do not read, before the long work."""
    for case in cases:
        read_reports(case)
