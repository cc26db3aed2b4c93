"""The leak check: finds nothing where only lesions differ, and finds what was planted."""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest

from PASTALib.errors import InputError
from PASTALib.study import create as create_module
from PASTALib.study import leaks
from PASTALib.study.create import create_study, grid_of
from PASTALib.study.design import Design
from PASTALib.study.export import ExportGrid, write_nrrd
from PASTALib.study.leak_features import voxel_features
from PASTALib.study.leaks import LIMIT, check_leaks, collect, single_features
from PASTALib.study.package import open_study
from PASTALib.study.pools import PoolCase
from PASTALib.study.seal import StudyKey, unlock
from PASTALib.study.session import ReaderSession

pytest.importorskip("sklearn")
CASES = 200  # of each kind: chance alone then stays within 0.08 of 0.5 in 99 of 100 studies
GRID = ExportGrid((28, 32, 32), (2.0, 2.0, 2.0))
SOURCE = ExportGrid((34, 38, 38), (2.0, 2.0, 2.0))


def phantom_pools(folder, rng):
    """Real and synthetic cases: crops of one phantom at random places; real lesions are darker with noise, synthetic ones smooth and larger."""
    from PASTALib.phantom import make_phantom

    scan = make_phantom(3.0, region="abdomen").ct.array
    pools = {"real": [], "synthetic": []}
    for truth, pool in pools.items():
        for number in range(CASES + 3):
            corner = [rng.integers(0, n - size + 1) for n, size in zip(scan.shape, SOURCE.shape_zyx)]
            ct = scan[tuple(slice(c, c + size) for c, size in zip(corner, SOURCE.shape_zyx))].astype("<i2")
            z, y, x = (rng.integers(13, size - 13) for size in SOURCE.shape_zyx)
            half = rng.integers(2, 5, 3) + (truth == "synthetic")
            box = tuple(slice(c - h, c + h + 1) for c, h in zip((z, y, x), half))
            mask = np.zeros(ct.shape, "<i2")
            mask[box] = 1
            ct[box] = 20 if truth == "synthetic" else ct[box] - 40
            image, masks = folder / f"{truth}-{number}.nrrd", folder / f"{truth}-{number}-mask.nrrd"
            write_nrrd(ct, SOURCE, image)
            write_nrrd(mask, SOURCE, masks)
            pool.append(PoolCase(f"{truth}-{number}", truth, "liver_tumor", image, masks))
    return pools["real"], pools["synthetic"]


