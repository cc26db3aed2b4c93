"""Progress and cancelling of long work, the same for commands, the worker and the Slicer modules."""

from __future__ import annotations

from collections.abc import Callable

# Called as ``progress(step, of, text)`` between steps of long work. It may raise ``Cancelled``; the work then stops, writes nothing and
# lets the exception pass.
Progress = Callable[[int, int, str], None]


class Cancelled(Exception):
    """The user asked to stop."""


def silent(step: int, of: int, text: str = "") -> None:
    """A ``Progress`` that shows nothing."""
