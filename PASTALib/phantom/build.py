"""Assembles the phantom: grid, warp, slabs in parallel, noise, organ map."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from .. import taxonomy
from ..organs import OrganMap
from ..volume import Volume
from .abdomen import Abdomen
from .bowel import Bowel
from .canvas import Canvas
from .frame import Variation, phantom_variation
from .geometry import F, Lattice, spline
from .noise import noise_slices
from .skeleton import SIDES, Skeleton
from .soft import Soft
from .thorax import Thorax
from .tissues import CLASS, hu_table

REGIONS: dict[str, tuple[float, float]] = {
    "torso": (-310.0, 310.0),
    "abdomen": (-190.0, 130.0),
    "thorax": (10.0, 310.0),
}
FIELD_XY_MM = (400.0, 284.0)
_SLAB_VOXELS = 700_000
_BLUR_SIGMA_MM = 0.78


@dataclass
class Phantom:
    """A generated scan: CT (int16 HU), organs (PASTA labels, TotalSegmentator v2 structures), phase and variation."""

    ct: Volume
    organs: OrganMap
    phase: str
    variation: Variation


def make_phantom(
    spacing_mm: float | tuple[float, float, float] = 2.0,
    phase: str = taxonomy.ENHANCED,
    seed: int = 0,
    noise_hu: float = 12.0,
    shape: tuple[int, int, int] | None = None,
    region: str = "torso",
    workers: int = 2,
) -> Phantom:
    """Generate an adult torso with CT and organ map; the same arguments give the same bytes.

    Args:
        spacing_mm: voxel size, one number or (z, y, x), 0.3 to 10 mm.
        phase: "Enhanced CT" (portal venous) or "Plain CT".
        seed: noise and a mild variation of the anatomy; 0 is the reference anatomy.
        noise_hu: standard deviation of the noise in HU, 0 for none.
        shape: voxels (z, y, x) about the region's centre; default covers the region, 400 x 284 mm in plane.
        region: "torso" (620 mm), "abdomen" (320 mm) or "thorax" (300 mm).
        workers: threads; the result does not depend on it.

    Returns:
        A Phantom. Arrays run inferior to superior, anterior to posterior, right to left; the world's origin is near
        the body's centre.

    Raises:
        ValueError: for a phase, region, spacing, shape or noise that is not as above.
    """
    spacing = np.broadcast_to(np.asarray(spacing_mm, float), (3,))
    if not np.all((spacing >= 0.3) & (spacing <= 10.0)):
        raise ValueError(f"spacing_mm is {spacing_mm}; wanted 0.3 to 10 mm")
    if region not in REGIONS:
        raise ValueError(f"region is {region!r}; wanted one of {', '.join(REGIONS)}")
    if not noise_hu >= 0:
        raise ValueError(f"noise_hu is {noise_hu}; wanted 0 or more")
    hu = hu_table(phase)
    low, high = REGIONS[region]
    extent = np.array([high - low, FIELD_XY_MM[1], FIELD_XY_MM[0]])
    if shape is None:
        shape = tuple(int(n) for n in np.maximum(np.round(extent / spacing), 1))
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape is {shape}; wanted three positive numbers (z, y, x)")
    shape = tuple(int(n) for n in shape)

    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    half = (np.array(shape) - 1) / 2.0 * spacing
    affine[:3, 3] = half[2], half[1], (low + high) / 2.0 - half[0]
    variation = phantom_variation(seed)
    recipe = _Recipe(hu, seed, variation)

    ct = np.empty(shape, np.int16)
    structures = np.empty(shape, np.uint8)
    depth = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
    starts = range(0, shape[0], depth)

    def slab(start: int) -> None:
        stop = min(start + depth, shape[0])
        hu_slab, structures[start:stop] = recipe.slab(affine, spacing, shape, start, stop)
        if noise_hu > 0:
            noise = noise_slices(start, stop - start, shape[1:], spacing, seed)
            noise *= F(noise_hu)
            hu_slab += noise
        np.rint(hu_slab, out=hu_slab)
        ct[start:stop] = np.clip(hu_slab, -1024, 3071)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        list(pool.map(slab, starts))
    table = np.zeros(256, np.uint8)
    for organ in taxonomy.ORGANS:
        for name in organ.classes:
            if name in CLASS:
                table[CLASS[name]] = organ.value
    present = np.unique(structures)
    names = {value: name for name, value in CLASS.items() if value in present}
    organs = OrganMap(Volume(table[structures], affine.copy()), Volume(structures, affine.copy()), names, "totalseg-v2")
    return Phantom(Volume(ct, affine, {"phase": phase, "seed": seed, "generated": True}), organs, phase, variation)


class _Recipe:
    """Everything that is laid out once per phantom; ``slab`` then paints any part of the grid."""

    def __init__(self, hu, seed: int, variation: Variation):
        self.hu, self.variation = hu, variation
        rng = np.random.default_rng([seed, 1])
        self.warp = [Lattice(rng, 18.0, 40, 2.2) for _ in range(3)]
        fine, coarse = Lattice(rng, 2.0, 64, 1.0), Lattice(rng, 7.0, 48, 1.2)
        sheets = Lattice(rng, 9.0, 48, 1.6)
        self.soft = Soft(hu, fine, coarse, sheets, variation)
        self.skeleton = Skeleton(hu, Lattice(rng, 1.3, 64, 0.7), coarse)
        self.thorax = Thorax(hu, seed, variation)
        self.abdomen = Abdomen(hu, seed, variation)
        self.bowel = Bowel(hu, seed, variation)
        self.limbs = _limb_vessels()

    def slab(self, affine, spacing, shape, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """HU without noise (float32) and structure labels (uint8) of slices ``start`` to ``stop``."""
        thin = int(np.ceil(spacing[0] / 2.6)) // 2 * 2 + 1 if spacing[0] > 2.6 else 1
        offsets = (np.arange(thin) - thin // 2) / thin * spacing[0]
        z = (affine[2, 3] + spacing[0] * np.arange(start, stop)[:, None] + offsets).ravel()
        y = affine[1, 3] - spacing[1] * np.arange(shape[1])
        x = affine[0, 3] - spacing[2] * np.arange(shape[2])
        scale = self.variation.scale_xyz
        axes = (z / scale[2], y / scale[1], x / scale[0])
        warp = [lattice.sample(*axes) for lattice in self.warp]
        for part, amount in zip(warp, (0.8, 1.0, 1.0)):
            part *= F(amount * self.variation.warp_mm)
        pixel = (spacing[1] + spacing[2]) / 2.0
        sigma = np.sqrt(_BLUR_SIGMA_MM**2 + pixel**2 / 12.0)
        canvas = Canvas(axes, warp, 5.0 * self.variation.warp_mm, float(np.sqrt(20.0) * sigma))
        self._paint(canvas)
        if thin == 1:
            return canvas.hu, canvas.labels
        count = stop - start
        hu = canvas.hu.reshape(count, thin, *canvas.shape[1:]).mean(axis=1)
        return hu, canvas.labels.reshape(count, thin, *canvas.shape[1:])[:, thin // 2]

    def _paint(self, canvas: Canvas) -> None:
        self.soft.paint(canvas)
        self.thorax.paint_lungs(canvas)
        self.skeleton.paint(canvas)
        for kind, label, path in self.limbs:
            canvas.paint_tube(path, self.hu[kind], CLASS[label])
        self.bowel.paint(canvas)
        self.thorax.paint_mediastinum(canvas)
        self.abdomen.paint(canvas)
        self.bowel.paint_upper(canvas)


def _limb_vessels() -> list[tuple[str, str, np.ndarray]]:
    """Iliac and femoral arteries and veins: (tissue, structure, path)."""
    out = []
    for name, side in SIDES:
        artery = [
            (-4, -12, -97, 6.5),
            (10 * side, -8, -112, 5.8),
            (36 * side, -14, -140, 5.4),
            (54 * side, 2, -172, 5),
            (72 * side, 36, -208, 4.8),
            (84 * side, 56, -245, 4.6),
            (92 * side, 52, -320, 4.4),
        ]
        start = 16 if side > 0 else 14
        vein = [
            (start, -14, -116, 7.5),
            (24 * side, -26, -134, 6.8),
            (44 * side, -20, -155, 6.4),
            (52 * side, -8, -178, 6),
            (64 * side, 28, -214, 5.8),
            (73 * side, 50, -245, 5.4),
            (80 * side, 44, -320, 5),
        ]
        out.append(("aorta", f"iliac_artery_{name}", spline(artery, 8.0)))
        out.append(("vein", f"iliac_vena_{name}", spline(vein, 8.0)))
    return out
