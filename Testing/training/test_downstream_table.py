"""Case tables and raw folders: what is read, and one clear line for what is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from PASTALib.errors import InputError
from PASTALib.volume import Volume, write_volume
from training.downstream.cubes import cut_cube, cut_cubes
from training.downstream.labelled import read_raw_folder, read_scan_table, standardise
from training.downstream.table import Case, read_cases, survival_class
from training.downstream.toy import write_toy

AFFINE = np.diag([-2.0, -2.0, 2.0, 1.0])


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz", "m.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


STAGE = "id,patient,ct,point,label"


def test_a_table_is_read_in_the_order_of_ids(folder):
    table = read_cases(
        write(
            folder / "t.csv",
            ["ID, Patient ,ct,point,mask,label,remark", 'z,p1,a.nii.gz,"1,2,-3",,late,x', "b,,b.nii.gz,,m.nii.gz,early,",
             'c,p2,a.nii.gz,"0,0,0",,late,', "", "d,,b.nii.gz,,m.nii.gz,early,"],
        ),
        "stage",
    )  # fmt: skip
    assert [case.id for case in table.cases] == ["b", "c", "d", "z"]
    assert table.groups == {"label": ("early", "late")}
    last = table.cases[-1]
    assert last.patient == "p1" and last.point == (1, 2, -3) and last.labels == {"label": 1} and last.stratum == "1"
    assert table.cases[0].patient == "b" and table.cases[0].mask == folder / "m.nii.gz"


def test_tab_separated_attributes_in_any_wording_and_letters(folder):
    table = read_cases(
        write(
            folder / "t.tsv",
            ["id\tct\tmask\tshape\tdensity\tsurface\tletters", "x\ta.nii.gz\tm.nii.gz\tround\tlow density\t\t",
             "y\ta.nii.gz\tm.nii.gz\t\t\t\tB,C,B,A,B"],
        ),
        "attributes",
    )  # fmt: skip
    x, y = table.cases
    assert dict(x.labels) == {"shape": 0, "density": 0, "heterogeneity": -1, "surface": -1, "invasion": -1}
    assert list(y.labels.values()) == [1, 2, 1, 0, 1]


@pytest.mark.parametrize(
    "task,lines,expected",
    [
        ("stage", [STAGE], "no rows"),
        ("stage", ["id,ct,label", "x,a.nii.gz,1"], "no column mask or point"),
        ("stage", [STAGE + ",ct", 'x,,a.nii.gz,"1,2,3",e,'], "two columns are called ct"),
        ("stage", [STAGE, 'x,,a.nii.gz,"1,2,3",e', 'x,,b.nii.gz,"1,2,3",l'], "line 3: id 'x' is that of line 2 too"),
        ("stage", [STAGE, 'x,,none.nii.gz,"1,2,3",e', 'y,,a.nii.gz,"1,2,3",l'], "line 2: ct 'none.nii.gz' does not exist"),
        ("stage", [STAGE, 'x,,a.nii.gz,"1,2",e', 'y,,a.nii.gz,"1,2,3",l'], "line 2: point '1,2'"),
        ("stage", [STAGE, "x,,a.nii.gz,1,2,3,e", 'y,,a.nii.gz,"1,2,3",l'], "line 2: 7 values for 5 columns"),
        ("stage", [STAGE, "x,,a.nii.gz,,e", 'y,,a.nii.gz,"1,2,3",l'], "line 2: where is the lesion.*neither"),
        ("stage", [STAGE, '../x,,a.nii.gz,"1,2,3",e', 'y,,a.nii.gz,"1,2,3",l'], "line 2: id '../x'"),
        ("stage", [STAGE, 'x,p,a.nii.gz,"1,2,3",e', 'y,p,a.nii.gz,"1,2,3",l'], "1 patients are 'e'"),
        ("stage", [STAGE, 'x,,a.nii.gz,"1,2,3",e', 'y,,a.nii.gz,"1,2,3",e'], "classes e; wanted at least two"),
        ("detect", ["id,ct,organs,label", "x,a.nii.gz,m.nii.gz,healthy"], "which organ"),
        ("detect", ["id,ct,organs,organ,label", "x,a.nii.gz,m.nii.gz,bladder,ill"], "label 'ill' is not one of healthy, tumor"),
        ("detect", ["id,ct,organs,organ,scheme,label", "x,a.nii.gz,m.nii.gz,bladder,v3,1"], "scheme 'v3'"),
        ("attributes", ["id,ct,mask,shape", "x,a.nii.gz,m.nii.gz,"], "none of the five attributes"),
        ("attributes", ["id,ct,mask,shape", "x,a.nii.gz,m.nii.gz,cubic"], "line 2: Shape 'cubic' is not known"),
        ("attributes", ["id,ct,mask,letters", 'x,a.nii.gz,m.nii.gz,"A,B"'], "wanted one for each of shape"),
        ("attributes", ["id,ct,mask,letters", 'x,a.nii.gz,m.nii.gz,"E,A,A,A,A"'], "letter E for shape"),
        ("attributes", ["id,ct,mask,mask_value,shape", "x,a.nii.gz,m.nii.gz,-1,round"], "mask_value '-1'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_said_in_one_line(folder, task, lines, expected):
    with pytest.raises(InputError, match=expected) as error:
        read_cases(write(folder / "t.csv", lines), task, classes=("healthy", "tumor") if task == "detect" else ())
    assert "\n" not in str(error.value) and "t.csv" in str(error.value)


def test_survival_needs_an_end_or_a_long_enough_follow_up(folder):
    lines = ["id,ct,point,os_days,event", 'a,a.nii.gz,"1,2,3",100,1', 'b,a.nii.gz,"1,2,3",100,0']
    lines += ['c,a.nii.gz,"1,2,3",900,0', 'd,a.nii.gz,"1,2,3",731,1', 'e,a.nii.gz,"1,2,3",300,1']
    table = read_cases(write(folder / "t.csv", lines), "stage", survival_years=2)
    assert {case.id: case.labels["survival"] for case in table.cases} == {"a": 0, "c": 1, "d": 1, "e": 0}
    assert "1 cases left out" in table.notes[0]
    with pytest.raises(InputError, match="os_days 'long'"):
        survival_class("long", "1", 2, "here")


def test_cubes_are_cut_where_the_table_says(tmp_path):
    table = read_cases(write_toy(tmp_path, "stage", 4), "stage")
    how = {"cut": "lesion", "side": 16, "spacing_mm": 2.0, "orientation": "LPS", "margin_mm": 0.0}
    files = cut_cubes(table.cases, how, tmp_path / "cubes")
    dark, bright = (np.load(files[f"toy00{n}"]) for n in (0, 1))
    assert dark.shape == (16, 16, 16) and dark.dtype == np.int16
    assert dark[8, 8, 8] < 0 < 150 < bright[8, 8, 8]
    before = {path: path.stat().st_mtime_ns for path in files.values()}
    assert {
        path: path.stat().st_mtime_ns for path in cut_cubes(table.cases, how, tmp_path / "cubes").values()
    } == before
    flipped = cut_cube(table.cases[0], how | {"orientation": "LAS"})
    assert np.allclose(np.flip(flipped, 1), cut_cube(table.cases[0], how), atol=1e-3)
    region = cut_cube(table.cases[1], how | {"cut": "region", "margin_mm": 4.0, "side": 32})
    assert region.shape == (32, 32, 32) and (region == -1000).any()


def test_masks_on_another_grid_empty_or_elsewhere_are_named(tmp_path):
    write_toy(tmp_path, "stage", 2)
    ct = tmp_path / "toy000_ct.nii.gz"
    shifted = AFFINE.copy()
    shifted[0, 3] = 7
    write_volume(Volume(np.ones((40, 40, 40), np.uint8), shifted), tmp_path / "moved.nii.gz")
    write_volume(Volume(np.zeros((40, 40, 40), np.uint8), AFFINE), tmp_path / "empty.nii.gz")
    how = {"cut": "lesion", "side": 16, "spacing_mm": 2.0, "orientation": "LPS"}
    for case, expected in (
        (Case("one", "p", ct, mask=tmp_path / "moved.nii.gz"), "case one: .*moved.nii.gz is not on the grid"),
        (Case("one", "p", ct, mask=tmp_path / "empty.nii.gz"), "case one: .*every voxel is 0"),
        (Case("one", "p", ct, mask=tmp_path / "toy000_mask.nii.gz", mask_value=7), "no voxel is 7"),
        (Case("one", "p", ct, point=(900.0, 0.0, 0.0)), "case one: point 900,0,0 lies outside"),
    ):
        with pytest.raises(InputError, match=expected):
            cut_cubes([case], how, tmp_path / "cubes")
    assert not list((tmp_path / "cubes").iterdir())


# ---------------------------------------------------------------------------------------------------------------
# Labelled scans


@pytest.fixture
def raw(tmp_path):
    """An nnU-Net raw folder of four toy scans."""
    write_toy(tmp_path / "toy", "segment", 4)
    folder = tmp_path / "Dataset901_Toy"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for n in range(4):
        (tmp_path / "toy" / f"toy00{n}_ct.nii.gz").rename(folder / "imagesTr" / f"c{n}_0000.nii.gz")
        (tmp_path / "toy" / f"toy00{n}_mask.nii.gz").rename(folder / "labelsTr" / f"c{n}.nii.gz")
    describe(folder)
    return folder


def describe(folder, labels=None, channels=None):
    data = {"labels": labels or {"background": 0, "organ": 1, "tumor": 2}, "channel_names": channels or {"0": "ct"}}
    (folder / "dataset.json").write_text(json.dumps(data | {"numTraining": 4, "file_ending": ".nii.gz"}))


def test_a_raw_folder_of_nnunet_is_read_and_standardised(raw, tmp_path):
    patients = write(tmp_path / "patients.csv", ["id,patient", "c0,p", "c1,p", "c2,q", "c3,r"])
    scans = read_raw_folder(raw, patients)
    assert [scan.patient for scan in scans.scans] == ["p", "p", "q", "r"]
    assert scans.labels == {"organ": 1, "tumor": 2} and scans.plain_ct
    known, moved = standardise(scans, tmp_path / "canonical", 4.0)
    assert known.scans[0].holds == (1, 2) and known.scans[0].images == scans.scans[0].images
    assert all(path.is_file() for scan in moved.scans for path in (*scan.images, scan.mask))


@pytest.mark.parametrize(
    "labels,channels,expected",
    [
        ({"background": 0, "all": [1, 2]}, None, "regions"),
        ({"background": 0, "organ": 1, "tumor": 3}, None, "wanted background 0 and 1, 2"),
        ({"background": 0, "organ": 1, "ignore": 2}, None, "ignore label"),
        (None, {"0": "ct", "1": "T1"}, "c0_0001.nii.gz is missing"),
    ],
)
def test_raw_folders_that_cannot_be_trained_on(raw, labels, channels, expected):
    describe(raw, labels, channels)
    with pytest.raises(InputError, match=expected) as error:
        read_raw_folder(raw)
    assert "\n" not in str(error.value)


def test_masks_whose_labels_have_no_name_are_refused(raw, tmp_path):
    describe(raw, {"background": 0, "organ": 1})
    with pytest.raises(InputError, match="case c0: .* holds the label 2, which has no name"):
        standardise(read_raw_folder(raw), tmp_path / "canonical", 4.0)
    shifted = AFFINE.copy()
    shifted[2, 3] = 9
    write_volume(Volume(np.ones((40, 40, 40), np.uint8), shifted), raw / "labelsTr" / "c0.nii.gz")
    with pytest.raises(InputError, match="case c0: .*not on the grid"):
        standardise(read_raw_folder(raw), tmp_path / "canonical", 4.0)


def test_a_table_of_scans(tmp_path):
    path = write_toy(tmp_path, "segment", 2)
    scans = read_scan_table(path, ["organ", "tumor"])
    assert [scan.patient for scan in scans.scans] == ["patient000", "patient001"]
    with pytest.raises(InputError, match="line 2: 1 images; wanted 2"):
        read_scan_table(path, ["organ", "tumor"], ["T1", "T2"])
    with pytest.raises(InputError, match="different names"):
        read_scan_table(path, ["organ", "organ"])
