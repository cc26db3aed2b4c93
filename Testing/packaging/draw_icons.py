"""Draws the extension's and the modules' icons: ``python -m Testing.packaging.draw_icons``.

One family: a CT slice with an orange lesion, and what the module does to it. Shapes are signed distances in units of half the
icon's width (x to the right, y down, the centre at 0), so that edges are smooth at any size. Needs numpy alone.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SIZE, FINER = 128, 4  # pixels, and samples per pixel and axis

RIM, FAT, MUSCLE = (0.86, 0.90, 0.94), (0.36, 0.43, 0.51), (0.10, 0.14, 0.19)
ORGAN, VESSEL, BONE = (0.45, 0.51, 0.58), (0.72, 0.77, 0.82), (0.97, 0.96, 0.92)
LESION, HALO, INK, PAPER = (1.00, 0.55, 0.12), (1.00, 0.80, 0.45), (0.13, 0.19, 0.27), (0.98, 0.99, 1.00)
GREEN, LIVER, LEFT, RIGHT, AORTA = (
    (0.13, 0.66, 0.42),
    (0.80, 0.33, 0.36),
    (0.30, 0.66, 0.90),
    (0.42, 0.80, 0.58),
    (0.93, 0.80, 0.28),
)
LESION_AT = (-0.34, -0.15)


class Canvas:
    """Colours and cover of every sample; each ``fill`` lies over what was drawn before."""

    def __init__(self) -> None:
        at = (np.arange(SIZE * FINER) + 0.5) / (SIZE * FINER) * 2.0 - 1.0
        self.x, self.y = np.meshgrid(at, at)
        self.colour = np.zeros((*self.x.shape, 3))
        self.cover = np.zeros(self.x.shape)

    def fill(self, inside: np.ndarray, colour: tuple[float, float, float], opacity: float = 1.0) -> None:
        """Lay ``colour`` over the samples that are True in ``inside``."""
        share = inside * opacity
        cover = share + self.cover * (1.0 - share)
        kept = np.divide(share, cover, out=np.zeros_like(cover), where=cover > 0)[..., None]
        self.colour = self.colour * (1.0 - kept) + np.array(colour) * kept
        self.cover = cover

    def erase(self, inside: np.ndarray) -> None:
        """Make the samples that are True in ``inside`` transparent again."""
        self.cover = np.where(inside, 0.0, self.cover)

    def ellipse(self, x: float, y: float, a: float, b: float, turn_deg: float = 0.0) -> np.ndarray:
        turn = np.radians(turn_deg)
        u = (self.x - x) * np.cos(turn) + (self.y - y) * np.sin(turn)
        v = (self.y - y) * np.cos(turn) - (self.x - x) * np.sin(turn)
        return (u / a) ** 2 + (v / b) ** 2 < 1.0

    def box(self, x: float, y: float, a: float, b: float, round_by: float) -> np.ndarray:
        u, v = np.abs(self.x - x) - a + round_by, np.abs(self.y - y) - b + round_by
        return np.hypot(np.maximum(u, 0), np.maximum(v, 0)) + np.minimum(np.maximum(u, v), 0) < round_by

    def pixels(self) -> np.ndarray:
        """(SIZE, SIZE, 4) uint8, red green blue alpha."""
        rgba = np.dstack([self.colour * self.cover[..., None], self.cover])
        mean = rgba.reshape(SIZE, FINER, SIZE, FINER, 4).mean(axis=(1, 3))
        mean[..., :3] = np.divide(mean[..., :3], mean[..., 3:], out=np.zeros((SIZE, SIZE, 3)), where=mean[..., 3:] > 0)
        return np.rint(mean * 255).astype(np.uint8)


def slice_of_body(canvas: Canvas, labelled: bool = False) -> None:
    """Body, liver, kidneys, aorta and vertebra; ``labelled``: the organs in the colours of a segmentation."""
    canvas.fill(canvas.ellipse(0, 0, 0.98, 0.86), RIM)
    canvas.fill(canvas.ellipse(0, 0, 0.91, 0.79), FAT)
    inside = canvas.ellipse(0, 0, 0.79, 0.67)
    canvas.fill(inside, MUSCLE)
    liver = canvas.ellipse(-0.40, -0.12, 0.44, 0.41, -18) | canvas.ellipse(-0.02, -0.30, 0.34, 0.17, 6)
    canvas.fill(liver & inside, LIVER if labelled else ORGAN)
    kidney = canvas.ellipse(0.42, 0.18, 0.19, 0.25, 24) & ~canvas.ellipse(0.27, 0.18, 0.08, 0.10)
    canvas.fill(kidney & inside, LEFT if labelled else ORGAN)
    canvas.fill(canvas.ellipse(0.43, -0.20, 0.23, 0.15, 30) & inside, RIGHT if labelled else ORGAN)
    canvas.fill(canvas.ellipse(0.10, 0.13, 0.10, 0.10), AORTA if labelled else VESSEL)
    canvas.fill((canvas.ellipse(0.0, 0.41, 0.17, 0.15) | canvas.box(0.0, 0.62, 0.05, 0.14, 0.04)), BONE)


def lesion(canvas: Canvas, radius: float = 0.21) -> None:
    """The orange lesion, with a bright core that keeps it visible at 16 pixels, in the liver."""
    x, y = LESION_AT
    canvas.fill(canvas.ellipse(x, y, radius + 0.06, radius + 0.06), MUSCLE)
    canvas.fill(canvas.ellipse(x, y, radius, radius), LESION)
    canvas.fill(canvas.ellipse(x - 0.05, y - 0.06, 0.45 * radius, 0.40 * radius, -30), HALO)


def extension() -> Canvas:
    """A lesion in a CT slice, under the cross of the viewer that put it there."""
    canvas = Canvas()
    slice_of_body(canvas)
    x, y = LESION_AT
    inside = canvas.ellipse(0, 0, 0.91, 0.79)
    canvas.fill((canvas.box(x, 0, 0.022, 1, 0.01) | canvas.box(0, y, 1, 0.022, 0.01)) & inside, HALO, 0.9)
    lesion(canvas, 0.23)
    return canvas


def synth() -> Canvas:
    """A lesion is added."""
    canvas = Canvas()
    slice_of_body(canvas)
    lesion(canvas)
    canvas.erase(canvas.ellipse(0.60, 0.56, 0.46, 0.46))
    canvas.fill(canvas.ellipse(0.60, 0.56, 0.37, 0.37), GREEN)
    canvas.fill(canvas.box(0.60, 0.56, 0.23, 0.065, 0.03) | canvas.box(0.60, 0.56, 0.065, 0.23, 0.03), PAPER)
    return canvas


def segment() -> Canvas:
    """Every organ and the lesion have their colours."""
    canvas = Canvas()
    slice_of_body(canvas, labelled=True)
    lesion(canvas)
    return canvas


def report() -> Canvas:
    """A page about the lesion."""
    canvas = Canvas()
    slice_of_body(canvas)
    lesion(canvas)
    canvas.erase(canvas.box(0.53, 0.33, 0.45, 0.61, 0.12))
    canvas.fill(canvas.box(0.53, 0.33, 0.39, 0.55, 0.08), PAPER)
    canvas.fill(canvas.box(0.53, 0.33, 0.39, 0.55, 0.08) & ~canvas.box(0.53, 0.33, 0.34, 0.50, 0.05), FAT)
    canvas.fill(canvas.ellipse(0.32, 0.05, 0.10, 0.10), LESION)
    canvas.fill(canvas.box(0.64, 0.05, 0.14, 0.045, 0.02), INK)
    for row in range(3):
        canvas.fill(canvas.box(0.53 - 0.05 * (row == 2), 0.29 + 0.18 * row, 0.25 - 0.05 * (row == 2), 0.045, 0.02), INK)
    return canvas


def study() -> Canvas:
    """Is the lesion real? A scale of five steps, the fourth of them chosen."""
    canvas = Canvas()
    slice_of_body(canvas)
    lesion(canvas)
    canvas.erase(canvas.box(0, 0.66, 0.98, 0.33, 0.14))
    canvas.fill(canvas.box(0, 0.66, 0.92, 0.27, 0.10), PAPER)
    for step in range(5):
        x = -0.70 + 0.35 * step
        canvas.fill(canvas.ellipse(x, 0.66, 0.13, 0.13), INK)
        canvas.fill(canvas.ellipse(x, 0.66, 0.09, 0.09), GREEN if step == 3 else PAPER)
    canvas.fill(canvas.ellipse(0.35, 0.66, 0.15, 0.15), GREEN)
    return canvas


ICONS = {
    "Resources/Icons/PASTA.png": extension,
    "PASTASynth/Resources/Icons/PASTASynth.png": synth,
    "PASTASegment/Resources/Icons/PASTASegment.png": segment,
    "PASTAReport/Resources/Icons/PASTAReport.png": report,
    "PASTAStudy/Resources/Icons/PASTAStudy.png": study,
}


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of (rows, columns, 4) uint8."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows, columns, _ = pixels.shape
    lines = np.concatenate(
        [np.zeros((rows, 1), np.uint8), pixels.reshape(rows, -1)], axis=1
    )  # 0: no filter in this row
    head = struct.pack(">IIBBBBB", columns, rows, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def main() -> None:
    for name, draw in ICONS.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(draw().pixels()))
        print(f"{name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
