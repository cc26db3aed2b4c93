"""One session of generation, from templates to quality page; it may be stopped at any moment and taken up again."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PASTALib.cases import RECORD, find_cases
from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from ..runs import CONFIG, Run, write_json
from . import manifest, schedule, templates
from .locks import locked
from .make import BUSY, Made, make_job
from .manifest import DATASET, FAILURES, MANIFEST, Lines
from .plan import CasePlan, Job, Plan, Settings, jobs_of
from .table import Row, digest
from .templates import Template
from .words import duration, size

COMMAND = "generate"
LOCK, SCREENING, TIMES, PAGE = ".lock", "screening.jsonl", "times.jsonl", "quality.html"
OWN_FILES = (MANIFEST, FAILURES, DATASET, SCREENING, TIMES, PAGE, templates.CSV)
PROBE_CASES = 3  # after that many the need of disk space is told from their size
SPARE_BYTES = 200 << 20  # left free on the disk
CACHE_SHARE = 0.4  # of a worker's memory, for prepared scans
ORPHANS_S = 120.0  # how long workers of a killed session get to finish what they write


@dataclass(frozen=True)
class Request:
    """What to make and where. ``rows`` or ``phantom_mm`` (voxel size of generated torsos, ``phantoms`` of them per phase) give the templates."""

    out: Path
    settings: Settings
    types: tuple[str, ...]
    per_type: int
    rows: tuple[Row, ...] = ()
    table: str = ""
    phantom_mm: float = 0.0
    phantoms: int = 6
    rule: str = "literal"
    any_range: bool = False
    workers: schedule.Workers = schedule.Workers()
    resume: bool = False
    overwrite: bool = False
    verify: bool = False
    force: bool = False

    def fixed(self) -> dict[str, Any]:
        """The settings that a resumed run must share."""
        own = {key: value for key, value in vars(self.settings).items() if key != "seed"}
        table = digest(list(self.rows)) if self.rows else ""
        source = {"table_sha256": table, "phantom_mm": self.phantom_mm, "phantoms": self.phantoms}
        return {**source, "rule": self.rule, "any_range": self.any_range, **own}


@dataclass
class Outcome:
    """What a session did: the set as dataset.json describes it, cases made and found again in this session, seconds, remarks for the user."""

    dataset: dict
    made: int = 0
    found: int = 0
    seconds: float = 0.0
    worker_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def generate(request: Request, progress: Progress = silent) -> Outcome:
    """Make every case that the request asks for and that is not there yet, then dataset.json and the quality page.

    InputError for anything in the request, the templates or the machine (disk space, memory, scheduler) that stands in the way. What was
    finished before any error, interruption or kill stays, and ``resume`` goes on from there.
    """
    out = Path(request.out).absolute()
    with contextlib.ExitStack() as stack:
        there = (out / CONFIG).is_file() and (request.resume or request.overwrite)
        if there:
            _own(out, stack)
        if there and request.overwrite:
            _clear(out)
        run = stack.enter_context(
            Run.open(
                out,
                COMMAND,
                request.fixed(),
                seed=request.settings.seed,
                resume=request.resume,
                overwrite=request.overwrite,
            )
        )
        if not there:
            _own(out, stack)
        run.config["wanted"] = {"per_type": request.per_type, "types": list(request.types), "table": request.table}
        write_json(out / CONFIG, run.config)
        return _Session(request, out, progress, stack).run()


def _own(out: Path, stack: contextlib.ExitStack) -> None:
    if not stack.enter_context(locked(out / LOCK)):
        raise InputError(f"--out {out}: another process is generating there; wait for it, or choose another folder")


def _clear(out: Path) -> None:
    """Remove what earlier sessions made: own files and the cases that say they are ours."""
    for folder in list(find_cases(out)):
        if (folder / RECORD).is_file():
            shutil.rmtree(folder)
    for name in OWN_FILES:
        (out / name).unlink(missing_ok=True)


class _Session:
    def __init__(self, request: Request, out: Path, progress: Progress, stack: contextlib.ExitStack):
        self.request, self.out, self.progress, self._stack = request, out, progress, stack
        self._pool: schedule.Pool | None = None
        self.notes: list[str] = []

    @property
    def pool(self) -> schedule.Pool:
        """The workers, started when first needed."""
        if self._pool is None:
            self.progress(0, 1, "starting the workers")
            self._pool = self._stack.enter_context(schedule.pool(self.request.workers))
        return self._pool

    def run(self) -> Outcome:
        begun = time.monotonic()
        request = self.request
        plan = Plan(request.settings, self._templates())
        wanted = plan.cases(request.types, request.per_type)
        lines, failed = self._settle(plan)
        have = {line["id"] for line in lines} | {line["id"] for line in failed}
        todo = [case for case in wanted if case.id not in have]
        work = _Work(self, plan, todo, lines, failed)
        if todo:
            work.run()
        data = manifest.dataset(work.lines, work.failed, {"seed": request.settings.seed, **request.fixed()})
        Lines(self.out / MANIFEST).replace(manifest.in_order(work.lines))
        write_json(self.out / DATASET, data)
        self._page(work.lines, work.failed)
        seconds = time.monotonic() - begun
        return Outcome(data, work.made, work.found, seconds, work.worker_seconds, self.notes)

    # --- templates

    def _templates(self) -> list[Template]:
        request = self.request
        if request.phantom_mm:
            found = templates.phantom_templates(request.phantom_mm, request.phantoms, request.settings.seed)
            where = "only generated torsos are used"
        else:
            found = self._screened()
            where = templates.CSV
        templates.require_usable(found, request.types, where)
        return found

    def _screened(self) -> list[Template]:
        """Judge the scans of the table on the workers; those judged before, and unchanged since, are not read again."""
        request, rows = self.request, self.request.rows
        store = Lines(self.out / SCREENING)
        rule = request.rule, request.any_range
        by_id = {row.id: row for row in rows}
        known = {
            item["id"]: item
            for item in store.read()
            if item.get("id") in by_id and templates.still_valid(item, by_id[item["id"]], *rule)
        }
        todo = [row for row in rows if row.id not in known]
        if todo:
            pieces = [schedule.Piece(row.id, (row, *rule), f"scan {row.id}") for row in todo]

            def tell() -> None:
                self.progress(len(known) - (len(rows) - len(todo)), len(todo), "judging scans")

            for item in self.pool.run(templates.screen, pieces, tell):
                store.append(item)
                known[item["id"]] = item
        store.close()
        found = [template for row in rows if (template := templates.from_screening(row, known[row.id])) is not None]
        templates.write_csv(self.out / templates.CSV, rows, known, found)
        bad = [known[row.id]["problem"] for row in rows if known[row.id]["problem"] is not None]
        if bad and not found:
            raise InputError(f"--table {request.table}: none of the {len(rows)} scans can be used; the first: {bad[0]}")
        if bad:
            self.notes.append(
                f"{len(bad)} of {len(rows)} scans cannot be used, see {templates.CSV}; the first: {bad[0]}"
            )
        return found

    # --- what is there already

    def _settle(self, plan: Plan) -> tuple[list[dict], list[dict]]:
        with locked(self.out / BUSY, wait_s=ORPHANS_S) as mine:
            if not mine:
                raise InputError(f"--out {self.out}: workers of an earlier session still write there; end them first")
            lines = manifest.settle(self.out, plan.case)
            if self.request.verify:
                lines = self._verified(lines)
        failed = {}
        for line in Lines(self.out / FAILURES).read():
            if plan.case(line["type"], line["number"]).key == line["key"]:
                failed[line["id"]] = line
        return lines, list(failed.values())

    def _verified(self, lines: list[dict]) -> list[dict]:
        """Lines whose files have the right sums; the others are dropped from the manifest, so that their cases are made again."""
        tell = lambda done: self.progress(done, len(lines), "checking sums")  # noqa: E731
        wrong = {file.rsplit("/", 1)[0] for file in manifest.wrong_files(self.out, lines, tell)}
        if wrong:
            lines = [line for line in lines if line["id"] not in wrong]
            Lines(self.out / MANIFEST).replace(lines)
            for name in wrong:
                shutil.rmtree(self.out / name, ignore_errors=True)
            self.notes.append(
                f"{len(wrong)} cases had files with wrong sums and are made again: {', '.join(sorted(wrong)[:3])}"
            )
        return lines

    # --- the page

    def _page(self, lines: Sequence[dict], failed: Sequence[dict]) -> None:
        from . import quality

        self.progress(0, 1, "drawing the quality page")
        chosen = quality.to_show(lines)
        pieces = [schedule.Piece("page", (str(self.out), line), f"picture of {line['id']}") for line in chosen]
        workers = self._pool or schedule.here()
        pictures: dict[str, str] = {}
        for name, picture in workers.run(
            quality.picture,
            pieces,
            lambda: self.progress(len(pictures), max(1, len(pieces)), "drawing the quality page"),
        ):
            pictures[name] = picture
        seconds = {line["id"]: line["seconds"] for line in manifest.read_lines(self.out / TIMES) if "seconds" in line}
        facts = {"seed": self.request.settings.seed, **self.request.fixed()}
        quality.write_page(self.out / PAGE, lines, failed, pictures, facts, seconds)


class _Work:
    """Making the missing cases and keeping account of them."""

    def __init__(self, session: _Session, plan: Plan, todo: list[CasePlan], lines: list[dict], failed: list[dict]):
        self.session, self.plan, self.todo = session, plan, todo
        self.lines, self.failed = lines, failed
        self.made = self.found = 0
        self.worker_seconds = 0.0
        self._bytes = sum(line["bytes"] for line in lines)
        self._voxels = sum(plan.voxels(plan.case(line["type"], line["number"])) for line in lines)
        self._left = sum(map(plan.voxels, todo))
        self._begun = time.monotonic()
        self._done = 0

    def run(self) -> None:
        session, out = self.session, self.session.out
        pool = session.pool
        cache = int(CACHE_SHARE * pool.memory_bytes)
        pieces = [self._piece(job, cache) for job in jobs_of(self.todo, pool.count)]
        manifest_file, failures = Lines(out / MANIFEST), Lines(out / FAILURES)
        self._begun = time.monotonic()
        self._check_disk()
        try:
            with open(out / TIMES, "ab", buffering=0) as times:
                for results in pool.run(make_job, pieces, self._tell):
                    for made in results:
                        self._account(made, manifest_file, failures)
                        if not made.found:
                            record = {"id": made.case.id, "seconds": round(made.seconds, 3)}
                            times.write(json.dumps(record).encode() + b"\n")
                    self._tell()
                    self._check_disk()
        finally:
            manifest_file.close()
            failures.close()

    def _piece(self, job: Job, cache: int) -> schedule.Piece:
        names = dict.fromkeys(name for case in job.cases for name in case.templates)
        used = {name: self.plan.templates[name] for name in names}
        arguments = (str(self.session.out), job, used, self.plan.settings, cache)

        def halves() -> list[schedule.Piece]:
            return [self._piece(Job(job.template, (case,)), cache) for case in job.cases]

        return schedule.Piece(job.template, arguments, f"case {job.cases[0].id}", halves)

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
        self.worker_seconds += made.seconds
        self._left -= self.plan.voxels(case)
        self._done += 1

    def _tell(self) -> None:
        elapsed, total = time.monotonic() - self._begun, len(self.todo)
        text = "making cases"
        if self._done:
            rate = self._done / elapsed
            text = f"{3600 * rate:.0f} cases/h, {duration((total - self._done) / rate)} left, {size(self._bytes + self._need())} in all"
        self.session.progress(self._done, total, text)

    def _need(self) -> int:
        """Bytes that the missing cases will take, judged by those that are there."""
        return int(self._left * self._bytes / self._voxels) if self._voxels else 0

    def _check_disk(self) -> None:
        """InputError when the disk cannot hold what is still to come; not before a few cases have shown how large they are."""
        if self.session.request.force or len(self.lines) < PROBE_CASES or self._done == len(self.todo):
            return
        free = shutil.disk_usage(self.session.out).free - SPARE_BYTES
        if self._need() > free:
            left = len(self.todo) - self._done
            raise InputError(
                f"--out {self.session.out}: the {left} cases still to make need about {size(self._need())}, "
                f"{size(max(free, 0))} are free; free space, ask for fewer (--per-type), or use --force; go on with --resume"
            )


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
    from . import quality

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
    notes = [f"{len(failed)} cases cannot be read, see {FAILURES}"] if failed else []
    return Outcome(data, found=len(lines), seconds=time.monotonic() - begun, notes=notes)