def a_clock(seed: int):
    """Time that passes by up to ten seconds from one look to the next, the same in every run."""
    dice, now = random.Random(seed), 1.8e9

    def clock() -> float:
        nonlocal now
        now += 10 * dice.random()
        return now

    return clock


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of 406 cases in which only the lesions differ, with some ratings; and its key."""
    folder = tmp_path_factory.mktemp("leaks")
    dice = random.Random(11)
    with pytest.MonkeyPatch.context() as patch:  # the same ids and order of writing in every run of the test
        patch.setattr(create_module.secrets, "token_hex", lambda n=16: f"{dice.getrandbits(8 * n):0{2 * n}x}")
        patch.setattr(create_module, "_RANDOM", dice)
        (folder / "pools").mkdir()
        pools = phantom_pools(folder / "pools", np.random.default_rng(2))
        design = Design(
            "leak",
            "Leak test",
            {"liver_tumor": CASES},
            practice=3,
            repeats=30,
            sessions=2,
            readers=("ann", "bob", "cho"),
            grid=GRID,
        )
        create_study(folder / "study", design, *pools, seed=8, key_file=folder / "key.json")
    study = open_study(folder / "study")
    for reader, count in (("ann", 200), ("bob", 60)):
        with ReaderSession(study, reader, clock=a_clock(count)) as session:
            while session.item is not None and session.progress[0] < count:
                session.rate({"realism": 1 + session.item.item % 5})
    return study, unlock(study.folder, study.study_id, key_file=folder / "key.json")


def part_of(key: StudyKey, each: int) -> StudyKey:
    """The key of some cases only, drawn at random, for a quick check (the first by name would differ in their names' range)."""
    dice, names = random.Random(1), []
    for truth in ("real", "synthetic"):
        names += dice.sample(sorted(name for name, about in key.cases.items() if about["truth"] == truth), each)
    return replace(key, cases={name: key.cases[name] for name in names})


@pytest.mark.slow
def test_nothing_but_the_lesion_tells_real_from_synthetic(made):
    study, key = made
    report = check_leaks(study, key)
    assert report.cases == 2 * CASES + 6 and report.features > 60 and report.limit == LIMIT
    assert report.differences == [] and report.suspects == []
    assert abs(report.best_single - 0.5) <= LIMIT and abs(report.boosted - 0.5) <= LIMIT, report
    assert not report.leaks and report.notes == []


@pytest.mark.slow
def test_what_the_check_looks_at(made):
    study, key = made
    table, differences = collect(study, part_of(key, 12), sorted(part_of(key, 12).cases))
    assert differences == []
    for name in ("file size", "header bytes", "header length", "time of change", "pointer R", "pointer extent A"):
        assert np.ptp(table[name]) == 0, name
    for name in (
        "compressed size",
        "inode",
        "name as a number",
        "order of ann",
        "event of ann",
        "noise along z",
        "foot face mean",
    ):
        assert np.ptp(table[name]) > 0, name
    assert all(values.shape == (24,) and np.isfinite(values).all() for values in table.values())


@pytest.fixture
def altered(made, tmp_path):
    """Function: change(study folder, study.json's data, key, names of synthetic cases) -> report of the check on a changed copy."""

    def alter(change, each=50):
        study, key = made
        key = part_of(key, each)
        folder = tmp_path / "copy"
        (folder / "cases").mkdir(parents=True)
        for name in sorted(key.cases):
            shutil.copy2(study.image_path(name), folder / "cases")
        shutil.copy(study.folder / "study.json", folder)
        data = json.loads((folder / "study.json").read_text())
        synthetic = [name for name, about in key.cases.items() if about["truth"] == "synthetic"]
        change(folder, data, key, synthetic)
        (folder / "study.json").write_text(json.dumps(data))
        return check_leaks(open_study(folder), key)

    return alter


def extra_header_byte(folder, data, key, synthetic):
    for name in synthetic:
        path = folder / "cases" / f"{name}.nrrd"
        times = path.stat().st_mtime
        path.write_bytes(path.read_bytes().replace(b"encoding: raw\n", b"encoding:  raw\n", 1))
        os.utime(path, (times, times))


def other_header_byte(folder, data, key, synthetic):
    for name in synthetic:
        path = folder / "cases" / f"{name}.nrrd"
        times = path.stat().st_mtime
        path.write_bytes(path.read_bytes().replace(b"kinds: domain", b"kinds: Domain", 1))
        os.utime(path, (times, times))


def other_time(folder, data, key, synthetic):
    for name in synthetic:
        os.utime(folder / "cases" / f"{name}.nrrd", (10**9, 10**9))


def more_noise(folder, data, key, synthetic):
    rng = np.random.default_rng(3)
    for name in synthetic:
        path = folder / "cases" / f"{name}.nrrd"
        header = GRID.header()
        array = np.frombuffer(path.read_bytes(), "<i2", offset=len(header)).reshape(GRID.shape_zyx)
        times = path.stat().st_mtime
        path.write_bytes(
            header + np.clip(np.rint(array + rng.normal(0, 8, array.shape)), -1000, 2000).astype("<i2").tobytes()
        )
        os.utime(path, (times, times))


def padded_border(folder, data, key, synthetic):
    for name in synthetic:
        path = folder / "cases" / f"{name}.nrrd"
        header = GRID.header()
        array = np.frombuffer(path.read_bytes(), "<i2", offset=len(header)).reshape(GRID.shape_zyx).copy()
        array[-1] = -1000
        times = path.stat().st_mtime
        path.write_bytes(header + array.tobytes())
        os.utime(path, (times, times))


def names_in_order(folder, data, key, synthetic):
    """Ids counted up, real cases first."""
    old = sorted(key.cases, key=lambda name: (name in synthetic, name))
    new = {name: f"c{number:08x}" for number, name in enumerate(old)}
    for name, other in new.items():
        (folder / "cases" / f"{name}.nrrd").rename(folder / "cases" / f"{other}.nrrd")
        data["cases"][other] = data["cases"].pop(name)
    for order in data["readers"].values():
        order[:] = [[new.get(row[0], row[0]), *row[1:]] for row in order]
    data["practice"] = [new.get(name, name) for name in data["practice"]]
    key.cases.update({other: key.cases.pop(name) for name, other in new.items()})


def order_by_truth(folder, data, key, synthetic):
    data["readers"]["bob"].sort(key=lambda row: row[0] in synthetic)


def pointer_by_mask(folder, data, key, synthetic):
    for name in synthetic:
        data["cases"][name]["extent_mm"] = [40.5, 40.0, 40.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change,feature,difference",
    [
        (extra_header_byte, "file size", "size of the case files: 2 different ones"),
        (other_header_byte, "header bytes", "header of the case files: 2 different ones"),
        (other_time, "time of change", "time of change of the case files: 2 different ones"),
        (more_noise, "noise along z", None),
        (padded_border, "head face mean", None),
        (names_in_order, "name as a number", None),
        (order_by_truth, "order of bob", None),
        (pointer_by_mask, "pointer extent R", None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_planted_leaks_are_found_and_named(altered, change, feature, difference):
    report = altered(change)
    assert report.leaks and max(report.best_single, report.boosted) > 0.7
    assert feature in [one.name for one in report.suspects]
    if difference:
        assert report.differences[0].startswith(difference)
    else:
        assert report.differences == []


@pytest.fixture
def same_every_run(monkeypatch):
    """What the file system deals anew to every copy, and the clock's ticks, drawn from the name instead: among 100 cases they correlate with
    the truth by chance now and then. The study of 406 cases is judged as the file system made it."""
    measured = leaks._file_features

    def drawn(path, header, place):
        row, fact = measured(path, header, place)
        dice = random.Random(path.stem)
        return row | {name: dice.random() for name in ("inode", "place in the folder", "time of writing")}, fact

    monkeypatch.setattr(leaks, "_file_features", drawn)


@pytest.mark.slow
def test_the_untouched_part_is_clean(altered, same_every_run):
    """The copies on which leaks are planted do not leak by themselves."""
    report = altered(lambda *_: None)
    assert report.differences == [] and report.suspects == [] and report.limit > LIMIT
    assert max(report.best_single, report.boosted) < 0.65, report
    assert "100 cases: chance alone" in report.notes[0]


def test_voxels_of_the_lesion_do_not_count():
    rng = np.random.default_rng(0)
    array = rng.normal(50, 15, GRID.shape_zyx).astype("<i2")
    box = [[10, 18], [12, 21], [9, 23]]
    other = array.copy()
    other[10:18, 12:21, 9:23] = 700
    other[14, 16, 16] = -1000
    assert voxel_features(array, (2, 2, 2), box, GRID) == voxel_features(other, (2, 2, 2), box, GRID)


def test_single_features_are_corrected_for_their_number():
    rng = np.random.default_rng(1)
    truth = np.arange(200) % 2 == 0
    values = rng.normal(size=(200, 80))
    assert single_features(values, truth, [str(n) for n in range(80)], 0)[0].p > 0.05  # the best of 80 by chance
    values[:, 7] += 0.8 * truth
    best = single_features(values, truth, [str(n) for n in range(80)], 0)[0]
    assert best.name == "7" and best.p < 0.01 and best.auc > 0.65


def test_small_studies_and_missing_files(make_study):
    study, key = make_study()
    with pytest.raises(InputError, match="6 real and 6 synthetic cases are too few"):
        check_leaks(study, key)
    study, key = make_study("larger", realism={"liver_tumor": 10})
    assert grid_of(study).shape_zyx == (20, 22, 24)
    study.image_path(next(iter(key.cases))).unlink()
    with pytest.raises(InputError, match="is missing; copy it from your backup"):
        check_leaks(study, key)
