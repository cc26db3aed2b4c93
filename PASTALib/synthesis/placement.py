"""Where a lesion goes: rules of each type on the organ's coarse geometry, nearest allowed site to a click."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .. import taxonomy
from ..errors import InputError
from .distance import interior_distance
from .draw import LesionDraw
from .scan import OrganGeometry, PreparedScan

POSTERIOR = (0.0, -1.0, 0.0)
BULGING = ("kidney_tumor", "kidney_cyst", "pancreas_tumor", "pancreas_cyst", "gallbladder_cancer")
_AIR_HU = -250
_CLEARANCE_MM = 4.0
CLICK_TRIES = 3  # so many draws are tried exactly at the point asked for


class NoPlace(Exception):
    """This draw fits nowhere in this organ; another draw may."""


@dataclass(frozen=True)
class Site:
    """A place: ``centre`` continuous scan index (z, y, x); ``inward`` unit vector (z, y, x) from a hollow organ's wall to its lumen,
    ``along`` unit vector along the organ, ``lumen_mm`` its inner radius there (wall lesions only)."""

    centre: np.ndarray
    inward: np.ndarray | None = None
    along: np.ndarray | None = None
    lumen_mm: float = 0.0


def capacity_mm(scan: PreparedScan, lesion_key: str) -> float:
    """Largest mean diameter (mm) that the lesion's organ can hold in this scan."""
    geometry = scan.organ_geometry(taxonomy.lesion(lesion_key).organ)
    depth = geometry.largest_depth_mm
    volume_limit = (geometry.volume_mm3 * 0.35 * 6 / np.pi) ** (1 / 3)
    if lesion_key == "gallstone":
        return max(1.2 * depth, 3.0)
    if lesion_key == "kidney_stone":
        return 14.0
    if lesion_key.startswith("kidney"):
        # grows out of the kidney, whose rim is thin: one kidney's volume is the measure
        return 1.4 * (0.5 * geometry.volume_mm3 * 6 / np.pi) ** (1 / 3)
    if lesion_key in BULGING:
        return min(2 * depth * 1.6, 1.25 * volume_limit)
    if taxonomy.organ(taxonomy.lesion(lesion_key).organ).hollow:
        return 1.7 * depth
    return min(2 * depth / 0.9, volume_limit)


def find_site(
    scan: PreparedScan, rng: np.random.Generator, draw: LesionDraw, at_ras=None, prone: bool = False, number: int = 1
) -> Site:
    """A site for ``draw``; with ``at_ras`` the nearest allowed one to that point (RAS mm). Raises NoPlace when nothing fits.

    ``number`` counts the tries: when nearer sites turned out too tight, later tries look farther from the point.
    """
    key = taxonomy.lesion(draw.lesion).organ
    geometry = scan.organ_geometry(key)
    click = None
    if at_ras is not None:
        click = scan.ct.to_index(np.asarray(at_ras, float))
        if (click < -0.5).any() or (click > np.array(scan.ct.array.shape) - 0.5).any():
            raise InputError(
                f"the point {tuple(float(c) for c in at_ras)} (RAS mm) lies outside the scan; choose one inside it"
            )
    if draw.kind == "gallstone":
        return _dependent_site(scan, rng, draw, geometry, click, prone)
    if draw.kind == "kidney_stone":
        return _calyx_site(scan, rng, draw, geometry, click)
    if draw.kind in ("wall", "polyp") and not (
        draw.lesion == "gallbladder_cancer" and draw.options["shape"] == "Irregular"
    ):
        return _wall_site(scan, rng, draw, geometry, key, click)
    return _solid_site(scan, rng, draw, geometry, key, click, number)


def _to_scan_index(scan: PreparedScan, coarse: np.ndarray) -> np.ndarray:
    return coarse * scan.stride


