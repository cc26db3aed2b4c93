"""What PASTA knows about: ten organs, fifteen lesion types, their label values, phases and standard names.

Values 1-25 are the paper's Supplementary Table 7, template phases its Supplementary Table 6. Folder names are
those of the published PASTA-Gen-30K set; TotalSegmentator class names are those of its task "total".
"""

from __future__ import annotations

from dataclasses import dataclass

ENHANCED = "Enhanced CT"
PLAIN = "Plain CT"


@dataclass(frozen=True)
class Code:
    """A coded concept: scheme (SCT = SNOMED CT), code value, meaning."""

    value: str
    meaning: str
    scheme: str = "SCT"


@dataclass(frozen=True)
class Organ:
    """One target organ.

    ``name`` is the display name; ``location`` the option string of the paper's Extended Data Table 1; ``folder`` the
    PASTA-Gen-30K folder; ``hollow`` whether segmentations of it include a lumen; ``classes`` the TotalSegmentator v2
    classes ("total") that make it up, ``classes_v1`` those of version 1 where they differ.
    """

    key: str
    name: str
    value: int
    location: str
    folder: str
    hollow: bool
    classes: tuple[str, ...]
    code: Code
    classes_v1: tuple[str, ...] | None = None
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lesion:
    """One lesion type; ``phases`` are the template phases that the paper uses for it."""

    key: str
    name: str
    value: int
    organ: str
    folder: str
    malignant: bool
    phases: tuple[str, ...]
    code: Code


_VERTEBRAE = tuple(
    f"vertebrae_{level}"
    for level in ["S1"]
    + [f"L{i}" for i in range(5, 0, -1)]
    + [f"T{i}" for i in range(12, 0, -1)]
    + [f"C{i}" for i in range(7, 0, -1)]
)
_RIBS = tuple(f"rib_{side}_{i}" for side in ("left", "right") for i in range(1, 13))
_LIMB_BONES = tuple(
    f"{bone}_{side}" for bone in ("humerus", "scapula", "clavicula", "femur", "hip") for side in ("left", "right")
)
_LUNG_LOBES = (
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
)

ORGANS: tuple[Organ, ...] = (
    Organ(
        "lung",
        "Lung",
        1,
        "Lung",
        "Lung",
        False,
        _LUNG_LOBES,
        Code("39607008", "Lung"),
        keywords=("lung", "lungs", "pulmonary", "lobe", "lingula"),
    ),
    Organ(
        "liver",
        "Liver",
        2,
        "Liver",
        "Liver",
        False,
        ("liver",),
        Code("10200004", "Liver"),
        keywords=("liver", "hepatic"),
    ),
    Organ(
        "gallbladder",
        "Gallbladder",
        3,
        "Gallbladder",
        "Gall",
        True,
        ("gallbladder",),
        Code("28231008", "Gallbladder"),
        keywords=("gallbladder", "gall bladder", "cholecyst", "gallstone"),
    ),
    Organ(
        "pancreas",
        "Pancreas",
        4,
        "Pancreas",
        "Pancreas",
        False,
        ("pancreas",),
        Code("15776009", "Pancreas"),
        keywords=("pancreas", "pancreatic"),
    ),
    Organ(
        "esophagus",
        "Esophagus",
        5,
        "Esophagus",
        "Esophagus",
        True,
        ("esophagus",),
        Code("32849002", "Esophagus"),
        keywords=("esophagus", "oesophagus", "esophageal", "oesophageal"),
    ),
    Organ(
        "stomach",
        "Stomach",
        6,
        "Stomach",
        "Stomach",
        True,
        ("stomach",),
        Code("69695003", "Stomach"),
        keywords=("stomach", "gastric"),
    ),
    Organ(
        "colorectum",
        "Colon and rectum",
        7,
        "Colorectal",
        "Colorectum",
        True,
        ("colon",),
        Code("71854001", "Colon"),
        keywords=("colon", "colonic", "colorectal", "rectum", "rectal", "sigmoid", "cecum", "caecum"),
    ),
    Organ(
        "kidney",
        "Kidney",
        8,
        "Kidney",
        "Kidney",
        False,
        ("kidney_right", "kidney_left"),
        Code("64033007", "Kidney"),
        keywords=("kidney", "kidneys", "renal", "nephro"),
    ),
    Organ(
        "bladder",
        "Bladder",
        9,
        "Bladder",
        "Bladder",
        True,
        ("urinary_bladder",),
        Code("89837001", "Urinary bladder"),
        keywords=("bladder", "urinary bladder", "vesical"),
    ),
    Organ(
        "bone",
        "Bone",
        10,
        "Bone",
        "Bone",
        False,
        ("sacrum", *_VERTEBRAE, *_RIBS, *_LIMB_BONES, "sternum", "skull"),
        Code("272673000", "Bone"),
        keywords=("bone", "bones", "osseous", "vertebra", "vertebral", "rib", "pelvis", "sacrum", "skeletal"),
    ),
)

