"""ctk's buttons, combo boxes and text widgets: Qt's own with a property or two more."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor, QIcon
from PySide6.QtWidgets import QCheckBox, QComboBox, QLineEdit, QMessageBox, QPushButton, QTextBrowser

from ..pythonqt.standin import stand_in, value_property
from ..record import RECORD


@stand_in
class ctkCheckBox(QCheckBox):
    indicatorIcon, setIndicatorIcon = value_property("indicatorIcon", QIcon, QIcon())


@stand_in
class ctkPushButton(QPushButton):
    elideMode, setElideMode = value_property("elideMode", int, int(Qt.TextElideMode.ElideNone))


@stand_in
class ctkMenuButton(QPushButton):
    """A push button with a menu at its side."""


@stand_in
class ctkCheckablePushButton(QPushButton):
    checkBoxToggled = Signal(bool)
    checkBoxControlsButton, setCheckBoxControlsButton = value_property("checkBoxControlsButton", bool, True)
    checkBoxUserCheckable, setCheckBoxUserCheckable = value_property("checkBoxUserCheckable", bool, True)
    checkState, setCheckState = value_property("checkState", int, 0, then="_follow_box")

    def _follow_box(self) -> None:
        if self.checkBoxControlsButton:
            self.setCheckable(bool(self.checkState))
        self.checkBoxToggled.emit(bool(self.checkState))


@stand_in
class ctkComboBox(QComboBox):
    """Shows ``defaultText`` while nothing is chosen."""

    defaultText, setDefaultText = value_property("defaultText", str, "", then="_show_default")

    def _show_default(self) -> None:
        self.setPlaceholderText(self.defaultText)


@stand_in
class ctkCheckableComboBox(QComboBox):
    checkedIndexesChanged = Signal()


@stand_in
class ctkSearchBox(QLineEdit):
    showSearchIcon, setShowSearchIcon = value_property("showSearchIcon", bool, False)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setClearButtonEnabled(True)


@stand_in
class ctkFittedTextBrowser(QTextBrowser):
    """A text browser as high as its text."""


@stand_in
class ctkColorPickerButton(QPushButton):
    colorChanged = Signal(QColor)
    color, setColor = value_property(
        "color", QColor, QColor("black"), changed="colorChanged", coerce=lambda self, value: QColor(value)
    )
    displayColorName, setDisplayColorName = value_property("displayColorName", bool, True)


@stand_in
class ctkMessageBox(QMessageBox):
    """A message box with "Don't show again"; recorded and answered with Ok."""

    dontShowAgainSettingsKey, setDontShowAgainSettingsKey = value_property("dontShowAgainSettingsKey", str, "")
    dontShowAgainVisible, setDontShowAgainVisible = value_property("dontShowAgainVisible", bool, False)

    def exec_(self):
        RECORD.say("dialog", self.text)
        RECORD.call("ctkMessageBox.exec", self)
        return RECORD.take_answer("ctkMessageBox.exec", QMessageBox.StandardButton.Ok)
