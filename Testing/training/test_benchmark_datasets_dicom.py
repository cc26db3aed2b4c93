"""TCIA collections: series, outlines, outcomes and centres from replicas in real DICOM, and one clear line for what is wrong."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest

from PASTALib.errors import InputError
from PASTALib.volume import Volume, read_volume
from training.benchmark import datasets
from training.benchmark.datasets import clinical, outlines
from training.benchmark.datasets.dicom_index import series_of
from training.benchmark.datasets.replica_bodies import make_body
from training.benchmark.datasets.replicas import write_replica
from training.benchmark.registry import read_tasks
from training.downstream.cubes import cut_cube

pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")

CASES, SEED = 4, 2
CLINICAL = "NSCLC-Radiomics-Lung1.clinical-version3-Oct-2019.csv"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Replicas of both collections. Shared: never write into them."""
    folder = tmp_path_factory.mktemp("tcia")
    for key in ("lung1", "tcga_blca"):
        write_replica(key, folder / key, CASES, SEED)
    return folder


@pytest.fixture
def copy(data, tmp_path):
    """A replica of one's own, to damage."""
    return lambda key: shutil.copytree(data / key, tmp_path / key)


def one_line(call, *parts):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


def study(folder, patient):
    return next(next(folder.rglob(patient)).iterdir())


def truth(number):
    """The body that a Lung1 replica drew."""
    rng = np.random.default_rng([SEED, number])
    return make_body(rng, number % 2, spacing_zyx_mm=(3.0, 2.0, 2.0), shape_zyx=(28, 40, 40), organ_hu=-750)


def rewrite(path, change):
    lines = list(
        csv.reader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t" if path.suffix == ".tsv" else ",")
    )
    change(lines)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",").writerows(lines)


# ---------------------------------------------------------------------------------------------------------------
# Lung1


def test_lung1_gives_survival_and_stage_at_the_tumour_s_middle(data, tmp_path):
    converted = datasets.convert("lung1", data / "lung1", tmp_path, partial=True)
    survival = converted.table("survival").case_table(years=2.0)
    assert [case.id for case in survival.cases] == [f"LUNG1-{n:03d}" for n in range(1, 5)]
    assert [case.labels["survival"] for case in survival.cases] == [0, 1, 0, 1]
    staging = converted.table("staging").case_table(clinical.CLASSES)
    assert [case.labels["label"] for case in staging.cases] == [1, 0, 1, 0]
    for number, case in enumerate(survival.cases, 1):
        body = truth(number)
        ct = read_volume(case.ct)
        assert ct.array.shape == body.hu.shape and data in case.ct.parents
        middle = Volume(body.hu, ct.affine).to_ras(np.argwhere(body.lesion).mean(axis=0))
        np.testing.assert_allclose(case.point, middle, atol=0.6)
    cube = cut_cube(survival.cases[0], {"cut": "lesion", "side": 16, "spacing_mm": 2.0, "orientation": "LPS"})
    assert cube[7:9, 7:9, 7:9].mean() > 100  # kind 1 is bright
    assert any("LUNG1-128 is left out" in note for note in converted.notes)
    assert not [path for path in tmp_path.rglob("*.dcm")]


def test_rtstruct_and_seg_agree_with_what_was_drawn(data):
    for number in (1, 2):
        place, body = study(data / "lung1", f"LUNG1-{number:03d}"), truth(number)
        series = {one.modality: one for one in series_of(place)}
        assert series["CT"].files == 28 and set(series) == {"CT", "RTSTRUCT", "SEG"}
        ct = read_volume(series["CT"].folder)
        drawn, name = outlines.structure_mask(series["RTSTRUCT"].file, ct)
        assert name == "GTV-1" and drawn.dtype == np.uint8
        overlap = 2 * (drawn & body.lesion).sum() / (drawn.sum() + body.lesion.sum())
        assert overlap > 0.98
        segmented, name = outlines.segmentation_mask(series["SEG"].file, ct)
        assert name == "GTV-1"
        np.testing.assert_array_equal(segmented, body.lesion)


