"""The library under the PASTA extension for 3D Slicer and under the command ``pasta``."""

__version__ = "0.1.0"
