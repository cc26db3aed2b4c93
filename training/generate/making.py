"""Making all missing cases on a pool of workers: account, time left, disk space."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from PASTALib.errors import InputError
from PASTALib.progress import Progress

from .make import Made, make_job
from .manifest import FAILURES, MANIFEST, Lines
from .plan import CasePlan, Job, Plan, jobs_of
from .schedule import Piece, Pool
from .words import duration, size

TIMES = "times.jsonl"
PROBE_CASES = 3  # after that many the need of disk space is told from their size
SPARE_BYTES = 200 << 20  # left free on the disk
CACHE_SHARE = 0.4  # of a worker's memory, for prepared scans


class Making:
    """Makes the missing cases of a plan below ``out`` and keeps account of them in ``lines`` and ``failed``, and on disk."""

    def __init__(
        self,
        out: Path,
        plan: Plan,
        todo: list[CasePlan],
        lines: list[dict],
        failed: list[dict],
        progress: Progress,
        force: bool,
    ):
        self.out, self.plan, self.todo, self.progress, self.force = out, plan, todo, progress, force
        self.lines, self.failed = lines, failed
        self.made = self.found = 0
        self.seconds = 0.0
        self._bytes = sum(line["bytes"] for line in lines)
        self._voxels = sum(plan.voxels(plan.case(line["type"], line["number"])) for line in lines)
        self._left = sum(map(plan.voxels, todo))
        self._begun = time.monotonic()
        self._done = 0
        self._loads = self._cases = 0  # templates loaded and cases made by this run, and the seconds that they took
        self._load_s = self._case_s = 0.0
        self._piece_cases = 1.0
        self._pool: Pool | None = None

    def run(self, pool: Pool) -> None:
        """Make them all. InputError when the disk cannot hold them; what is finished then stays."""
        out, self._pool = self.out, pool
        cache = int(CACHE_SHARE * pool.memory_bytes)
        pieces = [self._piece(job, cache) for job in jobs_of(self.todo, pool.count)]
        self._piece_cases = len(self.todo) / max(1, len(pieces))
        manifest_file, failures = Lines(out / MANIFEST), Lines(out / FAILURES)
        self._begun = time.monotonic()
        self._check_disk()
        try:
            with open(out / TIMES, "ab", buffering=0) as times:
                for results in pool.run(make_job, pieces, self._tell, self._worth):
                    for made in results:
                        self._account(made, manifest_file, failures)
                        if not made.found:
                            self._cases += 1
                            self._loads += made.loading_s > 0
                            self._load_s += made.loading_s
                            self._case_s += made.seconds - made.loading_s
                            figures = {"seconds": made.seconds, "cpu_s": made.cpu_s, "loading_s": made.loading_s}
                            record = {"id": made.case.id, **{key: round(value, 3) for key, value in figures.items()}}
                            times.write(json.dumps(record).encode() + b"\n")
                    self._tell()
                    self._check_disk()
        finally:
            manifest_file.close()
            failures.close()

    def _worth(self, pieces: int) -> bool:
        """Whether another worker should load a template for so many pieces: half of them must take longer than loading it does."""
        if not self._loads or not self._cases:
            return True
        return 0.5 * pieces * self._piece_cases * self._case_s / self._cases > self._load_s / self._loads

    def _piece(self, job: Job, cache: int) -> Piece:
        names = dict.fromkeys(name for case in job.cases for name in case.templates)
        used = {name: self.plan.templates[name] for name in names}
        arguments = (str(self.out), job, used, self.plan.settings, cache)

        def halves() -> list[Piece]:
            return [self._piece(Job(job.template, (case,)), cache) for case in job.cases]

        return Piece(job.template, arguments, f"case {job.cases[0].id}", halves)

    def _account(self, made: Made, manifest_file: Lines, failures: Lines) -> None:
        case = made.case
        if made.line is None:
            line = {"id": case.id, "type": case.lesion, "number": case.number, "key": case.key, "reasons": made.reasons}
            failures.append(line)
            self.failed.append(line)
        else:
            manifest_file.append(made.line)
            self.lines.append(made.line)
            self._bytes += made.line["bytes"]
            self._voxels += self.plan.voxels(case)
            self.found += made.found
            self.made += not made.found
        self.seconds = time.monotonic() - self._begun
        self._left -= self.plan.voxels(case)
        self._done += 1

    def _tell(self) -> None:
        elapsed, total = time.monotonic() - self._begun, len(self.todo)
        text = "making cases" if self._pool and self._pool.present else "waiting for workers"
        if self._done:
            rate = self._done / elapsed
            text = f"{3600 * rate:.0f} cases/h, {duration((total - self._done) / rate)} left, {size(self._bytes + self._need())} in all"
        self.progress(self._done, total, text)

    def _need(self) -> int:
        """Bytes that the missing cases will take, judged by those that are there."""
        return int(self._left * self._bytes / self._voxels) if self._voxels else 0

    def _check_disk(self) -> None:
        """InputError when the disk cannot hold what is still to come; not before a few cases have shown how large they are."""
        if self.force or len(self.lines) < PROBE_CASES or self._done == len(self.todo):
            return
        free = shutil.disk_usage(self.out).free - SPARE_BYTES
        if self._need() > free:
            left = len(self.todo) - self._done
            raise InputError(
                f"--out {self.out}: the {left} cases still to make need about {size(self._need())}, "
                f"{size(max(free, 0))} are free; free space, ask for fewer (--per-type), or use --force; go on with --resume"
            )
