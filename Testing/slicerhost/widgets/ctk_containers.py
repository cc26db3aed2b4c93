"""ctk's containers: the collapsible sections that module panels are built of."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QRect, Qt, Signal
from PySide6.QtGui import QPainter, QPalette
from PySide6.QtWidgets import QAbstractButton, QFrame, QGroupBox, QStyle, QStyleOption, QWidget

from ..pythonqt.standin import stand_in, value_property

MAXIMUM_SIZE = 16777215  # Qt's own limit: no limit


@stand_in
class ctkCollapsibleButton(QAbstractButton):
    """A header with an arrow above contents that it hides; ``checked`` is the opposite of ``collapsed``."""

    contentsCollapsed = Signal(bool)
    flat, setFlat = value_property("flat", bool, False)
    collapsed, setCollapsed = value_property("collapsed", bool, False, changed="contentsCollapsed", then="_fold")
    collapsedHeight, setCollapsedHeight = value_property("collapsedHeight", int, 10)
    contentsLineWidth, setContentsLineWidth = value_property("contentsLineWidth", int, 1)

    def __init__(self, *arguments):
        super().__init__(*[a for a in arguments if isinstance(a, QWidget)])
        for text in arguments:
            if isinstance(text, str):
                self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(lambda checked: self.setCollapsed(not checked))
        self._reserve_header()

    def event(self, event):
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._reserve_header()
        if event.type() == QEvent.Type.ChildPolished:
            self._fold()
        return super().event(event)

    def hitButton(self, position):
        return position.y() < self._header_height()

    def paintEvent(self, event):
        painter = QPainter(self)
        height = self._header_height()
        header = QRect(0, 0, self.rect.width(), height)
        painter.fillRect(header, self.palette.color(QPalette.ColorRole.Midlight))
        arrow = QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QRect(4, height // 4, height // 2, height // 2)
        kind = QStyle.PrimitiveElement.PE_IndicatorArrowDown
        if self.collapsed:
            kind = QStyle.PrimitiveElement.PE_IndicatorArrowRight
        self.style().drawPrimitive(kind, arrow, painter, self)
        painter.drawText(header.adjusted(height, 0, 0, 0), int(Qt.AlignmentFlag.AlignVCenter), self.text)
        painter.end()

    def _header_height(self) -> int:
        return self.fontMetrics().height() + 8

    def _reserve_header(self) -> None:
        self.setContentsMargins(0, self._header_height(), 0, 0)
        self._fold()

    def _fold(self) -> None:
        if self.checked == self.collapsed:
            self.setChecked(not self.collapsed)
        for child in self.children():
            if isinstance(child, QWidget) and not child.isWindow():
                if self.collapsed and not child.isHidden():
                    child.setProperty("hiddenByCollapse", True)
                    child.hide()
                elif not self.collapsed and child.property("hiddenByCollapse"):
                    child.setProperty("hiddenByCollapse", False)
                    child.show()
        self.setMaximumHeight(self._header_height() if self.collapsed else MAXIMUM_SIZE)


@stand_in
class ctkCollapsibleGroupBox(QGroupBox):
    """A group box whose contents hide; ``checked`` is the opposite of ``collapsed``."""

    collapsed, setCollapsed = value_property("collapsed", bool, False, then="_fold")
    collapsedHeight, setCollapsedHeight = value_property("collapsedHeight", int, 14)

    def _fold(self) -> None:
        self.setMaximumHeight(self.fontMetrics().height() + 8 if self.collapsed else MAXIMUM_SIZE)


@stand_in
class ctkExpandableWidget(QFrame):
    """A frame that the user may resize."""
