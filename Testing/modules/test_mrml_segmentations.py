"""Organ maps, lesion masks and results as segments: names, terminology, geometry, and quick updates of one segment."""

from __future__ import annotations

import time

import numpy as np
import pytest
import slicer
import vtk

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.mrml import looks, segmentations
from PASTALib.mrml.organ_source import label_source, lesion_mask_of, organ_map_of
from PASTALib.volume import Volume

SHIFT = np.array([[1, 0, 0, 40.0], [0, 1, 0, -25.0], [0, 0, 1, 10.0], [0, 0, 0, 1]])


def tag(segment, name) -> str:
    value = vtk.reference("")
    segment.GetTag(name, value)
    return str(value)


def segments_of(node) -> dict:
    segmentation = node.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(i) for i in range(segmentation.GetNumberOfSegments())]
    return {identifier: segmentation.GetSegment(identifier) for identifier in ids}


def dice(a, b) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.fixture
def abdomen_node(ct_node, abdomen):
    return ct_node(abdomen.ct)


def with_lesions(organs: np.ndarray) -> np.ndarray:
    """PASTA labels with two liver tumors and a kidney cyst."""
    labels = organs.copy()
    for key, organ, share in (
        ("liver_tumor", "liver", 0.3),
        ("liver_tumor", "liver", 0.7),
        ("kidney_cyst", "kidney", 0.5),
    ):
        inside = np.argwhere(organs == taxonomy.organ(organ).value)
        z, y, x = inside[int(share * len(inside))]
        ball = (slice(z - 1, z + 2), slice(y - 2, y + 3), slice(x - 2, x + 3))
        labels[ball] = taxonomy.lesion(key).value
    return labels


# --- results as segments -----------------------------------------------------------------------------------------


def test_every_type_has_a_look_of_its_own():
    every = [looks.look(key) for key in (*taxonomy.ORGAN_KEYS, *taxonomy.LESION_KEYS)]
    assert len({item.rgb for item in every}) == len({item.terminology for item in every}) == len(every) == 25
    assert [looks.key_of_terminology(item.terminology) for item in every] == [item.key for item in every]
    assert looks.key_of_terminology("a~b") is None


def test_slicer_reads_the_terminology(scene, tmp_path):
    import json

    logic = slicer.modules.terminologies.logic()
    for key in ("liver", "liver_tumor"):
        entry = slicer.vtkSlicerTerminologyEntry()
        assert logic.DeserializeTerminologyEntry(looks.look(key).terminology, entry)
        assert (
            entry.GetTypeObject().GetCodeMeaning()
            == (taxonomy.organ(key) if key in taxonomy.ORGAN_KEYS else taxonomy.lesion(key)).code.meaning
        )
    path = tmp_path / "SegmentationCategoryTypeModifier-PASTA.term.json"
    path.write_text(json.dumps(looks.terminology_json()), encoding="utf-8")
    assert logic.LoadTerminologyFromFile(str(path)) == looks.CONTEXT
    assert logic.IsTerminologyContextLoaded(looks.CONTEXT)


def test_a_result_becomes_segments(abdomen, abdomen_node):
    labels = with_lesions(abdomen.organs.labels.array)
    node = segmentations.segmentation_of(segmentations.split_labels(labels), abdomen_node, "result")
    found = segments_of(node)
    organs = [organ.key for organ in taxonomy.ORGANS if (labels == organ.value).any()]
    assert list(found) == [*organs, "liver_tumor_1", "liver_tumor_2", "kidney_cyst_1"]
    assert found["liver_tumor_2"].GetName() == "Liver tumor 2"
    for identifier, segment in found.items():
        kind = looks.look(identifier.rstrip("_123"))
        assert tag(segment, segment.GetTerminologyEntryTagName()) == kind.terminology
        assert segment.GetColor() == pytest.approx(kind.colour)
        mask = segmentations.read_segment(node, identifier, abdomen.ct)
        value = (taxonomy.organ if kind.key in organs else taxonomy.lesion)(kind.key).value
        if kind.key in organs:
            assert np.array_equal(mask, labels == value)
        else:
            assert mask.any() and not (mask & (labels != value)).any()
    both = segmentations.read_segment(node, "liver_tumor_1", abdomen.ct)
    both |= segmentations.read_segment(node, "liver_tumor_2", abdomen.ct)
    assert np.array_equal(both, labels == taxonomy.lesion("liver_tumor").value)


