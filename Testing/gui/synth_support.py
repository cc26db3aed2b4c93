"""What tests of PASTA Synth share: the phantom as nodes in any geometry, and a hand on the panel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]


def add_nodes(ct, organs, name: str = "CT"):
    """Nodes of a Volume and an OrganMap: (CT, label map named by a colour table where it knows structures)."""
    import slicer

    node = slicer.util.addVolumeFromArray(ct.array, ct.affine, name)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(0)
    node.GetDisplayNode().SetWindowLevel(350, 50)
    source = organs.structures or organs.labels
    labels = slicer.util.addVolumeFromArray(
        source.array, source.affine, f"{name} organs", nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    labels.CreateDefaultDisplayNodes()
    if organs.structures is not None:
        names = dict(organs.structure_names)
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", f"{name} colours")
        table.SetTypeToUser()
        table.SetNumberOfColors(max(names) + 1)
        for value in range(max(names) + 1):
            table.SetColor(value, names.get(value, "(none)"), 0.5, 0.5, 0.5)
        labels.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
    return node, labels


def in_geometry(phantom, kind: str):
    """(CT, organs) with the same voxels, "left-handed" or "oblique"; any other kind leaves them as they are."""
    ct, organs = phantom.ct, phantom.organs
    affine = ct.affine.copy()
    arrays = [ct.array, organs.labels.array, organs.structures.array]
    if kind == "left-handed":  # the same anatomy, its columns stored from left to right
        affine[:3, 3] += affine[:3, 0] * (arrays[0].shape[2] - 1)
        affine[:3, 0] *= -1
        arrays = [np.ascontiguousarray(array[:, :, ::-1]) for array in arrays]
    elif kind == "oblique":  # the patient lies turned in the scanner
        a, b = np.radians((14.0, 9.0))
        turn = np.eye(4)
        turn[:3, :3] = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
            [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
        )
        affine = turn @ affine
    array, labels, structures = arrays
    return replace(ct, array=array, affine=affine), replace(
        organs,
        labels=replace(organs.labels, array=labels, affine=affine),
        structures=replace(organs.structures, array=structures, affine=affine),
    )


def deep_indices(organs, organ: str) -> np.ndarray:
    """Indices (n, 3; z, y, x) of all voxels well inside an organ."""
    mask = organs.mask(organ)
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    depth = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=organs.labels.spacing_zyx_mm)[
        1:-1, 1:-1, 1:-1
    ]
    return np.argwhere(depth >= 0.8 * depth.max()) + [part.start for part in box]


def one_of(deep: np.ndarray, number: int) -> np.ndarray:
    """The index of that number, moved off its voxel's centre."""
    return deep[(number * 7919) % len(deep)] + [0.3, -0.2, 0.4]


def deep_index(organs, organ: str, number: int = 0) -> np.ndarray:
    """Index (z, y, x) well inside an organ, no voxel's centre; several by number."""
    return one_of(deep_indices(organs, organ), number)


class Hand:
    """Uses the opened module as a user does."""

    def __init__(self, module, layout):
        self.module, self.layout, self.ui = module, layout, module.ui

    @property
    def editor(self):
        return self.module.widget.editor

    @property
    def session(self):
        return self.editor.session

    @property
    def parameters(self):
        return self.module.widget.parameters

    def start(self, ct, organs) -> None:
        """Choose the nodes, press Start, wait."""
        self.module.choose(self.ui.ctSelector, ct.GetName())
        self.module.choose(self.ui.organsSelector, organs.GetName())
        self.module.press(self.ui.startButton)
        self.wait(lambda: self.session is not None)

    def choose_type(self, name: str) -> None:
        self.module.choose(self.ui.typeBox, name)

    def give_size(self, size_mm: float | None) -> None:
        """The same extent along all axes; None leaves the size to the priors."""
        if self.ui.sizeGivenBox.checked != (size_mm is not None):
            self.module.press(self.ui.sizeGivenBox)
        if size_mm is not None:
            for box in (self.ui.sizeZBox, self.ui.sizeXBox, self.ui.sizeYBox):
                box.value = float(size_mm)

    def world_of(self, index_zyx) -> np.ndarray:
        """World point of an index of the user's CT, by MRML."""
        from PASTALib.mrml.volumes import affine_of

        return (affine_of(self.session.nodes.ct) @ [*np.asarray(index_zyx, float)[::-1], 1.0])[:3]

    def click(self, view: str, world) -> np.ndarray:
        """Press Place, show the point in a view and click it; returns the world position that was hit. Waits for the lesion."""
        shown = self.layout[view]
        shown.zoom(160.0)
        shown.jump_to(world, centre=True)
        self.module.press(self.ui.placeButton)
        assert self.editor.point.placing
        hit = shown.click_ras(world)
        self.settle()
        return hit

    def settle(self) -> None:
        """Wait until the lesion asked for is there, and refined if it is to be."""
        import slicer

        for _turn in range(3):
            slicer.app.processEvents()
        self.wait(lambda: not self.editor.busy and not self.editor.refinement.running)

    def wait(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        self.module.wait_until(condition, timeout_s)

    def place(self, organ: str, organs, view: str = "Red", number: int = 0):
        """Click deep inside an organ; returns (point hit, the lesion being edited)."""
        hit = self.click(view, self.world_of(deep_index(organs, organ, number)))
        return hit, self.editor.current


def voxels(node) -> np.ndarray:
    import slicer

    return slicer.util.arrayFromVolume(node)


def segment_centroid(session, identifier: str) -> np.ndarray:
    """World RAS mm of the centroid of a segment, from the scene alone."""
    from PASTALib.mrml.organ_source import BINARY, oriented_affine, oriented_array

    node = session.nodes.segmentation
    image = node.GetSegmentation().GetSegment(identifier).GetRepresentation(BINARY)
    local = oriented_affine(image) @ [*np.argwhere(oriented_array(image)).mean(0)[::-1], 1.0]
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(local[:3], world)
    return np.array(world)


@pytest.fixture
def hand(open_module, layout):
    """Function: -> the module opened anew, with refinement switched off."""

    def open_(refine: bool = False) -> Hand:
        module = open_module("PASTASynth", ROOT / "PASTASynth", size=(400, 1600))
        opened = Hand(module, layout)
        opened.parameters.refine = refine
        return opened

    return open_


@pytest.fixture
def started(hand, phantom_enhanced):
    """The module with a session in the 4 mm phantom."""
    opened = hand()
    opened.start(*add_nodes(phantom_enhanced.ct, phantom_enhanced.organs))
    return opened