def test_a_contour_within_another_is_a_hole_and_one_beside_it_is_not(data, tmp_path):
    place = study(data / "lung1", "LUNG1-001")
    series = {one.modality: one for one in series_of(place)}
    ct = read_volume(series["CT"].folder)
    rt = pydicom.dcmread(series["RTSTRUCT"].file)
    contours = rt.ROIContourSequence[1].ContourSequence

    def square(low, high, z=30.0):
        one = pydicom.Dataset()
        corners = [(low, low), (low, high), (high, high), (high, low)]
        one.ContourGeometricType, one.ContourData = "CLOSED_PLANAR", [v for x, y in corners for v in (x, y, z)]
        return one

    contours.clear()
    for one in (square(9, 31), square(15, 25), square(41, 51)):
        contours.append(one)
    rt.save_as(tmp_path / "rt.dcm")
    mask, _ = outlines.structure_mask(tmp_path / "rt.dcm", ct)
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [10]
    assert mask.sum() == 11 * 11 - 5 * 5 + 5 * 5 and not mask[10, 10, 10] and mask[10, 6, 6] and mask[10, 23, 23]
    contours[0] = square(9, 31, z=31.2)
    rt.save_as(tmp_path / "rt.dcm")
    one_line(lambda: outlines.structure_mask(tmp_path / "rt.dcm", ct), "0.40 slices off")
    contours[0] = square(9, 31, z=300.0)
    rt.save_as(tmp_path / "rt.dcm")
    one_line(lambda: outlines.structure_mask(tmp_path / "rt.dcm", ct), "100 slices from the first of 28")
    rt.StructureSetROISequence[1].ROIName = "Heart"
    rt.save_as(tmp_path / "rt.dcm")
    one_line(lambda: outlines.structure_mask(tmp_path / "rt.dcm", ct), "Spinal-Cord, Heart", "GTV")


def test_an_outline_follows_a_turned_scan(data, tmp_path):
    """Patients lie turned, and prone; contours are in patient coordinates."""
    place = study(data / "lung1", "LUNG1-001")
    series = {one.modality: one for one in series_of(place)}
    ct = read_volume(series["CT"].folder)
    straight, _ = outlines.structure_mask(series["RTSTRUCT"].file, ct)
    c, s = np.cos(np.radians(200)), np.sin(np.radians(200))
    turn = np.array([[c, -s, 0, 12.5], [s, c, 0, -40], [0, 0, 1, 7], [0, 0, 0, 1]])
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    rt = pydicom.dcmread(series["RTSTRUCT"].file)
    for one in rt.ROIContourSequence[1].ContourSequence:
        points = np.reshape([float(value) for value in one.ContourData], (-1, 3))
        moved = np.column_stack([points, np.ones(len(points))]) @ (lps @ turn @ lps).T
        one.ContourData = [f"{value:.4f}" for value in moved[:, :3].ravel()]
    rt.save_as(tmp_path / "rt.dcm")
    turned, _ = outlines.structure_mask(tmp_path / "rt.dcm", Volume(ct.array, turn @ ct.affine))
    np.testing.assert_array_equal(turned, straight)


def test_the_primary_tumour_is_gtv_1():
    assert outlines.primary_name(["GTV-2", "Heart", "GTV-1"]) == "GTV-1"
    assert outlines.primary_name(["Lung", "gtv-pre-op"]) == "gtv-pre-op"
    assert outlines.primary_name(["GTV-10", "gtv 01"]) == "gtv 01"
    assert outlines.primary_name(["Heart", "PTV-1"]) is None


