"""The command ``pasta``: what it writes, what it prints, how it fails, how fast it starts."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from PASTALib import __version__
from PASTALib.cases import read_case
from PASTALib.cli import app
from PASTALib.commands import options, work
from PASTALib.commands.output import OutputFolder
from PASTALib.errors import InputError
from PASTALib.volume import Volume, read_volume, write_volume


def pasta(*line) -> object:
    return CliRunner().invoke(app, [str(item) for item in line])


def files_in(folder: Path) -> set[str]:
    return {str(item.relative_to(folder)) for item in folder.rglob("*") if item.is_file()}


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    """An abdomen of the digital phantom: ct.nii.gz, organs.nii.gz, and no_gallbladder.nii.gz."""
    from PASTALib.phantom import make_phantom

    folder = tmp_path_factory.mktemp("scan")
    phantom = make_phantom(4.0, region="abdomen")
    write_volume(phantom.ct, folder / "ct.nii.gz")
    labels = phantom.organs.labels
    write_volume(labels, folder / "organs.nii.gz")
    write_volume(Volume(np.where(labels.array == 3, 0, labels.array), labels.affine), folder / "no_gallbladder.nii.gz")
    return folder


@pytest.fixture
def synth(scan):
    def run(*more, lesion="liver_cyst", out=None):
        return pasta(
            "synth", "--ct", scan / "ct.nii.gz", "--organs", scan / "organs.nii.gz", "--lesion", lesion, "--out", out, *more
        )  # fmt: skip

    return run


# ---------------------------------------------------------------------------------------------------------------
# Starting


def test_version_and_help():
    assert pasta("--version").stdout == f"pasta {__version__}\n"
    assert "pasta demo" in pasta("--help").stdout
    assert pasta().exit_code == 0
    for command in ("synth", "gallery", "demo", "organs"):
        result = pasta(command, "--help")
        assert result.exit_code == 0 and "--out" in result.stdout


def test_help_imports_nothing_heavy_and_starts_at_once():
    heavy = "('numpy', 'scipy', 'SimpleITK', 'matplotlib', 'torch', 'nibabel', 'PIL')"
    code = (
        "import sys; sys.argv = ['pasta', 'synth', '--help']\n"
        "from PASTALib.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"sys.stderr.write(repr([name for name in {heavy} if name in sys.modules]))"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    after = os.times()
    assert done.stderr == "[]"
    assert "--lesion" in done.stdout
    used_s = after.children_user + after.children_system - before.children_user - before.children_system
    assert used_s < 0.7  # processor time, so that a busy machine does not matter


# ---------------------------------------------------------------------------------------------------------------
# pasta synth


def test_synth_writes_a_case_that_reads_back(synth, scan, tmp_path):
    result = synth("--size", "24x24x24", "--seed", 3, out=tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    folder = tmp_path / "out" / "Liver" / "Cyst" / "ct_seed3"
    names = {"img.nii.gz", "label.nii.gz", "total.nii.gz", "type.json", "case.json", "report.txt", "preview.png"}
    assert files_in(tmp_path) == {str(Path("out/Liver/Cyst/ct_seed3", name)) for name in names}
    case = read_case(folder)
    assert case.reports[0].lesion == "liver_cyst" and case.reports[0].value("density") == "Hypodense"
    assert set(np.unique(case.label.array)) == {0, 1, 2}
    region = tuple(slice(*pair) for pair in case.record["lesions"][0]["region_zyx"])
    original = read_volume(scan / "ct.nii.gz").array.copy()
    changed = case.ct.array != original
    assert changed[region].any()
    changed[region] = False
    assert not changed.any()
    for text in ("Liver cyst", "Attribute", "Requested", "Report", "Basis", "24×24×24 mm", "measured", "Case: "):
        assert text in result.stdout
    assert "Liver cyst" in (folder / "report.txt").read_text("utf-8")
    assert result.stderr == "" and case.record["options"]["refinement"] == "ddpm.pth"  # the starter weights


def test_same_seed_same_bytes(synth, tmp_path):
    for name in ("a", "b"):
        assert synth("--seed", 5, "--refine", "none", out=tmp_path / name).exit_code == 0
    for name in files_in(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert synth("--seed", 6, "--refine", "none", out=tmp_path / "c").exit_code == 0
    images = [next((tmp_path / name).rglob("img.nii.gz")).read_bytes() for name in "ac"]
    assert images[0] != images[1]


def test_json_is_all_of_stdout(synth, tmp_path):
    result = synth("--json", "--attr", "density=hypo", out=tmp_path / "out")
    assert result.exit_code == 0 and result.stderr == ""
    data = json.loads(result.stdout)
    assert Path(data["case"]).is_dir() and Path(data["previews"][0]).is_file()
    assert data["phase"] == "Enhanced CT"
    assert not any("refinement" in line for line in data["notes"])  # nothing to say: it was done
    (lesion,) = data["lesions"]
    assert lesion["report"]["requested"]["density"] == "Hypodense"
    assert len(lesion["center_ras_mm"]) == len(lesion["size_zxy_mm"]) == 3


def test_several_types_and_counts_in_one_scan(synth, tmp_path):
    result = synth("--lesion", "kidney_cyst", "--count", 2, "--size", "16", out=tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    case = read_case(next((tmp_path / "out").rglob("case.json")).parent)
    assert [report.lesion for report in case.reports] == ["liver_cyst"] * 2 + ["kidney_cyst"] * 2
    assert set(np.unique(case.instances.array)) == {0, 1, 2, 3, 4}
    assert len(list(case.folder.glob("preview_*.png"))) == 4
    assert "(4 of 4)" in result.stdout


def test_place_is_kept(synth, tmp_path):
    first = json.loads(synth("--json", "--size", "20", out=tmp_path / "a").stdout)
    place = first["lesions"][0]["center_ras_mm"]
    text = ",".join(f"{value:.1f}" for value in place)
    second = json.loads(synth("--json", "--size", "20", "--seed", 9, "--at", text, out=tmp_path / "b").stdout)
    assert np.linalg.norm(np.subtract(second["lesions"][0]["center_ras_mm"], place)) < 12


def test_other_phase_is_a_note_not_an_error(synth, tmp_path):
    result = synth("--refine", "none", lesion="kidney_stone", out=tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "the paper uses Plain CT" in result.stderr


def test_spellings(synth, tmp_path):
    assert synth("--attr", "surface=well", lesion="Liver Cyst", out=tmp_path / "out").exit_code == 0
    assert options.attributes(["shape=punct", "invasion=No", "density=low density"]) == {
        "shape": "Punctate, nodular",
        "invasion": "No close relationship with surrounding structures",
        "density": "Hypodense",
    }
    assert options.size("30") == (30, 30, 30) and options.size("12x10.5×8 mm") == (12, 10.5, 8)
    assert options.point("-1.5, 2,3") == (-1.5, 2, 3)


def test_overwrite_replaces_ours_and_keeps_yours(synth, tmp_path):
    out = tmp_path / "out"
    assert synth("--count", 2, "--size", "15", out=out).exit_code == 0
    folder = next(out.rglob("case.json")).parent
    (folder / "mine.txt").write_text("mine")
    result = synth(out=out)
    assert result.exit_code == 2 and "--overwrite" in result.stderr
    assert synth("--overwrite", out=out).exit_code == 0
    assert (folder / "mine.txt").read_text() == "mine"
    assert (folder / "preview.png").is_file()
    assert not list(folder.glob("preview_*.png")) and not (folder / "lesions.nii.gz").exists()
    assert len(read_case(folder).reports) == 1


def test_too_many_lesions_leave_nothing(synth, tmp_path):
    result = synth("--count", 60, "--size", "60", out=tmp_path / "out")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1 and " of 60" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "wanted"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (InputError("no place for it; ask for less"), 2, "no place for it"),
        (MemoryError(), 1, "memory"),
        (ZeroDivisionError("a\nb"), 1, "ZeroDivisionError: a b (the same command with --debug"),
    ],
)
def test_failures_end_in_one_line_and_leave_nothing(synth, tmp_path, monkeypatch, error, code, wanted):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("PASTALib.reporting.preview.save_preview", fail)  # late: the case itself is written by then
    result = synth(out=tmp_path / "out")
    assert result.exit_code == code
    assert len(result.stderr.splitlines()) == 1 and wanted in result.stderr
    assert list(tmp_path.iterdir()) == []
    if code == 1:
        assert "Traceback" in synth("--debug", out=tmp_path / "out").stderr


# ---------------------------------------------------------------------------------------------------------------
# The others


def test_gallery_shows_what_the_scan_allows(scan, tmp_path):
    result = pasta(
        "gallery", "--ct", scan / "ct.nii.gz", "--organs", scan / "no_gallbladder.nii.gz", "--out", tmp_path / "out",
        "--lesion", "liver_cyst", "--lesion", "gallstone", "--lesion", "kidney_cyst",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert files_in(tmp_path) == {"out/index.html", "out/gallery.png"}
    assert "left out gallstone: " in result.stdout and "2 of 3" in result.stdout
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert page.count("<article") == 2 and "no gallbladder" in page
    assert str(scan) not in page and str(tmp_path) not in page
    assert (tmp_path / "out" / "gallery.png").stat().st_size <= 600_000


def test_gallery_with_nothing_to_show(scan, tmp_path):
    line = ("--ct", scan / "ct.nii.gz", "--organs", scan / "no_gallbladder.nii.gz", "--lesion", "gallstone")
    result = pasta("gallery", *line, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "gallbladder" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_demo_needs_no_data(tmp_path):
    result = pasta("demo", "--out", tmp_path / "out", "--spacing", 4, "--lesion", "liver_tumor")
    assert result.exit_code == 0, result.stderr
    assert "index.html" in result.stdout and "Next" in result.stdout
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "Digital phantom" in page
    stages = ("Parametric model", "Refined", "Segmentation<", "Organ as segmented", "denoising network", "True outline")
    assert all(text in page for text in stages), "the starter weights are not used"
    assert read_case(tmp_path / "out" / "Liver" / "Tumor" / "phantom_seed0").reports[0].lesion == "liver_tumor"


def test_demo_with_a_scan(scan, tmp_path):
    line = ("--ct", scan / "ct.nii.gz", "--organs", scan / "organs.nii.gz", "--json", "--lesion", "liver_cyst")
    result = pasta("demo", *line, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert Path(json.loads(result.stdout)["page"]).is_file()


@pytest.mark.skipif(importlib.util.find_spec("totalsegmentator") is not None, reason="TotalSegmentator is installed")
def test_organs_says_how_to_install(scan, tmp_path):
    result = pasta("organs", "--ct", scan / "ct.nii.gz", "--out", tmp_path / "organs.nii.gz")
    assert result.exit_code == 2
    assert "pip install" in result.stderr and len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_organs_passes_its_options_on(scan, tmp_path, monkeypatch):
    seen = {}

    def fake(ct, out, fast, device, progress):
        from PASTALib.organs import read_organs

        seen.update(ct=ct, out=out, fast=fast, device=device)
        progress(0.5, "half")
        return read_organs(scan / "organs.nii.gz")

    monkeypatch.setattr("PASTALib.organs.run_totalsegmentator", fake)
    result = pasta("organs", "--ct", scan / "ct.nii.gz", "--out", tmp_path / "o.nii.gz", "--fast", "--json")
    assert result.exit_code == 0, result.stderr
    assert "liver" in json.loads(result.stdout)["present"]
    assert seen["fast"] is True and seen["device"] == "auto"


# ---------------------------------------------------------------------------------------------------------------
# Small parts


def test_output_folder_appears_whole(tmp_path):
    with OutputFolder(tmp_path / "deep" / "out") as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "a.txt").write_text("a")
        assert not (tmp_path / "deep").exists()
    assert files_in(tmp_path) == {"deep/out/sub/a.txt"}
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "deep" / "out").stat().st_mode & 0o777 == 0o777 & ~mask
    with pytest.raises(RuntimeError), OutputFolder(tmp_path / "deep" / "out", overwrite=True) as staging:
        (staging / "b.txt").write_text("b")
        raise RuntimeError
    assert files_in(tmp_path) == {"deep/out/sub/a.txt"}


def test_an_empty_folder_is_a_fine_target(tmp_path):
    with OutputFolder(tmp_path) as staging:
        (staging / "a.txt").write_text("a")
    assert files_in(tmp_path) == {"a.txt"}


def test_scan_names():
    assert [work.scan_name(Path(name)) for name in ("a/ct.nii.gz", "b/My scan (1).nrrd", "c/series")] == [
        "ct",
        "My_scan_1",
        "series",
    ]
