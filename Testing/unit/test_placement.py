"""Where lesions go: gravity, collecting system, walls, inside of solid organs, clicked points, and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.organs import OrganMap
from PASTALib.synthesis.generator import synthesise
from PASTALib.synthesis.placement import capacity_mm
from PASTALib.synthesis.scan import prepare_scan
from PASTALib.synthesis.spec import LesionRequest
from PASTALib.volume import Volume

WALL_TYPES = ("esophageal_cancer", "gastric_cancer", "colorectal_cancer", "bladder_cancer", "gallbladder_cancer")


def full_label(scan, result) -> np.ndarray:
    label = np.zeros(scan.ct.array.shape, bool)
    label[result.region] = result.label
    return label


def surface_distance(mask, spacing) -> np.ndarray:
    """Unsigned distance (mm) of every voxel centre to the surface of ``mask``, to half a voxel."""
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    return np.maximum(inside, outside) - 0.5 * min(spacing)


def cropped(scan, organ, margin_mm=20.0):
    """(organ mask, slices) of the organ's box with a margin."""
    mask = scan.organs.mask(organ)
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    grow = np.ceil(margin_mm / scan.spacing).astype(int)
    box = tuple(slice(max(s.start - g, 0), s.stop + g) for s, g in zip(box, grow))
    return mask[box], box


@pytest.mark.parametrize("prone", [False, True], ids=["supine", "prone"])
@pytest.mark.parametrize("seed", range(3))
def test_gallstones_sink_to_the_dependent_part(case, prone, seed):
    request = {"size_mm": (8.0, 8.0, 8.0), "attributes": {"density": "Hyperdense"}, "prone": prone}
    scan, result = case("gallstone", seed, **request)
    lumen, box = cropped(scan, "gallbladder")
    fits = ndimage.distance_transform_edt(lumen, sampling=scan.spacing) >= 4.0
    origin = [s.start for s in box]
    heights = scan.ct.to_ras(np.argwhere(fits) + origin)[:, 1]
    low, high = heights.min(), heights.max()
    share = (result.center_ras[1] - low) / (high - low)  # 0 posterior, 1 anterior
    assert (share >= 2 / 3) if prone else (share <= 1 / 3)


def test_gallstones_lie_in_the_lumen(case):
    for seed in range(3):
        scan, result = case("gallstone", seed)
        assert not (full_label(scan, result) & ~scan.organs.mask("gallbladder")).any()


def test_cholesterol_stones_may_float_but_never_lie_outside(case):
    scan, result = case("gallstone", 4, attributes={"density": "Hypodense"})
    assert not (full_label(scan, result) & ~scan.organs.mask("gallbladder")).any()


@pytest.mark.parametrize("seed", range(5))
def test_kidney_stones_lie_in_the_collecting_system(case, seed):
    scan, result = case("kidney_stone", seed)
    kidney, box = cropped(scan, "kidney")
    near = ndimage.distance_transform_edt(~kidney, sampling=scan.spacing) <= 9
    closed = (ndimage.distance_transform_edt(near, sampling=scan.spacing) > 9) | kidney
    depth = ndimage.distance_transform_edt(closed, sampling=scan.spacing)
    assert depth[full_label(scan, result)[box]].min() >= 4, "a stone never lies in the cortex"
    hole = closed & ~kidney & (ndimage.distance_transform_edt(closed, sampling=scan.spacing) > 4)
    if hole.any():
        to_sinus = ndimage.distance_transform_edt(~hole, sampling=scan.spacing)
        centre = np.round(scan.ct.to_index(np.array(result.center_ras))).astype(int) - [s.start for s in box]
        assert to_sinus[tuple(centre)] <= 12, "a stone lies in a calyx or the pelvis, or at a papilla"


