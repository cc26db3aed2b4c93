"""``slicer.app.coreIOManager()``: reads and writes nodes and scenes through the real logics and storage nodes."""

from __future__ import annotations

import os

SCENE = "SceneFile"
# Longest extensions first: "x.seg.nrrd" is a segmentation, not a volume.
FILE_TYPES = {
    "SegmentationFile": (".seg.nrrd", ".seg.nhdr", ".seg.vtm"),
    "MarkupsFile": (".mrk.json", ".json", ".fcsv"),
    "VolumeFile": (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".dcm"),
    SCENE: (".mrml", ".mrb"),
    "ModelFile": (".vtk", ".vtp", ".stl", ".obj", ".ply"),
    "TransformFile": (".h5", ".tfm", ".mat"),
    "TableFile": (".csv", ".tsv"),
    "TextFile": (".txt",),
}


class IOManager:
    """Stand-in for qSlicerCoreIOManager."""

    def fileType(self, name: str) -> str:
        lower = str(name).lower()
        for kind, extensions in FILE_TYPES.items():
            if lower.endswith(extensions):
                return kind
        return "NoFile"

    def loadNodes(self, kind: str, properties: dict, loaded=None, messages=None) -> bool:
        path = str(properties["fileName"])
        if not os.path.exists(path):
            return False
        if kind == SCENE:
            return self.loadScene(path, properties.get("clear", False), messages)
        name = properties.get("name") or _name_of(path)
        node = _load(kind, path, name, properties)
        if node is None:
            return False
        if loaded is not None:
            loaded.AddItem(node)
        return True

    def loadScene(self, path: str, clear: bool = True, messages=None) -> bool:
        import slicer

        messages = messages or slicer.vtkMRMLMessageCollection()

        scene = slicer.mrmlScene
        if path.endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, bool(clear), messages))
        scene.SetURL(path)
        return bool(scene.Connect() if clear else scene.Import())

    def fileWriterFileType(self, node) -> str:
        for class_name, kind in (
            ("vtkMRMLSegmentationNode", "SegmentationFile"),
            ("vtkMRMLVolumeNode", "VolumeFile"),
            ("vtkMRMLMarkupsNode", "MarkupsFile"),
            ("vtkMRMLModelNode", "ModelFile"),
            ("vtkMRMLTransformNode", "TransformFile"),
            ("vtkMRMLTableNode", "TableFile"),
            ("vtkMRMLTextNode", "TextFile"),
        ):
            if node.IsA(class_name):
                return kind
        return "NoFile"

    def saveNodes(self, kind: str, properties: dict, messages=None) -> bool:
        import slicer

        path = str(properties["fileName"])
        if kind == SCENE:
            return self.saveScene(path)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        storage = node.GetStorageNode()
        if storage is None:
            if not node.AddDefaultStorageNode():
                return False
            storage = node.GetStorageNode()
        storage.SetFileName(path)
        storage.SetUseCompression(int(properties.get("useCompression", 1)))
        return bool(storage.WriteData(node))

    def saveScene(self, path: str, screenshot=None) -> bool:
        import slicer

        path = os.path.abspath(str(path))
        scene = slicer.mrmlScene
        if path.endswith(".mrb"):
            return bool(scene.WriteToMRB(path))
        scene.SetURL(path)
        scene.SetRootDirectory(os.path.dirname(path))
        return bool(scene.Commit())


def _name_of(path: str) -> str:
    return os.path.basename(path).split(".")[0]


def _load(kind: str, path: str, name: str, properties: dict):
    import slicer

    scene, modules = slicer.mrmlScene, slicer.modules
    if kind == "VolumeFile":
        options = int(bool(properties.get("labelmap"))) | 2 * int(bool(properties.get("center")))
        options |= 4 * int(bool(properties.get("singleFile"))) | 8
        return modules.volumes.logic().AddArchetypeVolume(path, name, options)
    if kind == "SegmentationFile":
        return modules.segmentations.logic().LoadSegmentationFromFile(path, True, name)
    if kind == "MarkupsFile":
        identifier = modules.markups.logic().LoadMarkups(path, name)
        return scene.GetNodeByID(identifier.split(",")[0]) if identifier else None
    if kind == "ModelFile":
        return modules.models.logic().AddModel(path)
    if kind == "TransformFile":
        return modules.transforms.logic().AddTransform(path, scene)
    if kind == "TableFile":
        return modules.tables.logic().AddTable(path, name)
    return None
