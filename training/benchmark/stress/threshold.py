"""A rule in place of a model: whatever in an organ differs from the organ's median by so many HU is a lesion."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.synthesis.scan import PreparedScan
from PASTALib.volume import Volume

from .models import UNNAMED, Seen

SIGMA_MM = 2.5  # of the smoothing within the organ, at least a voxel, so that noise alone is no lesion
LEAST_MM = 4.0  # diameter of a ball as large as the smallest piece that counts
_FORM = re.compile(r"threshold:\s*([+-]?[\d.]+)\s*(?:,\s*([+-]?[\d.]+)\s*)?(?:@\s*([a-z, ]+))?")
_TOUCHING = np.ones((3, 3, 3), bool)


@dataclass
class ThresholdModel:
    """Voxels of ``organs`` whose HU, smoothed within the organ (sigma 2.5 mm, at least a voxel), lie beyond the organ's median + ``low`` or + ``high``, in pieces
    as large as a ball of 4 mm; the organ's outermost voxels are left out. It is shown the organ map, which networks are not, and names no lesion type.
    """

    low: float
    high: float
    organs: tuple[str, ...]
    types: frozenset[int] = frozenset()
    window_mm: float | None = None
    notes: list[str] = field(default_factory=list)
    _known: tuple[PreparedScan | None, dict[int, float]] = field(default=(None, {}), repr=False)

    @property
    def name(self) -> str:
        where = "" if len(self.organs) == len(taxonomy.ORGANS) else f"@{','.join(self.organs)}"
        band = f"{self.high:g}" if self.low == -self.high else f"{self.low:g},{self.high:g}"
        return f"threshold:{band}{where}"

    @property
    def digest(self) -> str:
        return self.name

    def look(self, scan: PreparedScan, part: Volume, box: tuple[slice, slice, slice]) -> Seen:
        """``Tested.look``; the medians are those of the unaltered scan."""
        labels = scan.organs.labels.array[box]
        evidence = np.zeros(labels.shape, np.float32)
        beyond = np.zeros(labels.shape, bool)
        sigma = np.maximum(SIGMA_MM / scan.spacing, 1.0)
        reach = np.ceil(4 * sigma).astype(int)  # as far as the filter looks
        places = ndimage.find_objects(labels, max_label=len(taxonomy.ORGANS))
        for value, median in self._organ_medians(scan).items():
            if places[value - 1] is None:
                continue
            here = tuple(slice(max(s.start - r, 0), s.stop + r) for s, r in zip(places[value - 1], reach))
            organ = ndimage.binary_erosion(labels[here] == value)  # the outermost voxels are part something else
            weight = ndimage.gaussian_filter(organ.astype(np.float32), sigma)
            inside = np.where(organ, part.array[here].astype(np.float32) - np.float32(median), np.float32(0))
            off = (ndimage.gaussian_filter(inside, sigma) / np.maximum(weight, 1e-3))[organ]
            limit = np.where(off < 0, -self.low, self.high)
            evidence[here][organ] = 1 - 2 ** (-np.abs(off) / limit)  # one half at the threshold
            beyond[here][organ] = np.abs(off) > limit
        return Seen(np.where(_pieces(beyond, scan.spacing), np.uint8(UNNAMED), np.uint8(0)), evidence)

    def look_at_all(self, scan: PreparedScan, progress) -> np.ndarray:
        """``Tested.look_at_all``."""
        progress(0, 0, "looking at the unaltered scan")
        return self.look(scan, scan.ct, (slice(None),) * 3).found

    def _organ_medians(self, scan: PreparedScan) -> dict[int, float]:
        if self._known[0] is not scan:
            labels, hu = scan.organs.labels.array, scan.ct.array
            values = [taxonomy.organ(key).value for key in self.organs if key in scan.geometry]
            self._known = scan, {value: float(np.median(hu[labels == value])) for value in values}
        return self._known[1]


def _pieces(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """``mask`` without pieces smaller than a ball of 4 mm."""
    pieces, _ = ndimage.label(mask, _TOUCHING)
    least = np.pi / 6 * LEAST_MM**3 / np.prod(spacing)
    kept = np.bincount(pieces.ravel()) >= least
    kept[0] = False
    return kept[pieces]


def read_threshold(text: str) -> ThresholdModel:
    """``threshold:N``, ``threshold:LOW,HIGH`` (HU from the organ's median, LOW below and HIGH above 0), with ``@organ,organ`` for some organs only."""
    match = _FORM.fullmatch(text.strip())
    try:
        numbers = [float(item) for item in match.groups()[:2] if item is not None]
    except (AttributeError, ValueError):
        numbers = []
    if not numbers:
        raise InputError(
            f"--stress {text!r}; write threshold:30 or threshold:-30,40 (HU from the organ's median), with @liver,kidney for some organs"
        )
    low, high = numbers if len(numbers) == 2 else (-abs(numbers[0]), abs(numbers[0]))
    if not -2000 <= low < 0 < high <= 2000:
        raise InputError(
            f"--stress {text!r}: {low:g} to {high:g} HU; the organ's median, 0, must lie between the limits"
        )
    organs = [item.strip() for item in (match[3] or "").split(",") if item.strip()] or list(taxonomy.ORGAN_KEYS)
    unknown = [item for item in organs if item not in taxonomy.ORGAN_KEYS]
    if unknown:
        raise InputError(f"--stress {text!r}: {unknown[0]!r} is not an organ; use {', '.join(taxonomy.ORGAN_KEYS)}")
    model = ThresholdModel(low, high, tuple(dict.fromkeys(organs)))
    model.notes.append(
        f"marks what differs from the median of its organ by {low:g} or {high:+g} HU after smoothing (sigma {SIGMA_MM:g} mm, at least a voxel); it is given the organ map"
    )
    return model
