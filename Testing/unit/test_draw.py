"""From a request to one concrete lesion: every allowed option can be asked for, everything impossible is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from PASTALib import attributes, taxonomy
from PASTALib.errors import InputError
from PASTALib.synthesis.draw import allowed_options, check_request, clear_of_dead_zone, density_label, draw_lesion
from PASTALib.synthesis.generator import synthesise
from PASTALib.synthesis.placement import capacity_mm
from PASTALib.synthesis.spec import LesionRequest

TYPES = taxonomy.LESION_KEYS
BENIGN = [lesion.key for lesion in taxonomy.LESIONS if not lesion.malignant]
NO_WALL = [lesion.key for lesion in taxonomy.LESIONS if not (lesion.malignant and taxonomy.organ(lesion.organ).hollow)]


def draw(scan, request, seed=0):
    return draw_lesion(np.random.default_rng(seed), request, scan, capacity_mm(scan, request.lesion))


def refusal(call, *arguments) -> str:
    """The message of the InputError that ``call`` must raise; one line."""
    with pytest.raises(InputError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert 10 < len(message) < 400
    return message


@pytest.mark.parametrize("lesion", TYPES)
def test_allowed_options_are_those_of_the_report(lesion):
    allowed = allowed_options(lesion)
    assert set(allowed) == {"shape", "density", "heterogeneity", "surface", "invasion"}
    for key, options in allowed.items():
        assert options
        assert set(options) <= set(attributes.options(key))


@pytest.mark.parametrize("lesion", TYPES)
def test_every_allowed_option_can_be_asked_for(prepared_of, lesion):
    scan = prepared_of(lesion)
    for key, options in allowed_options(lesion, scan.phase).items():
        for option in options:
            got = draw(scan, LesionRequest(lesion, attributes={key: option}), seed=3)
            assert got.options[key] == option


@pytest.mark.parametrize("lesion", TYPES)
def test_open_attributes_are_drawn_from_what_the_type_can_be(prepared_of, lesion):
    scan = prepared_of(lesion)
    allowed = allowed_options(lesion, scan.phase)
    for seed in range(4):
        got = draw(scan, LesionRequest(lesion), seed)
        for key, option in got.options.items():
            assert option in allowed[key], f"{key} was drawn as {option!r}"
        assert all(np.isfinite(got.size_zyx_mm)) and min(got.size_zyx_mm) > 0
        assert (got.wall is not None) == (got.options["shape"] == "Wall thickening")


def test_all_options_of_a_type_together(prepared_enhanced):
    wanted = {
        "shape": "Irregular",
        "density": "Isodense",
        "heterogeneity": "Heterogeneous",
        "surface": "Ill-defined margin",
        "invasion": "Close relationship with adjacent structures",
    }
    assert draw(prepared_enhanced, LesionRequest("liver_tumor", attributes=wanted)).options == wanted


def test_synonyms_are_understood(prepared_enhanced):
    request = LesionRequest("liver_tumor", attributes={"density": "low density", "surface": "blurred"})
    assert check_request(request) == {"density": "Hypodense", "surface": "Ill-defined margin"}
    got = draw(prepared_enhanced, request)
    assert (got.options["density"], got.options["surface"], got.ill) == ("Hypodense", "Ill-defined margin", True)


@pytest.mark.parametrize("seed", range(4))
def test_the_size_asked_for_is_drawn(prepared_enhanced, seed):
    got = draw(prepared_enhanced, LesionRequest("liver_tumor", size_mm=(24, 36, 30)), seed)
    assert got.size_zyx_mm == (24, 30, 36), "a request is (z, x, y), a draw (z, y, x)"


@pytest.mark.parametrize("lesion", ["liver_tumor", "gallstone", "esophageal_cancer", "kidney_cyst"])
def test_same_generator_same_draw(prepared_enhanced, lesion):
    first, again, other = (pickle.dumps(draw(prepared_enhanced, LesionRequest(lesion), seed)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_punctate_draws_are_small(prepared_of):
    for lesion in ("lung_tumor", "bone_metastasis", "gallstone", "kidney_stone"):
        for seed in range(5):
            got = draw(prepared_of(lesion), LesionRequest(lesion, attributes={"shape": "Punctate, nodular"}), seed)
            assert max(got.size_zyx_mm) <= 10


@pytest.mark.parametrize("lesion", ["liver_tumor", "pancreas_tumor", "bone_metastasis", "esophageal_cancer"])
def test_drawn_differences_stay_out_of_the_dead_zone(prepared_enhanced, lesion):
    for seed in range(12):
        got = draw(prepared_enhanced, LesionRequest(lesion), seed)
        if got.density_kind == "delta":
            assert not 8.01 < abs(got.density_hu) < 17.99


@pytest.mark.parametrize(
    "delta,label", [(-40, "Hypodense"), (-9, "Isodense"), (0, "Isodense"), (9, "Isodense"), (40, "Hyperdense")]
)
def test_density_label(delta, label):
    assert density_label(delta) == label
    assert clear_of_dead_zone(delta, None) == pytest.approx(delta, abs=1.01)


@pytest.mark.parametrize("label,limit", [("Isodense", 8), ("Hyperdense", 18), (None, 8)])
def test_the_dead_zone_moves_to_the_end_that_is_asked_for(label, limit):
    assert clear_of_dead_zone(9.5, label) == limit
    assert clear_of_dead_zone(-9.5, label) == -limit


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lesion", NO_WALL)
def test_wall_thickening_needs_a_wall(lesion):
    message = refusal(check_request, LesionRequest(lesion, attributes={"shape": "Wall thickening"}))
    assert taxonomy.lesion(lesion).name.lower() in message
    assert "Wall thickening" in message
    assert "Round-like" in message, "the message must list what is possible"


@pytest.mark.parametrize("lesion", BENIGN)
def test_benign_lesions_do_not_invade(lesion):
    wanted = {"invasion": "Close relationship with adjacent structures"}
    assert "invasion" in refusal(check_request, LesionRequest(lesion, attributes=wanted))


def test_punctate_at_twenty_millimetres():
    request = LesionRequest("lung_tumor", attributes={"shape": "Punctate, nodular"}, size_mm=(20, 20, 20))
    message = refusal(check_request, request)
    assert "10 mm" in message and "20 mm" in message


def test_density_option_and_hu_together():
    request = LesionRequest("liver_tumor", attributes={"density": "Hypodense"}, density_delta_hu=-40.0)
    refusal(check_request, request)


@pytest.mark.parametrize("size", [(0, 10, 10), (10, -3, 10), (10, float("nan"), 10), (10, 10, 400), (10, 10)])
def test_unusable_sizes(size):
    assert "mm" in refusal(check_request, LesionRequest("liver_tumor", size_mm=size))


@pytest.mark.parametrize(
    "key,text", [("density", "purple"), ("colour", "red"), ("size", "10x10x10"), ("enhancement", "Plain CT")]
)
def test_unknown_attributes_and_options(key, text):
    refusal(check_request, LesionRequest("liver_tumor", attributes={key: text}))


@pytest.mark.parametrize(
    "lesion,size",
    [
        ("liver_tumor", (240, 240, 240)),
        ("kidney_stone", (60, 60, 60)),
        ("gallstone", (90, 90, 90)),
        ("esophageal_cancer", (120, 120, 120)),
    ],
)
def test_a_lesion_larger_than_its_organ(prepared_of, lesion, size):
    message = refusal(synthesise, prepared_of(lesion), LesionRequest(lesion, size_mm=size))
    assert "smaller" in message and "mm" in message


def test_unknown_lesion_type(prepared_enhanced):
    assert "liver_tumor" in refusal(synthesise, prepared_enhanced, LesionRequest("liver_tumour"))


@pytest.mark.parametrize("lesion", ["liver_cyst", "kidney_cyst"])
def test_an_isodense_cyst_after_contrast(prepared_enhanced, lesion):
    assert "density" in refusal(
        synthesise, prepared_enhanced, LesionRequest(lesion, attributes={"density": "Isodense"}, max_tries=3)
    )


@pytest.mark.parametrize("lesion,delta", [("kidney_stone", -60.0), ("lung_tumor", -60.0), ("liver_cyst", 60.0)])
def test_a_difference_in_hu_that_the_type_cannot_have(prepared_of, lesion, delta):
    request = LesionRequest(lesion, density_delta_hu=delta, max_tries=3)
    assert "HU" in refusal(synthesise, prepared_of(lesion), request)
