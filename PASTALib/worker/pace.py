"""Progress of one job on its way to the client: seconds left, told at most ten times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..progress import Cancelled

INTERVAL_S = 0.1
_KEPT = 0.7  # share of the last estimate that a new one keeps


class Pace:
    """Estimates the seconds left from the steps done so far.

    The first step is left out as soon as later ones are known: it pays for warming up. Estimates are smoothed, so that a few windows
    skipped or a slow one do not make them jump. A stage begins anew when the number of steps changes or goes back.
    """

    def __init__(self) -> None:
        self._of = self._step = 0
        self._begin: tuple[float, int] | None = None
        self._warm: tuple[float, int] | None = None
        self._left: tuple[float, float] | None = None  # when it was told, and what

    def __call__(self, step: int, of: int, now: float) -> float | None:
        """Seconds left at time ``now`` after ``step`` of ``of`` steps; None when that cannot be told yet."""
        if self._begin is None or of != self._of or step < self._step:
            self._of, self._begin, self._warm, self._left = of, (now, step), None, None
        advanced, self._step = step > self._step, step
        if of <= 0 or step >= of:
            return 0.0 if 0 < of <= step else None
        if step == self._begin[1]:
            return None
        if not advanced and self._left is not None:  # nothing new is known within a step
            return max(0.0, self._left[1] - (now - self._left[0]))
        self._warm = self._warm or (now, step)
        since, first = self._warm if step - self._warm[1] >= 2 else self._begin
        left = (now - since) / (step - first) * (of - step)
        if self._left is not None:
            told, before = self._left
            left = _KEPT * max(0.0, before - (now - told)) + (1 - _KEPT) * left
        self._left = (now, left)
        return left


class Reporter:
    """The ``Progress`` that a job gets: passes steps on, and raises Cancelled once ``cancel`` has been called.

    The first step of a job, its last, and the last of each stage are always told; others at most every 0.1 s, the newest of them when
    ``flush`` is called.
    """

    def __init__(self, tell: Callable[[dict], None]):
        self._tell = tell
        self._pace = Pace()
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._waiting: dict | None = None
        self._told_at, self._told = float("-inf"), (0, 0)

    def __call__(self, step: int, of: int, text: str = "") -> None:
        self.check()
        now = time.monotonic()
        with self._lock:
            eta = self._pace(int(step), int(of), now)
            event = {"event": "progress", "step": int(step), "of": int(of), "text": str(text)}
            self._waiting = event | {"eta_s": None if eta is None else round(eta, 2)}
            complete = 0 < of <= step and (step, of) != self._told
            if complete or now - self._told_at >= INTERVAL_S:
                self._send(now)

    def check(self) -> None:
        """Raise Cancelled if the client has asked for that."""
        if self._cancelled.is_set():
            raise Cancelled("cancelled")

    def cancel(self) -> None:
        """Make the job stop at its next step."""
        self._cancelled.set()

    def flush(self, last: bool = False) -> None:
        """Tell the newest step if it was held back for long enough, or if it is the ``last``."""
        now = time.monotonic()
        with self._lock:
            if self._waiting is not None and (last or now - self._told_at >= INTERVAL_S):
                self._send(now)

    def _send(self, now: float) -> None:
        event, self._waiting, self._told_at = self._waiting, None, now
        self._told = (event["step"], event["of"])
        self._tell(event)
