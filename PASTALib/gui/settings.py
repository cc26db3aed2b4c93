"""Settings of the extension, kept by the application and shared by its modules."""

from __future__ import annotations

import qt

PYTHON, DEVICE, OFFLINE = "PASTA/python", "PASTA/device", "PASTA/offline"
DEVICES = ("auto", "cpu", "cuda", "mps")


def worker_python() -> str | None:
    """Interpreter or environment that networks run in; None: Slicer's own."""
    return str(qt.QSettings().value(PYTHON, "") or "") or None


def set_worker_python(path: str | None) -> None:
    """Keep where networks run; None or "" for Slicer's own Python."""
    qt.QSettings().setValue(PYTHON, path or "")


def device() -> str:
    """Where networks compute, one of ``DEVICES``."""
    kept = str(qt.QSettings().value(DEVICE, "auto"))
    return kept if kept in DEVICES else "auto"


def set_device(name: str) -> None:
    """Keep where networks compute."""
    qt.QSettings().setValue(DEVICE, name)


def offline() -> bool:
    """Whether nothing may be fetched or installed."""
    return str(qt.QSettings().value(OFFLINE, "false")).lower() in ("true", "1")


def set_offline(on: bool) -> None:
    """Forbid or allow to fetch and install."""
    qt.QSettings().setValue(OFFLINE, "true" if on else "false")