def test_an_outline_off_its_scan_falls_back_on_the_seg_and_says_so(copy, tmp_path):
    folder = copy("lung1")
    place = study(folder, "LUNG1-002")
    path = place / "3.000000-NA-00002" / "1-1.dcm"
    rt = pydicom.dcmread(path)
    for contour in rt.ROIContourSequence[1].ContourSequence:
        contour.ContourData = [float(v) + (1.4 if n % 3 == 2 else 0) for n, v in enumerate(contour.ContourData)]
    rt.save_as(path)
    converted = datasets.convert("lung1", folder, tmp_path / "out", partial=True)
    assert any("LUNG1-002" in note and "SEG" in note and "slices off" in note for note in converted.notes)
    mask = read_volume(tmp_path / "out" / "masks" / "LUNG1-002_gtv.nii.gz", "labels")
    np.testing.assert_array_equal(mask.array, truth(2).lesion)
    shutil.rmtree(place / "300.000000-Segmentation-9.554")
    (tmp_path / "out" / "masks" / "LUNG1-002.json").unlink()
    notes = datasets.convert("lung1", folder, tmp_path / "out", partial=True).notes
    assert any(note.startswith("left out: case LUNG1-002") and "slices off" in note for note in notes)


def test_what_is_missing_of_a_lung1_patient_is_named(copy, tmp_path):
    folder = copy("lung1")
    shutil.rmtree(study(folder, "LUNG1-001") / "0.000000-NA-00001")
    for name in ("3.000000-NA-00002", "300.000000-Segmentation-9.554"):
        shutil.rmtree(study(folder, "LUNG1-002") / name)
    shutil.rmtree(next(folder.rglob("LUNG1-003")))
    (study(folder, "LUNG1-004") / "0.000000-NA-00004" / "1-010.dcm").unlink()
    problems = {one.case: one.text for one in datasets.check("lung1", folder).problems}
    assert "no CT series" in problems["LUNG1-001"] and "neither RTSTRUCT nor SEG" in problems["LUNG1-002"]
    assert "no such folder" in problems["LUNG1-003"] and "LUNG1-004" not in problems
    one_line(lambda: datasets.convert("lung1", folder, tmp_path / "out"), "case LUNG1-001:", "more cases")
    one_line(
        lambda: datasets.convert("lung1", folder, tmp_path / "out", partial=True), "no sound case"
    )  # a slice is missing in the last one


def test_lung1_s_clinical_table_is_needed_and_checked(copy, tmp_path):
    folder = copy("lung1")
    path = next(folder.rglob(CLINICAL))
    rewrite(path, lambda lines: lines[2].__setitem__(lines[0].index("Survival.time"), "soon"))
    one_line(lambda: datasets.check("lung1", folder), "line 3", "'soon' days")
    rewrite(path, lambda lines: lines[2].__setitem__(lines[0].index("Survival.time"), "NA"))
    rewrite(path, lambda lines: lines[3].__setitem__(lines[0].index("Overall.Stage"), "NA"))
    converted = datasets.convert("lung1", folder, tmp_path / "out", partial=True)
    assert converted.table("survival").cases == converted.table("staging").cases == CASES - 1
    assert any("1 patients have no survival" in note and "LUNG1-002" in note for note in converted.notes)
    rewrite(path, lambda lines: lines.append(lines[1]))
    one_line(lambda: datasets.check("lung1", folder), "LUNG1-001", "twice")
    elsewhere = shutil.move(path, tmp_path / "clinical-elsewhere.csv")
    one_line(lambda: datasets.check("lung1", folder), "no clinical table", "cancerimagingarchive")
    one_line(lambda: datasets.check("lung1", folder, extra={"clinical": elsewhere}), "twice")


def test_a_patient_under_two_names_is_told_by_the_header(copy):
    folder = copy("lung1")
    place = next(folder.rglob("LUNG1-002"))
    shutil.rmtree(place)
    shutil.copytree(next(folder.rglob("LUNG1-001")), place)
    problems = {one.case: one.text for one in datasets.check("lung1", folder).problems}
    assert "images of LUNG1-001" in problems["LUNG1-002"]


