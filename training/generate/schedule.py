"""Spreading work over workers: in this process, on a local cluster, on a running Dask scheduler, or on SLURM.

Whatever the workers, only this side keeps account. A bounded number of pieces is under way at any time; those of workers that die are
given to others.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from PASTALib.errors import InputError

from .clusters import Workers, check_versions, connect, machine_memory, quiet, require_dask

AHEAD = 2  # pieces per worker under way at once: one in work, one waiting
LOST_LIMIT = 20  # times that one piece may go down with its worker before the run stops
_LOOK_S = 0.25


@dataclass
class Piece:
    """A call to be made on a worker. Pieces of one ``group`` need the same data and are kept on one worker where possible.

    ``halves``: the pieces to make of it after it was lost with its worker; ``text`` names it in messages.
    """

    group: str
    arguments: tuple
    text: str
    halves: Callable[[], list[Piece]] | None = None
    lost: int = 0


Worth = Callable[[int], bool]


class Pool(Protocol):
    """Something that calls a function for every piece."""

    count: int  # of workers that were asked for
    present: int  # of workers that are there now
    memory_bytes: int  # of each

    def run(
        self, function: Callable, pieces: Sequence[Piece], idle: Callable[[], None], worth: Worth = lambda left: True
    ) -> Iterator[Any]:
        """Results as they come. ``idle`` is called every now and then while waiting. What the function raises, this raises.

        ``worth``: whether a second worker should fetch the data of a group that has so many pieces left.
        """


@contextlib.contextmanager
def pool(workers: Workers) -> Iterator[Pool]:
    """Workers to use inside the block; they are ended with it (an existing scheduler's are only freed).

    InputError when Dask is missing, the scheduler cannot be reached, or its workers have another version of this package.
    """
    if workers.count == 0 and workers.scheduler is None and workers.slurm is None:
        yield _Here()
        return
    require_dask()
    with quiet(), contextlib.ExitStack() as stack:
        client = stack.enter_context(connect(workers, stack))
        check_versions(client, workers)
        yield _Dask(client, workers)


class _Here:
    """All in this process, one after the other."""

    count = present = 1

    @property
    def memory_bytes(self) -> int:
        return machine_memory()

    def run(self, function, pieces, idle, worth=None) -> Iterator[Any]:
        for piece in pieces:
            idle()
            yield function(*piece.arguments)


def here() -> Pool:
    """This process as the only worker."""
    return _Here()


@dataclass
class _Queue:
    """Pieces still to be given out, by group; a worker gets another piece of its last group as long as there is one."""

    groups: dict[str, deque[Piece]]
    last: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> _Queue:
        groups = defaultdict(deque)
        for piece in pieces:
            groups[piece.group].append(piece)
        return cls(dict(groups))

    def __bool__(self) -> bool:
        return bool(self.groups)

    def put(self, piece: Piece) -> None:
        self.groups.setdefault(piece.group, deque()).appendleft(piece)

    def take(self, worker: str, present: Sequence[str] = (), worth: Worth = lambda left: True) -> Piece | None:
        """The next piece for a worker: of its own group, else of the one with most left per worker on it.

        None when workers that are ``present`` are on all groups and none is ``worth`` another one.
        """
        group = self.last.get(worker)
        if group not in self.groups:
            others = Counter(name for who, name in self.last.items() if not present or who in present)
            free = [name for name in self.groups if not others[name] or worth(len(self.groups[name]))]
            if not free:
                return None
            group = max(free, key=lambda name: len(self.groups[name]) / (1 + others[name]))
        self.last[worker] = group
        piece = self.groups[group].popleft()
        if not self.groups[group]:
            del self.groups[group]
        return piece


class _Dask:
    """A Dask client's workers. Every piece is bound to one of them and taken back here when that worker is gone: left to itself the scheduler
    may keep pieces of a lost worker waiting for ever."""

    def __init__(self, client, workers: Workers):
        self._client, self._workers = client, workers
        self._slots = self._known()

    @property
    def count(self) -> int:
        return max(1, self._workers.count, len(self._slots))

    @property
    def present(self) -> int:
        return len(self._slots)

    @property
    def memory_bytes(self) -> int:
        """Of the worker that has least; a cautious guess while none is there."""
        limits = [item["memory_limit"] for item in self._known().values() if item.get("memory_limit")]
        return min(limits, default=4 << 30)

    def _known(self) -> dict[str, dict]:
        try:
            return self._client.scheduler_info(n_workers=-1)["workers"]
        except (KeyError, OSError):  # nobody there to ask
            raise InputError("the Dask scheduler is gone; start it again and use --resume") from None

    def run(self, function, pieces, idle, worth=lambda left: True) -> Iterator[Any]:
        queue = _Queue.of(pieces)
        running: dict[Any, tuple[Piece, str]] = {}
        news = threading.Event()
        looked = 0.0
        try:
            while queue or running:
                if time.monotonic() - looked > _LOOK_S:
                    looked = time.monotonic()
                    self._look(running, queue)
                self._give(function, running, queue, worth, news)
                news.clear()
                done = [future for future in running if future.status != "pending"]
                for future in done:
                    piece, _ = running.pop(future)
                    if future.status == "finished":
                        yield future.result()
                    elif not self._was_lost(future):
                        raise future.exception()
                    else:
                        self._take_back([piece], queue)
                if not done:
                    idle()
                    news.wait(_LOOK_S)
        finally:
            with contextlib.suppress(Exception):  # the scheduler itself may be gone
                self._client.cancel(list(running), force=True)

    def _look(self, running: dict, queue: _Queue) -> None:
        """Who is there now; what was given to workers that are not comes back."""
        self._slots = list(self._known())
        gone = [
            future
            for future, (_, worker) in running.items()
            if worker not in self._slots and future.status == "pending"
        ]
        if gone:
            self._client.cancel(gone, force=True)
            self._take_back([running.pop(future)[0] for future in gone], queue)

    def _give(self, function: Callable, running: dict, queue: _Queue, worth: Worth, news: threading.Event) -> None:
        busy = Counter(worker for _, worker in running.values())
        for worker in self._slots:
            for _ in range(AHEAD - busy[worker]):
                piece = queue.take(worker, self._slots, worth) if queue else None
                if piece is not None:
                    future = self._client.submit(function, *piece.arguments, workers=[worker], pure=False)
                    future.add_done_callback(lambda _: news.set())
                    running[future] = piece, worker

    def _was_lost(self, future) -> bool:
        from distributed import KilledWorker

        return future.status != "error" or isinstance(future.exception(), KilledWorker)

    def _take_back(self, lost: list[Piece], queue: _Queue) -> None:
        for piece in lost:
            for part in _again(piece, self._workers):
                queue.put(part)


def _again(piece: Piece, workers: Workers) -> list[Piece]:
    """The pieces to make of one that was lost with its workers. InputError when that has happened too often."""
    if piece.lost >= LOST_LIMIT:
        memory = f"{workers.memory_gb:g} GB" if workers.memory_gb else "their share of the machine"
        raise InputError(
            f"{piece.text}: the workers die of it again and again (each has {memory} of memory); "
            "give fewer workers or more --memory, then use --resume"
        )
    parts = piece.halves() if piece.halves else [piece]
    for part in parts:
        part.lost = piece.lost + 1
    return parts
