"""The five downstream commands end to end on made-up cases, and their one-line errors."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from training.cli import app

pytestmark = pytest.mark.usefixtures("one_thread")


def call(*arguments):
    return CliRunner().invoke(app, [str(item) for item in arguments])


def whole(*arguments):
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout[done.stdout.index("{") :])


@pytest.mark.parametrize("command", ["detect", "stage", "attributes"])
def test_classification_end_to_end(command, tmp_path):
    out = tmp_path / "run"
    first = whole(command, "--out", out, "--preset", "smoke", "--folds", "1")
    assert first["folds_done"] == [1] and first["folds"] == 2 and first["cases"] == 6
    again = call(command, "--out", out, "--preset", "smoke")
    assert again.exit_code == 2 and "--resume" in again.stderr
    model = (out / "fold_1" / "model.pth").read_bytes()
    found = whole(command, "--out", out, "--preset", "smoke", "--resume")
    assert found["folds_done"] == [0, 1] and found["cases"] == 12
    assert (out / "fold_1" / "model.pth").read_bytes() == model
    groups = found["pooled"]["groups"]
    assert len(groups) == (5 if command == "attributes" else 1)
    assert all(entry["majority"]["accuracy"] == 0.5 for entry in groups.values())
    assert "never on the fold that is reported" in found["weights_chosen"]
    assert len((out / "predictions.csv").read_text().splitlines()) == 13
    other = call(command, "--out", out, "--preset", "smoke", "--resume", "--set", "steps=7")
    assert other.exit_code == 2 and "steps was 6" in other.stderr
    anew = whole(command, "--out", out, "--preset", "smoke", "--overwrite", "--folds", "0")
    assert anew["folds_done"] == [0] and not (out / "fold_1").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["finetune", "fewshot"])
def test_segmentation_end_to_end(command, tmp_path):
    pytest.importorskip("nnunetv2")
    out = tmp_path / "run"
    extra = ("--k", "1") if command == "fewshot" else ()
    first = whole(command, "--out", out, "--preset", "smoke", "--folds", "0", *extra)
    assert first["units_done"] == 1 and first["units"] == (4 if command == "fewshot" else 2)
    found = whole(command, "--out", out, "--preset", "smoke", "--resume")
    assert found["units_done"] == found["units"]
    parts = found["by_k"] if command == "fewshot" else {"all": found["pooled"]}
    assert list(parts) == (["1", "2"] if command == "fewshot" else ["all"])
    for part in parts.values():
        assert part["by_label"]["organ"]["scans"] == 4 and 0 <= part["mean"]["dice"] <= 1
    assert len(list(out.glob("fold_*/**/model.pth"))) == found["units"]
    assert "neither mask nor prediction" in found["policy"]


@pytest.mark.parametrize(
    "arguments,expected",
    [
        (["detect", "--preset", "best"], "no preset 'best'; use one of paper, code"),
        (["detect"], "which weights to start from"),
        (["detect", "--model", "none"], "--cases is missing"),
        (["stage", "--model", "none", "--cases", "nowhere.csv"], "nowhere.csv does not exist"),
        (["attributes", "--preset", "smoke", "--folds", "2"], "--folds '2': there is no 2"),
        (["attributes", "--preset", "smoke", "--folds", "two"], "not understood"),
        (["attributes", "--preset", "smoke", "--set", "side=8"], "side 8 is too small"),
        (["detect", "--preset", "smoke", "--set", "choose=luck"], "choose is 'luck'"),
        (["detect", "--preset", "smoke", "--device", "tpu"], "device 'tpu'"),
        (["finetune", "--model", "none"], "--data or --cases is missing"),
        (["finetune", "--model", "none", "--cases", "a.csv", "--data", "b"], "both are given"),
        (["finetune", "--model", "none", "--cases", "a.csv"], "--labels is missing"),
        (["finetune", "--preset", "smoke", "--set", "choose=best"], "choose=best needs scans"),
        (["fewshot", "--preset", "smoke", "--k", "3"], "--k '3': there is no 3"),
        (["fewshot", "--preset", "smoke", "--runs", "1"], "--runs '1'"),
        (["fewshot", "--model", "none", "--data", "none"], "dataset.json: not readable"),
    ],
)
def test_wrong_calls_are_one_line_and_leave_nothing(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(*arguments, "--out", tmp_path / "run")
    assert done.exit_code == 2, done.output
    assert len(done.stderr.strip().splitlines()) == 1
    assert expected in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()


def test_several_processes_on_one_fold_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    done = call("stage", "--preset", "smoke", "--out", tmp_path / "run")
    assert done.exit_code == 2 and "--folds" in done.stderr and not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["finetune", "fewshot", "detect", "stage", "attributes"])
def test_help_explains_without_torch(command):
    import subprocess
    import sys

    code = f"import sys; from training.cli import app; app(['{command}', '--help'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--preset" in done.stdout and "--folds" in done.stdout
