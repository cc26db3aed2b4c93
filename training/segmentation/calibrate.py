"""Offsets of the lesion outputs, fitted after a short training: rare classes are told apart long before they win against their organ.

A softmax network that has seen a lesion type a few hundred times gives its voxels, say, a probability of 0.2 and all others 0.003. The offset
that makes the most of this is found on patches of held-out anatomy, and becomes the bias of the last layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from PASTALib import taxonomy
from PASTALib.networks.unet import PastaNet
from PASTALib.progress import Progress, silent

from .recipe import IGNORED

OFFSETS = np.arange(0.0, 6.01, 0.5)  # in logits
ROUNDS = 2
LEAST_DICE = 0.15
_SPARE = 20  # of the other voxels that could turn into a lesion, one in so many is kept
_LESIONS = [lesion.value for lesion in taxonomy.LESIONS]


def calibrate(
    network: PastaNet,
    patches: Iterable[tuple[torch.Tensor, np.ndarray, float]],
    count: int,
    progress: Progress = silent,
) -> tuple[PastaNet, dict[str, float]]:
    """A copy of ``network`` (25 classes) whose lesion outputs have the offsets that score the highest mean Dice; and those offsets by type.

    ``patches``: ``count`` triples of image ``(1, 1, z, y, x)``, as the network takes it, labels ``(z, y, x)`` (0-25, 255 not counted), and how
    many such patches of a scan it stands for. Types that no patch shows keep offset 0.
    """
    pool = _Pool(network.shape.classes)
    with torch.inference_mode():
        for number, (image, labels, weight) in enumerate(patches):
            progress(number, count, "calibrating")
            logits = network(image)[0].float().flatten(1).T.numpy()
            pool.add(logits, labels.ravel(), weight)
    progress(count, count, "calibrating")
    offsets = pool.best()
    return with_offsets(network, offsets), {item.key: float(offsets[item.value]) for item in taxonomy.LESIONS}


def with_offsets(network: PastaNet, offsets: np.ndarray) -> PastaNet:
    """A copy of ``network`` with ``offsets`` (one per class) added to its outputs, as biases that nnU-Net's networks have anyway."""
    copy = PastaNet(replace(network.shape, biases=True))
    state = {key: torch.zeros_like(value) for key, value in copy.state_dict().items()} | network.state_dict()
    last = f"seg_outputs.{len(network.seg_outputs) - 1}.bias"
    state[last] = state[last] + torch.as_tensor(offsets, dtype=torch.float32)
    copy.load_state_dict(state)
    return copy.eval()


class _Pool:
    """What the outputs say of every voxel that an offset could turn into a lesion; of the others only how often they are right."""

    def __init__(self, classes: int):
        self._classes = classes
        self._both, self._sum = np.zeros(classes), np.zeros(classes)
        self._logits: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._rng = np.random.default_rng(0)

    def add(self, logits: np.ndarray, labels: np.ndarray, weight: float = 1.0) -> None:
        """Logits ``(n, classes)`` and labels ``(n,)``, each voxel standing for ``weight``."""
        counted = labels != IGNORED
        logits, labels = logits[counted], labels[counted]
        open_ = logits.max(axis=1) - logits[:, _LESIONS].max(axis=1) < OFFSETS[-1]
        both, total = self._counts(logits[~open_].argmax(axis=1), labels[~open_])
        self._both, self._sum = self._both + weight * both, self._sum + weight * total
        kept = open_ & (np.isin(labels, _LESIONS) | (self._rng.random(len(labels)) < 1 / _SPARE))
        self._logits.append(logits[kept])
        self._labels.append(labels[kept])
        self._weights.append(weight * np.where(np.isin(labels[kept], _LESIONS), 1.0, _SPARE))

    def best(self) -> np.ndarray:
        """Offsets per class, one class after the other, ``ROUNDS`` times."""
        offsets = np.zeros(self._classes, np.float32)
        if not self._logits:
            return offsets
        logits, labels = np.concatenate(self._logits), np.concatenate(self._labels)
        weights = np.concatenate(self._weights)
        for _ in range(ROUNDS):
            for lesion in _LESIONS:
                if not np.count_nonzero(labels == lesion):
                    continue
                others = logits + offsets
                others[:, lesion] = -np.inf
                rival, height = others.argmax(axis=1), others.max(axis=1)
                chosen = (np.where(logits[:, lesion] + offset > height, lesion, rival) for offset in OFFSETS)
                offsets[lesion] = OFFSETS[int(np.argmax([self._score(found, labels, weights) for found in chosen]))]
        final = self._dice((logits + offsets).argmax(axis=1), labels, weights)
        offsets[final < LEAST_DICE] = 0  # found so badly that an offset would only make false ones
        return offsets

    def _score(self, found: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
        return float(np.nanmean(self._dice(found, labels, weights)[1:]))

    def _dice(self, found: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        both, total = self._counts(found, labels, weights)
        both, total = self._both + both, self._sum + total
        return np.where(total > 0, 2 * both / np.maximum(total, 1e-9), np.nan)

    def _counts(self, found: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None):
        """Right ones, and found plus labelled ones, per class."""
        weights = np.ones(len(labels)) if weights is None else weights
        count = lambda values, w: np.bincount(values, w, minlength=self._classes)  # noqa: E731
        right = found == labels
        return count(found[right], weights[right]), count(found, weights) + count(labels, weights)
