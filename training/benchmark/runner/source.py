"""A system of the benchmark as the training recipes want it: its networks with its published weights in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from PASTALib.errors import InputError

from ...runs import replacing
from ..models.interface import CLASSIFICATION, FIXED, SEGMENTATION, Preparation
from ..plan import Entrant


@dataclass(frozen=True)
class CubeMap:
    """HU of a cube -> network input, its axes in the network's order."""

    preparation: Preparation

    @property
    def air(self) -> float:
        """What lies outside the scan becomes."""
        return self.preparation.window.air if self.preparation.normalisation == FIXED else self.preparation.pad

    def __call__(self, hu: np.ndarray) -> np.ndarray:
        return self.preparation.arrange(self.preparation(hu))


@dataclass(frozen=True)
class RivalSource:
    """A ``training.downstream.start.Source``."""

    entrant: Entrant
    preparation: Preparation
    small: bool = False

    @property
    def name(self) -> str:
        """For messages."""
        return self.entrant.name

    @property
    def digest(self) -> str:
        """Of the weights."""
        return "new" if self.entrant.weights is None else file_digest(self.entrant.weights)

    @property
    def intensity(self) -> CubeMap:
        """Of cubes."""
        return CubeMap(self.preparation)

    def classifier(self, outputs: int, settings: Mapping[str, Any], seed: int) -> tuple[nn.Module, str]:
        """Encoder and head."""
        network, taken = self._network(CLASSIFICATION, 1, outputs, settings, seed)
        self._check_sides(network, (settings["side"],) * 3, "side")
        return network, taken

    def segmenter(self, inputs: int, outputs: int, settings: Mapping[str, Any], seed: int) -> tuple[nn.Module, str]:
        """With all its outputs on."""
        network, taken = self._network(SEGMENTATION, inputs, outputs, settings, seed)
        self._check_sides(network, settings["patch"], "patch")
        network.deep_supervision = True
        return network, taken

    def planned(self, settings: Mapping[str, Any], outputs: int) -> dict[str, Any]:
        """Its name stands for the architecture in nnU-Net's plans: the trainer is given the network."""
        architecture = {
            "network_class_name": f"{type(self.entrant.rival).__module__}.{type(self.entrant.rival).__name__}",
            "arch_kwargs": {"n_stages": 1, "strides": [[1, 1, 1]]},
            "_kw_requires_import": [],
        }
        return {**settings, "architecture": architecture}

    def _network(
        self, kind: str, inputs: int, outputs: int, settings: Mapping[str, Any], seed: int
    ) -> tuple[nn.Module, str]:
        rival, weights = self.entrant.rival, self.entrant.weights
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = rival.network(kind, inputs, outputs, small=self.small)
        if weights is None:
            return network, "all values are new"
        return network, rival.load(network, weights, settings.get("stem", "repeat")).summary()

    def _check_sides(self, network: nn.Module, sides, what: str) -> None:
        multiple = getattr(network, "multiple", (1, 1, 1))
        if any(side % step for side, step in zip(sides, multiple)):
            raise InputError(
                f"{self.name}: {what} {' x '.join(map(str, sides))}; its network wants multiples of {' x '.join(map(str, multiple))}"
            )


def keep_network(network: nn.Module, path: Path) -> None:
    """The trained values alone, complete or not at all."""
    with replacing(path) as part:
        torch.save(network.state_dict(), part)


@lru_cache(maxsize=32)
def file_digest(path: Path) -> str:
    """16 hexadecimal digits of a file's SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while part := stream.read(1 << 24):
            digest.update(part)
    return digest.hexdigest()[:16]
