"""Volume nodes: geometry under transforms, refusals, new nodes, and writes of a region that can be taken back."""

from __future__ import annotations

import time

import numpy as np
import pytest
import slicer
import vtk

from PASTALib.errors import InputError
from PASTALib.mrml import volumes

pytestmark = pytest.mark.usefixtures("scene")

TURN = np.array([[0.8, -0.6, 0, 12.0], [0.6, 0.8, 0, -7.0], [0, 0, 1, 30.0], [0, 0, 0, 1]])


def small_ct(dtype=np.int16, shape=(6, 7, 8)):
    """Air, fat and tissue."""
    return np.random.default_rng(0).integers(-1000, 200, shape).astype(dtype)


def node_of(array, spacing=(2.0, 2.0, 3.0), kind="vtkMRMLScalarVolumeNode"):
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (11.0, 22.0, -33.0)
    return slicer.util.addVolumeFromArray(array, affine, "CT", nodeClassName=kind), affine


def test_voxels_and_affine():
    node, affine = node_of(small_ct())
    volume = volumes.read_volume_node(node)
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, small_ct())
    assert np.allclose(volume.affine, affine)
    volume.array[:] = 0
    assert np.array_equal(slicer.util.arrayFromVolume(node), small_ct()), "the Volume must have memory of its own"


@pytest.mark.parametrize("kind", ["isotropic", "left-handed", "oblique"])
def test_a_point_has_the_same_place_in_node_and_volume(phantom_enhanced, ct_node, in_geometry, kind, transform_node):
    ct, _ = in_geometry(phantom_enhanced, kind)
    node = ct_node(ct)
    transform_node(node, TURN)
    volume = volumes.read_volume_node(node)
    to_ras = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(to_ras)
    local = to_ras.MultiplyPoint((3, 20, 9, 1))
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(local[:3], world)
    assert np.allclose(volume.to_ras([9, 20, 3]), world, atol=1e-6)
    assert np.allclose(volumes.read_volume_node(node, world=False).affine, ct.affine)


def test_floats_are_rounded_and_named_clipping():
    array = small_ct(np.float32) + 0.4
    array[0, 0, 0] = 40000
    node, _ = node_of(array)
    volume = volumes.read_volume_node(node)
    assert volume.array.max() == 32767 and volume.array.dtype == np.int16
    assert any("clipped" in note for note in volume.meta["notes"])


def test_non_linear_transform_is_refused(bent_transform):
    node, _ = node_of(small_ct())
    bent_transform(node)
    with pytest.raises(InputError, match="non-linear transform 'bent'; harden"):
        volumes.read_volume_node(node)


def test_shearing_transform_is_refused(transform_node):
    node, _ = node_of(small_ct())
    shear = np.eye(4)
    shear[0, 1] = 0.3
    transform_node(node, shear, "leaning")
    with pytest.raises(InputError, match="transform 'leaning' shears"):
        volumes.read_volume_node(node)


def test_vector_volume_is_refused():
    node = slicer.util.addVolumeFromArray(
        np.zeros((5, 6, 7, 3), np.uint8), np.eye(4), "photo", nodeClassName="vtkMRMLVectorVolumeNode"
    )
    with pytest.raises(InputError, match="photo: 3 values per voxel"):
        volumes.read_volume_node(node)


def test_4d_volume_is_refused():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "perfusion")
    image = vtk.vtkImageData()
    image.SetDimensions(5, 6, 7)
    image.AllocateScalars(vtk.VTK_SHORT, 12)
    node.SetAndObserveImageData(image)
    with pytest.raises(InputError, match="perfusion: 12 values per voxel"):
        volumes.read_volume_node(node)


@pytest.mark.parametrize(
    "array,text", [(small_ct(shape=(1, 40, 40)), "1 slice"), (np.ones((6, 7, 8), np.int16), "CT in HU")]
)
def test_what_is_no_ct_is_refused(array, text):
    node, _ = node_of(array)
    with pytest.raises(InputError, match=text):
        volumes.read_volume_node(node)


def test_empty_missing_and_other_nodes_are_refused():
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    labels, _ = node_of(np.ones((6, 7, 8), np.uint8), kind="vtkMRMLLabelMapVolumeNode")
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "surface")
    for node, text in (
        (empty, "empty: the volume holds no image"),
        (labels, "a label map"),
        (model, "surface: a"),
        (None, "no volume"),
    ):
        with pytest.raises(InputError, match=text):
            volumes.snapshot(node)


def test_new_node_has_geometry_display_and_transform(transform_node):
    node, affine = node_of(small_ct())
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(0)
    node.GetDisplayNode().SetWindowLevel(1400, -500)
    transform = transform_node(node, TURN)
    made = volumes.new_volume_node(small_ct() + 1, node, "copy")
    assert np.array_equal(slicer.util.arrayFromVolume(made), small_ct() + 1)
    assert np.allclose(volumes.affine_of(made, world=False), affine)
    assert made.GetTransformNodeID() == transform.GetID()
    display = made.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel()) == (1400, -500, 0)
    assert display.GetColorNode() is not None
    again = volumes.new_volume_node(small_ct(), node, "copy")
    assert again.GetName() != made.GetName()


