"""What refinement does to lesions: labels, mean, edge, noise, seams, untouched surroundings; and how long it takes.

``measure_cases`` looks at each lesion before and after as a stranger would (``recheck``), and also at lesions whose noise was made wrong on
purpose, which is what refinement is for. ``refinement_checks`` holds the figures against their targets.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.refinement.closed_loop import refine_lesion
from PASTALib.refinement.plan import RefinePlan
from PASTALib.refinement.refine import Refiner
from PASTALib.synthesis.generator import synthesise
from PASTALib.synthesis.scan import PreparedScan
from PASTALib.synthesis.spec import LesionRequest, SynthesisResult

from .realism import pooled_power
from .recheck import MEASURED, read_back
from .tables import Check, percent, quantile
from .texture_figures import texture_figures

ILL = (
    "smooth",
    "strong",
    "white",
)  # noise of 0.4, 1.8 times the right strength; of the right strength without correlation
_SMOOTH, _STRONG = 0.4, 1.8
MISMATCH, MATCHED_SLACK = ("sd", "nps_mean"), 0.02  # "not worse" for what was right already
REGIONS = (64, 96)
BENCH_NOISE_HU = 12.0


def measure_cases(
    scan: PreparedScan,
    host: str,
    refiner: Refiner,
    kinds: Sequence[str],
    seeds: Sequence[int],
    plan: RefinePlan | None = None,
    size_mm: float | None = None,
) -> list[dict]:
    """One record per accepted lesion and condition ("matched" and those of ``ILL``), of the types whose organ and phase the scan has.

    ``size_mm``: wanted size where the organ has room for it (spectra need a core of 200 voxels), else the size is drawn. Each record: host,
    lesion, seed, condition, ``applied``, ``strength``, ``why``; ``mean_change_hu``, ``edge_ratio``, ``labels_kept`` by attribute; ``outside``
    voxels changed beyond what the lesion may change; and ``before`` / ``after`` as ``texture_figures`` gives them.
    """
    records = []
    for kind in kinds:
        lesion = taxonomy.lesion(kind)
        if lesion.organ not in scan.geometry or scan.phase not in lesion.phases:
            continue
        for seed in seeds:
            result = _lesion(scan, kind, seed, size_mm)
            if result is None:
                continue
            for condition in ("matched", *ILL):
                spoilt = ill_matched(scan, result, condition, seed)
                about = {"host": host, "lesion": kind, "seed": seed, "condition": condition}
                records.append(about | _one(scan, spoilt, refiner, plan, seed))
    return records


def _lesion(scan: PreparedScan, kind: str, seed: int, size_mm: float | None) -> SynthesisResult | None:
    for size in dict.fromkeys([size_mm, None]):
        wanted = None if size is None else (size,) * 3
        try:
            result = synthesise(scan, LesionRequest(kind, seed=seed, size_mm=wanted))
        except InputError:
            continue
        if result.accepted:
            return result
    return None


def ill_matched(scan: PreparedScan, result: SynthesisResult, condition: str, seed: int) -> SynthesisResult:
    """The lesion with noise that does not fit the scan, well inside its outline; as it is for "matched"."""
    if condition == "matched":
        return result
    spacing = scan.spacing
    image = np.asarray(result.after, np.float32)
    fine = image - ndimage.gaussian_filter(image, 1.5 / spacing)
    rng = np.random.default_rng([seed, ILL.index(condition)])
    depth = ndimage.distance_transform_edt(result.label, sampling=spacing)
    inside = np.clip((depth - 1.0) / 2.0, 0, 1)
    if condition == "white":
        level = float(fine[depth > 1.5].std()) if (depth > 1.5).any() else 0.0
        change = level * rng.standard_normal(image.shape) - fine
    else:
        change = ({"smooth": _SMOOTH, "strong": _STRONG}[condition] - 1) * fine
    after = np.rint(image + inside * change)
    return replace(result, after=np.where(result.changed, after, result.after).astype(np.float32))


def _one(scan: PreparedScan, result: SynthesisResult, refiner: Refiner, plan, seed: int) -> dict:
    refined = refine_lesion(scan, result, refiner, plan, seed=seed)
    done = refined.parameters["refinement"]
    readings = [read_back(scan, item) for item in (result, refined)]
    figures = [texture_figures(scan, item, reading, seed) for item, reading in zip((result, refined), readings)]
    widths = [reading.measured.figures.get("edge_width_mm", float("nan")) for reading in readings]
    values = [
        {key: "ambiguous" if key in r.measured.ambiguous else r.measured.values.get(key) for key in MEASURED}
        for r in readings
    ]
    means = [float(item.after[item.label].mean(dtype=np.float64)) for item in (result, refined)]
    return {
        "applied": done["applied"],
        "strength": done.get("strength", 0.0),
        "why": done.get("why", ""),
        "mean_change_hu": means[1] - means[0],
        "edge_ratio": widths[1] / widths[0] if widths[0] > 0 else float("nan"),
        "labels_kept": {key: values[0][key] == values[1][key] for key in MEASURED},
        "outside": int(np.count_nonzero((refined.after != result.after) & ~result.changed)),
        "options": {"heterogeneity": result.report.value("heterogeneity")},
        "before": figures[0],
        "after": figures[1],
    }


def noise_mismatch(records: Sequence[dict], when: str) -> dict[str, float]:
    """The core's noise against the scan's noise model in the same mask, so that the outline plays no part.

    ``sd``: mean |log| of the ratio of standard deviations; ``nps_max``, ``nps_mean``: |log ratio| of the pooled normalised spectra; ``n`` cores
    large enough for a spectrum.
    """
    ratios = [r[when]["noise_ratio_model"] for r in records]
    ratios = [abs(float(np.log(v))) for v in ratios if v is not None and np.isfinite(v) and v > 0]
    largest, mean, count = pooled_power([{"texture": r[when]} for r in records], "power_model")
    return {"sd": float(np.mean(ratios)) if ratios else float("nan"), "nps_max": largest, "nps_mean": mean, "n": count}


def border_steps(records: Sequence[dict], when: str) -> float:
    """Steps of HU across the border of what changed, with the lesion ÷ without it, pooled; 1 where no border shows."""
    sums = np.sum([r[when]["border"] for r in records], axis=0)
    return float(sums[0] / sums[1]) if np.ndim(sums) and sums[1] > 0 else float("nan")


def refinement_checks(records: Sequence[dict]) -> list[Check]:
    """The issue's targets for records of ``measure_cases`` (all conditions and hosts together)."""
    matched = [r for r in records if r["condition"] == "matched"]
    done = [r for r in matched if r["applied"]]
    kept = [flag for r in matched for flag in r["labels_kept"].values()]
    edges = [abs(r["edge_ratio"] - 1) for r in matched if np.isfinite(r["edge_ratio"])]
    count = len(matched)
    checks = [
        Check("attribute labels unchanged", percent(kept), 99, 100, "%", len(kept)),
        Check("largest change of a lesion's mean", max((abs(r["mean_change_hu"]) for r in matched), default=np.nan), 0, 5, "HU", count),
        Check("largest change of edge width", 100 * max(edges, default=np.nan), 0, 15, "%", len(edges)),
        Check("voxels changed outside", sum(r["outside"] for r in records), 0, 0, "", len(records)),
        Check("lesions refined, of those that may be", percent(r["applied"] for r in matched if "stones" not in r["why"]), 0, 100, "%", count),
        Check("median strength kept", quantile([r["strength"] for r in done], 0.5), 0, 1, "", len(done)),
    ]  # fmt: skip
    before, after = (border_steps(matched, when) for when in ("before", "after"))
    checks.append(Check("steps at the border of change, after ÷ before refinement", after / before, 0, 1.02, "", count))
    pairs = {}
    for condition in ("matched", *ILL):
        group = [r for r in records if r["condition"] == condition and r["options"]["heterogeneity"] == "Homogeneous"]
        group = [r for r in group if "stones" not in r["why"]]
        was, now = (noise_mismatch(group, when) for when in ("before", "after"))
        pairs[condition] = was, now
        most = {key: was[key] + MATCHED_SLACK if condition == "matched" else np.inf for key in MISMATCH}
        for key in MISMATCH:
            name = f"{condition}: noise mismatch ({key}, |log ratio|) after refinement, before {was[key]:.3f}"
            checks.append(Check(name, now[key], 0, most[key], "", was["n"]))
    for key in MISMATCH:
        was, now = (float(np.mean([pairs[condition][when][key] for condition in ILL])) for when in (0, 1))
        name = f"ill-matched, mean of the three: noise mismatch ({key}) after refinement, before {was:.3f}"
        checks.append(Check(name, now, 0, was, "", sum(pairs[condition][0]["n"] for condition in ILL)))
    return checks


