"""The lists of installed files, in both directions: all that a package needs is named, and all that is named is there."""

from __future__ import annotations

import ast

import pytest

from Testing.packaging.file_lists import COMMAND_LINE, ROOT, file_lists, listed_modules, modules

REWRITE = "python -m Testing.packaging.update_lists writes it"


@pytest.mark.parametrize("files", file_lists(), ids=str)
def test_every_file_is_listed_and_every_listed_file_is_there(files):
    assert not files.advice(), "\n".join([f"{files} ({REWRITE}):", *files.advice()])


def test_every_module_is_built():
    assert sorted(listed_modules()) == modules(), f"CMakeLists.txt, before ## NEXT_MODULE ({REWRITE})"


@pytest.mark.parametrize("name", modules())
def test_a_module_folder_holds_one_script(name):
    found = {path.name for path in (ROOT / name).glob("*.py")}
    assert found == {f"{name}.py"}, (
        f"Slicer takes each .py file directly in {name}/ as a module; move helpers to PASTALib"
    )


def test_lists_hold_what_placing_a_lesion_reads():
    library, resources = (files.listed() for files in file_lists()[:2])
    assert {"PASTALib/__init__.py", "PASTALib/synthesis/generator.py", "PASTALib/worker/__main__.py"} <= set(library)
    assert {"PASTALib/synthesis/priors.toml", "PASTALib/anatomy/data/totalsegmentator_classes.json"} <= set(resources)
    assert len(library) > 100


def test_nothing_installed_imports_what_is_not():
    """Every import of PASTALib in an installed file, at whatever depth, leads to an installed file; so none leads to the command line."""
    scripts = [(files.folder / name) for files in file_lists() for name in files.listed() if name.endswith(".py")]
    names = {
        path.relative_to(ROOT).with_suffix("").as_posix() for path in scripts if path.is_relative_to(ROOT / "PASTALib")
    }
    wrong = []
    for path in scripts:
        for line, module, imported in imports_of_the_library(path):
            place = module.replace(".", "/")
            modules_named = [f"{place}/{name}" for name in imported if (ROOT / place / f"{name}.py").is_file()]
            packages_named = [f"{place}/{name}/__init__" for name in imported if (ROOT / place / name).is_dir()]
            own = [place if (ROOT / f"{place}.py").is_file() else f"{place}/__init__"]
            wrong += [f"{path}:{line} imports {n}" for n in own + modules_named + packages_named if n not in names]
    assert len(names) > 100 and not wrong, wrong
    assert not [name for name in names if f"{name}.py".startswith(COMMAND_LINE)]


def imports_of_the_library(path):
    """(line, module, names imported from it) of every import of PASTALib in a file."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, ()) for alias in node.names if alias.name.split(".")[0] == "PASTALib")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module.split(".")[0] == "PASTALib":
                yield node.lineno, module, [alias.name for alias in node.names]
