"""One small PNG with a before / after pair of every lesion type, for a README or a slide."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from .views import View

BACKGROUND = (21, 24, 28)
_TEXT = (232, 234, 237)
_QUIET = (154, 163, 173)
_MARK = (255, 180, 84)
MAX_BYTES = 600_000


def save_contact_sheet(path: str | Path, cells: list[tuple[str, str, View]], columns: int = 3, side: int = 196) -> Path:
    """Write a PNG of at most 600 kB and return its path.

    ``cells``: (lesion name, one short line below it, axial view) in reading order. Pictures are ``side`` pixels
    square at first and smaller only if the file would get too large. Corner marks show where the lesion is.
    """
    while True:
        data = _png(cells, columns, side)
        if len(data) <= MAX_BYTES or side <= 96:
            break
        side = int(side * 0.94)
    path = Path(path)
    path.write_bytes(data)
    return path


def _png(cells: list[tuple[str, str, View]], columns: int, side: int) -> bytes:
    from PIL import Image, ImageDraw

    gap, pair_gap, head, margin = 28, 3, 52, 28
    rows = -(-len(cells) // columns)
    wide = 2 * side + pair_gap
    size = (2 * margin + columns * wide + (columns - 1) * gap, 2 * margin + rows * (side + head) + (rows - 1) * gap)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    bold, plain = _font("DejaVuSans-Bold.ttf", 18), _font("DejaVuSans.ttf", 14)
    for number, (name, line, view) in enumerate(cells):
        x = margin + number % columns * (wide + gap)
        y = margin + number // columns * (side + head + gap)
        draw.text((x, y), name, _TEXT, bold)
        draw.text((x, y + 24), _fit(draw, line, plain, wide), _QUIET, plain)
        for shift, picture in ((0, view.before), (side + pair_gap, view.after)):
            left, top = x + shift, y + head
            grey = Image.fromarray(np.asarray(picture)).resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(grey.convert("RGB"), (left, top))
            draw.text(
                (left + 6, top + 4), "after" if shift else "before", _TEXT, plain, stroke_width=1, stroke_fill=(0, 0, 0)
            )
            if shift:
                _corner_marks(draw, view, left, top, side)
    buffer = io.BytesIO()
    sheet.quantize(palette=_palette(), dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _palette():
    """64 greys (enough for pictures of this size, and half the file) and the few colours of text and marks."""
    from PIL import Image

    greys = [(level, level, level) for level in np.linspace(0, 255, 64).round().astype(int).tolist()]
    blends = [
        tuple(round(a + (b - a) * share) for a, b in zip(BACKGROUND, colour))
        for colour in (_TEXT, _QUIET, _MARK)
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for colour in (*greys, *blends) for value in colour])
    return palette


def _corner_marks(draw, view: View, left: int, top: int, side: int) -> None:
    points = np.concatenate(view.outlines) * side
    (x0, y0), (x1, y1) = points.min(axis=0) - 5, points.max(axis=0) + 5
    x0, y0, x1, y1 = (round(float(np.clip(value, 2, side - 3))) for value in (x0, y0, x1, y1))
    reach = max(4, min(9, (x1 - x0) // 4, (y1 - y0) // 4))
    for x, dx in ((x0, reach), (x1, -reach)):
        for y, dy in ((y0, reach), (y1, -reach)):
            draw.line((left + x, top + y, left + x + dx, top + y), _MARK, 2)
            draw.line((left + x, top + y, left + x, top + y + dy), _MARK, 2)


def _font(name: str, size: int):
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", name)), size)


def _fit(draw, text: str, font, width: int) -> str:
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "…", font) > width:
        text = text[:-1]
    return text.rstrip(" ·,") + "…"