def healthy_patches(scan: PreparedScan, refiner: Refiner, count: int = 6, side: int = 48, seed: int = 0) -> list[dict]:
    """Refining healthy tissue: mean absolute change and the noise of the host (HU), and the noise after ÷ before, per organ patch."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        key = sorted(scan.geometry)[number % len(scan.geometry)]
        if key in ("lung", "bone"):
            continue
        geometry = scan.geometry[key]
        deep = np.argwhere(geometry.depth_mm >= 0.6 * geometry.largest_depth_mm)
        centre = (deep[rng.integers(len(deep))] + geometry.offset) * scan.stride
        box = tuple(slice(int(max(0, c - side // 2)), int(c + side // 2)) for c in centre)
        hu = scan.ct.array[box].astype(np.float32)
        organ = scan.organs.labels.array[box] == taxonomy.organ(key).value
        free = np.zeros(hu.shape, bool)
        free[tuple(slice(8, -8) if n > 20 else slice(None) for n in hu.shape)] = True
        noise = scan.noise.sd_hu * scan.local_noise(centre.astype(float))
        out = refiner(hu, free & organ, organ, free, noise_hu=noise, seed=seed + number)
        fine = [a - ndimage.gaussian_filter(a, 1.5 / scan.spacing) for a in (hu, out)]
        mask = free & organ
        sds = [float(a[mask].std()) for a in fine] if mask.sum() > 100 else [np.nan, np.nan]
        found.append(
            {"organ": key, "mae_hu": float(np.abs(out - hu)[free].mean()), "noise_hu": noise, "ratio": sds[1] / sds[0]}
        )
    return found


def constant_change(refiner: Refiner, side: int = 40) -> float:
    """Largest change (HU) of an image that is the same everywhere."""
    flat = np.full((side,) * 3, 60, np.float32)
    inside = np.zeros(flat.shape, bool)
    inside[8:-8, 8:-8, 8:-8] = True
    return float(np.abs(refiner(flat, inside, inside, inside) - flat).max())


def measure_speed(refiner: Refiner, runs: int = 5) -> dict[str, list[float]]:
    """Seconds of each of ``runs`` refinements (5 steps, warm) of regions of 64³ and 96³ voxels, and to the first step shown."""
    figures: dict[str, list[float]] = {}
    for side in REGIONS:
        rng = np.random.default_rng(side)
        hu = (80 + BENCH_NOISE_HU * rng.standard_normal((side,) * 3)).astype(np.float32)
        changed = np.zeros(hu.shape, bool)
        changed[8:-8, 8:-8, 8:-8] = True
        label = ndimage.binary_erosion(changed, iterations=6)
        refiner(hu, label, changed, changed, noise_hu=BENCH_NOISE_HU)  # warm
        whole, first = [], []
        for number in range(runs):
            begun, shown = time.perf_counter(), []
            refiner(
                hu, label, changed, changed, noise_hu=BENCH_NOISE_HU, seed=number,
                on_step=lambda *_, since=begun, told=shown: told.append(time.perf_counter() - since),
            )  # fmt: skip
            whole.append(time.perf_counter() - begun)
            first.append(shown[0])
        figures[f"five_steps_{side}_s"] = [round(v, 4) for v in whole]
        figures[f"first_step_{side}_s"] = [round(v, 4) for v in first]
    return figures


def speed_checks(figures: dict[str, list[float]]) -> list[Check]:
    """The issue's targets on two cores."""
    targets = {"five_steps_64_s": 1.0, "five_steps_96_s": 4.0, "first_step_64_s": 0.8, "first_step_96_s": 0.8}
    return [
        Check(
            f"{key.removesuffix('_s').replace('_', ' ')}, median",
            quantile(figures[key], 0.5),
            0,
            most,
            "s",
            len(figures[key]),
        )
        for key, most in targets.items()
    ]


