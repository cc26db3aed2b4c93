"""Small pictures of the lesions of a study: what was put in, and what the model marked."""

from __future__ import annotations

import hashlib
import json
from html import escape
from pathlib import Path

import numpy as np

from PASTALib import taxonomy
from PASTALib.reporting.page_parts import jpeg
from PASTALib.reporting.views import LesionViews, window_of
from PASTALib.synthesis.scan import PreparedScan
from PASTALib.volume import Volume

from .table import write_text

FOLDER = "pictures"
_PIXELS, _FIELD_MM, _SOFT_WIDTH_HU = 190, 70.0, 220


def write_tile(
    folder: Path,
    scan: PreparedScan,
    name: str,
    setting: str,
    lesion: str,
    part: Volume,
    label: np.ndarray,
    found: np.ndarray,
) -> None:
    """Keep the axial view of one lesion. ``part`` with the lesion in it, ``label`` and ``found`` bool on its grid. All tiles show 70 mm at least."""
    organ = taxonomy.lesion(lesion).organ
    window = window_of(lesion)
    if organ not in ("lung", "bone"):  # contrasts are small: a narrow window around the organ
        window = (_SOFT_WIDTH_HU, round(scan.tissue_hu.get(organ, window[1])))
    views = LesionViews(part.array, part.array, label, part.affine, lesion, _FIELD_MM, 1.6)
    view = views.view("axial", _PIXELS, window)
    data = {
        "scan": name,
        "setting": setting,
        "picture": jpeg(view.after),
        "truth": [line.round(4).tolist() for line in view.outlines],
        "found": [line.round(4).tolist() for line in views.outlines(found, "axial")],
        "window": list(window),
    }
    (folder / FOLDER).mkdir(exist_ok=True)
    write_text(_file(folder, name, setting), json.dumps(data))


def tile(folder: Path, scan: str, setting: str, caption: str) -> str:
    """The picture as an HTML figure; "" where there is none."""
    file = _file(folder, scan, setting)
    if not file.is_file():
        return ""
    data = json.loads(file.read_text(encoding="utf-8"))
    groups = "".join(
        f"<g class='{kind}'>{_polygons(data[name])}</g>"
        for kind, name in (("outline", "truth"), ("found-lesion", "found"))
    )
    return (
        f"<figure class=flip><div class=frame><img alt='{escape(caption)}' src='{data['picture']}'>"
        f"<svg viewBox='0 0 100 100' aria-hidden=true>{groups}</svg></div><figcaption>{escape(caption)}</figcaption></figure>"
    )


def _polygons(lines) -> str:
    return "".join(f"<polygon points='{' '.join(f'{100 * x:.1f},{100 * y:.1f}' for x, y in line)}'/>" for line in lines)


def _file(folder: Path, scan: str, setting: str) -> Path:
    return folder / FOLDER / f"{hashlib.sha256(f'{scan}|{setting}'.encode()).hexdigest()[:16]}.json"
