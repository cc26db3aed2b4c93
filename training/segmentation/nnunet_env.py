"""Where nnU-Net looks for its folders, and whether the nnU-Net that is installed will do. Imports nnU-Net only when asked to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from PASTALib.errors import InputError

OLDEST = (2, 8)  # the first that hands the plans to ``build_network_architecture``
FOLDERS = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}


def require_nnunet() -> str:
    """The version of the installed nnU-Net; InputError when there is none or it is too old."""
    try:
        version = metadata.version("nnunetv2")
    except metadata.PackageNotFoundError:
        raise InputError(
            "nnU-Net is not installed; pip install 'nnunetv2>=2.8', or use a preset that trains on the fly"
        ) from None
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise InputError(f"nnU-Net {version} is installed; wanted 2.8 or newer: pip install -U nnunetv2")
    return version


@contextmanager
def nnunet_folders(root: Path, preprocessed: Path | None = None) -> Iterator[dict[str, Path]]:
    """nnU-Net's three folders below ``root`` for as long as the block lasts; what the environment said before comes back.

    ``preprocessed``: a folder for the preprocessed scans that is not there, for several trainings on the same.
    """
    places = {name: root / folder for name, folder in FOLDERS.items()}
    if preprocessed is not None:
        places["nnUNet_preprocessed"] = preprocessed
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    with _environment({name: str(place) for name, place in places.items()}):
        yield places


@contextmanager
def nnunet_processes(count: int) -> Iterator[None]:
    """Tell nnU-Net how many processes to augment with; what the environment said before comes back."""
    with _environment({"nnUNet_n_proc_DA": str(count)}):
        yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables with other values for as long as the block lasts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
