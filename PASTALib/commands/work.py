"""The steps that synth, demo and gallery share: read a scan, make lesions in it, write what a person looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from .. import taxonomy
from ..errors import InputError
from . import options
from .console import Steps

if TYPE_CHECKING:
    import numpy as np

    from ..synthesis.scan import PreparedScan
    from ..synthesis.spec import LesionRequest, SynthesisResult
    from ..volume import Volume
    from ..worker import Worker

    Improve = Callable[[PreparedScan, SynthesisResult], SynthesisResult]

SEEDS_FOR_A_PAGE, SEED_STEP = 6, 1000


def load_scan(ct_path: Path, organs_path: Path, scheme: str | None, steps: Steps) -> PreparedScan:
    """Read a CT and its organ map and measure what every lesion needs."""
    options.existing(ct_path, "--ct")
    options.existing(organs_path, "--organs")
    from ..organs import read_organs
    from ..synthesis.scan import prepare_scan

    steps.start("Reading the CT")
    ct = read_ct(ct_path)
    steps.start("Reading the organ map")
    organs = read_organs(organs_path, scheme, ct)
    return prepare_scan(ct, organs, steps.start("Preparing the scan"))


def read_ct(path: Path) -> Volume:
    """The CT that ``--ct`` names."""
    from ..volume import read_volume

    return read_volume(options.existing(path, "--ct"), "ct")


def phantom_scan(phase: str, spacing_mm: float, seed: int, steps: Steps) -> PreparedScan:
    """The built-in digital phantom in one contrast phase, prepared for lesions."""
    from ..phantom import make_phantom
    from ..synthesis.scan import prepare_scan

    steps.start(f"Making the digital phantom ({phase})")
    phantom = make_phantom(spacing_mm=spacing_mm, phase=phase, seed=seed)
    return prepare_scan(phantom.ct, phantom.organs, steps.start("Preparing the scan"))


def check_point(scan: PreparedScan, point: tuple[float, float, float] | None) -> None:
    """InputError when ``point`` (RAS mm) lies outside the scan."""
    if point is not None:
        from ..inference.crops import check_inside

        check_inside(scan.ct, point, "--at")


def make_lesions(
    scan: PreparedScan,
    requests: list[LesionRequest],
    steps: Steps,
    improve: Improve | None = None,
) -> list[SynthesisResult]:
    """Put one lesion after another into the scan, each first given to ``improve``; each sees those before it."""
    from ..synthesis.generator import insert, synthesise

    results = []
    for number, request in enumerate(requests, 1):
        name = taxonomy.lesion(request.lesion).name
        update = steps.start(f"{name} ({number} of {len(requests)})" if len(requests) > 1 else name)
        try:
            result = synthesise(scan, request)
        except InputError as error:
            if not results:
                raise
            raise InputError(f"lesion {number} of {len(requests)} ({request.lesion}): {error}") from None
        if improve is not None:
            result = improve(scan, result)
        insert(scan, result)
        results.append(result)
        update(1.0)
    return results


@contextmanager
def refining(denoiser: Path | None, steps: Steps, worker: Worker | None = None) -> Iterator[Improve | None]:
    """For ``make_lesions``: refines in ``worker``, or one of its own, with the network in the file ``denoiser``, which is read at once.

    None without a file.
    """
    if denoiser is None:
        yield None
        return
    from ..refinement.closed_loop import refine_lesion
    from ..refinement.remote import WorkerRefiner
    from ..worker import Worker

    with nullcontext(worker) if worker is not None else Worker() as running:
        refiner = WorkerRefiner(running, denoiser)
        refiner.load(steps.start("Loading the denoising network"))
        yield lambda scan, result: refine_lesion(scan, result, refiner, progress=steps.start("Refining"))


def phase_warnings(scan: PreparedScan, lesion_keys: Iterable[str]) -> list[str]:
    """One line per type that the paper makes in scans of the other phase."""
    lines = []
    for key in dict.fromkeys(lesion_keys):
        phases = taxonomy.lesion(key).phases
        if scan.phase not in phases:
            lines.append(
                f"{key}: the paper uses {' or '.join(phases)}, this scan is {scan.phase} ({scan.phase_reason})"
            )
    return lines


def scan_notes(scan: PreparedScan, lesion_keys: Iterable[str]) -> list[str]:
    """What the readers had to decide, what looks wrong about the organs in question, and phases that the paper does not use."""
    from ..organs import check_organs

    lesion_keys = list(lesion_keys)
    names = {taxonomy.organ(taxonomy.lesion(key).organ).name.lower() for key in lesion_keys}
    doubts = [line for line in check_organs(scan.ct, scan.organs) if any(name in line.lower() for name in names)]
    return [*scan.ct.meta.get("notes", []), *scan.organs.notes, *doubts, *phase_warnings(scan, lesion_keys)]


def result_notes(scan: PreparedScan, results: list[SynthesisResult]) -> list[str]:
    """One line for each lesion that could not be made quite as asked for."""
    from ..attributes import format_size
    from ..refinement.closed_loop import refinement_note
    from ..reporting.rows import size_differs

    lines = []
    for number, result in enumerate(results, 1):
        name = (f"lesion {number}, " if len(results) > 1 else "") + result.request.lesion
        wanted, found = result.request.size_mm, result.measurement.size_zxy_mm
        if not result.accepted:
            why = result.log[-1].split(": ", 1)[-1] if result.log else "no reason recorded"
            lines.append(f"{name}: no try met every wish; the closest is kept and reported as measured ({why})")
        elif wanted is not None and size_differs(wanted, found, scan.spacing.max()):
            lines.append(
                f"{name}: it is {format_size(found)} instead of {format_size(wanted)}; try another place or seed"
            )
        if line := refinement_note(result):
            lines.append(f"{name}: {line}")
    return lines


def full_label(scan: PreparedScan, result: SynthesisResult) -> np.ndarray:
    """The lesion as a bool ``(z, y, x)`` mask on the whole scan."""
    import numpy as np

    label = np.zeros(scan.ct.array.shape, bool)
    label[result.region] = result.label
    return label


def report_text(scan: PreparedScan, results: list[SynthesisResult], source: str, notes: list[str]) -> str:
    """The readable report of a case: one block per lesion."""
    spacing = " × ".join(f"{value:.3g}" for value in scan.spacing[::-1])
    lines = [f"Scan: {source}, {scan.phase}, voxels {spacing} mm (x, y, z)", *(f"Note: {item}" for item in notes)]
    for number, result in enumerate(results, 1):
        centre = ", ".join(f"{value:.1f}" for value in result.center_ras)
        lines += [
            "",
            f"Lesion {number}, centre R,A,S = {centre} mm, seed {result.request.seed}, accepted at try {result.tries}",
        ]
        lines += [result.report.to_text(), "", result.report.to_sentence()]
    return "\n".join([*lines, "", "Synthetic lesions. Not for diagnosis.", ""])


def write_scan_case(
    root: Path,
    name: str,
    scan: PreparedScan,
    before: np.ndarray,
    results: list[SynthesisResult],
    *,
    source: str,
    seed: int,
    notes: list[str],
    settings: dict,
    steps: Steps,
) -> Path:
    """Write one case below ``root`` in PASTA-Gen-30K's layout, with report.txt and a preview per lesion; returns its folder."""
    from ..cases import case_folder, write_case
    from ..reporting.preview import save_preview

    update = steps.start("Writing the case")
    folder = case_folder(root, results[0].request.lesion, name)
    write_case(folder, scan.ct, scan.organs, results, seed=seed, source=source, options=settings)
    (folder / "report.txt").write_text(report_text(scan, results, source, notes), encoding="utf-8")
    for number, result in enumerate(results, 1):
        update((number - 0.5) / len(results))
        file = folder / ("preview.png" if len(results) == 1 else f"preview_{number:02d}.png")
        save_preview(
            file, before, scan.ct.array, full_label(scan, result), scan.ct.affine, result.request.lesion, result.report
        )
    return folder