def test_a_result_without_lesions_or_organs(abdomen, abdomen_node):
    empty = np.zeros(abdomen.ct.array.shape, np.uint8)
    node = segmentations.segmentation_of(segmentations.split_labels(empty), abdomen_node, "nothing")
    assert not segments_of(node)
    part = segmentations.LesionPart("gallstone", (slice(3, 6),) * 3, np.ones((3, 3, 3), bool))
    node = segmentations.segmentation_of(segmentations.split_labels(empty, [part]), abdomen_node, "one")
    assert list(segments_of(node)) == ["gallstone_1"]


# --- one segment -------------------------------------------------------------------------------------------------


def test_an_update_replaces_one_segment_only(abdomen, abdomen_node):
    node = segmentations.new_segmentation_node(abdomen_node, "lesions")
    masks = {}
    for name, start in (("a", 4), ("b", 20)):
        mask = np.random.default_rng(start).random((8, 9, 10)) > 0.4
        region = (slice(start, start + 8), slice(30, 39), slice(40, 50))
        identifier = segmentations.add_segment(node, abdomen_node, "liver_cyst", region, mask, name)
        masks[identifier] = (region, mask)
    first, second = masks
    region, mask = (slice(22, 30), slice(5, 12), slice(60, 66)), np.ones((8, 7, 6), bool)
    segmentations.update_segment(node, second, abdomen_node, region, mask)
    masks[second] = (region, mask)
    for identifier, (box, inside) in masks.items():
        expected = np.zeros(abdomen.ct.array.shape, bool)
        expected[box] = inside
        assert np.array_equal(segmentations.read_segment(node, identifier, abdomen.ct), expected), identifier
    with pytest.raises(InputError, match="no segment 'c'"):
        segmentations.read_segment(node, "c", abdomen.ct)


def test_a_segment_comes_back_as_it_was(abdomen, abdomen_node):
    node = segmentations.new_segmentation_node(abdomen_node, "lesions")
    ids = [
        segmentations.add_segment(node, abdomen_node, "gallstone", (slice(i, i + 4),) * 3, np.ones((4, 4, 4), bool))
        for i in (2, 9, 16)
    ]
    before = segmentations.read_segment(node, ids[1], abdomen.ct)
    node.GetSegmentation().GetSegment(ids[1]).SetName("renamed by hand")
    kept = segmentations.take_segment(node, ids[1])
    assert list(segments_of(node)) == [ids[0], ids[2]]
    segmentations.put_segment(node, ids[1], kept, ids[2])
    assert list(segments_of(node)) == ids
    assert segments_of(node)[ids[1]].GetName() == "renamed by hand"
    assert np.array_equal(segmentations.read_segment(node, ids[1], abdomen.ct), before)
    assert segmentations.take_segment(node, "gone") is None


def test_an_update_is_quick(abdomen, abdomen_node):
    node = segmentations.new_segmentation_node(abdomen_node, "lesions")
    mask = np.zeros((60, 64, 64), bool)
    mask[5:50, 5:50, 5:50] = True
    identifier = segmentations.add_segment(
        node, abdomen_node, "liver_tumor", (slice(0, 60), slice(0, 64), slice(0, 64)), mask
    )
    runs = []
    for start in range(30):
        box = (slice(0, 60), slice(start, start + 64), slice(start, start + 64))
        begun = time.thread_time()
        segmentations.update_segment(node, identifier, abdomen_node, box, mask)
        runs.append(time.thread_time() - begun)
    assert min(runs) < 1e-3, runs


# --- organ maps --------------------------------------------------------------------------------------------------


def test_organ_map_from_our_own_segmentation(abdomen, abdomen_node):
    labels = with_lesions(abdomen.organs.labels.array)
    node = segmentations.segmentation_of(segmentations.split_labels(labels), abdomen_node, "result")
    organs = organ_map_of(node, abdomen.ct)
    expected = labels.copy()
    for lesion in taxonomy.LESIONS:
        expected[labels == lesion.value] = taxonomy.organ(lesion.organ).value
    assert np.array_equal(organs.labels.array, expected)
    assert organs.structures is None
    assert any("Liver tumor" in note for note in organs.notes)


