"""Sample data for Slicer's module of that name: phantoms that are generated on this computer, with their organ maps. Nothing is downloaded."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from .. import taxonomy
from ..anatomy import organ_classes as classes
from ..mrml.looks import look
from ..phantom import Phantom, make_phantom

CATEGORY = "PASTA"
SPACING_MM = 2.0
SAMPLES = {"PASTAPhantomEnhanced": taxonomy.ENHANCED, "PASTAPhantomPlain": taxonomy.PLAIN}
_GREY = (0.5, 0.5, 0.5)


def register(thumbnails: Path | None = None) -> None:
    """Offer both phantoms in the module Sample Data, once. ``thumbnails``: folder with <sample>.png."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if CATEGORY in getattr(slicer.modules, "sampleDataSources", {}):
        return
    if hasattr(logic, "registerCustomSampleDataCategory"):  # Slicer 5.12
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("PASTA"))
    for name, phase in SAMPLES.items():
        picture = thumbnails / f"{name}.png" if thumbnails is not None else None
        logic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=_title(phase),
            sampleDescription=_("A generated torso, 2 mm, with its organ map. No patient data."),
            uris=None,
            fileNames=None,
            nodeNames=None,
            thumbnailFileName=str(picture) if picture is not None and picture.is_file() else None,
            customDownloader=lambda source, phase=phase: list(add_phantom(phase)),
        )


def add_phantom(phase: str = taxonomy.ENHANCED, spacing_mm: float = SPACING_MM):
    """Generate a phantom ("Enhanced CT" or "Plain CT") and add it: (CT node, organ map node), shown in the slice views.

    A thread generates; meanwhile events are handled, so that the window stays alive.
    """
    made: list[Phantom | BaseException] = []

    def make() -> None:
        try:
            made.append(make_phantom(spacing_mm, phase))
        except BaseException as error:  # to be raised where somebody hears it
            made.append(error)

    thread = threading.Thread(target=make, name="pasta-phantom", daemon=True)
    slicer.util.showStatusMessage(_("Generating the phantom …"), 10000)
    thread.start()
    while thread.is_alive():
        slicer.app.processEvents()
        time.sleep(0.02)  # when the thread gets its turn
    slicer.util.showStatusMessage("")
    if isinstance(made[0], BaseException):
        raise made[0]
    ct, organs = phantom_nodes(made[0], _title(phase))
    slicer.util.setSliceViewerLayers(background=ct, label=None, fit=True)
    return ct, organs


def phantom_nodes(phantom: Phantom, name: str):
    """CT and organ map of a phantom as nodes: a volume, and a label map whose colour table names its structures."""
    ct = slicer.util.addVolumeFromArray(phantom.ct.array, phantom.ct.affine, name)
    ct.CreateDefaultDisplayNodes()
    display = ct.GetDisplayNode()
    display.SetAutoWindowLevel(0)
    display.SetWindowLevel(400, 40)
    structures = phantom.organs.structures
    organs = slicer.util.addVolumeFromArray(
        structures.array, structures.affine, _("{ct} organs").format(ct=name), nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    organs.CreateDefaultDisplayNodes()
    table = _colours(phantom.organs.structure_names, organs.GetName())
    organs.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
    organs.SetNodeReferenceID("CT", ct.GetID())
    return ct, organs


def _title(phase: str) -> str:
    kind = _("enhanced") if phase == taxonomy.ENHANCED else _("plain")
    return _("PASTA phantom ({kind})").format(kind=kind)


def _colours(names: dict[int, str], name: str):
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", _("{map} colours").format(map=name))
    table.SetTypeToUser()
    table.SetHideFromEditors(True)
    table.SetNumberOfColors(max(names) + 1)
    table.SetColor(0, "(none)", 0, 0, 0, 0)
    for value in range(1, max(names) + 1):
        organ = classes.organ_key(names[value]) if value in names else None
        table.SetColor(value, names.get(value, "(none)"), *(look(organ).colour if organ else _GREY))
    return table
