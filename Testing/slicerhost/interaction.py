"""Synthesised mouse and keyboard: events go through the view's real interactor style, as from a user's hand."""

from __future__ import annotations

MODIFIERS = ("shift", "control", "alt")


class Mouse:
    """Pixels count from the lower left corner, as in VTK. Modifiers are any of "shift", "control", "alt"."""

    def __init__(self, interactor):
        self._interactor = interactor
        self._inside = False

    def move(self, x: int, y: int, modifiers=()) -> None:
        if not self._inside:
            self._inside = True
            self._send("EnterEvent", x, y, modifiers)
        self._send("MouseMoveEvent", x, y, modifiers)

    def leave(self) -> None:
        if self._inside:
            self._inside = False
            self._send("LeaveEvent", *self._interactor.GetEventPosition(), ())

    def press(self, x: int, y: int, button: str = "Left", modifiers=()) -> None:
        self._send(f"{button}ButtonPressEvent", x, y, modifiers)

    def release(self, x: int, y: int, button: str = "Left", modifiers=()) -> None:
        self._send(f"{button}ButtonReleaseEvent", x, y, modifiers)

    def click(self, x: int, y: int, button: str = "Left", modifiers=()) -> None:
        self.move(x, y, modifiers)
        self.press(x, y, button, modifiers)
        self.release(x, y, button, modifiers)

    def double_click(self, x: int, y: int, modifiers=()) -> None:
        self.click(x, y, modifiers=modifiers)
        self._send("LeftButtonDoubleClickEvent", x, y, modifiers)
        self.release(x, y, modifiers=modifiers)

    def drag(self, start, end, steps: int = 8, button: str = "Left", modifiers=()) -> None:
        """Press at one pixel, move in steps to another, release there."""
        self.move(*start, modifiers)
        self.press(*start, button, modifiers)
        for step in range(1, steps + 1):
            share = step / steps
            self.move(*(round(a + share * (b - a)) for a, b in zip(start, end)), modifiers)
        self.release(*end, button, modifiers)

    def wheel(self, x: int, y: int, notches: int, modifiers=()) -> None:
        """Turn the wheel: forward for positive, backward for negative notches."""
        self.move(x, y, modifiers)
        for _ in range(abs(notches)):
            self._send("MouseWheelForwardEvent" if notches > 0 else "MouseWheelBackwardEvent", x, y, modifiers)

    def key(self, symbol: str, modifiers=()) -> None:
        """Press and release a key by its VTK symbol: "a", "Delete", "Escape", "Right" …"""
        code = symbol if len(symbol) == 1 else "\0"
        held = self._held(modifiers)
        for event in ("KeyPressEvent", "CharEvent", "KeyReleaseEvent"):
            self._interactor.SetKeyEventInformation(held["control"], held["shift"], code, 0, symbol)
            self._interactor.SetAltKey(held["alt"])
            self._interactor.InvokeEvent(event)

    def _send(self, event: str, x: int, y: int, modifiers) -> None:
        held = self._held(modifiers)
        self._interactor.SetEventInformation(int(x), int(y), held["control"], held["shift"])
        self._interactor.SetAltKey(held["alt"])
        self._interactor.InvokeEvent(event)

    @staticmethod
    def _held(modifiers) -> dict[str, int]:
        unknown = set(modifiers) - set(MODIFIERS)
        if unknown:
            raise ValueError(f"unknown modifiers {sorted(unknown)}; known are {', '.join(MODIFIERS)}")
        return {name: int(name in modifiers) for name in MODIFIERS}
