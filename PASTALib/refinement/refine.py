"""Refining a region of a scan with the denoising network: a few reverse steps in the windows that the lesion touches.

It works on the scan's own grid. What a few steps of 1000 can change is the noise of single voxels, and noise lives on the grid that the scan
was reconstructed on: brought to 1 mm and back, its spectrum would be that of the interpolation, nothing could be kept bit for bit,
and slices of 5 mm would first be invented in between. The network is trained on voxels of many sizes instead.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy import fft, ndimage

from ..errors import InputError
from ..inference.devices import cpu_has_bf16, pick_device
from ..inference.windows import importance, window_starts
from ..progress import Progress, silent
from .checkpoint import DenoisingModel, read_denoiser
from .network import network_input, noise_table
from .plan import DDIM, REPEAT, REVERSE, SDEDIT, OnStep, RefinePlan

AUTO, FP32, BF16 = ENGINES = ("auto", "fp32", "bf16")
CONTEXT = 8  # voxels around what may change that the network sees at least
LARGEST_WINDOW = 96
WINDOW_STEP = 0.75  # share of a window from one to the next
LEAST_NOISE_HU = 0.25  # an image with less is none of a scanner's
_LEAST_SAMPLE = 200


class Refiner:
    """A denoising network made ready to run, to be kept warm; call it to refine a region (see ``plan.Denoise``).

    ``model``: a ``DenoisingModel`` or the path of one. ``device`` as everywhere; ``engine``: "fp32", "bf16" (half precision; three times
    as fast where the processor has it) or "auto". There is no choice by timing: on one machine the same input gives the same bytes.
    """

    def __init__(self, model: DenoisingModel | str | Path, device: str = "auto", engine: str = AUTO):
        self.model = model if isinstance(model, DenoisingModel) else read_denoiser(model)
        self.device = pick_device(device)
        if engine not in ENGINES:
            raise InputError(f"refinement engine {engine!r}; use one of {', '.join(ENGINES)}")
        half = _has_bf16(self.device)
        if engine == BF16 and not half:
            raise InputError(f"engine {BF16!r} is not available on {self.device}; use {AUTO} or {FP32}")
        self._dtype = torch.bfloat16 if engine != FP32 and half else torch.float32
        self.engine = BF16 if self._dtype == torch.bfloat16 else FP32
        network = copy.deepcopy(self.model.network).eval().requires_grad_(False)
        self._network = network.to(self.device, self._dtype, memory_format=torch.channels_last_3d)
        self._noise = noise_table(self.model.schedule, self.device)
        self.name = self.model.name

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
        """``hu`` (z, y, x) with the voxels marked ``changed`` refined, float32; all others are those of ``hu``, bit for bit.

        ``label``: the lesion, whose mean is kept; ``organ``: its organ, with or without the lesion; both bool. ``noise_hu``: standard
        deviation of the scan's noise, measured around the lesion when not given; ``noise_power``: its spectrum as ``NoiseModel.power`` has it,
        axes as those of ``hu``, white when not given. ``order``: array axes along S-I, A-P and R-L, as
        the network was trained. ``seed`` fixes the noise that is drawn. ``progress`` is called between windows and may raise ``Cancelled``;
        ``on_step`` see ``plan.OnStep``. ValueError for arrays of different shapes.
        """
        plan = plan or RefinePlan()
        arrays = [np.asarray(hu, np.float32), *(np.asarray(a, bool) for a in (label, organ, changed))]
        if len({a.shape for a in arrays}) != 1 or arrays[0].ndim != 3 or sorted(order) != [0, 1, 2]:
            raise ValueError(f"arrays of shapes {[a.shape for a in arrays]} in order {order}; wanted one 3-D shape")
        if plan.start > self.model.schedule.steps:
            raise InputError(
                f"refinement from step {plan.start}; this network's schedule has {self.model.schedule.steps}"
            )
        before, label, organ, changed = (a.transpose(order) for a in arrays)
        out = arrays[0].copy()
        if not changed.any():
            return out
        noise_hu = around_noise(before, organ, changed) if noise_hu is None else float(noise_hu)
        power = None if noise_power is None else np.asarray(noise_power, np.float32).transpose(order)
        work = _Work(self, before, label, organ, changed, plan, noise_hu, power)
        for step, image in enumerate(self._reverse(work, plan, seed, progress), 1):
            final = step == len(plan.times())
            if final or on_step is not None:
                out.transpose(order)[work.box] = work.compose(image)
            if on_step is not None:
                on_step(step, len(plan.times()), out.copy())
        return out

    def _reverse(self, work: _Work, plan: RefinePlan, seed: int, progress: Progress) -> Iterator[np.ndarray]:
        """The estimated clean image (network units) after each reverse step."""
        schedule, rng = self.model.schedule, np.random.default_rng([seed, 5])
        draw = lambda: rng.standard_normal(work.image.shape, dtype=np.float32)  # noqa: E731
        times = plan.times()
        noise = draw()
        if plan.mode == REVERSE:
            noise[:] = 0
        x = schedule.add_noise(work.image, noise, times[0][0]) if plan.mode != REVERSE else work.image.copy()
        for number, (t, to) in enumerate(times):
            tell = lambda text="refining", done=number: progress(done, len(times), text)  # noqa: E731
            tell()
            if plan.mode == REPEAT and number:
                noise = draw()
                x = schedule.add_noise(image, noise, t)  # noqa: F821
            found = work.predict(x, t, tell)
            image = schedule.clean(x, found, t, self.model.hu_map.limits)
            if plan.mode in (SDEDIT, REPEAT):
                image = work.with_rest(image, schedule.noise[t], rng)
            image = np.where(work.changed, image, work.image)
            yield image
            if to > 0:
                if plan.mode == DDIM:
                    x = schedule.implicit(image, found, to)
                else:
                    x = schedule.ancestral(x, image, t, to, None if plan.mode == REVERSE else draw())
                # what is known around the lesion stays what it is, at the noise of this step
                known = work.image if plan.mode == REVERSE else schedule.add_noise(work.image, noise, to)
                x = np.where(work.changed, x, known)
        progress(len(times), len(times), "refining")

    def noise_in(self, x: np.ndarray, mask: np.ndarray, t: int, level: float) -> np.ndarray:
        """The network on one window (z, y, x): the noise it finds in ``x`` at step ``t`` in a scan of this noise level, float32."""
        with torch.inference_mode():
            one, organ = (
                torch.from_numpy(np.ascontiguousarray(a, np.float32))[None, None].to(self.device) for a in (x, mask)
            )
            steps = torch.tensor([t], device=self.device)
            inputs = network_input(one, organ, self._noise[steps])
            inputs = inputs.to(self._dtype).contiguous(memory_format=torch.channels_last_3d)
            levels = torch.tensor([level], dtype=torch.float32, device=self.device)
            return self._network(inputs, steps, levels)[0, 0].float().cpu().numpy()


class _Work:
    """One region at work: the box around what may change, with context, padded to what the network takes."""

    def __init__(self, refiner: Refiner, before, label, organ, changed, plan: RefinePlan, noise_hu: float, power):
        self._refiner, self._map = refiner, refiner.model.hu_map
        multiple = refiner.model.network.shape.multiple
        self.box = _box(changed, multiple)
        self._before, self._label = before[self.box], label[self.box]
        inside = changed[self.box]
        self._free = inside & self._map.invertible(self._before)
        self._weight = _ramp(inside) * self._free
        self._noise_hu, self._power, self._level = noise_hu, power, self._map.level(noise_hu)
        self._limit = np.float32(plan.largest_change * noise_hu) if noise_hu >= LEAST_NOISE_HU else np.float32(0)
        shape = self._before.shape
        padded = [-(-n // multiple) * multiple for n in shape]
        pad = [((p - n) // 2, p - n - (p - n) // 2) for n, p in zip(shape, padded)]
        self._inner = tuple(slice(a, a + n) for (a, _), n in zip(pad, shape))
        self.image = np.pad(self._map.units(self._before), pad, mode="edge")
        self._mask = np.pad((organ | label)[self.box].astype(np.float32), pad, mode="edge")
        self.changed = np.pad(inside, pad)
        self._window = tuple(min(n, LARGEST_WINDOW // multiple * multiple) for n in padded)
        places = [tuple(slice(s, s + n) for s, n in zip(start, self._window)) for start in self._starts(padded)]
        self._places = [place for place in places if self.changed[place].any()]
        self._importance = importance(self._window) if len(self._places) > 1 else None

    def _starts(self, padded):
        return window_starts(padded, self._window, WINDOW_STEP)

    def predict(self, x: np.ndarray, t: int, tell: Callable[[], None]) -> np.ndarray:
        """The noise in ``x``, overlap-weighted over the windows that hold something to change."""
        if self._importance is None:
            place = self._places[0]
            out = np.zeros_like(x)
            out[place] = self._refiner.noise_in(x[place], self._mask[place], t, self._level)
            return out
        total, weights = np.zeros_like(x), np.zeros_like(x)
        for place in self._places:
            tell()
            total[place] += self._importance * self._refiner.noise_in(x[place], self._mask[place], t, self._level)
            weights[place] += self._importance
        return total / np.maximum(weights, np.float32(1e-12))

    def with_rest(self, image: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
        """The clean ``image`` estimated at a step of this ``noise``, with the scan's noise that the estimate lacks.

        The estimate is the mean of all images that fit, which is smoother than each of them: going on from it, as DDPM does, ends with 5 to
        10 % less noise than the scan has in soft tissue, and with hardly any in lung. What is missing is normal at every frequency; its
        power there is that of two normal variables of which the sum is known, the scan's noise and the step's.
        """
        if self._noise_hu < LEAST_NOISE_HU:
            return image
        slopes = self._map.slope(self._map.hu(self.image))
        shape = image.shape if self._power is None else self._power.shape
        white = rng.standard_normal(shape, dtype=np.float32)
        if self._power is not None:
            at = [np.arange(o, o + n) % size for o, n, size in zip(rng.integers(shape), image.shape, shape)]
            spectrum = fft.rfftn(white)
            power = self._power[..., : spectrum.shape[-1]]
        out = image.copy()
        for slope in np.unique(slopes[self.changed]):
            if slope > 0:
                scan, step = np.float32((slope * self._noise_hu) ** 2), np.float32(noise**2)
                if self._power is None:
                    rest = white * np.sqrt(scan * step / (scan + step))
                else:
                    missing = np.sqrt(scan * power * step / (scan * power + step))
                    rest = fft.irfftn(spectrum * missing, s=shape)[np.ix_(*at)]
                out = np.where(slopes == slope, image + rest, out)
        return out

    def compose(self, image: np.ndarray) -> np.ndarray:
        """HU of the box: what changed within its limits, the lesion's mean kept, all else as before."""
        if not self._limit:
            return self._before.copy()
        change = self._map.hu(image[self._inner]) - self._before
        change = self._limit * np.tanh(change / self._limit) * self._weight
        share = self._weight[self._label]
        if share.size and share.sum() > 0:
            change -= self._weight * np.float32(change[self._label].sum(dtype=np.float64) / share.sum(dtype=np.float64))
        return np.where(self._free, self._before + change, self._before)


