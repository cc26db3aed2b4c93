"""How HU become network input. The only place where the published maps are written down; numpy only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import InputError


@dataclass(frozen=True)
class Intensity:
    """A map from HU to network input: piecewise linear, or clipped and standardised.

    ``hu`` and ``values`` are the knots of a piecewise linear map, constant outside; or ``hu`` holds the two clipping limits and
    ``mean_std`` what is subtracted and divided by afterwards (``values`` empty).
    """

    hu: tuple[float, ...]
    values: tuple[float, ...] = ()
    mean_std: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        rising = len(self.hu) >= 2 and all(a < b for a, b in zip(self.hu, self.hu[1:]))
        wanted = len(self.hu) if self.mean_std is None else 0
        if not rising or len(self.values) != wanted or not all(map(math.isfinite, (*self.hu, *self.values))):
            raise InputError(
                f"intensity map with HU {self.hu} and values {self.values}; wanted rising HU and one value each, or two limits, mean and std"
            )
        if self.mean_std is not None and not (
            len(self.hu) == 2 and self.mean_std[1] > 0 and all(map(math.isfinite, self.mean_std))
        ):
            raise InputError(
                f"intensity map with limits {self.hu} and mean, std {self.mean_std}; wanted two limits, std > 0"
            )

    @classmethod
    def standardised(cls, low: float, high: float, mean: float, std: float) -> Intensity:
        """nnU-Net's ``CTNormalization``: clip to ``low``..``high`` HU, subtract ``mean``, divide by ``std`` (at least 1e-8)."""
        return cls((float(low), float(high)), (), (float(mean), max(float(std), 1e-8)))

    def __call__(self, hu: np.ndarray) -> np.ndarray:
        """Network input, float32, of HU of any shape and type."""
        hu = np.asarray(hu, np.float32)
        if self.mean_std is not None:
            mean, std = self.mean_std
            return (np.clip(hu, *self.hu) - np.float32(mean)) / np.float32(std)
        return np.interp(hu, self.hu, self.values).astype(np.float32)

    @property
    def air(self) -> float:
        """What air (-1000 HU), with which scans are padded, becomes."""
        return float(self(np.float32(-1000)))

    def to_json(self) -> dict:
        """JSON-ready dictionary."""
        entry: dict = {"hu": list(self.hu)}
        if self.mean_std is None:
            entry["values"] = list(self.values)
        else:
            entry["mean_std"] = list(self.mean_std)
        return entry

    @classmethod
    def from_json(cls, data: Mapping) -> Intensity:
        """The map of ``to_json``; InputError when it is malformed."""
        try:
            mean_std = data.get("mean_std")
            return cls(
                tuple(map(float, data["hu"])),
                tuple(map(float, data.get("values", ()))),
                None if mean_std is None else (float(mean_std[0]), float(mean_std[1])),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"intensity map {data!r} is not readable; wanted hu with values or mean_std") from None


# The piecewise map of PASTA's attribute and classification networks. (A third-party copy uses 0.8 in place of 0.9; that is wrong.)
PASTA_PIECEWISE = Intensity((-1000.0, -200.0, 200.0, 1000.0), (0.0, 0.2, 0.9, 1.0))
