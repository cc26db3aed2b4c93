"""What a lesion in a CT shows: size, shape, density, heterogeneity, surface and invasion, measured from image and masks.

Nothing here knows what was asked for, so the same function closes the loop of the generator and describes real lesions.
Every judgement has a dead zone: figures between two options are reported as ambiguous, never rounded to a label.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from .. import taxonomy
from .measure_edges import EdgeFit, fit_edge, is_thick, reference_edge_width
from .measure_noise import (
    TEXTURE_SIGMA_MM,
    noise_inflation,
    noise_levels,
    noise_power,
    noise_ratio,
    smooth_within,
)
from .measure_shape import ShapeFigures, bounding_box, shape_figures, signed_distance, size_zxy_mm, wall_figures
from .measure_tissue import REFERENCES, Regions, measuring_margin_mm, reference_level, regions, tissue_level
from .spec import Measurement

__all__ = [
    "REFERENCES",
    "Regions",
    "ScanReference",
    "measure",
    "noise_levels",
    "noise_power",
    "noise_ratio",
    "reference_edge_width",
    "regions",
    "tissue_level",
]

# Option strings of the paper's Extended Data Table 1.
ROUND, IRREGULAR, WALL, PUNCTATE = "Round-like", "Irregular", "Wall thickening", "Punctate, nodular"
HYPO, ISO, HYPER = "Hypodense", "Isodense", "Hyperdense"
HOMOGENEOUS, HETEROGENEOUS = "Homogeneous", "Heterogeneous"
WELL, ILL = "Well-defined margin", "Ill-defined margin"
APART = "No close relationship with surrounding structures"
CLOSE = "Close relationship with adjacent structures"

# Density (HU). 10 HU separates oesophageal cancer from wall; isoattenuating pancreatic cancers differ by 9 ± 4 HU
# (radiology literature); 10–15 HU is left as a dead zone.
ISO_HU = 10.0
STEP_HU = 15.0
# Heterogeneity (HU; fractions): texture of earlier generators gives 4–8 HU and reads homogeneous.
HOMOGENEOUS_HU = 5.0
HETEROGENEOUS_HU = 10.0
PART_STEP_HU = 15.0  # smallest step of a necrotic or calcified part
PART_FRACTION = (0.08, 0.60)
NO_PART_FRACTION = 0.05
PART_SEPARATION = 0.75  # between-class share of the variance: 0.64 for one normal class, 0.75 for a uniform one
MIN_CORE_VOXELS = 30
# Shape. Published limits (0.85 round, 0.82 irregular) are for the area of a voxel mesh, on which a ball reads 0.92; here a
# ball reads 1, so they are divided by 0.92. The dead zone between keeps the classes apart; solidity 1 is convex.
ROUND_SPHERICITY, ROUND_AXES = 0.92, 0.60
IRREGULAR_SPHERICITY, IRREGULAR_SOLIDITY = 0.89, 0.90
PUNCTATE_MM = 10.0
MIN_SHAPE_VOXELS = 16
# Wall thickening: along the wall ≥ 1.5 × thickness; the lesion hugs the outer surface and leaves a lumen.
WALL_ELONGATION = 1.5
WALL_DEPTH_SHARE = 0.75
WALL_AXES, WALL_SOLIDITY = 0.67, 0.85
LUMEN_CONTACT, LUMEN_ENCLOSED = 0.28, 0.02
# Surface: 10–90 % width relative to a sharp edge of the same scan (margin sharpness, Xu and Napel 2012), roughness mm.
WELL_RATIO, ILL_RATIO = 1.5, 2.2
ILL_ROUGHNESS_MM = 1.5
MIN_EDGE_CONTRAST_HU = 8.0
MIN_EDGE_CONTRAST_TO_NOISE = 0.7
MIN_EDGE_STRENGTH = 120.0  # variance explained over noise, times independent samples
MIN_EDGE_DEPTH_MM = 2.0  # half the lesion's thickness …
MIN_EDGE_DEPTH_VOXELS = 2.2  # … also in voxels
# Invasion.
CLOSE_OVERLAP = 0.01
CLOSE_CONTACT_MM2 = 50.0
CONTACT_MM = 1.5
CLOSE_OUTSIDE = 0.03
APART_GAP_MM = 2.0

# Lesion types whose vocabulary holds "Punctate, nodular"; wall thickening belongs to malignant lesions of hollow organs.
_PUNCTATE_TYPES = frozenset({"lung_tumor", "bone_metastasis", "gallstone", "kidney_stone"})
_STONES = frozenset({"gallstone", "kidney_stone"})

_MANY_VOXELS = 700_000  # larger regions are subsampled …
_COARSE_MM = 1.7  # … to at most this voxel size
_NOISE_VOXELS = 120_000  # enough for a ratio of noise


@dataclass(frozen=True)
class ScanReference:
    """Properties of the scan that judgements are relative to.

    ``edge_width_mm`` 10–90 % width of sharp edges in plane; ``noise_sd_hu`` SD of image − Gaussian(σ 1.5 mm) and
    ``smoothed_sd_hu`` SD of the image smoothed by Gaussian(σ 2 mm), both in homogeneous soft tissue near the lesion;
    ``tissue_hu`` fall-back levels by name ("wall", "liver", "bile", "lung", "bone", "soft_tissue", organ keys).
    """

    edge_width_mm: float
    noise_sd_hu: float
    smoothed_sd_hu: float
    tissue_hu: dict[str, float] = field(default_factory=dict)


@dataclass
class _Sheet:
    """What the judgements write to."""

    values: dict[str, str] = field(default_factory=dict)
    ambiguous: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def judge(self, attribute: str, value: str | None, reason: str) -> None:
        """Set the option, or mark the attribute as ambiguous with the figure that lies between options."""
        if value is None:
            self.ambiguous.append(attribute)
            self.reasons[attribute] = reason
        else:
            self.values[attribute] = value


def default_shapes(lesion_key: str) -> tuple[str, ...]:
    """Shape options of a lesion type: wall thickening for cancers of hollow organs, punctate for stones, lung, bone."""
    lesion = taxonomy.lesion(lesion_key)
    shapes = [ROUND, IRREGULAR]
    if lesion.malignant and taxonomy.organ(lesion.organ).hollow:
        shapes.append(WALL)
    if lesion_key in _PUNCTATE_TYPES:
        shapes.append(PUNCTATE)
    return tuple(shapes)


def measure(
    lesion_key: str,
    image: np.ndarray,
    label: np.ndarray,
    parent: np.ndarray,
    others: np.ndarray,
    spacing_zyx,
    scan: ScanReference,
    reference: str = "parenchyma",
    sharp_label: bool = True,
    *,
    allowed_shapes: tuple[str, ...] | None = None,
    allowed_outside: np.ndarray | None = None,
    infiltrative: bool | None = None,
) -> Measurement:
    """Measure one lesion.

    ``image`` float32 HU, region of interest (z, y, x) with 12 mm or more round the lesion where the scan allows;
    ``label`` lesion, ``parent`` healthy parent organ (with or without the lesion's voxels), bool; ``others`` uint8,
    nonzero = another structure (1–10 PASTA organs, 11 and more anything else); ``spacing_zyx`` mm. ``reference`` names
    the tissue that density is relative to (``REFERENCES``). ``sharp_label=False`` is for masks drawn by hand or by a
    network: edges may lie farther off and the mask's own roughness does not count. ``allowed_shapes`` default to
    ``default_shapes(lesion_key)``; growth into ``allowed_outside`` (bool) is not invasion; growth out of the organ
    counts as invasion for ``infiltrative`` lesions (default: malignant types).

    Raises ValueError for an empty label or arrays of different shapes, KeyError for an unknown lesion type.
    """
    lesion = taxonomy.lesion(lesion_key)
    shapes = {a.shape for a in (image, label, parent, others)}
    if len(shapes) != 1:
        raise ValueError(f"image, label, parent and others must have one shape; found {sorted(shapes)}")
    label = np.asarray(label, bool)
    spacing = tuple(float(s) for s in spacing_zyx)
    box = bounding_box(label, spacing, measuring_margin_mm(reference))
    full_label = label[box]
    sheet = _Sheet()
    view = _View.of(image, label, parent, others, allowed_outside, spacing, box)
    shape = shape_figures(view.label, view.spacing)

    edge = _surface(sheet, view, scan, shape, lesion, sharp_label)
    depth = None
    if taxonomy.organ(lesion.organ).hollow:
        depth = -signed_distance(view.parent | view.label, view.spacing)
    _shape(sheet, view, shape, depth, allowed_shapes or default_shapes(lesion_key))
    wide = edge.width_mm - scan.edge_width_mm if np.isfinite(edge.width_mm) else 0.0
    zones = regions(
        view.label,
        view.parent,
        view.others,
        view.spacing,
        reference,
        view.image,
        distance=view.distance,
        edge_width_mm=edge.width_mm if wide > 0.5 * scan.edge_width_mm else 0.0,
        organ_depth=depth,
    )
    part = _heterogeneity(sheet, view, zones, scan)
    _density(sheet, view, zones, part, scan, lesion, reference)
    _invasion(sheet, view, shape, lesion.malignant if infiltrative is None else infiltrative, lesion.key in _STONES)
    return Measurement(
        size_zxy_mm=size_zxy_mm(full_label, spacing),
        values=sheet.values,
        ambiguous=tuple(sheet.ambiguous),
        figures=sheet.figures,
        reasons=sheet.reasons,
    )


@dataclass
class _View:
    """The neighbourhood of the lesion, subsampled where it is large, with the signed distance to the lesion.

    ``image`` holds single voxels (edges keep their width), ``calm`` block means (noise and texture keep theirs).
    """

    image: np.ndarray
    calm: np.ndarray
    label: np.ndarray
    parent: np.ndarray
    others: np.ndarray
    allowed: np.ndarray | None
    spacing: tuple[float, float, float]
    distance: np.ndarray

    @classmethod
    def of(cls, image, label, parent, others, allowed, spacing, box) -> _View:
        shape = [s.stop - s.start for s in box]
        steps = [1, 1, 1]
        if np.prod(shape) > _MANY_VOXELS:
            steps = [max(1, int(_COARSE_MM / h)) for h in spacing]
        cut = tuple(slice(s.start, s.stop, k) for s, k in zip(box, steps))
        thin = [np.ascontiguousarray(a[cut]) for a in (label, np.asarray(parent, bool), others)]
        fine = np.ascontiguousarray(image[cut], np.float32)
        calm = fine if steps == [1, 1, 1] else _block_mean(image[box], steps, fine)
        coarse = tuple(h * k for h, k in zip(spacing, steps))
        allowed = None if allowed is None else np.asarray(allowed[cut], bool)
        return cls(fine, calm, *thin, allowed, coarse, signed_distance(thin[0], coarse))


def _block_mean(image: np.ndarray, steps: list[int], fine: np.ndarray) -> np.ndarray:
    """Means of blocks of ``steps`` voxels; incomplete blocks at the end keep their first voxel (``fine``)."""
    whole = [n // k for n, k in zip(image.shape, steps)]
    cut = image[tuple(slice(0, n * k) for n, k in zip(whole, steps))]
    out = fine.copy()
    total = np.zeros(whole, np.float32)
    for a in range(steps[0]):
        for b in range(steps[1]):
            for c in range(steps[2]):
                total += cut[a :: steps[0], b :: steps[1], c :: steps[2]]
    out[tuple(slice(0, n) for n in whole)] = total / np.float32(np.prod(steps))
    return out


def _shape(sheet: _Sheet, view: _View, shape: ShapeFigures, depth, allowed) -> None:
    figures = sheet.figures
    figures.update(
        volume_mm3=shape.volume_mm3,
        shape_area_mm2=shape.area_mm2,
        sphericity=shape.sphericity,
        solidity=shape.solidity,
        axis_ratio=shape.axis_ratio,
        major_axis_mm=shape.major_mm,
        middle_axis_mm=shape.middle_mm,
        minor_axis_mm=shape.minor_mm,
        thickness_mm=2.0 * float(-view.distance[view.label].min()) if view.label.any() else float("nan"),
    )
    if depth is not None and WALL in allowed and view.label.any():
        wall = wall_figures(view.label, view.parent, view.distance, depth, shape.major_mm)
        figures.update(
            wall_depth_mm=wall.depth_mm,
            wall_elongation=wall.elongation,
            lumen_contact_fraction=wall.lumen_contact,
            lumen_enclosed_fraction=wall.lumen_enclosed,
        )
        lumen = wall.lumen_contact >= LUMEN_CONTACT or wall.lumen_enclosed >= LUMEN_ENCLOSED
        hugging = wall.depth_mm <= WALL_DEPTH_SHARE * wall.thickness_mm
        # a compact ball on the wall is a polyp, however far it reaches along it
        flat = shape.axis_ratio <= WALL_AXES or shape.solidity <= WALL_SOLIDITY or wall.lumen_enclosed >= LUMEN_ENCLOSED
        if lumen and hugging and flat and wall.elongation >= WALL_ELONGATION:
            sheet.values["shape"] = WALL
            return
    if PUNCTATE in allowed and shape.major_mm <= PUNCTATE_MM:
        sheet.values["shape"] = PUNCTATE
        return
    if np.count_nonzero(view.label) < MIN_SHAPE_VOXELS:
        sheet.reasons["shape"] = f"fewer than {MIN_SHAPE_VOXELS} voxels"
        return
    jagged = shape.sphericity <= IRREGULAR_SPHERICITY or shape.solidity <= IRREGULAR_SOLIDITY
    if IRREGULAR in allowed and jagged:
        value = IRREGULAR
    elif ROUND in allowed and shape.sphericity >= ROUND_SPHERICITY and shape.axis_ratio >= ROUND_AXES and not jagged:
        value = ROUND
    else:
        value = None
    sheet.judge(
        "shape",
        value,
        f"sphericity {shape.sphericity:.2f}, solidity {shape.solidity:.2f}, axis ratio {shape.axis_ratio:.2f} "
        "lie between the shapes",
    )


def _surface(sheet: _Sheet, view: _View, scan: ScanReference, shape: ShapeFigures, lesion, sharp_label) -> EdgeFit:
    hollow = taxonomy.organ(lesion.organ).hollow and lesion.malignant
    outside = _outside_classes(view)
    fit = fit_edge(
        view.image,
        view.label,
        outside,
        view.spacing,
        max_offset_mm=2.0 if sharp_label else 4.0,
        patch_offset_mm=0.2 if sharp_label else 1.2,
        prefer=2 if hollow else 0,
        distance=view.distance,
    )
    figures = sheet.figures
    reference = max(scan.edge_width_mm, 0.5 * float(np.mean(view.spacing[1:])))
    figures.update(
        edge_width_mm=fit.width_mm,
        edge_ratio=fit.width_mm / reference,
        edge_offset_mm=fit.offset_mm,  # edge in the image relative to the mask's surface, outwards positive
        edge_contrast_hu=fit.contrast_hu,
        edge_patches=float(fit.patches),
        edge_spread_mm=fit.spread_mm,
        edge_strength=fit.strength,
        roughness_mm=shape.roughness_mm,
    )
    rough = sharp_label and shape.roughness_mm >= ILL_ROUGHNESS_MM
    thin = 2.0 * float(-view.distance[view.label].min()) if view.label.any() else 0.0
    reason = fit.reason
    if not reason and thin < 2 * max(MIN_EDGE_DEPTH_MM, MIN_EDGE_DEPTH_VOXELS * min(view.spacing[1:])):
        reason = f"the lesion is too thin ({thin:.1f} mm) for an edge profile"
    lowest = max(MIN_EDGE_CONTRAST_HU, MIN_EDGE_CONTRAST_TO_NOISE * scan.noise_sd_hu)
    if not reason and (abs(fit.contrast_hu) < lowest or fit.strength < MIN_EDGE_STRENGTH):
        reason = f"the contrast at the edge ({fit.contrast_hu:.0f} HU) is too low against the noise"
    if reason and not rough:
        sheet.reasons["surface"] = reason
        return fit
    ratio = figures["edge_ratio"]
    if rough or (not reason and ratio >= ILL_RATIO):
        value = ILL
    elif ratio <= WELL_RATIO:
        value = WELL
    else:
        value = None
    sheet.judge("surface", value, f"the edge is {ratio:.2f} × as wide as sharp edges of this scan")
    return fit


def _outside_classes(view: _View) -> np.ndarray:
    """Samples beyond the lesion: 1 parent organ, 2 unlabelled tissue, 0 not usable (others, gas, organ surfaces)."""
    organ = view.parent | view.label
    free = ~organ & (view.others == 0) & (view.image > -300)
    beyond = ~(organ & (view.others == 0))
    kinds = np.zeros(view.label.shape, np.uint8)
    kinds[view.parent & (view.others == 0)] = 1
    kinds[free] = 2
    # One voxel of partial volume on either side of a surface that is not the lesion's own.
    foreign_to_organ = _grow(beyond, view.spacing)
    foreign_to_free = _grow((view.parent & ~view.label) | (view.others > 0), view.spacing)
    kinds[(kinds == 1) & foreign_to_organ & ~view.label] = 0
    kinds[(kinds == 2) & foreign_to_free] = 0
    kinds[view.label] = 0
    return kinds


def _grow(mask: np.ndarray, spacing) -> np.ndarray:
    """``mask`` grown by one voxel along each axis (within slices only when they are thick)."""
    out = mask.copy()
    for axis in (1, 2) if is_thick(spacing) else (0, 1, 2):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        low, high = tuple(low), tuple(high)
        out[low] |= mask[high]
        out[high] |= mask[low]
    return out


def _heterogeneity(sheet: _Sheet, view: _View, zones: Regions, scan: ScanReference) -> np.ndarray | None:
    """Judge heterogeneity; returns the necrotic or calcified part of the core (bool) if there is one."""
    figures = sheet.figures
    number = np.count_nonzero(zones.core)
    figures["core_voxels"] = float(number)
    if number < MIN_CORE_VOXELS:
        sheet.reasons["heterogeneity"] = f"the core has {number} voxels; {MIN_CORE_VOXELS} are needed"
        return None
    box = bounding_box(zones.core)
    calm, core = view.calm[box], zones.core[box]
    texture, weight = smooth_within(calm, core, view.spacing, TEXTURE_SIGMA_MM)
    values = texture[core].astype(float)
    variance = scan.smoothed_sd_hu**2 * noise_inflation(core, weight, view.spacing, TEXTURE_SIGMA_MM)
    blobs = max(
        1.5, number * float(np.prod(view.spacing)) / (2 * np.sqrt(np.pi) * np.hypot(TEXTURE_SIGMA_MM, 1.0)) ** 3
    )
    chance = variance * np.sqrt(2.0 / blobs)  # how far the noise alone may carry the variance
    square = float(values.var()) - variance
    excess = float(np.sqrt(max(0.0, square)))
    figures["heterogeneity_excess_hu"] = excess
    figures["heterogeneity_sd_hu"] = float(values.std())
    figures["noise_ratio"] = _noise_ratio(view, zones)
    fraction, step, dark = _two_parts(values, view.distance[box][core], np.sqrt(variance))
    if fraction > 0:  # smoothing mixes the parts: take the step between their own levels
        raw = calm[core]
        step = float(np.median(raw[dark]) - np.median(raw[~dark]))
    figures["part_fraction"] = fraction
    figures["part_step_hu"] = step
    has_part = PART_FRACTION[0] <= fraction <= PART_FRACTION[1] and abs(step) >= PART_STEP_HU
    if has_part or square >= HETEROGENEOUS_HU**2 + chance:
        value = HETEROGENEOUS
    elif square <= HOMOGENEOUS_HU**2 + chance and fraction < NO_PART_FRACTION:
        value = HOMOGENEOUS
    else:
        value = None
    sheet.judge(
        "heterogeneity", value, f"texture of {excess:.1f} HU, part of {100 * fraction:.0f} % lies between options"
    )
    if fraction < 0.02:
        return None
    part = np.zeros(view.label.shape, bool)
    part[box][core] = dark
    return part


def _noise_ratio(view: _View, zones: Regions) -> float:
    """Noise of the core over that of the shell, on slices round the middle where the region is large."""
    box = bounding_box(zones.core | (zones.shell & (view.distance <= 14.0)))
    height = max(3, int(_NOISE_VOXELS / max(1, (box[1].stop - box[1].start) * (box[2].stop - box[2].start))))
    middle = (box[0].start + box[0].stop) // 2
    box = (slice(max(box[0].start, middle - height // 2), min(box[0].stop, middle + height // 2 + 1)), *box[1:])
    return noise_ratio(view.calm[box], zones.core[box], zones.shell[box], view.spacing)


def _two_parts(values: np.ndarray, distance: np.ndarray, noise: float) -> tuple[float, float, np.ndarray]:
    """Otsu split of the smoothed core: (fraction, step HU, members) of the necrotic or calcified part."""
    low, high = np.percentile(values, (0.5, 99.5))
    none = (0.0, 0.0, np.zeros(values.shape, bool))
    if high - low < PART_STEP_HU:
        return none
    counts, edges = np.histogram(np.clip(values, low, high), bins=96)
    centres = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)[:-1].astype(float)
    above = values.size - below
    sums = np.cumsum(counts * centres)
    mean_low = sums[:-1] / np.maximum(below, 1)
    mean_high = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * (mean_high - mean_low) ** 2 / values.size**2
    cut = int(between.argmax())
    step = float(mean_high[cut] - mean_low[cut])
    separation = float(between[cut] / max(values.var(), 1e-6))
    if separation < PART_SEPARATION or step < max(PART_STEP_HU, 3.0 * noise):
        return none
    dark = values <= edges[cut + 1]
    share = float(dark.mean())
    central = distance[dark].mean() < distance[~dark].mean()
    if share <= PART_FRACTION[1] and (central or share <= 0.5):
        return share, -step, dark
    return 1.0 - share, step, ~dark


def _density(sheet: _Sheet, view: _View, zones: Regions, part, scan: ScanReference, lesion, reference: str) -> None:
    figures = sheet.figures
    level, number = reference_level(view.image, zones.shell, reference, lesion.organ, scan.tissue_hu)
    figures["reference_hu"] = level
    figures["reference_voxels"] = float(number)
    core = zones.core
    if part is not None and np.count_nonzero(core & ~part) >= 20:
        core = core & ~part
    inside = view.image[core]
    tiny = np.count_nonzero(view.label) < 60 or np.count_nonzero(zones.core) < 12
    if lesion.key in _STONES and tiny:
        values = view.image[view.label]
        high, low = (
            (float(np.percentile(values, q)) for q in (90, 10)) if values.size >= 8 else (values.max(), values.min())
        )
        value = high if not np.isfinite(level) or abs(high - level) >= abs(low - level) else low
    else:
        value = float(np.median(inside))
    figures["lesion_hu"] = float(value)
    delta = float(value) - level
    figures["density_delta_hu"] = delta
    if not np.isfinite(delta):
        sheet.reasons["density"] = "no reference tissue near the lesion and no fall-back level"
        return
    if delta <= -STEP_HU:
        option = HYPO
    elif delta >= STEP_HU:
        option = HYPER
    elif abs(delta) <= ISO_HU:
        option = ISO
    else:
        option = None
    sheet.judge("density", option, f"difference of {delta:.1f} HU lies between {ISO_HU:.0f} and {STEP_HU:.0f}")


def _invasion(sheet: _Sheet, view: _View, shape: ShapeFigures, infiltrative: bool, enclosed: bool) -> None:
    """Judge invasion; ``enclosed`` lesions (stones) have their organ's wall between them and anything near."""
    label, other, spacing = view.label, view.others > 0, np.asarray(view.spacing)
    total = max(1, np.count_nonzero(label))
    overlap = np.count_nonzero(label & other) / total
    beyond = other & ~label
    # distances are to voxel centres; half a voxel on the way to the other structure's surface
    gap = np.inf
    if overlap > 0:
        gap = 0.0
    elif beyond.any():
        gap = _gap(label, beyond, view.distance, spacing)
    contact = _contact_area(label, beyond, view.distance, spacing) * shape.face_factor if gap <= CONTACT_MM else 0.0
    out = label & ~view.parent & ~other
    if np.count_nonzero(label & view.parent) < 0.05 * total:  # the organ mask leaves the lesion out
        out = _outside_of_carved(label, view.parent, spacing)
    if view.allowed is not None:
        out = out & ~view.allowed
    outside = np.count_nonzero(out) / total
    sheet.figures.update(
        overlap_fraction=float(overlap),
        overlap_voxels=float(np.count_nonzero(label & other)),
        gap_mm=float(gap) if np.isfinite(gap) else 99.0,
        contact_area_mm2=float(contact),
        outside_fraction=float(outside),
    )
    grown_out = infiltrative and outside >= CLOSE_OUTSIDE
    if overlap >= CLOSE_OVERLAP or contact >= CLOSE_CONTACT_MM2 or grown_out:
        value = CLOSE
    elif overlap == 0 and (gap >= APART_GAP_MM - 1e-3 or (enclosed and outside == 0)):
        value = APART
    else:
        value = None
    sheet.judge("invasion", value, f"gap {gap:.1f} mm, contact {contact:.0f} mm², overlap {100 * overlap:.1f} %")


def _gap(label, beyond, distance, spacing) -> float:
    """Smallest empty distance (mm) between lesion and other structures; 0 where they touch."""
    near = np.argwhere(beyond & (distance <= distance[beyond].min() + float(spacing.max())))
    rim = np.argwhere(label & (distance > -float(spacing.max())))
    if len(near) > 4000:
        near = near[np.argsort(distance[tuple(near.T)])[:4000]]
    tree = cKDTree(rim * spacing)
    lengths, which = tree.query(near * spacing)
    steps = np.abs(near - rim[which])
    empty = np.linalg.norm(np.maximum(steps - 1, 0) * spacing, axis=1)
    return float(empty.min())


def _contact_area(label, beyond, distance, spacing) -> float:
    """Area (mm²) of lesion voxel faces with another structure's voxel surface within 1.5 mm."""
    near = np.argwhere(beyond & (distance <= CONTACT_MM + float(spacing.max())))
    if len(near) == 0:
        return 0.0
    tree = cKDTree(near * spacing)
    area = 0.0
    for axis in range(3):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        low, high = tuple(low), tuple(high)
        faces = np.argwhere(label[low] != label[high]).astype(float)
        if len(faces) == 0:
            continue
        faces[:, axis] += 0.5
        reach = CONTACT_MM + 0.5 * float(spacing[axis])
        lengths, _ = tree.query(faces * spacing, distance_upper_bound=reach + 1e-6)
        area += np.count_nonzero(np.isfinite(lengths)) * float(np.prod(np.delete(spacing, axis)))
    return area


def _outside_of_carved(label, parent, spacing) -> np.ndarray:
    """Lesion voxels whose nearest healthy voxel is not of the organ, for organ masks that leave the lesion out."""
    from scipy import ndimage

    box = bounding_box(label, spacing, 3.0)
    nearest = ndimage.distance_transform_edt(label[box], sampling=spacing, return_distances=False, return_indices=True)
    out = np.zeros(label.shape, bool)
    out[box] = label[box] & ~parent[box][tuple(nearest)]
    return out
