"""PASTA: its U-Net for masks, its encoder and head for classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from PASTALib.errors import InputError
from PASTALib.networks.checkpoint import read_weights
from PASTALib.networks.matching import STEM, Entry, starting_weights
from PASTALib.networks.names import is_nnunet
from PASTALib.networks.unet import ATTRIBUTE_OUTPUTS, PUBLISHED_CHANNELS, NetworkShape, PastaNet, initialise

from .interface import CLASSIFICATION, CT, KINDS, PAPER, SEGMENTATION, Preparation, Rival, counts
from .weights import STEMS, Coverage
from .wrap import PastaClassifier, Segmenter, paper_preparation, pasta_segmenter

SMALL, SMALL_ENCODER = (4, 8, 16, 32), (4, 8, 16, 32, 32)


@dataclass(frozen=True)
class Pasta(Rival):
    """``width``: channels at full resolution, for weights of a narrower network (the starter weights)."""

    key: str = "pasta"
    title: str = "PASTA"
    kinds: frozenset[str] = frozenset(KINDS)
    licence: str = "MIT (code); not stated for the weights"
    citation: str = "Lei et al., arXiv 2502.06171 (2025)"
    weights_note: str = "PASTA_final.pth, or another checkpoint that `pasta models list` names"
    parameters: Mapping[str, int] = counts(segmentation=240_313_664, classification=240_947_341)
    needs_weights: bool = True
    width: str = str(PUBLISHED_CHANNELS[0])

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        return {"width": ()}

    def check_options(self) -> None:
        super().check_options()
        self._channels()

    def network(self, kind: str, in_channels: int, classes: int, *, small: bool = False) -> nn.Module:
        self.check_kind(kind)
        if kind == SEGMENTATION:
            return pasta_segmenter(NetworkShape(SMALL if small else self._channels(), in_channels, classes))
        channels = SMALL_ENCODER if small else self._channels()
        return initialise(PastaClassifier(NetworkShape(channels, in_channels, 0, classes)))

    def published(self, kind: str) -> nn.Module:
        self.check_kind(kind)
        if (
            kind == CLASSIFICATION
        ):  # the published file allots as many segmentation outputs as the head has, never trained
            return PastaNet(NetworkShape(classes=ATTRIBUTE_OUTPUTS, attribute_outputs=ATTRIBUTE_OUTPUTS))
        return PastaNet()

    def load(self, network: nn.Module, path: str | Path, stem: str = "repeat") -> Coverage:
        """As ``Rival.load``; of the head the layers whose shapes agree are taken over too. nnU-Net's names are read as well."""
        if stem not in STEMS:
            raise InputError(f"stem {stem!r}; wanted {' or '.join(STEMS)}")
        bare: PastaNet = network.body if isinstance(network, Segmenter) else network
        weights = read_weights(path)
        if STEM not in weights.tensors and not is_nnunet(weights.tensors):
            some = ", ".join(list(weights.tensors)[:3])
            raise InputError(
                f"{path}: not weights of {self.title}: {len(weights.tensors)} tensors named {some} …; wanted {self.weights_note}"
            )
        state, taken = starting_weights(weights, bare.shape, stem)
        for key, value in state.items():
            if not key.startswith("seg_outputs.") and not torch.isfinite(value).all():
                raise InputError(f"{path}: {key} holds values that are not finite; the file is damaged")
        kept = {key: value for key, value in state.items() if not key.startswith("seg_outputs.")}
        bare.load_state_dict(kept, strict=False)
        own = bare.state_dict()
        report = Coverage(taken.source, weights.wrapper, weights.prefix)
        for entry in taken.matched:
            dropped = entry.key not in kept
            where = report.unused if dropped else report.matched
            where.append(Entry(entry.key, entry.shape, "outputs are new") if dropped else entry)
        for entry in taken.dropped:
            compared = entry.key in own and not entry.key.startswith("seg_outputs.")
            (report.mismatched if compared else report.unused).append(entry)
        known = {entry.key for entry in (*report.matched, *report.mismatched)}
        report.missing = [
            Entry(key, tuple(value.shape), "keeps its new values") for key, value in own.items() if key not in known
        ]
        return report

    def prepare(self, mode: str = PAPER, kind: str = SEGMENTATION, modality: str = CT) -> Preparation:
        self.check_preparation(mode, kind, modality)
        return paper_preparation(kind, modality)

    def _channels(self) -> tuple[int, ...]:
        if not (self.width.isascii() and self.width.isdigit() and 1 <= int(self.width) <= 512):
            raise InputError(f"{self.key}: width={self.width}; wanted the channels at full resolution, 1 to 512")
        return NetworkShape.of_width(int(self.width)).channels
