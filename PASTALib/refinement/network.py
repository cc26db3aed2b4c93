"""The denoising network: a small 3-D U-Net that predicts the noise in an image, given the organ's mask, the step and the scan's noise.

Why not MONAI's ``DiffusionModelUNet``: refining must run with torch alone (MONAI and einops are no part of what a user installs), its middle
block always computes self-attention, whose cost grows with the square of the window's volume, and with the paper's 16 base channels it has
7 million parameters, twice what may be shipped.

Two departures from the plain scheme. Beside the noisy image the network gets that image's fine detail, divided by the noise it should
find. Refining happens at the first few of 1000 steps, where the noise is a hundredth of the image's range: in half precision it would
drown in rounding, and a network that has to learn such an amplification first learns for days. The detail is computed in full precision and
follows from image and step alone, so this is still ε(x, t, mask). And the network is told the noise of the scan: what it sees of it is
mixed with the step's, so that noise which does not belong there could not be told from the scan's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional

from ..errors import InputError
from .diffusion import Schedule

INPUTS = 3  # noisy image, its detail in units of the noise, organ mask


@dataclass(frozen=True)
class DenoiserShape:
    """Everything that fixes the layers: channels per level (the paper's 16 at full resolution), residual blocks per level, norm groups."""

    channels: tuple[int, ...] = (16, 32, 64, 128)
    blocks: int = 1
    groups: int = 8

    def __post_init__(self) -> None:
        fine = (
            isinstance(self.channels, tuple)
            and 1 <= len(self.channels) <= 6
            and all(isinstance(n, int) and 0 < n <= 1024 for n in self.channels)
            and isinstance(self.blocks, int)
            and 1 <= self.blocks <= 8
            and isinstance(self.groups, int)
            and self.groups > 0
        )
        if not fine or any(n % self.groups for n in self.channels):
            raise InputError(
                f"denoising network of channels {self.channels}, {self.blocks} blocks, {self.groups} groups; "
                "wanted 1 to 6 levels, each a multiple of the groups, and 1 to 8 blocks"
            )

    @property
    def multiple(self) -> int:
        """Every side of a window must be a multiple of this many voxels."""
        return 2 ** (len(self.channels) - 1)

    def to_json(self) -> dict:
        """JSON-ready dictionary."""
        return asdict(self) | {"channels": list(self.channels)}

    @classmethod
    def from_json(cls, data: Mapping) -> DenoiserShape:
        """The shape of ``to_json``; InputError for anything else."""
        try:
            return cls(tuple(int(n) for n in data["channels"]), int(data["blocks"]), int(data["groups"]))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"denoising network {data!r} is not readable; wanted channels, blocks and groups"
            ) from None


class _Block(nn.Module):
    """norm, SiLU, convolution; norm scaled and shifted by the step, SiLU, convolution; plus the input."""

    def __init__(self, inputs: int, outputs: int, embedding: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(math.gcd(groups, inputs), inputs)
        self.conv1 = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.step = nn.Linear(embedding, 2 * outputs)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1)
        nn.init.zeros_(
            self.conv2.weight
        )  # a block begins as the identity, which deep residual networks train best from
        nn.init.zeros_(self.conv2.bias)
        nn.init.zeros_(self.step.weight)
        nn.init.zeros_(self.step.bias)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        h = self.conv1(_silu(self.norm1(x)))
        scale, shift = self.step(embedding).chunk(2, dim=1)
        norm = self.norm2
        if len(x) == 1:  # one pass over the image instead of three
            weight, bias = norm.weight * (1 + scale[0]), norm.bias * (1 + scale[0]) + shift[0]
            h = functional.group_norm(h, norm.num_groups, weight.to(h.dtype), bias.to(h.dtype), norm.eps)
        else:
            h = norm(h) * (1 + scale[:, :, None, None, None]) + shift[:, :, None, None, None]
        return self.skip(x) + self.conv2(_silu(h))


def _silu(x: torch.Tensor) -> torch.Tensor:
    return functional.silu(x, inplace=not torch.is_grad_enabled())


