"""The closed loop: draw a lesion, place it, build it, measure it; accept, try again, or report what was measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import taxonomy
from ..attributes import StructuredReport
from ..errors import InputError
from ..organs import location_detail
from .builder import Built, Canvas, build, make_canvas, push_away
from .draw import APART, CYSTS, HETEROGENEOUS, STONES, WELL, LesionDraw, allowed_options, check_request, draw_lesion
from .measurement import measure
from .placement import NoPlace, capacity_mm, find_site
from .scan import FIRST_STRUCTURE, LESION_VALUE, PreparedScan
from .spec import LesionRequest, Measurement, SynthesisResult

LEAST_SURVIVING = 0.8  # share of the outline's volume that organ borders must leave
LEAST_SURVIVING_WALL = 0.5  # a thickened wall adapts to its neighbours
SIZE_TOLERANCE = 0.05
HU_SLACK = 10.0  # noise and partial volume may carry a lesion this far beyond its type's limits
LARGEST_MASS_EFFECT_MM = 8.0
SAME_SIZE_TRIES = 6


class _Rejected(Exception):
    """This try is not good enough; the text says why."""


def synthesise(scan: PreparedScan, request: LesionRequest, progress=None) -> SynthesisResult:
    """Make one lesion whose image shows what its report says.

    Tries up to ``request.max_tries`` draws. A draw is accepted when every attribute that the user asked for is measured in the image and no
    attribute lies between two options. Attributes that were drawn, not asked for, are reported as measured. When no try
    succeeds, the closest one is returned, reported as measured (``accepted`` False, reasons in ``log``). The scan is not changed: see ``insert``.

    Raises InputError when the organ is missing, the request is impossible, or the lesion fits nowhere.
    """
    if request.lesion not in taxonomy.LESION_KEYS:
        raise InputError(f"unknown lesion type {request.lesion!r}; choose from: {', '.join(taxonomy.LESION_KEYS)}")
    wanted = check_request(request, scan.phase)
    capacity = capacity_mm(scan, request.lesion)
    _check_size(scan, request, capacity)
    if not 0 <= request.mass_effect_mm <= LARGEST_MASS_EFFECT_MM:
        raise InputError(
            f"mass effect of {request.mass_effect_mm:g} mm is not usable; give 0 (none) to {LARGEST_MASS_EFFECT_MM:g} mm"
        )
    log: list[str] = []
    best: tuple[int, SynthesisResult] | None = None
    crowded = False
    for number in range(1, request.max_tries + 1):
        if progress:
            progress((number - 1) / request.max_tries, f"try {number}")
        rng, size_rng = random_streams(request, number)
        # the first tries keep size and shape; after them a scan with little room gets smaller draws
        shrink = 0.85 ** max(0, number - SAME_SIZE_TRIES)
        try:
            draw = draw_lesion(rng, request, scan, capacity * shrink, size_rng, crowded and number > 2)
            result, faults = _one_try(scan, request, wanted, rng, draw, number)
        except (NoPlace, _Rejected) as fault:
            log.append(f"try {number}: {fault}")
            crowded = True
            continue
        if not faults:
            result.log = log
            return result
        log.append(f"try {number}: " + "; ".join(faults))
        if best is None or len(faults) < best[0]:
            best = (len(faults), result)
    if best is None:
        raise InputError(
            f"no place for this {taxonomy.lesion(request.lesion).name.lower()} after {request.max_tries} tries ({_last(log)}); ask for a smaller size, another place or another scan"
        )
    result = best[1]
    result.accepted = False
    result.log = log
    return result


def random_streams(request: LesionRequest, number: int) -> tuple[np.random.Generator, np.random.Generator]:
    """What try ``number`` (from 1) draws from: all its choices, and size and shape, which the first tries have in common."""
    value = taxonomy.lesion(request.lesion).value
    sizes = 0 if number <= SAME_SIZE_TRIES else number
    return np.random.default_rng([request.seed, value, number]), np.random.default_rng([request.seed, value, sizes])


def _last(log: list[str]) -> str:
    return log[-1].split(": ", 1)[-1] if log else "no reason recorded"


def _check_size(scan: PreparedScan, request: LesionRequest, capacity: float) -> None:
    if request.size_mm is None:
        return
    mean = float(np.prod(request.size_mm) ** (1 / 3))
    if mean > 1.25 * capacity:
        organ = taxonomy.organ(taxonomy.lesion(request.lesion).organ).name.lower()
        size = "×".join(f"{s:g}" for s in request.size_mm)
        raise InputError(
            f"a lesion of {size} mm is too big for this {organ}, which has room for about {capacity:.0f} mm; ask for a smaller size"
        )


def _one_try(scan, request, wanted, rng, draw: LesionDraw, number) -> tuple[SynthesisResult, list[str]]:
    """One draw at one place, with at most one correction of the draw after the first measurement."""
    site = find_site(scan, rng, draw, request.at_ras, request.prone, number)
    canvas = make_canvas(scan, draw, site)
    if draw.close and "invasion" not in wanted and not canvas.others.any():
        draw = _apart(draw)  # nothing near that it could reach
    healthy, moved = canvas, None
    if request.mass_effect_mm > 0:
        canvas, moved = push_away(canvas, build(canvas, draw).label, request.mass_effect_mm)
    built, measured, faults = _build_and_judge(canvas, draw, request, wanted)
    if faults:
        corrected = _corrected(draw, measured, wanted)
        if corrected is not None:
            again = _build_and_judge(canvas, corrected, request, wanted)
            if len(again[2]) < len(faults):
                draw, (built, measured, faults) = corrected, again
    result = _result(canvas, draw, built, measured, request, wanted, number)
    if moved is not None:
        result.before = healthy.host
        result.changed |= moved
        result.moved_labels = _moved_labels(canvas)
    return result, faults


def _moved_labels(canvas: Canvas) -> np.ndarray:
    """PASTA organ values of the displaced neighbourhood, uint8."""
    labels = canvas.scan.organs.labels.array[canvas.region].copy()
    own = labels[canvas.parent & (labels > 0)]
    labels[:] = np.where((canvas.others > 0) & (canvas.others < FIRST_STRUCTURE), canvas.others, 0)
    if own.size:
        labels[canvas.parent] = np.bincount(own).argmax()
    return labels


def _build_and_judge(canvas: Canvas, draw: LesionDraw, request, wanted) -> tuple[Built, Measurement, list[str]]:
    built = build(canvas, draw)
    if not built.label.any():
        raise _Rejected("nothing of the lesion is left inside the organ")
    if built.survived < (LEAST_SURVIVING_WALL if draw.kind == "wall" else LEAST_SURVIVING):
        raise _Rejected(f"only {100 * built.survived:.0f} % of the outline fits here")
    if (built.label & (canvas.others == LESION_VALUE)).any():
        raise _Rejected("it would overlap a lesion that is already there")
    measured = measure_built(canvas, draw, built)
    return built, measured, _faults(canvas, draw, built, measured, request, wanted)


def _apart(draw: LesionDraw) -> LesionDraw:
    return replace(draw, close=False, options={**draw.options, "invasion": APART})


def _corrected(draw: LesionDraw, measured: Measurement, wanted) -> LesionDraw | None:
    """The draw changed where its measurement fell between two options or beside what was asked for; None when nothing helps."""
    change: dict = {}
    options = dict(draw.options)
    off = {key for key in wanted if measured.values.get(key, wanted[key]) != wanted[key]} | set(measured.ambiguous)
    if "surface" in off:
        if draw.ill and "surface" not in wanted:
            change.update(ill=False, edge_factor=1.0)
            options["surface"] = WELL
        else:
            change["edge_factor"] = draw.edge_factor * (1.3 if draw.ill else 0.8)
    if "heterogeneity" in off:
        if options["heterogeneity"] == HETEROGENEOUS:
            change["texture_sd_hu"] = draw.texture_sd_hu * 1.7
            if not set(draw.components) & {"mottled", "laminated"}:
                change["components"] = tuple(sorted({*draw.components, "mottled"}))
        elif "heterogeneity" not in wanted and draw.lesion not in CYSTS:
            change.update(components=("mottled",), texture_sd_hu=draw.texture_sd_hu * 1.2)
            options["heterogeneity"] = HETEROGENEOUS
    if "invasion" in off and draw.close and "invasion" not in wanted:
        change["close"] = False
        options["invasion"] = APART
    elif "invasion" in off and not draw.close:
        change["extra_clearance_mm"] = draw.extra_clearance_mm + 1.3
    if "density" in off and draw.density_kind == "delta":
        delta = measured.figures.get("density_delta_hu", draw.density_hu)
        change["density_hu"] = draw.density_hu + float(np.clip(draw.density_hu - delta, -25, 25))
    return replace(draw, options=options, **change) if change else None


def _centre(canvas: Canvas, built: Built) -> np.ndarray:
    """Centroid of the label as a continuous scan index (z, y, x)."""
    return np.argwhere(built.label).mean(0) + [s.start for s in canvas.region]


def measure_built(canvas: Canvas, draw: LesionDraw, built: Built) -> Measurement:
    """Measure what ``built`` shows, as it will be on disk (whole HU)."""
    scan = canvas.scan
    local = scan.local_noise(_centre(canvas, built)) * scan.noise.high_pass_sd_hu
    measured = measure(
        draw.lesion,
        np.rint(built.after),
        built.label,
        canvas.parent,
        canvas.others,
        scan.spacing,
        scan.reference(local),
        draw.reference,
        allowed_shapes=allowed_options(draw.lesion)["shape"],
        allowed_outside=built.allowed_outside,
    )
    extent = np.array(measured.size_zxy_mm)[[0, 2, 1]]  # along the array axes; the report's order is the patient's
    measured.size_zxy_mm = tuple(float(e) for e in extent[list(scan.patient_axes)])
    return measured


def _faults(canvas, draw, built, measured: Measurement, request, wanted) -> list[str]:
    """Why this try cannot be accepted; empty when it can."""
    faults = [f"{key} is between two options ({measured.reasons.get(key, '')})" for key in measured.ambiguous]
    allowed = allowed_options(draw.lesion, canvas.scan.phase)
    for key, value in measured.values.items():
        if key in wanted and value != wanted[key]:
            faults.append(f"{key} came out as {value!r}, asked for {wanted[key]!r}")
        elif value not in allowed.get(key, (value,)):
            faults.append(f"{key} came out as {value!r}, which a {draw.lesion} cannot have")
    level, (low, high) = measured.figures.get("lesion_hu", built.level_hu), draw.hu_limits
    resolved = draw.radius_mm > 2.2 * float(canvas.scan.spacing.max())
    if resolved and draw.lesion not in STONES and not low - HU_SLACK <= level <= high + HU_SLACK:
        faults.append(
            f"its {level:.0f} HU are outside the {low:.0f} to {high:.0f} HU of this type (partial volume with what is around it)"
        )
    if not taxonomy.lesion(draw.lesion).malignant and measured.figures.get("overlap_voxels", 0) > 0:
        faults.append("a benign lesion touches another organ")
    if request.size_mm is not None and draw.kind != "wall" and built.survived > 0.985:
        got = np.array(measured.size_zxy_mm)
        tolerance = (
            np.maximum(
                canvas.scan.spacing[list(canvas.scan.patient_axes)], SIZE_TOLERANCE * np.asarray(request.size_mm)
            )
            + 1e-6
        )
        if (np.abs(got - request.size_mm) > tolerance).any():
            faults.append(f"size came out as {_mm(got)}, asked for {_mm(request.size_mm)}")
    return faults


def _mm(size) -> str:
    return "×".join(f"{s:.0f}" for s in size) + " mm"


def _result(canvas, draw, built, measured, request, wanted, number) -> SynthesisResult:
    scan = canvas.scan
    centre = scan.ct.to_ras(_centre(canvas, built))
    organ_key = taxonomy.lesion(draw.lesion).organ
    targets: dict = {
        "enhancement": scan.phase,
        **draw.options,
        "size": request.size_mm or tuple(draw.size_zyx_mm[i] for i in scan.patient_axes),
    }
    report = StructuredReport.from_measurement(
        draw.lesion,
        measured,
        enhancement=scan.phase,
        requested={key: value for key, value in targets.items() if key != "size" or draw.kind != "wall"},
        location_detail=location_detail(scan.organs, organ_key, centre),
    )
    return SynthesisResult(
        request=request,
        region=canvas.region,
        before=canvas.host,
        after=np.rint(built.after),
        label=built.label,
        organ=canvas.parent & ~built.label,
        changed=built.weight > 0,
        center_ras=tuple(float(c) for c in centre),
        requested=targets,
        measurement=measured,
        report=report,
        tries=number,
        parameters=_parameters(draw, built, wanted),
    )


def _parameters(draw: LesionDraw, built: Built, wanted) -> dict:
    """Everything needed to say how the lesion was made, as plain numbers and strings."""
    outline = draw.outline
    return {
        "kind": draw.kind,
        "asked_by_user": sorted(wanted),
        "semi_axes_mm": [float(a) for a in outline.semi_axes_mm],
        "roughness": float(outline.roughness),
        "lobes": len(outline.lobes),
        "spicules": len(outline.spicules),
        "satellites": len(outline.satellites),
        "wall": None if draw.wall is None else {k: float(v) for k, v in vars(draw.wall).items()},
        "reference_tissue": draw.reference,
        "reference_hu": built.reference_hu,
        "level_hu": built.level_hu,
        "density_name": draw.density_name,
        "components": list(draw.components),
        "edge_sigma_mm": built.edge_sigma_mm,
        "survived": built.survived,
        "exophytic_fraction": draw.exophytic,
        "bulges": built.allowed_outside is not None,
        "site": draw.site,
    }


def insert(scan: PreparedScan, result: SynthesisResult) -> None:
    """Write an accepted lesion into the scan, so that the next one sees it. Only voxels marked ``changed`` are written."""
    view = scan.ct.array[result.region]
    view[result.changed] = np.clip(result.after[result.changed], -32768, 32767).astype(view.dtype)
    if result.moved_labels is not None:
        labels = scan.organs.labels.array[result.region]
        result.labels_before = labels.copy()
        labels[:] = result.moved_labels
    scan.lesions.append(result)


def remove_last(scan: PreparedScan) -> SynthesisResult:
    """Take the last inserted lesion out again, bit for bit (undo)."""
    result = scan.lesions.pop()
    view = scan.ct.array[result.region]
    view[result.changed] = result.before[result.changed].astype(view.dtype)
    if result.labels_before is not None:
        scan.organs.labels.array[result.region] = result.labels_before
        result.labels_before = None
    return result
