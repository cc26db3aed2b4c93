"""From ratings to results, report and command: what is computed, what is said not to be, what is written."""

from __future__ import annotations

import csv
import json
import re
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from PASTALib.cli import app
from PASTALib.errors import InputError
from PASTALib.study.analysis import analyse, write_study_report
from PASTALib.study.analysis.methods import decimal, headline, methods, p_text
from PASTALib.study.analysis.report import page
from PASTALib.study.analysis.results import ALL
from PASTALib.study.analysis.tables import csv_tables
from PASTALib.study.simulate import PAPER_DESCRIPTION, SimulatedDesign, simulate_ratings

SMALL = SimulatedDesign(
    realism={"lung_tumor": 8, "liver_cyst": 6}, description={"lung_tumor": 5, "kidney_stone": 4}, readers=3, repeats=0.3
)


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return simulate_ratings(SMALL, seed=1)


@pytest.fixture(scope="module")
def results(rows):
    return analyse(rows, 0.4, resamples=400)


def scored(rows, truth, kind=None, reader=None) -> np.ndarray:
    return np.array(
        [
            r["score"] for r in rows
            if r["part"] == "realism" and not r["repeat"] and r["truth"] == truth and kind in (None, r["lesion_type"]) and reader in (None, r["reader"])
        ],
        float,
    )  # fmt: skip


def test_means_and_differences_are_those_of_the_rows(rows, results):
    found = results.parts["realism"].realism
    for kind in ("lung_tumor", "liver_cyst", None):
        real, synthetic = (scored(rows, truth, kind).mean() for truth in ("real", "synthetic"))
        assert found.means["real"][kind or ALL].value == pytest.approx(real)
        assert found.differences[kind or ALL].value == pytest.approx(synthetic - real)
    each = [scored(rows, "real", None, f"reader{n}").mean() for n in (1, 2, 3)]
    assert found.means["real"][ALL].per_reader == pytest.approx(each)
    assert sum(found.spread["reader1", "real"]) == 14
    for estimate in (*found.means["real"].values(), *found.differences.values(), *found.auc.values()):
        assert estimate.low <= estimate.value <= estimate.high


def test_description_mean_is_over_attributes(rows, results):
    chosen = [
        r["score"]
        for r in rows
        if r["part"] == "description" and not r["repeat"] and r["lesion_type"] == "kidney_stone"
    ]
    part = results.parts["description"]
    assert part.means[ALL]["kidney_stone"].value == pytest.approx(np.mean(chosen))
    assert part.questions == ("shape", "density", "heterogeneity", "surface", "invasion")
    assert set(part.between) == set(part.questions) and set(part.within) == set(part.questions)


def test_same_ratings_same_results(rows, results):
    assert analyse(list(rows), 0.4, resamples=400).to_json() == results.to_json()
    json.dumps(results.to_json(), allow_nan=False)


def test_order_of_rows_does_not_matter(rows, results):
    shuffled = [rows[n] for n in np.random.default_rng(0).permutation(len(rows))]
    assert analyse(shuffled, 0.4, resamples=400).to_json() == results.to_json()


def test_margin_decides(rows):
    wide = {t.name: t for t in analyse(rows, 3.0, resamples=200).parts["realism"].realism.tests}
    small = {t.name: t for t in analyse(rows, 0.01, resamples=200).parts["realism"].realism.tests}
    assert wide["Equivalence"].holds and not small["Equivalence"].holds
    assert wide["Non-inferiority"].interval == small["Non-inferiority"].interval
    for test in small.values():  # the interval and the test say the same
        outside = test.interval[0] > (-0.01 if test.name == "Non-inferiority" else 0.5 if "apart" in test.name else 0)
        if test.name != "Equivalence":
            assert test.holds == (
                outside
                or (
                    test.name in ("Difference", "Telling apart")
                    and test.interval[1] < (0.5 if "apart" in test.name else 0)
                )
            )


