"""Detection, staging and attributes: learning, resuming, starting weights, and that nothing is chosen on the fold that is reported."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from PASTALib.errors import InputError  # noqa: E402
from PASTALib.networks.card import ModelCard  # noqa: E402
from PASTALib.networks.load import load_model, save_model  # noqa: E402
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise  # noqa: E402
from PASTALib.progress import Cancelled  # noqa: E402
from training import presets  # noqa: E402
from training.downstream import recipes  # noqa: E402
from training.downstream.classification import check_settings, group_loss  # noqa: E402
from training.downstream.cubes import cut_cubes  # noqa: E402
from training.downstream.splits import inner_split, make_splits  # noqa: E402
from training.downstream.start import read_start  # noqa: E402
from training.downstream.table import read_cases  # noqa: E402
from training.downstream.toy import write_toy  # noqa: E402
from training.runs import Run  # noqa: E402

CPU = torch.device("cpu")
SHORT = {"steps": 6, "save_every": 2, "validate_every": 2, "log_every": 1, "precision": "fp32"}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Function: task -> case table of twelve toy cases."""
    made = {}

    def get(task):
        if task not in made:
            path = write_toy(tmp_path_factory.mktemp(task), task, 12)
            made[task] = read_cases(path, task, classes=("healthy", "tumor") if task == "detect" else ())
        return made[task]

    return get


def recipe_of(table, task, folder, changes=None, model=None, seed=0):
    settings = presets.preset(task, "smoke", SHORT | (changes or {}))
    check_settings(settings)
    files = cut_cubes(table.cases, settings, folder)
    return recipes.Recipe(task, table, settings, read_start(model or settings["model"]), files, seed)


def trained(folder, recipe, ids, resume=False, progress=lambda *_: None):
    with Run.open(folder, recipe.command, recipe.settings, resume=resume) as run:
        return recipes.train_part(run, recipe, ids, 0, device=CPU, resume=resume, progress=progress)


def same(a, b):
    return all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


def test_a_stopped_training_goes_on_to_the_same_weights(toys, tmp_path):
    table = toys("stage")
    recipe = recipe_of(table, "stage", tmp_path / "cubes")
    ids = [case.id for case in table.cases]
    whole, about = trained(tmp_path / "whole", recipe, ids)

    def stop(step, of, text):
        if step == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        trained(tmp_path / "cut", recipe, ids, progress=stop)
    assert torch.load(tmp_path / "cut" / "latest.pth", weights_only=True)["step"] == 4
    again, about_again = trained(tmp_path / "cut", recipe, ids, resume=True)
    assert same(whole, again) and about == about_again
    lines = [
        [line for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in ("whole", "cut")
    ]
    plain = [[{k: v for k, v in json.loads(x).items() if k != "steps_per_s"} for x in part] for part in lines]
    assert plain[0] == plain[1]
    other = recipes.Recipe(recipe.command, table, recipe.settings, recipe.start, recipe.files, 1)
    assert not same(whole, trained(tmp_path / "other", other, ids)[0])


def test_the_reported_fold_is_neither_learned_from_nor_chosen_on(toys, tmp_path):
    """The fold's cubes are noise and its labels are swapped: weights, chosen step and validation must not notice."""
    table = toys("stage")
    splits = make_splits(table.cases, 3, 0)
    clean = recipe_of(table, "stage", tmp_path / "cubes")
    shutil.copytree(tmp_path / "cubes", tmp_path / "bad_cubes")
    rng = np.random.default_rng(0)
    files = {name: tmp_path / "bad_cubes" / path.name for name, path in clean.files.items()}
    for name in splits.test(0):
        np.save(files[name], rng.integers(-1000, 1000, np.load(files[name]).shape).astype(np.int16))
    cases = tuple(
        replace(case, labels={"label": 1 - case.labels["label"]}) if case.id in splits.test(0) else case
        for case in table.cases
    )
    poisoned = recipes.Recipe("stage", replace(table, cases=cases), clean.settings, clean.start, files, clean.seed)
    summaries = []
    for name, recipe in (("clean", clean), ("poisoned", poisoned)):
        summaries.append(recipes.run_fold(tmp_path / name, recipe, splits, 0, device=CPU))
    best = [torch.load(tmp_path / name / "best.pth", weights_only=True) for name in ("clean", "poisoned")]
    assert best[0]["step"] == best[1]["step"]
    assert all(torch.equal(value, best[1]["network"][key]) for key, value in best[0]["network"].items())
    assert [s["step"] for s in summaries] == [best[0]["step"]] * 2
    predictions = [(tmp_path / name / "predictions.csv").read_text() for name in ("clean", "poisoned")]
    assert predictions[0] != predictions[1]  # the poison is real

    for name in splits.test(0):  # and the training runs without those files at all
        files[name].unlink()
    with Run.open(tmp_path / "without", "stage", clean.settings) as run:
        network, about = recipes.train_part(run, poisoned, splits.training(0), 0, device=CPU)
    assert about["step"] == best[0]["step"]
    assert all(torch.equal(value, best[0]["network"][key]) for key, value in network.state_dict().items())


def test_weights_are_chosen_on_the_inner_part(toys, tmp_path):
    """Poison in the inner part does change the choice's score: the test above would notice a leak."""
    table = toys("stage")
    recipe = recipe_of(table, "stage", tmp_path / "cubes")
    ids = [case.id for case in table.cases]
    seed = int(np.random.default_rng([recipe.seed, 0]).integers(2**31))
    _, choose = inner_split(table.of(ids), recipe.settings["validation_share"], seed)
    trained(tmp_path / "clean", recipe, ids)
    for name in choose:
        np.save(recipe.files[name], np.full(np.load(recipe.files[name]).shape, -1000, np.int16))
    trained(tmp_path / "poisoned", recipe, ids)
    found = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("clean", "poisoned")
    ]
    losses = [[line["loss"] for line in part if "loss" in line] for part in found]
    scores = [[line["validation_loss"] for line in part if "validation_loss" in line] for part in found]
    assert losses[0] == losses[1] and scores[0] != scores[1]


