"""Marks at a lesion in one slice view: corners of a box about it, or lines that end at the box. Drawn into the view; no nodes, so nothing is saved."""

from __future__ import annotations

import numpy as np
import vtk

MARKS = ("corners", "crosshair")
_COLOUR = (1.0, 0.82, 0.25)
_FAR = 100000.0  # pixels: beyond the edge of any view


class Marks:
    """The marks in one view, which follow its slice, zoom and size. They are drawn only in slices that meet the box."""

    def __init__(self, renderer, slice_node):
        self._renderer, self._node = renderer, slice_node
        self._centre, self._half, self._style = np.zeros(3), np.zeros(3), ""
        self._lines = vtk.vtkPolyData()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self._lines)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(mapper)
        self._actor.GetProperty().SetColor(*_COLOUR)
        self._actor.GetProperty().SetLineWidth(2.0)
        self._actor.SetVisibility(False)
        self._actor.PickableOff()
        renderer.AddViewProp(self._actor)
        self._tag = slice_node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._update)

    @property
    def visible(self) -> bool:
        """Whether the marks are drawn in the slice that is shown."""
        return bool(self._actor.GetVisibility())

    @property
    def segments(self) -> np.ndarray:
        """(n, 2, 2): the two ends, in pixels from the lower left, of each line."""
        points = self._lines.GetPoints()
        count = points.GetNumberOfPoints() if points is not None else 0
        return np.array([points.GetPoint(i)[:2] for i in range(count)]).reshape(-1, 2, 2)

    def show(self, centre_ras, extent_mm, style: str) -> None:
        """Mark a box of ``extent_mm`` (along R, A, S) about ``centre_ras`` by one of ``MARKS``."""
        self._centre = np.asarray(centre_ras, float)
        self._half = 0.5 * np.abs(np.broadcast_to(np.asarray(extent_mm, float), 3))
        self._style = style
        self._node.Modified()  # draws the view anew, and calls _update

    def hide(self) -> None:
        """Draw nothing."""
        if self._style:
            self._style = ""
            self._node.Modified()

    def remove(self) -> None:
        """Leave the view."""
        self._node.RemoveObserver(self._tag)
        self._renderer.RemoveViewProp(self._actor)

    def _update(self, caller=None, event=None) -> None:
        place = self._place() if self._style else None
        self._actor.SetVisibility(place is not None)
        if place is not None:
            self._draw(_corners(*place) if self._style == "corners" else _pointers(*place))

    def _place(self):
        """(centre, half size) in pixels; None in a slice that does not meet the box."""
        to_ras = self._node.GetSliceToRAS()
        axes = np.array([[to_ras.GetElement(row, column) for row in range(3)] for column in range(3)])
        origin = np.array([to_ras.GetElement(row, 3) for row in range(3)])
        half = np.abs(axes) @ self._half  # of the box, along the view's own axes
        if abs((self._centre - origin) @ axes[2]) > max(half[2], 1.0):
            return None
        to_pixels = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self._node.GetXYToRAS(), to_pixels)
        centre = np.array(to_pixels.MultiplyPoint((*self._centre, 1.0))[:2])
        per_mm = np.array(self._node.GetDimensions()[:2]) / np.array(self._node.GetFieldOfView()[:2])
        return centre, half[:2] * per_mm

    def _draw(self, segments: np.ndarray) -> None:
        points, lines = vtk.vtkPoints(), vtk.vtkCellArray()
        for start, end in segments:
            lines.InsertNextCell(2)
            for x, y in (start, end):
                lines.InsertCellPoint(points.InsertNextPoint(x, y, 0.0))
        self._lines.SetPoints(points)
        self._lines.SetLines(lines)


def _corners(centre: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Two short lines at each of the four corners."""
    length = np.minimum(0.6 * half, 14.0)
    segments = []
    for sign in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        corner = centre + half * sign
        for axis in range(2):
            inward = np.zeros(2)
            inward[axis] = -sign[axis] * length[axis]
            segments.append((corner, corner + inward))
    return np.array(segments)


def _pointers(centre: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Lines from the four edges of the view that end at the box."""
    segments = []
    for axis in range(2):
        for sign in (-1, 1):
            near, far = centre.copy(), centre.copy()
            near[axis] += sign * half[axis]
            far[axis] += sign * _FAR
            segments.append((near, far))
    return np.array(segments)
