"""qMRMLNodeComboBox on the real scene: follows nodes as they come, go and change their names."""

from __future__ import annotations

import slicer
import vtk
from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QWidget

from ..pythonqt.standin import stand_in, value_property
from .mrml_basics import SCENE_SIGNAL, SceneWidget
from .observing import Observers

CREATE, RENAME, DELETE = "create", "rename", "delete"


def _is_node(node) -> bool:
    return node is not None


@stand_in
class qMRMLNodeComboBox(SceneWidget, QWidget):
    """Below the nodes stand the actions that are enabled: create, rename, delete."""

    mrmlSceneChanged = Signal(object)
    currentNodeChanged, currentNodeIDChanged = Signal(object), Signal(str)
    nodeActivated, nodeAdded, nodeAboutToBeRemoved = Signal(object), Signal(object), Signal(object)
    nodeAddedByUser, nodeAboutToBeEdited = Signal(object), Signal(object)
    _cpp_signals = SCENE_SIGNAL | {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": ("currentNodeChanged", _is_node),
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeAboutToBeRemoved",
        "nodeAboutToBeEdited(vtkMRMLNode*)": "nodeAboutToBeEdited",
    }
    nodeTypes, setNodeTypes = value_property(
        "nodeTypes", "QStringList", [], then="_refresh", coerce=lambda s, v: list(v)
    )
    noneEnabled, setNoneEnabled = value_property("noneEnabled", bool, False, then="_refresh")
    noneDisplay, setNoneDisplay = value_property("noneDisplay", str, "None", then="_refresh")
    addEnabled, setAddEnabled = value_property("addEnabled", bool, True, then="_refresh")
    removeEnabled, setRemoveEnabled = value_property("removeEnabled", bool, True, then="_refresh")
    renameEnabled, setRenameEnabled = value_property("renameEnabled", bool, False, then="_refresh")
    editEnabled, setEditEnabled = value_property("editEnabled", bool, False)
    showHidden, setShowHidden = value_property("showHidden", bool, False, then="_refresh")
    showChildNodeTypes, setShowChildNodeTypes = value_property("showChildNodeTypes", bool, True, then="_refresh")
    baseName, setBaseName = value_property("baseName", str, "")
    selectNodeUponCreation, setSelectNodeUponCreation = value_property("selectNodeUponCreation", bool, True)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._box = QComboBox(self)
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.setMinimumContentsLength(8)
        layout.addWidget(self._box)
        self._box.activated.connect(self._activated)
        self._current_id = ""
        self._attributes: dict[str, dict[str, str | None]] = {}
        self._observers, self._name_observers = Observers(self), Observers(self)

    def setMRMLScene(self, scene) -> None:
        if scene is self._scene:
            return
        self._observers.clear()
        if scene is not None:
            for event in (
                slicer.vtkMRMLScene.NodeAddedEvent,
                slicer.vtkMRMLScene.NodeRemovedEvent,
                slicer.vtkMRMLScene.EndBatchProcessEvent,
                slicer.vtkMRMLScene.EndCloseEvent,
            ):
                self._observers.add(scene, event, "_refresh")
        SceneWidget.setMRMLScene(self, scene)
        self._refresh()

    def nodes(self) -> list:
        """Nodes offered, in the scene's order."""
        if self._scene is None:
            return []
        return [node for node in slicer.util.getNodesByClass("vtkMRMLNode", self._scene) if self._offers(node)]

    def nodeCount(self) -> int:
        return len(self.nodes())

    def nodeFromIndex(self, index: int):
        nodes = self.nodes()
        return nodes[index] if 0 <= index < len(nodes) else None

    def currentNode(self):
        return self._scene.GetNodeByID(self._current_id) if self._scene is not None and self._current_id else None

    def setCurrentNode(self, node) -> None:
        """Accepts a node, its ID, or None; a node of another type counts as None."""
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node) if self._scene is not None and node else None
        if node is not None and not self._offers(node):
            node = None
        identifier = node.GetID() if node is not None else ""
        if identifier == self._current_id:
            return
        self._current_id = identifier
        self._show()
        self.currentNodeChanged.emit(node)
        self.currentNodeIDChanged.emit(identifier)

    def setCurrentNodeID(self, identifier: str) -> None:
        self.setCurrentNode(identifier or None)

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    currentNodeID = Property(str, lambda self: self._current_id, setCurrentNodeID)

    def addNode(self, node_type: str = ""):
        node_type = node_type or self.nodeTypes[0]
        name = self._scene.GenerateUniqueName(self.baseName or node_type.removeprefix("vtkMRML").removesuffix("Node"))
        node = self._scene.AddNewNodeByClass(node_type, name)
        for attribute, value in self._attributes.get(node_type, {}).items():
            node.SetAttribute(attribute, value if value is not None else "")
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        node = self.currentNode()
        if node is not None:
            self.nodeAboutToBeRemoved.emit(node)
            self._scene.RemoveNode(node)

    def addAttribute(self, node_type: str, attribute: str, value: str | None = None) -> None:
        """Offer only nodes of that type that have the attribute (with that value, if given)."""
        self._attributes.setdefault(node_type, {})[attribute] = value
        self._refresh()

    def removeAttribute(self, node_type: str, attribute: str) -> None:
        self._attributes.get(node_type, {}).pop(attribute, None)
        self._refresh()

    def _offers(self, node) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        for node_type in self.nodeTypes:
            if node.IsA(node_type) and (self.showChildNodeTypes or node.GetClassName() == node_type):
                wanted = self._attributes.get(node_type, {})
                return all(
                    node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
                    for name, value in wanted.items()
                )
        return False

    def _refresh(self) -> None:
        if self._scene is None or self._scene.IsBatchProcessing():
            return
        nodes = self.nodes()
        self._name_observers.clear()
        for node in nodes:
            self._name_observers.add(node, vtk.vtkCommand.ModifiedEvent, "_show")
        if self._current_id not in [node.GetID() for node in nodes]:
            first = nodes[0] if nodes and not self.noneEnabled else None
            if first is not None or self._current_id:
                self._current_id = self._current_id or "-"  # gone: a change to None must be told as well
                self.setCurrentNode(first)
        self._show()

    def _show(self) -> None:
        """Fill the list: nodes, then the actions."""
        self._box.clear()
        if self.noneEnabled or not self.nodes() or not self._current_id:
            self._box.addItem(self.noneDisplay, "")
        for node in self.nodes():
            self._box.addItem(node.GetName(), node.GetID())
        self._box.setCurrentIndex(max(self._box.findData(self._current_id), 0))
        kind = self.nodeTypes[0].removeprefix("vtkMRML").removesuffix("Node") if self.nodeTypes else "node"
        for enabled, action, text in (
            (self.addEnabled and self.nodeTypes, CREATE, f"Create new {kind}"),
            (self.renameEnabled and self._current_id, RENAME, f"Rename current {kind}"),
            (self.removeEnabled and self._current_id, DELETE, f"Delete current {kind}"),
        ):
            if enabled:
                self._box.addItem(text, f"action:{action}")

    def _activated(self, index: int) -> None:
        data = self._box.itemData(index)
        if data == f"action:{CREATE}":
            self.addNode()
        elif data == f"action:{DELETE}":
            self.removeCurrentNode()
        elif data == f"action:{RENAME}":
            self._show()
        else:
            self.setCurrentNode(data or None)
            self.nodeActivated.emit(self.currentNode())
