"""The denoising network in a worker process, behind the same call as the one here. Needs no torch on this side."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..progress import Progress, silent
from ..worker.arrays import open_array
from .plan import OnStep, RefinePlan

if TYPE_CHECKING:
    from ..worker import Worker

LIVE = "live-{step}.npy"


class WorkerRefiner:
    """Refines through the job "refine" of ``worker``; see ``plan.Denoise``. The model stays warm there.

    ``weights``: the checkpoint. ``settings``: device and engine, as ``refine.Refiner`` takes them. ``told`` holds what the last job said:
    model, engine, seconds.
    """

    def __init__(self, worker: Worker, weights: str | Path, settings: Mapping | None = None):
        self._worker, self._weights, self._settings = worker, str(Path(weights).resolve()), dict(settings or {})
        self.name = Path(weights).stem
        self.told: dict = {}

    def load(self, progress: Progress = silent) -> None:
        """Start the worker and read the model there. InputError when it cannot be read, or when torch is missing there."""
        nothing = np.zeros((16, 16, 16), bool)
        self(nothing.astype(np.float32), nothing, nothing, nothing, noise_hu=0.0, progress=progress)

    def __call__(
        self,
        hu: np.ndarray,
        label: np.ndarray,
        organ: np.ndarray,
        changed: np.ndarray,
        plan: RefinePlan | None = None,
        *,
        noise_hu: float | None = None,
        noise_power: np.ndarray | None = None,
        order: tuple[int, int, int] = (0, 1, 2),
        seed: int = 0,
        progress: Progress = silent,
        on_step: OnStep | None = None,
    ) -> np.ndarray:
        params, arrays = request(
            self._weights, hu, label, organ, changed, plan,
            noise_hu=noise_hu, noise_power=noise_power, order=order, seed=seed,
        )  # fmt: skip
        params |= self._settings
        shown = 0

        def follow(step: int, of: int, text: str) -> None:
            nonlocal shown
            if on_step is not None and shown < step:  # steps may be told late: the newest one counts
                with contextlib.suppress(InputError):  # gone with the job, when it ended while we were busy
                    on_step(step, of, open_array(self._worker.folder, LIVE.format(step=step)))
                shown = step
            progress(step, of, text)

        if on_step is not None:
            params["live"] = str(self._worker.folder)
        self.told, made = self._worker.run("refine", params, arrays, follow)
        return np.array(made["hu"])


def request(
    weights: str,
    hu: np.ndarray,
    label: np.ndarray,
    organ: np.ndarray,
    changed: np.ndarray,
    plan: RefinePlan | None = None,
    *,
    noise_hu: float | None,
    noise_power: np.ndarray | None,
    order: tuple[int, int, int],
    seed: int,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Parameters and arrays of the worker's job "refine", for the arguments of a ``plan.Denoise``."""
    arrays = {"hu": np.asarray(hu, np.float32)}
    arrays |= {"label": label.view(np.uint8), "organ": organ.view(np.uint8), "changed": changed.view(np.uint8)}
    arrays |= {} if noise_power is None else {"noise_power": np.asarray(noise_power, np.float32)}
    params = {"model": str(weights), "plan": asdict(plan or RefinePlan()), "noise_hu": noise_hu, "order": list(order)}
    return params | {"seed": int(seed)}, arrays
