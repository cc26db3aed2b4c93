"""``pasta study``: a whole study through the command line, and how each command fails."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from PASTALib.cli import app
from PASTALib.study.package import open_study
from PASTALib.study.sample import load_recipe, make_sample, sample_design, sample_passphrase
from PASTALib.study.seal import unlock

KEY_FILE = "key.json"


def pasta(*line, **more):
    return CliRunner().invoke(app, ["study", *(str(item) for item in line)], **more)


def good(*line, **more) -> str:
    done = pasta(*line, **more)
    assert done.exit_code == 0, (done.stdout, done.stderr, done.exception)
    return done.stdout


def told(*line, code=2, **more) -> str:
    """The one line of a command that refuses."""
    done = pasta(*line, **more)
    assert done.exit_code == code, (done.exit_code, done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("pasta: "), done.stderr
    return lines[0]


@pytest.fixture
def pools(tmp_path, study_pools) -> list[str]:
    """The options --real and --synthetic with CSV manifests of the small pools."""
    line = []
    for truth, pool in zip(("real", "synthetic"), study_pools):
        path = tmp_path / f"{truth}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "mask", "lesion_type", "id"])
            writer.writerows([case.image, case.mask, case.lesion_type, case.id] for case in pool)
        line += [f"--{truth}", str(path)]
    return line


@pytest.fixture
def small(tmp_path, pools):
    """Function: further options of ``new`` -> folder of a small study whose key is in tmp_path/key.json."""

    def make(*more) -> Path:
        good(
            "new", *pools, "--out", tmp_path / "s", "--per-type", 2, "--description", 0, "--practice", 0, "--repeats", 0, "--readers", "ann,bob",
            "--shape", "20x22x24", "--spacing", "2", "--key-file", tmp_path / KEY_FILE, *more,
        )  # fmt: skip
        return tmp_path / "s"

    return make


def test_a_whole_study(small, tmp_path):
    study = small("--title", "Which is which", "--seed", 4)
    key = ["--key-file", tmp_path / KEY_FILE]
    assert "8 of 8" not in good("status", study) and "not begun" in good("status", study)
    for reader in ("ann", "bob"):
        good("hand-out", study, "--out", tmp_path / reader)
        printed = good(
            "rate", tmp_path / reader, "--reader", reader, input="4\nb\n5\ns\n3\n" + "c edge\n2\n" + "9\nx\n1\n" * 9
        )
        assert "Everything is rated" in printed and "8 of 8 rated" in printed and "not stored: realism is 9" in printed
    merged = json.loads(good("merge", study, tmp_path / "ann", tmp_path / "bob", "--json"))["merged"]
    assert [one["reader"] for one in merged] == ["ann", "bob"]
    state = json.loads(good("status", study, "--json"))
    assert (
        state["problems"] == [] and not state["closed"] and {one["rated"] for one in state["readers"].values()} == {8}
    )
    good("export", study, "--out", tmp_path / "blind.csv")
    with (tmp_path / "blind.csv").open() as file:
        assert {row["truth"] for row in csv.DictReader(file)} == {""}
    assert "the study is closed" in good("close", study, *key)
    good("export", study, "--out", tmp_path / "open.csv")
    with (tmp_path / "open.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16 and {row["truth"] for row in rows} == {"real", "synthetic"}
    assert "nothing was changed since" in good("status", study, *key)
    table = study / "closed" / "ratings.csv"
    table.write_text(table.read_text().replace(",5,", ",1,", 1))
    assert "ratings.csv is not as it was written" in pasta("status", study, *key).stdout


def test_rating_stops_and_goes_on(small):
    study = small()
    assert "2 of 8 rated" in good("rate", study, "--reader", "ann", input="4\n4\nq\n")
    assert "[3/8]" in good("rate", study, "--reader", "ann", input="p\n\nf\nb\nq\n")
    assert "2 of 8 rated" in good("rate", study, "--reader", "ann", input="")


def test_planning_needs_no_cases(pools, tmp_path):
    data = json.loads(good("plan", "--preset", "paper", "--json"))
    assert (
        data["by_part"] == {"practice": 10, "realism": 1180, "repeats": 60, "description": 750} and data["readers"] == 4
    )
    text = good("plan", "--preset", "paper")
    assert (
        "2000 readings" in text
        and "about 16.32 h" in text
        and "Disk: 32.5 GB" in text
        and "2 sessions, 14 days apart" in text
    )
    text = good("new", *pools, "--out", tmp_path / "s", "--per-type", 4, "--description", 0, "--dry-run")
    assert "2 types, 2 readers" in text and not (tmp_path / "s").exists()
    assert "too few cases" in told("new", *pools, "--out", tmp_path / "s", "--per-type", 50, "--dry-run")


def test_help_teaches():
    text = " ".join(good("new", "--help", env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).split())
    for word in ("A POOL is a folder", "lesion_type", "mixed 1:1", "hand-out", "20 s per case", "--dry-run"):
        assert word in text, word
    for command in (
        "new",
        "plan",
        "sample",
        "check",
        "hand-out",
        "rate",
        "status",
        "merge",
        "close",
        "export",
        "analyse",
        "simulate",
    ):
        assert command in good("--help")


@pytest.mark.parametrize(
    "line,words",
    [
        (["--preset", "huge"], "preset 'huge' is not known"),
        (["--type", "liver_tumour_x"], "is not a lesion type; did you mean liver_tumor"),
        (["--count", "liver_tumor"], "write TYPE=N"),
        (["--readers", "ann,ann"], "two have the same name"),
        (["--readers", "0"], "--readers 0 is out of range"),
        (["--readers", "a b"], "reader 'a b'"),
        (["--shape", "12xabc"], "--shape '12xabc' is not understood"),
        (["--shape", "8"], "export shape (8, 8, 8)"),
        (["--spacing", "0"], "export spacing"),
        (["--seed", "-1"], "--seed -1 is out of range"),
        (["--repeats", "99"], "99 repeats"),
        (["--real", "nowhere"], "pool nowhere does not exist"),
        (["--description", "2"], "no report; the description part"),
    ],
)
def test_bad_options_of_new(pools, tmp_path, line, words):
    before = sorted(tmp_path.rglob("*"))
    defaults = ["--per-type", 2, "--description", 0, "--practice", 0, "--repeats", 0]
    assert words in told("new", *pools, "--out", tmp_path / "s", "--key-file", tmp_path / KEY_FILE, *defaults, *line)
    assert sorted(tmp_path.rglob("*")) == before


def test_commands_on_what_is_no_study(tmp_path):
    for line in (["status"], ["check"], ["close"], ["rate", "--reader", "x"], ["merge", tmp_path], ["export", "--out", tmp_path / "t.csv"],
                 ["hand-out", "--out", tmp_path / "x"]):  # fmt: skip
        assert "is not a study: no study.json in it" in told(line[0], tmp_path, *line[1:])


def test_the_lead_is_needed(small, tmp_path, monkeypatch):
    study = small()
    for command in ("check", "close"):
        assert "this is a reader's copy, or the key was kept elsewhere" in told(command, study)
        assert "key file" in told(command, study, "--key-file", tmp_path / "no.json")
    assert "nobody has rated anything" in told("close", study, "--key-file", tmp_path / KEY_FILE)
    assert "4 real and 4 synthetic cases are too few" in told("check", study, "--key-file", tmp_path / KEY_FILE)
    assert "no reader 'eve'" in told("rate", study, "--reader", "eve")
    assert "nothing is rated yet" in told("export", study, "--out", tmp_path / "t.csv")


def test_passphrases(pools, tmp_path, monkeypatch):
    pytest.importorskip("cryptography")
    new = [
        "new",
        *pools,
        "--out",
        tmp_path / "s",
        "--per-type",
        2,
        "--description",
        0,
        "--practice",
        0,
        "--repeats",
        0,
        "--shape",
        "20",
        "--spacing",
        "2",
    ]
    assert "passphrase is needed" in told(*new)
    (tmp_path / "words").write_text("short\n")
    assert "has 5 characters" in told(*new, "--passphrase-file", tmp_path / "words")
    (tmp_path / "words").write_text("four quiet grey horses\n")
    good(*new, "--passphrase-file", tmp_path / "words")
    assert (tmp_path / "s" / "key.sealed").is_file()
    monkeypatch.setenv("PASTA_STUDY_PASSPHRASE", "five quiet grey horses")
    assert "wrong passphrase" in told("close", tmp_path / "s")
    assert "nobody has rated" in told("close", tmp_path / "s", "--passphrase-file", tmp_path / "words")
    (tmp_path / "words").write_text("")
    assert "is empty" in told("close", tmp_path / "s", "--passphrase-file", tmp_path / "words")
    (tmp_path / "words").write_bytes(b"\xff\xfe")
    assert "cannot be read as text" in told("close", tmp_path / "s", "--passphrase-file", tmp_path / "words")


def test_check_finds_a_leak_with_exit_code_1(pools, tmp_path):
    pytest.importorskip("sklearn")
    new = [
        "--per-type",
        10,
        "--description",
        0,
        "--practice",
        0,
        "--repeats",
        0,
        "--shape",
        "20x22x24",
        "--spacing",
        "2",
    ]
    good("new", *pools, "--out", tmp_path / "s", "--key-file", tmp_path / KEY_FILE, *new)
    study = open_study(tmp_path / "s")
    key = unlock(study.folder, study.study_id, key_file=tmp_path / KEY_FILE)
    done = pasta("check", tmp_path / "s", "--key-file", tmp_path / KEY_FILE, "--json")
    report = json.loads(done.stdout)
    assert report["cases"] == 40 and report["differences"] == [] and done.exit_code == int(report["leaks"])
    for name, about in key.cases.items():
        if about["truth"] == "synthetic":
            with study.image_path(name).open("r+b") as file:
                file.write(b"NRRD0005")
    done = pasta("check", tmp_path / "s", "--key-file", tmp_path / KEY_FILE)
    assert (
        done.exit_code == 1
        and "leaks: header bytes (AUC 1.00" in done.stdout
        and "differs: header of the case files" in done.stdout
    )


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "study"
    return make_sample(folder)


@pytest.mark.slow
def test_the_sample_study(sample):
    """Twelve realism cases of three types, three descriptions, four readers: all of it can be opened, rated and closed."""
    study, design = open_study(sample), sample_design()
    assert (
        study.title == load_recipe()["title"] and study.parts == ["realism", "description"] and len(study.readers) == 4
    )
    assert sum(design.realism.values()) == 6 and len(study.data["cases"]) == design.case_count == 17
    items = study.items("anna")
    assert len(items) == 19 and all(item.image.is_file() for item in items)
    assert sum(path.stat().st_size for path in sample.rglob("*")) < 10e6
    described = [item for item in items if item.part == "description"]
    assert len(described) == 3 and all(
        [name for name, _ in item.report] == ["Shape", "Density", "Heterogeneity", "Surface", "Invasion"]
        for item in described
    )
    key_file = sample.with_name("study-key.json")
    secret = {"key_file": key_file} if key_file.is_file() else {"passphrase": sample_passphrase()}
    key = unlock(sample, study.study_id, **secret)
    assert {about["truth"] for about in key.cases.values()} == {"real", "synthetic"}
    assert not list(sample.rglob("*pool*"))


@pytest.mark.slow
def test_the_sample_study_shows_lesions(sample):
    """Every case has its lesion at the pointer: what lies there differs from what lies around."""

    from PASTALib.study.create import grid_of
    from PASTALib.study.export import read_nrrd

    study = open_study(sample)
    key_file = sample.with_name("study-key.json")
    key = unlock(
        sample,
        study.study_id,
        **({"key_file": key_file} if key_file.is_file() else {"passphrase": sample_passphrase()}),
    )
    for name, about in key.cases.items():
        array = read_nrrd(study.image_path(name), grid_of(study)).astype(float)
        box = tuple(slice(start, stop) for start, stop in about["lesion_box_zyx"])
        assert all(part.start <= n // 2 < part.stop for part, n in zip(box, array.shape))
        middle = array[tuple(slice(n // 2 - 1, n // 2 + 2) for n in array.shape)].mean()
        if about["lesion_type"] == "kidney_cyst":  # water within enhanced kidney
            assert -20 < middle < 45, middle
        elif about["lesion_type"] == "lung_tumor":  # soft tissue or ground glass within lung
            assert middle > -500, middle


def test_the_sample_command_refuses_a_folder_in_use(tmp_path):
    assert "exists already" in told("sample", "--out", tmp_path)
