"""The control point that marks where a lesion shall be: placed by a click in any view, dragged, named after the lesion."""

from __future__ import annotations

from collections.abc import Callable
from math import dist

import qt
import slicer
from slicer.util import VTKObservationMixin

Point = tuple[float, float, float]

_LEAST_MOVE_MM = 1e-3


class PlacePoint(VTKObservationMixin):
    """One control point. ``placed(point)`` after a click, ``moved(point)`` while it is dragged, ``mode(placing)``; world RAS mm.

    Events of the scene are only noted; what they mean is looked at when the event loop turns, when control points may be removed.
    """

    def __init__(self, placed: Callable[[Point], None], moved: Callable[[Point], None], mode: Callable[[bool], None]):
        VTKObservationMixin.__init__(self)
        self._placed, self._moved, self._mode = placed, moved, mode
        self._node = None
        self._known: Point | None = None
        self._placing = self._quiet = False
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._look)
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        self.addObserver(interaction, interaction.InteractionModeChangedEvent, self._mode_changed)

    @property
    def placing(self) -> bool:
        """Whether the next click in a view places the point."""
        return self._placing

    def begin(self, name: str) -> None:
        """The next click places the point."""
        self._ready()
        self._node.SetControlPointLabelFormat(name)
        slicer.modules.markups.logic().SetActiveList(self._node)
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        interaction.SetPlaceModePersistence(0)
        interaction.SetCurrentInteractionMode(interaction.Place)
        self._mode_changed()

    def cancel(self) -> None:
        """No longer wait for a click."""
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        if self._placing:
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        self._mode_changed()

    def put(self, point: Point, name: str) -> None:
        """Show the point here, with this name; nobody is told."""
        self._ready()
        self._quiet = True
        try:
            if self._defined():
                index = self._defined()[-1]
                if self._known is None or dist(self._known, point) > _LEAST_MOVE_MM:
                    self._node.SetNthControlPointPositionWorld(index, *point)
            else:
                index = self._node.AddControlPointWorld(*point)
            if self._node.GetNthControlPointLabel(index) != name:
                self._node.SetNthControlPointLabel(index, name)
            self._known = tuple(self._node.GetNthControlPointPositionWorld(index))
        finally:
            self._quiet = False

    def hide(self) -> None:
        """Take the point away."""
        self._known = None
        if self._node is not None:
            self._quiet = True
            self._node.RemoveAllControlPoints()
            self._quiet = False

    def remove(self) -> None:
        """Take the node out of the scene, and end placing."""
        self.cancel()
        self._timer.stop()
        node, self._node, self._known = self._node, None, None
        if node is not None:
            self.removeObservers(self._changed)
            if node.GetScene() is not None:
                node.GetScene().RemoveNode(node)

    def close(self) -> None:
        """Remove it for good."""
        self.remove()
        self.removeObservers()

    def _ready(self) -> None:
        if self._node is not None and self._node.GetScene() is not None:
            return
        self.removeObservers(self._changed)
        self._known = None
        self._node = new_markups_node("vtkMRMLMarkupsFiducialNode", "PASTA place")
        display = self._node.GetDisplayNode()
        display.SetGlyphTypeFromString("CrossDot2D")
        display.SetTextScale(2.5)
        for event in (self._node.PointPositionDefinedEvent, self._node.PointModifiedEvent):
            self.addObserver(self._node, event, self._changed)

    def _changed(self, caller=None, event=None) -> None:
        if not self._quiet:
            self._timer.start()

    def _mode_changed(self, caller=None, event=None) -> None:
        logic = slicer.app.applicationLogic()
        interaction = logic.GetInteractionNode()
        placing = (
            self._node is not None
            and interaction.GetCurrentInteractionMode() == interaction.Place
            and logic.GetSelectionNode().GetActivePlaceNodeID() == self._node.GetID()
        )
        if placing != self._placing:
            self._placing = placing
            self._mode(placing)

    def _defined(self) -> list[int]:
        node = self._node
        count = node.GetNumberOfControlPoints() if node is not None else 0
        return [i for i in range(count) if node.GetNthControlPointPositionStatus(i) == node.PositionDefined]

    def _look(self) -> None:
        indices = self._defined()
        if not indices:
            return
        point = tuple(self._node.GetNthControlPointPositionWorld(indices[-1]))
        fresh = len(indices) > 1 or self._known is None
        self._quiet = True
        for index in reversed(indices[:-1]):
            self._node.RemoveNthControlPoint(index)
        self._quiet = False
        if not fresh and dist(point, self._known) <= _LEAST_MOVE_MM:
            return
        self._known = point
        (self._placed if fresh else self._moved)(point)


def new_markups_node(class_name: str, name: str):
    """A markups node that belongs to the panel: it is not saved with the scene."""
    node = slicer.mrmlScene.AddNewNodeByClass(class_name, name)
    node.CreateDefaultDisplayNodes()
    node.SetSaveWithScene(False)
    node.GetDisplayNode().SetSaveWithScene(False)
    return node
