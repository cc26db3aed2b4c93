"""The worker process: requests from stdin, one job at a time, events to stdout. It ends when its client does."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import logging
import os
import platform
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np

from .. import __version__
from ..errors import InputError
from ..progress import Cancelled
from . import protocol
from .arrays import open_array, remove_orphan, save_arrays
from .jobs import JOBS, Job
from .pace import INTERVAL_S, Reporter
from .protocol import OUT_OF_MEMORY, Lines, WorkerError
from .warm import WarmState

ORPHAN_GRACE_S = 0.5  # for a running job to stop by itself when the client is gone
_READ = 1 << 16
_LEAVING = threading.Lock()


class Server:
    """Runs the jobs that ``handle`` is given and tells what becomes of them through ``send`` (called from several threads).

    All jobs run in one thread that lives as long as the server: libraries keep plans and thread pools by thread.
    """

    def __init__(
        self, jobs: Mapping[str, Job], send: Callable[[dict], None], folder: Path | None = None, keep: int = 2
    ):
        self._jobs, self._send, self._folder = dict(jobs), send, folder
        self._state = WarmState(keep)
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._current: tuple[int | str, Reporter] | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._outputs = 0

    @property
    def running(self) -> int | str | None:
        """Id of the job at work."""
        current = self._current
        return None if current is None else current[0]

    def start(self) -> None:
        """Say "ready" and begin to take jobs."""
        self._send(ready(self._jobs))
        threading.Thread(target=self._work, name="pasta-jobs", daemon=True).start()

    def handle(self, message: dict) -> bool:
        """Act on one request; False when it says that this was the last."""
        if "run" in message:
            self._accept(message)
        elif "cancel" in message:
            current = self._current
            if current is not None and current[0] == message["cancel"]:
                current[1].cancel()
        elif "ping" in message:
            self._send({"event": "pong", "ping": message["ping"]})
        elif message.get("quit"):
            return False
        else:
            self.refuse(f"request with {', '.join(map(repr, message)) or 'nothing'}; wanted run, cancel, ping or quit")
        return True

    def refuse(self, why: str, job: int | str | None = None) -> None:
        """Answer a request that cannot be understood or met."""
        self._send({"event": "error", "job": job, "kind": WorkerError.__name__, "text": why, "details": ""})

    def flush(self) -> None:
        """Tell progress that was held back."""
        current = self._current
        if current is not None:
            current[1].flush()

    def stop(self, grace_s: float) -> bool:
        """Cancel the job at work; whether nothing runs any more, at the latest after ``grace_s``."""
        current = self._current
        if current is not None:
            current[1].cancel()
        return self._idle.wait(grace_s)

    def _accept(self, message: dict) -> None:
        job, name = message.get("job"), message["run"]
        params, files = message.get("params", {}), message.get("arrays", {})
        if not isinstance(job, (int, str)):
            return self.refuse(f"job {job!r}: wanted a number or text")
        if name not in self._jobs:
            return self.refuse(f"this worker knows no job {name!r}; it has {', '.join(sorted(self._jobs))}", job)
        if not isinstance(params, dict) or not isinstance(files, dict):
            return self.refuse('"params" and "arrays" must be objects', job)
        begun = time.monotonic()

        def tell(event: dict) -> None:
            self._send(event | {"job": job, "elapsed_s": round(time.monotonic() - begun, 3)})

        reporter = Reporter(tell)
        with self._lock:
            if self._current is not None:
                return self.refuse(f"busy with job {self._current[0]!r}; wait until it ends, or cancel it", job)
            self._current = (job, reporter)
            self._idle.clear()
        self._queue.put((name, params, files, tell, reporter))

    def _work(self) -> None:
        while True:
            name, params, files, tell, reporter = self._queue.get()
            final = self._run(name, params, files, tell, reporter)
            reporter.flush(last=True)
            try:
                protocol.encode(final)
            except (TypeError, ValueError) as error:
                final = _error(name, error)
            with self._lock:  # before the client learns of the end, so that its next request finds no job at work
                self._current = None
                self._idle.set()
            tell(final)

    def _run(self, name: str, params: dict, files: dict, tell: Callable[[dict], None], progress: Reporter) -> dict:
        """The job's final event."""
        try:
            progress.check()
            tell({"event": "started", "run": name})
            arrays = {key: open_array(self._folder, str(file)) for key, file in files.items()}
            result, outputs = self._jobs[name](params, arrays, progress, self._state)
            progress.check()
            self._outputs += 1
            written = save_arrays(self._folder, f"out{self._outputs}", outputs, progress.check)
            return {"event": "result", "run": name, "result": result, "arrays": written}
        except Cancelled:
            return {"event": "cancelled", "run": name}
        except ModuleNotFoundError as error:
            return _missing(name, error)
        except MemoryError as error:
            self._state.clear()
            return _error(name, error) | {"kind": OUT_OF_MEMORY}
        except BaseException as error:  # SystemExit of a library, too, must not end the process
            return _error(name, error)


