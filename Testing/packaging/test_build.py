"""Configuring, listing the tests of, and installing the extension without a Slicer; and what the installed tree can do by itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from Testing.packaging import update_lists
from Testing.packaging.cmake import SCRIPTED, configure, install, needed, run
from Testing.packaging.file_lists import ROOT, file_lists, modules

# Windows allows 260 characters; this much goes to the user's folder, Slicer's and that of its extensions.
LONGEST = 260 - len(
    r"C:\Users\a.long.user.name\AppData\Local\slicer.org\3D Slicer 5.12.3\slicer.org\Extensions-34000\PASTA" + "\\"
)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return configure(ROOT, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def package(build, tmp_path_factory):
    """What a user's Extensions Manager unpacks."""
    return install(build, tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def tree(package):
    """The folder in which Slicer finds modules and library."""
    return package / SCRIPTED


def ctests_of(build: Path) -> set[str]:
    return set(re.findall(r"Test +#\d+: (\S+)", run(needed("ctest"), "-N", cwd=build)))


def ctests_expected(names) -> set[str]:
    return {f"py_{name}" for name in names} | {f"py_nomainwindow_qSlicer{name}ModuleGenericTest" for name in names}


def test_every_module_has_its_tests(build):
    assert ctests_of(build) == ctests_expected(modules())


def test_the_tree_holds_the_listed_files_and_nothing_else(tree):
    found = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    assert found == {name for files in file_lists() for name in files.listed()}
    for files in file_lists():
        for name in files.listed():
            assert (tree / name).read_bytes() == (files.folder / name).read_bytes(), name


def test_the_tree_does_not_hold_the_command_line(tree):
    assert not (tree / "PASTALib" / "commands").exists() and not (tree / "PASTALib" / "cli.py").exists()
    assert not (tree / "training").exists() and not (tree / "Testing").exists()


def test_paths_fit_windows(package):
    longest = max((str(path.relative_to(package)) for path in package.rglob("*")), key=len)
    assert len(longest) <= LONGEST, longest


BARE = """
import importlib.abc, json, sys

class OnlySlicers(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in ALLOWED and not top.startswith("_sysconfigdata"):
            raise ImportError("not in Slicer: " + name)

ALLOWED = {"PASTALib", "numpy", "scipy", "SimpleITK"} | set(sys.stdlib_module_names)
if sys.version_info < (3, 11):  # older than any Slicer's Python
    ALLOWED |= {"tomli"}
sys.meta_path.insert(0, OnlySlicers())
sys.path.insert(0, sys.argv[1])
"""

PLACE_A_LESION = """
import numpy as np
import PASTALib
from PASTALib.phantom import make_phantom
from PASTALib.synthesis.generator import insert, synthesise
from PASTALib.synthesis.scan import prepare_scan
from PASTALib.synthesis.spec import LesionRequest

phantom = make_phantom(4.0, region="abdomen", workers=1)
scan = prepare_scan(phantom.ct, phantom.organs)
before = scan.ct.array.copy()
result = synthesise(scan, LesionRequest("liver_tumor", seed=3))
insert(scan, result)
print(json.dumps({
    "library": PASTALib.__file__, "changed": int(np.count_nonzero(before != scan.ct.array)), "text": result.report.to_sentence(),
}))
"""

READ_THE_DATA = """
from PASTALib import models
from PASTALib.anatomy import organ_classes, report_text
from PASTALib.synthesis.priors import PRIORS_FILE

print(json.dumps({
    "published": len(models.published_models()), "bundled": sorted(path.name for path in models.bundled_folder().glob("*")),
    "folder": str(models.bundled_folder()), "priors": str(PRIORS_FILE),
}))
"""


def in_bare_python(code: str, tree: Path, cwd: Path) -> dict:
    """What ``code`` prints, run from the tree by a Python that has what Slicer's has, and no more."""
    return json.loads(run(sys.executable, "-I", "-B", "-c", BARE + code, tree, cwd=cwd).splitlines()[-1])


def test_a_bare_python_places_a_lesion(tree, tmp_path):
    told = in_bare_python(PLACE_A_LESION, tree, tmp_path)
    assert Path(told["library"]).is_relative_to(tree)
    assert told["changed"] > 20 and "liver" in told["text"]


def test_data_and_weights_are_found_in_the_tree(tree, tmp_path):
    told = in_bare_python(READ_THE_DATA, tree, tmp_path)
    assert told["published"] > 0 and Path(told["priors"]).is_file() and Path(told["priors"]).is_relative_to(tree)
    assert Path(told["folder"]).resolve() == (tree / "Resources" / "Models").resolve()
    listed = {name for files in file_lists() for name in files.listed() if name.startswith("Resources/Models/")}
    assert {f"Resources/Models/{name}" for name in told["bundled"]} == listed


def test_the_worker_starts_from_the_tree(tree, tmp_path):
    worker = tree / "PASTALib" / "worker" / "__main__.py"
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-u", worker], input='{"ping": 7}\n{"quit": true}\n', cwd=tmp_path, text=True, capture_output=True,
        timeout=120,
    )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines() if line]
    assert {"event": "pong", "ping": 7} in events, done.stderr[-2000:]


