"""Helpers for the stand-ins of Slicer's own widgets: registration, and properties with setter and change signal."""

from __future__ import annotations

from PySide6.QtCore import Property

from .properties import STAND_IN_MARK

STAND_INS: dict[str, type] = {}


def stand_in(cls: type) -> type:
    """Register a class under its C++ name, for .ui files and for the strict rules of ``properties``."""
    setattr(cls, STAND_IN_MARK, True)
    STAND_INS[cls.__name__] = cls
    return cls


def value_property(name: str, kind, default, *, changed: str = "", then: str = "", coerce=None):
    """A Q_PROPERTY with its setter: ``(Property, setName)``.

    ``changed`` names the signal sent when the value changes, ``then`` a method called before that, ``coerce`` a
    function ``(widget, value) -> value`` such as a clamp.
    """
    attribute = f"_value_{name}"

    def read(self):
        return getattr(self, attribute, default)

    def write(self, value):
        if coerce is not None:
            value = coerce(self, value)
        if value == read(self):
            return
        setattr(self, attribute, value)
        if then:
            getattr(self, then)()
        if changed:
            getattr(self, changed).emit(value)

    return Property(kind, read, write), write
