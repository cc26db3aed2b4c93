"""Lesions of a CT and its mask: what they are, where, how large, and a structured report of each."""

from ..volume import patient_axes
from .axes import Line, long_and_short_axis
from .find import complete, find_lesions
from .mask import LesionMask, read_lesion_mask
from .model import AttributePrediction, Finding, HuFigures
from .phase import ScanPhase, scan_phase

__all__ = [
    "AttributePrediction",
    "Finding",
    "HuFigures",
    "LesionMask",
    "Line",
    "ScanPhase",
    "complete",
    "find_lesions",
    "long_and_short_axis",
    "patient_axes",
    "read_lesion_mask",
    "scan_phase",
]
