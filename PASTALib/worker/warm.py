"""What stays in memory from one job to the next."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class WarmState:
    """Keeps the ``limit`` things that were used last, by key. For the one thread that runs the jobs."""

    def __init__(self, limit: int = 2):
        if limit < 1:
            raise ValueError(f"limit {limit}; wanted at least 1")
        self.limit = limit
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The thing kept under ``key``, or what ``make()`` gives, which is kept from now on.

        The one unused for longest goes before ``make`` is called, so that there is room for the new one.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if len(self._kept) >= self.limit:
            while len(self._kept) >= self.limit:
                self._kept.popitem(last=False)
            gc.collect()
        self._kept[key] = value = make()
        return value

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def clear(self) -> None:
        """Let go of everything, when memory is short."""
        self._kept.clear()
        gc.collect()