@pytest.mark.parametrize("lesion", WALL_TYPES)
def test_wall_lesions_touch_the_wall(case, lesion):
    scan, result = case(lesion, 1, attributes={"shape": "Wall thickening"})
    assert result.measurement.values["shape"] == "Wall thickening"
    organ, box = cropped(scan, taxonomy.lesion(lesion).organ)
    label = full_label(scan, result)[box]
    depth = surface_distance(organ, scan.spacing)[label]
    assert depth.min() <= scan.spacing.max()
    assert np.median(depth) <= max(result.parameters["wall"]["thickness_mm"], scan.spacing.max())


@pytest.mark.parametrize("lesion", ["gallbladder_cancer", "colorectal_cancer", "bladder_cancer"])
def test_polyps_sit_on_the_wall_and_reach_into_the_lumen(case, lesion):
    scan, result = case(lesion, 2, attributes={"shape": "Round-like"})
    organ, box = cropped(scan, taxonomy.lesion(lesion).organ)
    label = full_label(scan, result)[box]
    assert surface_distance(organ, scan.spacing)[label].min() <= scan.spacing.max()
    assert (label & organ).sum() > 0.5 * label.sum()


@pytest.mark.parametrize("lesion,seeds", [("liver_cyst", 5), ("liver_tumor", 3), ("lung_tumor", 3)])
def test_lesions_of_solid_organs_stay_inside(case, lesion, seeds):
    organ = taxonomy.lesion(lesion).organ
    apart = {"invasion": "No close relationship with surrounding structures"}
    for seed in range(seeds):
        scan, result = case(lesion, seed, attributes=apart)
        assert not (full_label(scan, result) & ~scan.organs.mask(organ)).any()


@pytest.mark.parametrize("lesion", ["kidney_cyst", "pancreas_cyst"])
def test_bulging_lesions_keep_a_base_in_their_organ(case, lesion):
    organ = taxonomy.lesion(lesion).organ
    for seed in range(3):
        scan, result = case(lesion, seed)
        label = full_label(scan, result)
        assert (label & scan.organs.mask(organ)).sum() >= 0.3 * label.sum()


# --- a clicked point ------------------------------------------------------------------------------------------------


