"""From CT and mask to findings: connected components, their figures, and the structured report of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from .. import taxonomy
from ..attributes import FIGURE_NAMES, LEARNED, AttributeValue, StructuredReport, format_size
from ..errors import InputError
from ..organs import OrganMap, location_detail
from ..progress import Progress, silent
from ..synthesis.measure_shape import size_zxy_mm
from ..synthesis.measurement import measure
from ..synthesis.priors import load_priors
from ..synthesis.scan import PreparedScan, prepare_scan
from ..synthesis.spec import Measurement
from ..volume import Volume, patient_axes, same_grid
from .axes import Line, largest_slice, long_and_short_axis
from .mask import LesionMask
from .model import AttributePrediction, Finding, HuFigures, equivalent_diameter_mm
from .phase import ScanPhase, scan_phase

MIN_SIZE_MM = 3.0
_AROUND_MM = 28.0  # the measurement looks up to 26 mm round a lesion
_CONNECTED = np.ones((3, 3, 3), bool)  # 26-connected


@dataclass
class _Component:
    lesion: str
    box: tuple[slice, slice, slice]
    mask: np.ndarray
    voxels: int


def find_lesions(
    ct: Volume,
    mask: LesionMask,
    *,
    organs: OrganMap | None = None,
    phase: ScanPhase | None = None,
    min_size_mm: float = MIN_SIZE_MM,
    notes: list[str] | None = None,
    progress: Progress = silent,
) -> list[Finding]:
    """The lesions of a scan, each with everything that image and mask tell.

    ``ct`` HU and ``mask.labels`` share one grid, ``organs`` too. Lesions are the 26-connected parts of each label value whose volume is
    at least that of a ball of ``min_size_mm``; they are numbered from 1 by type (in the taxonomy's order), then by size. ``phase`` saves
    finding it again (``scan_phase``). One-line remarks (small parts left out, lesions far from their organ) are appended to ``notes``.

    With an organ map that holds the parent organ, the five learned attributes are measured as well (``Finding.measured``). The report is
    that of ``complete`` without a prediction. Raises InputError for differing grids.
    """
    difference = same_grid(ct, mask.labels)
    if difference:
        raise InputError(f"CT and lesion mask lie on different grids ({difference}); give the mask drawn on this CT")
    notes = [] if notes is None else notes
    progress(0, 1, "finding lesions")
    phase = scan_phase(ct, organs) if phase is None else phase
    parts = _components(mask, ct, min_size_mm, notes)
    scan = None
    if organs is not None and any(organs.has(taxonomy.lesion(part.lesion).organ) for part in parts):
        progress(0, 1, "preparing the scan for measurements")
        scan = prepare_scan(ct, organs)
    findings = []
    for number, part in enumerate(parts, 1):
        progress(number - 1, len(parts), f"lesion {number} of {len(parts)}")
        findings.append(_finding(number, part, ct, mask, organs, scan, phase, notes))
    progress(1, 1, "lesions found")
    return findings


def complete(finding: Finding, prediction: AttributePrediction | None) -> Finding:
    """The finding with its report put together again.

    Enhancement, location and size stay as measured. The five learned attributes are those of ``prediction``, with its probability as
    confidence; without a prediction (or where the network does not predict one, or is ``weak``) those of ``finding.measured``; otherwise they
    are left out.
    """
    values = {key: entry for key, entry in finding.report.values.items() if key not in LEARNED}
    for key in LEARNED:
        best = prediction.best(key) if prediction is not None else None
        measured = finding.measured.values.get(key) if finding.measured is not None else None
        if best is not None and not (prediction.weak and measured is not None):
            values[key] = AttributeValue(best[0], "predicted", best[1])
        elif measured is not None:
            values[key] = measured
    report = StructuredReport(finding.lesion, values, finding.report.location_detail)
    return replace(finding, report=report, prediction=prediction)


# ---------------------------------------------------------------------------------------------------------------
# Components


def _components(mask: LesionMask, ct: Volume, min_size_mm: float, notes: list[str]) -> list[_Component]:
    voxel_mm3 = float(abs(np.linalg.det(ct.affine[:3, :3])))
    kept, small = [], {}
    for part in _parts(mask):
        if equivalent_diameter_mm(part.voxels * voxel_mm3) >= min_size_mm - 1e-9:
            kept.append(part)
        else:
            small[part.lesion] = small.get(part.lesion, 0) + 1
    for key, count in small.items():
        word = "part" if count == 1 else "parts"
        name = taxonomy.lesion(key).name
        notes.append(
            f"{name}: {count} {word} of the mask below {min_size_mm:g} mm (diameter of a ball of the same volume) left out"
        )
    return sorted(
        kept, key=lambda part: (taxonomy.lesion(part.lesion).value, -part.voxels, [side.start for side in part.box])
    )


def _parts(mask: LesionMask) -> Iterator[_Component]:
    for value, box in enumerate(ndimage.find_objects(mask.labels.array), start=1):
        if box is None or value not in mask.types:
            continue
        numbered, count = ndimage.label(mask.labels.array[box] == value, _CONNECTED)
        sizes = np.bincount(numbered.ravel(), minlength=count + 1)
        for number, inner in enumerate(ndimage.find_objects(numbered), start=1):
            whole = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, inner))
            yield _Component(mask.types[value], whole, numbered[inner] == number, int(sizes[number]))


# ---------------------------------------------------------------------------------------------------------------
# One finding


def _finding(
    number: int,
    part: _Component,
    ct: Volume,
    mask: LesionMask,
    organs: OrganMap | None,
    scan: PreparedScan | None,
    phase: ScanPhase,
    notes: list[str],
) -> Finding:
    spacing = ct.spacing_zyx_mm
    axes = patient_axes(ct.affine)
    extent = np.array(size_zxy_mm(part.mask, spacing))[
        [0, 2, 1]
    ]  # along the array axes; the report's order is the patient's
    size = tuple(float(extent[axis]) for axis in axes)
    values = ct.array[part.box][part.mask].astype(np.float32)
    p5, p95 = np.percentile(values, (5, 95))
    hu = HuFigures(float(values.mean(dtype=float)), float(values.std(dtype=float)), float(p5), float(p95))
    centre = _centre(part, ct)
    long, short = _diameters(part, ct, axes[0])
    volume_ml = part.voxels * float(abs(np.linalg.det(ct.affine[:3, :3]))) / 1000.0

    organ = taxonomy.organ(taxonomy.lesion(part.lesion).organ)
    known = organs is not None and organs.has(organ.key)
    entries = {
        "location": AttributeValue(organ.location, "measured"),
        "size": AttributeValue(
            format_size(size),
            "measured",
            figure={"long_axis_mm": long.length_mm, "short_axis_mm": short.length_mm, "volume_ml": volume_ml},
        ),
    }
    if phase.value is not None:
        entries["enhancement"] = AttributeValue(phase.value, "measured", phase.confidence)
    report = StructuredReport(part.lesion, entries, location_detail(organs, organ.key, centre) if known else "")
    finding = Finding(
        number, part.lesion, part.box, part.mask, centre, volume_ml, hu, size, long, short, report,
        at_border=any(s.start == 0 or s.stop == n for s, n in zip(part.box, ct.array.shape)),
    )  # fmt: skip
    if scan is not None and known:
        measured = _measure(part, scan, mask, ct)
        if measured is None:
            notes.append(
                f"lesion {number} ({taxonomy.lesion(part.lesion).name.lower()}) lies more than {_AROUND_MM:.0f} mm from the {organ.name.lower()} of the organ map; "
                "check its type, and that mask and organ map belong together"
            )
        else:
            finding = replace(finding, measured=_measured_report(report, measured), reasons=dict(measured.reasons))
    return complete(finding, None)


def _centre(part: _Component, ct: Volume) -> tuple[float, float, float]:
    """RAS mm of the centroid, or of the lesion voxel nearest to it where the centroid lies outside the lesion."""
    points = np.argwhere(part.mask)
    middle = points.mean(axis=0)
    if not part.mask[tuple(np.rint(middle).astype(int))]:
        steps = (points - middle) * ct.spacing_zyx_mm
        middle = points[int(np.argmin(np.round((steps**2).sum(axis=1), 9)))]
    ras = ct.to_ras(middle + [s.start for s in part.box])
    return tuple(float(value) for value in ras)


def _diameters(part: _Component, ct: Volume, axial: int) -> tuple[Line, Line]:
    """Long and short axis in the axial slice of largest area, as lines in RAS mm."""
    at = largest_slice(part.mask, axial)
    rows, columns = (axis for axis in range(3) if axis != axial)
    ends = long_and_short_axis(part.mask.take(at, axis=axial), tuple(ct.spacing_zyx_mm[[rows, columns]]))
    lines = []
    for pair in ends:
        index = np.empty((2, 3))
        index[:, axial] = at
        index[:, [rows, columns]] = pair
        start, end = np.round(
            ct.to_ras(index + [s.start for s in part.box]), 4
        )  # so that JSON gives back the same length
        lines.append(Line(tuple(float(v) for v in start), tuple(float(v) for v in end)))
    return lines[0], lines[1]


def _measure(part: _Component, scan: PreparedScan, mask: LesionMask, ct: Volume) -> Measurement | None:
    """The lesion held against its organ; None when nothing of the organ lies near."""
    lesion = taxonomy.lesion(part.lesion)
    grow = np.ceil(_AROUND_MM / scan.spacing).astype(int)
    region = tuple(slice(max(0, s.start - g), min(n, s.stop + g)) for s, g, n in zip(part.box, grow, ct.array.shape))
    label = np.zeros([s.stop - s.start for s in region], bool)
    label[tuple(slice(b.start - r.start, b.stop - r.start) for b, r in zip(part.box, region))] = part.mask
    middle = np.argwhere(part.mask).mean(axis=0) + [s.start for s in part.box]
    parent, others = scan.parent_and_others(region, lesion.organ, at=middle if lesion.organ == "bone" else None)
    if not parent.any():
        return None
    neighbours = np.isin(mask.labels.array[region], list(mask.types)) & ~label
    parent &= ~neighbours  # another lesion is no healthy tissue to compare with
    noise = scan.reference(scan.local_noise(middle) * scan.noise.high_pass_sd_hu)
    priors = load_priors()[part.lesion]
    image = ct.array[region].astype(np.float32)

    def against(tissue: str) -> Measurement:
        return measure(part.lesion, image, label, parent, others, scan.spacing, noise, tissue, sharp_label=False)

    tissue = priors.reference_for("*")
    found = against(tissue)
    wanted = priors.reference_for(found.values.get("shape", "*"))
    return found if wanted == tissue else against(wanted)


def _measured_report(report: StructuredReport, measured: Measurement) -> StructuredReport:
    """What the measurement could tell of the five learned attributes, beside what is known anyway."""
    values = dict(report.values)
    for key in LEARNED:
        if key in measured.values:
            figure = {name: x for name, x in measured.figures.items() if name.startswith(FIGURE_NAMES[key])}
            values[key] = AttributeValue(measured.values[key], "measured", figure=figure or None)
    return replace(report, values=values)
