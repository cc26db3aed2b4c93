"""The decorator ``parameterNodeWrapper`` and what the decorated class can do."""

from __future__ import annotations

import typing

import vtk

from .annotations import Default
from .connectors import connector
from .parameters import NOTHING, Parameter

SlicerParameterNamePropertyName = "SlicerParameterName"


class WrapperBase:
    """Values live in the wrapped vtkMRMLScriptedModuleNode and are saved with the scene."""

    allParameters: typing.ClassVar[dict[str, Parameter]]

    def __init__(self, parameterNode, prefix=None):
        if parameterNode is None or not parameterNode.IsA("vtkMRMLScriptedModuleNode"):
            raise TypeError(f"a parameter node wrapper wraps a vtkMRMLScriptedModuleNode, not {parameterNode!r}")
        self.parameterNode = parameterNode
        self._connections: dict[int, tuple] = {}
        self._last_tag = 0
        self._updating = False
        for parameter in self.allParameters.values():
            if not parameter.is_in(parameterNode):
                parameter.write(parameterNode, parameter.default)

    def __setattr__(self, name, value):
        if name.startswith("_") or name == "parameterNode" or hasattr(type(self), name):
            super().__setattr__(name, value)
        else:
            raise AttributeError(f"{type(self).__name__} has no parameter {name!r}")

    def getValue(self, name: str):
        return self._parameter(name).read(self.parameterNode)

    def setValue(self, name: str, value) -> None:
        self._parameter(name).write(self.parameterNode, value)

    def default(self, name: str) -> Default:
        return Default(self._parameter(name).default)

    @classmethod
    def dataType(cls, name: str):
        return cls.allParameters[name].type

    # What VTKObservationMixin and slicer.util.NodeModify need.

    def AddObserver(self, event, callback, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, before: int) -> int:
        return self.parameterNode.EndModify(before)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    # Widgets.

    def connectGui(self, gui) -> int:
        """Bind each widget with the dynamic property SlicerParameterName; returns a tag for ``disconnectGui``."""
        import qt

        widgets = gui.findChildren(qt.QWidget) if hasattr(gui, "findChildren") else vars(gui).values()
        named = {w.property(SlicerParameterNamePropertyName): w for w in widgets if hasattr(w, "property")}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict) -> int:
        connectors = {}
        for name, widget in mapping.items():
            parameter = self._parameter(name)
            link = connectors[name] = connector(widget, parameter)
            link.write(parameter.read(self.parameterNode))
            if link.signal is not None:
                slot = self._follower(name, link)
                widget.connect(link.signal, slot)
                link.disconnect = lambda widget=widget, link=link, slot=slot: widget.disconnect(link.signal, slot)

        def show(*_):
            if not self._updating:
                self._updating = True
                try:
                    for name, link in connectors.items():
                        link.write(self.getValue(name))
                finally:
                    self._updating = False

        self._last_tag += 1
        self._connections[self._last_tag] = connectors, self.AddObserver(vtk.vtkCommand.ModifiedEvent, show)
        return self._last_tag

    def disconnectGui(self, tag: int) -> None:
        connectors, observer = self._connections.pop(tag)
        self.RemoveObserver(observer)
        for link in connectors.values():
            if link.signal is not None:
                link.disconnect()

    def _follower(self, name: str, link):
        def follow(*_):
            if not self._updating:
                self.setValue(name, link.read())

        return follow

    def _parameter(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(self.allParameters)}")
        return self.allParameters[name]


def _property_of(parameter: Parameter) -> property:
    def read(self):
        return parameter.read(self.parameterNode)

    def write(self, value):
        parameter.write(self.parameterNode, value)

    return property(read, write)


def parameterNodeWrapper(cls=None):
    """Class decorator: each annotated name becomes a parameter."""

    def wrap(decorated):
        hints = typing.get_type_hints(decorated, include_extras=True)
        defaults = vars(decorated)
        parameters = {name: Parameter(name, hint, defaults.get(name, NOTHING)) for name, hint in hints.items()}
        kept = {k: v for k, v in defaults.items() if k not in hints and k not in ("__dict__", "__weakref__")}
        properties = {name: _property_of(parameter) for name, parameter in parameters.items()}
        return type(decorated.__name__, (WrapperBase,), {**kept, **properties, "allParameters": parameters})

    return wrap if cls is None else wrap(cls)


def isParameterNodeWrapper(value) -> bool:
    cls = value if isinstance(value, type) else type(value)
    return issubclass(cls, WrapperBase)
