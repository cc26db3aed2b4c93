"""Orthogonal views through a lesion, in physical proportions and radiological orientation; no figure library involved.

A view is a square picture of equal pixel size in both directions: patient right on the left (axial, coronal), anterior on the left
(sagittal), superior or anterior up. Scans with tilted axes are shown along their own axes, lettered by the nearest anatomical direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .. import taxonomy

# (width, level) in HU. Soft tissue, lung and bone as on any workstation; narrower where the contrast is small.
_WINDOWS = {"lung": (1500, -600), "bone": (1800, 400), "liver": (250, 80)}
_LESION_WINDOWS = {"gallstone": (500, 120), "kidney_stone": (600, 150)}
SOFT_TISSUE = (400, 40)

_PLANES = {
    "axial": (0, 1, 2),
    "coronal": (1, 0, 2),
    "sagittal": (2, 0, 1),
}  # through-plane axis, image rows, image columns
_LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}  # left, right, top, bottom
PLANES = tuple(_PLANES)


def window_of(lesion_key: str) -> tuple[float, float]:
    """Display window (width, level) in HU that suits a lesion type."""
    return _LESION_WINDOWS.get(lesion_key) or _WINDOWS.get(taxonomy.lesion(lesion_key).organ, SOFT_TISSUE)


def window_grey(hu: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """HU to display grey, uint8, for a window (width, level) in HU."""
    width, level = window
    grey = (np.asarray(hu, np.float32) - (level - width / 2)) * (255.0 / width)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def anatomical_axes(affine: np.ndarray) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """How to turn a ``(z, y, x)`` array into (superior→inferior, anterior→posterior, right→left).

    Returns the transposition and which of the new axes are then flipped. ``affine`` maps (i, j, k) to RAS mm; oblique axes go to the
    nearest anatomical one, each anatomical axis being used once.
    """
    from scipy.optimize import linear_sum_assignment

    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)  # columns: i, j, k in R, A, S
    ras, ijk = linear_sum_assignment(-np.abs(directions))
    axis_of = dict(zip(ras.tolist(), ijk.tolist()))
    order = tuple(2 - axis_of[anatomical] for anatomical in (2, 1, 0))
    flips = tuple(bool(directions[anatomical, axis_of[anatomical]] > 0) for anatomical in (2, 1, 0))
    return order, flips


@dataclass(frozen=True)
class View:
    """One plane through a lesion. Grey pictures are uint8 ``(n, n)``; ``outlines`` are polylines ``(m, 2)`` as (x, y) in picture fractions 0-1."""

    plane: str
    letters: str
    field_mm: float
    before: np.ndarray
    after: np.ndarray
    outlines: list[np.ndarray]


@dataclass(frozen=True)
class Overview:
    """The whole slice of one plane, grey uint8, with the box ``(x0, y0, x1, y1)`` of the zoomed view in picture fractions."""

    plane: str
    letters: str
    picture: np.ndarray
    box: tuple[float, float, float, float]


class LesionViews:
    """Views of one lesion in a scan before and after it was put in.

    ``before``, ``after`` (HU) and ``label`` (lesion where true) are ``(z, y, x)`` arrays on one grid, ``affine`` maps (i, j, k) to RAS mm. With ``box``
    (slices z, y, x) ``label`` holds that part of the grid only. Each plane is the slice where the lesion is largest; ``axial_index`` names another
    one for the axial plane (index along the scan axis nearest to head-foot). Nothing of the size of the scan is copied.
    """

    def __init__(
        self,
        before: np.ndarray,
        after: np.ndarray,
        label: np.ndarray,
        affine: np.ndarray,
        lesion_key: str,
        min_field_mm: float = 120.0,
        field_factor: float = 2.75,
        *,
        box: tuple[slice, slice, slice] | None = None,
        axial_index: int | None = None,
    ):
        affine = np.asarray(affine, float)
        order, flips = anatomical_axes(affine)
        turn = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
        same = before is after
        self._before, self._after, label = (np.asarray(item).transpose(order)[turn] for item in (before, after, label))
        if same:
            self._after = self._before  # drawn once
        self._order, self._flips = order, flips
        self.spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[::-1][list(order)]
        self.window = window_of(lesion_key)
        shape = self._after.shape
        inside = [slice(0, n) for n in shape] if box is None else [box[axis] for axis in order]
        first = np.array([n - s.stop if flip else s.start for s, n, flip in zip(inside, shape, flips)])
        bounds = [
            np.flatnonzero(label.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)
        ]
        if not len(bounds[0]):
            raise ValueError("the lesion mask is empty: there is nothing to show")
        low = np.array([item[0] for item in bounds])
        high = np.array([item[-1] + 1 for item in bounds])
        self._label = label[tuple(slice(a, b) for a, b in zip(low, high))] != 0
        low, high = low + first, high + first
        self._label_low = low
        self.extent_mm = (high - low) * self.spacing_mm
        self.field_mm = float(max(min_field_mm, field_factor * self.extent_mm.max()))
        self._middle = (low + high) / 2 - 0.5
        self._slices = []
        for axis in range(3):
            area = self._label.sum(axis=tuple(other for other in range(3) if other != axis))
            best = np.flatnonzero(area == area.max())
            self._slices.append(int(best[len(best) // 2]))
        if axial_index is not None:
            self._slices[0] = (shape[0] - 1 - axial_index if flips[0] else axial_index) - int(low[0])
            if not 0 <= self._slices[0] < len(self._label):
                raise ValueError(f"the axial slice {axial_index} does not meet the lesion")

    def place(self, plane: str, zyx: np.ndarray) -> tuple[float, float]:
        """Where the scan index (z, y, x; may be continuous) lies in the view of ``plane``: (x, y) in picture fractions 0-1."""
        _, rows, columns = _PLANES[plane]
        at = []
        for axis in (columns, rows):
            source = float(np.asarray(zyx, float)[self._order[axis]])
            voxel = self._after.shape[axis] - 1 - source if self._flips[axis] else source
            at.append(0.5 + float((voxel - self._middle[axis]) * self.spacing_mm[axis]) / self.field_mm)
        return at[0], at[1]

    def view(self, plane: str, pixels: int = 480, window: tuple[float, float] | None = None) -> View:
        """The zoomed view of ``plane``, ``pixels`` square; ``window`` (width, level) in HU instead of the type's own."""
        window = window or self.window
        through, rows, columns = _PLANES[plane]
        index = self._slices[through]
        outlines = self._outlines(index, through, rows, columns)
        position = int(self._label_low[through]) + index
        before = self._zoomed(np.take(self._before, position, axis=through), rows, columns, pixels, window)
        after = before
        if self._after is not self._before:
            after = self._zoomed(np.take(self._after, position, axis=through), rows, columns, pixels, window)
        return View(plane, _LETTERS[plane], self.field_mm, before, after, outlines)

    def overview(self, plane: str = "axial", pixels: int = 320) -> Overview:
        """The whole slice of ``plane`` (after), its longer side ``pixels``, with the box of the zoomed view."""
        through, rows, columns = _PLANES[plane]
        picture = np.take(self._after, int(self._label_low[through]) + self._slices[through], axis=through)
        size_mm = np.array(picture.shape) * self.spacing_mm[[rows, columns]]
        step_mm = size_mm.max() / pixels
        shape = np.maximum(1, np.rint(size_mm / step_mm)).astype(int)
        scale = np.array(picture.shape) / shape
        smooth = ndimage.gaussian_filter(picture.astype(np.float32), np.maximum(0, (scale - 1) / 2))
        grid = [(np.arange(n) + 0.5) * s - 0.5 for n, s in zip(shape, scale)]
        zoomed = ndimage.map_coordinates(smooth, np.meshgrid(*grid, indexing="ij"), order=1, mode="nearest")
        top, left = (self._middle[[rows, columns]] + 0.5) * self.spacing_mm[[rows, columns]] - self.field_mm / 2
        box = (
            left / size_mm[1],
            top / size_mm[0],
            (left + self.field_mm) / size_mm[1],
            (top + self.field_mm) / size_mm[0],
        )
        return Overview(plane, _LETTERS[plane], window_grey(zoomed, self.window), box)

    def _zoomed(
        self, picture: np.ndarray, rows: int, columns: int, pixels: int, window: tuple[float, float]
    ) -> np.ndarray:
        step_mm = self.field_mm / pixels
        offset_mm = (np.arange(pixels) + 0.5) * step_mm - self.field_mm / 2
        grid, crop = [], []
        for axis in (rows, columns):
            index = self._middle[axis] + offset_mm / self.spacing_mm[axis]
            size = picture.shape[len(grid)]
            first, last = (
                int(np.clip(np.floor(index[0]) - 1, 0, size - 1)),
                int(np.clip(np.ceil(index[-1]) + 2, 1, size)),
            )
            crop.append(slice(first, last))
            grid.append(np.where((index < -0.5) | (index > size - 0.5), -1e6, np.clip(index, 0, size - 1)) - first)
        patch = np.asarray(picture[tuple(crop)], np.float32)
        beyond = window[1] - window[0]
        values = ndimage.map_coordinates(
            patch, np.meshgrid(*grid, indexing="ij"), order=1, mode="constant", cval=beyond
        )
        return window_grey(values, window)

    def outlines(self, mask: np.ndarray, plane: str) -> list[np.ndarray]:
        """Polylines, as those of ``View``, of another ``mask`` ``(z, y, x)`` on the scan's grid in the slice of ``plane``."""
        through, rows, columns = _PLANES[plane]
        turn = tuple(slice(None, None, -1) if flip else slice(None) for flip in self._flips)
        position = int(self._label_low[through]) + self._slices[through]
        picture = np.take(np.asarray(mask).transpose(self._order)[turn], position, axis=through)
        return self._polylines(picture, rows, columns, np.zeros(3, int))

    def _outlines(self, index: int, through: int, rows: int, columns: int) -> list[np.ndarray]:
        return self._polylines(np.take(self._label, index, axis=through), rows, columns, self._label_low)

    def _polylines(self, picture: np.ndarray, rows: int, columns: int, low: np.ndarray) -> list[np.ndarray]:
        """Borders in a slice whose first voxel has the indices ``low`` (in the axes of the view)."""
        from contourpy import contour_generator

        lines = contour_generator(z=np.pad(picture.astype(np.float32), 1)).lines(0.5)
        outlines = []
        for line in lines:
            fractions = []
            for axis, position in ((columns, line[:, 0]), (rows, line[:, 1])):
                voxel = position - 1 + low[axis]
                fractions.append(0.5 + (voxel - self._middle[axis]) * self.spacing_mm[axis] / self.field_mm)
            outlines.append(np.column_stack(fractions))
        return outlines


def scale_bar_mm(field_mm: float) -> float:
    """A round length for the scale bar: 2 cm, or what fits a field of view of ``field_mm``."""
    return max(length for length in (5.0, 10.0, 20.0, 50.0, 100.0) if length <= max(5.0, field_mm / 4))
