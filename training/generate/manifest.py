"""The account of a set of cases: one JSON line per finished case, written when the case is complete; and reading sets that have none."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from PASTALib import taxonomy
from PASTALib.cases import IMAGE, INSTANCES, LABEL, RECORD, TOTAL, TYPE, find_cases, lesion_of_folder, read_reports
from PASTALib.errors import InputError
from PASTALib.synthesis.spec import ATTRIBUTES

if TYPE_CHECKING:
    from .plan import CasePlan

MANIFEST, FAILURES, DATASET = "manifest.jsonl", "failures.jsonl", "dataset.json"
FILES = (IMAGE, LABEL, TOTAL, INSTANCES, TYPE, RECORD)
SCHEMA, VERSION = "pasta-dataset", 1
_HIDDEN = re.compile(r"\..+\.[0-9a-f]{12}\.(partial|old)")  # what cases.write_case may leave behind when it is killed
_BLOCK = 1 << 20
_FIGURES = ("major_axis_mm", "volume_mm3", "reference_hu", "lesion_hu", "density_delta_hu")


def canonical_json(data: Mapping) -> str:
    """One line of JSON that is the same for equal data."""
    return json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


# --- lines -----------------------------------------------------------------------------------------------------------


def line_of(root: Path, folder: Path, sums: bool = True) -> dict:
    """What the manifest says of the case in ``folder``, read from its files: id (path below ``root``), type, template, seed, tries,
    attributes and sizes of every lesion, and bytes and SHA-256 of every file. Works for published cases, which know less of themselves.

    ``sums`` False leaves the images unread. InputError for a case that is incomplete or damaged.
    """
    reports = read_reports(folder)
    record = _record(folder)
    options = record.get("options", {})
    line = {
        "id": folder.relative_to(root).as_posix(),
        "type": reports[0].lesion,
        **{name: options.get(name) for name in ("number", "key", "template", "patient", "attempts")},
        "seed": record.get("seed"),
        "phase": reports[0].value("enhancement"),
        **{name: record.get("grid", {}).get(name) for name in ("shape_zyx", "spacing_zyx_mm")},
        "lesions": [_lesion(report, entry) for report, entry in _with_entries(reports, record)],
        "files": _files(folder, sums),
    }
    line["bytes"] = sum(file["bytes"] for file in line["files"].values())
    return line


def _record(folder: Path) -> dict:
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{folder / RECORD}: not valid JSON ({error})") from None


def _with_entries(reports: list, record: dict) -> Iterator[tuple]:
    entries = record.get("lesions", [])
    for number, report in enumerate(reports):
        yield report, entries[number] if number < len(entries) else {}


def _lesion(report, entry: dict) -> dict:
    figures = entry.get("measured", {}).get("figures", {})
    return {
        "type": report.lesion,
        "attributes": {key: report.value(key) for key in ATTRIBUTES},
        "size_zxy_mm": list(report.size_mm) if report.size_mm else None,
        "aimed": {k: v for k, v in entry.get("requested", {}).items() if isinstance(v, str)},
        "tries": entry.get("tries"),
        **{name: figures.get(name) for name in _FIGURES},
    }


def _files(folder: Path, sums: bool) -> dict[str, dict]:
    found = {}
    for name in FILES:
        path = folder / name
        try:
            found[name] = {"bytes": path.stat().st_size} | ({"sha256": sha256(path)} if sums else {})
        except FileNotFoundError:
            if name not in (INSTANCES, RECORD):
                raise InputError(f"{folder}: {name} missing") from None
    return found


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    sums = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            sums.update(block)
    return sums.hexdigest()


def is_complete(folder: Path, key: str) -> bool:
    """Whether ``folder`` holds the very case that ``key`` stands for, every image readable to its last byte."""
    try:
        if _record(folder).get("options", {}).get("key") != key:
            return False
        read_reports(folder)
        for path in [folder / name for name in (IMAGE, LABEL, TOTAL)] + list(folder.glob(INSTANCES)):
            with gzip.open(path) as stream:  # checks length and CRC at the end
                while stream.read(_BLOCK):
                    pass
    except (InputError, OSError, EOFError, zlib.error):
        return False
    return True


# --- the file --------------------------------------------------------------------------------------------------------


class Lines:
    """A file of JSON lines that only grows. A line is on disk when ``append`` returns; a last line cut off by a stop is not there."""

    def __init__(self, path: Path):
        self.path = path
        self._stream = None

    def read(self) -> list[dict]:
        """Every whole line. A damaged line anywhere counts as not written."""
        return list(read_lines(self.path))

    def append(self, line: Mapping) -> None:
        """Add a line and wait until it is on disk. InputError when it cannot be written."""
        try:
            if self._stream is None:
                _mend(self.path)
                self._stream = open(self.path, "ab", buffering=0)
            self._stream.write(canonical_json(line).encode() + b"\n")
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); free disk space and use --resume"
            ) from None

    def replace(self, lines: Iterable[Mapping]) -> None:
        """Put ``lines`` in place of all, at once."""
        self.close()
        temporary = self.path.with_name(f".{self.path.name}.part")
        with open(temporary, "wb") as stream:
            for line in lines:
                stream.write(canonical_json(line).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, self.path)

    def close(self) -> None:
        """Close the file; it opens again when needed."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def read_lines(path: Path) -> Iterator[dict]:
    """Lines of a manifest one by one, passing over those that are cut short or damaged; nothing when there is no file."""
    try:
        stream = open(path, "rb")
    except FileNotFoundError:
        return
    with stream:
        for raw in stream:
            if raw.endswith(b"\n"):
                try:
                    line = json.loads(raw)
                except ValueError:
                    continue
                if isinstance(line, dict):
                    yield line


