"""PASTASegment: one press segments ten organs and fifteen lesion types in a CT; a list of lesions jumps the views to each."""

import sys
from pathlib import Path
from typing import Union

import qt
import slicer
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

try:
    import PASTALib
except ImportError:  # a clone: the library lies beside the module's folder
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import PASTALib  # noqa: F401
from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.gui import sample_data, settings
from PASTALib.gui.dependencies import ensure_torch
from PASTALib.gui.jobs import Jobs
from PASTALib.gui.module_widget import ModuleWidget, likely_ct, show_in_slices, stress
from PASTALib.gui.network_panel import ModelBox, NetworkPanel, torch_is_here
from PASTALib.gui.segment_lesions import LesionList, row_texts, size_titles
from PASTALib.gui.segment_nodes import add_result, read_lesions
from PASTALib.gui.segment_work import SegmentRequest, SegmentResult, segment_steps
from PASTALib.mrml.organ_source import label_source
from PASTALib.mrml.volumes import snapshot

HELP = "https://github.com/SlicerPASTA/SlicerPASTA/blob/main/Docs/PASTASegment.md"


class PASTASegment(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("PASTA Segment")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["The SlicerPASTA developers"]
        self.parent.helpText = _(
            "Segments ten organs and fifteen lesion types in a CT, lists the lesions and their volumes. Choose a CT and a model, press "
            'Segment, then pick a lesion in the list. <a href="{link}">Help page</a>. For research and teaching, not for diagnosis.'
        ).format(link=HELP)
        self.parent.acknowledgementText = _("An open implementation of the PASTA pan-tumour model.")
        slicer.app.connect("startupCompleted()", self.register_samples)

    def register_samples(self):
        """Offer the phantoms in the module Sample Data."""
        sample_data.register(Path(self.resourcePath("SampleData")))


@parameterNodeWrapper
class PASTASegmentParameterNode:
    """What the panel is set to, and its last result. ``organs``: keys of the organs to stay around when ``limited``."""

    ct: vtkMRMLScalarVolumeNode
    model: str = ""
    limited: bool = False
    organMap: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode]  # noqa: UP007  older Slicers know this form only
    organs: list[str]
    segmentation: vtkMRMLSegmentationNode
    volumes: vtkMRMLTableNode
    lesionTable: vtkMRMLTableNode
    summary: str = ""
    random: bool = False
    notes: str = ""


