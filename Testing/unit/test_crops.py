"""Cubes cut from scans: the right place in the world for every kind of grid, air outside, regions shrunk without distortion."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from PASTALib.errors import InputError
from PASTALib.inference.crops import check_inside, lesion_crop, region_crop
from PASTALib.volume import Volume, read_volume, to_canonical

SLOPES = np.array([0.7, -1.3, 2.1])  # HU per mm towards R, A, S
SHAPE = (40, 36, 44)
DIRECTIONS = {"L": (-1, 0, 0), "R": (1, 0, 0), "P": (0, -1, 0), "A": (0, 1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def turn(degrees_about_s: float, degrees_about_r: float) -> np.ndarray:
    a, b = np.deg2rad([degrees_about_s, degrees_about_r])
    about_s = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    about_r = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    return np.array(about_s) @ np.array(about_r)


def grid(columns, spacing_xyz=(1.0, 1.0, 1.0), origin=(12.0, -30.0, 55.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(columns, float) * np.asarray(spacing_xyz)
    affine[:3, 3] = origin
    return affine


GRIDS = {
    "LPS": grid(np.diag([-1, -1, 1])),
    "RAS": grid(np.eye(3)),
    "head first turned over": grid(np.diag([1, -1, -1])),
    "axes permuted": grid([[0, 0, -1], [1, 0, 0], [0, -1, 0]]),
    "thick slices": grid(np.diag([-1, -1, 1]), (0.7, 0.7, 2.5)),
    "sagittal slices, anisotropic": grid([[0, 0, 1], [-1, 0, 0], [0, 1, 0]], (0.8, 1.3, 3.0)),
    "oblique": grid(turn(17, -12) @ np.diag([-1, -1, 1]), (0.9, 0.9, 1.6)),
    "oblique and permuted": grid(turn(-20, 9) @ np.array([[0, 1, 0], [0, 0, -1], [1, 0, 0]]), (1.2, 0.6, 0.9)),
}


def ramp(affine: np.ndarray, shape=SHAPE) -> Volume:
    volume = Volume(np.zeros(shape, np.float64), affine)
    volume.array[...] = volume.to_ras(np.stack(np.indices(shape), -1)) @ SLOPES
    return volume


def directions_of(affine: np.ndarray, orientation: str) -> np.ndarray:
    """Rows: unit vectors in RAS along which x, y and z of a cube run: of the scan's axes the nearest to each letter."""
    units = (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).T
    along = np.concatenate([units, -units])
    return np.array([along[np.argmax(along @ DIRECTIONS[letter])] for letter in orientation])


def places(affine, centre, side: int, spacing_mm: float, orientation: str = "LPS") -> np.ndarray:
    """RAS mm (side, side, side, 3) of a cube's voxels."""
    offsets = (np.arange(side) - (side - 1) / 2) * spacing_mm
    z, y, x = np.meshgrid(offsets, offsets, offsets, indexing="ij")
    return np.asarray(centre) + np.stack([x, y, z], -1) @ directions_of(affine, orientation)


def noise(shape=SHAPE, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 2000, shape).astype(np.int16)


def every_storage(volume: Volume):
    """The same scan with its axes stored in each of the 48 possible orders and directions."""
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            array = volume.array.transpose(order)[tuple(slice(None, None, f) for f in flips)]
            index = np.zeros((4, 3))  # new index (z, y, x) of the corner and one step along each axis, in old indices
            index[:, order] = [
                [0 if f > 0 else n - 1 for f, n in zip(flips, array.shape)],
                *([(0 if f > 0 else n - 1) + (f if a == b else 0) for b, (f, n) in enumerate(zip(flips, array.shape))] for a in range(3)),
            ]  # fmt: skip
            ras = volume.to_ras(index)
            affine = np.eye(4)
            affine[:3, 3] = ras[0]
            affine[:3, :3] = (ras[1:] - ras[0])[::-1].T
            yield Volume(np.ascontiguousarray(array), affine)


