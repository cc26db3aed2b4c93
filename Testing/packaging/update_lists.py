"""``python -m Testing.packaging.update_lists``: make the CMake files name the modules and files that there are.

A new module needs its CMakeLists.txt first: copy that of another one and change MODULE_NAME.
"""

from __future__ import annotations

from pathlib import Path

from .file_lists import ROOT, file_lists, write_modules


def main(root: Path = ROOT) -> None:
    """Write every list of the clone at ``root``, and print what changed."""
    if write_modules(root):
        print("CMakeLists.txt: modules")
    for files in file_lists(root):
        advice = files.advice()
        if files.write():
            print(f"{files}:", *advice or ["order"], sep="\n  ")


if __name__ == "__main__":
    main()
