"""What the extensions index checks of a new extension, replayed: its own checks, and those questions of its reviewers that have a plain answer.

Not replayed, because they need the network: that the repository can be cloned and has the topic ``3d-slicer-extension``, and that the
picture addresses answer. Here the addresses must lead to files of this repository.
"""

from __future__ import annotations

import ast
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from Testing.packaging.draw_icons import ICONS, png
from Testing.packaging.file_lists import ROOT, file_lists, listed_modules, modules

ENTRY = ROOT / "Resources" / "PASTA.json"
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROW = r"^set\({}\s+\"([^\"]+)\"\s*\)"

SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.2.json#"
)
REQUIRED = {"$schema": str, "category": str, "scm_url": str}
OPTIONAL = {
    "scm_revision": str, "scm_type": str, "build_dependencies": list, "build_subdirectory": str, "dicom_support_rule": str, "enabled": bool,
    "tier": int,
}  # fmt: skip
# Those of the index's categories and extensions that could be meant; a typing error is none of them.
CATEGORIES = {"Image Synthesis", "Informatics", "Quantification", "Segmentation", "Simulation", "Training"}
EXTENSIONS = {"NNUNet", "PyTorch", "QuantitativeReporting", "TotalSegmentator"}
LIMIT_MB = 100
# What a module may import when Slicer loads it: the standard library, and what Slicer itself brings.
OF_SLICER = {
    "slicer",
    "vtk",
    "qt",
    "ctk",
    "numpy",
    "scipy",
    "SimpleITK",
    "SampleData",
    "sitkUtils",
    "vtkITK",
    "vtkSegmentationCorePython",
}


@pytest.fixture(scope="module")
def entry():
    return json.loads(ENTRY.read_text(encoding="utf-8"))


def variable(name: str) -> str:
    """A variable of the top CMake file, written as the index's own search for it wants: on one line, in quotes."""
    found = re.findall(ROW.format(name), CMAKE, re.M)
    assert len(found) == 1, f'CMakeLists.txt: wanted one line set({name} "…"), found {len(found)}'
    return found[0]


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout


# --- the entry ---------------------------------------------------------------------------------------------------------


def test_the_entry_is_written_as_the_index_formats_it(entry):
    raw = ENTRY.read_bytes()
    assert raw.decode() == json.dumps(entry, indent=2, sort_keys=True) + "\n" and b"\r" not in raw and b"\t" not in raw
    assert len(raw) < 2**20


def test_the_entry_follows_the_schema(entry):
    assert entry["$schema"] == SCHEMA
    assert set(REQUIRED) <= set(entry) <= set(REQUIRED) | set(OPTIONAL)
    for key, value in entry.items():
        assert type(value) is (REQUIRED | OPTIONAL)[key], f"{key}: {value!r}"
    assert all(isinstance(name, str) for name in entry.get("build_dependencies", []))
    assert 1 <= entry.get("tier", 1) <= 5 and entry.get("scm_type", "git") in {"git", "local"}


def test_names(entry):
    assert not ENTRY.stem.lower().startswith("slicer")
    assert re.search(r"^project\(([^\s)]+)", CMAKE, re.M)[1] == ENTRY.stem
    assert urlsplit(entry["scm_url"]).scheme in {"https", "git"}
    assert Path(urlsplit(entry["scm_url"]).path).stem == "SlicerPASTA"
    assert variable("EXTENSION_HOMEPAGE") == entry["scm_url"].removesuffix(".git")


def test_the_category_is_one_of_the_index(entry):
    assert entry["category"] in CATEGORIES


def test_dependencies_are_the_same_in_both_files_and_in_the_index(entry):
    in_cmake = [name for name in re.split(r"[ ;]+", variable("EXTENSION_DEPENDS")) if name != "NA"]
    assert in_cmake == entry.get("build_dependencies", [])
    assert set(in_cmake) <= EXTENSIONS


# --- the top CMake file ------------------------------------------------------------------------------------------------


def pictures() -> list[str]:
    return [variable("EXTENSION_ICONURL"), *variable("EXTENSION_SCREENSHOTURLS").split()]


