"""ctk's path widgets: a line with a browse button, and a button that is a folder."""

from __future__ import annotations

import os

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QToolButton, QWidget

from ..pythonqt.dialogs import RecordedFileDialog
from ..pythonqt.standin import stand_in, value_property


@stand_in
class ctkPathLineEdit(QWidget):
    Dirs, Files, NoFilter, Readable, Writable, Executable = 0x001, 0x002, -1, 0x010, 0x020, 0x040
    currentPathChanged, validInputChanged = Signal(str), Signal(bool)
    currentPath, setCurrentPath = value_property("currentPath", str, "", changed="currentPathChanged", then="_show")
    filters, setFilters = value_property("filters", int, 0x001 | 0x002)
    nameFilters, setNameFilters = value_property("nameFilters", "QStringList", [])
    settingKey, setSettingKey = value_property("settingKey", str, "")
    label, setLabel = value_property("label", str, "")
    showBrowseButton, setShowBrowseButton = value_property("showBrowseButton", bool, True, then="_show")
    showHistoryButton, setShowHistoryButton = value_property("showHistoryButton", bool, True)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._box = QComboBox(self)
        self._box.setEditable(True)
        self._box.setMinimumContentsLength(6)
        self._button = QToolButton(self)
        self._button.setText("...")
        layout.addWidget(self._box, 1)
        layout.addWidget(self._button)
        self._box.editTextChanged.connect(self.setCurrentPath)
        self._button.clicked.connect(lambda: self.browse())

    def browse(self) -> None:
        folders_only = not self.filters & self.Files
        ask = RecordedFileDialog.getExistingDirectory if folders_only else RecordedFileDialog.getOpenFileName
        path = ask(self, self.label)
        if path:
            self.setCurrentPath(path)

    def addCurrentPathToHistory(self) -> None:
        if self.currentPath and self._box.findText(self.currentPath) < 0:
            self._box.addItem(self.currentPath)

    def _show(self) -> None:
        self._box.setEditText(self.currentPath)
        self._button.setVisible(self.showBrowseButton)


@stand_in
class ctkDirectoryButton(QWidget):
    directoryChanged, directorySelected = Signal(str), Signal(str)
    directory, setDirectory = value_property(
        "directory",
        str,
        "",
        changed="directoryChanged",
        then="_show",
        coerce=lambda self, value: os.path.abspath(value or "."),
    )
    caption, setCaption = value_property("caption", str, "")

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._button = QPushButton(self)
        layout.addWidget(self._button)
        self._button.clicked.connect(lambda: self.browse())
        self.setDirectory(".")

    def browse(self) -> None:
        folder = RecordedFileDialog.getExistingDirectory(self, self.caption)
        if folder:
            self.setDirectory(folder)
            self.directorySelected.emit(folder)

    def _show(self) -> None:
        self._button.setText(os.path.basename(self.directory) or self.directory)
        self._button.setToolTip(self.directory)
