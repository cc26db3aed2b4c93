"""Sets that are there already: checking every file of a generated one, listing one that somebody else made."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from ..runs import write_json
from . import manifest, quality
from .manifest import DATASET, FAILURES, MANIFEST, Lines
from .session import PAGE, Outcome


def verify(out: Path, tell: Callable[[int], None] = lambda done: None) -> tuple[int, list[str]]:
    """Number of cases in the manifest of ``out``, and the files that are missing or have another sum."""
    lines = Lines(out / MANIFEST).read()
    if not lines:
        raise InputError(f"--out {out}: no {MANIFEST} there, or nothing in it; give the folder of a generated set")
    return len(lines), manifest.wrong_files(out, lines, tell)


def index(root: Path, out: Path, progress: Progress = silent, sums: bool = False) -> Outcome:
    """Write the manifest, dataset.json and quality page of a set that somebody else made (PASTA-Gen-30K's layout) into ``out``.

    Cases are listed as they are found; those that cannot be read are counted as given up, with the reason in failures.jsonl.
    """
    begun = time.monotonic()
    if out.exists() and any(out.iterdir()):
        raise InputError(f"--out {out} is not empty; choose another folder")
    lines: list[dict] = []
    failed: list[dict] = []
    for number, line in enumerate(manifest.index(root, sums), 1):
        (failed if "problem" in line else lines).append(line)
        progress(0, 1, f"{number} cases found")
    if not lines:
        first = f"; the first problem: {failed[0]['problem']}" if failed else ""
        raise InputError(f"--index {root}: no readable case there{first}")
    out.mkdir(parents=True, exist_ok=True)
    Lines(out / MANIFEST).replace(manifest.in_order(lines))
    if failed:
        Lines(out / FAILURES).replace(failed)
    data = manifest.dataset(lines, failed, {"indexed": root.name})
    write_json(out / DATASET, data)
    pictures = dict(quality.picture(str(root), line) for line in quality.to_show(lines))
    quality.write_page(out / PAGE, lines, failed, pictures, {}, {})
    notes = [f"{len(failed)} of {len(failed) + len(lines)} cases cannot be read, see {FAILURES}"] if failed else []
    return Outcome(data, found=len(lines), seconds=time.monotonic() - begun, notes=notes)
