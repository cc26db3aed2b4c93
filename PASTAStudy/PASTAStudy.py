"""PASTAStudy: a blinded reader study of real and synthetic lesions, read, closed and analysed in Slicer."""

import sys
from pathlib import Path

import slicer
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
from PASTALib.gui.module_widget import PanelWidget
from PASTALib.gui.study_lead import LeadSection
from PASTALib.gui.study_login import Login
from PASTALib.gui.study_reading import Reading
from PASTALib.mrml.study_view import MARKS

HELP = "https://github.com/SlicerPASTA/SlicerPASTA/blob/main/Docs/PASTAStudy.md"


class PASTAStudy(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("PASTA Study")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        self.parent.dependencies = []
        self.parent.contributors = ["The SlicerPASTA developers"]
        self.parent.helpText = _(
            "A blinded reader study: readers rate real and synthetic lesions, one case at a time, by the keys 1 to 5; the study lead makes the "
            'study, closes it and gets the analysis. <a href="{link}">Help page</a>. For research and teaching, not for diagnosis.'
        ).format(link=HELP)
        self.parent.acknowledgementText = _("An open implementation of the PASTA pan-tumour model.")


@parameterNodeWrapper
class PASTAStudyParameterNode:
    """How cases are shown. Nothing about the study itself: a saved scene must not tell of it."""

    marks: bool = True
    crosshair: bool = False


class PASTAStudyWidget(PanelWidget):
    """The panel. ``reading``: the reader at work; ``login`` and ``lead``: the sections around it."""

    def make_logic(self):
        return PASTAStudyLogic()

    def build(self):
        ui = self.ui
        self.reading = Reading(ui, self.parent, self.jobs, lambda: self.logic.marks(self.parameters), self.leave)
        requirements = Path(self.resourcePath("PASTAStudy_requirements.txt"))
        self.lead = LeadSection(ui, self.jobs, requirements, self.open_folder)
        self.login = Login(ui, self.begin, self.lead.show)
        self.show_reading(False)
        self.login.fill()

    def enter(self):
        PanelWidget.enter(self)
        self.reading.wake()
        if self.reading.session is None:
            self.login.look()

    def exit(self):
        self.reading.suspend()
        PanelWidget.exit(self)

    def cleanup(self):
        self.lead.forget()
        self.reading.end()
        PanelWidget.cleanup(self)

    def onSceneStartClose(self, caller, event):
        self.reading.scene_closed()
        PanelWidget.onSceneStartClose(self, caller, event)

    def onSceneEndClose(self, caller, event):
        PanelWidget.onSceneEndClose(self, caller, event)
        if self.parent.isEntered:
            self.reading.wake()

    def show(self):
        """Mark the lesion as the panel says."""
        if self.parameters is not None:
            self.ui.crosshairBox.enabled = self.parameters.marks
            self.reading.mark()

    def begin(self, session, summaries):
        """A reader has logged in: only the study is left in the panel."""
        self.show_reading(True)
        self.reading.begin(session, summaries)

    def leave(self):
        """The reader ends for now."""
        self.reading.end()
        self.show_reading(False)
        self.login.leave()

    def open_folder(self, folder):
        """Show a study that was just made or closed."""
        self.ui.folderPath.currentPath = str(folder)
        self.login.look()

    def show_reading(self, on):
        """Either the reader's part or the sections before it."""
        ui = self.ui
        ui.readingWidget.visible = on
        ui.studySection.visible = ui.leadSection.visible = not on


class PASTAStudyLogic(ScriptedLoadableModuleLogic):
    """The parameter node and what it means. Sessions are ``PASTALib.study.session``, the views ``PASTALib.mrml.study_view``."""

    def getParameterNode(self):
        return PASTAStudyParameterNode(super().getParameterNode())

    def marks(self, parameters) -> str:
        """How the lesion is marked, one of ``MARKS``; "" for not at all."""
        if parameters is None or not parameters.marks:
            return ""
        return MARKS[int(parameters.crosshair)]


class PASTAStudyTest(ScriptedLoadableModuleTest):
    """Self-test: a case is shown, and the saved scene holds nothing of it."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_a_case_leaves_no_trace()

    def test_a_case_leaves_no_trace(self):
        """Shown from a file with a telling name; after closing, the scene is as before."""
        from PASTALib.mrml.study_view import CaseView, load_case
        from PASTALib.study.export import ExportGrid

        grid = ExportGrid((16, 16, 16), (2.0, 2.0, 2.0))
        path = Path(slicer.app.temporaryPath) / "telling-name.nrrd"
        path.write_bytes(grid.header() + bytes(grid.bytes_per_case - len(grid.header())))
        before = slicer.mrmlScene.GetNumberOfNodes()
        view = CaseView()
        try:
            view.show(load_case(path, grid), (350.0, 40.0), (0.0, 0.0, 0.0), (8.0, 8.0, 8.0))
            self.assertEqual(view.window_now, (350.0, 40.0))
            slicer.mrmlScene.SetSaveToXMLString(1)
            slicer.mrmlScene.Commit()
            self.assertNotIn("telling", slicer.mrmlScene.GetSceneXMLString())
        finally:
            slicer.mrmlScene.SetSaveToXMLString(0)
            view.close()
            path.unlink()
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), before)
        self.delayDisplay("Test passed")
