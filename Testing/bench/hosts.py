"""Scans that lesions are put into: the phantom (kept on disk between runs) and the real CTs where they are found."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from PASTALib import phantom, taxonomy
from PASTALib.organs import OrganMap, read_organs
from PASTALib.phantom import make_phantom
from PASTALib.synthesis.scan import PreparedScan, prepare_scan
from PASTALib.volume import Volume, read_volume

ROOT = Path(__file__).resolve().parents[2]
REAL = {
    "S01": ("S01_ts_torso", "organs_ts104.nii.gz", "totalseg-v1"),
    "S02": ("S02_hcc006", "organs.nii.gz", "pasta"),
    "S03": ("S03_cmbcrc01068", "organs.nii.gz", "pasta"),
}


@dataclass(frozen=True)
class Host:
    """One scan: ``name`` for tables and either a real case or the phantom's grid; small, so that it can be sent to a worker."""

    name: str
    out: Path
    spacing: tuple[float, float, float] | None = None
    shape: tuple[int, int, int] | None = None
    region: str = "torso"


def data_folder() -> Path:
    """Folder with the real test scans; it may not exist."""
    return Path(os.environ.get("PASTA_TEST_DATA", ROOT.parent / "shared" / "data"))


def phantom_host(out: Path, spacing_mm: float) -> Host:
    """The enhanced torso phantom at an isotropic spacing."""
    return Host(f"phantom {spacing_mm:g} mm", Path(out), (spacing_mm,) * 3)


def large_host(out: Path) -> Host:
    """The phantom as a 512 x 512 x 300 scan."""
    return Host("phantom 512×512×300", Path(out), (1.5, 0.78, 0.78), (300, 512, 512))


def real_hosts(out: Path) -> tuple[list[Host], list[str]]:
    """Real scans that are there, and a line for each that is not."""
    hosts, missing = [], []
    for name, (folder, organs, _) in REAL.items():
        case = data_folder() / "cases" / folder
        absent = [f for f in ("ct.nii.gz", organs) if not (case / f).is_file()]
        if absent:
            missing.append(
                f"{name} left out: {folder}/{absent[0]} is not in the folder of real scans (PASTA_TEST_DATA)"
            )
        else:
            hosts.append(Host(name, Path(out)))
    return hosts, missing


def load_volumes(host: Host) -> tuple[Volume, OrganMap]:
    """CT and organ map of a host."""
    if host.spacing is None:
        folder, organs, scheme = REAL[host.name]
        case = data_folder() / "cases" / folder
        ct = read_volume(case / "ct.nii.gz")
        return ct, read_organs(case / organs, scheme, like=ct)
    return _cached_phantom(host)


@lru_cache(maxsize=1)
def load_scan(host: Host) -> PreparedScan:
    """A host made ready for lesions; the last one is kept."""
    return prepare_scan(*load_volumes(host))


@lru_cache(maxsize=1)
def _phantom_version() -> str:
    """Digest of the phantom's source, so that an old phantom is never taken for the present one."""
    files = sorted(Path(phantom.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:10]


def phantom_file(host: Host) -> Path:
    """Where a phantom is kept."""
    grid = "-".join(f"{s:g}" for s in (*host.spacing, *(host.shape or ())))
    return host.out / f"phantom-{host.region}-{grid}-{_phantom_version()}.npz"


def _cached_phantom(host: Host) -> tuple[Volume, OrganMap]:
    path = phantom_file(host)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = make_phantom(host.spacing, taxonomy.ENHANCED, shape=host.shape, region=host.region)
        part = path.with_name(f"{path.stem}.{os.getpid()}.npz")
        np.savez(
            part,
            ct=made.ct.array,
            labels=made.organs.labels.array,
            structures=made.organs.structures.array,
            affine=made.ct.affine,
            names=json.dumps({str(k): v for k, v in made.organs.structure_names.items()}),
        )
        part.replace(path)
    with np.load(path) as data:
        affine = data["affine"]
        names = {int(k): v for k, v in json.loads(str(data["names"])).items()}
        organs = OrganMap(
            Volume(data["labels"], affine.copy()), Volume(data["structures"], affine.copy()), names, "totalseg-v2"
        )
        return Volume(data["ct"], affine.copy()), organs


def lacks(scan: PreparedScan, lesion: str) -> bool:
    """True when the scan has not the lesion's organ."""
    return taxonomy.lesion(lesion).organ not in scan.geometry
