"""Fine-tuning with nnU-Net: resuming, fold safety, draws, Dice and its rules, several images, and a model for `pasta segment`."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

from PASTALib.errors import InputError  # noqa: E402
from PASTALib.networks.card import ModelCard  # noqa: E402
from PASTALib.networks.load import load_model, save_model  # noqa: E402
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise  # noqa: E402
from PASTALib.progress import Cancelled  # noqa: E402
from PASTALib.volume import Volume, read_volume, write_volume  # noqa: E402
from training import presets  # noqa: E402
from training.downstream import segmentation as work  # noqa: E402
from training.downstream.finetuning import check_settings, train_on  # noqa: E402
from training.downstream.labelled import read_scan_table, standardise  # noqa: E402
from training.downstream.splits import Splits  # noqa: E402
from training.downstream.start import read_start  # noqa: E402
from training.downstream.toy import write_toy  # noqa: E402
from training.runs import Run  # noqa: E402

CPU = torch.device("cpu")
SPLITS = Splits((("toy000", "toy001"), ("toy002", "toy003")), 0)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Four toy scans and the same in canonical space."""
    folder = tmp_path_factory.mktemp("toys")
    scans = read_scan_table(write_toy(folder, "segment", 4), ["organ", "tumor"])
    return standardise(scans, folder / "canonical", 4.0)


def study_of(toys, command="finetune", changes=None, model="none:4", draws=None):
    settings = presets.preset(command, "smoke", {"precision": "fp32"} | (changes or {}))
    start = read_start(model)
    check_settings(settings, start, 3)
    return work.Study(command, *toys, settings, start, SPLITS, 0, draws or {})


def weights(folder):
    (file,) = folder.glob("nnunet/results/**/checkpoint_final.pth")
    return torch.load(file, map_location="cpu", weights_only=True)["network_weights"]


def train(folder, study, learn, resume=False, progress=lambda *_: None):
    how = {"seed": 3, "device": CPU, "resume": resume, "progress": progress}
    with Run.open(folder, study.command, study.settings, resume=resume) as run:
        return train_on(run, study.canonical, learn, [], study.settings, study.start, **how)


def same(a, b):
    return all(torch.equal(value, b[key]) for key, value in a.items())


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_weights(toys, tmp_path):
    study = study_of(toys, changes={"epochs": 3})
    learn = ["toy000", "toy001"]
    whole = train(tmp_path / "whole", study, learn).network.state_dict()

    def stop(step, of, text):
        if (step, of) == (2, 3) and text.startswith("loss"):
            raise Cancelled

    with pytest.raises(Cancelled):
        train(tmp_path / "cut", study, learn, progress=stop)
    assert not list((tmp_path / "cut").glob("nnunet/results/**/checkpoint_final.pth"))
    assert same(whole, train(tmp_path / "cut", study, learn, resume=True).network.state_dict())
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6]
    assert same(whole, train(tmp_path / "cut", study, learn, resume=True).network.state_dict())  # nothing left to do
    (plans,) = (tmp_path / "cut").glob("nnunet/results/**/plans.json")
    assert read_start(str(plans.parent)).channels == study.start.channels  # nnU-Net's folder serves as a start


@pytest.mark.slow
def test_the_reported_fold_reaches_neither_weights_nor_intensities(toys, tmp_path):
    """Of the tested scans' canonical files only rubbish is left, and their masks are swapped: the weights must not notice."""
    known, canonical = toys
    clean, unit = study_of(toys), work.Unit(0)
    summary = work.run_unit(tmp_path / "clean", clean, unit, device=CPU)
    shutil.copytree(canonical.scans[0].mask.parent, tmp_path / "canonical")
    moved = []
    for scan in canonical.scans:
        files = [tmp_path / "canonical" / path.name for path in (*scan.images, scan.mask)]
        if scan.id in SPLITS.test(0):
            for path in files:
                path.write_bytes(b"no image")
        moved.append(replace(scan, images=tuple(files[:-1]), mask=files[-1]))
    odd = [replace(scan, mask=known.scans[2].mask) if scan.id in SPLITS.test(0) else scan for scan in known.scans]
    poisoned = replace(clean, scans=replace(known, scans=tuple(odd)), canonical=replace(canonical, scans=tuple(moved)))
    again = work.run_unit(tmp_path / "poisoned", poisoned, unit, device=CPU)
    models = [load_model(tmp_path / name / "fold_0" / "model.pth") for name in ("clean", "poisoned")]
    assert same(models[0].networks[0].state_dict(), models[1].networks[0].state_dict())
    assert models[0].card == models[1].card  # intensity statistics included
    assert summary["mean"] != again["mean"]  # the poison is real


