"""Tumour outlines of a CT: an RTSTRUCT's contours, or a DICOM SEG, as a mask on the CT's grid. No torch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from PASTALib.errors import InputError
from PASTALib.imageio.files import LPS_RAS
from PASTALib.volume import Volume

_GTV = re.compile(r"gtv", re.IGNORECASE)
PRIMARY = re.compile(r"gtv[-_ ]?0*1", re.IGNORECASE)  # Lung1 calls the primary tumour GTV-1
OFF_SLICE = 0.1  # voxels that a contour's plane may lie beside a slice's


def primary_name(names: Sequence[str]) -> str | None:
    """The structure that is the primary tumour: GTV-1, else the first whose name begins with GTV (one is called gtv-pre-op)."""
    exact = [name for name in names if PRIMARY.fullmatch(name.strip())]
    begun = [name for name in names if _GTV.match(name.strip())]
    return next(iter(exact or begun), None)


def structure_mask(path: Path, ct: Volume) -> tuple[np.ndarray, str]:
    """The primary tumour of an RTSTRUCT file, uint8 on the grid of ``ct``, and its name.

    Contours of one slice are combined by even-odd filling, so that a contour within another is a hole. InputError when there is no GTV, or
    its contours lie off the slices or beyond the scan.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        data = pydicom.dcmread(path)
        names = {int(one.ROINumber): str(one.ROIName) for one in data.StructureSetROISequence}
        contours = {int(one.ReferencedROINumber): one for one in data.ROIContourSequence}
    except (InvalidDicomError, OSError, EOFError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an RTSTRUCT ({error}); download the series again") from None
    name = primary_name(list(names.values()))
    if name is None:
        raise InputError(f"{path}: outlines {', '.join(names.values()) or 'nothing'}; wanted a GTV")
    number = next(key for key, value in names.items() if value == name)
    drawn = [one for one in getattr(contours.get(number), "ContourSequence", None) or ()]
    planar = [one for one in drawn if str(one.get("ContourGeometricType", "")) == "CLOSED_PLANAR"]
    if not planar:
        raise InputError(f"{path}: {name} has no closed contour; use the SEG, or leave the case out")
    mask = np.zeros(ct.array.shape, np.uint8)
    for one in planar:
        lps = np.array([float(value) for value in one.ContourData]).reshape(-1, 3)
        _fill(mask, ct.to_index(lps * np.diag(LPS_RAS)[:3]), path, name)
    if not mask.any():
        raise InputError(f"{path}: {name} covers no voxel's centre of the scan; check that they belong together")
    return mask, name


def segmentation_mask(path: Path, ct: Volume) -> tuple[np.ndarray, str]:
    """The primary tumour of a DICOM SEG file, uint8 on the grid of ``ct``, and its label.

    InputError when there is no GTV (or neoplasm), or the frames do not lie on the slices.
    """
    import highdicom as hd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks on values of old exporters
        try:
            seg = hd.seg.segread(path)
            labels = {n: str(seg.get_segment_description(n).segment_label) for n in seg.segment_numbers}
            named = {n: f"{text} {_described(seg, n)}" for n, text in labels.items()}
            chosen = primary_name(list(labels.values()))
            number = next((n for n, text in labels.items() if text == chosen), None)
            if number is None:
                number = next((n for n, text in named.items() if re.search("neoplasm|tumou?r", text, re.I)), None)
            if number is None:
                raise InputError(f"{path}: shows {', '.join(labels.values())}; wanted a GTV or neoplasm")
            volume = seg.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
        except (OSError, EOFError, AttributeError, RuntimeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: cannot be read as a SEG ({error}); download the series again") from None
    voxels = np.argwhere(np.asarray(volume.array).reshape(volume.spatial_shape) > 0)
    if not len(voxels):
        raise InputError(f"{path}: {labels[number]} is empty; download the series again")
    lps = voxels @ np.asarray(volume.affine)[:3, :3].T + np.asarray(volume.affine)[:3, 3]
    places = ct.to_index(lps * np.diag(LPS_RAS)[:3])
    at = np.rint(places).astype(int)
    worst = float(np.abs(places - at).max())
    if worst > OFF_SLICE or (at < 0).any() or (at >= ct.array.shape).any():
        raise InputError(
            f"{path}: {labels[number]} is not on the scan's grid (off by up to {worst:.2f} voxels, or outside it); check both"
        )
    mask = np.zeros(ct.array.shape, np.uint8)
    mask[tuple(at.T)] = 1
    return mask, labels[number]


def _described(seg, number: int) -> str:
    description = seg.get_segment_description(number)
    return f"{description.segmented_property_type.meaning}"


def _fill(mask: np.ndarray, places: np.ndarray, path: Path, name: str) -> None:
    """Toggle the voxels whose centres lie within a contour given in voxel indices (z, y, x)."""
    from skimage.draw import polygon

    k = int(np.rint(places[:, 0].mean()))
    off = float(np.abs(places[:, 0] - k).max())
    if off > OFF_SLICE:
        raise InputError(f"{path}: a contour of {name} lies {off:.2f} slices off the scan's slices; check both")
    if not 0 <= k < len(mask):
        raise InputError(f"{path}: a contour of {name} lies {k} slices from the first of {len(mask)}; check both")
    rows, columns = polygon(places[:, 1], places[:, 2], mask.shape[1:])
    mask[k, rows, columns] ^= 1
