"""The command ``pasta report``: what it writes and prints, with a stand-in model, without torch, and on bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from PASTALib.attributes import LEARNED, TABLE
from PASTALib.cli import app
from PASTALib.errors import InputError
from PASTALib.findings import AttributePrediction
from PASTALib.reporting.document import read_document
from PASTALib.volume import Volume, read_volume, write_volume

ROOT = Path(__file__).resolve().parents[2]


def pasta(*line):
    return CliRunner().invoke(app, [str(item) for item in line])


def files_in(folder: Path) -> set[str]:
    return {str(item.relative_to(folder)) for item in folder.rglob("*") if item.is_file()}


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    """A phantom's abdomen with two lesions: ct, organs, pasta (organs and lesions), mask (1, 2), and files that do not fit."""
    from PASTALib.phantom import make_phantom
    from PASTALib.synthesis.generator import insert, synthesise
    from PASTALib.synthesis.scan import prepare_scan
    from PASTALib.synthesis.spec import LesionRequest

    folder = tmp_path_factory.mktemp("scan")
    phantom = make_phantom(4.0, region="abdomen")
    ready = prepare_scan(phantom.ct, phantom.organs)
    for lesion in ("liver_cyst", "kidney_cyst"):
        insert(ready, synthesise(ready, LesionRequest(lesion, seed=3, size_mm=(28, 28, 28))))
    lesions, organs, affine = ready.lesion_labels(), phantom.organs.labels.array, phantom.ct.affine
    write_volume(ready.ct, folder / "ct.nii.gz")
    write_volume(Volume(organs, affine), folder / "organs.nii.gz")
    write_volume(Volume(np.where(lesions > 0, lesions, organs), affine), folder / "pasta.nii.gz")
    write_volume(Volume((lesions == 21).astype(np.uint8), affine), folder / "mask.nii.gz")
    write_volume(Volume(lesions * 0, affine), folder / "empty.nii.gz")
    write_volume(Volume(lesions[:-2], affine), folder / "cut.nii.gz")
    write_volume(Volume(np.clip(ready.ct.array, 0, 255).astype(np.int16), affine), folder / "mr.nii.gz")
    return folder


@pytest.fixture
def report(scan, tmp_path):
    """Run the command on the PASTA label map; ``outs`` below tmp_path, further options as given."""

    def run(*more, outs=("report.json",), ct="ct.nii.gz", mask="pasta.nii.gz"):
        line = ["report", "--ct", scan / ct, "--mask", scan / mask, *more]
        for name in outs:
            line += ["--out", tmp_path / name]
        return pasta(*line)

    return run


@pytest.fixture(autouse=True)
def no_models(monkeypatch, tmp_path_factory):
    """No starter model and no models of this user, whatever there is on this machine."""
    monkeypatch.setattr("PASTALib.models.find_model", lambda name: None)


@pytest.fixture
def stand_in(monkeypatch):
    """A model that says the first option of everything at 80 %; returns what it was asked."""
    asked = {}

    def load_model(source):
        asked["source"] = source
        card = types.SimpleNamespace(name="stand-in", trained=asked.get("trained", True), notes=("a remark",))
        return types.SimpleNamespace(card=card, predicts_attributes=asked.get("head", True), digest="0123456789abcdef")

    def predict_attributes(ct, centres_ras, model, *, device="auto", progress=None):
        asked.update(centres=centres_ras, device=device)
        progress(1, 2, "half")
        table = {}
        for key in LEARNED:
            options = TABLE[key].options
            table[key] = dict(zip(options, [0.8, *[0.2 / (len(options) - 1)] * (len(options) - 1)]))
        return [AttributePrediction(table, model.card.name, model.card.trained) for _ in centres_ras]

    for name, function in (
        ("PASTALib.networks.load", load_model),
        ("PASTALib.inference.attributes", predict_attributes),
    ):
        module = types.ModuleType(name)
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, name, module)
    return asked


# ---------------------------------------------------------------------------------------------------------------
# What it does


