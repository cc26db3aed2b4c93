"""What a refinement is to do: the reading of the paper's sentence, how far, and how much each lesion type bears. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..errors import InputError
from ..progress import Progress

SDEDIT, REVERSE, REPEAT, DDIM = MODES = ("sdedit", "reverse", "repeat", "ddim")
LARGEST_START = 50  # beyond that lesions lose their shape
DEFAULT_START = 5

# Called as ``on_step(step, of, hu)`` after each reverse step with the region as it would be if this were the last one, float32 (z, y, x).
OnStep = Callable[[int, int, np.ndarray], None]


@dataclass(frozen=True)
class RefinePlan:
    """How to refine. The paper says: "input into the denoising network for t = 5 optimization iterations", which can be read as

    ``"sdedit"`` (default)  noise of step ``start`` is added, ``steps`` random reverse steps take it away again;
    ``"ddim"``              the same with reverse steps that draw nothing;
    ``"reverse"``           ``steps`` reverse steps from ``start`` without adding noise first: it only smooths;
    ``"repeat"``            ``steps`` rounds of adding the noise of step ``repeat_at`` and taking it away in one go.

    A shorter list of steps skips some of those in between. ``largest_change``: limit of the change of a voxel, in standard deviations of the scan's noise. An image without noise stays as it is.
    """

    mode: str = SDEDIT
    start: int = DEFAULT_START
    steps: int = 5
    repeat_at: int = 1
    largest_change: float = 3.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"refinement mode {self.mode!r}; use one of {', '.join(MODES)}")
        for name in ("start", "steps", "repeat_at"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_START:
                raise InputError(f"refinement {name} {value!r}; wanted a whole number from 1 to {LARGEST_START}")
        if self.mode != REPEAT and self.steps > self.start:
            raise InputError(f"{self.steps} reverse steps from step {self.start}; wanted at most {self.start}")
        if not 0 < self.largest_change <= 10:
            raise InputError(f"refinement largest_change {self.largest_change!r}; wanted above 0, up to 10")

    @property
    def strongest(self) -> int:
        """The step whose noise is the most that is added."""
        return self.repeat_at if self.mode == REPEAT else self.start

    def weaker(self, latest: int) -> RefinePlan:
        """The same from step ``latest`` at most."""
        if self.mode == REPEAT:
            return replace(self, repeat_at=min(self.repeat_at, latest))
        start = min(self.start, latest)
        return replace(self, start=start, steps=min(self.steps, start))

    def times(self) -> list[tuple[int, int]]:
        """The reverse steps (from t, to t), evenly spread from ``start`` to 0; for "repeat" each is (``repeat_at``, 0)."""
        if self.mode == REPEAT:
            return [(self.repeat_at, 0)] * self.steps
        stops = [round(self.start * (self.steps - n) / self.steps) for n in range(self.steps + 1)]
        return list(zip(stops, stops[1:]))


class Denoise(Protocol):
    """Refines a region: the network here (``refine.Refiner``), or in a worker (``remote.WorkerRefiner``).

    ``hu`` (z, y, x), ``label``, ``organ`` and ``changed`` bool of its shape. Returns HU float32; where not ``changed``, ``hu`` itself.
    """

    name: str

    def __call__(
        self,
        hu: np.ndarray,
        label: np.ndarray,
        organ: np.ndarray,
        changed: np.ndarray,
        plan: RefinePlan,
        *,
        noise_hu: float | None,
        noise_power: np.ndarray | None,
        order: tuple[int, int, int],
        seed: int,
        progress: Progress,
        on_step: OnStep | None,
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class TypeLimit:
    """What a lesion type bears: the latest step to start from (0: none at all), and why."""

    latest: int
    why: str


_STONE = "stones are denser than anything that the network was trained on, and their few voxels are all edge"
LIMITS: dict[str, TypeLimit] = {
    "gallstone": TypeLimit(0, _STONE),
    "kidney_stone": TypeLimit(0, _STONE),
    "lung_tumor": TypeLimit(
        2, "the HU map is flat in lung: step 5 would add noise of 53 HU around the lesion, step 2 adds 29 HU"
    ),
    "bone_metastasis": TypeLimit(3, "the HU map is flat in bone: step 5 would add noise of 66 HU, step 3 adds 47 HU"),
}


def plan_for(lesion_key: str, plan: RefinePlan) -> tuple[RefinePlan | None, str]:
    """The plan within the type's limit (None: leave the lesion as it is), and why it was limited ("" when it was not)."""
    limit = LIMITS.get(lesion_key)
    if limit is None or limit.latest >= plan.strongest:
        return plan, ""
    return (plan.weaker(limit.latest) if limit.latest else None), limit.why
