"""A stand-in for the Slicer application: scripted modules run and are tested on real MRML, without Slicer.

The scene, nodes, module logics, displayable managers and ``slicer.util`` are the real ones, from the wheel
``slicer-core``. Stood in are the application object, Qt as PythonQt shows it (on PySide6), the ctk and qMRML widgets,
and the pure-Python base classes of scripted modules. The host is strict: what Slicer would refuse, it refuses.

``boot()`` is enough for code without widgets; ``boot_gui()`` adds Qt. Inside a real Slicer both do nothing.
"""

from .boot import boot, in_real_slicer, reset_scene
from .gui import boot_gui
from .record import RECORD

__all__ = ["RECORD", "boot", "boot_gui", "in_real_slicer", "reset_scene"]
