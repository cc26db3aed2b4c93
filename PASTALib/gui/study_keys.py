"""Keys of the reader study. They work wherever the focus is, in the views too, but only while a case or a page waits for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import qt


class Keys:
    """Shortcuts of a panel as one group: off until ``enabled`` is set. A key that is held down counts once."""

    def __init__(self, parent, slots: Mapping[str, Callable[[], None]]):
        self._shortcuts = []
        self._enabled = False
        for keys, slot in slots.items():
            shortcut = qt.QShortcut(qt.QKeySequence(keys), parent)
            shortcut.autoRepeat = False
            shortcut.enabled = False
            shortcut.connect("activated()", slot)
            self._shortcuts.append(shortcut)

    @property
    def enabled(self) -> bool:
        return self._enabled

    @enabled.setter
    def enabled(self, on: bool) -> None:
        if on != self._enabled:
            self._enabled = on
            for shortcut in self._shortcuts:
                shortcut.enabled = on
