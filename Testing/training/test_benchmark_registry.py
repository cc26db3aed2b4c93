"""The registry: 46 tasks as the paper counts them, and settings that are the paper's."""

from __future__ import annotations

from collections import Counter

import pytest

from PASTALib import taxonomy
from PASTALib.errors import InputError
from training.benchmark.registry import SEGMENTATION, read_tasks, select, task


def test_the_46_tasks_by_group():
    tasks = read_tasks()
    assert Counter(item.group for item in tasks) == {
        "full": 15,
        "fewshot": 15,
        "plain": 3,
        "mri": 2,
        "detect": 3,
        "stage": 3,
        "survival": 4,
        "report": 1,
    }
    assert len({item.key for item in tasks}) == len(tasks) == 46
    assert {item.lesion for item in tasks if item.group == "full"} == set(taxonomy.LESION_KEYS)


def test_tasks_hold_what_they_need():
    for item in read_tasks():
        assert item.organ is None or item.organ in taxonomy.ORGAN_KEYS
        assert item.lesion is None or item.lesion in taxonomy.LESION_KEYS
        assert item.models[-1] == "trivial" and item.models[0] == "pasta"
        assert item.dataset.url or item.dataset.needs
        if item.kind == SEGMENTATION:
            assert item.scored and set(item.scored) <= set(item.labels) and not item.classes
        else:
            assert item.classes and all(len(names) > 1 for names in item.classes.values()) and not item.labels
        assert (item.k, item.draws) == (((1, 2, 4, 8, 16), 5) if item.group in ("fewshot", "mri") else ((), 1))


def test_tests_are_the_papers():
    assert task("full-lung_tumor").test() == "wilcoxon-cases"
    assert task("stage-bladder").test() == "wilcoxon-folds"
    detect = task("detect-bladder")
    assert [detect.test(metric) for metric in detect.metrics] == ["permutation", "wilcoxon-folds"]
    assert task("report").metrics == ("accuracy", "macro_f1")


def test_kidney_tumour_and_cyst_are_learned_by_one_network():
    tumour, cyst = task("fewshot-kidney_tumor"), task("fewshot-kidney_cyst")
    assert tumour.run == cyst.run == "fewshot-kits23" and tumour.draw == "each"
    assert tumour.labels == cyst.labels == ("kidney", "kidney_tumor", "kidney_cyst")
    assert (tumour.scored, cyst.scored) == (("kidney_tumor",), ("kidney_cyst",))
    assert task("full-kidney_tumor").run != tumour.run
    assert len({item.run for item in read_tasks()}) == 44


def test_settings_are_the_papers():
    full = task("full-lung_tumor")
    assert (full.recipe()["learning_rate"], full.recipe()["epochs"]) == (1e-3, 500)
    assert full.recipe("nnunet")["epochs"] == 1000
    assert (full.recipe("universal")["learning_rate"], full.recipe("universal")["epochs"]) == (1e-4, 2000)
    few = task("fewshot-lung_tumor")
    assert [few.recipe(name)["learning_rate"] for name in ("pasta", "suprem", "nnunet", "universal")] == [
        1e-4,
        1e-4,
        1e-3,
        1e-4,
    ]
    assert few.recipe()["epochs"] * few.recipe()["iterations"] == 2000
    assert task("plain-bladder").recipe("nnunet")["learning_rate"] == 1e-4
    assert task("survival-lung").recipe()["survival_years"] == task("survival-lung").survival_years == 2.0
    assert task("detect-rectum").recipe("scratch")["model"] == "none"
    for item in read_tasks():
        assert {item.recipe(model)["folds"] for model in item.models} == {item.folds}


def test_classes_are_named_as_tables_of_cases_name_them():
    assert task("survival-rectal").classes == {"survival": ("below 3 years", "3 years or more")}
    assert task("detect-rectum").classes == {"label": tuple(task("detect-rectum").recipe()["classes"])}
    assert [len(names) for names in task("report").classes.values()] == [4, 3, 2, 2, 2]


def test_applicable():
    assert task("full-gallstone").applicable({"segmentation"}) and not task("report").applicable({"segmentation"})
    assert task("report").applicable(["classification"])


def test_selecting():
    assert [item.key for item in select(["survival-lung", "mri"])] == ["mri-brain", "mri-liver", "survival-lung"]
    assert select(["all"]) == read_tasks()
    with pytest.raises(InputError, match="survival-lung"):
        select(["survival-lungs"])
    with pytest.raises(InputError, match="a group"):
        task("zzz")
