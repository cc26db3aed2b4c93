"""Tests of organ maps: the three numbering schemes, named files, class folders, TotalSegmentator's call, checks and place names."""

from __future__ import annotations

import inspect
import json
import sys
import time
import types

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from PASTALib import taxonomy
from PASTALib.anatomy import organ_classes
from PASTALib.errors import InputError
from PASTALib.organs import (
    OrganMap,
    check_organs,
    from_labels,
    location_detail,
    read_organs,
    run_totalsegmentator,
)
from PASTALib.volume import Volume, read_volume, write_volume

# RAS: x to the patient's right is positive in world mm, so index i grows to the right here.
AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])

# The public signature of totalsegmentator.python_api.totalsegmentator, recorded from TotalSegmentator 2.18.0.
RECORDED_SIGNATURE = (
    "input, output=None, ml=False, nr_thr_resamp=1, nr_thr_saving=6, fast=False, nora_tag='None', preview=False, task='total', "
    "roi_subset=None, statistics=False, radiomics=False, crop_path=None, body_seg=False, force_split=False, output_type='nifti', "
    "quiet=False, verbose=False, test=0, skip_saving=False, device='gpu', license_number=None, statistics_exclude_masks_at_border=True, "
    "no_derived_masks=False, v1_order=False, fastest=False, roi_subset_robust=None, stats_aggregation='mean', remove_small_blobs=False, "
    "statistics_normalized_intensities=False, robust_crop=False, higher_order_resampling_LEGACY=False, higher_order_resampling=False, "
    "save_probabilities=None, debug=False, report=None, statistics_extra=False, save_lowres=False, resampling_order=1, "
    "plans='nnUNetPlans', model_size='big'"
)


def ids(scheme: str) -> dict[str, int]:
    return {name: value for value, name in organ_classes.table(scheme).items()}


def label_volume(values: dict[tuple[int, ...], int], shape=(10, 20, 30), dtype=np.uint8) -> Volume:
    array = np.zeros(shape, dtype)
    for *corner, size, value in ((*box, value) for box, value in values.items()):
        array[tuple(slice(start, start + size) for start in corner)] = value
    return Volume(array, AFFINE.copy())


def block(x: int, y: int = 4, z: int = 2, size: int = 4) -> tuple[int, int, int, int]:
    """A cube of ``size``³ voxels with its first voxel at (z, y, x)."""
    return z, y, x, size


def saved(volume: Volume, path):
    write_volume(volume, path)
    return path


@pytest.fixture
def abdomen_v2() -> Volume:
    v2 = ids("totalseg-v2")
    names = {2: "liver", 8: "kidney_left", 14: "kidney_right", 20: "aorta", 25: "vertebrae_L3"}
    return label_volume({block(x): v2[name] for x, name in names.items()})


# --- tables ---


def test_tables_have_the_published_sizes_and_every_organ_class_exists():
    assert len(organ_classes.table("totalseg-v1")) == 104
    assert len(organ_classes.table("totalseg-v2")) == 117
    names = set(organ_classes.table("totalseg-v2").values())
    for organ in taxonomy.ORGANS:
        assert set(organ.classes) <= names, organ.key


def test_every_v1_class_has_a_place_in_the_structures():
    for name in organ_classes.table("totalseg-v1").values():
        assert organ_classes.canonical_name(name) in organ_classes.known_names()


def test_cartilage_is_not_bone_but_skull_and_sternum_are():
    assert organ_classes.organ_value("costal_cartilages") == 0
    assert organ_classes.organ_value("skull") == organ_classes.organ_value("sternum") == 10


@pytest.mark.parametrize(
    "case", ["cases/S01_ts_torso/organs_ts104_labels.json", "cases/S01_ts_torso/small_fixture/organs_ts117_labels.json"]
)
def test_tables_equal_the_shipped_label_files(real_data, case):
    shipped = {int(k): v for k, v in json.loads((real_data / case).read_text()).items()}
    assert shipped == dict(organ_classes.table("totalseg-v1" if "104" in case else "totalseg-v2"))


