"""A lesion lies where the click was: in every geometry, under transforms, measured on its segment in the scene."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.mrml.organ_source import BINARY, oriented_affine, oriented_array
from PASTALib.mrml.placing import synthesise_at
from PASTALib.mrml.volumes import affine_of
from PASTALib.synthesis.generator import synthesise
from PASTALib.synthesis.scan import prepare_scan
from PASTALib.synthesis.spec import LesionRequest

TURN = np.array([[0.8, -0.6, 0, 120.0], [0.6, 0.8, 0, -70.0], [0, 0, 1, 300.0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def prepared_abdomen(abdomen):
    return prepare_scan(abdomen.ct, abdomen.organs)


def segment_centroid(session) -> np.ndarray:
    """World RAS mm of the centroid of the lesion's segment, from the scene alone."""
    node = session.nodes.segmentation
    image = node.GetSegmentation().GetNthSegment(0).GetRepresentation(BINARY)
    local = oriented_affine(image) @ [*np.argwhere(oriented_array(image)).mean(0)[::-1], 1.0]
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(local[:3], world)
    return np.array(world)


def world_of(session, index_zyx) -> np.ndarray:
    """World point of a voxel of the user's CT, by MRML."""
    local = affine_of(session.nodes.ct, world=False) @ [*np.asarray(index_zyx, float)[::-1], 1.0]
    world = [0.0, 0.0, 0.0]
    session.nodes.ct.TransformPointToWorld(local[:3], world)
    return np.array(world)


@pytest.mark.parametrize("moved", [False, True], ids=["", "transformed"])
@pytest.mark.parametrize("kind", ["isotropic", "anisotropic", "left-handed", "oblique"])
def test_the_centroid_meets_the_click(
    new_session, phantom_enhanced, abdomen, in_geometry, deep_point, transform_node, kind, moved
):
    phantom = abdomen if kind == "anisotropic" else phantom_enhanced
    ct, organs = in_geometry(phantom, "isotropic" if kind == "anisotropic" else kind)

    def move(*nodes):
        for node in nodes if moved else ():
            transform_node(node, TURN)

    session = new_session(ct, organs, move)
    for number, lesion in enumerate(("liver_tumor", "liver_cyst")):
        organ = taxonomy.lesion(lesion).organ
        click = world_of(session, organs.labels.to_index(deep_point(organs, organ, number)))
        request = LesionRequest(lesion, seed=number, at_ras=session.place(click), size_mm=(24.0, 22.0, 20.0))
        result = session.preview(request)
        error = np.linalg.norm(segment_centroid(session) - click)
        assert error <= 0.5 * session.scan.spacing.min(), (lesion, error)
        assert np.allclose(session.world(result.center_ras), segment_centroid(session), atol=1e-3)
        assert session.last_request.at_ras == pytest.approx(request.at_ras)


@pytest.mark.parametrize(
    "lesion,seed", [("liver_tumor", 0), ("lung_tumor", 7), ("lung_tumor", 10), ("bone_metastasis", 11)]
)
def test_irregular_outlines_are_centred_too(abdomen, prepared_abdomen, deep_point, lesion, seed):
    """Their centroid lies beside the site that they were drawn around."""
    click = deep_point(abdomen.organs, taxonomy.lesion(lesion).organ)
    request = LesionRequest(lesion, seed=seed, at_ras=click, attributes={"shape": "Irregular"})
    plain, centred = (make(prepared_abdomen, request) for make in (synthesise, synthesise_at))
    half_a_voxel = 0.5 * prepared_abdomen.spacing.min()
    assert np.linalg.norm(np.subtract(plain.center_ras, click)) > half_a_voxel
    assert np.linalg.norm(np.subtract(centred.center_ras, click)) <= half_a_voxel
    again = synthesise(prepared_abdomen, centred.request)
    assert again.after.tobytes() == centred.after.tobytes(), "the request that is kept makes the same lesion"


def test_a_transform_that_comes_later(new_session, phantom_enhanced, deep_point, transform_node):
    """The CT is moved after the scan was prepared: clicks are in the world of now."""
    session = new_session()
    index = phantom_enhanced.ct.to_index(deep_point(phantom_enhanced.organs, "liver"))
    transform = transform_node(session.nodes.ct, TURN)
    for node in (session.nodes.output, session.nodes.segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
    click = world_of(session, index)
    session.preview(LesionRequest("liver_tumor", seed=0, at_ras=session.place(click), size_mm=(24.0, 22.0, 20.0)))
    assert np.linalg.norm(segment_centroid(session) - click) <= 0.5 * session.scan.spacing.min()


def test_points_outside_and_bent_transforms(new_session, bent_transform):
    session = new_session()
    with pytest.raises(InputError, match="9000.0, 0.0, 0.0 mm .* outside the scan"):
        session.place((9000, 0, 0))
    bent_transform(session.nodes.output)
    with pytest.raises(InputError, match="non-linear"):
        session.place((0, 0, 0))


def test_bound_types_go_to_the_nearest_allowed_site(new_session, phantom_enhanced, deep_point):
    """A stone asked for in the middle of the liver lies in the nearest kidney's collecting system."""
    session = new_session()
    click = deep_point(phantom_enhanced.organs, "liver")
    result = session.preview(LesionRequest("kidney_stone", seed=1, at_ras=click))
    assert result.center_ras[0] > 0, "the right kidney is nearer to the liver"
    assert result.parameters["clicked_ras"] == pytest.approx(click)


@pytest.mark.parametrize("lesion", taxonomy.LESION_KEYS)
def test_every_type_goes_in_and_out(new_session, phantom_enhanced, deep_point, lesion):
    session = new_session()
    organ = taxonomy.lesion(lesion).organ
    result = session.preview(LesionRequest(lesion, seed=2, at_ras=deep_point(phantom_enhanced.organs, organ)))
    now, original = slicer.util.arrayFromVolume(session.nodes.output), phantom_enhanced.ct.array
    outside = np.ones(original.shape, bool)
    outside[result.region] = ~result.changed
    assert np.array_equal(now[outside], original[outside]) and (now != original).any()
    session.accept()
    session.undo()
    assert now.tobytes() == original.tobytes()
