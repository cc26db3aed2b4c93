"""Fixtures for tests on real MRML: an empty scene, and the phantom as nodes in any geometry."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[:2]]  # scene_state and slicerhost
HAS_MRML = importlib.util.find_spec("slicer") is not None
collect_ignore_glob = [] if HAS_MRML else ["test_*.py"]


def pytest_report_header():
    return [] if HAS_MRML else ["Testing/modules is left out: the wheel slicer-core is not installed"]


@pytest.fixture(scope="session")
def _booted():
    from slicerhost import boot

    return boot()


@pytest.fixture
def scene(_booted):
    """The scene, empty before and after."""
    import slicer
    from slicerhost import reset_scene

    reset_scene()
    yield slicer.mrmlScene
    reset_scene()


@pytest.fixture
def ct_node(scene):
    """Function: Volume, name -> scalar volume node with its voxels and geometry."""
    import slicer

    def add(volume, name="CT"):
        node = slicer.util.addVolumeFromArray(volume.array, volume.affine, name)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetAutoWindowLevel(0)
        node.GetDisplayNode().SetWindowLevel(350, 50)
        return node

    return add


@pytest.fixture
def organs_node(scene):
    """Function: OrganMap, node of its CT -> label-map node of its structures, with their names in a colour table."""
    import slicer

    def add(organs, name="organs"):
        source = organs.structures or organs.labels
        node = slicer.util.addVolumeFromArray(
            source.array, source.affine, name, nodeClassName="vtkMRMLLabelMapVolumeNode"
        )
        if organs.structures is not None:
            names = dict(organs.structure_names)
            table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", f"{name} colours")
            table.SetTypeToUser()
            table.SetNumberOfColors(max(names) + 1)
            for value in range(max(names) + 1):
                table.SetColor(value, names.get(value, "(none)"), 0.5, 0.5, 0.5)
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
        return node

    return add


@pytest.fixture(scope="session")
def in_geometry():
    """Function: phantom, kind -> (CT, organs) with the same voxels in another geometry: "isotropic", "left-handed" or "oblique"."""

    def make(phantom, kind):
        affine, array, labels, structures = (
            phantom.ct.affine.copy(),
            phantom.ct.array,
            phantom.organs.labels.array,
            phantom.organs.structures.array,
        )
        if kind == "left-handed":  # the same anatomy, its columns stored from left to right
            affine[:3, 3] += affine[:3, 0] * (array.shape[2] - 1)
            affine[:3, 0] *= -1
            array, labels, structures = (np.ascontiguousarray(a[:, :, ::-1]) for a in (array, labels, structures))
        elif kind == "oblique":  # the patient lies turned in the scanner
            a, b = np.radians((14.0, 9.0))
            turn = np.eye(4)
            turn[:3, :3] = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
                [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
            )
            affine = turn @ affine
        elif kind != "isotropic":
            raise ValueError(kind)
        organs = phantom.organs
        return replace(phantom.ct, array=array, affine=affine), replace(
            organs,
            labels=replace(organs.labels, array=labels, affine=affine),
            structures=replace(organs.structures, array=structures, affine=affine),
        )

    return make


@pytest.fixture(scope="session")
def abdomen():
    """Abdomen at 5 × 3 × 3 mm with contrast: anisotropic. Shared: never write to its arrays."""
    from PASTALib.phantom import make_phantom

    return make_phantom((5.0, 3.0, 3.0), region="abdomen")


@pytest.fixture
def transform_node(scene):
    """Function: node, 4x4 matrix -> linear parent transform of the node."""
    import slicer

    def add(node, matrix, name="registration"):
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.asarray(matrix, float)))
        node.SetAndObserveTransformNodeID(transform.GetID())
        return transform

    return add


@pytest.fixture
def bent_transform(scene):
    """Function: node -> non-linear parent transform (a grid) of the node."""
    import slicer
    import vtk

    def add(node):
        displacement = vtk.vtkImageData()
        displacement.SetDimensions(4, 4, 4)
        displacement.SetSpacing(200, 200, 200)
        displacement.SetOrigin(-300, -300, -300)
        displacement.AllocateScalars(vtk.VTK_DOUBLE, 3)
        displacement.GetPointData().GetScalars().Fill(1.0)
        bent = slicer.vtkOrientedGridTransform()
        bent.SetDisplacementGridData(displacement)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "bent")
        transform.SetAndObserveTransformFromParent(bent)
        node.SetAndObserveTransformNodeID(transform.GetID())
        return transform

    return add


@pytest.fixture
def new_session(ct_node, organs_node, phantom_enhanced):
    """Function: -> session in the 4 mm torso (or in the CT and organ map given); ``prepare(ct node, organs node)`` may move them first."""
    from PASTALib.mrml.session import SynthesisSession

    def make(ct=None, organs=None, prepare=None):
        nodes = ct_node(ct or phantom_enhanced.ct), organs_node(organs or phantom_enhanced.organs)
        if prepare is not None:
            prepare(*nodes)
        return SynthesisSession.create(*nodes)

    return make


@pytest.fixture(scope="session")
def deep_point():
    """Function: Volume, OrganMap, organ, number -> world point (RAS mm) well inside the organ, no voxel's centre; several by number."""
    from scipy import ndimage

    def find(organs, organ, number=0):
        mask = organs.mask(organ)
        (box,) = ndimage.find_objects(mask.astype(np.uint8))
        depth = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=organs.labels.spacing_zyx_mm)[
            1:-1, 1:-1, 1:-1
        ]
        deep = np.argwhere(depth >= 0.8 * depth.max()) + [part.start for part in box]
        chosen = deep[(number * 7919) % len(deep)] + [0.3, -0.2, 0.4]
        return tuple(float(c) for c in organs.labels.to_ras(chosen))

    return find
