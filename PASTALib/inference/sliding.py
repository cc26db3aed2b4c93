"""Sliding-window segmentation with bounded memory: windows are summed in a buffer that travels along z.

The network's last layer is linear, so Gaussian-weighted sums of its *input* give, multiplied by the layer's weights once per voxel, the
same labels as sums of its output (nnU-Net sums the output of all classes and divides by the sum of weights, which no label depends on).
With fewer feature channels than classes this saves time in every window and memory everywhere; ``Engine.head`` says which is summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ..progress import Progress, silent
from .intensity import Intensity
from .windows import importance, is_air, window_starts


class Engine(Protocol):
    """Runs one network on one window.

    ``run(window, check)`` takes float32 ``(z, y, x)`` network input and returns ``(z, y, x, channels)`` on ``device``; ``check`` is called
    often and raises ``Cancelled``. ``head``: ``(channels, classes)`` weights that make logits of that, or None when it returns logits.
    """

    name: str
    device: torch.device
    channels: int
    classes: int
    head: torch.Tensor | None

    def run(self, window: torch.Tensor, check) -> torch.Tensor: ...


@dataclass
class Labelled:
    """Labels (z, y, x) uint8 and how many windows were computed and skipped as air."""

    labels: np.ndarray
    windows: int
    skipped: int


def label_image(
    hu: np.ndarray,
    engines: Sequence[Engine],
    intensity: Intensity,
    patch: tuple[int, int, int],
    *,
    step: float = 0.5,
    mirror_axes: Sequence[int] = (),
    skip_air: bool = True,
    buffer_device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Labelled:
    """Most likely class of every voxel of ``hu`` (z, y, x), any number type, already on the network's grid and orientation.

    ``engines``: one per network of an ensemble, whose outputs are averaged. ``step`` share of the window from one to the next.
    ``mirror_axes``: array axes (0-2) over whose mirror images outputs are averaged too, as nnU-Net's test-time augmentation does.
    Images smaller than ``patch`` are padded with 0 after ``intensity``, as in nnU-Net's training. ``progress`` counts windows.
    """
    shape = hu.shape
    padded = tuple(max(size, side) for size, side in zip(shape, patch))
    before = tuple((a - b) // 2 for a, b in zip(padded, shape))
    source = _Source(hu, intensity, patch, before)
    todo, skipped = [], 0
    for start in window_starts(padded, patch, step):
        if skip_air and is_air(source.cut(start)):
            skipped += 1
        else:
            todo.append(start)
    labels = np.zeros(shape, np.uint8)
    if not todo:
        return Labelled(labels, 0, skipped)
    buffer = _Buffer(engines, padded, patch, buffer_device, before, labels)
    flips = [()] + [axes for axes in _subsets(mirror_axes) if axes]
    total = len(todo)

    def check(done: int) -> None:
        progress(done, total, "segmenting")

    check(0)
    for number, start in enumerate(todo):
        buffer.move_to(start[0])
        window = source.window(start)
        for engine in engines:
            for axes in flips:
                turned = torch.flip(window, axes) if axes else window
                output = engine.run(turned, lambda done=number: check(done))
                buffer.add(start, torch.flip(output, axes) if axes else output)
        check(number + 1)
    buffer.finish()
    return Labelled(labels, total, skipped)


def _subsets(axes: Sequence[int]) -> list[tuple[int, ...]]:
    out: list[tuple[int, ...]] = [()]
    for axis in axes:
        out += [(*some, axis) for some in out]
    return out


class _Source:
    """Windows of the image, normalised one at a time, so that the image itself may stay int16."""

    def __init__(self, hu: np.ndarray, intensity: Intensity, patch: tuple[int, int, int], before: tuple[int, int, int]):
        self._hu, self._intensity, self._patch, self._before = hu, intensity, patch, before
        self._table = None
        if hu.dtype == np.int16:  # a table is exact and several times faster than computing the map
            self._table = intensity(np.arange(65536, dtype=np.uint16).view(np.int16))

    def cut(self, start: tuple[int, int, int]) -> np.ndarray:
        """The part of the image that the window at ``start`` (in the padded image) covers."""
        return self._hu[tuple(slice(max(0, s - b), s - b + p) for s, b, p in zip(start, self._before, self._patch))]

    def window(self, start: tuple[int, int, int]) -> torch.Tensor:
        """Network input of one window, float32 (z, y, x)."""
        part = self.cut(start)
        values = self._intensity(part) if self._table is None else self._table[part.view(np.uint16)]
        if values.shape == self._patch:
            return torch.from_numpy(values)
        out = torch.zeros(self._patch)
        offset = [max(0, b - s) for s, b in zip(start, self._before)]
        out[tuple(slice(o, o + n) for o, n in zip(offset, values.shape))] = torch.from_numpy(values)
        return out


class _Buffer:
    """Weighted sums of as many planes as a window is high; planes below the present window are labelled and let go."""

    def __init__(self, engines, padded, patch, device, before, labels: np.ndarray):
        first = engines[0]
        self._head = None if first.head is None else first.head.to(device, torch.float32)
        self._sums = torch.zeros((patch[0], *padded[1:], first.channels), device=device)
        self._weights = torch.from_numpy(importance(patch))[..., None].to(device)
        self._patch, self._before, self._labels = patch, before, labels
        self._low = 0

    def move_to(self, z: int) -> None:
        """Make ``z`` the first plane of the buffer."""
        gone = min(z - self._low, self._patch[0])
        if gone <= 0:
            return
        self._label(gone)
        kept = self._patch[0] - gone
        for plane in range(kept):  # plane by plane: source and target overlap
            self._sums[plane] = self._sums[plane + gone]
        self._sums[kept:] = 0
        self._low = z

    def add(self, start: tuple[int, int, int], output: torch.Tensor) -> None:
        """Add one window's output (z, y, x, channels)."""
        _, y, x = start
        target = self._sums[:, y : y + self._patch[1], x : x + self._patch[2]]
        for plane in range(
            self._patch[0]
        ):  # a plane fits the cache; converting all at once would cost a copy of the window
            target[plane].addcmul_(output[plane].to(target.device, torch.float32), self._weights[plane])

    def finish(self) -> None:
        """Label all planes that are left."""
        self._label(self._patch[0])

    def _label(self, planes: int) -> None:
        (bz, by, bx), (nz, ny, nx) = self._before, self._labels.shape
        for plane in range(planes):
            z = self._low + plane - bz
            if not 0 <= z < nz:
                continue
            sums = self._sums[plane, by : by + ny, bx : bx + nx].reshape(ny * nx, -1)
            logits = (
                sums.T if self._head is None else self._head.T @ sums.T
            )  # classes first: the maximum is quicker there
            self._labels[z] = logits.max(0).indices.to(torch.uint8).reshape(ny, nx).cpu().numpy()
