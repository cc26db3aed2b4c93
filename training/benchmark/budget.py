"""How long a training takes: budgets that shorten it, and its cost in GPU hours before anything is run.

Cost is arithmetic: multiply-adds of the network at the recipe's patch and batch, counted by torch without computing anything, three times (a
backward pass is two forward ones), divided by what a card does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from PASTALib.errors import InputError

from .registry import SEGMENTATION

TERAFLOPS = (
    30.0  # of 3-D convolutions in mixed precision, data loading included: about what an A100 reaches in nnU-Net [ours]
)
PASSES = 3
_EPOCHS = re.compile(r"(\d{1,6})\s*[xX×]\s*(\d{1,6})")
_STEPS = re.compile(r"\d{1,8}")


def parse_budget(text: str) -> tuple[int, int] | None:
    """(epochs, iterations) of ``EPOCHSxITERATIONS`` or ``STEPS`` (then one epoch of 0 iterations stands for it); None for "". InputError else."""
    text = text.strip()
    if not text:
        return None
    match = _EPOCHS.fullmatch(text)
    found = (int(match[1]), int(match[2])) if match else (0, int(text)) if _STEPS.fullmatch(text) else (0, 0)
    if not found[1] or match and not found[0]:
        raise InputError(
            f"--budget {text!r}; wanted steps per training such as 2000, or epochs x iterations such as 10x200"
        )
    return found


def apply_budget(settings: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Settings of a training that is as long as the budget says; unchanged for ""."""
    budget, settings = parse_budget(text), dict(settings)
    if budget is None:
        return settings
    epochs, iterations = budget
    if "steps" in settings:
        steps = max(1, epochs) * iterations
        settings["steps"] = steps
        for key in ("validate_every", "save_every", "log_every"):
            settings[key] = max(1, min(settings[key], steps))
        return settings
    if not epochs:
        iterations, steps = min(iterations, settings["iterations"]), iterations
        epochs = math.ceil(steps / iterations)
    settings |= {"epochs": epochs, "iterations": iterations, "save_every": max(1, min(settings["save_every"], epochs))}
    settings["validation_iterations"] = max(1, min(settings["validation_iterations"], iterations // 5))
    return settings


def steps_of(settings: Mapping[str, Any]) -> int:
    """Steps of a training."""
    return settings["steps"] if "steps" in settings else settings["epochs"] * settings["iterations"]


def step_seconds(rival, kind: str, channels: int, outputs: int, settings: Mapping[str, Any], small: bool) -> float:
    """Seconds of one training step on a card of ``TERAFLOPS``; 0 for a system that is not trained, or whose cost cannot be told."""
    if not rival.trained:
        return 0.0
    sides = tuple(settings["patch"]) if kind == SEGMENTATION else (settings["side"],) * 3
    return PASSES * settings["batch"] * forward_flops(rival, kind, channels, outputs, sides, small) / (TERAFLOPS * 1e12)


@lru_cache(maxsize=256)
def forward_flops(rival, kind: str, channels: int, outputs: int, sides: tuple[int, int, int], small: bool) -> int:
    """Floating-point operations (two per multiply-add) of one image through the network, which takes up no memory for it; 0 unknown."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with torch.device("meta"):
            network = rival.network(kind, channels, outputs, small=small).eval()
            image = torch.empty(1, channels, *(math.ceil(a / b) * b for a, b in zip(sides, _multiple(network))))
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                network(image)
    except (NotImplementedError, RuntimeError):  # a network of somebody else's that looks at values
        return 0
    return int(counter.get_total_flops())


def assumption() -> str:
    """One sentence on what the hours stand on."""
    return (
        f"assumed: a card that does {TERAFLOPS:g} TFLOP/s of 3-D convolutions (about an A100 in mixed precision), a step of three forward passes; "
        "training only: preparing and testing come on top"
    )


def _multiple(network) -> tuple[int, int, int]:
    return tuple(getattr(network, "multiple", (1, 1, 1)))
