"""The section "Lesions in this scan": the list, and its buttons."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _

from .module_widget import jump_to
from .synth_editor import Editor
from .synth_texts import line_of


class LesionList:
    """A list widget with the accepted lesions and, last, the one being edited; choosing a row shows the lesion in the views.

    ``refresh`` is called when another row is chosen.
    """

    def __init__(self, ui, editor: Editor, refresh: Callable[[], None]):
        self._ui, self._editor, self._refresh = ui, editor, refresh
        self._lines: list[str] = []
        ui.lesionList.connect("itemSelectionChanged()", self._chosen)
        ui.acceptButton.connect("clicked(bool)", lambda *_: editor.accept())
        ui.undoButton.connect("clicked(bool)", lambda *_: editor.undo())
        ui.redoButton.connect("clicked(bool)", lambda *_: editor.redo())
        ui.removeButton.connect("clicked(bool)", self._remove)

    @property
    def shown(self):
        """The lesion whose attributes are shown: the one being edited, else the one chosen, else the last; None without any."""
        session = self._editor.session
        if session is None or session.current is not None or not session.lesions:
            return session.current if session is not None else None
        row = self._row()
        return session.lesions[row if 0 <= row < len(session.lesions) else -1]

    def show(self) -> None:
        """Show what the session holds now."""
        ui, session, editor = self._ui, self._editor.session, self._editor
        placed = [] if session is None else [*session.lesions, *filter(None, [session.current])]
        lines = [line_of(item, session is not None and item is session.current) for item in placed]
        if lines != self._lines:
            self._fill(lines)
        free = session is not None and not editor.locked
        current = session.current if session is not None else None
        ready = current is not None and not current.is_draft and not editor.busy
        ui.acceptButton.enabled = bool(free and ready)
        undo, redo = (session.undo_text, session.redo_text) if session is not None else ("", "")
        ui.undoButton.enabled, ui.redoButton.enabled = bool(free and undo), bool(free and redo)
        ui.undoButton.toolTip = _("Take back: {what} (Ctrl+Z)").format(what=undo) if undo else _("Nothing to take back")
        ui.redoButton.toolTip = (
            _("Do again: {what} (Ctrl+Shift+Z)").format(what=redo) if redo else _("Nothing to do again")
        )
        ui.removeButton.enabled = bool(free and self._row() >= 0)

    def _fill(self, lines: list[str]) -> None:
        box = self._ui.lesionList
        row = self._row()
        same = len(lines) == len(self._lines)
        self._lines = lines
        box.blockSignals(True)
        box.clear()
        for line in lines:
            box.addItem(line)
        if same and row >= 0:
            box.setCurrentRow(row)
        box.blockSignals(False)

    def _row(self) -> int:
        return self._ui.lesionList.currentRow if self._ui.lesionList.selectedItems() else -1

    def _chosen(self) -> None:
        session, row = self._editor.session, self._row()
        if session is not None and row >= 0:
            placed = [*session.lesions, *filter(None, [session.current])]
            if row < len(placed):
                jump_to(session.world(placed[row].result.center_ras))
        self._refresh()

    def _remove(self, *_clicked) -> None:
        row = self._row()
        if row >= 0:
            self._editor.remove(row)
