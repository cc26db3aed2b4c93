"""A small network trained for a minute or two to tell tissues apart, for figures that need confident outputs.

Random weights give outputs so close together that rounding decides labels, which no trained network does; agreement between engines and
with nnU-Net is therefore measured with this one. It has the layers and 26 outputs of a PASTA network and knows six of them, ranges of
smoothed HU. It is no model to use. Trained once, kept in the benchmark's folder.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from PASTALib import taxonomy
from PASTALib.inference.intensity import PASTA_PIECEWISE
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise
from PASTALib.phantom import make_phantom
from PASTALib.volume import to_canonical
from training.segmentation.recipe import careful_step, guard_thin_layers

STEPS, SIDE, BATCH, RATE = 200, 64, 2, 2e-3
WIDTH = 16
TISSUE_HU = (-700, -250, -20, 90, 250)  # limits between the six classes
SMOOTH_VOXELS = 1.5


def quick_network(folder: Path, tell=print, steps: int = STEPS) -> PastaNet:
    """The network of ``WIDTH`` with 26 classes, trained now or read from ``folder``."""
    file = folder / f"quick-network-{WIDTH}-{steps}.pth"
    network = initialise(PastaNet(NetworkShape.of_width(WIDTH)), 0)
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
        return network.eval()
    scans = [to_canonical(make_phantom(2.0, phase).ct).volume.array for phase in (taxonomy.ENHANCED, taxonomy.PLAIN)]
    rng = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps, pct_start=0.1)
    network.train()
    guard_thin_layers(network)
    begun = time.perf_counter()
    for step in range(steps):
        images, labels = zip(*(_crop(scans[(step + n) % 2], rng) for n in range(BATCH)))
        x = torch.from_numpy(np.stack(images))[:, None]
        y = torch.from_numpy(np.stack(labels).astype(np.int64))
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x)
        loss = torch.nn.functional.cross_entropy(logits.float(), y)
        careful_step(loss, network, optimiser)
        schedule.step()
        if step % 50 == 49:
            tell(
                f"quick network: step {step + 1} of {steps}, loss {float(loss.detach()):.3f}, {time.perf_counter() - begun:.0f} s"
            )
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), file)
    return quick_network(folder, tell, steps)  # as it is read, with plain layers


def _crop(image: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray]:
    """Network input and tissue classes of a cube somewhere in the body."""
    while True:
        low = [int(rng.integers(0, n - SIDE + 1)) for n in image.shape]
        hu = image[tuple(slice(a, a + SIDE) for a in low)]
        if np.mean(hu > -500) > 0.3:
            smooth = ndimage.gaussian_filter(hu.astype(np.float32), SMOOTH_VOXELS)
            return PASTA_PIECEWISE(hu), np.digitize(smooth, TISSUE_HU)
