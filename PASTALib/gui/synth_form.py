"""The section "Lesion" of the panel: type, size, attributes; combo boxes that hold only what the type allows in this scan."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _
from slicer.util import NodeModify

from ..attributes import LEARNED, TABLE
from ..synthesis.scan import PreparedScan
from .synth_choices import ANY, BY_HU, difference_range, option_choices, type_choices

_FLAGS_ROLE = 255  # Qt::UserRole - 1, where QStandardItemModel keeps an item's flags
_ENABLED_FLAGS = 33  # Qt::ItemIsSelectable | Qt::ItemIsEnabled


class LesionForm:
    """Shows the parameter node's wishes and writes the user's choices into it. ``ui``: the panel's widgets by name."""

    def __init__(self, ui):
        self._ui = ui
        self._parameters = None
        self._scan: PreparedScan | None = None
        self._filled: tuple | None = None
        self._keys: list[str] = []
        self._options: dict[str, list[str]] = {}
        ui.typeBox.connect("activated(int)", self._type_chosen)
        for key in LEARNED:
            self._box(key).connect("activated(int)", lambda index, key=key: self._option_chosen(key, index))

    def show(self, parameters, scan: PreparedScan | None) -> None:
        """Show what the parameter node holds, for this scan. Options that are no longer possible fall back to "any"."""
        self._parameters, self._scan = parameters, scan
        if parameters is None:
            return
        with NodeModify(parameters):  # one change, or a lesion of half the wishes would be asked for
            self._show_types()
            self._show_options()
            self._show_difference()
        ui, given = self._ui, parameters.sizeGiven
        for name in ("sizeZBox", "sizeXBox", "sizeYBox", "handlesBox"):
            getattr(ui, name).enabled = bool(given)
        by_hu = parameters.density == BY_HU
        ui.densityDeltaLabel.visible = ui.densityDeltaSlider.visible = bool(by_hu)

    def _show_types(self) -> None:
        box, parameters = self._ui.typeBox, self._parameters
        choices = type_choices(self._scan, parameters.anyPhase)
        possible = [choice.key for choice in choices if not choice.why]
        if self._scan is not None and parameters.lesion not in possible and possible:
            parameters.lesion = possible[0]
        state = (tuple(choices), parameters.lesion)
        if self._filled == state:
            return
        self._filled = state
        self._keys = [choice.key for choice in choices]
        box.blockSignals(True)
        if box.count != len(choices):
            box.clear()
            for choice in choices:
                box.addItem(choice.name)
        for index, choice in enumerate(choices):
            box.setItemData(index, 0 if choice.why else _ENABLED_FLAGS, _FLAGS_ROLE)
            box.setItemData(index, choice.why, qt.Qt.ToolTipRole)
        box.setCurrentIndex(self._keys.index(parameters.lesion))
        box.blockSignals(False)

    def _show_options(self) -> None:
        parameters = self._parameters
        phase = self._scan.phase if self._scan is not None else None
        for key, allowed in option_choices(parameters.lesion, phase).items():
            values, texts = [ANY, *allowed], [_("any"), *allowed]
            if key == "density":
                values.append(BY_HU)
                texts.append(_("by HU difference"))
            if getattr(parameters, key) not in values:
                setattr(parameters, key, ANY)
            box = self._box(key)
            box.blockSignals(True)
            if self._options.get(key) != values:
                self._options[key] = values
                box.clear()
                for text in texts:
                    box.addItem(text)
                box.toolTip = f"{TABLE[key].definition}. " + _("Only what this type can be; any: drawn by its priors.")
            box.setCurrentIndex(values.index(getattr(parameters, key)))
            box.blockSignals(False)

    def _show_difference(self) -> None:
        parameters, slider = self._parameters, self._ui.densityDeltaSlider
        low, high, first = difference_range(parameters.lesion, self._scan.phase if self._scan is not None else None)
        if not low <= parameters.densityDelta <= high:
            parameters.densityDelta = float(first)
        if (slider.minimum, slider.maximum) != (low, high):
            slider.blockSignals(True)
            slider.setRange(low, high)
            slider.value = parameters.densityDelta
            slider.blockSignals(False)

    def _type_chosen(self, index: int) -> None:
        if self._parameters is not None:
            self._parameters.lesion = self._keys[index]

    def _option_chosen(self, key: str, index: int) -> None:
        if self._parameters is not None:
            setattr(self._parameters, key, self._options[key][index])

    def _box(self, key: str):
        return getattr(self._ui, f"{key}Box")
