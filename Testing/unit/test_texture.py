"""The inside of a lesion: its level, and the named components of heterogeneity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from PASTALib.synthesis.draw import draw_lesion
from PASTALib.synthesis.priors import COMPONENTS
from PASTALib.synthesis.spec import LesionRequest
from PASTALib.synthesis.texture import target_hu

RADIUS = 15.0
AXES = tuple(np.arange(-20.0, 20.5, 1.0) for _ in range(3))
SD = np.sqrt(sum(a**2 for a in np.meshgrid(*AXES, indexing="ij"))).astype(np.float32) - np.float32(RADIUS)
INSIDE = SD < 0
CORE = SD < -2


@pytest.fixture(scope="module")
def make(prepared_enhanced):
    """Function: components and changes -> noise-free HU of a 30 mm ball on a 1 mm lattice."""
    base = draw_lesion(
        np.random.default_rng(0), LesionRequest("liver_tumor", size_mm=(30, 30, 30)), prepared_enhanced, 60.0
    )

    def hu(*components, level=60.0, enhanced=True, seed=1, **changes):
        limits = changes.pop("hu_limits", (-1000.0, 3000.0))
        draw = replace(base, components=components, hu_limits=limits, seed=seed, **changes)
        return target_hu(draw, SD, AXES, level, enhanced)

    return hu


def test_a_homogeneous_lesion_has_one_level(make):
    np.testing.assert_array_equal(make(), np.float32(60.0))


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_changes_the_inside_and_repeats_with_its_seed(make, component):
    hu = make(component)
    assert hu.dtype == np.float32 and hu.shape == SD.shape
    assert np.isfinite(hu).all()
    assert hu[INSIDE].std() > 2
    np.testing.assert_array_equal(hu, make(component))
    assert not np.array_equal(hu, make(component, seed=2))


@pytest.mark.parametrize("component", COMPONENTS)
def test_hu_limits_hold(make, component):
    hu = make(component, hu_limits=(20.0, 90.0))
    assert hu.min() >= 20 and hu.max() <= 90


@pytest.mark.parametrize("component", ["mottled", "rim", "capsule", "septa"])
def test_the_solid_part_keeps_its_level(make, component):
    assert np.median(make(component)[CORE]) == pytest.approx(60, abs=2)


@pytest.mark.parametrize("wanted", [10.0, 22.0])
def test_mottling_has_the_sd_that_was_drawn(make, wanted):
    found = []
    for seed in range(4):
        hu = make("mottled", texture_sd_hu=wanted, seed=seed)
        weight = ndimage.gaussian_filter(CORE.astype(float), 2.0)
        smooth = ndimage.gaussian_filter(np.where(CORE, hu - 60, 0.0), 2.0)
        found.append((smooth[CORE] / weight[CORE]).std())
    assert np.mean(found) == pytest.approx(wanted, rel=0.3)


@pytest.mark.parametrize("enhanced", [True, False])
def test_necrosis_is_a_darker_centre(make, enhanced):
    for seed in range(4):
        hu = make("necrosis", level=80.0, enhanced=enhanced, seed=seed)
        dead = INSIDE & (hu < 70)
        assert 0.08 <= dead.sum() / INSIDE.sum() <= 0.6
        assert np.median(hu[INSIDE & ~dead]) - hu[dead].min() >= 15
        assert SD[dead].mean() < SD[INSIDE & ~dead].mean() - 2, "necrosis lies deeper than the living part"


def test_a_rim_is_brighter_after_contrast(make):
    for seed in range(4):
        bright, faint = (make("rim", enhanced=e, seed=seed) for e in (True, False))
        rim, centre = (SD > -3) & INSIDE, SD < -9
        assert bright[rim].max() - np.median(bright[centre]) > 15
        assert faint[rim].max() - np.median(faint[centre]) < 15


def test_calcifications_are_small_and_bright(make):
    for seed in range(4):
        hu = make("calcification", seed=seed)
        bright = INSIDE & (hu > 150)
        assert 0 < bright.sum() < 0.05 * INSIDE.sum()


def test_ground_glass_surrounds_a_solid_core(make):
    for seed in range(4):
        hu = make("ground_glass", level=30.0, seed=seed)
        outer, centre = hu[(SD > -2) & INSIDE], hu[SD < -11]
        assert -700 < np.median(outer) < -300
        assert np.median(centre) == pytest.approx(30, abs=15)


@pytest.mark.parametrize("level", [60.0, 500.0])
def test_mixed_bone_lesions_are_lytic_and_sclerotic(make, level):
    for seed in range(4):
        hu = make("mixed_lytic_blastic", level=level, seed=seed)[INSIDE]
        assert min(np.mean(hu > 300), np.mean(hu < 150)) > 0.1


def test_components_can_be_combined(make):
    hu = make("calcification", "mottled", "necrosis", "rim")
    assert np.isfinite(hu).all()
    assert hu[INSIDE].max() - hu[INSIDE].min() > 100


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_lesion_of_a_few_voxels_stays_finite(make, component, prepared_enhanced):
    axes = tuple(np.arange(-2.0, 2.5, 1.0) for _ in range(3))
    sd = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij"))).astype(np.float32) - np.float32(1.2)
    base = draw_lesion(np.random.default_rng(0), LesionRequest("liver_tumor"), prepared_enhanced, 60.0)
    hu = target_hu(replace(base, components=(component,)), sd, axes, 60.0, True)
    assert np.isfinite(hu).all()
