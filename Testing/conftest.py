"""Fixtures for all tests. Real CT is found through PASTA_TEST_DATA and skipped, with a reason, when absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def real_data_folder() -> Path:
    """Folder with the real test scans (``cases/S01_ts_torso/…``); it may not exist."""
    return Path(os.environ.get("PASTA_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = real_data_folder()
    if not (folder / "cases").is_dir():
        pytest.skip(f"no real CT at {folder}; set PASTA_TEST_DATA to a folder with cases/<name>/ct.nii.gz")
    return folder
