"""A small segmentation network trained for a few minutes on the phantom, for figures that need confident outputs.

Random weights give outputs so close together that rounding decides labels, which no trained network does; agreement between engines and
with nnU-Net is therefore measured with this one. It is no model to use: it knows one phantom's organs. Trained once, kept in bench-output.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from PASTALib import taxonomy
from PASTALib.inference.intensity import PASTA_PIECEWISE
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise
from PASTALib.phantom import make_phantom
from PASTALib.volume import to_canonical

STEPS, SIDE, BATCH, RATE = 400, 64, 2, 2e-3
WIDTH = 16


def quick_network(folder: Path, tell=print) -> PastaNet:
    """The network of ``WIDTH`` with 26 classes, trained now or read from ``folder``."""
    file = folder / f"quick-network-{WIDTH}-{STEPS}.pth"
    network = initialise(PastaNet(NetworkShape.of_width(WIDTH)), 0)
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
        return network.eval()
    scans = []
    for phase in (taxonomy.ENHANCED, taxonomy.PLAIN):
        phantom = make_phantom(2.0, phase)
        image = to_canonical(phantom.ct).volume.array
        labels = to_canonical(phantom.organs.labels, kind="labels").volume.array
        scans.append((image, labels, [np.flatnonzero(labels == value) for value in range(11)]))
    rng = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS, pct_start=0.1)
    network.train().to(memory_format=torch.channels_last_3d)
    begun = time.perf_counter()
    for step in range(STEPS):
        images, labels = zip(*(_crop(scans[(step + n) % 2], rng) for n in range(BATCH)))
        x = torch.from_numpy(np.stack(images))[:, None].contiguous(memory_format=torch.channels_last_3d)
        y = torch.from_numpy(np.stack(labels).astype(np.int64))
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x)
        loss = _loss(logits.float(), y)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 49:
            tell(
                f"quick network: step {step + 1} of {STEPS}, loss {float(loss):.3f}, {time.perf_counter() - begun:.0f} s"
            )
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({key: value.contiguous() for key, value in network.state_dict().items()}, file)
    return network.eval()


def _crop(scan, rng) -> tuple[np.ndarray, np.ndarray]:
    """Network input and labels around a voxel of a class chosen at random."""
    image, labels, voxels = scan
    here = voxels[rng.integers(len(voxels))]
    centre = np.unravel_index(here[rng.integers(len(here))], image.shape)
    low = [int(np.clip(c - SIDE // 2 + rng.integers(-16, 17), 0, n - SIDE)) for c, n in zip(centre, image.shape)]
    box = tuple(slice(a, a + SIDE) for a in low)
    return PASTA_PIECEWISE(image[box]), labels[box]


def _loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and soft Dice over the classes that are there."""
    entropy = torch.nn.functional.cross_entropy(logits, target)
    share = logits.softmax(1)
    truth = torch.nn.functional.one_hot(target, logits.shape[1]).movedim(-1, 1).float()
    both, total = (share * truth).sum((0, 2, 3, 4)), (share + truth).sum((0, 2, 3, 4))
    there = truth.sum((0, 2, 3, 4)) > 0
    dice = (2 * both[there] / (total[there] + 1e-5)).mean()
    return entropy + 1 - dice