def around_noise(hu: np.ndarray, organ: np.ndarray, changed: np.ndarray) -> float:
    """Standard deviation (HU) of the fine noise of the organ around what may change, or of everything around it where that is little."""
    grown = np.pad(changed, 1)
    near = ndimage.binary_dilation(grown, iterations=1)[1:-1, 1:-1, 1:-1]
    hu = np.asarray(hu, np.float32)
    fine = hu - ndimage.gaussian_filter(hu, 1.5, mode="nearest", truncate=2.0)
    for mask in (organ & ~near, ~near, np.ones(hu.shape, bool)):
        if np.count_nonzero(mask) >= _LEAST_SAMPLE:
            values = fine[mask]
            return float(1.4826 * np.median(np.abs(values - np.median(values))))
    return 0.0


def _ramp(inside: np.ndarray) -> np.ndarray:
    """1 within ``inside``, a third and two thirds in its outermost voxels, so that no step shows at its border; float32."""
    first = ndimage.binary_erosion(inside, border_value=1)
    second = ndimage.binary_erosion(first, border_value=1)
    return (inside.astype(np.float32) + first + second) / np.float32(3)


def _box(changed: np.ndarray, multiple: int) -> tuple[slice, slice, slice]:
    """Box around what may change with context, its sides multiples of ``multiple`` where the array allows."""
    box = []
    for axis, size in enumerate(changed.shape):
        used = np.flatnonzero(changed.any(axis=tuple(i for i in range(3) if i != axis)))
        low, high = int(used[0]) - CONTEXT, int(used[-1]) + 1 + CONTEXT
        side = max(-(-(high - low) // multiple) * multiple, 2 * multiple)
        low -= (side - (high - low)) // 2
        low = max(0, min(low, size - side))
        box.append(slice(low, min(size, low + side)))
    return tuple(box)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and cpu_has_bf16()
