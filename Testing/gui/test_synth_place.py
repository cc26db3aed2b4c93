"""Lesions are placed by clicks: every type, from every view, in every geometry; the centroid meets the click, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from PASTALib import taxonomy
from Testing.gui.synth_support import (  # noqa: F401  fixtures
    add_nodes,
    deep_index,
    hand,
    in_geometry,
    segment_centroid,
    started,
    voxels,
)

TURN = np.array([[0.8, -0.6, 0, 120.0], [0.6, 0.8, 0, -70.0], [0, 0, 1, 300.0], [0, 0, 0, 1]])
BY_VIEW = {view: taxonomy.LESIONS[number::3] for number, view in enumerate(("Red", "Green", "Yellow"))}
FREE = {  # types that may lie anywhere in their organ (not at its rim, wall or calyces), and a size (mm) that it has room for
    "lung_tumor": 24.0,
    "liver_tumor": 24.0,
    "liver_cyst": 20.0,
    "bone_metastasis": 14.0,
}


def off_click(opened, hit, before=None) -> float:
    """How far the centroid of the segment is from the click, in voxels of the finest axis.

    The remark in the panel is checked, and that no voxel outside the region differs from ``before`` (the CT by default).
    """
    session, lesion = opened.session, opened.editor.current
    assert lesion is not None and not lesion.is_draft, opened.ui.lesionLabel.text
    now, original = voxels(session.nodes.output), voxels(session.nodes.ct) if before is None else before
    outside = np.ones(original.shape, bool)
    outside[lesion.result.region] = ~lesion.result.changed
    assert np.array_equal(now[outside], original[outside]) and (now != original).any()
    off = np.linalg.norm(segment_centroid(session, lesion.segment_id) - hit) / session.scan.spacing.min()
    assert ("mm from the click" in opened.ui.notesLabel.text) == (off > 0.5 + 1e-4), (off, opened.ui.notesLabel.text)
    return off


@pytest.mark.parametrize("view", BY_VIEW)
def test_each_type_is_placed_by_a_click(started, view):  # noqa: F811
    """Types that may lie anywhere meet the click, others go to the nearest allowed site and the panel says how far that is."""
    started.parameters.anyPhase = True
    original = voxels(started.session.nodes.ct).copy()
    for lesion in BY_VIEW[view]:
        started.choose_type(lesion.name)
        started.give_size(FREE.get(lesion.key))
        hit, placed = started.place(lesion.organ, started.session.scan.organs, view, lesion.value)
        off = off_click(started, hit)
        assert placed.key == lesion.key
        if lesion.key in FREE:
            assert off <= 0.5, (lesion.key, off)
        else:
            organ = started.session.scan.organs.mask(lesion.organ)
            index = np.rint(started.session.scan.ct.to_index(np.array(placed.result.center_ras))).astype(int)
            assert organ[tuple(slice(max(i - 4, 0), i + 5) for i in index)].any(), f"{lesion.key} lies beside its organ"
        started.module.press_keys("Ctrl+Z")
        assert np.array_equal(voxels(started.session.nodes.output), original)
    assert np.array_equal(voxels(started.session.nodes.ct), original)


@pytest.fixture(scope="module")
def abdomen():
    """Abdomen at 5 × 3 × 3 mm with contrast: anisotropic. Shared: never write to its arrays."""
    from PASTALib.phantom import make_phantom

    return make_phantom((5.0, 3.0, 3.0), region="abdomen")


@pytest.mark.parametrize("moved", [False, True], ids=["", "transformed"])
@pytest.mark.parametrize("kind", ["anisotropic", "left-handed", "oblique"])
def test_in_every_geometry(hand, phantom_enhanced, abdomen, kind, moved):  # noqa: F811
    import slicer

    ct, organs = in_geometry(abdomen if kind == "anisotropic" else phantom_enhanced, kind)
    nodes = add_nodes(ct, organs)
    if moved:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "registration")
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(TURN))
        for node in nodes:
            node.SetAndObserveTransformNodeID(transform.GetID())
    opened = hand()
    opened.start(*nodes)
    for number, (view, name) in enumerate((("Red", "Liver tumor"), ("Yellow", "Liver cyst"))):
        opened.choose_type(name)
        opened.give_size(18.0)
        before = voxels(opened.session.nodes.output).copy()
        hit, _placed = opened.place("liver", organs, view, number)
        assert off_click(opened, hit, before) <= 0.5, (name, view)
        opened.module.press_keys("Ctrl+Return")
    assert len(opened.session.lesions) == 2


def test_the_point_is_dragged(started):  # noqa: F811
    started.give_size(18.0)
    hit, first = started.place("liver", started.session.scan.organs)
    was = first.result.center_ras
    target = hit + [20.0, 10.0, 0.0]
    view = started.layout["Red"]
    view.render()
    view.drag_ras(hit, target)
    started.settle()
    assert started.editor.current is first, "it is the same lesion, elsewhere"
    assert off_click(started, target) <= 1.0, "a pixel of the view is half a millimetre"
    assert np.linalg.norm(np.subtract(first.result.center_ras, was)) > 15


def test_in_the_3d_view(started):  # noqa: F811
    """A click in 3D places on what is drawn there: here the surface of the organs."""
    import slicer

    from Testing.slicerhost.layout import Layout

    organs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(started.parameters.organs, organs)
    for identifier in list(organs.GetSegmentation().GetSegmentIDs()):
        if organs.GetSegmentation().GetSegment(identifier).GetName() != "liver":
            organs.GetSegmentation().RemoveSegment(identifier)
    organs.CreateDefaultDisplayNodes()
    organs.CreateClosedSurfaceRepresentation()
    view = Layout.get((320, 320), three_d=True)["1"]
    view.reset_camera()
    view.render()
    started.module.press(started.ui.placeButton)
    view.mouse.click(160, 160)
    started.settle()
    lesion = started.editor.current
    assert lesion is not None and lesion.key == "liver_tumor"
    click = np.array(started.session.world(lesion.asked.at_ras))
    bounds = np.zeros(6)
    organs.GetRASBounds(bounds)
    assert (click >= bounds[::2] - 1).all() and (click <= bounds[1::2] + 1).all()


def test_a_click_beside_the_scan(started):  # noqa: F811
    started.layout.jump_to((0, 0, 0))
    started.module.press(started.ui.placeButton)
    started.layout["Red"].zoom(2000.0)
    started.layout["Red"].mouse.click(3, 3)
    started.wait(lambda: "outside the scan" in started.ui.lesionLabel.text)
    assert started.editor.current is None and not started.editor.busy


def test_placing_is_cancelled(started):  # noqa: F811
    started.module.press(started.ui.placeButton)
    assert started.ui.placeButton.checked and "Click in a slice" in started.ui.hintLabel.text
    started.module.press_keys("Esc")
    assert not started.ui.placeButton.checked and not started.editor.point.placing
    started.layout["Red"].mouse.click(160, 160)
    started.settle()
    assert started.editor.current is None


def test_placed_where_the_type_likes_to_lie(started):  # noqa: F811
    started.choose_type("Liver cyst")
    started.module.press(started.ui.somewhereButton)
    started.settle()
    first = started.editor.current
    where = first.result.center_ras
    started.ui.massEffectSlider.value = 2.0  # from now on it stays there
    started.settle()
    assert started.editor.current is first and first.result.request.mass_effect_mm == 2.0
    assert np.linalg.norm(np.subtract(first.result.center_ras, where)) <= 4.0


@pytest.mark.slow
def test_on_a_real_ct(hand, real_data):  # noqa: F811
    """Every type that the scan has the organ for."""
    from PASTALib.organs import read_organs
    from PASTALib.volume import read_volume

    case = real_data / "cases" / "S01_ts_torso"
    if not (case / "organs_ts104.nii.gz").is_file():
        pytest.skip(f"{case}: not there")
    ct = read_volume(case / "ct.nii.gz")
    organs = read_organs(case / "organs_ts104.nii.gz", "totalseg-v1", like=ct)
    opened = hand()
    opened.start(*add_nodes(ct, organs))
    opened.parameters.anyPhase = True
    there = [lesion for lesion in taxonomy.LESIONS if lesion.organ in opened.session.scan.geometry]
    assert len(there) >= 12
    views = list(BY_VIEW)
    for number, lesion in enumerate(there):
        opened.choose_type(lesion.name)
        opened.give_size({"liver_tumor": 20.0, "liver_cyst": 16.0}.get(lesion.key))
        hit, _placed = opened.place(lesion.organ, organs, views[number % 3], number)
        off = off_click(opened, hit)
        assert off <= 0.5 or lesion.organ != "liver", (lesion.key, off)
        opened.module.press_keys("Ctrl+Z")
    assert np.array_equal(voxels(opened.session.nodes.output), ct.array)