def _error(name: str, error: BaseException) -> dict:
    kind = InputError.__name__ if isinstance(error, InputError) else type(error).__name__
    text = " ".join(str(error).split())
    return {
        "event": "error",
        "run": name,
        "kind": kind,
        "text": text,
        "details": "".join(traceback.format_exception(error)),
    }


def _missing(name: str, error: ModuleNotFoundError) -> dict:
    """A package that this Python lacks is for the user to install, unless it is our own."""
    package = (error.name or "").split(".")[0]
    event = _error(name, error)
    if not package or package == __package__.split(".")[0]:
        return event
    text = f"{sys.executable}: has no {package}, which the job {name} needs; install it there, or give a Python that has it"
    return event | {"kind": InputError.__name__, "text": text}


def ready(jobs: Mapping[str, Job]) -> dict:
    """The first event: who this is and what it can do. No package is imported to find its version."""
    about = {"event": "ready", "protocol": protocol.VERSION, "pid": os.getpid(), "python": platform.python_version()}
    about |= {"pasta": __version__, "numpy": np.__version__, "jobs": sorted(jobs)}
    for package in ("torch", "openvino", "onnxruntime", "TotalSegmentator"):
        try:
            about[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            about[package] = None
    return about


# ---------------------------------------------------------------------------------------------------------------
# The process


def main(arguments: list[str] | None = None) -> None:
    """Serve until stdin ends; never returns."""
    parent = os.getppid()
    inlet, outlet = _private_pipes()
    parser = argparse.ArgumentParser(prog="python -m PASTALib.worker", description=__doc__)
    parser.add_argument("--folder", type=Path, help="the client's private folder for array files")
    parser.add_argument("--jobs", metavar="MODULE", help="module whose dictionary JOBS adds further jobs")
    parser.add_argument("--keep", type=int, default=2, metavar="N", help="how many models stay in memory")
    given = parser.parse_args(arguments)
    faulthandler.enable()
    jobs = dict(JOBS)
    if given.jobs:
        jobs |= importlib.import_module(given.jobs).JOBS
    outlet_lock = threading.Lock()

    def send(event: dict) -> None:
        line = protocol.encode(event)
        try:
            with outlet_lock:
                while line:
                    line = line[os.write(outlet, line) :]
        except OSError:  # nobody reads any more
            _leave(given.folder, orphan=True, busy=True)

    server = Server(jobs, send, given.folder, max(1, given.keep))
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    logging.getLogger().addHandler(_LogEvents(server, send))
    os.write(outlet, b"\n")  # ends whatever a launcher printed before
    server.start()
    threading.Thread(target=_watch, args=(server, given.folder, parent), name="pasta-watch", daemon=True).start()
    orphan = True
    try:
        orphan = _serve(server, inlet)
    except KeyboardInterrupt:
        orphan = False
    _leave(given.folder, orphan, busy=not server.stop(ORPHAN_GRACE_S))


def _serve(server: Server, inlet: int) -> bool:
    """Requests until the last; returns whether stdin ended without a word."""
    lines = Lines()
    while data := os.read(inlet, _READ):
        for line in lines.feed(data):
            try:
                message = protocol.decode(line)
            except ValueError as error:
                server.refuse(f"request that is no JSON object ({error})")
                continue
            if not server.handle(message):
                return False
    return True


def _watch(server: Server, folder: Path | None, parent: int) -> None:
    """Tell progress that was held back; end when the parent is gone although something keeps stdin open."""
    while True:
        time.sleep(INTERVAL_S if server.running is not None else 5 * INTERVAL_S)
        server.flush()
        if os.getppid() != parent:
            _leave(folder, orphan=True, busy=not server.stop(ORPHAN_GRACE_S))


def _leave(folder: Path | None, orphan: bool, busy: bool) -> None:
    """End this process at once, whatever its threads do. An orphan removes the private folder, and the children of a job that still runs."""
    _LEAVING.acquire()  # for good: another thread that comes here would end the process while this one is still tidying up
    if orphan and folder is not None:
        with contextlib.suppress(OSError):
            remove_orphan(folder)
    if orphan and busy and hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


def _private_pipes() -> tuple[int, int]:
    """Descriptors of the real stdin and stdout. What anyone else prints, from Python or C, goes to stderr; whoever reads gets nothing."""
    inlet, outlet = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(inlet, os.O_BINARY)
        msvcrt.setmode(outlet, os.O_BINARY)
    sys.stdout = sys.stderr
    return inlet, outlet


class _LogEvents(logging.Handler):
    """Warnings of the logging module as "log" events."""

    def __init__(self, server: Server, send: Callable[[dict], None]):
        super().__init__(logging.WARNING)
        self._server, self._send_event = server, send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send_event({"event": "log", "job": self._server.running, "text": record.getMessage()[:1000]})
        except Exception:  # as logging wants it: a remark that cannot be formatted stops no work
            self.handleError(record)