@pytest.mark.parametrize(
    "options,words",
    [({"margin": 0}, "margin"), ({"margin": 5}, "margin"), ({"alpha": 1.2}, "alpha"), ({"level": 95}, "level"), ({"resamples": 3}, "resamples"), ({"seed": -1}, "seed")],
)  # fmt: skip
def test_settings_out_of_range(rows, options, words):
    with pytest.raises(InputError, match=words):
        analyse(rows, **options)


# ---------------------------------------------------------------------------------------------------------------
# What cannot be computed is said, and the report is written all the same


def realism_rows(**design) -> list[dict]:
    return simulate_ratings(
        SimulatedDesign(**({"realism": {"lung_tumor": 6, "liver_cyst": 6}, "readers": 3} | design)), seed=2
    )


def limits_of(rows, **options) -> str:
    """What the results say was not computed; the page shows it, and neither a traceback nor a NaN."""
    results = analyse(rows, resamples=200, **options)
    text = page(results)
    assert not re.search(r"\bnan\b|\binf\b|None", re.sub(r"<style.*?</style>|src(set)?='[^']*'", "", text, flags=re.S))
    assert all(line.replace("'", "&#x27;") in text for line in results.limits)
    assert all(csv_tables(results).values())
    return " ".join(results.limits)


def test_no_real_cases():
    rows = [r for r in realism_rows() if r["truth"] == "synthetic"]
    assert "no rated real case: differences, non-inferiority, equivalence and AUC cannot" in limits_of(rows)


def test_one_reader():
    limits = limits_of(realism_rows(readers=1))
    assert "one reader: intervals speak of this reader only" in limits
    results = analyse(realism_rows(readers=1), resamples=200)
    found = results.parts["realism"].realism.means["real"][ALL]
    assert not found.generalises and found.shown[0] < found.value < found.shown[1]
    assert results.parts["realism"].realism.tests[2].interval == pytest.approx(
        results.parts["realism"].realism.differences[ALL].shown
    )
    assert "With one reader" in " ".join(methods(results))


def test_constant_scores():
    rows = [r | {"score": 4} for r in realism_rows()]
    limits = limits_of(rows)
    assert "Every score of the realism part is 4" in limits and "not defined" in limits
    tests = {t.name: t.holds for t in analyse(rows, resamples=200).parts["realism"].realism.tests}
    assert not any(tests.values())  # one who always says 4 has shown nothing


def test_single_cases_per_type():
    limits = limits_of(realism_rows(realism={"lung_tumor": 5, "liver_cyst": 1}))
    assert "liver cyst: a single real or synthetic case" in limits.lower()
    results = analyse(realism_rows(realism={"lung_tumor": 5, "liver_cyst": 1}), resamples=200)
    found = results.parts["realism"].realism.means["real"]
    assert np.isnan(found["liver_cyst"].low) and np.isfinite(found["lung_tumor"].low) and np.isfinite(found[ALL].low)


def test_one_case_of_each():
    limits_of(realism_rows(realism={"lung_tumor": 1}))


def test_no_repeats_and_no_times():
    rows = [r | {"seconds": ""} for r in realism_rows(repeats=0)]
    limits = limits_of(rows)
    assert "no case read twice" in limits and "no reading times" in limits


def test_a_reader_without_scores_and_a_lesion_type_nobody_knows():
    rows = realism_rows()
    rows = [r | {"score": ""} if r["reader"] == "reader2" else r for r in rows]
    rows = [r | {"lesion_type": "spleen_cyst"} if r["lesion_type"] == "liver_cyst" else r for r in rows]
    assert "no score of reader2" in limits_of(rows)
    assert "Spleen cyst" in page(analyse(rows, resamples=200))


def test_no_score_at_all():
    assert "holds no score at all" in limits_of([r | {"score": ""} for r in realism_rows()])


