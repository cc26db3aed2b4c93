"""``slicer.app``: the part of qSlicerApplication that scripted modules use, and nothing that it lacks."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from .iomanager import IOManager


class Application:
    """Stand-in for qSlicerApplication in testing mode.

    Attributes that are Qt properties in Slicer are plain attributes here; methods are methods. An attribute that the
    application does not have can be neither read nor set.
    """

    __slots__ = (
        "_cursors",
        "_io",
        "_kept",
        "_layout",
        "_logic",
        "_modules",
        "_paused",
        "_slots",
        "_testing",
        "_version",
        "temporaryPath",
    )

    is_stand_in = True
    applicationName = mainApplicationName = "Slicer"
    majorVersion, revision, repositoryRevision = 5, "0", "0"
    platform, arch, os = "linux-amd64", "amd64", "linux"
    slicerHome = ""
    SIGNALS = (
        "startupCompleted()",
        "aboutToQuit()",
        "mrmlSceneChanged(vtkMRMLScene*)",
        "lastWindowClosed()",
        "focusChanged(QWidget*,QWidget*)",
    )

    def __init__(self, logic, modules, folder: str):
        self._logic = logic
        self._modules = modules
        self._io = IOManager()
        self._kept = ()
        self._layout = None
        self._paused = 0
        self._cursors = 0
        self._testing = True
        self._slots = {signal: [] for signal in self.SIGNALS}
        self._version = 13, "5.13.0"
        self.temporaryPath = folder

    # --- what Slicer's application offers ---------------------------------------------------------------------

    @property
    def minorVersion(self) -> int:
        return self._version[0]

    @property
    def applicationVersion(self) -> str:
        return self._version[1]

    def testingEnabled(self) -> bool:
        return self._testing

    def commandOptions(self):
        return SimpleNamespace(testingEnabled=self._testing, noMainWindow=True)

    def applicationLogic(self):
        return self._logic

    def mrmlScene(self):
        import slicer

        return slicer.mrmlScene

    def coreIOManager(self):
        return self._io

    def ioManager(self):
        return self._io

    def moduleManager(self):
        return self._modules

    def moduleLogic(self, name: str):
        module = self._modules.module(name)
        return module.logic() if module is not None else None

    def layoutManager(self):
        """None until views exist, as in a Slicer without a main window."""
        return self._layout

    def settings(self):
        import qt

        return qt.QSettings()

    userSettings = revisionUserSettings = settings

    def translate(self, context: str, text: str) -> str:
        return text

    def processEvents(self) -> None:
        if "qt" in sys.modules:
            sys.modules["qt"].QApplication.processEvents()

    def pauseRender(self) -> None:
        self._paused += 1
        self._logic.PauseRender()

    def resumeRender(self) -> None:
        if not self._paused:
            raise RuntimeError("resumeRender() without pauseRender()")
        self._paused -= 1
        self._logic.ResumeRender()

    def setOverrideCursor(self, cursor) -> None:
        self._cursors += 1

    def restoreOverrideCursor(self) -> None:
        if not self._cursors:
            raise RuntimeError("restoreOverrideCursor() without setOverrideCursor()")
        self._cursors -= 1

    def topLevelWidgets(self) -> list:
        """No main window among them, as in a Slicer that was started without one."""
        return sys.modules["qt"].QApplication.topLevelWidgets() if "qt" in sys.modules else []

    def clipboard(self):
        import qt

        return qt.QApplication.clipboard()

    def startupEnvironment(self):
        import qt

        return qt.QProcessEnvironment.systemEnvironment()

    def connect(self, signal: str, slot) -> bool:
        self._slots_of(signal).append(slot)
        return True

    def disconnect(self, signal: str, slot) -> bool:
        slots = self._slots_of(signal)
        if slot not in slots:
            return False
        slots.remove(slot)
        return True

    # --- for the host and for tests ---------------------------------------------------------------------------

    def keep(self, objects) -> None:
        """Hold objects that must live as long as the application."""
        self._kept += tuple(objects)

    def set_layout_manager(self, manager) -> None:
        self._layout = manager

    def set_version(self, minor: int, text: str) -> None:
        self._version = minor, text

    def set_testing(self, enabled: bool) -> None:
        """Testing mode is on; a test of what users see in dialogs turns it off."""
        self._testing = enabled

    def send(self, signal: str, *arguments) -> None:
        """Call what is connected to a signal."""
        for slot in list(self._slots_of(signal)):
            slot(*arguments)

    def finish_startup(self) -> None:
        """Tell the modules that were just loaded that start-up is complete; each is told once."""
        self.send("startupCompleted()")
        self._slots["startupCompleted()"].clear()

    def take_balance(self) -> dict[str, int]:
        """Calls that still wait for their opposite (paused renders, override cursors); forgotten from then on."""
        left = {"paused renders": self._paused, "override cursors": self._cursors}
        while self._paused:
            self.resumeRender()
        self._cursors = 0
        return left

    def _slots_of(self, signal: str) -> list:
        if signal not in self._slots:
            raise ValueError(f"qSlicerApplication has no signal {signal}; the host knows {', '.join(self.SIGNALS)}")
        return self._slots[signal]
