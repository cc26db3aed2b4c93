"""The widget that Slicer gives to a scripted module as its parent."""

from __future__ import annotations

from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from ..pythonqt.standin import stand_in
from .mrml_basics import SCENE_SIGNAL, SceneWidget


@stand_in
class qSlicerScriptedLoadableModuleWidget(SceneWidget, QWidget):
    """``isEntered`` tells whether the module is the one shown; ``self()`` is the Python widget."""

    mrmlSceneChanged = Signal(object)
    _cpp_signals = SCENE_SIGNAL
    isEntered = Property(bool, lambda self: self._entered)

    def __init__(self, parent=None):
        super().__init__(parent)
        QVBoxLayout(self)
        self._entered = False
        self._python_widget = None

    def self(self):
        return self._python_widget


@stand_in
class qSlicerScriptedLoadableModule(QWidget):
    """Only for isinstance checks in slicer.util: modules of the host are ``panel.ScriptedModule``."""
