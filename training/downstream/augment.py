"""Random changes of classification cubes, as the authors make them, from a generator of our own; each is a share of the samples.

[code] flip along one random axis, axes permuted, coarser along the first axis; for plain CT an elastic and an affine deformation before.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

CHANGES = ("elastic", "affine", "permute", "flip", "anisotropy")  # in this order
CONTROL_POINTS = 5  # along each axis of the elastic grid, the outermost fixed [code: 5]
DISPLACEMENT = 5.0  # voxels, of a control point along each axis at most [code: 5]
SCALE = 0.2  # around 1, each axis its own [code: 0.8 to 1.2]
TURN_DEGREES = 10.0  # about each axis [code]
COARSEST = 2.0  # voxels of the first axis in one [code: 1 to 2]


def augment(cube: Tensor, shares: Mapping[str, Any], rng: np.random.Generator, air: float = 0.0) -> Tensor:
    """``cube`` (side, side, side), network input, changed; ``shares[change]`` is the probability of each. Beyond its border lies ``air``."""
    bend, turn, permute, flip, thin = (rng.random() < shares[change] for change in CHANGES)
    if bend or turn:
        cube = deform(cube, bend, turn, rng, air)
    if permute:
        cube = cube.permute(*(int(axis) for axis in rng.permutation(3)))
    if flip:
        cube = cube.flip(int(rng.integers(3)))
    if thin:
        cube = coarsen(cube, float(rng.uniform(1, COARSEST)))
    return cube.contiguous()


def deform(cube: Tensor, bend: bool, turn: bool, rng: np.random.Generator, air: float = 0.0) -> Tensor:
    """Elastic (``bend``) and affine (``turn``) deformation in one interpolation."""
    side = cube.shape[0]
    theta = np.eye(3, 4, dtype=np.float32)[None]
    if turn:
        scale = rng.uniform(1 - SCALE, 1 + SCALE, 3)
        theta[0, :, :3] = _rotation(np.deg2rad(rng.uniform(-TURN_DEGREES, TURN_DEGREES, 3))) / scale
    grid = F.affine_grid(torch.from_numpy(theta), (1, 1, side, side, side), align_corners=False)
    if bend:
        control = rng.uniform(-DISPLACEMENT, DISPLACEMENT, (3, *[CONTROL_POINTS] * 3)).astype(np.float32)
        fixed = np.zeros_like(control)
        fixed[:, 1:-1, 1:-1, 1:-1] = control[:, 1:-1, 1:-1, 1:-1]
        spread = _spline(side)
        field = torch.einsum("cijk,zi,yj,xk->zyxc", torch.from_numpy(fixed), spread, spread, spread)
        grid = grid + field[None] * (2 / side)
    moved = F.grid_sample((cube - air)[None, None], grid, "bilinear", "zeros", False)
    return moved[0, 0] + air


def coarsen(cube: Tensor, factor: float) -> Tensor:
    """``cube`` as if its first axis had been scanned ``factor`` times as coarsely."""
    side = cube.shape[0]
    few = F.interpolate(cube[None, None], (max(1, round(side / factor)), *cube.shape[1:]), mode="nearest-exact")
    return F.interpolate(few, cube.shape, mode="trilinear", align_corners=False)[0, 0]


def _rotation(angles: np.ndarray) -> np.ndarray:
    total = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [other for other in range(3) if other != axis]
        step = np.eye(3)
        step[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        total = total @ step
    return total


@lru_cache(maxsize=4)
def _spline(side: int) -> Tensor:
    """``(side, CONTROL_POINTS)``: cubic spline interpolation along one axis, which is linear in the control values."""
    return torch.from_numpy(ndimage.zoom(np.eye(CONTROL_POINTS, dtype=np.float32), (side / CONTROL_POINTS, 1), order=3))
