"""Making a study on disk: cases drawn from pools, exported, renamed; study.json for readers, the key for the lead; copies for readers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from .. import __version__
from ..errors import InputError
from ..progress import Progress, silent
from .design import PRACTICE, Design, Selection, draw_cases, load_presets, reader_order
from .export import FILE_TIME_S, ExportGrid, centre_voxel, exported, read_case, write_nrrd
from .package import CASES, DESCRIPTION, KEY, RATINGS, REALISM, SCHEMA, SCHEMA_VERSION, STUDY, StudyPackage
from .pools import PoolCase, check_pools, report_rows
from .seal import StudyKey, check_passphrase, seal, write_key_file

_RANDOM = random.SystemRandom()  # ids and the order of writing must not follow from a seed that somebody may guess


def create_study(
    folder: str | os.PathLike,
    design: Design,
    real: list[PoolCase],
    synthetic: list[PoolCase],
    *,
    seed: int,
    passphrase: str | None = None,
    key_file: str | os.PathLike | None = None,
    progress: Progress = silent,
) -> Path:
    """Make the study in a new folder and return it; nothing remains when something goes wrong.

    seed: draws the cases and the readers' orders; it is kept in the key. Ids are random and do not follow from it.
    passphrase: seals the key in the folder. key_file: keeps it, unencrypted, in this file outside the folder instead. Give one of the two.

    Raises InputError for pools with too few cases, unreadable or mismatched files, empty masks, a full disk, a folder in use.
    """
    folder = Path(folder).expanduser()
    _check_key_choice(folder, passphrase, key_file)
    check_pools(real, synthetic)
    chosen = draw_cases(design, real, synthetic, seed)
    with contextlib.ExitStack() as undo:
        with _appearing(folder, design.case_count * design.grid.bytes_per_case) as staging:
            study, key = _export_all(staging, design, chosen, seed, progress)
            write_public(staging / STUDY, study)
            if key_file is None:
                (staging / KEY).write_bytes(seal(key, passphrase))
            else:
                write_key_file(key, Path(key_file).expanduser())
                undo.callback(Path(key_file).expanduser().unlink)
        undo.pop_all()
    return folder


def write_public(path: Path, study: dict) -> None:
    """Write study.json."""
    path.write_text(json.dumps(study, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_key_choice(folder: Path, passphrase: str | None, key_file) -> None:
    if (passphrase is None) == (key_file is None):
        raise InputError(
            "the key needs one place: give a passphrase to seal it in the study, or --key-file to keep it yourself"
        )
    if passphrase is not None:
        check_passphrase(passphrase)
        seal(StudyKey("", 0, {}), passphrase)  # a missing package is found out now, not after hours of exporting
        return
    path = Path(key_file).expanduser().absolute()
    if folder.absolute() in path.parents:
        raise InputError(f"--key-file {path} lies in the study that readers get; keep it elsewhere")
    if path.exists() or not path.parent.is_dir():
        found = "exists already" if path.exists() else f"lies in {path.parent}, which does not exist"
        raise InputError(f"--key-file {path} {found}; choose another name")


def check_place(folder: Path, need_bytes: int) -> Path:
    """Where a new ``folder`` can grow before it is renamed: a hidden name on the same disk. InputError when it is in use or space is short."""
    if folder.exists():
        raise InputError(f"{folder} exists already; choose a new folder, a study is never overwritten")
    base = folder.absolute().parent
    while not base.exists():
        base = base.parent
    if not base.is_dir() or not os.access(base, os.W_OK):
        raise InputError(f"{folder}: {base} cannot be written; choose another folder")
    free = shutil.disk_usage(base).free
    if need_bytes * 1.02 > free:
        raise InputError(
            f"{folder}: the study needs {need_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; free space or choose a smaller grid"
        )
    return base / f".{folder.name}.{secrets.token_hex(6)}.partial"


@contextlib.contextmanager
def _appearing(folder: Path, need_bytes: int) -> Iterator[Path]:
    """A hidden folder for cases and ratings that becomes ``folder``, with the study's time stamps, when the block ends well, and else goes."""
    staging = check_place(folder, need_bytes)
    try:
        (staging / CASES).mkdir(parents=True)
        (staging / RATINGS).mkdir()
        yield staging
        for path in (*staging.rglob("*"), staging):
            os.utime(path, (FILE_TIME_S, FILE_TIME_S))
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(folder)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}); free space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _export_all(
    staging: Path, design: Design, chosen: Selection, seed: int, progress: Progress
) -> tuple[dict, StudyKey]:
    study_id = secrets.token_hex(8)
    todo = list(zip(_new_ids(len(chosen.cases)), chosen.cases))
    _RANDOM.shuffle(todo)  # the order in which files come to be is seen in their inodes and change times
    public, secret, seen = {}, {}, {}
    show = load_presets()["show"]
    reports = {
        name: report_rows(case) for name, (role, case) in todo if role == DESCRIPTION
    }  # what is missing is told before the work
    for step, (name, (role, case)) in enumerate(todo):
        progress(step, len(todo), f"Exporting case {step + 1} of {len(todo)}")
        sha256, about = export_case(case, design.grid, staging / CASES / f"{name}.nrrd")
        if sha256 in seen:
            raise InputError(
                f"{case.image} and {seen[sha256]} are the same image around the lesion; take one out of the pools"
            )
        seen[sha256] = case.image
        edge = float(show.get(case.lesion_type, show["default"])["pointer"])
        public[name] = {"lesion_type": case.lesion_type, "pointer_ras": [0.0, 0.0, 0.0], "extent_mm": [edge] * 3}
        if name in reports:
            public[name]["report"] = reports[name]
        secret[name] = {
            "truth": case.truth,
            "source": str(case.image.absolute()),
            "source_id": case.id,
            "lesion_type": case.lesion_type,
        }
        secret[name] |= {"role": role, "sha256": sha256, **about}
    progress(len(todo), len(todo), "Exported")
    ids = {
        role: [name for name, about in secret.items() if about["role"] == role]
        for role in (REALISM, DESCRIPTION, PRACTICE)
    }
    orders = {reader: reader_order(ids, design, seed, number) for number, reader in enumerate(design.readers)}
    key = StudyKey(study_id, seed, dict(sorted(secret.items())))
    return public_design(study_id, design, dict(sorted(public.items())), sorted(ids[PRACTICE]), orders), key


