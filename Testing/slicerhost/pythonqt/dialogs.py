"""Dialogs never block: they are recorded, and answered from what the test queued with ``RECORD.answer``."""

from __future__ import annotations

from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QDialog, QFileDialog, QInputDialog, QMenu, QMessageBox

from ..record import RECORD


def _recorded(name: str, default):
    """A static function that is recorded, and answered with what was queued or with what Cancel returns."""

    def ask(*arguments):
        RECORD.call(name, *arguments)
        return RECORD.take_answer(name, default)

    return staticmethod(ask)


class RecordedFileDialog(QFileDialog):
    """PythonQt's file dialogs return the path alone, or an empty string after Cancel."""

    getOpenFileName = _recorded("QFileDialog.getOpenFileName", "")
    getSaveFileName = _recorded("QFileDialog.getSaveFileName", "")
    getExistingDirectory = _recorded("QFileDialog.getExistingDirectory", "")
    getOpenFileNames = _recorded("QFileDialog.getOpenFileNames", [])


class RecordedInputDialog(QInputDialog):
    getText = _recorded("QInputDialog.getText", "")
    getInt = _recorded("QInputDialog.getInt", 0)
    getDouble = _recorded("QInputDialog.getDouble", 0.0)
    getItem = _recorded("QInputDialog.getItem", "")


def _box(kind: str, default):
    def show(parent, title, text, *buttons):
        RECORD.say(kind, text)
        RECORD.call(f"QMessageBox.{kind}", parent, title, text, *buttons)
        return RECORD.take_answer(f"QMessageBox.{kind}", default)

    return staticmethod(show)


class RecordedMessageBox(QMessageBox):
    """Questions are answered with No, other boxes with Ok, unless an answer was queued."""

    information = _box("information", QMessageBox.StandardButton.Ok)
    warning = _box("warning", QMessageBox.StandardButton.Ok)
    critical = _box("critical", QMessageBox.StandardButton.Ok)
    about = _box("about", None)
    question = _box("question", QMessageBox.StandardButton.No)


class RecordedDesktopServices(QDesktopServices):
    openUrl = _recorded("QDesktopServices.openUrl", True)


def _exec(self, *arguments):
    """A modal dialog would wait for ever here: it must have been given an answer, except message boxes."""
    name = f"{type(self).__name__}.exec"
    if isinstance(self, QMessageBox):
        RECORD.say("dialog", self.text)
        default = QMessageBox.StandardButton.Ok
    elif isinstance(self, QMenu):
        default = None
    else:
        default = LookupError
    RECORD.call(name, self)
    answer = RECORD.take_answer(name, default)
    if answer is LookupError:
        raise LookupError(f"the modal dialog {type(self).__name__} would block: queue RECORD.answer({name!r}, result)")
    return answer


def install(module) -> None:
    """Put the recorded dialogs in the place of Qt's."""
    for cls, stand_in in (
        (QFileDialog, RecordedFileDialog),
        (QInputDialog, RecordedInputDialog),
        (QMessageBox, RecordedMessageBox),
        (QDesktopServices, RecordedDesktopServices),
    ):
        stand_in.__name__ = stand_in.__qualname__ = cls.__name__
        setattr(module, cls.__name__, stand_in)
    for cls in (QDialog, QMenu, QMessageBox):
        cls.exec_ = cls.exec = _exec