@pytest.mark.parametrize(
    ("name", "expected", "organ"),
    [
        ("Right kidney", "kidney_right", "kidney"),
        ("upper lobe of left lung", "lung_upper_lobe_left", "lung"),
        ("Superior lobe of right lung", "lung_upper_lobe_right", "lung"),
        ("T12 vertebra", "vertebrae_T12", "bone"),
        ("Left 7th rib", "rib_left_7", "bone"),
        ("left eighth rib", "rib_left_8", "bone"),
        ("Inferior vena cava", "inferior_vena_cava", None),
        ("heart_myocardium", "heart", None),
        ("left lung", None, "lung"),
        ("Bladder", None, "bladder"),
        ("Kidney stone", None, "kidney"),
        ("Something", None, None),
    ],
)
def test_label_names_in_other_spellings(name, expected, organ):
    assert organ_classes.canonical_name(name) == expected
    assert organ_classes.organ_key(name) == organ


# --- schemes ---


def test_v2_file_gives_organs_structures_and_volumes(tmp_path, abdomen_v2):
    organs = read_organs(saved(abdomen_v2, tmp_path / "o.nii.gz"), "totalseg-v2", like=abdomen_v2)
    assert organs.scheme == "totalseg-v2"
    assert organs.labels.array.dtype == organs.structures.array.dtype == np.uint8
    assert organs.has("liver") and not organs.has("pancreas")
    assert organs.mask("kidney").sum() == 2 * 64
    assert organs.volume_ml("kidney") == pytest.approx(2 * 64 * 16 / 1000)
    assert organs.structure_mask("aorta", "vertebrae_L3").sum() == 2 * 64
    assert organs.structure_mask("spleen").sum() == 0
    assert organs.has_structure("aorta") and not organs.has_structure("spleen")
    with pytest.raises(KeyError, match="artoa"):
        organs.structure_mask("artoa")


def test_v1_and_v2_files_of_the_same_anatomy_give_the_same_map():
    names = [
        "liver",
        "kidney_left",
        "aorta",
        "vertebrae_T8",
        "lung_middle_lobe_right",
        "urinary_bladder",
        "rib_right_12",
    ]
    maps = []
    for scheme in ("totalseg-v1", "totalseg-v2"):
        volume = label_volume({block(4 * i): ids(scheme)[name] for i, name in enumerate(names)})
        maps.append(from_labels(volume, scheme))
    np.testing.assert_array_equal(maps[0].labels.array, maps[1].labels.array)
    np.testing.assert_array_equal(maps[0].structures.array, maps[1].structures.array)
    assert maps[0].structure_names == maps[1].structure_names


def test_v1_heart_chambers_become_one_heart():
    v1 = ids("totalseg-v1")
    organs = from_labels(
        label_volume({block(0): v1["heart_myocardium"], block(5): v1["heart_atrium_left"], block(10): v1["liver"]}),
        "totalseg-v1",
    )
    assert organs.structure_mask("heart").sum() == 2 * 64


def test_pasta_file_is_recognised_and_lesions_fold_into_their_organ(tmp_path):
    path = saved(label_volume({block(0): 2, block(10): 8, block(10, size=2): 25}), tmp_path / "total.nii.gz")
    organs = read_organs(path)
    assert organs.scheme == "pasta" and organs.structures is None
    assert organs.mask("kidney").sum() == 64
    assert organs.structure_mask("aorta").sum() == 0
    assert "Kidney stone" in organs.notes[0]


def test_float_labels_are_read_and_fractions_refused(tmp_path):
    nib.save(nib.Nifti1Image(label_volume({block(0): 2}).array.astype(np.float64).T, AFFINE), tmp_path / "f.nii.gz")
    assert read_organs(tmp_path / "f.nii.gz").mask("liver").sum() == 64
    fractions = label_volume({block(0): 2}, dtype=np.float32)
    fractions.array[0, 0, 0] = 0.5
    with pytest.raises(InputError, match="no labels"):
        from_labels(fractions, "pasta")


