"""The eight attributes of a report as rows for tables: requested, reported, and how the report knows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..attributes import TABLE, StructuredReport, parse_size
from ..synthesis.spec import ATTRIBUTES, SynthesisResult

# Figures worth a reader's attention, by attribute: key in the report, text, factor.
_FIGURES = {
    "density_delta_hu": "{:+.0f} HU to its surroundings",
}


@dataclass(frozen=True)
class AttributeRow:
    """One attribute of one lesion.

    ``wanted``: what the generator aimed at, empty where it had no aim; ``asked``: whether that was the user's wish (otherwise it was drawn).
    ``differs``: the report says something else. ``remark``: a figure behind the value, or why it could not be measured.
    """

    key: str
    name: str
    wanted: str
    asked: bool
    reported: str
    basis: str
    differs: bool
    remark: str = ""

    @property
    def origin(self) -> str:
        """``basis`` in words: a value that was not measured was asked for or drawn."""
        if self.basis != "requested":
            return self.basis
        return "requested, not measured" if self.asked else "drawn, not measured"


def attribute_rows(
    report: StructuredReport,
    asked: Collection[str] | None = None,
    reasons: Mapping[str, str] | None = None,
    voxel_mm: float = 0.0,
) -> list[AttributeRow]:
    """Eight rows in the order of the paper's table.

    ``asked``: keys that the user asked for (default: everything in ``report.requested``); ``reasons``: why keys could not be measured;
    ``voxel_mm``: the scan's largest voxel side, within which a size cannot be told.
    """
    asked = set(report.requested) if asked is None else set(asked)
    rows = []
    for key in ATTRIBUTES:
        entry = report.values.get(key)
        reported = entry.value if entry else "not known"
        if key == "location" and report.location_detail not in ("", report.location, report.organ.name):
            reported = f"{reported} ({report.location_detail})"
        figures = (entry.figure or {}) if entry else {}
        remark = next((_figure(text, figures[name]) for name, text in _FIGURES.items() if name in figures), "")
        if entry is None or entry.basis == "requested":
            remark = (reasons or {}).get(key, "")
        wanted = "" if key == "enhancement" else report.requested.get(key, "")
        basis = entry.basis if entry else ""
        differs = key in report.deviations
        if key == "size" and key in asked and wanted and entry is not None:
            differs = size_differs(parse_size(wanted), report.size_mm, voxel_mm)
        rows.append(AttributeRow(key, TABLE[key].title, wanted, key in asked, reported, basis, differs, remark))
    return rows


def size_differs(wanted_mm: tuple[float, ...], found_mm: tuple[float, ...], voxel_mm: float = 0.0) -> bool:
    """Whether a size is off by more than a reader would call the same: 10 %, 3 mm or a voxel in any direction, whichever is most."""
    return any(
        abs(found - wanted) > max(3.0, 1.01 * voxel_mm, 0.1 * wanted) for wanted, found in zip(wanted_mm, found_mm)
    )


def rows_of(result: SynthesisResult, voxel_mm: float = 0.0) -> list[AttributeRow]:
    """The rows of a synthetic lesion, telling wishes from draws."""
    request = result.request
    asked = set(request.attributes)
    if request.size_mm is not None:
        asked.add("size")
    if request.density_delta_hu is not None:
        asked.add("density")
    return attribute_rows(result.report, asked, result.measurement.reasons, voxel_mm)


def _figure(text: str, number: float) -> str:
    return text.format(number).replace("-", "\u2212")


def summary_lines(report: StructuredReport | None) -> list[str]:
    """Two short lines for a picture's heading: what and where, then the five described attributes."""
    if report is None:
        return []
    place = report.location_detail or report.organ.name
    first = [report.value("size"), place, report.value("enhancement")]
    second = [report.value(key) for key in ("shape", "density", "heterogeneity", "surface", "invasion")]
    return [" · ".join(item for item in line if item) for line in (first, second)]
