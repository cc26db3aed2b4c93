"""How long the rest of a study will take, from the reader's own pace."""

from __future__ import annotations

from statistics import median

from slicer.i18n import tr as _

_LATEST, _ENOUGH = 20, 3


class Pace:
    """The times of the latest cases; one long look does not upset the estimate."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def add(self, seconds: float) -> None:
        """A case was rated after so long."""
        self._seconds = [*self._seconds, seconds][-_LATEST:]

    def left_s(self, cases: int) -> float | None:
        """Seconds that so many cases will take; None before there is enough to tell."""
        return median(self._seconds) * cases if len(self._seconds) >= _ENOUGH else None


def left_text(rated: int, of: int, left_s: float | None) -> str:
    """ "3 of 12 rated, 9 left (about 5 min)"."""
    text = _("{rated} of {of} rated, {left} left").format(rated=rated, of=of, left=of - rated)
    if left_s is None or rated == of:
        return text
    minutes = max(1, round(left_s / 60))
    if minutes < 90:
        return _("{text} (about {minutes} min)").format(text=text, minutes=minutes)
    return _("{text} (about {hours:.1f} h)").format(text=text, hours=minutes / 60)
