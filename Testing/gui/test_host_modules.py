"""Modules are opened as Slicer opens them; what surrounds them is recorded; the event loop is watched."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "slicerhost" / "example" / "HostExample"


@pytest.fixture
def example(open_module):
    return open_module("HostExample", EXAMPLE)


@pytest.fixture
def volume(host):
    import slicer

    return slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), name="CT")


def test_a_module_is_found_built_and_entered(example):
    import slicer

    assert example.module.title == "Host example"
    assert slicer.modules.hostexample.path == str(EXAMPLE / "HostExample.py")
    assert slicer.util.modulePath("HostExample") == str(EXAMPLE / "HostExample.py")
    assert slicer.modules.HostExampleWidget is example.widget
    assert slicer.util.getModuleWidget("HostExample") is example.widget
    assert example.widget.events == ["enter"]
    assert example.parent.isEntered is True
    assert not example.ui.applyButton.enabled


def test_closing_leaves_nothing_behind(example):
    import slicer

    widget = example.widget
    example.close()
    assert widget.events == ["enter", "exit", "cleanup"]
    assert not hasattr(slicer.modules, "hostexample")
    assert "HostExample" not in sys.modules
    assert str(EXAMPLE) not in sys.path
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")  # no observer is left to hear it


def test_a_user_works_with_the_panel(example, volume, host):
    parameters = example.widget.parameters
    with pytest.raises(RuntimeError, match="'applyButton' is disabled"):
        example.press(example.ui.applyButton)
    example.choose(example.ui.volumeSelector, "CT")
    example.choose(example.ui.shapeBox, "Round")
    example.type_text(example.ui.noteEdit, "seen")
    example.ui.radiusSlider.value = 33.333
    assert parameters.volume is volume
    assert (parameters.shape.name, parameters.note, parameters.radius_mm) == ("Round", "seen", 33.3)
    example.press(example.ui.applyButton)
    example.press_keys("Ctrl+Z")
    assert example.widget.events == ["enter", "apply", "undo"]
    assert host.texts("info") == ["Made 2 of them"]
    with pytest.raises(ValueError, match="no enabled shortcut"):
        example.press_keys("Ctrl+Q")
    with pytest.raises(ValueError, match="offers"):
        example.choose(example.ui.shapeBox, "Square")
    example.ui.inputsCollapsibleButton.collapsed = True
    with pytest.raises(RuntimeError, match="is not visible"):
        example.type_text(example.ui.noteEdit, "unseen")


def test_parameters_survive_a_saved_scene_and_reopening(example, volume, open_module, tmp_path):
    import slicer

    from Testing.slicerhost import reset_scene

    example.choose(example.ui.volumeSelector, "CT")
    example.ui.countBox.value = 8
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    example.close()
    reset_scene()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    again = open_module("HostExample", EXAMPLE)
    assert again.ui.countBox.value == 8
    assert again.ui.volumeSelector.currentNode().GetName() == "CT"


def test_sample_data_is_registered_at_start_up(example):
    import SampleData

    assert SampleData.SampleDataLogic().downloadSample("HostExampleEmpty") == ["HostExampleEmpty"]


def test_the_self_test_of_a_module_runs(example, host):
    import slicer

    slicer.selfTests["HostExample"]()
    assert host.texts("popup") == ["self-test ran"]


@pytest.mark.parametrize("missing", ["", "Widget", "Logic", "Test"])
def test_a_module_must_have_its_four_classes(open_module, tmp_path, missing):
    source = "from slicer.ScriptedLoadableModule import *\n"
    for part in ("", "Widget", "Logic", "Test"):
        if part != missing:
            source += f"class Odd{part}(ScriptedLoadableModule{part}): pass\n"
    (tmp_path / "Odd.py").write_text(source)
    with pytest.raises(TypeError, match=f"class Odd{missing}\\(ScriptedLoadableModule{missing}\\)"):
        open_module("Odd", tmp_path)
    sys.modules.pop("Odd")


def test_a_module_that_is_not_there(open_module, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Absent\.py"):
        open_module("Absent", tmp_path)


def test_translations_keep_their_placeholders(host):
    from slicer import i18n

    assert i18n.tr("{count} lesions").format(count=3) == "3 lesions"
    try:
        i18n.set_translations({"{count} lesions": "{count} Läsionen", "of {n}": "von {m}", "step {n}": "Schritt {n}}"})
        assert i18n.tr("{count} lesions") == "{count} Läsionen"
        for text in ("of {n}", "step {n}"):
            with pytest.raises(ValueError, match="placeholders|braces"):
                i18n.tr(text)
    finally:
        i18n.set_translations({})
    for text in ("{} lesions", "{0} lesions"):
        with pytest.raises(ValueError, match="must have names"):
            i18n.tr(text)
    with pytest.raises(TypeError):
        i18n.tr(3)


def test_installs_are_recorded_not_done(host, tmp_path):
    import slicer.packaging

    (tmp_path / "requirements.txt").write_text("# what we need\nnumpy>=1\n-c ignored\nsome-absent-package>=2\n")
    requirements = slicer.packaging.load_requirements(tmp_path / "requirements.txt")
    assert [str(r) for r in requirements] == ["numpy>=1", "some-absent-package>=2"]
    assert slicer.packaging.pip_check("numpy>=1")
    assert not slicer.packaging.pip_check("numpy>=1000")
    assert not slicer.packaging.pip_check(requirements)
    slicer.packaging.pip_ensure(requirements, requester="HostExample")
    assert host.calls_of("pip_ensure")[0].keywords["requester"] == "HostExample"
    host.answer("pip_ensure", RuntimeError("the user refused"))
    with pytest.raises(RuntimeError, match="refused"):
        slicer.packaging.pip_ensure(requirements)
    with pytest.raises(TypeError):
        slicer.packaging.pip_ensure(requirements, unknown_option=1)


def test_an_older_slicer_has_no_packaging(host):
    import slicer.packaging

    from Testing.slicerhost.versions import slicer_5_10

    with slicer_5_10():
        assert slicer.app.minorVersion == 10
        assert not hasattr(slicer, "packaging")
        with pytest.raises(ImportError):
            import slicer.packaging
        slicer.util.pip_install("scipy")
    assert slicer.app.minorVersion == 13
    assert slicer.packaging.pip_check("numpy")
    assert [call.arguments for call in host.calls_of("slicer.util.pip_install")] == [("scipy",)]


def test_torch_comes_through_the_extension_or_not_at_all(host):
    import PyTorchUtils

    from Testing.slicerhost.versions import without_modules

    logic = PyTorchUtils.PyTorchUtilsLogic()
    host.answer("PyTorchUtils.torchInstalled", False)
    assert logic.torchInstalled() is False
    assert logic.installTorch(askConfirmation=True, torchVersionRequirement=">=2.1") is None
    assert host.calls_of("PyTorchUtils.installTorch")[0].keywords["torchVersionRequirement"] == ">=2.1"
    with without_modules("PyTorchUtils"), pytest.raises(ImportError):
        import PyTorchUtils
    assert sys.modules["PyTorchUtils"].PyTorchUtilsLogic is type(logic)


def test_the_watch_sees_what_blocks_the_window(host):
    import qt

    from Testing.slicerhost.event_loop import EventLoopWatch

    done = []
    with EventLoopWatch() as watch:
        qt.QTimer.singleShot(10, lambda: (time.sleep(0.2), done.append(True)))
        watch.until(lambda: done)
    assert 200 <= watch.longest_ms < 400
    with EventLoopWatch() as watch:
        for _ in range(20):
            qt.QTimer.singleShot(0, lambda: time.sleep(0.01))
            watch.step()
    assert 10 <= watch.longest_ms < 100


def test_waiting_ends(host):
    from Testing.slicerhost.event_loop import wait_until

    with pytest.raises(TimeoutError, match="did not hold"):
        wait_until(lambda: False, timeout_s=0.05)
