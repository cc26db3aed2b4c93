"""What both ways of training share: nnU-Net's loss, optimiser and schedule, precision, and a step that a bad gradient cannot spoil."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from PASTALib.errors import InputError
from PASTALib.inference.devices import cpu_has_bf16
from PASTALib.networks.unet import ConvUnit

IGNORED = 255  # label of voxels that count neither for loss nor for Dice
SMOOTH = 1e-5  # of Dice
CLIP = 12.0  # largest norm of the gradient, nnU-Net's
MOMENTUM = 0.99
POWER = 0.9
OPTIMISERS = ("sgd", "adamw")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def scale_weights(levels: int, least: float = 0.0) -> list[float]:
    """Weights of the deeply supervised outputs, full resolution first: halved at each level, the last ``least``, adding up to 1."""
    weights = [0.5**n for n in range(levels - 1)]
    weights[-1] = least
    return [weight / sum(weights) for weight in weights]


class DiceCrossEntropy(nn.Module):
    """nnU-Net's Dice + cross-entropy in equal parts (background left out of Dice, smooth 1e-5), value for value, in half the time.

    Called with logits ``(N, classes, …)`` and labels ``(N, 1, …)``; with ``ignoring`` the label 255 counts neither way. ``batch_dice``: Dice
    of the whole batch (over all processes with ``ddp``) rather than of every sample. ``class_weights``: of each label in the cross-entropy,
    which becomes a weighted mean.
    """

    def __init__(
        self, batch_dice: bool, ddp: bool = False, ignoring: bool = True, class_weights: Sequence[float] | None = None
    ):
        super().__init__()
        self.batch_dice, self.ddp, self.ignoring = batch_dice, ddp, ignoring
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        samples, classes = logits.shape[:2]
        log_p = torch.log_softmax(logits.float().reshape(samples, classes, -1), 1)
        labels = target.reshape(samples, -1).long()
        keep = (labels != IGNORED if self.ignoring else torch.ones_like(labels, dtype=torch.bool)).to(log_p.dtype)
        labels = labels * keep.long()
        picked = log_p.gather(1, labels[:, None])[:, 0]
        counted = keep if self.class_weights is None else keep * self.class_weights[labels]
        entropy = -(picked * counted).sum() / counted.sum().clamp_min(1)
        # sums over voxels (N, classes): probability, labelled voxels, probability of the right class
        predicted = torch.bmm(log_p.exp(), keep[:, :, None])[:, :, 0]
        none = torch.zeros_like(predicted)
        sums = torch.stack(
            (predicted, none.scatter_add(1, labels, keep), none.scatter_add(1, labels, picked.exp() * keep))
        )
        if self.batch_dice:
            sums = sums.sum(1, keepdim=True)
            if self.ddp:
                sums = torch.distributed.nn.functional.all_reduce(sums)
        predicted, there, both = sums[:, :, 1:]
        dice = (2 * both + SMOOTH) / (predicted + there + SMOOTH).clamp_min(1e-8)
        return entropy - dice.mean()


class DeepSupervision(nn.Module):
    """A loss over all outputs of the decoder, full resolution first, with ``scale_weights``."""

    def __init__(self, loss: nn.Module, weights: Sequence[float]):
        super().__init__()
        self.loss, self.weights = loss, tuple(weights)

    def forward(self, outputs: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> torch.Tensor:
        return sum(w * self.loss(a, b) for w, a, b in zip(self.weights, outputs, wanted) if w)


def make_loss(
    levels: int,
    batch_dice: bool,
    ddp: bool = False,
    ignoring: bool = True,
    class_weights: Sequence[float] | None = None,
) -> nn.Module:
    """The loss of a network of ``levels``, called with lists of logits ``(N, classes, z, y, x)`` and of targets ``(N, 1, z, y, x)``."""
    # a weight of 0 would leave the lowest output without gradient, which stops distributed training
    return DeepSupervision(
        DiceCrossEntropy(batch_dice, ddp, ignoring, class_weights), scale_weights(levels, 1e-6 if ddp else 0.0)
    )


def targets(labels: torch.Tensor, levels: int) -> list[torch.Tensor]:
    """``(N, z, y, x)`` labels as targets ``(N, 1, …)`` of every output: each level takes every other voxel of the one above."""
    full = labels[:, None]
    return [full[:, :, :: 2**n, :: 2**n, :: 2**n] for n in range(levels - 1)]


def make_optimiser(parameters: Iterable, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """``settings["optimiser"]``: "sgd" (nnU-Net's: Nesterov momentum 0.99) or "adamw", which needs fewer steps in short trainings."""
    name, rate, decay = settings["optimiser"], settings["learning_rate"], settings["weight_decay"]
    if name not in OPTIMISERS or not rate > 0:
        raise InputError(
            f"optimiser {name!r} with learning_rate {rate}; wanted one of {', '.join(OPTIMISERS)}, above 0"
        )
    if name == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=MOMENTUM, nesterov=True, weight_decay=decay)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay)


