"""Editing lesions through the panel: undo and redo, another one, options, sizes, handles, before and after, the list."""

from __future__ import annotations

import numpy as np
import pytest

from PASTALib import taxonomy
from Testing.gui.synth_support import add_nodes, deep_index, hand, started, voxels  # noqa: F401  fixtures


def everything(session) -> tuple:
    """What undo has to bring back."""
    segmentation = session.nodes.segmentation.GetSegmentation()
    names = [segmentation.GetNthSegment(i).GetName() for i in range(segmentation.GetNumberOfSegments())]
    return voxels(session.nodes.output).tobytes(), names, session.scan.ct.array.tobytes(), len(session.lesions)


def item_enabled(box, index: int) -> bool:
    import qt

    return bool(box.model().flags(box.model().index(index, 0)) & qt.Qt.ItemIsEnabled)


def test_undo_and_redo_restore_exactly(started):  # noqa: F811
    organs = started.session.scan.organs
    states = [everything(started.session)]
    started.place("liver", organs, number=0)
    states.append(everything(started.session))
    started.module.press(started.ui.acceptButton)
    states.append(everything(started.session))
    started.choose_type("Kidney tumor")
    started.place("kidney", organs, "Green")
    states.append(everything(started.session))
    assert started.ui.lesionList.count == 2 and "not accepted" in started.ui.lesionList.item(1).text()
    assert "place Kidney tumor 1" in started.ui.undoButton.toolTip
    started.module.press_keys("Ctrl+Z")
    assert everything(started.session) == states[2]
    started.module.press(started.ui.undoButton)  # of accepting: the lesion goes
    assert everything(started.session) == states[0]
    assert not started.ui.undoButton.enabled and started.ui.lesionList.count == 0
    started.module.press_keys("Ctrl+Shift+Z")
    assert everything(started.session) == states[2]
    started.module.press(started.ui.redoButton)
    assert everything(started.session) == states[3]
    assert started.ui.typeBox.currentText == "Kidney tumor", "the panel shows what is edited again"
    assert not started.ui.redoButton.enabled
    started.module.press_keys("Ctrl+Return")
    assert [lesion.name for lesion in started.session.lesions] == ["Liver tumor 1", "Kidney tumor 1"]


def test_a_slider_gives_a_draft_then_the_lesion(started):  # noqa: F811
    hit, lesion = started.place("liver", started.session.scan.organs)
    started.module.choose(started.ui.densityBox, "by HU difference")
    started.settle()
    seen = []
    session = started.session
    show = session.show
    session.show = lambda what, token=None: seen.append(what) or show(what, token)
    started.ui.densityDeltaSlider.value = 60.0
    started.settle()
    assert [type(item).__name__ for item in seen] == ["Draft", "SynthesisResult"]
    assert lesion is started.editor.current
    assert lesion.result.measurement.figures["density_delta_hu"] == pytest.approx(60.0, abs=12)
    assert np.allclose(lesion.asked.at_ras, session.place(hit))
    started.ui.densityDeltaSlider.value = 61.0  # five changes at once: what is overtaken is not computed
    for value in (62.0, 63.0, 64.0, 65.0):
        started.ui.densityDeltaSlider.value = value
    started.settle()
    assert lesion.result.request.density_delta_hu == 65.0
    assert sum(type(item).__name__ == "SynthesisResult" for item in seen) == 2


def test_another_one_like_this(started):  # noqa: F811
    _hit, lesion = started.place("liver", started.session.scan.organs)
    first = lesion.result
    started.module.press(started.ui.anotherButton)
    started.settle()
    assert started.ui.seedBox.value == first.request.seed + 1 == lesion.result.request.seed
    assert lesion.result.after.tobytes() != first.after.tobytes()
    started.ui.seedBox.value = first.request.seed
    started.settle()
    assert lesion.result.after.tobytes() == first.after.tobytes(), "the same seed, the same lesion"


