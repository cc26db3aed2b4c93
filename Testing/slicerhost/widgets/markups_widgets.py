"""The widgets that put the mouse into place mode for a markups node."""

from __future__ import annotations

import slicer
import vtk
from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QHBoxLayout, QTableWidget, QTableWidgetItem, QToolButton, QVBoxLayout, QWidget

from ..pythonqt.standin import stand_in, value_property
from .mrml_basics import SCENE_SIGNAL, SceneWidget
from .observing import Observers


@stand_in
class qSlicerMarkupsPlaceWidget(SceneWidget, QWidget):
    """A button that starts and ends placing control points of the current node."""

    ShowPlaceMultipleMarkupsOption, HidePlaceMultipleMarkupsOption = 0, 1
    ForcePlaceSingleMarkup, ForcePlaceMultipleMarkups = 2, 3
    mrmlSceneChanged = Signal(object)
    activeMarkupsFiducialNodeChanged, activeMarkupsPlaceModeChanged = Signal(object), Signal(bool)
    _cpp_signals = SCENE_SIGNAL | {
        "activeMarkupsFiducialNodeChanged(vtkMRMLMarkupsNode*)": "activeMarkupsFiducialNodeChanged",
    }
    buttonsVisible, setButtonsVisible = value_property("buttonsVisible", bool, True, then="_show")
    deleteAllControlPointsOptionVisible, setDeleteAllControlPointsOptionVisible = value_property(
        "deleteAllControlPointsOptionVisible", bool, True
    )
    placeMultipleMarkups, setPlaceMultipleMarkups = value_property("placeMultipleMarkups", int, 0)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._button = QToolButton(self)
        self._button.setCheckable(True)
        self._button.setText("Place")
        layout.addWidget(self._button)
        self._node = None
        self._told = False
        self._observers = Observers(self)
        self._button.clicked.connect(self.setPlaceModeEnabled)

    def setMRMLScene(self, scene) -> None:
        self._observers.clear()
        if scene is not None:
            for node in (slicer.app.applicationLogic().GetInteractionNode(), self._selection()):
                self._observers.add(node, vtk.vtkCommand.ModifiedEvent, "_show")
            interaction = slicer.app.applicationLogic().GetInteractionNode()
            self._observers.add(interaction, interaction.InteractionModeChangedEvent, "_show")
        SceneWidget.setMRMLScene(self, scene)

    def currentNode(self):
        return self._node

    def setCurrentNode(self, node) -> None:
        if node is self._node:
            return
        if self.placeModeEnabled:
            self.setPlaceModeEnabled(False)
        self._node = node
        self._button.setEnabled(node is not None)
        self.activeMarkupsFiducialNodeChanged.emit(node)

    def placeButton(self):
        return self._button

    def setPlaceModeEnabled(self, enabled: bool) -> None:
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        if enabled and self._node is not None:
            slicer.modules.markups.logic().SetActiveList(self._node)
            interaction.SetPlaceModePersistence(int(self.placeMultipleMarkups == self.ForcePlaceMultipleMarkups))
            interaction.SetCurrentInteractionMode(interaction.Place)
        elif self.placeModeEnabled:
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        self._show()

    def _placing(self) -> bool:
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        active = self._selection().GetActivePlaceNodeID()
        return (
            self._node is not None
            and interaction.GetCurrentInteractionMode() == interaction.Place
            and active == self._node.GetID()
        )

    placeModeEnabled = Property(bool, _placing, setPlaceModeEnabled)

    def _selection(self):
        return slicer.app.applicationLogic().GetSelectionNode()

    def _show(self) -> None:
        placing = self._placing()
        self._button.setVisible(self.buttonsVisible)
        self._button.setChecked(placing)
        if placing != self._told:
            self._told = placing
            self.activeMarkupsPlaceModeChanged.emit(placing)


@stand_in
class qSlicerSimpleMarkupsWidget(SceneWidget, QWidget):
    """A place button above the list of control points."""

    mrmlSceneChanged = Signal(object)
    markupsNodeChanged = Signal()
    _cpp_signals = SCENE_SIGNAL

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._place = qSlicerMarkupsPlaceWidget(self)
        self._table = QTableWidget(0, 4, self)
        self._table.setHorizontalHeaderLabels(["Name", "R", "A", "S"])
        layout.addWidget(self._place)
        layout.addWidget(self._table)
        self._observers = Observers(self)

    def setMRMLScene(self, scene) -> None:
        self._place.setMRMLScene(scene)
        SceneWidget.setMRMLScene(self, scene)

    def markupsPlaceWidget(self):
        return self._place

    def tableWidget(self):
        return self._table

    def currentNode(self):
        return self._place.currentNode()

    def setCurrentNode(self, node) -> None:
        self._observers.clear()
        self._place.setCurrentNode(node)
        if node is not None:
            for event in (node.PointModifiedEvent, node.PointAddedEvent, node.PointRemovedEvent):
                self._observers.add(node, event, "_show")
        self._show()
        self.markupsNodeChanged.emit()

    def _show(self) -> None:
        node = self.currentNode()
        count = node.GetNumberOfControlPoints() if node is not None else 0
        self._table.setRowCount(count)
        for row in range(count):
            texts = [node.GetNthControlPointLabel(row)]
            texts += [f"{value:.3f}" for value in node.GetNthControlPointPositionWorld(row)]
            for column, text in enumerate(texts):
                self._table.setItem(row, column, QTableWidgetItem(text))
