"""Names and numbers of TotalSegmentator's classes: tables, label names inside files, and names for people."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from .. import taxonomy
from ..errors import InputError
from ..volume import Volume, read_volume

_DATA = Path(__file__).with_name("data") / "totalsegmentator_classes.json"
_SYNONYMS = {
    "vertebrae": "vertebra",
    "superior": "upper",
    "inferior": "lower",
    "clavicle": "clavicula",
    "oesophagus": "esophagus",
    "lobes": "lobe",
    "ribs": "rib",
    "kidneys": "kidney",
}
_NOISE_WORDS = {"of", "the", "bone", "segment", "organ"}
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()


@lru_cache(maxsize=1)
def _data() -> dict:
    return json.loads(_DATA.read_text(encoding="utf-8"))


@lru_cache(maxsize=2)
def _table(version: str) -> dict[int, str]:
    return {int(value): name for value, name in _data()[version].items()}


def table(scheme: str) -> Mapping[int, str]:
    """Label value -> class name of "totalseg-v1" (104 classes) or "totalseg-v2" (117), as TotalSegmentator writes them."""
    return _table(scheme.removeprefix("totalseg-"))


@lru_cache(maxsize=1)
def _structure_ids() -> dict[str, int]:
    ids = {name: value for value, name in _table("v2").items()}
    ids.update({name: int(value) for value, name in _data()["extra_ids"].items()})
    return ids


def structure_id(name: str) -> int:
    """Our fixed number of a v2 class name: TotalSegmentator v2's own, 118 and up for classes that only other versions have."""
    return _structure_ids()[name]


def known_names() -> frozenset[str]:
    """All structure names that an organ map may hold."""
    return frozenset(_structure_ids())


@lru_cache(maxsize=1)
def _organ_by_class() -> dict[str, str]:
    organs = {name: organ.key for organ in taxonomy.ORGANS for name in (*organ.classes, *(organ.classes_v1 or ()))}
    return {**organs, **_data()["extra_organ"]}


def organ_value(name: str) -> int:
    """PASTA value of the organ that a v2 class belongs to, 0 for none (spleen, vessels, …)."""
    key = _organ_by_class().get(name)
    return taxonomy.organ(key).value if key else 0


def organ_key(name: str) -> str | None:
    """Organ of a label name: a class in any spelling ("Right kidney", "kidney_right"), an organ ("Bone", "left lung") or a lesion type."""
    canonical = canonical_name(name)
    if canonical:
        return _organ_by_class().get(canonical)
    text = " ".join(word for word in re.split(r"[^a-z]+", name.lower()) if word not in ("", "left", "right", "both"))
    for organ in taxonomy.ORGANS:
        if text in {
            spelling.lower() for spelling in (organ.key, f"{organ.key}s", organ.name, organ.location, organ.folder)
        }:
            return organ.key
    return next((lesion.organ for lesion in taxonomy.LESIONS if text == lesion.name.lower()), None)


def is_detail(name: str) -> bool:
    """Whether a v2 class says more than the ten organs do: a side, a lobe, a level, a vessel, another organ."""
    key = _organ_by_class().get(name)
    return key is None or len(taxonomy.organ(key).classes) > 1


def canonical_name(name: str, exact: bool = False) -> str | None:
    """v2 class name of ``name`` ("heart_myocardium" -> "heart"; unless ``exact`` also "Right kidney", "T12 vertebra"), or None."""
    merged = _data()["v1_to_v2"].get(name, name)
    if merged in _structure_ids():
        return merged
    return None if exact else _by_words().get(_words(name))


@lru_cache(maxsize=1)
def _by_words() -> dict[frozenset[str], str]:
    names = {_words(name): name for name in _structure_ids()}
    return names | {_words(old): new for old, new in _data()["v1_to_v2"].items()}


def _words(name: str) -> frozenset[str]:
    """Bag of words of a label name, with the spellings of Slicer's standard names levelled."""
    words = set()
    for word in re.split(r"[^a-z0-9]+", name.lower()):
        ordinal = re.fullmatch(r"(\d+)(?:st|nd|rd|th)", word)
        word = ordinal.group(1) if ordinal else _SYNONYMS.get(word, word)
        word = str(_ORDINALS.index(word) + 1) if word in _ORDINALS else word
        if word and word not in _NOISE_WORDS:
            words.add(word)
    return frozenset(words)


def version_of(names: Iterable[str]) -> str:
    """ "totalseg-v1" if a name occurs only there (heart chambers, pulmonary artery), else "totalseg-v2"."""
    only_v1 = set(table("totalseg-v1").values()) - set(table("totalseg-v2").values())
    return "totalseg-v1" if only_v1 & set(names) else "totalseg-v2"


