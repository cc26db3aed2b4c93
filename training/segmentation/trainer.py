"""nnU-Net's trainer with PASTA's network. Made directly, never looked up by name; metrics and checkpoints are ours as well as nnU-Net's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from PASTALib.networks.unet import NetworkShape, PastaNet, initialise

from .recipe import autocast, careful_step, guard_thin_layers, make_optimiser, precision_of

LATEST, BEST, FINAL = (f"checkpoint_{name}.pth" for name in ("latest", "best", "final"))


class PastaTrainer(nnUNetTrainer):
    """nnU-Net's training with ``PastaNet``; its own settings are those under "pasta" in the plans (see ``plans.make_plans``).

    Differences to nnU-Net: the network; the optimiser's settings; bfloat16 on processors that have it; steps whose gradient is not finite
    are left out on the CPU too; checkpoints appear complete or not at all and hold plain values only, so that nothing in them is run when
    they are read. ``after_epoch(trainer)`` is called at the end of every epoch and may raise to stop. A resumed training goes on with the
    same weights, optimiser and schedule, but draws other patches: nnU-Net's augmentation keeps no random state.
    """

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.settings = settings = plans["pasta"]
        self.initial_lr = settings["learning_rate"]
        self.weight_decay = settings["weight_decay"]
        self.oversample_foreground_percent = settings["oversampling"]
        self.num_epochs = settings["epochs"]
        self.num_iterations_per_epoch = settings["iterations"]
        self.num_val_iterations_per_epoch = settings["validation_iterations"]
        self.save_every = settings["save_every"]
        self.after_epoch: Callable[[PastaTrainer], None] = lambda trainer: None
        self.skipped = 0

    @staticmethod
    def build_network_architecture(
        plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision=True
    ) -> PastaNet:
        channels = tuple(configuration_manager.network_arch_init_kwargs["features_per_stage"])
        return initialise(
            PastaNet(NetworkShape(channels, num_input_channels, num_output_channels), enable_deep_supervision)
        )

    def plain_network(self) -> PastaNet:
        """The network itself, without what distribution and compiling wrap round it."""
        network = self.network
        if isinstance(network, DistributedDataParallel):
            network = network.module
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    def initialize(self) -> None:
        super().initialize()
        if self.device.type == "cpu":
            guard_thin_layers(self.network)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        self.plain_network().deep_supervision = enabled

    def configure_optimizers(self):
        from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

        optimiser = make_optimiser(self.network.parameters(), self.settings)
        return optimiser, PolyLRScheduler(optimiser, self.initial_lr, self.num_epochs)

    def train_step(self, batch: dict) -> dict:
        if self.device.type == "cuda":
            return super().train_step(batch)
        target = [part.to(self.device) for part in batch["target"]]
        with autocast(self.device, precision_of(self.settings["precision"], self.device)):
            output = self.network(batch["data"].to(self.device))
        loss = self.loss([part.float() for part in output], target)
        self.skipped += not careful_step(loss, self.network, self.optimizer)
        return {"loss": loss.detach().cpu().numpy()}

    def on_epoch_end(self) -> None:
        super().on_epoch_end()
        self.after_epoch(self)

    def print_to_log_file(self, *args, also_print_to_console=True, add_timestamp=True) -> None:
        super().print_to_log_file(*args, also_print_to_console=False, add_timestamp=add_timestamp)

    def plot_network_architecture(self) -> None:
        """Nothing: needs a package that is no longer maintained."""

    def save_checkpoint(self, filename: str) -> None:
        if self.local_rank or self.disable_checkpointing:
            return
        state = {
            "network_weights": self.plain_network().state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": None if self.grad_scaler is None else self.grad_scaler.state_dict(),
            "logging": _plain(self.logger.get_checkpoint()),
            "_best_ema": _plain(self._best_ema),
            "current_epoch": self.current_epoch + 1,
            "init_args": _plain({**self.my_init_kwargs, "device": self.device.type}),
            "trainer_name": type(self).__name__,
            "inference_allowed_mirroring_axes": list(self.inference_allowed_mirroring_axes or ()),
        }
        part = Path(filename).with_name(f".{Path(filename).name}.part")
        torch.save(state, part)
        os.replace(part, filename)

    def load_checkpoint(self, filename_or_checkpoint) -> None:
        """Go on from a checkpoint that this trainer wrote."""
        if not self.was_initialized:
            self.initialize()
        state = torch.load(filename_or_checkpoint, map_location=self.device, weights_only=True)
        self.plain_network().load_state_dict(state["network_weights"])
        self.optimizer.load_state_dict(state["optimizer_state"])
        if self.grad_scaler is not None and state["grad_scaler_state"] is not None:
            self.grad_scaler.load_state_dict(state["grad_scaler_state"])
        self.current_epoch, self._best_ema = state["current_epoch"], state["_best_ema"]
        self.logger.load_checkpoint(state["logging"])
        self.inference_allowed_mirroring_axes = tuple(state["inference_allowed_mirroring_axes"])


def _plain(value):
    """``value`` with numpy's numbers as Python's."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return value
