"""Lesion outlines as signed distance fields: rotated superellipsoids with surface noise, lobes, spicules, satellites."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import fields
from .distance import signed_distance

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ShapeSpec:
    """An outline around the origin, in mm along the scan's array axes (z, y, x).

    ``semi_axes_mm`` of the ellipsoid before ``rotation`` (3x3); ``exponent`` 2 is an ellipsoid, larger is boxier; ``roughness`` is
    the RMS surface displacement relative to the mean radius, ``detail`` its length relative to the mean radius; ``lobes`` are
    (direction, offset, radius) of bumps, all relative; ``spicules`` (direction, length mm, base radius mm);
    ``satellites`` (centre mm, radius mm). ``scale`` stretches the result along (z, y, x). ``seed`` draws the surface noise.
    """

    semi_axes_mm: tuple[float, float, float]
    rotation: np.ndarray
    exponent: float = 2.0
    roughness: float = 0.0
    detail: float = 0.7
    lobes: tuple = ()
    spicules: tuple = ()
    satellites: tuple = ()
    facets: tuple = ()
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    seed: int = 0

    @property
    def mean_radius_mm(self) -> float:
        """Geometric mean of the semi-axes."""
        return float(np.prod(self.semi_axes_mm) ** (1 / 3))

    @property
    def reach_mm(self) -> np.ndarray:
        """Half extents (z, y, x) of a box that surely holds the outline, spicules and satellites included."""
        box = np.sqrt(((self.rotation * np.asarray(self.semi_axes_mm)[None, :]) ** 2).sum(1))
        grow = 1.0 + 3.0 * self.roughness + max((0.6 * r for _, _, r in self.lobes), default=0.0)
        reach = box * grow * np.asarray(self.scale)
        for direction, length, _ in self.spicules:
            reach = np.maximum(reach, box * np.abs(direction) + length)
        for centre, radius in self.satellites:
            reach = np.maximum(reach, np.abs(centre) + radius)
        return reach


def _grid(axes: Axes) -> Axes:
    z, y, x = (np.asarray(a, np.float32) for a in axes)
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _body(spec: ShapeSpec, axes: Axes) -> np.ndarray:
    """Implicit value (mm, negative inside) of the outline without spicules and satellites; not yet a distance."""
    z, y, x = _grid(tuple(a / s for a, s in zip(axes, spec.scale)))
    radius = spec.mean_radius_mm
    rotation = spec.rotation.astype(np.float32)
    # rows of rotation^T: coordinates along the ellipsoid's own axes, in units of the semi-axes
    own = [
        (rotation[0, i] * z + rotation[1, i] * y + rotation[2, i] * x) / np.float32(spec.semi_axes_mm[i])
        for i in range(3)
    ]
    if spec.exponent == 2.0:
        rho = np.sqrt(own[0] ** 2 + own[1] ** 2 + own[2] ** 2)
    else:
        p = np.float32(spec.exponent)
        rho = (np.abs(own[0]) ** p + np.abs(own[1]) ** p + np.abs(own[2]) ** p) ** (1 / p)
    value = (rho - 1) * np.float32(radius)
    for direction, offset, size in spec.lobes:
        distance = np.sqrt(sum((o - np.float32(d * offset)) ** 2 for o, d in zip(own, direction)))
        value = fields.smooth_min(value, (distance - np.float32(size)) * np.float32(radius), np.float32(0.25 * radius))
    for direction, offset in spec.facets:
        plane = (
            own[0] * direction[0] + own[1] * direction[1] + own[2] * direction[2] - np.float32(offset)
        ) * np.float32(radius)
        value = fields.smooth_max(value, plane, np.float32(0.15 * radius))
    if spec.roughness > 0:
        rng = np.random.default_rng(spec.seed)
        lattice = tuple(a / s for a, s in zip(axes, spec.scale))
        length = spec.detail * radius
        value = value + np.float32(spec.roughness * radius * 0.94) * fields.smooth_noise(rng, lattice, length)
        value += np.float32(spec.roughness * radius * 0.33) * fields.smooth_noise(rng, lattice, 0.5 * length)
    return value


def _extents(value: np.ndarray, axes: Axes) -> list[tuple[float, float]]:
    """Sub-lattice (low, high) mm along each axis of the region ``value < 0``; empty region -> zeros."""
    result = []
    for axis, coordinate in enumerate(axes):
        profile = value.min(axis=tuple(i for i in range(3) if i != axis))
        inside = np.flatnonzero(profile < 0)
        if inside.size == 0:
            return [(0.0, 0.0)] * 3
        low, high = int(inside[0]), int(inside[-1])
        step = float(coordinate[1] - coordinate[0]) if len(coordinate) > 1 else 0.0
        a, b = float(coordinate[low]), float(coordinate[high])
        if low > 0:
            a -= step * float(profile[low] / (profile[low] - profile[low - 1]))
        if high < len(coordinate) - 1:
            b += step * float(profile[high] / (profile[high] - profile[high + 1]))
        result.append((a, b))
    return result


def fit_to_size(spec: ShapeSpec, size_zyx_mm: tuple[float, float, float]) -> ShapeSpec:
    """Stretch ``spec`` so that its bounding box is ``size_zyx_mm``, without spicules and satellites (they do not count)."""
    for _ in range(2):
        reach = spec.reach_mm * 1.15 + 1e-3
        axes = tuple(np.linspace(-r, r, 31) for r in reach)
        extents = _extents(_body(spec, axes), axes)
        scale = tuple(
            s * want / max(high - low, 1e-3) if high > low else s
            for s, want, (low, high) in zip(spec.scale, size_zyx_mm, extents)
        )
        spec = replace(spec, scale=scale)
    return spec


def natural_size(spec: ShapeSpec) -> tuple[tuple[float, float, float], np.ndarray]:
    """Bounding box (z, y, x) in mm of the outline and the offset of its centre from the origin."""
    reach = spec.reach_mm * 1.15 + 1e-3
    axes = tuple(np.linspace(-r, r, 31) for r in reach)
    extents = _extents(_body(spec, axes), axes)
    return tuple(high - low for low, high in extents), np.array([(low + high) / 2 for low, high in extents])


def distance(spec: ShapeSpec, axes: Axes) -> np.ndarray:
    """Signed distance (mm, negative inside) on the lattice ``axes`` (mm from the lesion's centre), float32."""
    body = _body(spec, axes)
    smooth = spec.roughness == 0 and not spec.lobes and not spec.facets
    value = to_first_order(body, axes) if smooth else true_distance(body, axes)
    for direction, length, base in spec.spicules:
        _add_spicule(value, spec, axes, np.asarray(direction, np.float32), length, base)
    for centre, radius in spec.satellites:
        z, y, x = _grid(tuple(a - c for a, c in zip(axes, centre)))
        np.minimum(value, np.sqrt(z**2 + y**2 + x**2) - np.float32(radius), out=value)
    return value


def to_first_order(value: np.ndarray, axes: Axes) -> np.ndarray:
    """An implicit value over its gradient: the distance (mm) to its zero surface, exact to first order there (Taubin 1994)."""
    return value / np.clip(fields.gradient_norm(value, axes), 0.35, 3.0)


def true_distance(value: np.ndarray, axes: Axes) -> np.ndarray:
    """Signed distance (mm) to the zero surface of an implicit ``value`` (negative inside) on a lattice.

    To first order near the surface; farther off, where a rough surface has no say in the gradient, the Euclidean distance.
    """
    near = to_first_order(value, axes)
    step = np.array([float(a[1] - a[0]) for a in axes])
    far = -signed_distance(value < 0, step)
    band = np.abs(far) < 1.5 * step.max()
    if band.any():  # the lattice knows the surface only to half a step
        far -= np.float32(np.median((far - near)[band]))
    share = np.clip(np.abs(far) / np.float32(step.max()) - 1.5, 0, 1)
    return near + share * (far - near)


def _add_spicule(
    value: np.ndarray, spec: ShapeSpec, axes: Axes, direction: np.ndarray, length: float, base: float
) -> None:
    """Union with a thin cone from the surface outwards along ``direction`` (unit, zyx), in place, in its own box only."""
    own = np.abs(spec.rotation.T @ (direction / np.asarray(spec.scale))) / np.asarray(spec.semi_axes_mm)
    start = 1.0 / float(np.sqrt((own**2).sum()))  # radius of the ellipsoid in this direction
    a, b = direction * (start * 0.8), direction * (start + length)
    low, high = np.minimum(a, b) - 2 * base - 2, np.maximum(a, b) + 2 * base + 2
    box = tuple(slice(int(np.searchsorted(c, lo)), int(np.searchsorted(c, hi))) for c, lo, hi in zip(axes, low, high))
    if any(s.stop <= s.start for s in box):
        return
    z, y, x = _grid(tuple(c[s] for c, s in zip(axes, box)))
    span = b - a
    t = ((z - a[0]) * span[0] + (y - a[1]) * span[1] + (x - a[2]) * span[2]) / np.float32((span**2).sum())
    t = np.clip(t, 0, 1)
    gap = np.sqrt((z - a[0] - t * span[0]) ** 2 + (y - a[1] - t * span[1]) ** 2 + (x - a[2] - t * span[2]) ** 2)
    np.minimum(value[box], gap - np.float32(base) * (1 - 0.65 * t), out=value[box])


def random_rotation(rng: np.random.Generator, tilt: float = 1.0) -> np.ndarray:
    """A random rotation matrix; ``tilt`` < 1 keeps it near the identity (0: identity)."""
    axis = rng.standard_normal(3)
    axis /= np.linalg.norm(axis)
    angle = tilt * rng.uniform(0, np.pi)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def random_directions(rng: np.random.Generator, count: int) -> np.ndarray:
    """``(count, 3)`` unit vectors, uniform on the sphere."""
    v = rng.standard_normal((count, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)
