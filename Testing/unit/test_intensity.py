"""HU to network input: the published maps exactly, nnU-Net's as nnU-Net does it, and cards that keep them."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

from PASTALib.errors import InputError
from PASTALib.inference.intensity import PASTA_PIECEWISE, Intensity
from PASTALib.networks.card import PASTA_LABELS, ModelCard

STANDARD = Intensity.standardised(-150.0, 230.0, 83.5, 41.25)


def test_the_published_piecewise_map():
    hu = [-1000, -600, -200, 0, 200, 600, 1000]
    np.testing.assert_allclose(PASTA_PIECEWISE(np.array(hu)), [0, 0.1, 0.2, 0.55, 0.9, 0.95, 1.0], rtol=0, atol=1e-7)
    assert PASTA_PIECEWISE.hu == (-1000, -200, 200, 1000)
    assert PASTA_PIECEWISE.values == (0, 0.2, 0.9, 1)


def test_constant_outside_the_knots():
    np.testing.assert_array_equal(PASTA_PIECEWISE(np.array([-32768, -1024, 1001, 3071, 32767])), [0, 0, 1, 1, 1])


def test_piecewise_linear_everywhere():
    hu = np.arange(-1200, 1201)
    by_hand = np.select(
        [hu < -1000, hu < -200, hu < 200, hu < 1000],
        [0.0 * hu, 0.2 * (hu + 1000) / 800, 0.2 + 0.7 * (hu + 200) / 400, 0.9 + 0.1 * (hu - 200) / 800],
        1.0,
    )
    np.testing.assert_allclose(PASTA_PIECEWISE(hu), by_hand, rtol=0, atol=1e-6)


def test_standardised_by_formula():
    hu = np.array([-2000, -150, 0, 83.5, 230, 3000], np.float32)
    wanted = (np.clip(hu, -150, 230) - 83.5) / 41.25
    np.testing.assert_allclose(STANDARD(hu), wanted, rtol=1e-6)
    assert STANDARD(np.float32(83.5)) == 0


@pytest.mark.skipif(not importlib.util.find_spec("nnunetv2"), reason="nnunetv2 is not installed")
def test_standardised_as_nnunet_does_it():
    from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization

    hu = np.random.default_rng(0).integers(-1024, 3072, (8, 9, 10)).astype(np.int16)
    for mean, std in ((83.5, 41.25), (-57.25, 0.0)):
        properties = {"mean": mean, "std": std, "percentile_00_5": -150.0, "percentile_99_5": 230.0}
        theirs = CTNormalization(use_mask_for_norm=False, intensityproperties=properties).run(hu.copy(), None)
        np.testing.assert_allclose(Intensity.standardised(-150, 230, mean, std)(hu), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("intensity", [PASTA_PIECEWISE, STANDARD])
@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32, np.float64, np.float16])
def test_any_type_and_shape_gives_float32(intensity, kind):
    hu = np.arange(24).reshape(2, 3, 4).astype(kind)
    result = intensity(hu)
    assert result.dtype == np.float32 and result.shape == hu.shape
    np.testing.assert_array_equal(result, intensity(hu.astype(np.int16)))
    assert np.asarray(intensity(hu[0, 0, 0])).shape == ()


def test_the_input_is_left_alone():
    hu = np.array([-3000.0, 3000.0], np.float32)
    PASTA_PIECEWISE(hu)
    STANDARD(hu)
    np.testing.assert_array_equal(hu, [-3000, 3000])


def test_air():
    assert PASTA_PIECEWISE.air == 0
    assert STANDARD.air == pytest.approx((-150 - 83.5) / 41.25)


@pytest.mark.parametrize(
    "fields",
    [
        ((), ()),
        ((0.0,), (1.0,)),
        ((0.0, 1.0), ()),
        ((0.0, 1.0), (0.0, 0.5, 1.0)),
        ((0.0, 0.0), (0.0, 1.0)),
        ((1.0, 0.0), (0.0, 1.0)),
        ((0.0, float("nan")), (0.0, 1.0)),
        ((0.0, float("inf")), (0.0, 1.0)),
        ((0.0, 1.0), (0.0, float("nan"))),
        ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),
        ((0.0, 1.0), (0.0, 0.5, 1.0), (0.0, 1.0)),
        ((0.0, 1.0, 2.0), (), (0.0, 1.0)),
        ((0.0, 1.0), (), (0.0, 0.0)),
        ((0.0, 1.0), (), (0.0, -1.0)),
        ((0.0, 1.0), (), (float("nan"), 1.0)),
        ((0.0, 1.0), (), (0.0, float("inf"))),
    ],
)
def test_maps_that_are_none(fields):
    with pytest.raises(InputError, match="wanted"):
        Intensity(*fields)


@pytest.mark.parametrize("intensity", [PASTA_PIECEWISE, STANDARD, Intensity((-1.5, 0.25), (3.0, -2.0))])
def test_json_round_trip(intensity):
    assert Intensity.from_json(json.loads(json.dumps(intensity.to_json()))) == intensity


@pytest.mark.parametrize(
    "data",
    [None, 3, [], {}, {"hu": 5}, {"hu": ["a", "b"], "values": [0, 1]}, {"hu": [0, 1]}, {"hu": [0, 1], "mean_std": [1]}],
)
def test_json_that_is_no_map(data):
    with pytest.raises(InputError, match="intensity map"):
        Intensity.from_json(data)


# ---------------------------------------------------------------------------------------------------------------
# Cards


FULL = ModelCard(
    name="a model",
    labels={1: "lung", 2: "lung_tumor"},
    lesion="lung_tumor",
    spacing_mm=1.5,
    patch=(96, 128, 160),
    orientation="LAS",
    intensity=STANDARD,
    attribute_orientation="RAS",
    attribute_intensity=Intensity((-1.0, 1.0), (0.0, 2.0)),
    attribute_crop=64,
    trained=False,
    source="somewhere",
    licence="MIT",
    notes=("one", "two"),
)


@pytest.mark.parametrize("card", [ModelCard("plain"), ModelCard("pasta", labels=PASTA_LABELS), FULL])
def test_a_card_comes_back_from_json(card):
    back = ModelCard.from_json(json.loads(json.dumps(card.to_json())))
    assert back == card
    assert all(isinstance(number, int) for number in back.labels)


def test_a_card_keeps_the_published_defaults():
    card = ModelCard.from_json({"card": 1, "name": "x"})
    assert card.intensity == card.attribute_intensity == PASTA_PIECEWISE
    assert (card.orientation, card.attribute_orientation, card.attribute_crop, card.spacing_mm) == ("LPS", "LPS", 96, 1)


def test_notes_are_added():
    assert FULL.with_notes("three", "four").notes == ("one", "two", "three", "four")
    assert FULL.notes == ("one", "two")


@pytest.mark.parametrize(
    "data,wanted",
    [
        (None, "version"),
        ({"name": "x"}, "version"),
        ({"card": 99, "name": "x"}, "version 99"),
        ({"card": 1}, "without a name"),
        ({"card": 1, "name": "x", "colour": "red"}, "unknown colour"),
        ({"card": 1, "name": "x", "orientation": "XYZ"}, "orientation 'XYZ'"),
        ({"card": 1, "name": "x", "attribute_orientation": 5}, "attribute_orientation 5"),
        ({"card": 1, "name": "x", "labels": {"one": "lung"}}, "malformed"),
        ({"card": 1, "name": "x", "labels": 5}, "malformed"),
        ({"card": 1, "name": "x", "intensity": {"hu": [1, 0], "values": [0, 1]}}, "rising"),
    ],
)
def test_cards_that_are_none(data, wanted):
    with pytest.raises(InputError, match=wanted):
        ModelCard.from_json(data)
