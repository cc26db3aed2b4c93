"""Model folders of nnU-Net version 2 (plans.json, dataset.json, fold_*/checkpoint_final.pth), read without nnU-Net.

What a prediction needs is in the two JSON files: labels, spacing, window, intensity statistics. The trainer's class is never looked for, so
a folder of a trainer that nobody has loads like any other. What our inference would do differently from nnU-Net is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from .. import taxonomy
from ..errors import InputError
from ..inference.intensity import Intensity
from .card import ModelCard
from .names import PREDICT

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
# Trainers whose data the authors brought to axes L, P, S before nnU-Net saw them.
_STANDARDISING = re.compile(r"pasta|totallesion", re.IGNORECASE)
_KINDS = {
    "Tumor": ("tumor", "tumors", "cancer", "carcinoma", "neoplasm", "metastasis", "metastases", "tumour", "tumours"),
    "Cyst": ("cyst", "cysts"),
    "Stone": ("stone", "stones", "gallstone", "calculus", "calculi"),
    "": ("lesion", "lesions"),
}


@dataclass
class NnunetFolder:
    """A model folder: its two JSON files, one checkpoint per fold, and the configuration if the folder's name tells."""

    path: Path
    plans: dict
    dataset: dict
    checkpoints: list[Path]
    configuration: str | None = None
    notes: list[str] = field(default_factory=list)


def read_folder(path: str | Path) -> NnunetFolder:
    """The model folder at ``path``: itself, the ``DatasetXXX_…`` folder around it, or a fold folder or checkpoint inside, which picks that fold.

    InputError when there is none or several, when a JSON file is missing or broken, or no fold holds a checkpoint.
    """
    path = Path(path)
    folder, only = _locate(path)
    plans, dataset = _read_json(folder / "plans.json"), _read_json(folder / "dataset.json")
    parts = folder.name.split("__")
    found = NnunetFolder(folder, plans, dataset, [], parts[2] if len(parts) == 3 else None)
    if only is not None and only.is_file():
        found.checkpoints = [only]
        return found
    folds = [only] if only is not None else sorted(item for item in folder.glob("fold_*") if item.is_dir()) or [folder]
    best = {fold: next((fold / name for name in CHECKPOINTS if (fold / name).is_file()), None) for fold in folds}
    numbered = [fold for fold in folds if fold.name != "fold_all" and best[fold]]
    for fold in numbered or folds:  # as in nnU-Net, fold_all counts only where there is nothing else
        if best[fold] and best[fold].name != CHECKPOINTS[0]:
            found.notes.append(f"{fold.name}: {best[fold].name} is used, because {CHECKPOINTS[0]} is missing")
    found.checkpoints = [best[fold] for fold in numbered or folds if best[fold]]
    found.notes += [f"{fold.name} has no {CHECKPOINTS[0]} and is left out" for fold in folds if not best[fold]]
    if not found.checkpoints:
        raise InputError(f"{folder}: no fold_*/{CHECKPOINTS[0]}; wanted at least one trained fold (copy them here too)")
    return found


def is_model_folder(path: Path) -> bool:
    """Whether a file or folder belongs to an nnU-Net model folder."""
    path = path.absolute()
    return path.is_dir() or any((place / "plans.json").is_file() for place in (path.parent, path.parent.parent))


def card_of(plans: Mapping, dataset: Mapping, configuration: str | None, source: Path, trainer: str = "") -> ModelCard:
    """The card of a model from its plans and dataset.json.

    ``configuration``: "3d_fullres" or another; None where the plans hold a single 3-D one. ``trainer``: the class name in the checkpoint.
    Labels named like ours become taxonomy keys. InputError for whatever cannot be predicted here as nnU-Net would.
    """
    name, conf = _configuration(plans, configuration, source)

    def refuse(what: str) -> NoReturn:
        raise InputError(f"{source}: {what}, which this program does not do; {PREDICT}")

    if conf.get("previous_stage"):
        refuse(f"configuration {name} is the second stage of a cascade")
    patch = _numbers(conf, "patch_size", name, source)
    spacing = _numbers(conf, "spacing", name, source)
    if len(patch) != 3 or len(spacing) != 3:
        refuse(f"configuration {name} is {len(patch)}-D")
    if min(spacing) <= 0 or max(spacing) > 1.01 * min(spacing):
        refuse(f"configuration {name} has anisotropic voxels of {' x '.join(f'{mm:g}' for mm in spacing)} mm")
    if list(plans.get("transpose_forward", (0, 1, 2))) != [0, 1, 2]:
        refuse(f"its plans permute the axes ({plans['transpose_forward']})")

    labels = _labels(dataset, source)
    dataset_name = str(plans.get("dataset_name", dataset.get("name", source.parent.name)))
    keys = taxonomy_keys(labels)
    lesion = lesion_of(dataset_name, labels) if not any(key in taxonomy.LESION_KEYS for key in keys.values()) else None
    orientation, notes = "LPS", []
    if plans.get("image_reader_writer") == "NibabelIOWithReorient":
        orientation = "RAS"  # this reader turns images to nibabel's closest canonical axes
    elif not _STANDARDISING.search(trainer or source.name):
        notes.append("the axes of the training images are not on record; L, P, S is assumed")
    return ModelCard(
        name=dataset_name,
        labels=keys,
        lesion=lesion,
        spacing_mm=round(sum(spacing) / 3, 4),
        patch=tuple(int(side) for side in patch),
        orientation=orientation,
        intensity=_intensity(plans, dataset, conf, source, refuse),
        source=f"nnU-Net {name}" + (f", trainer {trainer}" if trainer else ""),
        notes=tuple(notes),
    )


