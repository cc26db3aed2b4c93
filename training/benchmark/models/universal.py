"""Universal, the CLIP-driven model: one mask per class, by a small convolution whose weights are made from an embedding of the class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from PASTALib.errors import InputError
from PASTALib.inference.intensity import Intensity

from .genesis_unet import BATCH, NORMS, GenesisUNet
from .interface import CT, FIXED, MRI, NATIVE, PAPER, SEGMENTATION, Preparation, Rival, counts
from .legacy_swin import FEATURES, MULTIPLE, OldSwinUNETR
from .legacy_swin import SMALL as SMALL_SWIN
from .universal_head import TEXT, PerClassLoss, UniversalNet, WithBackground
from .weights import Coverage, fill, names_under
from .wrap import Segmenter, paper_preparation

UNET, SWIN = BACKBONES = ("unet", "swin_unetr")
LEARNED = "learned"
CLASSES = 32  # of the published model: 25 organs, 7 lesions
WINDOW = Intensity((-175.0, 250.0), (0.0, 1.0))


@dataclass(frozen=True)
class Universal(Rival):
    """``embedding``: "learned", a vector per class, or a file with a tensor (K, 512) of text embeddings of the classes' names, in their order.

    Its published embeddings are of its own 32 classes and may not be passed on. The paper does not say which backbone it ran; the U-Net is
    the published default.
    """

    key: str = "universal"
    title: str = "Universal"
    kinds: frozenset[str] = frozenset({SEGMENTATION})
    licence: str = "CC BY-NC-ND 4.0 (code and weights)"
    citation: str = "Liu et al., ICCV, 21152 (2023)"
    weights_note: str = (
        "clip_driven_universal_unet.pth (or _swin_unetr) from the authors' page ljwztc/CLIP-Driven-Universal-Model"
    )
    parameters: Mapping[str, int] = counts(segmentation=19_073_600 + 342_817)
    needs_weights: bool = True
    backbone: str = UNET
    embedding: str = LEARNED
    norm: str = BATCH

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": BACKBONES, "embedding": (), "norm": NORMS}

    def network(self, kind: str, in_channels: int, classes: int, *, small: bool = False) -> nn.Module:
        self.check_kind(kind)
        words = None if self.embedding == LEARNED else read_embedding(self.embedding, classes - 1)
        body = UniversalNet(self._backbone(in_channels, small), classes - 1, words)
        return Segmenter(WithBackground(body), multiple=MULTIPLE if self.backbone == SWIN else (8, 8, 8))

    def published(self, kind: str) -> nn.Module:
        self.check_kind(kind)
        return UniversalNet(self._backbone(1, False), CLASSES, torch.zeros(CLASSES, TEXT))

    def load(self, network: nn.Module, path: str | Path, stem: str = "repeat") -> Coverage:
        """As ``Rival.load``. The backbone must be there; of the head, which knows other classes, what fits is taken."""
        head = "body.network."
        parts = [names_under(network, f"{head}backbone."), names_under(network, head, without=r"network\.backbone\.")]
        return fill(
            network,
            path,
            parts,
            title=f"{self.title} ({self.backbone})",
            wanted=f"the authors' clip_driven_universal_{self.backbone}.pth",
            optional=tuple(
                head + name for name in ("precls_conv.", "GAP.", "controller.", "organ_embedding", "text_to")
            ),
            stem=stem,
        )

    def prepare(self, mode: str = PAPER, kind: str = SEGMENTATION, modality: str = CT) -> Preparation:
        """Its own window in both modes, since it is trained by its own loop; the paper's patches are larger."""
        self.check_preparation(mode, kind, modality)
        if modality == MRI:
            return paper_preparation(kind, modality)
        side = 96 if mode == NATIVE else 128
        return Preparation((1.5, 1.5, 1.5), "RAS", FIXED, WINDOW, (side, side, side), axes="xyz")

    def manner(self, kind: str) -> dict[str, Any]:
        return {
            "framework": "own",
            "loss": "binary cross-entropy + Dice per class, of the classes that a mask marks",
            "schedule": "100 epochs of warm-up, then cosine",
            "warmup_epochs": 100,
        }

    def loss(self, classes: int) -> nn.Module:
        return PerClassLoss()

    def _backbone(self, in_channels: int, small: bool) -> nn.Module:
        if self.backbone == SWIN:
            return OldSwinUNETR(in_channels, 0, SMALL_SWIN if small else FEATURES)
        return GenesisUNet(in_channels, norm=self.norm, **({"base": 4, "levels": 3} if small else {}))


def read_embedding(path: str | Path, classes: int) -> torch.Tensor:
    """Text embeddings (classes, 512), float32, of a file that torch.save wrote; nothing in it is executed. InputError otherwise."""
    wanted = f"wanted a tensor of {classes} x {TEXT} written by torch.save, one row per class"
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; {wanted}, or embedding={LEARNED}")
    try:
        found = torch.load(str(path), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in the reader
        raise InputError(f"{path}: cannot be read ({type(error).__name__}); {wanted}") from None
    if not isinstance(found, torch.Tensor) or found.shape != (classes, TEXT) or not torch.isfinite(found).all():
        what = f"a tensor of {tuple(found.shape)}" if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
        raise InputError(f"{path}: holds {what}; {wanted}")
    return found.float()
