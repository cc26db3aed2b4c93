"""Builds the modules ``qt`` and ``ctk`` and starts the QApplication that runs off screen."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path


def install(settings_folder: Path):
    """Make ``import qt`` work and return the module; settings of the tests live in a folder of their own."""
    if "qt" in sys.modules:
        return sys.modules["qt"]
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    # Enumerations are integers, as in PythonQt; read by PySide6 when it is first imported.
    os.environ.setdefault("PYSIDE6_OPTION_PYTHON_ENUM", "0x02")
    from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets

    from . import dialogs, properties, signals
    from .uiloader import UiLoader

    QtCore.qInstallMessageHandler(_print_message)
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
    application.setOrganizationName("SlicerHost")
    application.setApplicationName("Slicer")
    application.setQuitOnLastWindowClosed(False)
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    for scope in (QtCore.QSettings.Scope.UserScope, QtCore.QSettings.Scope.SystemScope):
        QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, scope, str(settings_folder))

    module = types.ModuleType("qt")
    for part in (QtCore, QtGui, QtWidgets, QtNetwork, QtUiTools):
        for name in dir(part):
            if name.startswith("Q"):
                setattr(module, name, getattr(part, name))
    classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, QtCore.QObject)]
    classes.sort(key=lambda cls: len(cls.__mro__))  # bases first
    for cls in classes:
        properties.add_properties(cls)
        properties.refuse_unknown_attributes(cls)
        properties.refuse_keywords(cls)
        signals.route_connect(cls)
    properties.add_object_basics()
    dialogs.install(module)
    module.QUiLoader = UiLoader
    _KEPT.append(application)
    sys.modules["qt"] = module
    return module


_KEPT: list = []
OFFSCREEN_NOISE = ("propagateSizeHints",)  # said whenever a window is shown off screen


def _print_message(kind, context, text: str) -> None:
    if not any(noise in text for noise in OFFSCREEN_NOISE):
        print(f"Qt: {text}", file=sys.stderr)
