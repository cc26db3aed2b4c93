"""Pieces of the report page: figures for wide and narrow windows, tables, and numbers with their intervals, as HTML."""

from __future__ import annotations

import base64
import math
from html import escape

from . import figures
from .methods import decimal, number
from .multireader import Estimate
from .results import ALL
from .table import kind_name

NONE = "<span class=none>–</span>"


def plot(drawn: dict, name: str, css: str = "") -> str:
    """A figure in two forms, for wide and for narrow windows."""
    if name not in drawn:
        return ""
    caption, draw = drawn[name]
    wide, small = (data_url(figures.svg(draw(look))) for look in (figures.DARK, figures.narrow(figures.DARK)))
    return (
        f"<figure class='plot {css}'><picture><source media='(max-width:820px)' srcset='{small}'><img src='{wide}' alt='{escape(caption)}'></picture>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def data_url(text: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode("ascii")


def html_table(head: list[str], rows: list[list[str]], wide: tuple[int, ...] = (), css: str = "") -> str:
    """An HTML table; cells are HTML. Columns numbered in ``wide`` are left out in narrow windows."""
    mark = lambda n: " class=wide" if n in wide else ""  # noqa: E731
    top = "".join(f"<th{mark(n)}>{cell}</th>" for n, cell in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{mark(n)}>{cell}</td>" for n, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<div class='table {css}'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def estimate_cell(estimate: Estimate | None, digits: int = 2, sign: bool = False) -> str:
    """Value and interval."""
    if estimate is None or not math.isfinite(estimate.value):
        return NONE
    value, _, interval = number(estimate, digits, sign).partition(" ")
    return f"{value} <span class=interval>{interval}</span>" if interval else value


def readers_cell(estimate: Estimate | None, digits: int = 2, sign: bool = False) -> str:
    """The interval for these readers alone."""
    if estimate is None or not math.isfinite(estimate.fixed_low):
        return NONE
    return f"<span class=interval>({decimal(estimate.fixed_low, digits, sign)} to {decimal(estimate.fixed_high, digits, sign)})</span>"


def value_cell(number: float | None, digits: int = 2, sign: bool = False) -> str:
    return NONE if number is None or not math.isfinite(number) else decimal(number, digits, sign)


def interval_cell(value: float, ends: tuple[float, float], sign: bool = False) -> str:
    """Value and interval as HTML."""
    if not (math.isfinite(value) and all(map(math.isfinite, ends))):
        return value_cell(value, sign=sign)
    low, high = (decimal(end, sign=sign) for end in ends)
    return f"{decimal(value, sign=sign)} <span class=interval>({low} to {high})</span>"


def kind_cell(key: str) -> str:
    return "<b>All types</b>" if key == ALL else escape(kind_name(key))