# ---------------------------------------------------------------------------------------------------------------
# Round a point


@pytest.mark.parametrize("orientation", ["LPS", "LAS", "RAS", "RPI"])
@pytest.mark.parametrize("name", GRIDS)
def test_a_ramp_is_reproduced_at_its_place_in_the_world(name, orientation):
    scan = ramp(GRIDS[name])
    centre = scan.to_ras(np.array([19.3, 17.8, 22.4]))
    cube = lesion_crop(scan, centre, side=16, spacing_mm=0.9, orientation=orientation)
    assert cube.dtype == np.float32 and cube.shape == (16, 16, 16)
    wanted = places(scan.affine, centre, 16, 0.9, orientation) @ SLOPES
    np.testing.assert_allclose(cube, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def test_the_middle_of_the_cube_is_the_point():
    scan = ramp(GRIDS["oblique"])
    centre = scan.to_ras(np.array([20.13, 18.41, 20.77]))
    for side in (9, 10):
        assert lesion_crop(scan, centre, side=side).mean() == pytest.approx(centre @ SLOPES, abs=1e-3)


@pytest.mark.parametrize("name", ["thick slices", "oblique"])
def test_how_a_scan_is_stored_does_not_matter(name):
    scan = Volume(noise(), GRIDS[name])
    centre = scan.to_ras(np.array([30.2, 17.9, 3.4]))  # near two borders, so that part of the cube is air
    first = lesion_crop(scan, centre, side=32)
    assert (first == -1000).any() and (first != -1000).any()
    versions = list(every_storage(scan))
    assert len(versions) == 48
    for version in versions:
        np.testing.assert_allclose(lesion_crop(version, centre, side=32), first, rtol=0, atol=1e-4)


def test_orientation_letters_mirror_the_cube():
    scan = Volume(noise(), GRIDS["LPS"])
    centre = scan.to_ras(np.array([20.0, 18.3, 21.5]))
    cube = lesion_crop(scan, centre, side=12)
    np.testing.assert_array_equal(lesion_crop(scan, centre, side=12, orientation="LAS"), cube[:, ::-1])
    np.testing.assert_array_equal(lesion_crop(scan, centre, side=12, orientation="RPI"), cube[::-1, :, ::-1])


def test_same_values_as_the_canonical_image():
    scan = Volume(noise(), GRIDS["sagittal slices, anisotropic"])
    canonical = to_canonical(scan).volume
    at = np.array([14, 15, 16])
    cube = lesion_crop(scan, canonical.to_ras(at), side=9)
    part = canonical.array[tuple(slice(n - 4, n + 5) for n in at)]
    assert np.abs(cube - part).max() <= 0.501  # the canonical image is rounded to whole HU


def test_air_outside_and_the_border_voxel_to_its_edge():
    scan = Volume(np.full((10, 10, 10), 40, np.int16), GRIDS["RAS"])
    cube = lesion_crop(scan, scan.to_ras(np.array([0.0, 5.0, 5.0])), side=9)  # samples on voxel centres; z from -4 to 4
    assert (cube[:4] == -1000).all() and (cube[4:, 4, 4] == 40).all()
    halves = lesion_crop(
        scan, scan.to_ras(np.array([0.0, 5.0, 5.0])), side=8
    )  # half-way: z = -0.5 still lies on the voxel
    assert (halves[:3] == -1000).all() and (halves[3:, 4, 4] == 40).all()


def test_a_cube_larger_than_the_scan_holds_all_of_it():
    scan = Volume(noise((6, 5, 4)), GRIDS["LPS"])
    cube = lesion_crop(scan, scan.to_ras(np.array([2.5, 2.0, 1.5])), side=21 + 1)
    middle = lesion_crop(scan, scan.to_ras(np.array([2.5, 2.0, 1.5])), side=6)
    np.testing.assert_array_equal(cube[8:14, 8:14, 8:14], middle)
    assert np.count_nonzero(cube != -1000) == np.count_nonzero(middle != -1000) > 0


def test_a_single_slice():
    scan = Volume(np.full((1, 20, 20), 7, np.int16), grid(np.diag([-1, -1, 1]), (1, 1, 5)))
    cube = lesion_crop(scan, scan.to_ras(np.array([0.0, 10, 10])), side=11)
    assert [bool((plane == 7).all()) for plane in cube] == [abs(z) <= 2 for z in range(-5, 6)]


def test_a_cube_that_does_not_touch_the_scan():
    scan = Volume(noise(), GRIDS["RAS"])
    with pytest.raises(
        InputError, match=r"does not touch the scan, which covers R 12 to 55, A -30 to 5, S 55 to 94 mm"
    ):
        lesion_crop(scan, (500, 0, 60), side=32)
    lesion_crop(scan, (12 - 15.9, 0, 60), side=32)  # the last samples just reach it
    with pytest.raises(InputError):
        lesion_crop(scan, (12 - 16.1, 0, 60), side=32)


@pytest.mark.parametrize("point", [(1, 2), (1, 2, np.nan), "abc", None, (1, 2, "x"), ((1, 2, 3), (4, 5, 6))])
def test_a_point_that_is_none(point):
    with pytest.raises(InputError, match="R, A, S in mm"):
        lesion_crop(Volume(noise(), GRIDS["RAS"]), point)


@pytest.mark.parametrize("orientation", ["", "LP", "XYZ", "SPL", "LPSI", "lps"])
def test_an_orientation_that_is_none(orientation):
    with pytest.raises(InputError, match="orientation"):
        lesion_crop(Volume(noise(), GRIDS["RAS"]), (30, -10, 70), orientation=orientation)


def test_inside_or_outside():
    scan = Volume(noise(), GRIDS["oblique"])
    last = np.array(SHAPE) - 1
    for index in ([0, 0, 0], last, last + 0.49, [-0.49] * 3):
        check_inside(scan, scan.to_ras(np.array(index, float)))
    for index in ([-0.6, 0, 0], last + [0, 0, 0.6], [1000, 0, 0]):
        with pytest.raises(InputError, match="--at .* outside the scan, which covers R"):
            check_inside(scan, scan.to_ras(np.array(index, float)), "--at")


def test_only_the_part_under_the_cube_is_read():
    scan = Volume(np.zeros((900, 512, 512), np.int16), grid(np.diag([-1, -1, 1]), (0.7, 0.7, 1.0)))  # not in memory yet
    tracemalloc.start()
    lesion_crop(scan, scan.to_ras(np.array([450.0, 250, 250])))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150e6  # the scan has 472 MB


# ---------------------------------------------------------------------------------------------------------------
# Round a region


def test_a_region_that_fits_keeps_the_scan_and_its_surroundings_are_air():
    scan = ramp(GRIDS["LPS"])
    cube = region_crop(scan, (slice(10, 20), slice(12, 18), slice(20, 34)), side=32, margin_mm=3.0)
    assert (cube != -1000).any(axis=(1, 2)).sum() == 16
    assert (cube != -1000).any(axis=(0, 2)).sum() == 12
    assert (cube != -1000).any(axis=(0, 1)).sum() == 20
    inside = cube[8:24, 10:22, 6:26]
    np.testing.assert_allclose(inside, scan.array[7:23, 9:21, 17:37], rtol=0, atol=1e-3)
    assert np.count_nonzero(cube != -1000) == inside.size


def test_mask_and_box_are_the_same_region():
    scan = Volume(noise(), GRIDS["oblique"])
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:14, 8, 5:9] = 3
    mask[12, 7:20, 6] = 1
    box = (slice(10, 14), slice(7, 20), slice(5, 9))
    np.testing.assert_array_equal(region_crop(scan, mask, side=40), region_crop(scan, box, side=40))


