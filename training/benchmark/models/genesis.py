"""Models Genesis: the 3-D U-Net for classes, and its authors' nnU-Net of version 1 for masks. The paper names one; its code uses both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from PASTALib.inference.intensity import Intensity
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise

from .genesis_unet import BASE, BATCH, LEVELS, NORMS, GenesisEncoder, GenesisUNet
from .interface import CT, FIXED, KINDS, MRI, NATIVE, PAPER, SEGMENTATION, Preparation, Rival, counts
from .weights import Coverage, fill, names_under
from .wrap import HIDDEN, SMALL_HIDDEN, Classifier, Segmenter, paper_preparation

CHANNELS, SMALL = (32, 64, 128, 256, 320, 320), (4, 8, 16, 24)
FLAT = (1, 2, 2)  # stride of the last level of the nnU-Net: no halving along z
WINDOW = Intensity((-1000.0, 1000.0), (0.0, 1.0))
MRI_WINDOW = Intensity((0.0, 4000.0), (0.0, 1.0))
STANDARDISED = Intensity.standardised(-1000, 1000, -775.8457, 251.9326)  # of the nnU-Net, from its training on LUNA16
PUBLISHED, CUBIC = POOLS = ("published", "cubic")


@dataclass(frozen=True)
class Genesis(Rival):
    """``last_pool`` (masks): "published" keeps the last level's stride of 1 x 2 x 2, and with it all weights; "cubic" halves all axes and
    drops the weights of the first transposed convolution, as the paper's runs did. ``norm`` (classes): see ``genesis_unet.Norm``."""

    key: str = "genesis"
    title: str = "Models Genesis"
    kinds: frozenset[str] = frozenset(KINDS)
    licence: str = "Arizona State University, non-commercial only, patent pending"
    citation: str = "Zhou et al., Medical Image Analysis 67, 101840 (2021)"
    weights_note: str = "genesis_nnunet_luna16_006.model for masks, Genesis_Chest_CT.pt for classes, from the authors' page MrGiovanni/ModelsGenesis"
    parameters: Mapping[str, int] = counts(segmentation=30_785_184, classification=19_073_665)
    needs_weights: bool = True
    last_pool: str = PUBLISHED
    norm: str = BATCH

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        return {"last_pool": POOLS, "norm": NORMS}

    @property
    def paper_options(self) -> dict[str, str]:
        return {"last_pool": CUBIC}

    def network(self, kind: str, in_channels: int, classes: int, *, small: bool = False) -> nn.Module:
        self.check_kind(kind)
        if kind == SEGMENTATION:
            body = nnunet_v1(NetworkShape(SMALL if small else CHANNELS, in_channels, classes), self.last_pool)
            levels = body.shape.levels - 1
            side = 2 ** (levels - 1)
            last = FLAT if self.last_pool == PUBLISHED else (2, 2, 2)
            return Segmenter(body, [(2**n,) * 3 for n in range(levels)], tuple(side * step for step in last))
        body = GenesisEncoder(in_channels, 4, 3, self.norm) if small else GenesisEncoder(in_channels, norm=self.norm)
        return Classifier(body, body.width, classes, body.multiple, SMALL_HIDDEN if small else HIDDEN)

    def published(self, kind: str) -> nn.Module:
        self.check_kind(kind)
        if kind == SEGMENTATION:
            return nnunet_v1(NetworkShape(CHANNELS, 1, 2), PUBLISHED)
        return GenesisUNet(1, 1, BASE, LEVELS)

    def load(self, network: nn.Module, path: str | Path, stem: str = "repeat") -> Coverage:
        masks = isinstance(network, Segmenter)
        file = "genesis_nnunet_luna16_006.model" if masks else "Genesis_Chest_CT.pt"
        return fill(
            network,
            path,
            [names_under(network, "body.")],
            title=f"{self.title} ({'nnU-Net' if masks else 'U-Net'})",
            wanted=f"the authors' {file}",
            fresh=("body.seg_outputs.",),
            optional=("body.tu.0.",) if self.last_pool == CUBIC else (),
            stem=stem,
        )

    def prepare(self, mode: str = PAPER, kind: str = SEGMENTATION, modality: str = CT) -> Preparation:
        self.check_preparation(mode, kind, modality)
        if mode != NATIVE:
            return paper_preparation(kind, modality)
        if modality == MRI:
            patch = (128, 128, 128) if kind == SEGMENTATION else (64, 64, 32)
            return Preparation(None, "LPS", FIXED, MRI_WINDOW, patch, axes="zyx" if kind == SEGMENTATION else "xyz")
        if kind == SEGMENTATION:  # the spacing and patch of its plan are not published
            return Preparation(None, "LPS", FIXED, STANDARDISED, (128, 128, 128), pad=STANDARDISED.air)
        return Preparation(None, "LPS", FIXED, WINDOW, (64, 64, 32), axes="xyz")


def nnunet_v1(shape: NetworkShape, last_pool: str) -> PastaNet:
    """nnU-Net version 1's network, whose layers PASTA's descend from; "published": its last level is halved along y and x alone."""
    network = PastaNet(shape, deep_supervision=True)
    if last_pool == PUBLISHED:
        deepest, above = shape.channels[-1], shape.channels[-2]
        network.conv_blocks_context[-1][0].blocks[0].conv.stride = FLAT
        network.tu[0] = nn.ConvTranspose3d(deepest, above, FLAT, FLAT, bias=shape.biases)
    return initialise(network)
