"""Measures a lesion again as a stranger would: from the CT after insertion (whole HU), its mask and the organ map alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from PASTALib import attributes, taxonomy
from PASTALib.synthesis.distance import interior_distance
from PASTALib.synthesis.draw import allowed_options
from PASTALib.synthesis.measure_tissue import Regions, regions
from PASTALib.synthesis.measurement import measure
from PASTALib.synthesis.priors import load_priors
from PASTALib.synthesis.scan import PreparedScan
from PASTALib.synthesis.spec import Measurement, SynthesisResult

MARGIN_MM = 30.0
MEASURED = ("shape", "density", "heterogeneity", "surface", "invasion")
CORTEX_MM = 5.0  # stones lie at least this deep below the kidney's closed outline
_EVERYWHERE = np.ones((3, 3, 3), bool)


@dataclass
class Reading:
    """A lesion as found on disk: ``image`` (int16 HU as float32) and ``host`` (before), masks, all on ``region`` of the scan."""

    region: tuple[slice, slice, slice]
    image: np.ndarray
    host: np.ndarray
    label: np.ndarray
    parent: np.ndarray
    others: np.ndarray
    local_noise: float
    zones: Regions
    measured: Measurement


def read_back(scan: PreparedScan, result: SynthesisResult) -> Reading:
    """Cut the lesion out of the scan with a margin of its own (not the generator's region) and measure it."""
    spacing = scan.spacing
    index = np.argwhere(result.label) + [s.start for s in result.region]
    low = np.maximum(index.min(0) - np.ceil(MARGIN_MM / spacing).astype(int), 0)
    high = np.minimum(index.max(0) + 1 + np.ceil(MARGIN_MM / spacing).astype(int), scan.ct.array.shape)
    region = tuple(slice(int(a), int(b)) for a, b in zip(low, high))
    key = taxonomy.lesion(result.request.lesion).organ
    host = scan.ct.array[region].astype(np.float32)
    written = np.clip(np.rint(result.after), -32768, 32767).astype(np.int16)
    image = paste(host, region, written, result.region)
    label = paste(np.zeros(host.shape, bool), region, result.label, result.region)
    parent, others = scan.parent_and_others(region, key, index.mean(0))
    factor = scan.local_noise(index.mean(0))
    reference = result.parameters["reference_tissue"]
    measured = measure(
        result.request.lesion,
        image,
        label,
        parent,
        others,
        spacing,
        scan.reference(factor * scan.noise.high_pass_sd_hu),
        reference,
        allowed_shapes=allowed_options(result.request.lesion)["shape"],
        allowed_outside=(others == 0) & ~parent if result.parameters["bulges"] else None,
    )
    width = measured.figures.get("edge_width_mm", float("nan"))
    wide = width if np.isfinite(width) and width > 1.5 * scan.edge_width_mm else 0.0
    zones = regions(label, parent, others, spacing, reference, image, edge_width_mm=wide)
    return Reading(region, image, host, label, parent, others, factor, zones, measured)


def paste(base: np.ndarray, base_region, patch: np.ndarray, patch_region) -> np.ndarray:
    """``base`` with ``patch`` in it where the two regions of one scan overlap; a copy."""
    out = base.copy()
    common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(base_region, patch_region)]
    here = tuple(slice(lo - a.start, hi - a.start) for (lo, hi), a in zip(common, base_region))
    there = tuple(slice(lo - b.start, hi - b.start) for (lo, hi), b in zip(common, patch_region))
    out[here] = patch[there]
    return out


def attribute_checks(scan: PreparedScan, result: SynthesisResult, reading: Reading) -> dict[str, bool | None]:
    """True, False or None (not measurable) per attribute: does the report say what the image shows?"""
    report, measured = result.report, reading.measured
    out: dict[str, bool | None] = {"enhancement": report.value("enhancement") == phase_of(scan)}
    reach = (
        8.0 if result.request.lesion == "kidney_stone" else 0.0
    )  # maps of the kidney leave the collecting system out
    near = ndimage.distance_transform_edt(~reading.parent, sampling=scan.spacing)[reading.label].min() <= max(
        reach, scan.spacing.max()
    )
    out["location"] = (
        bool(near) and report.location == taxonomy.organ(taxonomy.lesion(result.request.lesion).organ).location
    )
    index = np.argwhere(reading.label)
    z, y, x = (np.ptp(index, axis=0) + 1) * scan.spacing
    out["size"] = bool(np.abs(np.array(attributes.parse_size(report.value("size"))) - (z, x, y)).max() <= 1.0)
    for key in MEASURED:
        if key in measured.ambiguous:
            out[key] = False
        elif key not in measured.values:
            out[key] = None
        else:
            out[key] = report.value(key) == measured.values[key]
    return out


def phase_of(scan: PreparedScan) -> str:
    """The paper's rule: mean HU of aorta and inferior vena cava both below 80 = plain. The scan's own phase without vessels."""
    if scan.organs.structures is None:
        return scan.phase
    levels = []
    for value, name in scan.organs.structure_names.items():
        if name in ("aorta", "inferior_vena_cava"):
            levels.append(float(scan.ct.array[scan.organs.structures.array == value].mean()))
    if not levels:
        return scan.phase
    return taxonomy.PLAIN if max(levels) < 80 else taxonomy.ENHANCED


