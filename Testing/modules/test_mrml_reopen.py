"""A scene is saved as .mrb, loaded again, and the session goes on: undo of accepted lesions, new ones, the one being edited."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import slicer
from scene_state import segment_ids, state, voxels

from PASTALib.errors import InputError
from PASTALib.mrml import result_codec
from PASTALib.mrml.session import SynthesisSession
from PASTALib.mrml.session_nodes import sessions_in
from PASTALib.mrml.volumes import array_of
from PASTALib.synthesis.spec import LesionRequest

SIZE = (20.0, 20.0, 20.0)
TURN = np.array([[0.8, -0.6, 0, 120.0], [0.6, 0.8, 0, -70.0], [0, 0, 1, 300.0], [0, 0, 0, 1]])


@pytest.fixture
def requests(phantom_enhanced, deep_point):
    organs = phantom_enhanced.organs
    return [
        LesionRequest("liver_tumor", seed=1, at_ras=deep_point(organs, "liver"), size_mm=SIZE),
        LesionRequest("kidney_tumor", seed=4, at_ras=deep_point(organs, "kidney"), mass_effect_mm=3.0),
        LesionRequest("liver_cyst", seed=6, size_mm=(12.0, 12.0, 12.0)),
    ]


def reload(session, path):
    """Save the scene, close it, load it, reopen the only session in it."""
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    assert not sessions_in(slicer.mrmlScene)
    slicer.util.loadScene(str(path))
    (output,) = sessions_in(slicer.mrmlScene)
    return SynthesisSession.reopen(output)


def placed(new_session, requests, accept, **kwargs):
    session = new_session(**kwargs)
    for number, request in enumerate(requests):
        session.preview(replace(request, at_ras=request.at_ras and session.place(request.at_ras)))
        if number < accept:
            session.accept()
    return session


@pytest.mark.parametrize("accept", [2, 3])
def test_the_session_goes_on(new_session, requests, phantom_enhanced, tmp_path, accept):
    session = placed(new_session, requests, accept)
    before = state(session)
    results = [item.result for item in session.lesions]
    again = reload(session, tmp_path / "scene.mrb")
    assert state(again) == before
    assert [item.name for item in again.lesions] == [item.name for item in session.lesions]
    for was, now in zip(results, (item.result for item in again.lesions)):
        assert (
            now.report == was.report and now.request == was.request and now.measurement.values == was.measurement.values
        )
        for name in ("before", "after", "label", "organ", "changed", "moved_labels"):
            assert np.array_equal(getattr(now, name), getattr(was, name)), name
    assert again.nodes.segmentation.GetSegmentation().GetNumberOfLayers() == 3, "saving had put them into one"
    if accept == 2:
        assert again.current.asked == requests[2] == again.last_request
        again.accept()
    else:
        assert again.current is None
    full = state(again)
    texts = [again.undo() for _ in range(4)]
    assert texts == ["accept Liver cyst 1", "accept Kidney tumor 1", "accept Liver tumor 1", ""]
    assert [again.redo() for _ in range(4)] == [*texts[2::-1], ""]
    assert state(again) == full
    for _ in range(3):
        again.undo()
    assert voxels(again.nodes.output).tobytes() == phantom_enhanced.ct.array.tobytes()
    assert again.scan.ct.array.tobytes() == phantom_enhanced.ct.array.tobytes()
    assert not segment_ids(again)


def test_new_lesions_see_the_old_ones(new_session, requests, tmp_path):
    session = placed(new_session, requests[:2], 2)
    same = session.compute(requests[2])
    again = reload(session, tmp_path / "scene.mrb")
    result = again.preview(requests[2])
    assert result.region == same.region and result.after.tobytes() == same.after.tobytes()
    again.accept()
    assert len(segment_ids(again)) == 3 and np.array_equal(again.scan.ct.array, voxels(again.nodes.output))


def test_a_draft_is_taken_out(new_session, requests, phantom_enhanced, tmp_path):
    session = new_session()
    session.show(session.draft(requests[0]))
    again = reload(session, tmp_path / "scene.mrb")
    assert again.current is None and not segment_ids(again)
    assert voxels(again.nodes.output).tobytes() == phantom_enhanced.ct.array.tobytes()


def test_under_a_transform_that_changes(new_session, requests, phantom_enhanced, transform_node, tmp_path):
    """Points stay those of the scan as it was prepared; the world of now is asked for clicks."""
    transforms = []

    def move(*nodes):
        transforms.extend(transform_node(node, TURN) for node in nodes)

    session = placed(new_session, [replace(requests[0], at_ras=None)], 1, prepare=move)
    centre = session.lesions[0].result.center_ras
    there = session.world(centre)
    matrix = np.eye(4)
    matrix[:3, 3] = 5
    for transform in transforms:
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix @ TURN))
    again = reload(session, tmp_path / "scene.mrb")
    assert again.lesions[0].result.center_ras == centre
    assert np.allclose(again.world(centre), np.array(there) + 5)
    assert np.allclose(again.place(again.world(centre)), centre)
    again.undo()
    assert voxels(again.nodes.output).tobytes() == phantom_enhanced.ct.array.tobytes()


def test_missing_segments_and_tables_are_made_anew(new_session, requests, scene):
    session = placed(new_session, requests[:1], 1)
    wanted = state(session)
    output = session.nodes.output
    scene.RemoveNode(session.nodes.segmentation)
    scene.RemoveNode(session.nodes.table)
    again = SynthesisSession.reopen(output)
    assert state(again)[0] == wanted[0] and state(again)[2] == wanted[2]
    assert len(segment_ids(again)) == 1


def test_what_cannot_be_reopened_is_said(new_session, requests, scene, ct_node, phantom_enhanced):
    with pytest.raises(InputError, match="no volume that PASTA placed lesions in"):
        SynthesisSession.reopen(ct_node(phantom_enhanced.ct))
    session = placed(new_session, requests[:1], 1)
    output, text = session.nodes.output, session.nodes.state.GetText()
    for damaged, message in (
        ("{", "is damaged"),
        (json.dumps({**json.loads(text), "version": 99}), "version 99; this program reads"),
    ):
        session.nodes.state.SetText(damaged)
        with pytest.raises(InputError, match=message):
            SynthesisSession.reopen(output)
    session.nodes.state.SetText(text)
    array_of(session.nodes.ct)[0, 0, 0] += 1
    with pytest.raises(InputError, match="changed since lesions were placed"):
        SynthesisSession.reopen(output)
    scene.RemoveNode(session.nodes.organs)
    with pytest.raises(InputError, match="the organ map that it was made from is not in the scene"):
        SynthesisSession.reopen(output)


def test_results_survive_as_text(prepared_enhanced):
    from PASTALib.synthesis.generator import synthesise

    result = synthesise(prepared_enhanced, LesionRequest("colorectal_cancer", seed=3, mass_effect_mm=2.0))
    text = result_codec.to_json(result)
    back = result_codec.from_json(json.loads(text), prepared_enhanced.ct.array)
    assert result_codec.to_json(back) == text
    assert np.array_equal(back.after, result.after) and np.array_equal(back.before, result.before)
    assert back.request == result.request and back.report == result.report
