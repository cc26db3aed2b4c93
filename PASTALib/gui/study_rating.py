"""Buttons for scores from 1 to 5: one question with its anchors in full, or several questions beside the report's text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

import qt
from slicer.i18n import tr as _

from ..study.session import Question
from .module_widget import stress

SCORES = (1, 2, 3, 4, 5)
_HIGH, _WIDE = 36, 56  # pixels: easy to hit


class RatingForm:
    """Fills a widget with the questions of a case. ``answered()`` is called when the only question of a case has its score.

    ``scores``: what was chosen so far, by question.
    """

    def __init__(self, widget, answered: Callable[[], None]):
        self._answered = answered
        self._layout = qt.QVBoxLayout(widget)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._pages: dict[tuple[str, ...], _Page] = {}
        self._page: _Page | None = None

    @property
    def scores(self) -> dict[str, int]:
        return dict(self._page.scores) if self._page is not None else {}

    @property
    def complete(self) -> bool:
        """Whether every question has a score."""
        return self._page is not None and len(self._page.scores) == len(self._page.questions)

    @property
    def single(self) -> bool:
        """Whether a score is all that is asked, so that a key is enough."""
        return self._page is not None and len(self._page.questions) == 1

    @property
    def row(self) -> int:
        """The question that the next key answers, from 0."""
        return self._page.row if self._page is not None else 0

    @property
    def buttons(self) -> dict[str, list]:
        """The five buttons of each question."""
        return self._page.buttons if self._page is not None else {}

    def show(self, questions: Sequence[Question], scores: Mapping[str, int], texts: Mapping[str, str]) -> None:
        """Ask ``questions``; ``scores`` given before are shown. ``texts``: what the report says, by question."""
        name = tuple(question.key for question in questions)
        for key, page in self._pages.items():
            page.widget.visible = key == name
        if name not in self._pages:
            self._pages[name] = _Page(questions, self._chosen)
            self._layout.addWidget(self._pages[name].widget)
        self._page = self._pages[name]
        self._page.fill(scores, texts)

    def press(self, score: int) -> None:
        """Give the question that is next its score, as the keys 1 to 5 do."""
        if self._page is not None:
            self._page.choose(self._page.questions[self._page.row].key, score)

    def move(self, by: int) -> None:
        """Make another question the next one."""
        if self._page is not None:
            self._page.point_at(min(max(self._page.row + by, 0), len(self._page.questions) - 1))

    def _chosen(self) -> None:
        self._answered()


class _Page:
    """The widgets of one set of questions."""

    def __init__(self, questions: Sequence[Question], chosen: Callable[[], None]):
        self.questions, self._chosen = list(questions), chosen
        self.scores: dict[str, int] = {}
        self.row = 0
        self.buttons: dict[str, list] = {}
        self._told: dict[str, object] = {}
        self._texts: Mapping[str, str] = {}
        self.widget = qt.QWidget()
        if len(self.questions) == 1:
            self._large(qt.QGridLayout(self.widget), self.questions[0])
        else:
            self._rows(qt.QVBoxLayout(self.widget))
        self.widget.layout().setContentsMargins(0, 0, 0, 0)

    def fill(self, scores: Mapping[str, int], texts: Mapping[str, str]) -> None:
        self.scores = {key: score for key, score in scores.items() if key in self.buttons}
        self._texts = texts
        for key in self.buttons:
            self._show(key)
        keys = [question.key for question in self.questions]
        self.point_at(next((row for row, key in enumerate(keys) if key not in self.scores), 0))

    def choose(self, key: str, score: int) -> None:
        self.scores[key] = score
        self._show(key)
        keys = [question.key for question in self.questions]
        self.point_at(min(keys.index(key) + 1, len(keys) - 1))
        self._chosen()

    def point_at(self, row: int) -> None:
        """Mark the question that the next key answers."""
        self.row = row
        for number, question in enumerate(self.questions):
            label = self._told.get(question.key)
            if label is not None:
                text = self._texts.get(question.key, "")
                here = "\u25b6 " if number == row else ""
                label.text = f"{here}<b>{escape(question.text)}</b>" + (f": {escape(text)}" if text else "")

    def _large(self, grid, question: Question) -> None:
        """A line per score: the button, and what the score means."""
        grid.setColumnStretch(1, 1)
        buttons = self.buttons[question.key] = [self._button(question, score) for score in SCORES]
        for row, (score, button) in enumerate(zip(SCORES, buttons, strict=True)):
            button.setMinimumWidth(2 * _WIDE)
            label = qt.QLabel(question.anchors.get(score, ""))
            label.setObjectName(f"anchor_{score}")
            label.wordWrap = True
            grid.addWidget(button, row, 0)
            grid.addWidget(label, row, 1)

    def _rows(self, rows) -> None:
        """Two lines per question: what the report says, and the five buttons."""
        anchors = self.questions[0].anchors
        hint = qt.QLabel("\n".join(f"{score} = {anchors[score]}" for score in (1, 5) if score in anchors))
        hint.setObjectName("anchors")
        hint.wordWrap = True
        rows.addWidget(hint)
        for question in self.questions:
            label = self._told[question.key] = qt.QLabel()
            label.setObjectName(f"told_{question.key}")
            label.wordWrap = True
            label.toolTip = question.text
            rows.addWidget(label)
            line = qt.QHBoxLayout()
            rows.addLayout(line)
            buttons = self.buttons[question.key] = [self._button(question, score) for score in SCORES]
            for button in buttons:
                line.addWidget(button)

    def _button(self, question: Question, score: int):
        button = qt.QPushButton() if len(self.questions) == 1 else qt.QToolButton()  # which may be narrower
        button.text = str(score)
        button.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        button.setObjectName(f"score_{question.key}_{score}")
        button.checkable = True
        button.setMinimumHeight(_HIGH if len(self.questions) == 1 else _HIGH - 8)
        button.setMinimumWidth(_WIDE // 2)
        button.setFocusPolicy(qt.Qt.NoFocus)  # keys belong to the whole panel
        meaning = question.anchors.get(score, "")
        button.toolTip = _("{question} {score}: {meaning} (key {score})").format(
            question=question.text, score=score, meaning=meaning
        )
        button.setAccessibleName(
            _("{question}: {score}, {meaning}").format(question=question.text, score=score, meaning=meaning)
        )
        button.connect("clicked(bool)", lambda _checked=False: self.choose(question.key, score))
        return button

    def _show(self, key: str) -> None:
        for score, button in zip(SCORES, self.buttons[key], strict=True):
            button.checked = self.scores.get(key) == score
            stress(button, button.checked)
