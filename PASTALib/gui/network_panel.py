"""The section "Networks" that modules share (where networks run, on which device, whether anything may be fetched), and the list of models."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from ..errors import InputError
from ..models import list_models
from ..worker import interpreter
from . import settings
from .jobs import Jobs

STARTER, RANDOM = "starter", "random:8"
_ASK = """
import sys
print("Python %d.%d" % sys.version_info[:2])
import numpy
try:
    import torch
except ImportError:
    print("torch is missing")
else:
    print("torch " + torch.__version__)
    print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA graphics card")
"""


def torch_is_here() -> bool:
    """Whether networks can run without installing anything; for a chosen environment that is taken on trust."""
    return settings.worker_python() is not None or find_spec("torch") is not None


class NetworkPanel:
    """Fills a layout with the collapsible section. Its contents are the application's settings, so every module shows the same."""

    def __init__(self, layout, jobs: Jobs):
        self._jobs = jobs
        self.button = ctk.ctkCollapsibleButton()
        self.button.setObjectName("networksButton")
        self.button.collapsed = True
        self.button.setSizePolicy(qt.QSizePolicy.Preferred, qt.QSizePolicy.Preferred)
        form = qt.QFormLayout(self.button)
        form.setRowWrapPolicy(qt.QFormLayout.WrapLongRows)
        form.setContentsMargins(9, 0, 9, 0)  # with more, the folded section would need more room than its header
        self.environment = ctk.ctkPathLineEdit()
        self.environment.setObjectName("environmentPath")
        self.environment.filters = ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Files
        self.environment.label = _("Python environment that has torch")
        self.device = _device_box()
        self.offline = qt.QCheckBox(_("Offline: fetch and install nothing"))
        self.offline.setObjectName("offlineBox")
        self.check = qt.QPushButton(_("Check"))
        self.check.setObjectName("checkEnvironmentButton")
        self.answer = qt.QLabel()
        self.answer.setObjectName("environmentAnswer")
        self.answer.wordWrap = True
        _describe(
            self.environment,
            _("Python environment"),
            _(
                "Folder of a Python environment (or its interpreter) that has numpy, scipy, SimpleITK and torch. Empty: Slicer's own Python, "
                "with torch from the extension PyTorch."
            ),
        )
        _describe(
            self.device, _("Device"), _("Where networks compute. Automatic: the first CUDA card, else the processor.")
        )
        _describe(self.offline, _("Offline"), _("Nothing is downloaded and no package is installed."))
        _describe(
            self.check,
            _("Check the Python environment"),
            _("Start this Python once and show its versions and its graphics card."),
        )
        form.addRow(_("Environment:"), self.environment)
        form.addRow(_("Device:"), self.device)
        form.addRow(self.offline)
        form.addRow(self.check, self.answer)
        layout.addWidget(self.button)
        self.show()
        self.environment.connect("currentPathChanged(QString)", self._environment_chosen)
        self.device.connect("currentIndexChanged(int)", self._device_chosen)
        self.offline.connect("toggled(bool)", settings.set_offline)
        self.check.connect("clicked(bool)", self.ask)

    def show(self) -> None:
        """Show the settings as they are now (another module may have changed them)."""
        for widget in (self.environment, self.device, self.offline):
            widget.blockSignals(True)
        self.environment.currentPath = settings.worker_python() or ""
        self.device.currentIndex = settings.DEVICES.index(settings.device())
        self.offline.checked = settings.offline()
        for widget in (self.environment, self.device, self.offline):
            widget.blockSignals(False)
        self._show_title()

    def ask(self, *_clicked) -> None:
        """Start the chosen Python in the background and show what it says."""
        self.check.enabled = False
        self.answer.text = _("Asking …")
        python = settings.worker_python()

        def answered(text: str) -> None:
            self.check.enabled = True
            self.answer.text = text

        self._jobs.in_thread(lambda progress: _ask(python), done=answered, failed=lambda line, details: answered(line))

    def _environment_chosen(self, path: str) -> None:
        settings.set_worker_python(path.strip())
        self.answer.text = ""
        self._show_title()

    def _device_chosen(self, index: int) -> None:
        settings.set_device(settings.DEVICES[index])
        self._show_title()

    def _show_title(self) -> None:
        """What differs from the default can be seen while the section is folded."""
        python, device = settings.worker_python(), settings.device()
        special = [*([Path(python).name] if python else []), *([device] if device != settings.DEVICES[0] else [])]
        title = _("Networks")
        self.button.text = (
            _("{title}: {settings}").format(title=title, settings=", ".join(special)) if special else title
        )


