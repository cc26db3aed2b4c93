"""Measures how long the event loop is kept from turning: the time users see as a frozen window."""

from __future__ import annotations

import time


class EventLoopWatch:
    """Context manager over a scripted session; ``gaps_ms`` holds the time of each turn of the event loop.

    A timer of no delay asks to be called on every turn: what passes between two calls is one turn, that is the longest
    uninterrupted work on the GUI thread. Code that the session itself runs between turns counts as well, so a script
    must let the loop turn (``step``, ``until``) before and after each action that it wants to see apart.
    """

    def __init__(self) -> None:
        self.gaps_ms: list[float] = []
        self._timer = None
        self._last = 0.0

    def __enter__(self) -> EventLoopWatch:
        import qt

        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._tick)
        self.step()
        self._last = time.perf_counter()
        self._timer.start()
        return self

    def __exit__(self, *_) -> None:
        self.step()
        self._timer.stop()

    @property
    def longest_ms(self) -> float:
        """The longest time, in milliseconds, in which no event was handled."""
        return max(self.gaps_ms, default=0.0)

    def step(self) -> None:
        """Let the event loop turn once."""
        import qt

        qt.QApplication.processEvents()

    def until(self, condition, timeout_s: float = 30.0) -> None:
        """Turn the event loop until a condition holds; TimeoutError when it does not."""
        wait_until(condition, timeout_s)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps_ms.append(1000.0 * (now - self._last))
        self._last = now


def wait_until(condition, timeout_s: float = 30.0) -> None:
    """Turn the event loop until a condition holds; TimeoutError when it does not in time."""
    import qt

    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"the condition did not hold within {timeout_s} s")
        qt.QApplication.processEvents(qt.QEventLoop.AllEvents, 20)
        time.sleep(0.001)