LESIONS: tuple[Lesion, ...] = (
    Lesion("lung_tumor", "Lung tumor", 11, "lung", "Tumor", True, (PLAIN,), Code("126713003", "Neoplasm of lung")),
    Lesion(
        "liver_tumor", "Liver tumor", 12, "liver", "Tumor", True, (ENHANCED,), Code("126851005", "Neoplasm of liver")
    ),
    Lesion(
        "gallbladder_cancer",
        "Gallbladder cancer",
        13,
        "gallbladder",
        "Tumor",
        True,
        (ENHANCED,),
        Code("363353009", "Malignant neoplasm of gallbladder"),
    ),
    Lesion(
        "pancreas_tumor",
        "Pancreas tumor",
        14,
        "pancreas",
        "Tumor",
        True,
        (ENHANCED,),
        Code("126859007", "Neoplasm of pancreas"),
    ),
    Lesion(
        "esophageal_cancer",
        "Esophageal cancer",
        15,
        "esophagus",
        "Tumor",
        True,
        (ENHANCED,),
        Code("363402007", "Malignant neoplasm of esophagus"),
    ),
    Lesion(
        "gastric_cancer",
        "Gastric cancer",
        16,
        "stomach",
        "Tumor",
        True,
        (ENHANCED,),
        Code("363349007", "Malignant neoplasm of stomach"),
    ),
    Lesion(
        "colorectal_cancer",
        "Colorectal cancer",
        17,
        "colorectum",
        "Tumor",
        True,
        (ENHANCED,),
        Code("363406005", "Malignant neoplasm of colon"),
    ),
    Lesion(
        "kidney_tumor",
        "Kidney tumor",
        18,
        "kidney",
        "Tumor",
        True,
        (ENHANCED,),
        Code("126880001", "Neoplasm of kidney"),
    ),
    Lesion(
        "bladder_cancer",
        "Bladder cancer",
        19,
        "bladder",
        "Tumor",
        True,
        (ENHANCED,),
        Code("399326009", "Malignant neoplasm of urinary bladder"),
    ),
    Lesion(
        "bone_metastasis",
        "Bone metastasis",
        20,
        "bone",
        "Tumor",
        True,
        (ENHANCED,),
        Code("94222008", "Metastatic malignant neoplasm to bone"),
    ),
    Lesion(
        "liver_cyst", "Liver cyst", 21, "liver", "Cyst", False, (ENHANCED, PLAIN), Code("85057007", "Cyst of liver")
    ),
    Lesion(
        "gallstone",
        "Gallstone",
        22,
        "gallbladder",
        "Stone",
        False,
        (ENHANCED, PLAIN),
        Code("235919008", "Gallbladder calculus"),
    ),
    Lesion(
        "pancreas_cyst",
        "Pancreas cyst",
        23,
        "pancreas",
        "Cyst",
        False,
        (ENHANCED,),
        Code("31258000", "Cyst of pancreas"),
    ),
    Lesion("kidney_cyst", "Kidney cyst", 24, "kidney", "Cyst", False, (ENHANCED,), Code("722223000", "Cyst of kidney")),
    Lesion("kidney_stone", "Kidney stone", 25, "kidney", "Stone", False, (PLAIN,), Code("95570007", "Kidney stone")),
)

_ORGAN_BY_KEY = {organ.key: organ for organ in ORGANS}
_LESION_BY_KEY = {lesion.key: lesion for lesion in LESIONS}
LESION_KEYS: tuple[str, ...] = tuple(_LESION_BY_KEY)
ORGAN_KEYS: tuple[str, ...] = tuple(_ORGAN_BY_KEY)


def organ(key: str) -> Organ:
    """The organ called ``key`` (``"lung"`` … ``"bone"``); KeyError with the list of names otherwise."""
    try:
        return _ORGAN_BY_KEY[key]
    except KeyError:
        raise KeyError(f"unknown organ {key!r}; known: {', '.join(ORGAN_KEYS)}") from None


def lesion(key: str) -> Lesion:
    """The lesion type called ``key`` (``"lung_tumor"`` … ``"kidney_stone"``); KeyError with the list otherwise."""
    try:
        return _LESION_BY_KEY[key]
    except KeyError:
        raise KeyError(f"unknown lesion type {key!r}; known: {', '.join(LESION_KEYS)}") from None


def lesions_of(organ_key: str) -> tuple[Lesion, ...]:
    """All lesion types of one organ."""
    return tuple(item for item in LESIONS if item.organ == organ_key)
