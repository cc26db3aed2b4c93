"""Tiny sets in the exact on-disk layout of each data set, of generated bodies: for smoke runs and tests. No torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from PASTALib import taxonomy
from PASTALib.attributes import LEARNED, TABLE
from PASTALib.errors import InputError

from ...downstream.table import ATTRIBUTES
from .about import describe, keys
from .convert import table_name
from .private import PLAIN
from .replica_bodies import make_body, rounded, store
from .tables import DETECTION, SCANS, STAGING, SURVIVAL

_STEMS = {
    "msd_lung": "lung_{:03d}",
    "msd_liver": "liver_{:d}",
    "msd_colon": "colon_{:03d}",
    "msd_brain": "BRATS_{:03d}",
}
MIN_CASES = 4


def write_replica(key: str, folder: str | Path, cases: int, seed: int = 0, names: Sequence[str] = ()) -> Path:
    """A replica of data set ``key`` in ``folder``, which ``convert`` (with ``partial``, the count being another) takes; the folder.

    ``cases`` of them, every second of another kind, the same for the same ``seed``; volumes of at most 40 x 40 x 40 voxels, whose lesions
    can be learned. Of "private" the tables of ``names`` ("gastric_cancer/staging", …), all that the registry's tasks need otherwise.
    One that is there already is kept.
    """
    about, folder = describe(key), Path(folder)
    if cases < MIN_CASES:
        raise InputError(f"replica of {key}: {cases} cases; wanted {MIN_CASES} or more, two of each kind")
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / ".replica.json"
    made = {"key": key, "cases": cases, "seed": seed, "names": sorted(names)}
    if mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == made:
        return folder
    if key == "private":
        _write_private(folder, cases, seed, names)
    elif key == "reports":
        _write_attributes(folder, cases, seed)
    elif key in ("lung1", "tcga_blca"):
        from . import replica_dicom

        (replica_dicom.write_lung1 if key == "lung1" else replica_dicom.write_tcga)(folder, cases, seed)
    elif key == "kits23":
        _write_kits(folder / "dataset", cases, seed)
    elif key == "atlas":
        _write_atlas(folder / about.folders[0] / "train", cases, seed)
    elif key.startswith("msd_pancreas"):
        _write_pancreas(folder / about.folders[0], cases, seed, about.kind)
    else:
        _write_msd(folder / about.folders[0], key, cases, seed)
    mark.write_text(json.dumps(made), encoding="utf-8")
    return folder


def write_replicas(data: str | Path, cases: int, seed: int = 0) -> Path:
    """A replica of every data set, each where ``table_of`` looks for it below ``data``; the folder."""
    for key in keys():
        write_replica(key, Path(data) / key, cases, seed)
    return Path(data)


# ---------------------------------------------------------------------------------------------------------------
# NIfTI sets


def _write_msd(folder: Path, key: str, cases: int, seed: int) -> None:
    names = [_STEMS[key].format(n) for n in range(1, cases + 1)]
    for number, name in enumerate(names):
        rng = np.random.default_rng([seed, number])
        if key == "msd_brain":
            _write_brain(folder, name, rng)
            continue
        empty = key == "msd_liver" and number == cases - 1 and cases > 5  # 13 of the 131 show no tumour
        body = make_body(rng, 1, organ_hu=-750 if key == "msd_lung" else 90, lesion=not empty)
        mask = np.where(body.lesion, 2, body.organ) if key == "msd_liver" else body.lesion
        store(rounded(body.hu), body, folder / "imagesTr" / f"{name}.nii.gz", "RAS")
        store(mask.astype(np.uint8), body, folder / "labelsTr" / f"{name}.nii.gz", "RAS")
    labels = {
        "msd_lung": ["background", "cancer"],
        "msd_liver": ["background", "liver", "cancer"],
        "msd_colon": ["background", "colon cancer primaries"],
        "msd_brain": ["background", "edema", "non-enhancing tumor", "enhancing tumour"],
    }
    _finish_msd(folder, names, labels[key], ("FLAIR", "T1w", "t1gd", "T2w") if key == "msd_brain" else ("CT",))


def _write_pancreas(folder: Path, cases: int, seed: int, wanted: str) -> None:
    """``cases`` scans of the wanted kind, and two of the other; both have label 2, and reannotation.csv says which is which."""
    kinds = [wanted] * cases + [("cyst", "tumor")[wanted == "cyst"]] * 2
    names = [f"pancreas_{n:03d}" for n in range(1, len(kinds) + 1)]
    for number, (name, kind) in enumerate(zip(names, kinds)):
        body = make_body(np.random.default_rng([seed, number]), int(kind == "tumor"))
        store(rounded(body.hu), body, folder / "imagesTr" / f"{name}.nii.gz", "RAS")
        mask = np.where(body.lesion, 2, body.organ).astype(np.uint8)
        store(mask, body, folder / "labelsTr" / f"{name}.nii.gz", "RAS")
    _finish_msd(folder, names, ["background", "pancreas", "cancer"], ("CT",))
    _write_csv(folder / "reannotation.csv", [{"id": name, "kind": kind} for name, kind in zip(names, kinds)])


def _finish_msd(folder: Path, names: Sequence[str], labels: Sequence[str], channels: Sequence[str]) -> None:
    """dataset.json, a test scan, and the companions that macOS left in the archives."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part / f"._{names[0]}.nii.gz").write_bytes(b"\x00\x05\x16\x07")
    (folder / "imagesTs").mkdir(exist_ok=True)
    data = {
        "name": "BRATS" if "Brain" in folder.name else folder.name.split("_", 1)[1],
        "description": "replica",
        "licence": "CC-BY-SA 4.0",
        "tensorImageSize": "3D" if len(channels) == 1 else "4D",
        "modality": {str(n): name for n, name in enumerate(channels)},
        "labels": {str(n): name for n, name in enumerate(labels)},
        "numTraining": len(names),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(data, indent=1), encoding="utf-8")


