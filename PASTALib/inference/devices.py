"""Where to compute: the device that the user names or the best there is, what a CPU can do, and telling running out of memory."""

from __future__ import annotations

import functools
import re

import torch

from ..errors import InputError

AUTO = "auto"


def pick_device(text: str) -> torch.device:
    """The device for ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``; case and spaces do not matter.

    "auto" is the first CUDA card, or else the CPU (Apple's "mps" lacks parts of 3-D networks in many versions and has to be named).
    InputError with what this machine has for an unknown name or a device that is not there.
    """
    name = str(text).strip().lower()
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == AUTO:
        return torch.device("cuda:0" if cards else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    card = re.fullmatch(r"cuda(?::(\d+))?", name)
    if card:
        number = int(card[1] or 0)
        if number < cards:
            return torch.device(f"cuda:{number}")
        raise InputError(f"device {text!r} is not available here ({_why_no_card(cards)}); use {_listed(cards)}")
    if name == "mps" and torch.backends.mps.is_available():
        return torch.device("mps")
    problem = "is not available here" if name == "mps" else "is not known"
    raise InputError(f"device {text!r} {problem}; use {_listed(cards)}")


@functools.cache
def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AVX-512 BF16 or AMX); where it is emulated it is slower than float32."""
    found = False
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):  # older versions of torch have neither
        ask = getattr(torch.cpu, name, None)
        if ask is not None:
            found = found or bool(ask())
    if found or hasattr(torch.cpu, "_is_avx512_bf16_supported"):
        return found
    return bool({"avx512_bf16", "amx_bf16"} & _linux_cpu_flags())


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on a GPU or (where torch raises a plain RuntimeError) in main memory."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or any(
        words in str(error) for words in ("out of memory", "allocate memory")
    )


def _listed(cards: int) -> str:
    names = ["auto", "cpu", *(f"cuda:{number}" for number in range(cards))]
    names += ["mps"] if torch.backends.mps.is_available() else []
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _why_no_card(cards: int) -> str:
    if cards:
        return f"it has {cards} CUDA card{'s' if cards > 1 else ''}, numbered from 0"
    return "torch finds no CUDA card" if torch.backends.cuda.is_built() else "this torch is built without CUDA"


def _linux_cpu_flags() -> set[str]:
    """Flags of the first processor; empty where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next((set(line.split()) for line in file if line.startswith("flags")), set())
    except OSError:
        return set()
