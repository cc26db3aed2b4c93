"""Nominal HU of the phantom's tissues by contrast phase, and the numbers of TotalSegmentator v2 classes."""

from __future__ import annotations

from .. import taxonomy

# tissue: (plain, portal venous); typical values of adult abdominal CT at 120 kVp.
_HU = {
    "air": (-1000, -1000), "gas": (-990, -990), "skin": (20, 30), "fat": (-102, -100), "visceral_fat": (-104, -102),
    "muscle": (55, 65), "lung": (-850, -845), "liver": (55, 110), "spleen": (48, 120), "pancreas": (40, 100),
    "renal_cortex": (33, 185), "renal_medulla": (30, 168), "urine": (5, 5), "bile": (8, 8),
    "wall": (42, 75), "mucosa": (42, 95),
    "aorta": (40, 170), "vein": (40, 150), "portal": (40, 165), "heart_blood": (40, 160), "myocardium": (45, 110),
    "pulmonary": (40, 155), "fluid": (12, 12), "stool": (20, 20), "chyme": (22, 24),
    "disc": (80, 85), "csf": (12, 12), "cord": (35, 38),
    "cartilage": (105, 110), "adrenal": (28, 70), "prostate": (40, 70), "node": (40, 80), "cortical": (750, 760),
    "cancellous": (180, 195),
}  # fmt: skip


def hu_table(phase: str) -> dict[str, float]:
    """Tissue name -> nominal HU in one phase ("Plain CT" or "Enhanced CT"); ValueError for another phase."""
    if phase not in (taxonomy.PLAIN, taxonomy.ENHANCED):
        raise ValueError(f"phase is {phase!r}; wanted {taxonomy.PLAIN!r} or {taxonomy.ENHANCED!r}")
    column = 0 if phase == taxonomy.PLAIN else 1
    return {name: float(values[column]) for name, values in _HU.items()}


_V2 = (
    "spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left "
    "lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right "
    "esophagus trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left "
    "kidney_cyst_right sacrum vertebrae_S1 vertebrae_L5 vertebrae_L4 vertebrae_L3 vertebrae_L2 vertebrae_L1 "
    "vertebrae_T12 vertebrae_T11 vertebrae_T10 vertebrae_T9 vertebrae_T8 vertebrae_T7 vertebrae_T6 vertebrae_T5 "
    "vertebrae_T4 vertebrae_T3 vertebrae_T2 vertebrae_T1 vertebrae_C7 vertebrae_C6 vertebrae_C5 vertebrae_C4 "
    "vertebrae_C3 vertebrae_C2 vertebrae_C1 heart aorta pulmonary_vein brachiocephalic_trunk subclavian_artery_right "
    "subclavian_artery_left common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left "
    "brachiocephalic_vein_right atrial_appendage_left superior_vena_cava inferior_vena_cava "
    "portal_vein_and_splenic_vein iliac_artery_left iliac_artery_right iliac_vena_left iliac_vena_right humerus_left "
    "humerus_right scapula_left scapula_right clavicula_left clavicula_right femur_left femur_right hip_left hip_right "
    "spinal_cord gluteus_maximus_left gluteus_maximus_right gluteus_medius_left gluteus_medius_right "
    "gluteus_minimus_left gluteus_minimus_right autochthon_left autochthon_right iliopsoas_left iliopsoas_right brain "
    "skull "
    + " ".join(f"rib_{side}_{i}" for side in ("left", "right") for i in range(1, 13))
    + " sternum costal_cartilages"
).split()

# TotalSegmentator v2, task "total": class name -> value.
CLASS: dict[str, int] = {name: value for value, name in enumerate(_V2, start=1)}
