"""The two shapes that every system's network takes here, and the preprocessing that several share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from PASTALib.inference.intensity import PASTA_PIECEWISE
from PASTALib.networks.unet import SLOPE, NetworkShape, PastaNet, initialise

from .interface import CLASSIFICATION, FIXED, IMAGE, MRI, TRAINING, Preparation

Triple = tuple[int, int, int]
MILLIMETRE = (1.0, 1.0, 1.0)
HIDDEN, SMALL_HIDDEN = (512, 256), (32, 16)  # of the classifying heads [paper]


class Segmenter(nn.Module):
    """``body``, whose result is one tensor of logits or a list of them, full resolution first.

    ``deep_supervision``: None gives the list in training mode only; True or False (nnU-Net's trainer sets it) always or never.
    ``output_strides``: how much coarser than the image each output of the list is, by axis. ``multiple``: sides of images are multiples of it.
    """

    def __init__(self, body: nn.Module, output_strides: Sequence[Triple] = ((1, 1, 1),), multiple: Triple = (1, 1, 1)):
        super().__init__()
        self.body = body
        self.output_strides, self.multiple = tuple(output_strides), multiple
        self.deep_supervision: bool | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        outputs = self.body(x)
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        every = self.training if self.deep_supervision is None else self.deep_supervision
        return outputs if every else outputs[0]


class Classifier(nn.Module):
    """``body``, whose result is (B, ``width``) features, and the paper's head of three layers on it."""

    def __init__(self, body: nn.Module, width: int, classes: int, multiple: Triple, hidden: Sequence[int] = HIDDEN):
        super().__init__()
        self.body, self.multiple = body, multiple
        self.head = mlp(width, hidden, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, F)."""
        return self.body(x)

    def attributes(self, x: torch.Tensor) -> torch.Tensor:
        """(B, classes) logits; the name by which ``training.downstream.classification`` calls it."""
        return self.head(self.features(x))

    forward = attributes


class PastaClassifier(PastaNet):
    """PASTA's encoder and head with the names of its own checkpoints."""

    def __init__(self, shape: NetworkShape):
        super().__init__(shape)
        self.multiple = (shape.multiple,) * 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attributes(x)


def mlp(width: int, hidden: Sequence[int], classes: int) -> nn.Sequential:
    """Linear layers with leaky ReLU between them."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.LeakyReLU(SLOPE)]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, classes))


def pasta_segmenter(shape: NetworkShape) -> Segmenter:
    """``PastaNet`` with all its outputs; He-normal weights."""
    levels = shape.levels - 1
    strides = [(2**n,) * 3 for n in range(levels)]
    return Segmenter(initialise(PastaNet(shape, deep_supervision=True)), strides, (shape.multiple,) * 3)


def pooled(features: torch.Tensor) -> torch.Tensor:
    """(B, F, d, h, w) -> (B, F), the mean."""
    return features.mean(dim=(2, 3, 4))


def paper_preparation(kind: str, modality: str) -> Preparation:
    """What the paper's runs fed all models but those with a pipeline of their own.

    Scans at 1 mm, axes to left, posterior, superior [paper]; for masks nnU-Net's normalisation and patches of 128 [paper]; for classes
    PASTA's map of HU and cubes of the task's side, 128 where it has none [code].
    """
    side = (128, 128, 128)
    if modality == MRI:
        return Preparation(MILLIMETRE, "LPS", IMAGE, None, side)
    if kind == CLASSIFICATION:
        return Preparation(MILLIMETRE, "LPS", FIXED, PASTA_PIECEWISE, side)
    return Preparation(MILLIMETRE, "LPS", TRAINING, None, side)
