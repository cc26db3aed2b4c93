"""Reading and writing images as plain arrays with a RAS affine: file formats, pixel types, and the checks on bad input.

``volume.read_volume`` and ``volume.write_volume`` are the public face of this file.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import InputError
from . import nifti

READABLE = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")
KINDS = ("ct", "labels")
MIN_SLICES = 4  # a lesion needs neighbours above and below; fewer slices hold no volume to work on
SPACING_RANGE_MM = (0.1, 10.0)
MAX_SHEAR = 1e-3  # cosine between two axes; 0.06 degrees, far above rounding, far below any gantry tilt
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
HU_SAMPLE = 2_000_000


class VoxelSink:
    """Collects slabs of voxels into one array of the type kept at rest, checking each: int16 for CT, uint8 or uint16 for labels."""

    def __init__(self, shape: tuple[int, int, int], kind: str, path: Path, source_type: np.dtype):
        small = kind == "labels" and np.dtype(source_type) in (np.uint8, np.bool_)
        self.array = np.empty(shape, np.int16 if kind == "ct" else np.uint8 if small else np.uint16)
        self.kind, self.path = kind, path
        self.clipped = 0

    def put(self, first: int, slab: np.ndarray) -> None:
        """Store ``slab`` (slices, y, x) from slice ``first`` on."""
        target = self.array[first : first + len(slab)]
        if slab.dtype.kind == "f":
            bad = slab.size - int(np.isfinite(slab).sum())
            if bad:
                raise InputError(
                    f"{self.path}: {bad} voxels in slices {first} to {first + len(slab) - 1} are NaN or infinite; finite values are "
                    "needed: replace them (air is -1000 HU) and export again"
                )
        low, high = slab.min(), slab.max()
        if self.kind == "labels":
            self._check_labels(slab, low, high)
        elif slab.dtype.kind == "f" or low < -32768 or high > 32767:
            if low < -32768 or high > 32767:
                self.clipped += int(((slab < -32768) | (slab > 32767)).sum())
            slab = np.clip(np.rint(slab) if slab.dtype.kind == "f" else slab, -32768, 32767)
        target[...] = slab

    def _check_labels(self, slab: np.ndarray, low: float, high: float) -> None:
        if low < 0:
            raise InputError(
                f"{self.path}: label {low:g} is negative; a label map holds whole numbers from 0 on: correct or re-export it"
            )
        if slab.dtype.kind == "f" and not np.array_equal(slab, np.rint(slab)):
            worst = slab[slab != np.rint(slab)][0]
            raise InputError(
                f"{self.path}: value {worst:g} is no whole number, so this is no label map; give the mask, resampled with nearest neighbour"
            )
        if high > 65535:
            raise InputError(f"{self.path}: label {high:g} is above 65535; renumber the labels")

    def finish(self) -> tuple[np.ndarray, list[str]]:
        """The array and one-line notes on what had to be changed."""
        if self.array.dtype == np.uint16 and int(self.array.max()) <= 255:
            self.array = self.array.astype(np.uint8)
        notes = [f"{self.clipped} voxels outside -32768..32767 HU were clipped"] if self.clipped else []
        return self.array, notes


def read_image(path: Path, kind: str, series_uid: str | None = None) -> tuple[np.ndarray, np.ndarray, dict]:
    """``(array (z, y, x), RAS affine, meta)`` of an image file or DICOM series folder; see ``volume.read_volume``."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; wanted one of {', '.join(KINDS)}")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    try:
        if path.is_dir():
            from . import dicom_series

            array, affine, meta = dicom_series.read(path, kind, series_uid)
        else:
            array, affine, meta = _read_file(path, kind)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions"
        ) from error
    if kind == "ct":
        check_hu(array, path)
    return array, affine, {"source": str(path), **meta}


