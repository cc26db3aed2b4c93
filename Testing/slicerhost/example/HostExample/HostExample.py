"""A small scripted module in today's idioms, by which the host is tested."""

import enum
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Decimals, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class Shape(enum.Enum):
    Round = "round"
    Irregular = "irregular"

    def label(self):
        return self.value.capitalize()


class HostExample(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = _("Host example")
        self.parent.categories = ["Testing"]
        slicer.app.connect("startupCompleted()", register_sample)


def register_sample():
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataCategory("HostExample", title=_("Host example"))
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="HostExample", sampleName="HostExampleEmpty", customDownloader=lambda source: [source.sampleName]
    )


@parameterNodeWrapper
class HostExampleParameterNode:
    volume: vtkMRMLScalarVolumeNode
    seed: vtkMRMLMarkupsFiducialNode
    shape: Shape = Shape.Irregular
    radius_mm: Annotated[float, WithinRange(1, 50), Decimals(1)] = 10.0
    count: Annotated[int, WithinRange(1, 9)] = 2
    note: str = "none"
    live: bool = True
    folder: Path = Path("/tmp")
    history: list[str]
    seed_number: int | None


class HostExampleLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return HostExampleParameterNode(super().getParameterNode())


class HostExampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.events = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/HostExample.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = HostExampleLogic()
        self.parameters = self.logic.getParameterNode()
        self.tag = self.parameters.connectGui(self.ui)
        self.ui.applyButton.connect("clicked(bool)", self.on_apply)
        self.addObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self.update)
        shortcut = qt.QShortcut(qt.QKeySequence("Ctrl+Z"), self.parent)
        shortcut.connect("activated()", lambda: self.events.append("undo"))
        self.update()

    def update(self, caller=None, event=None):
        self.ui.applyButton.enabled = self.parameters.volume is not None

    def on_apply(self):
        with slicer.util.tryWithErrorDisplay(_("Failed to compute results."), waitCursor=True):
            self.events.append("apply")
            slicer.util.infoDisplay(_("Made {count} of them").format(count=self.parameters.count))

    def enter(self):
        self.events.append("enter")

    def exit(self):
        self.events.append("exit")

    def cleanup(self):
        self.events.append("cleanup")
        self.parameters.disconnectGui(self.tag)
        self.removeObservers()


class HostExampleTest(ScriptedLoadableModuleTest):
    def runTest(self):
        self.delayDisplay("self-test ran")
