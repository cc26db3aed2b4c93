"""The tables that a conversion leaves: what training.downstream reads, checked by reading them, with a note of what they are. No torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PASTALib.errors import InputError

from ...downstream.labelled import ScanSet, read_scan_table
from ...downstream.table import ATTRIBUTES, DETECT, STAGE, CaseTable, read_cases
from ...runs import replacing, write_json
from .items import Item

NOTE = "converted.json"
SCANS, DETECTION, STAGING, SURVIVAL = "scans", "detection", "staging", "survival"
# name of a table -> the task that ``training.downstream.table.read_cases`` reads it for; ``scans`` are read by ``read_scan_table``
CASE_TASKS = {DETECTION: DETECT, STAGING: STAGE, SURVIVAL: STAGE, ATTRIBUTES: ATTRIBUTES}


@dataclass(frozen=True)
class Table:
    """A table of a converted set. ``kind``: "scans" or one of ``CASE_TASKS``; ``labels`` and ``channels`` of scans; ``cases``: rows."""

    name: str
    kind: str
    path: Path
    cases: int
    labels: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def scans(self) -> ScanSet:
        """The labelled scans, for ``training.downstream.segmentation``."""
        return read_scan_table(self.path, self.labels, self.channels)

    def case_table(self, classes: Sequence[str] = (), organ: str | None = None, years: float = 0.0) -> CaseTable:
        """The cases, for ``training.downstream.recipes``; ``years`` parts short from long survival."""
        return read_cases(self.path, CASE_TASKS[self.kind], classes=classes, organ=organ, survival_years=years)


@dataclass(frozen=True)
class Converted:
    """A data set made ready. ``tables`` by name; ``notes``: what the user should know, cases left out among them."""

    key: str
    folder: Path
    tables: Mapping[str, Table]
    notes: tuple[str, ...] = field(default=())

    def table(self, name: str) -> Table:
        """The table of this name; InputError when the set has none."""
        if name not in self.tables:
            raise InputError(
                f"{self.folder}: data set {self.key} has no table {name!r}; it has {', '.join(self.tables) or 'none'}"
            )
        return self.tables[name]


def write_scans(
    out: Path, items: Sequence[Item], labels: Sequence[str], channels: Sequence[str], name: str = SCANS
) -> Table:
    """``out``/scans.csv (id, patient, ct, mask) of ``items``, read back once."""
    rows = []
    for item in items:
        if any(";" in str(path) for path in item.images):
            raise InputError(f"{item.images[0]}: the path holds a ';', which parts images in tables; rename the folder")
        ct = ";".join(str(path.absolute()) for path in item.images)
        rows.append({"id": item.id, "patient": item.patient, "ct": ct, "mask": str(item.mask.absolute())})
    path = write_rows(out / f"{SCANS}.csv", rows)
    table = Table(name, SCANS, path, len(rows), tuple(labels), tuple(channels))
    table.scans()
    return table


def write_cases(out: Path, kind: str, rows: Sequence[Mapping[str, str]], name: str = "") -> Table:
    """``out``/<kind>.csv from complete rows."""
    return Table(name or kind, kind, write_rows(out / f"{kind}.csv", rows), len(rows))


def write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """A CSV table, complete or not at all. InputError when there is no row."""
    if not rows:
        raise InputError(f"{path}: no case is left for this table; check the notes of the conversion")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_note(out: Path, converted: Converted) -> None:
    """``converted.json``, written last: what is there."""
    tables = {
        name: {**asdict(table), "path": table.path.relative_to(out).as_posix()}
        for name, table in converted.tables.items()
    }
    write_json(
        out / NOTE,
        {
            "key": converted.key,
            "folder": str(converted.folder),
            "tables": tables,
            "notes": list(converted.notes),
        },
    )


def read_note(out: Path) -> Converted:
    """What an earlier conversion left in ``out``; InputError when there is none."""
    path = Path(out) / NOTE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        tables = {
            name: Table(
                **{
                    **entry,
                    "path": path.parent / entry["path"],
                    "labels": tuple(entry["labels"]),
                    "channels": tuple(entry["channels"]),
                }
            )
            for name, entry in data["tables"].items()
        }
        return Converted(data["key"], Path(data["folder"]), tables, tuple(data["notes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no finished conversion ({type(error).__name__}); convert the set again") from None
