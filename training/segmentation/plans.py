"""nnU-Net's plans for PASTA: our network, 128³ windows at 1 mm, intensity statistics of the set; and its preprocessed cases.

nnU-Net's own planner is not asked: patch, spacing, batch and network are given by the paper, and it would look classes up by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from PASTALib.errors import InputError
from PASTALib.networks.unet import NetworkShape
from PASTALib.progress import Progress, silent

from ..runs import write_json
from .dataset import DATASET

CONFIGURATION, PLANS = "3d_fullres", "pastaPlans"
FINGERPRINT = "dataset_fingerprint.json"
INTENSITY_SAMPLES = int(1e8)  # foreground voxels in all, as nnU-Net draws
FOLDS = 5
SPLIT_SEED = 12345  # nnU-Net's own


def network_shape(settings: Mapping[str, Any], outputs: int) -> NetworkShape:
    """The network of ``settings["width"]`` with ``outputs`` classes. InputError for a missing or impossible width or patch."""
    width, patch = settings.get("width"), settings.get("patch")
    if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= 512:
        raise InputError(
            f"width is {width!r}; wanted channels at full resolution, 1 to 512 (the paper's network has 64)"
        )
    shape = NetworkShape.of_width(width, classes=outputs)
    sides = (
        isinstance(patch, Sequence) and len(patch) == 3 and all(isinstance(side, int) and side > 0 for side in patch)
    )
    if not sides or any(side % shape.multiple for side in patch) or max(patch) == shape.multiple:
        raise InputError(
            f"patch is {patch!r}; wanted three multiples of {shape.multiple} voxels, one of them above {shape.multiple}"
        )
    return shape


def make_plans(settings: Mapping[str, Any], outputs: int, fingerprint: Mapping[str, Any]) -> dict:
    """Plans as nnU-Net version 2 reads them. ``settings``: width, patch, spacing_mm, batch, batch_dice, and all others under "pasta".

    ``settings["architecture"]`` stands for the width where the trainer is given a network that is not PASTA's.
    """
    spacing = [float(settings["spacing_mm"])] * 3
    median = [int(round(side)) for side in np.median(np.array(fingerprint["shapes_after_crop"], float), axis=0)]
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": f"{PLANS}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": int(settings["batch"]),
        "patch_size": list(settings["patch"]),
        "median_image_size_in_voxels": median,
        "spacing": spacing,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling | {"order": 1},
        "architecture": settings.get("architecture") or _architecture(network_shape(settings, outputs)),
        "batch_dice": bool(settings["batch_dice"]),
    }
    return {
        "dataset_name": DATASET,
        "plans_name": PLANS,
        "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": median,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "PASTA",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": fingerprint["foreground_intensity_properties_per_channel"],
        "pasta": dict(settings),
    }


def _architecture(shape: NetworkShape) -> dict:
    return {
        "network_class_name": "PASTALib.networks.unet.PastaNet",
        "arch_kwargs": {
            "n_stages": shape.levels,
            "features_per_stage": list(shape.channels),
            "kernel_sizes": [[3, 3, 3]] * shape.levels,
            # targets of deep supervision follow from these
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (shape.levels - 1),
        },
        "_kw_requires_import": [],
    }


def write_split(folder: Path, names: Sequence[str]) -> list[dict]:
    """nnU-Net's split into five folds by case, kept in ``splits_final.json``; fewer folds where there are fewer cases.

    A single case is both trained on and validated on, which only a test should do.
    """
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    names = sorted(names)
    splits = [{"train": names, "val": names}]
    if len(names) > 1:
        splits = generate_crossval_split(names, seed=SPLIT_SEED, n_splits=min(FOLDS, len(names)))
        splits = [{key: [str(name) for name in part] for key, part in fold.items()} for fold in splits]
    write_json(folder / "splits_final.json", splits)
    return splits


def fingerprint(
    data: Mapping, folder: Path, *, most: int = INTENSITY_SAMPLES, workers: int = 1, progress: Progress = silent
) -> dict:
    """nnU-Net's fingerprint of the set (shapes, spacing, foreground intensities), kept in ``folder``; ``most`` voxels are drawn of a scan."""
    file = folder / FINGERPRINT
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.get("cases") == len(data["dataset"]):
            return found
    samples = max(1, min(most, INTENSITY_SAMPLES // len(data["dataset"])))
    jobs = {name: (entry["images"], entry["label"], samples) for name, entry in data["dataset"].items()}
    results = _in_order(_analyse, jobs, workers, progress, "reading intensities")
    values = np.concatenate([found[2] for found in results])
    if not len(values):
        raise InputError("the set holds no labelled voxel; wanted organ and lesion labels from 1 to 25")
    low, median, high = (float(v) for v in np.percentile(values, (0.5, 50.0, 99.5)))
    properties = {
        "mean": float(values.mean(dtype=float)),
        "median": median,
        "std": float(values.std(dtype=float)),
        "min": float(values.min()),
        "max": float(values.max()),
        "percentile_99_5": high,
        "percentile_00_5": low,
    }
    result = {
        "cases": len(results),
        "spacings": [found[1] for found in results],
        "shapes_after_crop": [found[0] for found in results],
        "foreground_intensity_properties_per_channel": {"0": properties},
        "median_relative_size_after_cropping": float(np.median([found[3] for found in results])),
    }
    write_json(file, result)
    return result


def preprocess(plans: dict, data: dict, folder: Path, *, workers: int = 1, progress: Progress = silent) -> Path:
    """nnU-Net's preprocessed cases in ``folder/<data identifier>``; those that an interrupted run finished are kept."""
    target = folder / plans["configurations"][CONFIGURATION]["data_identifier"]
    target.mkdir(parents=True, exist_ok=True)
    jobs = {
        name: (str(target / name), entry["images"], entry["label"], plans, data)
        for name, entry in data["dataset"].items()
        if not (target / f"{name}.pkl").is_file()  # nnU-Net writes it last
    }
    _in_order(_preprocess, jobs, workers, progress, "preprocessing")
    return target


def _analyse(images: list[str], label: str, samples: int) -> tuple:
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    shape, spacing, values, _, share = DatasetFingerprintExtractor.analyze_case(images, label, SimpleITKIO, samples)
    return [int(n) for n in shape], [float(mm) for mm in spacing], np.asarray(values[0], np.float32), float(share)


def _preprocess(stem: str, images: list[str], label: str, plans: dict, data: dict) -> None:
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    for ending in (".b2nd", "_seg.b2nd"):  # left by a stop in the middle; blosc2 does not overwrite
        Path(stem + ending).unlink(missing_ok=True)
    manager = PlansManager(plans)
    described = {key: value for key, value in data.items() if key != "dataset"}
    DefaultPreprocessor(verbose=False).run_case_save(
        stem, images, label, manager, manager.get_configuration(CONFIGURATION), described
    )


def _in_order(work: Callable, jobs: Mapping[str, tuple], workers: int, progress: Progress, text: str) -> list:
    """Results of ``work(*arguments)`` in the order of ``jobs``, in this process or in several."""
    done: dict[str, Any] = {}
    if workers <= 1 or len(jobs) < 2:
        for number, (name, arguments) in enumerate(jobs.items()):
            progress(number, len(jobs), f"{text}: {name}")
            done[name] = work(*arguments)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(work, *arguments): name for name, arguments in jobs.items()}
            try:
                for number, future in enumerate(as_completed(running)):
                    progress(number, len(jobs), f"{text}: {running[future]}")
                    done[running[future]] = future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [done[name] for name in jobs]
