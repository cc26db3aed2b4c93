"""Qt properties as Python attributes, and the refusals that go with them.

In PythonQt a property hides the getter of its name: ``button.text`` is a string and ``button.text()`` fails. Setters
stay callable. A property takes only its own type, and an attribute that the C++ class lacks cannot be set.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager

from PySide6.QtCore import Property, QObject, SignalInstance

STAND_IN_MARK = "_is_slicer_stand_in"
_read, _write = QObject.property, QObject.setProperty
_being_read: set[tuple[int, str]] = set()
_loading: list[bool] = []
# What PythonQt converts to each C++ type without loss. bool is an int in Python, so 0 and 1 pass as bool.
ACCEPTED = {"bool": (bool, int), "int": int, "uint": int, "double": (float, int), "QString": str}


@contextmanager
def while_loading_ui():
    """PySide's loader sets each child as an attribute of the widget it returns, which PythonQt would refuse."""
    _loading.append(True)
    try:
        yield
    finally:
        _loading.pop()


class QtProperty:
    """Descriptor of one Q_PROPERTY of one class."""

    def __init__(self, entry, method):
        self.entry, self.name, self.method = entry, entry.name(), method

    def __get__(self, instance, owner=None):
        if instance is None:  # a static function of the same name, such as QTimer.singleShot
            if self.method is None:
                return self
            return self.method.__get__(None, owner) if isinstance(self.method, staticmethod) else self.method
        key = (id(instance), self.name)
        if key in _being_read:  # Shiboken looks for a Python override of the virtual getter: there is none
            return self.method.__get__(instance, owner)
        _being_read.add(key)
        try:
            return _read(instance, self.name)
        finally:
            _being_read.discard(key)

    def __set__(self, instance, value) -> None:
        _set_property(instance, self.entry, value)


def _set_property(instance, entry, value) -> None:
    """Set by the rules of the property's QMetaProperty."""
    accepted = ACCEPTED.get(entry.typeName())
    wrong = accepted is not None and not isinstance(value, accepted)
    if not entry.isWritable():
        raise AttributeError(f"{type(instance).__name__}.{entry.name()} is read-only")
    if wrong or not _write(instance, entry.name(), value):
        raise TypeError(
            f"property {type(instance).__name__}.{entry.name()} of type {entry.typeName()} "
            f"does not accept {value!r} ({type(value).__name__})"
        )


def add_properties(cls) -> None:
    """Give a class the attributes for its own properties and for inherited ones that its methods would hide."""
    meta = cls.staticMetaObject
    for index in range(meta.propertyCount()):
        entry = meta.property(index)
        name = entry.name()
        own = index >= meta.propertyOffset()
        present = cls.__dict__.get(name)
        if isinstance(present, (QtProperty, property, Property)) or not (own or present is not None):
            continue
        method = present if present is not None else inspect.getattr_static(cls, name, None)
        while isinstance(method, QtProperty):
            method = method.method
        setattr(cls, name, QtProperty(entry, method))


def refuse_unknown_attributes(cls) -> None:
    """Setting an attribute that the C++ class lacks fails, unless the object is of a class written in Python."""

    def __setattr__(self, name, value):
        exact = type(self)
        descriptor = inspect.getattr_static(exact, name, None)
        if isinstance(descriptor, Property):  # of a stand-in
            _set_property(self, self.metaObject().property(self.metaObject().indexOfProperty(name)), value)
            return
        if hasattr(type(descriptor), "__set__"):
            descriptor.__set__(self, value)
            return
        stand_in = STAND_IN_MARK in exact.__dict__ and not name.startswith("_")
        if isinstance(value, SignalInstance):  # PySide keeps those it has made
            self.__dict__[name] = value
            return
        if stand_in or exact.__module__.startswith("PySide6."):
            if _loading:
                return
            raise AttributeError(f"{exact.__name__} has no property {name!r}; new attributes cannot be added to it")
        # Not by the slot of the class, which refuses once its bases are changed.
        self.__dict__[name] = value

    cls.__setattr__ = __setattr__


def refuse_keywords(cls) -> None:
    """PythonQt constructors take no keyword arguments."""
    original = cls.__init__

    def __init__(self, *arguments, **keywords):
        if keywords and type(self).__module__.startswith("PySide6."):
            raise TypeError(f"{type(self).__name__}() takes no keyword arguments in PythonQt: {', '.join(keywords)}")
        original(self, *arguments, **keywords)

    cls.__init__ = __init__


def add_object_basics() -> None:
    """``name`` and ``className()`` of every QObject."""
    QObject.name = property(lambda self: _read(self, "objectName"), lambda self, value: self.setObjectName(value))
    QObject.className = lambda self: self.metaObject().className()
