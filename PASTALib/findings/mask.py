"""Which voxels are lesions of which type: PASTA label maps, PASTA-Gen cases, Slicer segmentations, and plain masks with a type given."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import cases, taxonomy
from ..anatomy import organ_classes as classes
from ..anatomy.organ_map import present_values
from ..errors import InputError
from ..imageio.files import quiet_itk
from ..volume import Volume, read_volume, same_grid

_FIRST, _LAST = taxonomy.LESIONS[0].value, taxonomy.LESIONS[-1].value
_KEY_OF_VALUE = {lesion.value: lesion.key for lesion in taxonomy.LESIONS}
_ORGAN_OF_VALUE = {organ.value: organ.key for organ in taxonomy.ORGANS}


@dataclass
class LesionMask:
    """A label map and what its values mean.

    ``labels``: uint8 or uint16 on the grid of the CT. ``types``: label value -> lesion type key; every other value is ignored. Voxels of
    different values are different lesions even where they touch. ``has_organs``: the map follows PASTA's numbering and holds organs (1-10)
    beside lesions, so that it serves as an organ map too. ``notes``: what the reader had to decide, one line each.
    """

    labels: Volume
    types: dict[int, str]
    has_organs: bool = False
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of_pasta_labels(cls, labels: Volume) -> LesionMask:
        """The lesions (values 11-25) of a PASTA label map; there may be none."""
        values = [int(value) for value in _values(labels.array) if value]
        types = {value: _KEY_OF_VALUE[value] for value in values if value in _KEY_OF_VALUE}
        return cls(labels, types, has_organs=any(value in _ORGAN_OF_VALUE for value in values))


def read_lesion_mask(
    path: str | os.PathLike, ct: Volume, lesion: str | None = None, lesion_value: int | None = None
) -> LesionMask:
    """Read a lesion mask on the grid of ``ct``.

    Read without further word: PASTA label maps (lesions 11-25; organs 1-10 are no lesions), a Slicer ``.seg.nrrd`` or a map with label
    names that tell the type ("Liver tumor", "kidney_stone 2"), ``lesions.nii.gz`` of a case that we wrote, and ``label.nii.gz`` (organ 1,
    lesion 2) in a folder ``<Organ>/<Type>/<case>``. Any other mask needs ``lesion`` (type key), which then holds for every positive value
    that no label name says otherwise of, or for ``lesion_value`` only.

    InputError, one line, for an unknown type, a file that is no mask, another grid, an empty mask, a mask of organs only, and a mask whose
    lesion type nobody tells.
    """
    path = Path(path)
    if lesion is not None and lesion not in taxonomy.LESION_KEYS:
        raise InputError(f"unknown lesion type {lesion!r}; use one of: {', '.join(taxonomy.LESION_KEYS)}")
    if lesion_value is not None and not 1 <= lesion_value <= 65535:
        raise InputError(f"lesion value {lesion_value} is out of range; give 1 to 65535")
    labels, names = _read(path, ct)
    difference = same_grid(ct, labels)
    if difference:
        raise InputError(
            f"{path}: not on the grid of the CT ({difference}); give the mask drawn on this CT, or resample it (nearest neighbour)"
        )
    values = [int(value) for value in _values(labels.array) if value]
    if not values:
        raise InputError(f"{path}: the mask is empty (every voxel is 0); give a mask with at least one lesion voxel")
    if lesion_value is not None and lesion_value not in values:
        raise InputError(f"{path}: no voxel has the value {lesion_value}; found {_listed(values)}")
    mask = LesionMask(labels, {})
    mask.types = _types(path, values, names, lesion, lesion_value, mask)
    others = [value for value in values if value not in mask.types]
    if lesion_value is None and others and not mask.has_organs:
        mask.notes.append(f"values of {path.name} that are no lesions were passed over: {_listed(others, names)}")
    return mask


def _read(path: Path, ct: Volume) -> tuple[Volume, dict[int, str]]:
    """Labels and the names that the file gives to them."""
    source = ct.meta.get("source")
    if source and path.exists() and Path(source).exists() and path.resolve() == Path(source).resolve():
        raise InputError(f"{path}: the mask is the CT itself; give the mask that outlines the lesions")
    try:
        if path.name.lower().endswith(".seg.nrrd") and path.is_file():
            with quiet_itk():
                return classes.read_seg_nrrd(path)
        return read_volume(path, "labels"), classes.label_names_of(path)
    except InputError as error:
        if "negative" in str(error) and _is_ct(path):
            raise InputError(f"{path}: a CT in HU, no mask; give the mask that outlines the lesions") from None
        raise


def _is_ct(path: Path) -> bool:
    try:
        read_volume(path, "ct")
    except InputError:
        return False
    return True


def _types(
    path: Path,
    values: list[int],
    names: Mapping[int, str],
    lesion: str | None,
    lesion_value: int | None,
    mask: LesionMask,
) -> dict[int, str]:
    """Value -> type, by the first rule that fits."""
    named = {value: key for value in values if (key := _type_of_name(names.get(value, "")))}
    organs = {value for value in values if value not in named and classes.organ_key(names.get(value, ""))}
    if lesion_value is not None:
        return {lesion_value: lesion or named.get(lesion_value) or _one_value(path, lesion_value)}
    if lesion is None and path.name == cases.INSTANCES and (path.parent / cases.RECORD).is_file():
        return _of_case(path, values)
    if lesion is None and path.name == cases.LABEL and set(values) <= {cases.ORGAN_VALUE, cases.LESION_VALUE}:
        if cases.LESION_VALUE not in values:
            raise InputError(f"{path}: holds the organ (value 1) only, no lesion (value 2)")
        return {cases.LESION_VALUE: _type_of_case(path)}
    if named and lesion is None:
        return named
    if lesion is not None:
        return _given(path, values, named, organs, lesion, mask)
    return _pasta(path, values, mask)


def _given(path, values, named, organs, lesion: str, mask: LesionMask) -> dict[int, str]:
    """The type is given: it holds for all values but those that label names call something else."""
    rest = [value for value in values if value not in named and value not in organs]
    if named:
        return {**named, **dict.fromkeys(rest, lesion)}
    if not rest:
        raise InputError(f"{path}: holds organs only ({_listed(values)}); give the mask that outlines the lesions")
    if len(rest) > 1 and any(value in _KEY_OF_VALUE for value in rest):
        raise InputError(
            f"{path}: holds {_listed(rest)}, which looks like a PASTA label map, where organs are 1-10 and lesions 11-25; leave --lesion out, "
            "or say with --lesion-value which value is the lesion"
        )
    if rest[0] in _KEY_OF_VALUE and _KEY_OF_VALUE[rest[0]] != lesion:
        mask.notes.append(
            f"value {rest[0]} of {path.name} means {_KEY_OF_VALUE[rest[0]]} in PASTA's numbering; it is taken for {lesion} as asked"
        )
    elif len(rest) > 1:
        mask.notes.append(
            f"values {', '.join(map(str, rest[:8]))}{' …' if len(rest) > 8 else ''} of {path.name} are all taken for {lesion}; "
            "--lesion-value chooses one"
        )
    return dict.fromkeys(rest, lesion)


def _pasta(path: Path, values: list[int], mask: LesionMask) -> dict[int, str]:
    """PASTA's numbering, the only one that needs no word from the user."""
    types = {value: _KEY_OF_VALUE[value] for value in values if value in _KEY_OF_VALUE}
    if values[-1] > _LAST:
        raise InputError(
            f"{path}: holds values up to {values[-1]}, PASTA's labels end at {_LAST} (an organ map?); give the lesion mask, or say with "
            "--lesion and --lesion-value what is a lesion"
        )
    if not types and len(values) == 1:
        raise InputError(
            f"{path}: every lesion voxel is {values[0]}, which does not tell the type; say which with --lesion TYPE, such as --lesion liver_tumor"
        )
    if not types:
        raise InputError(
            f"{path}: no lesion (values {_FIRST}-{_LAST}), only {_listed(values, _ORGAN_OF_VALUE)}; give a lesion mask, or the type with "
            "--lesion TYPE if these values number lesions"
        )
    mask.has_organs = len(types) < len(values)
    return types


