"""MONAI's Swin UNETR with the order in which patches were merged when the published weights were trained.

MONAI has corrected the order since; weights of before load into it without a complaint, and give wrong features.
"""

from __future__ import annotations

import torch
from monai.networks.nets.swin_unetr import PatchMergingV2, SwinUNETR
from torch.nn import functional as F

FEATURES = 48
SMALL = 12  # channels of the first level for trying things out; the least that MONAI takes
MULTIPLE = (32, 32, 32)
# Offsets of the eight parts that become channels, in order; two are there twice and two not at all.
OFFSETS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))


class OldPatchMerging(PatchMergingV2):
    """(B, d, h, w, C) -> (B, d/2, h/2, w/2, 2C), as MONAI to version 1.3.2 merged."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d, h, w = x.shape[1:4]
        x = F.pad(x, (0, 0, 0, w % 2, 0, h % 2, 0, d % 2))
        parts = [x[:, a::2, b::2, c::2] for a, b, c in OFFSETS]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class OldSwinUNETR(SwinUNETR):
    """Images (B, in_channels, d, h, w), sides multiples of 32 -> logits, full resolution; ``out_channels`` 0: ``maps`` alone."""

    def __init__(self, in_channels: int = 1, out_channels: int = 0, features: int = FEATURES, decoder: bool = True):
        super().__init__(in_channels, max(out_channels, 1), feature_size=features, downsample=OldPatchMerging)
        self.widths = (features, 16 * features)
        if not out_channels:
            del self.out
        if not decoder:
            for name in ("encoder1", "encoder2", "encoder3", "encoder4", *(f"decoder{n}" for n in range(1, 6))):
                delattr(self, name)

    def bottleneck(self, hidden: list[torch.Tensor]) -> torch.Tensor:
        """(B, 16 x features, d/32, h/32, w/32)."""
        return self.encoder10(hidden[4])

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Bottleneck and the map at full resolution."""
        hidden = self.swinViT(x, self.normalize)
        bottom = self.bottleneck(hidden)
        up = self.decoder5(bottom, hidden[3])
        up = self.decoder4(up, self.encoder4(hidden[2]))
        up = self.decoder3(up, self.encoder3(hidden[1]))
        up = self.decoder2(up, self.encoder2(hidden[0]))
        return [bottom, self.decoder1(up, self.encoder1(x))]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.maps(x)[-1])


class OldSwinEncoder(OldSwinUNETR):
    """The encoder alone: images -> (B, 16 x features), the mean of the bottleneck."""

    def __init__(self, in_channels: int = 1, features: int = FEATURES):
        super().__init__(in_channels, 0, features, decoder=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bottleneck(self.swinViT(x, self.normalize)).mean(dim=(2, 3, 4))
