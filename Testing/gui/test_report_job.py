"""The worker's job "findings", and the report as a reader changes it: no widgets, no nodes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.findings import AttributePrediction, LesionMask, complete, find_lesions
from PASTALib.progress import Cancelled, silent
from PASTALib.reporting.document import ModelFacts, ReportDocument
from PASTALib.volume import Volume
from PASTALib.worker import jobs, protocol
from PASTALib.worker.find import largest_parts, split_masks
from PASTALib.worker.warm import WarmState

TYPES = {str(item.value): item.key for item in taxonomy.LESIONS}
CREATED = "2025-03-04T10:20:00+00:00"


@pytest.fixture(scope="module")
def scan(phantom_enhanced):
    """CT, PASTA labels with two dark balls in the liver, organ map."""
    organs = phantom_enhanced.organs
    labels, array = organs.labels.array.copy(), phantom_enhanced.ct.array.copy()
    liver = np.argwhere(labels == 2)
    middle = liver[len(liver) // 2]
    grid = np.indices(labels.shape).transpose(1, 2, 3, 0)
    for shift, radius in ((0, 12), (10, 7)):
        ball = (((grid - middle - (0, 0, shift)) * 4.0) ** 2).sum(-1) <= radius**2
        labels[ball] = 12
        array[ball] -= 40
    return Volume(array, phantom_enhanced.ct.affine, {"source": "scan.nii.gz"}), labels, organs


def run(scan, progress=silent, **changes):
    ct, labels, organs = scan
    arrays = {"ct": ct.array, "mask": labels, "organs": organs.labels.array, "structures": organs.structures.array}
    params = {
        "affine": ct.affine, "types": TYPES, "meta": ct.meta, "scheme": organs.scheme, "created": CREATED, "mask_name": "m",
        "structure_names": {str(value): name for value, name in organs.structure_names.items()},
    }  # fmt: skip
    for key, value in changes.items():
        target = arrays if key in ("mask", "organs", "structures") else params
        if value is None:
            target.pop(key)
        else:
            target[key] = value
    told, out = jobs.JOBS["findings"](json.loads(protocol.encode(params)), arrays, progress, WarmState())
    return json.loads(protocol.encode(told)), out


def test_the_job_finds_what_the_library_finds(scan):
    ct, labels, organs = scan
    told, out = run(scan)
    found = split_masks(ReportDocument.from_json(told["document"]), out["masks"])
    there = find_lesions(ct, LesionMask.of_pasta_labels(Volume(labels, ct.affine)), organs=organs)
    assert len(found.findings) == 2 and told["left_out"] == 0
    for mine, wanted in zip(found.findings, there, strict=True):
        assert mine.box == wanted.box and (mine.mask == wanted.mask).all()
        assert mine.volume_ml == pytest.approx(wanted.volume_ml)
        assert mine.report.options == wanted.report.options
        assert mine.measured.options == wanted.measured.options
    assert (found.created, found.mask, found.scan.source) == (CREATED, "m", "scan.nii.gz")
    assert found.scan.phase.value == taxonomy.ENHANCED


def test_without_measuring_place_and_size_are_told_all_the_same(scan):
    told, _ = run(scan, measure=False, organs=scan[1], structures=None)
    item = ReportDocument.from_json(told["document"]).findings[0]
    assert item.measured is None and item.place == "Liver" and item.report.value("size")
    assert item.report.value("enhancement") is None


def test_without_organs(scan):
    told, out = run(scan, organs=None, structures=None)
    assert all(item["measured"] is None for item in told["document"]["findings"])
    assert out["masks"].sum() == (scan[1] == 12).sum()


def test_only_the_largest(scan):
    told, out = run(scan, most=1)
    assert told["left_out"] == 1 and len(told["document"]["findings"]) == 1
    both, _ = run(scan)
    assert told["document"]["findings"][0]["volume_ml"] == both["document"]["findings"][0]["volume_ml"]
    labels = np.zeros((3, 9, 9), np.uint8)
    labels[:, :2, :2], labels[0, 4, :3], labels[2, 7, 7], labels[1, 5:9, 0:2] = 11, 11, 12, 5
    kept, left_out = largest_parts(labels, {11: "lung_tumor", 12: "liver_tumor"}, 1)
    assert left_out == 2 and (kept[:, :2, :2] == 11).all() and kept.sum() == 11 * 12
    assert largest_parts(labels, {11: "lung_tumor"}, None)[0] is labels


def test_no_lesion_is_a_report_too(scan):
    told, out = run(scan, mask=np.zeros_like(scan[1]))
    assert told["document"]["findings"] == [] and out["masks"].size == 0
    assert split_masks(ReportDocument.from_json(told["document"]), out["masks"]).findings == []


def test_bad_requests(scan):
    with pytest.raises(InputError, match="types is missing"):
        run(scan, types=None)
    with pytest.raises(InputError, match=r"wanted the mask with the scan's shape .*found none"):
        run(scan, mask=None)
    with pytest.raises(InputError, match=r"found \(2, 2, 2\)"):
        run(scan, mask=np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(InputError, match="unknown setting device"):
        run(scan, device="cpu")


def test_cancel(scan):
    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        run(scan, progress=stop)


# --- the reader's changes ----------------------------------------------------------------------------------------------


@pytest.fixture
def state(host, scan):
    from PASTALib.gui.report_state import ReportState

    told, out = run(scan)
    return ReportState(split_masks(ReportDocument.from_json(told["document"]), out["masks"]))


def predicted(state, trained: bool):
    from PASTALib.attributes import LEARNED, TABLE
    from PASTALib.gui.report_state import ReportState

    table = {key: {o: float(o == TABLE[key].options[-1]) for o in TABLE[key].options} for key in LEARNED}
    findings = [complete(item, AttributePrediction(table, "net", trained)) for item in state.found.findings]
    return ReportState(replace(state.found, findings=findings, model=ModelFacts("net", "", trained)))


def test_edits_are_marked_and_leave_the_rest_alone(state):
    before = state.document().to_json()
    state.edit(0, "density", "hyperdense")
    state.edit(0, "size", "3x4x5 cm")
    state.edit(1, "enhancement", "Plain CT")
    values = state.document().findings[0].report.values
    assert (values["density"].value, values["density"].basis) == ("Hyperdense", "edited")
    assert (values["size"].value, values["size"].basis) == ("30×40×50 mm", "edited")
    assert values["shape"].basis == "measured"
    assert state.found.findings[0].report.value("density") == "Hypodense"
    state.edit(0, "density", "Hypodense")  # what was measured: no edit
    state.take_back(0, "size")
    state.take_back(1, "enhancement")
    state.take_back(1, "enhancement")  # twice does no harm
    assert state.document().to_json() == before and state.edits == [{}, {}]
    with pytest.raises(InputError, match="not known"):
        state.edit(0, "density", "dense")
    with pytest.raises(InputError, match="follows from"):
        state.edit(0, "location", "Kidney")


def test_text_gives_everything_back(state):
    from PASTALib.gui.report_state import ReportState

    state.edit(1, "surface", "Ill-defined margin")
    again = ReportState.from_json(state.to_json())
    assert again.document().to_json() == state.document().to_json() and again.edits == state.edits
    for mine, theirs in zip(state.found.findings, again.found.findings, strict=True):
        assert theirs.mask.dtype == bool and (mine.mask == theirs.mask).all()
    assert len(state.to_json()) < 40_000


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("masks"),
        lambda data: data.update(schema="other"),
        lambda data: data.update(version=2),
        lambda data: data["masks"].pop(),
        lambda data: data["masks"].__setitem__(0, "eJwDAAAAAAE="),
        lambda data: data["edits"].pop(),
        lambda data: data["edits"].__setitem__(0, {"shape": "odd"}),
        lambda data: data["document"].pop("findings"),
    ],
)
def test_damaged_text_is_refused(state, change):
    from PASTALib.gui.report_state import ReportState

    data = json.loads(state.to_json())
    change(data)
    with pytest.raises(InputError):
        ReportState.from_json(json.dumps(data))


def test_edits_go_over_to_lesions_that_are_still_there(state, scan):
    from PASTALib.gui.report_state import ReportState

    state.edit(0, "shape", "Irregular")
    state.edit(1, "surface", "Ill-defined margin")
    told, out = run(scan, most=1)  # the second is gone
    fresh = ReportState(split_masks(ReportDocument.from_json(told["document"]), out["masks"]))
    assert fresh.keep_edits_of(state) == 1 and fresh.edits == [{"shape": "Irregular"}]
    other_type = replace(fresh.found, findings=[replace(item, lesion="liver_cyst") for item in fresh.found.findings])
    assert ReportState(other_type).keep_edits_of(state) == 0


def test_random_weights_do_not_reach_an_archive_but_edits_do(state):
    from PASTALib.gui.report_state import evidence

    random = predicted(state, trained=False)
    random.edit(0, "density", "Isodense")
    archived = random.archive_document()
    assert archived.model is None and not archived.untrained
    values = archived.findings[0].report.values
    assert (values["density"].value, values["density"].basis) == ("Isodense", "edited")
    assert {values[key].basis for key in ("shape", "surface")} == {"measured"}
    assert random.document().untrained and evidence(random.shown(0), "shape")[1][2] is False
    trained = predicted(state, trained=True)
    assert trained.archive_document().findings[0].report.values["shape"].basis == "predicted"


def test_points_in_the_scans_own_space(state):
    from PASTALib.gui.report_state import in_own_space

    turn = np.eye(4)
    turn[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    turn[:3, 3] = (5, 6, 7)
    moved = in_own_space(state.document(), turn)
    for mine, theirs in zip(state.found.findings, moved.findings):
        np.testing.assert_allclose(theirs.centre_ras, (turn @ [*mine.centre_ras, 1])[:3])
        assert theirs.long_axis.length_mm == pytest.approx(mine.long_axis.length_mm)
    with pytest.raises(InputError, match="scales or shears"):
        in_own_space(state.document(), np.diag([1.0, 1.0, 1.1, 1.0]))