if __name__ == "__main__":
    import argparse
    import json

    from PASTALib.phantom import make_phantom
    from PASTALib.synthesis.scan import prepare_scan

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--spacing", type=float, nargs="+", default=[2.0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--phantom-seed", type=int, default=4711)
    parser.add_argument("--size", type=float, help="mm, where the organ has room")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    refiner = Refiner(given.weights)
    spacing = given.spacing[0] if len(given.spacing) == 1 else tuple(given.spacing)
    everything = []
    for phase in (taxonomy.ENHANCED, taxonomy.PLAIN):
        made = make_phantom(spacing, phase, given.phantom_seed)
        scan = prepare_scan(made.ct, made.organs)
        kinds = [k for k in taxonomy.LESION_KEYS if taxonomy.lesion(k).phases[0] == phase]
        everything += measure_cases(scan, f"phantom {phase}", refiner, kinds, range(given.seeds), size_mm=given.size)
        for patch in healthy_patches(scan, refiner):
            print(patch)
    for check in [*refinement_checks(everything), *speed_checks(measure_speed(refiner))]:
        print(f"{check.verdict:12} {check.value:8.3f} {check.unit:3} {check.target:14} n={check.n:<4} {check.name}")
    print("constant image changes by", constant_change(refiner), "HU; engine", refiner.engine)
    if given.json:
        given.json.write_text(json.dumps(everything, default=float))
