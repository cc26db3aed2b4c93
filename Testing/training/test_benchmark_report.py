"""The report of made-up results whose truth is known: cells, marks, p, flags, what was not run, and files that read."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from PASTALib.errors import InputError
from training.benchmark import results as files
from training.benchmark.published import published
from training.benchmark.registry import read_tasks, select, task
from training.benchmark.report import LATEX, PAGE, TABLE, Policy, write_report
from training.benchmark.report.analysis import analyse
from training.benchmark.results import Figure, Prediction, read_results, write_metrics, write_predictions

FAST = Policy(permutations=200)


def segmentation(key, rng, models=None, cases=30, folds=5, shift=0.0, empty=0):
    """Dice around the published figures; the first ``empty`` cases show no lesion."""
    item = task(key)
    for model in models or item.models:
        for k in item.budgets:
            entry = published(key, "dice", k).get(model)
            centre = entry.value + shift if entry else 0.0
            for draw in range(item.draws if item.k else 1):
                for n in range(cases):
                    fold = n % 5
                    if fold >= folds:
                        continue
                    spread = rng.normal(0, 0.12 + 0.05 * (n % 3))
                    for label in item.scored:
                        lacks = n < empty
                        dice = 0.0 if model == "trivial" else float(np.clip(centre + spread, 0, 1))
                        figures = {"dice": (1.0 if model == "trivial" else 0.0) if lacks else dice}
                        blank = lacks or figures["dice"] == 0
                        figures |= {
                            "nsd": None if blank else min(1.0, dice + 0.1),
                            "hd95": None if blank else 20 * (1 - dice),
                        }
                        figures |= {"lesions": float(not lacks), "found": float(dice > 0.2 and not lacks)}
                        figures["false_positives"] = 0.0 if model == "trivial" else float(rng.poisson(0.4))
                        for metric, value in figures.items():
                            yield Figure(key, model, k, draw, fold, f"case_{n:03d}", f"p{n:03d}", label, metric, value)


def classification(key, rng, models=None, cases=90, collapsed=(), sharp=None):
    """Predictions that separate the classes as far as the published AUC says."""
    item = task(key)
    for group, names in item.classes.items():
        classes = len(names)
        share = np.r_[10.0, np.ones(classes - 1)] if item.group == "detect" else np.arange(classes, 0, -1.0)
        truth = rng.choice(classes, size=cases, p=share / share.sum())
        truth[:classes] = np.arange(classes)
        years = rng.exponential(np.where(truth == 1, 4.5, 1.2))
        for model in models or item.models:
            for n in range(cases):
                logits = rng.normal(0, 1, classes)
                if model == "trivial" or model in collapsed:
                    logits = np.r_[4.0, np.zeros(classes - 1)] + (0.3 * logits if model != "trivial" else 0)
                else:
                    logits[truth[n]] += (sharp or {}).get(model, 1.6)
                p = np.exp(logits) / np.exp(logits).sum()
                survival = {}
                if item.survival_years:
                    survival = {"time": float(365.25 * years[n]), "event": bool(n % 4)}
                yield Prediction(
                    key,
                    model,
                    0,
                    0,
                    n % 5,
                    f"case_{n:03d}",
                    f"p{n:03d}",
                    group,
                    int(truth[n]),
                    tuple(p.tolist()),
                    **survival,
                )


def make_results(folder, seed=0):
    """A folder as a runner leaves it: some groups whole, some partial, one not run at all."""
    rng = np.random.default_rng(seed)
    full = [item.key for item in select(["full"])][:9]
    for key in full:
        write_metrics(folder / key / "all" / files.METRICS, segmentation(key, rng))
    write_metrics(
        folder / "cyst" / files.METRICS, segmentation("full-kidney_cyst", rng, ["pasta", "trivial"], empty=12)
    )
    stone = segmentation("full-kidney_stone", rng, ["pasta", "nnunet"], folds=3)
    write_metrics(folder / "stone" / files.METRICS, stone)
    for key in ("fewshot-lung_tumor", "fewshot-pancreas_cyst", "mri-liver"):
        write_metrics(folder / key / files.METRICS, segmentation(key, rng, cases=10, shift=-0.04))
    for item in select(["detect"]):
        lines = classification(item.key, rng, collapsed=("genesis",), sharp={"pasta": 3.5, "suprem": 2.4})
        write_predictions(folder / item.key / files.PREDICTIONS, lines)
    for item in select(["survival-lung", "survival-bladder", "stage-bladder"]):
        lines = classification(item.key, rng, sharp={"pasta": 1.6, "suprem": 1.2, "fmcib": 1.0, "genesis": 0.4})
        write_predictions(folder / item.key / files.PREDICTIONS, lines)
    lines = classification(
        "report", rng, cases=120, collapsed=("genesis",), sharp={"pasta": 3, "scratch": 2.2, "suprem": 2.4}
    )
    write_predictions(folder / "report" / files.PREDICTIONS, lines)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = make_results(tmp_path_factory.mktemp("results"))
    write_report(folder, policy=FAST)
    return folder


@pytest.fixture(scope="module")
def found(made):
    return read_results(made)


@pytest.fixture(scope="module")
def rows(found):
    return {(row.task.key, row.metric, row.k, row.group): row for row in analyse(found, read_tasks(), FAST)}


# ---------------------------------------------------------------------------------------------------------------


def test_a_row_for_every_task_run_or_not(rows):
    assert len(rows) == 126  # as many as the paper's tables have
    assert not rows["plain-rectum", "dice", 0, ""].cells
    assert rows["plain-rectum", "dice", 0, ""].entries["pasta"].value == 0.705


def test_dice_is_the_mean_of_the_cases_and_p_is_scipys(rows, found):
    row = rows["full-lung_tumor", "dice", 0, ""]
    lines = [line for line in found.figures_of("full-lung_tumor") if line.metric == "dice"]
    by_model = {}
    for line in lines:
        by_model.setdefault(line.model, {})[line.case] = line.value
    means = {model: np.mean(list(values.values())) for model, values in by_model.items()}
    for model, cell in row.cells.items():
        assert cell.value == pytest.approx(means[model]) and cell.low <= cell.value <= cell.high
        assert (cell.cases, cell.folds) == (30, 5)
    order = sorted((name for name in means if name != "trivial"), key=means.get, reverse=True)
    assert [row.best, row.second] == order[:2]
    difference = [by_model[order[0]][case] - by_model[order[1]][case] for case in by_model[order[0]]]
    assert row.p == stats.wilcoxon(np.round(difference, 6), alternative="greater").pvalue
    assert row.p <= row.p_bh <= row.p_holm <= 1


def test_scans_without_the_lesion_are_left_out_or_counted(rows, made):
    left_out = rows["full-kidney_cyst", "dice", 0, ""]
    assert left_out.cells["pasta"].cases == 18 and left_out.cells["trivial"].value == 0
    assert (left_out.best, left_out.second, left_out.p) == (None, None, None)  # nobody to compete with
    tasks = select(["full-kidney_cyst"])
    (counted,) = analyse(read_results(made, tasks), tasks, Policy(empty="count"))
    assert counted.cells["pasta"].cases == 30 and counted.cells["trivial"].value == pytest.approx(12 / 30)
    assert counted.cells["pasta"].value < left_out.cells["pasta"].value


def test_few_shot_draws_are_averaged_within_cases(rows, found):
    cell = rows["fewshot-lung_tumor", "dice", 4, ""].cells["suprem"]
    lines = [
        line
        for line in found.figures_of("fewshot-lung_tumor")
        if (line.metric, line.k, line.model) == ("dice", 4, "suprem")
    ]
    assert len(lines) == 50 and cell.cases == 10
    assert cell.value == pytest.approx(np.mean([line.value for line in lines]))


def test_auc_is_the_mean_over_folds_with_their_range(rows, found):
    cell = rows["detect-bladder", "auc", 0, ""].cells["suprem"]
    lines = [line for line in found.predictions_of("detect-bladder") if line.model == "suprem"]
    values = []
    for fold in range(5):
        mine = [line for line in lines if line.fold == fold]
        if len({line.truth for line in mine}) == 2:
            values.append(roc_auc_score([line.truth for line in mine], [line.p[1] for line in mine]))
    assert (cell.value, cell.low, cell.high) == pytest.approx((np.mean(values), min(values), max(values)))
    truth, said = [line.truth for line in lines], [line.predicted for line in lines]
    assert cell.beside["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, said))
    assert cell.beside["average_precision"] is not None


def test_collapsed_models_are_flagged_and_guessing_never_is(rows):
    accuracy = rows["detect-gallbladder", "accuracy", 0, ""]
    assert accuracy.cells["genesis"].collapsed and not accuracy.cells["pasta"].collapsed
    assert not accuracy.cells["trivial"].collapsed
    assert accuracy.not_above_trivial("genesis") and not accuracy.not_above_trivial("pasta")
    assert accuracy.cells["genesis"].beside["balanced_accuracy"] == 0.5
    assert accuracy.best != "trivial" and accuracy.second != "trivial"


def test_survival_has_concordance(rows):
    cells = rows["survival-lung", "auc", 0, ""].cells
    assert 0.5 < cells["pasta"].beside["concordance"] < 1
    assert cells["trivial"].beside["concordance"] == 0.5
    assert "concordance" not in rows["stage-bladder", "auc", 0, ""].cells["pasta"].beside


def test_the_table_states_everything(made):
    with (made / TABLE).open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    by_key = {(row["task"], row["metric"], row["k"], row["attribute"], row["model"]): row for row in lines}
    assert len(by_key) == len(lines) >= 607
    assert by_key["plain-rectum", "dice", "0", "", "pasta"]["status"] == "not run"
    assert by_key["full-kidney_stone", "dice", "0", "", "pasta"]["status"] == "3 of 5 folds"
    done = by_key["full-lung_tumor", "dice", "0", "", "pasta"]
    assert done["status"] == "done" and float(done["published"]) == 0.708 and done["test"] == "wilcoxon-cases"
    assert float(done["difference"]) == pytest.approx(float(done["value"]) - 0.708, abs=1e-5)
    assert {row["rank"] for row in lines} == {"", "1", "2"}


def test_latex_marks_best_and_second_and_is_balanced(made):
    text = (made / LATEX).read_text()
    assert "\\textbf{" in text and "\\underline{" in text and "\\textemdash" in text and "\\dagger" in text
    assert text.count("{") == text.count("}") and text.count("\\begin{") == text.count("\\end{") == 8
    heads = re.findall(r"\\begin\{longtable\}\{(.*?)\}", text)
    for head, body in zip(heads, text.split("\\begin{longtable}")[1:]):
        counts = {line.count(" & ") + 1 for line in body.splitlines() if line.endswith("\\\\") and " & " in line}
        assert counts == {len(head)}
    assert not re.search(r"(?<!\\)[%_#]", text.split("\n", 1)[1])


class Page(HTMLParser):
    """Tags that close, and the text that is seen."""

    void = {"meta", "br", "img", "link"}

    def __init__(self):
        super().__init__()
        self.open, self.text, self.rows = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_one_file_that_closes_its_tags(made):
    text = (made / PAGE).read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert not page.open
    assert not re.search(r"(?:src|href)=['\"]?(?:https?:|/)", text.replace("http://www.w3.org", ""))
    for word in ("not run", "always one class", "3 of 5 folds", "balanced accuracy", "PR-AUC", "concordance index"):
        assert word in text, word
    assert "<td class='best'><b>" in text and "<td class='second'><u>" in text and "paper 0.708" in text
    assert "log-rank p" in text and "Holm over" in text
    plots = {"full": 2, "few-shot and MRI": 3, "detect": 2 + 3, "stage": 1, "survival": 1 + 2 * 4, "report": 2}
    assert text.count("<svg") == sum(plots.values())


def test_the_same_results_give_the_same_bytes(made, tmp_path):
    tasks = select(["stage", "plain", "detect-bladder", "mri-liver"])
    first, again = (write_report(made, tmp_path / name, tasks=tasks, policy=FAST) for name in "ab")
    for one, other in zip(first, again):
        assert one.read_bytes() == other.read_bytes()


def test_tasks_licences_and_new_models_are_shown(tmp_path):
    rng = np.random.default_rng(1)
    models = ["pasta", "mine:wide"]
    lines = list(segmentation("full-gallstone", rng, models=["pasta"]))
    lines += [replace(line, model="mine:wide") for line in lines]
    write_metrics(tmp_path / files.METRICS, lines)

    class Mine:
        title, licence = "My net", "CC0 <1.0>"

    page, table, _ = write_report(tmp_path, tasks=select(["full-gallstone"]), rivals={"mine": Mine()})
    text = page.read_text(encoding="utf-8")
    assert "My net (wide)" in text and "CC0 &lt;1.0&gt;" in text and "Few" not in text
    with table.open(newline="") as stream:
        found = {row["model"]: row for row in csv.DictReader(stream)}
    assert set(models) < set(found) and found["mine:wide"]["published"] == ""
    assert float(found["pasta"]["p"]) == 1.0  # equal models: no gain


def test_policies_are_checked():
    for bad in ({"empty": "drop"}, {"zeros": "keep"}, {"correction": "bonferroni"}):
        with pytest.raises(InputError, match="wanted one of"):
            Policy(**bad)
    with pytest.raises(InputError, match="no such folder"):
        write_report("/nowhere/at/all")
