"""ctk's ranges: two values with the lower never above the upper."""

from __future__ import annotations

from PySide6.QtCore import Property, QRect, Qt, Signal
from PySide6.QtGui import QPainter, QPalette
from PySide6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QSizePolicy, QWidget

from ..pythonqt.standin import stand_in, value_property


class RangeBar(QWidget):
    """Draws a range and lets its nearer end be dragged."""

    def __init__(self, owner: RangeBase):
        super().__init__(owner)
        self._owner = owner
        self._lower_end = True
        self.setMinimumSize(60, 16)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def paintEvent(self, event):
        span = (self._owner.maximum - self._owner.minimum) or 1.0
        width, middle = self.rect.width(), self.rect.height() // 2
        left = int(width * (self._owner.minimumValue - self._owner.minimum) / span)
        right = int(width * (self._owner.maximumValue - self._owner.minimum) / span)
        painter = QPainter(self)
        painter.fillRect(QRect(0, middle - 2, width, 4), self.palette.color(QPalette.ColorRole.Mid))
        painter.fillRect(QRect(left, middle - 3, right - left, 6), self.palette.color(QPalette.ColorRole.Highlight))
        painter.end()

    def mousePressEvent(self, event):
        value = self._value_at(event)
        self._lower_end = abs(value - self._owner.minimumValue) <= abs(value - self._owner.maximumValue)
        self.mouseMoveEvent(event)

    def mouseMoveEvent(self, event):
        if self._lower_end:
            self._owner.setMinimumValue(self._value_at(event))
        else:
            self._owner.setMaximumValue(self._value_at(event))

    def _value_at(self, event) -> float:
        share = event.position().x() / max(self.rect.width(), 1)
        return self._owner.minimum + share * (self._owner.maximum - self._owner.minimum)


class RangeBase(QWidget):
    valuesChanged = Signal(float, float)
    minimumValueChanged, maximumValueChanged = Signal(float), Signal(float)
    minimum, setMinimum = value_property("minimum", float, 0.0, then="_keep", coerce=lambda s, v: float(v))
    maximum, setMaximum = value_property("maximum", float, 99.0, then="_keep", coerce=lambda s, v: float(v))
    singleStep, setSingleStep = value_property("singleStep", float, 1.0, coerce=lambda s, v: float(v))
    decimals, setDecimals = value_property("decimals", int, 2)
    tracking, setTracking = value_property("tracking", bool, True)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._lower, self._upper = 0.0, 99.0
        self._bar = RangeBar(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._bar, 1)

    def setValues(self, lower, upper) -> None:
        upper = min(max(float(upper), self.minimum), self.maximum)
        lower = min(max(float(lower), self.minimum), upper)
        before = self._lower, self._upper
        self._lower, self._upper = lower, upper
        if before == (lower, upper):
            return
        self._refresh()
        if before[0] != lower:
            self.minimumValueChanged.emit(lower)
        if before[1] != upper:
            self.maximumValueChanged.emit(upper)
        self.valuesChanged.emit(lower, upper)

    def setMinimumValue(self, value) -> None:
        self.setValues(value, max(float(value), self._upper))

    def setMaximumValue(self, value) -> None:
        self.setValues(min(float(value), self._lower), value)

    def setRange(self, minimum, maximum) -> None:
        self.setMinimum(min(minimum, self.minimum))
        self.setMaximum(maximum)
        self.setMinimum(minimum)

    minimumValue = Property(float, lambda self: self._lower, setMinimumValue)
    maximumValue = Property(float, lambda self: self._upper, setMaximumValue)

    def _keep(self) -> None:
        self.setValues(self._lower, self._upper)
        self._refresh()

    def _refresh(self) -> None:
        self._bar.update()


@stand_in
class ctkDoubleRangeSlider(RangeBase):
    """The range alone."""

    orientation, setOrientation = value_property("orientation", int, int(Qt.Orientation.Horizontal))


@stand_in
class ctkRangeWidget(RangeBase):
    """The range between two spin boxes."""

    suffix, setSuffix = value_property("suffix", str, "", then="_refresh")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._boxes = [QDoubleSpinBox(self), QDoubleSpinBox(self)]
        self.layout().insertWidget(0, self._boxes[0])
        self.layout().addWidget(self._boxes[1])
        self._following = False
        self._boxes[0].valueChanged.connect(lambda value: None if self._following else self.setMinimumValue(value))
        self._boxes[1].valueChanged.connect(lambda value: None if self._following else self.setMaximumValue(value))
        self._refresh()

    def _refresh(self) -> None:
        super()._refresh()
        self._following = True
        for box, value in zip(self._boxes, (self._lower, self._upper)):
            box.setDecimals(self.decimals)
            box.setRange(self.minimum, self.maximum)
            box.setSingleStep(self.singleStep)
            box.setSuffix(self.suffix)
            box.setValue(value)
        self._following = False
