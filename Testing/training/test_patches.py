"""Training patches: the same for seed and index whatever came before, true to the scan, with lesions whose labels are right."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.organs import OrganMap
from PASTALib.volume import Volume, write_volume
from training import patches
from training.patches import (
    AIR_HU,
    FileScan,
    PatchSource,
    PhantomScan,
    load_prepared,
    phantom_scans,
    scans_of_table,
)


@pytest.fixture(scope="module")
def source(prepared_enhanced, prepared_plain):
    return PatchSource([prepared_enhanced, prepared_plain], 24, None, seed=5, lesion_share=0.5, patches_per_scan=3)


def same(a, b) -> bool:
    arrays = all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a[:3], b[:3]))
    return (
        arrays
        and (a.report is None) == (b.report is None)
        and (a.report is None or a.report.to_json() == b.report.to_json())
    )


def test_a_patch_depends_on_seed_and_index_alone(source, prepared_enhanced, prepared_plain):
    first = [source[index] for index in range(8)]
    fresh = PatchSource(
        [prepared_enhanced, prepared_plain], 24, None, seed=5, lesion_share=0.5, patches_per_scan=3, keep=1
    )
    assert all(same(fresh[index], first[index]) for index in (7, 0, 3, 1))
    assert [same(a, b) for a, b in zip(fresh.range(2, 4), first[2:4])] == [True, True]
    other = PatchSource([prepared_enhanced, prepared_plain], 24, None, seed=6, lesion_share=0.5, patches_per_scan=3)
    assert not any(same(other[index], first[index]) for index in range(4))
    assert not same(first[0], first[1])


def test_types_and_values(source):
    for index in range(8):
        patch = source[index]
        assert (patch.hu.dtype, patch.organs.dtype, patch.lesions.dtype) == (np.int16, np.uint8, np.uint8)
        assert {a.shape for a in patch[:3]} == {(24, 24, 24)}
        assert patch.organs.max() <= 10 and set(np.unique(patch.lesions)) <= {0, *range(11, 26)}
        assert (patch.report is not None) == bool(patch.lesions.any())
        inside = patch.lesions > 0
        assert (patch.labels[inside] > 10).all() and np.array_equal(patch.labels[~inside], patch.organs[~inside])


def test_lesions_are_those_of_the_report_and_in_the_image(prepared_enhanced, prepared_plain, monkeypatch):
    made = []
    original = patches.synthesise
    monkeypatch.setattr(patches, "synthesise", lambda *given: made.append(original(*given)) or made[-1])
    source = PatchSource([prepared_enhanced, prepared_plain], (24, 48, 48), None, lesion_share=1.0, patches_per_scan=4)
    kinds, whole = set(), 0
    for index in range(12):
        made.clear()
        patch = source[index]
        if patch.report is None:
            continue
        result, lesion = made[-1], taxonomy.lesion(patch.report.lesion)
        kinds.add(lesion.key)
        assert result.accepted and set(np.unique(patch.lesions)) == {0, lesion.value}
        scan = source.scan(source.scan_number(index))
        assert scan.phase in lesion.phases and not scan.lesions
        inside = patch.lesions > 0
        if np.count_nonzero(inside) == np.count_nonzero(result.label):
            whole += 1
            assert np.array_equal(patch.hu[inside], result.after[result.label].astype(np.int16))
    assert len(kinds) >= 4 and whole >= 4


def test_only_the_types_asked_for(prepared_enhanced):
    source = PatchSource([prepared_enhanced], 20, None, lesion_share=1.0, lesions=["liver_tumor"])
    reports = [source[index].report for index in range(5)]
    assert {report.lesion for report in reports if report} == {"liver_tumor"}
    without = OrganMap(Volume((prepared_enhanced.organs.labels.array == 1).view(np.uint8), prepared_enhanced.ct.affine))
    from PASTALib.synthesis.scan import prepare_scan

    lung_only = prepare_scan(prepared_enhanced.ct, without)
    assert PatchSource([lung_only], 20, None, lesion_share=1.0, lesions=["liver_tumor"])[0].report is None


def test_patches_are_cut_from_the_scan(prepared_enhanced):
    """Every healthy patch is found in the scan again, voxel by voxel, labels with it."""
    source = PatchSource([prepared_enhanced], 16, None, seed=2)
    array, labels = prepared_enhanced.ct.array, prepared_enhanced.organs.labels.array
    for index in range(4):
        patch = source[index]
        corner = np.argwhere(array[:-15, :-15, :-15] == patch.hu[0, 0, 0])
        found = [p for p in corner if np.array_equal(array[tuple(slice(c, c + 16) for c in p)], patch.hu)]
        assert len(found) == 1
        assert np.array_equal(labels[tuple(slice(c, c + 16) for c in found[0])], patch.organs)


def test_beyond_the_scan_is_air(prepared_enhanced):
    deep = prepared_enhanced.ct.array.shape[0] + 10
    patch = PatchSource([prepared_enhanced], (deep, 16, 16), None)[0]
    assert (patch.hu[0] == AIR_HU).all() and (patch.hu[-1] == AIR_HU).all() and not patch.organs[[0, -1]].any()
    assert (patch.hu[5:-5] != AIR_HU).any()


def test_every_scan_comes_once_a_round(prepared_enhanced):
    source = PatchSource([prepared_enhanced] * 5, 8, None, patches_per_scan=2)
    numbers = [source.scan_number(index) for index in range(20)]
    assert sorted(numbers[:10]) == sorted([*range(5)] * 2) and numbers[0::2] == numbers[1::2]
    assert numbers[:10] != numbers[10:]


def test_canonical_space_and_own_voxels(phantom_enhanced):
    """A scan stored askew: at 5 mm it is canonical, on its own voxels only turned, and world points keep their values."""
    ct, organs = phantom_enhanced.ct, phantom_enhanced.organs
    order = (1, 2, 0)

    def turn(volume):
        array = np.ascontiguousarray(np.flip(volume.array.transpose(order), 1))
        affine = volume.affine.copy()
        affine[:3, :3] = volume.affine[:3, [2 - axis for axis in order[::-1]]]
        affine[:3, 3] += affine[:3, 1] * (array.shape[1] - 1)
        affine[:3, 1] *= -1
        return Volume(array, affine)

    class Turned:
        def load(self):
            return turn(ct), OrganMap(turn(organs.labels), turn(organs.structures), organs.structure_names)

    upright = load_prepared(Turned(), None)
    np.testing.assert_allclose(upright.ct.affine, ct.affine, atol=1e-9)
    assert np.array_equal(upright.ct.array, ct.array)
    assert np.array_equal(upright.organs.labels.array, organs.labels.array)
    assert np.array_equal(upright.organs.structures.array, organs.structures.array)
    canonical = load_prepared(Turned(), 5.0)
    np.testing.assert_allclose(canonical.ct.affine[:3, :3], np.diag([-5.0, -5.0, 5.0]), atol=1e-9)
    liver = canonical.organs.labels.array == 2
    middle = canonical.ct.to_ras(np.argwhere(liver).mean(0))
    expected = ct.to_ras(np.argwhere(organs.labels.array == 2).mean(0))
    np.testing.assert_allclose(middle, expected, atol=1.0)
    assert load_prepared(PhantomScan(0, spacing_mm=4.0), 4.0).ct.array.tobytes() == ct.array.tobytes()


def test_phantoms_differ_and_repeat():
    specs = phantom_scans(6, seed=1, spacings_mm=[2.0, [5.0, 0.8, 0.8]], noise_hu=(8, 20))
    assert specs == phantom_scans(6, seed=1, spacings_mm=[2.0, [5.0, 0.8, 0.8]], noise_hu=(8, 20))
    assert len({spec.seed for spec in specs}) == 6 and {spec.phase for spec in specs} == {
        taxonomy.ENHANCED,
        taxonomy.PLAIN,
    }
    assert {spec.spacing_mm for spec in specs} == {2.0, (5.0, 0.8, 0.8)}
    assert all(8 <= spec.noise_hu <= 20 for spec in specs)
    with pytest.raises(InputError, match="torso"):
        phantom_scans(2, region="leg")


def test_scans_of_a_table(phantom_enhanced, tmp_path):
    write_volume(phantom_enhanced.ct, tmp_path / "ct.nii.gz")
    write_volume(phantom_enhanced.organs.labels, tmp_path / "organs.nii.gz")
    table = tmp_path / "scans.csv"
    table.write_text("ct,organs,scheme\nct.nii.gz,organs.nii.gz,pasta\nct.nii.gz,organs.nii.gz,\n")
    scans = scans_of_table(table)
    assert [scan.scheme for scan in scans] == ["pasta", None]
    source = PatchSource(scans, 16, None, keep=1)
    assert source[0].hu.shape == (16, 16, 16)
    again = pickle.loads(pickle.dumps(source))
    assert not again._loaded and same(again[0], source[0])


@pytest.mark.parametrize(
    "text,words",
    [
        ("a,b\n1,2\n", "columns ct,organs"),
        ("", "columns ct,organs"),
        ("ct,organs\nnone.nii,here.csv\n", "line 2: ct 'none.nii' does not exist"),
        ("ct,organs\nhere.csv,\n", "line 2: organs '' does not exist"),
        ("ct,organs,scheme\nhere.csv,here.csv,v9\n", "line 2: scheme 'v9'"),
    ],
)
def test_bad_tables(tmp_path, text, words):
    (tmp_path / "here.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        scans_of_table(tmp_path / "here.csv")
    with pytest.raises(InputError, match="cannot be read"):
        scans_of_table(tmp_path / "none.csv")


def test_bad_arguments(prepared_enhanced):
    for arguments, words in (
        (([], 16), "no scans"),
        (([prepared_enhanced], 2), "at least 4"),
        (([prepared_enhanced], (16, 16)), "one number or three"),
        (([prepared_enhanced], 16, 1.0, 0, 2.0), "0 to 1"),
    ):
        with pytest.raises(InputError, match=words):
            PatchSource(*arguments)
    with pytest.raises(InputError, match="not known"):
        PatchSource([prepared_enhanced], 16, lesions=["wart"])
    with pytest.raises(InputError, match="nowhere.nii"):
        from pathlib import Path

        PatchSource([FileScan(Path("nowhere.nii"), Path("nowhere.nii"))], 16)[0]


def test_a_scan_in_memory_is_never_written_to(prepared_enhanced):
    before = prepared_enhanced.ct.array.copy(), prepared_enhanced.organs.labels.array.copy()
    source = PatchSource([replace(prepared_enhanced, lesions=[])], 20, None, lesion_share=1.0)
    for index in range(4):
        patch = source[index]
        patch.hu[:] = 0
        patch.organs[:] = 0
    assert np.array_equal(prepared_enhanced.ct.array, before[0])
    assert np.array_equal(prepared_enhanced.organs.labels.array, before[1])
