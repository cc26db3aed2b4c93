"""Feature vectors: the same as the network's own, files that read back exactly, and ``pasta features`` from mask or points."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from PASTALib.cli import app
from PASTALib.errors import InputError
from PASTALib.inference import encoder, features
from PASTALib.inference.attributes import predict_attributes
from PASTALib.inference.crops import lesion_crop
from PASTALib.inference.features import extract_features, write_features
from PASTALib.inference.regions import find_regions
from PASTALib.networks.card import ModelCard
from PASTALib.networks.load import load_model, save_model
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise
from PASTALib.volume import Volume, write_volume

SIDE = 32
SHAPE = (36, 44, 40)
AFFINE = np.array([[-2.0, 0, 0, 40.0], [0, -2.0, 0, 44.0], [0, 0, 3.0, -50.0], [0, 0, 0, 1]])
CHANNELS = 32


@pytest.fixture(autouse=True)
def one_thread():
    """So small networks lose more to threads that wait for each other than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ct() -> Volume:
    return Volume(np.random.default_rng(1).normal(20, 120, SHAPE).clip(-1000, 2000).astype(np.int16), AFFINE)


def labels(*boxes) -> Volume:
    array = np.zeros(SHAPE, np.uint8)
    for value, *box in boxes:
        array[tuple(slice(*side) for side in box)] = value
    return Volume(array, AFFINE)


TUMOUR, CYST = (12, (10, 14), (20, 26), (8, 14)), (21, (20, 23), (8, 12), (30, 34))
SPECK, LIVER = (12, (30, 31), (2, 3), (2, 3)), (2, (4, 30), (5, 40), (5, 36))