def test_a_type_limits_the_options(started):  # noqa: F811
    ui = started.ui
    started.module.choose(ui.shapeBox, "Irregular")
    started.module.choose(ui.densityBox, "Isodense")
    started.module.choose(ui.invasionBox, "Close relationship with adjacent structures")
    started.choose_type("Liver cyst")
    entries = {box.name: [box.itemText(i) for i in range(box.count)] for box in (ui.densityBox, ui.invasionBox)}
    assert entries["densityBox"] == ["any", "Hypodense", "by HU difference"]
    assert entries["invasionBox"] == ["any", "No close relationship with surrounding structures"]
    assert (ui.shapeBox.currentText, ui.densityBox.currentText, ui.invasionBox.currentText) == (
        "Irregular",
        "any",
        "any",
    )
    _hit, lesion = started.place("liver", started.session.scan.organs)
    assert lesion.result.request.attributes == {"shape": "Irregular"}
    started.choose_type("Liver tumor")
    started.settle()
    assert lesion.key == "liver_tumor" and lesion.name == "Liver tumor 1"
    assert "Hyperdense" in [ui.densityBox.itemText(i) for i in range(ui.densityBox.count)]


def test_differences_that_a_type_can_have(started):  # noqa: F811
    """The slider offers only what is of a density that the type allows."""
    ui = started.ui
    started.module.press(ui.anyPhaseBox)
    ranges = {}
    for lesion in taxonomy.LESIONS:
        started.choose_type(lesion.name)
        started.module.choose(ui.densityBox, "by HU difference")
        ranges[lesion.key] = ui.densityDeltaSlider.minimum, ui.densityDeltaSlider.maximum
        assert ranges[lesion.key][0] <= started.parameters.densityDelta == ui.densityDeltaSlider.value
        assert started.parameters.densityDelta <= ranges[lesion.key][1]
    assert ranges["liver_tumor"] == (-150, 150) and ranges["liver_cyst"] == (-150, -11)
    assert ranges["kidney_stone"] == (11, 1000) and ranges["bone_metastasis"] == (-600, 600)
    started.choose_type("Kidney stone")
    started.give_size(8.0)
    _hit, stone = started.place("kidney", started.session.scan.organs)
    assert stone.result.measurement.values["density"] == "Hyperdense"


def test_types_that_cannot_be_say_why(started):  # noqa: F811
    import qt

    ui = started.ui
    keys = list(taxonomy.LESION_KEYS)
    stone = keys.index("kidney_stone")
    assert not item_enabled(ui.typeBox, stone)
    assert "Plain CT; this scan is Enhanced CT" in ui.typeBox.itemData(stone, qt.Qt.ToolTipRole)
    assert item_enabled(ui.typeBox, keys.index("kidney_cyst"))
    started.module.press(ui.anyPhaseBox)
    assert all(item_enabled(ui.typeBox, index) for index in range(15))


def test_organs_that_are_missing(hand, phantom_enhanced):  # noqa: F811
    """A map of the liver alone: only its types can be chosen, and one of them is."""
    from dataclasses import replace

    import qt

    labels = phantom_enhanced.organs.labels
    liver = replace(labels, array=np.where(labels.array == 2, labels.array, 0))
    opened = hand()
    opened.start(*add_nodes(phantom_enhanced.ct, replace(phantom_enhanced.organs, labels=liver, structures=None)))
    box = opened.ui.typeBox
    possible = [box.itemText(i) for i in range(box.count) if item_enabled(box, i)]
    assert possible == ["Liver tumor", "Liver cyst"] and box.currentText in possible
    assert "no lung" in box.itemData(0, qt.Qt.ToolTipRole)


def test_an_impossible_wish_leaves_the_lesion(started):  # noqa: F811
    _hit, lesion = started.place("liver", started.session.scan.organs)
    good = lesion.result
    shown = voxels(started.session.nodes.output).copy()
    started.give_size(240.0)
    started.settle()
    assert "too big for this liver" in started.ui.lesionLabel.text
    assert lesion.result is good and np.array_equal(voxels(started.session.nodes.output), shown)
    started.module.press_keys("Ctrl+Return")
    assert len(started.session.lesions) == 1


