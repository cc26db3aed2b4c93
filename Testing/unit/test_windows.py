"""Window positions, weights, air, and boxes around regions."""

from __future__ import annotations

import numpy as np
import pytest

from PASTALib.inference.windows import grown_box, importance, is_air, starts, window_starts


@pytest.mark.parametrize(
    "size,window,step,expected",
    [
        (128, 128, 0.5, [0]),
        (100, 128, 0.5, [0]),
        (129, 128, 0.5, [0, 1]),
        (192, 128, 0.5, [0, 64]),
        (280, 128, 0.5, [0, 51, 101, 152]),
        (280, 128, 0.6, [0, 76, 152]),
        (256, 128, 1.0, [0, 128]),
    ],
)
def test_windows_are_few_even_and_reach_the_end(size, window, step, expected):
    assert starts(size, window, step) == expected


@pytest.mark.parametrize("step", [0.3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("size", [128, 150, 257, 300])
def test_windows_cover_every_voxel_and_are_no_further_apart_than_asked(size, step):
    found = starts(size, 128, step)
    assert found[0] == 0 and found[-1] + 128 == size
    assert all(0 < b - a <= 128 * step + 0.5 for a, b in zip(found, found[1:]))


def test_windows_are_ordered_from_low_to_high_z():
    found = window_starts((200, 130, 128), (128, 128, 128), 0.5)
    assert found == sorted(found) and len(found) == 3 * 2 * 1


def test_positions_are_those_of_nnunet():
    predictor = pytest.importorskip("nnunetv2.inference.sliding_window_prediction")
    for shape in ((280, 280, 280), (129, 333, 500), (128, 640, 190)):
        theirs = predictor.compute_steps_for_sliding_window(shape, (128, 128, 128), 0.5)
        assert [starts(size, 128, 0.5) for size in shape] == [list(map(int, axis)) for axis in theirs]


def test_weights_are_a_gaussian_of_an_eighth_of_the_side():
    weights = importance((32, 16, 64))
    assert weights.shape == (32, 16, 64) and weights.dtype == np.float32
    assert weights.max() == weights[16, 8, 32] == 1
    assert weights[16, 8, 40] == pytest.approx(np.exp(-0.5), rel=1e-6)  # one sigma along x
    assert weights[20, 8, 32] == pytest.approx(np.exp(-0.5), rel=1e-6)
    assert weights.min() > 0


def test_air_is_air_and_lung_is_not():
    rng = np.random.default_rng(0)
    air = rng.normal(-1000, 25, (32, 32, 32)).astype(np.int16)
    assert is_air(air)
    lung = air.copy()
    lung[10:12] = -600
    assert not is_air(lung)
    speck = air.copy()
    speck[0, 0, :5] = 500  # a few bright voxels are noise or a sheet's edge
    assert is_air(speck)


def test_boxes_grow_evenly_and_stay_inside():
    box = (slice(10, 20), slice(0, 4), slice(95, 100))
    grown = grown_box(box, (100, 100, 100), 2, (30, 30, 30))
    assert [s.stop - s.start for s in grown] == [30, 30, 30]
    assert grown[0] == slice(0, 30) and grown[1] == slice(0, 30) and grown[2] == slice(70, 100)
    small = grown_box(box, (25, 25, 100), 2, (30, 30, 30))
    assert small[0] == slice(0, 25) and small[1] == slice(0, 25)