@pytest.mark.slow
def test_a_unit_leaves_dice_and_a_model_that_segments(toys, tmp_path):
    study, unit = study_of(toys), work.Unit(1)
    summary = work.run_unit(tmp_path, study, unit, device=CPU)
    assert summary["trained_on"] == ["toy000", "toy001"] and summary["chosen_by"] == []
    with (tmp_path / "fold_1" / "dice.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["id"], row["label"]) for row in rows] == [
        (name, label) for name in ("toy002", "toy003") for label in ("organ", "tumor")
    ]
    model = load_model(tmp_path / "fold_1" / "model.pth")
    assert model.card.labels == {1: "organ", 2: "tumor"} and model.card.spacing_mm == 4.0
    assert model.card.orientation == "LPS" and model.card.intensity.mean_std is not None
    from PASTALib.inference.segmentation import segment

    scan = study.scans.of(["toy002"])[0]
    found = segment(read_volume(scan.images[0], "ct"), model, device="cpu", step=1.0).labels.array
    truth = read_volume(scan.mask, "labels").array
    for value, row in zip((1, 2), rows):
        both, total = ((found == value) & (truth == value)).sum(), (found == value).sum() + (truth == value).sum()
        assert float(row["dice"]) == pytest.approx(2 * both / total)
    assert not (tmp_path / "fold_1" / "nnunet" / "preprocessed").exists()
    assert not list((tmp_path / "fold_1").glob("nnunet/**/*.pth"))
    assert work.run_unit(tmp_path, study, unit, device=CPU, resume=True) == summary
    overall = work.summarise(tmp_path, study, [work.Unit(0), unit])
    assert overall["units_done"] == 1 and overall["pooled"]["mean"] == summary["mean"]


def test_decoder_too_comes_from_the_starting_weights_but_the_outputs_are_new(toys, tmp_path):
    network = initialise(PastaNet(NetworkShape.of_width(4, classes=26)), 9)
    save_model(
        tmp_path / "start.pth", network, ModelCard("start", labels={n: f"c{n}" for n in range(1, 26)}), torch.float32
    )
    start = read_start(str(tmp_path / "start.pth"))
    given = network.state_dict()
    one, told = start.network(NetworkShape.of_width(4, classes=3), 0)
    for key, value in one.state_dict().items():
        assert torch.equal(value, given[key]) != key.startswith("seg_outputs.")
    assert "segmentation output" in told
    same_size, _ = start.network(NetworkShape.of_width(4, classes=26), 0)
    assert not torch.equal(same_size.state_dict()["seg_outputs.4.weight"], given["seg_outputs.4.weight"])
    stem = "conv_blocks_context.0.blocks.0.conv.weight"
    for mode, factor in (("repeat", 1), ("mean", 4)):
        four, _ = start.network(NetworkShape.of_width(4, classes=3, in_channels=4), 0, stem=mode)
        assert torch.equal(four.state_dict()[stem], given[stem].repeat(1, 4, 1, 1, 1) / factor)
    with pytest.raises(InputError, match="epochs is 0"):
        check_settings(presets.preset("finetune", "smoke", {"epochs": 0}), start, 3)
    with pytest.raises(InputError, match="patch"):
        check_settings(presets.preset("finetune", "smoke", {"patch": [30, 30, 30]}), start, 3)


