"""Fixtures for all tests: generated torsos, prepared scans, and real CT found through PASTA_TEST_DATA (skipped when absent)."""

from __future__ import annotations

import locale
import os
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

if "PYTEST_XDIST_WORKER" in os.environ:  # several test processes: one thread each, or they hinder one another
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_name, "1")


_LOCALE = locale.setlocale(locale.LC_ALL)


@pytest.fixture(autouse=True)
def _own_locale():
    """Qt and MRML set the process's locale, after which Python reads no UTF-8 by default; each test begins with the one at the start."""
    locale.setlocale(locale.LC_ALL, _LOCALE)
    yield


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory):
    """Tests see none of this user's models and cached measurements, and leave none behind."""
    names = {"PASTA_CACHE": "cache", "PASTA_DATA": "data"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(tmp_path_factory.mktemp(folder)) for name, folder in names.items()})
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def real_data_folder() -> Path:
    """Folder with the real test scans (``cases/S01_ts_torso/…``); it may not exist."""
    return Path(os.environ.get("PASTA_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = real_data_folder()
    if not (folder / "cases").is_dir():
        pytest.skip(f"no real CT at {folder}; set PASTA_TEST_DATA to a folder with cases/<name>/ct.nii.gz")
    return folder


@pytest.fixture(scope="session")
def phantom_enhanced():
    """Whole torso, 4 mm, portal venous phase. Shared: never write to its arrays."""
    from PASTALib.phantom import make_phantom

    return make_phantom(4.0)


@pytest.fixture(scope="session")
def phantom_plain():
    """Whole torso, 4 mm, without contrast. Shared: never write to its arrays."""
    from PASTALib import taxonomy
    from PASTALib.phantom import make_phantom

    return make_phantom(4.0, taxonomy.PLAIN)


@pytest.fixture(scope="session")
def prepared_enhanced(phantom_enhanced):
    """The enhanced torso made ready for lesions. Shared: insert only into a ``fresh_scan`` of it."""
    from PASTALib.synthesis.scan import prepare_scan

    return prepare_scan(phantom_enhanced.ct, phantom_enhanced.organs)


@pytest.fixture(scope="session")
def prepared_plain(phantom_plain):
    """The plain torso made ready for lesions. Shared: insert only into a ``fresh_scan`` of it."""
    from PASTALib.synthesis.scan import prepare_scan

    return prepare_scan(phantom_plain.ct, phantom_plain.organs)


@pytest.fixture(scope="session")
def prepared_of(prepared_enhanced, prepared_plain):
    """Function: lesion type -> the prepared torso in a phase that the type belongs to."""
    from PASTALib import taxonomy

    def choose(lesion_key: str):
        return prepared_enhanced if taxonomy.ENHANCED in taxonomy.lesion(lesion_key).phases else prepared_plain

    return choose


@pytest.fixture(scope="session")
def fresh_scan():
    """Function: prepared scan -> one with its own CT array and no lesions, for tests that insert."""

    def copy(scan):
        return replace(scan, ct=replace(scan.ct, array=scan.ct.array.copy()), lesions=[])

    return copy


@pytest.fixture(scope="module")
def case(prepared_of):
    """Function: lesion type, seed, request fields -> (scan, result); kept, because several tests look at the same case."""
    from PASTALib.synthesis.generator import synthesise
    from PASTALib.synthesis.spec import LesionRequest

    kept = {}

    def get(lesion, seed=0, **fields):
        key = (lesion, seed, repr(sorted(fields.items())))
        if key not in kept:
            scan = prepared_of(lesion)
            kept[key] = scan, synthesise(scan, LesionRequest(lesion, seed=seed, **fields))
        return kept[key]

    return get
