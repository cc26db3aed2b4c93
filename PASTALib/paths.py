"""Folders of this user on this machine: what may be lost (cache) and what was put there on purpose (data)."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """For converted models and measurements; ``PASTA_CACHE`` overrides. It need not exist."""
    return _folder("PASTA_CACHE", "XDG_CACHE_HOME", ".cache", "Caches", "LOCALAPPDATA")


def data_folder() -> Path:
    """For models that the user added; ``PASTA_DATA`` overrides. It need not exist."""
    return _folder("PASTA_DATA", "XDG_DATA_HOME", ".local/share", "Application Support", "APPDATA")


def _folder(override: str, xdg: str, linux: str, mac: str, windows: str) -> Path:
    if os.environ.get(override):
        return Path(os.environ[override]).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get(windows) or Path.home() / "AppData" / "Local") / "pasta"
    if sys.platform == "darwin":
        return Path.home() / "Library" / mac / "pasta"
    return Path(os.environ.get(xdg) or Path.home() / linux) / "pasta"