def free_points(scan, organ, clearance_mm, count=4):
    """RAS points of an organ that are at least ``clearance_mm`` from everything else, spread over the organ."""
    blocked = ~scan.organs.mask(organ)
    blocked |= scan.organs.structure_mask("portal_vein_and_splenic_vein", "inferior_vena_cava")
    low = ndimage.gaussian_filter(scan.ct.array.astype(np.float32), 3.0 / scan.spacing)
    blocked |= low > scan.tissue_hu[organ] + 25  # vessels
    deep = np.argwhere(ndimage.distance_transform_edt(~blocked, sampling=scan.spacing) >= clearance_mm)
    return scan.ct.to_ras(deep[:: max(1, len(deep) // count)][:count])


@pytest.mark.parametrize("lesion", ["liver_cyst", "liver_tumor"])
def test_a_lesion_is_centred_on_a_free_point(prepared_enhanced, lesion):
    scan = prepared_enhanced
    points = free_points(scan, "liver", 15.0)
    assert len(points) >= 3
    for point in points:
        request = LesionRequest(
            lesion,
            seed=2,
            at_ras=tuple(point),
            size_mm=(16, 16, 16),
            attributes={
                "shape": "Round-like",
                "invasion": "No close relationship with surrounding structures",
                "surface": "Well-defined margin",
            },
        )
        result = synthesise(scan, request)
        assert np.linalg.norm(np.array(result.center_ras) - point) <= 0.5 * scan.spacing.max()


@pytest.mark.parametrize(
    "lesion,size",
    [
        ("liver_cyst", 14.0),
        ("kidney_cyst", 14.0),
        ("bone_metastasis", 12.0),
    ],
)
def test_a_point_beside_the_organ_gives_the_nearest_place(prepared_of, lesion, size):
    scan = prepared_of(lesion)
    organ = scan.organs.mask(taxonomy.lesion(lesion).organ)
    voxels = scan.ct.to_ras(np.argwhere(organ))
    (right,) = voxels[[voxels[:, 0].argmax()]]
    click = right + [15.0, 0.0, 0.0]
    result = synthesise(scan, LesionRequest(lesion, seed=1, at_ras=tuple(click), size_mm=(size,) * 3))
    inside = ndimage.distance_transform_edt(organ, sampling=scan.spacing)
    deep_enough = scan.ct.to_ras(np.argwhere(inside >= min(0.75 * size / 2 + 1, 0.9 * inside.max())))
    nearest = np.linalg.norm(deep_enough - click, axis=1).min()
    got = np.linalg.norm(np.array(result.center_ras) - click)
    assert got <= nearest + 25, "the place is far from the point that was asked for"


@pytest.mark.parametrize("lesion", ["kidney_cyst", "kidney_stone"])
def test_a_point_on_one_side_keeps_the_side(prepared_of, lesion):
    scan = prepared_of(lesion)
    for name in ("kidney_left", "kidney_right"):
        mask = scan.organs.structure_mask(name)
        click = scan.ct.to_ras(np.argwhere(mask).mean(0))
        result = synthesise(scan, LesionRequest(lesion, seed=3, at_ras=tuple(click)))
        assert np.linalg.norm(np.array(result.center_ras) - click) < 60
        other = scan.organs.structure_mask("kidney_right" if name == "kidney_left" else "kidney_left")
        assert not (full_label(scan, result) & other).any()


@pytest.mark.parametrize("offset", [(1e4, 0, 0), (0, -1e4, 0), (0, 0, 1e4)])
@pytest.mark.parametrize("lesion", ["liver_cyst", "gallstone", "gastric_cancer"])
def test_a_point_outside_the_scan_is_refused(prepared_enhanced, lesion, offset):
    with pytest.raises(InputError, match="outside") as caught:
        synthesise(prepared_enhanced, LesionRequest(lesion, at_ras=offset, max_tries=2))
    assert "\n" not in str(caught.value)
    assert "RAS" in str(caught.value)


# --- missing and tiny organs -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def liver_only(phantom_enhanced):
    labels = phantom_enhanced.organs.labels
    liver = taxonomy.organ("liver").value
    only = np.where(labels.array == liver, labels.array, 0).astype(np.uint8)
    return prepare_scan(phantom_enhanced.ct, OrganMap(Volume(only, labels.affine)))


@pytest.mark.parametrize("lesion", [k for k in taxonomy.LESION_KEYS if taxonomy.lesion(k).organ != "liver"])
def test_a_missing_organ_is_refused(liver_only, lesion):
    with pytest.raises(InputError) as caught:
        synthesise(liver_only, LesionRequest(lesion))
    message = str(caught.value)
    assert taxonomy.organ(taxonomy.lesion(lesion).organ).name.lower() in message.lower()
    assert "\n" not in message


def test_a_map_without_structures_is_enough(liver_only):
    assert synthesise(liver_only, LesionRequest("liver_cyst", seed=1)).accepted


@pytest.mark.parametrize("lesion", ["liver_tumor", "gallstone", "colorectal_cancer", "kidney_stone"])
def test_an_organ_of_one_voxel_has_no_room(phantom_enhanced, lesion):
    labels = phantom_enhanced.organs.labels
    array = np.zeros_like(labels.array)
    array[60, 35, 50] = taxonomy.organ(taxonomy.lesion(lesion).organ).value
    scan = prepare_scan(phantom_enhanced.ct, replace(phantom_enhanced.organs, labels=Volume(array, labels.affine)))
    with pytest.raises(InputError) as caught:
        synthesise(scan, LesionRequest(lesion, size_mm=(20, 20, 20), max_tries=2))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lesion", taxonomy.LESION_KEYS)
def test_capacity_is_a_plausible_diameter(prepared_of, lesion):
    scan = prepared_of(lesion)
    geometry = scan.organ_geometry(taxonomy.lesion(lesion).organ)
    assert 3 <= capacity_mm(scan, lesion) <= 1.3 * (geometry.volume_mm3 * 6 / np.pi) ** (1 / 3)
