"""Pieces of HTML and SVG that the gallery and the report page share."""

from __future__ import annotations

import base64
import io

import numpy as np

from .views import Overview


def signed(value: float) -> str:
    """A number with a true minus sign."""
    return f"{value:g}".replace("-", "\u2212")


def overview_figure(view: Overview) -> str:
    """The whole slice with a box where the zoomed view is."""
    tall, wide = view.picture.shape
    x0, y0, x1, y1 = (np.clip(value, 0.002, 0.998) for value in view.box)
    box = f"<rect class=box x={100 * x0:.2f} y={100 * y0 * tall / wide:.2f} width={100 * (x1 - x0):.2f} height={100 * (y1 - y0) * tall / wide:.2f} />"
    picture = f"<img alt='Whole {view.plane} slice' src='{jpeg(view.picture)}'>"
    return (
        f"<figure><div class='frame whole'><div class=fit style='aspect-ratio:{wide}/{tall};{'width:100%' if wide >= tall else 'height:100%'}'>{picture}"
        f"<svg viewBox='0 0 100 {100 * tall / wide:.2f}' aria-hidden=true>{box}</svg></div></div><figcaption>Whole slice</figcaption></figure>"
    )


def orientation_letters(letters: str) -> str:
    """SVG text of four letters at the left, right, top and bottom of a view of 100 x 100."""
    places = ((3, 51, "start"), (97, 51, "end"), (50, 6, "middle"), (50, 98, "middle"))
    return "".join(
        f"<text class=letter x={x} y={y} text-anchor={anchor}>{letter}</text>"
        for letter, (x, y, anchor) in zip(letters, places)
    )


def jpeg(picture: np.ndarray) -> str:
    """A grey uint8 picture (rows, columns) as a data URL."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=86, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
