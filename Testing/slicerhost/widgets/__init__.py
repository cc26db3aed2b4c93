"""Stand-ins for ctk's and Slicer's own widgets, with the properties, signals and methods that modules use."""

from __future__ import annotations

import sys
import types


def install(slicer) -> None:
    """Make ``import ctk`` work and put the qMRML and qSlicer widgets into the namespace ``slicer``."""
    from ..pythonqt.standin import STAND_INS
    from . import (  # noqa: F401  importing registers the classes
        ctk_buttons,
        ctk_containers,
        ctk_numbers,
        ctk_paths,
        ctk_ranges,
        markups_widgets,
        module_widget,
        mrml_basics,
        node_combo_box,
        segment_widgets,
    )

    ctk = sys.modules["ctk"] = types.ModuleType("ctk")
    for name, cls in STAND_INS.items():
        setattr(ctk if name.startswith("ctk") else slicer, name, cls)