def test_a_pasta_label_map_is_all_it_needs(report, tmp_path):
    result = report(outs=("report.json", "report.html"))
    assert result.exit_code == 0, result.stderr
    assert files_in(tmp_path) == {"report.json", "report.html"}
    document = read_document(tmp_path / "report.json")
    assert [item.lesion for item in document.findings] == ["liver_cyst", "kidney_cyst"]
    assert (
        document.scan.phase.value == "Enhanced CT"
        and document.scan.source == "ct.nii.gz"
        and document.mask == "pasta.nii.gz"
    )
    for item in document.findings:
        assert item.report.values["density"].basis == "measured" and item.report.value("density") == "Hypodense"
        assert "kidney" in item.place or item.lesion == "liver_cyst"
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("<article") == 2 and str(tmp_path) not in page
    assert "Liver cyst" in result.stdout and "Report: " in result.stdout
    assert "no starter model" in result.stderr and "attributes are measured" in result.stderr


def test_without_organs_attributes_are_left_out(report, tmp_path):
    result = report("--lesion", "Liver Cyst", "--model", "none", mask="mask.nii.gz")
    assert result.exit_code == 0, result.stderr
    (item,) = read_document(tmp_path / "report.json").findings
    assert set(item.report.values) <= {"enhancement", "location", "size"} and item.measured is None
    assert "--organs MAP" in result.stderr


def test_organs_are_read_from_their_own_file(report, scan, tmp_path):
    result = report(
        "--lesion", "liver_cyst", "--organs", scan / "organs.nii.gz", "--organ-scheme", "pasta", mask="mask.nii.gz"
    )
    assert result.exit_code == 0, result.stderr
    (item,) = read_document(tmp_path / "report.json").findings
    assert item.measured is not None and item.report.value("density") == "Hypodense"


def test_a_model_predicts_and_the_measured_values_stay_beside(report, stand_in, tmp_path):
    result = report("--model", "mine", "--device", "cpu", outs=("report.json", "report.html"))
    assert result.exit_code == 0, result.stderr
    document = read_document(tmp_path / "report.json")
    assert stand_in["source"] == "mine" and stand_in["device"] == "cpu"
    assert [list(map(float, centre)) for centre in stand_in["centres"]] == [
        pytest.approx(item.centre_ras) for item in document.findings
    ]
    assert (document.model.name, document.model.digest, document.model.trained) == (
        "stand-in",
        "0123456789abcdef",
        True,
    )
    for item in document.findings:
        entry = item.report.values["density"]
        assert (entry.value, entry.basis, entry.confidence) == ("Hypodense", "predicted", 0.8)
        assert item.measured.values["density"].basis == "measured" and len(item.prediction.probabilities) == 5
    assert "a remark" in document.notes and "80%" in result.stdout
    assert "role=alert" not in (tmp_path / "report.html").read_text("utf-8")


def test_random_weights_are_announced_everywhere(report, stand_in, tmp_path):
    stand_in["trained"] = False
    result = report("--model", "mine", outs=("report.json", "report.html"))
    assert result.exit_code == 0 and "RANDOM WEIGHTS" in result.stdout and "mean nothing" in result.stderr
    assert read_document(tmp_path / "report.json").untrained
    assert "predictions mean nothing" in (tmp_path / "report.html").read_text("utf-8")


def test_the_starter_model_is_the_default_where_there_is_one(report, stand_in, monkeypatch):
    monkeypatch.setattr("PASTALib.models.find_model", lambda name: object() if name == "starter" else None)
    assert report().exit_code == 0 and stand_in["source"] == "starter"


def test_json_is_all_of_stdout(report, tmp_path):
    result = report("--json", outs=("a.json", "b.html"))
    assert result.exit_code == 0 and result.stderr == ""
    data = json.loads(result.stdout)
    assert data["schema"] == "pasta-report-document" and len(data["findings"]) == 2
    assert data["written"] == [str(tmp_path / "a.json"), str(tmp_path / "b.html")]


def test_a_size_that_leaves_nothing_is_a_report_too(report, tmp_path):
    result = report("--min-size", 90, outs=("report.json", "report.html"))
    assert result.exit_code == 0, result.stderr
    assert "No lesion" in result.stdout and "no lesion of at least 90 mm" in result.stderr
    assert read_document(tmp_path / "report.json").findings == []
    assert "No lesion" in (tmp_path / "report.html").read_text("utf-8")


