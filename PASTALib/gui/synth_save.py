"""The section "Save": a case folder, the reports as a text file, or copied."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import InputError
from .jobs import Jobs
from .synth_editor import Editor

FOLDER_SETTING = "PASTA/exportFolder"


class SaveSection:
    """Wires the buttons. ``refresh`` is called when something has changed for the rest of the panel."""

    def __init__(self, ui, editor: Editor, jobs: Jobs, refresh):
        self._ui, self._editor, self._jobs, self._refresh = ui, editor, jobs, refresh
        ui.exportButton.connect("clicked(bool)", self.export)
        ui.saveReportButton.connect("clicked(bool)", self.save_report)
        ui.copyReportButton.connect("clicked(bool)", self.copy_report)
        self.say("")

    def show(self) -> None:
        """Buttons are there for accepted lesions."""
        session = self._editor.session
        some = session is not None and bool(session.lesions)
        for button in (self._ui.exportButton, self._ui.saveReportButton, self._ui.copyReportButton):
            button.enabled = bool(some and not self._editor.locked)

    def say(self, text: str) -> None:
        """Show a line about what was saved."""
        self._ui.saveLabel.text = text
        self._ui.saveLabel.visible = bool(text)

    def export(self, *_clicked) -> None:
        """Ask for a folder and write the accepted lesions as a case below it."""
        before = str(qt.QSettings().value(FOLDER_SETTING, "") or "")
        root = qt.QFileDialog.getExistingDirectory(self._ui.exportButton, _("Folder for cases"), before)
        if not root:
            return
        qt.QSettings().setValue(FOLDER_SETTING, root)
        self._write(root, self._ui.caseName.text.strip() or "case", overwrite=False)

    def _write(self, root: str, name: str, overwrite: bool) -> None:
        session, editor = self._editor.session, self._editor
        editor.live.stop()
        editor.refinement.forget()
        editor.locked = True
        self.say(_("Writing the case …"))
        self._refresh()

        def unlock(text: str) -> None:
            editor.locked = False
            self.say(text)
            self._refresh()

        def failed(line: str, details: str) -> None:
            unlock(line)
            if _exists(session, root, name) and not overwrite:
                question = _("There is a case {name} already. Replace it?").format(name=name)
                if slicer.util.confirmOkCancelDisplay(question):
                    self._write(root, name, overwrite=True)

        self._jobs.in_thread(
            lambda tell: session.export_case(root, name, overwrite),
            done=lambda folder: unlock(_("Written: {folder}").format(folder=folder)),
            failed=failed,
            cancelled=lambda: unlock(""),
        )

    def save_report(self, *_clicked) -> None:
        """Ask for a file and write the reports as text."""
        path = qt.QFileDialog.getSaveFileName(self._ui.saveReportButton, _("Report"), "report.txt", _("Text (*.txt)"))
        if not path:
            return
        try:
            Path(path).write_text(self._editor.session.report_text(), encoding="utf-8")
        except OSError as error:
            self.say(
                _("{path} cannot be written ({reason}); choose another folder").format(path=path, reason=error.strerror)
            )
            return
        self.say(_("Written: {folder}").format(folder=path))

    def copy_report(self, *_clicked) -> None:
        """Put the reports on the clipboard."""
        slicer.app.clipboard().setText(self._editor.session.report_text())
        self.say(_("Copied."))


def _exists(session, root: str, name: str) -> bool:
    from ..cases import case_folder

    try:
        return case_folder(root, session.lesions[0].result.request.lesion, name).exists()
    except (InputError, IndexError):
        return False