class PASTASegmentWidget(ModuleWidget):
    """The panel."""

    def make_logic(self):
        return PASTASegmentLogic()

    def apply_text(self):
        return _("Segment")

    def build(self):
        ui = self.ui
        self.models = ModelBox(ui.modelBox, ui.modelButton, self.choose_model)
        self.networks = NetworkPanel(ui.networksWidget.layout(), self.jobs)
        self.boxes = {}
        grid = qt.QGridLayout(ui.organsWidget)
        grid.setContentsMargins(0, 0, 0, 0)
        for number, organ in enumerate(taxonomy.ORGANS):
            box = qt.QCheckBox(organ.name)
            box.setObjectName(f"organBox_{organ.key}")
            box.toolTip = _("Segment around: {organ}").format(organ=organ.name)
            box.setAccessibleName(box.toolTip)
            box.connect("toggled(bool)", self.choose_organs)
            grid.addWidget(box, number // 2, number % 2)
            self.boxes[organ.key] = box
        self.lesions = LesionList(ui.lesionTable, (_("Lesion"), *size_titles(), _("Place")))
        self.shown_table = None

    def enter(self):
        ModuleWidget.enter(self)
        self.networks.show()
        self.models.fill()
        self.show()

    def fresh(self):
        """Begin with the CT in the views and the best model there is."""
        self.parameters.model = self.models.first()
        if self.parameters.ct is None:
            self.parameters.ct = likely_ct(slicer.mrmlScene)

    def choose_model(self, source):
        """Take the model that was picked."""
        self.parameters.model = source

    def choose_organs(self, *_toggled):
        """Take the organs that are ticked."""
        if self.parameters is not None:
            self.parameters.organs = [key for key, box in self.boxes.items() if box.checked]

    def show(self):
        ui, parameters = self.ui, self.parameters
        if parameters is None:
            return
        self.models.source = parameters.model
        ui.regionWidget.visible = parameters.limited
        for key, box in self.boxes.items():
            box.blockSignals(True)
            box.checked = key in parameters.organs
            box.blockSignals(False)
        missing = self.logic.missing(parameters)
        self.bar.set_missing(missing, _("Segment the CT (Ctrl+Return)."))
        self.show_result()

    def show_result(self):
        """Show the lesions of the last result, if its nodes are still there."""
        ui, parameters = self.ui, self.parameters
        there = parameters.segmentation is not None and parameters.lesionTable is not None
        ui.resultButton.visible = there
        if not there:
            self.shown_table = None
            return
        ui.warningLabel.text = self.logic.warning(parameters.random)
        ui.notesLabel.text = parameters.notes
        ui.notesLabel.visible = bool(parameters.notes)
        stress(ui.warningLabel, parameters.random)
        ui.summaryLabel.text = parameters.summary
        shown = (parameters.lesionTable.GetID(), parameters.lesionTable.GetMTime())
        if shown != self.shown_table:  # filling it anew would forget which row is picked
            self.shown_table = shown
            rows = read_lesions(parameters.lesionTable)
            self.lesions.fill([row_texts(row) for row in rows], [row.point_ras for row in rows])
            ui.lesionTable.visible = bool(rows)

    def begin(self):
        ct = self.parameters.ct
        request = self.logic.request(self.parameters, settings.device())
        self.jobs.use(settings.worker_python())
        if not ensure_torch():
            return
        self.bar.start(
            self.jobs, segment_steps(request), lambda result: self.finish(result, ct), _("Starting the network …")
        )

    def finish(self, result, ct):
        """Add what was found to the scene and show it."""
        if ct.GetScene() is None:
            raise InputError(_("The CT was removed from the scene meanwhile; load it and segment again."))
        self.logic.add(result, ct)
        show_in_slices(ct)
        if self.parameters is not None:
            self.show()


class PASTASegmentLogic(ScriptedLoadableModuleLogic):
    """What the module does, without its panel: from parameters to a request, from a result to nodes."""

    def getParameterNode(self):
        return PASTASegmentParameterNode(super().getParameterNode())

    def missing(self, parameters) -> str:
        """What is still to be chosen, as a sentence; empty when nothing is."""
        if parameters.ct is None:
            return _("Choose a CT. The module Sample Data has a phantom to try.")
        if not parameters.model:
            return _("Choose a model.")
        if parameters.limited and parameters.organMap is None:
            return _("Choose an organ map, or segment the whole scan.")
        if parameters.limited and not parameters.organs:
            return _("Tick the organs to stay around.")
        return ""

    def request(self, parameters, device="auto") -> SegmentRequest:
        """What the parameters ask for, with the voxels of the nodes (not copied). InputError for nodes that cannot be used."""
        around = label_source(parameters.organMap) if parameters.limited else None
        organs = tuple(parameters.organs) if parameters.limited else ()
        return SegmentRequest(snapshot(parameters.ct), parameters.model, device, around, organs)

    def add(self, result: SegmentResult, ct):
        """Add the result's nodes to the scene, keep them as the last result, and return them: segmentation, volumes, lesions."""
        segmentation, volumes, lesions = add_result(result, ct)
        parameters = self.getParameterNode()
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.segmentation, parameters.volumes, parameters.lesionTable = segmentation, volumes, lesions
            parameters.summary = self.summary(result, segmentation)
            parameters.random = not result.trained
            parameters.notes = "\n".join(note[:1].upper() + note[1:] for note in result.notes)
        return segmentation, volumes, lesions

    def summary(self, result: SegmentResult, segmentation) -> str:
        """One line about what was found and where it is."""
        count = len(result.findings)
        found = _("{count} lesions").format(count=count) if count else _("No lesion of 3 mm or more")
        return _(
            "{found}, {organs} organs, by {model}. In the scene: “{segmentation}”, with tables of volumes and lesions."
        ).format(found=found, organs=len(result.parts.keys), model=result.model, segmentation=segmentation.GetName())

    def warning(self, random: bool) -> str:
        """How far a result may be trusted; ``random``: of random weights."""
        if random:
            return _("Random weights: this result means nothing. It shows how the module works.")
        return _("For research and teaching. Not for diagnosis.")


class PASTASegmentTest(ScriptedLoadableModuleTest):
    """Self-test: a phantom, segmented around one organ with random weights."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_phantom()

    def test_phantom(self):
        """From the sample to segments in the scene; without torch as far as the request."""
        ct, organs = sample_data.add_phantom(taxonomy.ENHANCED, spacing_mm=6.0)
        logic = PASTASegmentLogic()
        parameters = logic.getParameterNode()
        parameters.ct, parameters.organMap, parameters.limited = ct, organs, True
        parameters.organs, parameters.model = ["gallbladder"], "random:1"
        self.assertEqual(logic.missing(parameters), "")
        request = logic.request(parameters, "cpu")
        self.assertEqual(request.ct.array.shape, slicer.util.arrayFromVolume(ct).shape)
        if torch_is_here():
            jobs = Jobs(settings.worker_python())
            try:
                segmentation, volumes, lesions = logic.add(jobs.wait_for(segment_steps(request)), ct)
            finally:
                jobs.close()
            self.assertGreater(segmentation.GetSegmentation().GetNumberOfSegments(), 0)
            self.assertEqual(len(read_lesions(lesions)), lesions.GetTable().GetNumberOfRows())
            self.assertIs(parameters.volumes, volumes)
        self.delayDisplay(_("Test passed"))
