"""Training samples made on the fly: phantoms and listed CTs with fresh lesions, and what in their labels is not to be learned from."""

from __future__ import annotations

import csv
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from PASTALib import taxonomy
from PASTALib.errors import InputError

from ..patches import Patch, PatchSource, ScanSpec, phantom_scans, scans_of_table
from .recipe import IGNORED

BACKGROUND = "background"
USES = ("train", "held-out")
_VALUES = {BACKGROUND: 0} | {organ.key: organ.value for organ in taxonomy.ORGANS}
_Entry = tuple[ScanSpec, tuple[int, ...]]  # a scan, and the label values to ignore in it


class SynthesisSamples:
    """Samples for ``loop.train``: see ``Samples`` there. Training and held-out patches come from different phantoms and different CTs.

    ``settings``: spacing_mm, lesion_share, phantoms and held_out_phantoms (how many of each), phantom_region, table_share (share of training
    samples from the CTs of ``table``), keep (scans in memory). ``table``: CSV as for ``scans_of_table`` with two more columns if wanted:
    use (train or held-out), and ignore: what is not outlined in that CT or not to be trusted, such as "background;liver"; those voxels are
    labelled 255. InputError for a table that does not read and when there is nothing to train on.
    """

    def __init__(self, settings: Mapping[str, Any], table: str | Path | None = None, seed: int = 0):
        self._settings, self._seed = dict(settings), seed
        listed = [] if table is None else list(zip(scans_of_table(table), *_columns(Path(table))))
        spacing, region = settings["spacing_mm"], settings["phantom_region"]

        def phantoms(count: int, use: str) -> list[_Entry]:
            stream = int(np.random.default_rng([seed, USES.index(use)]).integers(2**31))
            return [(scan, ()) for scan in phantom_scans(count, stream, (spacing,), region=region)]

        self._phantoms = phantoms(settings["phantoms"], "train")
        self._listed = [(scan, ignore) for scan, use, ignore in listed if use == "train"]
        self._held_out = phantoms(settings["held_out_phantoms"], "held-out")
        self._held_out += [(scan, ignore) for scan, use, ignore in listed if use == "held-out"]
        if not (self._phantoms or self._listed) or not self._held_out:
            raise InputError(
                f"{len(self._phantoms)} phantoms and {len(self._listed)} CTs to train on, {len(self._held_out)} held out; wanted at least "
                "one of both: set phantoms and held_out_phantoms, or give a table of CTs"
            )
        both = self._phantoms and self._listed
        self._table_share = settings["table_share"] if both else float(not self._phantoms)
        self._sources: OrderedDict[tuple, PatchSource] = OrderedDict()

    def training(self, number: int, sides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """HU int16 and labels uint8 (0-25, 255) of sample ``number``."""
        return _arrays(*self.training_patch(number, sides))

    def held_out(self, number: int, sides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The same of anatomy that no training sample shows."""
        return _arrays(*self.held_out_patch(number, sides))

    def training_patch(self, number: int, sides: Sequence[int]) -> tuple[Patch, tuple[int, ...]]:
        """The patch with its lesion's report, and the label values to ignore in it."""
        rng = np.random.default_rng([self._seed, number])
        scans = self._listed if rng.random() < self._table_share else self._phantoms
        return self._patch(scans[rng.integers(len(scans))], number, sides)

    def held_out_patch(self, number: int, sides: Sequence[int]) -> tuple[Patch, tuple[int, ...]]:
        """As ``training_patch``, of anatomy that no training sample shows; every scan in turn."""
        return self._patch(self._held_out[number % len(self._held_out)], number, sides)

    @property
    def ignores(self) -> bool:
        """Whether any label may be 255."""
        return any(ignore for _, ignore in (*self._listed, *self._held_out))

    def digest(self) -> str:
        """16 hexadecimal digits that tell whether two runs draw from the same scans."""
        known = [f"{scan!r} {ignore}" for scan, ignore in (*self._phantoms, *self._listed, *self._held_out)]
        return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]

    def describe(self) -> str:
        """What is trained on, in a few words."""
        phantoms, listed = len(self._phantoms), len(self._listed)
        parts = [f"{phantoms} phantom{'s' * (phantoms > 1)}"] if phantoms else []
        parts += [f"{listed} CT{'s' * (listed > 1)} ({self._table_share:.0%} of the samples)"] if listed else []
        return f"synthetic lesions in {' and '.join(parts)}, made on the fly"

    def _patch(self, entry: _Entry, number: int, sides: Sequence[int]) -> tuple[Patch, tuple[int, ...]]:
        """Patch ``number`` of one scan; the ``keep`` scans used last stay in memory."""
        scan, ignore = entry
        key = (scan, tuple(sides))
        if key not in self._sources:
            while len(self._sources) >= max(1, self._settings["keep"]):
                self._sources.popitem(last=False)
            spacing, share = self._settings["spacing_mm"], self._settings["lesion_share"]
            self._sources[key] = PatchSource([scan], sides, spacing, self._seed, share, keep=1)
        self._sources.move_to_end(key)
        return self._sources[key][number], ignore

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_sources": OrderedDict()}


def _arrays(patch: Patch, ignore: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    labels = patch.labels
    return patch.hu, np.where(np.isin(labels, ignore), np.uint8(IGNORED), labels) if ignore else labels


def _columns(path: Path) -> tuple[list[str], list[tuple[int, ...]]]:
    """The columns use and ignore of a table that ``scans_of_table`` has read."""
    uses, ignored = [], []
    with path.open(newline="", encoding="utf-8-sig") as stream:
        for number, row in enumerate(csv.DictReader(stream), 2):
            use = (row.get("use") or USES[0]).strip().lower()
            names = [name.strip().lower() for name in (row.get("ignore") or "").split(";") if name.strip()]
            unknown = [name for name in names if name not in _VALUES]
            if use not in USES or unknown:
                found = f"use {use!r}" if use not in USES else f"ignore {unknown[0]!r}"
                raise InputError(
                    f"{path}, line {number}: {found}; use is {' or '.join(USES)}, ignore lists {', '.join(_VALUES)} with ; between"
                )
            uses.append(use)
            ignored.append(tuple(_VALUES[name] for name in names))
    return uses, ignored
