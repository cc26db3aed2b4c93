"""One sliding-window prediction in a process of its own, by nnU-Net's predictor or by ours: seconds and peak memory (JSON on stdout)."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from PASTALib.inference.engines import make_engine
from PASTALib.inference.intensity import PASTA_PIECEWISE
from PASTALib.inference.sliding import label_image
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise

from .hosts import ROOT
from .probe import peak_mb

PATCH = (128, 128, 128)
NNUNET = "nnunet"


def predict(name: str, hu: np.ndarray, network: PastaNet, step: float, skip_air: bool) -> tuple[np.ndarray, dict]:
    """Labels (z, y, x) uint8, and seconds from prepared network and image to labels, windows and peak memory in MB."""
    before = peak_mb()
    if name == NNUNET:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(
            tile_step_size=step,
            use_mirroring=False,
            perform_everything_on_device=False,
            device=torch.device("cpu"),
            allow_tqdm=False,
        )
        predictor.network = network
        predictor.configuration_manager = SimpleNamespace(patch_size=PATCH)
        predictor.label_manager = SimpleNamespace(num_segmentation_heads=network.shape.classes)
        image = torch.from_numpy(PASTA_PIECEWISE(hu))[None]
        begun = time.perf_counter()
        labels = predictor.predict_sliding_window_return_logits(image).argmax(0).to(torch.uint8).numpy()
        told = {}
    else:
        engine = make_engine(name, network, PATCH, torch.device("cpu"))
        begun = time.perf_counter()
        found = label_image(hu, [engine], PASTA_PIECEWISE, PATCH, step=step, skip_air=skip_air)
        labels, told = found.labels, {"windows": found.windows, "skipped": found.skipped}
    seconds = time.perf_counter() - begun
    return labels, {"name": name, "seconds": seconds, "peak_mb": peak_mb(), "libraries_mb": before, **told}


def run(name: str, image: Path, network: Path | int, out: Path, step: float = 0.5, skip_air: bool = False) -> dict:
    """The same in a fresh process; the labels lie in ``out`` afterwards. ``network``: a state dict, or the width of a random one."""
    arguments = [name, "--image", image, "--network", network, "--out", out, "--step", step]
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        __spec__.name,
        *map(str, arguments),
        *(["--skip-air"] if skip_air else []),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m Testing.bench.predictors")
    parser.add_argument("name")
    for option in ("image", "network", "out"):
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("--step", type=float, default=0.5)
    parser.add_argument("--skip-air", action="store_true")
    given = parser.parse_args()
    if given.network.isdigit():
        network = initialise(PastaNet(NetworkShape.of_width(int(given.network))), 0).eval()
    else:
        state = torch.load(given.network, weights_only=True)
        network = PastaNet(NetworkShape.of_width(state["seg_outputs.4.weight"].shape[1])).eval()
        network.load_state_dict(state)
    labels, told = predict(given.name, np.load(given.image), network, given.step, given.skip_air)
    np.save(given.out, labels)
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