def _mend(path: Path) -> None:
    """Take away a last line that was cut off."""
    if not path.exists():
        return
    with open(path, "rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            stream.seek(start)
            at = stream.read(end - start).rfind(b"\n")
            if at >= 0:
                stream.truncate(start + at + 1)
                return
            end = start
        stream.truncate(0)


# --- the set ---------------------------------------------------------------------------------------------------------


def remove_unfinished(out: Path) -> None:
    """Remove cases that were being written when their worker was stopped. Only while no worker writes."""
    for hidden in out.glob("*/*/.*"):
        if _HIDDEN.fullmatch(hidden.name):
            shutil.rmtree(hidden, ignore_errors=True)


def settle(out: Path, case_of: Callable[[str, int], CasePlan]) -> list[dict]:
    """Manifest lines that can be trusted, after whatever stopped the last session: half-written cases are removed, lines that are doubled,
    of other settings, or whose files are missing or of another length are dropped from the file.

    ``case_of(type, number)`` is the plan. Call it only while no worker writes.
    """
    remove_unfinished(out)
    manifest = Lines(out / MANIFEST)
    kept: dict[str, dict] = {}
    count = 0
    for line in manifest.read():
        count += 1
        if line.get("id") not in kept and _fits(out, line, case_of):
            kept[line["id"]] = line
    if len(kept) != count:
        manifest.replace(kept.values())
    return list(kept.values())


def _fits(out: Path, line: Mapping, case_of: Callable[[str, int], CasePlan]) -> bool:
    if line.get("type") not in taxonomy.LESION_KEYS or not isinstance(line.get("number"), int):
        return False
    try:
        case = case_of(line["type"], line["number"])
    except InputError:
        return False
    return (line.get("id"), line.get("key")) == (case.id, case.key) and same_sizes(out, line)


def same_sizes(root: Path, line: Mapping) -> bool:
    """Whether every file of a line is there with its length."""
    try:
        return all((root / line["id"] / name).stat().st_size == f["bytes"] for name, f in line["files"].items())
    except OSError:
        return False


def wrong_files(root: Path, lines: Iterable[Mapping], tell: Callable[[int], None] = lambda done: None) -> list[str]:
    """Files (``id/name``) that are missing or whose SHA-256 is not the manifest's. ``tell`` gets the number of cases checked."""

    def check(line: Mapping) -> list[str]:
        wrong = []
        for name, file in line["files"].items():
            path = root / line["id"] / name
            if not path.is_file() or sha256(path) != file.get("sha256"):
                wrong.append(f"{line['id']}/{name}")
        return wrong

    found = []
    with ThreadPoolExecutor(4) as pool:
        for number, wrong in enumerate(pool.map(check, lines), 1):
            found += wrong
            tell(number)
    return found


def in_order(lines: Iterable[Mapping]) -> list[Mapping]:
    """Lines by type (in the order of their values) and number."""
    rank = {key: number for number, key in enumerate(taxonomy.LESION_KEYS)}
    return sorted(lines, key=lambda line: (rank.get(line["type"], len(rank)), line["id"]))


def dataset(lines: Iterable[Mapping], failed: Iterable[Mapping], settings: Mapping) -> dict:
    """Contents of dataset.json: counts and one digest over all lines, the same whatever made them and in what order."""
    lines = in_order(lines)
    sums = hashlib.sha256()
    for line in lines:
        sums.update(canonical_json(line).encode() + b"\n")
    counts = Counter(line["type"] for line in lines)
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "cases": len(lines),
        "by_type": {key: counts[key] for key in taxonomy.LESION_KEYS if counts[key]},
        "lesions": sum(len(line["lesions"]) for line in lines),
        "bytes": sum(line["bytes"] for line in lines),
        "given_up": sorted(line["id"] for line in failed),
        "settings": dict(settings),
        "sha256": sums.hexdigest(),
    }


def index(root: str | Path, sums: bool = False) -> Iterator[dict]:
    """Manifest lines of any folder in the published layout, one by one as the cases are found; nothing is assumed about how many there are.

    A case that cannot be read gives a line with ``id``, ``type`` and ``problem`` only. InputError when ``root`` is no folder.
    """
    root = Path(root)
    for folder in find_cases(root):
        try:
            yield line_of(root, folder, sums)
        except InputError as error:
            yield {
                "id": folder.relative_to(root).as_posix(),
                "type": lesion_of_folder(folder),
                "problem": str(error),
            }
