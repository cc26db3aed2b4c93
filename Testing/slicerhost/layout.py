"""The layout: three slice views and perhaps a 3D view, also as ``slicer.app.layoutManager()``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import slicer
import vtk

from .live import LiveRendering
from .views import SliceView, ThreeDView, View, three_d_logic

ORIENTATIONS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


class Layout:
    """Views by name: "Red" (axial), "Yellow" (sagittal), "Green" (coronal), and "1", the 3D view, if wanted.

    One per process, as Slicer has one layout manager; ``Layout.get`` makes it or returns it.
    """

    _only: Layout | None = None

    @classmethod
    def get(cls, size: tuple[int, int] = (320, 320), three_d: bool = False) -> Layout:
        """The layout with every view at a size in pixels; the 3D view is added when first wanted."""
        if cls._only is None:
            cls._only = cls(size)
        layout = cls._only
        if three_d and layout.three_d is None:
            layout.three_d = ThreeDView(layout._three_d_logic, size)
        layout.resize(*size)
        return layout

    @classmethod
    def existing(cls) -> Layout | None:
        """The layout if there is one already."""
        return cls._only

    def __init__(self, size: tuple[int, int]):
        self.slices = {name: SliceView(name, orientation, size) for name, orientation in ORIENTATIONS.items()}
        self.three_d: ThreeDView | None = None
        self._three_d_logic = three_d_logic("1")  # before the layout logic, which would make the node itself
        slicer.app.set_layout_manager(LayoutManager(self))

    def __getitem__(self, name: str) -> View:
        if self.three_d is not None and name == self.three_d.name:
            return self.three_d
        return self.slices[name]

    @property
    def views(self) -> list[View]:
        return [*self.slices.values(), *([self.three_d] if self.three_d is not None else [])]

    @contextmanager
    def live(self) -> Iterator[LiveRendering]:
        """Within it views are rendered by the event loop whenever they change, as in the application."""
        rendering = LiveRendering(self.views)
        try:
            yield rendering
        finally:
            rendering.stop()

    def resize(self, width: int, height: int) -> None:
        for view in self.views:
            if view.size != (width, height):
                view.resize(width, height)

    def show(self, volume) -> None:
        """Show a volume in all slice views, fitted."""
        for view in self.slices.values():
            view.show(volume)

    def jump_to(self, ras, centre: bool = False) -> None:
        """Show the slices through a point (RAS mm)."""
        for view in self.slices.values():
            view.jump_to(ras, centre)

    def restore(self) -> None:
        """Default orientations, no layers: for the next test. The views themselves live on."""
        for name, view in self.slices.items():
            view.mouse.leave()
            view.node.SetOrientation(ORIENTATIONS[name])
            for layer in ("Background", "Foreground", "Label"):
                getattr(view.logic.GetSliceCompositeNode(), f"Set{layer}VolumeID")(None)
            view.logic.SetSliceOffset(0.0)


class LayoutManager:
    """The part of qSlicerLayoutManager that modules use, on top of a layout."""

    def __init__(self, layout: Layout):
        self._layout = layout
        self._node = slicer.vtkMRMLLayoutNode()
        slicer.mrmlScene.AddNode(self._node)
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)

    @property
    def threeDViewCount(self) -> int:
        return int(self._layout.three_d is not None)

    tableViewCount = plotViewCount = 0

    @property
    def layout(self) -> int:
        return self._logic.GetLayoutNode().GetViewArrangement()

    def setLayout(self, arrangement: int) -> None:
        self._logic.GetLayoutNode().SetViewArrangement(arrangement)

    def layoutLogic(self):
        return self._logic

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._layout.slices)

    def sliceWidget(self, name: str):
        return SliceWidget(self._layout.slices[name]) if name in self._layout.slices else None

    def threeDWidget(self, index: int):
        return ThreeDWidget(self._layout.three_d) if index == 0 and self._layout.three_d is not None else None

    def mrmlSliceLogics(self):
        logics = vtk.vtkCollection()
        for view in self._layout.slices.values():
            logics.AddItem(view.logic)
        return logics

    def resetSliceViews(self) -> None:
        for view in self._layout.slices.values():
            view.fit()

    def resetThreeDViews(self) -> None:
        if self._layout.three_d is not None:
            self._layout.three_d.reset_camera()


class RenderedView:
    """What qMRMLSliceView and qMRMLThreeDView have in common."""

    def __init__(self, view: View):
        self._view = view

    def renderWindow(self):
        return self._view.window

    def interactor(self):
        return self._view.interactor

    def interactorStyle(self):
        return self._view.style

    def forceRender(self) -> None:
        self._view.render_window()

    def scheduleRender(self) -> None:
        import qt

        qt.QTimer.singleShot(0, self._view.render_window)


class SliceWidget:
    """qMRMLSliceWidget."""

    def __init__(self, view: SliceView):
        self._view = view

    def sliceLogic(self):
        return self._view.logic

    def mrmlSliceNode(self):
        return self._view.node

    def sliceView(self):
        return SliceViewWidget(self._view)

    def interactorStyle(self):
        return self._view.style

    def fitSliceToBackground(self) -> None:
        self._view.fit()


class SliceViewWidget(RenderedView):
    def mrmlSliceNode(self):
        return self._view.node


class ThreeDWidget:
    """qMRMLThreeDWidget."""

    def __init__(self, view: ThreeDView):
        self._view = view

    def threeDView(self):
        return ThreeDViewWidget(self._view)

    def mrmlViewNode(self):
        return self._view.node


class ThreeDViewWidget(RenderedView):
    def mrmlViewNode(self):
        return self._view.node

    def resetFocalPoint(self) -> None:
        self._view.reset_camera()

    def resetCamera(self) -> None:
        self._view.reset_camera()
