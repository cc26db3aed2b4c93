"""``pasta segment`` from the command line: results on disk, regions, models of every kind, and one clear line for bad input."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from PASTALib.cli import app  # noqa: E402
from PASTALib.networks.card import ModelCard  # noqa: E402
from PASTALib.networks.load import save_model  # noqa: E402
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise  # noqa: E402
from PASTALib.volume import Volume, read_volume, same_grid, write_volume  # noqa: E402

PATCH = (64, 64, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small CT, an organ map, and a model file of random weights that calls itself trained."""
    root = tmp_path_factory.mktemp("segment")
    rng = np.random.default_rng(0)
    affine = np.diag([-1.5, -1.5, 3.0, 1.0])
    affine[:3, 3] = (60, 50, -20)
    hu = rng.normal(40, 30, (26, 50, 60)).astype(np.int16)
    hu[:, :8] = -1000
    organs = np.zeros(hu.shape, np.uint8)
    organs[10:14, 20:26, 20:26] = 8
    write_volume(Volume(hu, affine), root / "ct.nii.gz")
    write_volume(Volume(organs, affine), root / "organs.nii.gz")
    write_volume(Volume(organs[:, :40], affine), root / "other_grid.nii.gz")
    network = initialise(PastaNet(NetworkShape.of_width(4, 4, classes=3)), 0)
    save_model(root / "three.pth", network, ModelCard("three", {1: "kidney", 2: "kidney_tumor"}, patch=PATCH))
    return root


def pasta(folder, *arguments, ct="ct.nii.gz", out="seg.nii.gz"):
    given = [
        "segment",
        "--ct",
        str(folder / ct),
        "--out",
        str(folder / out),
        "--engine",
        "torch-fp32",
        *map(str, arguments),
    ]
    return CliRunner().invoke(app, given)


def test_it_writes_labels_on_the_scans_grid_with_their_names(folder):
    done = pasta(folder, "--model", folder / "three.pth", "--overwrite")
    assert done.exit_code == 0, done.output
    labels, ct = read_volume(folder / "seg.nii.gz", "labels"), read_volume(folder / "ct.nii.gz")
    assert same_grid(labels, ct) is None
    assert set(np.unique(labels.array)) <= {0, 1, 2} and len(np.unique(labels.array)) > 1
    assert json.loads((folder / "seg_labels.json").read_text(encoding="utf-8")) == {"1": "kidney", "2": "kidney_tumor"}
    assert "three, torch-fp32 on cpu" in done.output and "ml" in done.output


def test_json_for_machines(folder):
    done = pasta(folder, "--model", folder / "three.pth", "--overwrite", "--json")
    told = json.loads(done.stdout)
    assert told["model"] == "three" and told["trained"] and told["windows"] > 0 and told["engine"] == "torch-fp32"
    labels = read_volume(folder / "seg.nii.gz", "labels").array
    assert told["volumes_ml"] == {
        name: pytest.approx(np.count_nonzero(labels == value) * 6.75 / 1000, abs=0.01)
        for value, name in ((1, "kidney"), (2, "kidney_tumor"))
        if (labels == value).any()
    }


def test_random_weights_say_so(folder):
    done = pasta(folder, "--model", "random:1", "--overwrite")
    assert done.exit_code == 0, done.output
    assert "RANDOM WEIGHTS" in done.output
    assert not (folder / "seg_random_labels.json").exists()


