"""The sample study: pools of phantom cases from a recipe, and a study of them, for the tutorial and for trying things out."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy import ndimage

from .. import cases, taxonomy
from ..errors import InputError
from ..progress import Progress, silent
from ..volume import crop
from .create import check_place, create_study
from .design import Design, preset_design
from .pools import REAL, SYNTHETIC, read_pool

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPE = Path(__file__).resolve().parents[2] / "Resources" / "SampleStudy" / "recipe.toml"


def load_recipe() -> dict:
    """The contents of Resources/SampleStudy/recipe.toml; InputError where this copy of the program came without it."""
    if not RECIPE.is_file():
        raise InputError(
            f"{RECIPE} is missing; the sample study comes with the Slicer extension and with a clone of the repository"
        )
    return tomllib.loads(RECIPE.read_text(encoding="utf-8"))


def sample_passphrase() -> str:
    """The passphrase of the sample study, which is no secret."""
    return load_recipe()["passphrase"]


def sample_design() -> Design:
    """The design of the sample study."""
    recipe = load_recipe()
    types = [kind for phantom in recipe["phantoms"] for kind in phantom["types"]]
    return preset_design(recipe["preset"], types, name=recipe["name"], title=recipe["title"], readers=recipe["readers"])


def make_sample(folder: str | os.PathLike, progress: Progress = silent) -> Path:
    """Make the sample study in a new folder and return it.

    The key is sealed with ``sample_passphrase()``; without the package ``cryptography`` it is written to ``<folder>-key.json`` instead.
    """
    folder = Path(folder).expanduser()
    recipe, design = load_recipe(), sample_design()
    check_place(folder, design.case_count * design.grid.bytes_per_case)
    sealed = find_spec("cryptography") is not None
    key = {"passphrase": recipe["passphrase"]} if sealed else {"key_file": folder.with_name(f"{folder.name}-key.json")}
    with tempfile.TemporaryDirectory(prefix="pasta-") as temporary:
        pools = Path(temporary)
        total = _make_pools(pools, recipe, design, progress)
        real, synthetic = (read_pool(pools / truth, truth) for truth in (REAL, SYNTHETIC))
        create_study(
            folder, design, real, synthetic, seed=recipe["seed"], progress=lambda step, of, text="": progress(total + step, total + of, text), **key
        )  # fmt: skip
    return folder


def _make_pools(root: Path, recipe: dict, design: Design, progress: Progress) -> int:
    """Write every case that the design may draw, as ``<root>/<truth>/<Organ>/<Type>/<case>``; the number of cases."""
    from ..phantom import make_phantom
    from ..synthesis.scan import prepare_scan

    need = {kind: 2 * count + design.description.get(kind, 0) + 2 for kind, count in design.realism.items()}
    total, done = sum(need.values()), 0
    for phantom in recipe["phantoms"]:
        progress(done, 2 * total, f"Making a phantom ({phantom['region']})")
        made = make_phantom(recipe["spacing_mm"], phantom["phase"], phantom["seed"], region=phantom["region"])
        scan = prepare_scan(made.ct, made.organs)
        for kind in phantom["types"]:
            counts: Counter = Counter()
            for number in range(need[kind]):
                progress(done, 2 * total, f"Making lesions: {taxonomy.lesion(kind).name}")
                truth = REAL if number < design.realism[kind] + 1 else SYNTHETIC
                counts[truth] += 1
                place = cases.case_folder(root / truth, kind, f"{phantom['seed']}-{counts[truth]:03d}")
                _write(
                    scan,
                    kind,
                    recipe["seed"] * 1000 + number,
                    recipe["size_mm"],
                    recipe["smoothing_mm"] if truth == SYNTHETIC else 0,
                    design,
                    place,
                )
                done += 1
    return total


def _write(scan, kind: str, seed: int, size_mm: list, smoothing_mm: float, design: Design, place: Path) -> None:
    """One lesion in a copy of the scan, cropped to what the study shows."""
    from ..synthesis.generator import synthesise
    from ..synthesis.spec import LesionRequest

    size = np.random.default_rng([seed, 1]).uniform(*size_mm, 3)
    result = synthesise(scan, LesionRequest(kind, seed=seed, size_mm=tuple(map(float, size))))
    if smoothing_mm:
        result = replace(result, after=_smoothed(result.after, result.label, smoothing_mm / scan.spacing))
    centre = scan.ct.to_index(np.array(result.center_ras))
    reach = np.array(design.grid.extent_mm) / 2 / scan.spacing + 4
    box = tuple(
        slice(int(max(0, min(part.start, c - r))), int(min(n, max(part.stop, c + r + 1))))
        for part, c, r, n in zip(result.region, centre, reach, scan.ct.array.shape)
    )
    moved = tuple(slice(part.start - new.start, part.stop - new.start) for part, new in zip(result.region, box))
    organs = replace(scan.organs, labels=crop(scan.organs.labels, box), structures=None)
    cases.write_case(place, crop(scan.ct, box), organs, [replace(result, region=moved)], seed=seed, source="phantom")


def _smoothed(hu: np.ndarray, lesion: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """``hu`` with a lesion smoothed inside: noise and texture go, its border stays (weights of the lesion only)."""
    weight = ndimage.gaussian_filter(lesion.astype(np.float32), sigma)
    blurred = ndimage.gaussian_filter(np.where(lesion, hu, 0).astype(np.float32), sigma) / np.maximum(weight, 1e-6)
    return np.where(lesion, blurred, hu).astype(np.float32)