def lesion_json(result: SynthesisResult) -> dict:
    """What ``--json`` prints of one lesion."""
    return {
        "lesion": result.request.lesion,
        "seed": result.request.seed,
        "center_ras_mm": [round(float(value), 2) for value in result.center_ras],
        "size_zxy_mm": [round(float(value), 2) for value in result.measurement.size_zxy_mm],
        "tries": result.tries,
        "as_requested": bool(result.accepted),
        "report": result.report.to_json(),
    }


def scan_name(path: Path) -> str:
    """A short file-system-safe name of a scan: its file or folder name without suffix."""
    import re

    stem = path.resolve().name
    for suffix in (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd"):
        stem = stem.removesuffix(suffix)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._") or "scan"


def worth_seeing(scan: PreparedScan, kind: str, seed: int) -> SynthesisResult:
    """A lesion for a page: of a few seeds the first that is large enough to show its attributes, or else the largest."""
    from ..synthesis.generator import synthesise
    from ..synthesis.spec import LesionRequest

    wanted = 6.0 if kind in ("gallstone", "kidney_stone") else 18.0
    best: SynthesisResult | None = None
    for number in range(SEEDS_FOR_A_PAGE):
        result = synthesise(scan, LesionRequest(kind, seed + number * SEED_STEP))
        size = max(result.measurement.size_zxy_mm)
        if best is None or (result.accepted, size) > (best.accepted, max(best.measurement.size_zxy_mm)):
            best = result
        if best.accepted and max(best.measurement.size_zxy_mm) >= wanted:
            break
    return best
