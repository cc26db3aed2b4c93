"""Which widget shows which type, and how. Only the exact widget classes of Slicer's documentation are connected."""

from __future__ import annotations

import enum
import pathlib
from dataclasses import dataclass

import ctk
import qt
import slicer

from .annotations import Choice, Decimals, FloatRange, SingleStep
from .parameters import Parameter


@dataclass
class Connector:
    """One widget bound to one parameter."""

    read: object
    write: object
    signal: str | None
    disconnect: object = None


def connector(widget, parameter: Parameter) -> Connector:
    """Raises RuntimeError when Slicer connects no such widget to the parameter's type."""
    for classes, accepts, make in _TABLE:
        if type(widget) in classes and accepts(widget, parameter):
            return make(widget, parameter)
    raise RuntimeError(
        f"Slicer cannot connect a {type(widget).__name__} to parameter {parameter.name} of type {parameter.type}"
    )


def _check_box(widget, parameter):
    return Connector(lambda: bool(widget.checked), widget.setChecked, "toggled(bool)")


def _number(signal: str):
    def make(widget, parameter):
        _apply(widget.setDecimals if hasattr(widget, "setDecimals") else None, parameter.annotation(Decimals))
        _apply(widget.setSingleStep, parameter.annotation(SingleStep))
        if parameter.limit("minimum") is not None:
            widget.setMinimum(parameter.limit("minimum"))
        if parameter.limit("maximum") is not None:
            widget.setMaximum(parameter.limit("maximum"))
        return Connector(lambda: parameter.kind(widget.value), widget.setValue, signal)

    return make


def _apply(setter, annotation) -> None:
    if setter is not None and annotation is not None:
        setter(annotation.value)


def _range(widget, parameter):
    _apply(widget.setDecimals, parameter.annotation(Decimals))
    _apply(widget.setSingleStep, parameter.annotation(SingleStep))
    if parameter.limit("minimum") is not None:
        widget.setRange(parameter.limit("minimum"), parameter.limit("maximum"))
    return Connector(
        lambda: FloatRange(widget.minimumValue, widget.maximumValue),
        lambda value: widget.setValues(value.minimum, value.maximum),
        "valuesChanged(double,double)",
    )


def _combo(widget, values: list, labels: list[str]):
    widget.clear()
    widget.addItems(labels)
    return Connector(
        lambda: values[widget.currentIndex] if widget.currentIndex >= 0 else None,
        lambda value: widget.setCurrentIndex(values.index(value) if value in values else -1),
        "currentIndexChanged(int)",
    )


def _choice(widget, parameter):
    choices = parameter.annotation(Choice).choices
    return _combo(widget, choices, [str(choice) for choice in choices])


def _enum(widget, parameter):
    members: list[enum.Enum] = list(parameter.kind)
    labels = [member.label() if hasattr(member, "label") else member.name for member in members]
    return _combo(widget, members, labels)


def _line(widget, parameter):
    return Connector(
        lambda: widget.text, lambda value: _set_if_new(widget.text, value, widget.setText), "textChanged(QString)"
    )


def _text(widget, parameter):
    def write(value):
        _set_if_new(widget.toPlainText(), value, widget.setPlainText)

    return Connector(widget.toPlainText, write, "textChanged()")


def _set_if_new(shown: str, value: str, setter) -> None:
    if shown != value:  # setting the same text would move the cursor
        setter(value)


def _label(widget, parameter):
    return Connector(None, widget.setText, None)


def _path(attribute: str, setter: str, signal: str):
    def make(widget, parameter):
        def write(value):
            getattr(widget, setter)(str(value))

        return Connector(lambda: pathlib.Path(getattr(widget, attribute)), write, signal)

    return make


def _node(widget, parameter):
    for node_type in widget.nodeTypes:
        if not issubclass(getattr(slicer, node_type), parameter.node_classes):
            raise RuntimeError(f"{widget.name} offers {node_type}, which parameter {parameter.name} cannot hold")
    return Connector(widget.currentNode, widget.setCurrentNode, "currentNodeChanged(vtkMRMLNode*)")


def _of(*kinds):
    return lambda widget, parameter: parameter.kind in kinds


_TABLE = (
    ((qt.QCheckBox, ctk.ctkCheckBox), _of(bool), _check_box),
    ((qt.QPushButton,), lambda w, p: p.kind is bool and w.checkable, _check_box),
    ((qt.QSlider, qt.QSpinBox), _of(int), _number("valueChanged(int)")),
    (
        (qt.QDoubleSpinBox, ctk.ctkSliderWidget, ctk.ctkDoubleSlider, ctk.ctkDoubleSpinBox),
        _of(float),
        _number("valueChanged(double)"),
    ),
    ((ctk.ctkRangeWidget, ctk.ctkDoubleRangeSlider), _of(FloatRange), _range),
    (
        (qt.QComboBox, ctk.ctkComboBox),
        lambda w, p: p.kind in (int, float, str, bool) and p.annotation(Choice) is not None,
        _choice,
    ),
    ((qt.QComboBox, ctk.ctkComboBox), lambda w, p: p.is_enum, _enum),
    ((qt.QLineEdit,), _of(str), _line),
    ((qt.QTextEdit,), _of(str), _text),
    ((qt.QLabel,), _of(str), _label),
    ((ctk.ctkPathLineEdit,), _of(pathlib.Path), _path("currentPath", "setCurrentPath", "currentPathChanged(QString)")),
    ((ctk.ctkDirectoryButton,), _of(pathlib.Path), _path("directory", "setDirectory", "directoryChanged(QString)")),
    ((slicer.qMRMLNodeComboBox,), lambda w, p: bool(p.node_classes), _node),
)
