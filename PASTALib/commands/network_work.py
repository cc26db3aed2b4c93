"""What the commands ask of the networks, through the worker: segmentation of a scan, attributes of lesions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .console import Steps

if TYPE_CHECKING:
    import numpy as np

    from ..findings import AttributePrediction
    from ..volume import Volume
    from ..worker import Worker

STARTER, RANDOM = "starter", "random:8"


def region_mask(ct: Volume, organs_path: Path, scheme: str | None, keys: list[str], steps: Steps) -> np.ndarray:
    """Bool (z, y, x): the organs ``keys`` in the organ map; InputError naming the first that it lacks."""
    import numpy as np

    from ..organs import read_organs

    steps.start("Reading the organ map")
    organs = read_organs(organs_path, scheme, ct)
    mask = np.zeros(ct.array.shape, bool)
    for key in keys:
        if not organs.has(key):
            raise InputError(
                f"--region {key}: {organs_path} shows none; choose another organ or segment the whole scan"
            )
        mask |= organs.mask(key)
    return mask


def segment_scan(
    worker: Worker, ct: Volume, model: str, settings: dict, region: np.ndarray | None, steps: Steps
) -> tuple[Volume, dict]:
    """Labels on the scan's grid, and what is told about them: ``names`` (value -> name), ``engine``, ``windows``, ``notes`` …"""
    import numpy as np

    from ..volume import Volume

    arrays = {"ct": ct.array} | ({} if region is None else {"region": region.view(np.uint8)})
    told, result = _run(worker, "segment", ct, model, settings, arrays, "Starting the network", steps)
    labels = Volume(np.array(result["labels"]), ct.affine, {"notes": []})
    return labels, told | {"names": {int(value): name for value, name in told["names"].items()}}


def predict_lesions(
    worker: Worker, ct: Volume, model: str, centres_ras: list, device: str, steps: Steps
) -> list[AttributePrediction]:
    """What the model says of the lesion at each point (RAS mm)."""
    from ..findings import AttributePrediction

    settings = {"centres_ras": [list(map(float, point)) for point in centres_ras], "device": device}
    told, _ = _run(worker, "attributes", ct, model, settings, {"ct": ct.array}, "Predicting attributes", steps)
    return [AttributePrediction.from_json(item) for item in told["predictions"]]


def write_labels(labels: Volume, names: dict[int, str], path: Path) -> None:
    """The label map, and its names beside it unless they are the paper's, which every reader here knows."""
    from ..anatomy.organ_classes import write_names
    from ..networks.card import PASTA_LABELS
    from ..volume import write_volume

    write_volume(labels, path)
    if names != PASTA_LABELS:
        write_names(path, names)


def first_model() -> str:
    """The starter model where there is one, else random weights."""
    from ..models import find_model

    return STARTER if find_model(STARTER) is not None else RANDOM


def _run(worker: Worker, job: str, ct: Volume, model: str, settings: dict, arrays: dict, text: str, steps: Steps):
    update = steps.start(text)
    source = str(Path(model).resolve()) if Path(model).exists() else model

    def progress(step: int, of: int, said: str) -> None:
        said = said[:1].upper() + said[1:]
        update(step, of, said) if of else update(said)

    return worker.run(job, {"affine": ct.affine.tolist(), "model": source, **settings}, arrays, progress)
