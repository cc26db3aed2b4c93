"""Section speed: preparing a scan, a complete case of every type, a preview after a parameter change, start-up, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np

from PASTALib.errors import InputError
from PASTALib.synthesis.builder import build
from PASTALib.synthesis.generator import synthesise
from PASTALib.synthesis.scan import prepare_scan
from PASTALib.synthesis.spec import LesionRequest

from .hosts import ROOT, lacks, large_host, load_volumes, phantom_host
from .options import Options
from .pool import bar
from .probe import command
from .realism import direct
from .tables import Check, Section, quantile, table

CASES = 20
MEMORY_TYPES = ("lung_tumor", "liver_tumor", "colorectal_cancer", "bone_metastasis")


def run(options: Options) -> Section:
    """Everything is timed in this one process, one case after the other; CPU time counts the threads that libraries start."""
    host = large_host(options.out) if options.large else phantom_host(options.out, options.phantom_mm)
    volumes = load_volumes(host)
    section = Section(f"speed: {'×'.join(str(n) for n in volumes[0].array.shape[::-1])} scan")
    prepared = [_timed(partial(prepare_scan, *volumes)) for _ in range(3)]
    scan = prepared[-1][0]
    rows = [("prepare a scan", len(prepared), *_summary([p[1:] for p in prepared]))]
    section.checks.append(Check("prepare a scan", quantile([p[1] for p in prepared], 0.5), 0, 4.0, "s", len(prepared)))
    preview = _preview(scan)
    if preview:
        rows.append(("preview, 24 mm liver tumor", len(preview), *_summary(preview)))
        section.checks.append(
            Check(
                "preview after a parameter change, median",
                1e3 * quantile([p[0] for p in preview], 0.5),
                0,
                50,
                "ms",
                len(preview),
            )
        )
        section.checks.append(
            Check(
                "preview after a parameter change, p95",
                1e3 * quantile([p[0] for p in preview], 0.95),
                0,
                50,
                "ms",
                len(preview),
            )
        )
    cases, outcome = _cases(scan, options)
    everything = [t for times in cases.values() for t in times]
    for lesion, times in cases.items():
        rows.append((f"case: {lesion} ({outcome[lesion]} accepted)", len(times), *_summary(times)))
    rows.append(("case: all types", len(everything), *_summary(everything)))
    if everything:
        medians = {t: quantile([v[0] for v in times], 0.5) for t, times in cases.items() if times}
        highs = {t: quantile([v[0] for v in times], 0.95) for t, times in cases.items() if times}
        slow, tail = max(medians, key=medians.get), max(highs, key=highs.get)
        section.checks.append(
            Check(f"complete case, median of the slowest type ({slow})", medians[slow], 0, 0.5, "s", len(cases[slow]))
        )
        section.checks.append(
            Check(f"complete case, p95 of the slowest type ({tail})", highs[tail], 0, 1.5, "s", len(cases[tail]))
        )
    start = _start_up()
    rows.append(("pasta synth --help", len(start), *_summary(start)))
    section.checks.append(
        Check("start-up of pasta synth --help, median", quantile([s[0] for s in start], 0.5), 0, 0.7, "s", len(start))
    )
    section.text.append(table(("what", "n", "median s", "p95 s", "CPU s median"), rows))
    used = _memory(host, [t for t in MEMORY_TYPES if t in options.lesions] or list(options.lesions[:1]))
    if used:
        limit = 1.5 * used["voxels"] * 4 / 2**20 + 300
        section.checks.append(
            Check("peak memory of a whole case (1.5 × volume as float32 + 300 MB)", used["peak_mb"], 0, limit, "MB", 1)
        )
        section.text.append(
            f"memory of a fresh process (MB): libraries {used['libraries_mb']:.0f}, scan and maps read {used['loaded_mb']:.0f}, "
            f"prepared {used['prepared_mb']:.0f}, after one case each of {', '.join(MEMORY_TYPES)} {used['peak_mb']:.0f}; limit {limit:.0f}"
        )
    section.data = {"rows": rows, "cases": cases, "preview": preview, "memory": used}
    return section


def _timed(function):
    """(result, wall seconds, CPU seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def _summary(times) -> tuple[float, float, float]:
    """Median and p95 wall seconds, median CPU seconds."""
    return (
        quantile([t[0] for t in times], 0.5),
        quantile([t[0] for t in times], 0.95),
        quantile([t[1] for t in times], 0.5),
    )


def _preview(scan, changes: int = 40) -> list[tuple[float, float]]:
    """(wall, CPU) seconds of rebuilding a 24 mm liver tumor on its canvas after changes of density, edge, texture and size."""
    if lacks(scan, "liver_tumor"):
        return []
    found = direct(
        scan, LesionRequest("liver_tumor", seed=3, size_mm=(24.0, 24.0, 24.0), attributes={"shape": "Irregular"})
    )
    if found is None:
        return []
    canvas, draw = found
    build(canvas, draw)
    rng = np.random.default_rng(0)
    times = []
    for number in range(changes):
        change = (
            {"density_hu": float(rng.uniform(-60, 60)), "density_kind": "delta"},
            {"edge_factor": float(rng.uniform(1.0, 3.2))},
            {"components": ("mottled",) if number % 2 else (), "texture_sd_hu": float(rng.uniform(15, 30))},
            {"outline": replace(draw.outline, scale=tuple(rng.uniform(0.85, 1.1, 3)))},
        )[number % 4]
        draw = replace(draw, **change)
        times.append(_timed(partial(build, canvas, draw))[1:])
    return times


def _cases(scan, options: Options) -> tuple[dict[str, list], dict[str, int]]:
    """(wall, CPU) seconds of complete cases by type, and how many were accepted. Refused requests are not timed."""
    count = CASES if options.cases is None else min(CASES, options.cases)
    times: dict[str, list] = {}
    accepted: dict[str, int] = {}
    with bar() as progress:
        lesions = [t for t in options.lesions if not lacks(scan, t)]
        shown = progress.add_task("speed: complete cases", total=count * len(lesions))
        for lesion in lesions:
            times[lesion], accepted[lesion] = [], 0
            for seed in range(count):
                try:
                    result, *spent = _timed(partial(synthesise, scan, LesionRequest(lesion, seed=seed)))
                    times[lesion].append(tuple(spent))
                    accepted[lesion] += result.accepted
                except InputError:
                    pass
                progress.advance(shown)
    return times, accepted


def _start_up(runs: int = 7) -> list[tuple[float, float]]:
    """(wall, CPU) seconds of ``pasta synth --help`` in a fresh process; one unmeasured run before."""
    times = []
    for number in range(runs + 1):
        before = os.times()
        wall = time.perf_counter()
        subprocess.run([sys.executable, "-m", "PASTALib", "synth", "--help"], cwd=ROOT, check=True, capture_output=True)
        spent = time.perf_counter() - wall
        after = os.times()
        if number:
            times.append(
                (spent, after.children_user + after.children_system - before.children_user - before.children_system)
            )
    return times


def _memory(host, lesions) -> dict | None:
    """Peak memory of a fresh process that reads the scan, prepares it and makes lesions."""
    done = subprocess.run(command("memory", host, lesions), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"the memory probe failed: {done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode}"
        )
    return json.loads(done.stdout.splitlines()[-1])["answer"]
