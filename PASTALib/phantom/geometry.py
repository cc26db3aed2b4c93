"""Implicit shapes in mm: signed distances (negative inside), smooth joins, splines, tubes and lattice noise."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.ndimage import gaussian_filter

F = np.float32


def smin(a, b, blend_mm: float):
    """Union of two signed distances with a fillet of about ``blend_mm``."""
    h = np.maximum(F(blend_mm) - np.abs(a - b), F(0))
    return np.minimum(a, b) - h * h * F(0.25 / blend_mm)


def smax(a, b, blend_mm: float):
    """Intersection of two signed distances with an edge rounded over about ``blend_mm``."""
    h = np.maximum(F(blend_mm) - np.abs(a - b), F(0))
    return np.maximum(a, b) + h * h * F(0.25 / blend_mm)


def smoothstep(value, low: float, high: float):
    """0 below ``low``, 1 above ``high``, cubic in between."""
    t = np.clip((value - F(low)) * F(1.0 / (high - low)), F(0), F(1))
    return t * t * (F(3) - F(2) * t)


def rotation(axis: int, degrees: float) -> np.ndarray:
    """3x3 rotation about axis 0 (x), 1 (y) or 2 (z)."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def ellipsoid(x, y, z, centre, radii, turn: np.ndarray | None = None):
    """First-order signed distance to an ellipsoid; ``turn`` rotates the ellipsoid's own axes into the world."""
    px, py, pz = x - F(centre[0]), y - F(centre[1]), z - F(centre[2])
    if turn is not None:
        m = np.asarray(turn, F).T
        px, py, pz = (m[i, 0] * px + m[i, 1] * py + m[i, 2] * pz for i in range(3))
    rx, ry, rz = (F(1.0 / r) for r in radii)
    px, py, pz = px * rx, py * ry, pz * rz
    k0 = np.sqrt(px * px + py * py + pz * pz)
    px, py, pz = px * rx, py * ry, pz * rz
    k1 = np.sqrt(px * px + py * py + pz * pz)
    return (k0 * (k0 - F(1))) / np.maximum(k1, F(1e-4))


def capsule(x, y, z, a, b, ra: float, rb: float | None = None):
    """Signed distance to a ball swept from ``a`` to ``b`` while its radius goes from ``ra`` to ``rb``."""
    rb = ra if rb is None else rb
    d, _ = _segment(x, y, z, np.asarray(a, float), np.asarray(b, float), ra, rb, None)
    return d


def _segment(x, y, z, a, b, ra, rb, flat):
    """Distance and position (0..1) along one segment. ``flat`` = (unit direction, widening) makes it oval."""
    ab = (b - a).astype(F)
    length2 = float(ab @ ab) or 1e-6
    px, py, pz = x - F(a[0]), y - F(a[1]), z - F(a[2])
    t = np.clip((px * ab[0] + py * ab[1] + pz * ab[2]) * F(1.0 / length2), F(0), F(1))
    px, py, pz = px - t * ab[0], py - t * ab[1], pz - t * ab[2]
    radius = F(ra) + t * F(rb - ra)
    if flat is None:
        return np.sqrt(px * px + py * py + pz * pz) - radius, t
    direction, widening = flat
    q = F(1.0 / widening)
    u = px * F(direction[0]) + py * F(direction[1]) + pz * F(direction[2])
    w2 = np.maximum(px * px + py * py + pz * pz - u * u, F(0))
    u2 = (q * u) ** 2
    d = np.sqrt(w2 + u2)
    return (d - radius) * d / np.maximum(np.sqrt(w2 + q * q * u2), F(1e-4)), t


def path_distance(x, y, z, path: np.ndarray):
    """Signed distance of any points to the tube ``path`` (n, 4): x, y, z, radius."""
    out = np.full(np.broadcast(x, y, z).shape, 1e3, F)
    for a, b in zip(path[:-1], path[1:]):
        np.minimum(out, _segment(x, y, z, a[:3], b[:3], a[3], b[3], None)[0], out=out)
    return out


def spline(knots, step_mm: float = 6.0) -> np.ndarray:
    """A smooth curve through ``knots`` (n, 4) = x, y, z, radius, resampled about every ``step_mm``; (m, 4)."""
    knots = np.asarray(knots, float)
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots[:, :3], axis=0), axis=1))])
    n = max(2, int(np.ceil(s[-1] / step_mm)) + 1)
    t = np.linspace(0, s[-1], n)
    xyz = (
        CubicSpline(s, knots[:, :3])(t)
        if len(knots) > 2
        else np.stack([np.interp(t, s, knots[:, i]) for i in range(3)], 1)
    )
    radius = PchipInterpolator(s, knots[:, 3])(t)
    return np.column_stack([xyz, radius])


def arclength(path: np.ndarray) -> np.ndarray:
    """Distance in mm along ``path`` (n, >=3) at each of its points."""
    return np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path[:, :3], axis=0), axis=1))])


class Profile:
    """A smooth function of the height z (mm), linear outside its knots' range."""

    def __init__(self, z, values):
        self._z = np.linspace(-420.0, 420.0, 1681)
        z, values = np.asarray(z, float), np.asarray(values, float)
        inside = np.clip(self._z, z.min(), z.max())
        self._v = PchipInterpolator(z, values)(inside)

    def __call__(self, z):
        return np.interp(z, self._z, self._v).astype(F)


class Lattice:
    """Smooth periodic random field, zero mean, unit SD, on a lattice in mm so that any grid samples the same."""

    def __init__(self, rng: np.random.Generator, pitch_mm: float, size: int = 48, smooth: float = 1.0):
        values = gaussian_filter(rng.standard_normal((size, size, size)), smooth, mode="wrap")
        self.values = (values / values.std()).astype(F)
        self.pitch_mm = pitch_mm
        self.size = size

    def sample(self, z, y, x):
        """Field at the grid spanned by three 1-D coordinate arrays in mm; (nz, ny, nx) float32."""
        out = self.values
        for axis, coordinate in enumerate((z, y, x)):
            u = np.asarray(coordinate, float).ravel() / self.pitch_mm
            low = np.floor(u).astype(int)
            shape = [1, 1, 1]
            shape[axis] = -1
            w = (u - low).astype(F).reshape(shape)
            first = np.take(out, low % self.size, axis=axis)
            second = np.take(out, (low + 1) % self.size, axis=axis)
            second -= first
            second *= w
            second += first
            out = second
        return out
