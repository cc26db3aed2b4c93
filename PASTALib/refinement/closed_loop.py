"""Refinement of a synthetic lesion, measured again: what would contradict the report is blended back or dropped. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from scipy import ndimage

from .. import taxonomy
from ..progress import Progress, silent
from ..synthesis.draw import HOMOGENEOUS, allowed_options
from ..synthesis.measure_noise import NOISE_SIGMA_MM, robust_sd, smooth_within
from ..synthesis.measurement import measure
from ..synthesis.scan import PreparedScan
from ..synthesis.spec import Measurement, SynthesisResult
from .plan import Denoise, OnStep, RefinePlan, plan_for

NO_WEIGHTS = "no denoising network is there, so the lesion stays as the parametric model made it"
STRENGTHS = (
    0.6,
    0.3,
)  # shares of the change to keep when all of it (or as much as fits the noise) contradicts the report
_FITTING = (
    1.0,
    0.9,
    0.8,
    0.7,
    0.6,
    0.5,
    0.4,
)  # shares among which the one is chosen whose noise is most like the scan's
_LEAST_CORE = 100  # voxels to judge noise by
MOST_MEAN_HU = 5.0  # by which the lesion's mean may move
MOST_WIDTH = 0.15  # by which the width of its edge may change, as a share
_CONTEXT_VOXELS = 10


def refine_lesion(
    scan: PreparedScan,
    result: SynthesisResult,
    denoise: Denoise | None,
    plan: RefinePlan | None = None,
    *,
    seed: int | None = None,
    progress: Progress = silent,
    on_step: OnStep | None = None,
) -> SynthesisResult:
    """``result`` with its image refined, as a new result; nothing else of it changes, and the scan does not.

    ``denoise``: a ``refine.Refiner`` or ``remote.WorkerRefiner``; without one the lesion stays as it is. ``seed`` is the request's by default.
    ``on_step(step, of, hu)`` gets ``result.region`` after each reverse step. The lesion is measured before and after: where a label, the
    lesion's mean (by more than 5 HU) or the width of its edge (by more than 15 %) would change, 60 % of the change is tried, then 30 %, then none.
    Before that the share of the change is chosen whose noise fits the scan's best.

    ``parameters["refinement"]`` of what is returned says what was done: applied, why not, strength, plan, model, and both measurements'
    figures. Voxels that the lesion was not allowed to change (``changed``) keep their bytes. ``Cancelled`` passes through.
    """
    task = Refinement(scan, result, plan, seed)
    if denoise is None or task.arguments is None:
        return task.left(NO_WEIGHTS if denoise is None else task.limited)
    shown: OnStep | None = None
    if on_step is not None:
        shown = lambda step, of, image: on_step(step, of, image[task.inner])  # noqa: E731
    refined = denoise(**task.arguments, progress=progress, on_step=shown)
    *_, judged = task.judge(refined, denoise.name)
    return judged


class Refinement:
    """``refine_lesion`` in two halves, for those who cannot wait while the network is at work.

    ``arguments``: what a ``plan.Denoise`` takes, None when the type is not to be refined (``limited`` says why); ``inner``: where the lesion's
    region lies in the arrays. What the network returned goes into ``judge``.
    """

    def __init__(
        self, scan: PreparedScan, result: SynthesisResult, plan: RefinePlan | None = None, seed: int | None = None
    ):
        self._scan, self._result = scan, result
        self._seed = result.request.seed if seed is None else seed
        self._plan, self.limited = plan_for(result.request.lesion, plan or RefinePlan())
        self.arguments: dict | None = None
        if self._plan is not None:
            self._noise = scan.local_noise(scan.ct.to_index(np.array(result.center_ras)))
            self.inner, self.arguments = _arguments(scan, result, self._plan, self._seed, self._noise)

    def left(self, why: str) -> SynthesisResult:
        """The lesion as it is, with the reason."""
        return _with_record(self._result, {"applied": False, "why": why})

    def judge(self, refined: np.ndarray, model: str) -> Iterator[SynthesisResult | None]:
        """Measure the lesion before and after, and keep what contradicts nothing; None after each measurement, the result at the end.

        ``refined``: HU as the network ``model`` returned them.
        """
        result, plan = self._result, self._plan
        record = {"model": model, "mode": plan.mode, "start": plan.start, "steps": plan.steps, "seed": self._seed}
        if self.limited:
            record["limited"] = self.limited
        change = np.where(result.changed, refined[self.inner] - result.after, np.float32(0))
        if not change.any():
            why = "the scan shows no noise that a lesion could be matched to"
            yield _with_record(result, record | {"applied": False, "why": why})
            return
        remeasure = _measuring(self._scan, result, self._noise)
        before = remeasure(result.after)
        yield None
        faults: list[str] = []
        first = _fitting_share(self._scan, result, change, self._noise)
        for strength in (first, *(share for share in STRENGTHS if share < first)):
            after = np.rint(result.after + np.float32(strength) * change)
            after[~result.changed] = result.after[~result.changed]
            measured = remeasure(after)
            fault = contradiction(before, measured, _mean_shift(result, after))
            if not fault:
                record |= {"applied": True, "strength": strength, "faults": faults}
                record |= {"figures_before": before.figures, "mean_change_hu": _mean_shift(result, after)}
                measurement = replace(result.measurement, figures=measured.figures)
                yield replace(_with_record(result, record), after=after, measurement=measurement)
                return
            faults.append(f"{round(100 * strength)} %: {fault}")
            yield None
        why = faults[-1].split(": ", 1)[1]
        yield _with_record(result, record | {"applied": False, "why": why, "faults": faults})


def _fitting_share(scan: PreparedScan, result: SynthesisResult, change: np.ndarray, local_noise: float) -> float:
    """The share of ``change`` with which the noise in a homogeneous lesion's core is most like the scan's; 1 where it cannot be told.

    What the network leaves unexplained adds to the noise, and a mixture of two noises is weaker than either.
    """
    depth = ndimage.distance_transform_edt(result.label, sampling=scan.spacing)
    core = result.label & (depth >= 2 * result.parameters["edge_sigma_mm"])
    if np.count_nonzero(core) < _LEAST_CORE or result.report.value("heterogeneity") != HOMOGENEOUS:
        return 1.0
    box = ndimage.find_objects(core.astype(np.uint8))[0]
    core = core[box]
    keep = core & (smooth_within(change[box], core, scan.spacing, NOISE_SIGMA_MM)[1] > 0.6)
    keep = keep if np.count_nonzero(keep) >= _LEAST_CORE else core

    pairs = core[..., 1:] & core[..., :-1]

    def fine(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is finer than the tissue, and how it changes from voxel to voxel: strength and harshness of the noise."""
        image = np.asarray(image, np.float32)
        image = image - smooth_within(image, core, scan.spacing, NOISE_SIGMA_MM)[0]
        return image[keep], np.diff(image, axis=2)[pairs]

    rng = np.random.default_rng(result.request.seed)
    level = scan.noise.sd_hu * local_noise
    samples = [fine(level * scan.noise.sample(rng, core.shape)) for _ in range(4)]
    wanted = [np.mean([robust_sd(sample[part]) for sample in samples]) for part in (0, 1)]
    was, more = fine(result.after[box]), fine(change[box])
    misfits = [
        sum(abs(np.log(max(robust_sd(a + share * b), 1e-3) / max(w, 1e-3))) for a, b, w in zip(was, more, wanted))
        for share in _FITTING
    ]
    best = int(np.argmin(misfits))
    return _FITTING[best if misfits[best] < misfits[0] - 0.04 else 0]


