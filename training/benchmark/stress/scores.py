"""What a model made of one lesion, and of a scan without any."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.stats import rankdata

from PASTALib import taxonomy
from PASTALib.inference.regions import MIN_SIZE_MM

from .models import UNNAMED, Seen

FOUND_SHARE = (
    0.1  # of a lesion's voxels that must be marked for it to count as found, as where trained models are scored
)
RIM_MM = 4.0  # around a lesion that belongs to neither side when lesion and organ are told apart
_TOUCHING = np.ones((3, 3, 3), bool)
_NAMES = {item.value: item.key for item in taxonomy.LESIONS} | {UNNAMED: "unnamed"}


def score_lesion(
    after: Seen,
    before: Seen,
    label: np.ndarray,
    organ: np.ndarray,
    lesion: str,
    spacing: np.ndarray,
    types: frozenset[int],
) -> dict[str, float | int | str | None]:
    """Figures of one lesion. All arrays (z, y, x) lie on the part of the scan that the model was shown.

    ``found``: at least 10 % of the lesion's voxels are marked as any lesion and were not before the lesion was there; ``found_type``: the same
    for marks of its type (None for a model that does not know it). ``overlap``: 10 % are marked, before or not; ``marked_before``: 10 % were. ``dice``:
    of the lesion with all newly marked pieces that touch it. ``auc``: how well the model's lesion probability
    tells the lesion's voxels from those of the rest of the organ here (0.5 chance); ``auc_before``: the same voxels in the unaltered scan;
    ``gain``: mean probability in the lesion minus that of the same voxels before; ``inside``, ``outside``, ``highest``: its mean and maximum
    in the lesion, its mean in the rest of the organ. ``named``: type of most newly marked voxels, "unnamed" for none that the model
    tells, "" where nothing is.
    """
    wanted, now, was = taxonomy.lesion(lesion).value, after.found[label], before.found[label]
    fresh = (now > 0) & (was == 0)
    count = np.count_nonzero(label)
    least = max(1.0, FOUND_SHARE * count)
    pieces, _ = ndimage.label((after.found > 0) & (before.found == 0), _TOUCHING)
    touching = np.unique(pieces[label])
    piece = np.isin(pieces, touching[touching > 0])
    shared = np.count_nonzero(piece & label)
    rest = organ & (ndimage.distance_transform_edt(~label, sampling=spacing) > RIM_MM)
    inside, outside = after.evidence[label], after.evidence[rest]
    earlier = before.evidence[label]
    return {
        "found": int(np.count_nonzero(fresh) >= least),
        "found_type": int(np.count_nonzero((now == wanted) & (was != wanted)) >= least) if wanted in types else None,
        "overlap": int(np.count_nonzero(now) >= least),
        "marked_before": int(np.count_nonzero(was) >= least),
        "dice": 2 * shared / (count + np.count_nonzero(piece)),
        "share": np.count_nonzero(now) / count,
        "auc": auc(inside, outside),
        "auc_before": auc(earlier, before.evidence[rest]),
        "gain": float(inside.mean() - earlier.mean()),
        "inside": float(inside.mean()),
        "outside": float(outside.mean()) if outside.size else float("nan"),
        "highest": float(inside.max()),
        "named": _NAMES[int(np.bincount(now[fresh]).argmax())] if fresh.any() else "",
    }


def auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Area under the ROC curve of telling ``inside`` from ``outside``, ties counted half (Mann-Whitney); NaN when one is empty."""
    if not inside.size or not outside.size:
        return float("nan")
    ranks = rankdata(np.concatenate([inside, outside]))
    return float((ranks[: inside.size].sum() - inside.size * (inside.size + 1) / 2) / (inside.size * outside.size))


def false_positives(found: np.ndarray, spacing: np.ndarray) -> dict[str, float]:
    """What is marked in a scan without lesions: ``pieces`` (26-connected, as large as a ball of 3 mm at least), ``volume_ml`` of all
    that is marked, and pieces by type (``pieces_<type>``, ``pieces_unnamed``) where there are any.
    """
    voxel = float(np.prod(spacing))
    least = np.pi / 6 * MIN_SIZE_MM**3 / voxel

    def count(mask: np.ndarray) -> int:
        pieces, _ = ndimage.label(mask, _TOUCHING)
        return int((np.bincount(pieces.ravel())[1:] >= least).sum())

    figures: dict[str, float] = {"pieces": count(found > 0), "volume_ml": np.count_nonzero(found) * voxel / 1000}
    for value in np.unique(found[found > 0]):
        if number := count(found == value):
            figures[f"pieces_{_NAMES[int(value)]}"] = number
    return figures