@pytest.mark.slow
def test_several_images_are_standardised_one_by_one_and_predicted(toys, tmp_path):
    """Two "MRI" channels, as in the paper's brain and liver tasks; nnU-Net's folder serves the user instead of model.pth."""
    known, _ = toys
    rows = ["id,ct,mask"]
    for scan in known.scans:
        volume = read_volume(scan.images[0], "ct")
        for n, factor in enumerate((0.01, -3.0)):
            write_volume(
                Volume(volume.array.astype(np.float32) * factor, volume.affine), tmp_path / f"{scan.id}_{n}.nii.gz"
            )
        rows.append(f"{scan.id},{scan.id}_0.nii.gz;{scan.id}_1.nii.gz,{scan.mask}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    scans = standardise(
        read_scan_table(tmp_path / "t.csv", ["organ", "tumor"], ["T1", "T2"]), tmp_path / "canonical", 4.0
    )
    study = study_of(scans, changes={"epochs": 1})
    summary = work.run_unit(tmp_path, study, work.Unit(0), device=CPU)
    assert summary["by_label"]["organ"]["scans"] == 2
    folder = tmp_path / "fold_0"
    assert (
        not (folder / "model.pth").exists()
        and weights(folder)["conv_blocks_context.0.blocks.0.conv.weight"].shape[1] == 2
    )
    (plans,) = folder.glob("nnunet/results/**/plans.json")
    assert (
        json.loads(plans.read_text())["configurations"]["3d_fullres"]["normalization_schemes"]
        == ["ZScoreNormalization"] * 2
    )
    with pytest.raises(InputError, match="2 images of each patient"):
        load_model(plans.parent)


def test_draws_are_kept_and_belong_to_the_training_folds(toys, tmp_path):
    known, _ = toys
    settings = presets.preset("fewshot", "smoke", {"runs": 3, "draw": "each"})
    draws = work.kept_draws(tmp_path / "draws.json", known, SPLITS, settings, 0)
    for fold in range(2):
        for ids in draws[str(fold)].values():
            assert sorted(ids) == SPLITS.training(fold)
    assert work.kept_draws(tmp_path / "draws.json", known, SPLITS, settings, 0) == draws
    with pytest.raises(InputError, match="other draws"):
        work.kept_draws(tmp_path / "draws.json", known, SPLITS, settings | {"runs": 1}, 0)
    without = replace(known, scans=tuple(replace(scan, holds=(1,)) for scan in known.scans))
    with pytest.raises(InputError, match="fold 0: 0 training cases hold all of the labels 1, 2"):
        work.kept_draws(tmp_path / "more.json", without, SPLITS, settings, 0)
    with pytest.raises(InputError, match="draw_labels 'cyst'"):
        work.kept_draws(tmp_path / "more.json", known, SPLITS, settings | {"draw_labels": ["cyst"]}, 0)
    study = study_of(toys, "fewshot", draws=draws)
    learn, choose = study.learning(work.Unit(0, 1, 2))
    assert learn == draws["0"]["2"][:1] and choose == []
    assert len({study.seed_of(work.Unit(0, 1, run)) for run in range(5)}) == 5


def test_dice_says_what_it_does_with_empty_masks():
    labels = {"organ": 1, "tumor": 2}
    truth = np.zeros((4, 4, 4), np.uint8)
    found = truth.copy()
    truth[:2], found[1:3] = 1, 1
    found[3, 0, 0] = 2
    organ, tumor = work.dice_rows(truth, found, labels)
    assert organ["dice"] == 0.5 == organ["dice_all"] and organ["voxels"] == organ["predicted_voxels"] == 32
    assert tumor["dice"] == "" and tumor["dice_all"] == 0 and tumor["predicted_voxels"] == 1
    both = [{"id": n, **row} for n in "ab" for row in work.dice_rows(truth, found, labels)]
    both += [{"id": "c", **row} for row in work.dice_rows(truth, truth, labels)]
    figures = work.figures(both, labels)
    assert figures["by_label"]["tumor"] == {
        "scans": 3, "scans_with": 0, "dice": None, "dice_all": pytest.approx(1 / 3), "false_positives": 2,
    }  # fmt: skip
    assert figures["mean"]["dice"] == figures["by_label"]["organ"]["dice"] == pytest.approx(2 / 3)
