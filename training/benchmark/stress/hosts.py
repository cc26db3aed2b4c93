"""The healthy scans of a detectability study: files with their organ maps, or the digital phantom."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.synthesis.scan import PreparedScan, prepare_scan
from PASTALib.volume import read_volume


@dataclass(frozen=True)
class Host:
    """A scan to put lesions into: ``ct`` and ``organs`` (``scheme``: numbering of the map, None to find out), or the phantom of ``spacing_mm``."""

    name: str
    ct: Path | None = None
    organs: Path | None = None
    scheme: str | None = None
    spacing_mm: float | None = None

    def load(self, lesions: Sequence[str]) -> PreparedScan:
        """The scan, prepared. The phantom comes in the phase in which the first of ``lesions`` is made."""
        if self.ct is None:
            from PASTALib.phantom import make_phantom

            phases = taxonomy.lesion(lesions[0]).phases
            phantom = make_phantom(self.spacing_mm, taxonomy.ENHANCED if taxonomy.ENHANCED in phases else phases[0])
            return prepare_scan(phantom.ct, phantom.organs)
        from PASTALib.organs import read_organs

        ct = read_volume(self.ct, "ct")
        return prepare_scan(ct, read_organs(self.organs, self.scheme, ct))


def as_hosts(scans) -> list[Host]:
    """Hosts of ``scans``: a phantom's voxel size in mm, or a sequence of Host, voxel sizes and (CT, organ map[, scheme]) tuples.

    InputError for files that are not there, names that come twice and voxel sizes out of range.
    """
    items = [scans] if isinstance(scans, (int, float, Host)) else list(scans)
    hosts = [item if isinstance(item, Host) else _host(item) for item in items]
    if not hosts:
        raise InputError("no scan to put lesions into; give a CT with its organ map, or the phantom's voxel size")
    names = [host.name for host in hosts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"two scans are called {twice!r}; rename a file or its folder")
    for host in hosts:
        if host.ct is None:
            if host.spacing_mm is None or not 1 <= host.spacing_mm <= 6:
                raise InputError(f"phantom of {host.spacing_mm} mm; give 1 to 6 mm")
            continue
        for path, what in ((host.ct, "CT"), (host.organs, "organ map")):
            if path is None or not Path(path).exists():
                raise InputError(f"{what} {path} does not exist; check the path")
    return hosts


def fingerprint(scan: PreparedScan) -> str:
    """16 hexadecimal digits over image and organ map, to tell whether a study goes on with the same scan."""
    digest = hashlib.sha256(scan.ct.array.tobytes())
    digest.update(scan.organs.labels.array.tobytes())
    return digest.hexdigest()[:16]


def _host(item) -> Host:
    if isinstance(item, (int, float)) and not isinstance(item, bool):
        return Host(f"phantom {item:g} mm", spacing_mm=float(item))
    try:
        ct, organs, scheme = (*item, None)[:3]
    except TypeError:
        raise InputError(f"scan {item!r}; wanted a phantom's voxel size or (CT, organ map, scheme)") from None
    ct = Path(ct)
    name = ct.name.removesuffix(".gz")
    name = name.rpartition(".")[0] or name
    # files are often all called ct.nii.gz, in folders that tell them apart
    return Host(ct.resolve().parent.name if name.lower() in ("ct", "img", "image") else name, ct, Path(organs), scheme)
