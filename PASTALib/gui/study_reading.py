"""A reader at work: the case in the views, its questions in the panel, keys, pauses, and the pages between."""

from __future__ import annotations

import time
from collections.abc import Callable

import slicer
from slicer.i18n import tr as _

from ..errors import InputError
from ..mrml.study_view import CaseView, LoadedCase, ViewSummary
from ..study.create import grid_of
from ..study.session import ReaderSession, StudyItem
from .jobs import Jobs
from .study_cases import Cases
from .study_keys import Keys
from .study_pages import (
    BROKEN,
    END,
    PAUSE,
    START,
    WAIT,
    Page,
    block_of,
    broken_page,
    end_page,
    pause_page,
    start_page,
    wait_page,
)
from .study_panel import WINDOWS, CasePanel
from .study_rating import RatingForm
from .study_time import Pace, left_text

AHEAD = 2  # cases that are read before they are wanted
BOUNCE_S = 0.25  # a key within this time after an image has come is a slip of the finger


class Reading:
    """Drives a ``ReaderSession`` from the panel's widgets (``ui``) and keys. ``left`` is called when the reader leaves.

    ``marks()`` tells how the lesion is to be marked, "" for not at all.
    """

    def __init__(self, ui, parent, jobs: Jobs, marks: Callable[[], str], left: Callable[[], None]):
        self._ui, self._marks, self._left = ui, marks, left
        self.view = CaseView()
        self.cases = Cases(jobs)
        self.form = RatingForm(ui.ratingWidget, self._answered)
        self.panel = CasePanel(ui, self.form)
        self.session: ReaderSession | None = None
        self._pace = Pace()
        self._block: tuple | None = None
        self._shown: StudyItem | None = None  # whose image is in the views
        self._summary: ViewSummary | None = None
        self._summaries, self._came = False, 0.0
        self._connect()
        scores = {str(score): lambda score=score: self._score(score) for score in range(1, 6)}
        self.keys = Keys(
            parent,
            {
                **scores,
                "Backspace": self.back,
                "Shift+Backspace": self.forward,
                "S": self.skip,
                "P": self.pause,
                "R": self.reset,
                "M": lambda: ui.marksBox.click(),
                "Up": lambda: self.form.move(-1),
                "Down": lambda: self.form.move(1),
                "Return": self._enter,
                "Enter": self._enter,
            },
        )

    # -- a session --------------------------------------------------------------------------------------------

    def begin(self, session: ReaderSession, summaries: bool = False) -> None:
        """Take up a session where it was left. ``summaries``: the reader agrees that window and scrolling are stored."""
        self._summaries = summaries
        self.cases.grid = grid_of(session.study)
        self.session, self._pace, self._block, self._shown = session, Pace(), None, None
        session.pause()
        self.view.open()
        self.keys.enabled = True
        self._go_on()

    def end(self, gone: bool = False) -> None:
        """Store nothing more and show nothing more. ``gone``: the scene is being closed."""
        session, self.session = self.session, None
        self.keys.enabled = False
        self._drop_summary()
        self.cases.forget()
        self.view.close(gone)
        self.panel.wait("")
        self._shown = None
        if session is not None:
            try:
                session.close()
            except InputError as error:
                slicer.util.errorDisplay(str(error))

    def suspend(self) -> None:
        """The module is left or the scene closed: the images go, the session stays, paused."""
        self.keys.enabled = False
        if self.session is not None:
            self.pause()

    def wake(self) -> None:
        """The module is there again."""
        if self.session is not None:
            self.keys.enabled = True

    def scene_closed(self) -> None:
        """The nodes are gone; the case comes back with Continue."""
        if self.session is not None:
            self.suspend()
            self._drop_summary()
            self._shown = None
            self.view.close(gone=True)

    # -- what the reader does ---------------------------------------------------------------------------------

    @property
    def page(self) -> Page | None:
        """The page that is shown instead of a case."""
        return self.panel.page

    @property
    def rating(self) -> bool:
        """Whether a case is shown and may be rated."""
        item = self.session.item if self.session is not None else None
        return self.page is None and item is not None and self._shown is not None and self._shown.item == item.item

    def confirm(self, *_clicked) -> None:
        """Store the scores and show the next case; the case stays when they cannot be stored."""
        if not self.rating or not self.form.complete:
            return
        view = self._summary.end() if self._summary is not None else None
        self._summary = None
        item = self.session.item
        try:
            event = self.session.rate(self.form.scores, self.panel.confidence, self.panel.comment, view)
        except InputError as error:
            if self.form.single:  # what was pressed did not count; several scores need not be given again
                self.form.show(self.session.questions, item.scores, {})
            self.panel.say(_("Not stored: {reason}").format(reason=error))
            slicer.util.errorDisplay(_("This rating was not stored; the case stays. {reason}").format(reason=error))
            return
        self._pace.add(event.seconds)
        self._go_on()

    def back(self, *_clicked) -> None:
        """Show the case before with its scores."""
        if self.session is not None and (self.page is None or self.page.kind in (END, BROKEN)):
            if self.session.back():
                self._go_on()
            elif self.page is None:
                self.panel.say(_("This is the first case that can be changed now."))

    def forward(self, *_clicked) -> None:
        """After going back: the case after this one, as far as cases were seen."""
        if self.rating and self.session.forward():
            self._go_on()

    def skip(self, *_clicked) -> None:
        """Leave the case for the end."""
        if self.rating or (self.page is not None and self.page.kind == BROKEN):
            self._safely(self.session.skip)

    def pause(self, *_clicked) -> None:
        """Hide the image and stop the time."""
        if self.session is None or self.page is not None:
            return
        self.session.pause()
        self.view.hide()
        self.panel.show_page(pause_page())

    def reset(self, *_clicked) -> None:
        """Window, zoom and slices as they were when the case came."""
        if self.rating:
            self.view.reset()
            self._ui.windowBox.setCurrentIndex(0)

    def mark(self) -> None:
        """Mark the lesion as the panel says now."""
        if self.rating:
            self.view.mark(self._marks())

    def _score(self, score: int) -> None:
        if self.rating and time.monotonic() - self._came >= BOUNCE_S:
            self.form.press(score)

    def _answered(self) -> None:
        self._ui.confirmButton.enabled = self.form.complete
        if self.form.single:
            self.confirm()

    def _enter(self) -> None:
        if self.page is not None:
            self._page_button()
        elif not self.form.single:
            self.confirm()

    def _page_button(self, *_clicked) -> None:
        kind = self.page.kind if self.page is not None else ""
        if kind == BROKEN:
            self.skip()
        elif kind in (END, WAIT):
            self._left()
        elif kind in (START, PAUSE):
            self._resume()

    def _second_button(self, *_clicked) -> None:
        if self.page is not None and self.page.kind == BROKEN:
            self._go_on()
        elif self.page is not None and self.page.kind == END:
            self.back()

    def _safely(self, action: Callable[[], object]) -> None:
        try:
            action()
        except InputError as error:
            slicer.util.errorDisplay(str(error))
            return
        self._go_on()

    # -- what is shown ----------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Show what the session has now: a case, the page before it, a washout, or the end."""
        session, item = self.session, self.session.item
        self._drop_summary()
        rated, of = session.progress
        self.panel.show_progress(rated, of, left_text(rated, of, self._pace.left_s(of - rated)))
        if item is None:
            self._hide()
            self.panel.show_page(wait_page(session) if session.blocked else end_page(session))
        elif block_of(item) != self._block:
            self._block = block_of(item)
            self._hide()
            session.pause()
            self._ahead([item, *session.upcoming(AHEAD)])
            self.panel.show_page(start_page(session))
        else:
            self._want(item)

    def _resume(self) -> None:
        self.session.resume()
        item = self.session.item
        if item is not None and self._shown is not None and self._shown.item == item.item:
            self.view.unhide()
            self.panel.uncover()
        else:
            self._go_on()

    def _want(self, item: StudyItem) -> None:
        """The case as soon as it is read; until then the old image goes, so that nobody rates the wrong one."""
        self._shown = None
        if not self.cases.is_read(item.image):
            self.view.hide()
        self.panel.wait(_("Reading the case …"))
        self.cases.want(item.image, lambda case: self._loaded(item, case), lambda line: self._broken(item, line))

    def _loaded(self, item: StudyItem, case: LoadedCase) -> None:
        session = self.session
        if session is None or session.item is None or session.item.item != item.item or self.page is not None:
            return
        level, width = item.window
        self.view.show(case, (width, level), item.pointer_ras, item.extent_mm)
        self.view.mark(self._marks())
        self._shown = item
        self.panel.show_case(item, session.questions)
        session.resume()
        session.shown()
        self._came = time.monotonic()
        self._summary = ViewSummary(self.view) if self._summaries else None
        self._ahead(session.upcoming(AHEAD))

    def _broken(self, item: StudyItem, line: str) -> None:
        if self.session is not None and self.session.item is not None and self.session.item.item == item.item:
            self.session.pause()
            self._hide()
            self.panel.show_page(broken_page(line))

    def _ahead(self, items) -> None:
        self.cases.ahead([item.image for item in items])

    def _hide(self) -> None:
        self.view.hide()
        self._shown = None

    def _drop_summary(self) -> None:
        if self._summary is not None:
            self._summary.end()
            self._summary = None

    # -- wiring -----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        ui = self._ui
        for button, slot in (
            (ui.confirmButton, self.confirm),
            (ui.backButton, self.back),
            (ui.forwardButton, self.forward),
            (ui.skipButton, self.skip),
            (ui.pauseButton, self.pause),
            (ui.resetButton, self.reset),
            (ui.messageButton, self._page_button),
            (ui.secondButton, self._second_button),
            (ui.leaveButton, lambda *_: self._left()),
        ):
            button.connect("clicked(bool)", slot)
        ui.windowBox.connect("activated(int)", self._window_chosen)

    def _window_chosen(self, index: int) -> None:
        if self.rating:
            self.view.set_window(WINDOWS[index - 1] if index else self.view.window)
