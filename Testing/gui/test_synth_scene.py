"""The panel and the scene: starting, going on after a reload, closing, deleted nodes, leaving the module, saving."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from PASTALib.cases import read_case
from Testing.gui.synth_support import ROOT, Hand, add_nodes, hand, started, voxels  # noqa: F401  fixtures


def nodes_of(class_name: str) -> list:
    import slicer

    return slicer.util.getNodesByClass(class_name)


def test_the_next_step_is_said(hand, phantom_enhanced):  # noqa: F811
    opened = hand()
    hint = opened.ui.hintLabel
    assert hint.text.startswith("Load a CT") and not opened.ui.startButton.enabled
    assert not opened.ui.lesionSection.enabled
    ct, organs = add_nodes(phantom_enhanced.ct, phantom_enhanced.organs)
    opened.module.choose(opened.ui.ctSelector, "CT")
    assert hint.text.startswith("Choose a segmentation")
    opened.module.choose(opened.ui.organsSelector, organs.GetName())
    assert hint.text.startswith("Press Start")
    opened.module.press(opened.ui.startButton)
    opened.wait(lambda: opened.session is not None)
    assert hint.text.startswith("Choose a type, press Place")
    assert opened.ui.scanSection.collapsed and opened.ui.lesionSection.enabled
    for view in opened.layout.slices.values():
        assert view.logic.GetSliceCompositeNode().GetBackgroundVolumeID() == opened.session.nodes.output.GetID()


def test_what_lies_in_the_scene_is_chosen(hand, phantom_enhanced):  # noqa: F811
    add_nodes(phantom_enhanced.ct, phantom_enhanced.organs)
    opened = hand()
    assert opened.ui.ctSelector.currentNode().GetName() == "CT"
    assert opened.ui.organsSelector.currentNode().GetName() == "CT organs"


def test_an_organ_map_that_does_not_fit(hand, host, phantom_enhanced):  # noqa: F811
    import slicer

    ct, organs = add_nodes(phantom_enhanced.ct, phantom_enhanced.organs)
    voxels(organs)[:] = 0
    slicer.util.arrayFromVolumeModified(organs)
    opened = hand()
    opened.module.press(opened.ui.startButton)
    opened.wait(lambda: host.texts("error"))
    assert "no voxel belongs to any of the ten organs" in opened.ui.statusLabel.text
    assert opened.session is None and opened.ui.startButton.enabled and opened.ui.startButton.text == "Start"


def test_starting_is_cancelled(hand, host, phantom_enhanced):  # noqa: F811
    import slicer

    add_nodes(phantom_enhanced.ct, phantom_enhanced.organs)
    opened = hand()
    before = slicer.mrmlScene.GetNumberOfNodes()
    opened.module.press(opened.ui.startButton)
    assert opened.ui.startButton.text == "Cancel"
    opened.module.press_keys("Esc")
    opened.wait(lambda: not opened.module.widget.scan.bar.running, 1.0)
    assert opened.session is None and slicer.mrmlScene.GetNumberOfNodes() == before
    assert "Cancelled" in opened.ui.statusLabel.text


def test_saved_reopened_and_continued(started, hand, open_module, layout, tmp_path):  # noqa: F811
    import slicer

    from Testing.slicerhost import reset_scene

    organs = started.session.scan.organs
    started.give_size(16.0)
    started.place("liver", organs, number=0)
    started.module.press_keys("Ctrl+Return")
    started.module.choose(started.ui.shapeBox, "Irregular")
    started.place("liver", organs, number=4)
    shown = voxels(started.session.nodes.output).copy()
    wanted = started.editor.current.result.request
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    started.module.close()
    reset_scene()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert not nodes_of("vtkMRMLMarkupsFiducialNode"), "the panel's own point is not saved"
    opened = Hand(open_module("PASTASynth", ROOT / "PASTASynth"), layout)
    assert opened.ui.continueButton.visible and "press Continue" in opened.ui.hintLabel.text
    opened.module.press(opened.ui.continueButton)
    opened.wait(lambda: opened.session is not None)
    assert np.array_equal(voxels(opened.session.nodes.output), shown)
    assert opened.editor.current.result.request == wanted
    assert opened.ui.shapeBox.currentText == "Irregular" and opened.ui.sizeZBox.value == 16.0
    assert opened.ui.lesionList.count == 2
    opened.ui.sizeXBox.value = 20.0  # and it can be edited further
    opened.settle()
    assert opened.editor.current.result.request.size_mm == (16.0, 20.0, 16.0)
    opened.module.press_keys("Ctrl+Return")
    for _undo in range(2):
        opened.module.press_keys("Ctrl+Z")
    assert np.array_equal(voxels(opened.session.nodes.output), voxels(opened.session.nodes.ct))


def test_the_scene_is_closed_in_the_middle_of_work(started):  # noqa: F811
    import slicer

    started.place("liver", started.session.scan.organs)
    started.module.press(started.ui.handlesBox) if started.ui.handlesBox.enabled else None
    started.ui.massEffectSlider.value = 3.0
    assert started.editor.busy
    slicer.mrmlScene.Clear(0)
    assert started.session is None and not started.editor.busy
    assert started.ui.hintLabel.text.startswith("Load a CT") and started.ui.lesionList.count == 0
    slicer.app.processEvents()
    assert not nodes_of("vtkMRMLScalarVolumeNode")


def test_nodes_are_deleted_by_hand(started):  # noqa: F811
    import slicer

    started.place("liver", started.session.scan.organs)
    slicer.mrmlScene.RemoveNode(started.session.nodes.output)
    assert started.session is None and "no longer in the scene" in started.ui.lesionLabel.text
    started.module.press(started.ui.scanSection) if started.ui.scanSection.collapsed else None
    started.module.press(started.ui.startButton)
    started.wait(lambda: started.session is not None)
    _hit, lesion = started.place("liver", started.session.scan.organs)
    assert lesion is not None


def test_leaving_and_entering_again(started):  # noqa: F811
    _hit, lesion = started.place("liver", started.session.scan.organs)
    started.module.press(started.ui.placeButton)
    started.module.exit()
    assert not started.editor.point.placing, "no click is waited for when the module is not shown"
    with pytest.raises(ValueError, match="no enabled shortcut"):
        started.module.press_keys("Ctrl+Z")
    started.module.enter()
    assert started.editor.current is lesion
    started.ui.massEffectSlider.value = 1.0
    started.settle()
    assert lesion.result.request.mass_effect_mm == 1.0


def test_work_goes_on_when_the_module_is_left(hand, phantom_enhanced):  # noqa: F811
    add_nodes(phantom_enhanced.ct, phantom_enhanced.organs)
    opened = hand()
    opened.module.press(opened.ui.startButton)
    opened.module.exit()
    opened.wait(lambda: opened.session is not None)
    opened.module.enter()
    assert opened.ui.lesionSection.enabled
    opened.module.press(opened.ui.somewhereButton)
    opened.module.exit()
    opened.settle()
    opened.module.enter()
    assert opened.editor.current is not None and not opened.editor.current.is_draft
    assert opened.ui.lesionList.count == 1 and opened.ui.acceptButton.enabled


def test_cleaning_up_leaves_results_and_nothing_else(started):  # noqa: F811
    import slicer

    _hit, _lesion = started.place("liver", started.session.scan.organs)
    shown = voxels(started.session.nodes.output).copy()
    output = started.session.nodes.output
    started.module.close()
    assert not nodes_of("vtkMRMLMarkupsFiducialNode") and not nodes_of("vtkMRMLMarkupsROINode")
    assert np.array_equal(voxels(output), shown)
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.Place)  # nobody listens any more
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")


def test_many_lesions_leave_no_nodes_behind(started):  # noqa: F811
    import slicer

    organs = started.session.scan.organs
    started.give_size(12.0)
    started.place("liver", organs)
    started.module.press_keys("Ctrl+Z")
    counts = []
    for number in range(6):
        started.place("liver", organs, number=number)
        started.module.press_keys("Ctrl+Z")
        gc.collect()
        counts.append(slicer.mrmlScene.GetNumberOfNodes())
    assert len(set(counts)) == 1, counts


# -- saving -------------------------------------------------------------------------------------------------------


def test_a_case_is_exported(started, host, tmp_path):  # noqa: F811
    ui = started.ui
    assert not ui.exportButton.enabled
    started.give_size(16.0)
    started.place("liver", started.session.scan.organs)
    assert not ui.exportButton.enabled, "nothing is accepted yet"
    started.module.press_keys("Ctrl+Return")
    host.answer("QFileDialog.getExistingDirectory", str(tmp_path))
    started.module.press(ui.exportButton)
    assert not ui.undoButton.enabled, "lesions stay as they are while they are written"
    started.module.press_keys("Ctrl+Z")
    assert len(started.session.lesions) == 1
    started.wait(lambda: "Written" in ui.saveLabel.text)
    case = read_case(tmp_path / "Liver" / "Tumor" / "case-001")
    assert np.array_equal(case.ct.array, voxels(started.session.nodes.output))
    assert "Liver tumor 1" in (tmp_path / "Liver" / "Tumor" / "case-001" / "report.txt").read_text()
    assert ui.undoButton.enabled


def test_a_case_that_is_there_is_replaced_only_when_told(started, host, tmp_path):  # noqa: F811
    ui = started.ui
    started.give_size(16.0)
    started.place("liver", started.session.scan.organs)
    started.module.press_keys("Ctrl+Return")
    case = tmp_path / "Liver" / "Tumor" / "case-001"
    case.mkdir(parents=True)
    (case / "mine.txt").write_text("mine")
    host.answer("QFileDialog.getExistingDirectory", str(tmp_path))
    started.module.press(ui.exportButton)
    started.wait(lambda: not started.editor.locked)
    assert "exists" in ui.saveLabel.text and not (case / "img.nii.gz").exists()


def test_reports_are_written_and_copied(started, host, tmp_path):  # noqa: F811
    import slicer

    started.give_size(16.0)
    started.place("liver", started.session.scan.organs)
    started.module.press_keys("Ctrl+Return")
    path = tmp_path / "report.txt"
    host.answer("QFileDialog.getSaveFileName", str(path))
    started.module.press(started.ui.saveReportButton)
    started.module.press(started.ui.copyReportButton)
    text = path.read_text(encoding="utf-8")
    assert "Liver tumor 1" in text and "Not for diagnosis" in text
    assert slicer.app.clipboard().text() == text
    host.answer("QFileDialog.getSaveFileName", str(tmp_path / "absent" / "report.txt"))
    started.module.press(started.ui.saveReportButton)
    assert "cannot be written" in started.ui.saveLabel.text