def test_one_value_of_a_mask(report, tmp_path):
    assert report("--lesion-value", 24).exit_code == 0
    assert [item.lesion for item in read_document(tmp_path / "report.json").findings] == ["kidney_cyst"]


def test_overwrite(report, tmp_path):
    (tmp_path / "report.json").write_text("mine")
    result = report()
    assert result.exit_code == 2 and "--overwrite" in result.stderr
    assert (tmp_path / "report.json").read_text() == "mine"
    assert report("--overwrite").exit_code == 0
    assert len(read_document(tmp_path / "report.json").findings) == 2


@pytest.fixture
def series(scan, tmp_path_factory):
    """The same scan as a DICOM series, and the mask on its grid (slices stored the other way round)."""
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    import SimpleITK as sitk

    folder = tmp_path_factory.mktemp("dicom")
    ct = read_volume(scan / "ct.nii.gz")
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k, plane in enumerate(ct.array):
        image = sitk.GetImageFromArray(plane[None])
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin((lps @ (0, 0, k, 1))[:3].tolist())
        tags = {
            "0008|0060": "CT", "0008|0016": "1.2.840.10008.5.1.4.1.1.2", "0008|0018": f"1.2.3.4.{k + 1}", "0020|000d": "1.2.3",
            "0020|000e": "1.2.4", "0020|0052": "1.2.5", "0020|0013": str(k + 1), "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
            "0020|0037": "\\".join(f"{v:g}" for v in (lps[:3, :2] / spacing[:2]).T.ravel()),
            "0020|0032": "\\".join(f"{v:.6g}" for v in (lps @ (0, 0, k, 1))[:3]),
        }  # fmt: skip
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{999 - k}.dcm"))
        writer.Execute(image)
    assert pydicom.dcmread(folder / "999.dcm").Modality == "CT"
    assert np.array_equal(read_volume(folder).array, ct.array)
    return folder


def test_dicom_series_gives_report_and_segmentation(series, scan, tmp_path):
    import highdicom as hd

    line = (
        "report",
        "--ct",
        series,
        "--mask",
        scan / "pasta.nii.gz",
        "--out",
        tmp_path / "r.dcm",
        "--out",
        tmp_path / "r.json",
    )
    result = pasta(*line)
    assert result.exit_code == 0, result.stderr
    assert files_in(tmp_path) == {"r.dcm", "r.seg.dcm", "r.json"}
    document = read_document(tmp_path / "r.json")
    groups = hd.sr.srread(tmp_path / "r.dcm").content.get_volumetric_roi_measurement_groups()
    volumes = [next(float(n.value) for n in group.get_measurements() if n.name.meaning == "Volume") for group in groups]
    assert volumes == pytest.approx([item.volume_ml for item in document.findings], rel=1e-5)
    assert document.scan.series_uid == "1.2.4"
    again = pasta(*line)
    assert again.exit_code == 2 and "--overwrite" in again.stderr
    nothing = pasta(*line, "--overwrite", "--min-size", 90)
    assert nothing.exit_code == 0, nothing.stderr
    assert files_in(tmp_path) == {"r.dcm", "r.json"}  # no segmentation of an earlier report is left beside it


# ---------------------------------------------------------------------------------------------------------------
# Without torch


def test_everything_but_prediction_works_without_torch(scan, tmp_path):
    code = (
        "import importlib.abc, sys\n"
        "class Block(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'monai'):\n"
        "            raise ModuleNotFoundError(f\"No module named '{name}'\", name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from PASTALib.cli import main\n"
        "main()\n"
    )
    line = ["report", "--ct", scan / "ct.nii.gz", "--mask", scan / "pasta.nii.gz", "--out"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    run = {"capture_output": True, "encoding": "utf-8", "env": environment, "cwd": ROOT, "timeout": 120}
    done = subprocess.run([sys.executable, "-c", code, *map(str, line), str(tmp_path / "a.json")], **run)
    assert done.returncode == 0, done.stderr
    assert len(read_document(tmp_path / "a.json").findings) == 2
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, line), str(tmp_path / "b.json"), "--model", "random"], **run
    )
    assert done.returncode == 2 and "PyTorch" in done.stderr and len(done.stderr.splitlines()) == 1
    assert files_in(tmp_path) == {"a.json"}


