"""One session of generation, from templates to quality page; it may be stopped at any moment and taken up again."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PASTALib
from PASTALib.cases import RECORD, find_cases
from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from ..runs import CONFIG, Run, write_json
from . import manifest, schedule, templates
from .clusters import Workers
from .locks import locked
from .make import BUSY
from .making import TIMES, Making
from .manifest import DATASET, FAILURES, MANIFEST, Lines
from .plan import Plan, Settings
from .table import Row, digest
from .templates import Template

COMMAND = "generate"
LOCK, SCREENING, PAGE = ".lock", "screening.jsonl", "quality.html"
OWN_FILES = (MANIFEST, FAILURES, DATASET, SCREENING, TIMES, PAGE, templates.CSV)
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
    workers: Workers = Workers()
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
    """What a session did: the set as dataset.json describes it, cases made and found again in this session, seconds of the
    session and of making cases, remarks for the user."""

    dataset: dict
    made: int = 0
    found: int = 0
    seconds: float = 0.0
    making_s: float = 0.0
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
        stack.callback(_tidy, out)
        if request.resume:
            _same_version(run.config, out)
        run.config["wanted"] = {"per_type": request.per_type, "types": list(request.types), "table": request.table}
        write_json(out / CONFIG, run.config)
        return _Session(request, run, out, progress, stack).run()


def _own(out: Path, stack: contextlib.ExitStack) -> None:
    if not stack.enter_context(locked(out / LOCK)):
        raise InputError(f"--out {out}: another process is generating there; wait for it, or choose another folder")


def _same_version(config: dict, out: Path) -> None:
    """Another version makes other cases: a set must not be mixed, nor made again unasked."""
    before = config.get("version", {}).get("pasta")
    if before != PASTALib.__version__:
        raise InputError(
            f"--out {out} was begun with version {before}, this is {PASTALib.__version__}; go on with that version or in another folder"
        )


def _tidy(out: Path) -> None:
    """Remove half-written cases once the workers have ended (those of a foreign scheduler may take a moment)."""
    with locked(out / BUSY, wait_s=5.0) as mine:
        if mine:
            manifest.remove_unfinished(out)


def _clear(out: Path) -> None:
    """Remove what earlier sessions made: own files and the cases that say they are ours."""
    for folder in list(find_cases(out)):
        if (folder / RECORD).is_file():
            shutil.rmtree(folder)
    for name in OWN_FILES:
        (out / name).unlink(missing_ok=True)


class _Session:
    def __init__(self, request: Request, run: Run, out: Path, progress: Progress, stack: contextlib.ExitStack):
        self.request, self._run, self.out, self.progress, self._stack = request, run, out, progress, stack
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
        work = Making(self.out, plan, todo, lines, failed, self.progress, request.force)
        if todo:
            work.run(self.pool)
        data = manifest.dataset(work.lines, work.failed, {"seed": request.settings.seed, **request.fixed()})
        Lines(self.out / MANIFEST).replace(manifest.in_order(work.lines))
        write_json(self.out / DATASET, data)
        self._page(work.lines, work.failed)
        seconds = time.monotonic() - begun
        return Outcome(data, work.made, work.found, seconds, work.seconds, self.notes)

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
        self._same_templates(found)
        return found

    def _same_templates(self, found: list[Template]) -> None:
        """What each case is made of follows from all templates: they must be those of the first session."""
        now = {item.id: templates.identity(item) for item in found}
        before = self._run.config.setdefault("templates", now)
        changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if changed:
            raise InputError(
                f"scan {changed[0]} is not what it was when {self.out} was begun ({len(changed)} differ); restore it, or use another folder"
            )
        write_json(self.out / CONFIG, self._run.config)

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
        self.progress(0, 1, "looking at what is there")
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
        times = {line["id"]: line for line in manifest.read_lines(self.out / TIMES) if {"id", "seconds"} <= set(line)}
        facts = {"seed": self.request.settings.seed, **self.request.fixed()}
        quality.write_page(self.out / PAGE, lines, failed, pictures, facts, times)
