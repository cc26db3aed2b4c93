"""The figures of the paper's Supplementary Tables 1 to 5 (arXiv 2502.06171 v1), as data: value, interval, p, and what the paper underlines."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCE = "Lei et al., arXiv 2502.06171 v1, Supplementary Tables 1-5"

# What the brackets behind a value are.
BOOTSTRAP, FOLDS = "95 % interval, bootstrap of the cases", "smallest and largest of the five folds"


@dataclass(frozen=True)
class Entry:
    """A cell of a table. ``k``: few-shot number, 0 for all data; ``n``: the table's number of scans; ``group``: attribute, of the report alone.

    ``p`` is that of the row, between its best and its second model, as printed: "<0.001" reads 0.001 with ``p_below``. ``underlined``: the
    paper marks this entry as the second. (It marks the best in bold, which the text that this was read from does not keep.)
    """

    task: str
    table: int
    row: str
    metric: str
    k: int
    n: int | None
    model: str
    value: float
    low: float
    high: float
    underlined: bool
    p_text: str

    @property
    def group(self) -> str:
        """Attribute of a structured report, "" elsewhere."""
        return self.row.lower() if self.table == 5 else ""

    @property
    def p(self) -> float:
        """The printed p, or its bound."""
        return float(self.p_text.lstrip("<"))

    @property
    def p_below(self) -> bool:
        """Whether ``p`` is a bound."""
        return self.p_text.startswith("<")

    @property
    def brackets(self) -> str:
        """What ``low`` and ``high`` are."""
        return FOLDS if self.metric == "auc" else BOOTSTRAP


@dataclass(frozen=True)
class Claim:
    """A gain that the main text states. ``agrees``: whether it is the difference of the table's best and second, to the last digit."""

    task: str
    row: str
    metric: str
    k: int
    first: str
    second: str
    gain: float
    p_text: str
    agrees: bool
    note: str


@lru_cache(maxsize=1)
def read_published() -> tuple[Entry, ...]:
    """Every entry of the five tables, in their order."""
    found = []
    for path in sorted(FOLDER.glob("table*.csv")):
        for row in _rows(path):
            found.append(
                Entry(
                    task=row["task"],
                    table=int(row["table"]),
                    row=row["row"],
                    metric=row["metric"],
                    k=int(row["k"]),
                    n=int(row["n"]) if row["n"] else None,
                    model=row["model"],
                    value=float(row["value"]),
                    low=float(row["low"]),
                    high=float(row["high"]),
                    underlined=row["underlined"] == "1",
                    p_text=row["p"],
                )
            )
    return tuple(found)


@lru_cache(maxsize=1)
def read_claims() -> tuple[Claim, ...]:
    """What the main text says of gains over the second."""
    return tuple(
        Claim(
            row["task"],
            row["row"],
            row["metric"],
            int(row["k"]),
            row["first"],
            row["second"],
            float(row["gain"]),
            row["p"],
            row["agrees"] == "1",
            row["note"],
        )
        for row in _rows(FOLDER / "claims.csv")
    )


def published(task: str, metric: str, k: int = 0, group: str = "") -> dict[str, Entry]:
    """The entries of one row of a table by model; {} where the paper has none."""
    return {
        entry.model: entry
        for entry in read_published()
        if (entry.task, entry.metric, entry.k, entry.group) == (task, metric, k, group)
    }


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """Best first; equals in the table's order."""
    return sorted(entries, key=lambda entry: -entry.value)


def _rows(path: Path):
    with path.open(newline="", encoding="utf-8") as stream:
        yield from csv.DictReader(stream)
