"""The CSV tables that lie beside the report: every number of it, with the intervals for these readers alone too."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence

from .multireader import Estimate
from .results import ALL, PartResults, StudyResults
from .table import REAL, SYNTHETIC, TRUTHS

_ESTIMATE = ("value", "low", "high", "se", "df", "low_these_readers", "high_these_readers", "readers", "cases")


def csv_tables(results: StudyResults) -> dict[str, str]:
    """File name -> CSV text; tables without a row are left out. Empty cells: not defined, or no such thing."""
    parts = list(results.parts.values())
    tables = {
        "means.csv": (("part", "question", "truth", "lesion_type", *_ESTIMATE), [row for part in parts for row in _means(part)]),
        "differences.csv": (("lesion_type", *_ESTIMATE), [row for part in parts for row in _of_types(part, "differences")]),
        "auc.csv": (("lesion_type", *_ESTIMATE), [row for part in parts for row in _of_types(part, "auc")]),
        "tests.csv": (("test", "claim", "value", "low", "high", "interval_level", "p", "holds"), [row for part in parts for row in _tests(part)]),
        "agreement.csv": (
            ("part", "question", "between", "statistic", "value", "low", "high", "readers", "cases", "remark"),
            [row for part in parts for row in _agreement(part)],
        ),
        "readers.csv": (
            (
                "part", "reader", "expected", "rated", "missing", "mean_real", "mean_synthetic", "difference", "auc", "seconds_q1", "seconds_median",
                "seconds_q3", "hours", "confidence_real", "confidence_synthetic",
            ),
            [row for part in parts for row in _readers(part)],
        ),
        "roc.csv": (("reader", "score_at_least", "share_of_synthetic", "share_of_real"), [row for part in parts for row in _roc(part)]),
        "missing.csv": (("part", "of", "missing"), [(p.name, name, count) for p in parts for name, count in p.gaps.items()]),
    }  # fmt: skip
    return {name: _text(head, rows) for name, (head, rows) in tables.items() if rows}


def _text(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([[_cell(value) for value in row] for row in rows])
    return buffer.getvalue()


def _cell(value):
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return "" if value is None else value


def _estimate(item: Estimate) -> tuple:
    return (
        item.value,
        item.low,
        item.high,
        item.se,
        item.df,
        item.fixed_low,
        item.fixed_high,
        item.readers,
        item.cases,
    )


def _means(part: PartResults) -> Iterator[tuple]:
    if part.realism is not None:
        for truth, row in part.realism.means.items():
            for kind, item in row.items():
                yield (part.name, "realism", truth, kind, *_estimate(item))
    for question, row in part.means.items():
        for kind, item in row.items():
            yield (part.name, question, "", kind, *_estimate(item))


def _of_types(part: PartResults, name: str) -> Iterator[tuple]:
    if part.realism is not None:
        for kind, item in getattr(part.realism, name).items():
            yield (kind, *_estimate(item))


def _tests(part: PartResults) -> Iterator[tuple]:
    for test in part.realism.tests if part.realism is not None else ():
        yield (test.name, test.claim, test.value, *test.interval, test.level, test.p, test.holds)


def _agreement(part: PartResults) -> Iterator[tuple]:
    for question, found in part.between.items():
        for item in found:
            yield (
                part.name,
                question,
                "readers",
                item.statistic,
                item.value,
                item.low,
                item.high,
                item.readers,
                item.cases,
                item.remark,
            )
    for question, lists in part.within.items():
        for who, found in zip((*part.readers, "all readers"), lists):
            for item in found:
                yield (
                    part.name, question, f"two readings of {who}", item.statistic, item.value, item.low, item.high, item.readers, item.cases, item.remark,
                )  # fmt: skip


def _readers(part: PartResults) -> Iterator[tuple]:
    for reader in part.readers:
        times = part.times.get(reader)
        seconds = (*times.quartiles, times.hours) if times else (None,) * 4
        sure = tuple(part.confidence.get((reader, truth)) for truth in TRUTHS)
        lost = part.expected[reader] - part.rated[reader]
        yield (
            part.name,
            reader,
            part.expected[reader],
            part.rated[reader],
            lost,
            *reader_values(part, reader),
            *seconds,
            *sure,
        )


def reader_values(part: PartResults, reader: str) -> tuple[float | None, ...]:
    """One reader's mean on real and on synthetic cases, their difference and the AUC; None where there is no such value."""
    found = part.realism
    if found is None:
        return (None,) * 4
    at = part.readers.index(reader)
    items = (
        found.means.get(REAL, {}).get(ALL),
        found.means.get(SYNTHETIC, {}).get(ALL),
        found.differences.get(ALL),
        found.auc.get(ALL),
    )
    return tuple(item.per_reader[at] if item is not None else None for item in items)


def _roc(part: PartResults) -> Iterator[tuple]:
    for reader, (false, true) in (part.realism.roc if part.realism is not None else {}).items():
        for score, (x, y) in enumerate(zip(false, true), 1):
            yield (reader, score, x, y)
