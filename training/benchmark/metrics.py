"""How a predicted mask is scored: overlap, surface, lesions. Distances by MONAI, pieces by scipy.

Empty masks. Dice is 1 where truth and prediction are both empty and 0 where one of them is, so every case has one; ``lesions`` is 0 where the
truth is empty, and the report leaves those cases out of the mean unless it is asked not to, as the authors' script does. Surface figures need
both masks: None where either is empty. False positives are counted in every case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from PASTALib.errors import InputError

from ..segmentation.evaluate import FOUND_SHARE, dice

NSD_TOLERANCE_MM = 2.0  # ours; the paper has no surface figure
_TOUCHING = np.ones((3, 3, 3), bool)


def score_masks(
    predicted: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    labels: Mapping[str, int],
    *,
    surface: bool = True,
    tolerance_mm: float = NSD_TOLERANCE_MM,
) -> list[tuple[str, str, float | None]]:
    """(label, metric, value) of label maps (z, y, x) of one grid, for every one of ``labels`` (name -> value).

    dice; nsd (share of both surfaces within ``tolerance_mm`` of the other) and hd95 in mm, with ``surface``; lesions, found (a tenth or more of
    its voxels predicted) and false_positives (predicted pieces that touch no lesion), pieces by 26 neighbours. InputError for unlike shapes.
    """
    if predicted.shape != truth.shape or truth.ndim != 3:
        raise InputError(
            f"predicted mask of {predicted.shape} and true mask of {truth.shape} voxels; wanted two of one 3D grid"
        )
    rows: list[tuple[str, str, float | None]] = []
    for name, value in labels.items():
        found, there = predicted == value, truth == value
        rows.append((name, "dice", dice(found, there)))
        if surface:
            nsd, hd95 = surface_figures(found, there, spacing_mm, tolerance_mm)
            rows += [(name, "nsd", nsd), (name, "hd95", hd95)]
        rows += [(name, metric, float(count)) for metric, count in lesion_counts(found, there).items()]
    return rows


def surface_figures(
    found: np.ndarray, there: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float = NSD_TOLERANCE_MM
) -> tuple[float | None, float | None]:
    """Normalised surface Dice and 95th percentile of the Hausdorff distance (the larger of both directions, mm); None where a mask is empty."""
    if not found.any() or not there.any():
        return None, None
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    box = _box(found | there)
    pair = [torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None].float() for mask in (found, there)]
    spacing = [float(value) for value in spacing_mm]
    nsd = compute_surface_dice(*pair, [float(tolerance_mm)], include_background=True, spacing=spacing)
    hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
    return float(nsd), float(hd95)


def lesion_counts(found: np.ndarray, there: np.ndarray) -> dict[str, int]:
    """Lesions in the truth, how many are found, and predicted pieces that touch none."""
    lesions, count = ndimage.label(there, _TOUCHING)
    pieces, predicted = ndimage.label(found, _TOUCHING)
    sizes = np.bincount(lesions.ravel(), minlength=count + 1)[1:]
    covered = np.bincount(lesions[found], minlength=count + 1)[1:]
    touching = np.unique(pieces[there & found])
    return {
        "lesions": count,
        "found": int(np.count_nonzero(covered >= np.maximum(1, FOUND_SHARE * sizes))),
        "false_positives": predicted - len(touching),
    }


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The mask's bounding box with a voxel around it, so that surfaces at its border are surfaces."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