def test_organ_map_from_named_classes_keeps_structures(abdomen, abdomen_node, organs_node):
    """As TotalSegmentator's extension delivers: one segment per class."""
    labels = organs_node(abdomen.organs)
    node = segmentations.new_segmentation_node(abdomen_node, "TotalSegmentator")
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, node)
    for source in (node, labels):
        organs = organ_map_of(source, abdomen.ct)
        assert np.array_equal(organs.labels.array, abdomen.organs.labels.array)
        assert set(organs.structure_names.values()) == set(abdomen.organs.structure_names.values())
        for name in ("aorta", "vertebrae_L1"):
            assert np.array_equal(organs.structure_mask(name), abdomen.organs.structure_mask(name))


def test_terminology_alone_is_enough(abdomen, abdomen_node):
    node = segmentations.new_segmentation_node(abdomen_node, "drawn")
    mask = abdomen.organs.mask("liver")
    box = tuple(slice(0, n) for n in mask.shape)
    segmentations.add_segment(node, abdomen_node, "liver", box, mask, "Segment_1", "Segment_1")
    entry = (
        "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~"
        "SCT^24028007^Right~Anatomic codes - DICOM master list~^^~^^"
    )
    identifier = segmentations.add_segment(
        node, abdomen_node, "kidney", box, abdomen.organs.structure_mask("kidney_right"), "Segment_2", "Segment_2"
    )
    segment = node.GetSegmentation().GetSegment(identifier)
    segment.SetTag(segment.GetTerminologyEntryTagName(), entry)
    organs = organ_map_of(node, abdomen.ct)
    assert np.array_equal(organs.mask("liver"), mask)
    assert np.array_equal(organs.structure_mask("kidney_right"), abdomen.organs.structure_mask("kidney_right"))


@pytest.mark.parametrize("moved", ["both", "map"])
def test_parent_transforms_of_map_and_ct(abdomen, ct_node, organs_node, transform_node, moved):
    """Both under one transform: nothing to resample. A map that a transform brings back onto the CT: the same."""
    ct, labels = ct_node(abdomen.ct), organs_node(abdomen.organs)
    if moved == "both":
        transform_node(ct, SHIFT)
        transform_node(labels, SHIFT)
    else:
        matrix = vtk.vtkMatrix4x4()
        labels.GetIJKToRASMatrix(matrix)
        away = slicer.util.vtkMatrixFromArray(np.linalg.inv(SHIFT) @ slicer.util.arrayFromVTKMatrix(matrix))
        labels.SetIJKToRASMatrix(away)
        transform_node(labels, SHIFT)
    from PASTALib.mrml.volumes import read_volume_node

    organs = organ_map_of(labels, read_volume_node(ct))
    assert np.array_equal(organs.labels.array, abdomen.organs.labels.array)
    assert not any("resampled" in note for note in organs.notes)


@pytest.mark.parametrize("kind", ["left-handed", "oblique"])
def test_another_grid_is_resampled(phantom_enhanced, abdomen, organs_node, in_geometry, kind):
    """A map of 5 × 3 × 3 mm on the 4 mm scan of the same patient, stored the other way round or turned with it."""
    _, organs = in_geometry(abdomen, kind)
    ct, _ = in_geometry(phantom_enhanced, kind)
    found = organ_map_of(organs_node(organs), ct)
    assert any("resampled" in note for note in found.notes)
    for key in ("liver", "kidney"):
        assert (
            dice(found.mask(key), phantom_enhanced.organs.mask(key)[:, :, :: -1 if kind == "left-handed" else 1]) > 0.85
        )