def require_our_layers(plans: Mapping, configuration: str | None, source: Path) -> None:
    """InputError when the plans ask nnU-Net's own network for layers that leave no trace in its weights but change its results."""
    conf = _configuration(plans, configuration, source)[1]
    given = conf.get("architecture") or {}
    layers = given.get("arch_kwargs") or {}
    name = str(given.get("network_class_name", conf.get("UNet_class_name", "PlainConvUNet")))
    activation, slope = (
        layers.get("nonlin") or "LeakyReLU",
        (layers.get("nonlin_kwargs") or {}).get("negative_slope", 0.01),
    )
    first = (layers.get("strides") or conf.get("pool_op_kernel_sizes") or [1])[0]
    if not name.endswith("PlainConvUNet"):
        odd = f"network {name}"
    elif not str(activation).endswith("LeakyReLU") or slope != 0.01 or layers.get("nonlin_first"):
        odd = f"activation {activation}({slope})"
    elif set(first if isinstance(first, (list, tuple)) else [first]) != {1}:
        odd = f"a first stage with stride {first}"
    else:
        return
    raise InputError(f"{source}: planned with {odd}, which this program does not run; {PREDICT}")


# ---------------------------------------------------------------------------------------------------------------
# Files and plans


def _locate(path: Path) -> tuple[Path, Path | None]:
    """The model folder, and the fold folder or checkpoint in it that ``path`` picks."""
    path = path.absolute()
    if (path / "plans.json").is_file():
        return path, None
    if (path.parent / "plans.json").is_file() and path.name.startswith("fold_"):
        return path.parent, path
    for folder in (path.parent, path.parent.parent):
        if path.is_file() and (folder / "plans.json").is_file():
            return folder, path
    inside = sorted(file.parent for file in path.glob("*/plans.json")) if path.is_dir() else []
    if len(inside) == 1:
        return inside[0], None
    if inside:
        raise InputError(
            f"{path}: holds {len(inside)} models ({', '.join(item.name for item in inside)}); give one of them"
        )
    raise InputError(
        f"{path}: not a model folder: no plans.json in it; wanted plans.json, dataset.json and fold_*/{CHECKPOINTS[0]}"
    )


def _read_json(path: Path) -> dict:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent}: {path.name} is missing; copy it from where the model was trained") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); copy it again") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: found {type(data).__name__}, wanted a JSON object")
    return data


def _configuration(plans: Mapping, wanted: str | None, source: Path) -> tuple[str, dict]:
    known = plans.get("configurations")
    if not isinstance(known, Mapping) or not known:
        raise InputError(f'{source}: plans without "configurations"; wanted the plans.json of nnU-Net version 2')
    if wanted not in known:
        three_d = [name for name in known if str(name).startswith("3d")]
        if len(three_d) != 1:
            raise InputError(
                f"{source}: which configuration was trained? {', '.join(known)} are planned; name the folder Trainer__Plans__CONFIGURATION"
            )
        wanted = three_d[0]
    merged: dict[str, Any] = {}
    name, seen = wanted, []
    while name is not None:
        conf = known.get(name)
        if name in seen or not isinstance(conf, Mapping):
            raise InputError(
                f"{source}: configuration {wanted!r} inherits from {name!r}, which is missing or inherits from it; repair plans.json"
            )
        seen.append(name)
        merged = {**conf, **merged}
        name = conf.get("inherits_from")
    return wanted, merged