def test_version_1_or_2_is_refused_not_guessed(tmp_path):
    path = saved(label_volume({block(0): 57}), tmp_path / "o.nii.gz")
    with pytest.raises(InputError, match="--organ-scheme totalseg-v1"):
        read_organs(path)


def test_labels_above_104_mean_version_2(tmp_path):
    path = saved(label_volume({block(0): 5, block(10): 116}), tmp_path / "o.nii.gz")
    organs = read_organs(path)
    assert organs.scheme == "totalseg-v2" and organs.has("liver") and organs.has("bone")


@pytest.mark.parametrize(
    ("value", "scheme", "message"),
    [
        (118, "totalseg-v2", "label 118"),
        (110, "totalseg-v1", "label 110"),
        (57, "pasta", "end at 25"),
        (1, "totalseg-v2", "none|no voxel"),
        (2, "v3", "unknown organ scheme"),
    ],
)
def test_wrong_scheme_is_one_clear_line(tmp_path, value, scheme, message):
    path = saved(label_volume({block(0): value}), tmp_path / "o.nii.gz")
    with pytest.raises(InputError, match=message) as caught:
        read_organs(path, scheme)
    assert "\n" not in str(caught.value)


def test_missing_file_and_other_grid(tmp_path, abdomen_v2):
    with pytest.raises(InputError, match="no such file"):
        read_organs(tmp_path / "none.nii.gz")
    path = saved(abdomen_v2, tmp_path / "o.nii.gz")
    shifted = Volume(abdomen_v2.array, AFFINE.copy())
    shifted.affine[0, 3] = 5
    with pytest.raises(InputError, match="not on the CT's grid"):
        read_organs(path, "totalseg-v2", like=shifted)


# --- names inside and beside files ---


def caret_extension(names: dict[int, str]) -> nib.nifti1.Nifti1Extension:
    """The header extension in which TotalSegmentator stores label names."""
    body = "".join(
        f'<Label Key="{v}" Red="1" Green="0" Blue="0" Alpha="1"><![CDATA[{n}]]></Label>\n' for v, n in names.items()
    )
    xml = f'<?xml version="1.0" encoding="UTF-8"?> <CaretExtension><VolumeInformation Index="0"><LabelTable>{body}</LabelTable></VolumeInformation></CaretExtension>'
    return nib.nifti1.Nifti1Extension(0, xml.encode())