def test_a_cropped_map_is_pasted(abdomen, scene):
    box = (slice(10, 50), slice(20, 80), slice(15, 100))
    affine = abdomen.ct.affine.copy()
    affine[:3, 3] = abdomen.ct.to_ras([s.start for s in box])
    node = slicer.util.addVolumeFromArray(
        abdomen.organs.labels.array[box], affine, "crop", nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    organs = organ_map_of(node, abdomen.ct)
    expected = np.zeros_like(abdomen.organs.labels.array)
    expected[box] = abdomen.organs.labels.array[box]
    assert np.array_equal(organs.labels.array, expected) and not organs.notes


def label_node(array, affine, name="map"):
    return slicer.util.addVolumeFromArray(array, affine, name, nodeClassName="vtkMRMLLabelMapVolumeNode")


def test_numbers_decide_where_no_names_are(abdomen, scene):
    structures = abdomen.organs.structures.array
    node = label_node(structures, abdomen.ct.affine)
    node.CreateDefaultDisplayNodes()  # Slicer's own colour table names other things
    assert np.array_equal(organ_map_of(node, abdomen.ct, "totalseg-v2").labels.array, abdomen.organs.labels.array)
    low = np.where(structures <= 104, structures, 0)
    assert low.max() > 25
    with pytest.raises(InputError, match="versions 1 and 2 both use these values"):
        organ_map_of(label_node(low, abdomen.ct.affine), abdomen.ct)
    with pytest.raises(InputError, match="unknown organ scheme 'x'"):
        organ_map_of(node, abdomen.ct, "x")


def test_refusals_of_organ_maps(abdomen, ct_node, scene, bent_transform):
    ct = abdomen.ct
    zeros = np.zeros(ct.array.shape, np.uint8)
    bent = label_node(abdomen.organs.labels.array, ct.affine, "bent map")
    bent_transform(bent)
    far = label_node(abdomen.organs.labels.array, ct.affine + np.array([[0, 0, 0, 5000]] + [[0] * 4] * 3), "far")
    unnamed = segmentations.new_segmentation_node(ct_node(ct), "unnamed")
    segmentations.add_segment(
        unnamed, ct_node(ct), "liver", (slice(0, 5),) * 3, np.ones((5, 5, 5), bool), "Segment_1", "Segment_1"
    )
    segment = unnamed.GetSegmentation().GetNthSegment(0)
    segment.RemoveTag(segment.GetTerminologyEntryTagName())
    empty = segmentations.new_segmentation_node(ct_node(ct), "empty")
    for node, text in (
        (None, "no organ map is chosen"),
        (ct_node(ct), "neither a segmentation nor a label map"),
        (label_node(zeros, ct.affine, "blank"), "blank: no voxel belongs to any of the ten organs"),
        (far, "far: no voxel"),
        (bent, "non-linear transform"),
        (unnamed, "unnamed: "),
        (empty, "empty: the segmentation has no segments"),
    ):
        with pytest.raises(InputError, match=text):
            organ_map_of(node, ct)


def test_reading_needs_no_node(abdomen, organs_node):
    """What was taken in the application's thread suffices: the node may change its mind meanwhile."""
    node = organs_node(abdomen.organs)
    source = label_source(node)
    node.SetName("another")
    node.SetOrigin(1000, 1000, 1000)
    assert np.array_equal(source.organ_map(abdomen.ct).labels.array, abdomen.organs.labels.array)


# --- lesion masks ------------------------------------------------------------------------------------------------


def test_lesion_mask_of_a_segmentation(abdomen, abdomen_node):
    labels = with_lesions(abdomen.organs.labels.array)
    node = segmentations.segmentation_of(segmentations.split_labels(labels), abdomen_node, "result")
    mask = lesion_mask_of(node, abdomen.ct)
    assert list(mask.types.values()) == ["liver_tumor", "liver_tumor", "kidney_cyst"]
    assert np.array_equal(mask.labels.array > 0, labels > 10)
    from PASTALib.findings import find_lesions

    assert [item.lesion for item in find_lesions(abdomen.ct, mask, min_size_mm=1.0)] == list(mask.types.values())


def test_a_drawn_segment_takes_the_type_given(abdomen, abdomen_node):
    node = segmentations.new_segmentation_node(abdomen_node, "drawn")
    box = (slice(10, 14), slice(40, 44), slice(40, 44))
    identifier = segmentations.add_segment(node, abdomen_node, "liver", box, np.ones((4, 4, 4), bool), "Segment_1")
    segment = node.GetSegmentation().GetSegment(identifier)
    segment.RemoveTag(segment.GetTerminologyEntryTagName())
    segment.SetName("thing")
    node.GetSegmentation().SetSegmentIndex(identifier, 0)
    kept = segmentations.take_segment(node, identifier)
    segmentations.put_segment(node, "thing", kept)
    with pytest.raises(InputError, match="named like a lesion type"):
        lesion_mask_of(node, abdomen.ct)
    assert lesion_mask_of(node, abdomen.ct, "liver_cyst").types == {1: "liver_cyst"}


def test_lesion_mask_of_a_label_map(abdomen, scene):
    labels = with_lesions(abdomen.organs.labels.array)
    mask = lesion_mask_of(label_node(labels, abdomen.ct.affine), abdomen.ct)
    assert mask.types == {12: "liver_tumor", 24: "kidney_cyst"} and mask.has_organs
    drawn = Volume((labels == 12).astype(np.uint8), abdomen.ct.affine)
    assert lesion_mask_of(label_node(drawn.array, drawn.affine), abdomen.ct, "liver_cyst").types == {1: "liver_cyst"}