@pytest.mark.parametrize("url", pictures())
def test_addresses_of_pictures_lead_to_pictures_of_this_repository(entry, url):
    owner_and_name = urlsplit(entry["scm_url"]).path.removesuffix(".git")
    start = f"https://raw.githubusercontent.com{owner_and_name}/{entry['scm_revision']}/"
    assert url.startswith(start), f"wanted {start}…"
    path = url.removeprefix(start)
    head = (ROOT / path).read_bytes()[:8]
    assert {".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff", ".gif": b"GIF8"}[Path(path).suffix] in head
    assert git("ls-files", "--", path), f"{path} is not committed"


def test_an_icon_and_a_screenshot_are_named():
    assert len(pictures()) >= 2


def test_the_description_is_one_or_two_sentences_that_cmake_passes_on():
    text = variable("EXTENSION_DESCRIPTION")
    assert 1 <= len(re.findall(r"[.](?: |$)", text)) <= 3 and 80 < len(text) < 400
    assert not set(text) & set(';"\\$')  # CMake splits at a semicolon


def test_the_oldest_cmake_of_a_supported_slicer_is_allowed():
    low, high = re.search(r"^cmake_minimum_required\(VERSION ([\d.]+)\.\.\.([\d.]+)\)", CMAKE).groups()
    assert [int(part) for part in low.split(".")[:2]] <= [3, 16] and [int(part) for part in high.split(".")[:2]] >= [
        3,
        28,
    ]


# --- the repository ----------------------------------------------------------------------------------------------------


def test_the_licence_is_in_the_root_and_named():
    assert "MIT License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "MIT licence" in README or "MIT License" in README


def test_a_clone_is_small_enough():
    """The index counts what a full clone holds: the files and, beside them, the whole history."""
    names = git("ls-files", "-z").split("\0")
    files = sum((ROOT / name).stat().st_size for name in names if name and (ROOT / name).is_file())
    history = int(git("rev-list", "--objects", "--disk-usage", "HEAD"))
    total = (files + history) / 2**20
    assert total <= LIMIT_MB, (
        f"{total:.1f} MB of {LIMIT_MB}: {files / 2**20:.1f} in files, {history / 2**20:.1f} in the history"
    )


# --- icons -------------------------------------------------------------------------------------------------------------


def size_of_png(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR", path
    return struct.unpack(">II", head[16:24])


@pytest.mark.parametrize("name", ["Resources/Icons/PASTA.png", *(f"{m}/Resources/Icons/{m}.png" for m in modules())])
def test_icons_have_slicers_size(name):
    assert size_of_png(ROOT / name) == (128, 128)


@pytest.mark.parametrize("name", ICONS)
def test_icons_are_what_the_script_draws(name):
    """Compared as pixels: libraries of compression differ in their bytes, and of arithmetic in the last bit of an edge."""
    from PIL import Image

    drawn = ICONS[name]().pixels()
    kept = np.asarray(Image.open(ROOT / name).convert("RGBA"))
    assert kept.shape == drawn.shape and np.abs(kept.astype(int) - drawn).max() <= 2
    assert drawn[0, 0, 3] == 0 and drawn[..., 3].max() == 255  # transparent corner: right on light and dark themes
    assert size_of_png(ROOT / name) == struct.unpack(">II", png(drawn)[16:24])


# --- the README --------------------------------------------------------------------------------------------------------


def test_the_readme_begins_with_its_name_and_what_it_is_for():
    title, summary = README.split("\n\n")[:2]
    assert title == "# SlicerPASTA"
    assert 30 < len(summary) < 300 and 1 <= summary.count(". ") + summary.endswith(".") <= 2


def test_the_readme_shows_a_picture_and_says_how_to_cite():
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+\.(?:png|jpg|gif))\)", README)
    assert shown and all((ROOT / path).is_file() for path in shown)
    assert re.search(r"cite|citation", README, re.I) and "CITATION.cff" in README


@pytest.mark.parametrize("name", listed_modules())
def test_the_readme_describes_every_module(name):
    assert re.search(rf"\b{name}\b[^\n]{{25,}}", README), f"README.md: no line says what {name} does"


