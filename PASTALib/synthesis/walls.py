"""Lesions of hollow organs in wall coordinates: distance from the outer surface, along the organ, and around it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from . import fields
from .draw import LesionDraw
from .placement import Site
from .shape import true_distance

RESIDUAL_LUMEN_MM = 2.5
_SHELL_MM = 7.0


def wall_distance(draw: LesionDraw, site: Site, parent_sd: np.ndarray, axes) -> np.ndarray:
    """Signed distance (mm, negative inside) of a wall thickening.

    ``parent_sd`` (z, y, x): distance to the organ's outer surface, positive inside, lumen included; ``axes``: mm from ``site`` along the scan axes.
    The lesion reaches from a little outside the outer surface to a depth that falls off with a shoulder at the edge of its patch. A lumen
    of at least 2.5 mm is left.
    """
    wall = draw.wall
    patch, around = _patch(draw, site, parent_sd, axes)
    rng = np.random.default_rng(draw.seed + 1)
    room = max(2.0 * site.lumen_mm if wall.arc < 0.6 else site.lumen_mm, 4.0) - RESIDUAL_LUMEN_MM
    inward = min(wall.thickness_mm * (1 - wall.outward), max(room, 2.0))
    outward = wall.thickness_mm - inward
    outward = min(outward, 0.55 * wall.thickness_mm + 1.0)
    profile = np.clip(1 - np.clip(patch, 0, None) ** wall.shoulder, 0, 1) ** (1 / 1.6)
    beyond = np.clip(patch - 1, 0, None) * np.float32(0.5 * wall.length_mm)
    rough = draw.outline.roughness * wall.thickness_mm
    detail = float(np.clip(0.5 * wall.thickness_mm, 4.0, 8.0))
    inner_noise = fields.smooth_noise(rng, axes, detail) * np.float32(min(0.12 * wall.thickness_mm + 1.4 * rough, 5.5))
    outer_noise = fields.smooth_noise(rng, axes, detail) * np.float32(
        min(0.05 * wall.thickness_mm + 0.4 * rough + (0.8 if draw.ill else 0.0), 2.4)
    )
    inner = parent_sd - (np.float32(inward) * profile + inner_noise * profile) + beyond
    outer = -parent_sd - (np.float32(outward) * profile + outer_noise * profile) + beyond
    sd = fields.smooth_max(inner, outer, np.float32(1.2))
    return true_distance(np.where(around, sd, np.maximum(sd, 4.0)).astype(np.float32), axes)


def _patch(draw: LesionDraw, site: Site, parent_sd: np.ndarray, axes) -> tuple[np.ndarray, np.ndarray]:
    """Patch coordinate (0 at the site, 1 at the lesion's edge) and the part of the neighbourhood that is reached along the wall."""
    wall = draw.wall
    z, y, x = (np.asarray(a, np.float32) for a in axes)
    along = site.along.astype(np.float32)
    axial = z[:, None, None] * along[0] + y[None, :, None] * along[1] + x[None, None, :] * along[2]
    geodesic = _along_wall(site, parent_sd, axes)
    half_length = np.float32(0.5 * wall.length_mm)
    reached = geodesic < np.float32(1e5)
    geodesic = np.where(reached, geodesic, np.float32(400.0))
    circumference = 2 * np.pi * max(site.lumen_mm - 1.5, 3.0)
    if wall.arc >= 0.999:
        patch = np.abs(axial) / half_length
        reached &= geodesic < half_length + np.float32(0.75 * circumference)
    else:
        half_arc = np.float32(max(0.5 * wall.arc * circumference, 0.8 * wall.thickness_mm, 5.0))
        around = np.sqrt(np.clip(geodesic**2 - axial**2, 0, None))
        patch = np.sqrt((axial / half_length) ** 2 + (around / half_arc) ** 2)
    return patch.astype(np.float32), reached


def _along_wall(site: Site, parent_sd: np.ndarray, axes) -> np.ndarray:
    """Distance (mm) from the site along the organ's wall, by fast marching; large where the wall does not lead."""
    import SimpleITK as sitk

    step = [float(a[1] - a[0]) for a in axes]
    shell = (parent_sd > -_SHELL_MM) & (parent_sd < _SHELL_MM)
    origin = [int(np.argmin(np.abs(a))) for a in axes]
    speed = sitk.GetImageFromArray(np.where(shell, np.float32(1), np.float32(1e-6)))
    speed.SetSpacing(step[::-1])
    march = sitk.FastMarchingImageFilter()
    march.SetTrialPoints([[int(i) for i in origin[::-1]]])
    march.SetStoppingValue(float(1.6 * max(abs(a[0]) for a in axes) + 60))
    out = sitk.GetArrayFromImage(march.Execute(speed))
    out = np.where(out < 1e4, out, np.float32(1e6)).astype(np.float32)
    inner = parent_sd >= _SHELL_MM
    if inner.any():  # deeper than the wall: as far along as the nearest piece of wall
        nearest = ndimage.distance_transform_edt(out > 1e5, sampling=step, return_distances=False, return_indices=True)
        out[inner] = out[tuple(nearest[:, inner])]
    return out
