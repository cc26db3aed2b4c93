"""One case of a reader study in the slice views: fixed layout, window, marks at the lesion, and nothing in the scene that tells what it is.

All cases are shown by one volume node of one name, without a storage node; it is hidden from the module Data and is not saved with the scene.
The marks are drawn into the views and are no nodes at all.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk

from ..errors import InputError
from ..imageio.files import lps_affine
from ..study.export import ExportGrid
from .study_marks import MARKS, Marks
from .volumes import allocate_image, array_of, remove_node

__all__ = ["MARKS", "CaseView", "LoadedCase", "load_case"]

NAME = "Study case"
LAYOUT = 20567  # any number above 100 that no other extension uses
_LAYERS = ("Background", "Foreground", "Label")
_PLANES = {
    "Red": ("Axial", "R", "#F34A33"),
    "Green": ("Coronal", "G", "#6EB04B"),
    "Yellow": ("Sagittal", "Y", "#EDD54C"),
}


@dataclass(frozen=True)
class LoadedCase:
    """A case as a node takes it: the image, and the 4x4 matrix from (i, j, k) to RAS mm."""

    image: vtk.vtkImageData
    affine: np.ndarray


def load_case(path: Path, grid: ExportGrid) -> LoadedCase:
    """Read a case of a study with its grid. Touches no node, so a thread may call it: it lets other threads run while it reads.

    InputError for a file that is missing, or is not as the study was exported.
    """
    header = grid.header()
    image, target = allocate_image(grid.shape_zyx, np.int16)
    try:
        with open(path, "rb") as stream:
            whole = os.fstat(stream.fileno()).st_size == grid.bytes_per_case and stream.read(len(header)) == header
            whole = whole and stream.readinto(target.reshape(-1).view(np.uint8)) == target.nbytes
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); copy the study from the lead again") from error
    if not whole:
        raise InputError(f"{path}: not as the study was exported; copy it from the lead again")
    if sys.byteorder == "big":
        target.byteswap(inplace=True)
    spacing = grid.spacing_mm[::-1]
    origin = tuple(-(n // 2) * step for n, step in zip(grid.shape_zyx[::-1], spacing, strict=True))
    return LoadedCase(image, lps_affine(origin, spacing, np.eye(3).ravel()))


class CaseView:
    """Shows cases in the three slice views. ``open`` before the first case, ``close`` after the last; both may be called twice.

    ``window``: (width, level) in HU that ``reset`` goes back to.
    """

    def __init__(self):
        self.window = (400.0, 40.0)
        self._node = None
        self._marks: list[Marks] = []
        self._before: dict | None = None
        self._point, self._extent, self._style = None, None, ""

    @property
    def node(self):
        """The volume node of the case that is shown; None without one."""
        return self._node if self._node is not None and self._node.GetScene() is not None else None

    @property
    def window_now(self) -> tuple[float, float]:
        """(width, level) in HU as it is now: the reader may have changed it."""
        display = self.node.GetDisplayNode() if self.node is not None else None
        return (display.GetWindow(), display.GetLevel()) if display is not None else self.window

    def open(self) -> None:
        """Take the views: three linked planes, nothing but the case in them."""
        if self._before is not None:
            return
        manager = slicer.app.layoutManager()
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        self._before = {
            "layout": manager.layout if manager is not None else None,
            "layers": {node.GetID(): _layers(node) for node in _composites()},
            "jump": crosshair.GetCrosshairBehavior() if crosshair is not None else None,
        }
        if manager is not None:
            _add_layout(manager.layoutLogic().GetLayoutNode())
            manager.setLayout(LAYOUT)
        if crosshair is not None:  # Shift and the mouse show one point in all three planes
            crosshair.SetCrosshairBehavior(slicer.vtkMRMLCrosshairNode.OffsetJumpSlice)
        self._marks = [Marks(renderer, node) for renderer, node in _views()]

    def show(
        self,
        case: LoadedCase,
        window: tuple[float, float],
        point_ras: tuple[float, float, float] | None = None,
        extent_mm: tuple[float, float, float] | None = None,
    ) -> None:
        """Show a case from its lesion on: ``window`` (width, level) in HU, the lesion's centre (RAS mm) and extent (mm)."""
        self.open()
        node = self.node or self._new_node()
        with slicer.util.RenderBlocker():
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(case.affine))
            node.SetAndObserveImageData(case.image)
            self.window = window
            self._point, self._extent = point_ras, extent_mm
            self._show_layers(node)
            self.reset()
            self.mark(self._style)

    def hide(self) -> None:
        """Show nothing (a pause, the end); the window that the reader chose is kept for ``unhide``."""
        if self._before is not None:
            self._show_layers(None)
            for marks in self._marks:
                marks.hide()

    def unhide(self) -> None:
        """Show the case again as it was."""
        if self.node is not None:
            self._show_layers(self.node)
            self.mark(self._style)

    def reset(self) -> None:
        """The case as it was when it came: window, zoom and slices."""
        self.set_window(self.window)
        for logic in _logics():
            logic.FitSliceToBackground()
        point = self._point
        if point is None and self.node is not None:
            bounds = np.zeros(6)
            self.node.GetRASBounds(bounds)
            point = tuple(0.5 * (bounds[0::2] + bounds[1::2]))
        if point is not None:
            for node in _slices():
                node.JumpSliceByOffsetting(*point)

    def set_window(self, window: tuple[float, float]) -> None:
        """Show grey values by (width, level) in HU."""
        display = self.node.GetDisplayNode() if self.node is not None else None
        if display is not None:
            display.SetWindowLevel(*window)

    def mark(self, style: str) -> None:
        """Mark the lesion by one of ``MARKS``, or not at all ("")."""
        self._style = style
        for marks in self._marks:
            if style and self._point is not None:
                marks.show(self._point, self._extent or (0.0, 0.0, 0.0), style)
            else:
                marks.hide()

    def close(self, gone: bool = False) -> None:
        """Give the views back and remove the case. ``gone``: the scene is being closed and has removed the nodes itself."""
        for marks in self._marks:
            marks.remove()
        self._marks = []
        if not gone:
            remove_node(self._node)
        self._node, before, self._before = None, self._before, None
        self._point = None
        if before is None:
            return
        manager = slicer.app.layoutManager()
        if manager is not None and manager.layout == LAYOUT:
            manager.setLayout(before["layout"])
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if crosshair is not None and before["jump"] is not None:
            crosshair.SetCrosshairBehavior(before["jump"])
        for composite in [] if gone else _composites():
            for layer, volume in before["layers"].get(composite.GetID(), {}).items():
                known = volume is not None and slicer.mrmlScene.GetNodeByID(volume) is not None
                getattr(composite, f"Set{layer}VolumeID")(volume if known else None)

    def _new_node(self):
        scene = slicer.mrmlScene
        display = slicer.vtkMRMLScalarVolumeDisplayNode()
        display.SetAutoWindowLevel(0)  # an automatic one would differ from case to case
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
        node = slicer.vtkMRMLScalarVolumeNode()
        for item in (display, node):
            item.SetSaveWithScene(False)
            item.SetHideFromEditors(True)
        node.SetName(NAME)
        display.SetName(f"{NAME} display")
        scene.AddNode(display)
        scene.AddNode(node)
        node.SetAndObserveDisplayNodeID(display.GetID())
        self._node = node
        return node

    def _show_layers(self, node) -> None:
        for composite in _composites():
            for layer in _LAYERS:
                wanted = node.GetID() if node is not None and layer == "Background" else None
                if getattr(composite, f"Get{layer}VolumeID")() != wanted:
                    getattr(composite, f"Set{layer}VolumeID")(wanted)


