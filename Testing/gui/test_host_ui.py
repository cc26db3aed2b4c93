"""Panels: .ui files, ctk's widgets, and the dialogs of slicer.util."""

from __future__ import annotations

import pytest

UI = """<ui version="4.0"><class>Panel</class><widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout" name="rows">
<item><widget class="ctkCollapsibleButton" name="section"><property name="text"><string>Inputs</string></property>
<layout class="QVBoxLayout" name="inner"><item><widget class="{cls}" name="thing">
<property name="{prop}"><string>tip</string></property>
<property name="SlicerParameterName" stdset="0"><string>volume</string></property></widget></item></layout></widget></item></layout></widget>
<connections><connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal><receiver>thing</receiver>
<slot>{slot}(vtkMRMLScene*)</slot></connection></connections></ui>"""


def write_ui(folder, cls="qMRMLNodeComboBox", prop="toolTip", slot="setMRMLScene"):
    path = folder / "Panel.ui"
    path.write_text(UI.format(cls=cls, prop=prop, slot=slot))
    return str(path)


def test_a_panel_is_loaded_with_stand_ins(host, tmp_path):
    import slicer

    panel = slicer.util.loadUI(write_ui(tmp_path))
    ui = slicer.util.childWidgetVariables(panel)
    assert type(ui.thing) is slicer.qMRMLNodeComboBox
    assert ui.thing.toolTip == "tip"
    assert ui.thing.property("SlicerParameterName") == "volume"
    assert not hasattr(panel, "thing"), "PySide's own way to children, which PythonQt has only for direct ones"
    panel.setMRMLScene(slicer.mrmlScene)
    assert ui.thing.mrmlScene() is slicer.mrmlScene


@pytest.mark.parametrize(
    "change,message",
    [
        ({"cls": "qMRMLNodeCombBox"}, "qMRMLNodeCombBox"),
        ({"prop": "toolTipp"}, "no property 'toolTipp'"),
        ({"slot": "setScene"}, "setScene"),
    ],
)
def test_what_does_not_exist_in_a_ui_file_is_refused(host, tmp_path, change, message):
    import slicer

    with pytest.raises(ValueError, match=message):
        slicer.util.loadUI(write_ui(tmp_path, **change))


def test_a_missing_ui_file_is_told(host, tmp_path):
    import slicer

    with pytest.raises(RuntimeError, match="file not found"):
        slicer.util.loadUI(str(tmp_path / "absent.ui"))


def test_a_section_folds_its_contents(host, tmp_path):
    import slicer

    panel = slicer.util.loadUI(write_ui(tmp_path))
    ui = slicer.util.childWidgetVariables(panel)
    panel.show()
    assert ui.thing.isVisible()
    ui.section.collapsed = True
    assert not ui.thing.isVisible()
    assert ui.section.checked is False
    ui.section.click()
    assert ui.section.collapsed is False
    assert ui.thing.isVisible()


def test_the_slider_keeps_its_value_in_range_and_decimals(host):
    import ctk

    slider, seen = ctk.ctkSliderWidget(), []
    slider.connect("valueChanged(double)", seen.append)
    slider.decimals = 1
    slider.minimum, slider.maximum = 2.0, 5.0
    slider.value = 3.14159
    slider.value = 30
    slider.setMaximum(4)
    assert seen == [2.0, 3.1, 5.0, 4.0]
    assert slider.value == 4.0


def test_the_slider_follows_the_user_s_hand(host):
    import ctk
    import qt

    slider = ctk.ctkSliderWidget()
    slider.maximum = 10
    slider.findChild(qt.QSlider).value = 7
    assert slider.value == 7.0
    slider.findChild(qt.QDoubleSpinBox).value = 2.5
    assert slider.value == 2.5


def test_a_range_never_crosses(host):
    import ctk

    widget, seen = ctk.ctkRangeWidget(), []
    widget.connect("valuesChanged(double,double)", lambda low, high: seen.append((low, high)))
    widget.setRange(-100, 100)
    widget.setValues(-50, 50)
    widget.maximumValue = -70
    assert (widget.minimumValue, widget.maximumValue) == (-70, -70)
    assert seen[-1] == (-70, -70)


def test_paths_are_browsed_for(host, tmp_path):
    import ctk
    import qt

    edit, seen = ctk.ctkPathLineEdit(), []
    edit.connect("currentPathChanged(QString)", seen.append)
    host.answer("QFileDialog.getOpenFileName", str(tmp_path / "model.ckpt"))
    edit.findChild(qt.QToolButton).click()
    edit.findChild(qt.QToolButton).click()  # cancelled: nothing queued
    assert seen == [edit.currentPath] == [str(tmp_path / "model.ckpt")]
    edit.filters = ctk.ctkPathLineEdit.Dirs
    host.answer("QFileDialog.getExistingDirectory", str(tmp_path))
    edit.findChild(qt.QToolButton).click()
    assert edit.currentPath == str(tmp_path)


def test_coordinates_are_three_numbers_in_a_text(host):
    import ctk

    widget, seen = ctk.ctkCoordinatesWidget(), []
    widget.connect("coordinatesChanged(double*)", seen.append)
    widget.coordinates = "1,2.5,-3"
    assert widget.coordinates == "1,2.5,-3"
    assert seen[-1] == (1.0, 2.5, -3.0)


def test_messages_of_slicer_util_are_recorded(host):
    import qt
    import slicer

    slicer.util.infoDisplay("for your information")
    slicer.util.errorDisplay("an error")
    slicer.util.showStatusMessage("busy")
    slicer.util.delayDisplay("a moment", 5000)
    assert slicer.util.confirmOkCancelDisplay("go on?") is False, "slicer.util compares True with the number of Ok"
    host.answer("messageDisplay", qt.QMessageBox.Ok)
    assert slicer.util.confirmOkCancelDisplay("go on?") is True
    host.answer("messageDisplay", qt.QMessageBox.Yes)
    assert slicer.util.confirmYesNoDisplay("really?") is True
    assert host.texts("info") == ["for your information", "go on?", "go on?", "really?"]
    assert (host.texts("error"), host.texts("status"), host.texts("popup")) == (["an error"], ["busy"], ["a moment"])


def test_errors_are_displayed_and_raised(host, host_app):
    import slicer

    with pytest.raises(ValueError, match="the reason"), slicer.util.tryWithErrorDisplay("It failed.", waitCursor=True):
        raise ValueError("the reason")
    assert host.messages == [], "nothing is shown in testing mode"
    host_app.set_testing(False)
    with pytest.raises(ValueError, match="the reason"), slicer.util.tryWithErrorDisplay("It failed."):
        raise ValueError("the reason")
    assert host.texts("error") == ["It failed.\n\nthe reason"]


def test_cursors_and_folders_of_slicer_util(host):
    import os

    import qt
    import slicer

    with slicer.util.WaitCursor():
        assert qt.QApplication.overrideCursor() is not None
    assert qt.QApplication.overrideCursor() is None
    folder = slicer.util.tempDirectory()
    assert os.path.isdir(folder)
    assert folder.startswith(slicer.app.temporaryPath)
