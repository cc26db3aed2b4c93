"""nnU-Net's augmentations for one patch, from a generator of our own, so that a sample depends on its number alone.

Probabilities and ranges are nnU-Net's; noise is scaled to images in 0-1. Left out: anisotropic zooms and elastic deformation, which nnU-Net
does not use for isotropic 3-D patches either.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MARGIN = 1.25  # side of the patch that is handed in, in sides of the one that is wanted
NOISE_SD = 0.06  # largest; nnU-Net's variance of 0.1 in images of unit deviation, for maps to 0-1


def margin_sides(patch: Sequence[int]) -> tuple[int, int, int]:
    """Sides of the patch to cut, so that turned and shrunk ones find image in their corners (mostly)."""
    return tuple(int(np.ceil(side * MARGIN / 2)) * 2 for side in patch)


def centre_crop(array: Tensor, patch: Sequence[int]) -> Tensor:
    """The middle of ``array`` (z, y, x)."""
    starts = [(size - side) // 2 for size, side in zip(array.shape, patch)]
    return array[tuple(slice(start, start + side) for start, side in zip(starts, patch))]


def augment(
    image: Tensor,
    labels: Tensor,
    patch: Sequence[int],
    rng: np.random.Generator,
    mirror_axes: Sequence[int] = (0, 1, 2),
) -> tuple[Tensor, Tensor]:
    """``image`` float32 (z, y, x) in 0-1 and ``labels`` (whole numbers), both at least ``patch`` large, changed at random and cut to it."""
    turn, scale = rng.random() < 0.2, rng.random() < 0.2
    angles = rng.uniform(-np.pi / 6, np.pi / 6, 3) if turn else np.zeros(3)
    zoom = _around_one(rng, 0.7, 1.4) if scale else 1.0
    if turn or scale:
        image, labels = _resample(image, labels, patch, angles, zoom)
    else:
        image, labels = centre_crop(image, patch), centre_crop(labels, patch)
    axes = [axis for axis in mirror_axes if rng.random() < 0.5]
    image, labels = image.flip(axes), labels.flip(axes)
    return _intensity(image.contiguous(), rng), labels.contiguous()


def _around_one(rng: np.random.Generator, low: float, high: float) -> float:
    """Below or above 1 with equal chance, as nnU-Net draws factors."""
    return float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))


def _resample(image: Tensor, labels: Tensor, patch: Sequence[int], angles: np.ndarray, zoom: float):
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        step = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        step[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turned = turned @ step
    to = turned * zoom  # voxels (z, y, x) about the middle of the new patch -> about the middle of the old one
    sizes = np.array(image.shape, float)
    normalised = to * np.array(patch, float) / sizes[:, None]  # both in halves of their sides
    theta = np.zeros((1, 3, 4), np.float32)
    theta[0, :, :3] = normalised[::-1, ::-1]  # torch counts x, y, z
    grid = F.affine_grid(torch.from_numpy(theta), (1, 1, *patch), align_corners=False)
    new_image = F.grid_sample(image[None, None], grid, "bilinear", "border", False)[0, 0]
    new_labels = F.grid_sample(labels[None, None].float(), grid, "nearest", "border", False)[0, 0]
    return new_image, new_labels.to(labels.dtype)


def _intensity(image: Tensor, rng: np.random.Generator) -> Tensor:
    if rng.random() < 0.1:
        noise = torch.from_numpy(rng.standard_normal(image.shape, np.float32))
        image = image + noise * float(rng.uniform(0, NOISE_SD))
    if rng.random() < 0.2:
        image = _blur(image, float(rng.uniform(0.5, 1.0)))
    if rng.random() < 0.15:
        image = image * _around_one(rng, 0.75, 1.25)
    if rng.random() < 0.15:
        mean, low, high = image.mean(), image.min(), image.max()
        image = ((image - mean) * _around_one(rng, 0.75, 1.25) + mean).clamp(low, high)
    if rng.random() < 0.25:
        image = _low_resolution(image, float(rng.uniform(0.5, 1.0)))
    if rng.random() < 0.1:
        image = -_gamma(-image, _around_one(rng, 0.7, 1.5))
    if rng.random() < 0.3:
        image = _gamma(image, _around_one(rng, 0.7, 1.5))
    return image


def _blur(image: Tensor, sigma: float) -> Tensor:
    offsets = torch.arange(-3, 4, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    x = image[None, None]
    for axis in range(3):
        shape, pad = [1, 1, 1, 1, 1], [0] * 6
        shape[2 + axis] = 7
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = 3
        x = F.conv3d(F.pad(x, pad, mode="replicate"), kernel.reshape(shape))
    return x[0, 0]


def _low_resolution(image: Tensor, zoom: float) -> Tensor:
    small = [max(1, round(side * zoom)) for side in image.shape]
    x = F.interpolate(image[None, None], small, mode="nearest-exact")
    return F.interpolate(x, image.shape, mode="trilinear", align_corners=False)[0, 0]


def _gamma(image: Tensor, gamma: float) -> Tensor:
    """Power of the image between its extremes; mean and deviation stay."""
    mean, sd, low = image.mean(), image.std(), image.min()
    span = (image.max() - low).clamp_min(1e-6)
    changed = ((image - low) / span) ** gamma * span + low
    return (changed - changed.mean()) / changed.std().clamp_min(1e-6) * sd + mean
