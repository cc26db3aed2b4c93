"""The encoder of a model's networks on lesion crops: batches that fit the device, half precision, smaller batches and the CPU as the way out."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..progress import Progress, silent
from ..volume import Volume
from .crops import check_inside, lesion_crop
from .devices import cpu_has_bf16, out_of_memory, pick_device

UNMIRRORED: tuple[tuple[int, ...], ...] = ((),)
_MAPS = 5  # float32 maps at full resolution that one crop holds at a time, at most
_MEMORY_SHARE = 0.5  # of a card's free memory that a batch may take
_MOST_CROPS = 32


def encode(
    ct: Volume,
    centres_ras: Sequence[Sequence[float]],
    model,
    *,
    device: str = "auto",
    half: bool = True,
    flips: Sequence[tuple[int, ...]] = UNMIRRORED,
    progress: Progress = silent,
) -> np.ndarray:
    """Pooled encoder output, float32 ``(networks, flips, n, feature_channels)``, of the crops round ``centres_ras``.

    ``half``: bfloat16 (or float16 on cards without) where the hardware has it. ``flips``: array axes (z, y, x) to mirror before encoding,
    one result each. Crops are cut as they are needed and encoded in batches that fit the device; a GPU that runs out of memory gets
    smaller ones, then the CPU goes on. ``progress`` counts crops and is called several times within one, so that it can cancel.

    InputError for a point outside the scan, an unknown device, a model of several images or too small crops, and too little memory.
    """
    card = model.card
    for network in model.networks:
        shape = network.shape
        if shape.in_channels != 1:
            raise InputError(f"{card.name}: takes {shape.in_channels} images at a time; wanted a model of CT alone")
        if card.attribute_crop < 2 ** (shape.levels - 1):
            raise InputError(
                f"{card.name}: crops of {card.attribute_crop} voxels are too small for {shape.levels} levels"
            )
    for point in centres_ras:
        check_inside(ct, point, "the lesion at")  # all of them before the long work
    count = len(centres_ras)
    result = np.empty((len(model.networks), len(flips), count, model.networks[0].shape.feature_channels), np.float32)
    encoder = _Encoder(model.networks, pick_device(device), half, card.attribute_crop)
    todo = [(number, flip) for number in range(count) for flip in range(len(flips))]
    if not todo:
        return result

    def crop(number: int, flip: int) -> np.ndarray:
        cube = lesion_crop(
            ct,
            centres_ras[number],
            side=card.attribute_crop,
            spacing_mm=card.spacing_mm,
            orientation=card.attribute_orientation,
        )
        return np.flip(card.attribute_intensity(cube), flips[flip])

    done = 0

    def tell() -> None:
        progress(done, len(todo), encoder.text)

    tell()
    while done < len(todo):
        part = todo[done : done + encoder.batch]
        crops = np.stack([crop(*item) for item in part])
        vectors = encoder.try_to_run(crops, tell)
        if vectors is None:
            encoder.take_less(card.name)
            continue
        for position, (number, flip) in enumerate(part):
            result[:, flip, number] = vectors[:, position]
        done += len(part)
        tell()
    return result


class _Encoder:
    """The encoders of a model's networks on one device, and how many crops they take at a time."""

    def __init__(self, networks: Sequence, device: torch.device, half: bool, side: int):
        self._networks, self._half, self._side = networks, half, side
        self.text = "reading lesions"
        self._to(device)

    def _to(self, device: torch.device) -> None:
        self._device, self._units = device, []
        self._precision = _half_type(device) if self._half else None
        self.batch = 1  # several crops at once are no quicker on a CPU
        if device.type == "cuda":
            crop = 4 * _MAPS * self._networks[0].shape.channels[0] * self._side**3
            free, _ = torch.cuda.mem_get_info(device)
            self.batch = max(1, min(_MOST_CROPS, int(_MEMORY_SHARE * free) // crop))

    def try_to_run(self, crops: np.ndarray, check: Callable[[], None]) -> np.ndarray | None:
        """``(networks, n, channels)`` of network input ``(n, z, y, x)``; None when memory does not suffice."""
        try:
            with torch.inference_mode():
                self._units = self._units or [_placed(network, self._device) for network in self._networks]
                images = torch.from_numpy(np.ascontiguousarray(crops))[:, None].to(self._device)
                return np.stack([self._run(units, images, check) for units in self._units])
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None

    def _run(self, units: list[nn.Module], x: torch.Tensor, check: Callable[[], None]) -> np.ndarray:
        with torch.autocast(self._device.type, self._precision) if self._precision else contextlib.nullcontext():
            for unit in units:
                check()
                x = unit(x)
        return x.float().mean(dim=(2, 3, 4)).cpu().numpy()

    def take_less(self, name: str) -> None:
        """Halve the batch, or go to the CPU; InputError when there is nothing less."""
        if self.batch > 1:
            self.batch //= 2
        elif self._device.type == "cpu":
            raise InputError(f"{name}: not enough memory for one {self._side}-voxel crop; choose a smaller model")
        else:
            self._to(torch.device("cpu"))
            self.text = "reading lesions (on the CPU; the GPU's memory is full)"
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _placed(network, device: torch.device) -> list[nn.Module]:
    """The convolution units above the bottleneck in order, copied where the network lies elsewhere."""
    units = [unit for stack in network.conv_blocks_context[: network.shape.levels - 1] for unit in stack.blocks]
    here = next(network.parameters()).device == device
    return units if here else [copy.deepcopy(unit).to(device) for unit in units]


def _half_type(device: torch.device) -> torch.dtype | None:
    """The short number type that is quick on ``device``, if any."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bf16() else None