def public_design(study_id: str, design: Design, cases: dict, practice: list[str], orders: dict) -> dict:
    """The contents of study.json: everything that a reader's program needs, and nothing that tells real from synthetic."""
    presets = load_presets()
    kinds = sorted({about["lesion_type"] for about in cases.values()})
    parts = {
        part: _part(presets, part)
        for part in (REALISM, DESCRIPTION)
        if any(row[1] == part for order in orders.values() for row in order)
    }
    return {
        "schema": SCHEMA, "version": SCHEMA_VERSION, "software": f"SlicerPASTA {__version__}", "study_id": study_id,
        "name": design.name, "title": design.title,
        "image": {"shape_zyx": list(design.grid.shape_zyx), "spacing_zyx_mm": list(design.grid.spacing_mm), "clip_hu": list(design.grid.clip_hu)},
        "windows": {kind: presets["show"].get(kind, presets["show"]["default"])["window"] for kind in kinds},
        "sessions": design.sessions, "washout_days": design.washout_days, "parts": parts, "practice": practice, "cases": cases,
        "readers": orders,
    }  # fmt: skip


def _part(presets: dict, part: str) -> dict:
    data = dict(presets["parts"][part])
    data["questions"] = [
        {
            "key": q["key"],
            "text": q["text"],
            "anchors": {str(n): text for n, text in enumerate(presets["anchors"][q["anchors"]], 1)},
        }
        for q in data["questions"]
    ]
    return data


def export_case(case: PoolCase, grid: ExportGrid, path: Path) -> tuple[str, dict]:
    """Export one case; its hash, and what the lead's checks need later: the lesion's box on the exported grid, [start, stop] for z, y, x."""
    from ..volume import Volume

    ct, lesion = read_case(case)
    centre = centre_voxel(lesion)
    sha256 = write_nrrd(exported(ct, centre, grid), grid, path)
    moved = exported(Volume(lesion, ct.affine), centre, grid, "labels").astype(bool)
    ends = [moved.any(axis=tuple(a for a in range(3) if a != axis)).nonzero()[0] for axis in range(3)]
    box = [[int(e[0]), int(e[-1]) + 1] if len(e) else [n // 2, n // 2 + 1] for e, n in zip(ends, grid.shape_zyx)]
    return sha256, {"lesion_box_zyx": box}


def grid_of(study: StudyPackage) -> ExportGrid:
    """The grid that the cases of a study were exported to."""
    image = study.data["image"]
    return ExportGrid(tuple(image["shape_zyx"]), tuple(map(float, image["spacing_zyx_mm"])), tuple(image["clip_hu"]))


def hand_out(study: StudyPackage, folder: str | os.PathLike, progress: Progress = silent) -> Path:
    """A copy of the study for a reader: without key, without anybody's ratings; it appears complete or not at all."""
    folder = Path(folder).expanduser()
    cases = sorted(study.data["cases"])
    _RANDOM.shuffle(cases)
    with _appearing(folder, len(cases) * grid_of(study).bytes_per_case) as staging:
        for step, name in enumerate(cases):
            progress(step, len(cases), f"Copying case {step + 1} of {len(cases)}")
            shutil.copyfile(study.image_path(name), staging / CASES / f"{name}.nrrd")
        shutil.copyfile(study.folder / STUDY, staging / STUDY)
    return folder


def _new_ids(count: int) -> list[str]:
    """Distinct opaque ids of equal length."""
    found: dict[str, None] = {}  # not a set: its order would follow from Python's hashes, not from the source of chance
    while len(found) < count:
        found["c" + secrets.token_hex(4)] = None
    return list(found)
