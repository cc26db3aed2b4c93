"""Detectability: levels, lesions that differ in one figure, the threshold rule, scores, table and curves, each on its own."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.inference.intensity import PASTA_PIECEWISE
from PASTALib.inference.segmentation import segment
from PASTALib.networks.card import ModelCard
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise
from PASTALib.volume import crop
from training.benchmark.stress.curves import curves_of, mean_band, monotone, spearman, wilson
from training.benchmark.stress.design import Cell, Setting, plan, read_levels, sites_of
from training.benchmark.stress.hosts import as_hosts
from training.benchmark.stress.lesions import find_place, make_lesion, possible
from training.benchmark.stress.models import UNNAMED, Seen
from training.benchmark.stress.network import NetworkModel, lesion_values
from training.benchmark.stress.outputs import read_series, read_summary
from training.benchmark.stress.page import half_text
from training.benchmark.stress.scores import FOUND_SHARE, auc, false_positives, score_lesion
from training.benchmark.stress.table import COLUMNS, MADE, Table, csv_text
from training.benchmark.stress.threshold import read_threshold
from training.commands.stress_options import scans, sweeps
from training.segmentation import evaluate

LIVER = taxonomy.organ("liver").value
TUMOR = taxonomy.lesion("liver_tumor").value


# ---------------------------------------------------------------------------------------------------------------
# Levels and plans


def test_each_curve_changes_one_figure_and_holds_the_centre():
    levels = read_levels({"size": [6, 15, 30], "density": [10, 25, 40]}, ("size", "density"))
    cells = plan(["liver_tumor"], levels, taxonomy.ENHANCED, ["liver"])
    sizes = [cell.setting for cell in cells if cell.factor == "size"]
    densities = [cell.setting for cell in cells if cell.factor == "density"]
    assert [one.size_mm for one in sizes] == [6, 15, 30] and {one.delta_hu for one in sizes} == {-25}
    assert [one.delta_hu for one in densities] == [-10, -25, -40] and {one.size_mm for one in densities} == {15}
    assert sizes[1] == densities[1]
    assert len({cell.setting.key for cell in cells}) == 5


def test_a_grid_has_all_combinations():
    levels = read_levels({"size": [6, 15], "density": [10, 25, 40], "surface": [1, 3]}, ("size", "density", "surface"))
    grid = [cell for cell in plan(["liver_tumor"], levels, taxonomy.ENHANCED, ["liver"], True) if cell.factor == "grid"]
    assert len({cell.setting.key for cell in grid}) == 12
    assert {cell.level for cell in grid} >= {"6 10 1", "15 40 3"}


def test_places_are_sub_sites_and_other_organs_of_the_map():
    levels = read_levels(None, ("location",))
    cells = plan(["liver_tumor"], levels, taxonomy.ENHANCED, ["liver", "kidney"])
    assert [cell.level for cell in cells] == [f"liver_tumor/{site}" for site in sites_of("liver_tumor")] + [
        "kidney_tumor"
    ]
    assert plan(["liver_tumor"], {"location": ("lung_tumor",)}, taxonomy.ENHANCED, ["liver"]) == []


def test_types_that_are_bright_get_bright_levels():
    cells = plan(["lung_tumor"], read_levels(None, ("density",)), taxonomy.PLAIN, ["lung"])
    assert all(cell.setting.delta_hu > 0 for cell in cells)


@pytest.mark.parametrize(
    ("levels", "attributes", "told"),
    [
        (None, (), "no stress attribute"),
        (None, ("size", "colour"), "'colour'"),
        ({"size": [10]}, ("size",), "1 different"),
        ({"size": [10, -20]}, ("size",), "-20"),
        ({"size": [10, "big"]}, ("size",), "wanted numbers"),
        ({"size": [10, math.nan]}, ("size",), "nan"),
        ({"density": [-20, 20, 30]}, ("density",), "both signs"),
        ({"surface": [1, 100]}, ("surface",), "100"),
    ],
)
def test_bad_levels_are_one_line(levels, attributes, told):
    with pytest.raises(InputError, match=told) as error:
        read_levels(levels, attributes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["spleen_tumor", "liver_tumor/tail"])
def test_a_place_that_is_none_is_one_line(name):
    with pytest.raises(InputError, match="stress location"):
        plan(["liver_tumor"], {"location": (name,)}, taxonomy.ENHANCED, ["liver"])


def test_scans_that_cannot_be_are_one_line(tmp_path):
    assert as_hosts(4.0)[0].spacing_mm == 4.0
    for wrong in ([], 0.2, [(tmp_path / "ct.nii.gz", tmp_path / "organs.nii.gz")], [object()], [4.0, 4.0]):
        with pytest.raises(InputError) as error:
            as_hosts(wrong)
        assert "\n" not in str(error.value)


def test_sweeps_are_read():
    assert sweeps([]) == (("size", "density", "surface", "location"), {})
    assert sweeps(["density", "size= 6, 8"]) == (("size", "density"), {"size": ["6", "8"]})
    assert scans([], [], None, None) == [2.0] and scans(["a"], ["b"], "pasta", 3.0) == [3.0, ("a", "b", "pasta")]


@pytest.mark.parametrize("items", [["colour"], ["size="], ["size=6,8", "size"]])
def test_bad_sweeps_are_one_line(items):
    with pytest.raises(InputError, match="--sweep"):
        sweeps(items)


def test_every_ct_needs_its_organ_map():
    with pytest.raises(InputError, match="1 --ct and 0 --organs"):
        scans(["a"], [], None, None)


# ---------------------------------------------------------------------------------------------------------------
# Lesions


@pytest.fixture(scope="module")
def place(prepared_enhanced):
    at = find_place(prepared_enhanced, [Setting("liver_tumor", 30, -40, 1)], 3)
    assert at is not None
    return at


def test_levels_of_size_share_their_place_and_grow(prepared_enhanced, place):
    before = prepared_enhanced.ct.array.copy()
    made = [make_lesion(prepared_enhanced, Setting("liver_tumor", size, -40, 1), place, 3) for size in (10, 16, 24, 30)]
    sizes = [lesion.measured["size_mm"] for lesion in made]
    assert sizes == sorted(sizes)
    for lesion, size in zip(made, (10, 16, 24, 30)):
        assert lesion.measured["size_mm"] == pytest.approx(size, rel=0.25)
        assert np.linalg.norm(np.subtract(lesion.centre_ras, place)) < 4  # a voxel
    assert np.array_equal(prepared_enhanced.ct.array, before) and not prepared_enhanced.lesions


def test_levels_of_density_share_their_outline(prepared_enhanced, place):
    made = [make_lesion(prepared_enhanced, Setting("liver_tumor", 24, delta, 1), place, 3) for delta in (-10, -25, -45)]
    assert all(np.array_equal(lesion.label, made[0].label) for lesion in made)
    deltas = [lesion.measured["delta_hu"] for lesion in made]
    assert deltas == pytest.approx([-10, -25, -45], abs=8) and deltas == sorted(deltas, reverse=True)


def test_wider_margins_are_measured_wider_and_leave_the_density(prepared_enhanced, place):
    made = [make_lesion(prepared_enhanced, Setting("liver_tumor", 30, -45, edge), place, 3) for edge in (1, 2.5)]
    assert made[1].measured["edge_mm"] > 1.4 * made[0].measured["edge_mm"]


def test_what_a_scan_cannot_have_is_said(prepared_enhanced):
    assert possible(prepared_enhanced, Setting("liver_tumor", 15, -30, 1)) == ""
    assert "room" in possible(prepared_enhanced, Setting("pancreas_tumor", 110, -30, 1))
    assert "HU" in possible(prepared_enhanced, Setting("liver_tumor", 15, -300, 1))
    assert "cyst" in possible(prepared_enhanced, Setting("liver_cyst", 15, -5, 1))


# ---------------------------------------------------------------------------------------------------------------
# Models


def test_thresholds_are_read():
    assert (read_threshold("threshold:30").low, read_threshold("threshold:30").high) == (-30, 30)
    model = read_threshold("threshold:-20,40@liver, kidney")
    assert (model.low, model.high, model.organs) == (-20, 40, ("liver", "kidney"))
    assert model.name == "threshold:-20,40@liver,kidney"
    assert read_threshold(model.name).name == model.name


@pytest.mark.parametrize(
    "text",
    [
        "threshold",
        "threshold:",
        "threshold:x",
        "threshold:1.2.3",
        "threshold:10,20",
        "threshold:0",
        "threshold:30@spleen",
    ],
)
def test_bad_thresholds_are_one_line(text):
    with pytest.raises(InputError, match="--stress") as error:
        read_threshold(text)
    assert "\n" not in str(error.value)


def test_the_threshold_rule_marks_what_differs_from_its_organ(prepared_enhanced, place):
    model = read_threshold("threshold:25@liver")
    lesion = make_lesion(prepared_enhanced, Setting("liver_tumor", 24, -60, 1), place, 3)
    box = tuple(slice(max(s.start - 4, 0), s.stop + 4) for s in lesion.region)
    part = crop(prepared_enhanced.ct, box)
    before = model.look(prepared_enhanced, part, box)
    here = tuple(slice(r.start - b.start, r.stop - b.start) for r, b in zip(lesion.region, box))
    part.array[here] = lesion.hu
    label = np.zeros(part.array.shape, bool)
    label[here] = lesion.label
    after = model.look(prepared_enhanced, part, box)
    again = model.look(prepared_enhanced, part, box)
    assert np.array_equal(after.found, again.found) and np.array_equal(after.evidence, again.evidence)
    assert set(np.unique(after.found)) <= {0, UNNAMED}
    organ = prepared_enhanced.organs.labels.array[box] == LIVER
    assert not after.found[~organ].any() and not after.evidence[~organ].any()
    scores = score_lesion(after, before, label, organ, "liver_tumor", prepared_enhanced.spacing, model.types)
    assert scores["found"] == 1 and scores["marked_before"] == 0 and scores["found_type"] is None
    assert scores["dice"] > 0.6 and scores["auc"] > 0.95 and scores["gain"] > 0.2


def little(orientation="LPS", labels=None):
    """A network with new values whose last layer favours no class, so that its labels vary."""
    labels = labels or {1: "liver", 2: "liver_tumor", 3: "colon_mass"}
    net = initialise(PastaNet(NetworkShape.of_width(4, 4, classes=len(labels) + 1)), 1).eval()
    card = ModelCard(
        "little", labels, patch=(16, 16, 16), spacing_mm=4.0, orientation=orientation, intensity=PASTA_PIECEWISE
    )
    return SimpleNamespace(
        card=card, networks=[net], segments=True, predicts_attributes=False, digest="", mirror_axes=(0, 1, 2)
    )


@pytest.mark.parametrize("orientation", ["LPS", "RAS"])
def test_a_networks_labels_are_those_of_segment(prepared_enhanced, orientation):
    model = little(orientation)
    box = (slice(60, 84), slice(20, 44), slice(30, 54))
    part = crop(prepared_enhanced.ct, box)
    seen = NetworkModel(model, "cpu", "torch-fp32").look(prepared_enhanced, part, box)
    labels = segment(part, model, device="cpu", engine="torch-fp32", skip_air=False).labels.array
    wanted = np.where(labels == 2, TUMOR, np.where(labels == 3, UNNAMED, 0))
    assert len(np.unique(labels)) > 1
    assert (seen.found == wanted).mean() > 0.999
    assert seen.evidence.min() >= 0 and seen.evidence.max() <= 1 and seen.evidence.std() > 0


def test_lesions_of_other_label_lists_are_recognised():
    ours = {1: "liver", 12: "liver_tumor"}
    assert lesion_values(ours) == {12: TUMOR}
    assert lesion_values({1: "liver", 2: "tumour", 3: "spleen"}) == {2: UNNAMED}
    assert lesion_values({1: "organ", 2: "lesion"}, "liver_tumor") == {2: TUMOR}
    with pytest.raises(InputError, match="none of its classes"):
        NetworkModel(little(labels={1: "liver", 2: "spleen"}), "cpu")


# ---------------------------------------------------------------------------------------------------------------
# Scores


def test_auc_by_hand():
    assert auc(np.array([0.9, 0.5]), np.array([0.1, 0.5, 0.2])) == pytest.approx((3 + 2.5) / 6)
    assert auc(np.array([1.0]), np.array([0.0])) == 1 and math.isnan(auc(np.array([]), np.array([1.0])))


def test_scores_by_hand():
    shape = (12, 12, 12)
    label, organ = np.zeros(shape, bool), np.ones(shape, bool)
    label[4:6, 4:6, 4:6] = True  # 8 voxels
    found = np.zeros(shape, np.uint8)
    found[4:6, 4:6, 4] = TUMOR  # 4 of them
    found[4, 4, 0:4] = UNNAMED  # 4 more of the same piece
    found[10, 10, 10] = TUMOR  # elsewhere
    evidence = np.full(shape, 0.1, np.float32)
    empty = Seen(np.zeros(shape, np.uint8), evidence.copy())
    evidence[label] = 0.6
    scores = score_lesion(Seen(found, evidence), empty, label, organ, "liver_tumor", np.ones(3), frozenset({TUMOR}))
    assert scores["found"] == scores["found_type"] == 1 and scores["marked_before"] == 0
    assert scores["dice"] == pytest.approx(2 * 4 / (8 + 8)) and scores["share"] == 0.5
    assert scores["auc"] == 1 and scores["auc_before"] == 0.5 and scores["named"] == "liver_tumor"
    assert scores["gain"] == pytest.approx(0.5) and scores["outside"] == pytest.approx(0.1)
    other = score_lesion(Seen(found, evidence), empty, label, organ, "liver_cyst", np.ones(3), frozenset({TUMOR}))
    assert other["found_type"] is None


def test_false_positives_are_pieces_of_3_mm():
    found = np.zeros((20, 20, 20), np.uint8)
    found[2:6, 2:6, 2:6] = TUMOR
    found[10:13, 10:13, 10:13] = UNNAMED
    found[18, 18, 18] = TUMOR  # 1 mm3
    figures = false_positives(found, np.ones(3))
    assert figures == {"pieces": 2, "volume_ml": 0.092, "pieces_liver_tumor": 1, "pieces_unnamed": 1}


def test_found_means_the_same_as_where_models_are_trained():
    assert FOUND_SHARE == evaluate.FOUND_SHARE


# ---------------------------------------------------------------------------------------------------------------
# Table and curves


def a_row(setting="s", repeat=0, **values):
    return {
        **dict.fromkeys(COLUMNS),
        "scan": "a",
        "setting": setting,
        "lesion": "liver_tumor",
        "repeat": repeat,
        "status": MADE,
        **values,
    }


def test_a_table_survives_a_stop_in_the_middle_of_a_line(tmp_path):
    path = tmp_path / "t.csv"
    table = Table(path)
    table.add(a_row(found=1, dice=1 / 3, site='a "b", c'))
    table.add(a_row(repeat=1, found=0, auc=float("nan")))
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:-5], encoding="utf-8")
    again = Table(path)
    assert [row["repeat"] for row in again.rows] == [0] and again.rows[0]["dice"] == 0.333333
    assert again.rows[0]["site"] == 'a "b", c' and again.has("a", "s", 0) and not again.has("a", "s", 1)
    again.add(a_row(repeat=1, found=0, auc=float("nan")))
    assert path.read_text(encoding="utf-8") == whole
    assert Table(path).rows[1]["auc"] is None


def test_a_damaged_table_is_one_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="not a table"):
        Table(path)
    path.write_text(csv_text(COLUMNS, [a_row(found=1)]).replace(",1,", ",one,"), encoding="utf-8")
    with pytest.raises(InputError, match="line 2"):
        Table(path)


def test_intervals_by_hand():
    low, high = wilson(np.array([1, 1, 1, 0]))
    # (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), z = 1.96, p = 3/4, n = 4
    assert (low, high) == pytest.approx((0.3006, 0.9544), abs=1e-3)
    low, high = mean_band(np.array([0.2, 0.4, 0.6, 0.8]), 0)
    assert 0.2 <= low < 0.5 < high <= 0.8
    assert mean_band(np.array([0.5, 0.5]), 0) == (0.5, 0.5)


def test_half_is_where_the_monotone_line_crosses():
    levels, counts = (5.0, 10.0, 20.0, 40.0), (20, 20, 20, 20)
    line, half = monotone(levels, (0, 5, 15, 20), counts, False, 0)
    assert half.value == pytest.approx(10 * 2**0.5)  # half-way between 25 and 75 % on a logarithmic axis
    assert 5 < half.low < half.value < half.high < 40
    assert np.all(np.diff(line[1]) >= 0) and all(a <= b for a, b in zip(line[2], line[3]))
    _, falling = monotone(levels, (20, 15, 5, 0), counts, True, 0)
    assert falling.value == pytest.approx(half.value)
    assert monotone(levels, (20, 20, 20, 20), counts, False, 0)[1].value == -math.inf
    assert monotone(levels, (0, 0, 0, 1), counts, False, 0)[1].value == math.inf
    _, few = monotone(levels, (0, 0, 3, 3), (3, 3, 3, 3), False, 0)
    assert few.high / few.low > 1.5  # certain data, few of them: not a point


def test_rank_correlation_of_a_flat_curve_is_none():
    assert spearman((1, 2, 3), (0.1, 0.2, 0.4)) == 1 and math.isnan(spearman((1, 2, 3), (0, 0, 0)))


def test_curves_leave_out_what_was_not_made():
    settings = [Setting("liver_tumor", size, -25.0, 1.0) for size in (6, 12, 24)]
    cells = {"a": [Cell("size", "liver_tumor", one.size_mm, one) for one in settings]}
    rows = [
        a_row(one.key, repeat, found=int(number >= repeat), dice=0.1 * number, auc=0.5, found_type=None)
        for number, one in enumerate(settings)
        for repeat in range(3)
    ]
    rows[-1]["status"] = "no room"
    curves = {curve.measure: curve for curve in curves_of(rows, cells)}
    assert "found_type" not in curves and curves["found"].count == (3, 3, 2)
    assert curves["found"].mean == pytest.approx((1 / 3, 2 / 3, 1)) and curves["found"].spearman == 1
    assert curves["dice"].half is None and math.isnan(curves["auc"].spearman)
    assert half_text(curves["found"]).startswith(f"{curves['found'].half.value:.3g} mm")


def test_only_finished_studies_are_read(tmp_path):
    with pytest.raises(InputError, match="no finished stress study"):
        read_summary(tmp_path)
    with pytest.raises(InputError):
        read_series(tmp_path)