def test_names_are_escaped():
    rows = [r | {"reader": f"<b>{r['reader']}&"} for r in realism_rows()]
    text = page(analyse(rows, resamples=200), "<script>alert(1)</script>")
    assert "<b>reader1" not in text and "<script>" not in text and "&lt;b&gt;reader1&amp;" in text


# ---------------------------------------------------------------------------------------------------------------
# Missing ratings


def test_missing_ratings_are_counted_and_used_as_they_are():
    rows = realism_rows(repeats=0)
    rows[0]["score"] = rows[1]["score"] = ""
    del rows[-1]
    results = analyse(rows, resamples=200)
    part = results.parts["realism"]
    assert part.missing == 3 and part.expected["reader1"] - part.rated["reader1"] == 2
    assert part.gaps["real"] + part.gaps["synthetic"] == 3
    assert "3 of 72 first ratings" in " ".join(methods(results))
    assert part.realism.means["real"][ALL].value == pytest.approx(
        np.mean(
            [
                np.mean([r["score"] for r in rows if r["score"] and r["reader"] == n and r["truth"] == "real"])
                for n in part.readers
            ]
        )
    )


def test_planned_ratings_that_nobody_gave_count_as_missing():
    rows = realism_rows(repeats=0)
    planned = {"realism": {"reader1": 30, "reader2": 24, "reader3": 24, "reader4": 24}, "description": {"reader1": 10}}
    results = analyse(rows, resamples=200, planned=planned)
    part = results.parts["realism"]
    assert part.missing == 6 + 24 and part.active == ("reader1", "reader2", "reader3")
    assert "no score of reader4" in " ".join(results.limits) and "Nothing of the description part" in " ".join(
        results.limits
    )
    assert "reader4 24" in page(results)


# ---------------------------------------------------------------------------------------------------------------
# Report and command


def test_report_is_self_contained_and_says_what_was_found(results, tmp_path):
    files = write_study_report(results, tmp_path / "out", "Our study")
    names = {path.name for path in files}
    assert {
        "report.html",
        "methods.txt",
        "results.json",
        "means.csv",
        "tests.csv",
        "agreement.csv",
        "readers.csv",
        "auc.csv",
        "realism_by_type.svg",
    } <= names
    text = files[0].read_text(encoding="utf-8")
    assert not re.search(r"(src|srcset)=(?!['\"]data:)", text) and "http" not in re.sub(r"base64,[^']*", "", text)
    assert set(re.findall(r"href='([^#][^']*)'", text)) == names - {"report.html"}
    found = results.parts["realism"].realism
    for value in (
        found.means["real"][ALL].value,
        found.auc[ALL].value,
        results.parts["description"].means[ALL]["lung_tumor"].value,
    ):
        assert decimal(value) in text
    for paragraph in methods(results):
        assert paragraph.replace("'", "&#x27;") in text.replace("&gt;", ">")
    with (tmp_path / "out" / "means.csv").open() as file:
        means = {(r["question"], r["truth"], r["lesion_type"]): float(r["value"]) for r in csv.DictReader(file)}
    assert means["realism", "real", "lung_tumor"] == pytest.approx(found.means["real"]["lung_tumor"].value, rel=1e-5)