def test_a_checkpoint_laid_out_like_the_authors_runs_as_it_is(folder):
    """A flat state dict with a 26-class segmentation and a 14-output head, as their scripts write them, of a narrow network."""
    network = initialise(PastaNet(NetworkShape.of_width(2, classes=26, attribute_outputs=14)), 1)
    torch.save(network.state_dict(), folder / "PASTA_final.pth")
    done = pasta(folder, "--model", folder / "PASTA_final.pth", "--overwrite", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert len(told["names"]) == 25 and told["names"]["12"] == "liver_tumor"
    assert any("not published" in note for note in told["notes"])  # what is assumed about intensities is said
    report = CliRunner().invoke(
        app,
        ["report", "--ct", str(folder / "ct.nii.gz"), "--mask", str(folder / "organs.nii.gz"), "--lesion", "kidney_tumor",
         "--lesion-value", "8", "--model", str(folder / "PASTA_final.pth"), "--out", str(folder / "r.json"), "--overwrite"],
    )  # fmt: skip
    assert report.exit_code == 0, report.output
    finding = json.loads((folder / "r.json").read_text(encoding="utf-8"))["findings"][0]
    assert finding["report"]["attributes"]["density"]["basis"] == "predicted"


def test_a_region_limits_the_work(folder):
    done = pasta(
        folder,
        "--model",
        folder / "three.pth",
        "--region",
        "kidney",
        "--organs",
        folder / "organs.nii.gz",
        "--overwrite",
        "--json",
    )
    assert done.exit_code == 0, done.output
    whole = json.loads(pasta(folder, "--model", folder / "three.pth", "--overwrite", "--json").stdout)
    assert json.loads(done.stdout)["windows"] < whole["windows"]


def hostile(path):
    class Payload:
        def __reduce__(self):
            return (open, (str(path) + ".ran", "w"))

    path.write_bytes(pickle.dumps({"state_dict": Payload()}))
    return path


def wrong_width(path, model):
    state = torch.load(model, weights_only=True)
    state["network_weights"]["conv_blocks_context.1.blocks.0.conv.weight"] = torch.zeros(9, 4, 3, 3, 3)
    torch.save(state, path)
    return path


def encoder_only(path):
    save_model(path, PastaNet(NetworkShape.of_width(4, 4, classes=0, attribute_outputs=13)), ModelCard("head"))
    return path


def text(path):
    path.write_text("these are no weights")
    return path


def truncated(path, model):
    path.write_bytes(model.read_bytes()[:3000])
    return path


BAD_MODELS = {
    "nothing": (lambda f: f / "absent.pth", "neither a file"),
    "truncated": (lambda f: truncated(f / "cut.pth", f / "three.pth"), "cut.pth"),
    "text": (lambda f: text(f / "text.pth"), "text.pth"),
    "code": (lambda f: hostile(f / "hostile.pth"), "hostile.pth"),
    "width": (lambda f: wrong_width(f / "width.pth", f / "three.pth"), "width.pth"),
    "encoder": (lambda f: encoder_only(f / "head.pth"), "does not segment"),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_a_bad_model_is_one_line_and_leaves_nothing(folder, kind):
    make, expected = BAD_MODELS[kind]
    done = pasta(folder, "--model", make(folder), out="none.nii.gz")
    assert done.exit_code == 2, done.output
    assert expected in done.output and done.output.startswith("pasta: ") and done.output.strip().count("\n") == 0
    assert not list(folder.glob("none*")) and not list(folder.glob("*.ran")) and not list(folder.glob(".*part*"))


BAD_INPUT = {
    "no ct": (["--model", "random"], {"ct": "absent.nii.gz"}, "absent.nii.gz"),
    "label map as ct": (["--model", "random"], {"ct": "organs.nii.gz"}, "HU"),
    "suffix": (["--model", "random"], {"out": "seg.png"}, ".nii.gz"),
    "engine": (["--model", "random", "--engine", "warp"], {}, "warp"),
    "device": (["--model", "random", "--device", "tpu"], {}, "tpu"),
    "cuda": (["--model", "random", "--device", "cuda:7"], {}, "cuda:7"),
    "step": (["--model", "random", "--step", "1.5"], {}, "--step 1.5"),
    "region alone": (["--region", "kidney"], {}, "--organs"),
    "organs alone": (["--organs", "ORGANS"], {}, "--region"),
    "region unknown": (["--region", "spleen", "--organs", "ORGANS"], {}, "spleen"),
    "region absent": (["--region", "liver", "--organs", "ORGANS"], {}, "liver"),
    "other grid": (["--region", "kidney", "--organs", "OTHER"], {}, "grid"),
    "python": (["--model", "random", "--python", "/nowhere/python"], {}, "/nowhere/python"),
    "python without torch": (["--model", "random", "--python", "BARE"], {}, "bare"),
}


@pytest.mark.parametrize("kind", BAD_INPUT)
def test_bad_input_is_one_line_and_leaves_nothing(folder, kind):
    arguments, files, expected = BAD_INPUT[kind]
    if "BARE" in arguments:
        (folder / "bare").write_text("no interpreter")
    places = {"ORGANS": "organs.nii.gz", "OTHER": "other_grid.nii.gz", "BARE": "bare"}
    arguments = [str(folder / places[item]) if item in places else item for item in arguments]
    done = pasta(folder, *arguments, **{"out": "none.nii.gz"} | files)
    assert done.exit_code == 2, done.output
    assert expected in done.output and done.output.startswith("pasta: ") and done.output.strip().count("\n") == 0
    assert not list(folder.glob("none*"))


def test_an_existing_file_is_kept_unless_told_otherwise(folder):
    (folder / "kept.nii.gz").write_bytes(b"mine")
    done = pasta(folder, "--model", "random:1", out="kept.nii.gz")
    assert done.exit_code == 2 and "--overwrite" in done.output
    assert (folder / "kept.nii.gz").read_bytes() == b"mine"


def test_a_worker_that_dies_is_one_line(folder, monkeypatch):
    from PASTALib.worker import Worker, WorkerError

    def run(self, *_, **__):
        raise WorkerError("the worker was killed (out of memory); close other programs", "what it said last")

    monkeypatch.setattr(Worker, "run", run)
    done = pasta(folder, "--model", "random", out="none.nii.gz")
    line = "pasta: the worker was killed (out of memory); close other programs"
    assert done.exit_code == 1 and done.output.strip() == line
    told = pasta(folder, "--model", "random", "--debug", out="none.nii.gz")
    assert "what it said last" in told.output and told.output.strip().endswith(line)


def test_ctrl_c_leaves_nothing(folder, monkeypatch):
    from PASTALib.worker import Worker

    def run(self, *_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "run", run)
    done = pasta(folder, "--model", "random", out="none.nii.gz")
    assert done.exit_code == 130 and "interrupted" in done.output
    assert not list(folder.glob("none*"))


def test_help_teaches():
    done = CliRunner().invoke(app, ["segment", "--help"])
    assert done.exit_code == 0
    for word in ("--model", "--region", "--engine", "--step", "--mirror", "Ctrl-C", "fastest"):
        assert word in done.output
