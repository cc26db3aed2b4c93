"""Refinement in the panel: each step appears, an edit drops what is stale, Stop, a worker that dies, no torch; organ maps that are computed."""

from __future__ import annotations

import os
import signal
import sys
import time

import numpy as np
import pytest

from Testing.gui.synth_support import ROOT, add_nodes, hand, segment_centroid, started, voxels  # noqa: F401  fixtures


def with_jobs(opened, jobs: str | None = "Testing.gui.synth_jobs", **environment) -> None:
    """Let the panel work with stand-ins for the networks, or with the real jobs."""
    from PASTALib.worker import Worker

    extra = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    opened.module.widget.jobs._make_worker = lambda python=None: Worker(python, extra, jobs=jobs)


@pytest.fixture
def refining(started, tmp_path):  # noqa: F811
    """The panel with a session, refinement switched on, and stand-ins; ``refining(name)`` chooses weights of that name."""
    with_jobs(started)

    def choose(name: str):
        path = tmp_path / f"{name}.pth"
        path.write_bytes(b"")
        started.ui.weightsPath.currentPath = str(path)
        started.module.press(started.ui.refineBox)
        return started

    return choose


def place(opened, number: int = 0) -> None:
    """Place a lesion, and do not wait for its refinement."""
    from Testing.gui.synth_support import deep_index

    world = opened.world_of(deep_index(opened.session.scan.organs, "liver", number))
    opened.give_size(18.0)
    opened.module.press(opened.ui.placeButton)
    opened.layout["Red"].zoom(160.0)
    opened.layout["Red"].jump_to(world, centre=True)
    opened.layout["Red"].click_ras(world)
    opened.wait(lambda: opened.editor.current is not None and not opened.editor.busy)


def test_each_step_appears_and_the_lesion_stays_what_it_is(refining):
    opened = refining("slow")
    seen = []
    session = opened.session
    show_step = session.show_step
    session.show_step = lambda hu, token=None: seen.append((show_step(hu, token), voxels(session.nodes.output).copy()))
    place(opened)
    plain = opened.editor.current.result
    opened.wait(lambda: opened.editor.refinement.running)
    assert opened.ui.stopButton.enabled
    opened.wait(lambda: "Step" in opened.ui.refinementLabel.text)
    opened.settle()
    assert opened.ui.refinementLabel.text == "Refined." and not opened.ui.stopButton.enabled
    assert len(seen) >= 3 and all(shown for shown, _picture in seen)
    steps = [picture[plain.region][plain.label].mean() for _shown, picture in seen]
    assert steps == sorted(steps) and steps[-1] > steps[0]
    refined = opened.editor.current.result
    assert refined.parameters["refinement"]["applied"] and refined.report == plain.report
    now = voxels(session.nodes.output)
    assert np.array_equal(now[plain.region], refined.after.astype(np.int16))
    outside = np.ones(now.shape, bool)
    outside[plain.region] = ~plain.changed
    assert np.array_equal(now[outside], voxels(session.nodes.ct)[outside])
    opened.module.press_keys("Ctrl+Return")
    assert session.lesions[0].result is refined


def test_an_edit_drops_the_stale_refinement(refining):
    opened = refining("slow")
    place(opened)
    opened.wait(lambda: "Step" in opened.ui.refinementLabel.text)
    opened.module.press(opened.ui.anotherButton)
    opened.wait(lambda: not opened.editor.busy)
    second = opened.editor.current.result
    opened.settle()
    refined = opened.editor.current.result
    assert refined.request == second.request and refined.parameters["refinement"]["applied"]
    now = voxels(opened.session.nodes.output)
    assert np.array_equal(now[refined.region], refined.after.astype(np.int16)), "no voxel of the first one is left"


def test_stop_gives_the_lesion_back_within_a_second(refining):
    opened = refining("slow")
    place(opened)
    plain = opened.editor.current.result
    opened.wait(lambda: "Step" in opened.ui.refinementLabel.text)
    begun = time.monotonic()
    opened.module.press(opened.ui.stopButton)
    opened.wait(lambda: not opened.editor.refinement.running)
    assert time.monotonic() - begun <= 1.0
    assert opened.editor.current.result is plain and "Stopped" in opened.ui.refinementLabel.text
    assert np.array_equal(voxels(opened.session.nodes.output)[plain.region], plain.after.astype(np.int16))


def test_accepting_does_not_wait(refining):
    opened = refining("slow")
    place(opened)
    plain = opened.editor.current.result
    opened.wait(lambda: "Step" in opened.ui.refinementLabel.text)
    opened.module.press_keys("Ctrl+Return")
    assert not opened.editor.refinement.running and opened.session.lesions[0].result is plain
    assert np.array_equal(voxels(opened.session.nodes.output)[plain.region], plain.after.astype(np.int16))


def test_a_worker_that_is_killed(refining):
    opened = refining("slow")
    place(opened)
    plain = opened.editor.current.result
    opened.wait(lambda: "Step" in opened.ui.refinementLabel.text)
    os.kill(opened.module.widget.jobs._running_worker().pid, signal.SIGKILL)
    opened.wait(lambda: not opened.editor.refinement.running)
    assert opened.ui.refinementLabel.text and "Step" not in opened.ui.refinementLabel.text
    assert np.array_equal(voxels(opened.session.nodes.output)[plain.region], plain.after.astype(np.int16))
    opened.module.press(opened.ui.anotherButton)  # the module works on, with a new worker
    opened.settle()
    assert opened.ui.refinementLabel.text == "Refined."


