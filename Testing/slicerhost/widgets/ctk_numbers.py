"""ctk's numbers: slider with spin box, bare slider, spin box, and coordinates."""

from __future__ import annotations

from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QSlider, QWidget

from ..pythonqt.standin import stand_in, value_property

MOST_STEPS = 10_000


def clamp(widget, value) -> float:
    """Into the widget's range, rounded to the decimals it shows."""
    return round(min(max(float(value), widget.minimum), widget.maximum), widget.decimals)


class NumberWidget(QWidget):
    """Range, step and value of a number; subclasses show it in ``_refresh``."""

    valueChanged = Signal(float)
    decimals, setDecimals = value_property("decimals", int, 2, then="_refresh")
    singleStep, setSingleStep = value_property("singleStep", float, 1.0, then="_refresh", coerce=lambda s, v: float(v))
    minimum, _set_minimum = value_property("minimum", float, 0.0, then="_keep_in_range", coerce=lambda s, v: float(v))
    maximum, _set_maximum = value_property("maximum", float, 99.0, then="_keep_in_range", coerce=lambda s, v: float(v))
    value, setValue = value_property("value", float, 0.0, changed="valueChanged", then="_refresh", coerce=clamp)

    def setMinimum(self, value) -> None:
        self._set_minimum(value)
        if self.maximum < self.minimum:
            self._set_maximum(value)

    def setMaximum(self, value) -> None:
        self._set_maximum(value)
        if self.minimum > self.maximum:
            self._set_minimum(value)

    def setRange(self, minimum, maximum) -> None:
        self._set_minimum(min(minimum, self.minimum))  # never an empty range on the way
        self._set_maximum(maximum)
        self._set_minimum(minimum)

    def _keep_in_range(self) -> None:
        self.setValue(self.value)
        self._refresh()

    def _refresh(self) -> None:
        raise NotImplementedError


class StepSlider(QSlider):
    """A slider over the steps of a number widget."""

    def __init__(self, owner: NumberWidget):
        super().__init__(Qt.Orientation.Horizontal, owner)
        self._owner = owner
        self._following = False
        self.valueChanged.connect(self._moved)

    def follow(self) -> None:
        """Show the owner's value without sending it back."""
        self._following = True
        span = self._owner.maximum - self._owner.minimum
        steps = int(min(max(round(span / (self._owner.singleStep or 1.0)), 1), MOST_STEPS))
        self.setRange(0, steps)
        self.setValue(round(steps * (self._owner.value - self._owner.minimum) / span) if span else 0)
        self._following = False

    def _moved(self, step: int) -> None:
        if not self._following:
            span = self._owner.maximum - self._owner.minimum
            self._owner.setValue(self._owner.minimum + span * step / max(self.maximum, 1))


@stand_in
class ctkDoubleSlider(NumberWidget):
    sliderPressed, sliderReleased, sliderMoved = Signal(), Signal(), Signal(float)
    tracking, setTracking = value_property("tracking", bool, True)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider = StepSlider(self)
        layout.addWidget(self._slider)
        self._slider.sliderPressed.connect(self.sliderPressed.emit)
        self._slider.sliderReleased.connect(self.sliderReleased.emit)
        self._refresh()

    def _refresh(self) -> None:
        self._slider.follow()


@stand_in
class ctkDoubleSpinBox(NumberWidget):
    editingFinished = Signal()
    prefix, setPrefix = value_property("prefix", str, "", then="_refresh")
    suffix, setSuffix = value_property("suffix", str, "", then="_refresh")

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._box = QDoubleSpinBox(self)
        layout.addWidget(self._box)
        self._following = False
        self._box.valueChanged.connect(self._typed)
        self._box.editingFinished.connect(self.editingFinished.emit)
        self._refresh()

    def _typed(self, value: float) -> None:
        if not self._following:
            self.setValue(value)

    def _refresh(self) -> None:
        self._following = True
        self._box.setDecimals(self.decimals)
        self._box.setRange(self.minimum, self.maximum)
        self._box.setSingleStep(self.singleStep)
        self._box.setPrefix(self.prefix)
        self._box.setSuffix(self.suffix)
        self._box.setValue(self.value)
        self._following = False


@stand_in
class ctkSliderWidget(NumberWidget):
    """Slider and spin box of one value."""

    valueIsChanging, editingFinished = Signal(float), Signal()
    pageStep, setPageStep = value_property("pageStep", float, 5.0)
    tracking, setTracking = value_property("tracking", bool, True)
    prefix, setPrefix = value_property("prefix", str, "", then="_refresh")
    suffix, setSuffix = value_property("suffix", str, "", then="_refresh")
    spinBoxVisible, setSpinBoxVisible = value_property("spinBoxVisible", bool, True, then="_refresh")
    popupSlider, setPopupSlider = value_property("popupSlider", bool, False)
    tickInterval, setTickInterval = value_property("tickInterval", float, 0.0)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider = StepSlider(self)
        self._box = QDoubleSpinBox(self)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._following = False
        self._box.valueChanged.connect(self._typed)
        self._box.editingFinished.connect(self.editingFinished.emit)
        self._slider.sliderReleased.connect(self.editingFinished.emit)
        self._refresh()

    _typed = ctkDoubleSpinBox._typed

    def _refresh(self) -> None:
        ctkDoubleSpinBox._refresh(self)
        self._box.setVisible(self.spinBoxVisible)
        self._slider.follow()


@stand_in
class ctkCoordinatesWidget(QWidget):
    """Spin boxes for a point; ``coordinates`` is the text "x,y,z"."""

    coordinatesChanged = Signal(object)
    _cpp_signals = {"coordinatesChanged(double*)": "coordinatesChanged"}

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._boxes = []
        for _ in range(3):
            box = QDoubleSpinBox(self)
            box.setRange(-100.0, 100.0)
            box.valueChanged.connect(lambda _: self.coordinatesChanged.emit(self._point()))
            layout.addWidget(box)
            self._boxes.append(box)

    def _point(self) -> tuple[float, ...]:
        return tuple(box.value for box in self._boxes)

    def setCoordinates(self, *point) -> None:
        """``setCoordinates(x, y, z)`` or ``setCoordinates("x,y,z")``."""
        values = point[0].split(",") if len(point) == 1 and isinstance(point[0], str) else point
        for box, value in zip(self._boxes, values, strict=True):
            box.setValue(float(value))

    def _apply(self, method: str, value) -> None:
        for box in self._boxes:
            getattr(box, method)(value)

    def setMinimum(self, value) -> None:
        self._apply("setMinimum", value)

    def setMaximum(self, value) -> None:
        self._apply("setMaximum", value)

    def setDecimals(self, value) -> None:
        self._apply("setDecimals", value)

    def setSingleStep(self, value) -> None:
        self._apply("setSingleStep", value)

    coordinates = Property(str, lambda self: ",".join(f"{value:g}" for value in self._point()), setCoordinates)
    minimum = Property(float, lambda self: self._boxes[0].minimum, setMinimum)
    maximum = Property(float, lambda self: self._boxes[0].maximum, setMaximum)
    decimals = Property(int, lambda self: self._boxes[0].decimals, setDecimals)
    singleStep = Property(float, lambda self: self._boxes[0].singleStep, setSingleStep)
