"""Tests of pretrain-segmentation: export to nnU-Net, plans, its trainer and the plain loop, resuming, scores, and bad input."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from PASTALib import taxonomy
from PASTALib.cases import case_folder, find_cases, read_case, training_labels, write_case
from PASTALib.errors import InputError
from PASTALib.networks.card import PASTA_LABELS
from PASTALib.networks.load import load_model
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise
from PASTALib.volume import read_volume, to_canonical
from training.cli import app
from training.presets import names, preset
from training.runs import Run
from training.segmentation.dataset import dataset_json, export_dataset, identifier, list_cases
from training.segmentation.evaluate import accuracy, evaluate, evaluate_attributes, lesion_points
from training.segmentation.plans import fingerprint, make_plans, network_shape

COMMAND = "pretrain-segmentation"
TYPES = ("liver_tumor", "kidney_tumor", "gastric_cancer")


@pytest.fixture(scope="module")
def phantom():
    from PASTALib.phantom import make_phantom
    from PASTALib.synthesis.scan import prepare_scan

    made = make_phantom((6.0, 5.0, 5.0), region="abdomen", workers=1)
    return made, prepare_scan(made.ct, made.organs)


@pytest.fixture(scope="module")
def cases(phantom, tmp_path_factory):
    """Three cases of three types, 6 x 5 x 5 mm."""
    from PASTALib.synthesis.generator import synthesise
    from PASTALib.synthesis.spec import LesionRequest

    made, scan = phantom
    root = tmp_path_factory.mktemp("set")
    for number, kind in enumerate(TYPES):
        lesion = synthesise(scan, LesionRequest(kind, seed=number))
        write_case(case_folder(root, kind, f"{number:04d}"), made.ct, made.organs, [lesion], seed=number)
    return root


@pytest.fixture(scope="module")
def exported(cases, tmp_path_factory):
    raw = tmp_path_factory.mktemp("raw")
    return raw, export_dataset(list_cases(cases), raw, spacing_mm=5.0)


def run(*arguments):
    return CliRunner().invoke(app, [COMMAND, *map(str, arguments)])


def refused(result, *words):
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and all(word in lines[0] for word in words), result.stderr


# ---------------------------------------------------------------------------------------------------------------
# Export and plans


def test_export_has_names_labels_and_geometry(cases, exported):
    raw, data = exported
    on_disk = json.loads((raw / "Dataset025_PASTAGen" / "dataset.json").read_text())
    assert on_disk["labels"] == {"background": 0} | {name: value for value, name in PASTA_LABELS.items()}
    assert on_disk["numTraining"] == 3 and set(on_disk["dataset"]) == set(data["dataset"])
    assert {identifier(folder) for folder in find_cases(cases)} == set(data["dataset"])
    for folder in find_cases(cases):
        entry, case = data["dataset"][identifier(folder)], read_case(folder)
        image, labels = read_volume(entry["images"][0]), read_volume(entry["label"], kind="labels")
        assert image.array.shape == labels.array.shape
        np.testing.assert_allclose(image.affine[:3, :3], np.diag([-5.0, -5.0, 5.0]), atol=1e-6)
        np.testing.assert_array_equal(image.array, to_canonical(case.ct, 5.0).volume.array)
        lesion = taxonomy.lesion(case.reports[0].lesion)
        assert lesion.value in labels.array
        for value in (lesion.value, taxonomy.organ(lesion.organ).value):
            here = np.argwhere(training_labels(case).array == value)
            there = np.argwhere(labels.array == value)
            apart = case.ct.to_ras(here).mean(0) - labels.to_ras(there).mean(0)
            assert np.abs(apart).max() < 3, (value, apart)
            ml = [len(here) * 150 / 1000, len(there) * 125 / 1000]
            assert abs(ml[0] - ml[1]) < 0.25 * ml[0] + 1


def test_export_lists_images_where_they_lie_when_they_are_canonical(phantom, tmp_path):
    from PASTALib.organs import OrganMap
    from PASTALib.synthesis.generator import synthesise
    from PASTALib.synthesis.scan import prepare_scan
    from PASTALib.synthesis.spec import LesionRequest

    made, _ = phantom
    ct, organs = to_canonical(made.ct, 6.0).volume, to_canonical(made.organs.labels, 6.0, "labels").volume
    organs = OrganMap(organs, scheme="pasta")
    lesion = synthesise(prepare_scan(ct, organs), LesionRequest("liver_tumor", seed=1))
    place = write_case(case_folder(tmp_path / "set", "liver_tumor", "a b"), ct, organs, [lesion], seed=1)
    data = export_dataset([place], tmp_path / "raw", spacing_mm=6.0)
    assert data["dataset"]["liver_tumor_a-b"]["images"] == [str(place / "img.nii.gz")]
    assert not list((tmp_path / "raw").rglob("*_0000.nii.gz"))


def test_export_goes_on_where_it_was_stopped(cases, exported):
    raw, data = exported
    labels = sorted((raw / "Dataset025_PASTAGen" / "labelsTr").iterdir())
    before = [path.stat().st_mtime_ns for path in labels[1:]]
    labels[0].unlink()
    assert export_dataset(list_cases(cases), raw, spacing_mm=5.0) == data
    assert labels[0].exists() and [path.stat().st_mtime_ns for path in labels[1:]] == before


def test_regions_hold_their_lesions():
    data = dataset_json(["a"], regions=True)
    assert data["labels"]["kidney"] == [8, 18, 24, 25] and data["labels"]["kidney_stone"] == 25
    assert data["regions_class_order"] == list(range(1, 26))
    assert len(data["labels"]) == 26


def test_two_cases_of_one_name_are_refused(cases, tmp_path):
    folder = next(find_cases(cases))
    with pytest.raises(InputError, match="second case called"):
        export_dataset([folder, folder], tmp_path, spacing_mm=5.0)


@pytest.mark.slow
def test_plans_are_what_nnunet_reads(exported, tmp_path):
    manager = pytest.importorskip("nnunetv2.utilities.plans_handling.plans_handler")
    _, data = exported
    settings = preset(COMMAND, "paper")
    found = fingerprint(data, tmp_path)
    assert fingerprint(data, tmp_path) == found  # from the file
    plans = manager.PlansManager(make_plans(settings, 26, found))
    configuration = plans.get_configuration("3d_fullres")
    assert configuration.patch_size == [128, 128, 128] and configuration.spacing == [1.0] * 3
    assert configuration.batch_size == 16 and len(configuration.pool_op_kernel_sizes) == 6
    assert plans.get_label_manager(data).num_segmentation_heads == 26
    assert plans.foreground_intensity_properties_per_channel["0"]["percentile_00_5"] < -500  # lung
    assert configuration.resampling_fn_data is not None and plans.image_reader_writer_class is not None
    regions = plans.get_label_manager(dataset_json(["a"], regions=True))
    assert regions.has_regions and regions.num_segmentation_heads == 25


def test_every_preset_names_a_possible_training():
    assert {"paper", "code", "code-ft", "code-fewshot", "starter-cpu", "smoke"} <= set(names(COMMAND))
    for name in names(COMMAND):
        shape = network_shape(preset(COMMAND, name), 26)
        assert shape.classes == 26 and shape.levels == 6
    assert preset(COMMAND, "paper")["epochs"] * preset(COMMAND, "paper")["iterations"] == 500_000
    assert preset(COMMAND, "code-ft")["learning_rate"] == 1e-4
    assert preset(COMMAND, "code-fewshot")["learning_rate"] == 1e-3
    assert network_shape(preset(COMMAND, "paper"), 26).channels == (64, 128, 256, 512, 1024, 1024)


# ---------------------------------------------------------------------------------------------------------------
# Training


@pytest.fixture(scope="module")
def trained_by_nnunet(cases, tmp_path_factory):
    pytest.importorskip("nnunetv2")
    out = tmp_path_factory.mktemp("nnunet") / "run"
    result = run("--preset", "smoke-cases", "--data", cases, "--out", out, "--workers", 0, "--threads", 1, "--json")
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


@pytest.mark.slow
def test_nnunet_trains_our_network(trained_by_nnunet):
    out, told = trained_by_nnunet
    assert np.isfinite(told["loss"])
    model = load_model(told["model"])
    assert model.card.labels == PASTA_LABELS and model.shape.channels == (4, 8, 16, 32, 64, 64)
    assert model.card.trained and "research use only" in model.card.notes[0]
    assert model.card.spacing_mm == 5.0 and model.card.patch == (32, 32, 64)
    steps = [line["step"] for line in Run(out, {}).metrics()]
    assert steps == [2, 4, 6]
    # the folder that nnU-Net keeps reads as the same model, intensity statistics included
    folder = next((out / "nnunet" / "results").glob("*/PastaTrainer__*"))
    theirs = load_model(folder)
    assert theirs.card.intensity == model.card.intensity and theirs.card.labels == PASTA_LABELS
    for mine, other in zip(model.networks[0].state_dict().values(), theirs.networks[0].state_dict().values()):
        torch.testing.assert_close(mine, other, atol=1e-3, rtol=1e-3)  # ours in half precision


@pytest.mark.slow
def test_nnunet_goes_on_from_its_checkpoint(cases, tmp_path, monkeypatch):
    from training.segmentation.trainer import PastaTrainer

    line = ["--preset", "smoke-cases", "--data", cases, "--out", tmp_path / "run", "--workers", 0, "--threads", 1]
    end, begun = PastaTrainer.on_epoch_end, []

    def stopped(trainer):
        end(trainer)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PastaTrainer, "on_epoch_end", stopped)
        assert run(*line).exit_code == 130
    fold = next((tmp_path / "run" / "nnunet" / "results").glob("*/*/fold_0"))
    state = torch.load(fold / "checkpoint_latest.pth", weights_only=True)  # nothing but plain values
    assert state["current_epoch"] == 1

    def noted(trainer):
        begun.append((trainer.current_epoch, trainer.plain_network().state_dict()["tu.0.weight"].clone()))
        return start(trainer)

    start = PastaTrainer.on_train_start
    monkeypatch.setattr(PastaTrainer, "on_train_start", noted)
    result = run(*line, "--resume")
    assert result.exit_code == 0, result.output
    ((epoch, weights),) = begun
    assert epoch == 1 and torch.equal(weights, state["network_weights"]["tu.0.weight"])
    lines = Run(tmp_path / "run", {}).metrics()
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert [line["learning_rate"] for line in lines] == sorted((line["learning_rate"] for line in lines), reverse=True)
    assert torch.load(fold / "checkpoint_final.pth", weights_only=True)["current_epoch"] == 3


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("plain") / "run"
    result = run("--preset", "smoke", "--out", out, "--workers", 0, "--threads", 1, "--json")
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


@pytest.mark.slow
def test_the_plain_loop_trains_on_the_fly(smoke_run):
    out, told = smoke_run
    model = load_model(told["model"])
    assert model.segments and model.card.labels == PASTA_LABELS and "made on the fly" in model.card.source
    lines = Run(out, {}).metrics()
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert any("dice_organs" in line for line in lines)
    assert not any(line.get("skipped") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_killed_and_resumed_gives_the_same_weights(smoke_run, tmp_path, workers):
    """Killed without warning after the first checkpoint, then resumed: bit for bit as if nothing had happened."""
    import time

    out = tmp_path / "run"
    line = [sys.executable, "-m", "training", COMMAND, "--preset", "smoke", "--out", str(out), "--threads", "1"]
    process = subprocess.Popen([*line, "--workers", str(workers)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 120
        while not (out / "latest.pth").exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert (out / "latest.pth").exists()
    assert torch.load(out / "latest.pth", weights_only=True)["step"] < 6 or process.returncode == 0
    result = run("--preset", "smoke", "--out", out, "--workers", workers, "--threads", 1, "--resume")
    assert result.exit_code == 0, result.output
    whole, resumed = (torch.load(place / "latest.pth", weights_only=True) for place in (smoke_run[0], out))
    assert whole["step"] == resumed["step"] == 6
    for key, value in whole["network"].items():
        assert torch.equal(value, resumed["network"][key]), key
    assert Run(out, {}).metrics()[-1]["dice_organs"] == Run(smoke_run[0], {}).metrics()[-1]["dice_organs"]


@pytest.mark.slow
def test_starting_weights_are_taken_over(smoke_run, tmp_path):
    from PASTALib.networks.checkpoint import read_weights
    from training.segmentation.stage import start_network

    settings = preset(COMMAND, "smoke")
    network = start_network(settings, read_weights(smoke_run[1]["model"]), seed=5)
    fresh = start_network(settings, None, seed=5)
    stem = "conv_blocks_context.0.blocks.0.conv.weight"
    taken = load_model(smoke_run[1]["model"]).networks[0].state_dict()
    assert torch.equal(network.state_dict()[stem], taken[stem])
    assert not torch.equal(network.state_dict()[stem], fresh.state_dict()[stem])


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """torchrun on one machine: the same loss curve as one process, up to rounding."""
    line = ["-m", "training", COMMAND, "--preset", "smoke", "--threads", "1", "--workers", "0", "--device", "cpu"]
    line += ["--set", "precision=fp32", "--set", "epochs=1", "--set", "batch_dice=true"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    for name, start in (("one", [sys.executable]), ("two", [*torchrun, "--standalone"])):
        done = subprocess.run(
            [*start, *line, "--out", str(tmp_path / name)], capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (torch.load(tmp_path / name / "latest.pth", weights_only=True)["network"] for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], atol=2e-4, rtol=2e-2)


# ---------------------------------------------------------------------------------------------------------------
# Scores


class Oracle:
    """Stands in for a segmentation: the truth, changed by a function."""

    def __init__(self, monkeypatch, change):
        from PASTALib.inference import segmentation

        self.change = change
        monkeypatch.setattr("training.segmentation.evaluate.segment", self.segment)
        self.kind = segmentation.Segmentation

    def segment(self, ct, model, device):
        from PASTALib.volume import Volume

        labels = self.change(self.truth(ct))
        return self.kind(Volume(labels, ct.affine), {}, "", "", "", 0.5, 1, 0, {})

    def truth(self, ct):
        return next(labels for array, labels in self.known if np.array_equal(array, ct.array))


@pytest.fixture
def oracle(monkeypatch, cases):
    def make(change):
        found = Oracle(monkeypatch, change)
        read = [read_case(folder) for folder in find_cases(cases)]
        found.known = [(case.ct.array, training_labels(case).array) for case in read]
        return found

    return make


def test_a_perfect_segmentation_scores_one(cases, oracle):
    oracle(lambda truth: truth)
    scores = evaluate(load_model("random:1"), list_cases(cases))
    assert set(scores["lesions"]) == set(TYPES) and scores["mean"]["organ_dice"] == 1
    assert scores["mean"]["dice"] == scores["mean"]["sensitivity"] == 1 and scores["mean"]["false_positives"] == 0


def test_lesions_taken_for_others_or_for_healthy_are_told_apart(cases, oracle):
    oracle(lambda truth: np.where(truth == 18, 24, np.where(truth == 12, 2, truth)).astype(np.uint8))
    scores = evaluate(load_model("random:1"), list_cases(cases))
    kidney, liver = scores["lesions"]["kidney_tumor"], scores["lesions"]["liver_tumor"]
    assert (kidney["sensitivity"], kidney["sensitivity_any_type"], kidney["dice"]) == (0, 1, 0)
    assert (liver["sensitivity"], liver["sensitivity_any_type"]) == (0, 0)
    assert scores["organs"]["kidney"] == scores["organs"]["liver"] == 1  # a lesion belongs to its organ


def test_pieces_without_a_lesion_are_counted(cases, oracle):
    def two_more(truth):
        changed = truth.copy()
        changed[:2, :2, :2] = changed[:2, -2:, -2:] = 12
        return changed

    oracle(two_more)
    scores = evaluate(load_model("random:1"), list_cases(cases))
    assert scores["lesions"]["liver_tumor"]["false_positives"] == 2
    assert scores["lesions"]["kidney_tumor"]["false_positives"] == 0


def test_lesion_points_lie_in_the_lesion(cases):
    for folder in find_cases(cases):
        case = read_case(folder)
        ((report, point),) = lesion_points(case)
        np.testing.assert_allclose(point, case.record["lesions"][0]["center_ras_mm"], atol=8)
        assert report.lesion == case.reports[0].lesion


def test_attribute_scores_of_a_random_head(cases):
    scores = evaluate_attributes(load_model("random:1"), list_cases(cases))
    assert set(scores) == {"shape", "density", "heterogeneity", "surface", "invasion"}
    assert all(entry["lesions"] == 3 and 0 <= entry["accuracy"] <= 1 for entry in scores.values())


def test_accuracy_beside_majority():
    found = accuracy(["a", "a", "a", "b"], ["a", "a", "a", "a"])
    assert found == {"lesions": 4, "accuracy": 0.75, "majority": 0.75, "balanced": 0.5}


# ---------------------------------------------------------------------------------------------------------------
# Bad input


def test_bad_input_is_one_line_and_leaves_nothing(cases, tmp_path):
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    table = tmp_path / "scans.csv"
    table.write_text("ct,organs\nnone.nii.gz,none.nii.gz\n")
    short = ["--out", out]
    refused(run("--preset", "nothing", *short), "nothing", "paper")
    refused(run("--preset", "smoke", "--set", "widht=3", *short), "did you mean width")
    refused(run("--preset", "smoke", "--set", "width=0", *short), "width", "64")
    refused(run("--preset", "smoke", "--set", "patch=[32,32,32]", *short), "patch", "32")
    refused(run("--preset", "smoke", "--set", "source=elsewhere", *short), "synthesis")
    refused(run("--preset", "smoke", "--set", "regions=true", *short), "regions")
    refused(run("--preset", "smoke", "--set", "batch=0", *short), "batch")
    refused(run("--preset", "smoke", "--set", "optimiser=lion", *short), "adamw")
    refused(run("--preset", "smoke", "--data", cases, *short), "--data")
    refused(run("--preset", "smoke", "--scans", table, *short), "line 2")
    refused(run("--preset", "smoke", "--weights", tmp_path / "none.pth", *short), "none.pth", "--weights")
    refused(run("--preset", "smoke", "--weights", table, *short), "scans.csv", "checkpoint")
    refused(run("--preset", "paper", *short), "--data", "generate")
    refused(run("--preset", "paper", "--data", empty, *short), "holds no case")
    refused(run("--preset", "smoke", "--device", "tpu", *short), "tpu")
    refused(run("--preset", "smoke", "--resume", *short), "no run to resume")
    assert not out.exists()


def test_wrong_labels_are_refused(cases, tmp_path):
    import shutil

    from PASTALib.volume import Volume, write_volume

    folder = next(find_cases(cases))
    copy = tmp_path / "Liver" / "Tumor" / "x"
    shutil.copytree(folder, copy)
    label = read_volume(copy / "label.nii.gz", kind="labels")
    write_volume(Volume(label.array + np.uint8(3), label.affine), copy / "label.nii.gz")
    with pytest.raises(InputError, match="holds the value 5"):
        export_dataset([copy], tmp_path / "raw", spacing_mm=5.0)


def test_missing_width_is_refused():
    with pytest.raises(InputError, match="width is None"):
        network_shape({"patch": [64, 64, 64]}, 26)


@pytest.mark.slow
def test_prepared_folders_are_not_mixed(cases, tmp_path):
    from training.segmentation.nnunet_run import _prepare

    base, raw = tmp_path / "preprocessed" / "set", tmp_path / "raw"
    settings = preset(COMMAND, "smoke-cases")
    listed = list_cases(cases)
    _prepare(base, raw, settings, listed, 26, 0, lambda *_: None)
    _prepare(base, raw, settings, listed, 26, 0, lambda *_: None)
    with pytest.raises(InputError, match="prepared from other cases"):
        _prepare(base, raw, settings | {"spacing_mm": 4.0}, listed, 26, 0, lambda *_: None)


def test_the_network_in_the_plans_is_pasta_s():
    ours = PastaNet(NetworkShape.of_width(4))
    assert sum(p.numel() for p in initialise(ours, 0).parameters()) == 943_604
