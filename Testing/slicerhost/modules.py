"""The module manager and what ``slicer.modules.<name>`` holds."""

from __future__ import annotations


class BuiltInModule:
    """A module of Slicer itself: a real logic, no widget."""

    def __init__(self, name: str, logic):
        self.name = self.title = name
        self._logic = logic

    def logic(self):
        return self._logic

    def widgetRepresentation(self):
        return None


class ModuleManager:
    """Knows the modules; adds each to ``slicer.modules`` under its name in lower case, as Slicer does."""

    SIGNALS = ("moduleLoaded(QString)", "moduleAboutToBeUnloaded(QString)", "moduleUnloaded(QString)")

    def __init__(self, namespace):
        self._namespace = namespace
        self._modules: dict[str, object] = {}
        self._slots: dict[str, list] = {signal: [] for signal in self.SIGNALS}

    def add(self, module) -> None:
        self._modules[module.name] = module
        setattr(self._namespace, module.name.lower(), module)

    def remove(self, name: str) -> None:
        self._modules.pop(name)
        delattr(self._namespace, name.lower())

    def module(self, name: str):
        return self._modules.get(name)

    def modulesNames(self) -> list[str]:
        return list(self._modules)

    def isModuleLoaded(self, name: str) -> bool:
        return name in self._modules

    def connect(self, signal: str, slot) -> bool:
        self._slots_of(signal).append(slot)
        return True

    def disconnect(self, signal: str, slot) -> bool:
        slots = self._slots_of(signal)
        if slot not in slots:
            return False
        slots.remove(slot)
        return True

    def _slots_of(self, signal: str) -> list:
        if signal not in self._slots:
            raise ValueError(f"qSlicerModuleManager has no signal {signal}; it has {', '.join(self.SIGNALS)}")
        return self._slots[signal]