def small_net(seed: int, classes: int = 0) -> PastaNet:
    shape = NetworkShape.of_width(4, levels=5, classes=classes, attribute_outputs=13)
    return initialise(PastaNet(shape), seed).eval()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Files that the commands read: ct, masks of several kinds, a small model and an encoder alone."""
    folder = tmp_path_factory.mktemp("features")
    write_volume(ct(), folder / "ct.nii.gz")
    write_volume(labels(LIVER, TUMOUR, CYST, SPECK), folder / "pasta.nii.gz")
    write_volume(labels((1, *LIVER[1:]), (2, *TUMOUR[1:])), folder / "label.nii.gz")
    write_volume(labels((1, *TUMOUR[1:]), (3, *CYST[1:])), folder / "plain.nii.gz")
    write_volume(labels(SPECK), folder / "speck.nii.gz")
    write_volume(labels(), folder / "empty.nii.gz")
    write_volume(Volume(labels(TUMOUR).array[:-1], AFFINE), folder / "other_grid.nii.gz")
    (folder / "notes.txt").write_text("no scan\n")
    card = ModelCard("small", attribute_crop=SIDE, licence="MIT")
    save_model(folder / "small.pt", small_net(0), card, torch.float32)
    return folder


@pytest.fixture
def small(place):
    return load_model(place / "small.pt")


CENTRES = [(10.0, 5.0, -10.0), (-31.5, 20.25, 40.0)]


# ---------------------------------------------------------------------------------------------------------------
# Vectors


def test_same_as_the_networks_own_features(small):
    found = extract_features(ct(), CENTRES, small)
    assert found.dtype == np.float32 and found.shape == (2, CHANNELS)
    for vector, centre in zip(found, CENTRES):
        crop = small.card.attribute_intensity(lesion_crop(ct(), centre, side=SIDE))
        with torch.inference_mode():
            wanted = small.networks[0].features(torch.from_numpy(crop)[None, None])[0].numpy()
        np.testing.assert_allclose(vector, wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_the_mean_over_an_ensemble(small):
    single = extract_features(ct(), CENTRES, small)
    small.networks.append(small_net(7))
    both = extract_features(ct(), CENTRES, small)
    small.networks = small.networks[1:]
    np.testing.assert_allclose(both, (single + extract_features(ct(), CENTRES, small)) / 2, rtol=1e-5, atol=1e-6)


def test_single_precision_even_where_half_is_quicker(small, monkeypatch):
    monkeypatch.setattr(encoder, "cpu_has_bf16", lambda: False)
    first = extract_features(ct(), CENTRES, small)
    monkeypatch.setattr(encoder, "cpu_has_bf16", lambda: True)
    assert np.abs(encoder.encode(ct(), CENTRES, small)[0, 0] - first).max() > 1e-6
    np.testing.assert_array_equal(extract_features(ct(), CENTRES, small), first)


def test_models_without_a_head_have_features_too(small):
    bare = PastaNet(NetworkShape.of_width(4, levels=5, classes=0))
    bare.load_state_dict(small.networks[0].state_dict(), strict=False)
    first = extract_features(ct(), CENTRES, small)
    small.networks = [bare.eval()]
    np.testing.assert_array_equal(extract_features(ct(), CENTRES, small), first)


def test_no_points(small):
    assert extract_features(ct(), [], small).shape == (0, CHANNELS)


def test_a_loaded_model_predicts_attributes_too(small):
    (found,) = predict_attributes(ct(), CENTRES[:1], small)
    assert found.model == "small" and found.trained


# ---------------------------------------------------------------------------------------------------------------
# Files

ROWS = [
    {"number": 1, "lesion": "liver_tumor", "centre_ras": (1.5, -2.0, 3.25), "size_zxy_mm": (3, 4, 5), "volume_ml": 0.5, "trained": True},
    {"number": 2, "lesion": None, "centre_ras": (0.1, 0.2, 0.3), "size_zxy_mm": (6, 7, 8), "volume_ml": None, "trained": True},
]  # fmt: skip
VECTORS = np.random.default_rng(0).normal(0, 1, (2, 7)).astype(np.float32)


def test_npz_reads_back_without_pickle(tmp_path):
    write_features(tmp_path / "f.npz", VECTORS, ROWS)
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        data = {key: file[key] for key in file.files}
    assert list(data) == ["features", *ROWS[0]]
    np.testing.assert_array_equal(data["features"], VECTORS)
    assert data["features"].dtype == np.float32
    np.testing.assert_array_equal(data["centre_ras"], [row["centre_ras"] for row in ROWS])
    assert data["number"].tolist() == [1, 2] and data["trained"].tolist() == [True, True]
    assert data["lesion"].tolist() == ["liver_tumor", ""]
    np.testing.assert_array_equal(data["volume_ml"], [0.5, np.nan])


def test_csv_reads_back_exactly(tmp_path):
    write_features(tmp_path / "f.csv", VECTORS, ROWS)
    with open(tmp_path / "f.csv", newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert list(first)[:9] == [
        "number", "lesion", "centre_r_mm", "centre_a_mm", "centre_s_mm", "size_z_mm", "size_x_mm", "size_y_mm", "volume_ml",
    ]  # fmt: skip
    assert list(first)[-7:] == [f"f{n:04d}" for n in range(7)]
    assert (first["number"], first["lesion"], first["centre_a_mm"], first["trained"]) == (
        "1",
        "liver_tumor",
        "-2.0",
        "True",
    )
    assert (second["lesion"], second["volume_ml"]) == ("", "")
    for row, vector in zip((first, second), VECTORS):
        np.testing.assert_array_equal(np.array([row[f"f{n:04d}"] for n in range(7)], np.float32), vector)


@pytest.mark.parametrize("name", ["f.npz", "f.csv"])
def test_same_bytes_each_time(tmp_path, name):
    write_features(tmp_path / name, VECTORS, ROWS)
    first = (tmp_path / name).read_bytes()
    write_features(tmp_path / name, VECTORS, ROWS)
    assert (tmp_path / name).read_bytes() == first


@pytest.mark.parametrize("name", ["f.npz", "f.csv"])
def test_no_lesions_make_an_empty_table(tmp_path, name):
    write_features(tmp_path / name, np.empty((0, 3)), [])
    assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize("name,step", [("f.npz", "savez"), ("f.csv", "_write_csv")])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, name, step):
    (tmp_path / name).write_text("old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np if step == "savez" else features, step, full)
    with pytest.raises(InputError, match="No space left"):
        write_features(tmp_path / name, VECTORS, ROWS)
    assert (tmp_path / name).read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == [name]


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none" / "f.npz", tmp_path / "file" / "f.csv"):
        with pytest.raises(InputError, match="cannot be written"):
            write_features(path, VECTORS, ROWS)
    with pytest.raises(InputError, match="must end in .npz or .csv"):
        write_features(tmp_path / "f.xlsx", VECTORS, ROWS)


def test_rows_that_do_not_fit():
    for rows in (ROWS[:1], [ROWS[0], {"number": 2}]):
        with pytest.raises(ValueError, match="wanted one row each"):
            write_features("f.npz", VECTORS, rows)


# ---------------------------------------------------------------------------------------------------------------
# Regions of a mask


def test_every_part_of_every_value_is_a_region():
    mask = labels(TUMOUR, (12, (28, 33), (30, 38), (20, 30)), CYST)
    found, small = find_regions(mask, [21, 12])
    assert [(region.value, round(region.volume_ml, 3)) for region in found] == [(12, 4.8), (12, 1.728), (21, 0.576)]
    assert small == 0
    np.testing.assert_allclose(found[1].centre_ras, mask.to_ras(np.array([11.5, 22.5, 10.5])), atol=1e-3)
    assert found[1].box == (slice(10, 14), slice(20, 26), slice(8, 14))


def test_parts_that_touch_by_a_corner_are_one():
    found, _ = find_regions(labels((5, (4, 8), (4, 8), (4, 8)), (5, (8, 12), (8, 12), (8, 12))), [5])
    assert len(found) == 1


def test_a_hollow_region_has_its_centre_inside():
    array = np.zeros(SHAPE, np.uint8)
    array[12:15, 10:31, 10:31] = 1
    array[:, 13:28, 13:31] = 0  # a C, open on one side
    (found,), _ = find_regions(Volume(array, AFFINE), [1])
    index = np.rint(ct().to_index(np.array(found.centre_ras))).astype(int)
    assert array[tuple(index)] == 1


def test_small_parts_are_left_out():
    mask = labels(TUMOUR, SPECK)  # a voxel of 12 mm³ is a ball of 2.84 mm
    assert [len(find_regions(mask, [12], size)[0]) for size in (2.8, 2.9)] == [2, 1]
    assert find_regions(mask, [12], 2.9)[1] == 1
    with pytest.raises(InputError, match="at least 3 mm .* the largest has 2.8 mm"):
        find_regions(labels(SPECK), [12])
    with pytest.raises(InputError, match="no region"):
        find_regions(mask, [77])


# ---------------------------------------------------------------------------------------------------------------
# The command


def pasta(*line):
    return CliRunner().invoke(app, ["features", *(str(item) for item in line)])


def common(place, *more):
    return ("--ct", place / "ct.nii.gz", "--model", place / "small.pt", *more)


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def test_from_a_mask_to_both_files(place, tmp_path, small):
    out = ("--out", tmp_path / "f.npz", "--out", tmp_path / "f.csv")
    result = pasta(*common(place, "--mask", place / "pasta.nii.gz", *out))
    assert result.exit_code == 0, result.stderr
    data = arrays(tmp_path / "f.npz")
    assert data["lesion"].tolist() == ["liver_tumor", "liver_cyst"]
    assert data["value"].tolist() == [12, 21] and data["number"].tolist() == [1, 2]
    assert set(data["model"].tolist()) == {"small"} and set(data["scan"].tolist()) == {"ct.nii.gz"}
    wanted = [ct().to_ras(np.array(index)) for index in ([11.5, 22.5, 10.5], [21, 9.5, 31.5])]
    np.testing.assert_allclose(data["centre_ras"], wanted, atol=1e-3)
    np.testing.assert_allclose(data["features"], extract_features(ct(), wanted, small), rtol=1e-3, atol=1e-4)
    with open(tmp_path / "f.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = np.array([[row[f"f{n:04d}"] for n in range(CHANNELS)] for row in rows], np.float32)
    np.testing.assert_array_equal(table, data["features"])
    assert "values 2 of pasta.nii.gz are organs" in result.stderr
    assert "1 part of the mask below 3 mm" in result.stderr
    assert f"2 lesions, {CHANNELS} values each" in result.stdout


@pytest.mark.parametrize(
    "mask,more,values",
    [
        ("pasta.nii.gz", ["--lesion-value", "21"], [21]),
        ("pasta.nii.gz", ["--lesion-value", "2", "--lesion-value", "12"], [2, 12]),
        ("pasta.nii.gz", ["--min-size", "1"], [12, 12, 21]),
        ("plain.nii.gz", [], [1, 3]),
        ("label.nii.gz", [], [2]),
    ],
)
def test_which_values_are_lesions(place, tmp_path, mask, more, values):
    result = pasta(*common(place, "--mask", place / mask, "--out", tmp_path / "f.npz", *more))
    assert result.exit_code == 0, result.stderr
    data = arrays(tmp_path / "f.npz")
    assert data["value"].tolist() == values
    if mask != "pasta.nii.gz":
        assert set(data["lesion"].tolist()) == {""}


def test_from_points_as_json(place, tmp_path, small):
    line = ("--at", "10,5,-10", "--at", "-31.5,20.25,40", "--out", tmp_path / "f.npz", "--json")
    result = pasta(*common(place, *line))
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["channels"] == CHANNELS and told["features"] == [str(tmp_path / "f.npz")]
    assert [row["centre_ras"] for row in told["lesions"]] == [list(centre) for centre in CENTRES]
    assert all(row["trained"] is True and row["model"] == "small" for row in told["lesions"])
    np.testing.assert_array_equal(arrays(tmp_path / "f.npz")["features"], extract_features(ct(), CENTRES, small))


def test_random_weights_are_called_so(place, tmp_path):
    line = ("--ct", place / "ct.nii.gz", "--model", "random:2", "--at", "10,5,-10", "--out", tmp_path / "f.npz")
    result = pasta(*line)
    assert result.exit_code == 0, result.stderr
    assert "random" in result.stderr
    assert arrays(tmp_path / "f.npz")["trained"].tolist() == [False]


BAD = {
    "neither mask nor point": ([], "either --mask"),
    "both": (["--mask", "pasta.nii.gz", "--at", "0,0,0"], "both were given"),
    "value without mask": (["--at", "0,0,0", "--lesion-value", "3"], "--lesion-value"),
    "point garbled": (["--at", "here"], "R,A,S"),
    "point outside": (["--at", "0,0,0", "--at", "900,0,0"], "900,0,0 lies outside the scan, which covers R -38 to 40"),
    "mask missing": (["--mask", "none.nii.gz"], "does not exist"),
    "mask empty": (["--mask", "empty.nii.gz"], "is empty"),
    "mask on another grid": (["--mask", "other_grid.nii.gz"], "not on the grid of the CT"),
    "mask is the ct": (["--mask", "ct.nii.gz"], "negative"),
    "mask is no image": (["--mask", "notes.txt"], "notes.txt"),
    "value missing": (["--mask", "pasta.nii.gz", "--lesion-value", "9"], "it holds 2, 12, 21"),
    "nothing large enough": (["--mask", "speck.nii.gz"], "no region of at least 3 mm"),
    "size negative": (["--mask", "pasta.nii.gz", "--min-size", "-1"], "0 to 100"),
    "ct missing": (["--at", "0,0,0", "--ct", "none.nii.gz"], "--ct none.nii.gz does not exist"),
    "ct is a mask": (["--at", "0,0,0", "--ct", "pasta.nii.gz"], "pasta.nii.gz"),
    "ct is no image": (["--at", "0,0,0", "--ct", "notes.txt"], "notes.txt"),
    "model missing": (["--at", "0,0,0", "--model", "no-such-model"], "no-such-model"),
    "model is text": (["--at", "0,0,0", "--model", "notes.txt"], "notes.txt"),
    "device unknown": (["--at", "0,0,0", "--device", "abacus"], "use auto"),
    "suffix unknown": (["--at", "0,0,0", "--out", "f.xlsx"], ".npz or .csv"),
    "out exists": (["--at", "0,0,0", "--out", "notes.txt.csv"], "--overwrite"),
    "out into nowhere": (["--at", "0,0,0", "--out", "none/f.npz"], "does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_nothing_written(place, monkeypatch, name):
    monkeypatch.chdir(place)
    (place / "notes.txt.csv").write_text("old")
    more, wanted = BAD[name]
    given = {"--ct": "ct.nii.gz", "--model": "small.pt", "--out": "f.npz"}
    line = [item for key, value in given.items() if key not in more for item in (key, value)] + more
    before = sorted(place.iterdir())
    result = pasta(*line)
    assert result.exit_code == 2, result.stderr or result.stdout
    (only,) = result.stderr.splitlines()
    assert only.startswith("pasta: ") and wanted in only
    assert result.stdout == "" and sorted(place.iterdir()) == before
    assert (place / "notes.txt.csv").read_text() == "old"


def test_overwriting_is_asked_for(place, tmp_path):
    (tmp_path / "f.npz").write_text("old")
    result = pasta(*common(place, "--at", "0,0,0", "--out", tmp_path / "f.npz", "--overwrite"))
    assert result.exit_code == 0, result.stderr
    assert arrays(tmp_path / "f.npz")["features"].shape == (1, CHANNELS)


def test_without_a_starter_model_the_command_says_so(place, tmp_path):
    result = pasta("--ct", place / "ct.nii.gz", "--at", "0,0,0", "--out", tmp_path / "f.npz")
    if result.exit_code == 0:  # the starter weights are there
        assert arrays(tmp_path / "f.npz")["trained"].tolist() == [True]
    else:
        (only,) = result.stderr.splitlines()
        assert result.exit_code == 2 and "starter" in only and not (tmp_path / "f.npz").exists()
