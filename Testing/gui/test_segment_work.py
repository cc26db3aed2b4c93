"""From a model's labels to what the scene gets, with replies made up here: specks, many lesions, classes of other models."""

from __future__ import annotations

import numpy as np
import pytest

from PASTALib import taxonomy
from PASTALib.worker import jobs
from PASTALib.worker.warm import WarmState

NAMES = {item.value: item.key for item in (*taxonomy.ORGANS, *taxonomy.LESIONS)}
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


class Scan:
    """What the steps need of ``NodeImage``."""

    def __init__(self, shape):
        self.shape = shape

    def volume(self):
        from PASTALib.volume import Volume

        return Volume(np.zeros(self.shape, np.int16), AFFINE, {"notes": []})


def go(labels: np.ndarray, names=NAMES, request=None, **told):
    """Drive the steps by hand: ``labels`` is the model's answer, the job "findings" is the real one. (result, jobs asked for)."""
    from PASTALib.gui.jobs import InThread
    from PASTALib.gui.segment_work import SegmentRequest, segment_steps

    steps = segment_steps(request or SegmentRequest(Scan(labels.shape), "m"))
    answer, asked = None, []
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value, asked
        if isinstance(step, InThread):
            answer = step.work(lambda *_: None)
            continue
        asked.append(step)
        if step.name == "segment":
            about = {"names": {str(v): n for v, n in names.items()}, "model": "m", "trained": True, "notes": []}
            answer = about | told, {"labels": labels}
        else:
            answer = jobs.JOBS[step.name](dict(step.params), dict(step.arrays), lambda *_: None, WarmState())


@pytest.fixture
def liver(host):
    """Labels of 1 mm: a liver with a tumour of 6 mm and a speck of one voxel."""
    labels = np.zeros((20, 24, 28), np.uint8)
    labels[2:18, 2:22, 2:26] = 2
    labels[5:11, 5:11, 5:11] = 12
    labels[14, 18, 20] = 12
    return labels


def test_specks_become_their_organ(liver):
    result, _ = go(liver)
    assert [item.lesion for item in result.findings] == ["liver_tumor"] and len(result.parts.lesions) == 1
    assert dict((name, ml) for name, _kind, ml in result.volumes) == {
        "Liver": round((16 * 20 * 24 - 216) / 1000, 2), "Liver tumor": 0.22,
    }  # fmt: skip
    assert any("below 3 mm" in note for note in result.notes)
    assert liver[14, 18, 20] == 12  # the model's answer itself stays


def test_beyond_the_most_lesions_the_rest_is_one_part(liver, monkeypatch):
    from PASTALib.gui import segment_work

    monkeypatch.setattr(segment_work, "MOST_LESIONS", 2)
    for k in range(3):
        liver[13:17, 4 + 6 * k : 8 + 6 * k, 14:18] = 12
    result, _ = go(liver)
    assert len(result.findings) == 2 and len(result.parts.lesions) == 3
    rest = result.parts.lesions[-1]
    assert rest.key == "liver_tumor" and rest.mask.sum() == 2 * 64 + 1  # the speck is part of the rest
    assert any(note.startswith("3 more lesions are not listed") for note in result.notes)


def test_a_model_with_numbers_and_classes_of_its_own(liver):
    other = np.zeros_like(liver)
    other[liver == 2], other[liver == 12] = 7, 3
    other[0, :4, :5] = 9
    names = {7: "liver", 3: "liver_tumor", 9: "spleen", 8: "duodenum"}
    result, asked = go(other, names)
    assert result.parts.keys == ("liver",) and [part.key for part in result.parts.lesions] == ["liver_tumor"]
    (spleen,) = result.others
    assert (spleen.name, spleen.slices, bool(spleen.mask.all())) == (
        "spleen", (slice(0, 1), slice(0, 4), slice(0, 5)), True,
    )  # fmt: skip
    assert ("spleen", "other", 0.02) in result.volumes
    assert set(np.unique(asked[1].arrays["mask"])) == {0, 2, 12}


def test_nothing_found_is_a_result(host):
    result, _ = go(np.zeros((8, 8, 8), np.uint8))
    assert result.findings == [] and result.parts.organs is None and result.volumes == []


def test_what_the_worker_is_asked(liver):
    from PASTALib.gui.segment_work import SegmentRequest

    _, (first, second) = go(liver, request=SegmentRequest(Scan(liver.shape), "some-model", "cuda"))
    assert (first.name, first.params["model"], first.params["device"]) == ("segment", "some-model", "cuda")
    assert set(first.arrays) == {"ct"} and first.arrays["ct"].dtype == np.int16
    np.testing.assert_array_equal(first.params["affine"], AFFINE)
    assert second.name == "findings" and second.params["measure"] is False
