"""What a worker can be asked to do. Heavy packages are imported when a job runs, so that the worker starts at once.

A job takes ``params`` (JSON), ``arrays`` (read-only), ``progress`` (raises Cancelled when the client asks for that) and what stays warm;
it returns a JSON-ready dictionary and arrays. ``affine`` is the scan's: voxel (i, j, k) to RAS mm, 4x4.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..progress import Progress
from .arrays import write_array
from .warm import WarmState

if TYPE_CHECKING:
    from ..volume import Volume

Arrays = dict[str, np.ndarray]
Job = Callable[[dict, Arrays, Progress, WarmState], "tuple[dict, Arrays]"]

_SCAN = ("affine", "meta")
_SEGMENT = ("device", "engine", "step", "mirroring", "skip_air")
_ATTRIBUTES = ("device", "test_time_flips")
_FEATURES = ("device",)
_FINDINGS = ("mask_name", "created", "structure_names", "scheme", "min_size_mm", "measure", "most")
_ORGANS = ("device", "fast", "roi_subset")
_REFINE = ("noise_hu", "seed")


def segment(params: dict, arrays: Arrays, progress: Progress, state: WarmState) -> tuple[dict, Arrays]:
    """Labels of a whole scan, or of a region of it.

    params: affine, model, and any of device, engine, step, mirroring, skip_air (as ``inference.segmentation.segment`` takes them), meta.
    arrays: ct int16 (z, y, x); region uint8 of the same shape, optional. Returns labels uint8 (z, y, x), and all else that is known of
    them: names (value as text -> key), model, engine, device, step, windows, skipped, seconds, trained, notes.
    """
    given = _settings("segment", params, ("model", *_SCAN), _SEGMENT)
    ct = _scan("segment", params, arrays)
    region = arrays.get("region")
    from ..inference.segmentation import segment as segment_scan

    model = warm_model(_need("segment", params, "model"), progress, state)
    found = segment_scan(ct, model, region=None if region is None else region != 0, progress=progress, **given)
    told = {key: value for key, value in vars(found).items() if key != "labels"}
    return told | {"names": {str(value): name for value, name in found.names.items()}}, {"labels": found.labels.array}


def attributes(params: dict, arrays: Arrays, progress: Progress, state: WarmState) -> tuple[dict, Arrays]:
    """What a model says of the lesions at some points.

    params: affine, model, centres_ras (n points in RAS mm), device, test_time_flips. arrays: ct. Returns predictions: n dictionaries that
    ``findings.model.AttributePrediction.from_json`` reads; model, trained, digest, notes.
    """
    given = _settings("attributes", params, ("model", "centres_ras", *_SCAN), _ATTRIBUTES)
    ct, centres = _scan("attributes", params, arrays), _centres("attributes", params)
    from ..inference.attributes import predict_attributes

    model = warm_model(_need("attributes", params, "model"), progress, state)
    found = predict_attributes(ct, centres, model, progress=progress, **given)
    card = model.card
    told = {
        "model": card.name,
        "trained": card.trained,
        "digest": getattr(model, "digest", ""),
        "notes": list(card.notes),
    }
    return {"predictions": [item.to_json() for item in found], **told}, {}


def features(params: dict, arrays: Arrays, progress: Progress, state: WarmState) -> tuple[dict, Arrays]:
    """Feature vectors at some points.

    params: affine, model, centres_ras (n points in RAS mm), device. arrays: ct. Returns features float32 (n, channels); model, trained, notes.
    """
    given = _settings("features", params, ("model", "centres_ras", *_SCAN), _FEATURES)
    ct, centres = _scan("features", params, arrays), _centres("features", params)
    from ..inference.features import extract_features

    model = warm_model(_need("features", params, "model"), progress, state)
    vectors = extract_features(ct, centres, model, progress=progress, **given)
    card = model.card
    return {"model": card.name, "trained": card.trained, "notes": list(card.notes)}, {"features": vectors}


def findings(params: dict, arrays: Arrays, progress: Progress, state: WarmState) -> tuple[dict, Arrays]:
    """The lesions in a mask, and what image and mask tell of each; needs no torch.

    params: affine, types (label value as text -> lesion type); meta, mask_name, created, structure_names (value as text -> class), scheme,
    min_size_mm, measure (False: place and figures only, which is quicker), most (how many lesions; the largest are kept). arrays: ct; mask
    uint8 or uint16; organs uint8 (PASTA's values) and structures uint8 if wanted, all (z, y, x). Returns document (a report document's JSON)
    and left_out (how many lesions beyond ``most``); masks uint8: the findings' masks in their boxes, one after the other.
    """
    given = _settings("findings", params, ("types", *_SCAN), _FINDINGS)
    ct, types = _scan("findings", params, arrays), _need("findings", params, "types")
    labels = arrays.get("mask")
    if labels is None or labels.shape != ct.array.shape:
        found = "none" if labels is None else labels.shape
        raise InputError(f"findings: wanted the mask with the scan's shape {ct.array.shape}; found {found}")
    from .find import find

    return find(ct, labels, {int(value): key for value, key in types.items()}, arrays, given, progress)


def organs(params: dict, arrays: Arrays, progress: Progress, state: WarmState) -> tuple[dict, Arrays]:
    """The organ map of a scan by TotalSegmentator.

    params: affine, device, fast, roi_subset. arrays: ct. Returns labels (PASTA's values) and structures (by structure_names), both uint8
    (z, y, x); structure_names (value as text -> class), scheme, notes.
    """
    given = _settings("organs", params, _SCAN, _ORGANS)
    ct = _scan("organs", params, arrays)
    from ..organs import run_totalsegmentator

    found = run_totalsegmentator(
        ct, progress=lambda fraction, text: progress(round(100 * fraction), 100, text), **given
    )
    maps = {"labels": found.labels.array}
    if found.structures is not None:
        maps["structures"] = found.structures.array
    names = {str(value): name for value, name in found.structure_names.items()}
    return {"structure_names": names, "scheme": found.scheme, "notes": list(found.notes)}, maps


def refine(params: dict, arrays: Arrays, progress: Progress, state: WarmState) -> tuple[dict, Arrays]:
    """A region of a scan after a few reverse steps of a denoising network; see ``refinement.refine.Refiner``.

    params: model (a checkpoint), plan (fields of ``RefinePlan``), order, noise_hu, seed, device, engine; live: the client's folder, where
    the region after step n is put as live-n.npy before that step is told. arrays: hu (z, y, x); label, organ, changed uint8 of the same
    shape; noise_power (``NoiseModel.power``) if wanted. Returns hu float32; model, trained, engine, device.
    """
    given = _settings("refine", params, ("model", "plan", "order", "live", "device", "engine"), _REFINE)
    missing = [name for name in ("hu", "label", "organ", "changed") if name not in arrays]
    if missing:
        raise InputError(f"refine: array {missing[0]} is missing")
    source = str(_need("refine", params, "model"))
    where = {key: params[key] for key in ("device", "engine") if key in params}
    from ..refinement.plan import RefinePlan
    from ..refinement.refine import Refiner
    from ..refinement.remote import LIVE

    plan = _plan(RefinePlan, params.get("plan") or {})
    key = ("denoiser", source, _stamp(source), *sorted(where.items()))
    if key not in state:
        progress(0, plan.steps, "loading the denoising network")
    refiner = state.get(key, lambda: Refiner(source, **where))

    def show(step: int, of: int, hu: np.ndarray) -> None:
        write_array(Path(params["live"]) / LIVE.format(step=step), "live", hu)

    masks = [arrays[name] != 0 for name in ("label", "organ", "changed")]
    on_step = show if params.get("live") else None
    order = tuple(params.get("order") or (0, 1, 2))
    given["noise_power"] = arrays.get("noise_power")
    hu = refiner(arrays["hu"], *masks, plan, order=order, progress=progress, on_step=on_step, **given)
    told = {
        "model": refiner.name,
        "trained": refiner.model.trained,
        "engine": refiner.engine,
        "device": str(refiner.device),
    }
    return told, {"hu": hu}


def _plan(kind, fields: dict):
    try:
        return kind(**fields)
    except TypeError as error:
        raise InputError(f"refine: plan {fields!r} is not understood ({error})") from None


JOBS: dict[str, Job] = {
    "segment": segment,
    "attributes": attributes,
    "features": features,
    "findings": findings,
    "organs": organs,
    "refine": refine,
}


def warm_model(source: str, progress: Progress, state: WarmState):
    """``networks.load.load_model(source)``, or the same model from an earlier job as long as its files are what they were."""
    key = ("model", source, _stamp(source))
    if key not in state:
        progress(0, 0, "loading the model")

    def load():
        from ..networks.load import load_model

        return load_model(source)

    return state.get(key, load)


def _stamp(source: str) -> Hashable:
    """Changes when the files behind a model do: path, time and size of each."""
    from ..models import find_model

    stored = find_model(source)
    path = stored.path if stored is not None else Path(source).expanduser()
    files = [path] if path.is_file() else sorted([*path.glob("*.*"), *path.glob("*/*.pth")])
    return tuple(
        (str(file), about.st_mtime_ns, about.st_size) for file, about in ((f, f.stat()) for f in files if f.is_file())
    )


def _settings(job: str, params: dict, others: Sequence[str], known: Sequence[str]) -> dict:
    """Those of ``params`` to pass on; InputError for one that the job does not know, which would be ignored otherwise."""
    unknown = sorted(set(params) - {*others, *known})
    if unknown:
        raise InputError(f"{job}: unknown setting {', '.join(unknown)}; it takes {', '.join((*others, *known))}")
    return {key: params[key] for key in known if key in params}


def _need(job: str, params: dict, key: str):
    if params.get(key) is None:
        raise InputError(f"{job}: {key} is missing")
    return params[key]


def _scan(job: str, params: dict, arrays: Arrays) -> Volume:
    """The scan, still mapped from its file: work on it copies what it needs."""
    from ..volume import Volume

    affine = np.asarray(_need(job, params, "affine"), float)
    if affine.shape != (4, 4):
        raise InputError(f"{job}: affine of shape {affine.shape}; wanted 4x4, voxel (i, j, k) to RAS mm")
    ct = arrays.get("ct")
    if ct is None or ct.ndim != 3:
        raise InputError(f'{job}: wanted the scan as array "ct" (z, y, x); found {"none" if ct is None else ct.shape}')
    return Volume(ct, affine, dict(params.get("meta") or {}))


def _centres(job: str, params: dict) -> list[tuple[float, float, float]]:
    points = np.asarray(_need(job, params, "centres_ras"), float)
    if points.size and (points.ndim != 2 or points.shape[1] != 3):
        raise InputError(f"{job}: centres_ras of shape {points.shape}; wanted n points R, A, S in mm")
    return [tuple(map(float, point)) for point in points.reshape(-1, 3)]
