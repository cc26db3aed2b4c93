"""Views: clicks land where they should, overlays are drawn where they should, and pictures show both."""

from __future__ import annotations

import numpy as np
import pytest

SPACING = np.array([0.9, 1.1, 2.3])  # mm along i, j, k
CENTRE_IJK = np.array([40.0, 30.0, 20.0])


def oblique_matrix() -> np.ndarray:
    """IJK to RAS of a volume turned about two axes."""
    a, b = np.deg2rad(25), np.deg2rad(-15)
    about_s = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_r = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_s @ about_r @ np.diag(SPACING)
    matrix[:3, 3] = -40, -20, 30
    return matrix


@pytest.fixture
def oblique(layout):
    """A volume with a bright block, shown in all views, whose slices pass through the block's centre."""
    import slicer

    array = np.full((41, 61, 81), -1000, np.int16)
    array[12:29, 20:41, 28:53] = 40
    volume = slicer.util.addVolumeFromArray(array, oblique_matrix(), name="CT")
    display = volume.GetDisplayNode()
    display.SetAutoWindowLevel(0)
    display.SetWindowLevel(1400, -400)
    layout.show(volume)
    layout.jump_to(centre())
    return volume


def centre() -> np.ndarray:
    return (oblique_matrix() @ [*CENTRE_IJK, 1.0])[:3]


def place_mode(node):
    import slicer

    slicer.modules.markups.logic().SetActiveList(node)
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.Place)


@pytest.mark.parametrize("name,orientation", [("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal")])
def test_a_click_places_a_control_point_within_half_a_voxel(oblique, layout, name, orientation):
    import slicer

    view = layout[name]
    assert view.node.GetOrientation() == orientation
    view.zoom(150.0)
    view.jump_to(centre(), centre=True)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Seed")
    node.CreateDefaultDisplayNodes()
    heard = []
    node.AddObserver(slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, lambda *_: heard.append(name))
    place_mode(node)
    target = centre() + view.pixel_to_ras(17, -9) - view.pixel_to_ras(0, 0)
    view.click_ras(target)
    assert node.GetNumberOfDefinedControlPoints() == 1
    error = np.linalg.norm(np.array(node.GetNthControlPointPositionWorld(0)) - target)
    assert error <= SPACING.min() / 2
    assert heard == [name]
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform


def test_a_control_point_is_dragged(oblique, layout):
    import slicer

    view = layout["Red"]
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Seed")
    node.CreateDefaultDisplayNodes()
    node.AddControlPointWorld(*centre())
    view.render()
    target = centre() + view.pixel_to_ras(30, 12) - view.pixel_to_ras(0, 0)
    view.drag_ras(centre(), target)
    assert np.allclose(node.GetNthControlPointPositionWorld(0), target, atol=1.0)


def test_the_wheel_moves_the_slice_and_keys_reach_the_view(oblique, layout):
    view = layout["Red"]
    offset = view.node.GetSliceOffset()
    view.mouse.wheel(100, 100, 2)
    moved = view.node.GetSliceOffset() - offset
    view.mouse.wheel(100, 100, -2)
    assert abs(moved) > 0.5
    assert view.node.GetSliceOffset() == pytest.approx(offset)
    view.mouse.key("f")
    assert view.node.GetSliceOffset() != pytest.approx(offset)


def test_points_out_of_the_slice_or_out_of_sight_cannot_be_clicked(oblique, layout):
    view = layout["Red"]
    with pytest.raises(ValueError, match="jump_to it first"):
        view.click_ras(centre() + [0, 0, 30])
    view.zoom(20.0)
    view.jump_to(centre(), centre=True)
    with pytest.raises(ValueError, match="outside the field of view"):
        view.click_ras(centre() + [60, 0, 0])
    with pytest.raises(ValueError, match="unknown modifiers"):
        view.mouse.click(1, 1, modifiers=["ctrl"])


@pytest.mark.parametrize("name", ["Red", "Green", "Yellow"])
def test_the_image_is_the_volume(oblique, layout, name):
    view = layout[name]
    view.jump_to(centre(), centre=True)
    picture = view.render()
    assert (picture.shape, picture.dtype) == ((320, 320, 3), np.uint8)
    x, y = view.pixel_of(centre())
    bright = picture[319 - y, x]
    assert bright[0] == bright[1] == bright[2] == pytest.approx(255 * (40 + 1100) / 1400, abs=3)
    assert picture[0, 0].max() < 30


