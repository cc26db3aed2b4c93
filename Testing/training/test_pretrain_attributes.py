"""Tests of pretrain-attributes: crops and their augmentation, learning, class balance, resuming, one model that does both, bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from PASTALib.cases import case_folder, write_case
from PASTALib.networks.load import load_model, save_model
from training.attribute_features import FreshLesions, StoredLesions, encode_lesions, forms, split_cases
from training.attributes import class_counts, group_loss, inverse_weights, make_head, train_head, with_head
from training.cli import app
from training.presets import names, preset
from training.runs import Run
from training.segmentation.dataset import list_cases
from training.segmentation.ranks import Ranks
from training.segmentation.sources import SynthesisSamples

COMMAND = "pretrain-attributes"
ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A stage 1 checkpoint: random weights of width 4, 5 mm, crops of 32 voxels."""
    model = load_model("random:4")
    shape = replace(model.shape, attribute_outputs=0)
    from PASTALib.networks.unet import PastaNet, initialise

    path = tmp_path_factory.mktemp("base") / "stage1.pth"
    card = replace(model.card, name="stage1", trained=True, spacing_mm=5.0, attribute_crop=32, notes=())
    save_model(path, initialise(PastaNet(shape), 0), card)
    return path


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Two cases of two types, 5 mm."""
    from PASTALib.phantom import make_phantom
    from PASTALib.synthesis.generator import synthesise
    from PASTALib.synthesis.scan import prepare_scan
    from PASTALib.synthesis.spec import LesionRequest

    root = tmp_path_factory.mktemp("set")
    made = make_phantom(5.0, region="abdomen", workers=1)
    scan = prepare_scan(made.ct, made.organs)
    for number, kind in enumerate(("liver_tumor", "kidney_cyst")):
        lesion = synthesise(scan, LesionRequest(kind, seed=number))
        write_case(case_folder(root, kind, f"{number:04d}"), made.ct, made.organs, [lesion], seed=number)
    return root


def run(*arguments):
    return CliRunner().invoke(app, [COMMAND, *map(str, arguments)])


# ---------------------------------------------------------------------------------------------------------------
# Crops


def test_stored_crops_are_centred_on_the_lesion(cases, base):
    from PASTALib.cases import read_case
    from PASTALib.inference.crops import lesion_crop

    card = load_model(base).card
    source = StoredLesions(list_cases(cases), card)
    for number, folder in enumerate(source.cases):
        case = read_case(folder)
        ((cube, options),) = source.lesions(number, 36)
        np.testing.assert_array_equal(options, case.reports[0].class_indices)
        middle = case.ct.to_ras(np.argwhere(case.label.array == 2).mean(axis=0))
        np.testing.assert_array_equal(cube, lesion_crop(case.ct, middle, side=36, spacing_mm=5.0))


def test_fresh_crops_are_centred_on_the_lesion():
    settings = preset("pretrain-segmentation", "smoke") | {"lesion_share": 1.0}
    samples = SynthesisSamples(settings)
    source = FreshLesions(samples, 6)
    seen = 0
    for number in range(6):
        patch, _ = samples.training_patch(number, (72,) * 3)
        for cube, options in source.lesions(number, 36):
            seen += 1
            assert cube.shape == (36,) * 3 and cube.dtype == np.float32
            np.testing.assert_array_equal(options, patch.report.class_indices)
            middle = np.argwhere(patch.lesions).mean(axis=0).round().astype(int)
            np.testing.assert_allclose(
                cube[17:19, 17:19, 17:19].mean(), patch.hu[tuple(slice(m - 1, m + 2) for m in middle)].mean(), atol=150
            )
            assert cube[18, 18, 18] in patch.hu[tuple(slice(m - 2, m + 3) for m in middle)]
    assert seen >= 3
    aside = FreshLesions(samples, 2, held_out=True).lesions(0, 36)
    assert not aside or not np.array_equal(aside[0][0], source.lesions(0, 36)[0][0])


def test_forms_are_the_crop_and_rearrangements_of_it():
    cube = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
    made = list(forms(cube, 8, 30, 2, np.random.default_rng(1)))
    np.testing.assert_array_equal(made[0], cube[2:10, 2:10, 2:10])
    assert len({part.tobytes() for part in made}) > 20 and all(part.shape == (8, 8, 8) for part in made)
    again = list(forms(cube, 8, 30, 2, np.random.default_rng(1)))
    assert all(np.array_equal(a, b) for a, b in zip(made, again))
    kept = sum(np.isin(part, cube).all() for part in made)  # those that are not sampled more coarsely
    assert 8 <= kept <= 24
    flat = np.full((12, 12, 12), 3.0, np.float32)
    assert all(np.allclose(part, 3.0) for part in forms(flat, 8, 10, 2, np.random.default_rng(2)))


def test_cases_are_split_whole(cases):
    folders = list_cases(cases) * 5
    own, aside = split_cases(folders, 0.3, seed=0)
    assert len(own) == 7 and len(aside) == 3
    assert split_cases(folders, 0.3, seed=0) == (own, aside)


# ---------------------------------------------------------------------------------------------------------------
# Learning


def separable(count: int, seed: int):
    """Features from which every attribute can be read off; shape 0 is three times as common as the others."""
    rng = np.random.default_rng(seed)
    options = np.stack(
        [rng.choice(4, count, p=(0.5, 1 / 6, 1 / 6, 1 / 6)), *(rng.integers(n, size=count) for n in (3, 2, 2, 2))],
        axis=1,
    )
    code = np.concatenate([np.eye(n)[options[:, k]] for k, n in enumerate((4, 3, 2, 2, 2))], axis=1)
    features = np.concatenate([code * 2, rng.normal(size=(count, 19))], axis=1) + rng.normal(size=(count, 32)) * 0.3
    return features.astype(np.float32), options.astype(np.int64)


@pytest.fixture
def toy():
    train, held = separable(300, 0), separable(100, 1)
    settings = preset(COMMAND, "paper") | {"steps": 300, "log_every": 50, "validate_every": 100, "learning_rate": 1e-2}
    return (np.stack([train[0]] * 2, axis=1), train[1]), held, settings


def test_a_separable_set_is_learned(toy, tmp_path):
    train, held, settings = toy
    with Run.open(tmp_path / "run", COMMAND, settings) as made:
        train_head(made, train, held, settings, ranks=ALONE)
    scores = json.loads((tmp_path / "run" / "held_out.json").read_text())["attributes"]
    for key, entry in scores.items():
        assert entry["accuracy"] > entry["majority"] + 0.2 and entry["accuracy"] > 0.95, (key, entry)


def test_a_stopped_training_ends_with_the_same_head(toy, tmp_path):
    train, held, settings = toy
    with Run.open(tmp_path / "whole", COMMAND, settings) as made:
        whole = train_head(made, train, held, settings, ranks=ALONE)

    def stop(step, of, text):
        if step == 250:
            raise KeyboardInterrupt

    with Run.open(tmp_path / "stopped", COMMAND, settings) as made:
        with pytest.raises(KeyboardInterrupt):
            train_head(made, train, held, settings, ranks=ALONE, progress=stop)
        assert made.load()["step"] == 200
    with Run.open(tmp_path / "stopped", COMMAND, settings, resume=True) as made:
        resumed = train_head(made, train, held, settings, ranks=ALONE, resume=True)
        steps = [line["step"] for line in made.metrics() if "loss" in line]
    assert steps == [50, 100, 150, 200, 250, 300]
    for (key, value), other in zip(whole.state_dict().items(), resumed.state_dict().values()):
        assert torch.equal(value, other), key


def test_loss_is_the_mean_over_attributes_and_skips_what_is_unknown():
    logits = torch.zeros(2, 13)
    options = torch.tensor([[0, 1, 0, 1, -1], [3, 2, 1, 0, -1]])
    wanted = np.mean([np.log(4), np.log(3), np.log(2), np.log(2)])
    assert float(group_loss(logits, options)) == pytest.approx(wanted, abs=1e-6)
    assert float(group_loss(logits, torch.full((2, 5), -1))) == 0


def test_class_balance_is_counted_and_evened_out():
    options = np.array([[0, 0, 0, 0, 0]] * 6 + [[1, 2, 1, 0, -1]] * 2)
    counts = class_counts(options)
    assert counts["shape"] == {"Round-like": 6, "Irregular": 2, "Wall thickening": 0, "Punctate, nodular": 0}
    assert sum(counts["invasion"].values()) == 6
    weights = inverse_weights(options)
    np.testing.assert_allclose(weights[0], [8 / 6 / 2, 8 / 2 / 2, 0, 0], atol=1e-6)
    assert float((weights[0] * torch.tensor([6.0, 2, 0, 0])).sum()) == pytest.approx(8)


def test_the_head_fits_the_published_network():
    head = make_head(1024, 0)
    assert [tuple(value.shape) for key, value in head.state_dict().items() if "weight" in key] == [
        (512, 1024), (256, 512), (13, 256),
    ]  # fmt: skip


def test_one_checkpoint_segments_and_predicts(base, tmp_path):
    model = load_model(base)
    whole = with_head(model.networks[0], make_head(64, 1))
    save_model(tmp_path / "both.pth", whole, model.card)
    both = load_model(tmp_path / "both.pth")
    assert both.segments and both.predicts_attributes and both.shape.attribute_outputs == 13
    x = torch.randn(1, 1, 32, 32, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(both.networks[0](x), model.networks[0](x))


# ---------------------------------------------------------------------------------------------------------------
# The command


@pytest.mark.slow
def test_smoke_makes_a_model_that_does_both(base, cases, tmp_path):
    out = tmp_path / "run"
    line = ["--preset", "smoke", "--model", base, "--out", out, "--workers", 0, "--threads", 1]
    result = run(*line, "--held-out", cases, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    model = load_model(told["model"])
    assert model.segments and model.predicts_attributes and model.card.trained
    assert any("attribute head" in note for note in model.card.notes)
    assert any("attributes scored on 2 synthetic cases" in note for note in model.card.notes)
    assert set(told["cases"]) == {"shape", "density", "heterogeneity", "surface", "invasion"}
    frozen = load_model(base).networks[0].state_dict()
    for key, value in frozen.items():
        assert torch.equal(value, model.networks[0].state_dict()[key]), key
    balance = json.loads((out / "class_balance.json").read_text())
    assert sum(balance["train"]["shape"].values()) > 0

    kept = {file: file.stat().st_mtime_ns for file in (out / "features").rglob("*.npz")}
    before = torch.load(out / "best.pth", weights_only=True)
    again = run(*line, "--resume")
    assert again.exit_code == 0, again.output
    assert {file: file.stat().st_mtime_ns for file in (out / "features").rglob("*.npz")} == kept
    assert torch.load(out / "best.pth", weights_only=True)["step"] == before["step"]


@pytest.mark.slow
def test_stored_cases_serve_too(base, cases, tmp_path):
    settings = ["--set", "source=cases", "--set", "held_out_share=0.5", "--set", "class_weights=inverse"]
    line = ["--preset", "smoke", "--model", base, "--out", tmp_path / "run", "--data", cases, *settings]
    result = run(*line, "--workers", 0, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "shape: Round-like" in result.stdout and load_model(tmp_path / "run" / "model.pth").predicts_attributes


@pytest.mark.slow
def test_two_processes_make_the_same_head(base, cases, tmp_path):
    settings = ["--set", "source=cases", "--set", "held_out_share=0.5", "--set", "precision=fp32"]
    line = ["-m", "training", COMMAND, "--preset", "smoke", "--model", str(base), "--data", str(cases), *settings]
    line += ["--workers", "0", "--threads", "1", "--device", "cpu"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, start in (("one", [sys.executable]), ("two", torchrun)):
        done = subprocess.run(
            [*start, *line, "--out", str(tmp_path / name)], capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (torch.load(tmp_path / name / "latest.pth", weights_only=True)["head"] for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], atol=1e-4, rtol=1e-3)


def test_features_that_are_there_are_not_computed_again(base, cases, tmp_path):
    model = load_model(base)
    source = StoredLesions(list_cases(cases), model.card)
    options = {"forms": 2, "jitter": 1, "seed": 0, "ranks": ALONE}
    x, y = encode_lesions(tmp_path, source, model.networks[0], model.card, **options)
    assert x.shape == (2, 2, 64) and y.shape == (2, 5) and np.isfinite(x).all()

    class Never:
        def __len__(self):
            return 2

        def lesions(self, number, side):
            raise AssertionError("asked again")

    again, _ = encode_lesions(tmp_path, Never(), model.networks[0], model.card, **options)
    np.testing.assert_array_equal(x, again)


# ---------------------------------------------------------------------------------------------------------------
# Bad input


def test_bad_input_is_one_line_and_leaves_nothing(base, cases, tmp_path):
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    short = ["--out", out, "--model", base]

    def refused(*arguments, words):
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        lines = result.stderr.splitlines()
        assert len(lines) == 1 and all(word in lines[0] for word in words), result.stderr

    refused("--preset", "best", *short, words=("best", "paper"))
    refused("--preset", "smoke", "--set", "step=3", *short, words=("did you mean steps",))
    refused("--preset", "smoke", "--set", "schedule=stairs", *short, words=("cosine",))
    refused("--preset", "smoke", "--set", "steps=0", *short, words=("steps",))
    refused("--preset", "smoke", "--data", cases, *short, words=("source=synthesis",))
    refused("--preset", "paper", *short, words=("--data", "generate"))
    refused("--preset", "paper", "--data", empty, *short, words=("holds no case",))
    refused("--preset", "smoke", "--out", out, "--model", "none.pth", words=("none.pth",))
    refused("--preset", "smoke", "--out", out, words=("--model",))
    assert not out.exists()


def test_every_preset_is_complete():
    assert {"paper", "code", "starter-cpu", "smoke"} <= set(names(COMMAND))
    paper, code = preset(COMMAND, "paper"), preset(COMMAND, "code")
    assert (paper["steps"], paper["learning_rate"], paper["batch"]) == (100_000, 1e-3, 64)
    assert (code["steps"], code["learning_rate"]) == (20_000, 1e-4)
    assert all(set(preset(COMMAND, name)) == set(paper) for name in names(COMMAND))
