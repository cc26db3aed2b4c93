"""The cube of every case as an int16 array on disk: cut once from the scan, read by every fold. No torch.

Cutting looks at geometry alone, so that cubes may be shared by all folds; nothing is learned from them here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.inference.crops import check_inside, lesion_crop, region_crop
from PASTALib.inference.regions import find_regions
from PASTALib.organs import read_organs
from PASTALib.progress import Progress, silent
from PASTALib.volume import Volume, read_volume, same_grid

from .table import Case

LESION, REGION = CUTS = ("lesion", "region")


def cut_cubes(
    cases: Sequence[Case], settings: Mapping[str, Any], folder: Path, progress: Progress = silent
) -> dict[str, Path]:
    """Id -> ``.npy`` file with HU (side, side, side), int16, of every case; those that are there are kept.

    ``settings``: cut "lesion" (the cube round the lesion's point) or "region" (the organ with ``margin_mm``, shrunk or padded to the cube);
    side, spacing_mm, orientation. A file is named after the case and all that its cube depends on, so that changed input is cut anew.
    InputError naming the case for masks on another grid, empty masks, absent organs and points outside the scan.
    """
    if settings["cut"] not in CUTS or settings["side"] < 16:
        raise InputError(
            f"cut {settings['cut']!r}, side {settings['side']}; wanted {' or '.join(CUTS)}, 16 voxels or more"
        )
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for number, case in enumerate(cases):
        progress(number, len(cases), f"cutting {case.id}")
        file = folder / f"{case.id}-{_digest(case, settings)}.npy"
        if not file.is_file():
            try:
                cube = cut_cube(case, settings)
            except InputError as error:
                raise InputError(f"case {case.id}: {error}") from None
            part = file.with_name(f".{file.name}.{os.getpid()}.part")
            with part.open("wb") as stream:
                np.save(stream, np.clip(np.rint(cube), -32768, 32767).astype(np.int16))
            os.replace(part, file)
        files[case.id] = file
    progress(len(cases), len(cases), "cubes cut")
    return files


def cut_cube(case: Case, settings: Mapping[str, Any]) -> np.ndarray:
    """HU float32 of one case; see ``cut_cubes``."""
    ct = read_volume(case.ct, "ct")
    how = {key: settings[key] for key in ("side", "spacing_mm", "orientation")}
    if settings["cut"] == REGION:
        return region_crop(ct, _organ(case, ct), margin_mm=settings["margin_mm"], **how)
    point = case.point if case.mask is None else _lesion_point(case, ct)
    check_inside(ct, point, "point")
    return lesion_crop(ct, point, **how)


def _organ(case: Case, ct: Volume) -> np.ndarray:
    if case.organs is None:
        return _selected(case, ct) > 0
    organs = read_organs(case.organs, case.scheme, ct)
    found = organs.labels.array == taxonomy.organ(case.organ).value
    if not found.any():
        raise InputError(f"{case.organs}: shows no {case.organ}; wanted an organ map that holds it")
    return found


def _lesion_point(case: Case, ct: Volume) -> tuple[float, float, float]:
    """The middle of the largest part, as `pasta report` places its cube."""
    selected = Volume((_selected(case, ct) > 0).astype(np.uint8), ct.affine)
    regions, _ = find_regions(selected, [1], min_size_mm=0.0)
    return regions[0].centre_ras


def _selected(case: Case, ct: Volume) -> np.ndarray:
    mask = read_volume(case.mask, "labels")
    difference = same_grid(ct, mask)
    if difference:
        raise InputError(f"{case.mask} is not on the grid of {case.ct.name} ({difference}); give the mask drawn on it")
    found = mask.array if case.mask_value is None else mask.array == case.mask_value
    if not found.any():
        what = "every voxel is 0" if case.mask_value is None else f"no voxel is {case.mask_value}"
        raise InputError(f"{case.mask} is empty ({what}); give a mask that shows it, or another mask_value")
    return found


def _digest(case: Case, settings: Mapping[str, Any]) -> str:
    """12 hexadecimal digits over what a cube depends on; of files: path, size and time of change."""
    about: list = [(key, settings.get(key)) for key in ("cut", "side", "spacing_mm", "orientation", "margin_mm")]
    for path in (case.ct, case.mask, case.organs):
        if path is not None:
            state = path.stat()
            about.append((str(path.resolve()), state.st_size, state.st_mtime_ns))
    about.append((case.mask_value, case.point, case.scheme, case.organ))
    return hashlib.sha256(repr(about).encode()).hexdigest()[:12]
