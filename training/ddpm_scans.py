"""Which scans train-ddpm learns from and is validated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PASTALib.cases import IMAGE, TOTAL, find_cases
from PASTALib.errors import InputError

from .patches import FileScan, PhantomScan, ScanSpec, phantom_scans, scans_of_table

HELD_OUT_PHANTOMS = 2
_HELD_OUT_SEED = 1_000_003


def training_scans(
    settings: dict, table: Path | None, cases: Path | None, seed: int
) -> tuple[list[ScanSpec], list[ScanSpec]]:
    """(to learn from, held out for validation): the table's and the generated set's scans, and phantoms, as the settings say.

    Of the scans on disk the last ``held_out`` are held out, fewer when that would leave none to learn from.
    """
    files: list[ScanSpec] = scans_of_table(table) if table else []
    if cases is not None:
        found = [FileScan(folder / IMAGE, folder / TOTAL) for folder in find_cases(cases)]
        if not found:
            raise InputError(f"--cases {cases}: no case there; give the folder of a generated set")
        files += found
    count = min(int(settings["held_out"]), max(0, len(files) - 1))
    learn, check = files[: len(files) - count], files[len(files) - count :]
    if settings["phantoms"] > 0:
        kind = {
            "spacings_mm": settings["spacings_mm"],
            "noise_hu": tuple(settings["phantom_noise_hu"]),
            "region": settings["phantom_region"],
        }
        learn = learn + phantom_scans(int(settings["phantoms"]), seed, **kind)
        check = check + phantom_scans(HELD_OUT_PHANTOMS, seed + _HELD_OUT_SEED, **kind)
    return learn, check or learn[-1:]


def describe(settings: dict, scans: Sequence[ScanSpec], table: Path | None, cases: Path | None) -> dict:
    """What the checkpoint says about its data."""
    phantoms = sum(isinstance(scan, PhantomScan) for scan in scans)
    parts = [f"{phantoms} digital phantoms"] if phantoms else []
    parts += [f"{len(scans) - phantoms} scans of {(table or cases).name}"] if phantoms < len(scans) else []
    return {
        "source": f"trained on {' and '.join(parts)}",
        "voxels": "the scans' own",
        "notes": ["research use only"],
        "low_share": float(settings["low_share"]),
    }
