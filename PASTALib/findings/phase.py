"""Plain or enhanced: from the organ map where there is one, else from how much calm bright tissue the scan shows and what DICOM says."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .. import taxonomy
from ..organs import OrganMap
from ..templates import ENHANCED_FROM_HU, contrast_phase
from ..volume import Volume

ORGANS_CONFIDENCE = 0.8  # organs stood in for the vessels
IMAGE_CONFIDENCE = 0.6  # brightness of the whole scan
TAG_CONFIDENCE = 0.6  # the DICOM header alone, which is filled in by hand
BOTH_CONFIDENCE = 0.8  # brightness and header agree

# Ours, set on seven scans of known phase and two phantoms. Soft tissue that is calm (no edges) and brighter than anything unenhanced but
# bone: 17 to 51 % of the calm soft tissue in enhanced scans of the trunk, 2 to 3 % in plain ones; 6 mm and deeper inside such tissue, where
# bone seldom is calm: 1.2 to 26 % against at most 0.08 %.
_COARSE_MM = 3.0
_SMOOTH_MM = 2.0
_CALM_HU_PER_MM = 6.0
_SOFT_HU = (-20.0, 400.0)
_BRIGHT_HU = ENHANCED_FROM_HU + 5.0
_DEEP_MM = 6.0
_ENHANCED_SHARE, _ENHANCED_DEEP = 0.12, 0.006
_PLAIN_SHARE, _PLAIN_DEEP = 0.06, 0.0015
_LEAST_ML = 200.0
# A small scan may hold neither heart, large vessel nor kidney: that nothing is bright there does not make it plain.
_PLAIN_LEAST_ML, _PLAIN_LEAST_LENGTH_MM = 3000.0, 150.0

_NO_AGENT = re.compile(
    r"\b(no|none|non(?![- ]?ionic)|not|without|ohne|sans|nil|native|plain|unenhanced|0 ?ml)\b", re.IGNORECASE
)
_NOT_INTRAVENOUS = re.compile(r"\b(oral|rectal|water|po|enteric)\b", re.IGNORECASE)
_INTRAVENOUS = re.compile(r"\b(iv|i\.v\.?|intravenous|applied)\b", re.IGNORECASE)


@dataclass(frozen=True)
class ScanPhase:
    """``value``: "Enhanced CT", "Plain CT" or None when it cannot be told; ``reason`` in words; ``confidence`` 0-1, None when measured in the vessels."""

    value: str | None
    reason: str
    confidence: float | None = None


def scan_phase(ct: Volume, organs: OrganMap | None = None) -> ScanPhase:
    """Contrast phase of a CT in HU.

    With an organ map that of ``templates.contrast_phase``. Without one, or where the map lacks what is needed, the scan's own brightness and
    the DICOM header are asked; when they contradict each other or say nothing, the phase stays open. InputError for a map on another grid.
    """
    if organs is not None:
        found = contrast_phase(ct, organs)
        if found.phase in (taxonomy.ENHANCED, taxonomy.PLAIN):
            return ScanPhase(found.phase, found.reason, ORGANS_CONFIDENCE if found.estimated else None)
    image, why = _phase_of_image(ct)
    tag, header = _phase_of_header(ct)
    if image and tag and image != tag:
        return ScanPhase(None, f"cannot be told: {why}, but {header}")
    if image and tag:
        return ScanPhase(image, f"estimated: {why}, and {header}", BOTH_CONFIDENCE)
    if image:
        return ScanPhase(image, f"estimated: {why}", IMAGE_CONFIDENCE)
    if tag:
        return ScanPhase(tag, f"from the DICOM header: {header}", TAG_CONFIDENCE)
    return ScanPhase(None, f"cannot be told without an organ map: {why}")


def _phase_of_image(ct: Volume) -> tuple[str | None, str]:
    coarse, spacing = _coarse(ct)
    smooth = ndimage.gaussian_filter(coarse, _SMOOTH_MM / spacing)
    slope = np.sqrt(sum(np.gradient(smooth, h, axis=axis) ** 2 for axis, h in enumerate(spacing)))
    calm = (smooth > _SOFT_HU[0]) & (smooth < _SOFT_HU[1]) & (slope < _CALM_HU_PER_MM)
    voxel_ml = float(np.prod(spacing)) / 1000.0
    soft_ml = float(np.count_nonzero(calm)) * voxel_ml
    if soft_ml < _LEAST_ML:
        return None, f"only {soft_ml:.0f} ml of calm soft tissue in the scan"
    bright = calm & (smooth >= _BRIGHT_HU)
    share = np.count_nonzero(bright) * voxel_ml / soft_ml
    depth = ndimage.distance_transform_edt(bright, sampling=spacing)
    deep = np.count_nonzero(depth >= _DEEP_MM) * voxel_ml / soft_ml
    seen = f"{100 * share:.1f} % of the soft tissue is brighter than {_BRIGHT_HU:.0f} HU"
    if share >= _ENHANCED_SHARE and deep >= _ENHANCED_DEEP:
        return taxonomy.ENHANCED, seen
    length_mm = float(max(n * h for n, h in zip(ct.array.shape, ct.spacing_zyx_mm)))
    if (
        share <= _PLAIN_SHARE
        and deep <= _PLAIN_DEEP
        and soft_ml >= _PLAIN_LEAST_ML
        and length_mm >= _PLAIN_LEAST_LENGTH_MM
    ):
        return taxonomy.PLAIN, seen
    return None, f"{seen}, which fits either phase"


def _coarse(ct: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Means over blocks of about 3 mm, float32, and their spacing (z, y, x) in mm; slab by slab, so that memory stays small."""
    spacing = ct.spacing_zyx_mm
    steps = np.maximum(1, np.round(_COARSE_MM / spacing).astype(int))
    count = np.maximum(1, np.array(ct.array.shape) // steps)
    steps = np.minimum(steps, ct.array.shape)
    out = np.empty(count, np.float32)
    rows, columns = count[1], count[2]
    for k in range(count[0]):
        slab = ct.array[k * steps[0] : (k + 1) * steps[0], : rows * steps[1], : columns * steps[2]]
        blocks = np.clip(slab, -1024, 1500).reshape(steps[0], rows, steps[1], columns, steps[2])
        out[k] = blocks.mean(axis=(0, 2, 4), dtype=np.float32)
    return out, spacing * steps


def _phase_of_header(ct: Volume) -> tuple[str | None, str]:
    """What (0018,0010) Contrast/Bolus Agent and (0018,1040) route say; (None, "") when absent, empty or not about the vein."""
    agent = _dicom_text(ct, "0018|0010")
    if not agent:
        return None, ""
    said = f"{agent} {_dicom_text(ct, '0018|1040')}".strip()
    what = f"its contrast agent reads “{agent[:40]}”"
    if _NO_AGENT.search(said):
        return taxonomy.PLAIN, what
    if _NOT_INTRAVENOUS.search(said) and not _INTRAVENOUS.search(said):
        return None, ""
    return taxonomy.ENHANCED, what


def _dicom_text(ct: Volume, tag: str) -> str:
    files = ct.meta.get("dicom", {}).get("files", [])
    if not files:
        return ""
    import SimpleITK as sitk

    from ..imageio.files import quiet_itk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(files[len(files) // 2]))
    try:
        with quiet_itk():
            reader.ReadImageInformation()
    except RuntimeError:
        return ""
    text = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split()).strip("\0 ")
