"""What the README shows is what there is: its Python runs, its commands and options exist, its pictures and links are there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code", [body for kind, body in BLOCKS if kind == "python"], ids=lambda body: body.split("\n")[0]
)
def test_python_runs(code, tmp_path, monkeypatch):
    if "networks" in code:
        pytest.importorskip("torch")
        from PASTALib.volume import Volume, write_volume

        hu = np.random.default_rng(0).normal(0, 90, (30, 40, 40)).astype(np.int16)
        write_volume(Volume(hu, np.diag([-2.0, -2.0, 3.0, 1.0])), tmp_path / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def commands():
    """Every ``pasta …`` and ``python -m training …`` line of the README's plain blocks, continued lines joined."""
    for kind, body in BLOCKS:
        if kind == "":
            for line in body.replace("\\\n", " ").splitlines():
                if line.strip().startswith(("pasta ", "python -m training ")):
                    yield " ".join(line.split())


@pytest.mark.parametrize("line", list(commands()))
def test_commands_and_options_exist(line):
    from PASTALib.cli import app
    from training.cli import app as training

    if line.startswith("python"):
        app, line = training, line.removeprefix("python -m ")
    _, name, *rest = line.partition(" #")[0].split()
    names = [name, rest.pop(0)] if name in ("study", "models") else [name]
    done = CliRunner().invoke(app, [*names, "--help"])
    assert done.exit_code == 0, line
    for option in (word for word in rest if word.startswith("--")):
        assert option in done.output, f"{line}: no {option}"


def test_options_named_in_the_text_exist():
    from PASTALib.cli import app
    from training.cli import app as training

    helps = ""
    for name in ("synth", "segment", "report", "features", "models", "demo"):
        helps += CliRunner().invoke(app, [name, "--help"]).output
    helps += CliRunner().invoke(app, ["models", "fetch", "--help"]).output
    for name in ("generate", "train-ddpm", "pretrain-segmentation", "benchmark"):
        helps += CliRunner().invoke(training, [name, "--help"]).output
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    for option in set(re.findall(r"`(--[a-z-]+)", prose)) - {"--ml"}:  # --ml is TotalSegmentator's
        assert option in helps, option


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"\bmake ([a-z]+)", TEXT)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_pictures_and_links_are_there():
    found = re.findall(r"\]\(((?!https?:)[^)#]+)\)", TEXT)
    assert len(found) >= 4
    for link in found:
        assert (ROOT / link).exists(), link
