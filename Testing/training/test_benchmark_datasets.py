"""NIfTI and private data sets: replicas in their layouts, conversion into training's tables, and one clear line for what is wrong."""

from __future__ import annotations

import ast
import csv
import hashlib
import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from PASTALib.errors import InputError
from PASTALib.progress import Cancelled
from PASTALib.volume import Volume, read_volume, write_volume
from training.benchmark import datasets
from training.benchmark.datasets import about, items
from training.benchmark.datasets.replicas import write_replica
from training.benchmark.registry import read_tasks
from training.downstream.labelled import read_images, read_mask, standardise

CASES = 4
SHIFT = np.eye(4) + 0.5 * np.eye(4, k=3)  # half a millimetre to the right
SEGMENTATION = {
    "msd_lung": ["lung_tumor"],
    "msd_liver": ["liver", "liver_tumor"],
    "msd_pancreas_tumor": ["pancreas", "pancreas_tumor"],
    "msd_pancreas_cyst": ["pancreas", "pancreas_cyst"],
    "msd_colon": ["colorectal_cancer"],
    "msd_brain": ["edema", "non_enhancing_tumor", "enhancing_tumor"],
    "kits23": ["kidney", "kidney_tumor", "kidney_cyst"],
    "atlas": ["liver", "liver_tumor"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """All NIfTI and private replicas, each in a folder called after its key. Shared: never write into them."""
    folder = tmp_path_factory.mktemp("data")
    for key in (*SEGMENTATION, "private", "reports"):
        write_replica(key, folder / key, CASES, seed=1)
    return folder


@pytest.fixture
def copy(data, tmp_path):
    """A replica of one's own, to damage."""

    def made(key):
        return shutil.copytree(data / key, tmp_path / key)

    return made


def one_line(call, *parts):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


def spoil(path, change):
    """Rewrite a volume's array or affine."""
    volume = read_volume(path, "labels") if "label" in str(path) or "seg" in path.name else read_volume(path)
    write_volume(change(volume), path)


# ---------------------------------------------------------------------------------------------------------------
# What the sets are


def test_every_data_set_of_the_registry_is_described_with_the_registry_s_labels():
    for task in read_tasks():
        entry = datasets.describe(task.dataset.key)
        assert entry.licence and entry.source and entry.title
        if task.dataset.labels:
            assert entry.labels == task.dataset.labels and entry.channels == task.dataset.channels
    assert {task.dataset.key for task in read_tasks()} <= set(datasets.keys())


def test_checksums_are_those_that_monai_publishes():
    """Read from MONAI's source: importing monai.apps takes seconds."""
    spec = importlib.util.find_spec("monai")
    if spec is None:
        pytest.skip("monai is not installed")
    tree = ast.parse((Path(spec.origin).parent / "apps" / "datasets.py").read_text(encoding="utf-8"))
    published = next(node for node in tree.body if getattr(node, "name", "") == "DecathlonDataset")
    tables = {
        node.targets[0].id: ast.literal_eval(node.value) for node in published.body if isinstance(node, ast.Assign)
    }
    entries = [entry for entry in map(datasets.describe, datasets.keys()) if entry.md5]
    assert len(entries) == 6
    for entry in entries:
        name = entry.archive.removesuffix(".tar")
        assert entry.folders[0] == name
        assert (entry.md5, entry.url) == (tables["md5"][name], tables["resource"][name])


def test_an_archive_is_checked_against_its_checksum(tmp_path, monkeypatch):
    archive = tmp_path / "Task06_Lung.tar"
    archive.write_bytes(b"lungs" * 1000)
    one_line(lambda: datasets.check_archive("msd_lung", archive), "MD5", "8afd997733c7fc0432f71255ba4e52dc", "again")
    right = hashlib.md5(archive.read_bytes()).hexdigest()
    known = {**about._read(), "msd_lung": replace(about.describe("msd_lung"), md5=right)}
    monkeypatch.setattr(about, "_read", lambda: known)
    assert datasets.check_archive("msd_lung", archive) == right
    one_line(lambda: datasets.check_archive("kits23", archive), "no checksum")
    one_line(lambda: datasets.check_archive("msd_lung", tmp_path / "none.tar"), "none.tar", "cannot be read")


def test_an_unknown_set_is_refused_with_the_list():
    one_line(lambda: datasets.describe("msd_spleen"), "msd_spleen", "msd_lung")


# ---------------------------------------------------------------------------------------------------------------
# Conversion


@pytest.mark.parametrize("key", SEGMENTATION)
def test_a_replica_converts_into_a_scan_table_that_refers_to_the_set(data, tmp_path, key):
    before = sum(path.stat().st_size for path in (data / key).rglob("*") if path.is_file())
    converted = datasets.convert(key, data / key, tmp_path / "out", partial=True)
    table = converted.table("scans")
    scans = table.scans()
    assert list(scans.labels) == SEGMENTATION[key] and len(scans.scans) == table.cases == CASES
    assert len({scan.patient for scan in scans.scans}) == CASES
    assert all(data / key in scan.mask.parents for scan in scans.scans)
    if key != "msd_brain":
        assert all(data / key in path.parents for scan in scans.scans for path in scan.images)
        written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
        assert written < 10_000 < before
    assert datasets.read_note(tmp_path / "out") == converted
    for scan in scans.scans:
        volumes = read_images(scan, scans.channels)
        mask = read_mask(scan, volumes[0])
        assert max(volumes[0].array.shape) <= 40 and mask.max() <= len(scans.labels) and mask.any()


@pytest.mark.parametrize("key", ["kits23", "msd_brain", "atlas"])
def test_converted_scans_reach_canonical_space_with_lesion_and_organ_where_they_were(data, tmp_path, key):
    scans = datasets.convert(key, data / key, tmp_path / "out", partial=True).table("scans").scans()
    known, moved = standardise(scans, tmp_path / "canonical", 2.0)
    for scan, other in zip(known.scans, moved.scans):
        assert scan.holds == tuple(range(1, len(scans.labels) + 1))
        whole, canonical = read_volume(scan.mask, "labels"), read_volume(other.mask, "labels")
        for value in scan.holds:
            middle = [volume.to_ras(np.argwhere(volume.array == value).mean(axis=0)) for volume in (whole, canonical)]
            np.testing.assert_allclose(*middle, atol=0.7)


def test_a_lesion_s_density_tells_it_from_its_organ(data, tmp_path):
    """What makes a replica learnable."""
    for key, organ, lesion in (("msd_liver", 1, 2), ("kits23", 1, 2), ("atlas", 1, 2), ("msd_lung", 0, 1)):
        scans = datasets.convert(key, data / key, tmp_path / key, partial=True).table("scans").scans()
        for scan in scans.scans:
            image = read_images(scan, scans.channels)[0].array
            mask = read_mask(scan, read_images(scan, scans.channels)[0])
            assert np.median(image[mask == lesion]) > np.median(image[mask == organ]) + 60


def test_the_pancreas_is_parted_by_its_reannotation_and_not_without_it(data, copy, tmp_path):
    for key, kind in (("msd_pancreas_tumor", "tumor"), ("msd_pancreas_cyst", "cyst")):
        found = datasets.check(key, data / key)
        assert len(found.items) == CASES and found.total == CASES + 2
        assert any(f"{CASES} of {CASES + 2} scans are marked {kind}" in note for note in found.notes)
    folder = copy("msd_pancreas_tumor")
    table = folder / "Task07_Pancreas" / "reannotation.csv"
    elsewhere = shutil.move(table, tmp_path / "mine.csv")
    one_line(
        lambda: datasets.check("msd_pancreas_tumor", folder), "reannotation.csv", "one label for tumours and cysts"
    )
    found = datasets.check("msd_pancreas_cyst", folder, extra={"reannotation": elsewhere})
    assert [item.id for item in found.items] == ["pancreas_005", "pancreas_006"]
    table.write_text("id,kind\npancreas_001,tumor\npancreas_002,lump\n")
    one_line(lambda: datasets.check("msd_pancreas_tumor", folder), "line 3", "pancreas_002", "'lump'")
    table.write_text("id,kind\n" + "".join(f"pancreas_00{n},tumor\n" for n in range(1, 6)))
    one_line(lambda: datasets.check("msd_pancreas_tumor", folder), "pancreas_006", "not listed")
    table.write_text("id,kind\n" + "".join(f"pancreas_00{n},tumor\n" for n in range(1, 8)))
    one_line(lambda: datasets.check("msd_pancreas_tumor", folder), "pancreas_007", "is not in")


def test_the_brain_s_sequences_are_those_of_its_4d_images_and_are_kept(data, tmp_path):
    import nibabel as nib

    converted = datasets.convert("msd_brain", data / "msd_brain", tmp_path / "out", partial=True)
    scan = converted.table("scans").scans().scans[0]
    whole = nib.load(data / "msd_brain" / "Task01_BrainTumour" / "imagesTr" / f"{scan.id}.nii.gz")
    assert whole.ndim == 4 and len(scan.images) == 4
    for n, path in enumerate(scan.images):
        part = nib.load(path)
        np.testing.assert_array_equal(np.asanyarray(part.dataobj), np.asanyarray(whole.dataobj)[..., n])
        np.testing.assert_array_equal(part.affine, whole.affine)
    times = [path.stat().st_mtime_ns for path in scan.images]
    datasets.convert("msd_brain", data / "msd_brain", tmp_path / "out", partial=True)
    assert times == [path.stat().st_mtime_ns for path in scan.images]


def test_an_interrupted_check_goes_on_where_it_was(data, tmp_path, monkeypatch):
    def stop(step, of, text):
        if step == 3:
            raise Cancelled

    out = tmp_path / "out"
    monkeypatch.setattr(items, "SAVE_EVERY", 1)
    with pytest.raises(Cancelled):
        datasets.convert("msd_lung", data / "msd_lung", out, partial=True, progress=stop)
    assert not (out / "converted.json").exists() and len(json.loads((out / "checked.json").read_text())) == 3
    read = []
    monkeypatch.setattr(items, "read_volume", lambda path, kind: read.append(path.name) or read_volume(path, kind))
    datasets.convert("msd_lung", data / "msd_lung", out, partial=True)
    assert read == ["lung_004.nii.gz"]


# ---------------------------------------------------------------------------------------------------------------
# What is wrong


def test_a_count_that_is_not_the_published_one_is_refused_unless_partial(data, tmp_path):
    message = one_line(
        lambda: datasets.convert("msd_lung", data / "msd_lung", tmp_path), "holds 4 cases", "published are 63"
    )
    assert "partial" in message and not (tmp_path / "converted.json").exists()
    notes = datasets.convert("msd_lung", data / "msd_lung", tmp_path, partial=True).notes
    assert any("holds 4 cases" in note for note in notes)


@pytest.mark.parametrize(
    ("key", "file", "case"),
    [
        ("msd_lung", "Task06_Lung/labelsTr/lung_002.nii.gz", "lung_002"),
        ("msd_colon", "Task10_Colon/imagesTr/colon_003.nii.gz", "colon_003"),
        ("kits23", "dataset/case_00001/imaging.nii.gz", "case_00001"),
        ("atlas", "atlas-train-dataset-1.0.1/train/labelsTr/lb2.nii.gz", "atlas002"),
    ],
)
def test_a_missing_file_is_named_with_its_case_and_left_out_of_a_partial_set(copy, tmp_path, key, file, case):
    folder = copy(key)
    (folder / file).unlink()
    one_line(
        lambda: datasets.convert(key, folder, tmp_path / "out"), f"case {case}:", file.rsplit("/", 1)[1], "missing"
    )
    converted = datasets.convert(key, folder, tmp_path / "out", partial=True)
    assert case not in [scan.id for scan in converted.table("scans").scans().scans]
    assert any(note.startswith(f"left out: case {case}") for note in converted.notes)


def test_a_gap_in_atlas_numbers_is_a_missing_case(copy):
    folder = copy("atlas")
    train = folder / "atlas-train-dataset-1.0.1" / "train"
    (train / "imagesTr" / "im1.nii.gz").unlink()
    (train / "labelsTr" / "lb1.nii.gz").unlink()
    assert "atlas001" in [problem.case for problem in datasets.check("atlas", folder).problems]


def test_a_kits_case_that_the_listing_has_not_is_refused(copy):
    folder = copy("kits23")
    shutil.copytree(folder / "dataset" / "case_00001", folder / "dataset" / "case_00400")
    one_line(lambda: datasets.check("kits23", folder), "case_00400", "not listed")


def test_sizes_and_grids_that_differ_are_named(copy, tmp_path):
    folder = copy("msd_liver")
    place = folder / "Task03_Liver"
    spoil(place / "labelsTr" / "liver_2.nii.gz", lambda v: Volume(v.array[:-1], v.affine))
    spoil(place / "labelsTr" / "liver_3.nii.gz", lambda v: Volume(v.array, SHIFT @ v.affine))
    problems = {problem.case: problem.text for problem in datasets.check("msd_liver", folder).problems}
    assert "40 x 40 x 40" in problems["liver_2"] and "40 x 40 x 39" in problems["liver_2"]
    assert "not on the grid" in problems["liver_3"]
    message = one_line(lambda: datasets.convert("msd_liver", folder, tmp_path), "case liver_2:", "more cases")
    assert message.count("liver_3") == 0


def test_an_unexpected_label_is_named(copy, tmp_path):
    folder = copy("kits23")

    def four(volume):
        array = volume.array.copy()
        array[0, 0, 0] = 4
        return Volume(array, volume.affine)

    spoil(folder / "dataset" / "case_00002" / "segmentation.nii.gz", four)
    one_line(
        lambda: datasets.convert("kits23", folder, tmp_path / "out"), "published"
    )  # what names and headers show comes first
    converted = datasets.convert("kits23", folder, tmp_path / "out", partial=True)
    assert any("case_00002" in note and "label 4" in note and "3 kidney_cyst" in note for note in converted.notes)
    assert converted.table("scans").cases == CASES - 1


def test_one_patient_under_two_names_is_found_by_the_mask(copy, tmp_path):
    folder = copy("msd_colon")
    place = folder / "Task10_Colon"
    for part in ("imagesTr", "labelsTr"):
        shutil.copy(place / part / "colon_001.nii.gz", place / part / "colon_004.nii.gz")
    notes = datasets.convert("msd_colon", folder, tmp_path, partial=True).notes
    assert any("case colon_004" in note and "case colon_001" in note and "one patient twice" in note for note in notes)


def test_two_cases_of_one_patient_are_told():
    item = items.Item("a", "p", (Path("x"),))
    problems = items.twice([item, replace(item, id="b"), replace(item, id="a", patient="q"), items.Item("c", "r", ())])
    assert [problem.case for problem in problems] == ["b", "a"]


@pytest.mark.parametrize("name", ["empty", "absent"])
@pytest.mark.parametrize("key", [*SEGMENTATION, "private", "reports"])
def test_an_empty_or_absent_folder_is_refused_saying_what_was_wanted(tmp_path, key, name):
    (tmp_path / "empty").mkdir()
    one_line(lambda: datasets.convert(key, tmp_path / name, tmp_path / "out", partial=True), str(tmp_path / name))


def test_a_listing_that_does_not_read_is_refused(copy):
    folder = copy("msd_lung")
    (folder / "Task06_Lung" / "dataset.json").write_text("{")
    one_line(lambda: datasets.check("msd_lung", folder), "dataset.json", "unpack")
    (folder / "Task06_Lung" / "dataset.json").write_text('{"training": [{"image": "a"}]}')
    one_line(lambda: datasets.check("msd_lung", folder), "dataset.json", "label")


def test_without_a_listing_the_companions_of_macos_are_no_cases(copy):
    folder = copy("msd_lung")
    (folder / "Task06_Lung" / "dataset.json").write_text('{"name": "Lung"}')
    assert [item.id for item in datasets.check("msd_lung", folder).items] == [f"lung_{n:03d}" for n in range(1, 5)]


def test_a_task_of_another_organ_is_not_taken_and_a_renamed_folder_is(copy, tmp_path):
    folder = copy("msd_lung")
    one_line(lambda: datasets.check("msd_liver", folder), "Task03_Liver")
    for name in ("msd_lung", "my lungs"):
        moved = tmp_path / "moved" / name
        shutil.copytree(folder / "Task06_Lung", moved)
        assert len(datasets.check("msd_lung", moved).items) == CASES


# ---------------------------------------------------------------------------------------------------------------
# Private sets, and tasks


def test_every_private_task_finds_its_table(data, tmp_path):
    for task in read_tasks():
        if task.dataset.key not in ("private", "reports"):
            continue
        table = datasets.table_of(task, data, tmp_path)
        if task.kind == "segmentation":
            scans = table.scans()
            assert tuple(scans.labels) == task.labels and len(scans.scans) == CASES
        else:
            cases = table.case_table(task.classes.get("label", ()), task.organ, task.survival_years)
            assert dict(cases.groups) == dict(task.classes) and len(cases.cases) == CASES


def test_segmentation_tasks_find_their_table_under_the_archive_s_name_too(data, tmp_path):
    place = tmp_path / "data"
    place.mkdir()
    shutil.copytree(data / "msd_lung" / "Task06_Lung", place / "Task06_Lung")
    task = next(task for task in read_tasks() if task.key == "full-lung_tumor")
    table = datasets.table_of(task, place, tmp_path / "out", partial=True)
    assert tuple(table.scans().labels) == task.labels
    other = next(task for task in read_tasks() if task.key == "full-liver_tumor")
    one_line(lambda: datasets.table_of(other, place, tmp_path / "out"), "msd_liver or Task03_Liver", "medicaldecathlon")


@pytest.fixture
def own(tmp_path, data):
    """One private folder to write tables into: gallstone, with three scans."""
    place = tmp_path / "private" / "gallstone"
    shutil.copytree(data / "private" / "gallstone", place)
    with (place / "scans.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))

    def write(kind, rows):
        with (place / f"{kind}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return place.parent

    return place, rows, write


def test_private_tables_that_are_wrong_are_refused_by_line_or_case(own, tmp_path):
    place, rows, write = own

    def go(kind, changed):
        folder = write(kind, changed)
        return lambda: datasets.convert("private", folder, tmp_path / "out", names=(f"gallstone/{kind}",))

    one_line(go("scans", [rows[0], {**rows[1], "ct": "images/none.nii.gz"}]), "line 3", "none.nii.gz")
    one_line(go("scans", [rows[0], {**rows[1], "id": rows[0]["id"]}]), "line 3", "line 2 too")
    one_line(go("scans", [rows[0], {**rows[0], "id": "b", "patient": "z"}, rows[1]]), "case b", "one patient twice")
    stage = [{"id": row["id"], "patient": row["patient"], "ct": row["ct"], "point": "-40,-40,40"} for row in rows]
    labels = ["I-II", "I-II", "III-IV", "III-IV"]
    one_line(go("staging", [{**row, "label": "I-II"} for row in stage]), "staging.csv", "two different")
    shared = [{**row, "label": label} for row, label in zip(stage, labels)]
    shared[3]["ct"] = shared[0]["ct"]
    one_line(go("staging", shared), "line 5", shared[0]["patient"], "scan of patient")
    lived = [{**row, "os_days": days, "event": "1"} for row, days in zip(stage, ("10", "20", "-3", "40"))]
    one_line(go("survival", lived), "line 4", "'-3'")
    one_line(go("scans", rows[:1]), "1 labelled scans")


def test_a_private_nnunet_folder_serves_as_scans(own, tmp_path):
    place, rows, _ = own
    (place / "scans.csv").unlink()
    for part in ("imagesTr", "labelsTr"):
        (place / part).mkdir()
    for row in rows:
        shutil.copy(place / row["ct"], place / "imagesTr" / f"{row['id']}_0000.nii.gz")
        shutil.copy(place / row["mask"], place / "labelsTr" / f"{row['id']}.nii.gz")
    listing = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "stone": 1}, "file_ending": ".nii.gz"}
    (place / "dataset.json").write_text(json.dumps(listing))
    converted = datasets.convert("private", place.parent, tmp_path / "out")
    assert list(converted.table("gallstone/scans").scans().labels) == ["gallstone"]
    (place / "dataset.json").write_text(json.dumps({**listing, "labels": {"background": 0, "a": 1, "b": 2}}))
    one_line(lambda: datasets.convert("private", place.parent, tmp_path / "out"), "single label gallstone")


def test_a_folder_that_is_no_lesion_is_refused(own):
    place, _, _ = own
    place.rename(place.with_name("gall_stone"))
    one_line(lambda: datasets.convert("private", place.parent, place.parent / "out"), "gall_stone", "gallstone")


def test_replicas_are_the_same_for_the_same_seed_and_others_for_another(tmp_path):
    arrays = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        folder = write_replica("kits23", tmp_path / name, CASES, seed)
        arrays[name] = read_volume(folder / "dataset" / "case_00001" / "imaging.nii.gz").array
    np.testing.assert_array_equal(arrays["a"], arrays["b"])
    assert (arrays["a"] != arrays["c"]).any()
    one_line(lambda: write_replica("kits23", tmp_path / "d", 1), "1 cases")
    one_line(lambda: write_replica("private", tmp_path / "d", CASES, names=["gallstone/staging"]), "gallstone/staging")
