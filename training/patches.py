"""Where training patches come from: cubes of scans, with lesions made on the fly, the same for the same seed and index."""

from __future__ import annotations

import csv
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from PASTALib import taxonomy
from PASTALib.attributes import StructuredReport
from PASTALib.errors import InputError
from PASTALib.organs import SCHEMES, OrganMap, read_organs
from PASTALib.phantom import make_phantom
from PASTALib.phantom.build import REGIONS
from PASTALib.synthesis.generator import synthesise
from PASTALib.synthesis.scan import PreparedScan, prepare_scan
from PASTALib.synthesis.spec import LesionRequest, SynthesisResult
from PASTALib.volume import CANONICAL_RAS_SIGNS, Volume, read_volume, to_canonical

AIR_HU = -1000
LESION_SEEDS = 3  # tries for a lesion that shows all it should; after them the patch stays healthy
ORGAN_SHARE = 0.85  # of healthy patches whose centre lies in an organ; the others lie anywhere
_COARSE_MM = 4.0  # at about this spacing a patch's centre is drawn
_JITTER = 0.25  # of the side: how far the lesion or organ point may lie from the patch's middle


class ScanSpec(Protocol):
    """Something that a patch source can load, more than once and in any process."""

    def load(self) -> tuple[Volume, OrganMap]:
        """CT (int16 HU) and organ map on one grid."""


@dataclass(frozen=True)
class PhantomScan:
    """A digital phantom; the arguments of ``make_phantom``."""

    seed: int = 0
    phase: str = taxonomy.ENHANCED
    spacing_mm: float | tuple[float, float, float] = 1.0
    noise_hu: float = 12.0
    region: str = "torso"

    def load(self) -> tuple[Volume, OrganMap]:
        made = make_phantom(self.spacing_mm, self.phase, self.seed, self.noise_hu, region=self.region)
        return made.ct, made.organs


@dataclass(frozen=True)
class FileScan:
    """A CT and its organ map on disk."""

    ct: Path
    organs: Path
    scheme: str | None = None

    def load(self) -> tuple[Volume, OrganMap]:
        ct = read_volume(self.ct, "ct")
        return ct, read_organs(self.organs, self.scheme, ct)


