"""Renders views from the event loop when they change, so that its cost is part of what users wait for."""

from __future__ import annotations

import time

import vtk

from .views import View


class LiveRendering:
    """``frames`` counts renderings; ``times_ms`` holds how long each took. Changes before a rendering share it.

    One view per turn of the event loop, as in Slicer, where every view has a timer of its own.
    """

    def __init__(self, views: list[View]):
        import qt

        self.frames = 0
        self.times_ms: list[float] = []
        self._waiting: list[View] = []
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._render)
        self._observed = []
        for view in views:
            for source, event in (
                (view.managers, vtk.vtkCommand.UpdateEvent),
                (view.logic, vtk.vtkCommand.ModifiedEvent),
            ):
                self._observed.append((source, source.AddObserver(event, lambda *_, view=view: self._schedule(view))))

    def stop(self) -> None:
        self._timer.stop()
        for source, tag in self._observed:
            source.RemoveObserver(tag)
        self._observed.clear()

    def _schedule(self, view: View) -> None:
        if view not in self._waiting:
            self._waiting.append(view)
        if not self._timer.active:
            self._timer.start(0)

    def _render(self) -> None:
        view = self._waiting.pop(0)
        if self._waiting:
            self._timer.start(0)
        start = time.perf_counter()
        view.render_window()
        self.times_ms.append(1000.0 * (time.perf_counter() - start))
        self.frames += 1
