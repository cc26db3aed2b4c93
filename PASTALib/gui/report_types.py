"""A row for each segment that does not tell what it is, with a box for the lesion's type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import qt
from slicer.i18n import tr as _

from .. import taxonomy


class TypesForm:
    """Fills a widget. ``chosen(segment, key)`` tells what the user picks: a type key, or "" for no lesion."""

    def __init__(self, widget, chosen: Callable[[str, str], None]):
        self._chosen = chosen
        self._form = qt.QFormLayout(widget)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setRowWrapPolicy(qt.QFormLayout.WrapLongRows)
        self._keys = ["", *taxonomy.LESION_KEYS]
        self.boxes: dict[str, object] = {}

    def show(self, segments: Sequence[str], types: Mapping[str, str]) -> None:
        """Show these segments with what the user has said of them."""
        if list(self.boxes) != list(dict.fromkeys(segments)):
            while self._form.rowCount():
                self._form.removeRow(0)
            self.boxes = {name: self._box(name) for name in segments}
            for name, box in self.boxes.items():
                self._form.addRow(f"{name}:", box)
        for name, box in self.boxes.items():
            key = types.get(name, "")
            box.setCurrentIndex(self._keys.index(key) if key in self._keys else 0)

    def _box(self, name: str):
        box = qt.QComboBox()
        box.setObjectName(f"typeBox_{len(self.boxes)}")
        box.addItem(_("no lesion"))
        for key in taxonomy.LESION_KEYS:
            box.addItem(taxonomy.lesion(key).name)
        box.toolTip = _("Type of the lesion that segment “{name}” outlines.").format(name=name)
        box.setAccessibleName(box.toolTip)
        box.connect("activated(int)", lambda index: self._chosen(name, self._keys[index]))
        return box
