"""The widgets that list and choose segments of a segmentation."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QAbstractItemView, QComboBox, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from ..pythonqt.standin import stand_in, value_property
from .mrml_basics import SCENE_SIGNAL, SceneWidget
from .node_combo_box import qMRMLNodeComboBox
from .observing import Observers


def segment_ids(node) -> list[str]:
    return list(node.GetSegmentation().GetSegmentIDs()) if node is not None else []


def observe_segments(observers: Observers, node, method: str) -> None:
    """Call the widget's method when segments come, go or change."""
    observers.clear()
    if node is None:
        return
    segmentation = node.GetSegmentation()
    for event in (segmentation.SegmentAdded, segmentation.SegmentRemoved, segmentation.SegmentModified):
        observers.add(segmentation, event, method)


@stand_in
class qMRMLSegmentsTableView(SceneWidget, QWidget):
    """Visibility, colour and name of each segment."""

    mrmlSceneChanged = Signal(object)
    selectionChanged = Signal(object, object)
    segmentsAboutToBeModified = Signal(object)
    _cpp_signals = SCENE_SIGNAL | {"selectionChanged(QItemSelection,QItemSelection)": "selectionChanged"}
    headerVisible, setHeaderVisible = value_property("headerVisible", bool, True, then="_show")
    visibilityColumnVisible, setVisibilityColumnVisible = value_property(
        "visibilityColumnVisible", bool, True, then="_show"
    )
    colorColumnVisible, setColorColumnVisible = value_property("colorColumnVisible", bool, True, then="_show")
    opacityColumnVisible, setOpacityColumnVisible = value_property("opacityColumnVisible", bool, True)
    statusColumnVisible, setStatusColumnVisible = value_property("statusColumnVisible", bool, False)
    layerColumnVisible, setLayerColumnVisible = value_property("layerColumnVisible", bool, False)
    filterBarVisible, setFilterBarVisible = value_property("filterBarVisible", bool, False)
    readOnly, setReadOnly = value_property("readOnly", bool, False)
    selectionMode, setSelectionMode = value_property("selectionMode", int, 3, then="_show")

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._table = QTableWidget(0, 3, self)
        self._table.setHorizontalHeaderLabels(["Visible", "Colour", "Name"])
        self._table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self._table.horizontalHeader().setStretchLastSection(True)
        self._table.verticalHeader().hide()
        self._table.itemSelectionChanged.connect(lambda: self.selectionChanged.emit(None, None))
        layout.addWidget(self._table)
        self._node = None
        self._observers = Observers(self)

    def setSegmentationNode(self, node) -> None:
        self._node = node
        observe_segments(self._observers, node, "_show")
        self._show()

    def segmentationNode(self):
        return self._node

    def tableWidget(self):
        return self._table

    def segmentCount(self) -> int:
        return self._table.rowCount

    def segmentIDForRow(self, row: int) -> str:
        return self._table.item(row, 2).data(int(Qt.ItemDataRole.UserRole))

    def rowForSegmentID(self, segment_id: str) -> int:
        rows = [row for row in range(self._table.rowCount) if self.segmentIDForRow(row) == segment_id]
        return rows[0] if rows else -1

    def selectedSegmentIDs(self) -> list[str]:
        return [self.segmentIDForRow(index.row()) for index in self._table.selectionModel().selectedRows()]

    def setSelectedSegmentIDs(self, wanted) -> None:
        self._table.clearSelection()
        for segment_id in wanted:
            row = self.rowForSegmentID(segment_id)
            if row >= 0:
                self._table.selectRow(row)

    def clearSelection(self) -> None:
        self._table.clearSelection()

    def _show(self) -> None:
        table = self._table
        table.setSelectionMode(QAbstractItemView.SelectionMode(self.selectionMode))
        table.horizontalHeader().setVisible(self.headerVisible)
        table.setColumnHidden(0, not self.visibilityColumnVisible)
        table.setColumnHidden(1, not self.colorColumnVisible)
        chosen = self.selectedSegmentIDs()
        blocked = table.blockSignals(True)
        identifiers = segment_ids(self._node)
        table.setRowCount(len(identifiers))
        for row, identifier in enumerate(identifiers):
            segment = self._node.GetSegmentation().GetSegment(identifier)
            display = self._node.GetDisplayNode()
            shown = display is None or display.GetSegmentVisibility(identifier)
            colour = QTableWidgetItem()
            colour.setBackground(QColor.fromRgbF(*segment.GetColor()))
            name = QTableWidgetItem(segment.GetName())
            name.setData(int(Qt.ItemDataRole.UserRole), identifier)
            for column, item in enumerate((QTableWidgetItem("yes" if shown else "no"), colour, name)):
                table.setItem(row, column, item)
        self.setSelectedSegmentIDs(chosen)
        table.blockSignals(blocked)


@stand_in
class qMRMLSegmentSelectorWidget(SceneWidget, QWidget):
    """A segmentation and one of its segments."""

    mrmlSceneChanged = Signal(object)
    currentNodeChanged, currentSegmentChanged = Signal(object), Signal(str)
    _cpp_signals = SCENE_SIGNAL | {"currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged"}
    noneEnabled, setNoneEnabled = value_property("noneEnabled", bool, False, then="_configure")
    segmentationNodeSelectorVisible, setSegmentationNodeSelectorVisible = value_property(
        "segmentationNodeSelectorVisible", bool, True, then="_configure"
    )

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._nodes = qMRMLNodeComboBox(self)
        self._nodes.setNodeTypes(["vtkMRMLSegmentationNode"])
        self._nodes.setAddEnabled(False)
        self._segments = QComboBox(self)
        layout.addWidget(self._nodes)
        layout.addWidget(self._segments)
        self._observers = Observers(self)
        self._nodes.currentNodeChanged.connect(self._node_changed)
        self._segments.currentIndexChanged.connect(lambda _: self.currentSegmentChanged.emit(self.currentSegmentID()))

    def setMRMLScene(self, scene) -> None:
        self._nodes.setMRMLScene(scene)
        SceneWidget.setMRMLScene(self, scene)

    def currentNode(self):
        return self._nodes.currentNode()

    def currentNodeID(self) -> str:
        return self._nodes.currentNodeID

    def setCurrentNode(self, node) -> None:
        self._nodes.setCurrentNode(node)

    def currentSegmentID(self) -> str:
        return self._segments.currentData or ""

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._segments.setCurrentIndex(self._segments.findData(segment_id))

    def _configure(self) -> None:
        self._nodes.setNoneEnabled(self.noneEnabled)
        self._nodes.setVisible(self.segmentationNodeSelectorVisible)

    def _node_changed(self, node) -> None:
        observe_segments(self._observers, node, "_show")
        self._show()
        self.currentNodeChanged.emit(node)

    def _show(self) -> None:
        before = self.currentSegmentID()
        node = self.currentNode()
        blocked = self._segments.blockSignals(True)
        self._segments.clear()
        if self.noneEnabled:
            self._segments.addItem("None", "")
        for identifier in segment_ids(node):
            self._segments.addItem(node.GetSegmentation().GetSegment(identifier).GetName(), identifier)
        self._segments.setCurrentIndex(max(self._segments.findData(before), 0) if self._segments.count else -1)
        self._segments.blockSignals(blocked)
        if self.currentSegmentID() != before:
            self.currentSegmentChanged.emit(self.currentSegmentID())