def test_a_lesion_that_fits_nowhere_from_the_start(started):  # noqa: F811
    started.give_size(240.0)
    started.place("liver", started.session.scan.organs)
    assert "too big" in started.ui.lesionLabel.text and started.editor.current is None
    assert np.array_equal(voxels(started.session.nodes.output), voxels(started.session.nodes.ct))
    assert started.session.nodes.segmentation.GetSegmentation().GetNumberOfSegments() == 0


def test_sizes_begin_with_what_is_there(started):  # noqa: F811
    _hit, lesion = started.place("liver", started.session.scan.organs)
    measured = lesion.result.measurement.size_zxy_mm
    started.module.press(started.ui.sizeGivenBox)
    started.settle()
    boxes = [box.value for box in (started.ui.sizeZBox, started.ui.sizeXBox, started.ui.sizeYBox)]
    assert np.abs(np.subtract(boxes, measured)).max() <= 1.0
    assert lesion.result.request.size_mm == tuple(boxes)
    started.ui.sizeZBox.value = 34.0
    started.settle()
    assert lesion.result.measurement.size_zxy_mm[0] == pytest.approx(34.0, abs=4.1)


def test_handles_set_size_and_place(started):  # noqa: F811
    import slicer

    started.give_size(22.0)
    hit, lesion = started.place("liver", started.session.scan.organs)
    started.module.press(started.ui.handlesBox)
    (roi,) = slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
    size, centre = [0.0] * 3, [0.0] * 3
    roi.GetSizeWorld(size)
    roi.GetCenterWorld(centre)
    assert np.allclose(size, 22.0, atol=0.1) and np.allclose(centre, hit, atol=0.1)
    roi.SetSizeWorld(30.0, 24.0, 18.0)
    started.settle()
    boxes = [box.value for box in (started.ui.sizeZBox, started.ui.sizeXBox, started.ui.sizeYBox)]
    assert np.allclose(boxes, (18.0, 30.0, 24.0), atol=0.1), "z, x, y as the paper"
    assert np.allclose(lesion.result.request.size_mm, (18.0, 30.0, 24.0), atol=0.1)
    roi.SetCenterWorld(*(np.array(centre) + [12.0, 0.0, 0.0]))
    started.settle()
    assert started.session.world(lesion.result.center_ras)[0] - hit[0] == pytest.approx(12.0, abs=2.0)
    started.module.press(started.ui.handlesBox)
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")


