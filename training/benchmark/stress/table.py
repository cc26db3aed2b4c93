"""The table of a detectability study on disk: one line per lesion, each complete or not there, so that a stopped study goes on."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path

from PASTALib.errors import InputError

from ...runs import replacing

MADE, NO_ROOM = "made", "no room"
_TEXT = ("scan", "setting", "lesion", "site", "status", "location", "named")
_WHOLE = ("repeat", "found", "found_type", "overlap", "marked_before")
_NUMBERS = (
    "size_mm", "delta_hu", "edge",
    "r_mm", "a_mm", "s_mm", "measured_size_mm", "measured_delta_hu", "measured_edge_mm", "depth_mm",
    "dice", "share", "auc", "auc_before", "gain", "inside", "outside", "highest", "seconds",
)  # fmt: skip
COLUMNS = (*_TEXT[:4], "repeat", *_NUMBERS[:3], *_TEXT[4:], *_WHOLE[1:], *_NUMBERS[3:])


class Table:
    """``rows`` of a CSV file; ``add`` appends one. What a stop cut off at the end of the file is dropped when it is opened."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict] = []
        self._keys: set[tuple] = set()
        if path.is_file():
            self._read()
        else:
            self._write(_line(COLUMNS))

    def has(self, scan: str, setting: str, repeat: int) -> bool:
        """Whether this lesion was made, or found impossible, before."""
        return (scan, setting, repeat) in self._keys

    def add(self, row: Mapping) -> None:
        """Append ``row`` (missing columns stay empty)."""
        full = {name: _plain(row.get(name)) for name in COLUMNS}
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(_line([_text(full[name]) for name in COLUMNS]))
            file.flush()
            os.fsync(file.fileno())
        self._take(full)

    def _take(self, row: dict) -> None:
        self.rows.append(row)
        self._keys.add((row["scan"], row["setting"], row["repeat"]))

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        lines = list(csv.reader(io.StringIO(whole)))
        if not lines or tuple(lines[0]) != COLUMNS:
            raise InputError(f"{self.path}: not a table of this version; take it away, or begin anew with --overwrite")
        for number, line in enumerate(lines[1:], 2):
            try:
                if len(line) != len(COLUMNS):
                    raise ValueError(f"{len(line)} columns")
                self._take({name: _value(name, text) for name, text in zip(COLUMNS, line)})
            except ValueError as error:
                raise InputError(
                    f"{self.path}, line {number}: not readable ({error}); mend it or use --overwrite"
                ) from None
        if whole != text:
            self._write(whole)

    def _write(self, text: str) -> None:
        write_text(self.path, text)


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8, complete or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    return path


def csv_text(columns, rows) -> str:
    """Lines of a CSV file with a heading; ``rows`` are mappings."""
    return _line(columns) + "".join(_line([_text(_plain(row.get(name))) for name in columns]) for row in rows)


def _line(cells) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _plain(value):
    """A value as it will be read back: floats to 6 digits, None for what is not finite."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return int(value)
    return float(f"{float(value):.6g}") if math.isfinite(value) else None


def _text(value) -> str:
    return "" if value is None else value if isinstance(value, str) else repr(value)


def _value(name: str, text: str):
    if name in _TEXT:
        return text
    if text == "":
        return None
    return int(text) if name in _WHOLE else float(text)
