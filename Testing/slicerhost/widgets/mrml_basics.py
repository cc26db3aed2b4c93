"""The widgets that only know the scene: qMRMLWidget and its numbers."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from ..pythonqt.standin import stand_in, value_property
from .ctk_numbers import ctkDoubleSpinBox, ctkSliderWidget
from .ctk_ranges import ctkRangeWidget

SCENE_SIGNAL = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}


class SceneWidget:
    """Mixin: ``setMRMLScene`` and ``mrmlScene()``; the class adds the signal ``mrmlSceneChanged``."""

    _scene = None

    def setMRMLScene(self, scene) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self):
        return self._scene


@stand_in
class qMRMLWidget(SceneWidget, QWidget):
    mrmlSceneChanged = Signal(object)
    _cpp_signals = SCENE_SIGNAL


@stand_in
class qSlicerWidget(SceneWidget, QWidget):
    mrmlSceneChanged = Signal(object)
    _cpp_signals = SCENE_SIGNAL


@stand_in
class qMRMLSliderWidget(SceneWidget, ctkSliderWidget):
    mrmlSceneChanged = Signal(object)
    _cpp_signals = SCENE_SIGNAL
    quantity, setQuantity = value_property("quantity", str, "")


@stand_in
class qMRMLSpinBox(SceneWidget, ctkDoubleSpinBox):
    mrmlSceneChanged = Signal(object)
    _cpp_signals = SCENE_SIGNAL
    quantity, setQuantity = value_property("quantity", str, "")


@stand_in
class qMRMLRangeWidget(SceneWidget, ctkRangeWidget):
    mrmlSceneChanged = Signal(object)
    _cpp_signals = SCENE_SIGNAL
    quantity, setQuantity = value_property("quantity", str, "")