@pytest.mark.parametrize("flip", [1, -1])
def test_handles_lie_along_the_axes_of_the_scan(host, flip):
    """Also where the patient lies turned, the array is stored in another order, or an axis is mirrored."""
    from PASTALib.gui.synth_handles import scan_axes
    from PASTALib.volume import patient_axes

    angle = np.radians(12.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([flip, 1.0, 1.0]) @ np.diag([0.8, 0.9, 2.5])
    for order in ([0, 1, 2], [2, 0, 1]):
        stored = affine[:, [*order, 3]]
        axes = scan_axes(stored, patient_axes(stored))
        assert np.allclose(axes.T @ axes, np.eye(3)) and np.linalg.det(axes) == pytest.approx(1.0)
        assert np.allclose(np.abs(axes), np.abs(turn)), "x, y and z of the box are the scan's"


def test_before_and_after(started):  # noqa: F811
    session = started.session
    _hit, lesion = started.place("liver", session.scan.organs)
    after = voxels(session.nodes.output).copy()
    started.module.press_keys("B")
    assert started.ui.beforeButton.checked
    assert np.array_equal(voxels(session.nodes.output), voxels(session.nodes.ct))
    assert not session.nodes.segmentation.GetDisplayNode().GetVisibility2DOutline()
    started.module.press(started.ui.beforeButton)
    assert np.array_equal(voxels(session.nodes.output), after) and not started.ui.beforeButton.checked
    started.module.press_keys("B")
    started.ui.massEffectSlider.value = 1.0  # an edit shows the lesion again
    started.settle()
    assert not started.ui.beforeButton.checked and not session.before
    assert (voxels(session.nodes.output) != voxels(session.nodes.ct)).any()


def test_the_table_shows_asked_and_measured(started):  # noqa: F811
    table = started.ui.resultTable
    started.module.choose(started.ui.surfaceBox, "Well-defined margin")
    _hit, lesion = started.place("liver", started.session.scan.organs)
    cells = {table.item(row, 0).text(): (table.item(row, 1).text(), table.item(row, 2).text()) for row in range(8)}
    assert cells["Surface"] == ("Well-defined margin", lesion.result.report.value("surface"))
    assert cells["Density"] == ("any", lesion.result.report.value("density"))
    assert cells["Size"][1] == lesion.result.report.value("size")
    assert started.ui.resultSection.text == "3. Result: Liver tumor 1"
    started.module.press(started.ui.acceptButton)
    assert table.rowCount == 8, "still that of the lesion just accepted"
    from Testing.slicerhost.screenshot import font_scale

    with font_scale(1.8):  # three columns are too many then
        started.settle()
        assert table.isColumnHidden(1)
        cells = {table.item(row, 0).text(): table.item(row, 2).text() for row in range(8)}
        assert cells["Surface"].endswith("(asked: Well-defined margin)") and "asked" not in cells["Density"]
    started.settle()
    assert not table.isColumnHidden(1) and table.item(6, 1).text() == "Well-defined margin"


def test_rows_of_the_list_show_lesions_in_the_views(started):  # noqa: F811
    organs = started.session.scan.organs
    for number in (0, 4):
        started.give_size(14.0)
        started.place("liver", organs, number=number)
        started.module.press_keys("Ctrl+Return")
    for row in (0, 1):
        started.ui.lesionList.setCurrentRow(row)
        centre = started.session.world(started.session.lesions[row].result.center_ras)
        node = started.layout["Red"].node
        assert node.GetSliceOffset() == pytest.approx(centre[2], abs=0.01)
        assert started.ui.resultSection.text.endswith(f"tumor {row + 1}")
    started.ui.lesionList.setCurrentRow(0)
    started.module.press(started.ui.removeButton)
    assert [lesion.name for lesion in started.session.lesions] == ["Liver tumor 2"]
    started.module.press_keys("Ctrl+Z")
    assert [lesion.name for lesion in started.session.lesions] == ["Liver tumor 1", "Liver tumor 2"]


def test_an_accepted_lesion_is_not_removed_while_another_is_edited(started):  # noqa: F811
    organs = started.session.scan.organs
    started.give_size(14.0)
    started.place("liver", organs, number=0)
    started.module.press_keys("Ctrl+Return")
    started.place("liver", organs, number=4)
    started.ui.lesionList.setCurrentRow(0)
    started.module.press(started.ui.removeButton)
    assert "accept or discard it first" in started.ui.lesionLabel.text and len(started.session.lesions) == 1
    started.ui.lesionList.setCurrentRow(1)
    started.module.press(started.ui.removeButton)
    assert started.editor.current is None and started.ui.lesionList.count == 1


def test_surfaces_in_3d(started):  # noqa: F811
    segmentation = started.session.nodes.segmentation.GetSegmentation()
    started.place("liver", started.session.scan.organs)
    started.module.press(started.ui.surface3DBox)
    assert segmentation.ContainsRepresentation("Closed surface")
    started.ui.massEffectSlider.value = 1.0
    assert not segmentation.ContainsRepresentation("Closed surface"), "not while controls move"
    started.settle()
    assert segmentation.ContainsRepresentation("Closed surface")
    started.module.press(started.ui.surface3DBox)
    assert not segmentation.ContainsRepresentation("Closed surface")


def test_two_places_after_each_other(started):  # noqa: F811
    """Before a lesion is accepted, placing moves it."""
    organs = started.session.scan.organs
    started.give_size(14.0)
    _hit, first = started.place("liver", organs, number=0)
    was = first.result.center_ras
    hit, again = started.place("liver", organs, "Green", number=4)
    assert again is first and np.linalg.norm(np.subtract(first.result.center_ras, was)) > 5
    assert started.session.nodes.segmentation.GetSegmentation().GetNumberOfSegments() == 1
    index = deep_index(organs, "liver", 4)
    assert np.linalg.norm(started.session.world(first.result.center_ras) - started.world_of(index)) < 3
    assert np.allclose(hit, started.world_of(index), atol=1.5)