def test_the_box_ends_at_the_border_of_the_scan():
    scan = Volume(np.full(SHAPE, 50, np.int16), GRIDS["LPS"])
    cube = region_crop(scan, (slice(0, 4), slice(10, 14), slice(10, 14)), side=64, margin_mm=10)
    assert [(cube == 50).any(axis=axes).sum() for axes in ((1, 2), (0, 2), (0, 1))] == [14, 24, 24]


@pytest.mark.parametrize("name", ["thick slices", "oblique and permuted"])
def test_a_large_region_is_shrunk_alike_along_all_axes(name):
    shape = (90, 80, 84)
    affine = GRIDS[name]
    scan = Volume(np.zeros(shape, np.int16), affine)
    middle = scan.to_ras((np.array(shape) - 1) / 2)
    away = np.linalg.norm(scan.to_ras(np.stack(np.indices(shape), -1)) - middle, axis=-1)
    radius = 0.45 * min(np.array(shape) * scan.spacing_zyx_mm)
    scan.array[...] = np.where(away < radius, 1000, -1000)
    cube = region_crop(scan, away < radius, side=24, margin_mm=2.0)
    extents = [(cube > 0).any(axis=axes).sum() for axes in ((1, 2), (0, 2), (0, 1))]
    sample_mm = (2 * radius + 4) / 24
    assert np.ptp(extents) <= 1
    assert np.count_nonzero(cube > 0) * sample_mm**3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.12)