def contradiction(before: Measurement, after: Measurement, mean_shift_hu: float) -> str:
    """What a refinement changed that it must not; "" when nothing."""
    for key in sorted({*before.values, *after.values, *before.ambiguous, *after.ambiguous}):
        was, now = (m.values.get(key, "between two options" if key in m.ambiguous else None) for m in (before, after))
        if was != now:
            return f"{key} would be {now}, not {was}"
    if abs(mean_shift_hu) > MOST_MEAN_HU:
        return f"its mean would move by {mean_shift_hu:.1f} HU"
    widths = [m.figures.get("edge_width_mm", float("nan")) for m in (before, after)]
    if np.isfinite(widths).all() and widths[0] > 0 and abs(widths[1] / widths[0] - 1) > MOST_WIDTH:
        return f"its edge would be {widths[1]:.1f} mm wide, not {widths[0]:.1f} mm"
    return ""


def refinement_note(result: SynthesisResult) -> str:
    """One line for the user about a lesion that was not refined, or not fully; "" when there is nothing to say."""
    record = result.parameters.get("refinement") or {}
    if record and not record["applied"]:
        return f"not refined: {record['why']}"
    if record.get("strength", 1.0) < 1.0 and record["faults"]:
        return (
            f"{round(100 * record['strength'])} % of the refinement is kept ({record['faults'][-1].split(': ', 1)[1]})"
        )
    return ""


