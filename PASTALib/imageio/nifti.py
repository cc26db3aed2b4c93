"""NIfTI-1/2 files (.nii, .nii.gz) read and written slab by slab, without a second copy of the image in memory.

SimpleITK, which reads every other format here, refuses NIfTI affines that are off by rounding and holds a float file four times over, and
nibabel is not part of 3D Slicer; hence this small reader. It follows the standard's header and the usual order of preference:
sform, then qform, then the voxel sizes alone.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InputError

SLAB_BYTES = 16 << 20  # image bytes handled at a time
GZIP_LEVEL = 3  # half the time of level 6; a CT gets less than 1 % larger

# code -> (numpy type, name); None: pixels that are no single real number
_TYPES: dict[int, tuple[str | None, str]] = {
    1: (None, "1-bit"),
    2: ("u1", "uint8"),
    4: ("i2", "int16"),
    8: ("i4", "int32"),
    16: ("f4", "float32"),
    32: (None, "complex"),
    64: ("f8", "float64"),
    128: (None, "RGB colour"),
    256: ("i1", "int8"),
    512: ("u2", "uint16"),
    768: ("u4", "uint32"),
    1024: ("i8", "int64"),
    1280: ("u8", "uint64"),
    1792: (None, "complex"),
    2304: (None, "RGBA colour"),
}
_CODES = {"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "uint16": 512}


def _layout(version: int) -> np.dtype:
    """The header fields used here, at their byte offsets (nifti1.h, nifti2.h)."""
    fields = {
        "sizeof_hdr": ("i4", 0, "i4", 0),
        "magic": ("S4", 344, "S4", 4),
        "dim": ("8i2", 40, "8i8", 16),
        "datatype": ("i2", 70, "i2", 12),
        "bitpix": ("i2", 72, "i2", 14),
        "pixdim": ("8f4", 76, "8f8", 104),
        "vox_offset": ("f4", 108, "i8", 168),
        "scl_slope": ("f4", 112, "f8", 176),
        "scl_inter": ("f4", 116, "f8", 184),
        "xyzt_units": ("i1", 123, "i4", 500),
        "qform_code": ("i2", 252, "i4", 344),
        "sform_code": ("i2", 254, "i4", 348),
        "quatern": ("3f4", 256, "3f8", 352),
        "qoffset": ("3f4", 268, "3f8", 376),
        "srow": ("(3,4)f4", 280, "(3,4)f8", 400),
    }
    at = 0 if version == 1 else 2
    return np.dtype(
        {
            "names": list(fields),
            "formats": [f[at] for f in fields.values()],
            "offsets": [f[at + 1] for f in fields.values()],
            "itemsize": 348 if version == 1 else 540,
        }
    )


@dataclass
class NiftiHeader:
    """What a NIfTI file says of itself. ``shape`` is (i, j, k, …) without trailing ones; ``affine`` maps voxel (i, j, k) to RAS mm."""

    shape: tuple[int, ...]
    dtype: np.dtype
    affine: np.ndarray
    slope: float
    intercept: float
    data_offset: int
    notes: list[str]


def read_header(path: Path) -> NiftiHeader:
    """Header of a NIfTI file; InputError when it is none, is truncated, or holds colour or complex pixels."""
    with _open(path) as stream:
        raw = _take(stream, 348, path)
        for version, size in ((1, 348), (2, 540)):
            for order in "<>":
                if int.from_bytes(raw[:4], "little" if order == "<" else "big") == size:
                    raw += _take(stream, size - len(raw), path)
                    return _parse(np.frombuffer(raw, _layout(version).newbyteorder(order))[0], order, path)
    raise InputError(f"{path}: this is not a NIfTI file (its header has the wrong size); give a .nii or .nii.gz image")


def slabs(path: Path, header: NiftiHeader) -> Iterator[tuple[int, np.ndarray]]:
    """Yield ``(first slice, array (slices, y, x))`` in file order, as stored or, with a scale factor in the header, as float32."""
    ni, nj, nk = header.shape[:3]
    slice_bytes = ni * nj * header.dtype.itemsize
    _check_length(path, header.data_offset + slice_bytes * nk)
    step = max(1, SLAB_BYTES // slice_bytes)
    scaled = (header.slope, header.intercept) != (1.0, 0.0)
    with _open(path) as stream:
        _take(stream, header.data_offset, path)
        for k in range(0, nk, step):
            count = min(step, nk - k)
            slab = np.frombuffer(_take(stream, count * slice_bytes, path), header.dtype).reshape(count, nj, ni)
            yield k, (slab * np.float32(header.slope) + np.float32(header.intercept)) if scaled else slab
        _drain(stream, path)


def write(array: np.ndarray, affine: np.ndarray, stream: BinaryIO, compress: bool) -> None:
    """Write ``array`` (z, y, x) with its RAS ``affine`` to an open file; the same input gives the same bytes (no time stamp, no name)."""
    header = np.zeros((), _layout(1).newbyteorder("<"))
    header["sizeof_hdr"], header["magic"], header["vox_offset"] = 348, b"n+1", 352
    header["dim"] = (3, *array.shape[::-1], 1, 1, 1, 1)
    header["datatype"], header["bitpix"] = _CODES[array.dtype.name], array.dtype.itemsize * 8
    header["scl_slope"], header["xyzt_units"] = 1, 2
    header["qform_code"] = header["sform_code"] = 1
    header["srow"] = affine[:3]
    header["qoffset"] = affine[:3, 3]
    qfac, header["quatern"] = _quaternion(affine)
    header["pixdim"] = (qfac, *np.linalg.norm(affine[:3, :3], axis=0), 1, 1, 1, 1)
    file_type = array.dtype.newbyteorder("<")
    out = gzip.GzipFile("", "wb", GZIP_LEVEL, stream, mtime=0) if compress else stream
    try:
        out.write(header.tobytes() + bytes(4))
        step = max(1, SLAB_BYTES // max(array[0].nbytes, 1))
        for k in range(0, len(array), step):
            out.write(np.ascontiguousarray(array[k : k + step], file_type).data)
    finally:
        if compress:
            out.close()


def _parse(raw: np.void, order: str, path: Path) -> NiftiHeader:
    if not raw["magic"].startswith((b"n+1", b"n+2")):
        raise InputError(
            f"{path}: not a single-file NIfTI image (no 'n+1' mark; Analyze or .hdr/.img?); convert it to .nii.gz"
        )
    ndim = int(raw["dim"][0])
    shape = [int(n) for n in raw["dim"][1 : ndim + 1]]
    if not 1 <= ndim <= 7 or min(shape) < 1:
        raise InputError(
            f"{path}: damaged NIfTI header (dimensions {[int(n) for n in raw['dim']]}); export the image again"
        )
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    kind, name = _TYPES.get(int(raw["datatype"]), (None, f"unknown (code {int(raw['datatype'])})"))
    if kind is None:
        raise InputError(
            f"{path}: voxels are of type {name}; one number per voxel (HU or label) is needed: export a scalar volume"
        )
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        slope, intercept = 1.0, 0.0
    affine, notes = _affine(raw)
    offset = max(int(raw["vox_offset"]), raw.dtype.itemsize)
    return NiftiHeader(tuple(shape), np.dtype(kind).newbyteorder(order), affine, slope, intercept, offset, notes)


def _affine(raw: np.void) -> tuple[np.ndarray, list[str]]:
    """RAS affine by sform, else qform, else voxel sizes; with notes on what was missing or contradictory."""
    pixdim = raw["pixdim"].astype(float)
    qform = _qform(raw, pixdim) if raw["qform_code"] > 0 else None
    if raw["sform_code"] > 0:
        affine = np.vstack([raw["srow"].astype(float), [0, 0, 0, 1]])
        last = np.append(raw["dim"][1:4].astype(float) - 1, 1)
        differs = (
            qform is not None
            and max(np.abs(qform - affine)[:3, 3].max(), np.abs((qform - affine) @ last)[:3].max()) > 0.1
        )
        return affine, ["sform and qform of the file disagree; the sform was used"] if differs else []
    if qform is not None:
        return qform, []
    note = "the file has neither qform nor sform; axes assumed right to left, anterior to posterior, inferior to superior from (0, 0, 0)"
    return np.diag([-pixdim[1], -pixdim[2], pixdim[3], 1.0]), [note]  # what ITK, hence Slicer, assumes


def _qform(raw: np.void, pixdim: np.ndarray) -> np.ndarray:
    b, c, d = raw["quatern"].astype(float)
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * (pixdim[1:4] * [1, 1, -1 if pixdim[0] < 0 else 1])
    affine[:3, 3] = raw["qoffset"]
    return affine


def _quaternion(affine: np.ndarray) -> tuple[float, np.ndarray]:
    """``(qfac, (b, c, d))`` of the rotation nearest to the affine's axes, with the real part ``a`` >= 0."""
    from scipy.spatial.transform import Rotation

    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    qfac = 1.0 if np.linalg.det(cosines) > 0 else -1.0
    u, _, vt = np.linalg.svd(cosines * [1, 1, qfac])
    b, c, d, a = Rotation.from_matrix(u @ vt).as_quat()
    return qfac, np.array([b, c, d]) * (1 if a >= 0 else -1)


