"""Section networks: seconds per window and scan, nnU-Net's predictor beside ours, what regions and skipped air gain, the worker."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from PASTALib.inference import engine_choice
from PASTALib.inference.engines import EXACT, available, make_engine
from PASTALib.inference.intensity import PASTA_PIECEWISE
from PASTALib.inference.segmentation import CPU_STEP, segment
from PASTALib.inference.sliding import label_image
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise
from PASTALib.volume import Volume, to_canonical

from . import predictors
from .hosts import load_volumes, phantom_host, real_hosts
from .options import Options
from .predictors import NNUNET, PATCH
from .quick_network import STEPS, WIDTH, quick_network
from .tables import Check, Section, quantile, table

WIDTHS = (16, 32, 64)
PLANES = 192  # of the real torso, at 1 mm: 40 windows at half-overlap
REPEATS = 2
CPU = torch.device("cpu")


def run(options: Options) -> Section:
    """Everything on this machine's CPU; pairs that are compared alternate, each in a process of its own, and the better run counts."""
    torch.set_num_threads(max(1, options.workers))
    section = Section(f"networks: PASTA U-Net on the CPU, {torch.get_num_threads()} threads, torch {torch.__version__}")
    network = quick_network(options.out, section.text.append, STEPS if options.large else 3)
    rows = _windows(section, options)
    section.text.append(table(("width", "engine", "s per 128³ window", "÷ torch-fp32"), rows))
    _nnunet(section, options, network)
    _whole_scan(section, options, network)
    _whole_body(section, options)
    _worker(section)
    return section


def _windows(section: Section, options: Options) -> list[tuple]:
    """Seconds per window for every width and engine."""
    rows = []
    for width in WIDTHS if options.large else WIDTHS[:1]:
        network = initialise(PastaNet(NetworkShape.of_width(width)), 0).eval()
        seconds = {}
        for name in available(CPU):
            engine = make_engine(name, network, PATCH, CPU)
            seconds[name] = engine_choice.measure(engine, PATCH, runs=3 if width < 64 and options.large else 1)
            rows.append((width, name, seconds[name], seconds[name] / seconds["torch-fp32"]))
            del engine
        section.data.setdefault("windows", {})[width] = seconds
    return rows


def _fast(section: Section) -> tuple[str, str]:
    """Quickest engine, and quickest in torch's fp32, by what was just measured at the starter's width."""
    seconds = section.data["windows"][WIDTH]
    return min(seconds, key=seconds.get), "torch-fp32"


def _nnunet(section: Section, options: Options, network: PastaNet) -> None:
    hosts, missing = real_hosts(options.out)
    section.text += missing
    host = next((h for h in hosts if h.name == "S01"), phantom_host(options.out, options.phantom_mm))
    hu = to_canonical(load_volumes(host)[0]).volume.array
    hu = np.ascontiguousarray(hu[-PLANES:]) if options.large else _middle(hu, 128)
    repeats = REPEATS if options.large else 1
    fast, plain = _fast(section)
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        folder = Path(folder)
        np.save(folder / "image.npy", hu)
        torch.save(network.state_dict(), folder / "network.pth")
        runs: dict[str, list[dict]] = {}
        for _ in range(repeats):
            for name in (NNUNET, plain, fast):
                told = predictors.run(name, folder / "image.npy", folder / "network.pth", folder / f"{name}.npy")
                runs.setdefault(name, []).append(told)
        labels = {name: np.load(folder / f"{name}.npy") for name in runs}
    best = {name: min(one["seconds"] for one in many) for name, many in runs.items()}
    peak = {name: max(one["peak_mb"] for one in many) for name, many in runs.items()}
    agree = {name: 100 * float((labels[name] == labels[NNUNET]).mean()) for name in runs}
    section.text.append(
        f"nnU-Net's predictor beside ours: {host.name} at 1 mm, {'×'.join(map(str, hu.shape[::-1]))} voxels, width {WIDTH}, 26 classes, step 0.5, "
        f"{runs[plain][0]['windows']} windows, no mirroring, no window skipped, {repeats} runs each, the better one counts\n\n"
        + table(
            ("predictor", "s", "÷ nnU-Net", "peak MB", "same label %"),
            [(n, best[n], best[n] / best[NNUNET], peak[n], f"{agree[n]:.3f}") for n in runs],
        )
    )
    section.checks += [
        Check("wall time ÷ nnU-Net's, torch fp32", best[plain] / best[NNUNET], 0, 0.77, "", repeats),
        Check(f"wall time ÷ nnU-Net's, fast ({fast})", best[fast] / best[NNUNET], 0, 0.35, "", repeats),
        Check("voxels labelled as by nnU-Net, torch fp32", agree[plain], 99.9, 100, "%", int(hu.size)),
        Check(f"voxels labelled as by nnU-Net, fast ({fast})", agree[fast], 99.5, 100, "%", int(hu.size)),
        Check("peak memory ÷ nnU-Net's, torch fp32", peak[plain] / peak[NNUNET], 0, 1, "", repeats),
        Check(f"peak memory ÷ nnU-Net's, fast ({fast})", peak[fast] / peak[NNUNET], 0, 1, "", repeats),
    ]
    section.data["nnunet"] = {"runs": runs, "agreement": agree}


