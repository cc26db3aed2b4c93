"""A picture of lesions before and after refinement, to see what a denoising network does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.refinement.checkpoint import DenoisingModel
from PASTALib.refinement.closed_loop import refine_lesion
from PASTALib.refinement.refine import Refiner
from PASTALib.reporting.contact_sheet import save_contact_sheet
from PASTALib.reporting.views import LesionViews
from PASTALib.synthesis.generator import synthesise
from PASTALib.synthesis.scan import PreparedScan
from PASTALib.synthesis.spec import LesionRequest

from .patches import ScanSpec, load_prepared

SHOWN = ("liver_tumor", "pancreas_cyst", "kidney_tumor", "lung_tumor", "liver_cyst", "bone_metastasis")


def save_picture(path: Path, model: DenoisingModel, scan: ScanSpec | PreparedScan, device: str = "auto") -> Path | None:
    """Write a PNG with a pair per lesion type that the scan allows; None when it allows none of them."""
    scan = scan if isinstance(scan, PreparedScan) else load_prepared(scan, None)
    refiner = Refiner(model, device)
    cells = []
    for kind in SHOWN:
        try:
            made = synthesise(scan, LesionRequest(kind, seed=1))
        except InputError:
            continue
        refined = refine_lesion(scan, made, refiner)
        record = refined.parameters["refinement"]
        told = f"{record['strength']:.0%} of the change kept" if record["applied"] else f"left: {record['why']}"
        images = [_inserted(scan, item) for item in (made, refined)]
        label = np.zeros(images[0].shape, bool)
        label[made.region] = made.label
        view = LesionViews(*images, label, scan.ct.affine, kind, min_field_mm=70.0).view("axial")
        cells.append((taxonomy.lesion(kind).name, told, view))
    return save_contact_sheet(path, cells, columns=min(3, len(cells))) if cells else None


def _inserted(scan: PreparedScan, result) -> np.ndarray:
    image = scan.ct.array.copy()
    view = image[result.region]
    view[result.changed] = np.clip(result.after[result.changed], -32768, 32767).astype(np.int16)
    return image
