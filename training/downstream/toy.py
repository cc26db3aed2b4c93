"""Tiny made-up cases on the spot, for the smoke presets and tests: a ball in noise whose density, size and texture say its class. No torch."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from PASTALib import taxonomy
from PASTALib.attributes import LEARNED, TABLE
from PASTALib.volume import CANONICAL_RAS_SIGNS, Volume, write_volume

from .table import ATTRIBUTES, DETECT

SIDE, SPACING_MM = 40, 2.0
TISSUE_HU, NOISE_HU = 40.0, 8.0
BODY_MM, ORGAN_MM, LESION_MM = 36.0, 26.0, 12.0
ORGAN = "bladder"


def write_toy(folder: Path, task: str, count: int, seed: int = 0) -> Path:
    """A case table of ``count`` cases for ``task`` ("segment" for organ 1 and tumor 2), every second of class 1; the table's path.

    What an earlier, resumed run made is kept.
    """
    table = folder / "cases.csv"
    if table.is_file():
        return table
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_write_case(folder, task, number, np.random.default_rng([seed, number])) for number in range(count)]
    part = table.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return part.replace(table)


def _write_case(folder: Path, task: str, number: int, rng: np.random.Generator) -> dict[str, str]:
    kind = number % 2
    affine = np.diag([*(sign * SPACING_MM for sign in CANONICAL_RAS_SIGNS), 1.0])
    places = np.stack(np.meshgrid(*[np.arange(SIDE) * SPACING_MM] * 3, indexing="ij"), -1)
    middle = np.full(3, SIDE * SPACING_MM / 2) + rng.uniform(-6, 6, 3)
    away = np.linalg.norm(places - middle, axis=-1)
    off = np.linalg.norm(places - middle - rng.uniform(-5, 5, 3), axis=-1)
    lesion = off < LESION_MM * (1.25 if kind and task != DETECT else 0.9)
    hu = TISSUE_HU + rng.normal(0, NOISE_HU, (SIDE,) * 3)
    organ = (away < ORGAN_MM).astype(np.uint8)
    hu[away < ORGAN_MM] += 20
    hu[away > BODY_MM] = -1000
    if kind or task != DETECT:
        hu[lesion] += 150 if kind else -90
    name = f"toy{number:03d}"
    files = {"ct": f"{name}_ct.nii.gz"}
    write_volume(Volume(np.rint(hu).astype(np.int16), affine), folder / files["ct"])
    if task == DETECT:
        files["organs"] = f"{name}_organs.nii.gz"
        mask = organ * taxonomy.organ(ORGAN).value
        about = {"scheme": "pasta", "organ": ORGAN, "label": ("healthy", "tumor")[kind]}
    else:
        files["mask"] = f"{name}_mask.nii.gz"
        mask = np.where(lesion, 2, organ) if task == "segment" else lesion
        about = {"label": ("early", "late")[kind]}
        if task == ATTRIBUTES:
            about = {key: TABLE[key].options[-kind] for key in LEARNED}  # the first or the last option
    write_volume(Volume(mask.astype(np.uint8), affine), folder / list(files.values())[1])
    return {"id": name, "patient": f"patient{number:03d}", **files, **about}
