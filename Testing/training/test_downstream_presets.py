"""Every preset of the downstream commands holds the paper's or the published code's numbers; metrics and augmentation."""

from __future__ import annotations

import numpy as np
import pytest

from training import presets

# What the paper's Methods 5 to 10 and the authors' published scripts say.
ADAM = {"learning_rate": 1e-4, "weight_decay": 1e-5, "batch": 32, "folds": 5, "spacing_mm": 1.0}
CHANGES = {"permute": 0.5, "flip": 0.5, "anisotropy": 0.5}
NNUNET = {
    "patch": [128, 128, 128], "spacing_mm": 1.0, "batch": 2, "weight_decay": 3e-5, "oversampling": 0.33, "optimiser": "sgd",
    "folds": 5, "stem": "repeat", "validation_iterations": 50, "choose": "last", "mirroring": True, "step": 0.5,
}  # fmt: skip
FULL = NNUNET | {"epochs": 500, "iterations": 250}
FEW = NNUNET | {"epochs": 10, "iterations": 200, "k": [1, 2, 4, 8, 16], "runs": 5}
ATTRIBUTES = (
    ADAM | CHANGES | {"cut": "lesion", "side": 96, "steps": 20000, "elastic": 0.0, "affine": 0.0, "class_weights": []}
)
DETECT = (
    ADAM | CHANGES | {"cut": "region", "side": 128, "steps": 5000, "elastic": 0.5, "affine": 0.5, "choose_by": "auc"}
)
STAGE = ADAM | {"cut": "lesion", "class_weights": [], "choose_by": "auc"}
EXPECTED = {
    ("attributes", "paper"): ATTRIBUTES | {"shape_outputs": 4, "orientation": "LPS", "choose_by": "accuracy"},
    ("attributes", "code"): ATTRIBUTES | {"shape_outputs": 5, "orientation": "LAS", "choose_by": "accuracy"},
    ("detect", "paper"): DETECT | {"margin_mm": 24.0, "class_weights": [1.0, 10.0], "orientation": "LPS"},
    ("detect", "code"): DETECT | {"margin_mm": 32.0, "class_weights": [1.0, 10.0], "orientation": "LAS"},
    ("detect", "literal"): DETECT | {"margin_mm": 24.0, "class_weights": [10.0, 1.0]},
    ("detect", "scratch"): DETECT | {"model": "none", "learning_rate": 1e-3, "steps": 10000, "batch": 24},
    ("stage", "paper"): STAGE | {"side": 96, "survival_years": 0.0},
    ("stage", "fmcib"): STAGE | {"side": 48},
    ("stage", "survival-2y"): STAGE | {"survival_years": 2.0},
    ("stage", "survival-3y"): STAGE | {"survival_years": 3.0},
    ("finetune", "paper"): FULL | {"learning_rate": 1e-3},
    ("finetune", "code"): FULL | {"learning_rate": 1e-4},
    ("finetune", "plain-ct"): FULL | {"learning_rate": 1e-4},
    ("fewshot", "paper"): FEW | {"learning_rate": 1e-4, "draw": "any"},
    ("fewshot", "code"): FEW | {"learning_rate": 1e-3, "draw": "any"},
    ("fewshot", "kits"): FEW | {"learning_rate": 1e-4, "draw": "each"},
    ("fewshot", "kits-code"): FEW | {"learning_rate": 1e-3, "draw": "each"},
}


@pytest.mark.parametrize("command,name", list(EXPECTED))
def test_presets_hold_the_published_numbers(command, name):
    found, expected = presets.preset(command, name), EXPECTED[command, name]
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("command", ["attributes", "detect", "stage", "finetune", "fewshot"])
def test_every_preset_is_checked_against_a_source_or_made_for_tests(command):
    assert {name for known, name in EXPECTED if known == command} == set(presets.names(command)) - {"smoke"}
    assert {frozenset(presets.preset(command, name)) for name in presets.names(command)} == {
        frozenset(presets.preset(command, "paper"))
    }
    assert presets.preset(command, "paper")["toy"] == 0 < presets.preset(command, "smoke")["toy"]


