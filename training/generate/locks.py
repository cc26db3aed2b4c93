"""File locks that the system lifts by itself when a process ends, however it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: a run there must not be started twice at once; nothing watches over that
    fcntl = None


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold a lock on ``path`` (made if need be) and say whether it could be had within ``wait_s``.

    Any number of processes may hold a ``shared`` lock at once, but nobody an exclusive one beside it. File systems without locks always say yes.
    """
    if fcntl is None:
        yield True
        return
    with open(path, "a") as stream:
        yield _take(stream, shared, wait_s)


def _take(stream: IO, shared: bool, wait_s: float) -> bool:
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.05)
        except OSError:  # this file system knows no locks
            return True
