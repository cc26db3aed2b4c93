"""Reading the options that several commands share. Every problem is an InputError that names the option and what it wants."""

from __future__ import annotations

import math
import os
import re
from difflib import get_close_matches
from pathlib import Path

from ..errors import InputError
from ..taxonomy import LESION_KEYS

SCHEMES = ("pasta", "totalseg-v2", "totalseg-v1")
ATTRIBUTE_OPTIONS = ("shape", "density", "heterogeneity", "surface", "invasion")
_NOT_ATTR = {
    "enhancement": "it is a property of the scan; choose a scan of the other phase",
    "location": "it follows from the lesion type; choose another --lesion",
    "size": "give --size ZxXxY in mm",
}
MAX_SIZE_MM = 250.0
MAX_COUNT = 100


def lesion_type(text: str) -> str:
    """The lesion type that ``text`` names (case, spaces and hyphens do not matter)."""
    key = re.sub(r"[\s-]+", "_", text.strip().lower()).replace("tumour", "tumor").replace("oesophageal", "esophageal")
    if key in LESION_KEYS:
        return key
    close = get_close_matches(key, LESION_KEYS, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}? " if close else ""
    raise InputError(f"--lesion {text!r} is not a lesion type; {hint}Known: {', '.join(LESION_KEYS)}")


def scheme(text: str | None) -> str | None:
    """A known numbering of organ maps."""
    if text is None or text in SCHEMES:
        return text
    raise InputError(f"--organ-scheme {text!r} is not known; use one of {', '.join(SCHEMES)}")


def count(number: int) -> int:
    """How many lesions of each type, 1 to 100."""
    if 1 <= number <= MAX_COUNT:
        return number
    raise InputError(f"--count {number} is out of range; give 1 to {MAX_COUNT}")


def seed(number: int) -> int:
    """A seed, 0 or larger."""
    if 0 <= number < 2**63:
        return number
    raise InputError(f"--seed {number} is out of range; give a whole number from 0 to 2^63-1")


def point(text: str | None) -> tuple[float, float, float] | None:
    """``R,A,S`` in mm."""
    if text is None:
        return None
    try:
        values = tuple(float(item) for item in text.strip(" ()[]").split(","))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise InputError(f"--at {text!r} is not a position; give three numbers R,A,S in mm, such as --at -42.5,10,130")
    return values


def size(text: str | None) -> tuple[float, float, float] | None:
    """``ZxXxY`` in mm: head-to-foot, left-to-right, front-to-back. One number stands for all three."""
    if text is None:
        return None
    parts = re.split(r"[x×X*]", re.sub(r"\s*mm\s*$", "", text.strip()))
    try:
        values = tuple(float(item) for item in parts)
    except ValueError:
        values = ()
    if len(values) == 1:
        values *= 3
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise InputError(
            f"--size {text!r} is not a size; give ZxXxY in mm (head-to-foot, left-to-right, front-to-back), such as --size 20x25x22"
        )
    if min(values) <= 0 or max(values) > MAX_SIZE_MM:
        raise InputError(
            f"--size {text!r} is out of range; every extent must be above 0 and at most {MAX_SIZE_MM:g} mm"
        )
    return values


def number(value: float | None, option: str, low: float, high: float, unit: str) -> float | None:
    """``value`` if it lies within ``low`` to ``high``."""
    if value is None or (math.isfinite(value) and low <= value <= high):
        return value
    raise InputError(f"{option} {value:g} is out of range; give {low:g} to {high:g} {unit}")


def scan_and_seed(
    ct: Path | None, organs: Path | None, organ_scheme: str | None, seed_number: int, spacing: float
) -> None:
    """What `demo` and `gallery` share: a scan with its organ map or the phantom's voxel size, and the seed."""
    scan_pair(ct, organs)
    scheme(organ_scheme)
    seed(seed_number)
    number(spacing, "--spacing", 1.0, 6.0, "mm")


def attributes(items: list[str]) -> dict[str, str]:
    """``key=option`` pairs as option strings of the structured report; any wording that the report reader accepts is fine."""
    chosen: dict[str, str] = {}
    for item in items:
        key, equals, value = (part.strip() for part in item.partition("="))
        key = key.lower()
        if not equals or not key or not value:
            raise InputError(f"--attr {item!r} is not understood; write key=option, such as --attr density=Hypodense")
        if key in _NOT_ATTR:
            raise InputError(f"--attr {key} cannot be chosen: {_NOT_ATTR[key]}")
        if key not in ATTRIBUTE_OPTIONS:
            raise InputError(f"--attr {key!r} is not an attribute; use one of {', '.join(ATTRIBUTE_OPTIONS)}")
        option = _option(key, value)
        if chosen.get(key, option) != option:
            raise InputError(f"--attr {key} is given twice, as {chosen[key]!r} and as {option!r}; give it once")
        chosen[key] = option
    return chosen


def existing(path: Path, option: str) -> Path:
    """``path`` if there is something there."""
    if not path.exists():
        raise InputError(f"{option} {path} does not exist; check the path")
    return path


def refinement(choice: str) -> tuple[Path | None, str | None]:
    """The denoising network that ``--refine`` names (None: no refinement), and a note for the user where "auto" finds none."""
    if choice == "none":
        return None, None
    if choice != "auto":
        path = Path(choice).expanduser()
        if not path.is_file():
            raise InputError(
                f"--refine {choice!r} is neither auto, none nor an existing checkpoint file; use --refine none"
            )
        return path, None
    from importlib.util import find_spec

    from ..models import DENOISER, bundled_folder

    path = bundled_folder() / DENOISER
    if not path.is_file():
        return None, "no refinement network is installed, so the lesion stays as the parametric model made it"
    if find_spec("torch") is None:
        return (
            None,
            'refinement needs PyTorch (pip install "slicerpasta[torch]"); the lesion stays as the parametric model made it',
        )
    return path, None


def _option(key: str, value: str) -> str:
    from ..attributes import options as options_of
    from ..attributes import parse

    try:
        return parse(key, value)
    except InputError as error:
        begun = [option for option in options_of(key) if option.lower().startswith(value.lower())]
        if len(begun) == 1:
            return begun[0]
        raise InputError(f"--attr {key}: {error}") from None


def refuse(message: str) -> None:
    """Raise ``message`` as InputError."""
    raise InputError(message)


def output_file(path: Path, option: str, suffixes: tuple[str, ...], overwrite: bool) -> Path:
    """A file that can be written: right suffix, existing and writable folder, not there yet unless ``overwrite``."""
    if not path.name.endswith(suffixes):
        raise InputError(f"{option} {path} must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder; give a file name")
    if path.exists() and not overwrite:
        raise InputError(f"{option} {path} exists; add --overwrite or choose another name")
    folder = path.resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"{option} {path}: the folder {folder} does not exist or cannot be written; choose another")
    return path


def scan_pair(ct: Path | None, organs: Path | None) -> None:
    """``--ct`` and ``--organs`` come together or not at all."""
    if (ct is None) != (organs is None):
        missing = "--organs" if organs is None else "--ct"
        raise InputError(f"{missing} is missing; give --ct and --organs together, or neither for the digital phantom")
    if ct is not None:
        existing(ct, "--ct")
        existing(organs, "--organs")
