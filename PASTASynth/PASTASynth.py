"""PASTA Synth: place synthetic lesions with chosen attributes into a CT, see them at once, refine, keep, and save them."""

import sys
from pathlib import Path
from typing import Annotated, Union

import slicer
from slicer import vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Decimals, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

try:
    import PASTALib  # noqa: F401
except ImportError:  # in a clone the library lies one folder up
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from PASTALib.gui import sample_data
from PASTALib.gui.dependencies import ensure_torch
from PASTALib.gui.module_widget import PanelWidget, likely_ct, show_in_slices
from PASTALib.gui.network_panel import NetworkPanel, torch_is_here
from PASTALib.gui.synth_editor import Editor
from PASTALib.gui.synth_form import LesionForm
from PASTALib.gui.synth_list import LesionList
from PASTALib.gui.synth_refine import default_weights, what_is_missing
from PASTALib.gui.synth_result import ResultTable, show_outlines, show_surface
from PASTALib.gui.synth_save import SaveSection
from PASTALib.gui.synth_scan import OrganScheme, ScanSection, likely_organs
from PASTALib.gui.synth_texts import next_step


class PASTASynth(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("PASTA Synth")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        self.parent.contributors = ["The SlicerPASTA developers"]
        self.parent.helpText = _(
            "Places synthetic tumours, cysts and stones with chosen attributes into a CT: click in a view, see the lesion at once, change it, "
            "let a network refine its texture, keep it with its outline and structured report. For research only, not for diagnosis."
        )
        self.parent.acknowledgementText = _("An open implementation of PASTA-Gen, the generator of the PASTA paper.")
        slicer.app.connect("startupCompleted()", sample_data.register)


@parameterNodeWrapper
class PASTASynthParameterNode:
    """All that the panel asks for. Texts of attributes are option strings; empty: any."""

    ct: vtkMRMLScalarVolumeNode
    organs: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode]  # noqa: UP007  older Slicers know this form only
    scheme: OrganScheme = OrganScheme.Auto
    lesion: str = "liver_tumor"  # the combo box of types is filled by LesionForm, as are those of the attributes
    anyPhase: bool = False
    sizeGiven: bool = False
    sizeZ: Annotated[float, WithinRange(1, 250), Decimals(1)] = 20.0
    sizeX: Annotated[float, WithinRange(1, 250), Decimals(1)] = 20.0
    sizeY: Annotated[float, WithinRange(1, 250), Decimals(1)] = 20.0
    handles: bool = False
    shape: str = ""
    density: str = ""
    densityDelta: Annotated[float, WithinRange(-1000, 1000), Decimals(0)] = -40.0
    heterogeneity: str = ""
    surface: str = ""
    invasion: str = ""
    massEffect: Annotated[float, WithinRange(0, 8), Decimals(1)] = 0.0
    seed: Annotated[int, WithinRange(0, 999999)] = 0
    outlines: bool = True
    surface3D: bool = False
    refine: bool = True
    weights: str = ""  # ctkPathLineEdit is connected to paths only, and an empty path is no path
    caseName: str = "case-001"


class PASTASynthLogic(ScriptedLoadableModuleLogic):
    """The parameter node; sessions are ``PASTALib.mrml.session``."""

    def getParameterNode(self):
        return PASTASynthParameterNode(super().getParameterNode())


