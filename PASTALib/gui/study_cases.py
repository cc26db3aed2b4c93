"""Cases of a reader study, read in threads: the one that is wanted now, and those that come next before they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

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

    def want(self, path: Path, done: Callable[[LoadedCase], None], failed: Callable[[str], None]) -> None:
        """Hand the case to ``done``, at once if it has been read already; ``failed`` gets one line. Only the last one wanted is told."""
        if self._wanted is not None and self._wanted[0] != path:
            self._last = self._wanted[0]
        self._wanted = path, done, failed
        if path in self._read:
            done(self._read[path])
        else:
            self._begin(path)

    def ahead(self, paths: Sequence[Path]) -> None:
        """Read these meanwhile, and forget all that is neither wanted nor among them, but for the case before."""
        keep = {*paths, self._last, self._wanted[0] if self._wanted is not None else None}
        for path in [path for path in self._read if path not in keep]:
            del self._read[path]
        for path in paths:
            if path not in self._read:
                self._begin(path)

    def is_read(self, path: Path) -> bool:
        """Whether a case could be shown at once."""
        return path in self._read

    def forget(self) -> None:
        """Give all memory back; nobody is told of anything any more."""
        for task in self._reading.values():
            task.forget()
        self._reading, self._read = {}, {}
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

    def _done(self, path: Path, case: LoadedCase) -> None:
        self._reading.pop(path, None)
        self._read[path] = case
        if self._wanted is not None and self._wanted[0] == path:
            self._wanted[1](case)

    def _failed(self, path: Path, line: str) -> None:
        """A case that was only read ahead is told when it is wanted: it is tried again then."""
        self._reading.pop(path, None)
        if self._wanted is not None and self._wanted[0] == path:
            self._wanted[2](line)
