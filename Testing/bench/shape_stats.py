"""Measures size and shape of lesion masks as published lesion sets are measured, and holds generated against real.

The measure is mesh based (marching cubes at 0.5, volume by the divergence theorem). A perfect digital sphere does not
reach sphericity 1 with it (radius 10 mm: 0.92 at 1 mm isotropic, 0.81 at 0.8 x 0.8 x 5 mm), so generated and real
lesions are compared at similar voxel spacing and never against the analytic value.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from skimage.measure import marching_cubes, mesh_surface_area

MIN_VOXELS_SOLIDITY = 20
MIN_VOXELS_PCA = 4

# Real lesions that stand for a lesion type: (CSV file without suffix, required value of the column "label" or None).
REAL_SETS: dict[str, tuple[tuple[str, str | None], ...]] = {
    "lung_tumor": (("MDSC_Task06_Lung", None),),
    "liver_tumor": (("LiTS", None),),
    "pancreas_tumor": (("MDSC_Task07_Pancreas", None), ("ULS23_Radboudumc_Pancreas", None)),
    "colorectal_cancer": (("MDSC_Task10_Colon", None),),
    "kidney_tumor": (("kits23", "tumor"),),
    "bone_metastasis": (("ULS23_Radboudumc_Bone", None),),
    "kidney_cyst": (("kits23", "cyst"),),
}

# Descriptors that are compared; units are in the names, the others are ratios without unit.
DESCRIPTORS = (
    "volume_mm3",
    "eq_diam_mm",
    "extent_x_mm",
    "extent_y_mm",
    "extent_z_mm",
    "axial_long_mm",
    "axial_short_mm",
    "sphericity",
    "solidity",
    "elongation",
    "flatness",
)


@dataclass(frozen=True)
class Row:
    """One line of a comparison. ``inside`` says whether the generated median lies in the real 25-75 % range."""

    lesion: str
    descriptor: str
    generated_p25: float
    generated_p50: float
    generated_p75: float
    generated_n: int
    real_p25: float
    real_p50: float
    real_p75: float
    real_n: int
    inside: bool


def lesion_stats(mask_xyz: np.ndarray, spacing_xyz: Sequence[float]) -> dict[str, float]:
    """Size and shape of one lesion.

    Parameters
    ----------
    mask_xyz
        Boolean array (x, y, z); the third axis is the one perpendicular to axial slices. Note the order: arrays
        elsewhere in the project are (z, y, x), so pass ``mask.transpose(2, 1, 0)``.
    spacing_xyz
        Voxel spacing along these axes in mm.

    Returns
    -------
    dict
        ``n_voxels``, ``n_slices``, ``volume_mm3`` (voxel count), ``eq_diam_mm``, ``extent_{x,y,z}_mm`` (bounding
        box), ``axial_long_mm`` and ``axial_short_mm`` (Feret diameter of the largest axial slice and the width across
        it), ``axial_max_area_mm2``, ``surface_mm2`` and ``mesh_volume_mm3`` (marching cubes), ``sphericity``,
        ``solidity`` (mesh volume / volume of the convex hull; NaN below 20 voxels), ``pca_{major,minor,least}_mm``
        (4 x the standard deviation along the principal axes), ``elongation`` (minor / major), ``flatness`` (least /
        major; NaN below 4 voxels).

    Raises
    ------
    ValueError
        If the mask is not three-dimensional or empty.
    """
    mask = np.asarray(mask_xyz, dtype=bool)
    if mask.ndim != 3:
        raise ValueError(f"lesion mask has {mask.ndim} axes, wanted 3 (x, y, z)")
    spacing = np.asarray(spacing_xyz, dtype=float)
    index = np.argwhere(mask)
    if not len(index):
        raise ValueError("lesion mask is empty; measure only masks with at least one voxel")
    low, high = index.min(axis=0), index.max(axis=0) + 1
    crop = mask[tuple(slice(a, b) for a, b in zip(low, high))]
    extent = (high - low) * spacing
    volume = len(index) * float(spacing.prod())

    stats: dict[str, float] = {
        "n_voxels": len(index),
        "n_slices": int(high[2] - low[2]),
        "volume_mm3": volume,
        "eq_diam_mm": (6 * volume / np.pi) ** (1 / 3),
        "extent_x_mm": float(extent[0]),
        "extent_y_mm": float(extent[1]),
        "extent_z_mm": float(extent[2]),
    }
    stats.update(_axial(crop, spacing))
    stats.update(_mesh(crop, spacing, len(index)))
    stats.update(_principal_axes(index, spacing))
    return stats


def _axial(crop: np.ndarray, spacing: np.ndarray) -> dict[str, float]:
    """Feret diameters (mm, over pixel corners) and area (mm²) of the first largest axial slice."""
    areas = crop.sum(axis=(0, 1))
    largest = int(areas.argmax())
    section = crop[:, :, largest]
    rim = np.argwhere(section & ~ndimage.binary_erosion(section))
    offsets = ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))
    corners = np.vstack([(rim + np.array(offset)) * spacing[:2] for offset in offsets])
    hull = corners[ConvexHull(corners).vertices]
    distance = np.sqrt(((hull[:, None] - hull[None]) ** 2).sum(axis=-1))
    first, second = np.unravel_index(distance.argmax(), distance.shape)
    length = float(distance[first, second])
    along = (hull[second] - hull[first]) / length
    across = hull @ np.array([-along[1], along[0]])
    return {
        "axial_long_mm": length,
        "axial_short_mm": float(across.max() - across.min()),
        "axial_max_area_mm2": float(areas[largest] * spacing[0] * spacing[1]),
    }


def _mesh(crop: np.ndarray, spacing: np.ndarray, n_voxels: int) -> dict[str, float]:
    """Surface (mm²), volume (mm³), sphericity and solidity of the marching-cubes mesh."""
    padded = np.pad(crop, 1).astype(np.float32)
    vertices, faces, _, _ = marching_cubes(padded, 0.5, spacing=tuple(spacing))
    surface = float(mesh_surface_area(vertices, faces))
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    volume = float(abs(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6)
    solidity = float("nan")
    if n_voxels >= MIN_VOXELS_SOLIDITY:
        try:
            solidity = float(volume / ConvexHull(vertices).volume)
        except QhullError:  # a flat mesh has no hull volume
            pass
    return {
        "surface_mm2": surface,
        "mesh_volume_mm3": volume,
        "sphericity": float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface),
        "solidity": solidity,
    }


def _principal_axes(index: np.ndarray, spacing: np.ndarray) -> dict[str, float]:
    """Lengths of the principal axes (mm) and their ratios; the extent of a voxel itself is part of the covariance."""
    names = ("pca_major_mm", "pca_minor_mm", "pca_least_mm")
    if len(index) < MIN_VOXELS_PCA:
        return dict.fromkeys((*names, "elongation", "flatness"), float("nan"))
    points = index * spacing
    covariance = np.cov((points - points.mean(axis=0)).T) + np.diag(spacing**2 / 12)
    lengths = 4 * np.sqrt(np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0))
    ratios = {"elongation": float(lengths[1] / lengths[0]), "flatness": float(lengths[2] / lengths[0])}
    return {**{name: float(value) for name, value in zip(names, lengths)}, **ratios}


def real_lesions(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Descriptors of every usable real lesion, by lesion type.

    Reads ``<folder>/<set>.csv``. Left out are lesions with a wrong stored spacing (``spacing_ok`` False: millimetres
    are meaningless) and lesions cut by the edge of their volume of interest (``touches_voi_edge`` True). Each lesion
    holds ``DESCRIPTORS`` and ``spacing_{x,y,z}_mm``; a missing value is NaN.
    """
    lesions: dict[str, list[dict[str, float]]] = {}
    for lesion, sources in REAL_SETS.items():
        lesions[lesion] = []
        for name, label in sources:
            with (Path(folder) / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
                for record in csv.DictReader(stream):
                    usable = record["spacing_ok"] == "True" and record["touches_voi_edge"] == "False"
                    if not usable or (label is not None and record["label"] != label):
                        continue
                    values = {key: float(record[key] or "nan") for key in DESCRIPTORS}
                    values.update({f"spacing_{axis}_mm": float(record[f"s{axis}"]) for axis in "xyz"})
                    lesions[lesion].append(values)
    return lesions


def real_quartiles(folder: Path) -> dict[str, dict[str, tuple[float, float, float, int]]]:
    """(25 %, 50 %, 75 %, number of lesions) per lesion type and descriptor, from the CSV files in ``folder``."""
    return {
        lesion: {key: _quartiles(values, key) for key in DESCRIPTORS} for lesion, values in real_lesions(folder).items()
    }


def typical_spacing(folder: Path) -> dict[str, tuple[float, float, float]]:
    """Median voxel spacing (x, y, z) in mm of the real lesions of each type: the grid to generate on for a fair
    comparison."""
    return {
        lesion: tuple(float(np.median([item[f"spacing_{axis}_mm"] for item in values])) for axis in "xyz")
        for lesion, values in real_lesions(folder).items()
    }


def compare(
    generated: Iterable[Mapping[str, float]],
    real: Mapping[str, tuple[float, float, float, int]],
    lesion: str = "",
) -> list[Row]:
    """Rows generated against real for one lesion type.

    ``generated``: what ``lesion_stats`` gave for each generated lesion. ``real``: ``real_quartiles(folder)[lesion]``.
    """
    generated = list(generated)
    rows = []
    for key, (p25, p50, p75, count) in real.items():
        low, middle, high, number = _quartiles(generated, key)
        rows.append(Row(lesion, key, low, middle, high, number, p25, p50, p75, count, bool(p25 <= middle <= p75)))
    return rows


def format_rows(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| lesion | descriptor | generated 25/50/75 % (n) | real 25/50/75 % (n) | median inside |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        made = f"{row.generated_p25:.3g} / {row.generated_p50:.3g} / {row.generated_p75:.3g} ({row.generated_n})"
        real = f"{row.real_p25:.3g} / {row.real_p50:.3g} / {row.real_p75:.3g} ({row.real_n})"
        lines.append(f"| {row.lesion} | {row.descriptor} | {made} | {real} | {'yes' if row.inside else 'NO'} |")
    return "\n".join(lines)


def _quartiles(items: Sequence[Mapping[str, float]], key: str) -> tuple[float, float, float, int]:
    values = np.array([item[key] for item in items], dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan"), float("nan"), 0
    p25, p50, p75 = np.percentile(values, (25, 50, 75))
    return float(p25), float(p50), float(p75), len(values)
