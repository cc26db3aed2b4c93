"""The section "Scan": choose a CT and its organs (or have them computed), start a session, or go on with one of the scene."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import InputError
from ..mrml.inputs import SessionInputs
from ..mrml.session import SynthesisSession
from ..mrml.session_nodes import CT, sessions_in
from ..mrml.volumes import snapshot
from . import settings
from .dependencies import ensure_packages, ensure_torch
from .jobs import InThread, Jobs, Steps
from .run_bar import RunBar
from .synth_organs import CT_OF_MAP, add_organs, starter_steps, totalsegmentator_steps


class OrganScheme(enum.Enum):
    """How the values of an organ map are read. Saved in scenes by name."""

    Auto = None
    Pasta = "pasta"
    TotalSegmentatorV2 = "totalseg-v2"
    TotalSegmentatorV1 = "totalseg-v1"

    def label(self) -> str:
        """For the combo box."""
        return {
            "Auto": _("by its names"),
            "Pasta": _("PASTA values"),
            "TotalSegmentatorV2": _("TotalSegmentator v2 values"),
            "TotalSegmentatorV1": _("TotalSegmentator v1 values"),
        }[self.name]


class ScanSection:
    """Wires the section. ``opened(session)`` brings a new session. ``requirements``: the file that lists what TotalSegmentator needs."""

    def __init__(self, ui, jobs: Jobs, requirements: Path, opened: Callable[[SynthesisSession], None]):
        self._ui, self._jobs, self._requirements, self._opened = ui, jobs, requirements, opened
        self.parameters = self._found = self._missing = None
        self.bar = RunBar(ui.startButton, ui.progressBar, ui.statusLabel, _("Start"), self._start)
        self.bar.say("")
        ui.continueButton.connect("clicked(bool)", self._continue)
        menu = qt.QMenu(ui.computeButton)
        self._actions = []
        for text, slot in (
            (_("TotalSegmentator (all structures) …"), self.compute_with_totalsegmentator),
            (_("PASTA's starter model …"), self.compute_with_starter),
        ):
            action = menu.addAction(text)
            action.connect("triggered(bool)", slot)
            self._actions.append(action)
        ui.computeButton.setMenu(menu)
        ui.computeButton.setPopupMode(qt.QToolButton.InstantPopup)

    def show(self, session: SynthesisSession | None) -> None:
        """Show what can be done with the nodes chosen."""
        parameters, ui = self.parameters, self._ui
        ct = parameters.ct if parameters is not None else None
        organs = parameters.organs if parameters is not None else None
        running = self.bar.running
        ui.computeButton.enabled = bool(ct is not None and not running)
        ready = ct is not None and organs is not None
        missing = "" if ready else _("Choose a CT and an organ map first")
        if missing != self._missing:
            self._missing = missing
            self.bar.set_missing(missing, _("Measure the scan, which takes seconds, and begin"))
            if missing:  # the panel's first line says it already
                self.bar.say("")
        found = self._found = self.found(session)
        ui.continueButton.visible = found is not None
        ui.continueButton.enabled = not running
        if found is not None:
            ui.continueButton.toolTip = _("Go on with {name}").format(name=found.GetName())

    def found(self, session: SynthesisSession | None):
        """The output volume of a session in the scene that can be continued: that of the CT chosen, else the last; None without any."""
        outputs = sessions_in(slicer.mrmlScene)
        if session is not None:
            outputs = [node for node in outputs if node is not session.nodes.output]
        ct = self.parameters.ct if self.parameters is not None else None
        of_ct = [node for node in outputs if ct is not None and ct in (node, node.GetNodeReference(CT))]
        if session is not None:  # another session is offered when its CT is chosen
            outputs = of_ct
        return (of_ct or outputs or [None])[-1]

    def forget(self) -> None:
        """Stop what runs: the scene or the module goes away."""
        self.bar.forget()

    # -- sessions ----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        parameters = self.parameters
        self._open(SessionInputs(parameters.ct, parameters.organs, parameters.scheme.value))

    def _continue(self, *_clicked) -> None:
        try:
            self._open(SessionInputs.of_output(self._found))
        except InputError as error:
            self.bar.say(str(error))
            slicer.util.errorDisplay(str(error))

    def _open(self, inputs: SessionInputs) -> None:
        def steps() -> Steps:
            return (yield InThread(inputs.run))

        self.bar.start(self._jobs, steps(), self._have, _("Reading the scan …"))
        self.show(None)

    def _have(self, inputs: SessionInputs) -> None:
        session = SynthesisSession(inputs)
        self.bar.say(" ".join(f"{note[:1].upper()}{note[1:]}." for note in session.notes))
        self._opened(session)

    # -- organs ------------------------------------------------------------------------------------------------

    def compute_with_totalsegmentator(self, *_triggered) -> None:
        """Compute the organ map with TotalSegmentator, which is installed if the user agrees."""
        here = settings.worker_python() is None
        if ensure_torch() and (not here or ensure_packages(self._requirements, "PASTA Synth")):
            self._compute(totalsegmentator_steps)

    def compute_with_starter(self, *_triggered) -> None:
        """Compute the organ map with the network that comes with the extension."""
        if ensure_torch():
            self._compute(starter_steps)

    def _compute(self, make_steps) -> None:
        ct_node = self.parameters.ct
        try:
            self._jobs.use(settings.worker_python())
            steps = make_steps(snapshot(ct_node), settings.device())
        except InputError as error:
            slicer.util.errorDisplay(str(error))
            return

        def done(organs) -> None:
            node = add_organs(organs, ct_node)
            self.bar.say(" ".join(organs.notes))
            self.parameters.organs = node

        self.bar.start(self._jobs, steps, done, _("Computing organs …"))
        self.show(None)


def likely_organs(scene, ct):
    """The organ map that belongs to a CT by a node reference, else the only segmentation or label map of the scene; None otherwise."""
    kinds = ("vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode")
    maps = [node for kind in kinds for node in slicer.util.getNodesByClass(kind, scene)]
    of_ct = [node for node in maps if ct is not None and node.GetNodeReference(CT_OF_MAP) is ct]
    return (of_ct or (maps if len(maps) == 1 else [None]))[0]