def test_weights_that_are_no_network(refining):
    opened = refining("refuse")
    place(opened)
    opened.settle()
    assert "holds no denoising network" in opened.ui.refinementLabel.text
    opened.module.press_keys("Ctrl+Return")
    assert len(opened.session.lesions) == 1


def test_types_that_are_not_refined(refining):
    opened = refining("slow")
    opened.choose_type("Gallstone")
    opened.place("gallbladder", opened.session.scan.organs)
    assert "denser than anything that the network was trained on" in opened.ui.notesLabel.text


def test_switched_on_for_the_lesion_that_is_there(refining, started):  # noqa: F811
    opened = refining("slow")
    opened.module.press(opened.ui.refineBox)
    place(opened)
    assert not opened.editor.refinement.running
    opened.module.press(opened.ui.refineBox)
    opened.settle()
    assert opened.editor.current.result.parameters["refinement"]["applied"]


def test_with_a_real_network(started, tmp_path):  # noqa: F811
    """Random weights of the usual size, whose steps take long enough to be told: they appear; what contradicts the report is not kept."""
    pytest.importorskip("torch")
    from PASTALib.refinement.checkpoint import random_denoiser, save_denoiser

    with_jobs(started, None)
    path = save_denoiser(random_denoiser(), tmp_path / "random.pth")
    started.ui.weightsPath.currentPath = str(path)
    started.module.press(started.ui.refineBox)
    shown = []
    show_step = started.session.show_step
    started.session.show_step = lambda hu, token=None: shown.append(show_step(hu, token))
    place(started)
    plain = started.editor.current.result
    started.wait(lambda: not started.editor.refinement.running, 120.0)
    assert shown and all(shown), started.ui.refinementLabel.text
    record = started.editor.current.result.parameters["refinement"]
    assert record["model"] == "random" and record["steps"] == 5
    assert started.editor.current.result.report == plain.report


def test_without_torch_lesions_are_placed_all_the_same(started, host, monkeypatch):  # noqa: F811
    from Testing.slicerhost.versions import without_modules

    monkeypatch.setattr("PASTALib.gui.network_panel.find_spec", lambda name: None)
    monkeypatch.setattr("PASTALib.gui.dependencies.find_spec", lambda name: None)
    started.module.press(started.ui.refineBox)
    assert "PyTorch is not here" in started.ui.refinementLabel.text and started.ui.torchButton.visible
    hit, lesion = started.place("liver", started.session.scan.organs)
    assert lesion is not None and not lesion.is_draft
    assert np.linalg.norm(segment_centroid(started.session, lesion.segment_id) - hit) < 60
    started.module.press_keys("Ctrl+Return")
    assert len(started.session.lesions) == 1
    with without_modules("PyTorchUtils"):
        started.module.press(started.ui.torchButton)
    assert "Install the extension PyTorch" in host.texts("error")[0]


def test_weights_that_are_gone(started, tmp_path):  # noqa: F811
    started.ui.weightsPath.currentPath = str(tmp_path / "absent.pth")
    assert "absent.pth is not there" in started.ui.refinementLabel.text


# -- organ maps ---------------------------------------------------------------------------------------------------


@pytest.fixture
def mapless(hand, phantom_enhanced, tmp_path):  # noqa: F811
    """The panel with a CT and no organ map; stand-ins compute one."""
    import slicer

    from PASTALib.gui.settings import set_worker_python

    np.save(tmp_path / "labels.npy", phantom_enhanced.organs.labels.array)
    ct, organs = add_nodes(phantom_enhanced.ct, phantom_enhanced.organs)
    slicer.mrmlScene.RemoveNode(organs)
    opened = hand()
    with_jobs(opened, PASTA_TEST_LABELS=str(tmp_path / "labels.npy"))
    set_worker_python(sys.executable)  # an environment of the user's own: nothing is to be installed
    yield opened
    set_worker_python(None)


@pytest.mark.parametrize("number,kind", [(0, "vtkMRMLLabelMapVolumeNode"), (1, "vtkMRMLSegmentationNode")])
def test_organs_are_computed(mapless, phantom_enhanced, number, kind):
    assert mapless.ui.computeButton.enabled
    mapless.ui.computeButton.menu().actions()[number].trigger()
    mapless.wait(lambda: mapless.parameters.organs is not None)
    assert mapless.ui.organsSelector.currentNode().GetClassName() == kind
    mapless.module.press(mapless.ui.startButton)
    mapless.wait(lambda: mapless.session is not None)
    assert np.array_equal(mapless.session.scan.organs.labels.array, phantom_enhanced.organs.labels.array)
    _hit, lesion = mapless.place("liver", mapless.session.scan.organs)
    assert lesion is not None


def test_computing_organs_is_refused_without_torch(hand, host, phantom_enhanced, monkeypatch):  # noqa: F811
    from Testing.slicerhost.versions import without_modules

    monkeypatch.setattr("PASTALib.gui.dependencies.find_spec", lambda name: None)
    add_nodes(phantom_enhanced.ct, phantom_enhanced.organs)
    opened = hand()
    with without_modules("PyTorchUtils"):
        opened.ui.computeButton.menu().actions()[0].trigger()
    assert "Install the extension PyTorch" in host.texts("error")[0] and not opened.module.widget.scan.bar.running
