"""A generated set (or PASTA-Gen-30K) as a raw data set of nnU-Net: canonical space, all 25 classes, names of the taxonomy."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from PASTALib import taxonomy
from PASTALib.cases import IMAGE, Case, find_cases, lesion_of_folder, read_case, training_labels
from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent
from PASTALib.volume import CANONICAL_RAS_SIGNS, Volume, to_canonical, write_volume

from ..runs import write_json

DATASET = "Dataset025_PASTAGen"
ENDING = ".nii.gz"
VALUES = {item.key: item.value for item in (*taxonomy.ORGANS, *taxonomy.LESIONS)}


def list_cases(root: str | Path) -> list[Path]:
    """Case folders under ``root``; InputError when there are none."""
    cases = list(find_cases(root))
    if not cases:
        raise InputError(
            f"{root}: holds no case; wanted <Organ>/<Type>/<case>/{IMAGE}, as `python -m training generate` writes them"
        )
    return cases


def identifier(folder: Path) -> str:
    """A name for nnU-Net: ``kidney_stone_000012`` for ``…/Kidney/Stone/000012``, the folder's own name elsewhere."""
    kind = lesion_of_folder(folder)
    name = re.sub(r"[^A-Za-z0-9-]+", "-", folder.name).strip("-") or "case"
    return f"{kind}_{name}" if kind else name


def dataset_json(names: Sequence[str], regions: bool = False) -> dict:
    """nnU-Net's description of the data set: 25 classes, or 25 regions where an organ holds its lesions.

    Regions are trained with sigmoid outputs and are predicted by nnU-Net itself only.
    """
    if regions:
        labels: dict = {"background": 0}
        for organ in taxonomy.ORGANS:
            labels[organ.key] = [organ.value, *(lesion.value for lesion in taxonomy.lesions_of(organ.key))]
        labels |= {lesion.key: lesion.value for lesion in taxonomy.LESIONS}
    else:
        labels = {"background": 0, **VALUES}
    data = {
        "name": "PASTA-Gen",
        "description": "CT with synthetic lesions: ten organs, fifteen lesion types; axes to L, P, S",
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": len(names),
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    return data | ({"regions_class_order": list(VALUES.values())} if regions else {})


def export_dataset(
    cases: Sequence[Path],
    raw: Path,
    *,
    spacing_mm: float = 1.0,
    regions: bool = False,
    progress: Progress = silent,
) -> dict:
    """Write ``raw/Dataset025_PASTAGen`` and return its dataset.json, which lists the files of every case.

    Labels are 0-25 (``cases.training_labels``), in canonical space with voxels of ``spacing_mm``. An image that is canonical already is
    listed where it lies, not copied: the published set would double to 3 TB. What is there from an earlier, interrupted export is kept.

    InputError for no case, a case that does not read, two cases of one name, and a label outside 0-25.
    """
    if not cases:
        raise InputError("no case to export; give a folder with <Organ>/<Type>/<case>")
    folder = raw / DATASET
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    listed: dict[str, dict] = {}
    for number, case in enumerate(cases):
        progress(number, len(cases), f"exporting {case.name}")
        name = identifier(case)
        if name in listed:
            raise InputError(
                f"{case}: a second case called {name}; give the folders that hold <Organ>/<Type> different names"
            )
        listed[name] = _export(case, name, folder, spacing_mm)
    progress(len(cases), len(cases), "exported")
    data = dataset_json(list(listed), regions) | {"dataset": listed}
    write_json(folder / "dataset.json", data)
    return data


def set_digest(cases: Sequence[Path]) -> str:
    """16 hexadecimal digits over names and image sizes, to tell whether a set is still the same."""
    total = hashlib.sha256()
    for case in cases:
        total.update(f"{identifier(case)} {(case / IMAGE).stat().st_size}\n".encode())
    return total.hexdigest()[:16]


def is_canonical(volume: Volume, spacing_mm: float) -> bool:
    """Whether image axes run to L, P, S and voxels are isotropic of ``spacing_mm`` (to 1e-4)."""
    directions = volume.affine[:3, :3] / spacing_mm
    return bool(np.allclose(directions, np.diag(CANONICAL_RAS_SIGNS), atol=1e-4))


def canonical_case(case: Case, spacing_mm: float) -> tuple[Volume, Volume]:
    """CT (int16 HU) and labels 0-25 (uint8) of a case on one canonical grid. InputError for other labels."""
    labels = training_labels(case)
    highest = int(labels.array.max(initial=0))
    if highest > max(VALUES.values()):
        raise InputError(f"{case.folder}: holds the label {highest}; wanted 0 to {max(VALUES.values())}")
    if is_canonical(case.ct, spacing_mm):
        return case.ct, labels
    return to_canonical(case.ct, spacing_mm).volume, to_canonical(labels, spacing_mm, "labels").volume


def _export(place: Path, name: str, folder: Path, spacing_mm: float) -> dict:
    label = folder / "labelsTr" / f"{name}{ENDING}"
    copy = folder / "imagesTr" / f"{name}_0000{ENDING}"
    if not label.exists():  # written last
        case = read_case(place)
        ct, labels = canonical_case(case, spacing_mm)
        if ct is not case.ct:
            write_volume(ct, copy)
        write_volume(labels, label)
    image = copy if copy.exists() else (place / IMAGE).absolute()
    return {"images": [str(image)], "label": str(label.absolute())}