def test_report_has_the_same_bytes_twice(results, tmp_path):
    one, other = (write_study_report(results, tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_methods_say_what_was_done(results):
    text = " ".join(methods(results))
    for words in (
        "3 readers rated the realism of 28 cases (14 real, 14 synthetic",
        "margin of non-inferiority and of equivalence was 0.4",
        "400 resamples",
    ):
        assert words in text
    assert "Telling" not in text and len(headline(results)) == 4


def test_words_for_numbers():
    assert decimal(-0.001) == "0.00" and decimal(-0.12) == "−0.12" and decimal(0.3, sign=True) == "+0.30"
    assert [p_text(p) for p in (0.0001, 0.0123, 0.5, float("nan"))] == [
        "p < 0.001",
        "p = 0.012",
        "p = 0.50",
        "p not defined",
    ]


def test_a_folder_that_cannot_be_written(results, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be made"):
        write_study_report(results, tmp_path / "file" / "report")


def pasta(*line):
    return CliRunner().invoke(app, ["study", *map(str, line)])


def test_commands_from_simulated_ratings_to_the_report(tmp_path):
    table = tmp_path / "ratings.csv"
    done = pasta("simulate", "--per-type", 2, "--description", 1, "--missing", 0.05, "--seed", 3, "--out", table)
    assert done.exit_code == 0, done.output
    done = pasta("analyse", table, "--margin", 0.4, "--resamples", 200, "--title", "Pilot")
    assert done.exit_code == 0, done.output
    assert "Mean realism" in done.output and (tmp_path / "report" / "report.html").is_file()
    again = pasta("analyse", table, "--resamples", 200)
    assert again.exit_code == 2 and "--overwrite" in again.stderr
    done = pasta("analyse", table, "--resamples", 200, "--overwrite", "--json")
    assert (
        done.exit_code == 0
        and json.loads(done.stdout)["parts"]["realism"]["realism"]["differences"]["all"]["value"] is not None
    )


def test_command_on_a_closed_study_knows_its_title_and_what_was_planned(make_study, rate_all):
    from PASTALib.study.close import close_study

    study, key = make_study()
    rate_all(study, "ann")
    rate_all(study, "bob", 5, score=3)
    assert "close it first: pasta study close" in pasta("analyse", study.folder).stderr
    close_study(study, key, incomplete=True)
    done = pasta("analyse", study.folder, "--resamples", 200, "--json")
    assert done.exit_code == 0, done.output
    part = json.loads(done.stdout)["parts"]["realism"]
    assert part["expected"] == {"ann": 12, "bob": 12} and part["rated"] == {"ann": 12, "bob": 5}
    assert "<h1>A small study</h1>" in (study.folder / "closed" / "report" / "report.html").read_text(encoding="utf-8")


def test_command_tells_power():
    done = pasta("simulate", "--power", 5, "--per-type", 3, "--json")
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["power"]) == {"Non-inferiority", "Equivalence", "Difference", "Telling apart"}


@pytest.mark.parametrize(
    "line,words",
    [
        (("analyse", "{}/none.csv"), "no such file or folder"),
        (("analyse", "{}"), "no closed/ratings.csv in this folder"),
        (("analyse", "{}/bad.csv"), "no column 'reader'"),
        (("analyse", "{}/bad.csv", "--margin", "9"), "--margin 9 is out of range"),
        (("analyse", "{}/note.txt"), "wanted ratings as .csv or .parquet"),
        (("simulate",), "give either --out FILE"),
        (("simulate", "--out", "{}/r.txt"), "must end in .csv"),
        (("simulate", "--out", "{}/r.csv", "--readers", "0"), "0 readers; give 1 to 100"),
        (("simulate", "--out", "{}/r.csv", "--noise", "-1"), "noise -1 is negative"),
        (("simulate", "--out", "{}/r.csv", "--per-type", "0"), "the design has no case"),
        (("simulate", "--out", "{}/r.csv", "--missing", "1"), "missing 1 is out of range"),
        (("simulate", "--power", "0"), "0 studies"),
    ],
)
def test_bad_command_lines(tmp_path, line, words):
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "note.txt").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    done = pasta(*(item.format(tmp_path) for item in line))
    assert done.exit_code == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_study_takes_seconds():
    """4 readers × 1,180 cases and 750 × 5 descriptions, from rows to results and page: 20 s at most."""
    rows = simulate_ratings(SimulatedDesign(description=PAPER_DESCRIPTION))
    assert len(rows) > 19_720
    start = time.perf_counter()
    page(analyse(rows))
    assert time.perf_counter() - start < 20
