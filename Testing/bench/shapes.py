"""Section shapes: sizes and shapes of generated lesions against real ones, measured by the same function at the same spacing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.imageio.resample import labels as resample_labels
from PASTALib.imageio.resample import linear as resample_linear
from PASTALib.organs import OrganMap
from PASTALib.synthesis.generator import synthesise
from PASTALib.synthesis.scan import PreparedScan, prepare_scan
from PASTALib.synthesis.spec import LesionRequest
from PASTALib.volume import Volume

from .hosts import Host, data_folder, load_volumes, phantom_host
from .options import SHAPE_CASES, Options
from .pool import run_all
from .shape_stats import DESCRIPTORS, REAL_SETS, compare, lesion_stats, real_lesions, real_quartiles, typical_spacing
from .tables import Check, Section, percent, table

_AROUND_MM = 25.0


@dataclass(frozen=True)
class ShapeTask:
    """One lesion on the phantom brought to ``spacing_zyx`` mm."""

    host: Host
    lesion: str
    spacing_zyx: tuple[float, float, float]
    seed: int


@lru_cache(maxsize=1)
def _scan(host: Host, organ: str, spacing_zyx: tuple[float, float, float]) -> PreparedScan:
    """The phantom cut to one organ and resampled: only outlines matter here."""
    ct, organs = load_volumes(host)
    old = ct.spacing_zyx_mm
    value = taxonomy.organ(organ).value
    box = ndimage.find_objects(organs.labels.array, max_label=value)[value - 1]
    margin = np.ceil(_AROUND_MM / old).astype(int)
    low = np.maximum([s.start for s in box] - margin, 0)
    high = np.minimum([s.stop for s in box] + margin, ct.array.shape)
    cut = tuple(slice(int(a), int(b)) for a, b in zip(low, high))
    new = np.asarray(spacing_zyx)
    count = np.maximum(np.floor((high - low - 1) * old / new).astype(int) + 1, 2)
    positions = tuple(np.arange(n) * s / o for n, s, o in zip(count, new, old))
    affine = ct.affine.copy()
    affine[:3, :3] *= (new / old)[::-1]
    affine[:3, 3] = ct.to_ras(low)
    image = np.rint(resample_linear(ct.array[cut], positions)).astype(np.int16)
    masks = [resample_labels(np.ascontiguousarray(v.array[cut]), positions) for v in (organs.labels, organs.structures)]
    present = set(np.unique(masks[1]).tolist())
    names = {value: name for value, name in organs.structure_names.items() if value in present}
    parts = [Volume(m.astype(np.uint8), affine.copy()) for m in masks]
    return prepare_scan(Volume(image, affine), OrganMap(parts[0], parts[1], names, organs.scheme))


def make_shape(task: ShapeTask) -> dict | None:
    """Descriptors of one accepted lesion's mask; None when the generator did not accept it."""
    scan = _scan(task.host, taxonomy.lesion(task.lesion).organ, task.spacing_zyx)
    try:
        result = synthesise(scan, LesionRequest(task.lesion, seed=task.seed))
    except InputError:
        return None
    if not result.accepted or np.count_nonzero(result.label) < 2:
        return None
    return lesion_stats(result.label.transpose(2, 1, 0), task.spacing_zyx[::-1])


def run(options: Options) -> Section:
    """Generate at the real sets' typical spacing, compare medians with the real 25–75 % range, draw a plot per type."""
    section = Section("shapes: generated lesions against real ones, same function, same spacing")
    folder = data_folder() / "lesion_stats"
    if not folder.is_dir():
        section.text.append("left out: no folder lesion_stats with measurements of real lesions (PASTA_TEST_DATA)")
        return section
    count = SHAPE_CASES if options.cases is None else options.cases
    spacings, real, each = typical_spacing(folder), real_quartiles(folder), real_lesions(folder)
    host = phantom_host(options.out, options.phantom_mm)
    load_volumes(host)  # made once, before the workers ask for it
    for lesion in REAL_SETS:
        if lesion not in options.lesions:
            continue
        spacing = tuple(spacings[lesion][::-1])
        tasks = [ShapeTask(host, lesion, spacing, seed) for seed in range(count)]
        made = [s for s in run_all(make_shape, tasks, options.workers, f"shapes: {lesion}") if s]
        if not made:
            section.text.append(f"{lesion}: none of {count} lesions was accepted")
            continue
        rows = compare(made, real[lesion], lesion)
        head = ("descriptor", "generated 25 %", "50 %", "75 %", "n", "real 25 %", "50 %", "75 %", "n", "median")
        grid = [
            (
                r.descriptor,
                r.generated_p25,
                r.generated_p50,
                r.generated_p75,
                r.generated_n,
                r.real_p25,
                r.real_p50,
                r.real_p75,
                r.real_n,
                "OK" if r.inside else "OUT",
            )
            for r in rows
        ]
        title = f"### {lesion} at {'×'.join(f'{s:.2f}' for s in spacing)} mm (z, y, x); {len(made)} accepted of {count}"
        section.text.append(f"{title}\n\n{table(head, grid)}")
        section.checks.append(
            Check(
                f"{lesion}: medians inside the real 25–75 %", percent(r.inside for r in rows), 100, 100, "%", len(made)
            )
        )
        section.data[lesion] = {"generated": made, "rows": [vars(r) for r in rows]}
        section.text.append(f"plot: {_plot(options.out, lesion, made, each[lesion]).name}")
    return section


def _plot(out: Path, lesion: str, made: list[dict], real: list[dict]) -> Path:
    """Cumulative distributions of every descriptor, generated over real, with the real 25–75 % range shaded."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(3, 4).ravel()
    for axis, key in zip(axes, DESCRIPTORS):
        for values, colour, name in ((real, "0.35", "real"), (made, "tab:red", "generated")):
            x = np.sort([v[key] for v in values if np.isfinite(v[key])])
            if x.size:
                axis.step(
                    x, np.arange(1, x.size + 1) / x.size, where="post", color=colour, label=f"{name} (n = {x.size})"
                )
        x = [v[key] for v in real if np.isfinite(v[key])]
        axis.axvspan(*np.percentile(x, (25, 75)), color="0.85", zorder=0)
        axis.axhline(0.5, color="0.8", linewidth=0.8, zorder=0)
        axis.set_title(key.replace("_mm3", " (mm³)").replace("_mm", " (mm)").replace("_", " "), fontsize=10)
        if key.endswith(("_mm", "_mm3")):
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter(NullFormatter())
    axes[0].legend(fontsize=8)
    for axis in axes[len(DESCRIPTORS) :]:
        axis.axis("off")
    figure.suptitle(
        f"{taxonomy.lesion(lesion).name}: generated against real lesions; the shaded range is the real 25–75 %"
    )
    path = out / f"shapes-{lesion}.png"
    figure.savefig(path, dpi=90)
    return path
