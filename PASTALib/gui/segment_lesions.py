"""A table of lesions whose rows jump the slice views to the lesion."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import qt

from ..reporting.document import volume_text
from .module_widget import jump_to
from .segment_nodes import LesionRow

_SHOWN_ROWS = 6


class LesionList:
    """Wires a QTableWidget. ``fill`` rows of text with a point each (world RAS mm); picking a row, by mouse or arrow keys, jumps to its point.

    ``picked(row)`` is called after the jump.
    """

    def __init__(self, table, titles: Sequence[str], picked: Callable[[int], None] = lambda row: None):
        self._table, self._picked, self._points = table, picked, []
        table.setColumnCount(len(titles))
        table.setHorizontalHeaderLabels(list(titles))
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        table.setTabKeyNavigation(False)
        table.verticalHeader().hide()
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setStretchLastSection(True)
        table.connect("itemSelectionChanged()", self._selected)

    def fill(self, rows: Sequence[Sequence[str]], points: Sequence[Sequence[float]]) -> None:
        """Replace all rows; none is picked afterwards."""
        self._table.blockSignals(True)
        self._points = [tuple(point) for point in points]
        self._table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                self._table.setItem(number, column, item)
        self._table.clearSelection()
        self._table.setCurrentItem(None)
        self._table.blockSignals(False)
        self._fit()

    def set_text(self, row: int, column: int, text: str) -> None:
        """Change one cell."""
        self._table.item(row, column).setText(text)

    @property
    def row(self) -> int:
        """The row that is picked, -1 for none."""
        rows = self._table.selectionModel().selectedRows()
        return rows[0].row() if rows else -1

    def pick(self, row: int) -> None:
        """Pick a row as the user does."""
        self._table.selectRow(row)

    def _selected(self) -> None:
        row = self.row
        if 0 <= row < len(self._points):
            jump_to(self._points[row])
            self._picked(row)

    def _fit(self) -> None:
        """As high as its rows, up to a few of them: a panel scrolls as a whole."""
        self._table.resizeRowsToContents()
        rows = min(max(len(self._points), 1), _SHOWN_ROWS)
        row = self._table.rowHeight(0) if self._points else self._table.fontMetrics().height() + 6
        head = self._table.horizontalHeader().sizeHint.height()
        bar = self._table.horizontalScrollBar().sizeHint.height()
        self._table.setFixedHeight(head + rows * row + bar + 4)


def row_texts(row: LesionRow) -> tuple[str, str, str, str]:
    """A lesion as the list shows it: name, axial size, volume, place."""
    return row.name, f"{row.long_mm:.0f} × {row.short_mm:.0f} mm", volume_text(row.volume_ml), row.place
