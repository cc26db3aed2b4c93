"""nnU-Net: its own network under our names, number for number, and model folders read without nnU-Net."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from PASTALib.errors import InputError
from PASTALib.inference.intensity import Intensity
from PASTALib.networks.checkpoint import read_weights
from PASTALib.networks.load import load_model
from PASTALib.networks.matching import match
from PASTALib.networks.nnunet_folder import card_of, lesion_of, read_folder, taxonomy_keys
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise

# ---------------------------------------------------------------------------------------------------------------
# nnU-Net's own network


def plain_conv_unet(features=(4, 8, 16, 20), classes=3, **other):
    unet = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    stages = len(features)
    options = {
        "input_channels": 1,
        "n_stages": stages,
        "features_per_stage": list(features),
        "conv_op": torch.nn.Conv3d,
        "kernel_sizes": 3,
        "strides": [1] + [2] * (stages - 1),
        "n_conv_per_stage": 2,
        "num_classes": classes,
        "n_conv_per_stage_decoder": 2,
        "conv_bias": True,
        "norm_op": torch.nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": torch.nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "deep_supervision": True,
    }
    return unet.PlainConvUNet(**(options | other))


def randomised(network):
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 4
        parameter.data = torch.randn(parameter.shape, generator=generator) * (2 / fan) ** 0.5
    return network.eval()


def saved(network, path, **more):
    torch.save({"network_weights": network.state_dict(), **more}, path)
    return path


@pytest.mark.parametrize("features", [(4, 8, 16, 20), (4, 8, 16, 20, 24, 24)])
def test_plain_conv_unet_is_ours_number_for_number(tmp_path, features):
    theirs = randomised(plain_conv_unet(features))
    size = (32, 32, 32) if len(features) < 6 else (32, 32, 64)
    shape, state, report = match(read_weights(saved(theirs, tmp_path / "checkpoint_final.pth")))
    assert shape == NetworkShape(features, 1, 3, 0, biases=True)
    assert report.naming == "nnU-Net" and not report.dropped and not report.missing
    ours = PastaNet(shape, deep_supervision=True).eval()
    ours.load_state_dict(state)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    x = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        outputs = theirs(x)
        assert len(outputs) == len(features) - 1
        for found, wanted in zip(ours(x), outputs):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        assert wanted.std() > 0.1


def test_plain_conv_unet_compiled_and_wrapped(tmp_path):
    theirs = randomised(plain_conv_unet())
    torch.save(
        {"state_dict": {f"module._orig_mod.{key}": value for key, value in theirs.state_dict().items()}},
        tmp_path / "a.pth",
    )
    shape, _, _ = match(read_weights(tmp_path / "a.pth"))
    assert shape.classes == 3 and shape.biases


def residual_unet():
    unet = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    return unet.ResidualEncoderUNet(
        1, 3, (4, 8, 16), torch.nn.Conv3d, 3, [1, 2, 2], 2, 3, 1, True, torch.nn.InstanceNorm3d, {"affine": True}, None, None, torch.nn.LeakyReLU
    )  # fmt: skip


def pooling_encoder():
    blocks = pytest.importorskip("dynamic_network_architectures.building_blocks.plain_conv_encoder")
    network = torch.nn.Module()
    network.encoder = blocks.PlainConvEncoder(
        1, 3, [4, 8, 16], torch.nn.Conv3d, 3, [1, 2, 2], 2, True, torch.nn.InstanceNorm3d, {"affine": True}, pool="max"
    )
    return network


OTHER_NETWORKS = {
    "residual encoder": (residual_unet, "a residual encoder"),
    "anisotropic strides": (lambda: plain_conv_unet(strides=[1, [1, 2, 2], 2, 2]), "strides of 1x2x2"),
    "anisotropic kernels": (lambda: plain_conv_unet(kernel_sizes=[[1, 3, 3], 3, 3, 3]), "kernels of 1x3x3"),
    "three convolutions": (lambda: plain_conv_unet(n_conv_per_stage=[2, 2, 3, 2]), "3 convolutions in a stage"),
    "one convolution": (lambda: plain_conv_unet(n_conv_per_stage_decoder=1), "1 convolutions in a stage"),
    "no bias": (lambda: plain_conv_unet(conv_bias=False), "without bias"),
    "batch normalisation": (lambda: plain_conv_unet(norm_op=torch.nn.BatchNorm3d), "batch normalisation"),
    "2-D": (lambda: plain_conv_unet(conv_op=torch.nn.Conv2d, norm_op=torch.nn.InstanceNorm2d), "2-D layers"),
    "pooling": (pooling_encoder, "pooling"),
}


@pytest.mark.parametrize("name", OTHER_NETWORKS)
def test_other_networks_of_nnunet_are_named_and_refused(tmp_path, name):
    make, wanted = OTHER_NETWORKS[name]
    path = saved(make(), tmp_path / "checkpoint_final.pth")
    with pytest.raises(InputError) as caught:
        match(read_weights(path))
    line = str(caught.value)
    assert line.startswith(f"{path}: nnU-Net network with ") and wanted in line and "nnUNetv2_predict" in line


# ---------------------------------------------------------------------------------------------------------------
# Model folders

PLANS = {
    "dataset_name": "Dataset006_Lung",
    "plans_name": "nnUNetPlans",
    "transpose_forward": [0, 1, 2],
    "image_reader_writer": "SimpleITKIO",
    "configurations": {
        "2d": {"patch_size": [512, 512], "spacing": [1.0, 1.0], "normalization_schemes": ["CTNormalization"]},
        "3d_lowres": {
            "patch_size": [96, 96, 96],
            "spacing": [2.0, 2.0, 2.0],
            "normalization_schemes": ["CTNormalization"],
        },
        "3d_fullres": {
            "patch_size": [128, 96, 160],
            "spacing": [1.0, 1.0, 1.0],
            "normalization_schemes": ["CTNormalization"],
        },
        "3d_fullres_small": {"inherits_from": "3d_fullres", "patch_size": [64, 64, 64]},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    },
    "foreground_intensity_properties_per_channel": {
        "0": {
            "mean": -158.5,
            "std": 324.7,
            "percentile_00_5": -1024.0,
            "percentile_99_5": 275.0,
            "median": -120.0,
            "max": 3000,
            "min": -1024,
        }
    },
}
DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "organ": 1, "tumor": 2},
    "numTraining": 63,
    "file_ending": ".nii.gz",
}
WIDTH = 4


def changed(base: dict, path: str, value) -> dict:
    """A copy of nested dictionaries with the entry at ``a/b/c`` replaced; None removes it."""
    result = copy.deepcopy(base)
    *parents, last = path.split("/")
    place = result
    for name in parents:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return result


@pytest.fixture
def folder(tmp_path):
    """Function: builds Dataset…/Trainer__Plans__configuration with folds, and returns it."""

    def build(
        plans=PLANS, dataset=DATASET, folds=(0,), classes=3, trainer="TotalLesionTrainer_ft", configuration="3d_fullres",
        file="checkpoint_final.pth", name=None, widths=None, init_args=None,
    ):  # fmt: skip
        root = tmp_path / "Dataset006_Lung" / (name or f"{trainer}__nnUNetPlans__{configuration}")
        root.mkdir(parents=True)
        (root / "plans.json").write_text(json.dumps(plans))
        (root / "dataset.json").write_text(json.dumps(dataset))
        for fold in folds:
            network = initialise(
                PastaNet(NetworkShape.of_width((widths or {}).get(fold, WIDTH), classes=classes)),
                seed=hash(str(fold)) % 97,
            )
            (root / f"fold_{fold}").mkdir()
            torch.save(
                {
                    "network_weights": network.state_dict(),
                    "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}},
                    "grad_scaler_state": {"scale": 65536.0},
                    "logging": {
                        "mean_fg_dice": [np.float32(0.5)],
                        "dice_per_class_or_region": [[np.float64(0.1), np.float64(0.9)]],
                    },
                    "_best_ema": np.float64(0.61),
                    "current_epoch": 500,
                    "init_args": init_args
                    or {"fold": fold, "configuration": configuration, "device": torch.device("cuda")},
                    "trainer_name": trainer,
                    "inference_allowed_mirroring_axes": (0, 1, 2),
                },
                root / f"fold_{fold}" / file,
            )
        return root

    return build


def test_folder_of_a_trainer_that_nobody_has(folder):
    root = folder(folds=(0, 1, 2))
    model = load_model(root)
    card = model.card
    assert len(model.networks) == 3 and model.shape == NetworkShape.of_width(WIDTH, classes=3)
    assert not torch.equal(model.networks[0].tu[0].weight, model.networks[1].tu[0].weight)
    assert card.name == "Dataset006_Lung" and card.labels == {1: "organ", 2: "tumor"} and card.lesion == "lung_tumor"
    assert card.patch == (128, 96, 160) and card.spacing_mm == 1.0 and card.orientation == "LPS" and card.trained
    assert card.intensity == Intensity.standardised(-1024, 275, -158.5, 324.7)
    assert "TotalLesionTrainer_ft" in card.source and card.notes == ()
    assert model.mirror_axes == (0, 1, 2) and not model.predicts_attributes
    assert len(model.digest) == 16 and model.digest != load_model(root / "fold_0").digest
    with pytest.raises(InputError, match=r"segments 3 classes \(background, organ, tumor\); wanted one of 26"):
        model.expect(26)


def test_every_way_to_point_at_it(folder):
    root = folder(folds=(0, 1))
    for place, count in [
        (root, 2),
        (root.parent, 2),
        (root / "fold_1", 1),
        (root / "fold_1" / "checkpoint_final.pth", 1),
    ]:
        found = read_folder(place)
        assert found.path == root and len(found.checkpoints) == count and found.configuration == "3d_fullres"
        assert len(load_model(place).networks) == count and load_model(place).card.patch == (128, 96, 160)
    assert read_folder(root / "fold_1").checkpoints == [root / "fold_1" / "checkpoint_final.pth"]
    flat = root.parent.parent / "flat"
    flat.mkdir()
    for file in (root / "plans.json", root / "dataset.json", root / "fold_0" / "checkpoint_final.pth"):
        shutil.copy(file, flat)
    assert load_model(flat / "checkpoint_final.pth").card.patch == load_model(flat).card.patch == (128, 96, 160)


def test_plans_inside_a_lone_checkpoint(folder, tmp_path):
    root = folder(init_args={"plans": PLANS, "dataset_json": DATASET, "configuration": "3d_fullres_small", "fold": 0})
    shutil.move(root / "fold_0" / "checkpoint_final.pth", tmp_path / "lung.pth")
    card = load_model(tmp_path / "lung.pth").card
    assert card.patch == (64, 64, 64) and card.spacing_mm == 1.0 and card.lesion == "lung_tumor"
    assert card.intensity.mean_std == (-158.5, 324.7)


def test_which_configuration(folder):
    assert load_model(folder(configuration="3d_fullres_small")).card.patch == (64, 64, 64)
    model = load_model(folder(name="my_model", configuration="3d_lowres"))  # only the checkpoint tells
    assert model.card.spacing_mm == 2.0 and model.card.patch == (96, 96, 96)
    nameless = folder(name="other_model", init_args={"fold": 0})
    with pytest.raises(InputError, match=r"which configuration was trained\? 2d, 3d_lowres, 3d_fullres"):
        load_model(nameless)
    single = changed(
        changed(changed(PLANS, "configurations/3d_lowres", None), "configurations/3d_cascade_fullres", None),
        "configurations/3d_fullres_small",
        None,
    )
    (nameless / "plans.json").write_text(json.dumps(single))
    assert load_model(nameless).card.patch == (128, 96, 160)


def test_best_checkpoint_and_empty_folds_are_noted(folder):
    root = folder(folds=(0, 1, 2), file="checkpoint_best.pth")
    (root / "fold_1" / "checkpoint_best.pth").unlink()
    (root / "fold_0" / "checkpoint_best.pth").rename(root / "fold_0" / "checkpoint_final.pth")
    model = load_model(root)
    assert len(model.networks) == 2
    assert model.card.notes == (
        "fold_2: checkpoint_best.pth is used, because checkpoint_final.pth is missing",
        "fold_1 has no checkpoint_final.pth and is left out",
    )


def test_fold_all_counts_only_alone(folder):
    root = folder(folds=(0, "all"))
    assert [file.parent.name for file in read_folder(root).checkpoints] == ["fold_0"]
    shutil.rmtree(root / "fold_0")
    assert [file.parent.name for file in read_folder(root).checkpoints] == ["fold_all"]


def test_nnunets_own_network_in_a_folder(folder):
    root = folder(trainer="nnUNetTrainer")
    saved(randomised(plain_conv_unet()), root / "fold_0" / "checkpoint_final.pth", trainer_name="nnUNetTrainer")
    model = load_model(root)
    assert model.shape.biases and model.shape.classes == 3 and model.report.naming == "nnU-Net"
    assert model.card.notes == ("the axes of the training images are not on record; L, P, S is assumed",)
    for architecture, wanted in [
        ({"network_class_name": "x.ResidualEncoderUNet"}, "ResidualEncoderUNet"),
        ({"network_class_name": "x.PlainConvUNet", "arch_kwargs": {"nonlin": "torch.nn.ReLU"}}, "torch.nn.ReLU"),
        ({"network_class_name": "x.PlainConvUNet", "arch_kwargs": {"strides": [[2, 2, 2], [2, 2, 2]]}}, "stride"),
    ]:
        plans = changed(PLANS, "configurations/3d_fullres/architecture", architecture)
        (root / "plans.json").write_text(json.dumps(plans))
        with pytest.raises(InputError, match=wanted):
            load_model(root)
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
            "strides": [[1, 1, 1], [2, 2, 2]],
        },
    }
    (root / "plans.json").write_text(json.dumps(changed(PLANS, "configurations/3d_fullres/architecture", architecture)))
    assert load_model(root).segments


def test_nothing_of_nnunet_is_imported(folder):
    root = folder()
    code = (
        "import sys\nfrom PASTALib.networks.load import load_model\n"
        f"load_model({str(root)!r})\nassert not any(name.split('.')[0] == 'nnunetv2' for name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


FULL = "configurations/3d_fullres"
BROKEN = {
    "regions": ({}, {"labels": {"background": 0, "whole": [1, 2], "core": [2]}}, "overlapping regions"),
    "anisotropic": ({f"{FULL}/spacing": [5.0, 0.8, 0.8]}, {}, "anisotropic voxels of 5 x 0.8 x 0.8 mm"),
    "permuted": ({"transpose_forward": [2, 0, 1]}, {}, "permute the axes"),
    "z-score": ({f"{FULL}/normalization_schemes": ["ZScoreNormalization"]}, {}, "by itself (ZScoreNormalization)"),
    "rescale": ({f"{FULL}/normalization_schemes": ["RescaleTo01Normalization"]}, {}, "RescaleTo01Normalization"),
    "two channels": ({f"{FULL}/normalization_schemes": ["CTNormalization"] * 2}, {"channel_names": {"0": "CT", "1": "PET"}}, "2 images of each patient (CT, PET)"),
    "no statistics": ({"foreground_intensity_properties_per_channel": None}, {}, "foreground_intensity_properties"),
    "odd statistics": ({"foreground_intensity_properties_per_channel/0/std": "wide"}, {}, "foreground_intensity_properties"),
    "no configurations": ({"configurations": None}, {}, "configurations"),
    "configurations of words": ({"configurations": "all"}, {}, "plans without"),
    "axes of words": ({"transpose_forward": 1}, {}, "not as nnU-Net version 2 writes them"),
    "statistics of words": ({"foreground_intensity_properties_per_channel": "none"}, {}, "foreground_intensity_properties"),
    "patch of words": ({f"{FULL}/patch_size": "large"}, {}, "patch_size"),
    "spacing missing": ({f"{FULL}/spacing": None}, {}, "spacing of configuration 3d_fullres is None"),
    "inherits from nothing": ({f"{FULL}/inherits_from": "gone"}, {}, "inherits from 'gone'"),
    "inherits from itself": ({f"{FULL}/inherits_from": "3d_fullres_small"}, {}, "inherits from '3d_fullres"),
    "labels missing": ({}, {"labels": None}, 'without "labels"'),
    "labels with a gap": ({}, {"labels": {"background": 0, "organ": 1, "tumor": 3}}, "without gaps"),
    "labels of words": ({}, {"labels": {"background": 0, "organ": "one"}}, "wanted whole numbers"),
    "more labels than outputs": ({}, {"labels": {"background": 0, "organ": 1, "tumor": 2, "cyst": 3}}, "card names 3 classes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_predicted_here_is_refused_in_one_line(folder, name):
    plan_changes, dataset_changes, wanted = BROKEN[name]
    plans, dataset = PLANS, DATASET
    for path, value in plan_changes.items():
        plans = changed(plans, path, value)
    for path, value in dataset_changes.items():
        dataset = changed(dataset, path, value)
    root = folder(plans, dataset)
    with pytest.raises(InputError) as caught:
        load_model(root)
    line = str(caught.value)
    assert line.startswith(str(root)) and wanted in line and "\n" not in line


def test_other_configurations_are_refused(folder):
    for configuration, wanted in (("2d", "is 2-D"), ("3d_cascade_fullres", "second stage of a cascade")):
        with pytest.raises(InputError, match=wanted):
            load_model(folder(configuration=configuration))


def test_damaged_folders(folder, tmp_path):
    root = folder(folds=(0, 1), widths={1: 8})
    with pytest.raises(InputError, match="differs from"):
        load_model(root)
    assert load_model(root / "fold_1").shape.channels[0] == 8
    (root / "plans.json").write_text('{"configurations": ')
    with pytest.raises(InputError, match=r"plans\.json: not valid JSON"):
        load_model(root)
    (root / "plans.json").write_text("[1]")
    with pytest.raises(InputError, match="found list, wanted a JSON object"):
        load_model(root)
    (root / "plans.json").write_text(json.dumps(PLANS))
    (root / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"dataset\.json is missing"):
        load_model(root)
    (root / "dataset.json").write_text(json.dumps(DATASET))
    for fold in (0, 1):
        (root / f"fold_{fold}" / "checkpoint_final.pth").unlink()
    with pytest.raises(InputError, match=r"no fold_\*/checkpoint_final\.pth"):
        load_model(root)
    (root.parent / "other").mkdir()
    (root.parent / "other" / "plans.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds 2 models \(TotalLesionTrainer_ft__nnUNetPlans__3d_fullres, other\)"):
        load_model(root.parent)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no plans\.json in it"):
        load_model(tmp_path / "empty")


# ---------------------------------------------------------------------------------------------------------------
# Cards


def test_labels_like_ours_become_keys(tmp_path):
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "Liver": 1, "Liver Tumour": 2, "vessel": 3, "ignore": 4},
    }
    card = card_of(PLANS, dataset, "3d_fullres", tmp_path, "PASTATrainer_ft")
    assert card.labels == {1: "liver", 2: "liver_tumor", 3: "vessel"} and card.lesion is None
    assert taxonomy_keys({1: "Colorectal", 2: "kidney-stone", 3: "oesophagus"}) == {
        1: "colorectum",
        2: "kidney_stone",
        3: "esophagus",
    }
    assert taxonomy_keys({1: "colorectum", 2: "Colorectal"}) == {
        1: "colorectum",
        2: "Colorectal",
    }  # never two of one name


def test_reader_and_normalisation_are_followed(tmp_path):
    plans = changed(PLANS, "image_reader_writer", "NibabelIOWithReorient")
    assert card_of(plans, DATASET, "3d_fullres", tmp_path, "nnUNetTrainer").orientation == "RAS"
    card = card_of(
        changed(PLANS, f"{FULL}/normalization_schemes", ["NoNormalization"]),
        DATASET,
        "3d_fullres",
        tmp_path,
        "PASTATrainer_ft",
    )
    hu = np.array([-1024, -3, 0, 1500], np.int16)
    assert np.array_equal(card.intensity(hu), hu.astype(np.float32))
    old = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "organ", "2": "tumor"}}
    assert card_of(PLANS, old, "3d_fullres", tmp_path).labels == {1: "organ", 2: "tumor"}


@pytest.mark.parametrize(
    ("data_set", "labels", "wanted"),
    [
        ("Dataset006_Lung", ("organ", "tumor"), "lung_tumor"),
        ("Dataset003_Liver", ("liver", "cancer"), "liver_tumor"),
        ("Dataset777_LiverCyst", ("organ", "Cyst"), "liver_cyst"),
        ("Dataset010_Colon", ("organ", "colon_cancer_primaries"), "colorectal_cancer"),
        ("Dataset220_KiTS2023", ("kidney", "tumour"), "kidney_tumor"),
        ("Dataset001_Mine", ("organ", "gallstone"), "gallstone"),
        ("Dataset001_Lung", ("organ", "lesion"), "lung_tumor"),
        ("Dataset001_Liver", ("organ", "lesion"), None),
        ("Dataset001_Mine", ("organ", "tumor"), None),
        ("Dataset220_KiTS2023", ("kidney", "tumor", "cyst"), None),
        ("Dataset005_LiverKidney", ("organ", "tumor"), None),
        ("Dataset006_Lung", ("left", "right"), None),
    ],
)
def test_lesion_type_only_when_nothing_else_fits(data_set, labels, wanted):
    assert lesion_of(data_set, dict(enumerate(labels, 1))) == wanted