class ViewSummary:
    """What a reader did with a case: slices seen per plane, and the windows used. For readers who agree to it."""

    def __init__(self, view: CaseView):
        self._view = view
        self._seen: dict[str, set[int]] = {}
        self._windows: list[tuple[float, float]] = []
        self._observed = [(node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._look)) for node in _slices()]
        display = view.node.GetDisplayNode() if view.node is not None else None
        if display is not None:
            self._observed.append((display, display.AddObserver(vtk.vtkCommand.ModifiedEvent, self._look)))
        self._look()

    def end(self) -> dict:
        """``{"slices": {plane: number of different millimetres seen}, "window": [width, level], "windows": number used}``."""
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []
        width, level = self._view.window_now
        return {
            "slices": {plane: len(offsets) for plane, offsets in sorted(self._seen.items())},
            "window": [round(width, 1), round(level, 1)],
            "windows": len(self._windows),
        }

    def _look(self, caller=None, event=None) -> None:
        for node in _slices():
            plane = (node.GetOrientation() or node.GetName()).lower()
            self._seen.setdefault(plane, set()).add(round(node.GetSliceOffset()))
        window = tuple(round(value, 1) for value in self._view.window_now)
        if not self._windows or self._windows[-1] != window:
            self._windows.append(window)


def voxels_shown(view: CaseView) -> np.ndarray | None:
    """The voxels (z, y, x) of the case that is shown, not a copy; None without one."""
    return array_of(view.node) if view.node is not None else None


def _slices() -> list:
    return [node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode") if node.GetLayoutName() in _PLANES]


def _logics() -> list:
    logics = (slicer.app.applicationLogic().GetSliceLogic(node) for node in _slices())
    return [logic for logic in logics if logic is not None]


def _composites() -> list:
    return [logic.GetSliceCompositeNode() for logic in _logics()]


def _layers(composite) -> dict[str, str | None]:
    return {layer: getattr(composite, f"Get{layer}VolumeID")() for layer in _LAYERS}


def _views():
    """(renderer, slice node) of each plane; none without a main window."""
    manager = slicer.app.layoutManager()
    widgets = [manager.sliceWidget(name) for name in _PLANES] if manager is not None else []
    for widget in widgets:
        if widget is not None:
            renderer = widget.sliceView().renderWindow().GetRenderers().GetFirstRenderer()
            yield renderer, widget.mrmlSliceNode()


def _add_layout(node) -> None:
    """The axial plane large, the two others beside it."""
    if node.IsLayoutDescription(LAYOUT):
        return
    axial, coronal, sagittal = (_view_xml(name) for name in _PLANES)
    node.AddLayoutDescription(
        LAYOUT,
        f'<layout type="horizontal" split="true"><item splitSize="620">{axial}</item><item splitSize="380">'
        f'<layout type="vertical" split="true"><item>{coronal}</item><item>{sagittal}</item></layout></item></layout>',
    )


def _view_xml(name: str) -> str:
    orientation, label, colour = _PLANES[name]
    return (
        f'<view class="vtkMRMLSliceNode" singletontag="{name}">'
        f'<property name="orientation" action="default">{orientation}</property>'
        f'<property name="viewlabel" action="default">{label}</property>'
        f'<property name="viewcolor" action="default">{colour}</property></view>'
    )
