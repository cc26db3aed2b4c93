"""Adapters between MRML (Slicer's scene) and the library: slicer and vtk, never qt.

``volumes``, ``segmentations``, ``organ_source`` and ``tables`` translate nodes; ``session`` is the state behind placing lesions. Nothing is
imported here, so that ``import PASTALib.mrml`` costs nothing.
"""
