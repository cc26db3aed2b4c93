"""Bad input through the real command line: exit code 2, one line that says what to do, nothing left behind."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from PASTALib.cli import app
from PASTALib.volume import Volume, write_volume

SPACING_MM = 4.0
SHAPE = (64, 76, 84)


def body() -> tuple[np.ndarray, np.ndarray]:
    """A small trunk: CT (int16 HU) and organ labels (uint8) with lung, liver, gallbladder, kidney and bone; axes run to L, P, S."""
    z, y, x = (
        np.arange(n).reshape([-1 if i == axis else 1 for i in range(3)]) * SPACING_MM for axis, n in enumerate(SHAPE)
    )
    cz, cy, cx = (n * SPACING_MM / 2 for n in SHAPE)

    def blob(dz: float, dy: float, dx: float, rz: float, ry: float, rx: float) -> np.ndarray:
        return ((z - cz - dz) / rz) ** 2 + ((y - cy - dy) / ry) ** 2 + ((x - cx - dx) / rx) ** 2 < 1

    ct = np.full(SHAPE, -1000, np.int16)
    labels = np.zeros(SHAPE, np.uint8)
    trunk = np.broadcast_to(((y - cy) / 110) ** 2 + ((x - cx) / 145) ** 2 < 1, SHAPE)
    ct[trunk] = -100
    ct[np.broadcast_to(((y - cy) / 95) ** 2 + ((x - cx) / 130) ** 2 < 1, SHAPE)] = 50
    for value, hu, shape in (
        (1, -850, (95, 0, -70, 45, 70, 50)), (1, -850, (95, 0, 70, 45, 70, 50)), (2, 110, (0, -10, -55, 60, 70, 65)),
        (3, 8, (-20, -45, -15, 18, 15, 15)), (8, 170, (-40, 40, -60, 45, 22, 25)), (8, 170, (-40, 40, 60, 45, 22, 25)),
        (10, 350, (0, 70, 0, 200, 18, 20)),
    ):  # fmt: skip
        here = blob(*shape)
        ct[here], labels[here] = hu, value
    noise = np.random.default_rng(0).normal(0, 12, SHAPE)
    return np.clip(ct + noise, -1024, 3071).astype(np.int16), labels


AFFINE = np.array([[-SPACING_MM, 0, 0, 160.0], [0, -SPACING_MM, 0, 150.0], [0, 0, SPACING_MM, -100.0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    ct, labels = body()
    write_volume(Volume(ct, AFFINE), folder / "ct.nii.gz")
    write_volume(Volume(labels, AFFINE), folder / "organs.nii.gz")
    return folder


@dataclass
class Place:
    """Where one case works: the good scan, an empty folder for bad files, and what to write with."""

    scan: Path
    folder: Path

    def volume(self, name: str, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
        write_volume(Volume(array, affine), self.folder / name)
        return self.folder / name

    def nibabel(self, name: str, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
        """Written with nibabel, for what our own writer refuses."""
        import nibabel

        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array), affine), self.folder / name)
        return self.folder / name

    def ct(self) -> np.ndarray:
        return body()[0]

    def labels(self) -> np.ndarray:
        return body()[1]


def text(place: Place) -> Path:
    (place.folder / "ct.nii.gz").write_text("this is not an image")
    return place.folder / "ct.nii.gz"


def truncated(place: Place) -> Path:
    data = (place.scan / "ct.nii.gz").read_bytes()
    (place.folder / "ct.nii.gz").write_bytes(data[: len(data) // 2])
    return place.folder / "ct.nii.gz"


def truncated_inside(place: Place) -> Path:
    data = gzip.decompress((place.scan / "ct.nii.gz").read_bytes())
    (place.folder / "ct.nii").write_bytes(data[: len(data) // 2])
    return place.folder / "ct.nii"


def zipped(place: Place) -> Path:
    with zipfile.ZipFile(place.folder / "ct.nii.gz", "w") as archive:
        archive.write(place.scan / "ct.nii.gz", "ct.nii")
    return place.folder / "ct.nii.gz"


def four_d(place: Place) -> Path:
    return place.nibabel("ct.nii.gz", np.stack([place.ct()[:20].T] * 2, axis=-1))


def with_nan(place: Place) -> Path:
    array = place.ct().astype(np.float32)
    array[3, 4, 5] = np.nan
    return place.nibabel("ct.nii.gz", array.T)


def one_slice(place: Place) -> Path:
    return place.nibabel("ct.nii.gz", place.ct()[:1].T)


def like_mr(place: Place) -> Path:
    return place.volume("ct.nii.gz", np.clip((place.ct().astype(int) + 1000) // 2, 0, None).astype(np.int16))


def sheared(place: Place) -> Path:
    affine = AFFINE.copy()
    affine[1, 2] = 0.8
    return place.nibabel("ct.nii.gz", place.ct().T, affine)


def no_dicom(place: Place) -> Path:
    (place.folder / "series").mkdir()
    return place.folder / "series"


def other_grid(place: Place) -> Path:
    return place.volume("organs.nii.gz", place.labels()[:-3])


def shifted(place: Place) -> Path:
    affine = AFFINE.copy()
    affine[:3, 3] += 12
    return place.volume("organs.nii.gz", place.labels(), affine)


def no_organs(place: Place) -> Path:
    return place.volume("organs.nii.gz", np.zeros(SHAPE, np.uint8))


def float_labels(place: Place) -> Path:
    return place.volume("organs.nii.gz", place.labels().astype(np.float32) * 0.5)


def negative_labels(place: Place) -> Path:
    return place.volume("organs.nii.gz", place.labels().astype(np.int16) - 1)


def version_1(place: Place) -> Path:
    array = place.labels()
    array[array == 10] = 92
    return place.volume("organs.nii.gz", array)


def a_file(place: Place) -> Path:
    (place.folder / "taken").write_text("mine")
    return place.folder / "taken"


def in_use(place: Place) -> Path:
    (place.folder / "taken").mkdir()
    (place.folder / "taken" / "mine.txt").write_text("mine")
    return place.folder / "taken"


def below_a_file(place: Place) -> Path:
    return a_file(place) / "deeper" / "out"


def not_writable(place: Place) -> str:
    if not os.path.isdir("/proc/self"):
        pytest.skip("needs a folder that nobody can write to")
    return "/proc/self/pasta/out"


# name: (options that replace or extend the good command line, what the line must say). A function makes the bad file.
CASES: dict[str, tuple[dict, str]] = {
    "ct missing": ({"ct": "nowhere.nii.gz"}, "does not exist"),
    "ct is text": ({"ct": text}, "ct.nii.gz"),
    "ct truncated": ({"ct": truncated}, "again"),
    "ct truncated, not packed": ({"ct": truncated_inside}, "truncated"),
    "ct is a zip": ({"ct": zipped}, "NIfTI"),
    "ct is 4d": ({"ct": four_d}, "4D"),
    "ct holds nan": ({"ct": with_nan}, "NaN"),
    "ct is one slice": ({"ct": one_slice}, "whole series"),
    "ct is an mr": ({"ct": like_mr}, "HU"),
    "ct is sheared": ({"ct": sheared}, "shear"),
    "ct folder without dicom": ({"ct": no_dicom}, "DICOM"),
    "organs missing": ({"organs": "nowhere.nii.gz"}, "does not exist"),
    "organs on another grid": ({"organs": other_grid}, "grid"),
    "organs shifted": ({"organs": shifted}, "grid"),
    "organs empty": ({"organs": no_organs}, "organs.nii.gz"),
    "organs are fractions": ({"organs": float_labels}, "whole number"),
    "organs are negative": ({"organs": negative_labels}, "negative"),
    "organs of another scheme": ({"organs": version_1, "organ-scheme": "pasta"}, "--organ-scheme"),
    "scheme unknown": ({"organ-scheme": "totalseg-v9"}, "totalseg-v2"),
    "organ missing": ({"lesion": "bladder_cancer"}, "bladder"),
    "type unknown": ({"lesion": "liver_tumr"}, "did you mean liver_tumor"),
    "type without resemblance": ({"lesion": "xyz"}, "kidney_stone"),
    "attribute without value": ({"attr": "density"}, "key=option"),
    "attribute unknown": ({"attr": "colour=red"}, "heterogeneity"),
    "attribute of the scan": ({"attr": "enhancement=Plain CT"}, "scan of the other phase"),
    "attribute that is an option": ({"attr": "size=3x3x3"}, "--size"),
    "option unknown": ({"attr": "density=Purple"}, "Hypodense"),
    "wall thickening of the liver": ({"attr": "shape=Wall thickening"}, "possible"),
    "cyst that invades": ({"lesion": "kidney_cyst", "attr": "invasion=Close relationship"}, "cannot have invasion"),
    "attribute twice": ({"attr": "density=Hypodense", "more": ["--attr", "density=Hyperdense"]}, "once"),
    "density twice": ({"attr": "density=Hypodense", "delta-hu": "-40"}, "one of them"),
    "delta beyond ct": ({"delta-hu": "90000"}, "3000"),
    "delta not a number": ({"delta-hu": "dark"}, "--delta-hu"),
    "size too big": ({"size": "250x250x250"}, "mm"),
    "size beyond any body": ({"size": "1000"}, "250"),
    "size zero": ({"size": "0x10x10"}, "above 0"),
    "size negative": ({"size": "-5x10x10"}, "above 0"),
    "size garbled": ({"size": "big"}, "ZxXxY"),
    "size of two numbers": ({"size": "10x10"}, "ZxXxY"),
    "size nan": ({"size": "nanx1x1"}, "ZxXxY"),
    "place outside": ({"at": "900,0,0"}, "outside the scan"),
    "place garbled": ({"at": "left"}, "R,A,S"),
    "place of two numbers": ({"at": "1,2"}, "R,A,S"),
    "one place for several": ({"at": "0,0,0", "count": "3"}, "--at"),
    "count zero": ({"count": "0"}, "1 to 100"),
    "count garbled": ({"count": "many"}, "--count"),
    "seed negative": ({"seed": "-1"}, "--seed"),
    "mass effect negative": ({"mass-effect": "-2"}, "0 to 8"),
    "checkpoint missing": ({"refine": "nowhere.pth"}, "--refine"),
    "checkpoint that is none": ({"refine": text}, "not a checkpoint"),
    "out is a file": ({"out": a_file}, "is a file"),
    "out is in use": ({"out": in_use}, "--overwrite"),
    "out below a file": ({"out": below_a_file}, "below a file"),
    "out not writable": ({"out": not_writable}, "cannot be written"),
    "no lesion": ({"lesion": None}, "--lesion"),
    "option that does not exist": ({"more": ["--sise", "3"]}, "--size"),
}  # fmt: skip


def arguments(place: Place, changes: dict) -> list[str]:
    chosen = {
        "ct": place.scan / "ct.nii.gz",
        "organs": place.scan / "organs.nii.gz",
        "lesion": "liver_tumor",
        "out": place.folder / "out",
    }
    chosen |= {key: value(place) if callable(value) else value for key, value in changes.items() if key != "more"}
    return [
        "synth",
        *(item for key, value in chosen.items() if value is not None for item in (f"--{key}", str(value))),
        *changes.get("more", []),
    ]


def files_in(folder: Path) -> set:
    return {item.relative_to(folder) for item in folder.rglob("*")}


def check(code: int, stdout: str, stderr: str, wanted: str) -> None:
    assert code == 2, stderr or stdout
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("pasta: ")
    assert wanted.lower() in lines[0].lower(), lines[0]
    assert "Traceback" not in stderr
    assert stdout == ""


@pytest.mark.parametrize("name", CASES)
def test_one_clear_line_and_nothing_written(name, scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes, wanted = CASES[name]
    line = arguments(Place(scan, tmp_path), changes)
    before = files_in(tmp_path)
    result = CliRunner().invoke(app, line)
    check(result.exit_code, result.stdout, result.stderr, wanted)
    assert files_in(tmp_path) == before


OTHER_COMMANDS: dict[str, tuple[list[str], str]] = {
    "gallery with half a scan": (["gallery", "--ct", "ct.nii.gz", "--out", "out"], "--organs"),
    "gallery of an unknown type": (["gallery", "--lesion", "wart", "--out", "out"], "lesion type"),
    "gallery without a folder": (["gallery"], "--out"),
    "demo with half a scan": (["demo", "--organs", "o.nii.gz", "--out", "out"], "--ct"),
    "demo with a missing scan": (
        ["demo", "--ct", "a.nii.gz", "--organs", "o.nii.gz", "--out", "out"],
        "does not exist",
    ),
    "demo with a coarse phantom": (["demo", "--spacing", "50", "--out", "out"], "--spacing"),
    "organs without ct": (["organs", "--ct", "nowhere", "--out", "o.nii.gz"], "does not exist"),
    "organs as text": (["organs", "--ct", ".", "--out", "o.txt"], ".nii.gz"),
    "organs into nowhere": (["organs", "--ct", ".", "--out", "no/folder/o.nii.gz"], "folder"),
    "unknown command": (["synthesize"], "synth"),
}


@pytest.mark.parametrize("name", OTHER_COMMANDS)
def test_other_commands_refuse_as_clearly(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line, wanted = OTHER_COMMANDS[name]
    result = CliRunner().invoke(app, line)
    check(result.exit_code, result.stdout, result.stderr, wanted)
    assert files_in(tmp_path) == set()


def test_a_real_process_says_the_same(scan, tmp_path):
    line = arguments(Place(scan, tmp_path), {"size": "big"})
    done = subprocess.run(
        [sys.executable, "-m", "PASTALib", *line], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    check(done.returncode, done.stdout, done.stderr, "ZxXxY")


def test_json_mode_keeps_stdout_empty_on_bad_input(scan, tmp_path):
    line = arguments(Place(scan, tmp_path), {"size": "big", "more": ["--json"]})
    result = CliRunner().invoke(app, line)
    check(result.exit_code, result.stdout, result.stderr, "ZxXxY")


def test_debug_shows_where(scan, tmp_path):
    result = CliRunner().invoke(app, [*arguments(Place(scan, tmp_path), {"size": "big"}), "--debug"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("pasta: ")
