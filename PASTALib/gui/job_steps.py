"""Work in a thread, and several steps (threads, jobs of the worker) as one piece of work with one progress and one cancel."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..progress import Cancelled, Progress

if TYPE_CHECKING:
    from .jobs import Job, Jobs

_TURN_S = 0.015  # how long a tick waits: a thread needs the interpreter's lock for all that is not inside numpy

OnProgress = Callable[[int, int, str, "float | None"], None]  # step, of, text, seconds left (None: unknown)
OnFailed = Callable[[str, str], None]  # one line, details


@dataclass(frozen=True)
class InThread:
    """A step done in a thread of this process: ``work(progress)``. It touches no node and no widget, and gives its result."""

    work: Callable[[Progress], Any]


@dataclass(frozen=True)
class InWorker:
    """A step done by the worker: a job of ``worker.jobs``. It gives (result, arrays)."""

    name: str
    params: Mapping
    arrays: Mapping[str, np.ndarray]


# Yields steps, is sent what each gives, and returns the outcome of the whole. Its own code runs in the GUI's thread: it must be quick.
Steps = Generator["InThread | InWorker", Any, Any]


class Task:
    """Work in a thread of this process; the same callbacks as ``Job``, with one result. A cancelled one is left to end by itself."""

    def __init__(
        self,
        work: Callable[[Progress], Any],
        progress: OnProgress | None,
        done: Callable[[Any], None],
        failed: OnFailed,
        cancelled: Callable[[], None],
    ):
        self.progress, self.done, self.failed, self.cancelled = progress, done, failed, cancelled
        self.forgotten = self._stopped = self._ended = False
        self._news: queue.SimpleQueue = queue.SimpleQueue()
        self._outcome: tuple[str, Any] = ("cancelled", None)
        threading.Thread(target=self._run, args=(work,), name="pasta-task", daemon=True).start()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended

    def cancel(self) -> None:
        """Stop waiting for it; ``cancelled`` is called with the next tick."""
        self._stopped = True

    def forget(self) -> None:
        """Stop it and call nobody any more: its answer is stale."""
        self.forgotten = self._stopped = True

    def look(self) -> bool:
        """Wait a moment for news and pass it on; whether the task has ended. For the timer of ``Jobs``."""
        if self._stopped:
            return True
        try:
            kind, *news = self._news.get(timeout=_TURN_S)
            while kind == "progress":
                if self.progress is not None:
                    self.progress(*news, None)
                kind, *news = self._news.get_nowait()
        except queue.Empty:
            return False
        self._outcome = kind, news[0]
        return True

    def end(self) -> None:
        """Tell how it ended."""
        self._ended = True
        kind, what = self._outcome
        if self.forgotten:
            return
        if self._stopped or kind == "cancelled":
            self.cancelled()
        elif kind == "failed":
            self.failed(*what)
        else:
            self.done(what)

    def _run(self, work: Callable[[Progress], Any]) -> None:
        def tell(step: int, of: int, text: str = "") -> None:
            if self._stopped:
                raise Cancelled("cancelled")
            self._news.put(("progress", step, of, text))

        try:
            self._news.put(("done", work(tell)))
        except Cancelled:
            self._news.put(("cancelled", None))
        except InputError as error:
            self._news.put(("failed", (str(error), "")))
        except Exception as error:  # whatever it is, it belongs to the one who asked for the work, not to this thread
            self._news.put(("failed", _told(error)))


class Run:
    """Several steps as one piece of work. Exactly one of done, failed and cancelled is called, in the GUI's thread, unless it is forgotten."""

    def __init__(
        self,
        jobs: Jobs,
        steps: Steps,
        done: Callable[[Any], None],
        failed: OnFailed,
        progress: OnProgress | None,
        cancelled: Callable[[], None],
    ):
        self._jobs, self._steps = jobs, steps
        self._done, self._failed, self._progress, self._cancelled = done, failed, progress, cancelled
        self._current: Job | Task | None = None
        self.running = True

    def cancel(self) -> None:
        """Stop it; ``cancelled`` is called when it has stopped, within a second."""
        if self._current is not None:
            self._current.cancel()

    def forget(self) -> None:
        """Stop it and call nobody any more."""
        self.running = False
        self._steps.close()
        if self._current is not None:
            self._current.forget()

    def advance(self, given: Any = None) -> None:
        """Hand over what the last step gave, and begin the next."""
        try:
            step = self._steps.send(given)
            self._current = self._begin(step)
        except StopIteration as end:
            self._finish(self._done, end.value)
        except InputError as error:
            self._fail(str(error), "")
        except Exception as error:  # a button that stays "Cancel" for ever would be worse
            self._fail(*_told(error))

    def _begin(self, step: InThread | InWorker) -> Job | Task:
        ends = {"failed": self._fail, "progress": self._progress, "cancelled": self._cancel}
        if isinstance(step, InThread):
            return self._jobs.in_thread(step.work, done=self.advance, **ends)
        return self._jobs.start(
            step.name, step.params, step.arrays, done=lambda result, arrays: self.advance((result, arrays)), **ends
        )

    def _fail(self, line: str, details: str) -> None:
        self._steps.close()
        self._finish(self._failed, line, details)

    def _cancel(self) -> None:
        self._steps.close()
        self._finish(self._cancelled)

    def _finish(self, tell: Callable, *arguments: Any) -> None:
        self.running, self._current = False, None
        tell(*arguments)


def _told(error: Exception) -> tuple[str, str]:
    return f"{type(error).__name__}: {error}".strip(": "), "".join(traceback.format_exception(error))
