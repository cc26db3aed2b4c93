"""What happened while a module ran: messages, dialogs and their answers, installs, uncaught errors."""

from __future__ import annotations

import sys
import traceback
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Message:
    """A text shown to the user: kind is "info", "warning", "error", "status", "popup" or "dialog"."""

    kind: str
    text: str


@dataclass
class Call:
    """A recorded call of something that the host does not carry out."""

    name: str
    arguments: tuple
    keywords: dict = field(default_factory=dict)


class Record:
    """One per process, because Slicer's application is one per process; ``clear()`` before each test."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.calls: list[Call] = []
        self.errors: list[BaseException] = []
        self._answers: dict[str, deque] = defaultdict(deque)
        self._previous_hook = None

    def clear(self) -> None:
        self.messages.clear()
        self.calls.clear()
        self.errors.clear()
        self._answers.clear()

    def say(self, kind: str, text: str) -> None:
        self.messages.append(Message(kind, str(text)))

    def call(self, name: str, *arguments: Any, **keywords: Any) -> None:
        self.calls.append(Call(name, arguments, keywords))

    def calls_of(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.name == name]

    def texts(self, kind: str) -> list[str]:
        return [message.text for message in self.messages if message.kind == kind]

    def answer(self, name: str, value: Any) -> None:
        """Queue what the next dialog of a name returns, for instance ``"QFileDialog.getOpenFileName"``."""
        self._answers[name].append(value)

    def take_answer(self, name: str, default: Any) -> Any:
        return self._answers[name].popleft() if self._answers[name] else default

    def catch_errors(self) -> None:
        """Keep what Python calls from a slot or an observer raise: Qt and VTK print it and go on."""
        if self._previous_hook is None:
            self._previous_hook = sys.excepthook
            sys.excepthook = self._hook

    def error_lines(self) -> list[str]:
        return [f"{type(error).__name__}: {error}" for error in self.errors]

    def _hook(self, kind, error, trace) -> None:
        self.errors.append(error)
        traceback.print_exception(kind, error, trace)


RECORD = Record()
