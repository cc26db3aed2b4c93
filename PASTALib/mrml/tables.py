"""Reports and volumes as table nodes and as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import vtk

from .. import taxonomy
from ..attributes import LEARNED, TABLE, StructuredReport
from ..organs import voxel_volume_ml
from ..reporting.rows import attribute_rows
from ..volume import Volume

DISCLAIMER = "Synthetic lesions. Not for diagnosis."
_LESION_COLUMNS = ("Lesion", "Place", "R (mm)", "A (mm)", "S (mm)", "Size Z×X×Y", "Enhancement")
_REPORT_COLUMNS = ("Lesion", "Attribute", "Value", "Basis", "Confidence", "Requested")
_VOLUME_COLUMNS = ("Structure", "Kind", "Volume (ml)")

Rows = Sequence[Sequence[object]]


def new_table_node(scene, name: str):
    """An empty table node."""
    return scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GetUniqueNameByString(name))


def fill_table(node, columns: Sequence[str], rows: Rows) -> None:
    """Replace the contents of a table node. A column is numeric when all its values are numbers, otherwise text; None is an empty cell."""
    table = vtk.vtkTable()
    for index, title in enumerate(columns):
        values = [row[index] for row in rows]
        numeric = bool(values) and all(isinstance(value, (int, float, np.number)) for value in values)
        column = vtk.vtkDoubleArray() if numeric else vtk.vtkStringArray()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(float(value) if numeric else "" if value is None else str(value))
        table.AddColumn(column)
    titled = (
        getattr(node, "SetUseColumnTitleAsColumnHeader", None) or node.SetUseColumnNameAsColumnHeader
    )  # before 5.13
    titled(True)
    node.SetAndObserveTable(table)


def fill_lesion_table(node, names: Sequence[str], reports: Sequence[StructuredReport], centres_ras) -> None:
    """One row per lesion: name, place, centre in world RAS mm, size and the attributes as reported."""
    titles = [TABLE[key].title for key in LEARNED]
    rows = []
    for name, report, centre in zip(names, reports, centres_ras):
        place = report.location_detail or report.organ.name
        rest = [report.value(key) for key in ("size", "enhancement", *LEARNED)]
        rows.append([name, place, *(round(float(c), 1) for c in centre), *rest])
    fill_table(node, (*_LESION_COLUMNS, *titles), rows)


def fill_report_table(node, names: Sequence[str], reports: Sequence[StructuredReport]) -> None:
    """Eight rows per lesion: attribute, value, how the report knows, confidence, and what was asked for."""
    rows = []
    for name, report in zip(names, reports):
        for row in attribute_rows(report):
            entry = report.values.get(row.key)
            confidence = None if entry is None or entry.confidence is None else f"{entry.confidence:.2f}"
            rows.append([name, row.name, row.reported, row.basis, confidence, row.wanted])
    fill_table(node, _REPORT_COLUMNS, rows)


def volume_rows(labels: Volume) -> list[tuple[str, str, float]]:
    """(name, "organ" or "lesion", ml) of everything in a PASTA label map; an organ's volume excludes its lesions. Threads may call it."""
    counts = np.zeros(256, np.int64)
    for plane in labels.array:
        counts += np.bincount(plane.ravel(), minlength=256)[:256]
    ml = voxel_volume_ml(labels)
    rows = [(item.name, "organ", counts[item.value] * ml) for item in taxonomy.ORGANS if counts[item.value]]
    rows += [(item.name, "lesion", counts[item.value] * ml) for item in taxonomy.LESIONS if counts[item.value]]
    return [(name, kind, round(float(volume), 2)) for name, kind, volume in rows]


def fill_volume_table(node, rows: Iterable[tuple[str, str, float]]) -> None:
    """One row per organ and lesion type, from ``volume_rows``."""
    fill_table(node, _VOLUME_COLUMNS, list(rows))


def report_text(names: Sequence[str], reports: Sequence[StructuredReport], scan: str = "") -> str:
    """The reports as text to copy: one block per lesion, with a sentence each."""
    lines = [f"Scan: {scan}", ""] if scan else []
    for name, report in zip(names, reports):
        lines += [name, report.to_text(), "", report.to_sentence(), ""]
    return "\n".join([*lines, DISCLAIMER, ""])