def write_image(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write atomically by extension; see ``volume.write_volume``."""
    suffix = _suffix(path, WRITABLE)
    if suffix is None:
        raise InputError(f"{path}: unknown image extension; write one of {', '.join(WRITABLE)}")
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if array.ndim != 3 or array.dtype.name not in ("uint8", "int16", "uint16", "float32"):
        raise InputError(f"{path}: a {array.ndim}D array of {array.dtype}; wanted 3D int16, uint8, uint16 or float32")
    check_affine(affine, path)
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
    temporary = path.parent / f".{secrets.token_hex(6)}.part{suffix}"
    try:
        if suffix.startswith(".nii"):
            with open(temporary, "xb") as stream:
                nifti.write(array, affine, stream, suffix == ".nii.gz")
        else:
            _write_itk(array, affine, temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); free disk space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_shape(shape_xyz: tuple[int, ...], components: int, path: Path) -> None:
    """Refuse anything but one scalar 3D image with at least four voxels along every axis."""
    size = " x ".join(map(str, shape_xyz))
    if components != 1:
        raise InputError(
            f"{path}: {components} values per voxel (colour or vector image); one is needed: export a scalar volume or a label map"
        )
    if len(shape_xyz) < 3:
        raise InputError(
            f"{path}: a 2D image ({size}); a 3D volume of at least {MIN_SLICES} slices is needed: give the whole series"
        )
    if len(shape_xyz) > 3:
        raise InputError(
            f"{path}: a {len(shape_xyz)}D image ({size}); one 3D volume is needed: export a single time point or phase"
        )
    if min(shape_xyz) < MIN_SLICES:
        raise InputError(
            f"{path}: {min(shape_xyz)} slice(s) ({size} voxels); at least {MIN_SLICES} are needed, because a lesion extends over "
            "neighbouring slices: give the whole series"
        )


def check_affine(affine: np.ndarray, path: Path) -> None:
    """Refuse an affine that is singular or sheared, or whose voxels are of no plausible size. Flips and rotations are fine."""
    axes = np.asarray(affine, float)[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    text = " x ".join(f"{s:.4g}" for s in spacing)
    low, high = SPACING_RANGE_MM
    if not np.isfinite(affine).all() or not (spacing >= low).all() or not (spacing <= high).all():
        raise InputError(
            f"{path}: voxels of {text} mm; each side must be {low:g} to {high:g} mm: correct the spacing in the header"
        )
    cosines = axes / spacing
    shear = np.abs(cosines.T @ cosines - np.eye(3)).max()
    if abs(np.linalg.det(cosines)) < 0.1:
        raise InputError(
            f"{path}: the image axes do not span space (singular affine); export the image again from its source"
        )
    if shear > MAX_SHEAR:
        raise InputError(
            f"{path}: the image axes are sheared by {np.degrees(np.arcsin(min(1.0, shear))):.2f} degrees (gantry tilt?); resample it in "
            "Slicer with 'Acquisition geometry regularization' (DICOM) or 'Resample Scalar Volume', then save as .nrrd"
        )


def check_hu(array: np.ndarray, path: Path) -> None:
    """Refuse voxels that cannot be HU.

    Any CT of a body part, however tightly cropped, shows fat or air, so a thousandth of its voxels at least lies in -1100 to -30 HU, and
    its values span more than 200 HU. Values below -1100 (padding outside the scanner's field of view) say nothing either way.
    """
    values = array.reshape(-1)[:: max(1, array.size // HU_SAMPLE)]
    low, high = int(values.min()), int(values.max())
    fat_or_air = float(((values > -1100) & (values <= -30)).mean())
    if high - low >= 200 and fat_or_air >= 1e-3:
        return
    if low >= 0 and 8 < high <= 255:
        what = "an 8-bit picture or a label map"
    elif high - low < 200:
        what = "a normalised or empty image"
    else:
        what = "raw unsigned values or MR"
    raise InputError(
        f"{path}: values {low} to {high} with {100 * fat_or_air:.2g} % in the range of fat and air look like {what}; CT in HU is needed "
        "(air -1000, water 0): export it with its rescale slope and intercept"
    )


@contextlib.contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep ITK's warnings off the terminal while we look for ourselves; restores the setting."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def lps_affine(origin: tuple, spacing: tuple, direction: tuple) -> np.ndarray:
    """RAS affine from ITK's LPS origin, spacing and row-major 3x3 direction cosines."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(direction, (3, 3)) * np.asarray(spacing)
    affine[:3, 3] = origin
    return LPS_RAS @ affine


def _suffix(path: Path, known: tuple[str, ...]) -> str | None:
    return max((s for s in known if path.name.lower().endswith(s)), key=len, default=None)


def _read_file(path: Path, kind: str) -> tuple[np.ndarray, np.ndarray, dict]:
    with open(path, "rb") as stream:
        head = stream.read(132)
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a Git LFS pointer, not the image itself; fetch it with 'git lfs pull'")
    if head[128:] == b"DICM":
        raise InputError(f"{path}: a single DICOM file; give the folder that holds the whole series")
    suffix = _suffix(path, READABLE)
    if suffix is None:
        raise InputError(f"{path}: unknown image extension; give one of {', '.join(READABLE)} or a DICOM series folder")
    return _read_nifti(path, kind) if suffix.startswith(".nii") else _read_itk(path, kind)


def _read_nifti(path: Path, kind: str) -> tuple[np.ndarray, np.ndarray, dict]:
    header = nifti.read_header(path)
    is_vector = len(header.shape) == 5 and header.shape[3] == 1
    check_shape(header.shape[:3] if is_vector else header.shape, header.shape[4] if is_vector else 1, path)
    check_affine(header.affine, path)
    source_type = header.dtype if (header.slope, header.intercept) == (1.0, 0.0) else np.dtype(np.float32)
    parts = nifti.slabs(path, header)
    first = next(parts)  # fails on a truncated file before anything large is allocated
    sink = VoxelSink(header.shape[2::-1], kind, path, source_type)
    sink.put(*first)
    for k, slab in parts:
        sink.put(k, slab)
    array, notes = sink.finish()
    return array, header.affine, {"format": "NIfTI", "notes": header.notes + notes}


def _read_itk(path: Path, kind: str) -> tuple[np.ndarray, np.ndarray, dict]:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with quiet_itk():
            reader.ReadImageInformation()
            shape = list(reader.GetSize())
            while len(shape) > 3 and shape[-1] == 1:
                shape.pop()
            check_shape(tuple(shape), reader.GetNumberOfComponents(), path)
            n, spacing, origin = reader.GetDimension(), reader.GetSpacing(), reader.GetOrigin()
            direction = np.reshape(reader.GetDirection(), (n, n))[:3, :3]
            affine = lps_affine(origin[:3], spacing[:3], tuple(direction.ravel()))
            check_affine(affine, path)
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(_itk_message(path, error)) from error
    voxels = sitk.GetArrayViewFromImage(image).reshape(shape[::-1])
    sink = VoxelSink(voxels.shape, kind, path, voxels.dtype)
    step = max(1, nifti.SLAB_BYTES // voxels[0].nbytes)
    for k in range(0, len(voxels), step):
        sink.put(k, voxels[k : k + step])
    array, notes = sink.finish()
    return array, affine, {"format": path.suffix[1:].upper(), "notes": notes}


def _itk_message(path: Path, error: RuntimeError) -> str:
    text = str(error).lower()
    if "orthonormal" in text or "determinant" in text or "direction" in text:
        return f"{path}: the image axes are sheared or do not span space; resample it in Slicer ('Resample Scalar Volume') and save as .nrrd"
    if "pixel type" in text or "complex" in text:
        return f"{path}: voxels are of a type that cannot be used here; export a scalar int16 or float32 volume"
    reason = " ".join(str(error).split("ERROR:")[-1].split())[-120:]
    return f"{path}: unreadable, truncated or not an image ({reason}); copy or export it again"


def _write_itk(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    import SimpleITK as sitk

    lps = LPS_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    try:
        with quiet_itk():
            sitk.WriteImage(image, str(path), useCompression=True)
            image = sitk.ReadImage(str(path))  # ITK may hide a full disk
        same = np.array_equal(sitk.GetArrayViewFromImage(image), array)  # the view lives no longer than ``image``
    except RuntimeError as error:
        raise OSError(0, "writing failed") from error
    if not same:
        raise OSError(0, "the file written is not complete")