class DenoisingNet(nn.Module):
    """``(n, 3, z, y, x)`` of ``network_input``, steps ``(n,)`` (1 … T) and levels ``(n,)`` -> the noise, ``(n, 1, z, y, x)``.

    A level is the standard deviation of the scan's own noise in soft tissue, in network units (``HuMap.level``).
    Sides must be multiples of ``shape.multiple``. The last layer begins at zero, as is usual: an untrained network predicts no noise.
    """

    def __init__(self, shape: DenoiserShape):
        super().__init__()
        self.shape = shape
        first, width = shape.channels[0], 4 * shape.channels[0]
        self.embed = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.stem = nn.Conv3d(INPUTS, first, 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for level, count in enumerate(shape.channels):
            self.down.append(nn.ModuleList(_Block(count, count, width, shape.groups) for _ in range(shape.blocks)))
            if level + 1 < len(shape.channels):
                self.shrink.append(nn.Conv3d(count, shape.channels[level + 1], 3, stride=2, padding=1))
        self.grow, self.up = nn.ModuleList(), nn.ModuleList()
        for count, below in zip(shape.channels[-2::-1], shape.channels[:0:-1]):
            self.grow.append(nn.Conv3d(below, count, 1))  # before enlarging: an eighth of the work of doing it after
            blocks = [_Block(2 * count if n == 0 else count, count, width, shape.groups) for n in range(shape.blocks)]
            self.up.append(nn.ModuleList(blocks))
        self.norm = nn.GroupNorm(shape.groups, first)
        self.out = nn.Conv3d(first, 1, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, inputs: torch.Tensor, steps: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        width = self.embed[0].in_features // 2
        told = torch.cat([_waves(steps, width), _waves(_octaves(levels), width)], dim=1)
        embedding = self.embed(told.to(inputs.dtype))
        x = self.stem(inputs)
        kept = []
        for level, blocks in enumerate(self.down):
            for block in blocks:
                x = block(x, embedding)
            if level < len(self.shrink):
                kept.append(x)
                x = self.shrink[level](x)
        for grow, blocks in zip(self.grow, self.up):
            x = functional.interpolate(grow(x), scale_factor=2.0, mode="nearest")
            x = torch.cat([x, kept.pop()], dim=1)
            for block in blocks:
                x = block(x, embedding)
        return self.out(_silu(self.norm(x)))


def _octaves(levels: torch.Tensor) -> torch.Tensor:
    """Levels from 2^-8 (1.6 HU) to 4 as 0 … 1000, evenly in octaves, for ``_waves``."""
    return 100 * (torch.log2(levels.float().clamp_min(1e-9)) + 8).clamp(0, 10)


def _waves(steps: torch.Tensor, width: int) -> torch.Tensor:
    """Sines and cosines of the step at ``width / 2`` frequencies, as in transformers."""
    half = width // 2
    rates = torch.exp(-math.log(10_000.0) * torch.arange(half, device=steps.device, dtype=torch.float32) / half)
    angles = steps.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def network_input(x: torch.Tensor, mask: torch.Tensor, noise_sd: torch.Tensor) -> torch.Tensor:
    """What the network sees: ``x`` and ``mask`` ``(n, 1, z, y, x)`` float32 (mask 0 or 1), ``noise_sd`` ``(n,)`` of the step -> ``(n, 3, …)``.

    To be computed in full precision, whatever the network runs in.
    """
    detail = x - functional.avg_pool3d(x, 3, stride=1, padding=1, count_include_pad=False)
    return torch.cat([x, torch.asinh(detail / noise_sd.view(-1, 1, 1, 1, 1)), mask], dim=1)


def noise_table(schedule: Schedule, device: torch.device | str = "cpu") -> torch.Tensor:
    """Noise of each step t = 0 … T as float32, to be indexed by steps."""
    return torch.as_tensor(schedule.noise, dtype=torch.float32, device=device)


def parameter_count(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in network.parameters())