def learning_rate(rate: float, epoch: int, epochs: int) -> float:
    """nnU-Net's polynomial schedule, constant within an epoch."""
    return rate * (1 - epoch / epochs) ** POWER


def precision_of(name: str, device: torch.device) -> torch.dtype | None:
    """What autocast computes in, None for float32. "auto": bfloat16 where the processor or card has it, on older cards float16."""
    if name not in PRECISIONS:
        raise InputError(f"precision {name!r} is not known; use one of {', '.join(PRECISIONS)}")
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.bfloat16 if device.type == "cpu" and cpu_has_bf16() else None
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


class _ThinInFloat(ConvUnit):
    """A ``ConvUnit`` that computes in float32 where there are fewer than three planes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] > 2 or x.device.type != "cpu":
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


def guard_thin_layers(network: nn.Module) -> None:
    """Keep bfloat16 away from layers with one or two planes, for training on a CPU.

    torch (2.13, oneDNN) leaves parts of the weights' gradient unwritten there, so that it holds whatever was in memory: mostly not finite,
    sometimes finite and huge. Windows of 64 voxels have two planes in the bottleneck. Names and values of the layers stay.
    """
    for module in network.modules():
        if type(module) is ConvUnit:
            module.__class__ = _ThinInFloat


def autocast(device: torch.device, precision: torch.dtype | None):
    """A context in which the network runs in ``precision``."""
    return contextlib.nullcontext() if precision is None else torch.autocast(device.type, precision)


def careful_step(
    loss: torch.Tensor, network: nn.Module, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None = None
) -> bool:
    """Backward pass, clipping and step; the step is left out, and False returned, when the gradient is not finite."""
    optimiser.zero_grad(set_to_none=True)
    (loss if scaler is None else scaler.scale(loss)).backward()
    if scaler is not None:
        scaler.unscale_(optimiser)
    fine = bool(torch.isfinite(nn.utils.clip_grad_norm_(network.parameters(), CLIP)))
    if scaler is not None:
        scaler.step(optimiser)  # leaves bad steps out by itself, and scales less afterwards
        scaler.update()
    elif fine:
        optimiser.step()
    return fine


class DiceCounter:
    """Dice of every class over all voxels that it was shown, nnU-Net's "pseudo Dice"."""

    def __init__(self, classes: int):
        self._both = torch.zeros(classes, dtype=torch.float64)
        self._sum = torch.zeros(classes, dtype=torch.float64)

    def add(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Logits ``(N, classes, z, y, x)`` and labels ``(N, z, y, x)``."""
        found, classes = logits.argmax(1).flatten().cpu(), len(self._sum)
        wanted = labels.flatten().cpu().long()
        found, wanted = found[wanted != IGNORED], wanted[wanted != IGNORED]
        self._both += torch.bincount(wanted[found == wanted], minlength=classes)
        self._sum += torch.bincount(found, minlength=classes) + torch.bincount(wanted, minlength=classes)

    def reduce(self, device: torch.device) -> None:
        """Add up over the processes of a distributed training, which talk through ``device``."""
        total = torch.stack((self._both, self._sum)).to(device)
        torch.distributed.all_reduce(total)
        self._both, self._sum = total.cpu()

    def scores(self, names: Mapping[int, str]) -> dict[str, float]:
        """Dice by name of the classes that were there or were predicted."""
        return {name: float(2 * self._both[n] / self._sum[n]) for n, name in names.items() if self._sum[n] > 0}


def means(scores: Mapping[str, float], groups: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Mean of the scores of every group of names, where there is one."""
    found = {group: [scores[name] for name in members if name in scores] for group, members in groups.items()}
    return {group: sum(values) / len(values) for group, values in found.items() if values}