def _open(path: Path) -> BinaryIO:
    """The file's bytes, decompressed when they are gzip, whatever the name says."""
    stream = open(path, "rb")
    packed = stream.read(2) == b"\x1f\x8b"
    stream.close()
    return gzip.open(path, "rb") if packed else open(path, "rb")


def _take(stream: BinaryIO, count: int, path: Path) -> bytes:
    data = _guarded(lambda: stream.read(count), path)
    if len(data) < count:
        raise InputError(f"{path}: the file ends too early (truncated or not an image); copy or export it again")
    return data


def _drain(stream: BinaryIO, path: Path) -> None:
    """Read to the end, which makes gzip compare its checksum."""
    while _guarded(lambda: stream.read(1 << 20), path):
        pass


def _guarded(read: Callable[[], bytes], path: Path) -> bytes:
    try:
        return read()
    except EOFError:
        return b""
    except (zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the compressed data are damaged ({error}); copy or export the file again") from error


def _check_length(path: Path, wanted: int) -> None:
    """Refuse before allocating when the header promises more than the file can hold (gzip packs at most 1032:1)."""
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    if wanted > path.stat().st_size * (1032 if packed else 1):
        raise InputError(
            f"{path}: the file ends too early (truncated: its header promises {wanted} bytes); copy or export it again"
        )
