"""Configuring and installing the extension with the stub of Slicer's build: ``install(configure(ROOT, build), folder) / SCRIPTED``.

Tests that call this are skipped, with a reason, where CMake is not installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .file_lists import ROOT

STUB = ROOT / "Testing" / "cmakestub"
SCRIPTED = Path("lib", "Slicer-5.12", "qt-scripted-modules")  # of a package: Slicer finds modules and library there


def tool(name: str) -> str | None:
    """A program of CMake's, on the path or in the environment of this Python."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def needed(name: str) -> str:
    """Its path; without it the test is skipped."""
    found = tool(name)
    if found is None:
        pytest.skip(f"{name} is not installed; pip install cmake ninja brings it")
    return found


def run(*line, cwd=None) -> str:
    """What a program prints; AssertionError with what it complains of when it fails."""
    done = subprocess.run([str(word) for word in line], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{line[0]} {line[1]}: {done.stderr[-3000:]}"
    return done.stdout


def configure(source: Path, build: Path) -> Path:
    """Configure the extension at ``source`` in ``build``, and return that. AssertionError with CMake's complaint.

    Nothing is compiled, so this Python stands in for the compilers that ``project`` asks for.
    """
    options = [f"-DSlicer_DIR={STUB}"]
    for language in ("C", "CXX"):
        options += [f"-DCMAKE_{language}_COMPILER={sys.executable}", f"-DCMAKE_{language}_COMPILER_FORCED=ON"]
    if sys.platform != "win32" and tool("make") is None:
        options += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={needed('ninja')}"]
    run(needed("cmake"), "-S", source, "-B", build, *options)
    return build


def install(build: Path, folder: Path) -> Path:
    """Put into ``folder`` what a user's Extensions Manager unpacks, and return it."""
    run(needed("cmake"), "--install", build, "--prefix", folder)
    return folder
