"""Pictures of PASTASegment and PASTAReport in use, for the README: ``python -m Testing.gui.segment_pictures [--model NAME]``.

The scan is the phantom with three lesions placed by the generator. Without ``--model`` the segmentation is that of the generator, through
a stand-in for the network (the panel says so); attributes are then measured only.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from Testing.gui.segment_scene import ROOT, use_stand_ins

LESIONS = (("liver_tumor", 3), ("kidney_tumor", 7), ("bone_metastasis", 2))
FOLDER = ROOT / "Resources" / "Screenshots"


def scan_with_lesions():
    """(phantom, PASTA labels) with the lesions in both."""
    from PASTALib import taxonomy
    from PASTALib.phantom import make_phantom
    from PASTALib.synthesis.generator import insert, synthesise
    from PASTALib.synthesis.scan import prepare_scan
    from PASTALib.synthesis.spec import LesionRequest

    phantom = make_phantom(2.0)
    scan = prepare_scan(phantom.ct, phantom.organs)
    labels = phantom.organs.labels.array.copy()
    for key, seed in LESIONS:
        result = synthesise(scan, LesionRequest(key, seed=seed))
        insert(scan, result)
        labels[result.region][result.label] = taxonomy.lesion(key).value
    phantom.ct.array[...] = scan.ct.array
    return phantom, labels


def run(module, model: str) -> None:
    """Press the module's button and wait."""
    module.widget.parameters.model = model
    module.press(module.ui.applyButton)
    module.wait_until(lambda: not module.widget.bar.running, 1800)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="", help="model that segments and predicts, such as starter")
    given = parser.parse_args()

    from Testing.slicerhost import boot_gui

    boot_gui()
    import slicer

    from PASTALib.gui.sample_data import phantom_nodes
    from Testing.slicerhost.layout import Layout
    from Testing.slicerhost.panel import open_module
    from Testing.slicerhost.screenshot import screenshot

    phantom, labels = scan_with_lesions()
    layout = Layout.get((320, 320))
    ct, organs = phantom_nodes(phantom, "CT")
    layout.show(ct)
    with tempfile.TemporaryDirectory() as folder, open_module(ROOT / "PASTASegment", "PASTASegment") as module:
        np.save(Path(folder) / "stand-in", labels)
        if not given.model:
            use_stand_ins(module.widget)
        run(module, given.model or f"{folder}/stand-in.npy")
        module.widget.lesions.pick(0)
        screenshot(module.parent, layout, FOLDER / "pasta-segment.png", panel_width=400)
    with open_module(ROOT / "PASTAReport", "PASTAReport") as module:
        module.widget.parameters.organMap = organs
        run(module, given.model)
        module.wait_until(lambda: not module.widget.detail.drawing)
        box = module.widget.detail.editor.rows["surface"].field
        other = next(text for text in (box.itemText(0), box.itemText(1)) if text != box.currentText)
        module.choose(box, other)
        slicer.app.processEvents()
        screenshot(module.parent, layout, FOLDER / "pasta-report-module.png", panel_width=400)


if __name__ == "__main__":
    main()
