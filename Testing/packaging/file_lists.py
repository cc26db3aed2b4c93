"""Which files a Slicer package of the extension takes, and the lists in the CMake files that name them one by one.

CMake gets plain lists, because a pattern would package whatever lies about and miss new files until the next configure. What the
lists should hold is decided here, from the files on disk; ``python -m Testing.packaging.update_lists`` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "PASTALib"
# The command line: it needs typer and rich, which Slicer has not, and no module or worker imports it.
COMMAND_LINE = ("PASTALib/cli.py", "PASTALib/__main__.py", "PASTALib/commands/")
# Of the top Resources folder the library reads all but these, which are for the extensions index, the README and the shop window.
NOT_READ = ("Resources/Icons/", "Resources/Screenshots/", "Resources/PASTA.json")
MARK = "## NEXT_MODULE\n"


@dataclass(frozen=True)
class FileList:
    """One list of one CMake file. ``wanted``: paths relative to ``folder``, in the order in which they are written."""

    cmake: Path
    variable: str
    folder: Path
    wanted: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.cmake.parent.name}/{self.cmake.name}, {self.variable}"

    def listed(self) -> list[str]:
        """What the CMake file names now."""
        return _block(self.cmake, self.variable)[1].split()

    def write(self) -> bool:
        """Put ``wanted`` into the CMake file; whether that changed it."""
        before, _, after = _block(self.cmake, self.variable)
        text = before + "".join(f"\n  {name}" for name in self.wanted) + "\n  " + after
        changed = text != self.cmake.read_text(encoding="utf-8")
        if changed:
            self.cmake.write_text(text, encoding="utf-8", newline="\n")
        return changed

    def advice(self) -> list[str]:
        """The lines to add and to remove, for a person."""
        listed = self.listed()
        lines = [f"add     {name}" for name in self.wanted if name not in listed]
        lines += [f"remove  {name}" for name in dict.fromkeys(listed) if name not in self.wanted]
        return lines + [f"once is enough for {name}" for name in self.wanted if listed.count(name) > 1]


def modules(root: Path = ROOT) -> list[str]:
    """The modules that there are: top folders ``PASTA…`` with a script of the same name."""
    return sorted(path.parent.name for path in root.glob("PASTA*/PASTA*.py") if path.stem == path.parent.name)


def file_lists(root: Path = ROOT) -> list[FileList]:
    """Every list that has to be right."""
    library = [*_files(root / LIBRARY, root), *_files(root / "Resources", root)]
    library = [name for name in library if not name.startswith(COMMAND_LINE + NOT_READ)]
    lists = list(_two(root / LIBRARY / "files.cmake", "PASTALIB", root, library))
    for name in modules(root):
        folder = root / name
        found = [file for file in _files(folder, folder) if not file.startswith("Testing/")]
        lists += _two(folder / "CMakeLists.txt", "MODULE", folder, found)
    return lists


def listed_modules(root: Path = ROOT) -> list[str]:
    """The module folders that the top CMake file adds, in its order."""
    return re.findall(r"^add_subdirectory\((\w+)\)$", (root / "CMakeLists.txt").read_text(encoding="utf-8"), re.M)


def write_modules(root: Path = ROOT) -> bool:
    """Let the top CMake file add every module that there is; whether that changed it."""
    path = root / "CMakeLists.txt"
    text = path.read_text(encoding="utf-8")
    bare = re.sub(r"^add_subdirectory\(\w+\)\n", "", text, flags=re.M)
    fresh = bare.replace(MARK, "".join(f"add_subdirectory({name})\n" for name in modules(root)) + MARK)
    if fresh != text:
        path.write_text(fresh, encoding="utf-8", newline="\n")
    return fresh != text


def _two(cmake: Path, prefix: str, folder: Path, names: list[str]) -> Iterator[FileList]:
    for variable, are_scripts in ((f"{prefix}_PYTHON_SCRIPTS", True), (f"{prefix}_PYTHON_RESOURCES", False)):
        yield FileList(cmake, variable, folder, tuple(name for name in names if name.endswith(".py") == are_scripts))


def _files(folder: Path, relative_to: Path) -> list[str]:
    """Files below ``folder``, sorted, without what Python, CMake and editors leave."""
    names = (path.relative_to(relative_to) for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        name.as_posix()
        for name in names
        if not any(part.startswith(".") or part == "__pycache__" for part in name.parts)
        and name.suffix not in {".pyc", ".cmake"}
        and name.name != "CMakeLists.txt"
    ]


def _block(cmake: Path, variable: str) -> tuple[str, str, str]:
    """The text up to, within and after the names of ``set(variable …)``."""
    text = cmake.read_text(encoding="utf-8")
    found = re.search(rf"^set\({variable}\b([^)]*)\)", text, re.M)
    if found is None:
        raise ValueError(f"{cmake}: no set({variable} …)")
    return text[: found.start(1)], found[1], text[found.end(1) :]