@pytest.mark.parametrize("scheme", ["totalseg-v1", "totalseg-v2"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_names_in_the_nifti_header_decide(tmp_path, scheme, suffix):
    volume = label_volume({block(0): ids(scheme)["colon"], block(10): ids(scheme)["aorta"]})
    image = nib.Nifti1Image(volume.array.T, AFFINE)
    image.header.extensions.append(caret_extension(dict(organ_classes.table(scheme))))
    nib.save(image, tmp_path / f"o{suffix}")
    organs = read_organs(tmp_path / f"o{suffix}")
    assert organs.scheme == scheme
    assert organs.mask("colorectum").sum() == organs.structure_mask("aorta").sum() == 64


@pytest.mark.parametrize(
    "content", [{"7": "aorta", "57": "colon"}, {"labels": {"background": 0, "aorta": 7, "colon": 57}}]
)
def test_names_in_a_json_beside_the_file_decide(tmp_path, content):
    path = saved(label_volume({block(0): 57, block(10): 7}), tmp_path / "o.nii.gz")
    (tmp_path / "o_labels.json").write_text(json.dumps(content))
    organs = read_organs(path)
    assert organs.mask("colorectum").sum() == organs.structure_mask("aorta").sum() == 64
    assert not organs.has("pancreas")


def test_broken_json_beside_the_file_is_named(tmp_path):
    path = saved(label_volume({block(0): 2}), tmp_path / "o.nii.gz")
    (tmp_path / "o.json").write_text("{")
    with pytest.raises(InputError, match="o.json"):
        read_organs(path)


def test_slicer_segmentation_is_read_by_segment_names(tmp_path):
    image = sitk.GetImageFromArray(label_volume({block(0): 1, block(8): 2, block(16): 3, block(24): 4}).array)
    for number, name in enumerate(["Right kidney", "Inferior vena cava", "left lung", "My ROI"]):
        image.SetMetaData(f"Segment{number}_LabelValue", str(number + 1))
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_ID", f"Segment_{number}")
    sitk.WriteImage(image, str(tmp_path / "s.seg.nrrd"))
    organs = read_organs(tmp_path / "s.seg.nrrd")
    assert (
        organs.mask("kidney").sum()
        == organs.mask("lung").sum()
        == organs.structure_mask("inferior_vena_cava").sum()
        == 64
    )
    assert "ignored: My ROI" in organs.notes[0]


def test_overlapping_slicer_segmentation_is_refused_with_advice(tmp_path):
    array = np.zeros((4, 5, 6, 2), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / "s.seg.nrrd"))
    with pytest.raises(InputError, match="overlap"):
        read_organs(tmp_path / "s.seg.nrrd")


# --- folder ---


def test_class_folder_equals_the_multilabel_file(tmp_path, abdomen_v2):
    table = organ_classes.table("totalseg-v2")
    for value in np.unique(abdomen_v2.array)[1:]:
        write_volume(
            Volume((abdomen_v2.array == value).astype(np.uint8), AFFINE), tmp_path / f"{table[int(value)]}.nii.gz"
        )
    (tmp_path / "statistics.json").write_text("{}")
    folder, file = read_organs(tmp_path, like=abdomen_v2), from_labels(abdomen_v2, "totalseg-v2")
    assert folder.scheme == "totalseg-v2"
    np.testing.assert_array_equal(folder.labels.array, file.labels.array)
    np.testing.assert_array_equal(folder.structures.array, file.structures.array)
    assert folder.structure_names == file.structure_names


def test_v1_folder_is_recognised_by_its_heart(tmp_path):
    for name, x in (("heart_myocardium", 0), ("heart_atrium_left", 5), ("liver", 10)):
        saved(label_volume({block(x): 1}), tmp_path / f"{name}.nii.gz")
    organs = read_organs(tmp_path)
    assert organs.scheme == "totalseg-v1"
    assert organs.structure_mask("heart").sum() == 2 * 64


def test_folder_without_organs_or_with_two_grids(tmp_path):
    with pytest.raises(InputError, match="no TotalSegmentator class file"):
        read_organs(tmp_path)
    saved(label_volume({block(0): 1}), tmp_path / "liver.nii.gz")
    saved(label_volume({block(0): 1}, shape=(10, 20, 31)), tmp_path / "spleen.nii.gz")
    with pytest.raises(InputError, match="one folder must come from one scan"):
        read_organs(tmp_path)


# --- real scans ---


@pytest.mark.parametrize(
    ("case", "file", "scheme"),
    [
        ("S01_ts_torso", "organs_ts104.nii.gz", "totalseg-v1"),
        ("S01_ts_torso/small_fixture", "organs_ts117.nii.gz", "totalseg-v2"),
    ],
)
def test_real_totalsegmentator_maps_equal_the_pasta_maps(real_data, case, file, scheme):
    folder = real_data / "cases" / case
    ct = read_volume(folder / "ct.nii.gz")
    organs = read_organs(folder / file, like=ct)
    assert organs.scheme == scheme
    np.testing.assert_array_equal(organs.labels.array, read_organs(folder / "organs.nii.gz").labels.array)
    assert organs.has_structure("aorta") and organs.has_structure("vertebrae_L1")


def test_large_map_takes_two_seconds_at_most_without_reading():
    array = np.random.default_rng(0).integers(0, 118, (300, 512, 512), dtype=np.uint8)
    start = time.perf_counter()
    from_labels(Volume(array, AFFINE), "totalseg-v2")
    assert time.perf_counter() - start < 4.0  # about 1 s alone on two cores; room for a loaded machine


# --- running TotalSegmentator ---


def fake_totalsegmentator(monkeypatch, behaviour) -> list[dict]:
    """Install a stand-in for the package that refuses argument names the real function does not have."""
    calls: list[dict] = []
    namespace: dict = {}
    exec(f"def recorded({RECORDED_SIGNATURE}): ...", namespace)
    signature = inspect.signature(namespace["recorded"])

    def totalsegmentator(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        calls.append(dict(bound.arguments))
        print("chatter")
        return behaviour(bound.arguments)

    api = types.ModuleType("totalsegmentator.python_api")
    api.totalsegmentator = totalsegmentator
    monkeypatch.setitem(sys.modules, "totalsegmentator", types.ModuleType("totalsegmentator"))
    monkeypatch.setitem(sys.modules, "totalsegmentator.python_api", api)
    return calls


def writes_liver(arguments) -> None:
    ct = read_volume(arguments["input"])
    array = np.zeros(ct.array.shape, np.uint8)
    array[2:5, 2:5, 2:5] = 5
    write_volume(Volume(array, ct.affine), arguments["output"])


@pytest.fixture
def ct() -> Volume:
    """Soft tissue of 40 HU with a row of air at one side, as real CT has."""
    array = np.full((10, 20, 30), 40, np.int16)
    array[:, :2] = -1000
    return Volume(array, AFFINE.copy())


def test_totalsegmentator_is_called_as_its_signature_wants(monkeypatch, capsys, tmp_path, ct):
    calls, told = fake_totalsegmentator(monkeypatch, writes_liver), []
    organs = run_totalsegmentator(
        ct, out=tmp_path / "new" / "o.nii.gz", fast=True, device="cuda:1", progress=lambda f, text: told.append(f)
    )
    assert organs.mask("liver").sum() == 27
    call = calls[0]
    assert (call["ml"], call["fast"], call["device"], call["task"], call["roi_subset"]) == (
        True,
        True,
        "gpu:1",
        "total",
        None,
    )
    assert told[0] == 0.0 and told[-1] == 1.0 and told == sorted(told)
    assert capsys.readouterr().out == ""
    again = read_organs(tmp_path / "new" / "o.nii.gz")
    assert again.scheme == "totalseg-v2" and again.mask("liver").sum() == 27


def test_totalsegmentator_from_a_nrrd_file(monkeypatch, tmp_path, ct):
    fake_totalsegmentator(monkeypatch, writes_liver)
    assert run_totalsegmentator(saved(ct, tmp_path / "ct.nrrd"), device="cpu").has("liver")


@pytest.mark.parametrize(("device", "expected"), [("auto", "gpu"), ("cpu", "cpu"), ("cuda", "gpu"), ("mps", "mps")])
def test_device_names(monkeypatch, ct, device, expected):
    calls = fake_totalsegmentator(monkeypatch, writes_liver)
    run_totalsegmentator(ct, device=device)
    assert calls[0]["device"] == expected


def test_bad_output_name_is_refused_before_the_long_run(monkeypatch, tmp_path, ct):
    calls = fake_totalsegmentator(monkeypatch, writes_liver)
    with pytest.raises(InputError, match="unknown image format"):
        run_totalsegmentator(ct, out=tmp_path / "o.txt")
    assert not calls


def test_unknown_device(ct):
    with pytest.raises(InputError, match="unknown device"):
        run_totalsegmentator(ct, device="tpu")


def test_missing_package_names_the_pip_command(monkeypatch, ct):
    monkeypatch.setitem(sys.modules, "totalsegmentator", None)
    with pytest.raises(InputError, match="pip install"):
        run_totalsegmentator(ct)


@pytest.mark.parametrize("error", [ConnectionError("Max retries exceeded\nmore"), SystemExit(1)])
def test_weights_that_cannot_be_loaded_are_explained(monkeypatch, ct, error):
    def fail(arguments):
        raise error

    fake_totalsegmentator(monkeypatch, fail)
    with pytest.raises(InputError, match="TOTALSEG_WEIGHTS_PATH") as caught:
        run_totalsegmentator(ct)
    assert "\n" not in str(caught.value)


# --- sanity checks ---


def test_plausible_map_has_no_warnings(ct):
    assert check_organs(ct, OrganMap(label_volume({block(4): 2}))) == []


def test_implausible_hu_and_cut_organ_are_told(ct):
    organs = OrganMap(label_volume({block(4): 1, block(20, z=6): 2}))
    warnings = check_organs(ct, organs)
    assert any(w.startswith("Lung: median 40 HU") for w in warnings)
    assert any("Liver reaches the upper end" in w for w in warnings)
    assert check_organs(ct, OrganMap(label_volume({}))) == ["the organ map is empty"]


def test_check_refuses_another_grid(ct):
    with pytest.raises(InputError, match="grid"):
        check_organs(ct, OrganMap(label_volume({block(4): 2}, shape=(10, 20, 31))))


def test_real_scans_have_plausible_organs(real_data):
    for case in ("S01_ts_torso", "S02_hcc006"):
        folder = real_data / "cases" / case
        ct = read_volume(folder / "ct.nii.gz")
        assert not [w for w in check_organs(ct, read_organs(folder / "organs.nii.gz")) if "median" in w]


# --- place names ---


def at(x: float, y: float = 6, z: float = 4) -> np.ndarray:
    return np.array([x, y, z]) * np.diag(AFFINE)[:3]


def test_places_from_structures():
    v2 = ids("totalseg-v2")
    names = {0: "lung_middle_lobe_right", 6: "kidney_left", 12: "vertebrae_L3", 18: "rib_left_7", 24: "hip_right"}
    organs = from_labels(label_volume({block(x): v2[name] for x, name in names.items()}), "totalseg-v2")
    assert location_detail(organs, "lung", at(1)) == "Right middle lobe of the lung"
    assert location_detail(organs, "kidney", at(7)) == "Left kidney"
    assert location_detail(organs, "bone", at(13)) == "L3 vertebra"
    assert location_detail(organs, "bone", at(19)) == "Left 7th rib"
    assert location_detail(organs, "bone", at(27)) == "Right hip bone"
    assert location_detail(organs, "liver", at(2)) == "Liver"


def test_point_just_outside_takes_the_nearest_class_and_a_far_one_does_not():
    v2 = ids("totalseg-v2")
    organs = from_labels(label_volume({block(0): v2["vertebrae_T4"], block(12): v2["vertebrae_T5"]}), "totalseg-v2")
    assert location_detail(organs, "bone", at(10)) == "T5 vertebra"
    assert location_detail(organs, "bone", at(29)) == "Bone"


def test_sides_without_structures_follow_ras():
    kidneys = OrganMap(label_volume({block(3): 8, block(22): 8}))
    assert location_detail(kidneys, "kidney", at(23)) == "Right kidney"
    assert location_detail(kidneys, "kidney", at(4)) == "Left kidney"
    one = OrganMap(label_volume({block(20): 8, block(26): 10}))
    assert location_detail(one, "kidney", at(21)) == "Left kidney"  # left of the spine


def test_sides_on_the_real_scan_agree_with_the_segmentation(real_data):
    folder = real_data / "cases/S01_ts_torso"
    detailed, plain = read_organs(folder / "organs_ts104.nii.gz"), read_organs(folder / "organs.nii.gz")
    for side in ("left", "right"):
        for name, organ in ((f"kidney_{side}", "kidney"), (f"lung_lower_lobe_{side}", "lung")):
            voxels = np.argwhere(detailed.structure_mask(name))
            center = detailed.labels.to_ras(voxels[len(voxels) // 2])
            assert location_detail(detailed, organ, center).lower().startswith(side)
            assert location_detail(plain, organ, center) == f"{side.capitalize()} {organ}"
