"""Connections by C++ signature: ``button.connect("clicked(bool)", slot)``; a signal that does not exist raises."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial

import shiboken6
from PySide6.QtCore import SIGNAL, QMetaObject, QObject

_qt_connect, _qt_disconnect = QObject.connect, QObject.disconnect


@dataclass
class Connection:
    signature: str
    slot: object
    call: object
    signal: object = None  # a Python signal of a stand-in, or None for one of Qt's own


_connections: dict[int, list[Connection]] = {}


def connect(sender, signature: str, *target) -> bool:
    """``sender.connect(signature, callable)`` or ``sender.connect(signature, receiver, "slot()")``.

    The form of ``QObject.connect(sender, signature, …)`` is understood as well; PySide itself uses it.
    """
    if isinstance(signature, QObject):
        sender, signature, *target = signature, *target
    slot = _slot_of(target)
    normal = normalised(signature)
    python_signal, convert = _stand_in_signal(sender, normal)
    call = _caller(slot, 0 if normal.endswith("()") else None, convert)
    if python_signal is not None:
        python_signal.connect(call)
    elif sender.metaObject().indexOfSignal(normal) < 0:
        raise ValueError(f"QObject::connect: signal '{signature}' does not exist on {sender.className()}")
    elif not _qt_connect(sender, SIGNAL(normal), call):
        return False
    key = shiboken6.getCppPointer(sender)[0]
    if key not in _connections:
        _connections[key] = []
        sender.destroyed.connect(partial(_forget, key))
    _connections[key].append(Connection(normal, slot, call, python_signal))
    return True


def disconnect(sender, signature: str, *target) -> bool:
    """Undo ``connect``; False when there was no such connection."""
    normal = normalised(signature)
    slot = _slot_of(target) if target else None
    mine = _connections.get(shiboken6.getCppPointer(sender)[0], [])
    found = [c for c in mine if c.signature == normal and (slot is None or c.slot == slot)]
    for connection in found:
        mine.remove(connection)
        if connection.signal is not None:
            connection.signal.disconnect(connection.call)
        else:
            _qt_disconnect(sender, SIGNAL(normal), connection.call)
    return bool(found)


def normalised(signature: str) -> str:
    text = QMetaObject.normalizedSignature(signature.removeprefix("2"))  # the mark that SIGNAL() puts before it
    return text.data().decode() if hasattr(text, "data") else str(text)


def route_connect(cls) -> None:
    """Shiboken answers ``connect`` itself in some classes, so the attribute look-up has to be redirected there."""
    if "__getattribute__" not in cls.__dict__:
        return
    original = cls.__dict__["__getattribute__"]

    def __getattribute__(self, name):
        if name == "connect":
            return partial(connect, self)
        if name == "disconnect":
            return partial(disconnect, self)
        return original(self, name)

    cls.__getattribute__ = __getattribute__


def _forget(key: int, *_) -> None:
    _connections.pop(key, None)


def _stand_in_signal(sender, normal: str):
    """Signals that carry MRML objects cannot be typed in PySide: stand-ins list their C++ signatures themselves."""
    entry = getattr(type(sender), "_cpp_signals", {}).get(normal)
    if entry is None:
        return None, None
    name, convert = entry if isinstance(entry, tuple) else (entry, None)
    return getattr(sender, name), convert


def _slot_of(target):
    if len(target) == 1 and callable(target[0]):
        return target[0]
    if len(target) == 2 and isinstance(target[1], str):
        return getattr(target[0], target[1].split("(")[0])
    raise TypeError(f"connect() takes a callable, or a receiver and the name of its slot; got {target!r}")


def _caller(slot, count: int | None, convert):
    """PythonQt passes a Python function no more arguments than it takes; other callables get all."""
    limit = _arity(slot) if count is None else count

    def call(*arguments):
        if convert is not None:
            arguments = tuple(convert(argument) for argument in arguments)
        return slot(*arguments[:limit])

    return call


def _arity(slot) -> int | None:
    bound = inspect.ismethod(slot)
    function = slot.__func__ if bound else slot
    if not inspect.isfunction(function) or function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return function.__code__.co_argcount - bound
