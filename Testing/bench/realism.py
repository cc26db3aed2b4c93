"""Section realism: noise, spectrum, seams, untouched surroundings, and whether parameters do what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr

from PASTALib import taxonomy
from PASTALib.synthesis.builder import build, make_canvas
from PASTALib.synthesis.draw import ILL, WELL, draw_lesion
from PASTALib.synthesis.generator import measure_built
from PASTALib.synthesis.placement import NoPlace, capacity_mm, find_site
from PASTALib.synthesis.spec import LesionRequest

from .cases import all_cases
from .hosts import lacks, load_scan, phantom_host
from .options import Options
from .pool import run_all
from .tables import Check, Section, percent, quantile, table

NULL_TYPES = ("liver_tumor", "pancreas_tumor", "kidney_tumor")
SWEEP_TYPE = "liver_tumor"
HU_STEPS = tuple(float(v) for v in np.linspace(-60, 60, 13))
EDGE_FACTORS = tuple(float(v) for v in np.linspace(1.0, 3.4, 9))
SIZES_MM = (10.0, 13.0, 16.0, 20.0, 24.0, 28.0, 32.0, 36.0)

STONES = ("gallstone", "kidney_stone")
LEAST_CASES = 5  # of a type for a median of its own


def run(options: Options) -> Section:
    """Figures of the cases, the null test and the monotone tests."""
    records, remarks = all_cases(options)
    section = Section("realism: noise, seams, untouched surroundings, null and monotone tests")
    section.text += remarks
    accepted = [r for r in records if r["accepted"]]
    for host in dict.fromkeys(r["host"] for r in accepted):
        here = [r for r in accepted if r["host"] == host]
        section.text.append(f"### {host}\n\n" + _noise_table(here) + "\n\n" + _seam_table(here))
        section.checks += _checks(host, here)
    null = null_test(options)
    section.text.append(
        "### null test (phantom): Δ 0 HU, homogeneous, sharp; after against before inside the label\n\n"
        + _null_table(null)
    )
    for lesion, found in null.items():
        values = [v["even"] for v in found]  # in anatomy a lesion replaces vessels and cortex: no target, see the table
        section.checks.append(
            Check(f"null test RMSE median, {lesion}", quantile(values, 0.5), 0, 1.0, "HU", len(values))
        )
    sweeps = run_all(
        _sweep,
        [(options.out, options.phantom_mm, seed) for seed in range(min(5, options.count("phantom")))],
        options.workers,
        "monotone tests",
    )
    sweeps = [s for s in sweeps if s]
    section.text.append("### monotone tests (phantom, liver tumor, one placement each)\n\n" + _sweep_table(sweeps))
    section.checks += _sweep_checks(sweeps)
    section.data = {
        "null": null,
        "sweeps": sweeps,
        "texture": [{k: r[k] for k in ("host", "lesion", "seed", "texture")} for r in accepted],
    }
    return section


def _groups(records):
    return [(t, [r for r in records if r["lesion"] == t]) for t in dict.fromkeys(r["lesion"] for r in records)]


def pooled_power(records, reference: str) -> tuple[float, float, int]:
    """(largest, mean, cases): |log ratio| of the mean normalised spectra, core against ``reference``."""
    pairs = [(r["texture"]["power_core"], r["texture"][reference]) for r in records]
    pairs = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not pairs:
        return float("nan"), float("nan"), 0
    core, other = (np.mean([p[i] for p in pairs], axis=0) for i in (0, 1))
    gap = np.abs(np.log(core / core.mean()) - np.log(other / other.mean()))
    return float(gap.max()), float(gap.mean()), len(pairs)


def _homogeneous(records):
    """Homogeneous lesions; stones are left out, their few voxels are all edge."""
    return [r for r in records if r["options"]["heterogeneity"] == "Homogeneous" and r["lesion"] not in STONES]


def _noise_table(records) -> str:
    """Noise of homogeneous lesions whose core is big enough, against three references."""
    rows = []
    for lesion, group in _groups(records):
        calm = _homogeneous(group)
        same = group[0]["texture"]["same_tissue"]
        ratios = _values(calm, "noise_ratio")
        rows.append(
            (
                lesion,
                "shell" if same else "scan noise",
                f"{len(ratios)} of {len(group)}",
                f"{quantile(ratios, 0.5):.2f} ({quantile(ratios, 0.05):.2f}–{quantile(ratios, 0.95):.2f})"
                if ratios
                else "–",
                percent(0.85 <= v <= 1.15 for v in ratios),
                quantile(_values(calm, "noise_ratio_host"), 0.5),
                quantile(_values(calm, "noise_ratio_model"), 0.5),
                quantile(_values(group, "noise_ratio"), 0.5),
                *(_power_cell(calm, key) for key in ("power_shell", "power_host", "power_model")),
            )
        )
    head = ("type", "against", "homogeneous, core ≥ 100 voxels", "noise ratio median (5–95 %)", "in 0.85–1.15 %")
    more = ("ratio to host in same mask", "to noise model in same mask", "ratio, with heterogeneous")
    return table(
        (*head, *more, "NPS to shell: max / mean (n)", "to host in same mask", "to noise model in same mask"), rows
    )


def _values(records, key: str) -> list[float]:
    return [r["texture"][key] for r in records if r["texture"][key] is not None]


def _power_cell(records, reference: str) -> str:
    largest, mean, count = pooled_power(records, reference)
    return f"{largest:.2f} / {mean:.2f} ({count})" if count else "–"


def _seam(records, key: str) -> float:
    sums = np.sum([r["texture"][key] for r in records if r["texture"].get(key)], axis=0)
    return float(sums[0] / sums[1]) if np.ndim(sums) and sums[1] > 0 else float("nan")


def _border(records) -> float:
    sums = np.sum([r["texture"]["border"] for r in records], axis=0)
    return float(sums[0] / sums[1]) if np.ndim(sums) and sums[1] > 0 else float("nan")


def _seam_table(records) -> str:
    rows = []
    for lesion, group in _groups(records):
        sums = [sum(r["texture"][k] for r in group) for k in ("changed_far", "changed_unmarked", "before_differs")]
        rows.append(
            (lesion, len(group), _seam(group, "seam_region"), _seam(group, "seam_changed"), _border(group), *sums)
        )
    head = ("type", "n", "seam, region faces", "seam, changed box", "steps at border of change, after ÷ before")
    return table((*head, "voxels changed beyond margin", "changed, not marked", "before ≠ scan"), rows)


def _worst_type(host: str, name: str, records, key: str) -> list[Check]:
    """The type whose median is farthest from 1, among those with enough cases to have one."""
    by_type = {t: _values(g, key) for t, g in _groups(records)}
    by_type = {t: v for t, v in by_type.items() if len(v) >= LEAST_CASES}
    if not by_type:
        return []
    worst = max(by_type, key=lambda t: abs(np.log(quantile(by_type[t], 0.5))))
    value, number = quantile(by_type[worst], 0.5), len(by_type[worst])
    return [Check(f"{host}: noise SD ratio {name}, worst type ({worst})", value, 0.85, 1.15, "", number)]


def _checks(host: str, records) -> list[Check]:
    checks = []
    for same, name in ((True, "core ÷ shell"), (False, "core ÷ scan noise")):
        group = [r for r in _homogeneous(records) if r["texture"]["same_tissue"] == same]
        ratios = _values(group, "noise_ratio")
        if not ratios:
            continue
        checks.append(
            Check(f"{host}: noise SD ratio {name}, median", quantile(ratios, 0.5), 0.85, 1.15, "", len(ratios))
        )
        checks += _worst_type(host, name, group, "noise_ratio")
        largest, mean, count = pooled_power(group, "power_shell" if same else "power_model")
        if count:
            checks.append(Check(f"{host}: NPS max |log ratio| {name}", largest, 0, 0.35, "", count))
            checks.append(Check(f"{host}: NPS mean |log ratio| {name}", mean, 0, 0.15, "", count))
    calm = _homogeneous(records)
    ratios = _values(calm, "noise_ratio_model")
    if ratios:
        name = "core ÷ noise model in the same mask"
        largest, mean, count = pooled_power(calm, "power_model")
        checks.append(
            Check(f"{host}: noise SD ratio {name}, median", quantile(ratios, 0.5), 0.85, 1.15, "", len(ratios))
        )
        checks += _worst_type(host, name, calm, "noise_ratio_model")
        checks.append(Check(f"{host}: NPS max |log ratio| {name}", largest, 0, 0.35, "", count))
        checks.append(Check(f"{host}: NPS mean |log ratio| {name}", mean, 0, 0.15, "", count))
    number = len(records)
    checks += [
        Check(f"{host}: seam ratio at region faces", _seam(records, "seam_region"), 0.9, 1.1, "", number),
    ]
    for key, name in (
        ("changed_far", "voxels changed beyond label + margin"),
        ("changed_unmarked", "voxels changed but not marked"),
    ):
        checks.append(Check(f"{host}: {name}", sum(r["texture"][key] for r in records), 0, 0, "", number))
    return checks


def direct(scan, request: LesionRequest, change=None, tries: int = 20):
    """(canvas, draw) of the first draw for ``request`` that has a place and fits; ``change(draw)`` alters the draw first."""
    for number in range(tries):
        rng = np.random.default_rng([request.seed, number])
        draw = draw_lesion(rng, request, scan, capacity_mm(scan, request.lesion))
        draw = change(draw) if change else draw
        try:
            canvas = make_canvas(scan, draw, find_site(scan, rng, draw, request.at_ras))
        except NoPlace:
            continue
        built = build(canvas, draw)
        if built.label.any() and built.survived > 0.98:
            return canvas, draw
    return None


def _plain(draw):
    options = {**draw.options, "heterogeneity": "Homogeneous", "surface": WELL}
    return replace(
        draw,
        components=(),
        density_kind="delta",
        density_hu=0.0,
        ill=False,
        edge_factor=1.0,
        close=False,
        options=options,
    )


def _null_case(task) -> dict | None:
    """RMSE (HU) inside the label in the phantom's own anatomy, and with the organ's tissue made homogeneous (level and noise only)."""
    out, spacing, lesion, seed = task
    scan = load_scan(phantom_host(out, spacing))
    if lacks(scan, lesion):
        return None
    found = direct(scan, LesionRequest(lesion, seed=seed, density_delta_hu=0.0), _plain)
    if found is None:
        return None
    canvas, draw = found
    level = scan.tissue_hu[taxonomy.lesion(lesion).organ]
    noise = scan.noise.sample(np.random.default_rng(seed), canvas.host.shape) * np.float32(scan.noise.sd_hu)
    even = replace(canvas, host=np.rint(np.where(canvas.others == 0, level + noise, canvas.host)), cache={})
    return {"anatomy": _null_error(canvas, draw), "even": _null_error(even, draw)}


def _null_error(canvas, draw) -> float:
    built = build(canvas, draw)
    inside = built.label & canvas.parent  # beyond the organ is another tissue, which a lesion replaces
    return float(np.sqrt(np.mean((built.after - canvas.host)[inside] ** 2))) if inside.any() else float("nan")


def null_test(options: Options) -> dict[str, list[dict]]:
    """Errors inside the label of lesions that differ in nothing from their host, per type."""
    count = min(30, options.count("phantom"))
    tasks = [(options.out, options.phantom_mm, lesion, seed) for lesion in NULL_TYPES for seed in range(count)]
    values = run_all(_null_case, tasks, options.workers, "null test")
    return {lesion: [v for t, v in zip(tasks, values) if t[2] == lesion and v is not None] for lesion in NULL_TYPES}


def _null_table(null) -> str:
    rows = []
    for lesion, found in null.items():
        for key, name in (
            ("even", "level and noise only"),
            ("anatomy", "phantom's anatomy (vessels, cortex are replaced)"),
        ):
            values = [v[key] for v in found]
            rows.append(
                (
                    lesion,
                    name,
                    len(values),
                    quantile(values, 0.5),
                    quantile(values, 0.95),
                    percent(x <= 1.0 for x in values),
                )
            )
    return table(("type", "host tissue", "n", "RMSE median HU", "p95 HU", "≤ 1 HU %"), rows)


def _sweep(task) -> dict | None:
    """At one placement: measured against asked-for density, edge width and size."""
    out, spacing, seed = task
    scan = load_scan(phantom_host(out, spacing))
    if lacks(scan, SWEEP_TYPE):
        return None
    request = LesionRequest(
        SWEEP_TYPE, seed=seed, size_mm=(36.0, 36.0, 36.0), density_delta_hu=-40.0, attributes={"shape": "Round-like"}
    )
    found = direct(scan, request, lambda d: replace(_plain(d), density_hu=-40.0))
    if found is None:
        return None
    canvas, base = found
    draw = _resized(scan, request, seed, 24.0)
    if draw is None:
        return None
    result: dict = {"seed": seed, "density": [], "edge": [], "size": []}
    for hu in HU_STEPS:
        result["density"].append((hu, _figures(canvas, replace(draw, density_hu=hu))["density_delta_hu"]))
    for factor in EDGE_FACTORS:
        edged = replace(
            draw, edge_factor=factor, density_hu=-60.0, options={**draw.options, "surface": ILL if factor > 2 else WELL}
        )
        result["edge"].append((factor * scan.edge_width_mm, _figures(canvas, edged)["edge_width_mm"]))
    for size in SIZES_MM:
        sized = _resized(scan, request, seed, size)
        extents = measure_built(canvas, sized, build(canvas, sized)).size_zxy_mm
        result["size"].append((size, float(np.mean(extents))))
    return result


def _resized(scan, request: LesionRequest, seed: int, size: float):
    """The same seed's draw with another size."""
    rng = np.random.default_rng([seed, 0])
    return replace(_plain(draw_lesion(rng, replace(request, size_mm=(size,) * 3), scan, 1e3)), density_hu=-40.0)


