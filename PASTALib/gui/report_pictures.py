"""Key images of a lesion: three planes with its outline and size lines, as pixmaps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import qt

from ..findings import Finding
from ..reporting.views import PLANES, LesionViews, View, scale_bar_mm
from ..volume import Volume

_OUTLINE, _LONG, _SHORT, _TEXT = "#ffb000", "#4cc3ff", "#5fdc7d", "#f2f2f2"
_FIELD_MM, _FIELD_FACTOR = 90.0, 2.3


class BlockyViews(LesionViews):
    """``LesionViews`` whose outlines follow the sides of the voxels, for which numpy is enough (Slicer has no contourpy)."""

    def _polylines(self, picture: np.ndarray, rows: int, columns: int, low: np.ndarray) -> list[np.ndarray]:
        inside = np.pad(np.asarray(picture) != 0, 1)
        sides = []
        across = np.argwhere(inside[1:, :] != inside[:-1, :])  # between a row and the next
        sides += [((x - 1.5, y - 0.5), (x - 0.5, y - 0.5)) for y, x in across.tolist()]
        along = np.argwhere(inside[:, 1:] != inside[:, :-1])
        sides += [((x - 0.5, y - 1.5), (x - 0.5, y - 0.5)) for y, x in along.tolist()]
        if not sides:
            return []
        ends = np.array(sides)  # (n, 2, 2): x, y in voxels of the picture
        for place, axis in ((0, columns), (1, rows)):
            voxel = ends[..., place] + low[axis]
            ends[..., place] = 0.5 + (voxel - self._middle[axis]) * self.spacing_mm[axis] / self.field_mm
        return list(ends)


def key_views(item: Finding, ct: Volume) -> BlockyViews:
    """The views of a finding with its mask; ``ct.array`` is only looked at."""
    ends = [*_ends(item.long_axis), *_ends(item.short_axis)]
    index = ct.to_index(np.array(ends))
    axial = int(np.argmin(np.ptp(index, axis=0)))  # both size lines lie in one axial slice of the scan
    return BlockyViews(
        ct.array, ct.array, item.mask, ct.affine, item.lesion, _FIELD_MM, _FIELD_FACTOR,
        box=item.box, axial_index=int(round(float(index[0, axial]))),
    )  # fmt: skip


def key_pixmaps(item: Finding, ct: Volume, pixels: int) -> Iterator[tuple[str, object]]:
    """(plane, QPixmap of ``pixels`` square) for axial, coronal and sagittal, each made when it is asked for."""
    views = key_views(item, ct)
    for plane in PLANES:
        lines = []
        if plane == "axial":
            for line, colour in ((item.long_axis, _LONG), (item.short_axis, _SHORT)):
                lines.append(([views.place("axial", ct.to_index(np.array(end))) for end in _ends(line)], colour))
        yield plane, _pixmap(views.view(plane, pixels), pixels, lines)


def _ends(line) -> tuple:
    return line.start_ras, line.end_ras


def _pixmap(view: View, pixels: int, lines: list):
    rgb = np.repeat(view.after[:, :, None], 3, axis=2)
    pixmap = qt.QPixmap()
    pixmap.loadFromData(
        qt.QByteArray(b"P6 %d %d 255\n" % (pixels, pixels) + rgb.tobytes())
    )  # PPM, which every Qt reads
    painter = qt.QPainter()
    painter.begin(pixmap)
    painter.setPen(qt.QPen(qt.QColor(_OUTLINE), 1))
    for outline in view.outlines:
        _draw(painter, outline, pixels)
    for ends, colour in lines:
        painter.setPen(qt.QPen(qt.QColor(colour), 2))
        _draw(painter, ends, pixels)
    _letters(painter, view, pixels)
    painter.end()
    return pixmap


def _draw(painter, points, pixels: int) -> None:
    ends = [(int(round(x * pixels)), int(round(y * pixels))) for x, y in points]
    for (x0, y0), (x1, y1) in zip(ends, ends[1:]):
        painter.drawLine(x0, y0, x1, y1)


def _letters(painter, view: View, pixels: int) -> None:
    """Which side is which, and how long a centimetre is."""
    font = qt.QFont(painter.font())
    font.setPixelSize(max(9, pixels // 12))
    painter.setFont(font)
    painter.setPen(qt.QPen(qt.QColor(_TEXT), 1))
    centre = int(qt.Qt.AlignVCenter)
    left, right, top, bottom = view.letters
    whole = qt.QRect(3, 2, pixels - 6, pixels - 4)
    painter.drawText(whole, centre | int(qt.Qt.AlignLeft), left)
    painter.drawText(whole, centre | int(qt.Qt.AlignRight), right)
    painter.drawText(whole, int(qt.Qt.AlignHCenter) | int(qt.Qt.AlignTop), top)
    painter.drawText(whole, int(qt.Qt.AlignHCenter) | int(qt.Qt.AlignBottom), bottom)
    length_mm = scale_bar_mm(view.field_mm)
    length = int(round(pixels * length_mm / view.field_mm))
    painter.drawLine(4, pixels - 5, 4 + length, pixels - 5)
    painter.drawText(4, pixels - 8, f"{length_mm / 10:g} cm" if length_mm >= 10 else f"{length_mm:g} mm")
