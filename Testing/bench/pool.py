"""Runs many independent tasks with a progress bar, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def bar() -> Progress:
    """A progress bar on standard error, so that tables on standard output stay clean."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
    )


@contextmanager
def single_threads() -> Iterator[None]:
    """Processes started inside use one thread each: they fill the cores, more threads would only wait for each other."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run_all(function: Callable, tasks: Sequence, workers: int, text: str) -> list:
    """``[function(task) for task in tasks]``, order kept. ``function`` is at file scope, tasks and results can be pickled.

    Worker processes are started afresh (spawned): libraries with threads of their own do not survive a fork.
    """
    results = []
    with bar() as progress:
        shown = progress.add_task(text, total=len(tasks))
        if workers <= 1:
            for task in tasks:
                results.append(function(task))
                progress.advance(shown)
            return results
        with single_threads(), ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            for result in pool.map(function, tasks, chunksize=max(1, min(4, len(tasks) // (4 * workers)))):
                results.append(result)
                progress.advance(shown)
    return results
