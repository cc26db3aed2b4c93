"""Starting a worker and giving it jobs, from any Python program. No Qt: threads do the waiting, so that a caller never has to."""

from __future__ import annotations

import itertools
import os
import queue
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..progress import Cancelled, Progress, silent
from . import interpreter, protocol
from .arrays import ArrayFolder
from .handle import Handle, Result
from .process import GONE, WorkerProcess
from .protocol import FINAL, WorkerError

GRACE_S = 0.8  # for a job to stop by itself; then its process is killed
_HEARTBEAT_S = 0.25
_QUIT_S = 1.0
_WAKE = {"event": "wake"}


class Worker:
    """A process for heavy work, started with the first job and again after it died or had to be killed.

    ``python``: an interpreter, or the folder of an environment, that has numpy and what the jobs need (None: this one); PASTALib need not
    be installed there. ``extra_env``: environment variables to add, or with None to take out. ``keep``: how many models stay in memory.
    ``jobs``: a module whose dictionary ``JOBS`` adds jobs. Use it as a context manager or call ``close``; what is forgotten ends with the
    object or the program. InputError for a ``python`` that is not there, or a full disk.
    """

    def __init__(
        self,
        python: str | Path | None = None,
        extra_env: Mapping[str, str | None] | None = None,
        startup_timeout_s: float = 60.0,
        *,
        keep: int = 2,
        jobs: str | None = None,
    ):
        self._core = _Core(interpreter.find(python), extra_env, startup_timeout_s, keep, jobs)
        self._close = weakref.finalize(self, self._core.close)

    def run(
        self,
        name: str,
        params: Mapping | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
        progress: Progress = silent,
    ) -> Result:
        """Do a job and return its result and its arrays (read-only, mapped from files; they stay valid after ``close``).

        ``progress`` is called with each step and at least four times a second, so that it can cancel by raising. That, or Ctrl-C, stops the job
        within a second and goes on to the caller. InputError for bad input and a full disk, Cancelled, WorkerError for all else: one line.
        """
        handle = None
        last = (0, 0, "starting the worker")
        try:
            handle = self.start(name, params, arrays)
            while True:
                event = handle.next_event(_HEARTBEAT_S)
                if event is None:
                    progress(*last)
                elif event["event"] == "progress":
                    last = (event["step"], event["of"], event["text"])
                    progress(*last)
                elif event["event"] in FINAL:
                    return handle.result()
        except BaseException:
            if handle is not None:
                handle.cancel()
                handle.wait(_QUIT_S)
            raise

    def start(self, name: str, params: Mapping | None = None, arrays: Mapping[str, np.ndarray] | None = None) -> Handle:
        """Begin a job and return at once; jobs run one after the other. The arrays must stay as they are until the event "started"."""
        if not self._close.alive:
            raise WorkerError("this worker is closed; make another")
        handle = Handle(self, self._core.wake, name, dict(params or {}), dict(arrays or {}))
        self._core.add(handle)
        return handle

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None when none runs."""
        return self._core.pid

    @property
    def about(self) -> dict:
        """What the worker said of itself when it started: versions of Python and packages, names of jobs. Empty before the first job."""
        return dict(self._core.about)

    @property
    def folder(self) -> Path:
        """The private folder of array files."""
        return self._core.folder.path

    def close(self) -> None:
        """End the process, cancel its jobs and remove the private folder."""
        self._close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _NotBegun(WorkerError):
    """The worker died before it said that it had begun."""


class _Core:
    """The part of a worker that its thread holds on to, so that a forgotten ``Worker`` can be collected.

    One thread takes job after job: starts the process, writes arrays, sends the request, passes events on, kills what does not stop.
    """

    def __init__(self, python: Path, extra_env, startup_timeout_s: float, keep: int, jobs: str | None):
        self._python, self._extra_env, self._startup_timeout_s = python, dict(extra_env or {}), startup_timeout_s
        self._keep, self._jobs = keep, jobs
        self.folder = ArrayFolder()
        self.about: dict = {}
        self._todo: queue.SimpleQueue = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._thread: threading.Thread | None = None
        self._process: WorkerProcess | None = None
        self._current: Handle | None = None
        self._closed = False
        self._owner = os.getpid()

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.alive else None

    def add(self, handle: Handle) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="pasta-worker-client", daemon=True)
            self._thread.start()
        self._todo.put(handle)
        if self._closed:
            handle.fail(Cancelled("the worker was closed"))

    def wake(self, handle: Handle) -> None:
        """Look at ``handle`` now: it has been cancelled."""
        if not handle.sent:
            handle.fail(Cancelled("cancelled"))  # the thread finds out in its own time
        process = self._process
        if handle is self._current and process is not None:
            process.events.put(_WAKE)

    def close(self) -> None:
        """May run in any thread, and while Python is ending."""
        if os.getpid() != self._owner:
            return
        self._closed = True
        self._todo.put(None)
        process, busy = self._process, self._current is not None
        if process is not None:
            if busy:
                process.kill()
            else:
                process.quit(_QUIT_S)
        if self._thread not in (None, threading.current_thread()):
            self._thread.join(2 * _QUIT_S)
        self.folder.close()

    # -- in the thread ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (handle := self._todo.get()) is not None:
            self._current = handle
            try:
                self._check(handle)
                self._do(handle)
            except (InputError, WorkerError, Cancelled) as error:
                handle.fail(error)
            except Exception as error:  # whatever it is, it belongs to the caller of this job, not to this thread
                handle.fail(
                    WorkerError(f"{handle.name} could not be given to the worker: {type(error).__name__}: {error}")
                )
            finally:
                self._current = None
                self.folder.sweep()
                del handle  # or its worker could not be collected while this waits
        while True:
            try:
                self._todo.get_nowait().fail(Cancelled("the worker was closed"))
            except queue.Empty:
                return

    def _check(self, handle: Handle) -> None:
        if self._closed or handle.cancelled_at is not None:
            raise Cancelled("cancelled")

    def _do(self, handle: Handle) -> None:
        try:
            self._converse(self._running(handle), handle)
        except _NotBegun:  # the process was dying when it got the request
            self._converse(self._running(handle), handle)

    def _converse(self, process: WorkerProcess, handle: Handle) -> None:
        files = self.folder.put(handle.arrays, lambda: self._check(handle))
        job = next(self._numbers)
        process.tail.clear()
        handle.sent = True
        process.send(protocol.run_request(job, handle.name, handle.params, files))
        asked = begun = False
        while True:
            if handle.cancelled_at is not None and not asked:
                process.send(protocol.cancel_request(job))
                asked = True
            event = self._next(process, handle)
            kind = None if event is None else event["event"]
            if self._closed or kind is None:
                self._drop(process)
                raise Cancelled("cancelled")
            if kind == GONE:
                self._drop(process)
                if asked:
                    raise Cancelled("cancelled")
                error = protocol.death(process.returncode, process.tail, handle.name)
                raise error if begun else _NotBegun(str(error), error.details)
            if kind == "log":
                handle.deliver(event)
            elif event.get("job") == job:
                begun = True
                if kind not in FINAL:
                    handle.deliver(event)
                elif asked:
                    raise Cancelled("cancelled")
                else:
                    self._end(handle, event)
                    return

    def _end(self, handle: Handle, event: dict) -> None:
        if event["event"] == "result":
            handle.finish(event, (event["result"], self.folder.take(event["arrays"])))
        else:
            handle.finish(event, protocol.failure(event))

    def _drop(self, process: WorkerProcess) -> None:
        """Have nothing more to do with a process; the next job gets a new one."""
        process.kill()
        self._process = None

    def _next(self, process: WorkerProcess, handle: Handle) -> dict | None:
        """The next event; None when the grace of a cancelled job is over."""
        try:
            if handle.cancelled_at is None:
                return process.events.get()
            left = handle.cancelled_at + GRACE_S - time.monotonic()
            return process.events.get(timeout=left) if left > 0 else None
        except queue.Empty:
            return None

    def _running(self, handle: Handle) -> WorkerProcess:
        """The process, started if there is none. InputError when the interpreter is at fault, WorkerError when the worker is."""
        if self._process is not None and self._process.alive:
            return self._process
        env = interpreter.environment(self._python, self._extra_env)
        line = interpreter.command(self._python, self.folder.path, self._jobs, self._keep)
        try:
            process = WorkerProcess(line, env)
        except OSError as error:
            raise InputError(f"{self._python}: cannot be run ({error.strerror}); wanted a Python interpreter") from None
        self._process = process
        try:
            self.about = self._greeting(process, handle, env)
        except BaseException:
            self._drop(process)
            raise
        return process

    def _greeting(self, process: WorkerProcess, handle: Handle, env: Mapping[str, str]) -> dict:
        until = time.monotonic() + self._startup_timeout_s
        while True:
            self._check(handle)
            try:
                event = process.events.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise WorkerError(
                    f"{self._python}: the worker did not start within {self._startup_timeout_s:g} s; is it a Python interpreter?",
                    "\n".join(process.tail),
                ) from None
            if event["event"] == "ready":
                interpreter.check_ready(self._python, event)
                return event
            if event["event"] == GONE:
                self._check(handle)
                if problem := interpreter.diagnose(self._python, env):
                    raise InputError(problem)
                raise protocol.death(process.returncode, process.tail, "its start")
