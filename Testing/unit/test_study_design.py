"""Pools, composition, drawing, orders of readers and the plan of a study."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.study.design import draw_cases, load_presets, plan, preset_design, reader_order
from PASTALib.study.pools import PoolCase, check_pools, read_pool, report_rows

IDS = {
    "practice": [f"p{n}" for n in range(4)],
    "realism": [f"r{n:03d}" for n in range(60)],
    "description": [f"d{n}" for n in range(10)],
}


def test_the_papers_composition():
    design = preset_design("paper", [])
    assert sum(design.realism.values()) == 590 and set(design.realism) == set(taxonomy.LESION_KEYS)
    assert Counter(design.realism.values()) == {50: 7, 30: 8}
    assert {kind for kind, n in design.realism.items() if n == 50} == {
        "lung_tumor", "liver_tumor", "pancreas_tumor", "colorectal_cancer", "kidney_tumor", "pancreas_cyst", "kidney_cyst",
    }  # fmt: skip
    assert set(design.description.values()) == {50} and len(design.description) == 15
    assert len(design.readers) == 4


def test_presets_are_complete():
    presets = load_presets()
    for name in presets["presets"]:
        assert preset_design(name, ["liver_tumor", "lung_tumor"]).case_count > 0
    for part in presets["parts"].values():
        assert all(len(presets["anchors"][question["anchors"]]) == 5 for question in part["questions"])
    assert set(presets["show"]) - {"default"} <= set(taxonomy.LESION_KEYS)


def test_a_preset_is_changed_where_asked():
    design = preset_design(
        "paper",
        [],
        only=["gallstone", "liver_cyst"],
        per_type=7,
        counts={"lung_tumor": 3},
        description=0,
        readers=["x"],
    )
    assert design.realism == {"gallstone": 7, "liver_cyst": 7, "lung_tumor": 3} and design.description == {}
    assert design.readers == ("x",) and design.repeats == 17
    pilot = preset_design("pilot", ["gallstone"], sessions=2, washout_days=7, practice=0)
    assert pilot.realism == {"gallstone": 10} and (pilot.sessions, pilot.washout_days, pilot.practice) == (2, 7, 0)


@pytest.mark.parametrize(
    "fields,told",
    [
        ({"readers": ()}, "at least one reader"),
        ({"readers": ("a b",)}, "reader 'a b'"),
        ({"readers": ("Ann", "ann")}, "two have the same name"),
        ({"readers": ("../x",)}, "reader '../x'"),
        ({"realism": {"wart": 3}}, "lesion type 'wart' is not known"),
        ({"realism": {}}, "holds no case"),
        ({"realism": {"gallstone": -1}}, "cases of gallstone: -1"),
        ({"repeats": 13}, "13 repeats, but only 12 realism cases"),
        ({"repeats": 7, "sessions": 2}, "7 repeats, but only 6 realism cases"),
        ({"sessions": 0}, "sessions: 0"),
        ({"sessions": 13}, "13 sessions for 12 cases"),
        ({"washout_days": float("nan")}, "washout of nan days"),
    ],
)
def test_impossible_designs_are_refused(study_design, fields, told):
    with pytest.raises(InputError, match=told):
        study_design(**fields)


def test_every_case_comes_once_and_parts_in_order(study_design):
    design = study_design(
        realism={"liver_tumor": 30}, description={"liver_tumor": 10}, practice=2, sessions=3, repeats=15
    )
    order = reader_order(IDS, design, 1, 0)
    assert Counter(row[0] for row in order if row[4] == 0) == Counter(name for names in IDS.values() for name in names)
    assert [row[0][0] for row in order[:4]] == ["p"] * 4 and all(row[2:4] == [1, 1] for row in order[:4])
    assert [row[0][0] for row in order[-10:]] == ["d"] * 10 and all(
        row[1:3] == ["description", 3] for row in order[-10:]
    )
    assert [row[2] for row in order] == sorted(row[2] for row in order)
    assert Counter(row[2] for row in order if row[1] == "realism" and not row[3] and not row[4]) == {
        1: 20,
        2: 20,
        3: 20,
    }


@pytest.mark.parametrize("sessions", [1, 2, 4])
def test_second_readings_come_late(study_design, sessions):
    design = study_design(realism={"liver_tumor": 30}, sessions=sessions, repeats=20)
    for seed in range(20):
        order = reader_order({"realism": IDS["realism"]}, design, seed, 0)
        assert sum(row[4] for row in order) == 20
        first = {row[0]: (place, row[2]) for place, row in enumerate(order) if not row[4]}
        for place, row in enumerate(order):
            if row[4]:
                assert place > first[row[0]][0]
                if sessions == 1:
                    assert place - first[row[0]][0] > len(IDS["realism"]) // 4
                else:
                    assert row[2] > first[row[0]][1]


def test_readers_orders_are_their_own_and_reproducible(study_design):
    design = study_design(realism={"liver_tumor": 30}, repeats=5)
    orders = [reader_order(IDS, design, 1, number) for number in range(3)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert orders == [reader_order({role: names[::-1] for role, names in IDS.items()}, design, 1, n) for n in range(3)]
    assert orders[0] != reader_order(IDS, design, 2, 0)


def test_drawing_is_one_to_one_per_type_and_uses_no_case_twice(study_design, study_pools):
    design = study_design(realism={"liver_tumor": 4, "kidney_cyst": 2}, description={"liver_tumor": 3}, practice=3)
    chosen = draw_cases(design, *study_pools, seed=1).cases
    counts = Counter((role, case.truth, case.lesion_type) for role, case in chosen)
    for truth in ("real", "synthetic"):
        assert counts["realism", truth, "liver_tumor"] == 4 and counts["realism", truth, "kidney_cyst"] == 2
        assert sum(n for (role, t, _), n in counts.items() if role == "practice" and t == truth) == 3
    assert counts["description", "synthetic", "liver_tumor"] == 3 and sum(counts.values()) == 12 + 6 + 3
    assert len({case.image for _, case in chosen}) == len(chosen)
    assert chosen == draw_cases(design, *study_pools, seed=1).cases != draw_cases(design, *study_pools, seed=2).cases


def test_too_few_cases_are_listed_by_type(study_design, study_pools):
    design = study_design(realism={"liver_tumor": 8, "gallstone": 2}, description={"liver_tumor": 5})
    with pytest.raises(InputError) as caught:
        draw_cases(design, *study_pools, seed=1)
    assert "real gallstone: 0 of 2; synthetic gallstone: 0 of 2; synthetic liver_tumor: 10 of 13" in str(caught.value)


def test_the_plan_counts_readings_hours_and_disk(study_design):
    design = study_design(realism={"liver_tumor": 90}, description={"liver_tumor": 40}, practice=5, repeats=10)
    data = plan(design)
    assert data["readings_per_reader"] == 10 + 180 + 10 + 40 and data["readings"] == 2 * 240 and data["cases"] == 230
    assert data["hours_per_reader"] == round((200 * 20 + 40 * 45) / 3600, 2)
    assert data["disk_gb"] == round(230 * design.grid.bytes_per_case / 1e9, 3)
    assert data["ci_half_width"] == {"all": 0.234}  # 1.96 * 0.8 * sqrt(2 / 90)


# ---------------------------------------------------------------------------------------------------------------
# Pools


@pytest.fixture
def manifest(tmp_path):
    for name in ("a.nrrd", "b.nrrd", "m.nrrd"):
        (tmp_path / name).touch()

    def write(text: str):
        (tmp_path / "pool.csv").write_text(text, encoding="utf-8")
        return tmp_path / "pool.csv"

    return write


def test_a_manifest_is_read(manifest, tmp_path):
    pool = read_pool(
        manifest("image, mask,lesion_type,label,id\na.nrrd,m.nrrd,gallstone,2,x\nb.nrrd,m.nrrd,liver_cyst,,\n"), "real"
    )
    assert pool == [
        PoolCase("b.nrrd", "real", "liver_cyst", tmp_path / "b.nrrd", tmp_path / "m.nrrd"),
        PoolCase("x", "real", "gallstone", tmp_path / "a.nrrd", tmp_path / "m.nrrd", 2),
    ]


@pytest.mark.parametrize(
    "text,told",
    [
        ("image,mask\na.nrrd,m.nrrd\n", "the column lesion_type is missing"),
        ("image,mask,lesion_type\n", "holds no case"),
        ("image,mask,lesion_type\na.nrrd,m.nrrd,wart\n", "line 2: lesion_type 'wart'"),
        ("image,mask,lesion_type\na.nrrd,,gallstone\n", "image and mask must both be given"),
        ("image,mask,lesion_type\nz.nrrd,m.nrrd,gallstone\n", "z.nrrd does not exist"),
        ("image,mask,lesion_type,label\na.nrrd,m.nrrd,gallstone,two\n", "label 'two'"),
        (
            "image,mask,lesion_type,id\na.nrrd,m.nrrd,gallstone,x\nb.nrrd,m.nrrd,gallstone,x\n",
            "the id 'x' occurs twice",
        ),
        ("image,mask,lesion_type\na.nrrd,m.nrrd,gallstone\na.nrrd,m.nrrd,gallstone\n", "the id 'a.nrrd' occurs twice"),
    ],
)
def test_bad_manifests(manifest, text, told):
    with pytest.raises(InputError, match=told):
        read_pool(manifest(text), "real")


def test_places_that_are_no_pool(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_pool(tmp_path / "nowhere", "real")
    (tmp_path / "pool.txt").touch()
    with pytest.raises(InputError, match="is not a folder or a .csv file"):
        read_pool(tmp_path / "pool.txt", "real")
    with pytest.raises(InputError, match="holds no case"):
        read_pool(tmp_path, "real")
    (tmp_path / "bad.csv").write_bytes(b"image,mask\xff\xfe\n")
    with pytest.raises(InputError, match="not a CSV in UTF-8"):
        read_pool(tmp_path / "bad.csv", "real")


def test_a_case_is_either_real_or_synthetic(study_pools):
    real, synthetic = study_pools
    check_pools(real, synthetic)
    with pytest.raises(InputError, match="is in both pools"):
        check_pools(real, [*synthetic, replace(real[3], truth="synthetic")])


def test_a_description_needs_a_report(study_pools):
    with pytest.raises(InputError, match="no report; the description part needs"):
        report_rows(study_pools[1][0])
