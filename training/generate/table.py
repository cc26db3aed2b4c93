"""The list of scans to put lesions into: a CSV or TSV table with one scan a line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from PASTALib.errors import InputError

SCHEMES = ("pasta", "totalseg-v1", "totalseg-v2")
NEEDED, OPTIONAL = ("ct", "organs"), ("organ_scheme", "report", "id", "patient")
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
_SHOWN = 3  # line numbers or names that an error lists


@dataclass(frozen=True)
class Row:
    """One scan of the table. ``ct`` and ``organs`` are absolute paths; ``report`` is the text, None where there is none."""

    id: str
    ct: str
    organs: str
    organ_scheme: str | None = None
    report: str | None = None
    patient: str = ""


def read_table(path: str | Path) -> list[Row]:
    """Scans of a table, in its order.

    Columns: ``ct`` and ``organs`` (paths, those that are not absolute start at the table's folder), and if wanted ``organ_scheme`` (pasta,
    totalseg-v1 or totalseg-v2; else found out), ``report`` (the text, or the path of a .txt file), ``id`` (default: the CT's name) and
    ``patient`` (default: the id; scans of one patient must share it if cases are split by patient later). Other columns are ignored.

    InputError for a table that is missing, empty or damaged, a missing column, missing files, an unknown scheme, and ids that
    occur twice; the message names the line.
    """
    path = Path(path)
    lines = _lines(path)
    rows = [_row(path, number, line) for number, line in lines]
    if not rows:
        raise InputError(f"--table {path}: no scan in it; give one line per scan below the column names")
    _check_files(path, [number for number, _ in lines], rows)
    twice = [name for name, count in Counter(row.id for row in rows).items() if count > 1]
    if twice:
        raise InputError(
            f"--table {path}: id {_some(twice)} occurs more than once; give every scan its own in a column id"
        )
    return rows


def digest(rows: list[Row]) -> str:
    """Fingerprint of what a table asks for: a run can only be resumed with the same."""
    return hashlib.sha256(json.dumps([asdict(row) for row in rows], sort_keys=True).encode()).hexdigest()


def _lines(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, cells by column) of every line that is not empty."""
    if not path.is_file():
        raise InputError(f"--table {path}: no such file; give a CSV or TSV table with the columns ct and organs")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise InputError(f"--table {path}: {reason}; save the table as CSV in UTF-8") from None
    head = text.split("\n", 1)[0]
    delimiter = max("\t;,", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [(name or "").strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = names
        missing = [name for name in NEEDED if name not in names]
        if missing:
            found = ", ".join(filter(None, names)) or "none"
            raise InputError(
                f"--table {path}: column {' and '.join(missing)} missing (found: {found}); the columns are "
                f"{', '.join(NEEDED)} and, if wanted, {', '.join(OPTIONAL)}"
            )
        lines = []
        for cells in reader:
            if None in cells or None in cells.values():
                raise InputError(
                    f"--table {path}, line {reader.line_num}: wanted {len(names)} columns as in the first line; "
                    "put texts that hold separators in quotes"
                )
            if any(value.strip() for value in cells.values()):
                lines.append((reader.line_num, {key: value.strip() for key, value in cells.items()}))
        return lines
    except csv.Error as error:
        raise InputError(f"--table {path}, line {reader.line_num}: {error}; save the table as CSV again") from None


def _row(path: Path, number: int, cells: dict[str, str]) -> Row:
    for name in NEEDED:
        if not cells[name]:
            raise InputError(f"--table {path}, line {number}: no {name}; give the path of the file or folder")
    scheme = cells.get("organ_scheme") or None
    if scheme is not None and scheme not in SCHEMES:
        raise InputError(
            f"--table {path}, line {number}: organ_scheme {scheme!r} is not known; use {', '.join(SCHEMES)} or leave it empty"
        )
    ct, organs = (path.parent / cells[name] for name in NEEDED)
    name = cells.get("id") or _name_of(ct)
    return Row(
        name,
        str(ct.absolute()),
        str(organs.absolute()),
        scheme,
        _report(path, number, cells.get("report", "")),
        cells.get("patient") or name,
    )


def _name_of(ct: Path) -> str:
    """The CT's name without suffix, or its folder's where the file has the same name everywhere (``…/case7/ct.nii.gz``)."""
    stem = ct.name
    for suffix in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    name = ct.parent.name if stem.lower() in ("ct", "img", "image", "volume", "scan") and ct.parent.name else stem
    return re.sub(r"[^\w.-]+", "_", name)


def _report(path: Path, number: int, text: str) -> str | None:
    """The report's text; a single word that ends in .txt names a file."""
    if not text:
        return None
    if not text.lower().endswith(".txt") or "\n" in text:
        return text
    file = path.parent / text
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else (error.strerror or error)
        raise InputError(
            f"--table {path}, line {number}: the report {file} cannot be read ({reason}); give the text or a .txt file"
        ) from None


def _check_files(path: Path, numbers: list[int], rows: list[Row]) -> None:
    missing = [
        (number, getattr(row, name))
        for number, row in zip(numbers, rows)
        for name in NEEDED
        if not Path(getattr(row, name)).exists()
    ]
    if missing:
        number, file = missing[0]
        more = f" (and {len(missing) - 1} more missing)" if len(missing) > 1 else ""
        raise InputError(
            f"--table {path}, line {number}: {file} does not exist{more}; correct the path (relative ones start at the table's folder)"
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
