"""Cases of a reader study, read in threads: the one that is wanted now, and those that come next before they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import qt

from ..mrml.study_view import LoadedCase, load_case
from ..study.export import ExportGrid
from .jobs import Jobs, Task


class Cases:
    """Keeps a few cases in memory (some 50 MB each): what is ``wanted``, what comes ``ahead``, and the one before.

    ``grid``: that of the study whose cases are read.
    """

    def __init__(self, jobs: Jobs):
        self._jobs = jobs
        self.grid: ExportGrid | None = None
        self._read: dict[Path, LoadedCase] = {}
        self._reading: dict[Path, Task] = {}
        self._wanted: tuple[Path, Callable, Callable] | None = None
        self._last: Path | None = None
        self._queue: list[Path] = []  # what is read ahead, one after the other

    def want(self, path: Path, done: Callable[[LoadedCase], None], failed: Callable[[str], None]) -> None:
        """Hand the case to ``done`` when it is read, at the earliest with the next turn of the event loop, so that storing a rating and showing
        an image are no single freeze; ``failed`` gets one line. Only the last one wanted is told."""
        if self._wanted is not None and self._wanted[0] != path:
            self._last = self._wanted[0]
        self._wanted = wanted = path, done, failed
        if path in self._read:
            qt.QTimer.singleShot(0, lambda: self._hand_over(wanted))
        else:
            self._begin(path)

    def _hand_over(self, wanted: tuple[Path, Callable, Callable]) -> None:
        if wanted is self._wanted and wanted[0] in self._read:
            wanted[1](self._read[wanted[0]])

    def ahead(self, paths: Sequence[Path]) -> None:
        """Read these meanwhile, and forget all that is neither wanted nor among them, but for the case before."""
        keep = {*paths, self._last, self._wanted[0] if self._wanted is not None else None}
        for path in [path for path in self._read if path not in keep]:
            del self._read[path]
        self._queue = list(paths)
        self._next()

    def is_read(self, path: Path) -> bool:
        """Whether a case could be shown at once."""
        return path in self._read

    def forget(self) -> None:
        """Give all memory back; nobody is told of anything any more."""
        for task in self._reading.values():
            task.forget()
        self._reading, self._read, self._queue = {}, {}, []
        self._wanted = self._last = None

    def _begin(self, path: Path) -> None:
        if path in self._reading:
            return
        grid = self.grid
        self._reading[path] = self._jobs.in_thread(
            lambda progress: load_case(path, grid),
            done=lambda case: self._done(path, case),
            failed=lambda line, details: self._failed(path, line),
            cancelled=lambda: self._reading.pop(path, None),
        )

    def _next(self) -> None:
        self._queue = [path for path in self._queue if path not in self._read]
        if not self._reading and self._queue:
            self._begin(self._queue.pop(0))

    def _done(self, path: Path, case: LoadedCase) -> None:
        self._reading.pop(path, None)
        self._read[path] = case
        if self._wanted is not None and self._wanted[0] == path:
            self._wanted[1](case)
        self._next()

    def _failed(self, path: Path, line: str) -> None:
        """A case that was only read ahead is told when it is wanted: it is tried again then."""
        self._reading.pop(path, None)
        if self._wanted is not None and self._wanted[0] == path:
            self._wanted[2](line)
        self._next()
