"""Several processes on one training: which one this is (as torchrun tells), and what they do together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from PASTALib.errors import InputError
from PASTALib.inference.devices import pick_device


@dataclass(frozen=True)
class Ranks:
    """This process is number ``rank`` of ``world`` and computes on ``device``."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.world > 1

    def share(self, total: int, what: str) -> int:
        """This process's part of ``total``; InputError when it cannot be shared evenly."""
        if total < 1 or total % self.world:
            raise InputError(f"{what} {total} cannot be shared by {self.world} processes; choose a multiple of it")
        return total // self.world

    def wait(self) -> None:
        """Until all have come here."""
        if self.several:
            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The processes that torchrun started, connected for as long as the block lasts; this one alone without torchrun."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield Ranks(0, 1, pick_device(device))
        return
    local, here = int(os.environ.get("LOCAL_RANK", 0)), pick_device(device)
    if here.type == "cuda":
        cards = torch.cuda.device_count()
        if local >= cards:
            raise InputError(
                f"process {local} of this machine has no card of its own, there are {cards}; start {cards}"
            )
        here = torch.device("cuda", local)
        torch.cuda.set_device(here)
    distributed.init_process_group("nccl" if here.type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), world, here)
    finally:
        distributed.destroy_process_group()
