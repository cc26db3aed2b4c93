"""Tests of cases on disk: layout, masks, identical bytes, all-or-nothing writing, and reading published cases."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import numpy as np
import pytest

from PASTALib import cases, taxonomy, volume
from PASTALib.attributes import StructuredReport
from PASTALib.cases import (
    case_folder,
    find_cases,
    lesion_of_folder,
    read_case,
    read_reports,
    training_labels,
    write_case,
)
from PASTALib.errors import InputError
from PASTALib.organs import OrganMap
from PASTALib.synthesis.spec import LesionRequest, Measurement, SynthesisResult
from PASTALib.volume import Volume

SHAPE = (12, 16, 20)
AFFINE = np.array([[-1.5, 0, 0, 30.0], [0, -1.5, 0, 20.0], [0, 0, 2.0, -50.0], [0, 0, 0, 1]])
FILES = {"img.nii.gz", "label.nii.gz", "total.nii.gz", "type.json", "case.json"}


def a_scan() -> tuple[Volume, OrganMap]:
    """A liver (left half) and a kidney (right quarter) in soft tissue with air around."""
    array = np.random.default_rng(0).integers(20, 60, SHAPE).astype(np.int16)
    array[:, :2] = -1000
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:11, 3:14, 1:9] = taxonomy.organ("liver").value
    labels[1:11, 3:14, 13:19] = taxonomy.organ("kidney").value
    return Volume(array, AFFINE), OrganMap(Volume(labels, AFFINE), scheme="totalseg-v2")


def a_lesion(
    ct: Volume, organs: OrganMap, key: str, start=(3, 5, 2), size=4, hu=5.4, mass_effect_mm=0.0, detail=""
) -> SynthesisResult:
    """A cube of ``size`` voxels at ``start`` inside a region one voxel larger on each side."""
    region = tuple(slice(s - 1, s + size + 1) for s in start)
    before = ct.array[region].astype(np.float32)
    label = np.zeros(before.shape, bool)
    label[1:-1, 1:-1, 1:-1] = True
    after = np.where(label, np.float32(hu), before)
    options = {
        "enhancement": "Enhanced CT",
        "size": "8x6x6 mm",
        "shape": "Round-like",
        "density": "Hypodense",
        "heterogeneity": "Homogeneous",
        "surface": "Well-defined margin",
        "invasion": "none",
    }
    report = StructuredReport.from_options(
        key, options, "measured", location_detail=detail, requested={"density": "Isodense"}
    )
    return SynthesisResult(
        request=LesionRequest(key, seed=7, mass_effect_mm=mass_effect_mm),
        region=region,
        before=before,
        after=after,
        label=label,
        organ=organs.mask(taxonomy.lesion(key).organ)[region] & ~label,
        changed=label.copy(),
        center_ras=(1.23456789, 2.0, 3.0),
        requested={"density": "Isodense", "size_mm": (8.0, 6.0, 6.0)},
        measurement=Measurement(
            (8.0, 6.0, 6.0), {"density": "Hypodense"}, ("shape",), {"density_delta_hu": np.float32(-30.123456)}
        ),
        report=report,
        tries=2,
        log=["try 1: too close"],
        parameters={
            "radius_mm": np.float64(1 / 3),
            "flags": {"b", "a"},
            "bad": float("nan"),
            "field": np.zeros((20, 20, 20)),
        },
    )


def write(folder, keys=("liver_tumor",), **changes) -> Path:
    ct, organs = a_scan()
    starts = {"liver_tumor": (3, 5, 2), "liver_cyst": (6, 9, 4), "kidney_stone": (3, 5, 14), "kidney_cyst": (3, 5, 14)}
    lesions = [a_lesion(ct, organs, key, starts[key], detail="Left kidney" if "kidney" in key else "") for key in keys]
    arguments = {
        "seed": 5,
        "source": "/data/secret/scan_01.nii.gz",
        "options": {"refine": None, "model": Path("/x/m.pt")},
    }
    return write_case(folder, ct, organs, lesions, **{**arguments, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# -- writing and reading our own ---------------------------------------------------------------------------------


def test_round_trip_of_one_lesion(tmp_path):
    ct, organs = a_scan()
    folder = write(case_folder(tmp_path, "liver_tumor", "0001"))
    assert folder == tmp_path / "Liver" / "Tumor" / "0001"
    assert {path.name for path in folder.iterdir()} == FILES
    case = read_case(folder)
    lesion = np.zeros(SHAPE, bool)
    lesion[3:7, 5:9, 2:6] = True
    assert case.ct.array.dtype == np.int16 and case.label.array.dtype == np.uint8
    np.testing.assert_array_equal(case.ct.array[~lesion], ct.array[~lesion])
    assert (case.ct.array[lesion] == 5).all()
    np.testing.assert_array_equal(case.label.array == 2, lesion)
    np.testing.assert_array_equal(case.label.array == 1, organs.mask("liver") & ~lesion)
    np.testing.assert_array_equal(case.organs.labels.array, organs.labels.array)
    np.testing.assert_allclose(case.ct.affine, AFFINE, atol=1e-4)
    assert case.reports == read_reports(folder) == [a_lesion(ct, organs, "liver_tumor").report]
    assert case.instances is None


def test_case_json_holds_provenance_without_paths(tmp_path):
    record = read_case(write(tmp_path / "c")).record
    assert record["seed"] == 5 and record["source"] == {"ct": "scan_01.nii.gz", "organ_scheme": "totalseg-v2"}
    assert record["options"] == {"refine": None, "model": "m.pt"}
    assert record["grid"] == {"shape_zyx": [12, 16, 20], "spacing_zyx_mm": [2.0, 1.5, 1.5]}
    (entry,) = record["lesions"]
    assert entry["lesion"] == "liver_tumor" and entry["label_value"] == 12 and entry["request"]["seed"] == 7
    assert entry["voxels"] == 64 and entry["volume_mm3"] == 64 * 4.5 and entry["tries"] == 2
    assert entry["center_ras_mm"] == [1.23457, 2.0, 3.0]
    assert entry["requested"] == {"density": "Isodense", "size_mm": [8.0, 6.0, 6.0]}
    assert entry["measured"]["figures"] == {"density_delta_hu": -30.1235}
    assert entry["parameters"] == {
        "radius_mm": 0.333333,
        "flags": ["a", "b"],
        "bad": None,
        "field": {"shape": [20, 20, 20], "dtype": "float64"},
    }
    assert "secret" not in (tmp_path / "c" / "case.json").read_text(encoding="utf-8")


def test_windows_source_loses_its_folders(tmp_path):
    record = read_case(write(tmp_path / "c", source=r"C:\patients\Doe\ct.nrrd")).record
    assert record["source"]["ct"] == "ct.nrrd"


def test_several_lesions_of_several_organs(tmp_path):
    folder = write(case_folder(tmp_path, "liver_tumor", "m"), ("liver_tumor", "kidney_stone", "liver_cyst"))
    assert {path.name for path in folder.iterdir()} == FILES | {"lesions.nii.gz"}
    case = read_case(folder)
    assert [report.lesion for report in case.reports] == ["liver_tumor", "kidney_stone", "liver_cyst"]
    _, organs = a_scan()
    parents = organs.mask("liver") | organs.mask("kidney")
    np.testing.assert_array_equal(case.label.array > 0, parents)
    np.testing.assert_array_equal(case.label.array == 2, case.instances.array > 0)
    assert np.bincount(case.instances.array.ravel())[1:].tolist() == [64, 64, 64]
    training = training_labels(case).array
    assert training.dtype == np.uint8
    for number, value in enumerate((12, 25, 21), 1):
        np.testing.assert_array_equal(training == value, case.instances.array == number)
    outside = case.instances.array == 0
    np.testing.assert_array_equal(training[outside], case.organs.labels.array[outside])
    assert list(json.loads((folder / "type.json").read_text())) == ["5", "3"]


def test_later_lesion_is_on_top_and_each_keeps_only_its_changed_voxels(tmp_path):
    ct, organs = a_scan()
    first = a_lesion(ct, organs, "liver_tumor", (3, 5, 2), hu=-10)
    second = a_lesion(ct, organs, "liver_cyst", (5, 6, 3), hu=80)
    case = read_case(write_case(tmp_path / "c", ct, organs, [first, second], seed=1))
    counts = np.bincount(case.instances.array.ravel())
    assert counts[2] == 64 and counts[1] == 64 - 2 * 3 * 3
    assert (case.ct.array[case.instances.array == 1] == -10).all()
    assert (case.ct.array[case.instances.array == 2] == 80).all()


def test_ct_with_the_lesions_already_in_it_gives_the_same_case(tmp_path):
    ct, organs = a_scan()
    lesion = a_lesion(ct, organs, "liver_tumor")
    edited = Volume(ct.array.astype(np.float32), AFFINE)
    edited.array[lesion.region] = lesion.after
    plain = write_case(tmp_path / "a", ct, organs, [lesion], seed=1)
    again = write_case(tmp_path / "b", edited, organs, [lesion], seed=1)
    assert contents(plain) == contents(again)


def test_lesion_hidden_under_another_is_refused(tmp_path):
    ct, organs = a_scan()
    lesions = [a_lesion(ct, organs, "liver_tumor"), a_lesion(ct, organs, "liver_cyst")]
    with pytest.raises(InputError, match="lesion 1 .liver_tumor. has no voxel of its own"):
        write_case(tmp_path / "c", ct, organs, lesions, seed=1)
    assert list(tmp_path.iterdir()) == []


def test_mass_effect_moves_the_organ_in_total_and_label(tmp_path):
    ct, organs = a_scan()
    lesion = a_lesion(ct, organs, "liver_tumor", mass_effect_mm=3.0)
    lesion.changed[:] = True
    lesion.organ[0] = False
    lesion.moved_labels = np.full(lesion.label.shape, 2, np.uint8)
    lesion.moved_labels[0] = 0
    case = read_case(write_case(tmp_path / "c", ct, organs, [lesion], seed=1))
    assert (case.organs.labels.array[lesion.region][0] == 0).all()
    assert (case.label.array[lesion.region][0] == 0).all()
    assert (case.label.array[lesion.region][1:] > 0).all()
    assert organs.mask("liver")[lesion.region].all()  # the caller's map is untouched


def test_exophytic_part_of_a_lesion_is_lesion_and_total_keeps_the_organ_map(tmp_path):
    ct, organs = a_scan()
    lesion = a_lesion(ct, organs, "liver_tumor", (3, 5, 7))
    case = read_case(write_case(tmp_path / "c", ct, organs, [lesion], seed=1))
    assert (case.label.array == 2).sum() == 64
    np.testing.assert_array_equal(case.organs.labels.array, organs.labels.array)
    assert (training_labels(case).array == 12).sum() == 64


# -- identical bytes ---------------------------------------------------------------------------------------------


def test_two_writes_give_identical_bytes(tmp_path, monkeypatch):
    first = contents(write(tmp_path / "a" / "one", ("liver_tumor", "kidney_stone")))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86400)
    second = contents(write(tmp_path / "b" / "two", ("liver_tumor", "kidney_stone")))
    assert first == second
    for name, data in first.items():
        if name.endswith(".gz"):
            assert data[4:8] == bytes(4), f"{name} holds a time stamp"
            assert not data[3] & 0x08, f"{name} holds a file name"


def test_overwriting_gives_the_same_bytes(tmp_path):
    before = contents(write(tmp_path / "c"))
    assert contents(write(tmp_path / "c", overwrite=True)) == before


# -- all or nothing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["img.nii.gz", "total.nii.gz", "type.json", "case.json"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("existing", [False, True])
def test_failure_while_writing_leaves_nothing_behind(tmp_path, monkeypatch, failing, error, existing):
    folder = tmp_path / "Liver" / "Tumor" / "c"
    before = contents(write(folder)) if existing else None
    write_volume, write_json = cases.write_volume, cases._write_json

    def fail(real):
        def run(data, path, *more, **named):
            real(data, path, *more, **named)
            if Path(path).name == failing:
                raise error

        return run

    monkeypatch.setattr(cases, "write_volume", fail(write_volume))
    monkeypatch.setattr(cases, "_write_json", fail(write_json))
    with pytest.raises(type(error)):
        write(folder, seed=6, overwrite=existing)
    assert [path.name for path in folder.parent.iterdir()] == (["c"] if existing else [])
    if existing:
        assert contents(folder) == before


def test_failure_while_renaming_puts_the_old_case_back(tmp_path, monkeypatch):
    folder = write(tmp_path / "c")
    before = contents(folder)
    rename = Path.rename

    def fail(self, target):
        if self.suffix == ".partial":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write(folder, seed=6, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["c"] and contents(folder) == before


def test_existing_case_is_not_overwritten_unless_told(tmp_path):
    folder = write(tmp_path / "c")
    before = contents(folder)
    with pytest.raises(InputError, match="exists already"):
        write(folder, seed=6)
    assert contents(folder) == before
    write(folder, ("liver_cyst",), seed=6, overwrite=True)
    assert read_case(folder).record["seed"] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_case_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    folder = tmp_path / "c"
    write_json = cases._write_json

    def other_process(data, path, *more, **named):
        write_json(data, path, *more, **named)
        folder.mkdir(exist_ok=True)
        (folder / "img.nii.gz").write_bytes(b"theirs")

    monkeypatch.setattr(cases, "_write_json", other_process)
    with pytest.raises(InputError, match="exists already"):
        write(folder)
    assert contents(folder) == {"img.nii.gz": b"theirs"}


def test_folder_can_be_read_by_others(tmp_path):
    (tmp_path / "plain").mkdir()
    folder = write(tmp_path / "c")
    assert folder.stat().st_mode == (tmp_path / "plain").stat().st_mode


# -- bad input to write_case -------------------------------------------------------------------------------------


def test_input_that_does_not_fit_is_refused(tmp_path):
    ct, organs = a_scan()
    lesion = a_lesion(ct, organs, "liver_tumor")
    small = OrganMap(Volume(organs.labels.array[1:], AFFINE))
    moved = OrganMap(Volume(organs.labels.array, AFFINE + np.eye(4, k=3)))
    for arguments, message in [
        ((ct, organs, []), "1 to 255 lesions, found 0"),
        ((ct, small, [lesion]), "organ map is not on the grid of the CT: shape"),
        ((ct, moved, [lesion]), "up to 1 mm apart"),
        ((Volume(np.full(SHAPE, np.nan, np.float32), AFFINE), organs, [lesion]), "not finite"),
    ]:
        with pytest.raises(InputError, match=message):
            write_case(tmp_path / "c", *arguments, seed=1)
    lesion.after = lesion.after[1:]
    with pytest.raises(InputError, match="lesion 1: after has shape"):
        write_case(tmp_path / "c", ct, organs, [lesion], seed=1)
    lesion = a_lesion(ct, organs, "liver_tumor")
    lesion.report = None
    with pytest.raises(InputError, match="report is NoneType"):
        write_case(tmp_path / "c", ct, organs, [lesion], seed=1)
    assert list(tmp_path.iterdir()) == []


def test_unknown_things_are_not_written_into_case_json(tmp_path):
    with pytest.raises(TypeError, match="object cannot be kept in case.json"):
        write(tmp_path / "c", options={"x": object()})
    assert list(tmp_path.iterdir()) == []


# -- folders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lesion", taxonomy.LESIONS, ids=lambda lesion: lesion.key)
def test_every_lesion_type_has_its_own_folder(lesion):
    assert lesion_of_folder(case_folder("root", lesion.key, "0001")) == lesion.key


def test_folders_outside_the_layout_tell_nothing(tmp_path):
    assert lesion_of_folder(tmp_path) is None
    assert lesion_of_folder("0001") is None
    assert lesion_of_folder("root/kidney/STONE/1") == "kidney_stone"


def test_find_cases_is_sorted_and_skips_hidden_folders(tmp_path):
    names = ["Lung/Tumor/b", "Kidney/Cyst/10", "Kidney/Cyst/2", ".x.partial/c", "Lung/Tumor/.a.123.partial"]
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "img.nii.gz").touch()
    (tmp_path / "Liver").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_cases(tmp_path)]
    assert found == ["Kidney/Cyst/10", "Kidney/Cyst/2", "Lung/Tumor/b"]
    assert list(find_cases(tmp_path / "Lung/Tumor/b")) == [tmp_path / "Lung/Tumor/b"]
    with pytest.raises(InputError, match="no such folder"):
        list(find_cases(tmp_path / "none"))


# -- published cases ---------------------------------------------------------------------------------------------

FIVE = {
    "Shape": "Irregular",
    "Density": "Hypodense",
    "Heterogeneity": "Heterogeneous",
    "Surface": "Ill-defined margin",
    "Invasion": "No close relationship with adjacent structures",
}


def publish(folder: Path, types: dict, total_values: dict[int, tuple[slice, slice, slice]]) -> Path:
    """A case as PASTA-Gen-30K holds it: no case.json, TotalSegmentator version 1 values in total.nii.gz."""
    folder.mkdir(parents=True)
    ct, _ = a_scan()
    total = np.zeros(SHAPE, np.uint8)
    for value, where in total_values.items():
        total[where] = value
    label = np.isin(total, [int(key) for key in types]).astype(np.uint8)
    label[4:7, 5:8, 3:6] = 2
    volume.write_volume(ct, folder / "img.nii.gz")
    volume.write_volume(Volume(label, AFFINE), folder / "label.nii.gz")
    volume.write_volume(Volume(total, AFFINE), folder / "total.nii.gz")
    (folder / "type.json").write_text(json.dumps(types))
    return folder


BLOCK = (slice(1, 11), slice(3, 14))


@pytest.fixture
def lobes(tmp_path):
    return publish(
        tmp_path / "Lung" / "Tumor" / "17",
        {"14": FIVE, "13": {**FIVE, "Shape": "Round-like"}, "17": FIVE},
        {
            14: (*BLOCK, slice(1, 9)),
            13: (*BLOCK, slice(9, 11)),
            7: (*BLOCK, slice(11, 13)),
            20: (*BLOCK, slice(13, 15)),
        },
    )


def test_published_lung_case(lobes):
    case = read_case(lobes)
    (report,) = case.reports
    assert report.lesion == "lung_tumor" and report.location_detail == "Left lower lobe of the lung"
    assert report.class_indices.tolist() == [1, 0, 1, 1, 0]
    assert case.record == {} and case.instances is None
    assert case.organs.scheme == "totalseg-v1"
    assert set(np.unique(case.organs.labels.array)) == {0, 1, 10}  # the aorta is none of the ten organs
    names = {case.organs.structure_names.get(value) for value in np.unique(case.organs.structures.array) if value}
    assert names == {"aorta", "lung_upper_lobe_left", "lung_lower_lobe_left", "vertebrae_L3"}
    training = training_labels(case).array
    np.testing.assert_array_equal(training == 11, case.label.array == 2)


def test_published_type_comes_from_the_folder_or_the_caller(tmp_path):
    stone = publish(tmp_path / "Kidney" / "Stone" / "3", {"3": FIVE, "2": FIVE}, {3: (*BLOCK, slice(1, 9))})
    assert read_case(stone).reports[0].lesion == "kidney_stone"
    assert read_reports(stone)[0].location_detail == "Left kidney"
    flat = publish(tmp_path / "flat", {"3": FIVE}, {3: (*BLOCK, slice(1, 9))})
    with pytest.raises(InputError, match="type.json.*kidney_tumor, kidney_cyst, kidney_stone"):
        read_case(flat)
    case = read_case(flat, lesion="kidney_cyst")
    assert case.organs.scheme == "totalseg-v1"  # although no value of this small scan is above 10
    assert case.reports[0].lesion == "kidney_cyst" and set(np.unique(training_labels(case).array)) == {0, 8, 24}


def test_our_case_without_case_json_is_read_like_a_published_one(tmp_path):
    folder = write(case_folder(tmp_path, "kidney_stone", "1"), ("kidney_stone",))
    full = read_case(folder)
    (folder / "case.json").unlink()
    case = read_case(folder)
    assert case.organs.scheme == "pasta"
    assert case.reports[0].options == full.reports[0].options
    assert case.reports[0].values["shape"].basis == "requested"
    assert case.reports[0].location_detail == "Left kidney"


def test_several_types_without_instance_map_cannot_be_told_apart(tmp_path):
    folder = write(tmp_path / "c", ("liver_tumor", "kidney_stone"))
    (folder / "lesions.nii.gz").unlink()
    case = read_case(folder)
    with pytest.raises(InputError, match="kidney_stone, liver_tumor"):
        training_labels(case)


# -- damaged cases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["img.nii.gz", "label.nii.gz", "total.nii.gz", "type.json"])
def test_missing_file(lobes, name):
    (lobes / name).unlink()
    with pytest.raises(InputError, match=f"17: {name} missing"):
        read_case(lobes)


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match="no such case folder"):
        read_case(tmp_path / "none")


@pytest.mark.parametrize(
    "name", ["img.nii.gz", "label.nii.gz", "total.nii.gz", "type.json", "case.json", "lesions.nii.gz"]
)
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.6, 0.9])
def test_truncated_file(tmp_path, name, keep):
    folder = write(tmp_path / "c", ("liver_tumor", "kidney_stone"))
    if name == "type.json":
        (folder / "case.json").unlink()
        (folder / "lesions.nii.gz").unlink()
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match=name):
        read_case(folder, lesion="liver_tumor")


def test_unpacked_volume_under_a_packed_name_is_read_or_named(tmp_path):
    folder = write(tmp_path / "c")
    data = gzip.decompress((folder / "label.nii.gz").read_bytes())
    (folder / "label.nii.gz").write_bytes(data)
    assert (read_case(folder).label.array == 2).sum() == 64


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("type.json", '{"7": {"Shape": "Irregular"}}', "type.json: organ id '7'"),
        ("type.json", '{"5": {"Shape": "Irregular"}}', "'Liver'|does not fit"),
        ("type.json", "{}", "type.json.*empty"),
        ("type.json", "[]", "type.json: found list"),
        ("case.json", "{}", "case.json: found None version None"),
        ("case.json", '{"schema": "pasta-case", "version": 9}', "version 9"),
        ("case.json", '{"schema": "pasta-case", "version": 1, "lesions": []}', '"lesions" must be a list'),
        (
            "case.json",
            '{"schema": "pasta-case", "version": 1, "lesions": [{}]}',
            "case.json: structured report: found NoneType",
        ),
    ],
)
def test_bad_json(lobes, name, text, message):
    (lobes / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_case(lobes)


def test_json_that_is_not_text(lobes):
    (lobes / "type.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_case(lobes)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("label.nii.gz", 3, "holds the value 3; wanted 0 background, 1 organ, 2 lesion"),
        ("total.nii.gz", 117, "label 117 is not one of totalseg-v1"),
        ("lesions.nii.gz", 2, "one value per lesion, of which there are 1"),
    ],
)
def test_values_out_of_range(lobes, name, value, message):
    volume.write_volume(Volume(np.full(SHAPE, value, np.uint8), AFFINE), lobes / name)
    with pytest.raises(InputError, match=message):
        read_case(lobes)


def test_stated_pasta_scheme_is_held_to(tmp_path):
    folder = write(tmp_path / "c")
    volume.write_volume(Volume(np.full(SHAPE, 57, np.uint8), AFFINE), folder / "total.nii.gz")
    with pytest.raises(InputError, match="total.nii.gz: holds label 57"):
        read_case(folder)


def test_grids_must_agree(lobes):
    volume.write_volume(Volume(np.zeros(SHAPE, np.uint8), AFFINE + np.eye(4, k=3)), lobes / "label.nii.gz")
    with pytest.raises(InputError, match="label.nii.gz is not on the grid of the CT: corners up to 1 mm apart"):
        read_case(lobes)
