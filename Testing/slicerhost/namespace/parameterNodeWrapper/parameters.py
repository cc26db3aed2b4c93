"""One parameter: its type, default and validators, and how its value is kept as text in the node."""

from __future__ import annotations

import enum
import json
import pathlib
import types
import typing

import slicer

from .annotations import Choice, Default, FloatRange, Validator

NOTHING = object()
SIMPLE = (int, float, str, bool)


def is_node_class(kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


class Parameter:
    """Raises TypeError when the annotation is of a kind that the host does not support."""

    def __init__(self, name: str, hint, default=NOTHING):
        self.name = name
        annotated = typing.get_origin(hint) is typing.Annotated
        self.annotations = typing.get_args(hint)[1:] if annotated else ()
        declared = typing.get_args(hint)[0] if annotated else hint
        options = self._options(declared)
        self.optional = type(None) in options
        kinds = [option for option in options if option is not type(None)]
        self.node_classes = tuple(kinds) if all(map(is_node_class, kinds)) else ()
        if len(kinds) != 1 and not self.node_classes:
            raise TypeError(f"parameter {name}: unions other than of nodes or with None are not supported: {declared}")
        self.type = kinds[0]
        self.kind = typing.get_origin(self.type) or self.type
        if not (self.node_classes or self._supported(self.type)):
            raise TypeError(f"parameter {name}: type {declared} cannot be kept in a parameter node")
        self.validators = [a for a in self.annotations if isinstance(a, Validator)]
        self._default = Default(default) if default is not NOTHING else self.annotation(Default)
        if self._default is None:
            self._default = Default(self._implied_default())
        self.validate(self.default)

    @property
    def default(self):
        return self._default.value

    @property
    def is_enum(self) -> bool:
        return isinstance(self.kind, type) and issubclass(self.kind, enum.Enum)

    def annotation(self, cls):
        """The first annotation of a class, or None."""
        return next((a for a in self.annotations if isinstance(a, cls)), None)

    def limit(self, name: str):
        """The "minimum" or "maximum" that a validator sets, or None."""
        return next((getattr(v, name) for v in self.validators if hasattr(v, name)), None)

    def validate(self, value):
        """The value in its own type; raises TypeError or ValueError when it is not allowed."""
        if value is None and (self.optional or self.node_classes):
            return None
        expected = self.node_classes or self.kind
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if self.kind is pathlib.Path and isinstance(value, pathlib.PurePath):
            value = pathlib.Path(value)
        if not isinstance(value, expected) or (isinstance(value, bool) and self.kind in (int, float)):
            raise TypeError(f"parameter {self.name} must be {self.type}, not {value!r} ({type(value).__name__})")
        for validator in self.validators:
            validator.validate(value)
        return value

    def is_in(self, node) -> bool:
        return bool(self.node_classes) or node.HasParameter(self.name)

    def write(self, node, value) -> None:
        value = self.validate(value)
        if self.node_classes:
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        else:
            node.SetParameter(self.name, self._to_text(value))

    def read(self, node):
        if self.node_classes:
            return node.GetNodeReference(self.name)
        return self._from_text(node.GetParameter(self.name)) if self.is_in(node) else self.default

    @staticmethod
    def _options(declared) -> tuple:
        union = typing.get_origin(declared) in (typing.Union, types.UnionType)
        return typing.get_args(declared) if union else (declared,)

    def _supported(self, declared) -> bool:
        kind = typing.get_origin(declared) or declared
        if kind in (list, tuple, dict):
            return bool(typing.get_args(declared)) and all(k in SIMPLE for k in typing.get_args(declared))
        return kind in (*SIMPLE, pathlib.Path, FloatRange) or self.is_enum

    def _implied_default(self):
        choice = self.annotation(Choice)
        if self.node_classes or self.optional:
            return None
        if choice is not None:
            return choice.choices[0]
        if self.is_enum:
            return next(iter(self.kind))
        if self.kind is FloatRange:
            raise TypeError(f"parameter {self.name}: a range needs a Default")
        if self.kind is tuple:
            return tuple(kind() for kind in typing.get_args(self.type))
        return self.kind()

    def _to_text(self, value) -> str:
        if isinstance(value, enum.Enum):
            value = value.name
        elif isinstance(value, pathlib.PurePath):
            value = value.as_posix()
        elif isinstance(value, FloatRange):
            value = [value.minimum, value.maximum]
        return value if isinstance(value, str) and not self.optional else json.dumps(value)

    def _from_text(self, text: str):
        value = text if self.kind is str or self.is_enum or self.kind is pathlib.Path else None
        if self.optional or value is None:
            value = json.loads(text)
        if value is None:
            return None
        if self.is_enum:
            return self.kind[value]
        if self.kind is FloatRange:
            return FloatRange(*value)
        return self.kind(value) if self.kind in (tuple, float, pathlib.Path) else value
