"""Scores of masks: hand-worked boxes and spheres, and what happens where a mask is empty."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("monai")

from PASTALib.errors import InputError
from training.benchmark.metrics import lesion_counts, score_masks, surface_figures

SHAPE = (16, 18, 20)


def box(*ranges):
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*part) for part in ranges)] = True
    return mask


def scores(found, truth, spacing=(1.0, 1.0, 1.0), **options):
    rows = score_masks(found.astype(np.uint8), truth.astype(np.uint8), spacing, {"lesion": 1}, **options)
    return {metric: value for _, metric, value in rows}


def test_a_box_moved_by_one_voxel():
    truth, found = box((4, 8), (4, 8), (4, 8)), box((4, 8), (4, 8), (5, 9))
    result = scores(found, truth, (1.0, 1.0, 3.0))
    assert result["dice"] == 2 * 48 / 128
    assert result["hd95"] == 3.0  # mm, along the axis of 3 mm
    assert result["nsd"] < 1 and scores(found, truth)["nsd"] == 1.0  # 3 mm and 1 mm against a tolerance of 2
    assert (result["lesions"], result["found"], result["false_positives"]) == (1, 1, 0)


def test_surface_at_the_volumes_border_counts():
    whole = np.ones(SHAPE, bool)
    assert surface_figures(whole, whole, (1, 1, 1)) == (1.0, 0.0)
    half = box((0, 16), (0, 18), (0, 10))
    nsd, hd95 = surface_figures(half, whole, (1, 1, 1))
    assert 0 < nsd < 1 and hd95 >= 8


def test_a_sphere_within_another_has_the_difference_of_radii_as_distance():
    z, y, x = np.indices((40, 40, 40)) - 19.5
    distance = np.sqrt(z * z + y * y + x * x) * 0.5  # voxels of 0.5 mm
    inner, outer = distance <= 5, distance <= 8
    rows = {m: v for _, m, v in score_masks(inner.astype(int), outer.astype(int), (0.5,) * 3, {"lesion": 1})}
    assert rows["hd95"] == pytest.approx(3.0, abs=0.4) and rows["nsd"] == 0.0
    wide = score_masks(inner.astype(int), outer.astype(int), (0.5,) * 3, {"lesion": 1}, tolerance_mm=4.0)
    assert {m: v for _, m, v in wide}["nsd"] == 1.0
    assert rows["dice"] == pytest.approx(2 * 125 / (125 + 512), abs=0.01)


def test_empty_masks():
    nothing, truth = np.zeros(SHAPE, bool), box((4, 8), (4, 8), (4, 8))
    both = scores(nothing, nothing)
    assert both == {"dice": 1.0, "nsd": None, "hd95": None, "lesions": 0, "found": 0, "false_positives": 0}
    missed = scores(nothing, truth)
    assert missed == {"dice": 0.0, "nsd": None, "hd95": None, "lesions": 1, "found": 0, "false_positives": 0}
    invented = scores(truth, nothing)
    assert (invented["dice"], invented["lesions"], invented["false_positives"]) == (0.0, 0, 1)


def test_lesions_are_pieces_and_found_from_a_tenth_on():
    truth = box((2, 6), (2, 7), (2, 7)) | box((10, 13), (10, 13), (10, 13))  # 100 and 27 voxels
    part = box((2, 6), (2, 7), (2, 7))
    kept = np.flatnonzero(part)
    tenth, less = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    tenth.flat[kept[:10]] = True
    less.flat[kept[:9]] = True
    assert lesion_counts(tenth, truth) == {"lesions": 2, "found": 1, "false_positives": 0}
    assert lesion_counts(less, truth)["found"] == 0
    elsewhere = box((14, 16), (0, 2), (0, 2))
    assert lesion_counts(truth | elsewhere, truth) == {"lesions": 2, "found": 2, "false_positives": 1}
    corner = box((13, 14), (13, 14), (13, 14))  # touches the second by a corner: one piece with it
    assert lesion_counts(truth | corner, truth)["false_positives"] == 0


def test_every_label_has_its_rows_and_others_none():
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:6, 2:6, 2:6], truth[8:12, 8:12, 8:12] = 1, 2
    rows = score_masks(truth, truth, (1, 1, 1), {"organ": 1, "lesion": 2}, surface=False)
    assert [(label, metric) for label, metric, _ in rows] == [
        (label, metric) for label in ("organ", "lesion") for metric in ("dice", "lesions", "found", "false_positives")
    ]
    assert {value for _, metric, value in rows if metric == "dice"} == {1.0}


def test_unlike_grids_are_refused():
    with pytest.raises(InputError, match="two of one 3D grid"):
        score_masks(np.zeros((4, 4, 4)), np.zeros((4, 4, 5)), (1, 1, 1), {"lesion": 1})
