"""What the commands show: progress on stderr while they work, a table or JSON on stdout when they are done."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer


class Steps:
    """Progress of one command: a spinner with the present step and, where it reports one, its share done."""

    def __init__(self, progress=None):
        self._progress = progress
        self._task = None

    def start(self, text: str) -> Callable[..., None]:
        """Begin the next step; returns a callback that takes a fraction 0-1 and/or a new text in any order."""
        if self._progress is None:
            return lambda *_, **__: None
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(text, total=None, left="")
        begun: list[
            float
        ] = []  # seconds and share when the first share came: what was before does not foretell the rest

        def update(*values, **_) -> None:
            numbers = [float(item) for item in values if isinstance(item, (int, float))]
            texts = [item for item in values if isinstance(item, str)]
            share = numbers[0] / numbers[1] if len(numbers) > 1 and numbers[1] else numbers[0] if numbers else None
            if share is not None:
                begun[:] = begun or [time.monotonic(), share]
                left = _time_left(time.monotonic() - begun[0], share - begun[1], 1 - share)
                self._progress.update(self._task, total=1.0, completed=min(1.0, share), left=left)
            if texts:
                self._progress.update(self._task, description=texts[0])

        return update


def _time_left(elapsed_s: float, done: float, rest: float) -> str:
    """ "about 2 min left" once that can be told, else nothing."""
    if elapsed_s < 2 or done <= 0.01 or rest <= 0:
        return ""
    seconds = elapsed_s * rest / done
    return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"


@contextmanager
def steps(quiet: bool = False) -> Iterator[Steps]:
    """Progress on stderr; nothing when stderr is no terminal or ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield Steps()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Steps(progress)


def note(text: str) -> None:
    """One line for a person, on stderr so that stdout stays clean."""
    typer.echo(f"note: {text}", err=True)


def print_json(data: dict) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False, default=_plain))


def _plain(value):
    """numpy scalars and arrays, tuples and paths as JSON types."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def print_lesion(heading: str, rows: list) -> None:
    """The eight attributes of one lesion as a table: requested, in the image, and how the report knows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=heading, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("Attribute", "Requested", "Report", "Basis"):
        table.add_column(column)
    for row in rows:
        wanted = row.wanted or "-"
        if row.wanted and not row.asked:
            same = row.wanted == row.reported
            wanted = "[dim]drawn[/dim]" if same else f"[dim]drawn: {row.wanted}[/dim]"
        basis = row.origin + (f" ({row.remark})" if row.remark and row.basis == "requested" else "")
        table.add_row(
            row.name, wanted, row.reported, f"[dim]{basis}[/dim]", style="yellow" if row.differs and row.asked else None
        )
    console = Console(width=None if sys.stdout.isatty() else 118)
    console.print(table)