def _whole_scan(section: Section, options: Options, network: PastaNet) -> None:
    """A 280 mm cube of the phantom from HU to labels, at each step, with the air left out, and for one organ's region."""
    from types import SimpleNamespace

    from PASTALib.networks.card import PASTA_LABELS, ModelCard

    volume, organs = load_volumes(phantom_host(options.out, options.phantom_mm))
    canonical = to_canonical(volume)
    side = 280 if options.large else PATCH[0]  # small: a single window
    cube = _middle(canonical.volume.array, side)
    fast, _ = _fast(section)
    engine = make_engine(fast, network, PATCH, CPU)
    rows, found = [], {}
    ways = ((0.5, False), (0.5, True), (CPU_STEP, False), (CPU_STEP, True))
    for step, skip in ways if options.large else ways[::3]:
        begun = time.perf_counter()
        result = label_image(cube, [engine], PASTA_PIECEWISE, PATCH, step=step, skip_air=skip)
        spent = time.perf_counter() - begun
        found[step, skip] = result.labels
        same = 100 * float((result.labels == found[0.5, False]).mean())
        rows.append((f"{side}³, step {step:g}{', air skipped' if skip else ''}", result.windows, spent, f"{same:.2f}"))
        if (step, skip) == (CPU_STEP, True):
            section.checks.append(
                Check(f"whole {side}³ scan, width {WIDTH}, {fast}, default step", spent, 0, 20, "s", 1)
            )
    model = SimpleNamespace(
        card=ModelCard("bench", PASTA_LABELS),
        networks=[network],
        segments=True,
        predicts_attributes=False,
        digest="",
        mirror_axes=(),
    )
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    scan = Volume(cube, affine)
    kidney = _middle(to_canonical(organs.labels, kind="labels").volume.array, side) == 8
    for name, region in (("whole command, HU to labels on the scan's grid", None), ("the same, kidneys only", kidney)):
        if region is not None and not region.any():
            continue
        begun = time.perf_counter()
        result = segment(scan, model, region=region, engine=fast)
        rows.append((name, result.windows, time.perf_counter() - begun, "–"))
    section.text.append(table((f"phantom, width {WIDTH}, {fast}", "windows", "s", "same label as step 0.5 %"), rows))
    exact = make_engine("torch-fp32", network, PATCH, CPU)
    both = [label_image(cube[:160], [e], PASTA_PIECEWISE, PATCH, step=1.0).labels for e in (exact, engine)]
    if fast not in EXACT:
        section.checks.append(
            Check(
                f"voxels labelled alike by {fast} and torch-fp32",
                100 * float((both[0] == both[1]).mean()),
                99.5,
                100,
                "%",
                int(both[0].size),
            )
        )
    section.data["scan"] = rows


def _whole_body(section: Section, options: Options) -> None:
    """Peak memory of the published width on 512 × 512 × 900 voxels of 1 mm. Nearly all of it air that is skipped: the buffers are the same."""
    width = 64 if options.large else 16
    planes, side = (900, 512) if options.large else (160, 160)
    hu = np.full((planes, side, side), -1000, np.int16)
    hu[16:144, 16:144, 16:144] = 40
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        np.save(Path(folder) / "image.npy", hu)
        told = predictors.run("torch-fp32", Path(folder) / "image.npy", width, Path(folder) / "out.npy", 1.0, True)
    name = f"peak memory, width {width}, fp32, {side}×{side}×{planes} voxels of 1 mm"
    section.checks.append(Check(name, told["peak_mb"] / 1024, 0, 16, "GB", 1))


def _middle(array: np.ndarray, side: int) -> np.ndarray:
    """The cube of ``side`` in the middle of an image, padded with its least value where the image is smaller."""
    lack = [max(0, side - n) for n in array.shape]
    array = np.pad(array, [(n // 2, n - n // 2) for n in lack], constant_values=array.min())
    low = [(n - side) // 2 for n in array.shape]
    return np.ascontiguousarray(array[tuple(slice(a, a + side) for a in low)])


def _worker(section: Section) -> None:
    from .worker_figures import measure_worker

    figures = measure_worker()
    section.data["worker"] = figures
    section.checks += [
        Check("worker: cancel", quantile(figures["cancel_s"], 1.0), 0, 1.0, "s", len(figures["cancel_s"])),
        Check(
            "worker: start of a second job, models warm",
            quantile(figures["warm_start_s"], 1.0),
            0,
            0.2,
            "s",
            len(figures["warm_start_s"]),
        ),
    ]