def place_name(name: str) -> str:
    """A class name as a radiologist writes it: "vertebrae_L3" -> "L3 vertebra", "lung_upper_lobe_left" -> "Left upper lobe of the lung"."""
    words = name.split("_")
    side = next((w for w in words if w in ("left", "right")), "")
    rest = [w for w in words if w not in ("left", "right")]
    if rest[0] == "vertebrae":
        return f"{rest[1]} vertebra"
    if rest[0] == "rib":
        return f"{side.capitalize()} {_ordinal(int(rest[1]))} rib"
    if rest[0] == "lung":
        return f"{side.capitalize()} {' '.join(rest[1:])} of the lung"
    text = " ".join({"clavicula": "clavicle", "hip": "hip bone"}.get(w, w) for w in rest)
    return f"{side} {text}".strip().capitalize()


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


# --- names inside files ----------------------------------------------------------------------------------------------


def stem(file: Path) -> str:
    """File name without ``.nii.gz``, ``.nrrd`` and the like."""
    return re.sub(r"(\.nii)?(\.gz)?$|\.(nrrd|mha)$", "", file.name, flags=re.IGNORECASE)


def label_names_of(path: Path) -> dict[int, str]:
    """Label names of a file: from its NIfTI header (as TotalSegmentator writes), else from a JSON beside it; {} if there are none."""
    name = path.name.lower()
    names = _nifti_label_names(path) if name.endswith((".nii", ".nii.gz")) else {}
    return names or _sidecar_names(path)


def write_names(path: Path, names: Mapping[int, str]) -> Path:
    """Write ``<stem>_labels.json`` beside an organ map, so that it is read back without a guess."""
    file = path.with_name(f"{stem(path)}_labels.json")
    file.write_text(json.dumps({str(value): name for value, name in names.items()}, indent=1) + "\n", encoding="utf-8")
    return file


def _sidecar_names(path: Path) -> dict[int, str]:
    for candidate in (f"{stem(path)}.json", f"{stem(path)}_labels.json"):
        file = path.with_name(candidate)
        if not file.is_file():
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise InputError(f"{file}: not readable as JSON label names ({error}); mend it or move it away") from error
        content = content.get("labels", content) if isinstance(content, dict) else {}
        names = _label_dictionary(content)
        if names:
            return names
    return {}


def _label_dictionary(content: object) -> dict[int, str]:
    """{"1": "liver"} or nnU-Net's {"liver": 1} -> {1: "liver"}; {} for any other JSON."""
    names: dict[int, str] = {}
    if not isinstance(content, dict):
        return names
    for key, value in content.items():
        if str(key).isdecimal() and isinstance(value, str):
            names[int(key)] = value
        elif isinstance(value, int) and not isinstance(value, bool):
            names[value] = str(key)
        else:
            return {}
    return {value: name for value, name in names.items() if 0 < value < 256}


def _nifti_label_names(path: Path) -> dict[int, str]:
    """Labels of the Caret XML extension in a NIfTI-1 header (bytes between the header and the voxels)."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            header = file.read(352)
            if len(header) < 352 or header[348] == 0 or header[344:347] not in (b"n+1",):
                return {}
            order = "<" if int.from_bytes(header[:4], "little") == 348 else ">"
            offset = float(np.frombuffer(header[108:112], f"{order}f4")[0])
            if not 352 <= offset <= 2**24:
                return {}
            text = file.read(int(offset) - 352).decode("utf-8", errors="replace")
    except (OSError, EOFError):
        return {}
    return {
        int(v): n.strip()
        for v, n in re.findall(r'<Label Key="(\d+)"[^>]*>\s*<!\[CDATA\[(.*?)\]\]>', text)
        if 0 < int(v) < 256
    }


def read_seg_nrrd(path: Path) -> tuple[Volume, dict[int, str]]:
    """A Slicer segmentation ``.seg.nrrd``: its labels ``(z, y, x)`` and value -> segment name. InputError for overlapping layers."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{path}: not readable as a segmentation ({str(error).splitlines()[-1].strip()})") from error
    if reader.GetNumberOfComponents() > 1 or reader.GetDimension() > 3:
        raise InputError(
            f"{path}: its segments overlap (several layers); in Slicer export it as a labelmap, or save without overlap"
        )
    names: dict[int, str] = {}
    keys = set(reader.GetMetaDataKeys())
    for number in range(256):
        if f"Segment{number}_LabelValue" not in keys:
            continue
        value = int(reader.GetMetaData(f"Segment{number}_LabelValue"))
        options = [
            reader.GetMetaData(f"Segment{number}_{field}")
            for field in ("ID", "Name")
            if f"Segment{number}_{field}" in keys
        ]
        known = [option for option in options if canonical_name(option) or organ_key(option)]
        names[value] = (known or options[::-1] or [str(value)])[0]
    return read_volume(path, "labels"), names
