"""The list of compared systems, options and plug-ins, their preprocessing in both modes, and their recipes."""

import dataclasses
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("dynamic_network_architectures")

from PASTALib.errors import InputError  # noqa: E402
from training.benchmark.models.ctfm import CtFm  # noqa: E402
from training.benchmark.models.interface import (  # noqa: E402
    CLASSIFICATION,
    MRI,
    NATIVE,
    PAPER,
    SEGMENTATION,
    find_rival,
    rivals,
)

BUILT_IN = ["pasta", "nnunet", "universal", "genesis", "suprem", "fmcib", "scratch", "trivial"]


# -- the list ------------------------------------------------------------------------------------------------------


def test_built_in_systems_are_those_of_the_registry():
    from training.benchmark.registry import read_tasks

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rivals()
    assert list(found)[: len(BUILT_IN)] == BUILT_IN
    for task in read_tasks():
        for key in task.models:
            assert task.network_kind in found[key].kinds, (task.key, key)


def install(folder, monkeypatch, **points):
    """A distribution with entry points, as pip would leave it."""
    info = folder / "somebodys_models-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-models\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("[slicerpasta.benchmark_models]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(folder))


def test_a_plug_in_is_found(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, ctfm="training.benchmark.models.ctfm:CtFm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where this program's own entry point names it too
        assert rivals()["ct-fm"] == CtFm()
        assert find_rival("ct-fm") == CtFm()


def test_broken_plug_ins_are_named_and_leave_the_others(tmp_path, monkeypatch):
    (tmp_path / "somebodys_code.py").write_text(
        "from training.benchmark.models.ctfm import CtFm\n"
        "import dataclasses\n"
        "fails = lambda: 1 / 0\n"
        "text = lambda: 'a model'\n"
        "taken = dataclasses.replace(CtFm(), key='suprem')\n"
        "good = dataclasses.replace(CtFm(), key='mine')\n"
    )
    points = {name: f"somebodys_code:{name}" for name in ("fails", "text", "taken", "good")}
    install(tmp_path, monkeypatch, absent="nowhere_at_all:Model", **points)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = rivals()
    lines = {str(item.message).split()[2]: str(item.message) for item in caught}
    assert set(lines) == {"absent", "fails", "text", "taken"} and not any("\n" in line for line in lines.values())
    assert (
        "(nowhere_at_all:Model) is left out: ModuleNotFoundError: No module named 'nowhere_at_all'" in lines["absent"]
    )
    assert "ZeroDivisionError: division by zero" in lines["fails"]
    assert "it is a str; wanted a training.benchmark.models.interface.Rival" in lines["text"]
    assert "its key 'suprem' is taken" in lines["taken"]
    assert found["mine"].title == "CT-FM" and found["suprem"].title == "SuPreM"
    assert [key for key in found if key != "ct-fm"] == [*BUILT_IN, "mine"]


def test_options_are_set_by_name():
    assert find_rival("suprem").features == "stage4" and find_rival("suprem:paper").features == "stage3"
    assert find_rival("suprem:paper").norm == "running"
    found = find_rival("suprem:backbone=segresnet,features=stage3")
    assert (found.backbone, found.features, found.key) == ("segresnet", "stage3", "suprem")
    assert find_rival("genesis").last_pool == "published" and find_rival("genesis:paper").last_pool == "cubic"
    assert find_rival("nnunet:paper") == find_rival("nnunet")
    for text, message in {
        "pasta2": r"model 'pasta2'; wanted one of pasta, nnunet, universal, genesis, suprem, fmcib, scratch, trivial",
        "suprem:features=stage5": "suprem: features=stage5; wanted stage3 or stage4",
        "suprem:size=3": r"'size=3' is not an option of suprem; there are backbone=…, features=…, norm=…",
        "fmcib:fast": "'fast' is not an option of fmcib; there are none",
        "pasta:width=wide": "pasta: width=wide; wanted the channels at full resolution, 1 to 512",
    }.items():
        with pytest.raises(InputError, match=message):
            find_rival(text)
    for model in rivals().values():
        assert set(model.paper_options) <= set(model.options)
        for name, values in model.options.items():
            assert not values or getattr(model, name) in values
        dataclasses.replace(model, **model.paper_options).check_options()


# -- preprocessing -------------------------------------------------------------------------------------------------

HU = np.array([-2000, -1024, -1000, -200, -175, -100, 0, 37.5, 200, 250, 1000, 2048, 3000])


def window(name, mode, kind, modality="ct"):
    model = CtFm() if name == "ct-fm" else find_rival(name)
    return model.prepare(mode, kind, modality)


def test_own_windows():
    cases = {
        ("suprem", SEGMENTATION): (np.clip(HU, -175, 250) + 175) / 425,
        ("suprem", CLASSIFICATION): (np.clip(HU, -100, 250) + 100) / 350,
        ("universal", SEGMENTATION): (np.clip(HU, -175, 250) + 175) / 425,
        ("genesis", CLASSIFICATION): (np.clip(HU, -1000, 1000) + 1000) / 2000,
        ("genesis", SEGMENTATION): (np.clip(HU, -1000, 1000) + 775.8457) / 251.9326,
        ("fmcib", CLASSIFICATION): (HU + 1024) / 3072,  # not clipped
        ("ct-fm", SEGMENTATION): (np.clip(HU, -1024, 2048) + 1024) / 3072,
        ("pasta", CLASSIFICATION): np.interp(HU, [-1000, -200, 200, 1000], [0, 0.2, 0.9, 1]),
    }
    for (name, kind), wanted in cases.items():
        found = window(name, NATIVE, kind)(HU)
        assert found.dtype == np.float32 and np.allclose(found, wanted, atol=1e-6), name


def test_own_geometry():
    for name in ("suprem", "universal"):
        own = window(name, NATIVE, SEGMENTATION)
        assert (own.spacing_mm, own.orientation, own.axes, own.patch) == ((1.5,) * 3, "RAS", "xyz", (96,) * 3)
    assert window("universal", PAPER, SEGMENTATION).patch == (128, 128, 128)
    cube = window("genesis", NATIVE, CLASSIFICATION)
    assert (cube.spacing_mm, cube.axes, cube.patch) == (None, "xyz", (64, 64, 32))
    fmcib = window("fmcib", NATIVE, CLASSIFICATION)
    assert (fmcib.spacing_mm, fmcib.orientation, fmcib.axes, fmcib.patch) == ((1.0,) * 3, "LPS", "zyx", (50,) * 3)
    assert window("fmcib", PAPER, CLASSIFICATION) == fmcib and fmcib.pad == 0
    array = np.zeros((1, 2, 3, 4))
    assert cube.arrange(array).shape == (1, 4, 3, 2) and fmcib.arrange(array) is array
    assert cube.arrange(cube.arrange(array)).shape == array.shape


def test_the_paper_feeds_all_the_same():
    for name in ("pasta", "scratch", "genesis", "suprem", "ct-fm"):
        cube = window(name, PAPER, CLASSIFICATION)
        assert np.allclose(cube(HU), np.interp(HU, [-1000, -200, 200, 1000], [0, 0.2, 0.9, 1]), atol=1e-6)
        assert (cube.spacing_mm, cube.orientation, cube.axes, cube.pad) == ((1.0,) * 3, "LPS", "zyx", 0)
    for name in ("pasta", "nnunet", "genesis", "suprem", "ct-fm"):
        masks = window(name, PAPER, SEGMENTATION)
        assert masks.normalisation == "training" and masks.patch == (128, 128, 128)
        found = masks(HU, (-58, 302, 103.0, 73.0))
        assert np.allclose(found, (np.clip(HU, -58, 302) - 103) / 73, atol=1e-6)
        with pytest.raises(InputError, match="no statistics of the training scans; wanted low, high, mean"):
            masks(HU)


def test_mri_is_standardised_image_by_image():
    image = np.random.default_rng(0).gamma(2.0, 300.0, (4, 5, 6))
    for name in ("pasta", "nnunet", "universal", "genesis", "suprem"):
        found = window(name, PAPER, SEGMENTATION, MRI)(image)
        assert abs(float(found.mean())) < 1e-5 and float(found.std()) == pytest.approx(1, abs=1e-5)
    own = window("genesis", NATIVE, CLASSIFICATION, MRI)
    assert own(np.array([-5.0, 0, 1000, 4000, 9000])).tolist() == [0, 0, 0.25, 1, 1]
    assert np.isfinite(window("pasta", PAPER, SEGMENTATION, MRI)(np.full((2, 2, 2), 7.0))).all()


def test_modes_are_checked():
    with pytest.raises(InputError, match="suprem: mode 'own'; wanted native or paper"):
        window("suprem", "own", SEGMENTATION)
    with pytest.raises(InputError, match="suprem: modality 'pet'; wanted ct or mri"):
        window("suprem", PAPER, SEGMENTATION, "pet")
    with pytest.raises(InputError, match="nnU-Net has no network for classification"):
        window("nnunet", PAPER, CLASSIFICATION)


# -- recipes -------------------------------------------------------------------------------------------------------


def test_recipes_are_the_papers():
    wanted = {  # learning rate, epochs or steps, optimiser: Methods 5 to 9
        ("pasta", "full"): (1e-3, 500, "sgd"),
        ("suprem", "full"): (1e-3, 500, "sgd"),
        ("genesis", "plain"): (1e-4, 500, "sgd"),
        ("nnunet", "full"): (1e-3, 1000, "sgd"),
        ("nnunet", "plain"): (1e-4, 1000, "sgd"),
        ("nnunet", "fewshot"): (1e-3, 10, "sgd"),
        ("suprem", "mri"): (1e-4, 10, "sgd"),
        ("universal", "full"): (1e-4, 2000, "adamw"),
        ("universal", "fewshot"): (1e-4, 10, "adamw"),
        ("genesis", "detect"): (1e-4, 5000, "adam"),
        ("scratch", "detect"): (1e-3, 10000, "adam"),
        ("fmcib", "survival"): (1e-4, 5000, "adam"),
    }
    for (name, group), (rate, length, optimiser) in wanted.items():
        found = find_rival(name).recipe(group)
        assert found["learning_rate"] == rate, (name, group)
        assert found.get("epochs", found.get("steps")) == length, (name, group)
        assert found["optimiser"] == optimiser and found["loss"] and found["schedule"], (name, group)
        assert found["batch"] == (2 if "epochs" in found else 24 if name == "scratch" else 32)
    assert find_rival("universal").recipe("full")["warmup_epochs"] == 100
    assert find_rival("universal").recipe("full")["framework"] == "own"
    assert find_rival("suprem").recipe("full")["framework"] == "nnU-Net"


def test_recipes_are_refused_where_there_is_none():
    with pytest.raises(InputError, match="FMCIB has no network for segmentation"):
        find_rival("fmcib").recipe("full")
    with pytest.raises(InputError, match="task 'fulll': there is none"):
        find_rival("pasta").recipe("fulll")
