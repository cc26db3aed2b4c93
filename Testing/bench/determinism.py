"""Section determinism: the same seed gives the same bytes, in any process, whatever runs beside it and with any number of threads."""

from __future__ import annotations

import json
import os
import subprocess

from .hosts import ROOT, lacks, load_scan, phantom_host
from .options import Options
from .pool import bar
from .probe import command, digests
from .tables import Check, Section, table

SEEDS = (11, 12)


def run(options: Options) -> Section:
    """Digests of image, mask and report of every type, compared over ways of running."""
    section = Section("determinism: SHA-256 of image after, mask and report of every type, seeds 11 and 12")
    host = phantom_host(options.out, options.phantom_mm)
    lesions = [t for t in options.lesions if not lacks(load_scan(host), t)]
    first = digests(host, lesions, list(SEEDS))
    ways = {"same process, second time": [digests(host, lesions, list(SEEDS))]}
    plans = [(f"{n} process{'es' if n > 1 else ''} at once", n, {}) for n in (1, 2, 4)]
    for n in (1, 2):
        threads = {
            name: str(n) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
        }
        plans.append((f"OMP_NUM_THREADS = {n} (OpenBLAS and ITK too)", 1, threads))
    with bar() as progress:
        shown = progress.add_task("determinism", total=len(plans))
        for name, number, environment in plans:
            ways[name] = _processes(command("digests", host, lesions, SEEDS), number, environment)
            progress.advance(shown)
    rows = []
    for name, answers in ways.items():
        different = sorted({key for answer in answers for key in first if answer.get(key) != first[key]})
        rows.append((name, len(answers) * len(first), len(different), ", ".join(different[:6]) or "none"))
        section.checks.append(Check(f"different digests, {name}", len(different), 0, 0, "", len(answers) * len(first)))
    same = [t for t in lesions if first[f"{t} {SEEDS[0]}"] == first[f"{t} {SEEDS[1]}"]]
    section.checks.append(Check("types for which seed + 1 gives the same bytes", len(same), 0, 0, "", len(lesions)))
    section.text.append(table(("way of running", "digests", "different", "which"), rows))
    section.data = {"first": first, "ways": {name: answers for name, answers in ways.items()}}
    return section


def _processes(line: list[str], number: int, environment: dict[str, str]) -> list[dict]:
    """Answers of ``number`` processes that run at the same time."""
    running = [
        subprocess.Popen(
            line, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(number)
    ]
    answers = []
    for process in running:
        out, error = process.communicate()
        if process.returncode:
            raise RuntimeError(
                f"a digest process failed: {error.strip().splitlines()[-1] if error else process.returncode}"
            )
        answers.append(json.loads(out.splitlines()[-1])["answer"])
    return answers
