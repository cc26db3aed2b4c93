"""Rules that a module's source and panel keep, read without Slicer: parameters and widgets fit, texts can be translated, files stay small."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as xml
from functools import cache
from pathlib import Path

import pytest

from PASTALib.attributes import LEARNED
from Testing.packaging.file_lists import ROOT, modules

LONGEST = 350  # lines of a module's script
_UI_USE = re.compile(r"(?<![\w.])(?:self\.)?_?ui\.([A-Za-z_]\w*)")
# Of the loaded panel itself, whatever widgets it has.
_PANEL = {"setMRMLScene", "layout", "findChild"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def script(name: str) -> Path:
    return ROOT / name / f"{name}.py"


@cache
def panel(name: str) -> xml.Element:
    return xml.parse(ROOT / name / "Resources" / "UI" / f"{name}.ui").getroot()


def widgets(name: str) -> set[str]:
    return {item.get("name") for item in panel(name).iter() if item.tag in ("widget", "layout", "action")}


def bound(name: str) -> list[str]:
    """Parameters that widgets of the panel are bound to."""
    properties = (item for item in panel(name).iter("property") if item.get("name") == "SlicerParameterName")
    return [item.findtext("string") for item in properties]


def parameters(name: str) -> set[str]:
    (node,) = (
        item for item in tree(script(name)).body if isinstance(item, ast.ClassDef) and "ParameterNode" in item.name
    )
    return {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}


def library() -> list[Path]:
    return sorted((ROOT / "PASTALib" / "gui").glob("*.py"))


def untranslatable(source: str) -> list[str]:
    """Calls of ``_`` and ``translate`` whose text is put together before it can be looked up."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_", "translate"):
            text = node.args[-1] if node.args else None
            if not (isinstance(text, ast.Constant) and isinstance(text.value, str) and text.value):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("name", modules())
def test_a_script_stays_small(name):
    assert len(script(name).read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("name", modules())
def test_parameters_and_widgets_fit(name):
    """What a widget is bound to is a parameter; a parameter without widget is set by the code."""
    assert not set(bound(name)) - parameters(name)
    assert len(bound(name)) == len(set(bound(name))), "two widgets for one parameter"
    code = "\n".join(path.read_text(encoding="utf-8") for path in (script(name), *library()))
    by_name = set(LEARNED) if "setattr(parameters, key" in code else set()  # attributes are set in a loop
    loose = {item for item in parameters(name) - set(bound(name)) - by_name if not re.search(rf"\.{item}\b", code)}
    assert not loose, f"no widget and no code sets {loose}"


@pytest.mark.parametrize("name", modules())
def test_widgets_that_the_script_names_are_in_the_panel(name):
    used = set(_UI_USE.findall(script(name).read_text(encoding="utf-8")))
    assert used, "the script uses no widget by name"
    assert not used - widgets(name) - _PANEL


def test_widgets_that_the_shared_code_names_are_in_a_panel():
    known = set().union(*map(widgets, modules())) | _PANEL
    for path in library():
        unknown = set(_UI_USE.findall(path.read_text(encoding="utf-8"))) - known
        assert not unknown, f"{path.name}: {unknown}"


@pytest.mark.parametrize("path", [*map(script, modules()), *library()], ids=lambda path: path.stem)
def test_texts_are_looked_up_whole(path):
    assert not untranslatable(path.read_text(encoding="utf-8"))


def test_what_cannot_be_looked_up_is_found():
    assert untranslatable('_(f"{n} lesions")') and untranslatable('_("a" + b)') and untranslatable("_(text)")
    assert not untranslatable('_("{n} lesions").format(n=3)')


@pytest.mark.parametrize("name", modules())
def test_logic_shows_nothing(name):
    """Logic classes use neither Qt nor message boxes: scripts call them."""
    (logic,) = (
        item for item in tree(script(name)).body if isinstance(item, ast.ClassDef) and item.name == f"{name}Logic"
    )
    text = ast.unparse(logic)
    assert not re.search(r"\bqt\.|\bctk\.|slicer\.util\.\w*Display\(", text)
