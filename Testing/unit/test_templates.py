"""Tests of the template rules: scan range, contrast phase, healthy organs in reports, and the whole check."""

from __future__ import annotations

import numpy as np
import pytest

from PASTALib import taxonomy, templates
from PASTALib.anatomy import organ_classes
from PASTALib.anatomy.report_text import impression, organ_mention
from PASTALib.errors import InputError
from PASTALib.organs import OrganMap, from_labels, read_organs
from PASTALib.volume import Volume, read_volume

AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])
IDS = {name: value for value, name in organ_classes.table("totalseg-v2").items()}


def scan(hu: dict[str, float], size: int = 6) -> tuple[Volume, OrganMap]:
    """A CT and its v2 map: one cube of ``size``³ voxels of 16 mm³ per class, filled with the HU given; air-like fat around."""
    array = np.zeros((size + 4, size + 4, (size + 2) * len(hu) + 2), np.uint8)
    ct = np.full(array.shape, -100, np.int16)
    for number, (name, value) in enumerate(hu.items()):
        start = 2 + number * (size + 2)
        box = (slice(2, 2 + size), slice(2, 2 + size), slice(start, start + size))
        array[box], ct[box] = IDS[name], value
    return Volume(ct, AFFINE), from_labels(Volume(array, AFFINE), "totalseg-v2")


def with_names(*names: str) -> OrganMap:
    return scan(dict.fromkeys(names, 40))[1]


# --- scan range ---

LOBES = ("lung_upper_lobe_left", "lung_upper_lobe_right")


@pytest.mark.parametrize(
    ("names", "study"),
    [
        (("vertebrae_T1", *LOBES), templates.CHEST),
        (("vertebrae_T1", *LOBES, "vertebrae_T8"), templates.CHEST),
        (("vertebrae_T1", *LOBES, "vertebrae_L5"), templates.OTHER),
        (("vertebrae_T1", "lung_upper_lobe_left"), templates.OTHER),
        (("vertebrae_T8", "urinary_bladder"), templates.ABDOMEN_PELVIS),
        (("vertebrae_T8", "urinary_bladder", "vertebrae_T1"), templates.OTHER),
        (("vertebrae_T9", "urinary_bladder"), templates.OTHER),
        (("vertebrae_T1", *LOBES, "urinary_bladder", "vertebrae_L5"), templates.THORAX_ABDOMEN_PELVIS),
        (("vertebrae_T1", *LOBES, "urinary_bladder"), templates.THORAX_ABDOMEN_PELVIS),
    ],
)
def test_study_types_of_the_paper(names, study):
    result = templates.scan_range(with_names(*names))
    assert result.study == study and result.reason


def test_stray_voxels_are_not_a_landmark():
    organs = with_names("vertebrae_T8", "urinary_bladder")
    organs.structures.array[0, 0, 0] = IDS["vertebrae_T1"]
    organs.structure_names[IDS["vertebrae_T1"]] = "vertebrae_T1"
    assert templates.scan_range(organs).study == templates.ABDOMEN_PELVIS


def test_pasta_map_cannot_tell_the_range():
    organs = OrganMap(with_names("liver").labels)
    assert templates.scan_range(organs).study == templates.UNKNOWN


# --- phase ---


@pytest.mark.parametrize(
    ("aorta", "cava", "phase"),
    [
        (40, 40, taxonomy.PLAIN),
        (79, 79, taxonomy.PLAIN),
        (80, 40, taxonomy.ENHANCED),
        (40, 80, taxonomy.ENHANCED),
        (300, 60, taxonomy.ENHANCED),
        (150, 150, taxonomy.ENHANCED),
    ],
)
def test_phase_from_both_vessels(aorta, cava, phase):
    result = templates.contrast_phase(*scan({"aorta": aorta, "inferior_vena_cava": cava, "liver": 50}))
    assert result.phase == phase and not result.estimated
    assert result.evidence == {"aorta": aorta, "inferior_vena_cava": cava}


def test_partial_volume_at_the_vessel_wall_does_not_count():
    ct, organs = scan({"aorta": 100, "inferior_vena_cava": 60})
    aorta = organs.structure_mask("aorta")
    rim = aorta.copy()
    z, y, x = (int(v) for v in np.argwhere(aorta).min(0))
    rim[z + 1 : z + 5, y + 1 : y + 5, x + 1 : x + 5] = False
    ct.array[rim] = -100  # the whole mask now averages below 80 HU
    assert ct.array[aorta].mean() < 80
    assert templates.contrast_phase(ct, organs).phase == taxonomy.ENHANCED


def test_one_vessel_decides_and_is_named():
    result = templates.contrast_phase(*scan({"aorta": 45, "liver": 110}))
    assert result.phase == taxonomy.PLAIN and "inferior vena cava is not in the organ map" in result.reason


def test_organs_stand_in_for_missing_vessels():
    for hu, phase in (
        ({"kidney_right": 30, "liver": 55}, taxonomy.PLAIN),
        ({"kidney_right": 140, "liver": 62}, taxonomy.ENHANCED),
    ):
        result = templates.contrast_phase(*scan(hu))
        assert result.phase == phase and result.estimated and "estimated" in result.reason


