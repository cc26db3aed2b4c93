"""The qMRML widgets follow the real scene."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def selector(host):
    import slicer

    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.setMRMLScene(slicer.mrmlScene)
    return box


def add(name, node_type="vtkMRMLScalarVolumeNode"):
    import slicer

    return slicer.mrmlScene.AddNewNodeByClass(node_type, name)


def entries(box):
    import qt

    inner = box.findChild(qt.QComboBox)
    return [inner.itemText(i) for i in range(inner.count)]


def test_the_selector_takes_the_first_node_when_it_must_have_one(selector):
    seen = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    first, second = add("first"), add("second")
    assert selector.currentNode() is first
    assert selector.nodeCount() == 2
    selector.setCurrentNode(second)
    assert selector.currentNodeID == second.GetID()
    assert seen == [first, second]


def test_the_selector_stays_at_none_when_it_may(selector):
    selector.noneEnabled = True
    node = add("node")
    assert selector.currentNode() is None
    selector.setCurrentNodeID(node.GetID())
    assert selector.currentNode() is node


def test_the_selector_follows_names_and_removal(selector):
    import slicer

    chosen = []
    selector.connect("currentNodeChanged(bool)", chosen.append)
    node = add("before")
    node.SetName("after")
    assert "after" in entries(selector)
    slicer.mrmlScene.RemoveNode(node)
    assert selector.currentNode() is None
    assert "after" not in entries(selector)
    assert chosen == [True, False]


def test_the_selector_empties_when_the_scene_is_closed(selector):
    from Testing.slicerhost import reset_scene

    add("node")
    reset_scene()
    assert selector.currentNode() is None
    assert selector.nodeCount() == 0


def test_only_nodes_of_the_types_are_offered(selector):
    add("labels", "vtkMRMLLabelMapVolumeNode")
    add("model", "vtkMRMLModelNode")
    hidden = add("hidden")
    hidden.SetHideFromEditors(1)
    tagged = add("tagged")
    assert selector.nodeCount() == 2  # a label map is a scalar volume too
    selector.showChildNodeTypes = False
    assert selector.nodeCount() == 1
    selector.setCurrentNode(add("another model", "vtkMRMLModelNode"))
    assert selector.currentNode() is None
    selector.addAttribute("vtkMRMLScalarVolumeNode", "kind", "CT")
    assert selector.nodeCount() == 0
    tagged.SetAttribute("kind", "CT")
    assert selector.nodeFromIndex(0) is tagged


def test_nodes_are_created_and_deleted_from_the_list(selector):
    import qt

    selector.baseName = "Lesion"
    box = selector.findChild(qt.QComboBox)
    made = []
    selector.connect("nodeAddedByUser(vtkMRMLNode*)", made.append)
    box.activated.emit(box.findText("Create new ScalarVolume"))
    assert selector.currentNode() is made[0]
    assert made[0].GetName() == "Lesion"
    box.activated.emit(box.findText("Delete current ScalarVolume"))
    assert selector.nodeCount() == 0
    selector.addEnabled = False
    assert "Create new ScalarVolume" not in entries(selector)


def test_a_deleted_selector_no_longer_listens(selector):
    import shiboken6

    shiboken6.delete(selector)
    add("node")


@pytest.fixture
def segmentation(host):
    node = add("Lesions", "vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.GetSegmentation().AddEmptySegment("a", "first")
    return node


def test_the_segment_table_follows_the_segmentation(segmentation):
    import slicer

    table, seen = slicer.qMRMLSegmentsTableView(), []
    table.setSegmentationNode(segmentation)
    table.connect("selectionChanged(QItemSelection,QItemSelection)", lambda: seen.append(table.selectedSegmentIDs()))
    segmentation.GetSegmentation().AddEmptySegment("b", "second")
    assert table.segmentCount() == 2
    table.setSelectedSegmentIDs(["b"])
    assert table.selectedSegmentIDs() == ["b"]
    segmentation.GetSegmentation().RemoveSegment("a")
    assert table.rowForSegmentID("b") == 0
    assert table.selectedSegmentIDs() == ["b"]
    assert seen[0] == ["b"]


def test_the_segment_selector_names_one_segment(segmentation):
    import slicer

    widget, seen = slicer.qMRMLSegmentSelectorWidget(), []
    widget.connect("currentSegmentChanged(QString)", seen.append)
    widget.setMRMLScene(slicer.mrmlScene)
    assert widget.currentNode() is segmentation
    segmentation.GetSegmentation().AddEmptySegment("b", "second")
    widget.setCurrentSegmentID("b")
    assert widget.currentSegmentID() == "b"
    assert seen == ["a", "b"]


def test_the_place_button_starts_and_ends_placing(layout):
    import slicer

    volume = slicer.util.addVolumeFromArray(np.zeros((9, 60, 60), np.int16), name="CT")
    layout.show(volume)
    widget, modes = slicer.qSlicerMarkupsPlaceWidget(), []
    widget.connect("activeMarkupsPlaceModeChanged(bool)", modes.append)
    widget.setMRMLScene(slicer.mrmlScene)
    node = add("Seed", "vtkMRMLMarkupsFiducialNode")
    node.CreateDefaultDisplayNodes()
    widget.setCurrentNode(node)
    widget.placeButton().click()
    assert widget.placeModeEnabled is True
    layout["Red"].jump_to((20, 20, 4))
    layout["Red"].click_ras((20, 20, 4))
    assert node.GetNumberOfDefinedControlPoints() == 1
    assert widget.placeModeEnabled is False
    assert modes == [True, False]
