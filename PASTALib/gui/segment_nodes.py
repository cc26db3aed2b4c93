"""The result of a segmentation as nodes: a segmentation, a table of volumes, and a table of lesions that the list in the panel is read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slicer.i18n import tr as _

from ..findings import Finding
from ..mrml.segmentations import segmentation_of, update_segment
from ..mrml.tables import fill_table, fill_volume_table, new_table_node
from .segment_work import SegmentResult, numbered_names

_COLUMNS = ("Lesion", "Longest (mm)", "Perpendicular (mm)", "Volume (ml)", "Place", "R (mm)", "A (mm)", "S (mm)")
_OTHER_COLOURS = ((0.6, 0.75, 0.9), (0.85, 0.7, 0.9), (0.75, 0.9, 0.7), (0.95, 0.85, 0.6))


@dataclass(frozen=True)
class LesionRow:
    """One line of the lesion list: name, two axial diameters in mm, volume in ml, place, a point inside in world RAS mm."""

    name: str
    long_mm: float
    short_mm: float
    volume_ml: float
    place: str
    point_ras: tuple[float, float, float]


def add_result(result: SegmentResult, ct_node):
    """Add the nodes of a result: (segmentation, table of volumes, table of lesions), named after the CT."""
    name = ct_node.GetName()
    segmentation = segmentation_of(result.parts, ct_node, f"{name} segmentation")
    for number, part in enumerate(result.others):
        identifier = segmentation.GetSegmentation().AddEmptySegment("", part.name, _OTHER_COLOURS[number % 4])
        update_segment(segmentation, identifier, ct_node, part.slices, part.mask)
    volumes = new_table_node(ct_node.GetScene(), f"{name} volumes")
    fill_volume_table(volumes, result.volumes)
    lesions = new_table_node(ct_node.GetScene(), f"{name} lesions")
    fill_table(lesions, _COLUMNS, [_cells(*item) for item in zip(numbered_names(result.findings), result.findings)])
    for node in (volumes, lesions):
        node.SetNodeReferenceID("segmentation", segmentation.GetID())
    return segmentation, volumes, lesions


def read_lesions(table_node) -> list[LesionRow]:
    """The lesions of a table that ``add_result`` made; none for None or another table."""
    table = table_node.GetTable() if table_node is not None else None
    if table is None or any(table.GetColumnByName(title) is None for title in _COLUMNS):
        return []
    rows = []
    for number in range(table.GetNumberOfRows()):
        name, long_mm, short_mm, volume_ml, place, *point = (
            table.GetValueByName(number, title).ToString() for title in _COLUMNS
        )
        rows.append(LesionRow(name, float(long_mm), float(short_mm), float(volume_ml), place, tuple(map(float, point))))
    return rows


def summary(result: SegmentResult) -> str:
    """One line: how many organs and lesions were found."""
    organs, lesions = len(result.parts.keys), len(result.findings)
    return _("{lesions} lesions, {organs} organs").format(lesions=lesions, organs=organs)


def _cells(name: str, item: Finding) -> Sequence[object]:
    figures = (item.long_axis.length_mm, item.short_axis.length_mm, item.volume_ml, *item.centre_ras)
    long_mm, short_mm, volume_ml, *point = (round(float(value), 3) for value in figures)
    return [name, long_mm, short_mm, volume_ml, item.place, *point]
