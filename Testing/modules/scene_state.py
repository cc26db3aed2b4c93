"""What tests of a synthesis session compare: voxels, segments, table and the scan behind them."""

from __future__ import annotations

import numpy as np
import slicer

from PASTALib.mrml.segmentations import read_segment


def voxels(node) -> np.ndarray:
    return slicer.util.arrayFromVolume(node)


def segment_ids(session) -> list[str]:
    segmentation = session.nodes.segmentation.GetSegmentation()
    return [segmentation.GetNthSegmentID(i) for i in range(segmentation.GetNumberOfSegments())]


def table_cells(session) -> list[list[str]]:
    table = session.nodes.table.GetTable()
    rows, columns = table.GetNumberOfRows(), table.GetNumberOfColumns()
    return [[table.GetValue(row, column).ToString() for column in range(columns)] for row in range(rows)]


def state(session) -> tuple:
    """Everything that undo has to bring back: voxels, segments, table, and the scan behind them."""
    segmentation = session.nodes.segmentation.GetSegmentation()
    segments = {}
    for identifier in segment_ids(session):
        segment = segmentation.GetSegment(identifier)
        mask = read_segment(session.nodes.segmentation, identifier, session.scan.ct)
        segments[identifier] = (segment.GetName(), tuple(np.round(segment.GetColor(), 4)), np.packbits(mask).tobytes())
    return (
        voxels(session.nodes.output).tobytes(),
        list(segments.items()),
        table_cells(session),
        session.scan.ct.array.tobytes(),
        session.scan.organs.labels.array.tobytes(),
        [item.center_ras for item in session.scan.lesions],
    )
