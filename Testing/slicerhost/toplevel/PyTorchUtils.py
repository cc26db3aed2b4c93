"""The extension PyTorch's ``PyTorchUtils``: records what would be installed."""

from __future__ import annotations

import importlib.util

from Testing.slicerhost.record import RECORD


class PyTorchUtilsLogic:
    """A test queues the answers "PyTorchUtils.torchInstalled" and "PyTorchUtils.installTorch"."""

    def torchInstalled(self) -> bool:
        default = importlib.util.find_spec("torch") is not None
        return RECORD.take_answer("PyTorchUtils.torchInstalled", default)

    def installTorch(
        self,
        askConfirmation=False,
        forceComputationBackend=None,
        torchVersionRequirement=None,
        torchvisionVersionRequirement=None,
    ):
        """Torch, or None when the user refused."""
        RECORD.call(
            "PyTorchUtils.installTorch",
            askConfirmation=askConfirmation,
            forceComputationBackend=forceComputationBackend,
            torchVersionRequirement=torchVersionRequirement,
        )
        return RECORD.take_answer("PyTorchUtils.installTorch", None)

    @property
    def torch(self):
        import torch

        return torch
