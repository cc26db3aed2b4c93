"""The host boots a real scene, reads and writes through real storage nodes, is strict, and names what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def volume(host):
    import slicer

    array = np.random.default_rng(0).integers(-1000, 1000, (6, 9, 12)).astype(np.int16)
    matrix = np.diag([-1.5, -1.2, 3.0, 1.0])
    matrix[:3, 3] = 10, 20, -30
    return slicer.util.addVolumeFromArray(array, matrix, name="CT")


def test_a_second_boot_changes_nothing(host_app):
    import slicer

    from Testing.slicerhost import boot, boot_gui

    scene = slicer.mrmlScene
    assert boot() is boot_gui() is host_app
    assert slicer.mrmlScene is scene


def test_it_steps_aside_for_the_application(host_app, monkeypatch):
    import slicer

    from Testing.slicerhost import boot, boot_gui, in_real_slicer

    assert not in_real_slicer()
    application = SimpleNamespace(name="the real one")
    monkeypatch.setattr(slicer, "app", application)
    assert in_real_slicer()
    assert boot() is application
    assert boot_gui() is application


def test_modules_are_opened_by_the_application_itself(host, monkeypatch):
    import slicer

    from Testing.slicerhost.panel import open_module

    selected = []
    widget = SimpleNamespace(parent="parent")
    monkeypatch.setattr(slicer, "app", SimpleNamespace())
    monkeypatch.setattr(slicer.util, "selectModule", selected.append)
    monkeypatch.setattr(slicer.util, "getModuleWidget", lambda name: widget)
    monkeypatch.setattr(slicer.util, "getModule", lambda name: name)
    monkeypatch.setitem(sys.modules, "Some", SimpleNamespace())
    with open_module("/nowhere", "Some") as opened:
        assert opened.widget is widget
    assert selected == ["Some", "Data"]


def test_without_widgets_no_qt_is_imported(host_app):
    code = (
        "from Testing.slicerhost import boot; app = boot(); import slicer, sys\n"
        "assert slicer.app is app and slicer.mrmlScene.GetNumberOfNodes() > 0\n"
        "assert not [m for m in sys.modules if m.startswith(('PySide6', 'qt', 'ctk'))]"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == "", "booting prints nothing"


def test_the_namespace_is_that_of_slicer(host):
    import slicer

    assert not hasattr(slicer, "addVolumeFromArray"), "is slicer.util's alone"
    assert slicer.util.addVolumeFromArray
    assert slicer.vtkSegment
    assert slicer.modules.volumes.logic().IsA("vtkSlicerVolumesLogic")
    assert slicer.util.getModuleLogic("Segmentations").IsA("vtkSlicerSegmentationsModuleLogic")


def test_unknown_parts_of_the_application_are_refused(host_app):
    import slicer

    with pytest.raises(AttributeError):
        slicer.app.nothingLikeThis()
    with pytest.raises(AttributeError):
        slicer.app.mainWindow2 = 3
    with pytest.raises(ValueError, match="no signal startedUp"):
        slicer.app.connect("startedUp()", print)
    with pytest.raises(ValueError, match="no signal moduleLost"):
        slicer.app.moduleManager().connect("moduleLost(QString)", print)
    with pytest.raises(RuntimeError, match="without pauseRender"):
        slicer.app.resumeRender()


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
def test_a_volume_survives_the_disk(volume, tmp_path, ending):
    import slicer

    assert slicer.util.saveNode(volume, str(tmp_path / f"ct.{ending}"))
    back = slicer.util.loadVolume(str(tmp_path / f"ct.{ending}"))
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(back), slicer.util.arrayFromVolume(volume))
    assert np.allclose(ijk_to_ras(back), ijk_to_ras(volume), atol=1e-4)


def ijk_to_ras(volume):
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def test_a_scene_with_a_segmentation_survives_as_a_bundle(volume, tmp_path):
    import slicer

    from Testing.slicerhost import reset_scene

    mask = (slicer.util.arrayFromVolume(volume) > 0).astype(np.uint8)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lesions")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    name = node.GetSegmentation().AddEmptySegment("one", "first lesion")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, name, volume)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    reset_scene()
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    again = slicer.util.getNode("Lesions")
    assert again.GetSegmentation().GetSegment("one").GetName() == "first lesion"
    read = slicer.util.arrayFromSegmentBinaryLabelmap(again, "one", slicer.util.getNode("CT"))
    np.testing.assert_array_equal(read, mask)


def test_loading_a_file_that_is_not_there_fails(host, tmp_path):
    import slicer

    with pytest.raises(RuntimeError, match=r"absent\.nii"):
        slicer.util.loadVolume(str(tmp_path / "absent.nii"))


def test_missing_system_libraries_are_named_in_one_line(monkeypatch):
    from Testing.slicerhost import system

    absent = {"libxkbcommon.so.0", "libEGL.so.1", system.OSMESA}
    monkeypatch.setattr(system, "loads", lambda library: library not in absent)
    monkeypatch.setattr(system, "has_font", lambda: False)
    line = system.missing_line()
    assert "\n" not in line
    assert line.endswith("apt-get install fonts-dejavu-core libegl-mesa0 libegl1 libgl1-mesa-dri libxkbcommon0")


def test_one_of_two_ways_to_render_is_enough(monkeypatch):
    from Testing.slicerhost import system

    monkeypatch.setattr(system, "egl_works", lambda: False)
    monkeypatch.setattr(system, "loads", lambda library: True)
    monkeypatch.setattr(system, "has_font", lambda: True)
    assert system.missing_line() == ""
    monkeypatch.delenv("VTK_DEFAULT_OPENGL_WINDOW", raising=False)
    monkeypatch.setattr(system.sys, "platform", "linux")
    system.choose_render_window()
    assert system.os.environ["VTK_DEFAULT_OPENGL_WINDOW"] == "vtkOSOpenGLRenderWindow"
