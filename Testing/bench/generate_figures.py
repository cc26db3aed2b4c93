"""How quick generation is: seconds per case at the paper's size, two workers against one, and what 30,000 cases would cost."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from PASTALib.phantom import make_phantom
from PASTALib.taxonomy import LESION_KEYS
from PASTALib.volume import write_volume
from training.generate import make
from training.generate.plan import Job, Plan, Settings
from training.generate.table import Row
from training.generate.templates import from_screening, load, phantom_templates, screen

ROOT = Path(__file__).resolve().parents[2]
PAPER_CASES, PAPER_SCANS, CORES = 30_000, 10_767, 64


def measure_cases(
    types: Sequence[str] = LESION_KEYS, per_type: int = 2, spacing_mm: float = 1.0, cube: int = 280
) -> dict[str, list[float]]:
    """Per case made in this process, one after the other, in generated torsos that are there already: ``wall_s`` and ``cpu_s`` (synthesis,
    cutting, writing, checksums), ``mb`` on disk; ``given_up``: 1 for a case that could not be made."""
    templates = phantom_templates(spacing_mm, 1, seed=0)
    isotropic = [replace(t, phantom=replace(t.phantom, spacing_zyx_mm=(spacing_mm,) * 3)) for t in templates]
    settings = Settings(0, spacing_mm, cube)
    plan = Plan(settings, isotropic)
    cases = [plan.case(kind, number) for kind in types for number in range(per_type)]
    found: dict[str, list[float]] = {"wall_s": [], "cpu_s": [], "mb": [], "given_up": []}
    with tempfile.TemporaryDirectory(prefix="pasta-bench-") as out:
        for case in sorted(cases, key=lambda item: item.templates[0]):
            make.make_job(out, Job(case.templates[0], ()), plan.templates, settings, 0)
            before = time.perf_counter()
            (made,) = make.make_job(out, Job(case.templates[0], (case,)), plan.templates, settings, 0)
            wall = time.perf_counter() - before - made.loading_s
            found["given_up"].append(float(made.line is None))
            if made.loading_s == 0:  # its CPU time would hold the torso's
                found["wall_s"].append(round(wall, 3))
                found["cpu_s"].append(round(made.cpu_s, 3))
                found["mb"].append(round((made.line or {}).get("bytes", 0) / 1e6, 2))
    return found


def measure_template(spacing_mm: float = 1.0) -> dict[str, float]:
    """CPU seconds to judge a torso of 620 x 284 x 400 mm read from NIfTI files, and to make it ready for lesions at ``spacing_mm``."""
    with tempfile.TemporaryDirectory(prefix="pasta-bench-") as folder:
        made = make_phantom(spacing_mm)
        paths = [Path(folder) / name for name in ("ct.nii.gz", "organs.nii.gz")]
        write_volume(made.ct, paths[0])
        write_volume(made.organs.structures, paths[1])
        voxels = made.ct.array.size
        del made
        row = Row("torso", str(paths[0]), str(paths[1]), "totalseg-v2", None, "torso")
        begun = time.process_time()
        template = from_screening(row, screen(row, "literal", False))
        judged = time.process_time()
        load(template, spacing_mm)
        ready = time.process_time()
    return {"judge_cpu_s": round(judged - begun, 2), "load_cpu_s": round(ready - judged, 2), "voxels": float(voxels)}


def measure_scaling(
    per_type: int = 10, phantom_mm: float = 2.0, runs: int = 1, phantoms: int = 6
) -> dict[str, list[float]]:
    """The command with one worker and with two, ``runs`` times each in turn, in ``phantoms`` torsos of each phase: cases per hour (``one``, ``two``) and CPU seconds per case
    (``cpu_one``, ``cpu_two``). Start of the workers and the page are not counted, generating the torsos is. Needs two idle cores:
    the CPU figures tell whether the workers hinder one another, the others also whether anything else ran."""
    found: dict[str, list[float]] = {"one": [], "two": [], "cpu_one": [], "cpu_two": []}
    for _ in range(runs):
        for name, workers in (("one", 1), ("two", 2)):
            rate, cpu_s = _command(per_type, phantom_mm, workers, phantoms)
            found[name].append(round(rate, 1))
            found[f"cpu_{name}"].append(round(cpu_s, 3))
    return found


def _command(per_type: int, phantom_mm: float, workers: int, phantoms: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="pasta-bench-") as folder:
        out = Path(folder) / "set"
        size = ["--phantom", str(phantom_mm), "--set", f"phantoms={phantoms}", "--per-type", str(per_type)]
        command = [
            sys.executable,
            "-m",
            "training",
            "generate",
            "--out",
            str(out),
            *size,
            "--json",
            "--workers",
            str(workers),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        times = [json.loads(line) for line in (out / "times.jsonl").read_text().splitlines()]
    return 3600 * answer["made"] / answer["making_s"], float(np.mean([item["cpu_s"] for item in times]))


def projection(
    cases: dict[str, list[float]], template: dict[str, float], count: int = PAPER_CASES, cores: int = CORES
) -> dict[str, float]:
    """Hours that ``count`` cases take on ``cores`` cores, with the paper's number of scans each judged once and read once, and TB on disk.

    From CPU seconds; file system and network are taken to keep up. ``per_core``: cases per hour and core without the templates.
    """
    case_s = float(np.mean(cases["cpu_s"]))
    scans_s = PAPER_SCANS * (template["judge_cpu_s"] + template["load_cpu_s"])
    return {
        "per_core": 3600 / case_s,
        "hours_cases": count * case_s / cores / 3600,
        "hours_templates": scans_s / cores / 3600,
        "hours": (count * case_s + scans_s) / cores / 3600,
        "terabytes": count * float(np.mean(cases["mb"])) / 1e6,
    }


if __name__ == "__main__":
    case_figures, template_figures = measure_cases(), measure_template()
    print(json.dumps({"cases": case_figures, "template": template_figures}))
    print(json.dumps(projection(case_figures, template_figures), indent=1))
    print(json.dumps(measure_scaling(), indent=1))