def _numbers(conf: Mapping, key: str, name: str, source: Path) -> list[float]:
    value = conf.get(key)
    numeric = isinstance(value, Sequence) and all(isinstance(item, (int, float)) for item in value)
    if not numeric:
        raise InputError(f"{source}: {key} of configuration {name} is {value!r}; wanted three numbers")
    return list(value)


def _intensity(plans: Mapping, dataset: Mapping, conf: Mapping, source: Path, refuse) -> Intensity:
    channels = dataset.get("channel_names", dataset.get("modality", {"0": "CT"}))
    schemes = conf.get("normalization_schemes") or []
    if len(channels) != 1 or len(schemes) > 1:
        names = ", ".join(map(str, channels.values())) if isinstance(channels, Mapping) else channels
        refuse(f"the model takes {max(len(channels), len(schemes))} images of each patient ({names})")
    scheme = schemes[0] if schemes else "CTNormalization"
    if scheme == "NoNormalization":
        return Intensity((-32768.0, 32767.0), (-32768.0, 32767.0))
    if scheme != "CTNormalization":
        refuse(f"the model normalises every image by itself ({scheme})")
    per_channel = plans.get("foreground_intensity_properties_per_channel") or {}
    try:
        values = [float(per_channel["0"][key]) for key in ("percentile_00_5", "percentile_99_5", "mean", "std")]
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{source}: plans without foreground_intensity_properties_per_channel of channel 0; wanted percentiles, mean and std of HU"
        ) from None
    return Intensity.standardised(*values)


# ---------------------------------------------------------------------------------------------------------------
# Labels


def _labels(dataset: Mapping, source: Path) -> dict[int, str]:
    """Output -> name, background left out; outputs are the label values, which nnU-Net wants consecutive."""
    given = dataset.get("labels")
    if not isinstance(given, Mapping) or not given:
        raise InputError(f'{source}: dataset.json without "labels"; wanted names and values of the classes')
    if all(str(key).isdigit() for key in given):  # version 1 wrote value -> name
        given = {name: value for value, name in given.items()}
    if any(isinstance(value, (list, tuple)) for value in given.values()):
        raise InputError(
            f"{source}: trained on overlapping regions, not labels, which this program does not do; {PREDICT}"
        )
    try:
        values = {int(value): str(name) for name, value in given.items() if str(name).casefold() != "ignore"}
    except (TypeError, ValueError):
        raise InputError(f"{source}: dataset.json with labels {dict(given)!r}; wanted whole numbers") from None
    if sorted(values) != list(range(len(values))) or len(values) < 2:
        raise InputError(
            f"{source}: dataset.json with label values {sorted(values)}; wanted 0 (background), 1, 2, … without gaps"
        )
    return {value: values[value] for value in sorted(values) if value}


def _normal(text: str) -> str:
    return re.sub(r"[\W_]+", "_", text.strip().lower()).replace("tumour", "tumor").replace("oesoph", "esoph").strip("_")


_KEYS = {_normal(word): item.key for item in taxonomy.LESIONS for word in (item.key, item.name)}
_KEYS |= {_normal(word): item.key for item in taxonomy.ORGANS for word in (item.key, item.name, item.location)}


def taxonomy_keys(labels: Mapping[int, str]) -> dict[int, str]:
    """Labels with taxonomy keys in place of names that mean the same; the others keep theirs."""
    keys = {value: _KEYS.get(_normal(name), name) for value, name in labels.items()}
    return keys if len(set(keys.values())) == len(keys) else dict(labels)


def lesion_of(dataset_name: str, labels: Mapping[int, str]) -> str | None:
    """The lesion type of a model with one lesion label, when its name and the organ of labels or data set leave no other.

    ``("Dataset006_Lung", {1: "organ", 2: "tumor"})`` gives "lung_tumor"; None where no or several types fit.
    """
    split = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_\d]+", " ", dataset_name).lower().split()
    words = {value: _normal(name).split("_") for value, name in labels.items()}
    kinds = [kind for name in words.values() for kind, known in _KINDS.items() if set(name) & set(known)]
    if len(kinds) != 1:
        return None
    spoken = [*split, *(word for name in words.values() for word in name)]
    organs = {organ.key for organ in taxonomy.ORGANS if any(word in (organ.key, *organ.keywords) for word in spoken)}
    fitting = [item.key for item in taxonomy.LESIONS if item.organ in organs and kinds[0] in ("", item.folder)]
    return fitting[0] if len(fitting) == 1 else None
