"""SuPreM: the 3-D U-Net that the paper compares with, and its authors' two other backbones, which MONAI has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.networks.nets import SegResNet
from torch import nn

from PASTALib.inference.intensity import Intensity

from .genesis_unet import BATCH, NORMS, GenesisEncoder, GenesisUNet
from .interface import CT, FIXED, KINDS, MRI, NATIVE, PAPER, SEGMENTATION, Preparation, Rival, counts
from .legacy_swin import FEATURES, MULTIPLE, OldSwinEncoder, OldSwinUNETR
from .legacy_swin import SMALL as SMALL_SWIN
from .weights import Coverage, fill, names_under
from .wrap import HIDDEN, SMALL_HIDDEN, Classifier, Segmenter, paper_preparation, pooled

UNET, SWIN, SEGRES = BACKBONES = ("unet", "swinunetr", "segresnet")
STAGE3, STAGE4 = STAGES = ("stage3", "stage4")
WINDOW, WINDOW_CLASSES = (Intensity((low, 250.0), (0.0, 1.0)) for low in (-175.0, -100.0))
OUTPUTS = 26  # of the published SegResNet
_BLOCKS = {"blocks_down": (1, 2, 2, 4), "blocks_up": (1, 1, 1)}


@dataclass(frozen=True)
class SuPreM(Rival):
    """``features`` (classes, U-Net): "stage4", the deepest 512 channels, or "stage3", the 256 that the paper's code reads. ``norm``: see
    ``genesis_unet.Norm``; the paper's copy uses running statistics in evaluation."""

    key: str = "suprem"
    title: str = "SuPreM"
    kinds: frozenset[str] = frozenset(KINDS)
    licence: str = "CC BY-NC-ND 4.0 (code and weights)"
    citation: str = "Li et al., ICLR (2024)"
    weights_note: str = (
        "supervised_suprem_unet_2100.pth (or _swinunetr_, _segresnet_) from the authors' page MrGiovanni/SuPreM"
    )
    parameters: Mapping[str, int] = counts(segmentation=19_073_600, classification=19_073_600)
    needs_weights: bool = True
    backbone: str = UNET
    features: str = STAGE4
    norm: str = BATCH

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": BACKBONES, "features": STAGES, "norm": NORMS}

    @property
    def paper_options(self) -> dict[str, str]:
        return {"features": STAGE3, "norm": "running"}

    def network(self, kind: str, in_channels: int, classes: int, *, small: bool = False) -> nn.Module:
        self.check_kind(kind)
        if kind == SEGMENTATION:
            return self._segmenter(in_channels, classes, small)
        hidden = SMALL_HIDDEN if small else HIDDEN
        if self.backbone == SWIN:
            features = SMALL_SWIN if small else FEATURES
            return Classifier(OldSwinEncoder(in_channels, features), 16 * features, classes, MULTIPLE, hidden)
        if self.backbone == SEGRES:
            body = SegResEncoding(in_channels, 8 if small else 16)
            return Classifier(body, body.width, classes, (8, 8, 8), hidden)
        levels = (3 if small else 4) - (self.features == STAGE3)
        encoder = GenesisEncoder(in_channels, 4 if small else 32, levels, self.norm)
        return Classifier(encoder, encoder.width, classes, encoder.multiple, hidden)

    def published(self, kind: str) -> nn.Module:
        self.check_kind(kind)
        if self.backbone == SWIN:
            return OldSwinUNETR(1, 0)
        return GenesisUNet() if self.backbone == UNET else SegResNet(init_filters=16, out_channels=OUTPUTS, **_BLOCKS)

    def load(self, network: nn.Module, path: str | Path, stem: str = "repeat") -> Coverage:
        return fill(
            network,
            path,
            [names_under(network, "body.")],
            title=f"{self.title} ({self.backbone})",
            wanted=f"the authors' supervised_suprem_{self.backbone}_2100.pth",
            fresh=("body.out_tr.", "body.coarse_outputs.", "body.out.", "body.conv_final.2."),
            stem=stem,
        )

    def prepare(self, mode: str = PAPER, kind: str = SEGMENTATION, modality: str = CT) -> Preparation:
        self.check_preparation(mode, kind, modality)
        if mode != NATIVE or modality == MRI:
            return paper_preparation(kind, modality)
        window = WINDOW if kind == SEGMENTATION else WINDOW_CLASSES
        return Preparation((1.5, 1.5, 1.5), "RAS", FIXED, window, (96, 96, 96), axes="xyz")

    def _segmenter(self, in_channels: int, classes: int, small: bool) -> Segmenter:
        if self.backbone == SWIN:
            body = OldSwinUNETR(in_channels, classes, SMALL_SWIN if small else FEATURES)
            return Segmenter(body, multiple=MULTIPLE)
        if self.backbone == SEGRES:
            body = SegResNet(init_filters=8 if small else 16, in_channels=in_channels, out_channels=classes, **_BLOCKS)
            return Segmenter(body, multiple=(8, 8, 8))
        sizes = {"base": 4, "levels": 3} if small else {}
        body = GenesisUNet(in_channels, classes, norm=self.norm, supervised=True, **sizes)
        return Segmenter(body, body.output_strides, body.multiple)


class SegResEncoding(SegResNet):
    """The encoder of MONAI's ``SegResNet``: images -> (B, ``width``), the mean of its last level."""

    def __init__(self, in_channels: int, filters: int):
        super().__init__(init_filters=filters, in_channels=in_channels, out_channels=1, **_BLOCKS)
        del self.up_layers, self.up_samples, self.conv_final
        self.width = filters * 8

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pooled(self.encode(x)[0])
