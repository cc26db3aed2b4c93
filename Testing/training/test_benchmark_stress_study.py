"""Whole detectability studies: threshold rule and starter model, phantom and real CT; taking up, pages, refusals."""

from __future__ import annotations

import json
import re

import pytest

from PASTALib.errors import InputError
from PASTALib.models import DENOISER, bundled_folder
from training.benchmark.stress import run_stress
from training.benchmark.stress.curves import PROPORTIONS
from training.benchmark.stress.outputs import read_summary

MONOTONE = 0.8  # rank correlation of level and mean from which a curve is called monotone
LEVELS = {"size": (8, 11, 15, 20, 28), "density": (6, 12, 20, 30, 45)}


def curve(folder, scan, factor, measure):
    found = [
        item
        for item in read_summary(folder)["curves"]
        if (item["scan"], item["factor"], item["measure"]) == (scan, factor, measure)
    ]
    assert len(found) == 1
    return found[0]


def rises(folder, scan, factor, measure):
    one = curve(folder, scan, factor, measure)
    return one["spearman"] is not None and one["spearman"] >= MONOTONE and one["mean"][-1] > one["mean"][0]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The threshold rule on the phantom of 4 mm: size and density."""
    out = tmp_path_factory.mktemp("stress") / "run"
    page = run_stress("threshold:15@liver", 4.0, out, attributes=("size", "density"), levels=LEVELS, repeats=3)
    return page


def test_larger_and_denser_lesions_are_found_more_often(study):
    for factor in ("size", "density"):
        for measure in ("found", "dice", "auc", "gain"):
            assert rises(study.parent, "phantom 4 mm", factor, measure), (factor, measure)
    half = curve(study.parent, "phantom 4 mm", "density", "found")["half"]
    assert 6 < half["value"] < 45 and float(half["low"]) <= half["value"] <= float(half["high"])


def test_the_page_stands_alone_and_says_what_was_done(study):
    text = study.read_text(encoding="utf-8")
    assert "threshold:15@liver" in text and "Half of the lesions are found at" in text and "How it was measured" in text
    assert text.count("<svg") > 5 and "NaN" not in text and ">nan<" not in text
    assert not re.search(r"(src|href)='?\"?(https?:|file:|/)", text)
    folder = study.parent
    assert {"lesions.csv", "curves.csv", "scans.json", "summary.json", "stress.png", "stress.svg"} <= {
        item.name for item in folder.iterdir()
    }
    assert not list(folder.glob(".*.part"))
    scans = json.loads((folder / "scans.json").read_text(encoding="utf-8"))
    assert scans["phantom 4 mm"]["false_positives"]["pieces"] >= 0


def test_a_stopped_study_goes_on_to_the_same_end(study, tmp_path):
    seen = []

    def stop(step, of, text):
        seen.append((step, of))
        if step == 5:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    arguments = {"attributes": ("size", "density"), "levels": LEVELS, "repeats": 3}
    with pytest.raises(KeyboardInterrupt):
        run_stress("threshold:15@liver", 4.0, out, progress=stop, **arguments)
    assert not (out / "stress.html").exists()
    with pytest.raises(InputError, match="--resume"):
        run_stress("threshold:15@liver", 4.0, out, **arguments)
    with pytest.raises(InputError):
        run_stress("threshold:16@liver", 4.0, out, resume=True, **arguments)
    page = run_stress("threshold:15@liver", 4.0, out, resume=True, **arguments)

    def figures(folder):  # all but the seconds
        return [line.split(",") for line in (folder / "lesions.csv").read_text(encoding="utf-8").splitlines()]

    drop = figures(out)[0].index("seconds")
    wanted, got = (
        [[*row[:drop], *row[drop + 1 :]] for row in figures(folder)] for folder in (study.parent, page.parent)
    )
    assert sorted(got) == sorted(wanted)
    assert (out / "curves.csv").read_bytes() == (study.parent / "curves.csv").read_bytes()
    assert seen[-1][1] == 27  # nine settings at three places


def test_another_model_is_drawn_beside(study, tmp_path):
    levels = {"size": (8, 20), "density": (12, 30)}
    arguments = {"attributes": ("size", "density"), "levels": levels, "repeats": 1, "beside": [study.parent]}
    page = run_stress("threshold:25@liver", 4.0, tmp_path / "run", **arguments)
    picture = (page.parent / "stress.svg").read_text(encoding="utf-8")
    assert "threshold:15@liver, phantom 4 mm" in picture and "threshold:25@liver, phantom 4 mm" in picture
    with pytest.raises(InputError, match="no finished stress study"):
        run_stress("threshold:25@liver", 4.0, tmp_path / "other", beside=[tmp_path])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lesions": ("spleen_tumor",)}, "spleen_tumor"),
        ({"lesions": ()}, "no lesion type"),
        ({"repeats": 0}, "places"),
        ({"model": "no-such-model"}, "no-such-model"),
        ({"refine": "no-such-file.pth"}, "no-such-file"),
        ({"scans": (("no.nii.gz", "map.nii.gz"),)}, "does not exist"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, change, told):
    out = tmp_path / "run"
    arguments = {"model": "threshold:15", "scans": 4.0, **change}
    with pytest.raises(InputError, match=told) as error:
        run_stress(arguments.pop("model"), arguments.pop("scans"), out, **arguments)
    assert "\n" not in str(error.value)
    assert not (out / "lesions.csv").exists()


def test_margin_location_and_grid(tmp_path):
    page = run_stress(
        "threshold:12@liver,kidney", 4.0, tmp_path / "run", attributes=("density", "surface", "location", "size"),
        levels={"size": (12, 24), "density": (12, 40), "surface": (1, 3), "location": ("liver_tumor/right_lobe", "kidney_tumor")},
        repeats=2, grid=True,
    )  # fmt: skip
    summary = read_summary(page.parent)
    factors = {item["factor"] for item in summary["curves"]}
    assert factors == {"size", "density", "surface", "location", "grid"}
    grid = curve(page.parent, "phantom 4 mm", "grid", "found")
    assert len(grid["levels"]) == 8 and (page.parent / "stress-grid.png").is_file()
    assert set(curve(page.parent, "phantom 4 mm", "location", "found")["levels"]) == {
        "liver_tumor/right_lobe",
        "kidney_tumor",
    }
    assert curve(page.parent, "phantom 4 mm", "grid", "marked_before")["measure"] in PROPORTIONS


def test_lesions_are_refined_where_asked(tmp_path):
    arguments = {"attributes": ("size",), "levels": {"size": (16, 24)}, "repeats": 1}
    plain = run_stress("threshold:15@liver", 4.0, tmp_path / "plain", **arguments)
    denoiser = bundled_folder() / DENOISER
    refined = run_stress("threshold:15@liver", 4.0, tmp_path / "refined", refine=denoiser, **arguments)
    inside = [curve(page.parent, "phantom 4 mm", "size", "gain")["mean"] for page in (plain, refined)]
    assert inside[0] != inside[1] and inside[0] == pytest.approx(inside[1], abs=0.1)
    assert DENOISER in refined.read_text(encoding="utf-8")


def real_scan(folder):
    case = folder / "cases" / "S01_ts_torso"
    return [(case / "ct.nii.gz", case / "organs_ts104.nii.gz", "totalseg-v1")]


def test_a_real_ct_gives_rising_curves_for_the_threshold_rule(real_data, tmp_path):
    page = run_stress(
        "threshold:15@liver",
        real_scan(real_data),
        tmp_path / "run",
        attributes=("size", "density"),
        levels=LEVELS,
        repeats=4,
    )
    for factor in ("size", "density"):
        for measure in ("found", "dice", "auc", "gain"):
            assert rises(page.parent, "S01_ts_torso", factor, measure), (factor, measure)


@pytest.mark.slow
def test_the_starter_model_gives_rising_evidence_on_phantom_and_real_ct(real_data, tmp_path):
    page = run_stress(
        "starter",
        [2.0, *real_scan(real_data)],
        tmp_path / "run",
        attributes=("size",),
        levels=LEVELS,
        repeats=4,
    )
    for scan in ("phantom 2 mm", "S01_ts_torso"):
        for measure in ("found", "auc", "gain"):
            assert rises(page.parent, scan, "size", measure), (scan, measure)
