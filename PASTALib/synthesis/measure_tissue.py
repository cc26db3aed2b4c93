"""Which voxels stand for a lesion and for the tissue it is compared with, and the robust level of a tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .measure_shape import signed_distance

REFERENCES = ("parenchyma", "lung", "bone", "wall", "bile", "liver")
CORE_DEPTH_MM = 2.0  # core: at least this deep …
SMALL_CORE_DEPTH_MM = 1.0  # … or this, in lesions less than SMALL_MM thick
SMALL_MM = 8.0
SHELL_MM = (4.0, 9.0)  # shell of reference tissue round the lesion
WALL_SHELL_MM = (4.0, 25.0)
WALL_DEPTH_MM = 4.0  # the wall lies this close to the organ's outer surface
WALL_HU = (-20.0, 200.0)
GAS_HU = -200.0
FAT_HU = -30.0  # parenchyma is denser than this
LIVER = 2  # PASTA organ value
MIN_REFERENCE_VOXELS = 30
THIN_WALL_HU = 12.0  # a wall this much below soft tissue is not resolved


def measuring_margin_mm(reference: str) -> float:
    """How far around a lesion (mm) the measurement looks: its shell, or farther where the reference is another tissue."""
    return 15.0 if reference in ("parenchyma", "lung", "bone") else 26.0


@dataclass(frozen=True)
class Regions:
    """Boolean arrays of the region of interest: ``core`` of the lesion and ``shell`` of reference tissue."""

    core: np.ndarray
    shell: np.ndarray


def regions(
    label: np.ndarray,
    parent: np.ndarray,
    others: np.ndarray,
    spacing_zyx,
    reference: str = "parenchyma",
    image: np.ndarray | None = None,
    *,
    distance: np.ndarray | None = None,
    edge_width_mm: float = 0.0,
    organ_depth: np.ndarray | None = None,
) -> Regions:
    """Core of the lesion and the reference tissue near it (see ``REFERENCES`` for the kinds).

    ``label`` lesion, ``parent`` healthy parent organ (bool, z y x), ``others`` uint8 map of everything else. ``image``
    (HU) is needed for ``"wall"`` and keeps fat out of ``"parenchyma"``. An ``edge_width_mm`` (10–90 %) keeps both regions off a wide edge. ``distance``
    (signed, mm) and ``organ_depth`` (mm inside the outer surface of organ and lesion) save computing them again.
    ValueError for an unknown kind.
    """
    if reference not in REFERENCES:
        raise ValueError(f"reference tissue {reference!r} is unknown; use one of {', '.join(REFERENCES)}")
    distance = signed_distance(label, spacing_zyx) if distance is None else distance
    wide = edge_width_mm if np.isfinite(edge_width_mm) else 0.0
    core = _core(label, distance, spacing_zyx, wide)
    free = parent & ~label & (others == 0)
    if reference == "parenchyma" and image is not None:
        free &= image > FAT_HU  # fat between lobules, and partial volume with it, is no parenchyma
    if reference in ("parenchyma", "lung", "bone"):
        start = float(np.clip(0.8 * wide, SHELL_MM[0], 8.0))
        shell = free & (distance >= start) & (distance <= start + SHELL_MM[1] - SHELL_MM[0])
        if np.count_nonzero(shell) < MIN_REFERENCE_VOXELS:
            shell = free & (distance >= SHELL_MM[0]) & (distance <= WALL_SHELL_MM[1])
        return Regions(core, shell)
    if reference == "liver":
        return Regions(core, (others == LIVER) & ~label & (distance >= 3.0) & (distance <= WALL_SHELL_MM[1]))
    if organ_depth is None:
        organ_depth = -signed_distance(parent | label, spacing_zyx)
    if reference == "bile":
        bile = free & (distance >= 2.0) & (distance <= WALL_SHELL_MM[1])
        inner = bile & (organ_depth >= 3.0)
        return Regions(core, inner if np.count_nonzero(inner) >= MIN_REFERENCE_VOXELS else bile & (organ_depth >= 1.5))
    if image is None:
        raise ValueError("reference tissue 'wall' needs the image to leave out the lumen; pass image=…")
    return Regions(core, _wall(image, label, parent, free, others, distance, organ_depth, spacing_zyx))


def _core(label, distance, spacing, wide) -> np.ndarray:
    """Voxels clear of the edge; in tiny lesions the deepest quarter."""
    thickness = 2.0 * float(-distance[label].min()) if label.any() else 0.0
    depth = CORE_DEPTH_MM if thickness >= SMALL_MM else SMALL_CORE_DEPTH_MM
    core = label & (distance <= -depth)
    deeper = label & (distance <= -max(depth, 0.62 * wide))  # 95 % of the step at 0.64 × the 10–90 % width
    least = max(60, 0.04 * np.count_nonzero(label))
    if np.count_nonzero(deeper) >= least:
        return deeper
    if wide > 2 * depth and np.count_nonzero(core) > least:  # as deep as leaves enough voxels
        values = np.sort(distance[core])
        return label & (distance <= values[int(least)])
    if np.count_nonzero(core) >= 8:
        return core
    values = np.sort(distance[label])
    return label & (distance <= values[min(len(values) - 1, max(4, len(values) // 4))]) if values.size else core


def _wall(image, label, parent, free, others, distance, organ_depth, spacing) -> np.ndarray:
    """Wall of a hollow organ beside the lesion; unlabelled soft tissue nearby where too little of it is seen."""
    zone = (distance >= WALL_SHELL_MM[0]) & (distance <= WALL_SHELL_MM[1])
    candidate = free & zone & (organ_depth <= WALL_DEPTH_MM) & (image > WALL_HU[0]) & (image < WALL_HU[1])
    gas = parent & (image < GAS_HU)
    if gas.any() and candidate.any():
        cross = ndimage.generate_binary_structure(3, 1)
        if float(spacing[0]) > 2.5:  # the slice above is another place
            cross[0] = cross[2] = False
        steps = max(1, int(round(1.5 / float(np.mean(spacing[1:])))))
        candidate &= ~ndimage.binary_dilation(gas, cross, iterations=steps)
    if np.count_nonzero(candidate) >= MIN_REFERENCE_VOXELS:
        return _calmest(image, candidate, spacing)
    return ~parent & ~label & (others == 0) & zone & (image > 0) & (image < 150)


def _calmest(image, mask, spacing) -> np.ndarray:
    """The third of ``mask`` where the image changes least within its slice: the middle of a thin wall, not its edges."""
    index = np.flatnonzero(mask)
    if index.size <= MIN_REFERENCE_VOXELS:
        return mask
    _, y, x = np.unravel_index(index, mask.shape)
    flat, width = image.ravel(), mask.shape[2]
    up, down = index - width * (y > 0), index + width * (y < mask.shape[1] - 1)
    left, right = index - (x > 0), index + (x < width - 1)
    slope = np.hypot((flat[down] - flat[up]) / float(spacing[1]), (flat[right] - flat[left]) / float(spacing[2]))
    number = max(MIN_REFERENCE_VOXELS, index.size // 3)
    out = np.zeros(mask.shape, bool)
    out.ravel()[index[np.argpartition(slope, number - 1)[:number]]] = True
    return out


def tissue_level(image: np.ndarray, mask: np.ndarray, clip: float = 2.5) -> tuple[float, int]:
    """Median HU of ``mask`` after dropping values beyond ±``clip`` MAD (vessels, calcium), and the voxels used.

    (NaN, 0) for an empty mask. The MAD is scaled to the SD of a normal sample.
    """
    values = image[mask]
    for _ in range(3):
        if values.size == 0:
            return float("nan"), 0
        median = float(np.median(values))
        spread = 1.4826 * float(np.median(np.abs(values - median)))
        kept = values[np.abs(values - median) <= max(clip * spread, 1.0)]
        if kept.size == values.size:
            break
        values = kept
    return float(np.median(values)), int(values.size)


def reference_level(
    image: np.ndarray, shell: np.ndarray, reference: str, organ: str, tissue_hu: dict[str, float]
) -> tuple[float, int]:
    """HU of the reference tissue here and the voxels behind it; the scan's own level where too few, NaN where none is known.

    A wall too thin for the voxels reads like the fluid, fat or gas beside it; then the scan's soft tissue stands in.
    """
    level, count = tissue_level(image, shell)
    fallback = next(
        (float(tissue_hu[name]) for name in (reference, organ, "soft_tissue") if name in tissue_hu), float("nan")
    )
    if count < MIN_REFERENCE_VOXELS or (reference == "wall" and level < fallback - THIN_WALL_HU):
        return (fallback if np.isfinite(fallback) else level), count
    return level, count
