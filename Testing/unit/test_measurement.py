"""Measurement of lesions against analytic truth: size, shape, density, heterogeneity, surface, invasion, noise, edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.special import ndtr, ndtri

from PASTALib import attributes
from PASTALib.synthesis import measurement as ms
from PASTALib.synthesis.measure_noise import noise_levels, noise_power, noise_ratio
from PASTALib.synthesis.measure_shape import shape_figures, signed_distance
from PASTALib.synthesis.measurement import ScanReference, measure, reference_edge_width, regions, tissue_level

GRIDS = [(1.0, 0.7, 0.7), (1.0, 1.0, 1.0), (2.5, 0.8, 0.8), (5.0, 0.7, 0.7), (3.0, 3.0, 3.0)]
FINE = (1.0, 0.8, 0.8)
SCAN = ScanReference(edge_width_mm=2.0, noise_sd_hu=10.0, smoothed_sd_hu=3.5)


def grid(spacing, half_mm, shift=(0.2, -0.3, 0.1)):
    """Coordinates (mm) of a region that reaches ``half_mm`` from an off-grid centre."""
    half = np.broadcast_to(half_mm, 3)
    counts = [2 * int(np.ceil(h / s)) + 1 for h, s in zip(half, spacing)]
    axes = [(np.arange(n) - n // 2 + d) * s for n, s, d in zip(counts, spacing, shift)]
    return np.meshgrid(*axes, indexing="ij", sparse=True)


def ball_distance(spacing, radius, margin=14.0):
    z, y, x = grid(spacing, radius + margin)
    return np.sqrt(z**2 + y**2 + x**2) - radius


def noise_field(shape, spacing, sd, seed=0, length_mm=0.7):
    field = np.random.default_rng(seed).standard_normal(shape)
    field = ndimage.gaussian_filter(field, [0.0, length_mm / spacing[1], length_mm / spacing[2]])
    return sd * field / field.std()


def render(distance, spacing, delta=-50.0, width=2.0, background=100.0, noise=0.0, seed=0):
    image = background + delta * ndtr(-distance / (width / 2.5631))
    if noise:
        image = image + noise_field(distance.shape, spacing, noise, seed)
    return image.astype(np.float32)


def run(image, label, spacing, key="liver_tumor", scan=SCAN, parent=None, others=None, **options):
    parent = np.ones(label.shape, bool) if parent is None else parent
    others = np.zeros(label.shape, np.uint8) if others is None else others
    return measure(key, image, label, parent, others, spacing, scan, **options)


def scan_for(noise, spacing=FINE, edge=2.0):
    high, smoothed = noise_levels(*_flat(noise, spacing), spacing)
    return ScanReference(edge, high, smoothed)


def _flat(noise, spacing):
    shape = tuple(int(60 / s) for s in spacing)
    return noise_field(shape, spacing, noise, 99).astype(np.float32), np.ones(shape, bool)


# --- vocabulary and errors -------------------------------------------------------------------------------------------


def test_option_strings_are_those_of_the_attribute_table():
    by_key = {key: row.options for key, row in attributes.TABLE.items()}
    assert {ms.ROUND, ms.IRREGULAR, ms.WALL, ms.PUNCTATE} == set(by_key["shape"])
    assert {ms.HYPO, ms.ISO, ms.HYPER} == set(by_key["density"])
    assert {ms.HOMOGENEOUS, ms.HETEROGENEOUS} == set(by_key["heterogeneity"])
    assert {ms.WELL, ms.ILL} == set(by_key["surface"])
    assert {ms.APART, ms.CLOSE} == set(by_key["invasion"])


def test_bad_input_is_refused_by_name():
    blank = np.zeros((8, 8, 8), bool)
    image = np.zeros((8, 8, 8), np.float32)
    with pytest.raises(ValueError, match="empty"):
        run(image, blank, (1, 1, 1))
    with pytest.raises(ValueError, match="one shape"):
        run(image[:4], ~blank, (1, 1, 1))
    with pytest.raises(KeyError, match="unknown lesion"):
        run(image, ~blank, (1, 1, 1), key="wart")
    with pytest.raises(ValueError, match="unknown"):
        regions(~blank, ~blank, blank.astype(np.uint8), (1, 1, 1), reference="gravel")


def test_figures_are_plain_floats_and_measuring_changes_nothing():
    distance = ball_distance(FINE, 8)
    image, label = render(distance, FINE), distance <= 0
    keep = image.copy()
    one, two = run(image, label, FINE), run(image, label, FINE)
    assert all(type(v) is float for v in one.figures.values())
    assert one.figures == pytest.approx(two.figures, nan_ok=True)
    assert np.array_equal(image, keep)
    assert set(one.values) | set(one.reasons) == {"shape", "density", "heterogeneity", "surface", "invasion"}


@pytest.mark.parametrize("shape", [(1, 9, 9), (4, 4, 4)])
def test_tiny_regions_do_not_fail(shape):
    image = np.full(shape, 30.0, np.float32)
    label = np.zeros(shape, bool)
    label[shape[0] // 2, 2, 2] = True
    image[label] = 90
    result = run(image, label, (5, 0.7, 0.7))
    assert "surface" in result.reasons and "heterogeneity" in result.reasons


def test_lesion_that_fills_its_region():
    label = np.ones((12, 12, 12), bool)
    result = run(np.zeros(label.shape, np.float32), label, (1, 1, 1))
    assert "density" in result.reasons


# --- geometry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", GRIDS)
def test_signed_distance_of_balls(spacing):
    truth = ball_distance(spacing, 12)
    measured = signed_distance(truth <= 0, spacing)
    near = np.abs(truth) < 8
    assert np.std((measured - truth)[near]) < 0.25 * max(spacing)
    assert abs(np.mean((measured - truth)[near])) < 0.1 * max(spacing)


def test_size_is_the_bounding_box_in_zxy_order():
    label = np.zeros((20, 30, 40), bool)
    label[5:10, 4:24, 10:20] = True
    result = run(np.zeros(label.shape, np.float32), label, (2.0, 0.5, 1.0))
    assert result.size_zxy_mm == (10.0, 10.0, 10.0)


@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("radius", [3, 4, 6, 9, 14, 25, 40])
def test_balls_read_round_on_every_grid(spacing, radius):
    z, y, x = grid(spacing, radius + 2 * max(spacing))
    figures = shape_figures(z**2 + y**2 + x**2 <= radius**2, spacing)
    assert figures.sphericity >= 0.9
    assert figures.solidity >= 0.95
    if radius >= 2 * max(spacing):
        assert figures.axis_ratio >= 0.8
        assert figures.major_mm == pytest.approx(2 * radius, rel=0.12)
        assert figures.roughness_mm < 0.8


def test_axes_of_an_ellipsoid():
    z, y, x = grid(FINE, (12, 22, 32))
    figures = shape_figures((z / 8) ** 2 + (y / 16) ** 2 + (x / 24) ** 2 <= 1, FINE)
    assert (figures.minor_mm, figures.middle_mm, figures.major_mm) == pytest.approx((16, 32, 48), rel=0.02)
    assert figures.axis_ratio == pytest.approx(1 / 3, rel=0.03)


def lobulated(spacing, radius, amplitude, seed):
    """A ball with smooth bumps of relative size ``amplitude``: signed distance, roughly."""
    z, y, x = grid(spacing, radius * 1.7 + 4)
    r = np.sqrt(z**2 + y**2 + x**2) + 1e-6
    rng = np.random.default_rng(seed)
    bump = 0.0
    for _ in range(40):
        d = rng.standard_normal(3)
        d /= np.linalg.norm(d)
        bump = bump + rng.choice([-1, 1]) * np.exp(14 * ((d[0] * z + d[1] * y + d[2] * x) / r - 1))
    return r - radius * (1 + amplitude * np.clip(bump / np.std(bump), -2.5, 2.5))


@pytest.mark.parametrize("spacing", [FINE, (5.0, 0.7, 0.7), (3.0, 3.0, 3.0)])
def test_round_and_irregular_are_apart(spacing):
    for seed in range(4):
        calm, wild = (shape_figures(lobulated(spacing, 18, a, seed) <= 0, spacing) for a in (0.04, 0.35))
        assert calm.sphericity > ms.ROUND_SPHERICITY
        assert wild.sphericity < ms.IRREGULAR_SPHERICITY or wild.solidity < ms.IRREGULAR_SOLIDITY


def test_shape_judgement_and_its_dead_zone():
    for radius, key, expected in (
        (4, "kidney_stone", ms.PUNCTATE),
        (4, "liver_cyst", ms.ROUND),
        (9, "kidney_stone", ms.ROUND),
    ):
        distance = ball_distance(FINE, radius)
        assert run(render(distance, FINE), distance <= 0, FINE, key=key).values["shape"] == expected
    z, y, x = grid(FINE, (16, 16, 34))
    rod = (z / 8) ** 2 + (y / 8) ** 2 + (x / 15) ** 2 <= 1  # smooth, but neither round nor irregular
    result = run(np.zeros(rod.shape, np.float32), rod, FINE)
    assert "shape" in result.ambiguous and "shape" not in result.values
    assert run(np.zeros(rod.shape, np.float32), rod, FINE, allowed_shapes=(ms.PUNCTATE,)).ambiguous[0]


# --- hollow organs ---------------------------------------------------------------------------------------------------


def tube(spacing=FINE, outer=15.0, half=34.0):
    """A gas-filled tube along z with a 4 mm wall (45 HU) in fat: coordinates, organ mask, image."""
    z, y, x = grid(spacing, (half, outer + 16, outer + 16))
    radius = np.sqrt(y**2 + x**2) + 0 * z
    image = np.where(radius <= outer - 4, -900.0, np.where(radius <= outer, 45.0, -100.0))
    image = ndimage.gaussian_filter(image, [0, 0.8 / spacing[1], 0.8 / spacing[2]])
    angle = np.arctan2(y, x) + 0 * z
    return z + 0 * radius, radius, angle, radius <= outer, image.astype(np.float32)


@pytest.mark.parametrize("arc", [0.7, 2.0, np.pi])
def test_wall_thickening_in_a_tube(arc):
    z, radius, angle, organ, image = tube()
    label = organ & (radius >= 5) & (np.abs(z) <= 20) & (np.abs(angle) <= arc)
    image[label] = 70
    result = run(image, label, FINE, key="colorectal_cancer", parent=organ, reference="wall")
    assert result.values["shape"] == ms.WALL
    assert result.figures["reference_hu"] == pytest.approx(45, abs=6)
    assert result.values["density"] == ms.HYPER


def test_polyps_and_filling_masses_are_not_wall_thickening():
    z, radius, angle, organ, image = tube()
    plug = organ & (np.abs(z) <= 22)
    assert run(image, plug, FINE, key="colorectal_cancer", parent=organ).values.get("shape") != ms.WALL
    y, x = radius * np.sin(angle), radius * np.cos(angle)
    polyp = z**2 + y**2 + (x - 7) ** 2 <= 7**2
    assert run(image, polyp, FINE, key="colorectal_cancer", parent=organ).values["shape"] == ms.ROUND


def test_wall_without_enough_voxels_falls_back_to_soft_tissue_and_then_to_the_scan():
    z, radius, angle, organ, image = tube(half=14)
    label = organ & (radius >= 6)  # all of the tube
    image[label] = 80
    scan = ScanReference(2.0, 10.0, 3.5, {"wall": 52.0})
    result = run(image, label, FINE, key="esophageal_cancer", parent=organ, reference="wall", scan=scan)
    assert result.figures["reference_hu"] == 52.0
    image[(radius > 22)] = 60
    result = run(image, label, FINE, key="esophageal_cancer", parent=organ, reference="wall", scan=scan)
    assert result.figures["reference_hu"] == pytest.approx(60)


def test_bile_and_liver_references():
    distance = ball_distance(FINE, 5, margin=22)
    gallbladder = distance <= 12
    image = np.where(gallbladder, 10.0, 105.0).astype(np.float32)
    label = distance <= 0
    image[label] = 160
    others = np.where(gallbladder, 0, 2).astype(np.uint8)
    stone = run(image, label, FINE, key="gallstone", parent=gallbladder, others=others, reference="bile")
    assert stone.figures["reference_hu"] == pytest.approx(10)
    assert stone.values["density"] == ms.HYPER
    cancer = run(image, label, FINE, key="gallbladder_cancer", parent=gallbladder, others=others, reference="liver")
    assert cancer.figures["reference_hu"] == pytest.approx(105)


# --- density ---------------------------------------------------------------------------------------------------------


def test_tissue_level_ignores_vessels_and_calcium():
    values = np.random.default_rng(0).normal(60, 10, 4000)
    values[:400] = 180
    values[400:450] = 900
    level, number = tissue_level(values.astype(np.float32).reshape(40, 10, 10), np.ones((40, 10, 10), bool))
    assert level == pytest.approx(60, abs=1.5)
    assert number < 3600
    assert np.isnan(tissue_level(np.zeros((2, 2, 2)), np.zeros((2, 2, 2), bool))[0])


@pytest.mark.parametrize("spacing", GRIDS)
def test_density_follows_the_truth(spacing):
    wanted = np.array([-90, -60, -40, -20, -12, -5, 0, 5, 12, 20, 40, 80.0])
    distance = ball_distance(spacing, 12, margin=11)
    found, labels = [], []
    for i, delta in enumerate(wanted):
        result = run(render(distance, spacing, delta, 3.0, noise=12, seed=i), distance <= 0, spacing)
        found.append(result.figures["density_delta_hu"])
        labels.append(result.values.get("density"))
    fit = stats.linregress(wanted, found)
    assert 0.95 <= fit.slope <= 1.05
    assert abs(fit.intercept) < 1.5
    assert stats.spearmanr(wanted, found)[0] >= 0.98
    assert labels[:4] == [ms.HYPO] * 4 and labels[5:8] == [ms.ISO] * 3 and labels[-3:] == [ms.HYPER] * 3


def test_density_of_a_necrotic_tumour_is_that_of_its_viable_part():
    distance = ball_distance(FINE, 18)
    image = render(distance, FINE, delta=-30, noise=8)
    image -= 45 * ndtr(-(distance + 8) / 1.0).astype(np.float32)
    result = run(image, distance <= 0, FINE)
    assert result.figures["density_delta_hu"] == pytest.approx(-30, abs=5)
    assert result.figures["part_step_hu"] == pytest.approx(-45, abs=9)
    assert result.values["heterogeneity"] == ms.HETEROGENEOUS


@pytest.mark.parametrize("spacing", [(1, 0.7, 0.7), (5, 0.7, 0.7), (3, 3, 3)])
def test_a_tiny_stone_reads_its_peak(spacing):
    distance = ball_distance(spacing, 2.5)
    image = np.full(distance.shape, 30, np.float32)
    label = distance <= 0
    if not label.any():
        label[tuple(n // 2 for n in label.shape)] = True
    image += 600 * ndtr(-distance / 0.8).astype(np.float32)
    result = run(image, label, spacing, key="kidney_stone")
    assert result.figures["lesion_hu"] > 0.55 * image.max()
    assert result.values["density"] == ms.HYPER
    assert result.values["shape"] == ms.PUNCTATE


def test_no_reference_tissue_falls_back_to_the_scan():
    distance = ball_distance(FINE, 8)
    label = distance <= 0
    result = run(render(distance, FINE), label, FINE, parent=label, scan=ScanReference(2, 10, 3.5, {"liver": 110.0}))
    assert result.figures["density_delta_hu"] == pytest.approx(-60, abs=1)


# --- heterogeneity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [FINE, (5.0, 0.7, 0.7), (3.0, 3.0, 3.0)])
@pytest.mark.parametrize("width", [2.0, 6.0])
def test_noise_alone_is_homogeneous(spacing, width):
    distance = ball_distance(spacing, 14, margin=11)
    scan = scan_for(12, spacing)
    seen = [
        run(render(distance, spacing, -40, width, noise=12, seed=s), distance <= 0, spacing, scan=scan).values.get(
            "heterogeneity"
        )
        for s in range(6)
    ]
    assert seen.count(ms.HOMOGENEOUS) >= 5 and ms.HETEROGENEOUS not in seen


def texture(shape, spacing, sd, seed, length_mm=4.0):
    field = ndimage.gaussian_filter(
        np.random.default_rng(seed).standard_normal(shape), [length_mm / s for s in spacing]
    )
    return (sd * field / field.std()).astype(np.float32)


def test_texture_is_measured_and_classes_are_apart():
    distance = ball_distance(FINE, 16, margin=11)
    scan = scan_for(10)
    wanted = np.array([0, 2, 6, 10, 14, 20, 26.0])
    found, values = [], []
    for sd in wanted:
        runs = []
        for seed in range(2):
            image = render(distance, FINE, -40, 2.0, noise=10, seed=seed) + texture(distance.shape, FINE, sd, seed + 50)
            runs.append(run(image, distance <= 0, FINE, scan=scan))
        found.append(np.median([r.figures["heterogeneity_excess_hu"] for r in runs]))
        values.append([r.values.get("heterogeneity") for r in runs])
    assert stats.spearmanr(wanted, found)[0] >= 0.95
    assert all(v == ms.HOMOGENEOUS for v in values[0] + values[1])
    assert all(v == ms.HETEROGENEOUS for v in values[-1] + values[-2])


def test_small_lesions_have_no_heterogeneity():
    distance = ball_distance((3, 3, 3), 5)
    result = run(render(distance, (3, 3, 3)), distance <= 0, (3, 3, 3))
    assert "voxels" in result.reasons["heterogeneity"] and "heterogeneity" not in result.values


# --- surface ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spacing", "radius"), [(g, r) for g in GRIDS for r in (6, 12, 20) if r > 4 * g[1]])
def test_edge_width_without_noise(spacing, radius):
    distance = ball_distance(spacing, radius)
    wanted = np.array([2.0, 3.0, 4.0, 6.0, 8.0])
    wanted = wanted[wanted < 0.9 * radius]
    results = [run(render(distance, spacing, -50, w), distance <= 0, spacing).figures for w in wanted]
    found = np.array([f["edge_width_mm"] for f in results])
    assert found == pytest.approx(wanted, rel=0.09 if max(spacing) < 3 else 0.2)
    assert max(abs(f["edge_offset_mm"]) for f in results) < 0.3
    assert 0.93 <= stats.linregress(wanted, found).slope <= 1.07


@pytest.mark.parametrize(
    ("delta", "noise", "slopes"), [(-25, 12, (0.9, 1.1)), (-50, 12, (0.94, 1.06)), (60, 20, (0.9, 1.1))]
)
def test_edge_width_with_noise(delta, noise, slopes):
    distance = ball_distance(FINE, 14, margin=11)
    wanted = np.array([2.0, 3.0, 4.0, 5.0, 6.5, 8.0])
    found = [
        np.mean(
            [
                run(render(distance, FINE, delta, w, noise=noise, seed=10 * i + s), distance <= 0, FINE).figures[
                    "edge_width_mm"
                ]
                for s in range(3)
            ]
        )
        for i, w in enumerate(wanted)
    ]
    assert slopes[0] <= stats.linregress(wanted, found).slope <= slopes[1]
    assert stats.spearmanr(wanted, found)[0] >= 0.98
    assert np.abs(np.array(found) / wanted - 1).max() < 0.15


@pytest.mark.parametrize("spacing", [FINE, (5.0, 0.7, 0.7), (3.0, 3.0, 3.0)])
def test_margin_classes_are_apart(spacing):
    reference = 2.0 if max(spacing) < 3 else (2.0 if spacing[0] == 5 else 3.5)
    scan = ScanReference(reference, 10, 3.5)
    distance = ball_distance(spacing, 18)
    for ratio, expected in ((1.0, ms.WELL), (1.2, ms.WELL), (2.8, ms.ILL), (3.5, ms.ILL)):
        image = render(distance, spacing, -45, reference * ratio, noise=12, seed=int(10 * ratio))
        assert run(image, distance <= 0, spacing, scan=scan).values["surface"] == expected, ratio


def test_isodense_lesions_have_no_margin():
    distance = ball_distance(FINE, 12)
    for delta in (0, 3):
        result = run(render(distance, FINE, delta, noise=12, seed=4), distance <= 0, FINE)
        assert "surface" not in result.values
        assert "contrast" in result.reasons["surface"]


def test_neighbouring_structures_do_not_widen_the_edge():
    distance = ball_distance(FINE, 12)
    z, y, x = grid(FINE, 26)
    image = render(distance, FINE, -50, 2.5, noise=10)
    others = np.zeros(image.shape, np.uint8)
    near = (x > 15) & (distance > 0)  # another organ, bright, 3 mm off
    fat = (y < -16) & (distance > 0)  # the organ ends 4 mm off
    image[near], others[near] = 180, 8
    image[fat] = -100
    parent = ~near & ~fat
    figures = run(image, distance <= 0, FINE, parent=parent, others=others).figures
    assert figures["edge_width_mm"] == pytest.approx(2.5, rel=0.12)


def test_exophytic_lesion_with_two_kinds_of_surroundings():
    distance = ball_distance(FINE, 14)
    z, y, x = grid(FINE, 28)
    kidney = (x < 0) & (y > -1e9) & (z > -1e9)
    sigma = 3.0 / 2.5631
    background = np.where(kidney, 170.0, -100.0)
    inside = ndtr(-distance / sigma)
    image = (background * (1 - inside) + 60 * inside + noise_field(distance.shape, FINE, 10)).astype(np.float32)
    result = run(image, distance <= 0, FINE, key="kidney_tumor", parent=kidney)
    assert result.figures["edge_width_mm"] == pytest.approx(3.0, rel=0.12)
    assert result.figures["outside_fraction"] == pytest.approx(0.5, abs=0.03)


def test_spicules_make_a_margin_ill_defined():
    z, y, x = grid(FINE, 30)
    r = np.sqrt(z**2 + y**2 + x**2) + 1e-6
    rng = np.random.default_rng(0)
    reach = np.full(r.shape, 11.0)
    for d in rng.standard_normal((40, 3)):
        d /= np.linalg.norm(d)
        angle = np.arccos(np.clip((d[0] * z + d[1] * y + d[2] * x) / r, -1, 1)) * r
        reach = np.maximum(reach, np.where(angle < 1.6, 18.0, 11.0))
    label = r <= reach
    image = np.where(label, 30, -850).astype(np.float32)
    result = run(image, label, FINE, key="lung_tumor")
    assert result.figures["roughness_mm"] >= ms.ILL_ROUGHNESS_MM
    assert result.values["surface"] == ms.ILL


def test_shifted_masks_report_where_the_edge_is():
    distance = ball_distance(FINE, 14)
    image = render(distance, FINE, -50, 2.5, noise=8)
    for shift in (-1.0, 1.0):
        figures = run(image, distance <= shift, FINE, sharp_label=False).figures
        assert figures["edge_offset_mm"] == pytest.approx(-shift, abs=0.3)
        assert figures["edge_width_mm"] == pytest.approx(2.5, rel=0.15)


@pytest.mark.parametrize("spacing", [(1.0, 0.8, 0.8), (2.5, 0.8, 0.8), (5.0, 0.7, 0.7)])
@pytest.mark.parametrize("width", [1.8, 2.5, 3.5])
def test_reference_edge_width(spacing, width):
    z, y, x = grid(spacing, (12, 60, 60))
    sigma = width / 2.5631
    liver = np.sqrt(y**2 + x**2) + 0 * z - 34
    skin = np.sqrt(y**2 + x**2) + 0 * z - 54
    image = -1000 + 900 * ndtr(-skin / sigma) + 200 * ndtr(-liver / sigma) + noise_field(liver.shape, spacing, 12)
    labels = np.where(liver < 1.0, 2, 0).astype(np.uint8)  # a segmentation 1 mm too large
    assert reference_edge_width(image.astype(np.float32), labels, spacing) == pytest.approx(width, rel=0.12)
    assert reference_edge_width(image.astype(np.float32), labels * 0, spacing) == pytest.approx(width, rel=0.12)


def test_reference_edge_width_without_any_edge_is_two_voxels():
    assert (
        reference_edge_width(np.zeros((4, 40, 40), np.float32), np.zeros((4, 40, 40), np.uint8), (3, 0.8, 0.8)) == 1.6
    )


# --- invasion --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [FINE, (3.0, 3.0, 3.0)])
def test_gap_contact_and_overlap(spacing):
    distance = ball_distance(spacing, 12, margin=18)
    z, y, x = grid(spacing, 30)
    label = distance <= 0
    image = render(distance, spacing)
    step = spacing[2]
    for gap, expected in ((-3.0, ms.CLOSE), (4.0, ms.APART)):
        others = np.broadcast_to(x > 12 + gap, label.shape).astype(np.uint8)
        result = run(image, label, spacing, others=others, parent=~(others > 0))
        assert result.values["invasion"] == expected
        if gap > 0:
            assert result.figures["gap_mm"] == pytest.approx(gap, abs=step + 0.3)
            assert result.figures["contact_area_mm2"] == 0
    flat = label & (x < 8)
    others = np.broadcast_to(x >= 8, label.shape).astype(np.uint8)
    result = run(image, flat, spacing, others=others, parent=~(others > 0))
    assert result.values["invasion"] == ms.CLOSE
    assert result.figures["overlap_voxels"] == 0 and result.figures["gap_mm"] == 0
    assert result.figures["contact_area_mm2"] == pytest.approx(np.pi * (12**2 - 8**2), rel=0.45)


def test_growth_out_of_the_organ():
    distance = ball_distance(FINE, 12, margin=18)
    z, y, x = grid(FINE, 30)
    label, image = distance <= 0, render(distance, FINE)
    parent = np.broadcast_to(x < 6, label.shape)
    options = {"parent": parent}
    assert run(image, label, FINE, key="kidney_tumor", **options).values["invasion"] == ms.CLOSE
    assert run(image, label, FINE, key="kidney_cyst", **options).values["invasion"] == ms.APART
    bulge = np.broadcast_to(x >= 6, label.shape)
    allowed = run(image, label, FINE, key="kidney_tumor", allowed_outside=bulge, **options)
    assert allowed.values["invasion"] == ms.APART and allowed.figures["outside_fraction"] == 0
    inside = run(image, label, FINE, key="kidney_tumor", parent=distance < 20)
    carved = run(image, label, FINE, key="kidney_tumor", parent=(distance < 20) & ~label)
    assert inside.figures["outside_fraction"] == carved.figures["outside_fraction"] == 0


# --- noise -----------------------------------------------------------------------------------------------------------


def test_noise_figures_do_not_see_the_edge():
    distance = ball_distance(FINE, 14)
    image = render(distance, FINE, -300, 1.5, noise=12)
    zones = regions(distance <= 0, np.ones(distance.shape, bool), np.zeros(distance.shape, np.uint8), FINE)
    assert noise_ratio(image, zones.core, zones.shell, FINE) == pytest.approx(1.0, abs=0.06)
    image[distance <= 0] = 0.5 * (image[distance <= 0] + 200)
    assert noise_ratio(image, zones.core, zones.shell, FINE) == pytest.approx(0.5, abs=0.05)
    assert np.isnan(noise_ratio(np.zeros_like(image), zones.core, zones.shell, FINE))


def test_noise_levels_of_white_noise():
    rng = np.random.default_rng(0)
    image = rng.normal(60, 20, (40, 60, 60)).astype(np.float32)
    high, smoothed = noise_levels(image, np.ones(image.shape, bool), (1, 1, 1))
    assert high == pytest.approx(20, rel=0.05)
    assert smoothed == pytest.approx(20 / np.sqrt((2 * np.sqrt(np.pi) * 2) ** 3), rel=0.2)


def test_noise_power_is_corrected_for_the_outline():
    spacing, length = (3.0, 0.8, 0.8), 0.6
    shape = (24, 96, 96)
    rng = np.random.default_rng(1)
    image = ndimage.gaussian_filter(rng.standard_normal(shape), [0, length / 0.8, length / 0.8]).astype(np.float32)
    image *= 12 / image.std()
    z, y, x = np.ogrid[:24, :96, :96]
    disc = (y - 48.0) ** 2 + (x - 48.0) ** 2 + 0.0 * z
    for mask in (disc < 20**2, (disc > 22**2) & (disc < 34**2), np.ones(shape, bool)):
        frequency, power = noise_power(image, mask, spacing)
        truth = np.exp(-((2 * np.pi * frequency * length) ** 2))
        ratio = np.log(power / power.sum() / (truth / truth.sum()))
        assert np.abs(ratio[:6]).max() < 0.3
    assert np.isnan(noise_power(image, disc < 2, spacing)[1]).all()


def test_helper_width_convention():
    assert 2 * ndtri(0.9) == pytest.approx(2.5631, abs=1e-4)
