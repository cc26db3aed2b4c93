"""A button that starts long work and turns into Cancel, with progress bar, text and time left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import slicer
from slicer.i18n import tr as _

from ..errors import InputError
from .jobs import Steps, time_left


class Runs(Protocol):
    """What starts steps: ``jobs.Jobs``, or a stand-in in tests."""

    def run(self, steps: Steps, *, done, failed, progress, cancelled) -> Any: ...


class RunBar:
    """Wires a button, a progress bar and a label. ``begin`` is called when the button is pressed while nothing runs."""

    def __init__(self, button, bar, label, text: str, begin: Callable[[], None]):
        self._button, self._bar, self._label, self._text, self._begin = button, bar, label, text, begin
        self._run: Any = None
        self._missing, self._tip, self._hint = "", "", ""
        bar.visible = False
        button.connect("clicked(bool)", self.press)
        self._show_button()

    @property
    def running(self) -> bool:
        """Whether work is on its way."""
        return self._run is not None

    def set_missing(self, missing: str, tip: str) -> None:
        """``missing``: what is still to be chosen, shown as the next step; empty when work can begin. ``tip``: what the button does."""
        self._missing, self._tip = missing, tip
        if self._missing != self._hint and not self.running:
            self._hint = self._missing
            self.say(self._missing)
        self._show_button()

    def say(self, text: str) -> None:
        """Show a line below the bar."""
        self._label.text = text
        self._label.visible = bool(text)

    def press(self, *_clicked) -> None:
        """Begin, or cancel what runs."""
        if self.running:
            self.cancel()
        elif self._button.enabled:
            try:
                self._begin()
            except InputError as error:
                self._failed(str(error), "")

    def cancel(self) -> None:
        """Cancel what runs; it has stopped within a second."""
        if self._run is not None:
            self._button.enabled = False
            self._button.text = _("Cancelling …")
            self._run.cancel()

    def forget(self) -> None:
        """Stop what runs and call nobody: the scene or the module goes away."""
        if self._run is not None:
            self._run.forget()
            self._end("")

    def start(self, jobs: Runs, steps: Steps, done: Callable[[Any], None], doing: str) -> None:
        """Run steps, show how they get on, and hand what they give to ``done``."""
        self._run = _PENDING
        self._bar.setRange(0, 0)
        self._bar.visible = True
        self.say(doing)
        self._show_button()
        run = jobs.run(
            steps,
            done=lambda result: self._done(done, result),
            failed=self._failed,
            progress=self._progress,
            cancelled=lambda: self._end(_("Cancelled. The scene is as it was.")),
        )
        if self._run is _PENDING:  # it may have ended at once
            self._run = run

    def _progress(self, step: int, of: int, text: str, left_s: float | None) -> None:
        self._bar.setRange(0, max(of, 0))
        self._bar.setValue(step if of else 0)
        words = text[:1].upper() + text[1:]
        left = time_left(left_s)
        self.say(_("{what}, {left}").format(what=words, left=left) if left else words)

    def _done(self, done: Callable[[Any], None], result: Any) -> None:
        self._end("")
        try:
            done(result)
        except InputError as error:
            self._failed(str(error), "")

    def _failed(self, line: str, details: str) -> None:
        self._end(line)
        slicer.util.errorDisplay(line, detailedText=details or None)

    def _end(self, text: str) -> None:
        self._run = None
        self._bar.visible = False
        self._hint = ""
        self.say(text)
        self._show_button()

    def _show_button(self) -> None:
        self._button.text = _("Cancel") if self.running else self._text
        self._button.enabled = self.running or bool(self._tip and not self._missing)
        self._button.toolTip = (
            _("Stop (Esc). Nothing in the scene changes.") if self.running else self._missing or self._tip
        )
        self._button.setAccessibleName(self._button.text)


class _Pending:
    """Stands for a run that is being started."""

    def cancel(self) -> None: ...

    forget = cancel


_PENDING = _Pending()
