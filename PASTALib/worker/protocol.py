"""What client and worker say to each other: JSON lines. No processes, no pipes, no threads.

To the worker:    {"job": id, "run": name, "params": {…}, "arrays": {name: file}}   {"cancel": id}   {"ping": n}   {"quit": true}
From the worker:  {"event": "ready", "protocol", "pid", "python", "pasta", "numpy", "torch", …, "jobs": [name, …]}, once
                  {"event": "started" | "progress" | "log" | "result" | "error" | "cancelled", "job": id, "elapsed_s", …}
                  {"event": "pong", "ping": n}
"progress" has "step", "of", "text" and "eta_s" (null when it cannot be told); "log" has "text"; "result" has "result" and "arrays" {name: file};
"error" has "kind" (name of the exception), "text" (one line) and "details" (traceback). A job ends with exactly one of ``FINAL``.
Files are names of ``.npy`` files inside the folder that the client made, see ``arrays``.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from ..errors import InputError
from ..progress import Cancelled

VERSION = 1
FINAL = ("result", "error", "cancelled")
OUT_OF_MEMORY = "MemoryError"

_MEMORY = "close other programs, crop the scan, or choose a smaller model"
_AGAIN = "run it again; if it happens again, try --device cpu or another engine"
# Exit codes of Windows (NTSTATUS) and the signals that mean the same.
_WINDOWS = {
    0xC0000005: "SIGSEGV",
    0xC00000FD: "SIGSEGV",
    0xC0000374: "SIGABRT",
    0xC0000409: "SIGABRT",
    0xC000001D: "SIGILL",
    0xC0000017: "SIGKILL",
    0xC000013A: "SIGINT",
}
_SIGNALS = {
    "SIGKILL": ("was killed (out of memory, or by another program)", _MEMORY),
    "SIGSEGV": ("crashed (segmentation fault)", _AGAIN),
    "SIGBUS": (
        "crashed (bus error: often a full disk or a file that changed while in use)",
        "free disk space and run it again",
    ),
    "SIGABRT": ("crashed (aborted)", _AGAIN),
    "SIGFPE": ("crashed (arithmetic error)", _AGAIN),
    "SIGILL": (
        "crashed (illegal instruction: a library was built for another processor)",
        "install torch anew for this computer",
    ),
    "SIGTERM": ("was told to stop by another program", "run it again"),
    "SIGINT": ("was interrupted", "run it again"),
}


class WorkerError(Exception):
    """A job failed in a way that is not the input's fault, or the worker died. One line; ``details`` has the traceback or the last output."""

    def __init__(self, message: str, details: str = ""):
        super().__init__(message)
        self.details = details


def encode(message: Mapping) -> bytes:
    """One line of JSON. numpy numbers and arrays become numbers and lists, paths text. TypeError for what has no JSON form."""
    return json.dumps(message, separators=(",", ":"), default=_plain).encode("ascii") + b"\n"


def decode(line: bytes) -> dict:
    """The message in one line; ValueError when there is none."""
    message = json.loads(line.decode("utf-8", errors="replace"))
    if not isinstance(message, dict):
        raise ValueError(f"{type(message).__name__} instead of an object")
    return message


class Lines:
    """Puts lines together from whatever pieces a pipe delivers."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    @property
    def rest(self) -> bytes:
        """The beginning of a line that is not complete yet."""
        return b"".join(self._parts)

    def feed(self, data: bytes) -> list[bytes]:
        """Lines that are complete now, without their ends; empty ones left out."""
        *complete, rest = data.split(b"\n")
        if complete:
            complete[0] = b"".join([*self._parts, complete[0]])
            self._parts = []
        if rest:
            self._parts.append(rest)
        return [line for line in (line.rstrip(b"\r") for line in complete) if line]


class Events(Lines):
    """The worker's events from pieces of its stdout."""

    def feed(self, data: bytes) -> list[dict]:
        """Events that are complete now. A line that is no event (a launcher's greeting, say) counts as "log"."""
        return [_event(line) for line in super().feed(data)]


def _event(line: bytes) -> dict:
    try:
        message = decode(line)
    except ValueError:
        message = {}
    if "event" in message:
        return message
    return {"event": "log", "job": None, "text": line.decode("utf-8", errors="replace")[:1000]}


def run_request(job: int, name: str, params: Mapping, files: Mapping[str, str]) -> dict:
    """Start a job. ``files``: array name -> file name inside the private folder."""
    return {"job": job, "run": name, "params": dict(params), "arrays": dict(files)}


def cancel_request(job: int) -> dict:
    """Ask a job to stop; it ends with "cancelled", or not at all if it never looks."""
    return {"cancel": job}


def failure(event: Mapping) -> Exception:
    """The exception that a final event other than "result" stands for: Cancelled, InputError or WorkerError."""
    if event["event"] == "cancelled":
        return Cancelled("cancelled")
    kind, text, details = str(event.get("kind", "")), str(event.get("text", "")), str(event.get("details", ""))
    if kind == InputError.__name__:
        return InputError(text)
    name = event.get("run") or "the job"
    if kind == WorkerError.__name__:
        return WorkerError(text, details)
    if kind == OUT_OF_MEMORY:
        return WorkerError(f"{name} ran out of memory ({text or 'no more is known'}); {_MEMORY}", details)
    return WorkerError(f"{name} failed: {kind}{': ' if text else ''}{text}", details)


def death(returncode: int | None, stderr: Iterable[str], doing: str = "") -> WorkerError:
    """The error for a worker that ended by itself: what died and how, the last thing it wrote, and what to do.

    ``returncode`` as in ``subprocess``: negative for a signal. ``stderr``: its last lines. ``doing``: name of the job that it was at.
    """
    lines = [line for line in stderr if line.strip()]
    how, advice = _exit(returncode)
    said = telling_line(lines)
    during = f" during {doing}" if doing else ""
    quoted = f'; it last wrote "{said}"' if said else ""
    return WorkerError(f"the worker process {how}{during}{quoted}; {advice}", "\n".join(lines))


def telling_line(stderr: Iterable[str]) -> str:
    """The line of a program's last output that says most: a fatal error, or else the last one that is no part of a traceback."""
    lines = [line.rstrip() for line in stderr if line.strip()]
    fatal = [line for line in lines if line.startswith("Fatal Python error")]
    plain = [
        line
        for line in lines
        if not line[0].isspace() and not line.startswith(("Extension modules", "Thread 0x", "Current thread"))
    ]
    return " ".join((fatal or plain or lines or [""])[-1].split())[:200]


def _exit(returncode: int | None) -> tuple[str, str]:
    if returncode is None:
        return "closed its output", _AGAIN
    name = _WINDOWS.get(returncode & 0xFFFFFFFF, "") if abs(returncode) > 255 else ""
    if returncode < 0 and not name:
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
    elif returncode == 128 + 9:  # what a shell or container says of a killed program
        name = "SIGKILL"
    if not name:
        return f"ended (exit code {returncode})", "run it again; the details show what it wrote"
    how, advice = _SIGNALS.get(name, ("was ended", _AGAIN))
    return f"{how} [{name}]", advice


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