def test_removing_leaves_nothing():
    node, _ = node_of(small_ct())
    count = slicer.mrmlScene.GetNumberOfNodes()
    made = volumes.new_volume_node(small_ct(), node, "copy")
    made.AddDefaultStorageNode()
    volumes.remove_node(made)
    volumes.remove_node(made)
    volumes.remove_node(None)
    assert slicer.mrmlScene.GetNumberOfNodes() == count


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.int32])
@pytest.mark.parametrize("masked", [False, True])
def test_region_writes_and_their_exact_undo(dtype, masked):
    array = small_ct(dtype) + (np.float32(0.25) if dtype == np.float32 else 0)
    array = array.astype(dtype)
    node, _ = node_of(array.copy())
    box = (slice(1, 4), slice(2, 6), slice(0, 5))
    new = np.full((3, 4, 5), 77.0, np.float32)
    where = np.random.default_rng(1).random((3, 4, 5)) > 0.5 if masked else None
    events = []
    node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: events.append("node"))
    changed = node.GetImageData().GetMTime()
    backup = volumes.write_region(node, box, new, where)
    now = slicer.util.arrayFromVolume(node)
    expected = array.copy()
    expected[box][where if masked else slice(None)] = 77
    assert np.array_equal(now, expected)
    assert events == ["node"], "slice views redraw on this event"
    assert node.GetImageData().GetMTime() > changed, "the pipeline of the views runs again, and saving knows"
    volumes.restore_region(node, backup)
    assert slicer.util.arrayFromVolume(node).tobytes() == array.tobytes()


def test_region_values_are_rounded_and_clipped():
    node, _ = node_of(small_ct())
    box = (slice(0, 1), slice(0, 1), slice(0, 3))
    volumes.write_region(node, box, np.array([[[1.6, -1.6, 1e6]]], np.float32))
    assert slicer.util.arrayFromVolume(node)[0, 0, :3].tolist() == [2, -2, 32767]
    with pytest.raises(ValueError, match="region"):
        volumes.write_region(node, box, np.zeros((1, 1, 4)))


def test_a_region_write_is_quick():
    node, _ = node_of(np.zeros((96, 200, 200), np.int16))
    box = (slice(8, 72),) * 3
    new, where = np.zeros((64, 64, 64), np.float32), np.zeros((64, 64, 64), bool)
    where[10:50, 10:50, 10:50] = True
    times = {}
    for name, mask in (("whole", None), ("masked", where)):
        runs = []
        for _ in range(30):
            start = time.thread_time()
            volumes.write_region(node, box, new, mask)
            runs.append(time.thread_time() - start)
        times[name] = min(runs)
    assert max(times.values()) < 2e-3, times


class Database:
    def __init__(self, files):
        self.files = files

    def fileForInstance(self, uid):
        return self.files.get(uid, "")


def dicom_series(folder, positions):
    """UIDs -> files of one-pixel-thick slices at these z (LPS mm)."""
    import SimpleITK as sitk

    files = {}
    for number, z in enumerate(positions):
        image = sitk.GetImageFromArray(np.zeros((1, 7, 8), np.int16))
        image.SetMetaData("0020|0032", f"-11\\-22\\{z:g}")
        image.SetMetaData("0020|0037", "1\\0\\0\\0\\1\\0")
        image.SetMetaData("0008|0060", "CT")
        image.SetOrigin((-11, -22, z))
        path = folder / f"{number}.dcm"
        sitk.WriteImage(image, str(path))
        files[f"1.2.{number}"] = str(path)
    return files


@pytest.mark.parametrize("turned", [False, True])
def test_dicom_origin(tmp_path, monkeypatch, turned):
    node, _ = node_of(small_ct())
    positions = [-33 + 3 * k for k in range(6)]
    files = dicom_series(tmp_path, positions[::-1] if turned else positions)
    monkeypatch.setattr(slicer, "dicomDatabase", Database(files), raising=False)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(files))
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemUID(study, "DICOM", "9.8")
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(study, node)
    hierarchy.SetItemParent(item, study)
    hierarchy.SetItemUID(item, "DICOM", "9.8.7")
    meta = volumes.snapshot(node).meta
    assert meta["format"] == "DICOM"
    assert (meta["dicom"]["series_uid"], meta["dicom"]["study_uid"]) == ("9.8.7", "9.8")
    wanted = list(files.values())
    assert meta["dicom"]["files"] == (wanted[::-1] if turned else wanted)


def test_dicom_origin_without_files_is_said():
    node, _ = node_of(small_ct())
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    meta = volumes.snapshot(node).meta
    assert "files" not in meta["dicom"]
    assert any("DICOM database" in note for note in meta["notes"])
