"""Smooth fields: separable resampling, band-limited noise, edge profile, blended maximum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from PASTALib.synthesis import fields


def lattice(half_mm, step, shift=0.0):
    axis = np.arange(-half_mm, half_mm + 1e-6, step) + shift
    return (axis, axis, axis)


def test_resampling_equals_trilinear_interpolation():
    rng = np.random.default_rng(0)
    source = (np.arange(9) * 2.0 - 7.0, np.arange(11) * 1.5 - 8.0, np.arange(13) * 0.8 - 5.0)
    field = rng.standard_normal([len(a) for a in source]).astype(np.float32)
    target = tuple(np.sort(rng.uniform(a[0], a[-1], n)) for a, n in zip(source, (14, 7, 20)))
    got = fields.separable(field, tuple(fields.linear_matrix(s, t) for s, t in zip(source, target)))
    index = np.meshgrid(*((t - s[0]) / (s[1] - s[0]) for s, t in zip(source, target)), indexing="ij")
    wanted = ndimage.map_coordinates(field.astype(float), index, order=1)
    assert got.shape == (14, 7, 20)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_resampling_outside_the_source_repeats_its_border():
    source = np.array([0.0, 1.0, 2.0])
    matrix = fields.linear_matrix(source, np.array([-5.0, 0.5, 9.0]))
    np.testing.assert_allclose(matrix @ np.array([3.0, 5.0, 8.0]), [3.0, 4.0, 8.0])


def test_resampling_from_a_single_plane_repeats_it():
    matrix = fields.linear_matrix(np.array([4.0]), np.array([1.0, 4.0, 7.0]))
    np.testing.assert_allclose(matrix @ np.array([2.5]), [2.5, 2.5, 2.5])


@pytest.mark.parametrize("knot_mm", [0.7, 3.0, 11.0])
@pytest.mark.parametrize("phase", [0.0, 0.37, 0.99])
def test_spline_basis_sums_to_one(knot_mm, phase):
    target = np.linspace(-31.3, 17.9, 101)
    np.testing.assert_allclose(fields.bspline_matrix(knot_mm, phase, target).sum(1), 1.0, atol=1e-5)


@pytest.mark.parametrize("length_mm", [3.0, 7.0])
def test_noise_has_unit_sd_and_no_mean(length_mm):
    axes = lattice(30, 1.0)
    fields_ = [fields.smooth_noise(np.random.default_rng(seed), axes, length_mm) for seed in range(6)]
    assert np.sqrt(np.mean([f.var() + f.mean() ** 2 for f in fields_])) == pytest.approx(1.0, abs=0.06)
    assert abs(np.mean(fields_)) < 0.1


def test_noise_detail_scales_with_the_length():
    def correlation_mm(length_mm):
        """Lag (mm) at which the autocorrelation along one axis falls to one half."""
        total = 0
        for seed in range(4):
            f = fields.smooth_noise(np.random.default_rng(seed), lattice(40, 1.0), length_mm)
            total = total + np.array([(f[..., : f.shape[2] - k] * f[..., k:]).mean() for k in range(30)])
        curve = total / total[0]
        below = int(np.argmax(curve < 0.5))
        return below - 1 + (curve[below - 1] - 0.5) / (curve[below - 1] - curve[below])

    fine, coarse = correlation_mm(4.0), correlation_mm(12.0)
    assert coarse / fine == pytest.approx(3.0, rel=0.2)
    assert 0.5 * 4 < fine < 2 * 4


def test_noise_repeats_with_its_seed_only():
    axes = lattice(12, 1.0)
    first, again, other = (fields.smooth_noise(np.random.default_rng(s), axes, 4.0) for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.5


@pytest.mark.parametrize("sigma", [0.4, 1.3, 6.0])
def test_edge_profile(sigma):
    distance = np.linspace(-4 * sigma, 4 * sigma, 8001).astype(np.float32)
    weight = fields.edge(distance, sigma)
    assert fields.edge(np.zeros(1, np.float32), sigma)[0] == pytest.approx(0.5, abs=1e-6)
    assert np.all(weight[distance > 2.001 * sigma] == 0), "an edge must end exactly"
    assert np.all(weight[distance < -2.001 * sigma] == 1)
    assert np.all(weight[distance < 1.9 * sigma] > 0)
    assert np.all(np.diff(weight) <= 1e-6)
    width = np.interp(-0.1, -weight, distance) - np.interp(-0.9, -weight, distance)
    assert width / sigma == pytest.approx(2.37, rel=0.01)
    assert fields.EDGE_WIDTH_PER_SIGMA == pytest.approx(width / sigma, rel=0.01)


@pytest.mark.parametrize("radius_mm", [0.5, 3.0])
def test_blended_extremes_bound_the_sharp_ones(radius_mm):
    a, b = np.random.default_rng(1).uniform(-8, 8, (2, 5000))
    upper, lower = fields.smooth_max(a, b, radius_mm), fields.smooth_min(a, b, radius_mm)
    assert np.all(upper >= np.maximum(a, b) - 1e-9)
    assert np.all(lower <= np.minimum(a, b) + 1e-9)
    assert np.all(upper <= np.maximum(a, b) + 0.25 * radius_mm + 1e-9)
    apart = np.abs(a - b) >= radius_mm
    np.testing.assert_allclose(upper[apart], np.maximum(a, b)[apart], atol=1e-9)
    np.testing.assert_allclose(fields.smooth_max(b, a, radius_mm), upper, atol=1e-9)


def test_gradient_norm_of_a_plane_is_its_slope():
    axes = (np.arange(6) * 2.0, np.arange(7) * 0.5, np.arange(8) * 1.25)
    z, y, x = np.meshgrid(*axes, indexing="ij")
    slope = fields.gradient_norm(3 * z - 4 * y + 12 * x, axes)
    np.testing.assert_allclose(slope, 13.0, rtol=1e-5)
