"""What ``generate`` does once its command line is read: settings from options, preset and earlier sessions; progress; summary."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from PASTALib import taxonomy
from PASTALib.commands import options
from PASTALib.commands.console import note, print_json
from PASTALib.errors import InputError
from PASTALib.progress import Progress

from ..generate.clusters import Slurm, Workers
from ..generate.manifest import MANIFEST, read_lines
from ..generate.plan import Settings
from ..generate.published import index, verify
from ..generate.session import COMMAND, PAGE, Outcome, Request, generate
from ..generate.table import read_table
from ..generate.templates import RULES
from ..generate.words import duration, size
from ..presets import parse_changes, preset
from ..runs import CONFIG

_LOG_EVERY_S = 30.0
_RANGES = {"per_type": (1, 1_000_000), "phantoms": (1, 1000), "attempts": (1, 100)}


def choose(
    out: Path,
    table: Path | None,
    types: str | None,
    seed: int | None,
    preset_name: str,
    changes: list[str],
    given: dict[str, Any],
    resume: bool,
) -> Request:
    """The request that options, preset and (with ``resume``) the earlier sessions' config give together. InputError for anything unusable."""
    settings = preset(COMMAND, preset_name)
    if resume:
        before = _earlier(out)
        settings |= {key: value for key, value in before["settings"].items() if key in settings}
        settings |= {key: before["wanted"][key] for key in ("per_type", "types")}
        seed = before["seed"] if seed is None else seed
        if table is None and given["phantom_mm"] is None and before["wanted"]["table"]:
            table = Path(before["wanted"]["table"])
    chosen = parse_changes(changes) | {key: value for key, value in given.items() if value is not None}
    settings |= {key: value for key, value in _checked(settings, chosen).items()}
    if types is not None:
        settings["types"] = [options.lesion_type(item) for item in types.split(",") if item.strip()]
    if table is not None and given["phantom_mm"] is not None:
        raise InputError("--table and --phantom both give the templates; choose one of them")
    if table is not None:
        settings["phantom_mm"] = 0.0
    elif not settings["phantom_mm"]:
        raise InputError("no scans given; use --table FILE, or --phantom MM for generated torsos")
    _check_ranges(settings)
    kinds = tuple(key for key in taxonomy.LESION_KEYS if key in settings["types"] or not settings["types"])
    own = {key: settings[key] for key in ("spacing_mm", "cube", "multiple", "attempts")}
    return Request(
        out,
        Settings(options.seed(0 if seed is None else seed), **own),
        kinds,
        settings["per_type"],
        rows=tuple(read_table(table)) if table is not None else (),
        table=str(table.absolute()) if table is not None else "",
        phantom_mm=settings["phantom_mm"],
        phantoms=settings["phantoms"],
        rule=settings["rule"],
        any_range=settings["any_range"],
    )


def _checked(settings: dict, chosen: dict) -> dict:
    """Changes brought to the kind that the preset has; InputError from ``preset`` for those that it does not know."""
    known = preset(COMMAND, "default", chosen)
    if isinstance(known["types"], list):
        known["types"] = [options.lesion_type(str(item)) for item in known["types"]]
    return {key: known[key] for key in chosen}


def _check_ranges(settings: dict) -> None:
    if settings["rule"] not in RULES:
        raise InputError(f"--rule {settings['rule']!r} is not known; use {' or '.join(RULES)}")
    for key, (low, high) in _RANGES.items():
        if not low <= settings[key] <= high:
            raise InputError(f"--{key.replace('_', '-')} {settings[key]} is out of range; give {low} to {high}")
    for key, option in (("spacing_mm", "--spacing"), ("phantom_mm", "--phantom")):
        value = settings[key]
        if value != 0 and not (math.isfinite(value) and 0.3 <= value <= 10):
            raise InputError(f"{option} {value:g} is out of range; give 0.3 to 10 mm")
    if settings["cube"] and not 32 <= settings["cube"] <= 1024:
        raise InputError(f"--cube {settings['cube']} is out of range; give 32 to 1024 voxels, or 0 for whole scans")


def _earlier(out: Path) -> dict:
    path = out / CONFIG
    if not path.is_file():
        raise InputError(f"--out {out}: no run to resume there; leave --resume out to begin one")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if config["command"] == COMMAND and {"settings", "wanted", "seed"} <= set(config):
            return config
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{path}: not the config of a generate run; choose another folder")


