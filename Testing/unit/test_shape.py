"""Outlines of lesions: volume, distance, fitting to a size, spicules and satellites, repeatability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from PASTALib.synthesis.shape import ShapeSpec, distance, fit_to_size, natural_size, random_directions, random_rotation

ROTATION = random_rotation(np.random.default_rng(7))
ROUND = ShapeSpec((20.0, 14.0, 10.0), np.eye(3))
ROUGH = ShapeSpec((20.0, 14.0, 10.0), ROTATION, 2.2, roughness=0.2, detail=0.3, seed=5)
LOBED = ShapeSpec(
    (16.0, 12.0, 11.0),
    ROTATION,
    2.1,
    roughness=0.04,
    lobes=((np.array([1.0, 0.0, 0.0]), 0.7, 0.55), (np.array([0.0, 0.6, 0.8]), 0.6, 0.6)),
    seed=2,
)
FACETED = ShapeSpec(
    (9.0, 8.0, 8.0), ROTATION, facets=((np.array([0.0, 0.0, 1.0]), 0.75), (np.array([0.0, 1.0, 0.0]), 0.8))
)


def lattice(half_mm, step=0.5):
    axis = np.arange(-half_mm, half_mm + 1e-6, step)
    return (axis, axis, axis)


def extents(mask, step):
    """Bounding box (z, y, x) in mm of a mask on a uniform lattice."""
    out = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(i for i in range(3) if i != axis)))
        out.append((used[-1] - used[0] + 1) * step)
    return np.array(out)


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize("rotation", [np.eye(3), ROTATION], ids=["straight", "rotated"])
def test_ellipsoid_volume(rotation):
    mask = distance(replace(ROUND, rotation=rotation), lattice(22)) < 0
    assert np.count_nonzero(mask) * 0.5**3 == pytest.approx(4 / 3 * np.pi * 20 * 14 * 10, rel=0.01)


def test_boxier_exponent_adds_volume():
    sizes = [np.count_nonzero(distance(replace(ROUND, exponent=e), lattice(22, 1.0)) < 0) for e in (2.0, 2.4, 4.0)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_distance_of_a_ball_is_exact():
    axes = lattice(16, 0.75)
    z, y, x = np.meshgrid(*axes, indexing="ij")
    true = np.sqrt(z**2 + y**2 + x**2) - 11
    got = distance(ShapeSpec((11.0, 11.0, 11.0), np.eye(3)), axes)
    near = np.abs(true) < 4
    assert np.abs(got - true)[near].max() < 0.05


@pytest.mark.parametrize("rotation", [np.eye(3), ROTATION], ids=["straight", "rotated"])
def test_distance_of_an_ellipsoid_near_its_surface(rotation):
    axes = lattice(24, 0.75)
    got = distance(replace(ROUND, rotation=rotation), axes)
    surface = (random_directions(np.random.default_rng(0), 300_000) * ROUND.semi_axes_mm) @ rotation.T
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    near = np.abs(got) < 2.5
    true = cKDTree(surface).query(points[near])[0] * np.sign(got[near])
    error = np.abs(got[near] - true)
    assert error[np.abs(true) < 1].max() < 0.15
    assert error.max() < 0.3


@pytest.mark.parametrize("spec", [ROUND, FACETED], ids=["round", "faceted"])
@pytest.mark.parametrize("size", [(40.0, 30.0, 24.0), (18.0, 36.0, 22.0)])
def test_fit_to_size_of_smooth_outlines(spec, size):
    got = extents(distance(fit_to_size(spec, size), lattice(24, 0.25)) < 0, 0.25)
    assert np.abs(got / size - 1).max() < 0.03


@pytest.mark.parametrize("spec", [ROUGH, LOBED], ids=["rough", "lobed"])
def test_fit_to_size_of_rough_outlines(spec):
    size = (40.0, 30.0, 24.0)
    got = [extents(distance(fit_to_size(spec, size), lattice(half, 0.25)) < 0, 0.25) for half in (23, 27)]
    assert np.abs(np.array(got) / size - 1).max() < 0.03


@pytest.mark.parametrize("spec", [ROUND, LOBED, FACETED], ids=["round", "lobed", "faceted"])
def test_natural_size_is_the_bounding_box(spec):
    spec = replace(spec, roughness=0.0)
    size, centre = natural_size(spec)
    axes = lattice(32, 0.5)
    mask = distance(spec, axes) < 0
    assert np.abs(extents(mask, 0.5) - size).max() < 1.0
    used = np.argwhere(mask)
    middle = axes[0][0] + 0.5 * (used.min(0) + used.max(0)) / 2
    assert np.abs(middle - centre).max() < 0.6


def test_an_outline_does_not_depend_on_its_lattice():
    wide, narrow = distance(ROUGH, lattice(40, 1.0)), distance(ROUGH, lattice(36, 1.0))
    assert dice(wide[4:-4, 4:-4, 4:-4] < 0, narrow < 0) > 0.999


def test_same_seed_same_outline():
    axes = lattice(32, 1.0)
    first, again = distance(ROUGH, axes), distance(replace(ROUGH), axes)
    np.testing.assert_array_equal(first, again)
    assert dice(first < 0, distance(replace(ROUGH, seed=6), axes) < 0) < 0.97


def test_roughness_moves_the_surface_by_about_its_rms():
    axes = lattice(16, 0.5)
    ball = ShapeSpec((10.0, 10.0, 10.0), np.eye(3), detail=0.6)
    z, y, x = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2)
    moved = []
    for seed in range(4):
        rough = distance(replace(ball, roughness=0.1, seed=seed), axes)
        moved.append((radius - 10 - rough)[np.abs(radius - 10) < 0.6])
    assert np.concatenate(moved).std() == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("extra", ["spicules", "satellites"])
def test_spicules_and_satellites_only_add(extra):
    axes = lattice(34, 0.5)
    plain = distance(LOBED, axes)
    directions = random_directions(np.random.default_rng(3), 5)
    parts = {
        "spicules": tuple((d, 8.0, 1.4) for d in directions),
        "satellites": tuple((d * 24.0, 2.5) for d in directions),
    }
    more = distance(replace(LOBED, **{extra: parts[extra]}), axes)
    assert np.all(more <= plain)
    assert np.count_nonzero(more < 0) > np.count_nonzero(plain < 0) + 100


def test_satellites_lie_where_they_are_put():
    axes = lattice(34, 0.5)
    centre = np.array([0.0, 25.0, 6.0])
    mask = distance(replace(ROUND, satellites=((centre, 3.0),)), axes) < 0
    mask &= distance(ROUND, axes) > 0
    assert np.abs(axes[0][0] + 0.5 * np.argwhere(mask).mean(0) - centre).max() < 0.2
    assert np.count_nonzero(mask) * 0.5**3 == pytest.approx(4 / 3 * np.pi * 27, rel=0.05)


@pytest.mark.parametrize("spec", [ROUND, ROUGH, LOBED, FACETED], ids=["round", "rough", "lobed", "faceted"])
def test_reach_holds_the_outline(spec):
    spec = replace(
        spec,
        spicules=((np.array([0.0, 0.6, 0.8]), 9.0, 1.2),),
        satellites=((np.array([26.0, 0.0, 0.0]), 3.0),),
    )
    axes = lattice(50, 1.0)
    used = np.argwhere(distance(spec, axes) < 0)
    half = np.abs(axes[0][0] + used).max(0)
    assert np.all(half <= spec.reach_mm + 0.5)


def test_random_rotations_are_rotations():
    rng = np.random.default_rng(0)
    for tilt in (0.0, 0.3, 1.0):
        rotation = random_rotation(rng, tilt)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(random_rotation(rng, 0.0), np.eye(3), atol=1e-12)


def test_random_directions_cover_the_sphere():
    directions = random_directions(np.random.default_rng(0), 4000)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    assert np.abs(directions.mean(0)).max() < 0.05