@pytest.fixture
def overlay(oblique):
    """A red segment on the bright block."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lesion")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(oblique)
    segment = node.GetSegmentation().AddEmptySegment("lesion", "lesion", [1.0, 0.0, 0.0])
    mask = (slicer.util.arrayFromVolume(oblique) > 0).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment, oblique)
    return node


def red(picture) -> np.ndarray:
    others = picture[..., 1:].max(axis=-1)
    return picture[..., 0].astype(int) - others > 40


@pytest.mark.parametrize("name", ["Red", "Green", "Yellow"])
def test_an_overlay_is_drawn_where_the_segment_is(overlay, layout, name):
    view = layout[name]
    rows, columns = np.nonzero(red(view.render()))
    shown = view.pixel_to_ras(columns.mean(), 319 - rows.mean())
    assert np.linalg.norm(shown - centre()) < 2.0
    overlay.GetDisplayNode().SetVisibility(False)
    assert not red(view.render()).any()


def test_the_3d_view_shows_surfaces(overlay, host):
    from Testing.slicerhost.layout import Layout

    layout = Layout.get((200, 200), three_d=True)
    view = layout["1"]
    overlay.CreateClosedSurfaceRepresentation()
    view.reset_camera()
    rows, columns = np.nonzero(red(view.render()))
    assert rows.size > 200
    x, y = view.pixel_of(centre())
    assert abs(columns.mean() - x) < 10
    assert abs(199 - rows.mean() - y) < 10


def test_the_layout_is_slicer_s_layout_manager(oblique, layout, host_app):
    import slicer

    manager = host_app.layoutManager()
    assert manager.sliceViewNames() == ("Red", "Yellow", "Green")
    assert manager.sliceWidget("Red").sliceLogic() is layout["Red"].logic
    assert manager.sliceWidget("Purple") is None
    slicer.util.setSliceViewerLayers(background=None)
    assert layout["Green"].render().max() == 0
    slicer.util.setSliceViewerLayers(background=oblique, fit=True)
    assert layout["Green"].render().max() > 100
    slicer.util.resetSliceViews()
    slicer.util.forceRenderAllViews()


def test_a_screenshot_has_the_panel_and_the_overlay_in_their_places(overlay, layout, tmp_path):
    import qt

    from Testing.slicerhost.screenshot import BAR, GAP, screenshot, to_array

    panel = qt.QWidget()
    panel.setStyleSheet("background: #00ff00")
    for name in layout.slices:
        layout[name].jump_to(centre(), centre=True)
    picture = screenshot(panel, layout, tmp_path / "shot.png", panel_width=300, height=700, view_size=240)
    assert picture.shape == (700, 300 + GAP + 2 * (240 + GAP), 3)
    assert (picture[5, 5] == (0, 255, 0)).all()
    for column, row in ((0, 0), (0, 1), (1, 1)):  # axial; coronal; sagittal
        left, top = 300 + GAP + column * (240 + GAP), BAR + row * (240 + GAP + BAR)
        cell = picture[top : top + 240, left : left + 240]
        rows, columns = np.nonzero(red(cell))
        assert abs(columns.mean() - 120) < 3
        assert abs(rows.mean() - 120) < 3
    assert (picture[-3:, -3:] == 255).all(), "the label's corner"
    np.testing.assert_array_equal(to_array(qt.QImage(str(tmp_path / "shot.png"))), picture)
    assert layout["Red"].size == (320, 320)


def test_what_is_cut_off_in_a_panel_is_named(host):
    import qt

    from Testing.slicerhost.screenshot import cut_off

    panel = qt.QWidget()
    label = qt.QLabel("a label that needs about two hundred pixels", panel)
    label.name = "longLabel"
    label.setGeometry(0, 0, 280, 20)
    panel.show()
    assert cut_off(panel, 400) == []
    assert cut_off(panel, 400, scale=2.0) == ["longLabel"]
    assert cut_off(panel, 200) == ["longLabel"]


def test_views_are_rendered_by_the_event_loop_when_they_change(oblique, layout, host_app):
    import slicer

    from Testing.slicerhost.event_loop import EventLoopWatch

    view = layout["Red"]
    x, y = view.pixel_of(centre())
    array = slicer.util.arrayFromVolume(oblique)
    with layout.live() as rendering, EventLoopWatch() as watch:
        before = rendering.frames
        array[:] = 300
        slicer.util.arrayFromVolumeModified(oblique)
        slicer.util.arrayFromVolumeModified(oblique)
        assert rendering.frames == before, "not before the event loop turns"
        watch.until(lambda: rendering.frames > before)
        watch.step()
        frames = rendering.frames
        assert frames - before <= len(layout.views), "two changes share one rendering"
        view.jump_to(centre() + [0, 0, 4])
        watch.until(lambda: rendering.frames > frames)
    assert watch.longest_ms >= max(rendering.times_ms)
    assert view.render()[319 - y, x].min() > 230
    frames = rendering.frames
    slicer.util.arrayFromVolumeModified(oblique)
    host_app.processEvents()
    assert rendering.frames == frames


def test_views_live_on_when_the_scene_is_saved_closed_and_opened(overlay, host, tmp_path):
    import slicer

    from Testing.slicerhost import reset_scene
    from Testing.slicerhost.layout import Layout

    layout = Layout.get((320, 320), three_d=True)
    overlay.CreateClosedSurfaceRepresentation()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    reset_scene()
    assert not any(red(view.render()).any() for view in layout.views)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    layout.show(slicer.util.getNode("CT"))
    layout["1"].reset_camera()
    for view in layout.slices.values():
        view.jump_to(centre(), centre=True)
    assert all(red(view.render()).any() for view in layout.views)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Seed")
    node.CreateDefaultDisplayNodes()
    for count, view in enumerate(layout.slices.values(), start=1):
        place_mode(node)
        shown = view.click_ras(centre())
        assert node.GetNumberOfDefinedControlPoints() == count
        assert np.allclose(node.GetNthControlPointPositionWorld(count - 1), shown, atol=1e-6)