def _device_box():
    box = qt.QComboBox()
    box.setObjectName("deviceBox")
    for text in (_("Automatic"), _("Processor (CPU)"), _("NVIDIA card (CUDA)"), _("Apple chip (MPS)")):
        box.addItem(text)
    return box


def _describe(widget, name: str, tip: str) -> None:
    widget.setAccessibleName(name)
    widget.toolTip = tip


def _ask(python: str | None) -> str:
    """What a Python says of itself; InputError when it cannot be started. For a thread."""
    path = interpreter.find(python)
    environment = interpreter.environment(path)
    flags = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {}
    try:
        done = subprocess.run(
            [str(path), "-c", _ASK], env=environment, capture_output=True, text=True, timeout=60, **flags
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{path}: does not answer ({error}); choose another environment") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"{path}: cannot be used ({last}); choose another environment")
    return ", ".join(done.stdout.split("\n")[:-1])


# ---------------------------------------------------------------------------------------------------------------
# Models


class ModelBox:
    """A combo box of models: those of the store by name, random weights, and files or folders that the user adds with the button beside.

    ``chosen(source)`` is called when the user picks one. ``without``: text of a first entry that stands for no model ("").
    """

    def __init__(self, box, button, chosen: Callable[[str], None], without: str | None = None):
        self._box, self._chosen, self._without = box, chosen, without
        self._sources: list[str] = []
        menu = qt.QMenu(button)
        menu.addAction(_("Checkpoint file …")).connect("triggered(bool)", self.browse_file)
        menu.addAction(_("nnU-Net model folder …")).connect("triggered(bool)", self.browse_folder)
        button.setMenu(menu)
        button.setPopupMode(qt.QToolButton.InstantPopup)
        self.fill()
        box.connect("activated(int)", self._picked)

    def fill(self) -> None:
        """List the models that there are now, and keep what is chosen."""
        added = [source for source in self._sources if Path(source).exists()]
        self._sources, current = [], self.source
        self._box.clear()
        if self._without is not None:
            self._add("", self._without)
        try:
            names = [model.name for model in list_models()]
        except InputError as error:  # a damaged card in the store must not take the module down
            slicer.util.showStatusMessage(str(error), 5000)
            names = []
        for name in names:
            self._add(name, name)
        self._add(RANDOM, _("random weights (a dry run)"))
        for source in added:
            self._add(source, Path(source).name)
        self.source = current

    @property
    def source(self) -> str:
        """What ``networks.load.load_model`` takes; "" for no model, or when nothing is chosen."""
        index = self._box.currentIndex
        return self._sources[index] if 0 <= index < len(self._sources) else ""

    @source.setter
    def source(self, source: str) -> None:
        if source not in self._sources:
            if not source:
                self._box.setCurrentIndex(-1)
                return
            self._add(source, Path(source).name)
        self._box.setCurrentIndex(self._sources.index(source))
        self._box.toolTip = _("Model: {source}").format(source=source) if source else self._box.toolTip

    def first(self) -> str:
        """The starter model where there is one, else random weights."""
        return STARTER if STARTER in self._sources else RANDOM

    def browse_file(self, *_clicked) -> None:
        self._take(qt.QFileDialog.getOpenFileName(None, _("Checkpoint"), "", _("Checkpoints (*.pth *.pt *.ckpt)")))

    def browse_folder(self, *_clicked) -> None:
        self._take(qt.QFileDialog.getExistingDirectory(None, _("nnU-Net model folder")))

    def _take(self, path: str) -> None:
        if path:
            self.source = path
            self._chosen(path)

    def _add(self, source: str, text: str) -> None:
        self._sources.append(source)
        self._box.addItem(text)

    def _picked(self, index: int) -> None:
        self._chosen(self._sources[index])
