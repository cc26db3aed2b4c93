"""The whole benchmark in small: all 46 tasks with every model that can take them, on made-up sets, to the report page."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("nnunetv2")
pytest.importorskip("pydicom")

from training.benchmark.models.interface import rivals  # noqa: E402
from training.benchmark.registry import read_tasks  # noqa: E402
from training.benchmark.results import read_results  # noqa: E402
from training.cli import app  # noqa: E402


@pytest.mark.slow
def test_all_tasks_with_all_models(tmp_path):
    out = tmp_path / "smoke"
    words = ["benchmark", "--suite", "smoke", "--out", str(out), "--device", "cpu", "--threads", "1", "--json"]
    before = torch.get_num_threads()
    try:
        done = CliRunner().invoke(app, words)
    finally:
        torch.set_num_threads(before)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout[done.stdout.index("{") :])
    assert summary["done"] == summary["trainings"] and not summary["failed"]

    tasks, systems = read_tasks(), rivals()
    results = read_results(out / "units")  # complete and without a leak, or it is refused
    for task in tasks:
        wanted = {key for key, rival in systems.items() if task.applicable(rival.kinds)}
        lines = results.figures_of(task.key) or results.predictions_of(task.key)
        folds = defaultdict(set)
        for line in lines:
            folds[line.model].add((line.fold, line.case))
        assert set(folds) == wanted, task.key
        for model, tested in folds.items():
            assert {fold for fold, _ in tested} == {0, 1} and len(tested) == len({case for _, case in tested}), model
    assert len(tasks) == 46

    # different networks give different predictions: nothing is copied from one unit to the next
    of = defaultdict(list)
    for line in results.predictions_of("stage-gastric"):
        of[line.model].append(line.p)
    distinct = [key for key in of if key not in ("scratch",)]  # with new values PASTA is the U-Net without pretraining
    assert len({str(of[key]) for key in distinct}) == len(distinct)
    assert of["pasta"] == of["scratch"]

    page = (out / "report.html").read_text(encoding="utf-8")
    assert "46 of 46 tasks" in page and "Empty mask" in page and "Majority class" in page
    assert "folds missing" not in re.sub(r"<th[^>]*>.*?</th>", "", page, flags=re.S)
    rows = list(csv.DictReader((out / "report.csv").open(newline="", encoding="utf-8")))
    assert {row["task"] for row in rows if row["model"]} == {task.key for task in tasks}
    run = [row for row in rows if row["value"]]
    assert all(row["low"] and row["high"] and row["p"] for row in run)

    again = CliRunner().invoke(app, [*words, "--resume", "--part", "0/1"])  # all is there: seconds
    assert again.exit_code == 0 and json.loads(again.stdout[again.stdout.index("{") :])["done"] == summary["trainings"]
    assert read_results(out / "units").figures == results.figures
