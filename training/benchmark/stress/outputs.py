"""What a detectability study leaves behind: tables, figures, page; and reading it again to compare models."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from PASTALib.errors import InputError

from ...runs import write_json
from .curves import Curve, Half
from .design import DENSITY, SIZE, SURFACE, Cell
from .figure import Series, draw_curves, draw_grid, save_png, svg
from .models import Tested
from .page import write_page
from .table import csv_text, write_text

SUMMARY, CURVES, PAGE, PICTURE, GRID_PICTURE = (
    "summary.json",
    "curves.csv",
    "stress.html",
    "stress.png",
    "stress-grid.png",
)
_COLUMNS = ("scan", "lesion", "attribute", "measure", "level", "lesions", "mean", "low", "high")


def write_outputs(
    out: Path,
    tested: Tested,
    settings: Mapping,
    scans: Mapping[str, dict],
    cells: Mapping[str, Sequence[Cell]],
    rows: Sequence[dict],
    curves: Sequence[Curve],
    beside: Sequence[str | Path] = (),
) -> Path:
    """Write curves.csv, summary.json, stress.png, stress.svg (and a heat map of a full grid) and stress.html; returns the page.

    ``beside``: folders of finished studies whose curves the figure shows, too.
    """
    write_text(out / CURVES, csv_text(_COLUMNS, _curve_rows(curves)))
    summary = {"model": tested.name, "digest": tested.digest, "settings": dict(settings), "scans": dict(scans)}
    write_json(out / SUMMARY, summary | {"curves": [_to_json(curve) for curve in curves]})
    series = [Series(tested.name, list(curves)), *map(read_series, beside)]
    figure = draw_curves(series)
    save_png(figure, out / PICTURE)
    write_text(out / PICTURE.replace(".png", ".svg"), svg(figure))
    axes = [name for name in (SIZE, DENSITY, SURFACE) if name in settings["levels"]]
    heat = draw_grid(curves, axes, "dark")
    if heat is not None:
        save_png(draw_grid(curves, axes), out / GRID_PICTURE)
    pictures = [svg(draw_curves(series, "dark"))] + ([svg(heat)] if heat is not None else [])
    return write_page(out / PAGE, tested, settings, scans, cells, rows, curves, pictures)


def read_series(folder: str | Path) -> Series:
    """The curves of a finished study. InputError where there is none."""
    summary = read_summary(folder)
    return Series(summary["model"], [_from_json(item) for item in summary["curves"]])


def read_summary(folder: str | Path) -> dict:
    """summary.json of a finished study."""
    file = Path(folder) / SUMMARY
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
        summary["curves"], summary["model"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder}: no finished stress study ({SUMMARY}); run benchmark --stress, with --resume if it was stopped"
        ) from None
    return summary


def _curve_rows(curves: Sequence[Curve]):
    for curve in curves:
        for level, count, mean, low, high in zip(curve.levels, curve.count, curve.mean, curve.low, curve.high):
            values = (curve.scan, curve.lesion, curve.factor, curve.measure, level, count, mean, low, high)
            yield dict(zip(_COLUMNS, values))


def _to_json(curve: Curve) -> dict:
    data = asdict(curve)
    data["spearman"] = None if math.isnan(curve.spearman) else curve.spearman
    if curve.half is not None:  # JSON has no infinity
        data["half"] = {key: value if math.isfinite(value) else str(value) for key, value in data["half"].items()}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in data.items()}


def _from_json(data: Mapping) -> Curve:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    values["spearman"] = float("nan") if data["spearman"] is None else data["spearman"]
    if data["half"] is not None:
        values["half"] = Half(**{key: float(value) for key, value in data["half"].items()})
    return Curve(**values)
