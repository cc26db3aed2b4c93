"""A table of lesions whose rows jump the slice views to the lesion."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import qt
from slicer.i18n import tr as _

from ..reporting.document import volume_text
from .module_widget import jump_to
from .segment_nodes import LesionRow

_SHOWN_ROWS = 10


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
        for column in range(len(titles)):  # names and places take what figures leave, and are wrapped
            words = column in (0, len(titles) - 1)
            header.setSectionResizeMode(column, qt.QHeaderView.Stretch if words else qt.QHeaderView.ResizeToContents)
        table.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        self._refit = _Refit(table, self.fit)
        table.installEventFilter(self._refit)
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
        self.fit()

    def set_text(self, row: int, column: int, text: str) -> None:
        """Change one cell."""
        for change in (self._table.item(row, column).setText, self._table.item(row, column).setToolTip):
            change(text)
        self._refit.soon()

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

    def fit(self) -> None:
        """As high as its rows, up to a few of them: a panel scrolls as a whole."""
        self._table.resizeRowsToContents()
        header = self._table.horizontalHeader()
        rows = sum(self._table.rowHeight(row) for row in range(min(len(self._points), _SHOWN_ROWS)))
        height = header.sizeHint.height() + rows + 2 * self._table.frameWidth
        if height != self._table.height:
            self._table.setFixedHeight(height)


class _Refit(qt.QObject):
    """Has a table's height follow its width and its font."""

    def __init__(self, table, fit: Callable[[], None]):
        qt.QObject.__init__(self, table)
        self._timer = qt.QTimer(self)  # gone with the table
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", fit)

    def eventFilter(self, watched, event) -> bool:
        if event.type() in (qt.QEvent.Resize, qt.QEvent.FontChange):
            self.soon()
        return False

    def soon(self) -> None:
        """Fit the table once its header has its new width."""
        self._timer.start(0)


def row_texts(row: LesionRow) -> tuple[str, str, str, str]:
    """A lesion as the list shows it: name, axial diameters in mm, volume in ml, place."""
    return row.name, *sizes(row.long_mm, row.short_mm, row.volume_ml), row.place


def sizes(long_mm: float, short_mm: float, volume_ml: float) -> tuple[str, str]:
    """Axial diameters and volume as figures, for columns that name the units."""
    return f"{long_mm:.0f} × {short_mm:.0f}", volume_text(volume_ml).removesuffix(" ml")


def size_titles() -> tuple[str, str]:
    """Titles of the columns of ``sizes``."""
    return _("Axial mm"), _("ml")
