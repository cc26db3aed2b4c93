"""Diameters of a lesion as a radiologist draws them: the longest in an axial slice, and the longest perpendicular to it (RECIST 1.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

# Outline pieces in one 2 x 2 cell of pixels, by its corners (1 upper left, 2 upper right, 4 lower left, 8 lower right): pairs of the
# cell's sides (T top, B bottom, L left, R right). Touching corners are joined, as lesions are 26-connected.
_PIECES = {
    1: ("TL",), 2: ("TR",), 3: ("LR",), 4: ("LB",), 5: ("TB",), 6: ("TL", "BR"), 7: ("BR",),
    8: ("BR",), 9: ("TR", "LB"), 10: ("TB",), 11: ("LB",), 12: ("LR",), 13: ("TR",), 14: ("TL",),
}  # fmt: skip
_SIDES = {"T": (0.0, 0.5), "B": (1.0, 0.5), "L": (0.5, 0.0), "R": (0.5, 1.0)}
_MOST_PIECES = 1500  # along the chords; longer outlines are cut into blocks to bound memory


@dataclass(frozen=True)
class Line:
    """A straight line in the patient: both ends in RAS mm."""

    start_ras: tuple[float, float, float]
    end_ras: tuple[float, float, float]

    @property
    def length_mm(self) -> float:
        return float(np.linalg.norm(np.subtract(self.end_ras, self.start_ras)))


def largest_slice(mask: np.ndarray, axis: int) -> int:
    """Index along ``axis`` of the slice in which ``mask`` is largest; of equal ones the middle one."""
    area = np.count_nonzero(mask, axis=tuple(other for other in range(mask.ndim) if other != axis))
    best = np.flatnonzero(area == area.max())
    return int(best[len(best) // 2])


def long_and_short_axis(mask: np.ndarray, spacing_yx: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Ends (2, 2) of the longest diameter and of the longest one perpendicular to it, as continuous (row, column) indices.

    ``mask`` bool (rows, columns) of one slice with pixels of ``spacing_yx`` mm. The outline runs half-way between the centres of pixels
    inside and outside, so that a row of ten 1 mm pixels is 10 mm long. Of several pieces in the slice the largest is measured. Exact:
    no pair of outline points is farther apart, no perpendicular chord from outline to outline longer. ValueError for an empty mask.
    """
    if not mask.any():
        raise ValueError("the slice holds nothing of the lesion: there is no diameter to measure")
    pieces, count = ndimage.label(mask, np.ones((3, 3)))
    if count > 1:
        mask = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    spacing = np.asarray(spacing_yx, float)
    lines = _outline(mask) * spacing  # (n, 2 ends, 2) mm
    points = np.unique(lines.reshape(-1, 2), axis=0)
    corners = points[ConvexHull(points).vertices]
    corners = corners[np.lexsort(corners.T[::-1])]
    apart = squareform(pdist(corners))
    first, second = np.unravel_index(int(np.argmax(np.round(apart, 9))), apart.shape)
    long = corners[[first, second]]
    return long / spacing, _widest_chord(lines, points, long) / spacing


def _outline(mask: np.ndarray) -> np.ndarray:
    """Straight pieces (n, 2 ends, 2) of the outline of ``mask`` in (row, column) indices."""
    cell = np.pad(mask.astype(np.uint8), 1)
    code = cell[:-1, :-1] + 2 * cell[:-1, 1:] + 4 * cell[1:, :-1] + 8 * cell[1:, 1:]
    found = []
    for value, pieces in _PIECES.items():
        at = np.argwhere(code == value) - 1.0
        if len(at):
            found += [np.stack([at + _SIDES[a], at + _SIDES[b]], axis=1) for a, b in pieces]
    return np.concatenate(found)


def _widest_chord(lines: np.ndarray, points: np.ndarray, long: np.ndarray) -> np.ndarray:
    """The longest chord perpendicular to ``long`` from outline to outline (its length is piecewise linear between outline points)."""
    along = (long[1] - long[0]) / np.linalg.norm(long[1] - long[0])
    across = np.array([-along[1], along[0]])
    t, v = lines @ along, lines @ across  # (n, 2)
    turn = t[:, 0] > t[:, 1]
    t[turn], v[turn] = t[turn, ::-1], v[turn, ::-1]
    places = np.unique(np.round(points @ along, 9))
    best = (-1.0, 0.0, 0.0, 0.0)
    for block in np.array_split(places, -(-len(places) // _MOST_PIECES)):
        spans = (t[:, :1] <= block + 1e-9) & (t[:, 1:] >= block - 1e-9)  # (n, places)
        share = np.clip((block - t[:, :1]) / np.maximum(t[:, 1:] - t[:, :1], 1e-12), 0.0, 1.0)
        level = t[:, 1:] - t[:, :1] < 1e-9  # a piece that itself runs across: both its ends count
        value = v[:, :1] + share * (v[:, 1:] - v[:, :1])
        low = np.where(spans, np.where(level, v.min(1, keepdims=True), value), np.inf).min(0)
        high = np.where(spans, np.where(level, v.max(1, keepdims=True), value), -np.inf).max(0)
        widest = int(np.argmax(np.round(high - low, 9)))
        if high[widest] - low[widest] > best[0] + 1e-9:
            best = (high[widest] - low[widest], block[widest], low[widest], high[widest])
    _, place, low, high = best
    return np.stack([place * along + low * across, place * along + high * across])
