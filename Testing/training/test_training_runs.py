"""Presets and run directories of the training commands."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from PASTALib.errors import InputError
from training import presets
from training.runs import Run

TABLES = """
[train-thing.paper]
steps = 1000
rate = 1e-4
name = "paper"
sides = [128, 128, 128]
amp = true
[train-thing.smoke]
inherits = "paper"
steps = 2
[train-thing.lost]
inherits = "nowhere"
[train-thing.a]
inherits = "b"
[train-thing.b]
inherits = "a"
"""


@pytest.fixture(autouse=True)
def tables(tmp_path, monkeypatch):
    file = tmp_path / "presets.toml"
    file.write_text(TABLES)
    monkeypatch.setattr(presets, "FILE", file)
    presets._tables.cache_clear()
    yield
    presets._tables.cache_clear()


def test_presets_inherit_and_can_be_changed():
    assert presets.preset("train-thing", "smoke") == {
        "steps": 2, "rate": 1e-4, "name": "paper", "sides": [128, 128, 128], "amp": True,
    }  # fmt: skip
    changed = presets.preset(
        "train-thing", "paper", presets.parse_changes(["steps=5", "rate=1", "amp=false", "name=mine"])
    )
    assert changed["steps"] == 5 and changed["rate"] == 1.0 and isinstance(changed["rate"], float)
    assert changed["amp"] is False and changed["name"] == "mine"


@pytest.mark.parametrize(
    "call,expected",
    [
        (lambda: presets.preset("train-thing", "best"), "paper, smoke"),
        (lambda: presets.preset("other", "paper"), "no preset"),
        (lambda: presets.preset("train-thing", "lost"), "leads nowhere"),
        (lambda: presets.preset("train-thing", "a"), "leads nowhere"),
        (lambda: presets.preset("train-thing", "paper", {"stepz": 1}), "did you mean steps"),
        (lambda: presets.preset("train-thing", "paper", {"steps": 1.5}), "wanted a int"),
        (lambda: presets.preset("train-thing", "paper", {"amp": 1}), "wanted a bool"),
        (lambda: presets.preset("train-thing", "paper", {"steps": True}), "wanted a int"),
        (lambda: presets.parse_changes(["steps"]), "KEY=VALUE"),
    ],
)
def test_wrong_settings_are_one_line(call, expected):
    with pytest.raises(InputError, match=expected) as error:
        call()
    assert "\n" not in str(error.value)


def test_a_run_is_logged_and_resumed(tmp_path):
    torch = pytest.importorskip("torch")
    folder = tmp_path / "run"
    with Run.open(folder, "train-thing", {"steps": 4}, seed=3) as run:
        for step in (1, 2):
            run.log(step, loss=1 / step)
        run.log(2, loss=float("nan"))
        run.save({"weights": torch.arange(3.0), "step": 2})
        run.log(3, loss=0.3)  # after the checkpoint; the process dies here
    config = json.loads((folder / "config.json").read_text())
    assert config["command"] == "train-thing" and config["seed"] == 3 and config["settings"] == {"steps": 4}
    assert config["version"]["pasta"]
    with open(folder / "metrics.jsonl", "a") as log:
        log.write('{"step": 4, "lo')  # torn

    with Run.open(folder, "train-thing", {"steps": 4}, seed=3, resume=True) as again:
        state = again.load()
        assert state["step"] == 2 and torch.equal(state["weights"], torch.arange(3.0))
        assert [line["step"] for line in again.metrics()] == [1, 2, 2, 3]
        again.forget_after(state["step"])
        again.log(3, loss=0.25)
        assert [line.get("loss") for line in again.metrics()] == [1, 0.5, None, 0.25]
        assert again.load("best") is None


def test_a_run_is_not_mixed_up_with_another(tmp_path):
    folder = tmp_path / "run"
    Run.open(folder, "train-thing", {"steps": 4}, seed=0).close()
    for call, expected in (
        (lambda: Run.open(folder, "train-thing", {"steps": 4}), "--resume"),
        (lambda: Run.open(folder, "train-thing", {"steps": 5}, resume=True), "steps was 4"),
        (lambda: Run.open(folder, "train-thing", {"steps": 4}, seed=1, resume=True), "seed was 0"),
        (lambda: Run.open(folder, "generate", {"steps": 4}, resume=True), "run of train-thing"),
        (lambda: Run.open(tmp_path / "none", "train-thing", {}, resume=True), "no run to resume"),
    ):
        with pytest.raises(InputError, match=expected):
            call()
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for place in ("file", "mine"):
        with pytest.raises(InputError, match=place):
            Run.open(tmp_path / place, "train-thing", {}, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_of_several_processes_only_the_first_touches_the_disk(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setenv("RANK", "1")
    with Run.of_first(folder, "train-thing", {"steps": 4}) as other:
        assert not other.writes and not folder.exists()
    monkeypatch.setenv("RANK", "0")
    with Run.of_first(folder, "train-thing", {"steps": 4}) as first:
        assert first.writes and (folder / "config.json").is_file()
    monkeypatch.setenv("RANK", "1")
    Run.of_first(folder, "train-thing", {"steps": 4}).close()  # not "holds a run", which the first has just begun


def test_overwriting_begins_anew(tmp_path):
    pytest.importorskip("torch")
    folder = tmp_path / "run"
    with Run.open(folder, "train-thing", {"steps": 4}) as run:
        run.log(1, loss=1)
        run.save({"step": 1})
    with Run.open(folder, "train-thing", {"steps": 9}, overwrite=True) as run:
        assert run.metrics() == [] and run.load() is None and run.config["settings"] == {"steps": 9}


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    pytest.importorskip("torch")
    with Run.open(tmp_path / "run", "train-thing", {}) as run:
        path = run.save({"step": 1})
        path.write_bytes(path.read_bytes()[:50])
        with pytest.raises(InputError, match="latest.pth: damaged"):
            run.load()


def test_the_command_line_starts_and_explains():
    from training.cli import app

    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0 and "headless" in done.output
    wrong = CliRunner().invoke(app, ["nonsense"])
    assert wrong.exit_code == 2 and "python -m training" not in wrong.stdout
