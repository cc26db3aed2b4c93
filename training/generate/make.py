"""Making cases in a worker process: prepared scans are kept within a bound of memory, finished cases are found again, not made twice."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from socket import gethostname
from threading import Lock

import numpy as np

from PASTALib.cases import write_case
from PASTALib.errors import InputError
from PASTALib.organs import OrganMap
from PASTALib.synthesis.generator import insert, remove_last, synthesise
from PASTALib.synthesis.priors import draw, load_priors
from PASTALib.synthesis.scan import PreparedScan
from PASTALib.synthesis.spec import LesionRequest, SynthesisResult
from PASTALib.volume import Volume

from .locks import locked
from .manifest import is_complete, line_of
from .plan import CasePlan, Job, Settings, seed_of
from .templates import Template, load

AIR_HU = -1024
BUSY = ".busy"  # locked (shared) while a case is being written
EXTRA_ATTEMPTS = 4  # per further lesion of a case with several


@dataclass
class Made:
    """What became of one case: a manifest line, or why it was given up; seconds and CPU seconds of work, and seconds of it for loading
    templates."""

    case: CasePlan
    line: dict | None
    reasons: list[str]
    seconds: float
    cpu_s: float
    loading_s: float
    found: bool = False


class ScanCache:
    """Prepared scans by template, the least recently used dropped when ``limit_bytes`` is exceeded (one is always kept)."""

    def __init__(self):
        self._kept: OrderedDict[tuple, PreparedScan] = OrderedDict()
        self.seconds = 0.0  # spent on loading so far

    def get(self, template: Template, spacing_mm: float, limit_bytes: int) -> PreparedScan:
        """The template ready for lesions; see ``templates.load``."""
        key = (template.id, template.fingerprint, spacing_mm)
        if key not in self._kept:
            grid = [s / spacing_mm if spacing_mm else 1.0 for s in template.spacing_zyx_mm]
            coming = 4 * int(np.prod(template.shape_zyx) * np.prod(grid))  # int16 and two uint8 maps
            while self._kept and self.bytes + coming > limit_bytes:
                self._kept.popitem(last=False)
            begun = time.perf_counter()
            self._kept[key] = load(template, spacing_mm)
            self.seconds += time.perf_counter() - begun
        self._kept.move_to_end(key)
        return self._kept[key]

    @property
    def bytes(self) -> int:
        """Memory of the kept arrays."""
        return sum(_bytes(scan) for scan in self._kept.values())


def _bytes(scan: PreparedScan) -> int:
    arrays = [scan.ct.array, scan.organs.labels.array, *(item.depth_mm for item in scan.geometry.values())]
    if scan.organs.structures is not None:
        arrays.append(scan.organs.structures.array)
    return sum(array.nbytes for array in arrays)


_CACHE = ScanCache()
_ONE_AT_A_TIME = Lock()  # a prepared scan is changed while a case with several lesions is made


def make_job(
    out: str, job: Job, templates: Mapping[str, Template], settings: Settings, cache_bytes: int, adopt: bool = True
) -> list[Made]:
    """Make the cases of a job below ``out``. A case that is already there, complete and of the same plan is only read back.

    InputError when a case cannot be written or a template is no longer what was judged.
    """
    if not Path(out).is_dir():
        raise InputError(
            f"{out} is not there on the worker {gethostname()}; workers must share the folder under the same path"
        )
    made = []
    with _ONE_AT_A_TIME, locked(Path(out) / BUSY, shared=True, wait_s=60.0) as mine:
        if not mine:
            raise InputError(f"{out}: another session is tidying up in there; end it and use --resume")
        for case in job.cases:
            begun, used, loaded = time.perf_counter(), time.process_time(), _CACHE.seconds
            folder = Path(out) / case.id
            found = adopt and is_complete(folder, case.key)
            reasons = [] if found else _make(folder, case, templates, settings, cache_bytes)
            line = line_of(Path(out), folder) if found or not reasons else None
            seconds = time.perf_counter() - begun
            cpu_s = time.process_time() - used
            made.append(Made(case, line, reasons, seconds, cpu_s, _CACHE.seconds - loaded, found))
    return made


def _make(folder: Path, case: CasePlan, templates, settings: Settings, cache_bytes: int) -> list[str]:
    """Write one case; the reasons of every attempt when none succeeded."""
    reasons = []
    for attempt in range(settings.attempts):
        name = case.templates[attempt * len(case.templates) // settings.attempts]
        template = templates[name]
        scan = _CACHE.get(template, settings.spacing_mm, cache_bytes)
        seed = seed_of(settings, case.lesion, case.number, attempt)
        results: list[SynthesisResult] = []
        try:
            results = [_accepted(scan, case.lesion, seed)]
            box = _cube(scan, results[0], settings.cube)
            if settings.multiple:
                _add_more(scan, results, box, settings, case, attempt)
        except InputError as error:
            reasons.append(f"attempt {attempt + 1} in {name}: {error}")
            continue
        finally:
            while scan.lesions:
                remove_last(scan)
        ct, organs, results = _cut(scan, results, box)
        options = {
            "key": case.key,
            "number": case.number,
            "template": template.id,
            "patient": template.patient,
            "study": template.study,
            "attempts": attempt + 1,
            "run_seed": settings.seed,
            "spacing_mm": settings.spacing_mm,
            "cube": settings.cube,
            "multiple": settings.multiple,
        }
        source = template.row.ct if template.row is not None else template.id
        try:
            write_case(folder, ct, organs, results, seed=seed, source=source, options=options, overwrite=True)
        except OSError:
            if not is_complete(folder, case.key):  # unless a worker that was given up for dead has written it meanwhile
                raise
        return []
    return reasons


def _accepted(scan: PreparedScan, lesion: str, seed: int) -> SynthesisResult:
    result = synthesise(scan, LesionRequest(lesion, seed=seed))
    if not result.accepted:
        why = result.log[-1].split(": ", 1)[-1] if result.log else "no reason recorded"
        raise InputError(f"no try showed what it should ({why})")
    return result


def _add_more(scan, results: list, box, settings: Settings, case: CasePlan, attempt: int) -> None:
    """Further lesions of the same type, as many as the priors say, all wholly inside ``box``; fewer where there is no room."""
    first = seed_of(settings, case.lesion, case.number, attempt)
    count = int(draw(load_priors()[case.lesion].count, np.random.default_rng([first, 1])))
    insert(scan, results[0])
    for part in range(1, count):
        for again in range(EXTRA_ATTEMPTS):
            seed = seed_of(settings, case.lesion, case.number, attempt, part + 1000 * again)
            try:
                result = _accepted(scan, case.lesion, seed)
            except InputError:
                continue
            if box is None or _inside(result, box):
                insert(scan, result)
                results.append(result)
                break


# --- the cube around a lesion ----------------------------------------------------------------------------------------


def _cube(scan: PreparedScan, result: SynthesisResult, side: int) -> tuple[tuple[int, int], ...] | None:
    """Bounds (start, stop) along z, y, x of ``side`` voxels around the lesion, inside the scan where it is that large.

    InputError for a lesion that is larger than the cube. None for no cube.
    """
    if not side:
        return None
    bounds = []
    for axis, (part, size) in enumerate(zip(result.region, scan.ct.array.shape)):
        hit = np.flatnonzero(result.label.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = part.start + int(hit[0]), part.start + int(hit[-1]) + 1
        if high - low > side - 2:
            raise InputError(f"the lesion is {high - low} voxels long, the cube has {side}")
        start = (low + high - side) // 2
        start = min(max(start, 0), size - side) if size >= side else (size - side) // 2
        bounds.append((start, start + side))
    return tuple(bounds)


def _inside(result: SynthesisResult, box) -> bool:
    """Whether everything that a lesion changes lies in the box."""
    for axis, (part, (low, high)) in enumerate(zip(result.region, box)):
        hit = np.flatnonzero(result.changed.any(axis=tuple(other for other in range(3) if other != axis)))
        if part.start + hit[0] < low or part.start + hit[-1] >= high:
            return False
    return True


def _cut(scan: PreparedScan, results: list[SynthesisResult], box) -> tuple[Volume, OrganMap, list[SynthesisResult]]:
    """CT, organ map and lesions on the cube's grid; air and no organ where the cube reaches beyond the scan."""
    if box is None:
        return scan.ct, scan.organs, results
    affine = np.array(scan.ct.affine, float)
    affine[:3, 3] = scan.ct.to_ras([low for low, _ in box])
    ct = Volume(_boxed(scan.ct.array, box, AIR_HU), affine, dict(scan.ct.meta))
    organs = OrganMap(Volume(_boxed(scan.organs.labels.array, box, 0), affine), scheme=scan.organs.scheme)
    return ct, organs, [_shifted(result, box) for result in results]


def _boxed(array: np.ndarray, box, outside: int) -> np.ndarray:
    out = np.full([high - low for low, high in box], outside, array.dtype)
    source = tuple(slice(max(low, 0), min(high, size)) for (low, high), size in zip(box, array.shape))
    target = tuple(slice(s.start - low, s.stop - low) for s, (low, _) in zip(source, box))
    out[target] = array[source]
    return out


def _shifted(result: SynthesisResult, box) -> SynthesisResult:
    """The lesion's patch in the indices of the box, cut where it reaches beyond."""
    kept = [(max(part.start, low), min(part.stop, high)) for part, (low, high) in zip(result.region, box)]
    inner = tuple(slice(a - part.start, b - part.start) for (a, b), part in zip(kept, result.region))
    names = ("before", "after", "label", "organ", "changed", "moved_labels")
    arrays = {name: getattr(result, name) for name in names}
    return replace(
        result,
        region=tuple(slice(a - low, b - low) for (a, b), (low, _) in zip(kept, box)),
        **{name: None if array is None else np.ascontiguousarray(array[inner]) for name, array in arrays.items()},
    )
