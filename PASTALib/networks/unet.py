"""The PASTA network: a six-level 3-D U-Net with deep supervision, and the attribute head on its encoder.

Names and nesting of the layers are those of the released state dict, so that its keys load unchanged. Down-sampling is by strided
convolution (the paper's text says max-pooling, the released weights have none); the attribute head reads the fifth level, before the
bottleneck. All sizes follow from ``NetworkShape``; the published network is the default.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..errors import InputError

SLOPE = 0.01  # of every leaky ReLU
PUBLISHED_CHANNELS = (64, 128, 256, 512, 1024, 1024)
ATTRIBUTE_OUTPUTS = 13  # 4 + 3 + 2 + 2 + 2; published scripts allot 14, one shape class more


@dataclass(frozen=True)
class NetworkShape:
    """Everything that fixes the layers.

    ``channels`` per level, the bottleneck last; ``classes`` segmentation outputs with background (0: no decoder, encoder only, and no
    bottleneck either); ``attribute_outputs`` of the head (0: no head); ``biases``: whether the up-convolutions and the segmentation
    outputs have a bias, as in nnU-Net version 2's own network (PASTA's have none).
    """

    channels: tuple[int, ...] = PUBLISHED_CHANNELS
    in_channels: int = 1
    classes: int = 26
    attribute_outputs: int = 0
    biases: bool = False

    @classmethod
    def of_width(cls, width: int, levels: int = 6, cap: int = 16, **other) -> NetworkShape:
        """``width`` channels at full resolution, doubled at every level up to ``cap`` times the width."""
        return cls(tuple(width * min(2**level, cap) for level in range(levels)), **other)

    @property
    def levels(self) -> int:
        """Resolution levels, the bottleneck included."""
        return len(self.channels)

    @property
    def feature_channels(self) -> int:
        """Length of the feature vector of one region (1024 in the published network)."""
        return self.channels[-2]

    @property
    def multiple(self) -> int:
        """Input sides are multiples of this many voxels."""
        return 2 ** (self.levels - 1 if self.classes else self.levels - 2)


class ConvUnit(nn.Module):
    """3x3x3 convolution, instance normalisation, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, stride, padding=1)
        self.instnorm = nn.InstanceNorm3d(outputs, eps=1e-5, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.leaky_relu(self.instnorm(self.conv(x)), SLOPE, inplace=True)


class Stack(nn.Module):
    """Convolution units one after the other; the first may have a stride."""

    def __init__(self, inputs: int, outputs: int, units: int, stride: int = 1):
        super().__init__()
        self.blocks = nn.Sequential(
            *(ConvUnit(outputs if n else inputs, outputs, 1 if n else stride) for n in range(units))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


def _pair(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Two stacks of one unit each: how bottleneck and decoder are nested in the released state dict."""
    return nn.Sequential(Stack(inputs, outputs, 1, stride), Stack(outputs, outputs, 1))


class PastaNet(nn.Module):
    """The PASTA U-Net, optionally with the attribute head, or its encoder alone.

    Images are ``(N, in_channels, z, y, x)`` with sides that are multiples of ``shape.multiple``; a segmenting network of six levels needs
    more than 32 voxels on at least one side, because instance normalisation of a single voxel is undefined.
    """

    def __init__(self, shape: NetworkShape = NetworkShape(), deep_supervision: bool = False):
        super().__init__()
        if shape.levels < 3:
            raise ValueError(f"a network of {shape.levels} levels; wanted 3 or more")
        self.shape = shape
        self.deep_supervision = deep_supervision
        channels = shape.channels
        stacks = [
            Stack(channels[n - 1] if n else shape.in_channels, channels[n], 2, 2 if n else 1)
            for n in range(shape.levels - 1)
        ]
        if shape.classes:
            self.conv_blocks_context = nn.ModuleList([*stacks, _pair(channels[-2], channels[-1], 2)])
            up = channels[::-1]  # from the bottleneck to full resolution
            self.conv_blocks_localization = nn.ModuleList(_pair(2 * c, c) for c in up[1:])
            self.tu = nn.ModuleList(nn.ConvTranspose3d(a, b, 2, 2, bias=shape.biases) for a, b in zip(up[:-1], up[1:]))
            self.seg_outputs = nn.ModuleList(nn.Conv3d(c, shape.classes, 1, bias=shape.biases) for c in up[1:])
        else:
            self.conv_blocks_context = nn.ModuleList(stacks)
        if shape.attribute_outputs:
            wide = shape.feature_channels
            self.head = nn.Sequential(
                nn.Linear(wide, wide // 2),
                nn.LeakyReLU(SLOPE),
                nn.Linear(wide // 2, wide // 4),
                nn.LeakyReLU(SLOPE),
                nn.Linear(wide // 4, shape.attribute_outputs),
            )

    # -- the parts -------------------------------------------------------------------------------------------

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of every level above the bottleneck, full resolution first."""
        maps = []
        for stack in self.conv_blocks_context[: self.shape.levels - 1]:
            x = stack(x)
            maps.append(x)
        return maps

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, feature_channels)``: the mean of the last level above the bottleneck."""
        return self.encode(x)[-1].mean(dim=(2, 3, 4))

    def attributes(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, attribute_outputs)`` logits of the five attributes, one group after the other."""
        if not self.shape.attribute_outputs:
            raise InputError("this network has no attribute head; choose a model that predicts attributes")
        return self.head(self.features(x))

    def decode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Decoder feature maps, lowest resolution first; the last one is at full resolution."""
        if not self.shape.classes:
            raise InputError("this network holds the encoder only; choose a model that segments")
        skips = self.encode(x)
        x = self.conv_blocks_context[-1](skips[-1])
        maps = []
        for up, blocks in zip(self.tu, self.conv_blocks_localization):
            x = blocks(torch.cat((up(x), skips.pop()), 1))  # the up-sampled half first
            maps.append(x)
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """``(N, classes, z, y, x)`` logits; with ``deep_supervision`` a list of them, full resolution first."""
        maps = self.decode(x)
        if self.deep_supervision:
            return [output(part) for output, part in zip(self.seg_outputs, maps)][::-1]
        return self.seg_outputs[-1](maps[-1])


def initialise(network: PastaNet, seed: int | None = None) -> PastaNet:
    """He-normal weights for leaky ReLU and zero biases in all (transposed) convolutions, as nnU-Net does; returns ``network``."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight, a=SLOPE, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and generator is not None:
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    return network


def parameter_count(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in network.parameters())
