"""``qt`` behaves as PythonQt's: properties are attributes, signals go by signature, dialogs are recorded."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def button(host):
    import qt

    return qt.QPushButton("Apply")


def test_properties_are_attributes(button):
    assert button.text == "Apply"
    assert button.enabled is True
    button.text = "Cancel"
    button.setEnabled(False)
    assert (button.text, button.enabled) == ("Cancel", False)
    button.name = "applyButton"
    assert button.objectName == "applyButton"
    assert button.className() == "QPushButton"


@pytest.mark.parametrize("getter", ["text", "width", "sizeHint", "minimumSizeHint", "toolTip"])
def test_calling_a_getter_of_a_property_fails(button, getter):
    with pytest.raises(TypeError, match="not callable"):
        getattr(button, getter)()


@pytest.mark.parametrize(
    "name,value,error",
    [
        ("text", 3, TypeError),
        ("enabled", None, TypeError),
        ("width", 30, AttributeError),
        ("helpText", "x", AttributeError),
        ("setText", None, AttributeError),
    ],
)
def test_wrong_assignments_fail(button, name, value, error):
    with pytest.raises(error):
        setattr(button, name, value)


def test_classes_written_in_python_take_attributes_and_overrides(host):
    import qt

    class Wide(qt.QWidget):
        def __init__(self):
            super().__init__()
            self.note = "mine"

        def sizeHint(self):
            return qt.QSize(123, 45)

    widget = Wide()
    widget.adjustSize()
    assert widget.note == "mine"
    assert (widget.size.width(), widget.size.height()) == (123, 45)


def test_constructors_take_no_keywords(host):
    import qt

    with pytest.raises(TypeError, match="no keyword arguments"):
        qt.QLabel(text="x")


def test_static_functions_of_the_name_of_a_property_work(host):
    import qt

    seen = []
    qt.QTimer.singleShot(0, lambda: seen.append(1))
    timer = qt.QTimer()
    timer.setSingleShot(True)
    assert timer.singleShot is True
    qt.QApplication.processEvents()
    assert seen == [1]


def test_signals_are_connected_by_signature(button):
    seen = []

    def on_click(checked):
        seen.append(checked)

    assert button.connect("clicked(bool)", on_click)
    button.connect("clicked( bool )", lambda: seen.append("no argument wanted"))
    button.connect("clicked()", lambda *arguments: seen.append(arguments))
    button.click()
    assert seen == [False, "no argument wanted", ()]
    assert button.disconnect("clicked(bool)", on_click)
    assert not button.disconnect("clicked(bool)", on_click)
    seen.clear()
    button.click()
    assert False not in seen


@pytest.mark.parametrize("signal", ["clickd(bool)", "clicked(int)", "currentNodeChanged(vtkMRMLNode*)"])
def test_a_signal_that_does_not_exist_is_refused(button, signal):
    with pytest.raises(ValueError, match="does not exist on QPushButton"):
        button.connect(signal, print)


def test_what_a_slot_raises_is_kept(button, host):
    def fail():
        raise ValueError("in a slot")

    button.connect("clicked()", fail)
    button.click()
    assert host.error_lines() == ["ValueError: in a slot"]
    host.clear()


def test_what_an_observer_raises_is_kept(host):
    import vtk

    def fail(caller, event):
        raise ValueError("in an observer")

    thing = vtk.vtkObject()
    thing.AddObserver(vtk.vtkCommand.ModifiedEvent, fail)
    thing.Modified()
    assert host.error_lines() == ["ValueError: in an observer"]
    host.clear()


def test_a_process_tells_its_output_and_its_end(host):
    import qt

    from Testing.slicerhost.event_loop import wait_until

    process, lines, ends = qt.QProcess(), [], []
    process.connect("readyReadStandardOutput()", lambda: lines.append(process.readAllStandardOutput().data()))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ends.append((code, status)))
    process.start(sys.executable, ["-c", "print('done'); raise SystemExit(3)"])
    wait_until(lambda: ends)
    assert b"".join(lines).strip() == b"done"
    assert ends == [(3, qt.QProcess.NormalExit)]
    assert process.state() == qt.QProcess.NotRunning


def test_enumerations_are_integers(host):
    import qt

    assert int(qt.Qt.Checked) == 2
    assert qt.QProcess.NotRunning == 0


def test_file_dialogs_give_a_path_or_nothing(host):
    import qt

    assert qt.QFileDialog.getOpenFileName(None, "Open", "", "*.nii") == ""
    host.answer("QFileDialog.getOpenFileName", "/data/ct.nii")
    assert qt.QFileDialog.getOpenFileName(None, "Open") == "/data/ct.nii"
    assert [call.arguments[1] for call in host.calls_of("QFileDialog.getOpenFileName")] == ["Open", "Open"]


def test_message_boxes_are_recorded_and_do_not_block(host):
    import qt

    assert qt.QMessageBox.question(None, "Sure?", "Delete it?") == qt.QMessageBox.No
    host.answer("QMessageBox.question", qt.QMessageBox.Yes)
    assert qt.QMessageBox.question(None, "Sure?", "Delete it?") == qt.QMessageBox.Yes
    box = qt.QMessageBox()
    box.text = "Finished"
    assert box.exec_() == qt.QMessageBox.Ok
    assert host.texts("question") == ["Delete it?"] * 2
    assert host.texts("dialog") == ["Finished"]


def test_a_dialog_that_would_block_is_refused(host):
    import qt

    dialog = qt.QDialog()
    with pytest.raises(LookupError, match="would block"):
        dialog.exec_()
    host.answer("QDialog.exec", qt.QDialog.Accepted)
    assert dialog.exec_() == qt.QDialog.Accepted


def test_web_pages_are_not_opened(host):
    import qt

    qt.QDesktopServices.openUrl(qt.QUrl("https://example.org"))
    (call,) = host.calls_of("QDesktopServices.openUrl")
    assert call.arguments[0].toString() == "https://example.org"


def test_settings_are_apart_from_the_user_s(host_app, host):
    import qt
    import slicer

    qt.QSettings().setValue("Host/threads", 4)
    assert slicer.app.temporaryPath in qt.QSettings().fileName()
    assert slicer.util.settingsValue("Host/threads", 1, converter=int) == 4
    assert slicer.util.settingsValue("Host/absent", "default") == "default"
    assert slicer.app.userSettings().value("Host/threads") == 4
