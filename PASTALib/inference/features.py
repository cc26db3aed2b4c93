"""Feature vectors of lesions for radiomics and survival work, and the writing of them."""

from __future__ import annotations

import contextlib
import csv
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from ..errors import InputError
from ..progress import Progress, silent
from ..volume import Volume
from .encoder import encode

SUFFIXES = (".npz", ".csv")
# Names of the CSV columns of what is an array of three in the other file.
_COLUMNS = {
    "centre_ras": ("centre_r_mm", "centre_a_mm", "centre_s_mm"),
    "size_zxy_mm": ("size_z_mm", "size_x_mm", "size_y_mm"),
}


def extract_features(
    ct: Volume,
    centres_ras: Sequence[Sequence[float]],
    model,
    *,
    device: str = "auto",
    progress: Progress = silent,
) -> np.ndarray:
    """Feature vectors of lesions, float32 ``(n, feature_channels)``, 1024 long for the published network.

    ``ct`` HU; ``centres_ras`` n points in RAS mm; ``model`` a ``PastaModel``, averaged over its networks. A vector is the mean of the
    encoder's last level over the crop that the model's attribute head would see (96 mm cube, orientation and intensity of its card).
    Computed in single precision, so that CPU and GPU agree closely. InputError as in ``encode``.
    """
    return encode(ct, centres_ras, model, device=device, half=False, progress=progress)[:, 0].mean(axis=0)


def write_features(path: str | os.PathLike, vectors: np.ndarray, rows: Sequence[dict]) -> None:
    """Write feature vectors ``(n, c)`` with what identifies each: one dictionary per vector, all with the same keys.

    ``.npz``: ``features`` float32 (n, c) and one array per key; values of three, such as ``centre_ras``, become (n, 3). Nothing is
    pickled. ``.csv``: one line per vector, the keys' columns, then ``f0000`` on. Values are text, numbers (None: not known), booleans or
    tuples of numbers. The file appears complete or not at all. InputError for another suffix or a place that cannot be written.
    """
    path = Path(path)
    vectors = np.asarray(vectors, np.float32)
    keys = list(rows[0]) if rows else []
    if len(rows) != len(vectors) or any(list(row) != keys for row in rows):
        raise ValueError(f"{len(vectors)} vectors and {len(rows)} rows; wanted one row each, all with the same keys")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: must end in {' or '.join(SUFFIXES)}")
    columns = {key: _column([row[key] for row in rows]) for key in keys}
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if path.suffix == ".npz":
            with open(temporary, "xb") as file:
                np.savez(file, features=vectors, **columns)
        else:
            with open(temporary, "x", newline="", encoding="utf-8") as file:
                _write_csv(file, vectors, columns)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path} cannot be written ({reason}); choose another place") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _column(values: list) -> np.ndarray:
    """One key of all rows as an array of text, numbers or booleans; unknown numbers are NaN."""
    if any(value is None for value in values):
        values = [("" if any(isinstance(v, str) for v in values) else np.nan) if v is None else v for v in values]
    array = np.array(values)
    if array.dtype == object:
        raise ValueError(f"{values!r} mixes kinds of values")
    return array


def _write_csv(file: TextIO, vectors: np.ndarray, columns: dict[str, np.ndarray]) -> None:
    writer = csv.writer(file)
    names = [name for key, array in columns.items() for name in _names(key, array)]
    writer.writerow([*names, *(f"f{number:04d}" for number in range(vectors.shape[1]))])
    for number, vector in enumerate(vectors):
        known = [value for array in columns.values() for value in np.atleast_1d(array[number]).tolist()]
        writer.writerow(["" if value != value else value for value in known] + [f"{value:.9g}" for value in vector])


def _names(key: str, array: np.ndarray) -> Iterator[str]:
    if array.ndim == 1:
        yield key
    else:
        yield from _COLUMNS.get(key) or (f"{key}_{number}" for number in range(array.shape[1]))