def _weights(scan: PreparedScan, key: str, geometry: OrganGeometry, points: np.ndarray, site: str) -> np.ndarray:
    """Preference of coarse ``points`` (n, 3, box indices) for the named sub-site, by position within the organ."""
    rule = _SITE_RULES[key].get(site)
    if rule is None or len(points) == 0:
        return np.ones(len(points))
    ras = scan.ct.to_ras(_to_scan_index(scan, points + geometry.offset))
    if geometry.extent_ras is None:
        filled = np.argwhere(geometry.depth_mm > 0)
        filled = filled[:: max(1, len(filled) // 4000)]
        organ = scan.ct.to_ras(_to_scan_index(scan, filled + geometry.offset))
        geometry.extent_ras = np.percentile(organ, [1, 99], axis=0)
    low, high = geometry.extent_ras
    x, y, z = ((ras - low) / np.maximum(high - low, 1e-3)).T
    return np.where(rule(x, y, z, abs(x - 0.5)), 1.0, 0.03)


# Sub-sites by organ and relative position in the organ's box: x grows to the patient's right, y to anterior, z upwards; m = |x - 0.5|.
_SITE_RULES = {
    "lung": {
        "upper_lobe": lambda x, y, z, m: z > 0.5,
        "middle_lobe": lambda x, y, z, m: (z > 0.3) & (z < 0.55) & (x > 0.5),
        "lower_lobe": lambda x, y, z, m: z < 0.5,
    },
    "liver": {"right_lobe": lambda x, y, z, m: x > 0.45, "left_lobe": lambda x, y, z, m: x <= 0.45},
    "gallbladder": {
        "fundus": lambda x, y, z, m: (z < 0.5) | (y > 0.5),
        "body": lambda x, y, z, m: (z > 0.3) & (z < 0.8),
        "neck": lambda x, y, z, m: z > 0.7,
    },
    "pancreas": {
        "head": lambda x, y, z, m: x > 0.62,
        "body": lambda x, y, z, m: (x > 0.3) & (x <= 0.62),
        "tail": lambda x, y, z, m: x <= 0.3,
    },
    "esophagus": {
        "upper": lambda x, y, z, m: z > 0.67,
        "middle": lambda x, y, z, m: (z > 0.33) & (z <= 0.67),
        "lower": lambda x, y, z, m: z <= 0.33,
    },
    "stomach": {
        "cardia": lambda x, y, z, m: z > 0.7,
        "body": lambda x, y, z, m: (z > 0.35) & (z <= 0.7),
        "antrum": lambda x, y, z, m: (z <= 0.35) | (x > 0.6),
    },
    "colorectum": {
        "left_and_sigmoid": lambda x, y, z, m: x <= 0.4,
        "right": lambda x, y, z, m: x > 0.6,
        "transverse": lambda x, y, z, m: (z > 0.6) & (m < 0.3),
    },
    "kidney": {
        "upper_pole": lambda x, y, z, m: z > 0.67,
        "middle": lambda x, y, z, m: (z > 0.33) & (z <= 0.67),
        "lower_pole": lambda x, y, z, m: z <= 0.33,
        "lower_calyx": lambda x, y, z, m: z < 0.38,
        "middle_calyx": lambda x, y, z, m: (z >= 0.38) & (z < 0.62),
        "upper_calyx": lambda x, y, z, m: z >= 0.62,
        "pelvis": lambda x, y, z, m: (z >= 0.35) & (z < 0.65) & (m < 0.38),
    },
    "bladder": {
        "lateral_wall": lambda x, y, z, m: m > 0.25,
        "trigone_base": lambda x, y, z, m: (z < 0.4) & (y < 0.6),
        "posterior_wall": lambda x, y, z, m: y < 0.3,
        "dome": lambda x, y, z, m: z > 0.8,
    },
    "bone": {
        "vertebral_body": lambda x, y, z, m: m < 0.1,
        "vertebral_posterior": lambda x, y, z, m: (m < 0.15) & (y < 0.3),
        "pelvis": lambda x, y, z, m: (z < 0.35) & (m > 0.12),
        "rib": lambda x, y, z, m: (z > 0.5) & (m > 0.2),
    },
}


def _solid_site(scan, rng, draw: LesionDraw, geometry, key, click, number) -> Site:
    radius = draw.radius_mm
    depth = geometry.depth_mm
    low, high = _depth_range(draw, radius, geometry.largest_depth_mm)
    flat = np.flatnonzero((depth >= low) & (depth <= high))
    if flat.size == 0:
        raise NoPlace(f"no point of the {key} is between {low:.1f} and {high:.1f} mm deep")
    if click is not None:
        points = np.stack(np.unravel_index(flat, depth.shape), axis=1)
        gap = (_to_scan_index(scan, points + geometry.offset) - click) * scan.spacing
        order = np.argsort((gap**2).sum(1))
        ranks = np.unique(np.geomspace(1, len(order), 160).astype(int) - 1)  # dense near the point, sparse far away
        candidates = points[order[ranks]]
    else:
        subset = flat[rng.integers(flat.size, size=min(600, flat.size))]
        points = np.stack(np.unravel_index(subset, depth.shape), axis=1)
        weight = _weights(scan, key, geometry, points, draw.site)
        if draw.exophytic is None and not draw.close and draw.lesion not in BULGING:
            weight = weight * np.clip(depth[tuple(points.T)] / radius, 0.2, 1.0) ** 2
        candidates = (
            points[rng.choice(len(points), size=min(48, len(points)), replace=False, p=_normal(weight))]
            if (weight > 0).sum() >= 48
            else points[:48]
        )
    index = np.round(_to_scan_index(scan, candidates + geometry.offset)).astype(int)
    penalty = _penalties(scan, draw, key, index)
    if click is not None:
        free = _click_is_free(scan, draw, key, geometry, click, low, high)
        if free and number <= CLICK_TRIES:
            return Site(click.astype(float))
        passing = np.flatnonzero(penalty < 1.0)
        if passing.size == 0:
            raise NoPlace(f"no allowed place for a lesion of {2 * radius:.0f} mm near the point")
        skip = max(number - (CLICK_TRIES if free else 0) - 1, 0) * 4
        return Site(index[passing[min(skip, passing.size - 1)]].astype(float))
    best = int(np.argmin(penalty + 0.05 * rng.random(len(penalty))))
    if penalty[best] >= 1.0:
        raise NoPlace(f"a lesion of {2 * radius:.0f} mm fits nowhere in the {key}")
    return Site(index[best] + rng.uniform(-0.5, 0.5, 3) * (scan.stride > 1))


def _normal(weight: np.ndarray) -> np.ndarray:
    return weight / weight.sum()


def _depth_range(draw: LesionDraw, radius: float, deepest: float) -> tuple[float, float]:
    """Allowed depth (mm) of the centre below the organ's surface."""
    tolerance = 0.12 * radius + 1.0
    if draw.exophytic is not None:
        wanted = radius * (1 - _cap_height(draw.exophytic))
        if draw.close:
            wanted = min(wanted, 0.5 * radius)
        wanted = min(wanted, 0.8 * deepest)
        return max(wanted - tolerance, 0.5), wanted + tolerance
    if draw.close:
        wanted = min(0.5 * radius, 0.8 * deepest)
        return max(wanted - tolerance, 0.5), wanted + tolerance
    if draw.lesion in BULGING:
        return min(0.8 * radius, 0.55 * deepest), np.inf
    if draw.lesion == "bone_metastasis":
        return min(0.72 * radius, 0.9 * deepest), np.inf
    return min(0.75 * radius + 0.5, 0.95 * deepest), np.inf


def _cap_height(fraction: float) -> float:
    """Height of a sphere's cap in radii that holds ``fraction`` (<= 0.5) of its volume: t²(3-t)/4 = fraction."""
    t = np.linspace(0, 1, 201)
    return float(np.interp(min(fraction, 0.5), t**2 * (3 - t) / 4, t))


def _ball(radius_mm: np.ndarray | float, spacing: np.ndarray, limit: int = 700) -> np.ndarray:
    """Voxel offsets (n, 3) of a ball (or ellipsoid with three radii), thinned to about ``limit`` points."""
    radius = np.broadcast_to(np.asarray(radius_mm, float), 3)
    step = np.maximum((np.prod(radius) * 4.2 / limit) ** (1 / 3) / spacing, 1.0)
    axes = [np.arange(0, r / s + 1e-6, t) for r, s, t in zip(radius, spacing, step)]
    axes = [np.concatenate([-a[:0:-1], a]) for a in axes]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    inside = (z * spacing[0] / radius[0]) ** 2 + (y * spacing[1] / radius[1]) ** 2 + (
        x * spacing[2] / radius[2]
    ) ** 2 <= 1
    return np.round(np.stack([z[inside], y[inside], x[inside]], axis=1)).astype(int)


def _look(scan: PreparedScan, index: np.ndarray, offsets: np.ndarray, key: str):
    """Labels around each index: (parent, other label, HU, inside the scan), each (n, offsets)."""
    points = index[:, None, :] + offsets[None, :, :]
    shape = np.array(scan.ct.array.shape)
    inside = ((points >= 0) & (points < shape)).all(-1)
    at = tuple(np.clip(points, 0, shape - 1).transpose(2, 0, 1))
    labels = scan.organs.labels.array[at]
    parent = (labels == taxonomy.organ(key).value) & inside
    other = (labels > 0) & ~parent
    if scan.organs.structures is not None:
        other |= (scan.structure_lut()[scan.organs.structures.array[at]] > 0) & ~parent
    return parent, other & inside, scan.ct.array[at], inside


def _near_lesions(scan: PreparedScan, index: np.ndarray, radius: float) -> np.ndarray:
    """True where a lesion of ``radius`` mm at ``index`` (n, 3) would come near one inserted before."""
    near = np.zeros(len(index), bool)
    for earlier in scan.lesions:
        centre = scan.ct.to_index(np.asarray(earlier.center_ras))
        gap = np.sqrt((((index - centre) * scan.spacing) ** 2).sum(1))
        near |= gap < radius + max(earlier.measurement.size_zxy_mm) / 2 + 6
    return near


def _penalties(scan, draw: LesionDraw, key: str, index: np.ndarray) -> np.ndarray:
    """0 = ideal, below 1 = allowed, from 1 on = not allowed, for each scan index (n, 3)."""
    half = np.asarray(draw.size_zyx_mm) / 2
    parent, other, hu, inside = _look(scan, index, _ball(half * 0.95, scan.spacing), key)
    outside = 1 - parent.mean(1)
    penalty = np.zeros(len(index))
    penalty += 2.0 * (inside.mean(1) < 0.999)
    not_lung = key != "lung"
    forbidden = (hu < _AIR_HU) & ~parent if not_lung else np.zeros_like(parent)
    penalty += 10 * forbidden.mean(1)
    level = scan.tissue_hu.get(key, 0.0)
    vessel = parent & (hu > level + 4 * scan.noise.sd_hu + 25)
    if key in ("liver", "pancreas"):
        penalty += 2.0 * vessel.mean(1)
    if draw.close:
        penalty += (
            np.where(outside < 0.06, 1.5, 0.0)
            + np.where(outside > 0.45, 1.5, 0.0)
            - 0.5 * np.minimum(other.mean(1), 0.2)
        )
    else:
        shell_parent, shell_other, _, _ = _look(scan, index, _ball(half + _CLEARANCE_MM, scan.spacing), key)
        bulging = draw.exophytic is not None or draw.lesion in BULGING
        if bulging:
            penalty += 12 * other.mean(1) + 4 * shell_other.mean(1)
            penalty += np.where(outside > 0.62, 1.5, 0.0)
        else:
            penalty += np.where(outside > 0.17, 1.5, 0.4 * outside) + (
                6 if not_lung and key != "bone" else 1.5
            ) * other.mean(1)
    penalty += 2.0 * _near_lesions(scan, index, draw.radius_mm)
    return penalty


def _click_is_free(scan, draw, key, geometry, click, low, high) -> bool:
    """Whether the lesion may sit exactly at the clicked point."""
    position = click / scan.stride - geometry.offset
    depth = float(ndimage.map_coordinates(geometry.depth_mm, position[:, None], order=1)[0])
    if not low - 1.0 <= depth <= high + 1.0:
        return False
    return bool(_penalties(scan, draw, key, np.round(click).astype(int)[None])[0] < 1.0)


def _dependent_site(scan, rng, draw: LesionDraw, geometry, click, prone: bool) -> Site:
    """The lowest place in the gallbladder's lumen where the stone fits."""
    need = draw.radius_mm * 1.02 + 0.8
    depth = geometry.depth_mm
    points = np.argwhere(depth >= need)
    if len(points) == 0:
        raise NoPlace(f"a stone of {2 * draw.radius_mm:.0f} mm does not fit into the gallbladder")
    index = _to_scan_index(scan, points + geometry.offset).astype(float)
    down = scan.toward(tuple(-c for c in POSTERIOR) if prone else POSTERIOR)
    height = (index * scan.spacing) @ down
    floats = draw.density_kind == "absolute" and draw.density_hu < scan.tissue_hu.get("bile", 8.0) - 40
    if floats:
        height = -height
    free = ~_near_lesions(scan, index, draw.radius_mm - 5)
    if not free.any():
        raise NoPlace("no free place in the gallbladder beside the stones that are there")
    if click is not None:
        gap = (((index - click) * scan.spacing) ** 2).sum(1)
        start = index[np.where(free, gap, np.inf).argmin()]
        column = free & (
            (np.delete((index - start) * scan.spacing, np.abs(down).argmax(), axis=1) ** 2).sum(1) < 3.0**2
        )
        free = column if column.any() else free
    lowest = np.quantile(height[free], 0.97) if free.sum() > 30 else height[free].max()
    chosen = np.flatnonzero(free & (height >= lowest - 1e-6))
    return Site(index[int(chosen[rng.integers(len(chosen))])])


def sinus(scan: PreparedScan) -> np.ndarray:
    """Depth (mm) below the kidney's closed outline where a stone may lie (collecting system or papilla), 0 elsewhere; kidney's box."""
    geometry = scan.organ_geometry("kidney")
    if geometry.sinus_mm is not None:
        return geometry.sinus_mm
    spacing = scan.spacing * scan.stride
    kidney = geometry.depth_mm > 0
    reach = 8.0
    pad = np.ceil(reach / spacing).astype(int) + 1
    padded = np.pad(kidney, [(p, p) for p in pad])
    grown = interior_distance(~padded, spacing) <= reach
    closed = interior_distance(grown, spacing) > reach
    closed = closed[tuple(slice(p, -p) for p in pad)] | kidney
    depth = interior_distance(closed, spacing)
    region = tuple(
        slice(int(o * s), int((o + n) * s), int(s)) for o, n, s in zip(geometry.offset, kidney.shape, scan.stride)
    )
    hu = scan.ct.array[region][tuple(slice(0, n) for n in kidney.shape)]
    hole = closed & ~kidney
    hole = hole[tuple(slice(0, n) for n in hu.shape)] & (hu > -45)
    near = np.zeros(kidney.shape, bool)
    near[tuple(slice(0, n) for n in hole.shape)] = hole
    near &= interior_distance(~kidney, spacing) < 5.0
    result = np.where(near, depth, 0).astype(np.float32)
    if (result > 6).sum() < 8:  # no visible collecting system: the deepest parenchyma
        result = np.where(depth > 0.75 * depth.max(), depth, 0).astype(np.float32)
    geometry.sinus_mm = result
    return result


def _calyx_site(scan, rng, draw: LesionDraw, geometry, click) -> Site:
    """A calyx or the renal pelvis; never the cortex."""
    depth = sinus(scan)
    points = np.argwhere(depth >= min(7.0, 0.9 * float(depth.max())))
    if len(points) == 0:
        raise NoPlace("no collecting system found in the kidneys")
    index = _to_scan_index(scan, points + geometry.offset).astype(float)
    free = ~_near_lesions(scan, index, draw.radius_mm - 4)
    if not free.any():
        raise NoPlace("no free place in the collecting system beside the stones that are there")
    if click is not None:
        gap = (((index - click) * scan.spacing) ** 2).sum(1)
        return Site(index[np.where(free, gap, np.inf).argmin()])
    weight = _weights(scan, "kidney", geometry, points, draw.site) * free
    weight = weight if weight.sum() > 0 else free.astype(float)
    return Site(index[rng.choice(len(points), p=_normal(weight))])


def _wall_site(scan, rng, draw: LesionDraw, geometry, key, click) -> Site:
    """A point of the organ's wall with free tissue outside, where the lumen has room for the lesion."""
    depth = geometry.depth_mm
    spacing = scan.spacing * scan.stride
    thin = float(spacing.max()) * 1.1
    points = np.argwhere((depth > 0) & (depth <= thin))
    if len(points) == 0:
        raise NoPlace(f"the {key} has no wall to work on")
    if click is not None:
        gap = (((_to_scan_index(scan, points + geometry.offset) - click) * scan.spacing) ** 2).sum(1)
        points = points[np.argsort(gap)[:60]]
    else:
        points = points[rng.integers(len(points), size=min(300, len(points)))]
        weight = _weights(scan, key, geometry, points, draw.site)
        points = points[rng.choice(len(points), size=min(40, len(points)), replace=False, p=_normal(weight))]
    index = _to_scan_index(scan, points + geometry.offset)
    reach = 0.5 * draw.wall.length_mm if draw.wall else draw.radius_mm
    local = _ball(min(max(reach, 6.0), 22.0), scan.spacing)
    parent, other, hu, inside = _look(scan, index, local, key)
    outward = _ball(3.0 + (0.3 * draw.wall.thickness_mm if draw.wall else 0.0), scan.spacing)
    _, close_other, close_hu, _ = _look(scan, index, outward, key)
    penalty = 2.0 * (inside.mean(1) < 0.97)
    touching = close_other.mean(1)
    if draw.close:
        penalty += np.where(touching < 0.08, 0.6, 0.0) - 0.5 * np.minimum(touching, 0.3)
    else:
        penalty += 3.0 * touching + 1.0 * other.mean(1)
    penalty += 2.0 * _near_lesions(scan, index, reach)
    if click is not None:
        penalty += 0.02 * np.arange(len(points))
    best = int(np.argmin(penalty + 0.05 * rng.random(len(penalty))))
    if penalty[best] >= 2.0:
        raise NoPlace(f"no free stretch of {key} wall for a lesion of {2 * reach:.0f} mm")
    offsets = local * scan.spacing
    inward = (offsets * parent[best][:, None]).sum(0)
    inward = inward / max(np.linalg.norm(inward), 1e-6)
    box = tuple(slice(max(int(c - 14 / s), 0), int(c + 14 / s) + 1) for c, s in zip(points[best], spacing))
    lumen = float(depth[box].max())
    along = _organ_axis(depth, points[best], spacing, lumen)
    return Site(index[best].astype(float), inward, along, lumen)


def _organ_axis(depth: np.ndarray, point: np.ndarray, spacing: np.ndarray, lumen: float) -> np.ndarray:
    """Local direction (z, y, x) of a tubular organ: main axis of its deeper voxels around ``point``."""
    box = tuple(slice(max(int(c - 28 / s), 0), int(c + 28 / s) + 1) for c, s in zip(point, spacing))
    inner = np.argwhere(depth[box] > 0.5 * lumen) * spacing
    if len(inner) < 8:
        return np.array([1.0, 0.0, 0.0])
    _, vectors = np.linalg.eigh(np.cov((inner - inner.mean(0)).T))
    return vectors[:, -1]
