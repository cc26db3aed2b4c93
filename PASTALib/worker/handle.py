"""One job seen by the one who asked for it: its events, its end, and the way to stop it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

import numpy as np

from ..progress import Cancelled
from .protocol import WorkerError

Result = tuple[dict, dict[str, np.ndarray]]


class Handle:
    """One job on its way. Nothing here blocks, except ``wait`` and ``next_event`` with their time-outs."""

    def __init__(self, worker: object, wake: Callable[[Handle], None], name: str, params: dict, arrays: dict):
        self.name, self.params, self.arrays = name, params, arrays
        self._worker = worker  # a worker lives as long as its jobs
        self._wake = wake
        self._events: queue.SimpleQueue = queue.SimpleQueue()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._outcome: Result | Exception | None = None
        self.cancelled_at: float | None = None  # time.monotonic()
        self.sent = False  # whether the worker knows of it

    @property
    def done(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self._ended.is_set()

    def poll(self) -> list[dict]:
        """Events since the last call, see ``protocol``. The last of a job is "result", "error" or "cancelled"."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._events.get_nowait())
        return found

    def next_event(self, timeout_s: float) -> dict | None:
        """The next event, or None when none comes in time."""
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def cancel(self) -> None:
        """Stop the job. It ends as cancelled within a second, if need be by killing the process."""
        if self.cancelled_at is None:
            self.cancelled_at = time.monotonic()
            self._wake(self)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until the job has ended; whether it has."""
        return self._ended.wait(timeout_s)

    def result(self) -> Result:
        """Block until the job has ended; its result and arrays. Raises what ``Worker.run`` raises."""
        self._ended.wait()
        if isinstance(self._outcome, tuple):
            return self._outcome
        if isinstance(self._outcome, WorkerError):
            raise WorkerError(str(self._outcome), self._outcome.details)
        raise type(self._outcome)(str(self._outcome))

    # -- for the thread that does the job ------------------------------------------------------------------------

    def deliver(self, event: dict) -> None:
        """Pass on an event that is not the last."""
        self._events.put(event)

    def finish(self, event: dict, outcome: Result | Exception) -> None:
        """End the job; only the first end counts."""
        if isinstance(outcome, Exception):  # its frames would keep this handle and its worker alive
            outcome.__traceback__ = outcome.__context__ = outcome.__cause__ = None
        with self._lock:
            if not self._ended.is_set():
                self._outcome, self.arrays = outcome, {}
                self._events.put(event)
                self._ended.set()

    def fail(self, error: Exception) -> None:
        """End the job with what went wrong on this side."""
        if isinstance(error, Cancelled):
            self.finish({"event": "cancelled", "job": None}, error)
        else:
            kind = WorkerError.__name__ if isinstance(error, WorkerError) else type(error).__name__
            details = getattr(error, "details", "")
            self.finish({"event": "error", "job": None, "kind": kind, "text": str(error), "details": details}, error)
