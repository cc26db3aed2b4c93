"""The mathematics of the diffusion: noise schedule, forward and reverse steps, and the map between HU and what is noised. numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import InputError
from ..inference.intensity import Intensity

# How strong a given step is in HU is decided here. At t = 5 of 1000 the paper's schedule adds noise of 0.026 in a range of 2, so the slope of
# this map makes that 11 HU between fat and enhanced vessels (about the noise of a diagnostic CT, below every contrast that a label rests
# on), 53 HU in lung and 66 HU in bone. A linear map of ±1000 HU would give 26 HU everywhere, which drowns a lesion of 20 HU; PASTA's own
# piecewise map gives 7.5 HU, but 105 HU above 200 HU, where enhanced kidneys and vessels lie. The paper does not say which it used.
REFINEMENT_MAP = Intensity((-1000.0, -200.0, 300.0, 1300.0), (-1.0, -0.6, 0.6, 1.0))

SOFT_TISSUE_HU = 50.0


@dataclass(frozen=True)
class Schedule:
    """Linear noise schedule. Steps are counted as in the paper: t = 1 … ``steps``; t = 0 is the image itself."""

    steps: int = 1000
    first_beta: float = 1e-4
    last_beta: float = 2e-2

    def __post_init__(self) -> None:
        if not (isinstance(self.steps, int) and 2 <= self.steps <= 100_000):
            raise InputError(f"noise schedule of {self.steps!r} steps; wanted 2 to 100000")
        if not 0 < self.first_beta <= self.last_beta < 1:
            raise InputError(
                f"noise schedule from {self.first_beta!r} to {self.last_beta!r}; wanted 0 < first ≤ last < 1"
            )

    @cached_property
    def kept(self) -> np.ndarray:
        """ᾱ for t = 0 … ``steps``: share of the image's variance that is left; float64, 1 at t = 0."""
        betas = np.linspace(self.first_beta, self.last_beta, self.steps)
        return np.concatenate([[1.0], np.cumprod(1.0 - betas)])

    @cached_property
    def noise(self) -> np.ndarray:
        """Standard deviation of the noise in the sum for t = 0 … ``steps``, float64."""
        return np.sqrt(1.0 - self.kept)

    def add_noise(self, image: np.ndarray, noise: np.ndarray, t: int) -> np.ndarray:
        """``image`` (network units) at step ``t``, with ``noise`` of standard deviation 1."""
        return np.float32(np.sqrt(self.kept[t])) * image + np.float32(self.noise[t]) * noise

    def clean(self, x: np.ndarray, noise: np.ndarray, t: int, limits: tuple[float, float]) -> np.ndarray:
        """The image that ``x`` at step ``t`` stands for when ``noise`` is in it, clipped to ``limits``."""
        image = (x - np.float32(self.noise[t]) * noise) / np.float32(np.sqrt(self.kept[t]))
        return np.clip(image, *map(np.float32, limits))

    def ancestral(self, x: np.ndarray, image: np.ndarray, t: int, to: int, noise: np.ndarray | None) -> np.ndarray:
        """From step ``t`` to step ``to`` < t, given the estimated clean ``image``: the posterior's mean, plus its deviation times ``noise``."""
        kept, before = self.kept[t], self.kept[to]
        ratio = kept / before
        of_image = np.sqrt(before) * (1 - ratio) / (1 - kept)
        of_x = np.sqrt(ratio) * (1 - before) / (1 - kept)
        out = np.float32(of_image) * image + np.float32(of_x) * x
        if noise is not None and to > 0:
            out += np.float32(np.sqrt((1 - ratio) * (1 - before) / (1 - kept))) * noise
        return out

    def implicit(self, image: np.ndarray, noise: np.ndarray, to: int) -> np.ndarray:
        """DDIM: the estimated ``image`` with its estimated ``noise`` at step ``to``; no randomness."""
        return self.add_noise(image, noise, to)

    def to_json(self) -> dict:
        """JSON-ready dictionary."""
        return {"kind": "linear", "steps": self.steps, "first_beta": self.first_beta, "last_beta": self.last_beta}

    @classmethod
    def from_json(cls, data: Mapping) -> Schedule:
        """The schedule of ``to_json``; InputError for anything else."""
        if not isinstance(data, Mapping) or data.get("kind") != "linear":
            found = data.get("kind") if isinstance(data, Mapping) else data
            raise InputError(f"noise schedule {found!r}; this program knows linear")
        try:
            return cls(int(data["steps"]), float(data["first_beta"]), float(data["last_beta"]))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"noise schedule {dict(data)!r} is not readable; wanted steps, first_beta and last_beta"
            ) from None


class HuMap:
    """HU to network units and back. Exact (to rounding) between the first and the last knot; constant, hence without inverse, outside."""

    def __init__(self, intensity: Intensity):
        rising = all(a < b for a, b in zip(intensity.values, intensity.values[1:]))
        if intensity.mean_std is not None or not rising:
            raise InputError(
                f"HU map {intensity.to_json()} has no inverse; wanted a piecewise linear map with rising values"
            )
        self.intensity = intensity

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest network value."""
        return self.intensity.values[0], self.intensity.values[-1]

    def units(self, hu: np.ndarray) -> np.ndarray:
        """Network units, float32."""
        return self.intensity(hu)

    def hu(self, units: np.ndarray) -> np.ndarray:
        """HU, float32, of network units; what lies beyond the limits becomes the outermost HU."""
        return np.interp(units, self.intensity.values, self.intensity.hu).astype(np.float32)

    def invertible(self, hu: np.ndarray) -> np.ndarray:
        """Where (bool) the map does not saturate, so that a change can be carried back."""
        return (hu > self.intensity.hu[0]) & (hu < self.intensity.hu[-1])

    def slope(self, hu: np.ndarray) -> np.ndarray:
        """Network units per HU, float32; 0 where the map saturates."""
        knots, values = np.asarray(self.intensity.hu), np.asarray(self.intensity.values)
        slopes = np.concatenate([[0.0], np.diff(values) / np.diff(knots), [0.0]]).astype(np.float32)
        return slopes[np.searchsorted(knots, hu, side="right")]

    def level(self, noise_hu: float) -> float:
        """Noise of a scan (HU, in soft tissue) in network units, as the network is told it."""
        return float(noise_hu * self.slope(np.float32(SOFT_TISSUE_HU)))

    def noise_hu(self, units: float, at_hu: float) -> float:
        """What a noise of ``units`` is in HU around ``at_hu``; infinite where the map is constant."""
        slope = float(self.slope(np.float32(at_hu)))
        return units / slope if slope > 0 else float("inf")
