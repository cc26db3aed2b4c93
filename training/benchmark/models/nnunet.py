"""nnU-Net: the network that it plans for scans of 1 mm and patches of 128, through its own package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from .interface import CT, PAPER, SEGMENTATION, Preparation, Rival, counts
from .weights import Coverage, fill, names_under
from .wrap import Segmenter, paper_preparation

CHANNELS, SMALL = (32, 64, 128, 256, 320, 320), (4, 8, 16, 24)
BLOCKS = (1, 3, 4, 6, 6, 6)  # of the residual encoder, presets M, L and XL alike at this patch
REPEATED = (".all_modules.", "decoder.encoder.")  # names under which nnU-Net lists the same tensors again
PLAIN, RESIDUAL = ENCODERS = ("plain", "resenc")


@dataclass(frozen=True)
class NnUNet(Rival):
    """``encoder``: "plain", the default plan and the paper's; "resenc", the residual encoder that nnU-Net's authors recommend since 2024."""

    key: str = "nnunet"
    title: str = "nnU-Net"
    kinds: frozenset[str] = frozenset({SEGMENTATION})
    licence: str = "Apache-2.0"
    citation: str = "Isensee et al., Nature Methods 18, 203 (2021)"
    weights_note: str = "none needed; a checkpoint of nnU-Net version 2 with the same plan"
    parameters: Mapping[str, int] = counts(segmentation=31_195_594)
    needs_weights: bool = False
    encoder: str = PLAIN

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        return {"encoder": ENCODERS}

    def network(self, kind: str, in_channels: int, classes: int, *, small: bool = False) -> nn.Module:
        self.check_kind(kind)
        channels = SMALL if small else CHANNELS
        levels = len(channels)
        strides = [(2**n,) * 3 for n in range(levels - 1)]
        return Segmenter(self._body(in_channels, classes, channels), strides, (2 ** (levels - 1),) * 3)

    def published(self, kind: str) -> nn.Module:
        self.check_kind(kind)
        return self._body(1, 2, CHANNELS)

    def load(self, network: nn.Module, path: str | Path, stem: str = "repeat") -> Coverage:
        report = fill(
            network,
            path,
            [names_under(network, "body.")],
            title=f"{self.title} ({self.encoder} encoder)",
            wanted="a checkpoint of nnU-Net version 2 whose plan has the same network",
            fresh=("body.decoder.seg_layers.",),
            stem=stem,
        )
        report.unused = [entry for entry in report.unused if not any(part in entry.key for part in REPEATED)]
        return report

    def prepare(self, mode: str = PAPER, kind: str = SEGMENTATION, modality: str = CT) -> Preparation:
        self.check_preparation(mode, kind, modality)
        return paper_preparation(kind, modality)

    def _body(self, in_channels: int, classes: int, channels: tuple[int, ...]) -> nn.Module:
        from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

        levels = len(channels)
        shared = dict(
            input_channels=in_channels,
            n_stages=levels,
            features_per_stage=channels,
            conv_op=nn.Conv3d,
            kernel_sizes=[(3, 3, 3)] * levels,
            strides=[(1, 1, 1)] + [(2, 2, 2)] * (levels - 1),
            num_classes=classes,
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            deep_supervision=True,
        )
        if self.encoder == RESIDUAL:
            body = ResidualEncoderUNet(
                n_blocks_per_stage=list(BLOCKS[:levels]), n_conv_per_stage_decoder=[1] * (levels - 1), **shared
            )
        else:
            body = PlainConvUNet(n_conv_per_stage=[2] * levels, n_conv_per_stage_decoder=[2] * (levels - 1), **shared)
        return body.apply(body.initialize)