def workers_of(
    count: int | None, memory: float | None, scheduler: str | None, slurm: dict | None, out: Path
) -> Workers:
    """Checked options about workers."""
    if scheduler is not None and slurm is not None:
        raise InputError("--scheduler and --slurm both say where the workers are; choose one of them")
    if count is not None and not 0 <= count <= 10_000:
        raise InputError(f"--workers {count} is out of range; give 0 to 10000")
    if memory is not None and not (math.isfinite(memory) and memory >= 0.5):
        raise InputError(f"--memory {memory:g} is too little; give at least 0.5 GB per worker")
    if slurm is not None and not count:
        raise InputError("--slurm needs --workers N, how many to run in all")
    if count is None:
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    job = Slurm(**slurm) if slurm is not None else None
    return Workers(count, scheduler, job, memory, out.absolute() / "slurm" if slurm is not None else None)


def make(request: Request, *, workers: tuple, flags: dict[str, bool], as_json: bool) -> None:
    """Run a session and say what came of it. Exit code 1 when cases were given up, 130 after an interruption."""
    from dataclasses import replace

    request = replace(request, workers=workers_of(*workers, request.out), **flags)
    try:
        with _terminable(), _shown(as_json) as progress:
            outcome = generate(request, progress)
    except KeyboardInterrupt:
        total = len(request.types) * request.per_type
        done = sum(1 for _ in read_lines(request.out / MANIFEST))
        typer.echo(f"pasta: interrupted; {done} of {total} cases are complete, go on with --resume", err=True)
        raise typer.Exit(130) from None
    _report(request.out, outcome, as_json)
    if outcome.dataset["given_up"]:
        raise typer.Exit(1)


def only_verify(out: Path, as_json: bool) -> None:
    """Check every file's sum. Exit code 1 when one is wrong."""
    with _shown(as_json) as progress:
        count, wrong = verify(out, lambda done: progress(done, 0, "checking sums"))
    if as_json:
        print_json({"cases": count, "wrong": wrong})
    elif wrong:
        shown = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        typer.echo(
            f"{len(wrong)} files of {count} cases are missing or wrong: {shown}; --resume --verify makes them again"
        )
    else:
        typer.echo(f"{count} cases: every file is there and has its sum")
    if wrong:
        raise typer.Exit(1)


def list_published(root: Path, out: Path, as_json: bool) -> None:
    """List a set that somebody else made."""
    with _shown(as_json) as progress:
        outcome = index(root, out, progress)
    _report(out, outcome, as_json)


def _report(out: Path, outcome: Outcome, as_json: bool) -> None:
    data = outcome.dataset
    rate = 3600 * outcome.made / outcome.making_s if outcome.making_s else 0.0
    if as_json:
        figures = {"made": outcome.made, "found": outcome.found, "seconds": round(outcome.seconds, 2)}
        figures |= {"cases_per_hour": round(rate, 1), "making_s": round(outcome.making_s, 2)}
        print_json({"out": str(out), **data, **figures, "notes": outcome.notes})
        return
    for line in outcome.notes:
        note(line)
    speed = f", {outcome.made} made in {duration(outcome.making_s)} ({rate:.0f} per hour)" if outcome.made else ""
    typer.echo(f"{data['cases']} cases of {len(data['by_type'])} types, {size(data['bytes'])}{speed}")
    if data["given_up"]:
        typer.echo(f"{len(data['given_up'])} cases could not be made, see failures.jsonl")
    typer.echo(f"Quality page: {out / PAGE}")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM (a cluster's time limit, ``kill``) ends the session like Ctrl-C."""

    def stop(*_) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _shown(quiet: bool) -> Iterator[Progress]:
    """Progress on stderr: a bar on a terminal, else a line every half minute."""
    if quiet:
        yield lambda step, of, text="": None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=None)
            yield lambda step, of, text="": bar.update(task, completed=step, total=of or None, description=text)
    else:
        shown = [time.monotonic()]

        def tell(step: int, of: int, text: str = "") -> None:
            if time.monotonic() - shown[0] >= _LOG_EVERY_S:
                shown[0] = time.monotonic()
                typer.echo(f"{step}/{of} {text}", err=True)

        yield tell
