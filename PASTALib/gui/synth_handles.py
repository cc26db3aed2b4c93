"""A box with handles in the views by which a lesion's size and place are set, along the axes of the scan."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from .synth_place import Point, new_markups_node

Size = tuple[float, float, float]

_LEAST_CHANGE_MM = 0.05


class SizeHandles(VTKObservationMixin):
    """A region of interest. ``changed(centre, size)`` while the user drags: world RAS mm, extents along z, x, y in mm."""

    def __init__(self, changed: Callable[[Point, Size], None]):
        VTKObservationMixin.__init__(self)
        self._told = changed
        self._node = None
        self._known: np.ndarray | None = None
        self._quiet = False
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._look)

    @property
    def shown(self) -> bool:
        """Whether the box is there."""
        return self._node is not None and self._node.GetScene() is not None

    def put(self, centre: Point, size_zxy: Size, axes: np.ndarray) -> None:
        """Show the box. ``axes`` (3, 3): unit vectors of the scan's x, y and z axes in the world as columns."""
        self._quiet = True
        try:
            if not self.shown:
                self._make()
            if self._differs(centre, size_zxy):
                placed = np.eye(4)
                placed[:3, :3], placed[:3, 3] = axes, centre
                self._node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(placed))
                z, x, y = size_zxy
                self._node.SetSize(x, y, z)
            self._known = self._now()
        finally:
            self._quiet = False

    def remove(self) -> None:
        """Take the box away."""
        self._timer.stop()
        self.removeObservers()
        node, self._node, self._known = self._node, None, None
        if node is not None and node.GetScene() is not None:
            node.GetScene().RemoveNode(node)

    def _make(self) -> None:
        self.removeObservers()
        self._node = new_markups_node("vtkMRMLMarkupsROINode", "PASTA size")
        display = self._node.GetDisplayNode()
        display.SetHandlesInteractive(True)
        display.SetTranslationHandleVisibility(True)
        display.SetScaleHandleVisibility(True)
        display.SetRotationHandleVisibility(False)  # sizes are along the scan's axes
        display.SetFillOpacity(0.0)
        display.SetPropertiesLabelVisibility(False)
        self.addObserver(self._node, vtk.vtkCommand.ModifiedEvent, self._changed)
        self.addObserver(self._node, self._node.PointModifiedEvent, self._changed)

    def _now(self) -> np.ndarray:
        """Centre (R, A, S) and extents along z, x, y."""
        centre, size = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        self._node.GetCenterWorld(centre)
        self._node.GetSizeWorld(size)
        x, y, z = size
        return np.array([*centre, z, x, y])

    def _differs(self, centre, size_zxy) -> bool:
        return self._known is None or np.abs(self._now() - [*centre, *size_zxy]).max() > _LEAST_CHANGE_MM

    def _changed(self, caller=None, event=None) -> None:
        if not self._quiet:
            self._timer.start()

    def _look(self) -> None:
        if not self.shown or self._quiet:
            return
        now = self._now()
        if self._known is not None and np.abs(now - self._known).max() <= _LEAST_CHANGE_MM:
            return
        self._known = now
        self._told(tuple(float(c) for c in now[:3]), tuple(float(s) for s in now[3:]))


def scan_axes(ijk_to_ras: np.ndarray, patient_axes: tuple[int, int, int]) -> np.ndarray:
    """(3, 3) unit vectors, as columns, of the axes nearest to R-L, A-P and S-I, right-handed.

    ``ijk_to_ras``: 4x4 to the world; ``patient_axes``: array axes (z, y, x) nearest to S-I, R-L and A-P.
    """
    z, x, y = (ijk_to_ras[:3, 2 - axis] for axis in patient_axes)
    axes = np.column_stack([x, y, z])
    axes = axes / np.linalg.norm(axes, axis=0)
    if np.linalg.det(axes) < 0:
        axes[:, 1] *= -1
    return axes
