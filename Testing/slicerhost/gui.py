"""Boots MRML and Qt: ``qt``, ``ctk``, the widgets of ``slicer``, and its pure-Python modules."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from .boot import boot, in_real_slicer
from .record import RECORD

HERE = Path(__file__).parent


def boot_gui():
    """``boot()`` and Qt; returns ``slicer.app``. Further calls return the same; does nothing in a real Slicer.

    Raises RuntimeError, in one line, when a system library is missing.
    """
    app = boot()
    if in_real_slicer() or "qt" in sys.modules:
        return app
    import slicer

    from .system import missing_line

    missing = missing_line()
    if missing:
        raise RuntimeError(missing)
    _make_none_last()
    from .pythonqt import install as install_qt

    install_qt(Path(app.temporaryPath) / "settings")

    from .widgets import install as install_widgets

    install_widgets(slicer)
    slicer.__path__.append(str(HERE / "namespace"))
    sys.path.append(str(HERE / "toplevel"))
    for name in ("slicer.i18n", "slicer.ScriptedLoadableModule", "slicer.parameterNodeWrapper"):
        __import__(name)
    _record_messages(slicer)
    RECORD.catch_errors()
    return app


def _record_messages(slicer) -> None:
    """Keep what the functions of slicer.util would show."""
    import logging

    util = slicer.util
    show_box = util._messageDisplay

    def message_display(level, text, *arguments, **keywords):
        RECORD.say(logging.getLevelName(level).lower(), text)
        answer = RECORD.take_answer("messageDisplay", None)
        shown = show_box(level, text, *arguments, **keywords)
        return shown if answer is None else answer

    def delay_display(message, autoCloseMsec=1000, parent=None, **keywords):
        RECORD.say("popup", message)
        slicer.app.processEvents()

    def show_status_message(message, duration=0):
        RECORD.say("status", message)
        return True

    util._messageDisplay = message_display
    util.delayDisplay = delay_display
    util.showStatusMessage = show_status_message


def _make_none_last() -> None:
    """PySide6 6.12 gives None away without counting it, which ends a Python in which None is not immortal (before 3.12)."""
    if sys.version_info < (3, 12):
        ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40
