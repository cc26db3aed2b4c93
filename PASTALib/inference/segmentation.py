"""Segmenting a scan: canonical space, windows, labels back on the scan's own grid."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy import ndimage

from ..errors import InputError
from ..progress import Progress, silent
from ..volume import Volume, crop, from_canonical, to_canonical
from .devices import out_of_memory, pick_device
from .engine_choice import AUTO, choose_engines
from .sliding import label_image
from .windows import grown_box, window_starts

GPU_STEP, CPU_STEP = 0.5, 0.6  # 0.6 leaves 27 of 64 windows on a 280 mm cube, at nearly the same labels
REGION_MARGIN_MM = 24.0
GPU_BUFFER_SHARE = 0.5  # of the card's free memory that the buffer of sums may take


@dataclass
class Segmentation:
    """``labels`` uint8 on the scan's grid; ``names`` value -> taxonomy key or the model's own name, for all values it could have given.

    ``engine``, ``device``, ``step``: how it was computed; ``windows`` computed and ``skipped`` as air; ``seconds`` for each stage.
    ``trained`` is False for a model of random weights.
    """

    labels: Volume
    names: dict[int, str]
    model: str
    engine: str
    device: str
    step: float
    windows: int
    skipped: int
    seconds: dict[str, float]
    trained: bool = True
    notes: list[str] = field(default_factory=list)


def segment(
    ct: Volume,
    model,
    *,
    region: np.ndarray | None = None,
    device: str = "auto",
    engine: str = AUTO,
    step: float | None = None,
    mirroring: bool = False,
    skip_air: bool = True,
    progress: Progress = silent,
) -> Segmentation:
    """Segment ``ct`` (int16 HU) with a ``PastaModel``.

    ``region``: bool mask on the scan's grid; only its bounding box and 24 mm around are computed, the rest is background. ``engine``:
    "auto" (the fastest, measured once), "fp32", or one of ``engines.NAMES``. ``step`` from window to window as a share of its side (None:
    0.5 on a GPU, 0.6 on a CPU). ``mirroring`` averages over the mirror images that the model was trained for, usually all eight and eight times slower. ``skip_air`` leaves windows out
    that show nothing but air. On a GPU that runs out of memory the sums go to main memory, then everything to the CPU; ``notes`` say so.

    InputError for a model that does not segment, an empty region, or settings that are out of range.
    """
    card = model.card
    if not model.segments:
        raise InputError(
            f"{card.name}: this model does not segment ({_abilities(model)}); choose another (pasta models list)"
        )
    if model.networks[0].shape.in_channels != 1:
        channels = model.networks[0].shape.in_channels
        raise InputError(
            f"{card.name}: this model takes {channels} images at once; wanted one that segments a single CT"
        )
    if step is not None and not 0.05 <= step <= 1:
        raise InputError(f"step {step:g} is out of range; give the share of a window from 0.05 to 1")
    seconds: dict[str, float] = {}
    clock = _Clock(seconds)
    whole = ct
    box = None if region is None else _region_box(ct, region, card)
    if box is not None:
        ct = crop(ct, box)
    progress(0, 0, "resampling the scan")
    canonical = to_canonical(ct, card.spacing_mm)
    flips = flip_axes(card.orientation)
    hu = np.flip(canonical.volume.array, flips) if flips else canonical.volume.array
    clock("resample")

    notes = list(card.notes)
    labelled, used = _with_fallback(
        hu, model, pick_device(device), engine, step, mirroring, skip_air, progress, clock, notes
    )
    progress(0, 0, "bringing the labels onto the scan")
    labels = np.ascontiguousarray(np.flip(labelled.labels, flips)) if flips else labelled.labels
    back = from_canonical(labels, canonical, ct, "labels").array
    if box is not None:
        array = np.zeros(whole.array.shape, np.uint8)
        array[box] = back
        back = array
    clock("labels back")
    return Segmentation(
        Volume(back, np.array(whole.affine, float), {"notes": []}),
        dict(card.labels),
        card.name,
        used.engine,
        str(used.device),
        used.step,
        labelled.windows,
        labelled.skipped,
        seconds,
        card.trained,
        notes,
    )


def flip_axes(orientation: str) -> tuple[int, ...]:
    """Array axes (z, y, x) of a canonical image (L, P, S) to mirror for a network trained with x, y, z running to ``orientation``."""
    return tuple(2 - axis for axis, (letter, ours) in enumerate(zip(orientation, "LPS")) if letter != ours)


@dataclass(frozen=True)
class _Setting:
    device: torch.device
    buffer: str
    engine: str
    step: float


def _with_fallback(hu, model, device, engine, step, mirroring, skip_air, progress, clock, notes):
    """``label_image``, retried with less on the GPU when it runs out of memory."""
    for setting in _settings(hu.shape, model, device, engine, step):
        patch = model.card.patch
        count = len(window_starts([max(a, b) for a, b in zip(hu.shape, patch)], patch, setting.step))
        try:
            progress(0, 0, "preparing the network")
            engines = choose_engines(
                model.networks,
                patch,
                setting.device,
                setting.engine,
                digest=model.digest,
                windows=count * (2 ** len(model.mirror_axes) if mirroring else 1),
                tell=lambda text: progress(0, 0, text),
            )
            clock("prepare")
            result = label_image(
                hu,
                engines,
                model.card.intensity,
                patch,
                step=setting.step,
                mirror_axes=model.mirror_axes if mirroring else (),
                skip_air=skip_air,
                buffer_device=setting.device if setting.buffer == "device" else "cpu",
                progress=progress,
            )
            clock("windows")
            return result, replace(setting, engine=engines[0].name)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if setting.device.type == "cpu":
                raise InputError(
                    "not enough memory for one window of this network; choose a smaller model or a computer with more memory"
                ) from None
            engines = None
            torch.cuda.empty_cache()
            notes.append(f"the GPU ran out of memory with sums in {setting.buffer} memory; went on with less on it")
    raise AssertionError("the CPU setting returns or raises")


def _settings(shape: Sequence[int], model, device: torch.device, engine: str, step: float | None):
    """What to try, best first."""
    if device.type != "cpu":
        gpu_step = step or GPU_STEP
        if _buffer_fits(shape, model, device):
            yield _Setting(device, "device", engine, gpu_step)
        yield _Setting(device, "main", engine, gpu_step)
        engine = AUTO  # an engine's name chosen for the GPU need not exist on the CPU
    yield _Setting(torch.device("cpu"), "main", engine, step or CPU_STEP)


def _buffer_fits(shape: Sequence[int], model, device: torch.device) -> bool:
    patch = model.card.patch
    channels = model.networks[0].shape.classes
    size = 4 * channels * patch[0] * max(shape[1], patch[1]) * max(shape[2], patch[2])
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return size < GPU_BUFFER_SHARE * free


def _region_box(ct: Volume, region: np.ndarray, card) -> tuple[slice, slice, slice]:
    """The part of the scan to compute for a region: its bounding box, the margin, and at least one window."""
    if region.shape != ct.array.shape:
        raise InputError(f"region of shape {region.shape}; wanted the scan's, {ct.array.shape}")
    found = ndimage.find_objects(np.asarray(region, bool).view(np.uint8))
    if not found or found[0] is None:
        raise InputError("the region is empty; choose an organ that the map shows, or segment the whole scan")
    spacing = ct.spacing_zyx_mm
    margin = np.ceil(REGION_MARGIN_MM / spacing).astype(int)
    box = tuple(slice(s.start - int(m), s.stop + int(m)) for s, m in zip(found[0], margin))
    least = np.floor((max(card.patch) - 1) * card.spacing_mm / spacing).astype(int) + 1  # one window, not a voxel more
    return grown_box(box, ct.array.shape, 0, [int(n) for n in least])


def _abilities(model) -> str:
    return "it predicts lesion attributes" if model.predicts_attributes else "it holds an encoder for features only"


class _Clock:
    """Wall seconds of each stage, added up under its name."""

    def __init__(self, seconds: dict[str, float]):
        self._seconds, self._last = seconds, time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self._seconds[stage] = round(self._seconds.get(stage, 0.0) + now - self._last, 4)
        self._last = now
