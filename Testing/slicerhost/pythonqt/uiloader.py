"""``qt.QUiLoader``: builds stand-ins for Slicer's widgets, makes MRML connections, and refuses what does not exist."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from PySide6.QtCore import QBuffer, QIODevice, QObject
from PySide6.QtUiTools import QUiLoader
from PySide6.QtWidgets import QWidget

from .properties import while_loading_ui
from .standin import STAND_INS


class UiLoader(QUiLoader):
    """Raises ValueError for an unknown class, property, signal or slot, which Qt's own loader passes over."""

    def createWidget(self, class_name, parent=None, name=""):
        cls = STAND_INS.get(class_name)
        if cls is None:
            widget = super().createWidget(class_name, parent, name)
        else:
            widget = cls(parent) if parent is not None else cls()
            widget.setObjectName(name)
        return widget

    def load(self, device, parent=None):
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        self._check_classes(root)
        connections = _take_mrml_connections(root)
        buffer = QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QIODevice.OpenModeFlag.ReadOnly)
        with while_loading_ui():
            widget = super().load(buffer, parent)
        if widget is None:
            raise ValueError(f"the .ui file cannot be loaded: {self.errorString()}")
        _check_properties(root, widget)
        for sender, signal, receiver, slot in connections:
            _connect_mrml(_find(widget, sender), signal, _find(widget, receiver), slot)
        _KEEP_LOADER[widget] = self
        return widget

    def _check_classes(self, root) -> None:
        known = set(STAND_INS) | set(self.availableWidgets()) | {"QWidget", "Line"}
        unknown = {node.get("class") for node in root.iter("widget")} - known
        if unknown:
            raise ValueError(f"the .ui file uses classes that the host does not have: {', '.join(sorted(unknown))}")


_KEEP_LOADER: dict[QWidget, QUiLoader] = {}
MrmlConnection = tuple[str, str, str, str]


def _take_mrml_connections(root) -> list[MrmlConnection]:
    """Connections whose signature names a VTK class, taken out: PySide signals cannot carry such objects by type."""
    section = root.find("connections")
    taken = []
    for entry in list(section) if section is not None else []:
        parts = tuple(entry.findtext(key) for key in ("sender", "signal", "receiver", "slot"))
        if "vtk" in parts[1] + parts[3]:
            taken.append(parts)
            section.remove(entry)
    return taken


def _find(widget, name: str):
    found = widget if widget.objectName == name else widget.findChild(QObject, name)
    if found is None:
        raise ValueError(f"the .ui file connects {name!r}, which it does not contain")
    return found


def _connect_mrml(sender, signal: str, receiver, slot: str) -> None:
    name = slot.split("(")[0]
    if not callable(getattr(receiver, name, None)):
        raise ValueError(f"the .ui file connects to {receiver.className()}::{slot}, which does not exist")
    sender.connect(signal, getattr(receiver, name))


def _check_properties(root, widget) -> None:
    for node in root.iter("widget"):
        if node.get("class") == "Line":
            continue
        target = _find(widget, node.get("name"))
        meta = target.metaObject()
        for entry in node.findall("property"):
            if entry.get("stdset") != "0" and meta.indexOfProperty(entry.get("name")) < 0:
                raise ValueError(f"{node.get('class')} {node.get('name')!r} has no property {entry.get('name')!r}")
