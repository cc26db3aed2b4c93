"""What the panels of PASTA's modules have in common: the parameter node and the scene, shortcuts, and the worker's jobs."""

from __future__ import annotations

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from .jobs import Jobs
from .run_bar import RunBar


class PanelWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Base of a module's widget. A module gives ``make_logic``, ``build`` and ``show``; the rest is done here.

    ``ui``: the panel's widgets by name. ``parameters``: the parameter node, None while there is none. ``jobs``: where work is done; tests
    put a stand-in there.
    """

    def __init__(self, parent=None):
        self.jobs = Jobs()
        self.parameters = self.logic = self.ui = None
        self._connected = None
        self._shortcuts = []
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    # -- for a module to fill in -------------------------------------------------------------------------------

    def make_logic(self):
        """The module's logic."""
        raise NotImplementedError

    def make_bar(self) -> None:
        """For a panel with one main action; see ``ModuleWidget``."""

    def build(self) -> None:
        """Complete the panel: ``self.ui`` is there, the parameter node is not."""

    def fresh(self) -> None:
        """Fill in a parameter node that is new in the scene."""

    def connected(self) -> None:
        """Fill widgets that no parameter can be connected to; the parameter node is there."""

    def show(self) -> None:
        """Show what the parameter node holds now, and whether work can begin."""

    # -- life of the panel -------------------------------------------------------------------------------------

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath(f"UI/{self.moduleName}.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = self.make_logic()
        self.make_bar()
        self.build()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        self.jobs.close()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        for shortcut in self._shortcuts:
            shortcut.enabled = True
        self.initializeParameterNode()

    def exit(self) -> None:
        for shortcut in self._shortcuts:
            shortcut.enabled = False
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event) -> None:
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event) -> None:
        """A loaded scene brings parameters of its own into the node that is there."""
        if self.parameters is not None:
            self.show()

    def initializeParameterNode(self) -> None:
        known = any(
            node.GetAttribute("ModuleName") == self.moduleName
            for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        )
        self.setParameterNode(self.logic.getParameterNode())
        if not known:
            self.fresh()
            self.show()

    def setParameterNode(self, parameters) -> None:
        if self.parameters is not None:
            self.parameters.disconnectGui(self._connected)
            self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self._parameters_changed)
        self.parameters = parameters
        if parameters is not None:
            self._connected = parameters.connectGui(self.ui)
            self.connected()
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self._parameters_changed)
            self.show()

    def add_shortcut(self, keys: str, slot) -> None:
        """A key of the panel, which works while the module is shown."""
        shortcut = qt.QShortcut(qt.QKeySequence(keys), self.parent)
        shortcut.connect("activated()", slot)
        shortcut.enabled = False
        self._shortcuts.append(shortcut)

    def _parameters_changed(self, caller=None, event=None) -> None:
        if self.parameters is not None:
            self.show()


class ModuleWidget(PanelWidget):
    """A panel with one main action: ``begin`` starts it. ``bar``: its button, progress and status, in ``ui`` applyButton, progressBar and statusLabel."""

    bar: RunBar | None = None

    def apply_text(self) -> str:
        """What the button says while nothing runs."""
        return _("Apply")

    def begin(self) -> None:
        """Start the work of the button; InputError is shown."""

    def make_bar(self) -> None:
        """Connect the button."""
        self.bar = RunBar(self.ui.applyButton, self.ui.progressBar, self.ui.statusLabel, self.apply_text(), self.begin)
        self.bar.say("")
        self.add_shortcut("Ctrl+Return", self._apply_by_key)
        self.add_shortcut("Esc", self.bar.cancel)

    def cleanup(self) -> None:
        self.bar.forget()
        PanelWidget.cleanup(self)

    def onSceneStartClose(self, caller, event) -> None:
        self.bar.forget()
        PanelWidget.onSceneStartClose(self, caller, event)

    def _apply_by_key(self) -> None:
        if not self.bar.running:
            self.bar.press()


def jump_to(point_ras) -> None:
    """Show the slices through a point (world RAS mm) in all slice views."""
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSliceByOffsetting(*point_ras)


def show_in_slices(volume) -> None:
    """Put a volume behind the slices unless they show it already; views are fitted when it is new to them."""
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    if any(node.GetBackgroundVolumeID() != volume.GetID() for node in composites):
        slicer.util.setSliceViewerLayers(background=volume, fit=True)


def likely_ct(scene):
    """The volume that a user most likely means: the active one, else the first that is no label map; None without any."""
    active = slicer.app.applicationLogic().GetSelectionNode().GetActiveVolumeID()
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
    volumes = [node for node in volumes if node.GetClassName() == "vtkMRMLScalarVolumeNode"]
    return next((node for node in volumes if node.GetID() == active), volumes[0] if volumes else None)


def stress(label, strong: bool) -> None:
    """Show the text of a label or button in bold, or not."""
    font = label.font
    font.setBold(strong)
    label.setFont(font)
