"""Smooth fields on small lattices and their transfer to voxels: band-limited noise, separable resampling, edges.

Everything that varies slowly (shape, texture) is computed on a coarse lattice and carried to the scan's voxels by one small
matrix per axis. That is what keeps a 100 mm lesion as cheap as a 20 mm one.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import ndtr

_BLOCK = 24
EDGE_CUT = 2.0  # an edge profile is a Gaussian step cut at ± this many sigma, so that it ends exactly
EDGE_WIDTH_PER_SIGMA = 2.37  # 10-90 % width of that cut step in units of sigma


def separable(field: np.ndarray, matrices: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Apply one matrix per axis: ``out[a,b,c] = sum Mz[a,i] My[b,j] Mx[c,k] field[i,j,k]``, float32."""
    mz, my, mx = matrices
    # stacks of small products: one large product would start BLAS threads, which cost more than they give here
    out = np.matmul(my, np.matmul(field.astype(np.float32, copy=False), mx.T))
    return np.ascontiguousarray(np.matmul(mz, out.transpose(1, 0, 2)).transpose(1, 0, 2))


def linear_matrix(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Matrix ``(len(target), len(source))`` of linear interpolation between uniformly spaced mm coordinates."""
    position = (
        np.clip((target - source[0]) / (source[1] - source[0]), 0, len(source) - 1)
        if len(source) > 1
        else np.zeros(len(target))
    )
    low = np.minimum(position.astype(int), max(len(source) - 2, 0))
    fraction = (position - low).astype(np.float32)
    matrix = np.zeros((len(target), len(source)), np.float32)
    rows = np.arange(len(target))
    matrix[rows, low] = 1 - fraction
    if len(source) > 1:
        matrix[rows, low + 1] += fraction
    return matrix


def _knots(knot_mm: float, phase: float, target: np.ndarray) -> np.ndarray:
    """Numbers of the knots that reach the coordinates ``target`` (mm)."""
    return np.arange(
        int(np.floor(target.min() / knot_mm + phase)) - 1, int(np.ceil(target.max() / knot_mm + phase)) + 2
    )


def bspline_matrix(knot_mm: float, phase: float, target: np.ndarray) -> np.ndarray:
    """Uniform cubic B-spline basis with knots every ``knot_mm`` at the coordinates ``target`` (mm): ``(len(target), knots)``."""
    u = np.abs((target / knot_mm + phase)[:, None] - _knots(knot_mm, phase, target)[None, :])
    near = 2 / 3 - u**2 + u**3 / 2
    far = np.clip(2 - u, 0, None) ** 3 / 6
    return np.where(u < 1, near, far).astype(np.float32)


@lru_cache(maxsize=1)
def _spline_gain() -> float:
    """SD of a cubic B-spline with unit white coefficients, averaged over phase, per axis."""
    t = np.linspace(0, 1, 64, endpoint=False)
    basis = bspline_matrix(1.0, 0.0, t)
    return float(np.sqrt((basis**2).sum(1).mean()))


def smooth_noise(
    rng: np.random.Generator, axes: tuple[np.ndarray, np.ndarray, np.ndarray], length_mm: float
) -> np.ndarray:
    """Band-limited Gaussian noise of unit SD on the lattice ``axes`` (mm), detail about ``length_mm``; shape of the lattice.

    The field belongs to the coordinates, not to the lattice: the same ``rng`` state gives the same field on any lattice.
    """
    phase = rng.random(3)
    block = rng.standard_normal((_BLOCK,) * 3, dtype=np.float32)  # periodic, far larger than any lesion's detail
    knots = [_knots(length_mm, p, axis) % _BLOCK for p, axis in zip(phase, axes)]
    bases = tuple(bspline_matrix(length_mm, p, axis) for p, axis in zip(phase, axes))
    return separable(block[np.ix_(*knots)], bases) / np.float32(_spline_gain() ** 3)


def edge(distance_mm: np.ndarray, sigma_mm: float) -> np.ndarray:
    """Weight 1 deep inside (negative distance), exactly 0 beyond ``EDGE_CUT * sigma_mm`` outside; a cut Gaussian step."""
    tail = float(ndtr(-EDGE_CUT))
    step = ndtr(distance_mm * np.float32(-1.0 / sigma_mm)).astype(np.float32, copy=False)
    return np.clip((step - tail) / (1 - 2 * tail), 0, 1)


def smooth_max(a: np.ndarray, b: np.ndarray, radius_mm: float) -> np.ndarray:
    """Maximum of two distance fields with the crease rounded over about ``radius_mm`` (polynomial blend)."""
    h = np.clip(0.5 + 0.5 * (a - b) / radius_mm, 0, 1)
    return b + (a - b) * h + radius_mm * h * (1 - h)


def smooth_min(a: np.ndarray, b: np.ndarray, radius_mm: float) -> np.ndarray:
    """Minimum of two distance fields with the crease filled over about ``radius_mm``."""
    return -smooth_max(-a, -b, radius_mm)


def gradient_norm(field: np.ndarray, axes: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """|∇field| per mm on a uniform lattice (central differences)."""
    total = np.zeros(field.shape, np.float32)
    for axis, coordinate in enumerate(axes):
        if len(coordinate) < 2:
            continue
        total += (np.gradient(field, float(coordinate[1] - coordinate[0]), axis=axis)) ** 2
    return np.sqrt(total, out=total)
