"""Cases of a reader study on real MRML: geometry, marks, and what a saved scene tells (nothing)."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

GRID_SHAPE, SPACING = (20, 24, 28), (2.0, 1.5, 1.0)  # z, y, x


@pytest.fixture
def case_file(tmp_path):
    """A case of a study under a name that tells too much, and its grid."""
    from PASTALib.study.export import ExportGrid, write_nrrd

    grid = ExportGrid(GRID_SHAPE, SPACING)
    voxels = np.random.default_rng(1).integers(-1000, 2000, GRID_SHAPE).astype(np.int16)
    path = tmp_path / "synthetic-cohort.nrrd"
    write_nrrd(voxels, grid, path)
    return path, grid, voxels


def test_a_case_is_where_its_header_says(scene, case_file):
    from PASTALib.mrml.study_view import load_case
    from PASTALib.volume import read_volume

    path, grid, voxels = case_file
    case, volume = load_case(path, grid), read_volume(path)
    assert np.allclose(case.affine, volume.affine)
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    node.SetAndObserveImageData(case.image)
    assert (slicer.util.arrayFromVolume(node) == voxels).all()


@pytest.mark.parametrize("harm", ["missing", "short", "other"])
def test_a_damaged_file_is_refused(scene, case_file, harm):
    from PASTALib.errors import InputError
    from PASTALib.mrml.study_view import load_case

    path, grid, _voxels = case_file
    if harm == "missing":
        path.unlink()
    elif harm == "short":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(InputError, match="copy"):
        load_case(path, grid)


def test_the_scene_tells_nothing_and_is_left_as_it_was(scene, case_file, tmp_path):
    import slicer

    from PASTALib.mrml.study_view import NAME, CaseView, load_case

    path, grid, voxels = case_file
    nodes = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    view = CaseView()
    for window in ((400.0, 40.0), (1500.0, -600.0)):
        view.show(load_case(path, grid), window, (0.0, 0.0, 0.0), (30.0, 30.0, 30.0))
        assert view.window_now == window
    (volume,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")  # one for all cases
    assert volume.GetName() == NAME and volume.GetStorageNode() is None
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    assert not hierarchy.GetItemByDataNode(volume)
    view.set_window((100.0, 0.0))
    view.reset()
    assert view.window_now == (1500.0, -600.0)
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    with zipfile.ZipFile(tmp_path / "scene.mrb") as archive:
        assert not [name for name in archive.namelist() if name.endswith((".nrrd", ".nii.gz", ".mha"))]
        text = b"".join(archive.read(name) for name in archive.namelist()).decode("latin-1")
    assert "<MRML" in text
    assert "cohort" not in text and str(tmp_path) not in text and NAME not in text
    view.close()
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")} - nodes <= hierarchy_nodes(scene)
    view.close()  # twice does no harm


def hierarchy_nodes(scene) -> set[str]:
    """The subject hierarchy's own node, which is made when it is first asked for."""
    import slicer

    return {slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene).GetID()}


def test_nothing_is_left_when_the_scene_goes_first(scene, case_file):
    from PASTALib.mrml.study_view import CaseView, load_case

    path, grid, _voxels = case_file
    view = CaseView()
    view.show(load_case(path, grid), (400.0, 40.0))
    scene.Clear(0)
    assert view.node is None
    view.close(gone=True)
    view.show(load_case(path, grid), (400.0, 40.0))  # a new node
    assert view.node is not None
    view.close()


def nodes_of_slices(scene) -> list:
    """The slice nodes of a scene."""
    kind = "vtkMRMLSliceNode"
    return [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]


@pytest.fixture
def slice_nodes(scene):
    """Function: layout name, orientation -> a slice node; the layout's own where there is one (tests of widgets in the same process), else a
    new one that is removed in the end, because closing a scene leaves them."""
    made = []

    def add(name: str, orientation: str):
        for node in nodes_of_slices(scene):
            if node.GetLayoutName() == name and node.GetOrientation() == orientation:
                return node
        node = scene.AddNewNodeByClass("vtkMRMLSliceNode")
        made.append(node)
        node.SetLayoutName(name)
        node.SetOrientation(orientation)
        return node

    yield add
    for node in made:
        scene.RemoveNode(node)


@pytest.fixture
def slice_view(slice_nodes):
    """A renderer, and a slice node of 200 by 100 pixels, 2 pixels per mm."""
    import vtk

    node = slice_nodes("Test", "Axial")
    node.SetDimensions(200, 100, 1)
    node.SetFieldOfView(100.0, 50.0, 1.0)
    return vtk.vtkRenderer(), node


def test_marks_enclose_the_box(slice_view):
    from PASTALib.mrml.study_marks import Marks

    renderer, node = slice_view
    marks = Marks(renderer, node)
    assert not marks.visible
    marks.show((10.0, 5.0, 0.0), (20.0, 10.0, 8.0), "corners")
    assert marks.visible and len(marks.segments) == 8
    low, high = marks.segments.reshape(-1, 2).min(axis=0), marks.segments.reshape(-1, 2).max(axis=0)
    assert np.allclose(high - low, (40.0, 20.0))  # 20 by 10 mm
    to_ras = node.GetXYToRAS()
    middle = to_ras.MultiplyPoint((*(0.5 * (low + high)), 0.0, 1.0))
    assert np.allclose(middle[:2], (10.0, 5.0), atol=0.01)
    node.SetSliceOffset(3.9)
    assert marks.visible
    node.SetSliceOffset(4.5)
    assert not marks.visible  # the slice passes the box by
    node.SetSliceOffset(0.0)
    marks.hide()
    assert not marks.visible
    marks.remove()
    assert renderer.GetViewProps().GetNumberOfItems() == 0


def test_marks_follow_zoom_and_plane(slice_view):
    from PASTALib.mrml.study_marks import Marks

    renderer, node = slice_view
    marks = Marks(renderer, node)
    marks.show((0.0, 0.0, 0.0), (20.0, 10.0, 8.0), "corners")
    node.SetFieldOfView(50.0, 25.0, 1.0)
    points = marks.segments.reshape(-1, 2)
    assert np.allclose(np.ptp(points, axis=0), (80.0, 40.0))
    node.SetOrientation("Coronal")
    points = marks.segments.reshape(-1, 2)
    assert np.allclose(np.ptp(points, axis=0), (80.0, 32.0))  # R by S
    marks.show((0.0, 0.0, 0.0), (20.0, 10.0, 8.0), "crosshair")
    ends = marks.segments[:, 0]
    assert np.allclose(np.ptp(ends, axis=0), (80.0, 32.0)) and len(marks.segments) == 4
    marks.remove()


def test_what_a_reader_did_is_summarised(slice_nodes, case_file):
    from PASTALib.mrml.study_view import CaseView, ViewSummary, load_case

    path, grid, _voxels = case_file
    red = slice_nodes("Red", "Axial")
    slice_nodes("Yellow", "Sagittal")
    view = CaseView()
    view.show(load_case(path, grid), (400.0, 40.0), (0.0, 0.0, 0.0))
    summary = ViewSummary(view)
    for offset in (1.0, 2.0, 3.0, 2.0):
        red.SetSliceOffset(offset)
    view.set_window((1500.0, -600.0))
    told = summary.end()
    before = dict(told["slices"])
    told["slices"].pop("coronal", None)  # of a layout that other tests left
    assert told == {"slices": {"axial": 4, "sagittal": 1}, "window": [1500.0, -600.0], "windows": 2}
    red.SetSliceOffset(7.0)  # no longer watched
    assert summary.end()["slices"] == before
    view.close()
