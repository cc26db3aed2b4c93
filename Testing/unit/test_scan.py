"""A scan made ready for lesions: tissue levels, organ depth, maps of neighbours, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.organs import OrganMap
from PASTALib.synthesis.distance import interior_distance, signed_distance
from PASTALib.synthesis.generator import insert, synthesise
from PASTALib.synthesis.scan import LESION_VALUE, prepare_scan
from PASTALib.synthesis.spec import LesionRequest
from PASTALib.volume import Volume


def blank(shape=(12, 40, 40), spacing=(3.0, 1.0, 1.0), hu=40):
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    return Volume(np.full(shape, hu, np.int16), affine)


def labels_like(ct, value=0):
    return OrganMap(Volume(np.full(ct.array.shape, value, np.uint8), ct.affine.copy()))


def test_every_organ_of_the_phantom_is_ready(prepared_enhanced):
    assert set(prepared_enhanced.geometry) == set(taxonomy.ORGAN_KEYS)
    for key in taxonomy.ORGAN_KEYS:
        assert key in prepared_enhanced.tissue_hu
    for name in ("soft_tissue", "wall", "bile"):
        assert np.isfinite(prepared_enhanced.tissue_hu[name])


def test_phase_follows_the_scan(prepared_enhanced, prepared_plain):
    assert prepared_enhanced.phase == taxonomy.ENHANCED
    assert prepared_plain.phase == taxonomy.PLAIN
    assert prepared_enhanced.phase_reason


@pytest.mark.parametrize("organ", ["liver", "kidney", "lung"])
def test_tissue_level_is_that_of_the_organs_inside(prepared_enhanced, organ):
    scan = prepared_enhanced
    inside = ndimage.binary_erosion(scan.organs.mask(organ), iterations=1)
    assert scan.tissue_hu[organ] == pytest.approx(np.median(scan.ct.array[inside]), abs=12)


def test_noise_and_sharpness_are_those_of_the_scan(prepared_enhanced):
    scan = prepared_enhanced
    assert scan.noise.patches > 0
    assert 9 < scan.noise.sd_hu < 18, "12 HU; on 4 mm voxels fine structure adds to it"
    assert 1.0 < scan.edge_width_mm < 12
    reference = scan.reference()
    assert (reference.noise_sd_hu, reference.edge_width_mm) == (scan.noise.high_pass_sd_hu, scan.edge_width_mm)
    louder = scan.reference(2 * scan.noise.high_pass_sd_hu)
    assert louder.smoothed_sd_hu == pytest.approx(2 * scan.noise.smoothed_sd_hu)


def test_organ_depth_and_volume():
    ct = blank((30, 60, 60), (2.0, 1.0, 1.0))
    z, y, x = np.ogrid[-29:30:2, -29.5:30, -29.5:30]
    ball = z**2 + y**2 + x**2 < 22**2
    organs = labels_like(ct)
    organs.labels.array[ball] = taxonomy.organ("liver").value
    geometry = prepare_scan(ct, organs).organ_geometry("liver")
    assert geometry.volume_mm3 == pytest.approx(4 / 3 * np.pi * 22**3, rel=0.03)
    assert geometry.largest_depth_mm == pytest.approx(22, abs=4)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (4.0, 1.0, 1.0)])
def test_depth_is_exact_to_half_a_voxel(spacing):
    axes = np.meshgrid(
        *((np.arange(-n, n + 1) * s for n, s in zip(np.ceil(26 / np.array(spacing)), spacing))), indexing="ij"
    )
    true = 22 - np.sqrt(sum(a**2 for a in axes))
    depth = interior_distance(true > 0, np.array(spacing))
    deep = true > max(spacing)
    assert np.abs(depth - true)[deep].max() <= 0.75 * max(spacing)


def test_the_border_of_the_scan_counts_as_surface_of_a_solid_organ():
    ct = blank()
    scan = prepare_scan(ct, labels_like(ct, taxonomy.organ("liver").value))
    assert scan.organ_geometry("liver").largest_depth_mm < 21


def test_distances_are_in_millimetres():
    mask = np.zeros((9, 21, 21), bool)
    mask[2:7, 5:16, 5:16] = True
    spacing = np.array([4.0, 1.0, 1.0])
    inside = interior_distance(mask, spacing)
    assert np.all(inside[~mask] == 0)
    assert inside[4, 10, 10] == pytest.approx(5.5, abs=0.6)
    both = signed_distance(mask, spacing)
    assert np.all((both > 0) == mask)
    assert both[4, 10, 0] == pytest.approx(-4.5, abs=0.6)
    assert np.all(signed_distance(np.ones((3, 3, 3), bool), spacing) > 100)
    assert np.all(signed_distance(np.zeros((3, 3, 3), bool), spacing) < -100)


def test_neighbours_are_organs_structures_and_earlier_lesions(prepared_enhanced, fresh_scan):
    scan = fresh_scan(prepared_enhanced)
    everything = tuple(slice(0, n) for n in scan.ct.array.shape)
    parent, others = scan.parent_and_others(everything, "liver")
    np.testing.assert_array_equal(parent, scan.organs.mask("liver"))
    assert not (others[parent] > 0).any()
    kidney = scan.organs.mask("kidney")
    assert np.all(others[kidney] == taxonomy.organ("kidney").value)
    aorta = scan.organs.structure_mask("aorta")
    assert np.all(others[aorta & (scan.organs.labels.array == 0)] > len(taxonomy.ORGANS))

    result = synthesise(scan, LesionRequest("liver_cyst", seed=1, size_mm=(20, 20, 20)))
    insert(scan, result)
    parent, others = scan.parent_and_others(everything, "liver")
    here = np.zeros(scan.ct.array.shape, bool)
    here[result.region] = result.label
    assert np.all(others[here] == LESION_VALUE)
    assert not parent[here].any()
    labels = scan.lesion_labels()
    np.testing.assert_array_equal(labels > 0, here)
    assert np.all(labels[here] == taxonomy.lesion("liver_cyst").value)


def test_directions_follow_the_affine(prepared_enhanced):
    np.testing.assert_allclose(prepared_enhanced.toward((0, -1, 0)), [0, 1, 0], atol=1e-9)
    np.testing.assert_allclose(prepared_enhanced.toward((0, 0, 1)), [1, 0, 0], atol=1e-9)


def test_boxes_are_cut_at_the_border(prepared_enhanced):
    shape = prepared_enhanced.ct.array.shape
    box = prepared_enhanced.box(np.array([0.0, 1.0, shape[2] - 1.0]), np.array([20.0, 20.0, 20.0]))
    assert [s.start for s in box] == [0, 0, shape[2] - 6]
    assert [s.stop for s in box[:2]] == [6, 7]
    assert box[2].stop == shape[2]


def test_progress_runs_from_start_to_end(phantom_enhanced):
    seen = []
    prepare_scan(phantom_enhanced.ct, phantom_enhanced.organs, lambda fraction, text: seen.append((fraction, text)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(text for _, text in seen)


@pytest.mark.parametrize("change", ["shape", "place"])
def test_an_organ_map_on_another_grid_is_refused(change):
    ct = blank()
    organs = labels_like(ct, 2)
    if change == "shape":
        organs = OrganMap(Volume(organs.labels.array[1:], organs.labels.affine))
    else:
        affine = organs.labels.affine.copy()
        affine[0, 3] += 5
        organs = replace(organs, labels=Volume(organs.labels.array, affine))
    with pytest.raises(InputError, match="grid") as caught:
        prepare_scan(ct, organs)
    assert "\n" not in str(caught.value)


def test_an_empty_organ_map_is_refused():
    ct = blank()
    with pytest.raises(InputError, match="empty"):
        prepare_scan(ct, labels_like(ct))


def test_a_missing_organ_is_named_with_those_that_are_there():
    ct = blank()
    scan = prepare_scan(ct, labels_like(ct, taxonomy.organ("liver").value))
    with pytest.raises(InputError, match="pancreas") as caught:
        scan.organ_geometry("pancreas")
    assert "liver" in str(caught.value)
    assert "\n" not in str(caught.value)