def _figures(canvas, draw) -> dict:
    return measure_built(canvas, draw, build(canvas, draw)).figures


def _relation(pairs) -> tuple[float, float]:
    """Spearman's ρ and least-squares slope of the finite pairs."""
    x, y = np.array([p for p in pairs if np.isfinite(p[1])]).reshape(-1, 2).T
    if len(x) < 3:
        return float("nan"), float("nan")
    return float(spearmanr(x, y).statistic), float(np.polyfit(x, y, 1)[0])


def _sweep_table(sweeps) -> str:
    rows = []
    for key in ("density", "edge", "size"):
        for sweep in sweeps:
            rho, slope = _relation(sweep[key])
            rows.append(
                (
                    key,
                    sweep["seed"],
                    len(sweep[key]),
                    f"{rho:.3f}",
                    f"{slope:.3f}",
                    " ".join(f"{a:.0f}→{b:.1f}" for a, b in sweep[key]),
                )
            )
    return table(("parameter", "placement", "steps", "ρ", "slope", "asked → measured (HU or mm)"), rows)


def _sweep_checks(sweeps) -> list[Check]:
    checks = []
    for key in ("density", "edge", "size"):
        pairs = [_relation(s[key]) for s in sweeps]
        if not pairs:
            continue
        checks.append(Check(f"monotone {key}: ρ, lowest", min(p[0] for p in pairs), 0.98, 1.0 + 1e-9, "", len(pairs)))
        if key == "density":
            slopes = [p[1] for p in pairs]
            checks.append(Check("monotone density: slope, lowest", min(slopes), 0.95, 1.05, "", len(slopes)))
            checks.append(Check("monotone density: slope, highest", max(slopes), 0.95, 1.05, "", len(slopes)))
    return checks
