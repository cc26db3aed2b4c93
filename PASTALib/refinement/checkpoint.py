"""Reading and writing the denoising network: weights with everything that they mean nothing without."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import InputError
from ..inference.intensity import Intensity
from ..networks.checkpoint import read_weights
from .diffusion import HuMap, Schedule
from .network import DenoiserShape, DenoisingNet

ENTRY, VERSION = "pasta_ddpm", 2
_WANTED = "give a checkpoint that python -m training train-ddpm wrote"


@dataclass
class DenoisingModel:
    """The network in evaluation mode on the CPU, with its schedule and HU map. ``digest``: 16 hexadecimal digits over the weights.

    ``about``: name, source, licence, notes (a list of lines) and what else the training wrote down. ``trained`` False: random weights.
    """

    network: DenoisingNet
    schedule: Schedule
    hu_map: HuMap
    about: dict
    digest: str = ""

    @property
    def name(self) -> str:
        return str(self.about.get("name", "denoiser"))

    @property
    def trained(self) -> bool:
        return bool(self.about.get("trained", True))


def state_of(model: DenoisingModel, half: bool = True) -> dict:
    """The dictionary that ``read_denoiser`` reads: tensors (fp16 where ``half``) and plain values only."""
    entry = {
        "version": VERSION,
        "network": model.network.shape.to_json(),
        "schedule": model.schedule.to_json(),
        "hu_map": model.hu_map.intensity.to_json(),
        "about": dict(model.about),
    }
    tensors = {
        name: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous().clone()
        for name, value in model.network.state_dict().items()
    }
    return {"state_dict": tensors, ENTRY: entry}


def save_denoiser(model: DenoisingModel, path: str | Path, half: bool = True) -> Path:
    """Write a checkpoint; complete or not at all. InputError when it cannot be written."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        torch.save(state_of(model, half), temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be written ({error}); choose another folder or free space") from None
    finally:
        with suppress(OSError):
            temporary.unlink()
    return path


def read_denoiser(path: str | Path) -> DenoisingModel:
    """The denoising network of a checkpoint. Nothing from the file is executed.

    InputError, one line, for a file that is damaged, holds another network, or is of another version.
    """
    path = Path(path)
    weights = read_weights(path)
    entry = weights.extras.get(ENTRY)
    if not isinstance(entry, Mapping):
        some = ", ".join(list(weights.tensors)[:2])
        raise InputError(f"{path}: holds no denoising network (its tensors: {some}, …); {_WANTED}")
    if entry.get("version") != VERSION:
        raise InputError(f"{path}: denoising network of version {entry.get('version')!r}; this program reads {VERSION}")
    try:
        shape = DenoiserShape.from_json(_part(entry, "network"))
        schedule = Schedule.from_json(_part(entry, "schedule"))
        hu_map = HuMap(Intensity.from_json(_part(entry, "hu_map")))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    network = DenoisingNet(shape)
    _load(network, weights.tensors, path)
    about = dict(entry.get("about") or {})
    return DenoisingModel(network.eval().requires_grad_(False), schedule, hu_map, about, _digest(weights.tensors))


def random_denoiser(shape: DenoiserShape | None = None, seed: int = 0) -> DenoisingModel:
    """Random weights, the last layer's too, for tests and timing; what it does to an image means nothing."""
    from .diffusion import REFINEMENT_MAP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DenoisingNet(shape or DenoiserShape())
        for name, value in network.named_parameters():
            if name.endswith("weight") and value.ndim > 1 and not value.any():
                torch.nn.init.normal_(value, std=0.5 / value[0].numel() ** 0.5)
    about = {"name": "random", "trained": False}
    return DenoisingModel(
        network.eval().requires_grad_(False), Schedule(), HuMap(REFINEMENT_MAP), about, f"random{seed}"
    )


def _part(entry: Mapping, key: str) -> Mapping:
    value = entry.get(key)
    if not isinstance(value, Mapping):
        raise InputError(f"denoising network without its {key}; {_WANTED}")
    return value


def _load(network: DenoisingNet, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in tensors]
    extra = [name for name in tensors if name not in wanted]
    if missing or extra:
        what = f"{missing[0]} is missing" if missing else f"{extra[0]} is too much"
        raise InputError(f"{path}: damaged: {what} ({len(missing) + len(extra)} tensors in all); copy it again")
    for name, value in tensors.items():
        if value.shape != wanted[name].shape or not value.is_floating_point():
            raise InputError(
                f"{path}: damaged: {name} is {tuple(value.shape)}, wanted {tuple(wanted[name].shape)}; copy it again"
            )
        if not torch.isfinite(value).all():
            raise InputError(f"{path}: {name} holds values that are not finite; train again from an earlier checkpoint")
    network.load_state_dict({name: value.float() for name, value in tensors.items()})


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    made = hashlib.sha256()
    for name in sorted(tensors):
        made.update(name.encode())
        made.update(tensors[name].contiguous().numpy().tobytes())
    return made.hexdigest()[:16]
