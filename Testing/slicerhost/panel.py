"""Opens a scripted module as Slicer does, and gives tests a hand on its panel."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from .boot import in_real_slicer
from .event_loop import wait_until
from .gui import boot_gui

PARTS = ("", "Widget", "Logic", "Test")


class ScriptedModule:
    """What ``slicer.modules.<name>`` is for a scripted module; the module's class sets its attributes."""

    __slots__ = (
        "_widget",
        "acknowledgementText",
        "associatedNodeTypes",
        "categories",
        "contributors",
        "dependencies",
        "helpText",
        "hidden",
        "icon",
        "index",
        "name",
        "path",
        "title",
        "widgetRepresentationCreationEnabled",
    )

    def __init__(self, name: str, path: Path):
        self.name, self.path = name, str(path)
        self.hidden, self.associatedNodeTypes = False, []
        self._widget = None

    def widgetRepresentation(self):
        return self._widget

    def logic(self):
        """The C++ logic of a scripted module is empty."""
        return None


class OpenModule:
    """A module whose panel is built, entered and shown. Use as a context manager, or call ``close``."""

    def __init__(self, python_module, module: ScriptedModule, parent, widget):
        self.python_module, self.module, self.parent, self.widget = python_module, module, parent, widget
        self.closed = False

    @property
    def ui(self):
        """The module's own ``self.ui``: its named child widgets."""
        return self.widget.ui

    @property
    def logic(self):
        return self.widget.logic

    def enter(self) -> None:
        if not self.parent.isEntered:
            self.parent._entered = True
            self.widget.enter()

    def exit(self) -> None:
        if self.parent.isEntered:
            self.parent._entered = False
            self.widget.exit()

    def close(self) -> None:
        """Leave the module, clean it up and forget it, so that it can be opened anew."""
        import slicer

        if in_real_slicer():
            slicer.util.selectModule("Data")
            return
        import shiboken6

        name = self.module.name
        if self.closed:
            return
        self.closed = True
        self.exit()
        self.widget.cleanup()
        slicer.app.moduleManager().remove(name)
        vars(slicer.modules).pop(f"{name}Widget", None)
        sys.modules.pop(name, None)
        folder = str(Path(self.module.path).parent)
        if folder in sys.path:
            sys.path.remove(folder)
        self.parent.hide()
        shiboken6.delete(self.parent)

    def __enter__(self) -> OpenModule:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # --- a user's hands ------------------------------------------------------------------------------------------

    def press(self, button) -> None:
        """Click a button as a user does; RuntimeError when it is hidden or disabled."""
        _require_usable(button)
        button.click()

    def choose(self, combo_box, text: str) -> None:
        """Pick an entry of a combo box or node selector by its text."""
        import qt

        _require_usable(combo_box)
        box = combo_box if isinstance(combo_box, qt.QComboBox) else combo_box.findChild(qt.QComboBox)
        index = box.findText(text)
        if index < 0:
            entries = [box.itemText(i) for i in range(box.count)]
            raise ValueError(f"{combo_box.name} offers {entries}, not {text!r}")
        box.setCurrentIndex(index)
        box.activated.emit(index)

    def type_text(self, field, text: str) -> None:
        """Replace a field's text and press Return."""
        from PySide6.QtCore import Qt
        from PySide6.QtTest import QTest

        _require_usable(field)
        field.selectAll()
        QTest.keyClicks(field, text)
        QTest.keyClick(field, Qt.Key.Key_Return)

    def press_keys(self, sequence: str) -> None:
        """Trigger the shortcut of the panel with this key sequence, such as "Ctrl+Z"; ValueError if there is none."""
        import qt

        wanted = qt.QKeySequence(sequence)
        for shortcut in self.parent.findChildren(qt.QShortcut):
            if shortcut.key == wanted and shortcut.enabled:
                shortcut.activated.emit()
                return
        raise ValueError(f"the panel of {self.module.name} has no enabled shortcut {sequence}")

    def wait_until(self, condition, timeout_s: float = 30.0) -> None:
        wait_until(condition, timeout_s)


def open_module(folder: str | Path, name: str, size: tuple[int, int] = (400, 800)) -> OpenModule:
    """Load ``<folder>/<name>.py``, build its panel (``setup``), show and ``enter`` it.

    Raises FileNotFoundError without the file, and TypeError when one of the four classes is missing or of another base.
    """
    boot_gui()
    import slicer

    if in_real_slicer():  # which has loaded the module itself
        slicer.util.selectModule(name)
        widget = slicer.util.getModuleWidget(name)
        return OpenModule(sys.modules[name], slicer.util.getModule(name), widget.parent, widget)
    path = Path(folder) / f"{name}.py"
    python_module = _load(path, name)
    classes = _four_classes(python_module, name)
    module = ScriptedModule(name, path)
    classes[""](module)
    slicer.app.moduleManager().add(module)
    slicer.app.finish_startup()
    parent = slicer.qSlicerScriptedLoadableModuleWidget()
    parent.setMRMLScene(slicer.mrmlScene)
    widget = classes["Widget"](parent)
    parent._python_widget = widget
    module._widget = parent
    setattr(slicer.modules, f"{name}Widget", widget)
    widget.setup()
    parent.resize(*size)
    parent.show()
    opened = OpenModule(python_module, module, parent, widget)
    opened.enter()
    slicer.app.processEvents()
    return opened


def _load(path: Path, name: str):
    if not path.is_file():
        raise FileNotFoundError(f"no scripted module at {path}")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    python_module = importlib.util.module_from_spec(spec)
    sys.modules[name] = python_module
    try:
        spec.loader.exec_module(python_module)
    except BaseException:
        del sys.modules[name]
        raise
    return python_module


def _four_classes(python_module, name: str) -> dict[str, type]:
    import slicer

    found = {}
    for part in PARTS:
        cls = getattr(python_module, name + part, None)
        base = getattr(slicer.ScriptedLoadableModule, f"ScriptedLoadableModule{part}")
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise TypeError(f"{python_module.__file__} must define class {name + part}({base.__name__})")
        found[part] = cls
    return found


def _require_usable(widget) -> None:
    if not widget.isVisible():
        raise RuntimeError(f"{widget.className()} {widget.name!r} is not visible")
    if not widget.isEnabled():
        raise RuntimeError(f"{widget.className()} {widget.name!r} is disabled")