# ---------------------------------------------------------------------------------------------------------------


def test_figures_reproduce_the_papers_majority_rows():
    pytest.importorskip("sklearn")
    from training.downstream.metrics import group_figures

    truth = np.repeat(
        [0, 1, 2, 3], [660, 200, 100, 40]
    )  # accuracy .660 of four classes: macro-F1 .199 in the paper's table
    always = np.tile([1.0, 0, 0, 0], (1000, 1))
    found = group_figures(truth, always, 0)
    assert found["accuracy"] == 0.66 and round(found["macro_f1"], 3) == 0.199 and found["balanced_accuracy"] == 0.25
    assert found["collapsed"] and found["auc"] == 0.5 and found["majority"]["accuracy"] == 0.66


def test_figures_of_known_answers():
    pytest.importorskip("sklearn")
    from training.downstream.metrics import all_figures, group_figures, majority_class, over_folds

    truth = np.array([0, 0, 1, 1, -1])
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.35, 0.65], [0.2, 0.8], [0.0, 1.0]])
    found = group_figures(truth, probabilities, np.array([0, 1, 1, 1, 0]))
    assert found["cases"] == 4 and found["accuracy"] == 0.75 and found["auc"] == 1 and not found["collapsed"]
    assert found["majority"]["accuracy"] == 0.75  # each fold's own
    one = group_figures(np.array([1, 1]), probabilities[:2], 1)
    assert one["auc"] is None and one["accuracy"] == 0.5
    assert group_figures(np.array([-1]), probabilities[:1], 0)["cases"] == 0
    assert majority_class(np.array([-1, 2, 2, 0]), 3) == 2 and majority_class(np.array([-1]), 3) == 0
    both = all_figures(np.stack([truth, 1 - np.abs(truth)], 1), [probabilities] * 2, [0, 1], ["a", "b"])
    assert both["mean"]["accuracy"] == pytest.approx((0.75 + both["groups"]["b"]["accuracy"]) / 2)
    folds = over_folds([{"mean": {"auc": 0.5}}, {"mean": {"auc": None}}, {"mean": {"auc": 0.9}}])
    assert folds["auc"] == {"mean": 0.7, "min": 0.5, "max": 0.9, "folds": 2}


def test_cubes_are_changed_as_often_as_asked_and_the_same_for_a_seed():
    torch = pytest.importorskip("torch")
    from training.downstream.augment import CHANGES, augment

    cube = torch.zeros(16, 16, 16)
    cube[3:12, 4:9, 5:8] = torch.rand(9, 5, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    nothing = dict.fromkeys(CHANGES, 0.0)
    assert torch.equal(augment(cube, nothing, np.random.default_rng(0)), cube)
    for change in CHANGES:
        found = augment(cube, nothing | {change: 1.0}, np.random.default_rng(1))
        assert found.shape == cube.shape and torch.isfinite(found).all()
        assert not torch.equal(found, cube) and torch.equal(
            found, augment(cube, nothing | {change: 1.0}, np.random.default_rng(1))
        )
        if change in ("permute", "flip"):
            assert torch.equal(found.flatten().sort().values, cube.flatten().sort().values)
        else:
            assert float(found.max()) <= float(cube.max()) + 1e-5
    # what comes in from beyond the border is air, whatever its value in the network's input
    moved = augment(
        torch.full((16, 16, 16), -3.0), nothing | {"affine": 1.0, "elastic": 1.0}, np.random.default_rng(2), air=-3.0
    )
    assert torch.allclose(moved, torch.tensor(-3.0))
    half = dict.fromkeys(CHANGES, 0.0) | {"flip": 0.5}
    changed = sum(not torch.equal(augment(cube, half, np.random.default_rng(seed)), cube) for seed in range(200))
    assert 75 < changed < 125
