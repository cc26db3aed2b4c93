"""Figures beside their targets: checks that pass or fail, and Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Check:
    """One figure with its target: ``low <= value <= high``. ``n`` samples behind it; NaN counts as not measured."""

    name: str
    value: float
    low: float = -np.inf
    high: float = np.inf
    unit: str = ""
    n: int = 0

    @property
    def verdict(self) -> str:
        if not np.isfinite(self.value):
            return "NOT MEASURED"
        return "PASS" if self.low <= self.value <= self.high else "FAIL"

    @property
    def target(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.low == self.high:
            return f"= {self.low:g}{unit}"
        if np.isinf(self.low):
            return f"≤ {self.high:g}{unit}"
        return f"≥ {self.low:g}{unit}" if np.isinf(self.high) else f"{self.low:g}–{self.high:g}{unit}"

    def to_json(self) -> dict:
        value = float(self.value)
        return {
            "name": self.name,
            "value": value if np.isfinite(value) else None,
            "target": self.target,
            "n": self.n,
            "verdict": self.verdict,
        }


@dataclass
class Section:
    """What one section found: ``text`` (tables and remarks), ``checks`` and the raw ``data`` for the JSON file."""

    title: str
    text: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    data: dict = field(default_factory=dict)

    def __str__(self) -> str:
        rows = [(c.name, number(c.value), c.unit, c.target, c.n, c.verdict) for c in self.checks]
        summary = table(("figure", "value", "unit", "target", "n", ""), rows)
        return "\n\n".join([f"## {self.title}", *self.text, summary])


def number(value) -> str:
    """A number in as few digits as say something."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "–"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    size = abs(float(value))
    return (
        f"{value:.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 0.1 or size == 0
        else f"{value:.3f}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Markdown table with columns aligned in plain text; numbers go through ``number``."""
    cells = [[c if isinstance(c, str) else number(c) for c in row] for row in rows]
    widths = [max([len(h), *(len(r[i]) for r in cells)]) for i, h in enumerate(head)]
    line = lambda row: "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |"  # noqa: E731
    return "\n".join([line(head), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(line, cells)])


def percent(flags) -> float:
    """Share of true values in %; NaN for none."""
    flags = list(flags)
    return 100.0 * float(np.mean(flags)) if flags else float("nan")


def quantile(values, q: float) -> float:
    """Quantile ``q`` (0 to 1) of the finite values; NaN for none."""
    values = np.array([v for v in values if v is not None], float)
    values = values[np.isfinite(values)]
    return float(np.quantile(values, q)) if values.size else float("nan")
