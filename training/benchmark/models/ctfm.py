"""CT-FM, an example of a system that is added from outside: nothing in this program knows this file but the entry point that names it.

A package of yours adds a system in the same way: it writes a class like ``CtFm`` and names it in its pyproject.toml,

    [project.entry-points."slicerpasta.benchmark_models"]
    ct-fm = "training.benchmark.models.ctfm:CtFm"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.networks.nets import SegResNetDS
from monai.networks.nets.segresnet_ds import SegResEncoder
from torch import nn

from PASTALib.inference.intensity import Intensity

from .interface import CT, FIXED, KINDS, MRI, NATIVE, PAPER, SEGMENTATION, Preparation, Rival, counts
from .weights import Coverage, fill, names_under
from .wrap import HIDDEN, MILLIMETRE, SMALL_HIDDEN, Classifier, Segmenter, paper_preparation, pooled

WINDOW = Intensity((-1024.0, 2048.0), (0.0, 1.0))
FILTERS, BLOCKS = 32, (1, 2, 2, 4, 4)
SMALL = {"init_filters": 4, "blocks_down": (1, 1, 1)}
PUBLISHED = {"init_filters": FILTERS, "blocks_down": BLOCKS}


class Encoder(SegResEncoder):
    """MONAI's encoder: images -> (B, F), the mean of its last level."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pooled(super().forward(x)[-1])


class Decoding(SegResNetDS):
    """MONAI's network with all its outputs, full resolution first, in evaluation too."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x, *skips = self.encoder(x)[::-1]
        outputs = []
        for level, skip in zip(self.up_layers, skips):
            x = level["blocks"](level["upsample"](x) + skip)
            outputs.append(level["head"](x))
        return outputs[::-1]


@dataclass(frozen=True)
class CtFm(Rival):
    """Contrastively pre-trained on 148,000 scans; for masks the published encoder with a new decoder."""

    key: str = "ct-fm"
    title: str = "CT-FM"
    kinds: frozenset[str] = frozenset(KINDS)
    licence: str = "MIT"
    citation: str = "Pai et al., arXiv 2501.09001 (2025)"
    weights_note: str = "pretrained_segresnet.torch from the authors' page project-lighter/CT-FM"
    parameters: Mapping[str, int] = counts(segmentation=77_760_992, classification=77_760_992)
    needs_weights: bool = True

    def network(self, kind: str, in_channels: int, classes: int, *, small: bool = False) -> nn.Module:
        self.check_kind(kind)
        sizes = SMALL if small else PUBLISHED
        levels = len(sizes["blocks_down"])
        multiple = (2 ** (levels - 1),) * 3
        if kind == SEGMENTATION:
            body = Decoding(in_channels=in_channels, out_channels=classes, dsdepth=levels - 1, **sizes)
            return Segmenter(body, [(2**n,) * 3 for n in range(levels - 1)], multiple)
        body, width = Encoder(in_channels=in_channels, **sizes), sizes["init_filters"] * 2 ** (levels - 1)
        return Classifier(body, width, classes, multiple, SMALL_HIDDEN if small else HIDDEN)

    def published(self, kind: str) -> nn.Module:
        self.check_kind(kind)
        return SegResEncoder(in_channels=1, **PUBLISHED)

    def load(self, network: nn.Module, path: str | Path, stem: str = "repeat") -> Coverage:
        masks = isinstance(network, Segmenter)
        parts = [names_under(network, "body.encoder." if masks else "body.")]
        if masks:
            parts.append(names_under(network, "body.", without=r"^body\.encoder\."))
        wanted, decoder = "the authors' pretrained_segresnet.torch", ("body.up_layers.",)
        return fill(network, path, parts, title=self.title, wanted=wanted, fresh=decoder, stem=stem)

    def prepare(self, mode: str = PAPER, kind: str = SEGMENTATION, modality: str = CT) -> Preparation:
        self.check_preparation(mode, kind, modality)
        if mode != NATIVE or modality == MRI:
            return paper_preparation(kind, modality)
        return Preparation(MILLIMETRE, "LPS", FIXED, WINDOW, (128, 128, 128))
