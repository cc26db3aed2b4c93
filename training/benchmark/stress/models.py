"""What a detectability study can test: any segmentation model, or a rule of thresholds that anyone can check by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from PASTALib.synthesis.scan import PreparedScan
from PASTALib.volume import Volume

UNNAMED = 255  # value of a lesion whose type the model does not tell


@dataclass(frozen=True)
class Seen:
    """What a model makes of an image: ``found`` uint8 (z, y, x), taxonomy values 11-25, 255 for a lesion without a type, 0 elsewhere;
    ``evidence`` float32, 0 to 1, how much of a lesion each voxel is to the model, decided or not.
    """

    found: np.ndarray
    evidence: np.ndarray


class Tested(Protocol):
    """A model under test.

    ``name``; ``digest`` of its weights or rule; ``types``: values of the lesion types that it names; ``window_mm``: least side of a
    part of a scan that it should be shown, None for any; ``notes`` for the page.
    """

    name: str
    digest: str
    types: frozenset[int]
    window_mm: float | None
    notes: list[str]

    def look(self, scan: PreparedScan, part: Volume, box: tuple[slice, slice, slice]) -> Seen:
        """``part``: int16 HU of ``box`` of the scan, perhaps with a lesion that ``scan`` has not."""
        ...

    def look_at_all(self, scan: PreparedScan, progress) -> np.ndarray:
        """``Seen.found`` of the whole unaltered scan."""
        ...


def read_model(text: str, device: str = "auto", engine: str = "auto") -> Tested:
    """The model that ``text`` names: ``threshold:…`` (see ``threshold``) or whatever ``load_model`` takes. InputError for anything else."""
    if text.startswith("threshold"):
        from .threshold import read_threshold

        return read_threshold(text)
    from PASTALib.networks.load import load_model

    from .network import NetworkModel

    return NetworkModel(load_model(text), device, engine)
