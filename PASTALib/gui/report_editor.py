"""The eight attributes of one lesion: what was measured and predicted, and boxes in which a reader changes them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from html import escape
from typing import Any

import qt
from slicer.i18n import tr as _

from .. import attributes
from ..attributes import TABLE, AttributeValue
from ..errors import InputError
from ..findings import Finding
from .report_state import EDITABLE, evidence


@dataclass(frozen=True)
class _Row:
    """The widgets of one attribute: a line that says what speaks for it, the box below, and the button that takes a change back."""

    told: Any
    field: Any
    undo: Any

    def tell(self, title: str, text: str) -> None:
        self.told.text = f"<b>{escape(title)}</b> · {escape(text)}"


class AttributeEditor:
    """Fills a widget with a row per attribute. ``edited(key, text)`` and ``taken_back(key)`` tell what the reader does; InputError of
    ``edited`` is shown beside the field, which keeps its text."""

    def __init__(self, widget, edited: Callable[[str, str], None], taken_back: Callable[[str], None]):
        self._edited, self._taken_back = edited, taken_back
        self._filter = _NoWheel(widget)
        self._showing = False
        self.rows: dict[str, _Row] = {}
        grid = qt.QGridLayout(widget)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(0, 1)
        for number, key in enumerate(TABLE):
            row = self._row(key)
            self.rows[key] = row
            grid.addWidget(row.told, 2 * number, 0)
            grid.addWidget(row.undo, 2 * number, 1)
            grid.addWidget(row.field, 2 * number + 1, 0, 1, 2)

    def show(self, shown: Finding, edits: Collection[str]) -> None:
        """Show a finding with the reader's changes in it; ``edits``: keys that were changed."""
        self._showing = True
        for key, row in self.rows.items():
            value = shown.report.value(key)
            if key == "size":
                row.field.text = value or ""
            else:
                _fill(row.field, key, value)
            row.field.toolTip = f"{TABLE[key].definition}\n{value or _('not known')}"
            row.tell(TABLE[key].title, _evidence_text(shown, key, key in edits))
            row.undo.visible = key in edits
        self._showing = False

    def _row(self, key: str) -> _Row:
        told = qt.QLabel()
        told.setObjectName(f"told_{key}")
        told.wordWrap = True
        told.toolTip = TABLE[key].definition
        told.setAccessibleName(_("What speaks for {attribute}").format(attribute=TABLE[key].title))
        if key == "size":
            field = qt.QLineEdit()
            field.setPlaceholderText(_("Z×X×Y mm, such as 25×25×37 mm"))
            field.connect("editingFinished()", lambda: self._change(key, field.text))
        else:
            field = qt.QComboBox()
            field.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
            field.setMinimumContentsLength(10)
            field.setFocusPolicy(qt.Qt.StrongFocus)
            field.installEventFilter(self._filter)
            field.connect("activated(int)", lambda index: self._change(key, field.itemText(index)))
        field.setObjectName(f"field_{key}")
        field.setAccessibleName(TABLE[key].title)
        field.enabled = key in EDITABLE
        undo = qt.QToolButton()
        undo.setObjectName(f"undo_{key}")
        undo.text = _("Undo")
        undo.toolTip = _("Take back your change of: {attribute}").format(attribute=TABLE[key].title)
        undo.setAccessibleName(undo.toolTip)
        undo.visible = False
        undo.connect("clicked(bool)", lambda _clicked=False: self._taken_back(key))
        return _Row(told, field, undo)

    def _change(self, key: str, text: str) -> None:
        if self._showing:
            return
        if text == _("not known") or not text.strip():
            self._taken_back(key)
            return
        try:
            self._edited(key, text)
        except InputError as error:
            self.rows[key].tell(TABLE[key].title, str(error))


class _NoWheel(qt.QObject):
    """Scrolling the panel must not change a report: wheels over a box go on to the panel."""

    def eventFilter(self, watched, event) -> bool:
        if event.type() == qt.QEvent.Wheel:
            event.ignore()
            return True
        return False


def _fill(box, key: str, value: str | None) -> None:
    options = [*(() if value is not None else (_("not known"),)), *attributes.options(key)]
    if key == "location":
        options = [value or _("not known")]
    if [box.itemText(i) for i in range(box.count)] != options:
        box.clear()
        box.addItems(options)
    box.setCurrentIndex(options.index(value) if value is not None else 0)


def _evidence_text(item: Finding, key: str, edited: bool) -> str:
    """In words what speaks for the value that is shown, and against it: "predicted, 87 % · measured: Isodense (−4 HU to its surroundings)"."""
    if key == "location":
        detail = item.report.location_detail
        return detail if detail and detail != item.report.location else _("follows from the type")
    value = item.report.value(key)
    measured, predicted, reason = evidence(item, key)
    parts = [_("edited by reader")] if edited else []
    if predicted is not None:
        option, share, trained = predicted
        percent = round(100 * share)
        if not trained:
            parts.append(_("random weights: {option}").format(option=option))
        elif option == value:
            parts.append(_("predicted, {percent} %").format(percent=percent))
        else:
            parts.append(_("predicted: {option}, {percent} %").format(option=option, percent=percent))
    if measured is not None:
        same = measured.value == value
        parts.append(_("measured") if same else _("measured: {option}").format(option=measured.value))
        parts[-1] += _figure(measured)
    elif reason:
        parts.append(_("not measured: {reason}").format(reason=reason))
    elif predicted is None and not edited:
        parts.append(_("needs an organ map or a model"))
    return " · ".join(parts)


def _figure(measured: AttributeValue) -> str:
    """The figure that a reader asks for first, and how sure the measurement is."""
    text = ""
    delta = (measured.figure or {}).get("density_delta_hu")
    if delta is not None:
        number = f"{delta:+.0f}".replace("-", "\u2212")
        text += " " + _("({number} HU to its surroundings)").format(number=number)
    if measured.confidence is not None:
        text += " " + _("({percent} % sure)").format(percent=round(100 * measured.confidence))
    return text
