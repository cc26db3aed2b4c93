"""Realism of one inserted lesion: noise, spectrum, seams, and what changed where it should not have."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from PASTALib.synthesis.measure_noise import noise_power, noise_sd
from PASTALib.synthesis.noise import in_plane_slope
from PASTALib.synthesis.scan import PreparedScan
from PASTALib.synthesis.spec import SynthesisResult

from .recheck import Reading, paste

LEAST_CORE = 100  # voxels for a ratio of noise; the spectrum needs 200 by itself
LARGEST_PATCH_MM = 40.0
SAME_TISSUE = ("parenchyma",)


def texture_figures(scan: PreparedScan, result: SynthesisResult, reading: Reading, seed: int) -> dict:
    """Plain numbers and lists; NaN or None where the lesion is too small.

    ``noise_ratio`` core over shell (same tissue) or over the scan's soft-tissue noise. ``…_host``: the same core before insertion (same
    tissue only); ``…_model``: the same core filled with the scan's noise model; in both the core's outline plays no part.
    """
    spacing = scan.spacing
    same = result.parameters["reference_tissue"] in SAME_TISSUE
    shell = reading.zones.shell
    # only where the lesion's edge has died away: what is left of a step of 800 HU in lung would pass for noise
    depth = ndimage.distance_transform_edt(reading.label, sampling=spacing)
    core = reading.zones.core & (depth >= 2.0 * result.parameters["edge_sigma_mm"])
    if not core.any():
        core = reading.zones.core
    out: dict = {"same_tissue": same, "core_voxels": int(np.count_nonzero(core))}
    box = _around(core | shell, core, spacing)
    core, shell, image, host = core[box], shell[box], reading.image[box], reading.host[box]
    if same:  # noise of calm tissue: cortex against medulla, vessels and the organ's surface are anatomy, not noise
        steep = in_plane_slope(host, spacing) > 3.0 * scan.noise.slope_hu * reading.local_noise
        shell = shell & ~ndimage.maximum_filter(steep, 3)
    model = scan.noise.sample(np.random.default_rng(seed), core.shape) * np.float32(
        scan.noise.sd_hu * reading.local_noise
    )
    out.update(dict.fromkeys(("noise_ratio", "noise_ratio_host", "noise_ratio_model")))
    out.update(dict.fromkeys(("power_core", "power_shell", "power_host", "power_model")))
    if np.count_nonzero(core) >= LEAST_CORE:
        level = noise_sd(image, core, spacing)
        below = (
            (noise_sd(image, shell, spacing) if np.count_nonzero(shell) >= LEAST_CORE else float("nan"))
            if same
            else scan.noise.high_pass_sd_hu * reading.local_noise
        )
        out["noise_ratio"] = _ratio(level, below)
        out["noise_ratio_host"] = _ratio(level, noise_sd(host, core, spacing)) if same else None
        out["noise_ratio_model"] = _ratio(level, noise_sd(model, core, spacing))
    if min(np.count_nonzero(core), np.count_nonzero(shell) if same else 200) >= 200:
        bins, power = noise_power(image, core, spacing)
        out["bins"] = [float(b) for b in bins]
        out["power_core"] = _normal(power)
        out["power_shell"] = _normal(noise_power(image, shell, spacing)[1]) if same else None
        out["power_host"] = _normal(noise_power(host, core, spacing)[1]) if same else None
        out["power_model"] = _normal(noise_power(model, core, spacing)[1])
    out.update(_seams(scan, result))
    out.update(_changes(scan, result))
    return out


def _around(mask, core, spacing) -> tuple[slice, slice, slice]:
    """Box of the core and up to 12 mm of shell, large lesions cut to their middle slices."""
    where = np.argwhere(core if core.any() else mask)
    low, high = where.min(0), where.max(0) + 1
    centre = (low + high) / 2
    half = np.minimum((high - low) / 2, LARGEST_PATCH_MM / spacing) + np.ceil(14.0 / spacing)
    return tuple(slice(int(max(c - h, 0)), int(min(c + h + 1, n))) for c, h, n in zip(centre, half, mask.shape))


def _ratio(a: float, b: float) -> float | None:
    return float(a / b) if np.isfinite(a) and np.isfinite(b) and b > 0 else None


def _normal(power: np.ndarray) -> list[float] | None:
    return [float(p) for p in power / power.mean()] if np.isfinite(power).all() else None


def _seams(scan: PreparedScan, result: SynthesisResult) -> dict:
    """Sums of |HU step| and counts: across the faces of the region (and of the changed box), on planes 3 voxels away, and across the
    border of the changed voxels after and before."""
    reach = 5
    wide = tuple(
        slice(max(s.start - reach, 0), min(s.stop + reach, n)) for s, n in zip(result.region, scan.ct.array.shape)
    )
    before = scan.ct.array[wide].astype(np.float32)
    after = paste(before, wide, np.rint(result.after).astype(np.float32), result.region)
    changed = paste(np.zeros(before.shape, bool), wide, result.changed, result.region)
    out: dict = {}
    region = tuple(slice(r.start - w.start, r.stop - w.start) for r, w in zip(result.region, wide))
    out["seam_region"] = _faces(after, region)
    if changed.any():
        where = np.argwhere(changed)
        out["seam_changed"] = _faces(
            after, tuple(slice(int(a), int(b) + 1) for a, b in zip(where.min(0), where.max(0)))
        )
    sums = np.zeros(3)
    for axis in range(3):
        border = np.diff(changed.view(np.int8), axis=axis) != 0
        sums += [
            np.abs(np.diff(after, axis=axis))[border].sum(),
            np.abs(np.diff(before, axis=axis))[border].sum(),
            border.sum(),
        ]
    out["border"] = [float(s) for s in sums]
    return out


def _faces(image: np.ndarray, box) -> list[float]:
    """[sum of |step| across the faces of ``box``, mean of the sums 3 voxels inside and outside]."""
    at_face = away = 0.0
    for axis in range(3):
        across = tuple(box[i] if i != axis else slice(None) for i in range(3))
        steps = np.abs(np.diff(image[across], axis=axis)).sum(axis=tuple(i for i in range(3) if i != axis))
        for face in (box[axis].start - 1, box[axis].stop - 1):
            if face - 3 >= 0 and face + 3 < len(steps):
                at_face += float(steps[face])
                away += float(steps[face - 3] + steps[face + 3]) / 2
    return [at_face, away]


def _changes(scan: PreparedScan, result: SynthesisResult) -> dict:
    """Changed voxels beyond the label's margin, and beyond what the result says was allowed to change."""
    spacing = scan.spacing
    after = np.clip(np.rint(result.after), -32768, 32767).astype(np.int16)
    before = scan.ct.array[result.region]
    different = after != before
    margin = (
        max(3.0, 2.0 * result.parameters["edge_sigma_mm"])
        + float(np.linalg.norm(spacing))
        + result.request.mass_effect_mm
    )
    far = ndimage.distance_transform_edt(~result.label, sampling=spacing) > margin
    return {
        "changed_far": int(np.count_nonzero(different & far)),
        "changed_unmarked": int(np.count_nonzero(different & ~result.changed)),
        "before_differs": int(np.count_nonzero(result.before != before)),
    }