def test_the_real_network_with_random_weights(report, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    result = report("--model", "random", "--device", "cpu", "--lesion-value", 21)
    assert result.exit_code == 0, result.stderr
    document = read_document(tmp_path / "report.json")
    assert document.untrained and set(document.findings[0].prediction.probabilities) == set(LEARNED)


# ---------------------------------------------------------------------------------------------------------------
# Bad input


def check(result, wanted: str) -> None:
    assert result.exit_code == 2, result.stderr or result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("pasta: ") and wanted.lower() in lines[0].lower(), result.stderr
    assert result.stdout == ""


BAD = {
    "empty mask": ({"mask": "empty.nii.gz"}, [], "empty"),
    "mask on another grid": ({"mask": "cut.nii.gz"}, [], "grid"),
    "mask of organs": ({"mask": "organs.nii.gz"}, [], "no lesion"),
    "mask is the ct": ({"mask": "ct.nii.gz"}, [], "is the CT itself"),
    "mask missing": ({"mask": "nowhere.nii.gz"}, [], "--mask"),
    "ct is an mr": ({"ct": "mr.nii.gz"}, [], "HU"),
    "ct missing": ({"ct": "nowhere.nii.gz"}, [], "--ct"),
    "type not given": ({"mask": "mask.nii.gz"}, [], "--lesion TYPE"),
    "type unknown": ({"mask": "mask.nii.gz"}, ["--lesion", "liver_cist"], "did you mean liver_cyst"),
    "value that is not there": ({}, ["--lesion-value", "7000"], "no voxel"),
    "organs missing": ({}, ["--organs", "nowhere.nii.gz"], "--organs"),
    "scheme unknown": ({}, ["--organ-scheme", "mine"], "totalseg-v2"),
    "size negative": ({}, ["--min-size", "-1"], "--min-size"),
    "out of another kind": ({"outs": ("report.pdf",)}, [], ".json or .html or .dcm"),
    "out into nowhere": ({"outs": ("no/folder/report.json",)}, [], "folder"),
    "out twice": ({"outs": ("report.json", "report.json")}, [], "twice"),
    "out that would clash": ({"outs": ("a.seg.dcm",)}, [], "name the report"),
    "dicom from nifti": ({"outs": ("report.json", "report.dcm")}, [], "folder of the DICOM series"),
    "model unknown": ({}, ["--model", "nowhere.pth"], "nowhere.pth"),
    "no out": ({"outs": ()}, [], "--out"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_one_clear_line_and_nothing_written(name, report, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "model unknown":
        pytest.importorskip("torch")
    changes, more, wanted = BAD[name]
    check(report(*more, **changes), wanted)
    assert files_in(tmp_path) == set()


def test_a_model_without_attribute_head_is_refused(report, stand_in, tmp_path):
    stand_in["head"] = False
    check(report("--model", "segmenter"), "predicts no attributes")
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (InputError("out of luck"), 2), (MemoryError(), 1)]
)
def test_failures_leave_nothing_half_written(report, tmp_path, monkeypatch, error, code):
    def fail(*_, **__):
        raise error

    (tmp_path / "report.json").write_text("of yesterday")
    monkeypatch.setattr("PASTALib.reporting.report_page.page", fail)  # late: the JSON is written by then
    result = report("--overwrite", outs=("report.json", "report.html"))
    assert result.exit_code == code and len(result.stderr.splitlines()) == 1
    assert files_in(tmp_path) == {"report.json"} and (tmp_path / "report.json").read_text() == "of yesterday"


def test_stopping_a_prediction_leaves_nothing(report, stand_in, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["PASTALib.inference.attributes"], "predict_attributes", stop)
    assert report("--model", "mine").exit_code == 130
    assert files_in(tmp_path) == set()
