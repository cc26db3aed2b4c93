"""Imports run one way, and placing a lesion needs only what Slicer bundles. Read from the source, file by file."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SLICER = {"slicer", "vtk", "qt", "ctk", "vtkmodules", "PythonQt", "PySide6", "PyQt5"}
TORCH = {"torch", "monai", "lightning", "nnunetv2"}
BUNDLED = {"numpy", "scipy", "SimpleITK", "tomli", "PASTALib"} | set(sys.stdlib_module_names)
TORCH_FOLDERS = ("refinement", "networks", "inference")
CORE_FILES = ("taxonomy", "attributes", "volume", "organs", "templates", "errors")  # and all that they import in turn
# The only optional packages that core files may import, inside a function and with a clear message when missing.
LAZY = {"PASTALib/organs.py": {"totalsegmentator"}}


@dataclass(frozen=True)
class Import:
    """One imported module: absolute dotted name, its file, line, and whether it runs when the file is imported."""

    module: str
    file: str
    line: int
    at_file_scope: bool

    @property
    def top(self) -> str:
        return self.module.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_of(path: Path, root: Path = ROOT) -> list[Import]:
    """Every import of a file, relative ones resolved; those under TYPE_CHECKING are left out."""
    file = path.relative_to(root).as_posix()
    package = list(path.relative_to(root).with_suffix("").parts[:-1])
    found = []

    def visit(node: ast.AST, at_file_scope: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if is_type_checking(child):
                continue
            if isinstance(child, ast.Import):
                found.extend(Import(alias.name, file, child.lineno, at_file_scope) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                module = ".".join([*base, *([child.module] if child.module else [])])
                names = (
                    [module]
                    if child.module and not child.level
                    else [f"{module}.{alias.name}" for alias in child.names]
                )
                found.extend(Import(name, file, child.lineno, at_file_scope) for name in names)
            visit(child, at_file_scope and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))

    visit(ast.parse(path.read_text(encoding="utf-8"), file), True)
    return found


def files_of(*parts: str) -> list[Path]:
    return sorted((ROOT.joinpath(*parts)).rglob("*.py"))


LIBRARY = [item for path in files_of("PASTALib") for item in imports_of(path)]
TRAINING = [item for path in files_of("training") for item in imports_of(path)]


def in_folder(item: Import, *folders: str) -> bool:
    return item.file.split("/")[1] in folders


def broken(items, rule) -> list[str]:
    return [str(item) for item in items if rule(item)]


def file_of_module(module: str) -> str | None:
    """Repository path of the file behind a dotted PASTALib name (a name inside a module counts as that module)."""
    parts = module.split(".")
    while len(parts) > 1:
        for candidate in (Path(*parts).with_suffix(".py"), Path(*parts, "__init__.py")):
            if (ROOT / candidate).is_file():
                return candidate.as_posix()
        parts.pop()
    return None


def core_files() -> set[str]:
    """Synthesis, the core files, and every file of the library that they import when they are imported."""
    todo = [f"PASTALib/{name}.py" for name in CORE_FILES]
    todo += [path.relative_to(ROOT).as_posix() for path in files_of("PASTALib", "synthesis")]
    seen: set[str] = set()
    while todo:
        file = todo.pop()
        if file in seen:
            continue
        seen.add(file)
        for item in LIBRARY:
            if item.file == file and item.at_file_scope and item.top == "PASTALib":
                target = file_of_module(item.module)
                if target:
                    todo.append(target)
    return seen


def test_the_scan_finds_imports():
    assert len(LIBRARY) > 100
    assert {"numpy", "scipy", "PASTALib"} <= {item.top for item in LIBRARY}
    assert "PASTALib/synthesis/draw.py" in core_files()


def test_only_mrml_and_gui_touch_slicer_vtk_or_qt():
    wrong = broken(LIBRARY, lambda i: i.top in SLICER and not in_folder(i, "mrml", "gui"))
    assert not wrong, wrong


def test_mrml_has_no_qt():
    wrong = broken(LIBRARY, lambda i: in_folder(i, "mrml") and i.top in {"qt", "ctk", "PythonQt", "PySide6"})
    assert not wrong, wrong


def test_nothing_below_imports_mrml_or_gui():
    def rule(item):
        layer = item.module.split(".")[1] if item.module.startswith("PASTALib.") else ""
        return (layer == "gui" and not in_folder(item, "gui")) or (
            layer == "mrml" and not in_folder(item, "mrml", "gui")
        )

    assert not broken(LIBRARY, rule), broken(LIBRARY, rule)


def test_the_library_does_not_know_training():
    wrong = broken(LIBRARY, lambda i: i.top == "training")
    assert not wrong, wrong


def test_training_stays_away_from_slicer():
    def rule(item):
        return item.top in SLICER or item.module.startswith(("PASTALib.gui", "PASTALib.mrml"))

    assert not broken(TRAINING, rule), broken(TRAINING, rule)


def test_torch_is_loaded_only_where_it_works():
    wrong = broken(LIBRARY, lambda i: i.top in TORCH and not in_folder(i, *TORCH_FOLDERS))
    assert not wrong, wrong


def test_core_needs_only_what_slicer_bundles():
    core = core_files()
    wrong = broken(LIBRARY, lambda i: i.file in core and i.top not in BUNDLED | LAZY.get(i.file, set()))
    assert not wrong, wrong
    early = broken(LIBRARY, lambda i: i.file in LAZY and i.at_file_scope and i.top in LAZY[i.file])
    assert not early, early


def test_synthesis_does_not_reach_up():
    allowed = {
        "synthesis",
        "taxonomy",
        "attributes",
        "errors",
        "organs",
        "templates",
        "volume",
    }

    def rule(item):
        return in_folder(item, "synthesis") and item.top == "PASTALib" and item.module.split(".")[1] not in allowed

    assert not broken(LIBRARY, rule), broken(LIBRARY, rule)


def test_the_command_line_starts_without_heavy_packages():
    heavy = {"SimpleITK", "numpy", "scipy", "matplotlib", "nibabel", "PIL"} | TORCH

    def rule(item):
        return (
            (item.file == "PASTALib/cli.py" or in_folder(item, "commands")) and item.at_file_scope and item.top in heavy
        )

    assert not broken(LIBRARY, rule), broken(LIBRARY, rule)


BLOCKER = """
import importlib.abc, sys
FORBIDDEN = {forbidden!r}
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in FORBIDDEN:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
import importlib
for name in {modules!r}:
    importlib.import_module(name)
