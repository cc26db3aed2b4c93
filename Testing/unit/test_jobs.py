"""The worker's real jobs: what they pass on, what they keep warm, what they refuse; and once through everything with a random network."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from PASTALib.errors import InputError
from PASTALib.findings.model import AttributePrediction
from PASTALib.progress import Cancelled, silent
from PASTALib.volume import Volume
from PASTALib.worker import Worker, jobs, protocol
from PASTALib.worker.warm import WarmState

AFFINE = np.diag([0.8, 0.8, 2.0, 1.0])
CT = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
PROBABILITIES = {"heterogeneity": {"Homogeneous": 0.25, "Heterogeneous": 0.75}}


@dataclass
class Found:
    """What ``segment`` returns, as far as the job knows."""

    labels: Volume
    names: dict[int, str]
    engine: str = "torch-fp32"
    seconds: dict = field(default_factory=lambda: {"windows": np.float32(1.5)})
    notes: list = field(default_factory=list)


class Inference:
    """Stands in for the modules that need torch; remembers how it was called."""

    def __init__(self):
        self.calls, self.loaded = [], []

    def load_model(self, source):
        self.loaded.append(source)
        return SimpleNamespace(card=SimpleNamespace(name=source, trained=True, notes=("a note",)))

    def segment(self, ct, model, **given):
        given["progress"](1, 2, "segmenting")
        self.calls.append((ct, model, given))
        return Found(Volume(np.full(ct.array.shape, 3, np.uint8), ct.affine), {3: "liver", 12: "liver_tumor"})

    def predict_attributes(self, ct, centres, model, **given):
        self.calls.append((ct, model, given | {"centres": centres}))
        return [AttributePrediction(PROBABILITIES, model.card.name, False) for _ in centres]

    def extract_features(self, ct, centres, model, **given):
        self.calls.append((ct, model, given | {"centres": centres}))
        return np.ones((len(centres), 8), np.float32)


@pytest.fixture
def inference(monkeypatch):
    stand_in = Inference()
    import PASTALib.inference
    import PASTALib.networks

    for parent, name in (
        (PASTALib.inference, "segmentation"),
        (PASTALib.inference, "attributes"),
        (PASTALib.inference, "features"),
        (PASTALib.networks, "load"),
    ):
        monkeypatch.setitem(sys.modules, f"{parent.__name__}.{name}", stand_in)
    return stand_in


def params(**more) -> dict:
    """As they come out of JSON."""
    return json.loads(protocol.encode({"affine": AFFINE, "model": "some-model", **more}))


def run(job, given, arrays=None, state=None, progress=silent):
    result, outputs = jobs.JOBS[job](given, {"ct": CT} if arrays is None else arrays, progress, state or WarmState())
    return json.loads(protocol.encode(result)), outputs


def test_segment_passes_everything_on(inference):
    calls = []
    region = np.zeros(CT.shape, np.uint8)
    region[1] = 7
    given = params(device="cpu", engine="fp32", step=0.5, mirroring=True, skip_air=False, meta={"source": "a"})
    result, outputs = run("segment", given, {"ct": CT, "region": region}, progress=lambda *call: calls.append(call))
    ((ct, model, passed),) = inference.calls
    assert ct.array is CT and ct.meta == {"source": "a"}
    np.testing.assert_array_equal(ct.affine, AFFINE)
    assert model.card.name == "some-model"
    assert passed["region"].dtype == bool and passed["region"].sum() == 12
    del passed["region"], passed["progress"]
    assert passed == {"device": "cpu", "engine": "fp32", "step": 0.5, "mirroring": True, "skip_air": False}
    assert result == {
        "names": {"3": "liver", "12": "liver_tumor"}, "engine": "torch-fp32", "seconds": {"windows": 1.5}, "notes": [],
    }  # fmt: skip
    assert outputs["labels"].dtype == np.uint8 and (outputs["labels"] == 3).all()
    assert calls == [(0, 0, "loading the model"), (1, 2, "segmenting")]


def test_segment_leaves_defaults_to_the_library(inference):
    run("segment", params())
    assert set(inference.calls[0][2]) == {"region", "progress"} and inference.calls[0][2]["region"] is None


def test_attributes(inference):
    result, outputs = run("attributes", params(device="cpu", centres_ras=[[1, 2, 3], [4, 5, 6]], test_time_flips=True))
    passed = inference.calls[0][2]
    assert passed["centres"] == [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0)] and passed["test_time_flips"] is True
    assert outputs == {}
    read = [AttributePrediction.from_json(item) for item in result["predictions"]]
    assert len(read) == 2 and read[0].best("heterogeneity") == ("Heterogeneous", 0.75) and read[0].trained is False


def test_features(inference):
    result, outputs = run("features", params(centres_ras=[[1, 2, 3]]))
    assert outputs["features"].shape == (1, 8)
    assert result == {"model": "some-model", "trained": True, "notes": ["a note"]}
    assert run("features", params(centres_ras=[]))[1]["features"].shape == (0, 8)


def test_organs(monkeypatch):
    from PASTALib import organs

    def run_totalsegmentator(ct, out=None, fast=False, device="auto", progress=None, roi_subset=None):
        assert (out, fast, device, roi_subset) == (None, True, "cpu", ["liver"])
        progress(0.05, "running")
        labels = Volume(np.full(ct.array.shape, 2, np.uint8), ct.affine)
        return organs.OrganMap(labels, Volume(labels.array + 3, ct.affine), {5: "liver"}, "totalseg-v2", ["a note"])

    monkeypatch.setattr(organs, "run_totalsegmentator", run_totalsegmentator)
    calls = []
    given = {"affine": AFFINE.tolist(), "fast": True, "device": "cpu", "roi_subset": ["liver"]}
    result, outputs = run("organs", given, progress=lambda *call: calls.append(call))
    assert calls == [(5, 100, "running")]
    assert result == {"structure_names": {"5": "liver"}, "scheme": "totalseg-v2", "notes": ["a note"]}
    assert outputs["labels"].max() == 2 and outputs["structures"].max() == 5

    monkeypatch.setattr(organs, "run_totalsegmentator", lambda ct, **_: organs.OrganMap(Volume(ct.array, AFFINE)))
    assert set(run("organs", {"affine": AFFINE.tolist()})[1]) == {"labels"}


# --- warm models -----------------------------------------------------------------------------------------------------


def test_all_jobs_share_one_warm_model(inference):
    state = WarmState()
    calls = []
    for job in ("segment", "attributes", "features", "segment"):
        run(
            job,
            params(**({} if job == "segment" else {"centres_ras": [[0, 0, 0]]})),
            state=state,
            progress=lambda *call: calls.append(call[2]),
        )
    assert inference.loaded == ["some-model"]
    assert calls.count("loading the model") == 1
    models = {id(model) for _, model, _ in inference.calls}
    assert len(models) == 1


@pytest.mark.parametrize("kind", ["file", "folder", "store"])
def test_a_model_is_loaded_again_when_its_files_changed(inference, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("PASTA_MODELS", str(tmp_path))
    folder = tmp_path / "mine"
    (folder / "fold_0").mkdir(parents=True)
    weights = folder / ("fold_0/checkpoint_final.pth" if kind == "folder" else "model.pth")
    weights.write_bytes(b"weights")
    (folder / "card.json").write_text(json.dumps({"card": 1, "name": "mine"}))
    source = {"file": str(weights), "folder": str(folder), "store": "mine"}[kind]
    state = WarmState()
    for _ in range(2):
        run("segment", params() | {"model": source}, state=state)
    assert inference.loaded == [source]
    about = weights.stat()
    os.utime(weights, ns=(about.st_atime_ns, about.st_mtime_ns + 1_000_000_000))
    run("segment", params() | {"model": source}, state=state)
    assert inference.loaded == [source] * 2
    weights.write_bytes(b"other weights")
    os.utime(weights, ns=(about.st_atime_ns, about.st_mtime_ns))
    run("segment", params() | {"model": source}, state=state)
    assert inference.loaded == [source] * 3


def test_a_model_that_does_not_load_is_tried_again(inference, monkeypatch):
    state = WarmState()

    def refuse(source):
        raise InputError("truncated")

    monkeypatch.setattr(inference, "load_model", refuse)
    with pytest.raises(InputError, match="truncated"):
        run("segment", params(), state=state)
    monkeypatch.undo()
    assert not state._kept


def test_cancel_passes_through(inference):
    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        run("segment", params(), progress=stop)
    assert inference.loaded == [] and inference.calls == []


# --- bad requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job,change,arrays,words",
    [
        ("segment", {"overlap": 0.5}, None, "unknown setting overlap; it takes model, .*step"),
        ("segment", {"model": None}, None, "segment: model is missing"),
        ("segment", {"affine": None}, None, "segment: affine is missing"),
        ("segment", {"affine": [[1, 0], [0, 1]]}, None, r"affine of shape \(2, 2\); wanted 4x4"),
        ("segment", {}, {}, 'wanted the scan as array "ct".*found none'),
        ("segment", {}, {"ct": CT[0]}, r"found \(3, 4\)"),
        ("attributes", {}, None, "attributes: centres_ras is missing"),
        ("features", {"centres_ras": [1, 2, 3]}, None, r"centres_ras of shape \(3,\); wanted n points"),
        ("features", {"centres_ras": [[0, 0, 0]], "step": 1}, None, "features: unknown setting step"),
        ("organs", {}, None, "organs: unknown setting model"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_loaded(inference, job, change, arrays, words):
    with pytest.raises(InputError, match=words):
        run(job, params() | change, arrays)
    assert inference.loaded == []


# --- the real thing ----------------------------------------------------------------------------------------------------


def test_a_random_network_through_a_real_worker(tmp_path):
    pytest.importorskip("torch")
    from PASTALib.inference.features import extract_features
    from PASTALib.inference.segmentation import segment
    from PASTALib.networks.load import load_model

    ct = np.random.default_rng(0).integers(-200, 300, (20, 24, 28)).astype(np.int16)
    affine, model, steps = np.diag([-2.0, -2.0, 2.0, 1.0]), "random:2", []
    settings = {"affine": affine, "model": model, "device": "cpu"}
    with Worker(extra_env={"PASTA_CACHE": str(tmp_path)}) as worker:
        told, out = worker.run(
            "segment", settings | {"engine": "torch-fp32"}, {"ct": ct}, progress=lambda *call: steps.append(call)
        )
        pid = worker.pid
        predicted, _ = worker.run("attributes", settings | {"centres_ras": [[-20, -20, 20]]}, {"ct": ct})
        about, vectors = worker.run("features", settings | {"centres_ras": [[-20, -20, 20]]}, {"ct": ct})
        assert worker.pid == pid
        with pytest.raises(InputError, match="outside"):
            worker.run("features", settings | {"centres_ras": [[900, 0, 0]]}, {"ct": ct})
        with pytest.raises(InputError, match="no-such-model"):
            worker.run("segment", settings | {"model": "no-such-model"}, {"ct": ct})
    volume, loaded = Volume(ct, affine), load_model(model)
    here = segment(volume, loaded, device="cpu", engine="torch-fp32")
    np.testing.assert_array_equal(out["labels"], here.labels.array)
    assert told["names"] == {str(value): name for value, name in here.names.items()}
    assert (told["trained"], told["engine"], told["windows"]) == (False, "torch-fp32", here.windows)
    assert any(step == of > 0 for step, of, _ in steps)
    assert AttributePrediction.from_json(predicted["predictions"][0]).probabilities.keys() == {
        "shape", "density", "heterogeneity", "surface", "invasion",
    }  # fmt: skip
    np.testing.assert_allclose(
        vectors["features"], extract_features(volume, [[-20, -20, 20]], loaded, device="cpu"), atol=1e-5
    )
    assert about["trained"] is False
