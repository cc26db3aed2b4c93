"""``qt`` as PythonQt shows it, on PySide6: properties are attributes, signals are connected by their C++ signature.

``install()`` makes ``import qt`` and ``import ctk`` work; it does nothing where they are PythonQt's own.
"""

from .install import install

__all__ = ["install"]