def test_unknown_phase_says_so():
    result = templates.contrast_phase(*scan({"lung_upper_lobe_left": -800}))
    assert result.phase == templates.UNKNOWN and result.reason


def test_phase_refuses_another_grid():
    ct, organs = scan({"aorta": 40})
    with pytest.raises(InputError, match="grid"):
        templates.contrast_phase(Volume(ct.array[1:], AFFINE), organs)


@pytest.mark.parametrize(
    ("case", "file", "phase", "estimated"),
    [
        ("S01_ts_torso", "organs_ts104.nii.gz", taxonomy.PLAIN, False),
        ("S01_ts_torso/small_fixture", "organs_ts117.nii.gz", taxonomy.PLAIN, False),
        ("S01_ts_torso", "organs.nii.gz", taxonomy.PLAIN, True),
        ("S02_hcc006", "organs.nii.gz", taxonomy.ENHANCED, True),
    ],
)
def test_phase_of_the_real_scans(real_data, case, file, phase, estimated):
    folder = real_data / "cases" / case
    result = templates.contrast_phase(read_volume(folder / "ct.nii.gz"), read_organs(folder / file))
    assert (result.phase, result.estimated) == (phase, estimated)


# --- report text: text, organ, mentioned literally, mentioned when negation is understood ---

MENTIONS = [
    ("No focal liver lesion.", "liver", True, False),
    ("Liver: normal.", "liver", True, False),
    ("The liver is unremarkable.", "liver", True, False),
    ("Unremarkable liver, spleen and pancreas.", "pancreas", True, False),
    ("Liver, gallbladder and pancreas are unremarkable.", "liver", True, False),
    ("Liver, gallbladder and pancreas are unremarkable.", "gallbladder", True, False),
    ("No evidence of metastatic disease in the liver, lungs or bones.", "bone", True, False),
    ("No mass in the liver, spleen, pancreas, adrenals or kidneys.", "kidney", True, False),
    ("No mass in the liver, spleen and kidneys.", "liver", True, False),
    ("Kidneys: no hydronephrosis, no stones.", "kidney", True, False),
    ("Gallbladder without stones.", "gallbladder", True, False),
    ("No gallstones.", "gallbladder", True, False),
    ("Lungs are clear.", "lung", True, False),
    ("Both lungs are grossly clear.", "lung", True, False),
    ("Normal appearance of the stomach.", "stomach", True, False),
    ("No renal mass or stone is seen.", "kidney", True, False),
    ("Urinary bladder within normal limits.", "bladder", True, False),
    ("No suspicious osseous lesion.", "bone", True, False),
    ("There is no evidence of bone metastasis.", "bone", True, False),
    ("No liver mass, spleen and kidneys are unremarkable.", "kidney", True, False),
    ("1. Unremarkable kidneys.\n2. Mass in the pancreatic head.", "kidney", True, False),
    ("1. Unremarkable kidneys.\n2. Mass in the pancreatic head.", "pancreas", True, True),
    ("No liver lesion, but a renal mass is seen.", "liver", True, False),
    ("No liver lesion, but a renal mass is seen.", "kidney", True, True),
    ("Hypodense liver lesion in segment VI.", "liver", True, True),
    ("No change in the liver mass.", "liver", True, True),
    ("No significant interval change of the hepatic cysts.", "liver", True, True),
    ("Stable liver lesion, no new lesion.", "liver", True, True),
    ("Liver is normal except for a 12 mm cyst.", "liver", True, True),
    ("Liver is normal in size with multiple hypodense lesions.", "liver", True, True),
    ("Liver otherwise unremarkable.", "liver", True, True),
    ("Unremarkable liver with simple cyst.", "liver", True, True),
    ("Not normal liver.", "liver", True, True),
    ("Abnormal liver.", "liver", True, True),
    ("Enlarged liver without focal lesion.", "liver", True, True),
    ("No lesion other than the known liver metastasis.", "liver", True, True),
    ("Liver metastases cannot be excluded.", "liver", True, True),
    ("No fracture, liver laceration.", "liver", True, True),
    ("Cirrhosis.", "liver", True, True),
    ("Cholelithiasis without cholecystitis.", "gallbladder", True, True),
    ("Status post cholecystectomy.", "gallbladder", True, True),
    ("The kidney is not enlarged, a 3 cm mass is seen.", "kidney", True, True),
    ("No pneumothorax. Left lung nodule.", "lung", True, True),
    ("No hydronephrosis; 5 mm right kidney stone.", "kidney", True, True),
    ("No free fluid, 2 cm cyst in the left kidney.", "kidney", True, True),
    ("No liver mass, small kidney cyst.", "kidney", True, True),
    ("Kidney stones, none obstructing.", "kidney", True, True),
    ("Pancreas: 2 cm mass, no ductal dilatation.", "pancreas", True, True),
    ("No bowel obstruction. Sigmoid wall thickening.", "colorectum", True, True),
    (
        "Without evidence of liver or lung metastases, the primary in the sigmoid colon is unchanged.",
        "colorectum",
        True,
        True,
    ),
    # cautious: a human would clear these, the program keeps them as mentions
    ("Liver unremarkable, small kidney cyst.", "liver", True, True),
    ("Neither lung shows a nodule.", "lung", True, True),
    # words that only look like the organ
    ("Gallbladder carcinoma.", "bladder", False, False),
    ("Gall bladder stone.", "bladder", False, False),
    ("Left adrenal adenoma.", "kidney", False, False),
    ("Cyst in the right hepatic lobe.", "lung", False, False),
    ("CT abdomen and pelvis: appendix removed.", "bone", False, False),
    ("No acute findings.", "liver", False, False),
]