loaded = sorted(FORBIDDEN & {{name.split(".")[0] for name in sys.modules}})
assert not loaded, loaded
"""


def run_blocked(modules, forbidden):
    code = BLOCKER.format(modules=sorted(modules), forbidden=set(forbidden))
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_core_imports_in_an_environment_with_nothing_else():
    modules = {file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in core_files()}
    others = {"nibabel", "typer", "rich", "matplotlib", "PIL", "pydicom", "skimage", "pandas", "totalsegmentator"}
    done = run_blocked(modules, others | TORCH | SLICER)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_command_line_loads_nothing_heavy():
    done = run_blocked({"PASTALib.cli"}, {"SimpleITK", "scipy", "matplotlib", "nibabel", "PIL"} | TORCH | SLICER)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    "source,module,at_file_scope",
    [
        ("import torch", "torch", True),
        ("def f():\n    import torch.nn", "torch.nn", False),
        ("class A:\n    import vtk", "vtk", True),
        ("try:\n    import slicer\nexcept ImportError:\n    pass", "slicer", True),
        ("from . import scan", "PASTALib.synthesis.scan", True),
        ("from ..gui import widgets", "PASTALib.gui.widgets", True),
        ("from ..volume import Volume", "PASTALib.volume.Volume", True),
    ],
)
def test_the_scan_reads_every_kind_of_import(tmp_path, source, module, at_file_scope):
    path = tmp_path / "PASTALib" / "synthesis" / "example.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    (found,) = imports_of(path, tmp_path)
    assert (found.module, found.at_file_scope) == (module, at_file_scope)