def test_a_second_conversion_reads_no_scan_again(data, tmp_path, monkeypatch):
    from training.benchmark.datasets import lung1, tcga_blca

    first = {key: datasets.convert(key, data / key, tmp_path / key, partial=True) for key in ("lung1", "tcga_blca")}

    def never(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(lung1, "read_series", never)
    monkeypatch.setattr(tcga_blca, "read_series", never)
    for key, before in first.items():
        assert datasets.convert(key, data / key, tmp_path / key, partial=True) == before


# ---------------------------------------------------------------------------------------------------------------
# TCGA-BLCA


def test_tcga_gives_the_largest_ct_that_holds_the_centre(data, tmp_path):
    converted = datasets.convert("tcga_blca", data / "tcga_blca", tmp_path, partial=True)
    survival = converted.table("survival").case_table(years=3.0)
    assert [case.labels["survival"] for case in survival.cases] == [0, 1, 0, 1][::-1]
    staging = converted.table("staging").case_table(clinical.CLASSES)
    assert [case.labels["label"] for case in staging.cases] == [0, 1, 0, 1]
    for number, case in enumerate(survival.cases):
        assert "Portal" in case.ct.name
        body, ct = make_body(np.random.default_rng([SEED, number]), number % 2), read_volume(case.ct)
        np.testing.assert_allclose(case.point, body.centre_ras, atol=0.01)
        assert body.lesion[tuple(np.rint(ct.to_index(case.point)).astype(int))]


def test_tcga_takes_the_series_that_the_table_names(copy, tmp_path):
    folder = copy("tcga_blca")
    series = series_of(study(folder, "TCGA-ZZ-A001"))
    delayed = next(one for one in series if "Delayed" in one.folder.name)
    assert delayed.files == 20 and sorted({one.modality for one in series}) == ["CT", "MR"]
    lines = (folder / "points.csv").read_text().splitlines()
    rows = [lines[0] + ",series_uid", *(line + "," + delayed.uid * ("A001" in line) for line in lines[1:])]
    (folder / "points.csv").write_text("\n".join(rows))
    cases = datasets.convert("tcga_blca", folder, tmp_path / "out", partial=True).table("survival").case_table(years=3)
    assert [case.ct.name.split("-")[0][:7] for case in cases.cases] == ["2.00000", "3.00000", "2.00000", "2.00000"]
    (folder / "points.csv").write_text("\n".join([rows[0], rows[1], rows[2] + "7", *rows[3:]]))
    problems = {one.case: one.text for one in datasets.check("tcga_blca", folder).problems}
    assert delayed.uid + "7" in problems["TCGA-ZZ-A001"]


def test_what_is_wrong_with_a_tcga_patient_is_named(copy, tmp_path):
    folder = copy("tcga_blca")
    for place in study(folder, "TCGA-ZZ-A000").iterdir():
        if "T2" not in place.name:
            shutil.rmtree(place)
    rewrite(folder / "clinical.tsv", lambda lines: lines.__delitem__(slice(3, 5)))
    rewrite(folder / "points.csv", lambda lines: lines[3].__setitem__(1, "900"))
    rewrite(folder / "points.csv", lambda lines: lines.__delitem__(4))
    problems = {one.case: one.text for one in datasets.check("tcga_blca", folder).problems}
    assert "it holds MR" in problems["TCGA-ZZ-A000"]
    assert "clinical.tsv does not list" in problems["TCGA-ZZ-A001"]
    assert "points.csv does not list" in problems["TCGA-ZZ-A003"]
    one_line(lambda: datasets.convert("tcga_blca", folder, tmp_path / "out", partial=True), "no sound case")
    rewrite(folder / "points.csv", lambda lines: lines.append(["TCGA-XX-XXXX", "1", "2", "3"]))
    one_line(lambda: datasets.check("tcga_blca", folder), "TCGA-XX-XXXX", "is not in")
    (folder / "points.csv").unlink()
    one_line(lambda: datasets.check("tcga_blca", folder), "no points.csv", "Docs/benchmark-data.md")


def test_the_data_commons_tables_are_read_in_all_their_forms(tmp_path):
    new = tmp_path / "new.tsv"
    new.write_text(
        "cases.submitter_id\tdemographic.vital_status\tdemographic.days_to_death\tdiagnoses.days_to_last_follow_up\t"
        "diagnoses.ajcc_pathologic_stage\n"
        "TCGA-AA-0001\tDead\t400\t'--\tStage IIIA\n"
        "TCGA-AA-0001\tDead\t400\t350\t'--\n"
        "TCGA-AA-0002\tAlive\t'--\t100\tStage II\n"
        "TCGA-AA-0002\tAlive\t'--\t900\tStage II\n"
        "TCGA-AA-0003\tNot Reported\t'--\t'--\tNot Reported\n"
        "TCGA-AA-0004\tAlive\t'--\t-64\tStage IV\n"
    )
    found = clinical.read_tcga(new)
    assert found["TCGA-AA-0001"] == clinical.Outcome("400", "1", "III")
    assert found["TCGA-AA-0002"] == clinical.Outcome("900", "0", "II")
    assert found["TCGA-AA-0003"] == clinical.Outcome()
    assert found["TCGA-AA-0004"] == clinical.Outcome("", "", "IV")
    biotab = tmp_path / "nationwidechildrens.org_clinical_patient_blca.txt"
    biotab.write_text(
        "bcr_patient_barcode\tvital_status\tdeath_days_to\tlast_contact_days_to\tajcc_pathologic_tumor_stage\n"
        "bcr_patient_barcode\tvital_status\tdays_to_death\tdays_to_last_followup\tstage\n"
        "CDE_ID:2003301\tCDE_ID:5\tCDE_ID:3\tCDE_ID:3\tCDE_ID:3\n"
        "TCGA-AA-0001\tDead\t163\t[Not Available]\tStage IV\n"
    )
    assert clinical.read_tcga(biotab) == {"TCGA-AA-0001": clinical.Outcome("163", "1", "IV")}
    new.write_text("case_submitter_id\tvital_status\nTCGA-AA-0001\tDead\nTCGA-AA-0001\tAlive\n")
    one_line(lambda: clinical.read_tcga(new), "line 3", "TCGA-AA-0001", "alive", "dead")


def test_stages_and_centres_in_every_wording(tmp_path):
    assert [clinical.stage_of(text) for text in ("I", "IIIb", "Stage IV", "stage ii", "NA", "Stage X")] == [
        "I",
        "III",
        "IV",
        "II",
        "",
        "",
    ]
    path = tmp_path / "points.csv"
    path.write_text('patient,point\np,"1,-2,3"\n')
    assert clinical.read_points(path) == {"p": ("1.000,-2.000,3.000", "")}
    path.write_text("PatientID,coordX,coordY,coordZ\np,1,-2,3\n")
    assert clinical.read_points(path) == {"p": ("-1.000,2.000,3.000", "")}
    for bad in ("p,1,-2,", "p,1,-2,nan"):
        path.write_text(f"PatientID,coordX,coordY,coordZ\n{bad}\n")
        one_line(lambda: clinical.read_points(path), "line 2", "of p")
    path.write_text("PatientID,coordX,coordY,coordZ\np,1,2,3\np,1,2,3\n")
    one_line(lambda: clinical.read_points(path), "line 3", "twice")


def test_the_outcome_tasks_of_the_registry_find_their_tables(data, tmp_path):
    for task in read_tasks():
        if task.dataset.key in ("lung1", "tcga_blca"):
            table = datasets.table_of(task, data, tmp_path, partial=True)
            cases = table.case_table(task.classes.get("label", ()), task.organ, task.survival_years)
            assert dict(cases.groups) == dict(task.classes) and len(cases.cases) == CASES
