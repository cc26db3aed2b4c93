"""The session behind placing lesions: previews, stale results, accept, undo, redo, removal, and nothing left behind."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import slicer
from scene_state import segment_ids, state, table_cells, voxels

from PASTALib.cases import read_case
from PASTALib.errors import InputError
from PASTALib.mrml.inputs import SessionInputs
from PASTALib.mrml.segmentations import new_segmentation_node, read_segment
from PASTALib.mrml.session import SynthesisSession
from PASTALib.progress import Cancelled
from PASTALib.synthesis.spec import LesionRequest

SIZE = (20.0, 20.0, 20.0)


@pytest.fixture
def liver(phantom_enhanced, deep_point):
    """Function: seed, request fields -> request for a tumor in the liver; ``number`` chooses the place."""

    def make(seed=1, number=0, **fields):
        at = deep_point(phantom_enhanced.organs, "liver", number)
        return LesionRequest("liver_tumor", seed=seed, at_ras=at, **{"size_mm": SIZE, **fields})

    return make


# --- preview -----------------------------------------------------------------------------------------------------


def test_a_preview_changes_its_region_only(new_session, phantom_enhanced, liver):
    session = new_session()
    result = session.preview(liver())
    original, now = phantom_enhanced.ct.array, voxels(session.nodes.output)
    allowed = np.zeros(original.shape, bool)
    allowed[result.region] = result.changed
    assert np.array_equal(now[~allowed], original[~allowed])
    assert (now != original).any()
    assert np.array_equal(now[result.region], result.after.astype(np.int16))
    assert np.array_equal(voxels(session.nodes.ct), original), "the user's CT is never touched"
    assert np.array_equal(session.scan.ct.array, original), "a preview is not part of the scan"
    (identifier,) = segment_ids(session)
    label = np.zeros(original.shape, bool)
    label[result.region] = result.label
    assert np.array_equal(read_segment(session.nodes.segmentation, identifier, session.scan.ct), label)
    assert session.nodes.segmentation.GetSegmentation().GetSegment(identifier).GetName() == "Liver tumor 1"
    assert session.nodes.output.GetName() == "CT + lesions"


def test_a_new_preview_restores_the_one_before(new_session, phantom_enhanced, liver, deep_point):
    session = new_session()
    session.preview(liver(number=0))
    kidney = LesionRequest("kidney_cyst", seed=2, at_ras=deep_point(phantom_enhanced.organs, "kidney"))
    result = session.preview(kidney)
    expected = phantom_enhanced.ct.array.copy()
    expected[result.region][result.changed] = result.after[result.changed]
    assert voxels(session.nodes.output).tobytes() == expected.tobytes()
    assert len(segment_ids(session)) == 1
    segment = session.nodes.segmentation.GetSegmentation().GetNthSegment(0)
    assert segment.GetName() == "Kidney cyst 1" and "Cyst of kidney" in segment.GetTerminology()
    session.discard()
    assert voxels(session.nodes.output).tobytes() == phantom_enhanced.ct.array.tobytes()
    assert not segment_ids(session) and session.current is None


def test_the_same_request_gives_the_same_bytes(new_session, liver):
    session = new_session()
    first = session.preview(liver())
    session.preview(liver(seed=5))
    again = session.preview(liver())
    assert first.after.tobytes() == again.after.tobytes() and first.region == again.region


def test_another_one_is_another_at_the_same_place(new_session, liver):
    session = new_session()
    with pytest.raises(InputError, match="no lesion to make another"):
        session.another()
    first = session.preview(liver())
    second = session.another()
    assert second.request.seed == first.request.seed + 1
    assert session.last_request == replace(liver(), seed=2)
    assert first.after.shape != second.after.shape or not np.array_equal(first.after, second.after)


def test_an_impossible_request_leaves_the_lesion_before(new_session, liver):
    session = new_session()
    session.preview(liver())
    before = state(session)
    with pytest.raises(InputError, match="too big"):
        session.preview(liver(size_mm=(240.0, 240.0, 240.0)))
    assert state(session) == before


def test_a_draft_is_the_first_try(new_session, liver):
    session = new_session()
    request = liver(attributes={"shape": "Round-like"}, seed=3)
    draft = session.draft(request)
    assert session.show(draft) and session.current.is_draft
    with pytest.raises(InputError, match="still being measured"):
        session.accept()
    from PASTALib.synthesis.generator import synthesise

    result = synthesise(session.scan, request)
    assert result.tries == 1
    assert draft.region == result.region and np.array_equal(draft.label, result.label)
    assert np.array_equal(draft.after, result.after)
    session.show(result)
    session.accept()
    assert len(segment_ids(session)) == 1


def test_work_in_a_thread(new_session, liver):
    session = new_session()
    token, found = session.begin(), []
    worker = threading.Thread(target=lambda: found.append(session.compute(liver())))
    worker.start()
    worker.join()
    assert session.show(found[0], token)


# --- stale results and refinement --------------------------------------------------------------------------------


def test_what_is_stale_is_dropped(new_session, liver):
    session = new_session()
    token = session.begin()
    result = session.compute(liver())
    newer = session.begin()
    before = state(session)
    assert not session.show(result, token)
    assert state(session) == before
    assert session.show(result, newer)
    session.begin()
    shown = state(session)
    assert not session.show_step(result.after + 50, newer)
    assert not session.refined(replace(result, after=result.after + 50), newer)
    assert state(session) == shown


@pytest.mark.parametrize("end", ["accept", "discard", "undo"])
def test_refinement_shows_steps_and_ends(new_session, phantom_enhanced, liver, end):
    session = new_session()
    result = session.preview(liver())
    token = session.begin()
    assert session.show_step(result.after + 30, token)
    now = voxels(session.nodes.output)[result.region]
    assert np.array_equal(now[result.changed], (result.after + 30)[result.changed])
    assert np.array_equal(now[~result.changed], result.before[~result.changed])
    refined = replace(result, after=np.where(result.changed, result.after + 7, result.after))
    assert session.refined(refined, token)
    assert np.array_equal(voxels(session.nodes.output)[result.region], refined.after.astype(np.int16))
    session.show_step(result.after - 99, token)
    getattr(session, end)()
    if end == "accept":
        assert np.array_equal(voxels(session.nodes.output)[result.region], refined.after.astype(np.int16))
        assert session.lesions[0].result is refined
    else:
        assert voxels(session.nodes.output).tobytes() == phantom_enhanced.ct.array.tobytes()


def test_a_cancelled_refinement_settles(new_session, liver):
    session = new_session()
    session.preview(liver())
    shown = state(session)
    session.show_step(session.current.result.after + 40)
    session.settle()
    assert state(session) == shown


def test_a_refinement_of_another_lesion_is_refused(new_session, liver):
    session = new_session()
    other = session.compute(liver(seed=9, number=3))
    session.preview(liver())
    shown = state(session)
    assert not session.refined(other) and not session.show_step(np.zeros((2, 2, 2)))
    assert state(session) == shown


# --- accept, undo, redo, remove ----------------------------------------------------------------------------------


def fill(session, liver, deep_point, phantom, states=None):
    """Three accepted lesions, the second with a mass effect; ``states`` gets the state before each step."""
    states = [] if states is None else states
    requests = (
        liver(number=0, size_mm=(14.0, 14.0, 14.0)),
        LesionRequest("kidney_tumor", seed=4, at_ras=deep_point(phantom.organs, "kidney"), mass_effect_mm=3.0),
        LesionRequest("liver_cyst", seed=6, size_mm=(12.0, 12.0, 12.0)),
    )
    for request in requests:
        session.preview(request)
        states.append(state(session))
        session.accept()
    return states


def test_accepted_lesions_are_part_of_the_scan(new_session, liver, deep_point, phantom_enhanced):
    session = new_session()
    fill(session, liver, deep_point, phantom_enhanced)
    assert np.array_equal(session.scan.ct.array, voxels(session.nodes.output))
    assert [item.name for item in session.lesions] == ["Liver tumor 1", "Kidney tumor 1", "Liver cyst 1"]
    assert [row[0] for row in table_cells(session)] == [item.name for item in session.lesions]
    assert len(session.reports()) == 3 and "Kidney tumor 1" in session.report_text()
    labels = session.scan.lesion_labels() > 0
    union = np.zeros_like(labels)
    for identifier in segment_ids(session):
        mask = read_segment(session.nodes.segmentation, identifier, session.scan.ct)
        assert not (union & mask).any(), "lesions never overlap"
        union |= mask
    assert np.array_equal(union, labels)


def test_undo_and_redo_bring_every_state_back(new_session, liver, deep_point, phantom_enhanced):
    session = new_session()
    empty = state(session)
    fill(session, liver, deep_point, phantom_enhanced)
    third = session.preview(liver(number=5, seed=8, size_mm=(10.0, 10.0, 10.0)))
    assert third is session.current.result
    texts, states = [], [state(session)]
    while text := session.undo():
        texts.append(text)
        states.append(state(session))
    assert texts == ["place Liver tumor 2", "accept Liver cyst 1", "accept Kidney tumor 1", "accept Liver tumor 1"]
    assert states[-1] == empty
    for wanted, text in zip(states[-2::-1], texts[::-1]):
        assert session.redo_text == text
        assert session.redo() == text
        assert state(session) == wanted
    assert session.redo() == "" and session.current.result is third


def test_any_lesion_can_be_removed_and_brought_back(new_session, liver, deep_point, phantom_enhanced):
    session = new_session()
    fill(session, liver, deep_point, phantom_enhanced)
    full = state(session)
    session.remove(0)
    assert [item.name for item in session.lesions] == ["Kidney tumor 1", "Liver cyst 1"]
    assert np.array_equal(session.scan.ct.array, voxels(session.nodes.output))
    without = state(session)
    assert session.undo() == "remove Liver tumor 1"
    assert state(session) == full
    assert session.redo() == "remove Liver tumor 1"
    assert state(session) == without
    session.undo()
    for text in ("accept Liver cyst 1", "accept Kidney tumor 1", "accept Liver tumor 1"):
        assert session.undo() == text
    assert voxels(session.nodes.output).tobytes() == phantom_enhanced.ct.array.tobytes()
    assert session.scan.organs.labels.array.tobytes() == phantom_enhanced.organs.labels.array.tobytes()


def test_a_lesion_under_another_is_not_removed_alone(new_session, liver):
    session = new_session()
    first = session.preview(liver(size_mm=(12.0, 12.0, 12.0)))
    session.accept()
    near = np.array(first.center_ras) + (0, 0, 24)
    session.preview(LesionRequest("liver_cyst", seed=2, at_ras=tuple(near), size_mm=(10.0,) * 3, mass_effect_mm=3.0))
    session.accept()
    full = state(session)
    with pytest.raises(InputError, match="Liver cyst 1 lies on what Liver tumor 1 changed"):
        session.remove(0)
    assert state(session) == full
    session.preview(liver(number=11, size_mm=(8.0, 8.0, 8.0)))
    with pytest.raises(InputError, match="being edited"):
        session.remove(1)


def test_a_new_lesion_ends_redo(new_session, liver):
    session = new_session()
    session.preview(liver())
    session.accept()
    session.undo()
    assert session.redo_text == "accept Liver tumor 1"
    session.preview(liver(seed=4))
    assert session.redo_text == ""


def test_nothing_to_accept(new_session):
    session = new_session()
    with pytest.raises(InputError, match="click in a slice"):
        session.accept()
    assert session.undo() == session.redo() == ""


def test_before_and_after(new_session, liver, deep_point, phantom_enhanced):
    session = new_session()
    fill(session, liver, deep_point, phantom_enhanced)
    session.preview(liver(number=5, seed=8, size_mm=(10.0, 10.0, 10.0)))
    shown = state(session)
    session.show_before(True)
    assert session.before and voxels(session.nodes.output).tobytes() == phantom_enhanced.ct.array.tobytes()
    step = session.current.result.after + 5
    assert session.show_step(step), "a refinement goes on unseen"
    assert voxels(session.nodes.output).tobytes() == phantom_enhanced.ct.array.tobytes()
    session.show_before(False)
    assert state(session) == shown
    session.show_before(True)
    session.accept()
    assert not session.before and voxels(session.nodes.output).tobytes() == shown[0]


def test_a_segment_deleted_by_hand_does_no_harm(new_session, liver):
    session = new_session()
    session.preview(liver())
    session.nodes.segmentation.GetSegmentation().RemoveAllSegments()
    session.preview(liver(seed=2))
    session.accept()
    session.nodes.segmentation.GetSegmentation().RemoveAllSegments()
    session.undo()
    session.redo()
    assert len(segment_ids(session)) == 1


def test_a_ct_of_fractions_keeps_its_bits(new_session, phantom_enhanced, liver):
    ct = phantom_enhanced.ct
    floats = replace(ct, array=ct.array + np.random.default_rng(0).random(ct.array.shape, np.float32) * 0.9)
    session = new_session(floats)
    output = voxels(session.nodes.output)
    assert output.dtype == np.float32 and output.tobytes() == floats.array.tobytes()
    result = session.preview(liver())
    outside = np.ones(ct.array.shape, bool)
    outside[result.region] = ~result.changed
    assert np.array_equal(output[outside], floats.array[outside])
    session.accept()
    session.undo()
    assert output.tobytes() == floats.array.tobytes()


# --- nothing left ------------------------------------------------------------------------------------------------


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def test_fifty_cycles_leave_nothing(new_session, liver):
    session = new_session()
    result, clean = session.compute(liver()), state(session)
    count, used = None, 0.0
    for number in range(50):
        session.show(result)
        if number % 2:
            session.accept()
        session.undo()
        if number == 5:
            gc.collect()
            count, used = slicer.mrmlScene.GetNumberOfNodes(), resident_mb()
    gc.collect()
    assert state(session) == clean
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert resident_mb() <= 1.05 * used


def test_discarding_all_leaves_no_node(new_session, liver, tmp_path, scene):
    session = new_session()
    made = (session.nodes.output, session.nodes.segmentation, session.nodes.table, session.nodes.state)
    session.preview(liver())
    session.accept()
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))  # gives every node a storage node
    every = {scene.GetNthNode(i).GetID() for i in range(scene.GetNumberOfNodes())}
    helpers = [node.GetStorageNode().GetID() for node in made]
    helpers += [node.GetDisplayNode().GetID() for node in made[:2]]
    wanted = every - {node.GetID() for node in made} - set(helpers)
    session.discard_all()
    assert {scene.GetNthNode(i).GetID() for i in range(scene.GetNumberOfNodes())} == wanted


def test_nodes_deleted_by_the_user_are_named(new_session, liver, scene):
    session = new_session()
    result = session.preview(liver())
    scene.RemoveNode(session.nodes.output)
    for action in (session.accept, session.undo, lambda: session.show(result), session.discard):
        with pytest.raises(InputError, match=r"CT \+ lesions: no longer in the scene"):
            action()


@pytest.mark.parametrize("what", ["organs", "non-linear", "4D", "cancelled"])
def test_a_session_that_cannot_start_leaves_the_scene(
    what, ct_node, organs_node, phantom_enhanced, bent_transform, scene
):
    ct, organs = ct_node(phantom_enhanced.ct), organs_node(phantom_enhanced.organs)
    progress, expected, text = None, InputError, "no segments"
    if what == "organs":
        organs = new_segmentation_node(ct, "empty")
    elif what == "non-linear":
        bent_transform(ct)
        text = "harden the transform"
    elif what == "4D":
        ct.GetImageData().AllocateScalars(4, 3)
        text = "3 values per voxel"
    else:
        expected, text = Cancelled, None

        def progress(step, of, said):
            if step > 30:
                raise Cancelled

    count = scene.GetNumberOfNodes()
    with pytest.raises(expected, match=text):
        SynthesisSession.create(ct, organs, **({"progress": progress} if progress else {}))
    assert scene.GetNumberOfNodes() == count


def test_progress_is_told(ct_node, organs_node, phantom_enhanced):
    inputs = SessionInputs(ct_node(phantom_enhanced.ct), organs_node(phantom_enhanced.organs))
    told = []
    worker = threading.Thread(target=inputs.run, args=(lambda *step: told.append(step),))
    worker.start()
    worker.join()
    steps = [step for step, of, _ in told]
    assert steps == sorted(steps) and steps[-1] == 100 and {of for _, of, _ in told} == {100}
    assert SynthesisSession(inputs).scan is inputs.scan


def test_a_case_is_exported(new_session, liver, deep_point, phantom_enhanced, tmp_path):
    session = new_session()
    with pytest.raises(InputError, match="no lesion has been accepted"):
        session.export_case(tmp_path, "0001")
    fill(session, liver, deep_point, phantom_enhanced)
    folder = session.export_case(tmp_path, "0001")
    assert folder == tmp_path / "Liver" / "Tumor" / "0001"
    case = read_case(folder)
    assert np.array_equal(case.ct.array, voxels(session.nodes.output))
    assert case.reports == session.reports()
    assert np.array_equal(case.instances.array > 0, session.scan.lesion_labels() > 0)
    assert case.record["source"]["ct"] == "CT"
    assert "Not for diagnosis" in (folder / "report.txt").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="exists already"):
        session.export_case(tmp_path, "0001")
