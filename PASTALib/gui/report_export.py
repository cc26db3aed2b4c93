"""Saving a report (JSON, web page, DICOM) and copying it as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from ..errors import InputError
from ..mrml.volumes import NodeImage, array_of, snapshot, to_world_matrix
from ..reporting.document import ReportDocument
from .dependencies import ensure_packages
from .jobs import Jobs
from .report_state import ReportState, in_own_space
from .report_work import export_steps, reason_against_dicom, same_grid
from .run_bar import RunBar

# What each export writes: file ending, and the packages that Slicer does not have.
EXPORTS = {
    "json": (".json", ()),
    "html": (".html", ("Pillow", "contourpy")),
    "dicom": (".dcm", ("pydicom", "highdicom")),
}


class ReportExport:
    """Wires the export buttons of a panel. ``report()`` gives the state that is shown and its CT node, (None, None) without one;
    ``requirements``: file that lists the packages."""

    def __init__(self, ui, bar: RunBar, jobs: Jobs, report: Callable, requirements: Path):
        self._bar, self._jobs, self._report, self._requirements = bar, jobs, report, requirements
        for kind in EXPORTS:
            button = getattr(ui, f"{kind}Button")
            button.connect("clicked(bool)", lambda _clicked=False, kind=kind: self.save(kind))
        ui.copyButton.connect("clicked(bool)", self.copy)

    def save(self, kind: str) -> None:
        """Ask for a file and write the report as "json", "html" or "dicom"."""
        state, ct = self._report()
        if state is None or self._bar.running:
            return
        ending, packages = EXPORTS[kind]
        try:
            document, image = export_inputs(kind, state, ct)
            if packages and not ensure_packages(self._requirements, _("Saving the report"), packages):
                return
            path = _ask_for_file(f"{ct.GetName()} report", ending)
        except InputError as error:
            slicer.util.errorDisplay(str(error))
            return
        if path is not None:
            steps = export_steps(kind, document, image, path)
            self._bar.start(self._jobs, steps, self._saved, _("Saving the report …"))

    def copy(self, *_clicked) -> None:
        """Put the report on the clipboard as text."""
        state, _ct = self._report()
        if state is not None:
            slicer.app.clipboard().setText(state.document().to_text())
            self._bar.say(_("The report is on the clipboard."))

    def _saved(self, files: list[Path]) -> None:
        self._bar.say(_("Saved: {files}").format(files=", ".join(str(file) for file in files)))


def export_inputs(kind: str, state: ReportState, ct) -> tuple[ReportDocument, NodeImage | None]:
    """(document, scan) for ``export_steps``. InputError for a CT that is no longer the one that was measured, or gives no DICOM."""
    if kind == "json":
        return state.document(), None
    same_grid(state.found, array_of(ct).shape)
    if kind == "html":
        return state.document(), snapshot(ct)
    image = snapshot(ct, world=False)
    reason = reason_against_dicom(image)
    if reason:
        raise InputError(reason)
    return in_own_space(state.archive_document(), np.linalg.inv(to_world_matrix(ct))), image


def _ask_for_file(name: str, ending: str) -> Path | None:
    """The file to write, None when the user cancels."""
    pattern = _("Report (*{ending})").format(ending=ending)
    chosen = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save the report"), name + ending, pattern)
    if not chosen:
        return None
    path = Path(chosen if chosen.endswith(ending) else chosen + ending)
    if str(path) != chosen and path.exists():  # the dialog has not asked about this one
        if not slicer.util.confirmYesNoDisplay(_("{file} exists. Replace it?").format(file=path.name)):
            return None
    return path
