"""FMCIB, the foundation model for cancer imaging biomarkers: MONAI's ResNet-50 of twice the width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monai.networks.nets import resnet50
from monai.networks.nets.resnet import ResNet
from torch import nn

from PASTALib.inference.intensity import Intensity

from .interface import CLASSIFICATION, CT, FIXED, MRI, PAPER, Preparation, Rival, counts
from .weights import Coverage, fill, names_under
from .wrap import HIDDEN, MILLIMETRE, SMALL_HIDDEN, Classifier, paper_preparation

WIDTH = 4096
WINDOW = Intensity.standardised(-(2.0**30), 2.0**30, -1024, 3072)  # (HU + 1024) / 3072; limits that no scan reaches
# The stem's stride along z is 2, as in MONAI before version 1.0 and so in the published weights: shapes do not tell, features do.
_STEM = {"conv1_t_stride": 2, "feed_forward": False, "bias_downsample": True}


@dataclass(frozen=True)
class Fmcib(Rival):
    """Its own preprocessing in both modes: the paper adopted it."""

    key: str = "fmcib"
    title: str = "FMCIB"
    kinds: frozenset[str] = frozenset({CLASSIFICATION})
    licence: str = "MIT"
    citation: str = "Pai et al., Nature Machine Intelligence 6, 354 (2024)"
    weights_note: str = "model_weights.torch, Zenodo record 10528450"
    parameters: Mapping[str, int] = counts(classification=184_477_824)
    needs_weights: bool = True

    def network(self, kind: str, in_channels: int, classes: int, *, small: bool = False) -> nn.Module:
        self.check_kind(kind)
        if small:
            body = ResNet(
                "bottleneck", [1, 1, 1, 1], [4, 8, 8, 16], n_input_channels=in_channels, no_max_pool=True, **_STEM
            )
            return Classifier(body, 64, classes, (1, 1, 1), SMALL_HIDDEN)
        return Classifier(self._trunk(in_channels), WIDTH, classes, (1, 1, 1), HIDDEN)

    def published(self, kind: str) -> nn.Module:
        self.check_kind(kind)
        return self._trunk(1)

    def load(self, network: nn.Module, path: str | Path, stem: str = "repeat") -> Coverage:
        parts = [names_under(network, "body.")]
        return fill(network, path, parts, title=self.title, wanted=self.weights_note, stem=stem)

    def prepare(self, mode: str = PAPER, kind: str = CLASSIFICATION, modality: str = CT) -> Preparation:
        self.check_preparation(mode, kind, modality)
        if modality == MRI:
            return paper_preparation(kind, modality)
        return Preparation(MILLIMETRE, "LPS", FIXED, WINDOW, (50, 50, 50))

    def _trunk(self, in_channels: int) -> ResNet:
        return resnet50(n_input_channels=in_channels, widen_factor=2, **_STEM)