def _with_record(result: SynthesisResult, record: dict) -> SynthesisResult:
    return replace(result, parameters={**result.parameters, "refinement": record})


def _mean_shift(result: SynthesisResult, after: np.ndarray) -> float:
    return float(after[result.label].mean(dtype=np.float64) - result.after[result.label].mean(dtype=np.float64))


def _arguments(scan: PreparedScan, result: SynthesisResult, plan: RefinePlan, seed: int, local_noise: float):
    """Where the region lies in the arrays, and what the network gets: it sees the scan some way beyond the region."""
    wide, inner = [], []
    for part, size in zip(result.region, scan.ct.array.shape):
        low, high = max(0, part.start - _CONTEXT_VOXELS), min(size, part.stop + _CONTEXT_VOXELS)
        wide.append(slice(low, high))
        inner.append(slice(part.start - low, part.stop - low))
    wide, inner = tuple(wide), tuple(inner)
    hu = scan.ct.array[wide].astype(np.float32)
    hu[inner] = result.after
    organ = scan.organs.labels.array[wide] == taxonomy.organ(taxonomy.lesion(result.request.lesion).organ).value
    organ[inner] |= result.organ
    label, changed = np.zeros(hu.shape, bool), np.zeros(hu.shape, bool)
    label[inner], changed[inner] = result.label, result.changed
    z, x, y = scan.patient_axes
    noise_hu = scan.noise.sd_hu * local_noise if scan.noise.patches else None
    arguments = {"hu": hu, "label": label, "organ": organ, "changed": changed, "plan": plan, "noise_hu": noise_hu}
    return inner, arguments | {"noise_power": scan.noise.power, "order": (z, y, x), "seed": seed}


def _measuring(scan: PreparedScan, result: SynthesisResult, local_noise: float) -> Callable[[np.ndarray], Measurement]:
    """The measurement of the lesion in an image of its region, in the same way each time."""
    alone = replace(scan, lesions=[item for item in scan.lesions if item is not result])
    lesion, region = result.request.lesion, result.region
    centre = scan.ct.to_index(np.array(result.center_ras))
    parent, others = alone.parent_and_others(region, taxonomy.lesion(lesion).organ, centre)
    if result.moved_labels is not None:
        parent = result.organ | (result.label & parent)
        others = np.where(parent | result.label, 0, result.moved_labels).astype(np.uint8)
    reference = scan.reference(local_noise * scan.noise.high_pass_sd_hu)
    outside = (others == 0) & ~parent if result.parameters["bulges"] else None

    def take(image: np.ndarray) -> Measurement:
        return measure(
            lesion,
            np.asarray(image, np.float32),
            result.label,
            parent,
            others,
            scan.spacing,
            reference,
            result.parameters["reference_tissue"],
            allowed_shapes=allowed_options(lesion)["shape"],
            allowed_outside=outside,
        )

    return take
