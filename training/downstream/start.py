"""What a downstream training starts from: trunk and, where it fits, the head of a checkpoint; or new values, for comparison."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from PASTALib import models
from PASTALib.errors import InputError
from PASTALib.inference.intensity import PASTA_PIECEWISE, Intensity
from PASTALib.networks import nnunet_folder
from PASTALib.networks.card import ModelCard
from PASTALib.networks.checkpoint import Weights, read_weights
from PASTALib.networks.load import load_model
from PASTALib.networks.matching import match, starting_weights
from PASTALib.networks.unet import PUBLISHED_CHANNELS, NetworkShape, PastaNet, initialise

SCRATCH = "none"
_SCRATCH = re.compile(r"none(?::([1-9]\d{0,2}))?")
HEADS = ("keep", "new")


class InputMap(Protocol):
    """HU -> network input, float32; ``air``: what lies outside the scan becomes."""

    air: float

    def __call__(self, hu: np.ndarray) -> np.ndarray: ...


class Source(Protocol):
    """Where the recipes get networks from, any system's: with the values that training starts from, and one sentence on what they are.

    A ``classifier`` maps images (B, 1, side, side, side) to logits (B, outputs) by its method ``attributes``. A ``segmenter`` maps images to
    logits (B, outputs, d, h, w), or to a list of them, full resolution first, while its attribute ``deep_supervision`` is true; if it has
    ``output_strides``, they say how much coarser each of the list is. ``intensity``: of the classifier's input. ``digest``: of the weights.
    ``planned``: the settings with what the network adds to nnU-Net's plans, checked. InputError for settings that the network cannot do.
    """

    name: str
    digest: str
    intensity: InputMap

    def classifier(self, outputs: int, settings: Mapping[str, Any], seed: int) -> tuple[nn.Module, str]: ...

    def segmenter(self, inputs: int, outputs: int, settings: Mapping[str, Any], seed: int) -> tuple[nn.Module, str]: ...

    def planned(self, settings: Mapping[str, Any], outputs: int) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Start:
    """``weights`` (None: new values) for networks of ``channels``; ``intensity`` is how the model's card maps HU for its head; ``digest``."""

    name: str
    channels: tuple[int, ...]
    intensity: Intensity
    digest: str
    weights: Weights | None = None
    card: ModelCard | None = None
    head_outputs: int = 0

    def network(
        self, shape: NetworkShape, seed: int, *, head: str = "keep", stem: str = "repeat"
    ) -> tuple[PastaNet, str]:
        """A network of ``shape`` with all that the weights have for it, the rest drawn by ``seed``; and one sentence on what was taken.

        Trunk and stem (adapted by ``stem`` to several inputs) always; segmentation outputs never; of the head the layers whose shapes
        agree, or with ``head`` "new" none.
        """
        if head not in HEADS:
            raise InputError(f"head {head!r}; wanted keep (layers that fit are kept) or new")
        network = initialise(PastaNet(shape), seed)
        if self.weights is None:
            return network, "all values are new"
        dropped = ("seg_outputs.",) if head == "keep" else ("seg_outputs.", "head.")
        tensors = {key: value for key, value in self.weights.tensors.items() if not key.startswith(dropped)}
        state, report = starting_weights(replace(self.weights, tensors=tensors), shape, stem)
        state = {key: value for key, value in state.items() if not key.startswith(dropped)}
        network.load_state_dict(state, strict=False)
        return network, report.summary()

    # -- Source ----------------------------------------------------------------------------------------------

    def classifier(self, outputs: int, settings: Mapping[str, Any], seed: int) -> tuple[PastaNet, str]:
        """Encoder and head."""
        shape = NetworkShape(self.channels, 1, 0, outputs)
        if settings["side"] < 2 ** (shape.levels - 1):
            raise InputError(
                f"side {settings['side']} is too small for {shape.levels} levels; set {2 ** (shape.levels - 1)} or more"
            )
        return self.network(shape, seed, head=settings["head"])

    def segmenter(self, inputs: int, outputs: int, settings: Mapping[str, Any], seed: int) -> tuple[PastaNet, str]:
        """Encoder and decoder, new outputs, all of which are trained."""
        network, taken = self.network(
            NetworkShape(self.channels, inputs, outputs), seed, head="new", stem=settings["stem"]
        )
        network.deep_supervision = True
        return network, taken

    def planned(self, settings: Mapping[str, Any], outputs: int) -> dict[str, Any]:
        """With the width."""
        from ..segmentation.plans import network_shape

        settings = {**settings, "width": self.channels[0]}
        shape = network_shape(settings, outputs)
        if shape.channels != self.channels:
            raise InputError(f"{self.name}: a network of {self.channels} channels; wanted six levels, {shape.channels}")
        return settings


def read_start(model: str) -> Start:
    """What ``model`` names: a checkpoint, an nnU-Net model folder, a name in the model store; "none" or "none:WIDTH" for new values.

    The decoder is taken over whatever the file's outputs are. InputError as the readers.
    """
    scratch = _SCRATCH.fullmatch(model.strip().lower())
    if scratch:
        width = int(scratch[1]) if scratch[1] else PUBLISHED_CHANNELS[0]
        return Start(SCRATCH, NetworkShape.of_width(width).channels, PASTA_PIECEWISE, f"new-{width}")
    if model == "random" or model.startswith("random:"):
        raise InputError(f"--model {model}: to start from new values give none or none:WIDTH")
    loaded = load_model(model)  # says what is wrong with a file, and has its card
    path = _file(model)
    weights = read_weights(path)
    shape, _, _ = match(weights, loaded.card.labels)
    return Start(
        loaded.card.name,
        shape.channels,
        loaded.card.attribute_intensity,
        loaded.digest,
        weights,
        loaded.card,
        shape.attribute_outputs,
    )


def _file(model: str) -> Path:
    """The checkpoint behind a name: the first fold of a model folder."""
    stored = models.find_model(model)
    path = stored.path if stored is not None else Path(model).expanduser()
    return nnunet_folder.read_folder(path).checkpoints[0] if nnunet_folder.is_model_folder(path) else path
