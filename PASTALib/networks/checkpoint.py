"""Reading weights from any checkpoint of the network, without ever running anything that a file asks for.

``read_weights`` opens a file, ``match`` finds out which network its tensors are and says what it took, dropped and missed. Nothing is
assumed about a file: channels, classes and outputs are read off the shapes of its tensors, and every tensor of the trunk is checked.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from .names import strip_prefixes

WRAPPERS = ("network_weights", "state_dict", "model_state_dict", "trunk_state_dict", "net", "model")
_WANTED = "give a .pth, .pt, .tar or .bin file that was written by torch.save and holds the network's tensors"
_HEADS = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"\x1f\x8b": "gzip-compressed, perhaps a NIfTI image",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"{": "JSON",
}


@dataclass
class Weights:
    """What a checkpoint file holds.

    ``tensors``: name -> tensor on the CPU, common prefixes stripped. ``wrapper``: the entry that they were under, "" when the file is the
    dictionary itself; ``prefix``: what was stripped. ``extras``: the other entries that are plain values (training state is left out).
    """

    path: Path
    tensors: dict[str, torch.Tensor]
    wrapper: str = ""
    prefix: str = ""
    extras: dict[str, Any] = field(default_factory=dict)


def read_weights(path: str | Path) -> Weights:
    """The tensors and plain entries of the checkpoint ``path``.

    Reads a state dict alone or under one of ``WRAPPERS``, with any mixture of ``module.`` and ``_orig_mod.`` before the names, or another
    prefix that all share. The file is mapped, not copied, where its format allows. Only tensors, plain values and numpy numbers are read;
    a file that asks for anything else, to run code for instance, is refused. InputError in every other case too.
    """
    path = Path(path)
    data = _load(path)
    wrapper, state = [], data
    for _ in range(4):
        inner = next((key for key in WRAPPERS if isinstance(state.get(key), Mapping)), None)
        if inner is None:
            break
        state = state[inner]
        wrapper.append(inner)
    tensors = {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        entries = ", ".join(map(str, list(state)[:5])) or "nothing"
        raise InputError(f"{path}: holds no tensors (entries: {entries}); {_WANTED}")
    tensors, prefix = strip_prefixes(tensors, path)
    extras = {}
    for key, value in data.items():
        with contextlib.suppress(_NotPlain):
            if key not in wrapper[:1]:
                extras[str(key)] = _plain(value)
    return Weights(path, tensors, ".".join(wrapper), prefix, extras)


# ---------------------------------------------------------------------------------------------------------------
# Opening


def _load(path: Path) -> Mapping:
    if not path.is_file():
        raise InputError(f"{path}: no such file; {_WANTED}")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    zipped = head.startswith(b"PK\x03\x04")
    if zipped:
        _require_torch_zip(path)
    elif not re.match(rb"\x80[\x02-\x05]", head):
        raise InputError(f"{path}: not a checkpoint, it looks like {_kind(head)}; {_WANTED}")
    allowed = getattr(
        torch.serialization, "safe_globals", None
    )  # torch 2.5; older ones refuse files with numpy numbers
    try:
        with allowed(list(_STAND_INS)) if allowed else contextlib.nullcontext():
            data = torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged file can fail anywhere in the reader
        if isinstance(error, MemoryError):
            raise
        raise InputError(_explain(path, error)) from None
    if not isinstance(data, Mapping):
        raise InputError(f"{path}: holds a {type(data).__name__}; wanted a dictionary of tensors (a state dict)")
    return data


def _require_torch_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rsplit("/", 1)[-1] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise InputError(f"{path}: truncated or damaged; copy or download it again") from None
    if "constants.pkl" in names:
        raise InputError(f"{path}: a TorchScript archive, that is a program; wanted its state dict")
    if "data.pkl" not in names:
        raise InputError(f"{path}: a zip archive, but not one written by torch.save (unpack it first?); {_WANTED}")


def _kind(head: bytes) -> str:
    for magic, name in _HEADS.items():
        if head.lower().startswith(magic.lower()):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive (unpack it first)"
    if not head:
        return "an empty file"
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return "text" if printable > 0.95 * len(head) else "something else"


def _explain(path: Path, error: Exception) -> str:
    text = str(error)
    found = re.search(r"GLOBAL (\S+)", text) or re.search(r"function <[^>]*?(\w[\w.]*)[^>]*>", text)
    if isinstance(error, pickle.UnpicklingError) and found:
        return (
            f"{path}: refused, because reading it would call {found[1]}, which is neither a tensor nor a plain value; "
            "use a file from a source you trust, holding the state dict alone"
        )
    reason = " ".join(text.rpartition("WeightsUnpickler error:")[2].split())[:80] or type(error).__name__
    return f"{path}: truncated, damaged or not a checkpoint ({reason}); copy or download it again"


# Checkpoints of nnU-Net hold numpy numbers. These classes stand in for the five names that such a pickle uses; they read numbers and
# arrays of numbers from bytes and call nothing of numpy's own unpickling.


class _NumberType:
    def __init__(self, code: str, *_):
        if not re.fullmatch(r"[biufc]\d{1,2}", str(code)):
            raise pickle.UnpicklingError(f"numpy type {code!r} is not a number")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Sequence) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Number:
    def __new__(cls, kind: _NumberType, raw: bytes):
        return np.frombuffer(raw, kind.dtype)[0].item()


class _Array:
    values: Any = None

    def __setstate__(self, state: Sequence) -> None:
        _, shape, kind, fortran, raw = state
        self.values = np.frombuffer(raw, kind.dtype).reshape(shape, order="F" if fortran else "C").tolist()


class _NewArray:
    def __new__(cls, *_):
        return _ARRAY()


def _stand_in(name: str, base: type) -> type:
    module, _, short = name.rpartition(".")
    return type(short, (base,), {"__module__": module, "__qualname__": short})


_ARRAY = _stand_in("numpy.ndarray", _Array)
_STAND_INS = (
    _ARRAY,
    _stand_in("numpy.dtype", _NumberType),
    *(_stand_in(f"numpy.{core}.multiarray.scalar", _Number) for core in ("core", "_core")),
    *(_stand_in(f"numpy.{core}.multiarray._reconstruct", _NewArray) for core in ("core", "_core")),
)


class _NotPlain(Exception):
    """A tensor, or a nesting deeper than any plain entry has."""


def _plain(value: Any, depth: int = 0) -> Any:
    """``value`` of JSON types only; what has none becomes text."""
    if isinstance(value, torch.Tensor) or depth > 20:
        raise _NotPlain
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item, depth + 1) for item in value]
    return str(value)
