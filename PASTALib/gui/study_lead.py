"""The study lead's part of the panel: the sample study, a new study from pools of cases, closing, analysis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import InputError
from ..study.design import load_presets
from ..study.session import StudyPackage
from .dependencies import ensure_packages
from .jobs import Jobs, Steps
from .run_bar import RunBar
from .study_work import (
    ANALYSIS_PACKAGES,
    SEAL_PACKAGES,
    NewStudy,
    add_copy,
    analysis_steps,
    close_steps,
    copy_steps,
    is_sealed,
    new_steps,
    report_of,
    sample_steps,
    standing,
)


class LeadSection:
    """Wires the lead's widgets. ``made(folder)`` is called with a study that was made or closed; ``requirements`` lists the packages."""

    def __init__(self, ui, jobs: Jobs, requirements: Path, made: Callable[[Path], None]):
        self._ui, self._jobs, self._requirements, self._made = ui, jobs, requirements, made
        self._study: StudyPackage | None = None
        self._gone = False
        self.bars = {
            "sample": RunBar(ui.sampleButton, ui.sampleProgress, ui.sampleStatus, ui.sampleButton.text, self._sample),
            "new": RunBar(ui.newButton, ui.newProgress, ui.newStatus, ui.newButton.text, self._new),
            "close": RunBar(ui.closeButton, ui.closeProgress, ui.closeStatus, ui.closeButton.text, self._close),
        }
        for bar in self.bars.values():
            bar.say("")
        for field in (ui.titleEdit, ui.readersEdit, ui.passEdit, ui.againEdit, ui.keyEdit):
            field.connect("textChanged(QString)", lambda _text: self._show_buttons())
        for field in (ui.realPath, ui.syntheticPath):
            field.connect("currentPathChanged(QString)", lambda _path: self._show_buttons())
        self._presets = load_presets()["presets"]
        for name in self._presets:
            ui.presetBox.addItem(name)
        ui.presetBox.connect("currentIndexChanged(int)", lambda _index: self._show_preset())
        ui.copiesButton.connect("clicked(bool)", self._add_copy)
        ui.handOutButton.connect("clicked(bool)", self._hand_out)
        ui.reportButton.connect("clicked(bool)", self._report)
        for section in (ui.leadSection, ui.closeSection):
            section.connect("contentsCollapsed(bool)", self._unfolded)
        self._show_preset()

    @property
    def running(self) -> bool:
        """Whether a study is being made or closed."""
        return any(bar.running for bar in self.bars.values())

    def show(self, study: StudyPackage | None) -> None:
        """Show how far the readers of the chosen study are, and what can be done now."""
        self._study = study
        self._ui.closeSection.visible = study is not None
        self._tell_standing()
        self._show_buttons()

    def forget(self) -> None:
        """The panel goes away: stop what runs and call nobody."""
        self._gone = True
        for bar in self.bars.values():
            bar.forget()

    def _unfolded(self, collapsed: bool) -> None:
        if not collapsed:
            self._tell_standing()
            qt.QTimer.singleShot(0, self._show_buttons)  # unfolding shows what does not apply now

    def _tell_standing(self) -> None:
        """Read in a thread how far the readers are, when the lead looks."""
        ui, study = self._ui, self._study
        if study is None or ui.leadSection.collapsed or ui.closeSection.collapsed:
            return

        def tell(text: str, *_details) -> None:
            if study is self._study:
                ui.statusLabel.text = text

        self._jobs.in_thread(lambda _progress: standing(study), done=tell, failed=tell)

    def _show_preset(self) -> None:
        about = self._presets[self._ui.presetBox.currentText]["about"]
        self._ui.presetNote.text = f"{about[:1].upper()}{about[1:]}."

    def _show_buttons(self) -> None:
        if self._gone:
            return
        ui, study, busy = self._ui, self._study, self.running
        wait = _("Wait until the other work is done.")
        self.bars["sample"].set_missing(
            wait if busy else "", _("Makes the sample study in a folder of your choice, and opens it.")
        )
        self.bars["new"].set_missing(
            wait if busy else self._missing(),
            _("Exports every case in the same way into a folder of your choice, and seals the key."),
        )
        closed = study is None or study.closed
        sealed = study is not None and is_sealed(study)
        missing = _("Give the passphrase.") if sealed and not closed and not ui.keyEdit.text else ""
        self.bars["close"].set_missing(
            wait if busy else missing,
            _("Ends the study, opens the key, and writes the report. Nothing can be rated afterwards."),
        )
        for widget in (ui.closeButton, ui.copiesButton, ui.handOutButton):
            widget.visible = not closed
        ui.keyEdit.visible = ui.keyLabel.visible = sealed and not closed
        ui.copiesButton.enabled = ui.handOutButton.enabled = ui.reportButton.enabled = not busy
        ui.reportButton.visible = study is not None and study.closed

    def _missing(self) -> str:
        """What a new study still lacks."""
        ui = self._ui
        if not ui.realPath.currentPath or not ui.syntheticPath.currentPath:
            return _("Choose the folders of the real and of the synthetic cases.")
        if not _names(ui.readersEdit.text):
            return _("Name the readers.")
        if not ui.passEdit.text:
            return _("Choose a passphrase.")
        return "" if ui.passEdit.text == ui.againEdit.text else _("The two passphrases differ.")

    def _sample(self) -> None:
        folder = _ask_for_new_folder(_("Where to put the sample study"), "pasta-sample-study")
        if folder is not None and self._have(SEAL_PACKAGES):
            self._start("sample", sample_steps(folder), self._sample_made, _("Making the sample study …"))

    def _new(self) -> None:
        ui = self._ui
        request = NewStudy(
            ui.titleEdit.text.strip() or ui.titleEdit.placeholderText,
            ui.presetBox.currentText,
            ui.realPath.currentPath,
            ui.syntheticPath.currentPath,
            tuple(_names(ui.readersEdit.text)),
            ui.passEdit.text,
        )
        folder = _ask_for_new_folder(_("Where to put the study"), "study")
        if folder is not None and self._have(SEAL_PACKAGES):
            self._start("new", new_steps(request, folder), self._study_made, _("Making the study …"))

    def _close(self) -> None:
        study, key_file = self._study, None
        if not is_sealed(study):
            title = _("The key file that you kept when the study was made")
            chosen = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, "")
            if not chosen:
                return
            key_file = Path(chosen)
        packages = ANALYSIS_PACKAGES + (() if key_file is not None else SEAL_PACKAGES)
        question = _("Close the study now? Nothing can be rated afterwards.\n\n{standing}").format(
            standing=self._ui.statusLabel.text
        )
        if self._have(packages) and slicer.util.confirmYesNoDisplay(question):
            steps = close_steps(study, self._ui.keyEdit.text, key_file)
            self._start("close", steps, self._was_closed, _("Closing the study …"))

    def _hand_out(self, *_clicked) -> None:
        folder = _ask_for_new_folder(_("Where to put the reader's copy"), f"{self._study.name}-reader")
        if folder is not None:
            self._start("close", copy_steps(self._study, folder), self._was_copied, _("Copying the study …"))

    def _add_copy(self, *_clicked) -> None:
        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("The reader's copy of the study"), "")
        if not chosen or self._study is None:
            return
        try:
            told = add_copy(self._study, Path(chosen))
        except InputError as error:
            slicer.util.errorDisplay(str(error))
            return
        self.show(self._study)
        self.bars["close"].say(told)

    def _report(self, *_clicked) -> None:
        """Show the report; make it where it is missing, because a package was."""
        page = report_of(self._study)
        if page is not None:
            _show_page(page)
        elif self._have(ANALYSIS_PACKAGES) and not self.running:
            self._start("close", analysis_steps(self._study), self._was_closed, _("Analysing …"))

    def _sample_made(self, folder: Path) -> None:
        from ..study.sample import sample_passphrase

        self._made(folder)
        told = _("The sample study is in {folder} and chosen above. Its passphrase: {passphrase}")
        self.bars["sample"].say(told.format(folder=folder, passphrase=sample_passphrase()))

    def _study_made(self, folder: Path) -> None:
        for field in (self._ui.passEdit, self._ui.againEdit):
            field.text = ""
        self._made(folder)
        self.bars["new"].say(_("The study is in {folder} and chosen above.").format(folder=folder))

    def _was_copied(self, folder: Path) -> None:
        self.bars["close"].say(_("The copy is in {folder}. It holds no key and no ratings.").format(folder=folder))

    def _was_closed(self, page: Path) -> None:
        self._ui.keyEdit.text = ""
        self._made(self._study.folder)
        self.bars["close"].say(_("The report is {page}.").format(page=page))
        _show_page(page)

    def _have(self, packages: tuple[str, ...]) -> bool:
        return ensure_packages(self._requirements, _("PASTA Study"), packages)

    def _start(self, name: str, steps: Steps, done: Callable, doing: str) -> None:
        self.bars[name].start(self._jobs, self._watched(steps), done, doing)
        self._show_buttons()

    def _watched(self, steps: Steps) -> Steps:
        """The same steps; when they end, in whichever way, the other buttons can be used again."""
        try:
            return (yield from steps)
        finally:
            qt.QTimer.singleShot(0, self._show_buttons)


def _show_page(page: Path) -> None:
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(page)))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.replace(";", ",").split(",") if name.strip()]


def _ask_for_new_folder(title: str, name: str) -> Path | None:
    """A folder that does not exist yet, in one that the user chooses; None when the user cancels."""
    chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, "")
    if not chosen:
        return None
    folder, number = Path(chosen) / name, 1
    while folder.exists():
        number += 1
        folder = Path(chosen) / f"{name}-{number}"
    return folder