def _write_brain(folder: Path, name: str, rng: np.random.Generator) -> None:
    """Four sequences in one 4-D image; oedema round a ring of enhancing tumour with a dark core."""
    import nibabel as nib

    body = make_body(rng, 1)
    places = np.argwhere(np.ones(body.hu.shape)).reshape(*body.hu.shape, 3)
    away = np.linalg.norm(places - np.argwhere(body.lesion).mean(axis=0), axis=-1) * body.spacing_zyx_mm[0]
    inside = body.hu > -500
    mask = np.select([away < 6, away < 10, (away < 16) & inside], [2, 3, 1], 0).astype(np.uint8)
    shades = {1: (700, 250, 250, 700), 2: (300, 150, 150, 500), 3: (450, 300, 900, 400)}
    sequences = []
    for n in range(4):
        image = np.where(inside, 400 + rng.normal(0, 20, mask.shape), 0)
        for value, levels in shades.items():
            image[mask == value] = levels[n] + rng.normal(0, 20, int((mask == value).sum()))
        sequences.append(np.clip(image, 0, None))
    (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
    stack = np.stack([one.transpose(2, 1, 0)[::-1, ::-1] for one in sequences], -1).astype(np.int16)
    corner = [*(-(n - 1) * mm for n, mm in zip(stack.shape[:2], body.spacing_zyx_mm[::-1])), 0]
    affine = np.diag([*body.spacing_zyx_mm[::-1], 1.0])
    affine[:3, 3] = corner
    nib.save(nib.Nifti1Image(stack, affine), folder / "imagesTr" / f"{name}.nii.gz")
    store(mask, body, folder / "labelsTr" / f"{name}.nii.gz", "RAS")


def _write_kits(folder: Path, cases: int, seed: int) -> None:
    names = [f"case_{n:05d}" for n in range(cases)]
    for number, name in enumerate(names):
        body = make_body(np.random.default_rng([seed, number]), 1)
        mask = np.select([body.lesion, body.second, body.organ], [2, 3, 1], 0).astype(np.uint8)
        store(rounded(body.hu), body, folder / name / "imaging.nii.gz", "IPL")
        store(mask, body, folder / name / "segmentation.nii.gz", "IPL")
    listing = [{"case_id": name, "age_at_nephrectomy": 60, "gender": "female"} for name in names]
    (folder / "kits23.json").write_text(json.dumps(listing, indent=1), encoding="utf-8")


def _write_atlas(folder: Path, cases: int, seed: int) -> None:
    for number in range(cases):
        rng = np.random.default_rng([seed, number])
        body = make_body(rng, 1, spacing_zyx_mm=(3.0, 2.0, 2.0), shape_zyx=(28, 40, 40))
        signal = np.clip(body.hu + 300, 0, None)
        mask = np.where(body.lesion, 2, body.organ).astype(np.uint8)
        store(rounded(signal), body, folder / "imagesTr" / f"im{number}.nii.gz", "RAS")
        store(mask, body, folder / "labelsTr" / f"lb{number}.nii.gz", "RAS")
    listing = {
        "name": "ATLAS",
        "modality": {"0": "T1w"},
        "labels": {"0": "background", "1": "liver", "2": "tumor"},
        "numTraining": cases,
    }
    (folder / "dataset.json").write_text(json.dumps(listing, indent=1), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------
# Private sets in the documented folders


def _write_private(folder: Path, cases: int, seed: int, names: Sequence[str]) -> None:
    from ..registry import read_tasks

    tasks = {table_name(task): task for task in read_tasks() if task.dataset.key == "private"}
    unknown = sorted(set(names) - tasks.keys())
    if unknown:
        raise InputError(f"replica of private: no task needs {unknown[0]}; use {', '.join(sorted(tasks))}")
    for number, name in enumerate(sorted(tasks)):
        if names and name not in names:
            continue
        place, kind = folder / name.split("/")[0], name.split("/")[1]
        rows = [_private_case(place, kind, tasks[name], n, [seed, number, n]) for n in range(cases)]
        _write_csv(place / f"{kind}.csv", rows)


def _private_case(place: Path, kind: str, task, number: int, seed: Sequence[int]) -> dict[str, str]:
    rng, shade = np.random.default_rng(seed), number % 2
    tumour = kind != DETECTION or shade == 1
    body = make_body(rng, 1 if kind in (SCANS, DETECTION) else shade, lesion=tumour)
    stem = f"{kind}{number:03d}"
    row = {"id": stem, "patient": f"{place.name.removesuffix(PLAIN)}{number:03d}", "ct": f"images/{stem}_ct.nii.gz"}
    store(rounded(body.hu), body, place / row["ct"])
    if kind == DETECTION:
        organs = (body.organ | body.lesion | body.second) * taxonomy.organ(task.organ).value
        row |= {"organs": f"images/{stem}_organs.nii.gz", "scheme": "pasta", "organ": task.organ}
        row["label"] = task.classes["label"][shade]
        store(organs.astype(np.uint8), body, place / row["organs"])
        return row
    if kind == SCANS:
        row["mask"] = f"images/{stem}_mask.nii.gz"
        store(body.lesion.astype(np.uint8), body, place / row["mask"])
        return row
    row["point"] = ",".join(f"{value:.2f}" for value in body.centre_ras)
    if kind == STAGING:
        row["label"] = task.classes["label"][shade]
    elif kind == SURVIVAL:
        low, high = ((1300, 2200), (120, 600))[shade]
        row |= {"os_days": str(int(rng.integers(low, high))), "event": "1" if shade else str(number // 2 % 2)}
    return row


def _write_attributes(folder: Path, cases: int, seed: int) -> None:
    rows = []
    for number in range(cases):
        kind = number % 2
        body = make_body(np.random.default_rng([seed, number]), kind)
        stem = f"lesion{number:03d}"
        row = {"id": stem, "patient": f"patient{number:03d}", "ct": f"images/{stem}_ct.nii.gz"}
        row |= {"mask": f"images/{stem}_mask.nii.gz", "mask_value": "2"}
        store(rounded(body.hu), body, folder / row["ct"])
        store(np.where(body.lesion, 2, body.organ).astype(np.uint8), body, folder / row["mask"])
        rows.append(row | {key: TABLE[key].options[-kind] for key in LEARNED})  # the first or the last option
    _write_csv(folder / f"{ATTRIBUTES}.csv", rows)


def _write_csv(path: Path, rows: Sequence[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
