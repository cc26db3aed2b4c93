"""Fixtures of the reader study's tests: small pools of noise with a lesion in it, and a study made of them."""

from __future__ import annotations

import numpy as np
import pytest

from PASTALib.volume import Volume, write_volume

_AFFINE = np.diag([-2.0, -2.0, 2.0, 1.0])
STUDY_SHAPE, STUDY_SPACING = (20, 22, 24), (2.0, 2.0, 2.0)
STUDY_PASSPHRASE = "four quiet grey horses"


def small_case(rng: np.random.Generator, synthetic: bool) -> tuple[np.ndarray, np.ndarray]:
    """CT (int16 HU, with air in front) and mask (uint8) of 26 x 28 x 30 voxels; real and synthetic differ in the lesion only."""
    ct = rng.normal(50, 15, (26, 28, 30))
    ct[:, :4] = -1000
    z, y, x = rng.integers(9, 14, 3)
    mask = np.zeros(ct.shape, np.uint8)
    mask[z : z + 5, y : y + 4, x : x + 4] = 1
    ct[mask > 0] = 20 if synthetic else ct[mask > 0] - 30
    return np.clip(np.rint(ct), -1000, 2000).astype(np.int16), mask


@pytest.fixture(scope="session")
def study_pools(tmp_path_factory):
    """(real, synthetic): ten cases each of liver_tumor and kidney_cyst."""
    from PASTALib.study.pools import PoolCase

    folder = tmp_path_factory.mktemp("pools")
    rng = np.random.default_rng(7)
    pools = {"real": [], "synthetic": []}
    for truth, pool in pools.items():
        for kind in ("liver_tumor", "kidney_cyst"):
            for number in range(10):
                ct, mask = small_case(rng, truth == "synthetic")
                image, masks = (folder / f"{truth}-{kind}-{number}{end}.nrrd" for end in ("", "-mask"))
                write_volume(Volume(ct, _AFFINE), image)
                write_volume(Volume(mask, _AFFINE), masks)
                pool.append(PoolCase(f"{kind}-{number}", truth, kind, image, masks))
    return pools["real"], pools["synthetic"]


@pytest.fixture(scope="session")
def study_design():
    """Function: fields -> Design on the small grid: 3 realism cases per type and class, two readers."""
    from PASTALib.study.design import Design
    from PASTALib.study.export import ExportGrid

    def design(**fields):
        fields.setdefault("realism", {"liver_tumor": 3, "kidney_cyst": 3})
        fields.setdefault("readers", ("ann", "bob"))
        return Design("small", "A small study", grid=ExportGrid(STUDY_SHAPE, STUDY_SPACING), **fields)

    return design


@pytest.fixture
def make_study(tmp_path, study_pools, study_design):
    """Function: design fields -> (StudyPackage, StudyKey) of a new study whose key is in a file beside it."""
    from PASTALib.study.create import create_study
    from PASTALib.study.package import open_study
    from PASTALib.study.seal import unlock

    def make(name="study", seed=5, **fields):
        key_file = tmp_path / f"{name}-key.json"
        folder = create_study(tmp_path / name, study_design(**fields), *study_pools, seed=seed, key_file=key_file)
        study = open_study(folder)
        return study, unlock(folder, study.study_id, key_file=key_file)

    return make


@pytest.fixture
def rate_all():
    """Function: rate ``count`` cases (all by default) of a study as one reader; the number rated."""
    from PASTALib.study.session import ReaderSession

    def rate(study, reader, count=10**6, score=4):
        done = 0
        with ReaderSession(study, reader) as session:
            while session.item is not None and done < count:
                session.rate({question.key: score for question in session.questions})
                done += 1
        return done

    return rate
