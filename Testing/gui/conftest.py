"""Fixtures of the tests with widgets: the host, its views, and modules opened in it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def why_not() -> str:
    """Why the host cannot run here, in one line; empty where it can."""
    wheels = {"slicer": "slicer-core", "PySide6": "PySide6_Essentials"}
    for module, wheel in wheels.items():
        if importlib.util.find_spec(module) is None:
            return f"{wheel} is not installed: pip install {wheel}"
    from Testing.slicerhost.system import missing_line

    return missing_line()


@pytest.fixture(scope="session")
def host_app():
    """``slicer.app``, booted once; tests are skipped, with the reason, where it cannot be."""
    from Testing.slicerhost import boot_gui, in_real_slicer

    if not in_real_slicer():
        reason = why_not()
        if reason:
            pytest.skip(reason)
    return boot_gui()


@pytest.fixture
def host(host_app):
    """The record of a test that starts with an empty scene; errors raised in slots or observers fail the test."""
    from Testing.slicerhost import RECORD, reset_scene
    from Testing.slicerhost.layout import Layout

    reset_scene()
    RECORD.clear()
    yield RECORD
    host_app.processEvents()
    left, errors = host_app.take_balance(), RECORD.error_lines()
    RECORD.clear()
    host_app.set_testing(True)
    if Layout.existing() is not None:
        Layout.existing().restore()
    assert not errors, f"raised in slots or observers: {errors}"
    assert not any(left.values()), f"left behind: {left}"


@pytest.fixture
def layout(host):
    """Three slice views of 320 by 320 pixels."""
    from Testing.slicerhost.layout import Layout

    return Layout.get((320, 320))


@pytest.fixture
def open_module(host):
    """Function: name, or folder and name -> opened module; all are closed when the test ends."""
    from Testing.slicerhost.panel import open_module as open_in_host

    opened = []

    def open_(name: str, folder: Path | None = None, **options):
        opened.append(open_in_host(folder or ROOT / name, name, **options))
        return opened[-1]

    yield open_
    for module in reversed(opened):
        module.close()