def test_the_readme_has_a_tutorial_and_says_where_data_come_from():
    if not modules():
        pytest.skip("no modules yet")
    assert re.search(r"^#+ .*tutorial", README, re.I | re.M), "README.md: no heading Tutorial"
    assert len(re.findall(r"^\d+\. ", README, re.M)) >= 4, "README.md: no numbered steps"
    assert "Sample Data" in README, (
        "README.md: the tutorial does not say where Slicer's Sample Data module has its scan"
    )


# --- what reviewers ask of the code ------------------------------------------------------------------------------------


def at_file_scope(path: Path):
    """(line, dotted module) of what importing a file imports, relative names resolved; a guarded import counts."""
    package = path.relative_to(ROOT).parts[:-1]

    def visit(nodes):
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            if isinstance(node, ast.If) and (
                "TYPE_CHECKING" in ast.unparse(node.test) or "version_info" in ast.unparse(node.test)
            ):
                continue  # tomli, where Python is older than any Slicer's
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else ()
                module = ".".join([*base, *([node.module] if node.module else [])])
                yield node.lineno, module
                if module.split(".")[0] == "PASTALib":
                    yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            yield from visit(ast.iter_child_nodes(node))

    yield from visit(ast.parse(path.read_text(encoding="utf-8"), str(path)).body)


def loaded_with(script: Path) -> set[Path]:
    """``script`` and all of the library that importing it imports."""
    todo, seen = [script], set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for _, module in at_file_scope(path):
            parts = module.split(".")
            if parts[0] == "PASTALib":
                for depth in range(1, len(parts) + 1):
                    place = ROOT.joinpath(*parts[:depth])
                    todo += [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    return seen


def foreign(script: Path) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sorted(loaded_with(script))
        for line, module in at_file_scope(path)
        if module.split(".")[0] not in OF_SLICER | {"PASTALib"} | set(sys.stdlib_module_names)
    ]


def executed(text: str) -> list[int]:
    """Lines of a script that do something when Slicer loads it, beyond importing and defining."""
    wrong = []
    for node in ast.parse(text).body:
        defines = isinstance(
            node, (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Assign, ast.AnnAssign)
        )
        says = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        # In a clone the library lies one folder up, and Slicer looks only where the module is.
        library = isinstance(node, ast.Try) and ast.unparse(node.body[0]).startswith(
            ("import PASTALib", "from PASTALib")
        )
        if not (defines or says or types or library):
            wrong.append(node.lineno)
    return wrong


@pytest.mark.parametrize("name", modules())
def test_loading_a_module_imports_what_slicer_has_and_runs_nothing(name):
    script = ROOT / name / f"{name}.py"
    assert not foreign(script), foreign(script)
    assert not executed(script.read_text(encoding="utf-8")), (
        f"{script}: lines {executed(script.read_text(encoding='utf-8'))}"
    )


def test_these_questions_can_be_answered_no():
    """The questions find what they look for: torch behind the library's networks, and code that runs."""
    assert any("imports torch" in line for line in foreign(ROOT / "PASTALib" / "networks" / "load.py"))
    assert not foreign(ROOT / "PASTALib" / "synthesis" / "generator.py")
    assert executed('"""Text."""\nimport slicer\nslicer.util.pip_install("x")\nfor a in b:\n    pass\n') == [3, 4]
    assert executed("try:\n    import PASTALib\nexcept ImportError:\n    sys.path.append('..')\nX: int = 1\n") == []


def test_torch_is_never_installed_past_the_pytorch_extension():
    """Neither by name nor through a list of requirements; the extension PyTorch knows which build fits the graphics card."""
    direct = re.compile(r"(pip_install|pip_ensure)\W.*\btorch\b|^torch\s*([<>=~!].*)?$")
    assert (
        direct.search('slicer.util.pip_install("torch>=2")')
        and direct.search("torch>=2.1")
        and not direct.search("torchio")
    )
    found = []
    for files in file_lists():
        for name in files.wanted:
            if name.endswith((".py", ".txt")):
                lines = (files.folder / name).read_text(encoding="utf-8").splitlines()
                found += [f"{name}: {line.strip()}" for line in lines if direct.search(line)]
    assert not found, found
