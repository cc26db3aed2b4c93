"""What a benchmark runs, with which settings, and what it costs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("nnunetv2")

from PASTALib.errors import InputError  # noqa: E402
from training.benchmark import budget  # noqa: E402
from training.benchmark.plan import Conditions, Entrant, make_plan, settings_of  # noqa: E402
from training.benchmark.registry import read_tasks, task  # noqa: E402
from training.cli import app  # noqa: E402

NONE = {name: "none" for name in ("pasta", "genesis", "suprem", "universal", "fmcib")}


@dataclass(frozen=True)
class OneConvolution:
    """A stand-in for a system whose cost is known by hand."""

    key: str = "one"
    trained: bool = True

    def network(self, kind, channels, classes, *, small=False):
        return torch.nn.Conv3d(channels, classes, 3, padding=1)


def entrant(name, mode="paper"):
    return make_plan(Conditions(mode=mode), ["all"], [name], only_cost=True).entrants[name]


def test_paper_suite_is_the_papers_tables():
    plan = make_plan(Conditions(), ["all"], ["paper"], NONE)
    assert len(plan.tasks) == 46
    rows = Counter((unit.run, unit.model) for unit in plan.units)
    for item in read_tasks():
        mine = {model for run, model in rows if run == item.run}
        assert mine == set(item.models)
        assert {rows[item.run, model] for model in mine} == {5 * (25 if item.k else 1)}
    assert len(plan.units) == len(set(plan.units))
    # two tasks of KiTS are learned by one network
    assert [t.key for t in plan.tasks_of("full-kits23")] == ["full-kidney_tumor", "full-kidney_cyst"]


def test_guessing_always_runs_and_shared_networks_are_told():
    plan = make_plan(Conditions(folds=2), ["full-kidney_cyst"], ["scratch"])
    assert {unit.model for unit in plan.units} == {"trivial", "scratch"} and plan.units[0].model == "trivial"
    assert [item.key for item in plan.tasks] == ["full-kidney_tumor", "full-kidney_cyst"]
    assert "full-kidney_tumor" in plan.notes[0]


def test_settings_follow_paper_model_and_mode():
    lung, stage = task("full-lung_tumor"), task("stage-gastric")
    pasta = settings_of(lung, entrant("pasta"), Conditions())
    assert (pasta["epochs"], pasta["iterations"], pasta["patch"], pasta["spacing_mm"]) == (500, 250, [128] * 3, 1.0)
    universal = settings_of(lung, entrant("universal"), Conditions())
    assert (universal["epochs"], universal["spacing_mm"], universal["axes"]) == (2000, 1.5, "xyz")
    assert settings_of(stage, entrant("fmcib"), Conditions())["side"] == 50
    assert settings_of(stage, entrant("pasta"), Conditions())["side"] == 96
    suprem = entrant("suprem")
    assert suprem.rival.features == "stage3"  # as in the paper's runs
    assert settings_of(lung, suprem, Conditions())["patch"] == [128] * 3
    native = Conditions(mode="native")
    own = entrant("suprem", "native")
    assert own.rival.features == "stage4"
    found = settings_of(lung, own, native)
    assert (found["patch"], found["spacing_mm"], found["orientation"]) == ([96] * 3, 1.5, "RAS")
    kits = settings_of(task("fewshot-kidney_cyst"), entrant("nnunet"), Conditions(k=(1, 2), draws=3))
    assert (kits["draw"], kits["k"], kits["runs"], kits["learning_rate"]) == ("each", [1, 2], 3, 1e-3)
    assert settings_of(task("survival-rectal"), entrant("pasta"), Conditions())["survival_years"] == 3.0


@pytest.mark.parametrize(
    ("text", "kind", "steps"),
    [("", "full", 125000), ("100", "full", 100), ("1000", "full", 1000), ("10x20", "full", 200), ("300", "stage", 300), ("10x20", "stage", 200)],
)  # fmt: skip
def test_budgets(text, kind, steps):
    key = "full-lung_tumor" if kind == "full" else "stage-gastric"
    found = settings_of(task(key), entrant("pasta"), Conditions(budget=text))
    assert budget.steps_of(found) == steps
    assert found["save_every"] <= max(steps, found["save_every"] if not text else steps)


def test_cost_of_a_convolution_by_hand():
    settings = {"patch": [8, 8, 8], "batch": 2, "epochs": 3, "iterations": 5}
    flops = 2 * 27 * 1 * 4 * 8**3  # two per multiply-add
    found = budget.step_seconds(OneConvolution(), "segmentation", 1, 4, settings, False)
    assert found == pytest.approx(3 * 2 * flops / (budget.TERAFLOPS * 1e12))
    idle = Entrant("idle", OneConvolution(trained=False))
    assert budget.step_seconds(idle.rival, "segmentation", 1, 4, settings, False) == 0


def test_cost_that_cannot_be_told_is_no_error():
    class Looking(torch.nn.Module):
        def forward(self, x):
            return x * float(x.sum())  # no such thing without values

    class Rival(OneConvolution):
        def network(self, *_, **__):
            return Looking()

    assert budget.step_seconds(Rival("looking"), "segmentation", 1, 2, {"patch": [8] * 3, "batch": 2}, False) == 0


def test_hours_add_up():
    plan = make_plan(Conditions(folds=2, budget="100"), ["full-lung_tumor"], ["nnunet"])
    rows = {row["model"]: row for row in plan.table()}
    assert rows["trivial"]["gpu_hours"] == 0 and rows["nnunet"]["trainings"] == 2
    assert rows["nnunet"]["gpu_hours"] == pytest.approx(2 * 100 * rows["nnunet"]["step_s"] / 3600)
    assert 0.05 < rows["nnunet"]["step_s"] < 1  # nnU-Net at 128 x 128 x 128: a few tenths of a second on such a card


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--task is missing"),
        (["--task", "full-lungs", "--model", "nnunet"], "did you mean full-lung_tumor"),
        (["--task", "full", "--model", "nnunett"], "model 'nnunett'"),
        (["--task", "full", "--model", "fmcib", "--weights", "fmcib=none"], "fmcib: does classification"),
        (["--task", "full", "--model", "nnunet", "--weights", "pasta=none"], "no such model is entered"),
        (["--task", "full", "--model", "nnunet", "--weights", "nnunet"], "write MODEL=FILE"),
        (["--task", "full", "--model", "nnunet", "--weights", "nnunet=/no/where.pth"], "no such file"),
        (["--task", "full", "--model", "nnunet", "--budget", "fast"], "wanted steps per training"),
        (["--task", "full", "--model", "nnunet", "--mode", "own"], "wanted paper or native"),
        (["--suite", "smok"], "wanted smoke or paper"),
        (["--task", "fewshot", "--model", "nnunet", "--k", "few"], "wanted numbers of scans"),
        (["--task", "full", "--model", "nnunet", "--folds", "1"], "--folds"),
    ],
)
def test_one_line_for_what_cannot_be(arguments, words):
    done = CliRunner().invoke(app, ["benchmark", "--dry-run", *arguments])
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.strip().splitlines()
    assert words in line


def test_weights_are_asked_for_when_it_is_run(tmp_path):
    done = CliRunner().invoke(
        app, ["benchmark", "--task", "full-lung_tumor", "--model", "pasta", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 2 and "PASTA_final.pth" in done.stderr and "pasta=none" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--suite", "smoke", "--gpus", "64"], "--gpus 64: "),
        (["--task", "mri", "--model", "nnunet"], "--data is missing"),
        (["--task", "mri", "--model", "nnunet", "--data", "nowhere"], "no such folder"),
        (["--suite", "smoke", "--table", "points=nowhere.csv"], "no such file"),
        (["--suite", "smoke", "--part", "3/2"], "wanted I/N"),
        (["--suite", "smoke", "--resume"], "no benchmark to resume"),
        (["--report"], "no results there"),
        (["--suite", "smoke", "--correction", "bonferroni"], "wanted one of none, holm, bh"),
        (["--stress", "threshold:25", "--sweep", "age"], "'age' is not swept"),
    ],
)
def test_one_line_and_nothing_left_behind(arguments, words, tmp_path):
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["benchmark", *arguments, "--out", str(out)])
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.strip().splitlines()
    assert words in line and not out.exists()


def test_dry_run_prints_hours_and_their_assumption(tmp_path):
    words = ["benchmark", "--task", "mri", "--model", "nnunet", "--dry-run"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0 and "mri-brain" in shown.stdout and "TFLOP/s" in shown.stdout
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found["trainings"] == 2 * 2 * 125
    assert (
        found["gpu_hours"] == pytest.approx(sum(row["gpu_hours"] for row in found["rows"])) and found["gpu_hours"] > 1
    )


def test_unknown_option_of_a_model_names_its_options():
    with pytest.raises(InputError, match="backbone="):
        make_plan(Conditions(), ["full"], ["suprem:backbones=unet"], {})
