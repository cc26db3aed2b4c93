"""Heavy work for the modules: jobs of a worker process and work in threads, followed by a timer, so that the window never waits.

Python threads inside Slicer run only while its main thread lets go of the interpreter's lock, so each tick of the timer waits a few
milliseconds for news: that is when threads, the worker client's among them, get their turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import qt

from ..errors import InputError
from ..progress import Cancelled, Progress
from ..worker import Handle, Worker, WorkerError
from ..worker.protocol import FINAL
from .job_steps import InThread, InWorker, OnFailed, OnProgress, Run, Steps, Task

__all__ = ["InThread", "InWorker", "Job", "Jobs", "Run", "Steps", "Task", "time_left"]

TICK_MS = 25
_TURN_S = 0.004  # how long a tick waits, per job

OnDone = Callable[[dict, dict[str, np.ndarray]], None]


class Job:
    """One job on its way; ``cancel`` ends it within a second. Exactly one of done, failed and cancelled is called, in the GUI's thread."""

    def __init__(
        self, handle: Handle, progress: OnProgress | None, done: OnDone, failed: OnFailed, cancelled: Callable[[], None]
    ):
        self.handle, self.progress, self.done, self.failed, self.cancelled = handle, progress, done, failed, cancelled
        self.forgotten = False

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self.handle.done

    def cancel(self) -> None:
        """Stop it; ``cancelled`` is called when it has stopped."""
        self.handle.cancel()

    def forget(self) -> None:
        """Stop it and call nobody any more: its answer is stale."""
        self.forgotten = True
        self.handle.cancel()

    def look(self) -> bool:
        """Wait a moment for news and pass it on; whether the job has ended. For the timer of ``Jobs``."""
        first = self.handle.next_event(_TURN_S)
        for event in [first, *self.handle.poll()] if first is not None else []:
            if event["event"] in FINAL:
                return True
            if event["event"] == "progress" and self.progress is not None and not self.forgotten:
                self.progress(event["step"], event["of"], event["text"], event.get("eta_s"))
        return False

    def end(self) -> None:
        """Tell how it ended."""
        try:
            result, arrays = self.handle.result()
        except Cancelled:
            if not self.forgotten:
                self.cancelled()
        except InputError as error:
            if not self.forgotten:
                self.failed(str(error), "")
        except WorkerError as error:
            if not self.forgotten:
                self.failed(str(error), error.details)
        else:
            if not self.forgotten:
                self.done(result, arrays)


class Jobs:
    """Starts jobs and follows them. ``python``: interpreter or environment of the worker, None for Slicer's own.

    One worker serves all jobs, one after the other, and keeps its models warm. ``close`` ends it and everything that runs.
    """

    def __init__(self, python: str | Path | None = None, make_worker: Callable[..., Worker] = Worker):
        self._python, self._make_worker = python, make_worker
        self._worker: Worker | None = None
        self._jobs: list[Job | Task] = []
        self._timer = qt.QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.connect("timeout()", self._tick)

    @property
    def busy(self) -> bool:
        """Whether any job runs that somebody waits for."""
        return any(not job.forgotten for job in self._jobs)

    @property
    def folder(self) -> Path:
        """Where the worker's arrays lie, for jobs that show their work meanwhile."""
        return self._running_worker().folder

    def start(
        self,
        name: str,
        params: Mapping,
        arrays: Mapping[str, np.ndarray],
        *,
        done: OnDone,
        failed: OnFailed,
        progress: OnProgress | None = None,
        cancelled: Callable[[], None] = lambda: None,
    ) -> Job:
        """Begin a job (see ``worker.jobs``) and return at once. The arrays must stay as they are until its first progress.

        InputError when there is no such interpreter.
        """
        job = Job(self._running_worker().start(name, params, arrays), progress, done, failed, cancelled)
        self._follow(job)
        return job

    def in_thread(
        self,
        work: Callable[[Progress], Any],
        *,
        done: Callable[[Any], None],
        failed: OnFailed,
        progress: OnProgress | None = None,
        cancelled: Callable[[], None] = lambda: None,
    ) -> Task:
        """Begin ``work(progress)`` in a thread and return at once. It must touch no node and no widget."""
        task = Task(work, progress, done, failed, cancelled)
        self._follow(task)
        return task

    def run(
        self,
        steps: Steps,
        *,
        done: Callable[[Any], None],
        failed: OnFailed,
        progress: OnProgress | None = None,
        cancelled: Callable[[], None] = lambda: None,
    ) -> Run:
        """Begin several steps, some in threads, some in the worker, that end and are cancelled as one."""
        run = Run(self, steps, done, failed, progress, cancelled)
        run.advance()
        return run

    def wait_for(self, steps: Steps) -> Any:
        """What steps return; events are handled meanwhile. For scripts and self-tests. Raises WorkerError with the line that tells what failed."""
        ends: list[tuple[bool, Any]] = []
        self.run(
            steps,
            done=lambda outcome: ends.append((True, outcome)),
            failed=lambda line, details: ends.append((False, WorkerError(line, details))),
            cancelled=lambda: ends.append((False, Cancelled("cancelled"))),
        )
        while not ends:
            qt.QApplication.processEvents()
            time.sleep(0.005)
        succeeded, outcome = ends[0]
        if not succeeded:
            raise outcome
        return outcome

    def use(self, python: str | Path | None) -> None:
        """Have jobs run in another environment from now on. InputError when it is none; then all stays as it is."""
        from ..worker import interpreter

        interpreter.find(python)
        if str(python) != str(self._python):
            self.close()
            self._python = python

    def close(self) -> None:
        """End the worker; jobs that run end as cancelled, now."""
        self._timer.stop()
        jobs, self._jobs = self._jobs, []
        worker, self._worker = self._worker, None
        for job in jobs:
            if not job.forgotten:
                job.cancel()
                job.cancelled()
        if worker is not None:
            worker.close()

    def _running_worker(self) -> Worker:
        if self._worker is None:
            self._worker = self._make_worker(self._python)
        return self._worker

    def _follow(self, job: Job | Task) -> None:
        self._jobs.append(job)
        if not self._timer.active:
            self._timer.start()

    def _tick(self) -> None:
        for job in list(self._jobs):
            if job.look() and job in self._jobs:  # close() may have been called meanwhile
                self._jobs.remove(job)
                job.end()
        if not self._jobs:
            self._timer.stop()


def time_left(seconds: float | None) -> str:
    """Seconds as people say them; empty when unknown."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{max(1, round(seconds))} s left"
    return f"{round(seconds / 60)} min left"
