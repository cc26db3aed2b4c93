"""Where a sliding window stops on an image, and how much each of its voxels counts. numpy only."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

SIGMA_SHARE = 1 / 8  # of the window's side, as nnU-Net weights its windows
LEAST_WEIGHT = (
    6e-9  # so that corners which one window alone covers still count; nnU-Net's, which follows from its fp16 weights
)
BODY_HU = -700  # everything denser than this is no air around the patient; lung vessels and walls are denser
AIR_SHARE = 5e-4  # a window with fewer such voxels is pure air
Start = tuple[int, int, int]


def starts(size: int, window: int, step: float) -> list[int]:
    """First voxels of the windows along an axis of ``size`` >= ``window`` voxels: the fewest, evenly spread, that are at most
    ``step`` (share of the window, above 0 up to 1) apart; as nnU-Net places them.
    """
    if size <= window:
        return [0]
    count = math.ceil((size - window) / (window * step)) + 1
    return [round((size - window) / (count - 1) * number) for number in range(count)]


def window_starts(shape: Sequence[int], window: Sequence[int], step: float) -> list[Start]:
    """First voxels (z, y, x) of all windows on an image of ``shape``, sorted by z, then y, then x."""
    return list(itertools.product(*(starts(size, side, step) for size, side in zip(shape, window))))


def importance(window: Sequence[int]) -> np.ndarray:
    """``(z, y, x)`` float32 Gaussian weights, 1 in the middle, with a standard deviation of an eighth of each side."""
    curves = []
    for side in window:
        offset = np.arange(side) - side // 2  # half a voxel off the middle, as nnU-Net's
        curves.append(np.exp(-0.5 * (offset / (side * SIGMA_SHARE)) ** 2))
    z, y, x = curves
    weights = z[:, None, None] * y[:, None] * x
    return np.maximum(weights, LEAST_WEIGHT).astype(np.float32)


def is_air(hu: np.ndarray) -> bool:
    """Whether a window of HU shows nothing but air."""
    return np.count_nonzero(hu > BODY_HU) < AIR_SHARE * hu.size


def grown_box(
    box: tuple[slice, slice, slice], shape: Sequence[int], margin: int, least: Sequence[int]
) -> tuple[slice, slice, slice]:
    """``box`` widened by ``margin`` voxels on every side, and evenly to at least ``least`` voxels, where ``shape`` allows."""
    grown = []
    for part, size, side in zip(box, shape, least):
        low, high = part.start - margin, part.stop + margin
        lack = max(0, side - (high - low))
        low, high = low - lack // 2, high + lack - lack // 2
        low, high = (
            low - max(0, high - size),
            high + max(0, -low),
        )  # what one border cuts off is given to the other side
        grown.append(slice(max(0, low), min(size, high)))
    return tuple(grown)