@pytest.mark.parametrize(("text", "organ", "literal", "aware"), MENTIONS)
def test_mentions(text, organ, literal, aware):
    assert (organ_mention(text, organ) is not None) == literal
    assert (organ_mention(text, organ, negation_aware=True) is not None) == aware


def test_negation_awareness_never_adds_a_mention():
    assert all(literal or not aware for _, _, literal, aware in MENTIONS)


@pytest.mark.parametrize("organ", taxonomy.ORGAN_KEYS)
def test_every_keyword_of_an_organ_is_found_and_plain_disease_stays_a_mention(organ):
    for keyword in taxonomy.organ(organ).keywords:
        sentence = (
            f"Mass of the {keyword}." if keyword not in ("pelvis", "nephro") else "Mass of the bony pelvis, kidney."
        )
        if keyword == "nephro":
            continue
        assert organ_mention(sentence, organ), keyword
        assert organ_mention(sentence, organ, negation_aware=True), keyword


def test_only_the_impression_is_searched():
    report = "FINDINGS: Liver mass.\nIMPRESSION:\nNo acute abnormality.\nRECOMMENDATION: liver MRI"
    assert impression(report).strip() == "No acute abnormality."
    assert organ_mention(report, "liver") is None
    assert organ_mention("Findings: normal.\nImpression: 1. Liver mass.", "liver")


# --- healthy organ and template ---


def test_healthy_organ_needs_more_than_4000_mm3():
    # 6^3 voxels of 16 mm³ are 3456 mm³, 7^3 are 5488 mm³
    for size, ok in ((6, False), (7, True)):
        ct, organs = scan({"liver": 100}, size)
        assert templates.healthy_organ(ct, organs, "liver").ok is ok
    array = np.zeros((10, 10, 10), np.uint8)
    array[:10, :5, :5] = 2  # 250 voxels of 16 mm³ = exactly 4000 mm³, which is not more
    result = templates.healthy_organ(None, OrganMap(Volume(array, AFFINE)), "liver")
    assert not result.ok and "4000 mm³" in result.reason


def test_healthy_organ_rules_differ_in_negation():
    _, organs = scan({"liver": 100}, 8)
    text = "IMPRESSION: No focal liver lesion."
    assert not templates.healthy_organ(None, organs, "liver", text)
    assert templates.healthy_organ(None, organs, "liver", text, rule="negation-aware")
    assert "no report" in templates.healthy_organ(None, organs, "liver").reason
    assert not templates.healthy_organ(None, organs, "pancreas").ok
    with pytest.raises(ValueError, match="literal"):
        templates.healthy_organ(None, organs, "liver", text, rule="clever")


def test_phases_are_those_of_supplementary_table_6():
    assert templates.templates_for("lung_tumor") == (taxonomy.PLAIN,)
    assert templates.templates_for(taxonomy.lesion("kidney_stone")) == (taxonomy.PLAIN,)
    assert (
        set(templates.templates_for("gallstone"))
        == set(templates.templates_for("liver_cyst"))
        == {taxonomy.PLAIN, taxonomy.ENHANCED}
    )
    assert templates.templates_for("bone_metastasis") == (taxonomy.ENHANCED,)


def test_check_template_lists_each_reason():
    ct, organs = scan({"aorta": 40, "inferior_vena_cava": 40, "liver": 50, "kidney_left": 30, "kidney_cyst_left": 5}, 8)
    assert templates.check_template(ct, organs, "liver_cyst") == []
    (phase,) = templates.check_template(ct, organs, "liver_tumor")
    assert phase.startswith("Liver tumor needs Enhanced CT, this scan is Plain CT")
    assert len(templates.check_template(ct, organs, "pancreas_tumor")) == 2
    assert "liver" in templates.check_template(ct, organs, "liver_cyst", "Liver cyst.")[0]
    assert "outlines kidney cysts" in templates.check_template(ct, organs, "kidney_stone")[0]


def test_check_template_on_real_scans(real_data):
    def check(case, file, lesion):
        folder = real_data / "cases" / case
        return templates.check_template(read_volume(folder / "ct.nii.gz"), read_organs(folder / file), lesion)

    assert check("S01_ts_torso", "organs_ts104.nii.gz", "lung_tumor") == []
    assert check("S02_hcc006", "organs.nii.gz", "kidney_tumor") == []
    assert "not in the organ map" in " ".join(check("S02_hcc006", "organs.nii.gz", "gastric_cancer"))
    assert "this scan is Enhanced CT" in check("S02_hcc006", "organs.nii.gz", "kidney_stone")[0]
