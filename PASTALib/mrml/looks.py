"""Names, colours and terminology of the ten organs and fifteen lesion types as segments. No slicer here: plain data and text."""

from __future__ import annotations

from dataclasses import dataclass

from .. import taxonomy
from ..taxonomy import Code

CONTEXT = "Segmentation category and type - PASTA"
REGION_CONTEXT = "Anatomic codes - DICOM master list"
ANATOMICAL = Code("123037004", "Anatomical Structure")
ABNORMAL = Code("49755003", "Morphologically Abnormal Structure")
_SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/segment-context-schema.json#"

# Organs in quiet, natural colours; lesions bright, the same as in our DICOM segmentations.
_COLOURS: dict[str, tuple[int, int, int]] = {
    "lung": (172, 138, 115),
    "liver": (181, 85, 57),
    "gallbladder": (112, 145, 72),
    "pancreas": (214, 180, 120),
    "esophagus": (176, 122, 139),
    "stomach": (196, 150, 125),
    "colorectum": (170, 129, 84),
    "kidney": (150, 79, 62),
    "bladder": (181, 172, 98),
    "bone": (226, 219, 193),
    "lung_tumor": (255, 128, 173),
    "liver_tumor": (255, 131, 133),
    "gallbladder_cancer": (250, 143, 99),
    "pancreas_tumor": (225, 158, 74),
    "esophageal_cancer": (190, 172, 67),
    "gastric_cancer": (149, 183, 80),
    "colorectal_cancer": (98, 190, 110),
    "kidney_tumor": (0, 195, 149),
    "bladder_cancer": (0, 196, 190),
    "bone_metastasis": (0, 194, 228),
    "liver_cyst": (0, 189, 255),
    "gallstone": (12, 179, 255),
    "pancreas_cyst": (140, 166, 255),
    "kidney_cyst": (201, 150, 246),
    "kidney_stone": (240, 135, 213),
}


@dataclass(frozen=True)
class Look:
    """How one organ or lesion type appears as a segment: display name, RGB 0-255, and Slicer's terminology entry."""

    key: str
    name: str
    rgb: tuple[int, int, int]
    terminology: str

    @property
    def colour(self) -> tuple[float, float, float]:
        """RGB as 0-1, as segments take it."""
        return tuple(part / 255.0 for part in self.rgb)


def look(key: str) -> Look:
    """The look of an organ (``"liver"``) or lesion type (``"liver_tumor"``); KeyError otherwise."""
    if key in taxonomy.LESION_KEYS:
        lesion = taxonomy.lesion(key)
        return Look(key, lesion.name, _COLOURS[key], _entry(ABNORMAL, lesion.code, taxonomy.organ(lesion.organ).code))
    organ = taxonomy.organ(key)
    return Look(key, organ.name, _COLOURS[key], _entry(ANATOMICAL, organ.code))


def key_of_terminology(entry: str) -> str | None:
    """Organ or lesion key whose code a terminology entry names as its type; None for any other."""
    parts = entry.split("~")
    code = tuple(parts[2].split("^")[:2]) if len(parts) > 2 else ()
    for item in (*taxonomy.LESIONS, *taxonomy.ORGANS):
        if code == (item.code.scheme, item.code.value):
            return item.key
    return None


def words_of_terminology(entry: str) -> str:
    """Modifier and type of an entry as words ("Right Kidney"); empty for an entry that says no more than "Tissue"."""
    parts = [part.split("^")[-1] for part in entry.split("~")]
    if len(parts) < 4 or parts[2] == "Tissue":
        return ""
    return f"{parts[3]} {parts[2]}".strip()


def terminology_json() -> dict:
    """The whole terminology as the contents of a ``.term.json`` file for Slicer's Terminologies module."""
    categories = ((ANATOMICAL, taxonomy.ORGANS, False), (ABNORMAL, taxonomy.LESIONS, True))
    return {
        "SegmentationCategoryTypeContextName": CONTEXT,
        "@schema": _SCHEMA,
        "SegmentationCodes": {
            "Category": [
                {
                    **_code_json(category),
                    "showAnatomy": anatomy,
                    "Type": [
                        {**_code_json(item.code), "recommendedDisplayRGBValue": list(_COLOURS[item.key])}
                        for item in items
                    ],
                }
                for category, items, anatomy in categories
            ]
        },
    }


def _code_json(code: Code) -> dict:
    return {"CodingSchemeDesignator": code.scheme, "CodeValue": code.value, "CodeMeaning": code.meaning}


def _entry(category: Code, kind: Code, region: Code | None = None) -> str:
    """Slicer's text form: context~category~type~modifier~region context~region~region modifier."""
    place = _triple(region) if region is not None else "^^"
    return "~".join((CONTEXT, _triple(category), _triple(kind), "^^", REGION_CONTEXT, place, "^^"))


def _triple(code: Code) -> str:
    return f"{code.scheme}^{code.value}^{code.meaning}"
