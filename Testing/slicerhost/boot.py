"""Boots MRML: scene, application logic, module logics, colours, input and output; sets slicer.mrmlScene, .app, .modules.

Qt is not touched here, so that code which must not need it is tested without it.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
import types
from pathlib import Path

from .system import choose_render_window
from .terminologies import write_terminologies

# Slicer's name of the module: (class of its logic, name under which the application logic knows it).
MODULE_LOGICS = {
    "Colors": ("vtkMRMLColorLogic", "Colors"),
    "Volumes": ("vtkSlicerVolumesLogic", "Volumes"),
    "Terminologies": ("vtkSlicerTerminologiesModuleLogic", "Terminologies"),
    "SubjectHierarchy": ("vtkSlicerSubjectHierarchyModuleLogic", "SubjectHierarchy"),
    # Without this one, empty segments cannot be added and saving a segmentation aborts the process.
    "Segmentations": ("vtkSlicerSegmentationsModuleLogic", "Segmentations"),
    "Markups": ("vtkSlicerMarkupsLogic", "Markups"),
    "Models": ("vtkSlicerModelsLogic", "Models"),
    "Transforms": ("vtkSlicerTransformLogic", "Transforms"),
    "Cameras": ("vtkSlicerCamerasModuleLogic", "Cameras"),
    "CropVolume": ("vtkSlicerCropVolumeLogic", "CropVolume"),
    "VolumeRendering": ("vtkSlicerVolumeRenderingLogic", "VolumeRendering"),
    "Units": ("vtkSlicerUnitsLogic", "Units"),
    "Tables": ("vtkSlicerTablesLogic", "Tables"),
    "Texts": ("vtkSlicerTextsLogic", "Texts"),
    "Sequences": ("vtkSlicerSequencesLogic", "Sequences"),
    "SceneViews": ("vtkSlicerSceneViewsModuleLogic", "SceneViews"),
    "Data": ("vtkSlicerDataModuleLogic", "Data"),
    "Plots": ("vtkSlicerPlotsLogic", "Plots"),
}
# Loop variables and imports of the wheel's own __init__.
WHEEL_NAMES = {"extend_path", "import_module", "info", "item_name", "iter_modules", "me", "module", "sys"}


def in_real_slicer() -> bool:
    """Whether this is the Slicer application itself (and not this host)."""
    slicer = sys.modules.get("slicer")
    return hasattr(slicer, "app") and not getattr(slicer.app, "is_stand_in", False)


def boot():
    """Real MRML with a stand-in application around it; returns ``slicer.app``. Further calls return the same.

    Does nothing in a real Slicer. Raises ModuleNotFoundError when the wheel ``slicer-core`` is not installed.
    """
    import slicer

    if hasattr(slicer, "app"):
        return slicer.app
    choose_render_window()
    _hide_names_of_util(slicer)

    from .application import Application
    from .modules import BuiltInModule, ModuleManager

    folder = Path(tempfile.mkdtemp(prefix="slicer-host-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("temporary", "cache", "terminologies"):
        (folder / name).mkdir()
    write_terminologies(folder / "terminologies")
    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    application_logic = _application_logic(slicer, scene, folder)
    slicer.modules = sys.modules["slicer.modules"] = types.ModuleType("slicer.modules")
    manager = ModuleManager(slicer.modules)
    for name, (class_name, logic_name) in MODULE_LOGICS.items():
        logic = _module_logic(slicer, class_name, scene, application_logic, folder)
        application_logic.SetModuleLogic(logic_name, logic)
        manager.add(BuiltInModule(name, logic))
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    slicer.app = Application(application_logic, manager, str(folder / "temporary"))
    slicer.app.keep(_remote_io(slicer, scene, application_logic, folder))
    return slicer.app


def reset_scene() -> None:
    """Empty the scene as File → Close Scene does: singletons such as slice nodes stay, in their default state."""
    import slicer

    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    slicer.mrmlScene.Clear(0)
    slicer.mrmlScene.SetUndoOff()
    slicer.mrmlScene.ClearUndoStack()
    slicer.mrmlScene.ClearRedoStack()


def _hide_names_of_util(slicer) -> None:
    """The wheel leaves names in slicer, most of them copied from slicer.util, that the application does not have."""
    for name, value in list(vars(slicer).items()):
        if name.startswith(("_", "vtk")) or name == "util":
            continue
        if vars(slicer.util).get(name) is value or name in WHEEL_NAMES:
            delattr(slicer, name)


def _application_logic(slicer, scene, folder: Path):
    import vtk

    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.SetTemporaryPath(str(folder / "temporary"))
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(logic)
    slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(logic)
    return logic


def _module_logic(slicer, class_name: str, scene, application_logic, folder: Path):
    logic = application_logic.GetColorLogic() if class_name == "vtkMRMLColorLogic" else getattr(slicer, class_name)()
    if class_name == "vtkSlicerTerminologiesModuleLogic":
        logic.SetModuleShareDirectory(str(folder / "terminologies"))
    logic.SetMRMLScene(scene)
    if hasattr(logic, "SetMRMLApplicationLogic"):
        logic.SetMRMLApplicationLogic(application_logic)
    return logic


def _remote_io(slicer, scene, application_logic, folder: Path) -> tuple:
    """What storage nodes need to read and write; returned so that it stays alive."""
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLScene(scene)
    remote.SetMRMLApplicationLogic(application_logic)
    remote.GetCacheManager().SetRemoteCacheDirectory(str(folder / "cache"))
    manager = slicer.vtkDataIOManagerLogic()
    manager.SetMRMLScene(scene)
    manager.SetMRMLApplicationLogic(application_logic)
    manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    return remote, manager
