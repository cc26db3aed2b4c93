"""The floor under every table: always the majority class, always the empty mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from PASTALib.errors import InputError

from .interface import CT, KINDS, PAPER, SEGMENTATION, Preparation, Rival, counts
from .weights import Coverage
from .wrap import paper_preparation


class Majority(nn.Module):
    """Logits of the classes' frequencies, whatever the image; of several groups one after the other."""

    multiple = (1, 1, 1)

    def __init__(self, classes: int):
        super().__init__()
        self.register_buffer("logits", torch.zeros(classes))

    def fit(self, counted: Sequence[int] | torch.Tensor) -> Majority:
        """``counted``: training cases of every class."""
        counted = torch.as_tensor(counted, dtype=torch.float32)
        if counted.shape != self.logits.shape or bool((counted < 0).any()):
            raise InputError(f"counts {counted.tolist()}; wanted {len(self.logits)} numbers of cases")
        self.logits.copy_(torch.log(counted.clamp_min(1e-3)))
        return self

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 0): it looks at nothing."""
        return x.new_zeros(len(x), 0)

    def attributes(self, x: torch.Tensor) -> torch.Tensor:
        """(B, classes)."""
        return self.logits.to(x.dtype).expand(len(x), -1)

    forward = attributes


class EmptyMask(nn.Module):
    """Background everywhere, of any image; in training mode a list of one, as all segmenting networks."""

    output_strides = ((1, 1, 1),)
    multiple = (1, 1, 1)
    deep_supervision: bool | None = None

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes

    def fit(self, counted: Sequence[int] | torch.Tensor) -> EmptyMask:
        """Nothing is learned."""
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        logits = x.new_zeros(len(x), self.classes, *x.shape[2:])
        logits[:, 0] = 10.0
        every = self.training if self.deep_supervision is None else self.deep_supervision
        return [logits] if every else logits


@dataclass(frozen=True)
class Trivial(Rival):
    """Not trained: a network's ``fit`` takes the training cases of each class."""

    key: str = "trivial"
    title: str = "Majority class / empty mask"
    kinds: frozenset[str] = frozenset(KINDS)
    licence: str = "MIT (this program)"
    citation: str = ""
    weights_note: str = "none"
    parameters: Mapping[str, int] = counts(segmentation=0, classification=0)
    needs_weights: bool = False
    trained: bool = field(default=False, kw_only=True)

    def network(self, kind: str, in_channels: int, classes: int, *, small: bool = False) -> nn.Module:
        self.check_kind(kind)
        return EmptyMask(classes) if kind == SEGMENTATION else Majority(classes)

    def published(self, kind: str) -> nn.Module:
        return self.network(kind, 1, 2)

    def load(self, network: nn.Module, path: str | Path, stem: str = "repeat") -> Coverage:
        raise InputError(f"{path}: {self.title} has no weights; give none")

    def prepare(self, mode: str = PAPER, kind: str = SEGMENTATION, modality: str = CT) -> Preparation:
        self.check_preparation(mode, kind, modality)
        return paper_preparation(kind, modality)
