"""Published weights of any system into its network here: wrapper and prefix found, tensors matched by name and shape, and a record kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from PASTALib.errors import InputError
from PASTALib.networks.checkpoint import read_weights
from PASTALib.networks.matching import Entry

STEMS = ("repeat", "mean")


@dataclass
class Coverage:
    """What became of a file's tensors; names are the file's own, prefixes removed.

    ``matched`` went into the network; ``mismatched`` are in both with another shape, ``missing`` in the network only, ``unused`` in the file
    only. ``reason`` of an entry says why. ``wrapper``: the entry of the file that they were under; ``prefix``: what was taken off.
    """

    source: str
    wrapper: str = ""
    prefix: str = ""
    matched: list[Entry] = field(default_factory=list)
    mismatched: list[Entry] = field(default_factory=list)
    missing: list[Entry] = field(default_factory=list)
    unused: list[Entry] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Part of the network's tensors that the file filled, 0 to 1."""
        wanted = len(self.matched) + len(self.mismatched) + len(self.missing)
        return len(self.matched) / wanted if wanted else 1.0

    def summary(self) -> str:
        """One line for a person."""
        under = f" under {self.wrapper!r}" if self.wrapper else ""
        text = f"{self.source}: {len(self.matched)} tensors matched{under}"
        text += f", prefix {self.prefix!r} removed" if self.prefix else ""
        for word in ("mismatched", "missing", "unused"):
            entries = getattr(self, word)
            if entries:
                more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
                text += f"; {word}: {entries[0].key}{more}"
        return text + "."

    def to_json(self) -> dict:
        """JSON-ready dictionary."""
        return asdict(self) | {"share": self.share}