@pytest.mark.slow
def test_what_is_easy_to_see_is_learned(toys, tmp_path):
    table = toys("stage")
    changes = {"steps": 60, "batch": 6, "learning_rate": 3e-3, "validate_every": 10, "save_every": 60, "log_every": 10}
    recipe = recipe_of(table, "stage", tmp_path / "cubes", changes)
    splits = make_splits(table.cases, 2, 0)
    for fold in range(2):
        recipes.run_fold(tmp_path / f"fold_{fold}", recipe, splits, fold, device=CPU)
    found = recipes.summarise(tmp_path, recipe, splits)
    figures = found["pooled"]["groups"]["label"]
    assert figures["cases"] == 12 and figures["majority"]["accuracy"] == 0.5
    assert figures["accuracy"] >= 0.9 and figures["balanced_accuracy"] >= 0.9 and not figures["collapsed"]
    assert found["over_folds"]["auc"]["mean"] >= 0.9


def test_a_fold_leaves_a_model_predictions_and_a_summary(toys, tmp_path):
    table = toys("attributes")
    recipe = recipe_of(table, "attributes", tmp_path / "cubes", {"steps": 2, "shape_outputs": 5})
    splits = make_splits(table.cases, 2, 0)
    summary = recipes.run_fold(tmp_path / "fold_0", recipe, splits, 0, device=CPU)
    assert not (tmp_path / "fold_0" / "latest.pth").exists()
    before = (tmp_path / "fold_0" / "predictions.csv").read_bytes()
    assert recipes.run_fold(tmp_path / "fold_0", recipe, splits, 0, device=CPU, resume=True) == summary
    assert (tmp_path / "fold_0" / "predictions.csv").read_bytes() == before

    model = load_model(tmp_path / "fold_0" / "model.pth")
    assert model.predicts_attributes and model.shape.attribute_outputs == 14 and model.card.attribute_crop == 32
    with (tmp_path / "fold_0" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == splits.test(0)
    for row in rows:
        for group, options in table.groups.items():
            shares = [float(row[f"{group}:{option}"]) for option in options]
            assert sum(shares) == pytest.approx(1, abs=1e-6)
            assert row[f"{group}_predicted"] == options[int(np.argmax(shares))]
    found = recipes.summarise(tmp_path, recipe, splits)
    assert found["folds_done"] == [0] and found["cases"] == 6
    assert found["pooled"]["mean"] == pytest.approx(summary["mean"], abs=1e-6)


def checkpoint(path, outputs, seed=5, channels=4):
    network = initialise(PastaNet(NetworkShape.of_width(channels, classes=26, attribute_outputs=outputs)), seed)
    labels = {n: f"c{n}" for n in range(1, 26)}
    save_model(path, network, ModelCard("start", labels=labels, attribute_crop=32), torch.float32)
    return network


def test_trunk_and_hidden_layers_come_from_the_starting_weights(toys, tmp_path):
    given = checkpoint(tmp_path / "start.pth", 13).state_dict()
    for task, kept in (("detect", "head.2.weight"), ("attributes", "head.4.weight")):
        recipe = recipe_of(toys(task), task, tmp_path / task, {"class_weights": []}, str(tmp_path / "start.pth"))
        network, told = recipes.new_network(recipe, 1)
        state = network.state_dict()
        for key in ("conv_blocks_context.4.blocks.1.conv.weight", "head.0.weight", kept):
            assert torch.equal(state[key], given[key])
        assert not any(key.startswith(("tu.", "seg_outputs.", "conv_blocks_localization.")) for key in state)
        assert ("head" in told) == (task == "detect") or "dropped" in told
        if task == "detect":
            assert state["head.4.weight"].shape[0] == 2
    anew = replace(recipe, settings={**recipe.settings, "head": "new"})
    assert not torch.equal(recipes.new_network(anew, 1)[0].state_dict()["head.0.weight"], given["head.0.weight"])
    assert same(recipes.new_network(anew, 1)[0], recipes.new_network(anew, 1)[0])


def test_new_values_differ_by_seed_and_wrong_starts_are_one_line(tmp_path):
    start = read_start("none:4")
    shape = NetworkShape(start.channels, 1, 0, 2)
    assert same(start.network(shape, 3)[0], start.network(shape, 3)[0])
    assert not same(start.network(shape, 3)[0], start.network(shape, 4)[0])
    with pytest.raises(InputError, match="none:WIDTH"):
        read_start("random:8")
    with pytest.raises(InputError, match="neither a file"):
        read_start(str(tmp_path / "nothing.pth"))


def test_the_loss_weighs_classes_and_leaves_unknown_labels_out():
    logits = torch.tensor([[2.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 3.0]])
    none = torch.tensor([1.0])
    first = torch.nn.functional.cross_entropy(logits[:, :2], torch.tensor([0, 1]))
    second = torch.nn.functional.cross_entropy(logits[:1, 2:], torch.tensor([1]))
    found = group_loss(logits, torch.tensor([[0, 1], [1, -1]]), [2, 2], none)
    assert torch.allclose(found, (first + second) / 2)
    assert torch.allclose(group_loss(logits, torch.tensor([[0, -1], [1, -1]]), [2, 2], none), first)
    assert float(group_loss(logits, torch.full((2, 2), -1), [2, 2], none)) == 0
    weights = torch.tensor([1.0, 10.0])
    weighted = torch.nn.functional.cross_entropy(logits[:, :2], torch.tensor([0, 1]), weights)
    assert torch.allclose(group_loss(logits[:, :2], torch.tensor([[0], [1]]), [2], weights), weighted)
    assert not torch.allclose(weighted, first)


@pytest.mark.parametrize(
    "changes,expected",
    [
        ({"steps": 0}, "steps is 0"),
        ({"flip": 1.5}, "flip is 1.5"),
        ({"choose": "worst"}, "best or last"),
        ({"choose_by": "luck"}, "accuracy or auc"),
        ({"validation_share": 0.0}, "choose=best needs cases"),
        ({"precision": "int3"}, "precision"),
    ],
)
def test_settings_that_cannot_be(changes, expected):
    with pytest.raises(InputError, match=expected):
        check_settings(presets.preset("stage", "smoke", changes))
