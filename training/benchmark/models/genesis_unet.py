"""The 3-D U-Net of Models Genesis, whose encoder and decoder SuPreM and Universal use too. Written anew from its published shapes and names.

Per level two convolutions with batch normalisation and ReLU, the second doubling the channels; maximum pooling between levels; transposed
convolutions upward. Sources: layer names and sizes of the published checkpoints.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

BASE, LEVELS = 32, 4  # published: 64, 128, 256, 512 channels
NORMS = BATCH, RUNNING = ("batch", "running")


class Norm(nn.BatchNorm3d):
    """Batch normalisation as the published networks use it: by the batch's own statistics, in evaluation too.

    ``mode`` "running": by running statistics in evaluation, as usual. With "batch" a result depends on what else is in its batch.
    """

    def __init__(self, channels: int, mode: str = BATCH):
        super().__init__(channels)
        self.mode = mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training or self.mode == RUNNING:
            return super().forward(x)
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


class Unit(nn.Module):
    """3x3x3 convolution, normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, norm: str):
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.bn1 = Norm(outputs, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn1(self.conv1(x)))


class Down(nn.Module):
    """The two units of one level."""

    def __init__(self, inputs: int, middle: int, outputs: int, norm: str):
        super().__init__()
        self.ops = nn.Sequential(Unit(inputs, middle, norm), Unit(middle, outputs, norm))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ops(x)


class Up(nn.Module):
    """Doubled in size, joined with the encoder's map (the doubled half first), two units."""

    def __init__(self, inputs: int, outputs: int, norm: str):
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(inputs, inputs, 2, 2)
        self.ops = nn.Sequential(Unit(inputs + outputs, outputs, norm), Unit(outputs, outputs, norm))

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.ops(torch.cat((self.up_conv(x), skip), 1))


class Out(nn.Module):
    """The last 1x1x1 convolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.final_conv = nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.final_conv(x)


class GenesisEncoder(nn.Module):
    """The levels of the encoder: images (B, in_channels, d, h, w), sides multiples of 2^(levels - 1) -> (B, ``width``), the mean of the last.

    Levels are named ``down_tr64``, ``down_tr128``, … as in the published network, also where ``base`` is narrower.
    """

    def __init__(self, in_channels: int = 1, base: int = BASE, levels: int = LEVELS, norm: str = BATCH):
        super().__init__()
        self.levels, self.widths = levels, [2 * base * 2**n for n in range(levels)]
        for n, width in enumerate(self.widths):
            inputs = self.widths[n - 1] if n else in_channels
            setattr(self, f"down_tr{64 * 2**n}", Down(inputs, width // 2, width, norm))

    @property
    def width(self) -> int:
        """Channels of the last level."""
        return self.widths[-1]

    @property
    def multiple(self) -> tuple[int, int, int]:
        """Sides of images are multiples of this."""
        return (2 ** (self.levels - 1),) * 3

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Maps of all levels, full resolution first."""
        maps = []
        for n in range(self.levels):
            x = getattr(self, f"down_tr{64 * 2**n}")(F.max_pool3d(x, 2) if n else x)
            maps.append(x)
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encode(x)[-1].mean(dim=(2, 3, 4))


class GenesisUNet(GenesisEncoder):
    """Encoder and decoder. ``out_channels`` 0: the backbone of SuPreM and Universal, without the last convolution.

    ``supervised``: with it and ``out_channels``, further outputs (no bias) at the coarser levels, as the paper's runs of SuPreM had.
    Published: 19,073,665 values with one output, 19,073,600 without.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 0,
        base: int = BASE,
        levels: int = LEVELS,
        norm: str = BATCH,
        supervised: bool = False,
    ):
        super().__init__(in_channels, base, levels, norm)
        for n in reversed(range(levels - 1)):
            setattr(self, f"up_tr{64 * 2**n}", Up(self.widths[n + 1], self.widths[n], norm))
        if out_channels:
            self.out_tr = Out(self.widths[0], out_channels)
        coarse = self.widths[:0:-1] if supervised else []  # from the bottleneck up
        self.coarse_outputs = nn.ModuleList(nn.Conv3d(width, out_channels, 1, bias=False) for width in coarse)

    @property
    def output_strides(self) -> list[tuple[int, int, int]]:
        """Of the outputs, full resolution first."""
        return [(2**n,) * 3 for n in range(1 + len(self.coarse_outputs))]

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Bottleneck, then the decoder's maps; the last one is at full resolution."""
        skips = self.encode(x)
        maps = [skips.pop()]
        for n in reversed(range(self.levels - 1)):
            maps.append(getattr(self, f"up_tr{64 * 2**n}")(maps[-1], skips.pop()))
        return maps

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        *coarse, full = self.maps(x)
        return [self.out_tr(full), *[output(part) for output, part in zip(self.coarse_outputs, coarse)][::-1]]
