"""A detectability study from end to end: make lesions in healthy scans, show them to a model, score, draw, write the page."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.inference.windows import grown_box
from PASTALib.progress import Progress, silent
from PASTALib.synthesis.scan import PreparedScan
from PASTALib.volume import crop

from ...runs import Run, write_json
from .curves import curves_of
from .design import ATTRIBUTES, DEFAULT_REPEATS, Cell, Setting, plan, read_levels
from .hosts import as_hosts, fingerprint
from .lesions import Improve, Lesion, find_place, make_lesion, possible
from .models import Seen, Tested, read_model
from .outputs import read_summary, write_outputs
from .scores import false_positives, score_lesion
from .table import MADE, NO_ROOM, Table
from .tiles import write_tile

LESIONS, SCANS = "lesions.csv", "scans.json"
CONTEXT_MM = 24.0  # around the largest lesion, as `pasta segment --region` has it
BEYOND_EDGE_MM = 6.0  # around a wide margin
LARGEST_REPEATS = 1000


def run_stress(
    model: str,
    scans,
    out: str | Path,
    *,
    lesions: Sequence[str] = ("liver_tumor",),
    attributes: Sequence[str] = ATTRIBUTES,
    levels: Mapping[str, Sequence] | None = None,
    repeats: int = DEFAULT_REPEATS,
    seed: int = 0,
    grid: bool = False,
    refine: str | Path | None = None,
    engine: str = "auto",
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    beside: Sequence[str | Path] = (),
    progress: Progress = silent,
) -> Path:
    """Sweep size, density, margin and location of synthetic lesions in healthy scans, and how well ``model`` finds them. Returns the page.

    ``model``: whatever ``load_model`` takes (a file, an nnU-Net folder, a name such as starter), or ``threshold:N``, ``threshold:LOW,HIGH``, with
    ``@organ,organ``. ``scans``: hosts as ``hosts.as_hosts`` reads them: a phantom's voxel size in mm, (CT, organ map, scheme), several of them.
    ``lesions``: types. ``attributes``: which of size, density, surface, location to sweep, each around the centre point; ``levels`` by
    attribute (mm; HU; multiples of the scan's sharpest edge; TYPE or TYPE/SITE). ``repeats`` places per scan and type. ``grid``: all combinations of
    size, density and surface, too. ``refine``: a denoising network that refines each lesion.

    The model is shown the part of the scan around each place (24 mm beyond the largest lesion, and one window of the model at least), without
    and with the lesion, and the whole unaltered scan once. ``out`` gets lesions.csv (a line per lesion), curves.csv, scans.json, summary.json, stress.png,
    stress.svg and stress.html; with ``resume`` a stopped study goes on. ``beside``: folders of finished studies of other models, whose curves
    the figure shows, too. InputError for input that cannot be used.
    """
    out = Path(out)
    hosts = as_hosts(scans)
    lesions = _lesions(lesions)
    chosen = read_levels(levels, attributes)
    if not 1 <= repeats <= LARGEST_REPEATS:
        raise InputError(f"{repeats} places for each lesion; give 1 to {LARGEST_REPEATS}")
    tested = read_model(str(model), device, engine)
    settings = {
        "model": tested.name, "digest": tested.digest, "scans": [host.name for host in hosts], "lesions": list(lesions),
        "levels": {name: list(values) for name, values in chosen.items()}, "repeats": repeats, "grid": grid,
        "refine": Path(refine).name if refine else None,
    }  # fmt: skip
    improve = _improving(refine, device)
    for folder in beside:
        read_summary(folder)  # found out now rather than after the long work
    with Run.open(out, "benchmark --stress", settings, seed=seed, resume=resume, overwrite=overwrite):
        if not resume:
            for name in (LESIONS, SCANS):
                (out / name).unlink(missing_ok=True)
        table = Table(out / LESIONS)
        facts = json.loads((out / SCANS).read_text(encoding="utf-8")) if (out / SCANS).is_file() else {}
        cells: dict[str, list[Cell]] = {}
        for number, host in enumerate(hosts):
            progress(0, 0, f"preparing {host.name}")
            scan = host.load(lesions)
            planned = plan(lesions, chosen, scan.phase, list(scan.geometry), grid)
            cells[host.name], left_out = _possible(scan, planned)
            _describe(facts, host.name, scan, left_out)
            count = len(_settings(cells[host.name])) * repeats
            if "false_positives" not in facts[host.name]:
                facts[host.name]["false_positives"] = false_positives(tested.look_at_all(scan, progress), scan.spacing)
            write_json(out / SCANS, facts)
            study = _Study(out, host.name, scan, tested, table, repeats, seed, improve)
            for done in study.run(cells[host.name]):
                progress(number * count + done, len(hosts) * count, f"{host.name}: lesion {done} of {count}")
        if not any(cells.values()):
            reasons = "; ".join(line for name in cells for line in facts[name]["left_out"][:1])
            raise InputError(
                f"none of these lesions can be made in these scans ({reasons}); choose other lesions or scans"
            )
        curves = curves_of(table.rows, cells, seed)
        return write_outputs(out, tested, settings | {"seed": seed}, facts, cells, table.rows, curves, beside)


class _Study:
    """The lesions of one scan."""

    def __init__(
        self,
        out: Path,
        name: str,
        scan: PreparedScan,
        tested: Tested,
        table: Table,
        repeats: int,
        seed: int,
        improve: Improve | None,
    ):
        self._out, self._name, self._scan, self._tested, self._table = out, name, scan, tested, table
        self._repeats, self._seed, self._improve = repeats, seed, improve

    def run(self, cells: Sequence[Cell]) -> Iterator[int]:
        """Make and score every lesion that the table has not; yields how many are done."""
        places: dict[str, list[Setting]] = defaultdict(list)
        for setting in _settings(cells):
            places[setting.place_key].append(setting)
        done = 0
        for repeat in range(self._repeats):
            for settings in places.values():
                missing = [one for one in settings if not self._table.has(self._name, one.key, repeat)]
                done += len(settings) - len(missing)
                if missing:
                    for _ in self._at_one_place(settings, missing, repeat):
                        done += 1
                        yield done
        yield done

    def _at_one_place(self, settings: list[Setting], missing: list[Setting], repeat: int) -> Iterator[None]:
        seed = int(np.random.default_rng([self._seed, repeat]).integers(2**31))
        at = find_place(self._scan, settings, seed)
        if at is None:
            for setting in missing:
                self._add(setting, repeat, {"status": NO_ROOM})
                yield
            return
        box = self._box(at, settings)
        part = crop(self._scan.ct, box)
        before = self._tested.look(self._scan, part, box)
        for setting in missing:
            begun = time.monotonic()
            lesion = make_lesion(self._scan, setting, at, seed, self._improve)
            if lesion is None or not _inside(lesion.region, box):
                self._add(setting, repeat, {"status": NO_ROOM})
            else:
                self._one(setting, repeat, lesion, box, before, begun)
            yield

    def _one(self, setting: Setting, repeat: int, lesion: Lesion, box, before: Seen, begun: float) -> None:
        part = crop(self._scan.ct, box)
        here = tuple(slice(r.start - b.start, r.stop - b.start) for r, b in zip(lesion.region, box))
        part.array[here] = lesion.hu
        label = np.zeros(part.array.shape, bool)
        label[here] = lesion.label
        after = self._tested.look(self._scan, part, box)
        organ = self._scan.organs.labels.array[box] == taxonomy.organ(taxonomy.lesion(setting.lesion).organ).value
        scores = score_lesion(after, before, label, organ, setting.lesion, self._scan.spacing, self._tested.types)
        measured = {
            f"measured_{name}" if name != "depth_mm" else name: value for name, value in lesion.measured.items()
        }
        ras = dict(zip(("r_mm", "a_mm", "s_mm"), lesion.centre_ras))
        if repeat == 0:
            write_tile(self._out, self._scan, self._name, setting.key, setting.lesion, part, label, after.found > 0)
        seconds = time.monotonic() - begun
        row = {"status": MADE, "location": lesion.location, "seconds": seconds, **ras, **measured, **scores}
        self._add(setting, repeat, row)

    def _add(self, setting: Setting, repeat: int, row: dict) -> None:
        self._table.add({"scan": self._name, "setting": setting.key, "repeat": repeat, **asdict(setting), **row})

    def _box(self, at, settings: Sequence[Setting]) -> tuple[slice, slice, slice]:
        """What the model is shown of the scan around the point ``at``: the same for all ``settings``."""
        scan = self._scan
        half = max(
            setting.size_mm / 2 + max(CONTEXT_MM, setting.edge * scan.edge_width_mm + BEYOND_EDGE_MM)
            for setting in settings
        )
        around = scan.box(scan.ct.to_index(np.asarray(at)), np.full(3, half))
        if self._tested.window_mm is None:
            return around
        least = np.floor(self._tested.window_mm / scan.spacing).astype(int) + 1
        return grown_box(around, scan.ct.array.shape, 0, [int(side) for side in least])


def _settings(cells: Sequence[Cell]) -> list[Setting]:
    """Each setting once, in the order of the cells."""
    return list({cell.setting.key: cell.setting for cell in cells}.values())


def _possible(scan: PreparedScan, cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """Cells that this scan can have, and a line for each level that it cannot. Places whose centre density is impossible there get the type's own."""
    kept, left_out = [], []
    for cell in cells:
        why = possible(scan, cell.setting)
        if why and cell.factor == "location":
            own = Setting(cell.setting.lesion, cell.setting.size_mm, None, cell.setting.edge, cell.setting.site)
            if not possible(scan, own):
                cell, why = Cell(cell.factor, cell.lesion, cell.level, own), ""
        if why:
            left_out.append(
                f"{cell.factor} {cell.level if isinstance(cell.level, str) else f'{cell.level:g}'}, {cell.setting.lesion}: {why}"
            )
        else:
            kept.append(cell)
    return kept, left_out


def _describe(facts: dict, name: str, scan: PreparedScan, left_out: list[str]) -> None:
    """What the page says about a scan; InputError when a resumed study finds another scan under this name."""
    print_of = fingerprint(scan)
    there = facts.setdefault(name, {"fingerprint": print_of})
    if there["fingerprint"] != print_of:
        raise InputError(
            f"{name} is not the scan that this study began with; restore it, or begin anew with --overwrite"
        )
    there |= {
        "phase": scan.phase,
        "shape": list(scan.ct.array.shape),
        "spacing_mm": [round(float(side), 3) for side in scan.spacing],
        "noise_hu": round(float(scan.noise.sd_hu), 1),
        "edge_mm": round(float(scan.edge_width_mm), 2),
        "tissue_hu": {key: round(scan.tissue_hu[key]) for key in scan.geometry},
        "left_out": left_out,
    }
    facts[name] = there


def _inside(region, box) -> bool:
    return all(b.start <= r.start and r.stop <= b.stop for r, b in zip(region, box))


def _lesions(lesions: Sequence[str]) -> tuple[str, ...]:
    from PASTALib.commands.options import lesion_type

    chosen = tuple(dict.fromkeys(lesion_type(item) for item in ([lesions] if isinstance(lesions, str) else lesions)))
    if not chosen:
        raise InputError(f"no lesion type; choose from {', '.join(taxonomy.LESION_KEYS)}")
    return chosen


def _improving(refine: str | Path | None, device: str) -> Improve | None:
    if refine is None:
        return None
    path = Path(refine)
    if not path.is_file():
        raise InputError(f"--refine {path}: no such file; give a checkpoint of train-ddpm, or leave it out")
    from PASTALib.refinement.closed_loop import refine_lesion
    from PASTALib.refinement.refine import Refiner

    refiner = Refiner(path, device)
    return lambda scan, result: refine_lesion(scan, result, refiner)
