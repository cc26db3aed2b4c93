"""Imitates an older Slicer, or one without an extension."""

from __future__ import annotations

import sys
from contextlib import contextmanager

from .record import RECORD

MISSING = object()


@contextmanager
def without_modules(*names: str):
    """Importing these modules fails, as where an extension is not installed or Slicer is older."""
    before = {name: sys.modules.get(name, MISSING) for name in names}
    attributes = {}
    for name in names:
        package, _, leaf = name.rpartition(".")
        parent = sys.modules.get(package)
        if parent is not None and leaf in vars(parent):
            attributes[parent, leaf] = vars(parent)[leaf]
            delattr(parent, leaf)
        sys.modules[name] = None
    try:
        yield
    finally:
        for name, module in before.items():
            if module is MISSING:
                del sys.modules[name]
            else:
                sys.modules[name] = module
        for (parent, leaf), value in attributes.items():
            setattr(parent, leaf, value)


@contextmanager
def slicer_5_10():
    """Slicer 5.10: no ``slicer.packaging``; ``slicer.util.pip_install`` stands on its own and is recorded."""
    import slicer

    def pip_install(requirements):
        RECORD.call("slicer.util.pip_install", requirements)
        answer = RECORD.take_answer("slicer.util.pip_install", None)
        if isinstance(answer, BaseException):
            raise answer

    def pip_uninstall(requirements):
        RECORD.call("slicer.util.pip_uninstall", requirements)

    util = slicer.util
    newer = ("LazyImport", "executePythonModule")
    kept = {name: getattr(util, name) for name in (*newer, "pip_install", "pip_uninstall")}
    version = slicer.app.minorVersion, slicer.app.applicationVersion
    for name in newer:
        delattr(util, name)
    util.pip_install, util.pip_uninstall = pip_install, pip_uninstall
    slicer.app.set_version(10, "5.10.0")
    try:
        with without_modules("slicer.packaging"):
            yield
    finally:
        slicer.app.set_version(*version)
        for name, value in kept.items():
            setattr(util, name, value)
