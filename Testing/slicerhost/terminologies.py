"""The default terminologies that Slicer ships and the wheel lacks: one entry each, so that the logic finds its files."""

from __future__ import annotations

import json
from pathlib import Path

TISSUE = {"CodingSchemeDesignator": "SCT", "CodeValue": "85756007", "CodeMeaning": "Tissue"}
TORSO = {"CodingSchemeDesignator": "SCT", "CodeValue": "22943007", "CodeMeaning": "Trunk"}
CATEGORIES = {
    "SegmentationCategoryTypeModifier-SlicerGeneralAnatomy": "Segmentation category and type - 3D Slicer General Anatomy list",
    "SegmentationCategoryTypeModifier-DICOM-Master": "Segmentation category and type - DICOM master list",
}
REGIONS = {"AnatomicRegionAndModifier-DICOM-Master": "Anatomic codes - DICOM master list"}
SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/{}-schema.json#"


def write_terminologies(folder: Path) -> None:
    """Write the files into a folder."""
    tissue = TISSUE | {"recommendedDisplayRGBValue": [128, 174, 128]}
    category = TISSUE | {"showAnatomy": True, "Type": [tissue]}
    for stem, name in CATEGORIES.items():
        content = {
            "@schema": SCHEMA.format("segment-context"),
            "SegmentationCategoryTypeContextName": name,
            "SegmentationCodes": {"Category": [category]},
        }
        (folder / f"{stem}.term.json").write_text(json.dumps(content), encoding="utf-8")
    for stem, name in REGIONS.items():
        content = {
            "@schema": SCHEMA.format("anatomic-context"),
            "AnatomicContextName": name,
            "AnatomicCodes": {"AnatomicRegion": [TORSO]},
        }
        (folder / f"{stem}.term.json").write_text(json.dumps(content), encoding="utf-8")
