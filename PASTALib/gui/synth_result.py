"""The section "Result": what was asked for beside what is measured, and how lesions are shown in the views."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from ..mrml.placed_lesion import PlacedLesion
from ..reporting.rows import AttributeRow, rows_of
from ..synthesis.scan import PreparedScan

_LEAST_CHARACTERS = 48  # that three columns need
_BINARY, _SURFACE = "Binary labelmap", "Closed surface"


class ResultTable:
    """Fills a table widget with the eight attributes of a lesion."""

    def __init__(self, table):
        self._table = table
        self._shown: object = None
        self._rows: list[AttributeRow] = []
        self._narrow = False
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Attribute"), _("Asked for"), _("Measured")])
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(1, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(2, qt.QHeaderView.Stretch)
        table.verticalHeader().hide()
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        table.setSelectionMode(qt.QAbstractItemView.NoSelection)
        table.setFocusPolicy(qt.Qt.NoFocus)
        table.setWordWrap(True)
        table.setVerticalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        table.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        self._timer = qt.QTimer(table)  # the heights of rows are known when all columns have their widths
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self.fit)
        header.connect("sectionResized(int,int,int)", lambda *_: self._timer.start())

    def show(self, lesion: PlacedLesion | None, scan: PreparedScan | None) -> None:
        """Show a lesion; nothing for None. A draft leaves what is shown, greyed, until its measurement comes."""
        table = self._table
        draft = lesion is not None and lesion.is_draft
        table.enabled = not draft
        if draft or (lesion is not None and lesion.result is self._shown):
            return
        self._shown = None if lesion is None else lesion.result
        self._rows = [] if lesion is None else rows_of(lesion.result, float(scan.spacing.max()))
        self._fill()
        self.fit()

    def fit(self) -> None:
        """As high as its rows, so that the panel scrolls and not the table. Where three columns are too many, wishes stand below what is measured."""
        table = self._table
        narrow = table.width < _LEAST_CHARACTERS * table.fontMetrics().averageCharWidth()
        if narrow != self._narrow:
            self._narrow = narrow
            table.setColumnHidden(1, narrow)
            self._fill()
        table.resizeRowsToContents()
        rows = sum(table.rowHeight(row) for row in range(table.rowCount))
        table.setFixedHeight(rows + table.horizontalHeader().sizeHint.height() + 4)

    def _fill(self) -> None:
        self._table.setRowCount(len(self._rows))
        for number, row in enumerate(self._rows):
            self._fill_row(number, row)

    def _fill_row(self, number: int, row: AttributeRow) -> None:
        asked = row.wanted if row.asked else _("any")
        if row.key in ("enhancement", "location"):
            asked = "\u2013"
        reported = row.reported
        if self._narrow and row.asked and row.wanted:
            reported = _("{measured}\n(asked: {wanted})").format(measured=row.reported, wanted=row.wanted)
        tip = ". ".join(text for text in (row.origin, row.remark) if text)
        for column, text in enumerate((row.name.removesuffix(" status"), asked, reported)):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(tip)
            if row.asked and row.differs:
                font = item.font()
                font.setBold(True)
                item.setFont(font)
                item.setToolTip(_("Not as asked for. {tip}").format(tip=tip))
            self._table.setItem(number, column, item)


def show_outlines(segmentation, outlines: bool) -> None:
    """Outline the lesions in the slices; never fill them, which would hide what was made."""
    display = segmentation.GetDisplayNode()
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(bool(outlines))


def show_surface(segmentation, wanted: bool) -> None:
    """Show the lesions in 3D, or not. Surfaces are made anew at every change of a segment, so they go while controls move."""
    shown = segmentation.GetSegmentation().ContainsRepresentation(_SURFACE)
    if wanted and not shown:
        segmentation.CreateClosedSurfaceRepresentation()
    elif shown and not wanted:
        segmentation.GetSegmentation().RemoveRepresentation(_SURFACE)
        segmentation.GetDisplayNode().SetPreferredDisplayRepresentationName2D(_BINARY)
