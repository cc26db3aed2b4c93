"""The benchmarks run: a tiny pass through every section, and the arithmetic of their tables."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from Testing.bench.__main__ import main
from Testing.bench.recheck import paste
from Testing.bench.tables import Check, number, percent, quantile, table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all sections, so that the phantom is generated once."""
    return tmp_path_factory.mktemp("bench")


def _run(folder, *arguments) -> dict:
    target = folder / "figures.json"
    common = [
        "--cases",
        "2",
        "--phantom-mm",
        "4",
        "--small",
        "--workers",
        "0",
        "--host",
        "phantom",
        "--out",
        str(folder),
    ]
    assert main([*arguments, *common, "--json", str(target)]) == 0
    return json.loads(target.read_text())["sections"]


def _figures(section) -> dict:
    return {check["name"]: check["value"] for check in section["checks"]}


@pytest.mark.slow
def test_fidelity_and_realism_of_two_cases(folder, capsys):
    sections = _run(folder, "fidelity", "realism", "--lesion", "liver_cyst")
    records = sections["fidelity"]["records"]
    assert [r["sized"] for r in records] == [False, False, True, True]
    assert all(r["attributes"]["size"] for r in records if r["accepted"])
    figures = _figures(sections["realism"])
    assert figures["phantom 4 mm: voxels changed but not marked"] == 0
    assert figures["monotone density: ρ, lowest"] > 0.9
    printed = capsys.readouterr().out
    assert printed.startswith("machine: ")
    assert "checks passed % (n)" in printed and "figures meet their target" in printed


@pytest.mark.slow
def test_networks_on_a_small_cube(folder):
    """Every engine, nnU-Net beside ours, whole scan, memory and worker, each as small as it gets; the network is hardly trained."""
    pytest.importorskip("nnunetv2")
    section = _run(folder, "networks")["networks"]
    figures = _figures(section)
    assert set(section["windows"]["16"]) >= {"torch-fp32"}
    assert all(seconds > 0 for seconds in section["windows"]["16"].values())
    assert set(section["nnunet"]["runs"]) >= {"nnunet", "torch-fp32"}
    assert figures["voxels labelled as by nnU-Net, torch fp32"] > 90  # of outputs that three steps left close together
    assert 0 < figures["worker: cancel"] < 10
    assert len(section["scan"]) == 4


@pytest.mark.slow
def test_generation_on_small_cubes(folder):
    pytest.importorskip("distributed")
    section = _run(folder, "generation", "--lesion", "kidney_cyst")["generation"]
    assert section["cases"]["cpu_s"] and min(section["cases"]["cpu_s"]) > 0
    assert section["projection"]["per_core"] > 0 and section["projection"]["terabytes"] > 0
    assert _figures(section)["two workers ÷ one, cases per hour"] > 0


def test_refinement_without_weights_says_so(folder, capsys, monkeypatch, tmp_path):
    pytest.importorskip("torch")
    from Testing.bench import refinement

    monkeypatch.setattr(refinement, "bundled_folder", lambda: tmp_path)
    section = _run(folder, "refinement")["refinement"]
    assert section["checks"] == [] and "no starter weights" in capsys.readouterr().out


@pytest.mark.slow
def test_shapes_of_two_cases(folder, real_data):
    section = _run(folder, "shapes", "--lesion", "kidney_cyst")["shapes"]
    assert len(section["kidney_cyst"]["generated"]) == 2
    assert {row["descriptor"] for row in section["kidney_cyst"]["rows"]} >= {"volume_mm3", "sphericity"}
    assert (folder / "shapes-kidney_cyst.png").stat().st_size > 10_000


@pytest.mark.slow
def test_speed_on_a_small_scan(folder):
    figures = _figures(_run(folder, "speed", "--lesion", "liver_tumor")["speed"])
    assert 0 < figures["prepare a scan"] < 60
    assert figures["preview after a parameter change, median"] > 0
    assert figures["peak memory of a whole case (1.5 × volume as float32 + 300 MB)"] > 20


@pytest.mark.slow
def test_determinism_of_one_type(folder):
    assert set(_figures(_run(folder, "determinism", "--lesion", "gallstone")["determinism"]).values()) == {0.0}


def test_unknown_section_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fidelty", "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "fidelty" in capsys.readouterr().err


def test_check_compares_with_its_target():
    assert Check("a", 1.0, 0.9, 1.1).verdict == "PASS"
    assert Check("a", 1.2, 0.9, 1.1).verdict == "FAIL"
    assert Check("a", float("nan"), 0.9, 1.1).verdict == "NOT MEASURED"
    assert Check("a", 0, 0, 0).target == "= 0"
    assert Check("a", 0, high=2, unit="s").target == "≤ 2 s"
    assert Check("a", 0, low=60, unit="%").target == "≥ 60 %"
    assert Check("a", float("nan")).to_json()["value"] is None


def test_tables_and_small_statistics():
    assert table(("a", "bb"), [("x", 0.5)]).splitlines() == ["| a | bb   |", "|---|------|", "| x | 0.50 |"]
    assert [number(v) for v in (None, 3, 123.4, 12.34, 0.0312)] == ["–", "3", "123", "12.3", "0.031"]
    assert percent([True, False]) == 50.0 and math.isnan(percent([]))
    assert quantile([1, None, float("nan"), 3], 0.5) == 2.0


def test_paste_copies_the_overlap_of_two_regions():
    base, patch = np.zeros((4, 4, 4)), np.ones((3, 3, 3))
    out = paste(base, (slice(10, 14),) * 3, patch, (slice(12, 15), slice(8, 11), slice(11, 14)))
    assert out.sum() == 2 * 1 * 3
    assert out[2:4, 0, 1:4].all() and not base.any()