def geometry_checks(scan: PreparedScan, result: SynthesisResult, reading: Reading) -> dict[str, bool]:
    """Geometry of the written mask by name of the check; only those that apply to the lesion."""
    lesion = taxonomy.lesion(result.request.lesion)
    label, spacing = reading.label, scan.spacing
    out = {"inside region": _inside_region(scan, result)}
    if not result.parameters["satellites"]:
        out["one piece"] = ndimage.label(label, _EVERYWHERE)[1] == 1
    if not lesion.malignant:
        out["touches no other organ"] = not bool((label & (reading.others > 0)).any())
    if not result.parameters["bulges"] and result.report.value("invasion") != attributes.options("invasion")[1]:
        out["inside organ"] = np.count_nonzero(label & ~reading.parent) <= 0.03 * np.count_nonzero(label)
    if result.request.size_mm is not None and result.parameters["survived"] > 0.985:
        wanted = np.asarray(result.request.size_mm)
        index = np.argwhere(label)
        got = ((np.ptp(index, axis=0) + 1) * spacing)[[0, 2, 1]]
        out["size as asked"] = bool(
            (np.abs(got - wanted) <= np.maximum(spacing[[0, 2, 1]], 0.05 * wanted) + 1e-6).all()
        )
    if lesion.key == "gallstone":
        out["in lumen"] = not bool((label & ~reading.parent).any())
        out["dependent"] = _dependent(scan, result, reading)
    if lesion.key == "kidney_stone":
        out["collecting system"] = _deep_in_kidney(scan, reading)
    if result.report.value("shape") == "Wall thickening":
        out["lumen left"] = _lumen_left(reading, spacing)
    low, high = load_priors()[lesion.key].hu_limits
    noise = (
        scan.noise.high_pass_sd_hu * reading.local_noise / np.sqrt(max(np.count_nonzero(reading.zones.core) / 4.0, 1.0))
    )
    level = reading.measured.figures.get("lesion_hu", float("nan"))
    resolved = np.prod(reading.measured.size_zxy_mm) ** (1 / 3) > 4.4 * float(np.max(spacing))
    if np.isfinite(level) and resolved:  # a smaller lesion is mostly partial volume
        out["HU in limits"] = bool(low - 2 * noise - 0.5 <= level <= high + 2 * noise + 0.5)
    return out


def _inside_region(scan: PreparedScan, result: SynthesisResult) -> bool:
    """The mask ends inside its region, unless the scan ends there too."""
    for axis, part in enumerate(result.region):
        planes = result.label.any(axis=tuple(i for i in range(3) if i != axis))
        if (planes[0] and part.start > 0) or (planes[-1] and part.stop < scan.ct.array.shape[axis]):
            return False
    return True


def _dependent(scan: PreparedScan, result: SynthesisResult, reading: Reading) -> bool:
    """The stone's centre lies in the dependent third of the places of the lumen where a stone of its size fits. Light stones float."""
    down = scan.toward((0.0, 1.0, 0.0) if result.request.prone else (0.0, -1.0, 0.0))
    value = taxonomy.organ("gallbladder").value
    box = ndimage.find_objects(scan.organs.labels.array, max_label=value)[value - 1]
    depth = interior_distance(np.pad(scan.organs.labels.array[box] == value, 1), scan.spacing)[1:-1, 1:-1, 1:-1]
    volume = np.count_nonzero(reading.label) * float(np.prod(scan.spacing))
    radius = (3 * volume / (4 * np.pi)) ** (1 / 3)
    fits = depth >= min(radius, 0.9 * float(depth.max()))
    height = ((np.argwhere(fits) + [s.start for s in box]) * scan.spacing) @ down
    stone = ((np.argwhere(reading.label) + [s.start for s in reading.region]) * scan.spacing) @ down
    if result.parameters["level_hu"] < scan.tissue_hu.get("bile", 8.0) - 40:
        height, stone = -height, -stone
    floor = float(height.max())
    return bool(floor - float(stone.mean()) <= np.ptp(height) / 3.0 + float(scan.spacing.max()))


def _deep_in_kidney(scan: PreparedScan, reading: Reading) -> bool:
    """The stone's centre is well below the outline of the kidney with its sinus filled."""
    scale = scan.spacing / 2.0
    kidney = (
        ndimage.zoom(
            (reading.parent | reading.label).astype(np.float32), scale, order=1, grid_mode=True, mode="nearest"
        )
        > 0.5
    )
    pad = 8
    padded = np.pad(kidney, pad)
    spacing = np.array(reading.parent.shape) / np.array(kidney.shape) * scan.spacing
    grown = interior_distance(~padded, spacing) <= 12.0
    closed = interior_distance(grown, spacing) > 12.0
    depth = interior_distance(closed | padded, spacing)
    centre = (np.argwhere(reading.label).mean(0) + 0.5) * scale - 0.5 + pad
    at = tuple(np.clip(np.round(centre).astype(int), 0, np.array(depth.shape) - 1))
    return bool(depth[at] >= CORTEX_MM)


def _lumen_left(reading: Reading, spacing) -> bool:
    """Organ that is not lesion lies within 3 mm of the lesion, deeper than 2 mm below the organ's outer surface, beside at least 5 %
    of the lesion's surface or in a volume of at least 30 mm³."""
    rest = reading.parent & ~reading.label
    near = ndimage.distance_transform_edt(~reading.label, sampling=spacing) <= 3.0
    deep = interior_distance(np.pad(reading.parent | reading.label, 1), spacing)[1:-1, 1:-1, 1:-1] >= 2.0
    return bool(np.count_nonzero(rest & near & deep) * float(np.prod(spacing)) >= 30.0)
