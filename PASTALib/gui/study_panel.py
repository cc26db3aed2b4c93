"""The reader's part of the panel: a case with its questions, or a page in its place, and the progress above."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from slicer.i18n import tr as _

from ..attributes import TABLE
from ..study.session import Question, StudyItem
from .study_pages import END, WAIT, Page
from .study_rating import RatingForm

WINDOWS = ((400, 40), (160, 60), (1500, -600), (1800, 400))  # width, level in HU: soft tissue, liver, lung, bone
CONFIDENCE = (0, 25, 50, 75, 100)  # per cent


class CasePanel:
    """Fills the widgets of ``ui``. ``page``: the page that is shown in the place of a case, None without."""

    def __init__(self, ui, form: RatingForm):
        self._ui, self._form = ui, form
        self.page: Page | None = None
        ui.windowBox.addItem(_("of the lesion type"))
        names = (_("Soft tissue"), _("Liver"), _("Lung"), _("Bone"))
        for name, (width, level) in zip(names, WINDOWS, strict=True):
            ui.windowBox.addItem(_("{name} ({width} / {level} HU)").format(name=name, width=width, level=level))
        ui.confidenceBox.addItem(_("not given"))
        for percent in CONFIDENCE:
            ui.confidenceBox.addItem(_("{percent} %").format(percent=percent))

    def show_case(self, item: StudyItem, questions: Sequence[Question]) -> None:
        """A case that has just come: its type, what is asked, and the scores that were given before."""
        ui, report = self._ui, _report(item)
        self.uncover()
        ui.typeLabel.text = f"<b>{escape(item.title)}</b>" + (_(" (practice)") if item.practice else "")
        several = _("How well does each line of the report fit the lesion?")
        ui.questionLabel.text = questions[0].text if len(questions) == 1 else several
        asked = {question.key for question in questions}
        others = [f"{key}: {text}" for key, text in report.items() if key not in asked]
        ui.reportLabel.text = "\n".join(others)
        ui.reportLabel.visible = bool(others)
        self._form.show(questions, item.scores, report)
        ui.confirmButton.visible = not self._form.single
        ui.confirmButton.enabled = self._form.complete
        ui.commentEdit.text = ""
        for box in (ui.confidenceBox, ui.windowBox):
            box.setCurrentIndex(0)

    def uncover(self) -> None:
        """The case instead of a page, with all that was chosen so far."""
        self.page = None
        self._ui.messageWidget.visible = False
        self._ui.caseWidget.visible = self._ui.leaveButton.visible = True
        self.say("")

    def wait(self, text: str) -> None:
        """Neither case nor page, until a case comes."""
        self.page = None
        self._ui.messageWidget.visible = self._ui.caseWidget.visible = False
        self._ui.leaveButton.visible = True
        self.say(text)

    def show_page(self, page: Page) -> None:
        """A page instead of the case."""
        ui = self._ui
        self.page = page
        ui.caseWidget.visible = False
        ui.messageWidget.visible = True
        ui.messageTitle.text = f"<b>{escape(page.title)}</b>"
        ui.messageLabel.text = page.text
        ui.messageButton.text = page.button
        if page.second:
            ui.secondButton.text = page.second
        ui.secondButton.visible = bool(page.second)
        ui.leaveButton.visible = page.kind not in (END, WAIT)  # where the first button leaves
        self.say("")

    def show_progress(self, rated: int, of: int, text: str) -> None:
        """How many cases are rated, and in words how many are left."""
        self._ui.progressBar.setRange(0, max(of, 1))
        self._ui.progressBar.setValue(rated)
        self._ui.progressLabel.text = text

    def say(self, text: str) -> None:
        """A line above the case; "" for none."""
        self._ui.problemLabel.text = text
        self._ui.problemLabel.visible = bool(text)

    @property
    def confidence(self) -> float | None:
        """In per cent; None when the reader gives none."""
        index = self._ui.confidenceBox.currentIndex
        return float(CONFIDENCE[index - 1]) if index > 0 else None

    @property
    def comment(self) -> str:
        return self._ui.commentEdit.text.strip()


def _report(item: StudyItem) -> dict[str, str]:
    """What the report says, by attribute key where it is one of ours."""
    keys = {spec.title.lower(): key for key, spec in TABLE.items()}
    return {keys.get(name.lower(), name): text for name, text in item.report or ()}
