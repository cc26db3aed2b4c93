"""What each data set is: licence, source, counts, checksums, from ``datasets.toml``. No torch."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("datasets.toml")


@dataclass(frozen=True)
class About:
    """A data set.

    ``folders``: what its top folder is called; ``cases``: labelled cases of the published release (0: any number); ``labels``: names of the
    mask's values 1, 2, …; ``kind``: what to choose of a set that mixes kinds; ``without_lesion``: cases known to have none; ``md5``: of the
    archive, "" where none was published.
    """

    key: str
    title: str
    licence: str
    source: str
    citation: str
    folders: tuple[str, ...]
    cases: int
    channels: tuple[str, ...] = ("CT",)
    labels: tuple[str, ...] = ()
    kind: str = ""
    without_lesion: tuple[str, ...] = ()
    archive: str = ""
    url: str = ""
    md5: str = ""
    notes: tuple[str, ...] = ()


def keys() -> tuple[str, ...]:
    """The data sets, as ``tasks.toml`` names them."""
    return tuple(_read())


def describe(key: str) -> About:
    """The data set of this key; InputError with the list otherwise."""
    if key not in _read():
        raise InputError(f"data set {key!r}: there is none; use one of {', '.join(keys())}")
    return _read()[key]


def check_archive(key: str, archive: str | Path, progress: Progress = silent) -> str:
    """The archive's MD5; InputError when it is not the published one. Sets without a published checksum cannot be checked: InputError."""
    about, archive = describe(key), Path(archive)
    if not about.md5:
        raise InputError(f"{key}: no checksum of its archive was published; check the number of files instead")
    digest, done = hashlib.md5(usedforsecurity=False), 0
    try:
        size = archive.stat().st_size
        with archive.open("rb") as stream:
            while part := stream.read(1 << 24):
                digest.update(part)
                done += len(part)
                progress(done, size, f"checking {archive.name}")
    except OSError as error:
        raise InputError(f"{archive}: cannot be read ({error.strerror or error}); check the path") from None
    found = digest.hexdigest()
    if found != about.md5:
        raise InputError(f"{archive}: MD5 {found}, published is {about.md5} of {about.archive}; download it again")
    return found


@lru_cache(maxsize=1)
def _read() -> dict[str, About]:
    with FILE.open("rb") as stream:
        data = tomllib.load(stream)
    return {
        key: About(key, **{name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()})
        for key, entry in data.items()
    }
