"""One identical export: bytes, header, place of the lesion, range, time stamps; what cannot be exported."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from PASTALib.errors import InputError
from PASTALib.progress import Cancelled
from PASTALib.study.create import create_study, grid_of, hand_out
from PASTALib.study.export import (
    FILE_TIME_S,
    ExportGrid,
    centre_voxel,
    exported,
    largest_component,
    read_case,
    read_nrrd,
    write_nrrd,
)
from PASTALib.study.package import open_study
from PASTALib.study.pools import PoolCase
from PASTALib.volume import Volume, read_volume, write_volume

GRID = ExportGrid((20, 22, 24), (2.0, 2.0, 2.0))


def test_a_scan_on_the_studys_grid_is_copied_bit_for_bit(study_pools):
    ct, lesion = read_case(study_pools[0][0])
    z, y, x = centre_voxel(lesion)
    array = exported(ct, (z, y, x), GRID)
    assert array.dtype == np.dtype("<i2") and array.shape == (20, 22, 24)
    inside = [
        slice(max(0, n // 2 - c), n // 2 - c + size) for n, c, size in zip(array.shape, (z, y, x), ct.array.shape)
    ]
    source = [slice(max(0, c - n // 2), c - n // 2 + n) for n, c in zip(array.shape, (z, y, x))]
    part = ct.array[tuple(source)]
    assert np.array_equal(array[tuple(slice(s.start, s.start + n) for s, n in zip(inside, part.shape))], part)


@pytest.mark.parametrize("turn", ["as it is", "flipped", "permuted", "oblique"])
def test_position_and_orientation_are_true_to_the_world(turn):
    """A bright block left, posterior and superior of the lesion lies there in the export, whatever the axes of the scan."""
    affine = {
        "as it is": np.diag([-1.5, -1.5, 2.0, 1.0]),
        "flipped": np.diag([1.5, 1.5, -2.0, 1.0]),
        "permuted": np.array([[0, 0, 1.5, 0], [2.0, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1.0]]),
        "oblique": np.array([[-1.48, 0.2, 0, 0], [-0.2, -1.48, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 1.0]]),
    }[turn]
    affine[:3, 3] = 11, -7, 30
    scan = Volume(np.zeros((40, 44, 48), np.float32), affine)
    centre = scan.to_ras((20, 22, 24))
    zyx = np.stack(np.meshgrid(*map(np.arange, scan.array.shape), indexing="ij"), -1)
    away = scan.to_ras(zyx) - (centre + np.array([-12.0, -8.0, 10.0]))
    scan.array = np.where((np.abs(away) < 4).all(-1), 1000, 0).astype(np.int16)
    array = exported(scan, (20, 22, 24), GRID)
    place = np.array(
        [
            np.average(np.arange(n), weights=array.sum(axis=tuple(a for a in range(3) if a != i)))
            for i, n in enumerate(array.shape)
        ]
    )
    middle = np.array([n // 2 for n in array.shape])
    np.testing.assert_allclose((place - middle) * 2.0, [10, 8, 12], atol=0.8)  # mm to Superior, Posterior, Left


def test_values_are_clipped_and_the_outside_is_the_lower_end():
    scan = Volume(np.full((12, 12, 12), -3024, np.int16), np.diag([-2.0, -2.0, 2.0, 1.0]))
    scan.array[6] = 3071
    array = exported(scan, (6, 6, 6), GRID)
    assert set(np.unique(array)) == {-1000, 2000} and array[0, 0, 0] == -1000


def test_files_differ_in_nothing_but_voxels(make_study):
    study, key = make_study(practice=1)
    files = sorted((study.folder / "cases").iterdir())
    assert len(files) == 14 == len(key.cases)
    size = 2 * 20 * 22 * 24
    assert len({path.read_bytes()[:-size] for path in files}) == 1
    assert {path.stat().st_size for path in files} == {GRID.bytes_per_case}
    assert {(path.stat().st_mtime, path.stat().st_mode) for path in files} == {(FILE_TIME_S, files[0].stat().st_mode)}
    assert (study.folder / "study.json").stat().st_mtime == FILE_TIME_S == study.folder.stat().st_mtime
    assert len({len(path.name) for path in files}) == 1
    assert {tuple(about["pointer_ras"]) for about in study.data["cases"].values()} == {(0.0, 0.0, 0.0)}


def test_slicer_and_simpleitk_can_read_a_case(make_study):
    study, key = make_study()
    for name in list(key.cases)[:4]:
        path = study.image_path(name)
        image = sitk.ReadImage(str(path))
        assert (
            image.GetPixelID() == sitk.sitkInt16
            and image.GetSize() == (24, 22, 20)
            and image.GetSpacing() == (2.0, 2.0, 2.0)
        )
        assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
        assert image.TransformPhysicalPointToIndex((0.0, 0.0, 0.0)) == (12, 11, 10)
        array = sitk.GetArrayFromImage(image)
        assert np.array_equal(array, read_nrrd(path, grid_of(study)))
        assert np.array_equal(array, read_volume(path).array)
        ct, lesion = read_case(
            PoolCase(
                "", "", "", key.cases[name]["source"], str(key.cases[name]["source"]).replace(".nrrd", "-mask.nrrd")
            )
        )
        assert array[10, 11, 12] == ct.array[centre_voxel(lesion)]
        (z0, z1), (y0, y1), (x0, x1) = key.cases[name]["lesion_box_zyx"]
        assert (z1 - z0, y1 - y0, x1 - x0) == (5, 4, 4) and z0 <= 10 < z1 and y0 <= 11 < y1 and x0 <= 12 < x1


def test_nothing_readers_get_holds_truth_or_source(make_study, tmp_path):
    study, key = make_study(practice=1, repeats=2)
    copy = open_study(hand_out(study, tmp_path / "copy"))
    assert sorted(path.name for path in copy.folder.iterdir()) == ["cases", "ratings", "study.json"]
    assert list((copy.folder / "ratings").iterdir()) == [] and copy.digest == study.digest
    data = json.loads((copy.folder / "study.json").read_text())
    text = json.dumps(
        {name: value for name, value in data.items() if name != "parts"}
    ).lower()  # the instructions may say the word
    for word in (
        "synthetic",
        "truth",
        "seed",
        "sha256",
        str(tmp_path).lower(),
        *(about["source_id"] for about in key.cases.values()),
    ):
        assert word not in text
    assert {path.stat().st_mtime for path in copy.folder.rglob("*")} == {FILE_TIME_S}
    for name in key.cases:
        assert copy.image_path(name).read_bytes() == study.image_path(name).read_bytes()
    with pytest.raises(InputError, match="exists already"):
        hand_out(study, tmp_path / "copy")


def test_ids_do_not_follow_from_the_seed(make_study):
    one, _ = make_study("one", seed=1)
    other, key = make_study("other", seed=1)
    assert not set(one.data["cases"]) & set(other.data["cases"])
    assert one.study_id != other.study_id and key.seed == 1


def test_the_largest_component_is_the_lesion(tmp_path):
    mask = np.zeros((20, 20, 20), bool)
    mask[2:4, 2:4, 2:4] = mask[10:15, 8:14, 9:13] = True
    assert centre_voxel(largest_component(mask)) == (12, 10, 10)
    assert not largest_component(mask)[2, 2, 2] and largest_component(mask[5:])[7, 9, 10]


@pytest.mark.parametrize("kind", ["empty mask", "no such label", "other grid", "no scan", "missing"])
def test_what_cannot_be_exported_is_named_and_nothing_remains(tmp_path, study_pools, study_design, kind):
    real, synthetic = study_pools
    case = next(case for case in real if case.lesion_type == "liver_tumor")
    mask = read_volume(case.mask, "labels")
    told = {"empty mask": "holds no voxel above 0", "no such label": "holds no voxel of value 7", "other grid": "is not on the grid of",
            "no scan": "unreadable, truncated or not an image", "missing": "does not exist|no such file"}[kind]  # fmt: skip
    if kind == "empty mask":
        mask.array[:] = 0
    if kind == "other grid":
        mask.affine[0, 3] += 1
    write_volume(mask, tmp_path / "m.nrrd")
    bad = replace(case, mask=tmp_path / "m.nrrd", label=7 if kind == "no such label" else None)
    if kind in ("no scan", "missing"):
        bad = replace(bad, image=tmp_path / "bad.nrrd")
        if kind == "no scan":
            bad.image.write_bytes(b"NRRD0004\n")
    pool = [bad if c is case else c for c in real]
    design = study_design(realism={"liver_tumor": 10})
    with pytest.raises(InputError, match=told) as caught:
        create_study(tmp_path / "s", design, pool, synthetic, seed=1, key_file=tmp_path / "key.json")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"m.nrrd", "bad.nrrd"}


def test_the_same_image_twice_is_refused(tmp_path, study_pools, study_design):
    real, synthetic = study_pools
    shutil.copy(real[0].image, tmp_path / "again.nrrd")
    pool = [
        *synthetic[:9],
        *synthetic[10:],
        replace(real[0], truth="synthetic", image=tmp_path / "again.nrrd", id="again"),
    ]
    with pytest.raises(InputError, match="are the same image around the lesion"):
        create_study(
            tmp_path / "s", study_design(realism={real[0].lesion_type: 10}), real, pool, seed=1, key_file=tmp_path / "key.json"
        )  # fmt: skip


def test_a_study_is_never_overwritten_and_stopping_leaves_nothing(tmp_path, study_pools, study_design):
    def stop(step, of, text=""):
        if step == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        create_study(tmp_path / "s", study_design(), *study_pools, seed=1, key_file=tmp_path / "k.json", progress=stop)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "s").mkdir()
    with pytest.raises(InputError, match="a study is never overwritten"):
        create_study(tmp_path / "s", study_design(), *study_pools, seed=1, key_file=tmp_path / "k.json")


def test_a_full_disk_is_told_before_the_work(tmp_path, study_pools, study_design, monkeypatch):
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 5000, 5000))
    with pytest.raises(InputError, match="0.0 GB are free; free space"):
        create_study(tmp_path / "s", study_design(), *study_pools, seed=1, key_file=tmp_path / "k.json")


def test_a_write_error_is_one_line(tmp_path, study_pools, study_design, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PASTALib.study.create.write_nrrd", full)
    with pytest.raises(InputError, match="cannot be written .No space left on device"):
        create_study(tmp_path / "s", study_design(), *study_pools, seed=1, key_file=tmp_path / "k.json")
    assert list(tmp_path.iterdir()) == []


def test_a_case_that_was_changed_is_not_read(make_study):
    study, key = make_study()
    path = study.image_path(next(iter(key.cases)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="not as the study was exported"):
        read_nrrd(path, grid_of(study))


@pytest.mark.parametrize(
    "shape,spacing", [((20, 22), (2.0, 2.0, 2.0)), ((20, 22, 600), (2.0,) * 3), ((20, 22, 24), (0.0, 2.0, 2.0))]
)
def test_impossible_grids(shape, spacing):
    with pytest.raises(InputError, match="export (shape|spacing)"):
        ExportGrid(shape, spacing)


def test_headers_hold_numbers_that_need_many_digits(tmp_path):
    grid = ExportGrid((17, 33, 65), (0.7, 0.35, 1.25))
    array = np.arange(17 * 33 * 65, dtype="<i2").reshape(17, 33, 65)
    write_nrrd(array, grid, tmp_path / "a.nrrd")
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    np.testing.assert_allclose(image.GetSpacing(), (1.25, 0.35, 0.7))
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((32, 16, 8)), 0, atol=1e-12)
    assert np.array_equal(sitk.GetArrayFromImage(image), array)
    assert os.path.getmtime(tmp_path / "a.nrrd") == FILE_TIME_S


def test_windows_and_questions_are_the_papers(make_study):
    study, _ = make_study(description={"liver_tumor": 0})
    assert study.questions("realism")[0].anchors[5] == "indistinguishable from real CT images"
    assert study.questions("realism")[0].anchors[1] == "completely unrealistic"
    assert study.items("ann")[0].window in ((80, 250), (60, 400)) and study.parts == ["realism"]
    assert json.loads((study.folder / "study.json").read_text())["schema"] == "pasta-study"


@pytest.mark.parametrize("name", ["S03_cmbcrc01068", "S05_lungpat2"])
def test_real_scans(real_data, name):
    """A real scan at another spacing: values between voxels as by an independent interpolation, the lesion in the middle."""
    from scipy.ndimage import map_coordinates

    folder = real_data / "cases" / name
    case = PoolCase(name, "real", "lung_tumor", folder / "ct.nii.gz", folder / "lesion.nii.gz", 1)
    grid = ExportGrid((64, 96, 80), (1.0, 1.0, 1.0))
    ct, lesion = read_case(case)
    centre = centre_voxel(lesion)
    array = exported(ct, centre, grid)
    place = np.stack(np.meshgrid(*map(np.arange, grid.shape_zyx), indexing="ij"), -1) - np.array(grid.shape_zyx) // 2
    ras = ct.to_ras(centre) + place[..., ::-1] * np.array([-1.0, -1.0, 1.0])
    index = ct.to_index(ras)
    inside = ((index >= 0) & (index <= np.array(ct.array.shape) - 1)).all(-1)
    wanted = np.clip(map_coordinates(ct.array.astype(np.float32), np.moveaxis(index, -1, 0), order=1), *grid.clip_hu)
    assert inside.mean() > 0.5 and np.abs(array - wanted)[inside].max() <= 0.51
    shown = exported(Volume(lesion, ct.affine), centre, grid, "labels").astype(bool)
    assert (
        shown.sum() == pytest.approx(lesion.sum() * np.prod(ct.spacing_zyx_mm), rel=0.08)
        or shown.sum() > 0.3 * shown.size
    )
    middles = [np.flatnonzero(shown.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    assert all(abs((m[0] + m[-1]) / 2 - n // 2) <= 2.5 for m, n in zip(middles, grid.shape_zyx))
