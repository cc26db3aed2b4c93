"""What modules need beyond Slicer is asked for when it is needed, on Slicer with and without ``slicer.packaging``, online and offline."""

from __future__ import annotations

import pytest


@pytest.fixture
def settings(host):
    from PASTALib.gui import settings

    yield settings
    settings.set_worker_python(None)
    settings.set_offline(False)
    settings.set_device("auto")


@pytest.fixture
def requirements(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# pictures\nnumpy>=1.0\nsurely-absent-a>=2.1  # one\nsurely-absent-b\n", encoding="utf-8")
    return path


def test_settings_are_kept_and_nonsense_is_not_taken(settings):
    assert (settings.worker_python(), settings.device(), settings.offline()) == (None, "auto", False)
    settings.set_worker_python("/env")
    settings.set_device("cuda")
    settings.set_offline(True)
    assert (settings.worker_python(), settings.device(), settings.offline()) == ("/env", "cuda", True)
    settings.set_device("abacus")
    settings.set_worker_python("")
    assert (settings.worker_python(), settings.device()) == (None, "auto")


# --- packages ----------------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_asked_for(settings, tmp_path, host):
    from PASTALib.gui.dependencies import ensure_packages

    path = tmp_path / "requirements.txt"
    path.write_text("numpy>=1.0\nscipy\n")
    assert ensure_packages(path, "Test")
    assert host.calls_of("pip_ensure") == [] and host.texts("error") == []


def test_versions_are_compared_by_number(host):
    from PASTALib.gui.dependencies import missing

    assert missing(["numpy>=1.9"]) == []  # 1.9 is older than 1.26 and 2.4
    assert missing(["numpy>=1000", "surely-absent"]) == ["numpy>=1000", "surely-absent"]


def test_packaging_is_asked(settings, requirements, host):
    from PASTALib.gui.dependencies import ensure_packages

    assert not ensure_packages(requirements, "Test")  # the host installs nothing, and that is noticed
    (call,) = host.calls_of("pip_ensure")
    assert call.arguments[0] == ["numpy>=1.0", "surely-absent-a>=2.1", "surely-absent-b"]
    assert call.keywords["requester"] == "Test"


def test_only_some_of_the_list(settings, requirements, host):
    from PASTALib.gui.dependencies import ensure_packages

    assert ensure_packages(requirements, "Test", only=("numpy",))
    assert not ensure_packages(requirements, "Test", only=("surely-absent-b",))
    assert host.calls_of("pip_ensure")[0].arguments[0] == ["surely-absent-b"]


def test_a_refusal_is_explained(settings, requirements, host):
    from PASTALib.gui.dependencies import ensure_packages

    host.answer("pip_ensure", RuntimeError("the user said no"))
    assert not ensure_packages(requirements, "Test")
    (text,) = host.texts("error")
    assert "surely-absent-a" in text and "the user said no" in text


def test_before_slicer_packaging(settings, requirements, host):
    import qt

    from PASTALib.gui.dependencies import ensure_packages
    from Testing.slicerhost.versions import slicer_5_10

    with slicer_5_10():
        assert not ensure_packages(requirements, "Test")
        assert host.calls_of("slicer.util.pip_install") == []  # the question was not answered with OK
        host.answer("messageDisplay", qt.QMessageBox.Ok)
        assert not ensure_packages(requirements, "Test")
    (call,) = host.calls_of("slicer.util.pip_install")
    assert call.arguments[0] == ["surely-absent-a>=2.1", "surely-absent-b"]


def test_pip_that_fails_before_slicer_packaging(settings, requirements, host):
    from subprocess import CalledProcessError

    import qt

    from PASTALib.gui.dependencies import ensure_packages
    from Testing.slicerhost.versions import slicer_5_10

    with slicer_5_10():
        host.answer("messageDisplay", qt.QMessageBox.Ok)
        host.answer("slicer.util.pip_install", CalledProcessError(1, "pip"))
        assert not ensure_packages(requirements, "Test")
    assert "cannot go on without" in host.texts("error")[0]


def test_offline_nothing_is_installed(settings, requirements, host):
    from PASTALib.gui.dependencies import ensure_packages

    settings.set_offline(True)
    assert not ensure_packages(requirements, "Test")
    assert host.calls_of("pip_ensure") == [] and "switched off" in host.texts("error")[0]


# --- torch -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_torch():
    from Testing.slicerhost.versions import without_modules

    with without_modules("torch"):
        yield


def test_torch_that_is_there_is_used(settings, host):
    pytest.importorskip("torch")
    from PASTALib.gui.dependencies import ensure_torch

    assert ensure_torch() and host.calls_of("PyTorchUtils.installTorch") == []


def test_an_environment_of_the_users_own_is_enough(settings, no_torch, host):
    from PASTALib.gui.dependencies import ensure_torch

    settings.set_worker_python("/some/environment")
    assert ensure_torch() and host.texts("error") == []


def test_torch_is_installed_through_its_extension(settings, no_torch, host):
    from PASTALib.gui.dependencies import ensure_torch

    for answer in (False, True):
        host.answer("PyTorchUtils.torchInstalled", answer)
    assert ensure_torch()
    (call,) = host.calls_of("PyTorchUtils.installTorch")
    assert call.keywords["askConfirmation"] is True and call.keywords["torchVersionRequirement"] == ">=2.1"


def test_a_user_who_does_not_want_torch(settings, no_torch, host):
    from PASTALib.gui.dependencies import ensure_torch

    for _ in range(2):
        host.answer("PyTorchUtils.torchInstalled", False)
    assert not ensure_torch()


def test_without_the_extension_and_offline_it_is_explained(settings, no_torch, host):
    from PASTALib.gui.dependencies import ensure_torch
    from Testing.slicerhost.versions import without_modules

    with without_modules("PyTorchUtils"):
        assert not ensure_torch()
    settings.set_offline(True)
    assert not ensure_torch()
    first, second = host.texts("error")
    assert "extension PyTorch" in first and "switched off" in second
    assert host.calls_of("PyTorchUtils.installTorch") == []


# --- the section "Networks" ----------------------------------------------------------------------------------------------


@pytest.fixture
def networks(settings, host):
    import qt

    from PASTALib.gui.jobs import Jobs
    from PASTALib.gui.network_panel import NetworkPanel

    widget, jobs = qt.QWidget(), Jobs()
    layout = qt.QVBoxLayout(widget)
    panel = NetworkPanel(layout, jobs)
    widget.show()
    yield panel
    jobs.close()
    widget.hide()


def test_the_section_keeps_settings_and_shows_what_differs(networks, settings, tmp_path):
    assert networks.button.text == "Networks" and networks.button.collapsed
    networks.environment.currentPath = str(tmp_path)
    networks.device.currentIndex = 1
    networks.offline.checked = True
    assert (settings.worker_python(), settings.device(), settings.offline()) == (str(tmp_path), "cpu", True)
    assert networks.button.text == f"Networks: {tmp_path.name}, cpu"
    settings.set_worker_python(None)  # as another module may
    settings.set_device("auto")
    networks.show()
    assert networks.button.text == "Networks" and networks.environment.currentPath == ""


def test_checking_the_environment(networks, settings, tmp_path):
    from Testing.slicerhost.event_loop import wait_until

    networks.ask()
    assert not networks.check.enabled
    wait_until(lambda: networks.check.enabled)
    assert networks.answer.text.startswith("Python 3.") and "torch" in networks.answer.text
    networks.environment.currentPath = str(tmp_path / "nowhere")
    assert networks.answer.text == ""
    networks.ask()
    wait_until(lambda: networks.check.enabled)
    assert "no such Python" in networks.answer.text


def test_the_list_of_models(host, settings, tmp_path):
    import qt

    from PASTALib.gui.network_panel import RANDOM, ModelBox
    from PASTALib.models import list_models

    box, button, chosen = qt.QComboBox(), qt.QToolButton(), []
    models = ModelBox(box, button, chosen.append, without="none")
    names = [model.name for model in list_models()]
    assert [box.itemText(i) for i in range(box.count)] == ["none", *names, "random weights (a dry run)"]
    assert models.first() == ("starter" if "starter" in names else RANDOM)
    models.source = RANDOM
    assert models.source == RANDOM
    weights, folder = tmp_path / "mine.pth", tmp_path / "folder"
    weights.write_bytes(b"")
    folder.mkdir()
    host.answer("QFileDialog.getOpenFileName", str(weights))
    models.browse_file()
    host.answer("QFileDialog.getExistingDirectory", str(folder))
    models.browse_folder()
    models.browse_file()  # cancelled
    assert chosen == [str(weights), str(folder)] and models.source == str(folder)
    weights.unlink()
    models.fill()
    assert models.source == str(folder) and "mine.pth" not in [box.itemText(i) for i in range(box.count)]
