"""Choosing the fastest engine by measuring each on one window, once per machine and network shape."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import torch

from ..errors import InputError
from ..networks.unet import NetworkShape, PastaNet
from ..paths import cache_folder
from .engines import EXACT, NAMES, TORCH_FP32, TORCH_HALF, available, make_engine

AUTO, AUTO_EXACT = "auto", "fp32"
CHOICES = (AUTO, AUTO_EXACT, *NAMES)
CONVERTING_PAYS = 4  # windows; for fewer the time to convert a model is not earned back
_PACKAGES = ("torch", "openvino", "onnxruntime")


def choose_engines(
    networks: Sequence[PastaNet],
    patch: tuple[int, int, int],
    device: torch.device,
    wanted: str = AUTO,
    *,
    digest: str = "",
    windows: int = 1000,
    tell: Callable[[str], None] = lambda text: None,
) -> list:
    """One engine per network.

    ``wanted``: "auto" for the fastest, "fp32" for the fastest in full single precision, or an engine's name. ``digest`` of the weights
    names converted models in the cache ("" keeps none). ``windows``: how many are to be run; converting a model for a handful is not
    worth it. ``tell`` gets a line before something that takes seconds. InputError for an unknown or unavailable engine.
    """
    if wanted not in CHOICES:
        raise InputError(f"unknown engine {wanted!r}; use one of {', '.join(CHOICES)}")
    together = len(networks) > 1 or None  # sums over several networks need logits, whose last layers differ
    stem = _model_stem(networks[0].shape, patch, digest)

    def make(name: str, number: int = 0):
        cache = stem.with_name(f"{stem.name}-{number}") if digest and not name.startswith("torch") else None
        return make_engine(
            name, networks[number], patch, device, sum_features=None if not together else False, cache=cache
        )

    if wanted in (AUTO, AUTO_EXACT):
        names = [name for name in available(device) if wanted == AUTO or name in EXACT]
        if windows < CONVERTING_PAYS:
            names = [name for name in names if name.startswith("torch")]
        name = names[0] if device.type != "cpu" else _fastest(names, networks[0].shape, patch, make, tell)
    else:
        name = wanted
    return [make(name, number) for number in range(len(networks))]


def measure(engine, patch: tuple[int, int, int], runs: int = 2) -> float:
    """Seconds per window: the best of ``runs`` after one for warming up."""
    window = torch.rand(patch)
    engine.run(window, lambda: None)
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        engine.run(window, lambda: None)
        if engine.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return min(times)


def _fastest(names: list[str], shape: NetworkShape, patch, make, tell) -> str:
    """The quickest engine of this machine for this network shape and window, from the cache or measured now."""
    if len(names) == 1:
        return names[0]
    file = cache_folder() / "engines.json"
    key = hashlib.sha256(json.dumps([asdict(shape), patch, names, _machine()]).encode()).hexdigest()[:20]
    known = _read(file)
    if known.get(key) in names:
        return known[key]
    seconds = {}
    for name in names:
        tell(f"measuring {name}")
        try:
            seconds[name] = measure(make(name), patch, runs=1)
        except Exception as error:  # an engine that fails here, for whatever reason, is not the fastest
            if name == TORCH_FP32:
                raise
            seconds[name] = float("inf")
            tell(f"{name} does not run here ({type(error).__name__})")
    best = min(seconds, key=seconds.get)
    known[key] = best
    known[f"{key}-seconds"] = {name: round(value, 4) for name, value in seconds.items() if value != float("inf")}
    _write(file, known)
    return best


def _machine() -> list[str]:
    versions = []
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    capability = torch.backends.cpu.get_cpu_capability()
    return [platform.machine(), platform.processor(), capability, str(torch.get_num_threads()), *versions]


def _model_stem(shape: NetworkShape, patch, digest: str) -> Path:
    key = hashlib.sha256(json.dumps([asdict(shape), patch, digest, _machine()[-len(_PACKAGES) :]]).encode()).hexdigest()
    return cache_folder() / "converted" / key[:20]


def _read(file: Path) -> dict:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _write(file: Path, data: dict) -> None:
    """The cache saves a measurement next time; not being able to write it is no error."""
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")
        os.replace(temporary, file)


__all__ = ["AUTO", "AUTO_EXACT", "CHOICES", "TORCH_HALF", "choose_engines", "measure"]
