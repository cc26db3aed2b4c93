"""Shape descriptors: known bodies, agreement with the measure of the real lesion tables, reading those tables."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest

from Testing.bench.shape_stats import (
    DESCRIPTORS,
    REAL_SETS,
    compare,
    format_rows,
    lesion_stats,
    real_lesions,
    real_quartiles,
    typical_spacing,
)


def ellipsoid(semi_axes_mm, spacing_mm, shift_mm=(0.0, 0.0, 0.0)):
    half = [math.ceil(a / s) + 2 for a, s in zip(semi_axes_mm, spacing_mm)]
    grid = np.meshgrid(*[np.arange(-n, n + 1) * s for n, s in zip(half, spacing_mm)], indexing="ij")
    return sum(((g - d) / a) ** 2 for g, a, d in zip(grid, semi_axes_mm, shift_mm)) <= 1


def hand_made_masks():
    """(name, mask, spacing) with shapes that are awkward for the measure."""
    rng = np.random.default_rng(0)
    rough = ellipsoid((9, 7, 6), (0.74, 0.74, 0.8), (0.2, -0.3, 0.1))
    rough &= rng.random(rough.shape) > 0.02
    c_shape = np.zeros((30, 30, 6), bool)
    x, y = np.meshgrid(np.arange(30) - 15, np.arange(30) - 15, indexing="ij")
    ring = (np.hypot(x, y) < 13) & (np.hypot(x, y) > 7) & ~((x > 0) & (abs(y) < 5))
    c_shape[ring, 1:5] = True
    bar = np.zeros((12, 5, 4), bool)
    bar[2:10, 2, 1] = True
    voxel = np.zeros((3, 3, 3), bool)
    voxel[1, 1, 1] = True
    touching = np.zeros((7, 6, 5), bool)
    touching[:5, 1:, :] = True
    l_shape = np.zeros((8, 9, 7), bool)
    l_shape[1:7, 1:3, 1:4] = l_shape[1:3, 1:8, 1:6] = True
    return [
        ("sphere", ellipsoid((10, 10, 10), (1, 1, 1)), (1.0, 1.0, 1.0)),
        ("thick slices", ellipsoid((16, 11, 9), (0.8, 0.8, 5.0)), (0.8, 0.8, 5.0)),
        ("rough", rough, (0.74, 0.74, 0.8)),
        ("c shape", c_shape, (0.78, 0.78, 5.0)),
        ("bar", bar, (0.7, 0.7, 2.5)),
        ("voxel", voxel, (0.7, 0.8, 1.5)),
        ("at the array edge", touching, (1.0, 1.5, 3.0)),
        ("l shape", l_shape, (0.9, 0.9, 2.0)),
    ]


@pytest.fixture(scope="module")
def tables(real_data):
    """Folder with one CSV file per real lesion set and the function that measured them."""
    folder = real_data / "lesion_stats"
    if not folder.is_dir():
        pytest.skip(f"no measurements of real lesions at {folder}")
    return folder


@pytest.fixture(scope="module")
def reference(tables):
    """The function that measured the real lesions, without its rounding."""
    spec = importlib.util.spec_from_file_location("reference_lesion_stats", tables / "lstats.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    loaded.round = lambda value, digits=0: value
    return loaded.lesion_stats


def test_sphere_and_ellipsoid():
    sphere = lesion_stats(ellipsoid((10, 10, 10), (0.5, 0.5, 0.5)), (0.5, 0.5, 0.5))
    assert sphere["eq_diam_mm"] == pytest.approx(20, rel=0.01)
    assert sphere["elongation"] == pytest.approx(1, abs=0.01)
    assert 0.90 < sphere["sphericity"] < 0.96 and sphere["solidity"] > 0.95
    long = lesion_stats(ellipsoid((12, 8, 6), (0.5, 0.5, 0.5)), (0.5, 0.5, 0.5))
    assert long["elongation"] == pytest.approx(8 / 12, abs=0.02)
    assert long["flatness"] == pytest.approx(6 / 12, abs=0.02)
    assert long["axial_long_mm"] == pytest.approx(24, abs=1) and long["axial_short_mm"] == pytest.approx(16, abs=1)
    assert long["extent_z_mm"] == pytest.approx(12, abs=1)


@pytest.mark.parametrize(("spacing", "expected"), [((1, 1, 1), 0.92), ((0.8, 0.8, 2.5), 0.85), ((0.8, 0.8, 5), 0.81)])
def test_sphericity_of_a_digital_sphere_depends_on_spacing(spacing, expected):
    assert lesion_stats(ellipsoid((10, 10, 10), spacing), spacing)["sphericity"] == pytest.approx(expected, abs=0.04)


def test_small_masks_have_no_solidity_and_no_axes():
    voxel = np.ones((1, 1, 1), bool)
    stats = lesion_stats(voxel, (1, 1, 2))
    assert stats["volume_mm3"] == 2 and stats["axial_long_mm"] == pytest.approx(math.sqrt(2))
    assert math.isnan(stats["solidity"]) and math.isnan(stats["elongation"]) and math.isnan(stats["flatness"])


def test_position_and_padding_do_not_matter():
    mask = ellipsoid((6, 5, 4), (1, 1, 1))
    padded = np.pad(mask, ((3, 0), (0, 7), (2, 2)))
    assert lesion_stats(padded, (1, 1, 1)) == pytest.approx(lesion_stats(mask, (1, 1, 1)))


def test_bad_masks():
    with pytest.raises(ValueError, match="empty"):
        lesion_stats(np.zeros((3, 3, 3), bool), (1, 1, 1))
    with pytest.raises(ValueError, match="axes"):
        lesion_stats(np.ones((3, 3), bool), (1, 1, 1))


@pytest.mark.parametrize(
    ("name", "mask", "spacing"), hand_made_masks(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_agrees_with_the_reference_measure(reference, name, mask, spacing):
    expected = reference(mask, spacing)
    stats = lesion_stats(mask, spacing)
    assert set(stats) == set(expected)
    for key, value in expected.items():
        assert stats[key] == pytest.approx(value, rel=1e-6, abs=1e-9, nan_ok=True), f"{name}: {key}"


def _write_table(folder, name, rows):
    columns = ["label", "spacing_ok", "touches_voi_edge", "sx", "sy", "sz", *DESCRIPTORS]
    lines = [",".join(columns)]
    for label, ok, edge, value in rows:
        lines.append(",".join([f'"{label}"', ok, edge, "0.8", "0.8", "2.5", *[str(value)] * len(DESCRIPTORS)]))
    (folder / f"{name}.csv").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def small_tables(tmp_path):
    rows = [
        ("tumor", "True", "False", 1),
        ("tumor", "True", "False", 3),
        ("tumor", "False", "False", 100),
        ("tumor", "True", "True", 100),
        ("cyst", "True", "False", 7),
        ("tumor", "True", "False", ""),
    ]
    for name in {name for sources in REAL_SETS.values() for name, _ in sources}:
        _write_table(tmp_path, name, rows)
    return tmp_path


def test_exclusions_labels_and_pooling(small_tables):
    quartiles = real_quartiles(small_tables)
    assert set(quartiles) == set(REAL_SETS)
    assert quartiles["kidney_tumor"]["eq_diam_mm"] == (1.5, 2.0, 2.5, 2)
    assert quartiles["kidney_cyst"]["eq_diam_mm"] == (7.0, 7.0, 7.0, 1)
    assert quartiles["liver_tumor"]["sphericity"][3] == 3
    assert quartiles["pancreas_tumor"]["sphericity"][3] == 6
    assert len(real_lesions(small_tables)["kidney_tumor"]) == 3
    assert typical_spacing(small_tables)["bone_metastasis"] == (0.8, 0.8, 2.5)


def test_compare_says_whether_the_median_is_inside():
    real = {"eq_diam_mm": (10.0, 15.0, 20.0, 40), "solidity": (0.7, 0.8, 0.9, 40)}
    generated = [{"eq_diam_mm": d, "solidity": s} for d, s in ((9, 0.95), (12, 0.96), (30, float("nan")))]
    rows = compare(generated, real, "liver_tumor")
    assert [(row.descriptor, row.inside, row.generated_n) for row in rows] == [
        ("eq_diam_mm", True, 3),
        ("solidity", False, 2),
    ]
    assert rows[0].generated_p50 == 12
    table = format_rows(rows)
    assert table.count("\n") == 3 and "NO" in table and "liver_tumor" in table
    assert not compare([], real)[0].inside


def test_real_tables(tables):
    quartiles = real_quartiles(tables)
    assert quartiles["liver_tumor"]["eq_diam_mm"][1:2] == pytest.approx((11.585,), abs=0.01)
    assert quartiles["liver_tumor"]["eq_diam_mm"][3] == 310
    assert quartiles["pancreas_tumor"]["eq_diam_mm"][3] == 124 + 65
    assert quartiles["kidney_cyst"]["eq_diam_mm"][3] == 418
    for descriptors in quartiles.values():
        assert all(p25 < p50 < p75 for p25, p50, p75, _ in descriptors.values())
