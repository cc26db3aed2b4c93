"""What the inside of a lesion looks like: its level in HU and the named components of heterogeneity."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from . import fields
from .draw import LesionDraw

FLUID_HU = (8.0, 24.0)
_EPS = 1e-3


def target_hu(draw: LesionDraw, sd: np.ndarray, axes, level: float, enhanced: bool) -> np.ndarray:
    """Noise-free HU of the lesion on a lattice.

    ``sd`` (z, y, x) signed distance in mm (negative inside), ``axes`` its mm coordinates, ``level`` the HU that the solid part shall have as
    its median. Returns float32 of the same shape, within the type's HU limits.
    """
    hu = np.full(sd.shape, np.float32(level), np.float32)
    inside = sd < 0
    if not draw.components or not inside.any():
        return np.clip(hu, *draw.hu_limits)
    rng = np.random.default_rng(draw.seed)
    radius = max(float(-sd.min()), 1.0)
    solid = inside & (sd < -min(2.0, 0.3 * radius))
    if not solid.any():
        solid = inside
    excluded = np.zeros(sd.shape, bool)
    for name in draw.components:
        _COMPONENTS[name](rng, draw, hu, sd, axes, radius, level, solid, excluded, enhanced)
    rest = solid & ~excluded
    if rest.sum() > 20:
        hu += np.float32(level - np.median(hu[rest]))
    return np.clip(hu, *draw.hu_limits)


def _mottled(rng, draw, hu, sd, axes, radius, level, solid, excluded, enhanced) -> None:
    """Two-scale band-limited variation, scaled so that its SD on a 2 mm scale is the one drawn."""
    length = float(np.clip(0.45 * radius, 4.5, 11.0))
    noise = fields.smooth_noise(rng, axes, length) + 0.45 * fields.smooth_noise(rng, axes, 0.5 * length)
    hu += noise * np.float32(draw.texture_sd_hu / _smoothed_sd(noise, solid, axes))


def _smoothed_sd(noise: np.ndarray, where: np.ndarray, axes) -> float:
    """SD of ``noise`` inside ``where`` after a 2 mm Gaussian that stays inside."""
    coarse = tuple(slice(None, None, max(1, int(1.1 / (a[1] - a[0])))) for a in axes)
    scale = [2.0 / float((a[1] - a[0]) * s.step) for a, s in zip(axes, coarse)]
    part, here = noise[coarse], where[coarse]
    if not here.any():
        return max(0.6 * float(noise.std()), _EPS)
    weight = ndimage.gaussian_filter(here.astype(np.float32), scale)
    smooth = ndimage.gaussian_filter(np.where(here, part, 0).astype(np.float32), scale)
    found = float((smooth[here] / np.maximum(weight[here], _EPS)).std())
    return max(
        found, 0.6 * float(noise.std()), _EPS
    )  # a small lesion shows little of a coarse texture: do not blow it up


def _necrosis(rng, draw, hu, sd, axes, radius, level, solid, excluded, enhanced) -> None:
    """A central low-density part of 12-45 % of the volume with an irregular outline."""
    inside = sd < 0
    field = -sd / np.float32(radius) + np.float32(0.22) * fields.smooth_noise(rng, axes, max(0.6 * radius, 3.0))
    fraction = rng.uniform(0.12, 0.42)
    threshold = float(np.quantile(field[inside], 1 - fraction))
    drop = rng.uniform(28.0, 60.0) if enhanced else rng.uniform(22.0, 34.0)
    low = max(level - drop, rng.uniform(*FLUID_HU))
    low = min(low, level - 21.0)
    width = max(1.2, 0.07 * radius)
    weight = 1 / (1 + np.exp(np.clip(-(field - threshold) * np.float32(radius / width), -30, 30)))
    hu += weight * (np.float32(low) - hu)
    excluded |= weight > 0.3


def _rim(rng, draw, hu, sd, axes, radius, level, solid, excluded, enhanced) -> None:
    """A brighter rim just inside the surface, after contrast."""
    width = float(np.clip(0.12 * radius, 1.2, 3.5))
    rise = rng.uniform(18, 38) if enhanced else rng.uniform(4, 9)
    hu += np.float32(rise) * np.exp(-(((sd + width) / width) ** 2)).astype(np.float32)


def _capsule(rng, draw, hu, sd, axes, radius, level, solid, excluded, enhanced) -> None:
    """A thin capsule at the surface."""
    rise = rng.uniform(12, 26) * (1 if rng.random() < 0.7 or not enhanced else -1)
    hu += np.float32(rise) * np.exp(-(((sd + 0.8) / 1.0) ** 2)).astype(np.float32)


def _septa(rng, draw, hu, sd, axes, radius, level, solid, excluded, enhanced) -> None:
    """Thin sheets where a slow random field crosses zero."""
    length = max(0.9 * radius, 5.0)
    noise = fields.smooth_noise(rng, axes, length)
    slope = max(float(fields.gradient_norm(noise, axes)[sd < 0].mean()), _EPS)
    hu += np.float32(rng.uniform(18, 32)) * np.exp(-((noise / np.float32(slope * 0.9)) ** 2))


def _calcification(rng, draw, hu, sd, axes, radius, level, solid, excluded, enhanced) -> None:
    """A few small bright foci."""
    points = np.argwhere(solid)
    for point in points[rng.integers(len(points), size=int(rng.integers(1, 5)))]:
        centre = [float(axis[i]) for axis, i in zip(axes, point)]
        z, y, x = (np.asarray(a - c, np.float32) for a, c in zip(axes, centre))
        gap = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
        size = rng.uniform(0.8, min(2.2, 0.25 * radius + 0.8))
        weight = np.clip(1.2 - gap / np.float32(size), 0, 1)
        hu += weight * np.float32(rng.uniform(150, 420))
        excluded |= weight > 0.05


def _ground_glass(rng, draw, hu, sd, axes, radius, level, solid, excluded, enhanced) -> None:
    """Part-solid lung tumour: an outer zone of ground glass around the solid core."""
    depth = rng.uniform(0.22, 0.4) * radius + np.float32(0.12 * radius) * fields.smooth_noise(
        rng, axes, max(0.7 * radius, 3.0)
    )
    glass = np.float32(rng.uniform(-620, -380)) + np.float32(35) * fields.smooth_noise(rng, axes, 5.0)
    weight = 1 / (1 + np.exp(np.clip(-(sd + depth) / np.float32(1.0), -30, 30)))
    hu += weight * (glass - hu)
    excluded |= weight > 0.03


def _mixed(rng, draw, hu, sd, axes, radius, level, solid, excluded, enhanced) -> None:
    """Lytic and sclerotic parts side by side."""
    noise = fields.smooth_noise(rng, axes, max(0.7 * radius, 3.0))
    share = float(rng.uniform(0.3, 0.45))  # of the minority part
    sclerotic_minor = level < 200
    threshold = float(np.quantile(noise[sd < 0], 1 - share))
    weight = 1 / (1 + np.exp(np.clip(-(noise - threshold) * np.float32(5.0), -30, 30)))
    other = rng.uniform(380, 620) if sclerotic_minor else rng.uniform(40, 90)
    hu += weight * (np.float32(other) - hu)
    excluded |= weight > 0.2


def _laminated(rng, draw, hu, sd, axes, radius, level, solid, excluded, enhanced) -> None:
    """Concentric layers of a stone."""
    layers = max(1.0, min(4.0, radius / 1.6))
    phase = rng.uniform(0, 2 * np.pi)
    ring = np.cos(np.float32(2 * np.pi * layers / radius) * -sd + np.float32(phase))
    hu += np.float32(max(0.28 * abs(level), 40.0)) * ring.astype(np.float32)


_COMPONENTS = {
    "mottled": _mottled,
    "necrosis": _necrosis,
    "rim": _rim,
    "capsule": _capsule,
    "septa": _septa,
    "calcification": _calcification,
    "ground_glass": _ground_glass,
    "mixed_lytic_blastic": _mixed,
    "laminated": _laminated,
}