def phantom_scans(
    count: int,
    seed: int = 0,
    spacings_mm: Sequence[float | Sequence[float]] = (1.0,),
    noise_hu: tuple[float, float] = (8.0, 20.0),
    region: str = "torso",
) -> list[PhantomScan]:
    """``count`` different phantoms, both phases in turn; voxel sizes (one number or z, y, x) in turn, noise drawn between two HU."""
    if not spacings_mm or region not in REGIONS:
        raise InputError(f"phantoms of region {region!r}; wanted a voxel size and one of {', '.join(REGIONS)}")
    phases = (taxonomy.ENHANCED, taxonomy.PLAIN)
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        spacing = spacings_mm[number // len(phases) % len(spacings_mm)]
        spacing = float(spacing) if np.ndim(spacing) == 0 else tuple(float(s) for s in spacing)
        noise = round(float(rng.uniform(*noise_hu)), 2)
        made.append(PhantomScan(int(rng.integers(1, 2**31)), phases[number % 2], spacing, noise, region))
    return made


def scans_of_table(path: str | Path) -> list[FileScan]:
    """The scans of a CSV table with the columns ct and organs, and if wanted scheme; relative paths start at the table's folder.

    InputError naming the line for a missing column or file, or an unknown scheme.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); wanted a CSV with columns ct,organs") from None
    if not rows or not {"ct", "organs"} <= set(rows[0]):
        found = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise InputError(f"{path}: found {found}; wanted a CSV with columns ct,organs and a row per scan")
    scans = []
    for number, row in enumerate(rows, 2):
        places = [path.parent / (row[key] or "") for key in ("ct", "organs")]
        for key, place in zip(("ct", "organs"), places):
            if not row[key] or not place.exists():
                raise InputError(f"{path}, line {number}: {key} {row[key]!r} does not exist; check the path")
        scheme = row.get("scheme") or None
        if scheme is not None and scheme not in SCHEMES:
            raise InputError(f"{path}, line {number}: scheme {scheme!r}; use one of {', '.join(SCHEMES)}")
        scans.append(FileScan(*places, scheme))
    return scans


class Patch(NamedTuple):
    """``hu`` int16, ``organs`` uint8 (0, 1-10) and ``lesions`` uint8 (0, 11-25), all (z, y, x); ``report`` of the lesion, None without."""

    hu: np.ndarray
    organs: np.ndarray
    lesions: np.ndarray
    report: StructuredReport | None

    @property
    def labels(self) -> np.ndarray:
        """The paper's 25 training values: the lesion's over the organs'."""
        return np.where(self.lesions > 0, self.lesions, self.organs)


class PatchSource:
    """Cubes of scans by index: ``source[index]`` depends on the arguments and the index alone, not on what was asked for before.

    ``scans``: what to load (``PhantomScan``, ``FileScan``) or scans that are prepared already, which are taken as they are.
    ``side_voxels``: one number or (z, y, x). ``spacing_mm``: isotropic voxel size in canonical space (axes to superior, posterior, left);
    None keeps the scan's own voxels, its axes only permuted and flipped. ``lesion_share``: share of patches with one synthetic lesion near
    the middle, of a type in ``lesions`` (default: all) that organ and phase of the scan allow; the lesion is one whose image shows what its
    report says. The others are healthy, centred on an organ mostly. Beyond the scan's border a patch shows air.

    One scan serves ``patches_per_scan`` patches in a row, and the ``keep`` scans used last stay in memory (a torso at 1 mm takes 0.3 GB), so
    ask for indices in order. Can be pickled for worker processes: loaded scans are left behind. Raises InputError for scans that cannot be read.
    """

    def __init__(
        self,
        scans: Sequence[ScanSpec | PreparedScan],
        side_voxels: int | Sequence[int],
        spacing_mm: float | None = 1.0,
        seed: int = 0,
        lesion_share: float = 0.0,
        *,
        lesions: Sequence[str] | None = None,
        patches_per_scan: int = 16,
        keep: int = 2,
    ):
        side = (side_voxels,) * 3 if np.ndim(side_voxels) == 0 else tuple(side_voxels)
        if not scans:
            raise InputError("no scans to take patches from; give a table of scans, or phantoms")
        if len(side) != 3 or min(side) < 4:
            raise InputError(f"patches of {side_voxels} voxels; wanted one number or three, each at least 4")
        if not 0 <= lesion_share <= 1:
            raise InputError(f"lesion share {lesion_share}; wanted 0 to 1")
        unknown = set(lesions or ()) - set(taxonomy.LESION_KEYS)
        if unknown:
            raise InputError(f"lesion type {min(unknown)!r} is not known; use {', '.join(taxonomy.LESION_KEYS)}")
        self.scans, self.side, self.spacing_mm, self.seed = list(scans), tuple(int(n) for n in side), spacing_mm, seed
        self.lesion_share, self.lesions = lesion_share, tuple(lesions or taxonomy.LESION_KEYS)
        self.patches_per_scan, self.keep = max(1, patches_per_scan), max(1, keep)
        self._loaded: OrderedDict[int, _Ready] = OrderedDict()

    def __getitem__(self, index: int) -> Patch:
        rng = np.random.default_rng([self.seed, index, 1])
        ready = self._ready(self.scan_number(index))
        with_lesion = rng.random() < self.lesion_share
        made = _lesion(ready.scan, self.lesions, rng) if with_lesion else None
        if made is None:
            return self._cut(ready.scan, ready.centre(rng), rng, None)
        return self._cut(ready.scan, ready.scan.ct.to_index(np.array(made.center_ras)), rng, made)

    def range(self, start: int, stop: int) -> Iterator[Patch]:
        """The patches ``start`` to ``stop`` - 1."""
        return (self[index] for index in range(start, stop))

    def scan(self, number: int) -> PreparedScan:
        """Scan ``number`` of ``scans`` as patches are cut from it."""
        return self._ready(number).scan

    def preload(self, threads: int = 1) -> None:
        """Load as many scans as are kept, before worker processes are forked, so that they share them."""
        with ThreadPoolExecutor(max(1, threads)) as pool:
            numbers = range(min(self.keep, len(self.scans)))
            for number, ready in zip(numbers, pool.map(self._load, numbers)):
                self._loaded[number] = ready

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_loaded": OrderedDict()}

    def scan_number(self, index: int) -> int:
        """Which of ``scans`` patch ``index`` is cut from: every scan once before any comes again, in an order that changes each round."""
        round_, place = divmod(index // self.patches_per_scan, len(self.scans))
        return int(np.random.default_rng([self.seed, round_, 2]).permutation(len(self.scans))[place])

    def _ready(self, number: int) -> _Ready:
        if number in self._loaded:
            self._loaded.move_to_end(number)
            return self._loaded[number]
        while len(self._loaded) >= self.keep:  # before the next is loaded, so that there is room for it
            self._loaded.popitem(last=False)
        self._loaded[number] = ready = self._load(number)
        return ready

    def _load(self, number: int) -> _Ready:
        item = self.scans[number]
        return _Ready(item if isinstance(item, PreparedScan) else load_prepared(item, self.spacing_mm))

    def _cut(self, scan: PreparedScan, centre: np.ndarray, rng: np.random.Generator, made: SynthesisResult | None):
        side = np.array(self.side)
        start = np.rint(centre + rng.uniform(-_JITTER, _JITTER, 3) * side - side / 2).astype(int)
        room = np.array(scan.ct.array.shape) - side
        start = np.where(room >= 0, np.clip(start, 0, np.maximum(room, 0)), room // 2)
        hu = _box(scan.ct.array, start, side, AIR_HU)
        organs = _box(scan.organs.labels.array, start, side, 0)
        lesions = np.zeros(self.side, np.uint8)
        if made is None:
            return Patch(hu, organs, lesions, None)
        common = [(max(r.start, s), min(r.stop, s + n)) for r, s, n in zip(made.region, start, side)]
        here = tuple(slice(lo - s, hi - s) for (lo, hi), s in zip(common, start))
        there = tuple(slice(lo - r.start, hi - r.start) for (lo, hi), r in zip(common, made.region))
        changed = made.changed[there]
        hu[here][changed] = np.clip(made.after[there][changed], -32768, 32767).astype(np.int16)
        lesions[here][made.label[there]] = taxonomy.lesion(made.request.lesion).value
        return Patch(hu, organs, lesions, made.report)


class _Ready:
    """A prepared scan and, by organ, coarse voxels to centre patches on."""

    def __init__(self, scan: PreparedScan):
        self.scan = scan
        self._step = np.maximum(1, np.rint(_COARSE_MM / scan.spacing).astype(int))
        coarse = scan.organs.labels.array[tuple(slice(None, None, int(s)) for s in self._step)]
        self._points = [np.argwhere(coarse == value).astype(np.int32) for value in np.unique(coarse[coarse > 0])]

    def centre(self, rng: np.random.Generator) -> np.ndarray:
        """A voxel (z, y, x) in an organ drawn evenly among those there are, or now and then anywhere."""
        if rng.random() >= ORGAN_SHARE:
            return rng.uniform(0, np.array(self.scan.ct.array.shape) - 1)
        points = self._points[rng.integers(len(self._points))]
        return (points[rng.integers(len(points))] * self._step).astype(float)


def load_prepared(spec: ScanSpec, spacing_mm: float | None) -> PreparedScan:
    """The scan in canonical orientation, resampled to ``spacing_mm`` (None: its own voxels), prepared for lesions."""
    ct, organs = spec.load()
    if spacing_mm is None:
        move = _upright
    elif _is_canonical(ct, spacing_mm):
        move = lambda volume, kind: volume  # noqa: E731
    else:
        move = lambda volume, kind: to_canonical(volume, spacing_mm, kind).volume  # noqa: E731
    structures = None if organs.structures is None else move(organs.structures, "labels")
    moved = OrganMap(
        move(organs.labels, "labels"), structures, dict(organs.structure_names), organs.scheme, list(organs.notes)
    )
    return prepare_scan(move(ct, "ct"), moved)


def _is_canonical(volume: Volume, spacing_mm: float) -> bool:
    wanted = np.diag(CANONICAL_RAS_SIGNS) * spacing_mm
    return bool(np.allclose(volume.affine[:3, :3], wanted, atol=1e-4))


def _upright(volume: Volume, kind: str) -> Volume:
    """The same voxels, axes (z, y, x) permuted and flipped to run to superior, posterior and left as nearly as they can."""
    from scipy.optimize import linear_sum_assignment

    columns = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    ras, ijk = linear_sum_assignment(-np.abs(columns))
    source = [2 - int(ijk[list(ras).index(axis)]) for axis in (2, 1, 0)]  # array axis along S-I, A-P, R-L
    array = volume.array.transpose(source)
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, [2 - axis for axis in source[::-1]]]
    for axis in range(3):
        column = 2 - axis
        if affine[column, column] * CANONICAL_RAS_SIGNS[column] < 0:
            array = np.flip(array, axis)
            affine[:3, 3] += affine[:3, column] * (array.shape[axis] - 1)
            affine[:3, column] *= -1
    return Volume(np.ascontiguousarray(array), affine, dict(volume.meta))


def _lesion(scan: PreparedScan, kinds: Sequence[str], rng: np.random.Generator) -> SynthesisResult | None:
    """A lesion that came out as it should, in a place of its own; None when the scan allows none of the kinds or no try succeeds."""
    here = [kind for kind in kinds if taxonomy.lesion(kind).organ in scan.geometry]
    fitting = [kind for kind in here if scan.phase in taxonomy.lesion(kind).phases] or here
    if not fitting:
        return None
    kind = fitting[rng.integers(len(fitting))]
    for _ in range(LESION_SEEDS):
        try:
            made = synthesise(scan, LesionRequest(kind, seed=int(rng.integers(2**31))))
        except InputError:  # no place for a lesion this large; another seed is another size
            continue
        if made.accepted:
            return made
    return None


def _box(array: np.ndarray, start: np.ndarray, side: np.ndarray, fill: int) -> np.ndarray:
    """A copy of the box of ``side`` voxels at ``start``; ``fill`` beyond the array."""
    out = np.full(tuple(side), fill, array.dtype)
    low, high = np.maximum(start, 0), np.minimum(start + side, array.shape)
    if (low < high).all():
        out[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start))] = array[
            tuple(slice(a, b) for a, b in zip(low, high))
        ]
    return out
