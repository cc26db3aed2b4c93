"""Tests of the eight attributes: options, accepted wordings, class numbers, and the structured report's forms."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from PASTALib import attributes, taxonomy
from PASTALib.attributes import AttributeValue, StructuredReport, parse
from PASTALib.errors import InputError
from PASTALib.synthesis import spec

# Extended Data Table 1, word for word.
PAPER = {
    "enhancement": ["Enhanced CT", "Plain CT"],
    "location": [
        "Lung",
        "Liver",
        "Gallbladder",
        "Pancreas",
        "Esophagus",
        "Stomach",
        "Colorectal",
        "Kidney",
        "Bladder",
        "Bone",
    ],
    "size": [],
    "shape": ["Round-like", "Irregular", "Wall thickening", "Punctate, nodular"],
    "density": ["Hypodense", "Isodense", "Hyperdense"],
    "heterogeneity": ["Homogeneous", "Heterogeneous"],
    "surface": ["Well-defined margin", "Ill-defined margin"],
    "invasion": ["No close relationship with surrounding structures", "Close relationship with adjacent structures"],
}
NO, CLOSE = PAPER["invasion"]
OPTIONS = {
    "enhancement": "Enhanced CT",
    "size": "25×25×37 mm",
    "shape": "Round-like",
    "density": "Hypodense",
    "heterogeneity": "Heterogeneous",
    "surface": "Well-defined margin",
    "invasion": NO,
}


def a_report(lesion="kidney_tumor", **changes) -> StructuredReport:
    return StructuredReport.from_options(
        lesion, {**OPTIONS, **changes}, "measured", location_detail="Right kidney" if "kidney" in lesion else ""
    )


# -- the table ---------------------------------------------------------------------------------------------------


def test_table_has_the_papers_options_in_its_order():
    assert {key: list(row.options) for key, row in attributes.TABLE.items()} == PAPER
    assert attributes.ATTRIBUTES == spec.ATTRIBUTES
    assert all(row.key == key and row.title and row.definition for key, row in attributes.TABLE.items())
    assert [attributes.TABLE[key].title for key in attributes.LEARNED] == [
        "Shape",
        "Density",
        "Heterogeneity",
        "Surface",
        "Invasion",
    ]


@pytest.mark.parametrize(
    ("key", "text", "option"),
    [(key, option, option) for key, found in PAPER.items() for option in found]
    + [
        ("invasion", "No close relationship with adjacent structures", NO),
        ("invasion", "no close relationship with surrounding structures.", NO),
        ("invasion", "Close relationship with surrounding structures", CLOSE),
        ("shape", "cystic", "Round-like"),
        ("shape", "ROUND LIKE", "Round-like"),
        ("shape", "punctate nodular", "Punctate, nodular"),
        ("shape", "Punctate/Nodular", "Punctate, nodular"),
        ("shape", "luminal narrowing", "Wall thickening"),
        ("shape", "Protrusion into the lumen", "Round-like"),
        ("density", "hypo-attenuating", "Hypodense"),
        ("density", "Low density", "Hypodense"),
        ("density", "fluid-like", "Hypodense"),
        ("density", "ring enhancement", "Hypodense"),
        ("density", "mixed", "Isodense"),
        ("density", "soft-tissue mass", "Hyperdense"),
        ("density", "peripheral ground-glass", "Hyperdense"),
        ("heterogeneity", "mixed", "Heterogeneous"),
        ("heterogeneity", "decreased density areas", "Heterogeneous"),
        ("heterogeneity", "uniform", "Homogeneous"),
        ("surface", "serosal irregularity", "Ill-defined margin"),
        ("surface", "clear serosal surface", "Well-defined margin"),
        ("surface", "Clear boundary with the renal parenchyma", "Well-defined margin"),
        ("surface", "unclear boundary with the renal parenchyma", "Ill-defined margin"),
        ("surface", "spiculated margins", "Ill-defined margin"),
        ("enhancement", "contrast-enhanced", "Enhanced CT"),
        ("enhancement", "non-contrast CT", "Plain CT"),
        ("location", "colon", "Colorectal"),
        ("location", "Gall", "Gallbladder"),
        ("location", "oesophagus", "Esophagus"),
        ("size", "25x25X37mm", "25×25×37 mm"),
        ("size", "2.5 × 2.5 × 3.7 cm", "25×25×37 mm"),
        ("size", "3.04*4*5.25", "3×4×5.2 mm"),
    ],
)
def test_parse_reads_options_and_synonyms(key, text, option):
    assert parse(key, text) == option


@given(
    st.sampled_from([(key, option) for key, found in PAPER.items() for option in found]),
    st.sampled_from([str.upper, str.lower, str.title, str]),
    st.sampled_from(["", " ", ".", "\t!"]),
    st.sampled_from(["-", " ", "", "_"]),
)
def test_parse_ignores_case_spaces_and_punctuation(item, change, margin, dash):
    key, option = item
    assert parse(key, margin + change(option).replace("-", dash).replace(", ", dash) + margin) == option


def test_every_alias_leads_to_an_option():
    for key, by_option in attributes.ALIASES.items():
        assert set(by_option) == set(PAPER[key])
        for option, aliases in by_option.items():
            assert all(parse(key, word) == option for word in aliases.split(";"))


@pytest.mark.parametrize("text", ["purple", "", "  ", None, 3, "hypodense hyperdense"])
def test_parse_lists_the_options_for_unknown_text(text):
    with pytest.raises(InputError, match='"Hypodense", "Isodense", "Hyperdense"'):
        parse("density", text)


def test_unknown_attribute_lists_the_keys():
    with pytest.raises(InputError, match="enhancement, location, size"):
        parse("colour", "red")


# -- size --------------------------------------------------------------------------------------------------------


@given(st.tuples(*[st.integers(1, 5000)] * 3))
def test_size_round_trip(tenths):
    size = tuple(value / 10 for value in tenths)
    assert attributes.parse_size(attributes.format_size(size)) == pytest.approx(size, abs=1e-9)


def test_size_text():
    assert attributes.format_size((25, 25.04, 37.36)) == "25×25×37.4 mm"
    assert attributes.format_size(np.array([100, 10, 0.01])) == "100×10×0.1 mm"
    assert attributes.parse_size(" 25 x 26.5 × 37 MM ") == (25, 26.5, 37)


@pytest.mark.parametrize(
    "text", ["25 mm", "25x25 mm", "25x25x0 mm", "-1x2x3", "axbxc", "1x2x3 m", "1x2x3x4", None, "nanx1x1"]
)
def test_bad_size_text(text):
    with pytest.raises(InputError, match="Size"):
        attributes.parse_size(text)


@pytest.mark.parametrize("size", [(1, 2), (1, 2, float("nan")), (0, 1, 1), None, ("a", 1, 2)])
def test_bad_size_numbers(size):
    with pytest.raises(InputError, match="Size"):
        attributes.format_size(size)


# -- classes -----------------------------------------------------------------------------------------------------


def test_class_numbers_follow_the_published_order():
    assert [len(attributes.options(key)) for key in attributes.LEARNED] == [4, 3, 2, 2, 2]
    assert a_report().class_indices.tolist() == [0, 0, 1, 0, 0]
    assert a_report().one_hot.tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0]
    assert a_report().one_hot.dtype == np.float32
    for key in attributes.LEARNED:
        for index, option in enumerate(PAPER[key]):
            assert attributes.class_index(key, option) == index
            assert attributes.class_option(key, index) == option


def test_missing_class_is_minus_one_and_all_zero():
    assert attributes.class_indices({"density": "hyper"}).tolist() == [-1, 2, -1, -1, -1]
    assert attributes.one_hot({"density": "hyper"}).sum() == 1


def test_class_errors():
    with pytest.raises(InputError, match="classes 0-2"):
        attributes.class_option("density", 3)
    with pytest.raises(InputError, match="0-3"):
        attributes.class_option("shape", -1)
    with pytest.raises(InputError, match="no classes"):
        attributes.class_index("size", "1x1x1")


# -- the report --------------------------------------------------------------------------------------------------


def test_report_keeps_the_papers_spelling_and_order():
    report = StructuredReport(
        "kidney_tumor",
        {
            "invasion": AttributeValue("no close relationship with adjacent structures", "measured"),
            "shape": AttributeValue("round", "predicted", 0.9),
        },
        requested={"shape": "oval"},
    )
    assert list(report.values) == ["location", "shape", "invasion"]
    assert report.value("invasion") == NO and report.value("shape") == "Round-like"
    assert report.location == "Kidney" and report.value("location") == "Kidney"
    assert report.requested == {"shape": "Round-like"}
    assert report.size_mm is None and report.value("size") is None
    assert a_report().size_mm == (25, 25, 37)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kidney", {}), "unknown lesion type 'kidney'.*kidney_stone"),
        (("kidney_cyst", {"colour": AttributeValue("red", "edited")}), "unknown attribute 'colour'"),
        (("kidney_cyst", {"shape": AttributeValue("square", "edited")}), "Shape 'square' is not known"),
        (("kidney_cyst", {"shape": "Irregular"}), "must be an AttributeValue"),
        (("kidney_cyst", {"location": AttributeValue("Liver", "edited")}), "'Liver' does not fit"),
        (("kidney_cyst", {}, "", {"location": "Liver"}), "'Liver' does not fit"),
        (("kidney_cyst", {}, "", {"density": "light"}), "Density 'light'"),
        (("kidney_cyst", {}, 3), "must be text"),
    ],
)
def test_report_refuses_what_is_wrong(arguments, message):
    with pytest.raises(InputError, match=message):
        StructuredReport(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Isodense", "guessed"), "basis 'guessed'"),
        (("Isodense", "predicted", 1.5), "between 0 and 1"),
        (("Isodense", "predicted", float("nan")), "between 0 and 1"),
        (("Isodense", "predicted", "0.5"), "must be a number"),
        (("Isodense", "measured", None, {"x": [1]}), "figure x"),
        (("Isodense", "measured", None, [1]), "dictionary"),
    ],
)
def test_attribute_value_refuses_what_is_wrong(arguments, message):
    with pytest.raises(InputError, match=message):
        AttributeValue(*arguments)


def test_attribute_value_takes_numpy_numbers_and_drops_what_is_not_finite():
    value = AttributeValue("Isodense", "measured", np.float32(0.25), {"a_hu": np.float64(1 / 3), "b": float("inf")})
    assert value.confidence == 0.25 and type(value.confidence) is float
    assert value.figure == {"a_hu": 0.333333}
    assert AttributeValue("Isodense", "measured", figure={"b": float("nan")}).figure is None


def test_with_value_marks_the_edit_and_leaves_the_original():
    report = a_report()
    edited = report.with_value("surface", "unclear")
    assert edited.values["surface"] == AttributeValue("Ill-defined margin", "edited")
    assert report.value("surface") == "Well-defined margin"
    predicted = edited.with_value("density", "iso", "predicted", 0.8)
    assert predicted.values["density"].confidence == 0.8


def test_from_measurement_reports_what_was_measured_and_marks_what_was_only_requested():
    measurement = spec.Measurement(
        size_zxy_mm=(10.04, 12, 11),
        values={"shape": "Irregular", "density": "Hypodense"},
        ambiguous=(),
        figures={"density_delta_hu": -31.23456789, "sphericity": 0.8, "voxels": 100.0},
    )
    requested = {
        "shape": "Round-like",
        "surface": "ill-defined",
        "size": (10, 12, 11),
        "density_delta_hu": -30,
        "density": None,
    }
    report = StructuredReport.from_measurement(
        "liver_tumor", measurement, enhancement="Enhanced CT", requested=requested, location_detail="Right lobe"
    )
    assert report.values["size"] == AttributeValue("10×12×11 mm", "measured")
    assert report.values["density"] == AttributeValue("Hypodense", "measured", figure={"density_delta_hu": -31.2346})
    assert report.values["shape"].figure == {"sphericity": 0.8}
    assert report.values["surface"] == AttributeValue("Ill-defined margin", "requested")
    assert "heterogeneity" not in report.values
    assert report.requested == {"size": "10×12×11 mm", "shape": "Round-like", "surface": "Ill-defined margin"}
    assert report.deviations == {"shape": ("Round-like", "Irregular")}


# -- JSON --------------------------------------------------------------------------------------------------------

numbers = st.floats(-1e9, 1e9)
entries = st.fixed_dictionaries(
    {},
    optional={
        key: st.builds(
            AttributeValue,
            st.sampled_from(options) if options else st.just("3×4.5×100 mm"),
            st.sampled_from(attributes.BASES),
            st.none() | st.floats(0, 1),
            st.none() | st.dictionaries(st.text(max_size=8), numbers, max_size=3),
        )
        for key, options in PAPER.items()
        if key != "location"
    },
)
wanted = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(options) for key, options in PAPER.items() if options and key != "location"}
)
reports = st.builds(StructuredReport, st.sampled_from(taxonomy.LESION_KEYS), entries, st.text(max_size=20), wanted)


@given(reports)
def test_json_round_trip_is_exact(report):
    data = report.to_json()
    text = json.dumps(data, allow_nan=False)
    assert StructuredReport.from_json(data) == report
    assert StructuredReport.from_json(text) == report
    assert StructuredReport.from_json(text).to_json() == data


@given(reports)
def test_every_report_can_be_put_into_words(report):
    assert report.to_sentence().endswith(".")
    assert len(report.to_text().splitlines()) >= 10


def test_json_schema_is_stable():
    report = StructuredReport(
        "liver_cyst", {"density": AttributeValue("Hypodense", "predicted", 0.75, {"density_delta_hu": -80})}
    )
    assert report.to_json() == {
        "schema": "pasta-structured-report",
        "version": 1,
        "lesion": "liver_cyst",
        "location_detail": "",
        "attributes": {
            "location": {"value": "Liver", "basis": "predicted"},
            "density": {
                "value": "Hypodense",
                "basis": "predicted",
                "confidence": 0.75,
                "figure": {"density_delta_hu": -80.0},
            },
        },
        "requested": {},
    }


def broken(**changes):
    return {key: value for key, value in {**a_report().to_json(), **changes}.items() if value is not ...}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "found list"),
        (None, "found NoneType"),
        ({}, '"schema" is None'),
        (broken(schema="other"), "\"schema\" is 'other'"),
        (broken(version=2), "version 2.*reads version 1"),
        (broken(version=...), "version None"),
        (broken(lesion=...), 'without "lesion"'),
        (broken(lesion="wart"), "unknown lesion type 'wart'"),
        (broken(lesion=["x"]), "unknown lesion type"),
        (broken(attributes=[]), '"attributes": found list'),
        (broken(attributes={"shape": "Irregular"}), '"shape": found str|"shape": not valid JSON'),
        (broken(attributes={"shape": {"value": "Irregular"}}), '"shape": basis missing'),
        (broken(attributes={"shape": {"value": "Oblong", "basis": "edited"}}), "Shape 'Oblong'"),
        (
            broken(attributes={"shape": {"value": "Irregular", "basis": "edited", "confidence": "high"}}),
            "must be a number",
        ),
        (broken(attributes={"shape": {"value": ["Irregular"], "basis": "edited"}}), "is not known"),
        (broken(attributes={"shape": {"value": "Irregular", "basis": ["edited"]}}), "basis"),
        (broken(requested="x"), '"requested"'),
        (broken(location_detail=None), "must be text"),
    ],
)
def test_malformed_json_is_an_input_error(data, message):
    with pytest.raises(InputError, match=message):
        StructuredReport.from_json(data)


# -- text --------------------------------------------------------------------------------------------------------


def test_sentence():
    assert a_report().to_sentence() == (
        "Enhanced CT: in the right kidney a 25×25×37 mm (Z×X×Y) round-like, hypodense, heterogeneous lesion (kidney tumor) "
        "with well-defined margin; no close relationship with surrounding structures. All values measured."
    )


def test_sentence_tells_sources_confidence_and_deviations():
    report = StructuredReport(
        "bone_metastasis",
        {
            "size": AttributeValue("8×9×9 mm", "measured"),
            "shape": AttributeValue("Punctate, nodular", "predicted", 0.876),
            "density": AttributeValue("Hyperdense", "edited"),
        },
        "L3 vertebra",
        {"density": "Hypodense"},
    )
    assert report.to_sentence() == (
        "CT: in the L3 vertebra an 8×9×9 mm (Z×X×Y) punctate/nodular, hyperdense lesion (bone metastasis). "
        "Measured: location, size; predicted: shape (88%); edited: density; requested density was hypodense."
    )


@pytest.mark.parametrize(
    ("report", "beginning"),
    [
        (
            a_report("gastric_cancer", shape="wall thickening", size="11x30x30"),
            "Enhanced CT: in the stomach an 11×30×30 mm (Z×X×Y) wall-thickening,",
        ),
        (a_report("colorectal_cancer", size="18x20x20"), "Enhanced CT: in the colon and rectum an 18×20×20 mm"),
        (a_report("bone_metastasis"), "Enhanced CT: in bone a 25×25×37 mm"),
        (StructuredReport("liver_tumor"), "CT: in the liver a lesion (liver tumor)."),
        (
            StructuredReport.from_options("lung_tumor", {"shape": "Irregular"}, "edited"),
            "CT: in the lung an irregular lesion",
        ),
    ],
)
def test_sentence_reads_well_elsewhere(report, beginning):
    assert report.to_sentence().startswith(beginning)


def test_text_table():
    report = a_report().with_value("density", "Hyperdense", "predicted", 0.5)
    lines = report.to_text().splitlines()
    assert lines[0] == "Kidney tumor"
    assert lines[1].split() == ["Attribute", "Value", "Basis", "Confidence"]
    assert len(lines) == 10 and all(line == line.rstrip() for line in lines)
    assert "Location            Kidney (Right kidney)" in lines[3]
    assert lines[6].split() == ["Density", "Hyperdense", "predicted", "0.50"]
    assert "not known" in StructuredReport("liver_cyst").to_text()


# -- the published type.json -------------------------------------------------------------------------------------

FIVE = {
    "Shape": "Irregular",
    "Density": "Hyperdense",
    "Heterogeneity": "Homogeneous",
    "Surface": "Ill-defined margin",
    "Invasion": "No close relationship with adjacent structures",
}


def test_type_json_is_written_as_the_published_loader_reads_it():
    data = json.loads(json.dumps(a_report().to_type_json()))
    assert list(data) == ["2"]
    published = {
        "Shape": ["Round-like", "Irregular", "Wall thickening", "Punctate, nodular"],
        "Density": ["Hypodense", "Isodense", "Hyperdense"],
        "Heterogeneity": ["Homogeneous", "Heterogeneous"],
        "Surface": ["Well-defined margin", "Ill-defined margin"],
        "Invasion": ["No close relationship with adjacent structures", "Close relationship with adjacent structures"],
    }
    first = data[next(iter(data))]
    indices = [published[key].index(first[key]) for key in published]
    assert indices == a_report().class_indices.tolist()
    assert {key: first[key] for key in ("Enhancement", "Location", "Size")} == {
        "Enhancement": "Enhanced CT",
        "Location": "Kidney",
        "Size": "25×25×37 mm",
    }


@pytest.mark.parametrize("lesion", taxonomy.LESION_KEYS)
def test_type_json_round_trip(lesion):
    report = a_report(lesion, invasion="close", shape="Irregular")
    back = StructuredReport.from_type_json(report.to_type_json(), lesion)
    assert back.options == report.options
    assert {entry.basis for entry in back.values.values()} == {"requested"}


def test_published_type_json_of_several_lung_lobes():
    text = json.dumps({"14": FIVE, "13": {**FIVE, "Shape": "Round-like"}, "17": FIVE}, indent=4)
    report = StructuredReport.from_type_json(text)
    assert report.lesion == "lung_tumor" and report.location_detail == "Left lower lobe of the lung"
    assert report.value("shape") == "Irregular" and report.value("invasion") == NO
    assert report.class_indices.tolist() == [1, 2, 0, 1, 0]
    assert report.size_mm is None


def test_type_json_of_several_lesions_puts_the_main_one_first_and_keeps_the_first_of_an_organ():
    main, twin, other = a_report(), a_report("kidney_stone", shape="punctate"), a_report("liver_cyst")
    data = attributes.type_json([main, twin, other])
    assert list(data) == ["2", "5"] and data["2"]["Shape"] == "Round-like"


def test_type_json_needs_the_five():
    with pytest.raises(InputError, match="liver_cyst needs shape, density"):
        StructuredReport("liver_cyst").to_type_json()


@pytest.mark.parametrize(
    ("data", "lesion", "message"),
    [
        ({}, None, "empty"),
        ("", None, "not valid JSON"),
        ({"7": FIVE}, None, "organ id '7'"),
        ({"kidney": FIVE}, None, "organ id 'kidney'"),
        ({"-2": FIVE}, None, "organ id '-2'"),
        ({"²": FIVE}, None, "organ id"),
        ({"2": FIVE}, None, "kidney_tumor, kidney_cyst, kidney_stone"),
        ({"2": FIVE}, "liver_cyst", "'Kidney' does not fit"),
        ({"5": []}, "liver_cyst", "found list"),
        ({"5": {"Color": "red"}}, "liver_cyst", "holds none of Shape"),
        ({"5": {**FIVE, "Shape": "Oblong"}}, "liver_cyst", "Shape 'Oblong'"),
    ],
)
def test_bad_type_json(data, lesion, message):
    with pytest.raises(InputError, match=message):
        StructuredReport.from_type_json(data, lesion)


def test_organ_ids_are_totalsegmentator_version_1():
    ids = attributes.ORGAN_IDS
    known = {2: "kidney_right", 3: "kidney_left", 13: "lung_upper_lobe_left", 17: "lung_lower_lobe_right"}
    known |= {18: "vertebrae_L5", 22: "vertebrae_L1", 23: "vertebrae_T12", 34: "vertebrae_T1", 41: "vertebrae_C1"}
    known |= {42: "esophagus", 57: "colon", 58: "rib_left_1", 70: "rib_right_1", 81: "rib_right_12"}
    known |= {82: "humerus_left", 91: "hip_right", 92: "sacrum", 104: "urinary_bladder"}
    assert {number: ids[number] for number in known} == known
    assert len(ids) == 6 + 5 + 24 + 2 + 24 + 10 + 2
    assert {attributes.organ_of_id(number).key for number in ids} == set(taxonomy.ORGAN_KEYS)


def test_organ_ids_match_the_real_map(real_data):
    path = real_data / "cases" / "S01_ts_torso" / "organs_ts104_labels.json"
    names = json.loads(path.read_text())
    assert all(names[str(number)] == name for number, name in attributes.ORGAN_IDS.items())


@pytest.mark.parametrize(
    ("organ", "detail", "number"),
    [
        ("kidney", "Right kidney", 2),
        ("kidney", "left Kidney, upper pole", 3),
        ("kidney", "", 2),
        ("lung", "Right upper lobe", 15),
        ("lung", "Left lung, lower lobe", 14),
        ("lung", "lung_middle_lobe_right", 16),
        ("lung", "Left lower lobe of the lung", 14),
        ("lung", "Right lung", 15),
        ("lung", "somewhere", 13),
        ("bone", "Right femur", 89),
        ("bone", "Left clavicle", 86),
        ("bone", "L3 vertebra", 20),
        ("bone", "vertebrae_T1", 34),
        ("bone", "5th left rib", 62),
        ("bone", "Sacrum", 92),
        ("bone", "", 18),
        ("liver", "Segment IV", 5),
        ("bladder", "left wall", 104),
    ],
)
def test_organ_id_is_chosen_by_the_place(organ, detail, number):
    assert attributes.organ_id_of(organ, detail) == number


@pytest.mark.parametrize("number", attributes.ORGAN_IDS)
def test_every_organ_id_survives_a_round_trip(number):
    lesion = taxonomy.lesions_of(attributes.organ_of_id(number).key)[0].key
    report = StructuredReport.from_type_json({str(number): FIVE}, lesion)
    assert list(report.to_type_json()) == [str(number)]