def _one_value(path: Path, value: int) -> str:
    if path.name == cases.LABEL and value == cases.LESION_VALUE:
        return _type_of_case(path)
    if value in _KEY_OF_VALUE:
        return _KEY_OF_VALUE[value]
    raise InputError(f"{path}: value {value} does not tell the lesion type; say which with --lesion TYPE")


def _type_of_case(path: Path) -> str:
    """Type of the lesions in a case's label.nii.gz: from its case.json, or from its place ``<Organ>/<Type>/<case>``."""
    if (path.parent / cases.RECORD).is_file():
        kinds = sorted({report.lesion for report in cases.read_reports(path.parent)})
        if len(kinds) > 1:
            raise InputError(
                f"{path}: does not tell its types ({', '.join(kinds)}) apart; give {cases.INSTANCES} beside it"
            )
        return kinds[0]
    key = cases.lesion_of_folder(path.parent)
    if key is None:
        raise InputError(
            f"{path}: 1 is the organ and 2 the lesion, but its folder is not <Organ>/<Type>/<case>; give --lesion TYPE and --lesion-value 2"
        )
    return key


def _of_case(path: Path, values: list[int]) -> dict[int, str]:
    """Value n of lesions.nii.gz is the n-th lesion of the case."""
    reports = cases.read_reports(path.parent)
    if values[-1] > len(reports):
        raise InputError(f"{path}: holds value {values[-1]}, but {cases.RECORD} beside it knows {len(reports)} lesions")
    return {value: reports[value - 1].lesion for value in values}


def _type_of_name(name: str) -> str | None:
    """Type that a label or segment name tells: "Liver tumour", "kidney_stone-2"; None for any other name."""
    words = [word for word in re.split(r"[^a-z]+", name.lower().replace("tumour", "tumor")) if word]
    text = " ".join(words).replace("oesophageal", "esophageal")
    for lesion in taxonomy.LESIONS:
        singular = {lesion.key.replace("_", " "), lesion.name.lower()}
        if text in singular or text.removesuffix("s") in singular:
            return lesion.key
    return None


def _values(array: np.ndarray) -> np.ndarray:
    return present_values(array) if array.dtype == np.uint8 else np.unique(array)


def _listed(values: list[int], names: Mapping[int, str] | None = None) -> str:
    """ "1 liver, 2 lung, 3 …", the first few of them."""
    words = [f"{value} {(names or {}).get(value, '')}".strip() for value in values[:6]]
    return ", ".join(words) + (f" and {len(values) - 6} more" if len(values) > 6 else "")
