"""The first section of the reader study's panel: the study's folder, who reads, and the button that begins."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import InputError
from ..study.session import ReaderSession, StudyPackage, open_study

FOLDER = "PASTA/studyFolder"


class Login:
    """Opens a study and a reader's session. ``begun(session, summaries)`` is called when the reader begins; ``opened(study)`` when another
    study, or None, is chosen. ``study``: the one that is chosen now."""

    def __init__(self, ui, begun: Callable[[ReaderSession, bool], None], opened: Callable[[StudyPackage | None], None]):
        self._ui, self._begun, self._opened = ui, begun, opened
        self.study: StudyPackage | None = None
        ui.folderPath.filters = ui.folderPath.Dirs
        ui.folderPath.connect("currentPathChanged(QString)", self._look)
        ui.readerBox.connect("activated(int)", lambda _index: self._show_button())
        ui.beginButton.connect("clicked(bool)", self.begin)

    def fill(self) -> None:
        """Begin with the study of the last time."""
        kept = str(qt.QSettings().value(FOLDER, "") or "")
        if kept and not self._ui.folderPath.currentPath:
            self._ui.folderPath.currentPath = kept
        self.look()

    def look(self) -> None:
        """Read the folder anew: it may have been closed, or made, meanwhile."""
        self._look(self._ui.folderPath.currentPath)

    def leave(self) -> None:
        """Nobody reads any more: the next reader chooses a name."""
        self._ui.readerBox.setCurrentIndex(0)
        self.look()

    @property
    def reader(self) -> str:
        """Who is chosen; "" for nobody."""
        return self._ui.readerBox.currentText if self._ui.readerBox.currentIndex > 0 else ""

    def begin(self, *_clicked) -> None:
        """Open the reader's session and hand it on."""
        self.look()
        if not self._ui.beginButton.enabled:
            return
        summaries = bool(self._ui.viewsBox.checked)
        try:
            session = ReaderSession(self.study, self.reader, view_summaries=summaries)
        except InputError as error:
            slicer.util.errorDisplay(str(error))
            return
        qt.QSettings().setValue(FOLDER, str(self.study.folder))
        self._begun(session, summaries)

    def _look(self, path: str) -> None:
        ui, study, told = self._ui, None, ""
        if path.strip():
            try:
                study = open_study(path.strip())
            except (InputError, OSError) as error:
                told = str(error)
        else:
            told = _(
                "Choose the study's folder: the one with study.json, from your study lead. To try, open “For the study lead” and make the "
                "sample study."
            )
        if study is not None and study.closed:
            told = _("{title}: this study is closed; nothing more can be rated.").format(title=study.title)
        elif study is not None:
            told = _("{title}. Now choose your name.").format(title=study.title)
        ui.studyLabel.text = told
        changed = (study is None) != (self.study is None) or (
            study is not None and (study.folder, study.digest) != (self.study.folder, self.study.digest)
        )
        self.study = study
        if changed:
            self._fill_readers()
        self._show_button()
        self._opened(study)

    def _fill_readers(self) -> None:
        box, study = self._ui.readerBox, self.study
        names = study.readers if study is not None else []
        box.clear()
        box.addItem(_("Choose your name"))
        for name in names:
            box.addItem(name)
        box.setCurrentIndex(0)  # not the last one: on a shared computer somebody would rate in another's name

    def _show_button(self) -> None:
        ui, study = self._ui, self.study
        usable = study is not None and not study.closed
        ui.readerWidget.visible = usable
        ready = usable and bool(self.reader)
        ui.beginButton.enabled = ready
        known = ready and study.store_path(self.reader).is_file()
        ui.beginButton.text = _("Continue as {reader}").format(reader=self.reader) if known else _("Begin")
        if ready:
            ui.studyLabel.text = _("{title}.").format(title=study.title)
