"""One lesion below the list: its figures, key images and attributes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import qt
from slicer.i18n import tr as _

from ..findings import Finding
from ..reporting.document import figure_lines
from ..volume import Volume
from .report_editor import AttributeEditor
from .report_pictures import key_pixmaps

_PIXELS = 104  # three fit beside each other into the narrowest panel


class LesionDetail:
    """Fills figuresLabel, picturesWidget and attributesWidget of a panel; for ``edited`` and ``taken_back`` see ``AttributeEditor``."""

    def __init__(self, ui, edited: Callable[[str, str], None], taken_back: Callable[[str], None]):
        self._figures, self._holder = ui.figuresLabel, ui.picturesWidget
        row = qt.QHBoxLayout(ui.picturesWidget)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        self.pictures = [qt.QLabel() for _plane in range(3)]
        for label in self.pictures:
            label.setFixedSize(_PIXELS, _PIXELS)
            row.addWidget(label)
        row.addStretch(1)
        self._waiting: Iterator = iter(())
        self._timer = qt.QTimer(ui.picturesWidget)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._draw_next)
        self.editor = AttributeEditor(ui.attributesWidget, edited, taken_back)

    def show(self, item: Finding, edits: Collection[str], scan: Volume | None) -> None:
        """Show a finding; ``scan``: the CT (only looked at), None when it is no longer the one that was measured."""
        title = _("{number} · {lesion}, {place}").format(number=item.number, lesion=item.name, place=item.place.lower())
        self._figures.text = "\n".join([title, " · ".join(figure_lines(item))])
        self._holder.visible = scan is not None
        for label in self.pictures:
            label.clear()
        self._waiting = iter(())
        if scan is not None:  # one picture for each turn of the event loop
            self._waiting = zip(self.pictures, key_pixmaps(item, scan, _PIXELS))
            self._timer.start()
        self.show_attributes(item, edits)

    def show_attributes(self, item: Finding, edits: Collection[str]) -> None:
        """Show the attributes alone, after a change."""
        self.editor.show(item, edits)

    @property
    def drawing(self) -> bool:
        """Whether pictures are still to come."""
        return self._timer.active

    def _draw_next(self) -> None:
        try:
            label, (plane, pixmap) = next(self._waiting)
        except StopIteration:
            self._timer.stop()
            return
        label.setPixmap(pixmap)
        label.setObjectName(f"picture_{plane}")
        label.toolTip = _("{plane}: outline of the lesion; blue and green: its axial diameters").format(
            plane=plane.capitalize()
        )
        label.setAccessibleName(_("{plane} picture of the lesion").format(plane=plane.capitalize()))