def test_shrinking_averages_instead_of_picking_voxels():
    scan = Volume(noise((96, 96, 96)), GRIDS["LPS"])
    whole = (slice(None),) * 3
    assert region_crop(scan, whole, side=96, margin_mm=0).std() == pytest.approx(scan.array.std(), rel=1e-3)
    assert region_crop(scan, whole, side=24, margin_mm=0).std() < 0.2 * scan.array.std()  # about 4³ voxels each
    small = region_crop(Volume(np.full((96, 96, 96), 37, np.int16), GRIDS["LPS"]), whole, side=24, margin_mm=0)
    np.testing.assert_allclose(small, 37, atol=1e-4)


def test_how_a_scan_is_stored_does_not_matter_for_regions():
    scan = Volume(noise(), GRIDS["thick slices"])
    mask = Volume(np.zeros(SHAPE, bool), scan.affine)
    mask.array[5:30, 8:30, 10:35] = True
    first = region_crop(scan, mask.array, side=20, margin_mm=4)
    for version, region in list(zip(every_storage(scan), every_storage(mask)))[::5]:
        np.testing.assert_allclose(region_crop(version, region.array, side=20, margin_mm=4), first, rtol=0, atol=1e-4)


def test_regions_that_are_none():
    scan = Volume(noise(), GRIDS["LPS"])
    with pytest.raises(InputError, match="empty"):
        region_crop(scan, np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match="wanted the scan's"):
        region_crop(scan, np.ones((3, 3, 3), np.uint8))
    for box in ((slice(5, 5), slice(0, 4), slice(0, 4)), (slice(90, 95),) * 3, (slice(0, 4), slice(0, 4))):
        with pytest.raises(InputError, match="three slices"):
            region_crop(scan, box)


# ---------------------------------------------------------------------------------------------------------------
# Real CT


def test_real_ct_agrees_with_interpolation_at_world_points(real_data):
    path = sorted(real_data.glob("cases/*/ct.nii.gz"))[0]
    scan = read_volume(path)
    centre = scan.to_ras(np.array(scan.array.shape) * [0.5, 0.45, 0.55])
    cube = lesion_crop(scan, centre, side=48)
    where = scan.to_index(places(scan.affine, centre, 48, 1.0))
    inside = ((where >= 0) & (where <= np.array(scan.array.shape) - 1)).all(-1)
    wanted = ndimage.map_coordinates(scan.array.astype(float), np.moveaxis(where, -1, 0), order=1, mode="nearest")
    assert inside.mean() > 0.5
    assert np.abs(cube - wanted)[inside].max() < 1e-3
