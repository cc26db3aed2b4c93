"""One worker process seen from the client: start it, send it lines, take its events, end it with all of its children."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO

from . import protocol

GONE = "gone"  # the last event of every process, made here
_TAIL_LINES = 60
_DRAIN_S = 1.0  # for output that is still in the pipes when the process has ended


class WorkerProcess:
    """A running worker. Its events arrive in ``events`` (a SimpleQueue), the last one being ``{"event": "gone"}``.

    Three threads serve it: one for each pipe, and one that waits for its end, because a child of the worker may hold the pipes open.
    OSError when it cannot be started.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]):
        self.events: queue.SimpleQueue = queue.SimpleQueue()
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.returncode: int | None = None
        self._ended = threading.Event()
        self._lock = threading.RLock()  # no signal may go to a process id that is no longer its own
        separate = {"start_new_session": True}  # Ctrl-C is for the client alone; and the group can be killed as one
        if os.name == "nt":
            separate = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            list(command), env=dict(env), stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, **separate
        )
        readers = [
            threading.Thread(target=self._read_events, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_tail, args=(self._process.stderr,), daemon=True),
        ]
        for thread in readers:
            thread.start()
        threading.Thread(target=self._wait, args=(readers,), daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    def send(self, message: Mapping) -> None:
        """Write one request. Nothing happens when the process is gone: "gone" tells that. TypeError for what has no JSON form."""
        line = memoryview(protocol.encode(message))
        with contextlib.suppress(OSError, ValueError):
            while line:
                line = line[self._process.stdin.write(line) or 0 :]

    def kill(self) -> None:
        """End it at once, with its children."""
        with self._lock:
            if self.alive:
                self._kill_group()

    def quit(self, grace_s: float) -> None:
        """Ask it to end, and see to it that it does."""
        self.send({"quit": True})
        if not self._ended.wait(grace_s):
            self.kill()
            self._ended.wait(grace_s)

    def _kill_group(self) -> None:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        else:
            subprocess.run(
                ["taskkill", "/T", "/F", "/PID", str(self.pid)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                creationflags=subprocess.CREATE_NO_WINDOW,
            )

    def _read_events(self, stream: IO[bytes]) -> None:
        events = protocol.Events()
        with stream, contextlib.suppress(OSError):
            while data := stream.read(1 << 16):
                for event in events.feed(data):
                    self.events.put(event)

    def _read_tail(self, stream: IO[bytes]) -> None:
        lines = protocol.Lines()
        with stream, contextlib.suppress(OSError):
            while data := stream.read(1 << 16):
                for line in lines.feed(data.replace(b"\r", b"\n")):  # progress bars never end their lines
                    self.tail.append(_text(line))
        if lines.rest:
            self.tail.append(_text(lines.rest))

    def _wait(self, readers: Sequence[threading.Thread]) -> None:
        if hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):  # seen but not reaped: its number stays its own until then
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            with self._lock:
                self._kill_group()  # children that it left behind
                self.returncode = self._process.wait()
        else:
            self.returncode = self._process.wait()
        for thread in readers:
            thread.join(_DRAIN_S)
        self._ended.set()
        self.events.put({"event": GONE})
        with contextlib.suppress(OSError):
            self._process.stdin.close()


def _text(line: bytes) -> str:
    return line[-500:].decode("utf-8", errors="replace")
