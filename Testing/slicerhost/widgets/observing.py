"""VTK observers that belong to a widget and end with it."""

from __future__ import annotations

import weakref

import shiboken6


class Observers:
    """Observes VTK objects for a widget; calls nothing once the C++ widget is gone."""

    def __init__(self, widget):
        self._widget = weakref.ref(widget)
        self._tags: list[tuple[weakref.ref, int]] = []

    def add(self, target, event, method: str) -> None:
        """Call the widget's method of that name, without arguments, on each event."""

        def call(*_):
            widget = self._widget()
            if widget is None or not shiboken6.isValid(widget):
                self.clear()
                return
            getattr(widget, method)()

        self._tags.append((weakref.ref(target), target.AddObserver(event, call)))

    def clear(self) -> None:
        for reference, tag in self._tags:
            target = reference()
            if target is not None:
                target.RemoveObserver(tag)
        self._tags.clear()
