"""PASTAReport: a structured report of each lesion, measured and predicted, completed by the reader, exported."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Union

import numpy as np
import slicer
from slicer import vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
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
from PASTALib.gui.network_panel import ModelBox, NetworkPanel
from PASTALib.gui.report_detail import LesionDetail
from PASTALib.gui.report_export import ReportExport
from PASTALib.gui.report_nodes import keep_report, read_report, report_node
from PASTALib.gui.report_state import ReportState
from PASTALib.gui.report_types import TypesForm
from PASTALib.gui.report_work import ReportRequest, report_steps, told_types, trust, untold
from PASTALib.gui.segment_lesions import LesionList, size_titles, sizes
from PASTALib.mrml.dicom_origin import INSTANCES
from PASTALib.mrml.organ_source import label_source
from PASTALib.mrml.volumes import affine_of, array_of, snapshot
from PASTALib.volume import Volume

HELP = "https://github.com/SlicerPASTA/SlicerPASTA/blob/main/Docs/PASTAReport.md"


class PASTAReport(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("PASTA Report")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        self.parent.dependencies = []
        self.parent.contributors = ["The SlicerPASTA developers"]
        self.parent.helpText = _(
            "Writes a structured report of each lesion of a segmentation: size, place and eight attributes, measured in the image, predicted "
            'by a network if wanted, and corrected by you. <a href="{link}">Help page</a>. For research and teaching, not for diagnosis.'
        ).format(link=HELP)
        self.parent.acknowledgementText = _("An open implementation of the PASTA pan-tumour model.")


@parameterNodeWrapper
class PASTAReportParameterNode:
    """What the panel is set to. ``types``: name of a segment that tells nothing -> lesion type. The report itself is a text node."""

    ct: vtkMRMLScalarVolumeNode
    lesions: vtkMRMLSegmentationNode
    organMap: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode]  # noqa: UP007  older Slicers know this form only
    model: str = ""
    types: dict[str, str]


class PASTAReportWidget(ModuleWidget):
    """The panel. ``state``: the report that is shown, None without one."""

    def make_logic(self):
        return PASTAReportLogic()

    def apply_text(self):
        return _("Measure lesions")

    def build(self):
        ui = self.ui
        self.state, self.shown_node, self.watched, self.stale = None, None, None, False
        self.models = ModelBox(ui.modelBox, ui.modelButton, self.choose_model, without=_("none: measure only"))
        self.networks = NetworkPanel(ui.networksWidget.layout(), self.jobs)
        self.types = TypesForm(ui.typesForm, self.choose_type)
        titles = (_("Lesion"), *size_titles(), _("Place"))
        self.list = LesionList(ui.lesionTable, titles, self.show_lesion)
        self.detail = LesionDetail(ui, self.edit, self.take_back)
        requirements = Path(self.resourcePath("PASTAReport_requirements.txt"))
        self.export = ReportExport(ui, self.bar, self.jobs, self.report, requirements)
        self.add_shortcut("Ctrl+Shift+C", self.export.copy)
        self.fill()

    def enter(self):
        ModuleWidget.enter(self)
        self.networks.show()
        self.models.fill()
        self.show()

    def fresh(self):
        """Begin with the CT in the views and the segmentation that there is, if it is the only one."""
        if self.parameters.ct is None:
            self.parameters.ct = likely_ct(slicer.mrmlScene)
        segmentations = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if self.parameters.lesions is None and len(segmentations) == 1:
            self.parameters.lesions = segmentations[0]

    def choose_model(self, source):
        """Take the model that was picked."""
        self.parameters.model = source

    def choose_type(self, segment, key):
        """Take what the user says of a segment; "" for no lesion."""
        self.parameters.types = {**self.parameters.types, segment: key}

    def report(self):
        """The report that is shown and its CT; (None, None) without one."""
        return (None, None) if self.state is None else (self.state, self.parameters.ct)

    # -- showing ----------------------------------------------------------------------------------------------

    def show(self):
        ui, parameters = self.ui, self.parameters
        if parameters is None:
            return
        self.models.source = parameters.model
        unknown = self.logic.untold(parameters.lesions)
        self.types.show(unknown, parameters.types)
        ui.typesWidget.visible = bool(unknown)
        self.bar.set_missing(self.logic.missing(parameters), _("Measure every lesion (Ctrl+Return)."))
        from_dicom = parameters.ct is not None and bool(parameters.ct.GetAttribute(INSTANCES))
        ui.dicomButton.enabled = from_dicom
        ui.dicomLabel.text = "" if from_dicom else _("DICOM is off: the CT was not loaded from DICOM.")
        ui.dicomLabel.visible = not from_dicom
        self.watch(parameters.lesions)
        self.load()

    def watch(self, lesions):
        """Notice when the segmentation changes after it was measured."""
        segmentation = lesions.GetSegmentation() if lesions is not None else None
        if segmentation is self.watched:
            return
        kind = slicer.vtkSegmentation
        events = (kind.SourceRepresentationModified, kind.SegmentAdded, kind.SegmentRemoved)
        for event in events:
            if self.watched is not None:
                self.removeObserver(self.watched, event, self.segmentation_changed)
            if segmentation is not None:
                self.addObserver(segmentation, event, self.segmentation_changed)
        self.watched, self.stale = segmentation, False

    def segmentation_changed(self, caller=None, event=None):
        """The report may no longer fit; new segments may want a type."""
        self.stale = True
        self.show()

    def load(self):
        """Show the report that the scene holds of this CT and segmentation."""
        node = report_node(self.parameters.ct, self.parameters.lesions)
        shown = None if node is None else (node.GetID(), node.GetMTime())
        if shown != self.shown_node:
            self.shown_node = shown
            try:
                self.state = None if node is None else read_report(node)
            except InputError as error:
                self.state = None
                self.bar.say(str(error))
            self.fill()
        self.show_remarks()

    def fill(self):
        """Show the lesions of the report, the first picked."""
        ui = self.ui
        ui.lesionsButton.visible = ui.exportButton.visible = self.state is not None
        if self.state is None:
            return
        findings = self.state.document().findings
        self.list.fill([self.row(number) for number in range(len(findings))], [item.centre_ras for item in findings])
        ui.lesionTable.visible = ui.lesionWidget.visible = bool(findings)
        if findings:
            self.list.pick(0)

    def row(self, number):
        """One lesion as the list shows it."""
        item = self.state.shown(number)
        name = f"{item.number} {item.name}"
        name = _("{lesion} ✎").format(lesion=name) if self.state.edits[number] else name
        figures = sizes(item.long_axis.length_mm, item.short_axis.length_mm, item.volume_ml)
        return name, *figures, item.place

    def show_lesion(self, number):
        """Show one lesion below the list."""
        ct = self.parameters.ct
        fits = array_of(ct).shape == tuple(self.state.found.scan.shape_zyx)
        scan = Volume(array_of(ct), affine_of(ct)) if fits else None
        self.detail.show(self.state.shown(number), self.state.edits[number], scan)

    def show_remarks(self):
        """How far the report may be trusted, and what was noticed on the way."""
        ui = self.ui
        if self.state is None:
            return
        warnings = trust(self.state, self.stale)
        ui.warningLabel.text = "\n".join(warnings)
        stress(ui.warningLabel, len(warnings) > 1)
        notes = [note[:1].upper() + note[1:] for note in self.state.found.notes]
        ui.notesLabel.text = "\n".join(notes)
        ui.notesLabel.visible = bool(notes)

    # -- working ----------------------------------------------------------------------------------------------

    def begin(self):
        parameters = self.parameters
        nodes = parameters.ct, parameters.lesions, parameters.organMap
        request = self.logic.request(parameters, settings.device())
        self.jobs.use(settings.worker_python())
        if request.model and not ensure_torch():
            return
        self.bar.start(
            self.jobs, report_steps(request), lambda state: self.finish(state, *nodes), _("Reading the CT …")
        )

    def finish(self, state, ct, lesions, organs):
        """Keep the new report in the scene, with what the reader had changed, and show it."""
        if ct.GetScene() is None or lesions.GetScene() is None:
            raise InputError(_("The CT or the segmentation was removed from the scene meanwhile; measure again."))
        self.stale = False
        self.logic.keep(state, ct, lesions, organs)
        show_in_slices(ct)
        if self.parameters is not None:
            self.show()

    def edit(self, key, text):
        """Change an attribute of the lesion that is picked. InputError for a text that is no option."""
        self.state.edit(self.list.row, key, text)
        self.edited()

    def take_back(self, key):
        """Take back a change of the lesion that is picked."""
        self.state.take_back(self.list.row, key)
        self.edited()

    def edited(self):
        """Keep a change in the scene and show it."""
        number, parameters = self.list.row, self.parameters
        node = keep_report(self.state, parameters.ct, parameters.lesions, parameters.organMap)
        self.shown_node = (node.GetID(), node.GetMTime())
        self.list.set_text(number, 0, self.row(number)[0])
        self.detail.show_attributes(self.state.shown(number), self.state.edits[number])


class PASTAReportLogic(ScriptedLoadableModuleLogic):
    """What the module does, without its panel: from parameters to a request, from a result to the scene."""

    def getParameterNode(self):
        return PASTAReportParameterNode(super().getParameterNode())

    def untold(self, lesions) -> list[str]:
        """Names of the segments that do not tell what they are."""
        try:
            return untold(label_source(lesions)) if lesions is not None else []
        except InputError:  # empty, say; told when the user wants to measure
            return []

    def missing(self, parameters) -> str:
        """What is still to be chosen, as a sentence; empty when nothing is."""
        if parameters.ct is None:
            return _("Choose a CT. The module Sample Data has a phantom to try.")
        if parameters.lesions is None:
            return _(
                "Choose the segmentation with the lesions. PASTA Segment makes one; or draw one in the Segment Editor."
            )
        try:
            source = label_source(parameters.lesions)
        except InputError as error:
            return str(error)
        if told_types(source, parameters.types):
            return ""
        if untold(source):
            return _("Choose the type of at least one segment.")
        return _("This segmentation shows organs only; choose one with lesions.")

    def request(self, parameters, device="auto") -> ReportRequest:
        """What the parameters ask for, with the voxels of the nodes (not copied). InputError for nodes that cannot be used."""
        return ReportRequest(
            snapshot(parameters.ct),
            label_source(parameters.lesions),
            datetime.now().astimezone().isoformat(timespec="seconds"),
            dict(parameters.types),
            label_source(parameters.organMap) if parameters.organMap is not None else None,
            parameters.model,
            device,
        )

    def keep(self, state: ReportState, ct, lesions, organs):
        """Put a new report into the scene, in the place of an earlier one, whose changes by the reader it takes over; returns its node."""
        node = report_node(ct, lesions)
        if node is not None:
            try:
                state.keep_edits_of(read_report(node))
            except InputError:  # damaged: there is nothing to take over
                pass
        return keep_report(state, ct, lesions, organs)


class PASTAReportTest(ScriptedLoadableModuleTest):
    """Self-test: a drawn lesion on a phantom."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_drawn_lesion()

    def test_drawn_lesion(self):
        """A segment without a telling name needs a type; then it is measured, edited and kept."""
        ct, organs = sample_data.add_phantom(taxonomy.ENHANCED, spacing_mm=6.0)
        drawn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
        drawn.SetReferenceImageGeometryParameterFromVolumeNode(ct)
        identifier = drawn.GetSegmentation().AddEmptySegment("", "Segment_1")
        mask = np.zeros(slicer.util.arrayFromVolume(ct).shape, np.uint8)
        mask[50:53, 20:23, 20:23] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, drawn, identifier, ct)
        logic = PASTAReportLogic()
        parameters = logic.getParameterNode()
        parameters.ct, parameters.lesions, parameters.organMap = ct, drawn, organs
        self.assertIn("type", logic.missing(parameters))
        parameters.types = {"Segment_1": "liver_cyst"}
        self.assertEqual(logic.missing(parameters), "")
        jobs = Jobs(settings.worker_python())
        try:
            state = jobs.wait_for(report_steps(logic.request(parameters)))
        finally:
            jobs.close()
        self.assertEqual([item.name for item in state.found.findings], ["Liver cyst"])
        state.edit(0, "surface", "Well-defined margin")
        node = logic.keep(state, ct, drawn, organs)
        self.assertEqual(read_report(node).document().to_json(), state.document().to_json())
        self.delayDisplay(_("Test passed"))
