"""The priors file is complete and sourced, wrong files are refused by table and key, draws follow the distributions."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from scipy import stats

from PASTALib.errors import InputError
from PASTALib.synthesis import priors as module
from PASTALib.synthesis.priors import (
    COMPONENTS,
    EVIDENCE,
    PHASES,
    PRIORS_FILE,
    PUNCTATE,
    REFERENCES,
    SHAPES,
    WALL,
    LogNormal,
    SizeCurve,
    SizePrior,
    TruncNormal,
    draw,
    load_priors,
)
from PASTALib.taxonomy import LESION_KEYS, LESIONS

PRIORS = load_priors()
TEXT = PRIORS_FILE.read_text(encoding="utf-8")


@pytest.fixture
def changed(tmp_path):
    """Loads the priors file with one piece of text replaced."""

    def load(old: str, new: str):
        assert old in TEXT
        path = tmp_path / "changed.toml"
        path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
        return load_priors(path)

    return load


def test_all_fifteen_types_and_cached():
    assert tuple(PRIORS) == LESION_KEYS
    again = load_priors()
    assert again is not PRIORS
    assert all(again[key] is PRIORS[key] for key in LESION_KEYS)
    assert load_priors(str(PRIORS_FILE))["gallstone"] is PRIORS["gallstone"]


@pytest.mark.parametrize("key", LESION_KEYS)
def test_type_is_complete(key):
    item = PRIORS[key]
    assert item.lesion == key
    assert set(item.density) == set(PHASES)
    assert set(item.shape) <= set(SHAPES)
    assert math.isclose(sum(item.shape.values()), 1)
    assert math.isclose(sum(item.sites.values()), 1)
    assert math.isclose(sum(item.count.values()), 1)
    assert set(item.components) <= set(COMPONENTS)
    assert {item.reference_for(shape) for shape in item.shape} <= set(REFERENCES)
    assert (WALL in item.shape) == (item.wall is not None)
    low, high = item.hu_limits
    for parts in item.density.values():
        for part in parts:
            if part.kind == "absolute":
                assert low <= part.value.low and part.value.high <= high, part.name


@pytest.mark.parametrize("key", LESION_KEYS)
def test_every_table_has_source_and_evidence(key):
    evidence = PRIORS[key].evidence
    needed = {"size", "axis_ratios", "roughness", "shape", "reference", "heterogeneity", "ill_defined", "close"}
    needed |= {"spiculation", "satellites", "hu_limits", "count", "sites"}
    assert needed <= set(evidence)
    for phase in PHASES:
        assert any(name.startswith(f"density.{phase}.") for name in evidence)
    for tag, source in evidence.values():
        assert tag in EVIDENCE and len(source) > 5


def test_every_header_in_the_file_is_followed_by_its_evidence():
    blocks = re.split(r"(?m)^\[", TEXT)[1:]
    assert len(blocks) > 15 * 12
    for block in blocks:
        rows = [line for line in block.splitlines() if "name = " in line] if ".density]" in block else [block]
        for row in rows:
            assert "source = " in row and "evidence = " in row, block.splitlines()[0]


def test_benign_types_never_invade_and_stay_in_the_organ_by_default():
    for item in LESIONS:
        points = PRIORS[item.key].close.points
        assert all(p == 0 for _, p in points) if not item.malignant else any(p > 0 for _, p in points), item.key
    outside = {key for key, item in PRIORS.items() if item.exophytic is not None}
    assert outside == {"kidney_tumor", "kidney_cyst", "pancreas_tumor", "pancreas_cyst"}


def test_reference_of_gallbladder_cancer_depends_on_shape():
    item = PRIORS["gallbladder_cancer"]
    assert item.reference_for("Round-like") == "bile"
    assert item.reference_for("Irregular") == item.reference_for(WALL) == "liver"


def test_known_figures():
    assert PRIORS["liver_tumor"].heterogeneous.at(30) == pytest.approx(0.6)
    assert PRIORS["liver_tumor"].heterogeneous.at(60) == pytest.approx(0.9)
    assert PRIORS["lung_tumor"].spiculation.at(20) == pytest.approx(0.4)
    blastic = next(part for part in PRIORS["bone_metastasis"].density["Enhanced CT"] if part.name == "blastic")
    assert blastic.value.high < 885 and PRIORS["bone_metastasis"].hu_limits[1] <= 1060
    for key in ("liver_cyst", "pancreas_cyst", "kidney_cyst"):
        assert all(part.value.high <= 20 for parts in PRIORS[key].density.values() for part in parts)


@pytest.mark.parametrize("key", LESION_KEYS)
def test_sizes_follow_the_prior(key):
    rng = np.random.default_rng(11)
    size = PRIORS[key].size
    drawn = np.array([size.sample(rng) for _ in range(2000)])
    assert drawn.min() >= size.low and drawn.max() <= size.high
    assert stats.kstest(drawn, np.vectorize(size.cdf)).pvalue > 0.01


def test_log_normal_and_truncated_normal_against_scipy():
    rng = np.random.default_rng(3)
    wide = SizePrior(((1.0, LogNormal(20.0, 0.5)),), 0.1, 1000.0)
    drawn = [wide.sample(rng) for _ in range(4000)]
    assert stats.kstest(drawn, stats.lognorm(s=0.5, scale=20.0).cdf).pvalue > 0.01
    normal = TruncNormal(-45, 18, -95, -10)
    drawn = [normal.sample(rng) for _ in range(4000)]
    expected = stats.truncnorm((-95 + 45) / 18, (-10 + 45) / 18, loc=-45, scale=18)
    assert stats.kstest(drawn, expected.cdf).pvalue > 0.01
    assert TruncNormal(5, 0, 0, 10).sample(rng) == 5


def test_extreme_uniform_numbers_stay_inside():
    class Fixed:
        def __init__(self, value: float) -> None:
            self.value = value

        def random(self) -> float:
            return self.value

    for value in (0.0, math.nextafter(1, 0)):
        for item in PRIORS.values():
            assert item.size.low <= item.size.sample(Fixed(value)) <= item.size.high
            assert item.mid_ratio.low <= item.mid_ratio.sample(Fixed(value)) <= item.mid_ratio.high
            assert draw(item.sites, Fixed(value)) in item.sites


def test_restricted_size_keeps_the_shape_of_the_distribution():
    size = SizePrior(((0.5, LogNormal(8.0, 0.4)), (0.5, LogNormal(30.0, 0.4))), 4.0, 90.0)
    small = size.below(10.0)
    for mm in (5.0, 7.0, 9.0, 10.0):
        assert small.cdf(mm) == pytest.approx(size.cdf(mm) / size.cdf(10.0))
    assert size.below(2.0) is size


def test_size_curve_is_piecewise_linear():
    curve = SizeCurve(((10.0, 0.2), (30.0, 0.6), (40.0, 0.0)))
    assert [curve.at(mm) for mm in (0, 10, 20, 30, 35, 40, 99)] == pytest.approx([0.2, 0.2, 0.4, 0.6, 0.3, 0, 0])


@pytest.mark.parametrize("key", LESION_KEYS)
def test_shapes_keep_their_probability_and_punctate_is_small(key):
    item, rng = PRIORS[key], np.random.default_rng(5)
    drawn = [item.sample_shape_and_size(rng) for _ in range(3000)]
    for shape, p in item.shape.items():
        assert np.mean([s == shape for s, _ in drawn]) == pytest.approx(p, abs=0.035), shape
    if item.punctate_below_mm is not None:
        assert all(mm <= item.punctate_below_mm for shape, mm in drawn if shape == PUNCTATE)
        for mm in (3.0, 9.9, 10.1, 40.0):
            assert math.isclose(sum(item.shapes_at(mm).values()), 1)
    if not item.size_by_shape:
        assert stats.kstest([mm for _, mm in drawn], np.vectorize(item.size.cdf)).pvalue > 0.01


def test_fixed_shape_and_same_seed():
    item = PRIORS["kidney_stone"]
    shape, mm = item.sample_shape_and_size(np.random.default_rng(0), "Irregular")
    assert shape == "Irregular" and mm >= 12
    draws = [[item.sample_shape_and_size(np.random.default_rng(seed)) for seed in range(5)] for _ in range(2)]
    assert draws[0] == draws[1]


def test_density_and_arc_draws():
    rng = np.random.default_rng(1)
    item = PRIORS["bone_metastasis"]
    names = [item.choose_density("Enhanced CT", rng) for _ in range(2000)]
    assert np.mean([part.name == "blastic" for part in names]) == pytest.approx(0.38, abs=0.04)
    assert {part.component for part in names} == {None, "mixed_lytic_blastic"}
    wall = PRIORS["esophageal_cancer"].wall
    arcs = np.array([wall.sample_arc(rng) for _ in range(4000)])
    assert np.mean(arcs >= 0.75) == pytest.approx(0.5, abs=0.04)
    assert arcs.min() >= wall.arc_fraction[0] and arcs.max() == 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[liver_tumor.size]\nparts", "[liver_tumor.size]\ncolour = 1\nparts", ("[liver_tumor.size]", "colour")),
        (
            'probability = { "Round-like" = 0.3,',
            'probability = { "Round-like" = 0.5,',
            ("[liver_tumor.shape]", "sum to"),
        ),
        ("clip_mm = [4, 160]", "clip_mm = [160, 4]", ("[liver_tumor.size]", "low < high")),
        ("clip_mm = [4, 160]", "clip_mm = [4, 4.001]", ("[liver_tumor.size]", "leaves nothing")),
        (
            "low_hu = -95, high_hu = -10",
            "low_hu = -10, high_hu = -95",
            ("[liver_tumor.density.Enhanced CT[0]]", "low_hu"),
        ),
        ('evidence = "measured"', 'evidence = "M"', ("[lung_tumor.size]", "evidence", "measured")),
        ('evidence = "measured"\n', "", ("[lung_tumor.size]", "evidence", "missing")),
        (
            'source = "liver parenchyma around',
            'sauce = "liver parenchyma around',
            ("[liver_tumor.reference]", "source"),
        ),
        ('tissue = { "*" = "lung" }', 'tissue = { "*" = "air" }', ("[lung_tumor.reference", "air", "parenchyma")),
        ('tissue = { "*" = "liver", "Round-like"', 'tissue = { "Round-like"', ("[gallbladder_cancer.reference", "*")),
        ("punctate_below_mm = 10\n", "", ("[lung_tumor.shape]", "punctate_below_mm")),
        (
            "probability = [[10, 0.2], [30, 0.6]]",
            "probability = [[30, 0.6], [10, 0.2]]",
            ("[lung_tumor.spiculation]", "increase"),
        ),
        (
            "probability = [[10, 0.2], [30, 0.6]]",
            "probability = [[10, 1.2], [30, 0.6]]",
            ("[lung_tumor.spiculation", "1.2"),
        ),
        ('kind = "delta"', 'kind = "ratio"', ("[liver_tumor.density", "kind", "ratio")),
        (
            "components = { mottled = 0.6, necrosis = 0.3,",
            "components = { mottled = 0.6, gas = 0.3,",
            ("[lung_tumor.heterogeneity", "gas"),
        ),
        (
            "[liver_cyst.close]\nprobability = 0",
            "[liver_cyst.close]\nprobability = 0.1",
            ("[liver_cyst] close", "benign"),
        ),
        (
            '[gallstone.count]\nprobability = { "1"',
            '[gallstone.count]\nprobability = { "one"',
            ("[gallstone.count]", "one"),
        ),
        ("[bladder_cancer.sites]", "[bladder_cancer.places]", ("[bladder_cancer] sites", "missing")),
        ("[bladder_cancer.wall]", "[bladder_cancer.wand]", ("[bladder_cancer] wall", "missing")),
        ("[kidney_stone.size]", "[toe.size]\nx = 1\n[kidney_stone.size]", ("[toe]", "unknown")),
        ("[kidney_stone.size]", "[kidney_stone.size", ("TOML",)),
        ("median_mm = 12", 'median_mm = "12"', ("[lung_tumor.size.parts[0]]", "median_mm", "number")),
        ('name = "ground_glass"', 'name = "solid"', ("[lung_tumor.density", "twice")),
    ],
)
def test_wrong_files_are_refused_with_table_and_key(changed, old, new, words):
    with pytest.raises(InputError) as caught:
        changed(old, new)
    message = str(caught.value)
    assert "\n" not in message.strip() or "TOML" in message
    for word in (*words, "changed.toml"):
        assert word in message, message


def test_missing_file():
    with pytest.raises(InputError, match="nowhere.toml"):
        load_priors("nowhere.toml")


def test_module_needs_only_the_standard_library():
    source = (PRIORS_FILE.with_name("priors.py")).read_text(encoding="utf-8")
    imported = set(re.findall(r"(?m)^\s*(?:from|import) ([a-z_]+)", source))
    assert imported <= {
        "__future__",
        "math",
        "sys",
        "collections",
        "dataclasses",
        "functools",
        "pathlib",
        "statistics",
        "types",
        "typing",
        "tomllib",
        "tomli",
    }
    assert module.__doc__