# --- the stub and the tool that writes the lists, on a small extension -------------------------------------------------


@pytest.fixture
def clone(tmp_path):
    """A clone without weights, and with a module that is new."""
    root = tmp_path / "clone"
    shutil.copytree(ROOT / "PASTALib", root / "PASTALib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("CMakeLists.txt", "PASTASynth/CMakeLists.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    make(root, "PASTASynth/PASTASynth.py", "PASTANew/PASTANew.py", "PASTANew/Resources/UI/PASTANew.ui")
    text = (root / "PASTASynth" / "CMakeLists.txt").read_text()
    (root / "PASTANew" / "CMakeLists.txt").write_text(text.replace("MODULE_NAME PASTASynth", "MODULE_NAME PASTANew"))
    update_lists.main(root)
    return root


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x = 1\n")


def test_a_new_module_needs_only_its_files(clone, tmp_path, capsys):
    make(clone, "PASTANew/Resources/new.json")
    update_lists.main(clone)
    assert "Resources/new.json" in capsys.readouterr().out
    update_lists.main(clone)
    assert capsys.readouterr().out == ""
    build = configure(clone, tmp_path / "build")
    assert ctests_of(build) == ctests_expected(["PASTANew", "PASTASynth"])
    tree = install(build, tmp_path / "package") / SCRIPTED
    assert (tree / "PASTANew.py").is_file() and (tree / "Resources" / "UI" / "PASTANew.ui").is_file()
    assert (tree / "Resources" / "new.json").is_file()


def test_files_that_come_and_go_are_named(clone):
    make(
        clone,
        "PASTALib/fresh/__init__.py",
        "PASTALib/fresh/table.json",
        "PASTALib/__pycache__/a.pyc",
        "PASTANew/Testing/t.py",
    )
    (clone / "PASTANew" / "Resources" / "UI" / "PASTANew.ui").unlink()
    advice = {line for files in file_lists(clone) for line in files.advice()}
    new = {
        "add     PASTALib/fresh/__init__.py",
        "add     PASTALib/fresh/table.json",
        "remove  Resources/UI/PASTANew.ui",
    }
    assert advice == new
    update_lists.main(clone)
    assert not [line for files in file_lists(clone) for line in files.advice()]


@pytest.mark.parametrize(
    "line, named, complaint",
    [
        ("PASTANew.py", "PASTANew.py\n  Gone.py", "Gone.py does not exist"),
        ("PASTANew.py", "PASTANew.py\n  ../PASTALib/errors.py", "not inside"),
        ("PASTANew.py", "PASTANew.py\n  PASTALib/errors.py", "installed twice"),
        ("NAME ${MODULE_NAME}", "TITLE ${MODULE_NAME}", "unknown keywords"),
    ],
)
def test_the_stub_refuses_what_slicer_would_refuse_or_lose(clone, tmp_path, line, named, complaint):
    make(clone, "PASTANew/PASTALib/errors.py")
    cmake = clone / "PASTANew" / "CMakeLists.txt"
    cmake.write_text(cmake.read_text().replace(f"  {line}\n", f"  {named}\n", 1))
    with pytest.raises(AssertionError, match=complaint):
        configure(clone, tmp_path / "build")
