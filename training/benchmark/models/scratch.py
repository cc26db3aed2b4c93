"""The same network as PASTA's from new values: "PASTA without pretraining" and "UNet" in the paper's tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from PASTALib.errors import InputError

from .pasta import Pasta
from .weights import Coverage


@dataclass(frozen=True)
class Scratch(Pasta):
    """Nothing is loaded, by design."""

    key: str = "scratch"
    title: str = "U-Net without pretraining"
    licence: str = "MIT (this program)"
    weights_note: str = "none: it starts from new values"
    needs_weights: bool = False

    def load(self, network: nn.Module, path: str | Path, stem: str = "repeat") -> Coverage:
        raise InputError(f"{path}: {self.title} starts from new values; give no weights, or choose pasta")