class PASTASynthWidget(PanelWidget):
    """Wires the sections of the panel (``PASTALib.gui.synth_*``) together. ``jobs``: where work is done."""

    def __init__(self, parent=None):
        self.editor, self._refreshing = None, False
        PanelWidget.__init__(self, parent)

    # -- life of the panel -------------------------------------------------------------------------------------

    def make_logic(self):
        return PASTASynthLogic()

    def build(self):
        ui = self.ui
        self.editor = Editor(self.jobs, self.show)
        requirements = Path(self.resourcePath("requirements-organs.txt"))
        self.scan = ScanSection(ui, self.jobs, requirements, self._opened)
        self.form = LesionForm(ui)
        self.table = ResultTable(ui.resultTable)
        self.list = LesionList(ui, self.editor, self.show)
        self.save = SaveSection(ui, self.editor, self.jobs, self.show)
        self.networks = NetworkPanel(ui.networksPlace.layout(), self.jobs)
        self._connect_buttons()
        self._add_shortcuts()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.onNodeRemoved)

    def _connect_buttons(self):
        ui, editor = self.ui, self.editor
        ui.placeButton.connect("clicked(bool)", self._place)
        ui.somewhereButton.connect("clicked(bool)", lambda *_: editor.place_somewhere())
        ui.anotherButton.connect("clicked(bool)", lambda *_: editor.another())
        ui.sizeGivenBox.connect("clicked(bool)", self._size_given)
        ui.beforeButton.connect("clicked(bool)", editor.show_before)
        ui.stopButton.connect("clicked(bool)", lambda *_: editor.refinement.stop())
        ui.refineBox.connect("clicked(bool)", self._refine_toggled)
        ui.torchButton.connect("clicked(bool)", self._get_torch)
        ui.weightsPath.filters = ui.weightsPath.Files
        ui.weightsPath.nameFilters = ["*.pth", "*.pt", "*.ckpt"]
        ui.weightsPath.connect("currentPathChanged(QString)", self._weights_chosen)

    def _add_shortcuts(self):
        editor = self.editor
        for keys, slot in (
            ("Ctrl+Z", editor.undo),
            ("Ctrl+Shift+Z", editor.redo),
            ("Ctrl+Return", self._accept_by_key),
            ("Esc", self._escape),
            ("B", lambda: editor.show_before(not editor.session.before) if editor.session is not None else None),
        ):
            self.add_shortcut(keys, slot)

    def cleanup(self):
        self.scan.forget()
        self.editor.end()
        PanelWidget.cleanup(self)

    def enter(self):
        PanelWidget.enter(self)
        self.networks.show()

    def exit(self):
        self.editor.point.cancel()
        PanelWidget.exit(self)

    def onSceneStartClose(self, caller, event):
        self.scan.forget()
        self.editor.close(gone=True)
        self.jobs.close()
        PanelWidget.onSceneStartClose(self, caller, event)

    def onSceneEndImport(self, caller, event):
        self.onSceneEndClose(caller, event)

    def onNodeRemoved(self, caller, event):
        if not slicer.mrmlScene.IsClosing():
            self.editor.check_nodes()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())
        if self.parameters.ct is None:
            self.parameters.ct = likely_ct(slicer.mrmlScene)
        if self.parameters.organs is None:
            self.parameters.organs = likely_organs(slicer.mrmlScene, self.parameters.ct)

    def connected(self):
        self.ui.weightsPath.currentPath = self.parameters.weights

    def setParameterNode(self, parameters):
        if parameters is not None:  # work that is still on its way when the module is left goes on with those it has
            self.editor.parameters = self.scan.parameters = parameters
        PanelWidget.setParameterNode(self, parameters)

    # -- what changes ------------------------------------------------------------------------------------------

    def _parameters_changed(self, caller=None, event=None):
        self.show()
        self.editor.edited()

    def _opened(self, session):
        show_in_slices(session.nodes.output)
        organs = self.scan.parameters.organs
        display = organs.GetDisplayNode() if organs is not None else None
        if display is not None:  # filled organs would hide the lesions
            display.SetVisibility(False)
        self.ui.scanSection.collapsed = True
        self.editor.open(session)

    def _place(self, placing):
        self.editor.begin_placing() if placing else self.editor.point.cancel()

    def _size_given(self, given):
        if given:
            self.editor.fill_in_size()

    def _refine_toggled(self, on):
        self.editor.refine_now() if on else self.editor.refinement.stop()

    def _weights_chosen(self, path):
        if self.parameters is not None:
            self.parameters.weights = path.strip()

    def _get_torch(self, *_clicked):
        ensure_torch()
        self.show()

    def _accept_by_key(self):
        if self.ui.acceptButton.enabled:
            self.editor.accept()

    def _escape(self):
        if self.editor.point.placing:
            self.editor.point.cancel()
        elif self.scan.bar.running:
            self.scan.bar.cancel()
        else:
            self.editor.refinement.stop()

    # -- what is shown -----------------------------------------------------------------------------------------

    def show(self):
        """Show everything as it is now."""
        if self._refreshing or self.parameters is None:
            return
        self._refreshing = True
        try:
            session = self.editor.session
            self.scan.show(session)
            self.form.show(self.parameters, session.scan if session is not None else None)
            self.list.show()
            self._show_lesion(session)
            self._show_views(session)
            self._show_refinement()
            self.save.show()
            self._show_hint(session)
        finally:
            self._refreshing = False

    def _show_lesion(self, session):
        ui, editor = self.ui, self.editor
        current, free = editor.current, session is not None and not editor.locked
        ui.lesionSection.enabled = ui.resultSection.enabled = ui.lesionsSection.enabled = session is not None
        ui.placeButton.enabled = ui.somewhereButton.enabled = bool(free)
        ui.placeButton.checked = editor.point.placing
        ui.anotherButton.enabled = bool(free and current is not None)
        text = editor.message or (_("Measuring …") if editor.busy else "")
        _say(ui.lesionLabel, text)
        _say(ui.notesLabel, "\n".join(editor.notes))
        self._show_result(session)
        editor.show_handles(self.parameters.handles and self.parameters.sizeGiven)

    def _show_result(self, session):
        shown = self.list.shown
        self.table.show(shown, session.scan if session is not None else None)
        titled = _("3. Result") if shown is None else _("3. Result: {name}").format(name=shown.name)
        self.ui.resultSection.text = titled

    def _show_views(self, session):
        ui, parameters = self.ui, self.parameters
        ui.beforeButton.enabled = session is not None and bool(session.lesions or session.current)
        ui.beforeButton.checked = session is not None and session.before
        if session is not None:
            show_outlines(session.nodes.segmentation, parameters.outlines and not session.before)
            settled = not self.editor.busy and not (session.current is not None and session.current.is_draft)
            show_surface(session.nodes.segmentation, bool(parameters.surface3D and settled))

    def _show_refinement(self):
        ui, editor = self.ui, self.editor
        missing = what_is_missing(self.parameters.weights or default_weights())
        ui.stopButton.enabled = editor.refinement.running
        ui.torchButton.visible = not torch_is_here()
        _say(ui.refinementLabel, missing or editor.refining)

    def _show_hint(self, session):
        found = self.scan.found(session) if session is None else None
        self.ui.hintLabel.text = next_step(self.parameters, session, self.editor.point.placing, found)


def _say(label, text):
    label.text = text
    label.visible = bool(text)


class PASTASynthTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_a_lesion_is_placed_and_taken_back()

    def test_a_lesion_is_placed_and_taken_back(self):
        """In a generated abdomen: a preview changes its region only, and undo brings every voxel back."""
        from PASTALib.mrml.session import SynthesisSession
        from PASTALib.phantom import make_phantom
        from PASTALib.synthesis.spec import LesionRequest

        self.delayDisplay("Making a phantom")
        phantom = make_phantom(5.0, region="abdomen")
        ct, labels = sample_data.phantom_nodes(phantom, "Phantom")
        session = SynthesisSession.create(ct, labels)
        result = session.preview(LesionRequest("liver_tumor", seed=1, size_mm=(20.0, 20.0, 20.0)))
        now = slicer.util.arrayFromVolume(session.nodes.output)
        changed = now != phantom.ct.array
        inside = changed.copy()
        inside[result.region] &= ~result.changed
        self.assertTrue(changed.any() and not inside.any())
        session.accept()
        session.undo()
        self.assertTrue((now == phantom.ct.array).all())
        self.delayDisplay("Test passed")
