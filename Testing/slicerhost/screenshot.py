"""Pictures of a module in use: its panel beside the rendered views; and a check that nothing in a panel is cut off."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import qt

from .layout import Layout

LABEL = "MRML views with stand-in widgets"
VIEW_COLOURS = {"Red": "#f34a39", "Yellow": "#edd54c", "Green": "#6eb04b", "1": "#7472b8"}
BAR = 14
GAP = 2


@contextmanager
def font_scale(factor: float):
    """All fonts larger by a factor."""
    before = qt.QApplication.font()
    larger = qt.QFont(before)
    larger.setPointSizeF(before.pointSizeF() * factor)
    qt.QApplication.setFont(larger)
    qt.QApplication.processEvents()
    try:
        yield
    finally:
        qt.QApplication.setFont(before)
        qt.QApplication.processEvents()


def screenshot(
    panel, layout: Layout, path: str | Path, *, panel_width: int = 400, height: int = 0, view_size: int = 320, scale=1.0
) -> np.ndarray:
    """Write a PNG of the panel (at a width, with a font scale) beside the views, and return it as uint8 RGB.

    ``height`` is that of the panel; 0 makes it as high as its contents and the views need.
    """
    with font_scale(scale):
        picture = _panel_picture(panel, panel_width, height or 2 * (view_size + BAR + GAP))
        views = _views_picture(layout, view_size)
        whole = qt.QImage(
            picture.width() + GAP + views.width(), max(picture.height(), views.height()), qt.QImage.Format_RGB888
        )
        whole.fill(qt.QColor("#202020"))
        painter = qt.QPainter(whole)
        painter.drawImage(0, 0, picture)
        painter.drawImage(picture.width() + GAP, 0, views)
        _label(painter, whole)
        painter.end()
    if not whole.save(str(path)):
        raise OSError(f"cannot write {path}")
    return to_array(whole)


def _panel_picture(panel, width: int, height: int):
    before = qt.QSize(panel.size)
    panel.resize(width, max(height, panel.heightForWidth(width), panel.sizeHint.height()))
    qt.QApplication.processEvents()
    picture = panel.grab().toImage().convertToFormat(qt.QImage.Format_RGB888)
    panel.resize(before)
    return picture


def _views_picture(layout: Layout, size: int):
    """Up to four views in a square, each below a bar of its colour."""
    before = layout.views[0].size
    layout.resize(size, size)
    order = [layout.slices["Red"], layout.three_d, layout.slices["Green"], layout.slices["Yellow"]]
    cell = size + GAP
    canvas = qt.QImage(2 * cell, 2 * (cell + BAR), qt.QImage.Format_RGB888)
    canvas.fill(qt.QColor("#202020"))
    painter = qt.QPainter(canvas)
    for index, view in enumerate(order):
        if view is not None:
            x, y = (index % 2) * cell, (index // 2) * (cell + BAR)
            painter.fillRect(x, y, size, BAR, qt.QColor(VIEW_COLOURS[view.name]))
            painter.drawImage(x, y + BAR, to_image(view.render()))
    painter.end()
    layout.resize(*before)
    return canvas


def _label(painter, whole) -> None:
    font = qt.QFont()
    font.setPixelSize(11)
    painter.setFont(font)
    metrics = qt.QFontMetrics(font)
    width, height = metrics.horizontalAdvance(LABEL) + 8, metrics.height() + 4
    corner = qt.QRect(whole.width() - width, whole.height() - height, width, height)
    painter.fillRect(corner, qt.QColor(255, 255, 255))
    painter.setPen(qt.QColor(0, 0, 0))
    painter.drawText(corner, int(qt.Qt.AlignCenter), LABEL)


def to_image(pixels: np.ndarray):
    """uint8 RGB (height, width, 3) as a QImage of its own memory."""
    height, width, _ = pixels.shape
    return qt.QImage(np.ascontiguousarray(pixels).data, width, height, 3 * width, qt.QImage.Format_RGB888).copy()


def to_array(image) -> np.ndarray:
    """A QImage as uint8 RGB (height, width, 3)."""
    image = image.convertToFormat(qt.QImage.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def cut_off(panel, width: int, scale: float = 1.0) -> list[str]:
    """Names of visible widgets that get less room than they need when the panel has a width; best an empty list.

    What counts is the text of labels and buttons, and the smallest size that other widgets ask for.
    """
    before = qt.QSize(panel.size)
    with font_scale(scale):
        panel.resize(width, max(panel.heightForWidth(width), panel.sizeHint.height()))
        qt.QApplication.processEvents()
        cut = []
        if panel.width > width:
            cut.append(f"the panel itself needs {panel.width} px")
        for widget in panel.findChildren(qt.QWidget):
            if widget.isVisible() and not widget.name.startswith("qt_") and _is_cut(widget, panel):
                cut.append(widget.name or widget.className())
        panel.resize(before)
    return cut


def _is_cut(widget, panel) -> bool:
    right = widget.mapTo(panel, qt.QPoint(widget.width, 0)).x()
    if right > panel.width:
        return True
    if isinstance(widget, qt.QLabel) and widget.wordWrap:
        return widget.height < widget.heightForWidth(widget.width)
    if isinstance(widget, (qt.QLabel, qt.QAbstractButton)):
        needed = widget.minimumSizeHint
        return widget.width < needed.width() or widget.height < needed.height()
    return False
