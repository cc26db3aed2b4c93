"""Training in several processes, one per card, as torchrun starts them."""

from __future__ import annotations

import os

import torch
from torch import distributed

from PASTALib.inference.devices import cpu_has_bf16, pick_device


class Group:
    """The processes that train together: this one, or those that torchrun started (read from its environment variables).

    ``device`` as everywhere; with several processes "cuda" and "auto" give each its own card. ``size`` and ``rank`` as torch counts them.
    """

    def __init__(self, device: str):
        self.size, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        picked = pick_device(device)
        if self.size > 1 and picked.type == "cuda":
            picked = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
            torch.cuda.set_device(picked)
        self.device = picked
        if self.size > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if picked.type == "cuda" else "gloo")

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def has_bf16(self) -> bool:
        """Whether the device computes in bfloat16 faster than in float32."""
        if self.device.type == "cuda":
            return torch.cuda.is_bf16_supported()
        return self.device.type == "cpu" and cpu_has_bf16()

    def agree(self, stop: bool) -> bool:
        """Whether any process wants to stop: all must stop at the same step."""
        if self.size == 1:
            return stop
        flag = torch.tensor([float(stop)], device=self.device)
        distributed.all_reduce(flag)
        return bool(flag.item())

    def close(self) -> None:
        """Wait for the others and part."""
        if self.size > 1 and distributed.is_initialized():
            distributed.barrier()
            distributed.destroy_process_group()
