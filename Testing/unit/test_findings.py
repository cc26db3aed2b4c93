"""Findings: reading masks of every kind, components, diameters, places, phase, and the report of each lesion."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from PASTALib import taxonomy
from PASTALib.attributes import LEARNED, TABLE
from PASTALib.cases import write_case
from PASTALib.errors import InputError
from PASTALib.findings import (
    AttributePrediction,
    LesionMask,
    complete,
    find_lesions,
    long_and_short_axis,
    patient_axes,
    phase,
    read_lesion_mask,
    scan_phase,
)
from PASTALib.organs import from_labels
from PASTALib.progress import Cancelled
from PASTALib.synthesis.generator import insert, synthesise
from PASTALib.synthesis.scan import PreparedScan
from PASTALib.synthesis.spec import LesionRequest
from PASTALib.volume import Volume, crop, write_volume

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_of(spacing_xyz, order=(0, 1, 2), signs=(-1, -1, 1), tilt_degrees=0.0) -> np.ndarray:
    """Scan axis i runs along RAS axis ``order[i]`` towards ``signs[i]``; everything is then turned about R."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis in range(3):
        affine[order[axis], axis] = signs[axis] * spacing_xyz[axis]
    angle = np.radians(tilt_degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = 11, -7, 5
    return affine


GRIDS = [
    *(
        affine_of(tuple(np.array((0.8, 1.1, 2.0))[list(order)]), order, signs)
        for order in itertools.permutations(range(3))
        for signs in ((-1, -1, 1), (1, 1, -1))
    ),
    affine_of((0.8, 1.1, 2.0), tilt_degrees=14),
]


def scan_of(affine: np.ndarray, inside, value: int = 12, extent_mm: float = 90.0) -> tuple[Volume, LesionMask]:
    """A scan of noise round 50 HU with what ``inside`` (RAS mm from the middle -> bool) says as the lesion."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    shape = np.round(extent_mm / spacing).astype(int)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - (shape - 1) / 2
    ras = index[..., ::-1] @ affine[:3, :3].T
    ct = np.random.default_rng(0).normal(50, 10, shape).astype(np.int16)
    labels = np.where(inside(ras), value, 0).astype(np.uint8)
    return Volume(ct, affine), LesionMask.of_pasta_labels(Volume(labels, affine))


def small(labels: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> tuple[Volume, LesionMask]:
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    ct = Volume(np.random.default_rng(1).integers(-50, 90, labels.shape).astype(np.int16), affine)
    return ct, LesionMask.of_pasta_labels(Volume(labels.astype(np.uint8), affine))


# ---------------------------------------------------------------------------------------------------------------
# Diameters


def outline_points(mask: np.ndarray, spacing) -> np.ndarray:
    """Centres of the pixel faces between inside and outside, in mm, found pixel by pixel."""
    points = []
    for row, column in np.argwhere(mask):
        for dr, dc in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            r, c = row + dr, column + dc
            if not (0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and mask[r, c]):
                points.append(((row + dr / 2) * spacing[0], (column + dc / 2) * spacing[1]))
    return np.array(points)


def blob(seed: int, shape=(26, 31)) -> np.ndarray:
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), 2.2)
    y, x = np.indices(shape)
    round_it = ((y - shape[0] / 2) / 11) ** 2 + ((x - shape[1] / 2) / 13) ** 2
    parts, _ = ndimage.label(field / field.std() - 2 * round_it + 1 > 0, np.ones((3, 3)))
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 1.3)])
def test_no_two_outline_points_are_farther_apart_than_the_long_axis(seed, spacing):
    mask = blob(seed)
    points = outline_points(mask, spacing)
    farthest = max(np.linalg.norm(points - point, axis=1).max() for point in points)
    long, short = long_and_short_axis(mask, spacing)
    assert np.linalg.norm((long[1] - long[0]) * spacing) == pytest.approx(farthest, abs=1e-9)
    along, across = (long[1] - long[0]) * spacing, (short[1] - short[0]) * spacing
    assert abs(along @ across) < 1e-6 * np.linalg.norm(along) * np.linalg.norm(across)
    assert np.linalg.norm(across) <= farthest + 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_no_perpendicular_chord_is_longer_than_the_short_axis(seed):
    from contourpy import contour_generator

    spacing = np.array((0.7, 1.3))
    mask = blob(seed)
    long, short = long_and_short_axis(mask, tuple(spacing))
    along = (long[1] - long[0]) * spacing
    along /= np.linalg.norm(along)
    across = np.array([-along[1], along[0]])
    outlines = contour_generator(z=np.pad(mask, 1).astype(float)).lines(0.5)
    widest = 0.0
    for place in np.linspace(-60, 60, 4001):
        crossings = []
        for line in outlines:
            points = (line[:, ::-1] - 1) * spacing
            t, v = points @ along - place, points @ across
            for a, b in np.argwhere(t[:-1] * t[1:] < 0) + [[0, 1]]:
                crossings.append(v[a] + t[a] / (t[a] - t[b]) * (v[b] - v[a]))
        if crossings:
            widest = max(widest, max(crossings) - min(crossings))
    length = np.linalg.norm((short[1] - short[0]) * spacing)
    assert widest - 1e-6 <= length <= widest + 0.05  # the scan of chords steps by 0.03 mm


def test_diameters_of_simple_shapes():
    row = np.zeros((5, 14), bool)
    row[2, 2:12] = True
    long, short = long_and_short_axis(row, (1.0, 1.0))
    assert np.linalg.norm(long[1] - long[0]) == pytest.approx(10)
    assert np.linalg.norm(short[1] - short[0]) == pytest.approx(1)
    long, short = long_and_short_axis(np.ones((1, 1), bool), (0.5, 0.8))
    assert [np.ptp(long, axis=0) @ (0.5, 0.8), np.ptp(short, axis=0) @ (0.5, 0.8)] == pytest.approx([0.8, 0.5])
    y, x = np.indices((120, 90))
    y, x = (y - 60) * 0.5, (x - 45) * 0.8
    turn = np.radians(35)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    long, short = long_and_short_axis((u / 20) ** 2 + (v / 9) ** 2 <= 1, (0.5, 0.8))
    assert np.linalg.norm((long[1] - long[0]) * (0.5, 0.8)) == pytest.approx(40, abs=0.8)
    assert np.linalg.norm((short[1] - short[0]) * (0.5, 0.8)) == pytest.approx(18, abs=1.2)
    with pytest.raises(ValueError, match="nothing"):
        long_and_short_axis(np.zeros((4, 4), bool), (1, 1))


def test_the_largest_piece_of_a_slice_is_measured():
    mask = np.zeros((20, 40), bool)
    mask[5:11, 2:8] = True
    mask[5:8, 30:33] = True
    long, _ = long_and_short_axis(mask, (1.0, 1.0))
    assert long[:, 1].max() < 10


@pytest.mark.parametrize("affine", GRIDS)
def test_axes_and_size_on_every_grid(affine):
    """An ellipsoid of 50 (front-back) x 26 (left-right) x 36 (head-foot) mm, whatever order its voxels are stored in."""
    ct, mask = scan_of(affine, lambda ras: ((ras / np.array((13.0, 25.0, 18.0))) ** 2).sum(-1) <= 1)
    (found,) = find_lesions(ct, mask)
    coarse = ct.spacing_zyx_mm.max()
    tilted = affine is GRIDS[-1]
    assert found.size_zxy_mm == pytest.approx((36, 26, 50), abs=coarse + (3 if tilted else 0.5))
    assert found.long_axis.length_mm == pytest.approx(50, abs=coarse)
    assert found.short_axis.length_mm == pytest.approx(26, abs=coarse)
    assert found.volume_ml == pytest.approx(np.pi / 6 * 50 * 26 * 36 / 1000, rel=0.03)
    axial = patient_axes(affine)[0]
    ends = [*vars(found.long_axis).values(), *vars(found.short_axis).values()]
    slices = ct.to_index(np.array(ends))[:, axial]
    assert np.ptp(slices) < 1e-3 and abs(slices[0] - round(slices[0])) < 1e-3
    long = np.subtract(found.long_axis.end_ras, found.long_axis.start_ras) / found.long_axis.length_mm
    assert abs(long[1]) > 0.95  # front to back
    middle = ct.to_ras((np.array(ct.array.shape) - 1) / 2)
    assert found.centre_ras == pytest.approx(tuple(middle), abs=coarse / 2)


@pytest.mark.parametrize("affine", GRIDS)
def test_patient_axes_are_those_of_synthesis(affine):
    scan = PreparedScan(Volume(np.zeros((4, 4, 4), np.int16), affine), *[None] * 8)
    assert patient_axes(affine) == scan.patient_axes


# ---------------------------------------------------------------------------------------------------------------
# Components


def test_numbers_go_by_type_then_size_and_do_not_depend_on_place():
    labels = np.zeros((30, 40, 40))
    labels[2:6, 2:6, 2:6] = 24  # kidney cyst
    labels[2:8, 20:28, 20:28] = 12
    labels[20:28, 20:30, 20:30] = 12
    labels[20:24, 2:6, 2:6] = 3  # an organ
    ct, mask = small(labels)
    found = find_lesions(ct, mask)
    assert [(item.number, item.lesion, item.volume_ml) for item in found] == [
        (1, "liver_tumor", 0.8), (2, "liver_tumor", 0.384), (3, "kidney_cyst", 0.064),
    ]  # fmt: skip
    flipped = Volume(ct.array[::-1, :, ::-1].copy(), ct.affine)
    mirrored = LesionMask.of_pasta_labels(Volume(mask.labels.array[::-1, :, ::-1].copy(), ct.affine))
    assert [item.volume_ml for item in find_lesions(flipped, mirrored)] == [item.volume_ml for item in found]
    assert mask.has_organs


def test_corners_connect_and_different_values_do_not():
    labels = np.zeros((12, 12, 12))
    labels[2:5, 2:5, 2:5] = 12
    labels[5:8, 5:8, 5:8] = 12  # touches in a corner
    labels[8:11, 5:8, 5:8] = 21  # touches in a face
    ct, mask = small(labels)
    assert [(item.lesion, int(item.mask.sum())) for item in find_lesions(ct, mask)] == [
        ("liver_tumor", 54),
        ("liver_cyst", 27),
    ]
    several = LesionMask(
        Volume(np.where(labels == 21, 2, labels > 0).astype(np.uint8), ct.affine), {1: "liver_tumor", 2: "liver_tumor"}
    )
    assert len(find_lesions(ct, several)) == 2


def test_small_parts_are_left_out_and_named():
    labels = np.zeros((20, 20, 20))
    labels[2:8, 2:8, 2:8] = 12
    labels[12:14, 12:14, 12:14] = 12  # 8 mm³: a ball of 2.5 mm
    labels[17, 17, 17] = 25
    ct, mask = small(labels)
    notes = []
    assert len(find_lesions(ct, mask, notes=notes)) == 1
    assert len(notes) == 2 and notes[0].startswith("Liver tumor: 1 part") and "3 mm" in notes[0]
    assert len(find_lesions(ct, mask, min_size_mm=2.4)) == 2
    assert len(find_lesions(ct, mask, min_size_mm=0)) == 3
    assert find_lesions(ct, mask, min_size_mm=50) == []


def test_figures_of_a_lesion():
    labels = np.zeros((20, 24, 24))
    labels[4:10, 5:12, 6:14] = 12
    ct, mask = small(labels, (2.0, 1.0, 0.5))
    (found,) = find_lesions(ct, mask)
    values = ct.array[labels > 0].astype(float)
    assert (found.hu.mean, found.hu.sd) == pytest.approx((values.mean(), values.std()))
    assert (found.hu.p5, found.hu.p95) == pytest.approx(tuple(np.percentile(values, (5, 95))))
    assert found.volume_ml == pytest.approx(6 * 7 * 8 * 1.0 / 1000)
    assert found.size_zxy_mm == (12, 4, 7)
    assert (ct.array[found.box][found.mask] == ct.array[labels > 0]).all()
    assert found.report.value("size") == "12×4×7 mm" and not found.at_border
    labels[:4] = labels[4]
    ct, mask = small(labels, (2.0, 1.0, 0.5))
    assert find_lesions(ct, mask)[0].at_border


def test_the_centre_lies_inside_even_of_a_shell():
    ct, mask = scan_of(GRIDS[0], lambda ras: np.abs(np.linalg.norm(ras, axis=-1) - 20) < 3)
    (found,) = find_lesions(ct, mask)
    at = tuple(np.rint(ct.to_index(np.array(found.centre_ras))).astype(int))
    assert mask.labels.array[at] == 12


def test_cancelling_passes_through():
    ct, mask = scan_of(LPS, lambda ras: np.linalg.norm(ras, axis=-1) < 10)

    def stop(step, of, text=""):
        raise Cancelled

    with pytest.raises(Cancelled):
        find_lesions(ct, mask, progress=stop)


def test_other_grid_is_refused():
    ct, mask = scan_of(LPS, lambda ras: np.linalg.norm(ras, axis=-1) < 10)
    with pytest.raises(InputError, match="different grids"):
        find_lesions(crop(ct, (slice(2, 60), slice(None), slice(None))), mask)


# ---------------------------------------------------------------------------------------------------------------
# Reading masks


@pytest.fixture
def place(tmp_path):
    """A CT on disk and a writer of masks on its grid."""
    rng = np.random.default_rng(3)
    ct = Volume(rng.normal(-20, 120, (12, 20, 22)).astype(np.int16), np.diag([-1.0, -1.0, 2.0, 1.0]), {})
    ct.meta["source"] = str(tmp_path / "ct.nii.gz")
    write_volume(ct, tmp_path / "ct.nii.gz")

    def mask(name: str, values=(), shape=None):
        labels = np.zeros(shape or ct.array.shape, np.uint8)
        for number, value in enumerate(values):
            labels[2:5, 2 + 2 * number : 4 + 2 * number, 3:8] = value
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(Volume(labels, ct.affine), path)
        return path

    return ct, mask


def test_pasta_labels_need_no_word(place):
    ct, mask = place
    found = read_lesion_mask(mask("m.nii.gz", (2, 8, 12, 24)), ct)
    assert found.types == {12: "liver_tumor", 24: "kidney_cyst"} and found.has_organs and found.notes == []
    assert read_lesion_mask(mask("n.nii.gz", (12, 24)), ct, lesion_value=24).types == {24: "kidney_cyst"}
    assert not read_lesion_mask(mask("o.nii.gz", (12,)), ct).has_organs


def test_a_plain_mask_takes_the_type_given(place):
    ct, mask = place
    assert read_lesion_mask(mask("m.nii.gz", (1,)), ct, "lung_tumor").types == {1: "lung_tumor"}
    several = read_lesion_mask(mask("n.nii.gz", (1, 2, 3)), ct, "lung_tumor")
    assert several.types == dict.fromkeys((1, 2, 3), "lung_tumor")
    assert "--lesion-value" in several.notes[0]
    kits = read_lesion_mask(mask("o.nii.gz", (1, 2, 3)), ct, "kidney_tumor", 2)
    assert kits.types == {2: "kidney_tumor"} and kits.notes == []
    other = read_lesion_mask(mask("p.nii.gz", (12,)), ct, "lung_tumor")
    assert other.types == {12: "lung_tumor"} and "liver_tumor" in other.notes[0]


def test_a_published_case_tells_its_type_by_its_folder(place):
    ct, mask = place
    assert read_lesion_mask(mask("Kidney/Stone/0001/label.nii.gz", (1, 2)), ct).types == {2: "kidney_stone"}
    assert read_lesion_mask(mask("Kidney/Stone/0002/label.nii.gz", (1, 2)), ct, lesion_value=2).types == {
        2: "kidney_stone"
    }
    stray = mask("somewhere/label.nii.gz", (1, 2))
    with pytest.raises(InputError, match="--lesion-value 2"):
        read_lesion_mask(stray, ct)
    assert read_lesion_mask(stray, ct, "liver_cyst", 2).types == {2: "liver_cyst"}


def test_our_own_case_tells_types_and_instances(tmp_path, prepared_enhanced, fresh_scan):
    scan = fresh_scan(prepared_enhanced)
    results = []
    for lesion in ("liver_cyst", "kidney_cyst"):
        results.append(synthesise(scan, LesionRequest(lesion, seed=2, size_mm=(24, 24, 24))))
        insert(scan, results[-1])
    folder = write_case(tmp_path / "case", scan.ct, scan.organs, results, seed=2)
    found = read_lesion_mask(folder / "lesions.nii.gz", scan.ct)
    assert found.types == {1: "liver_cyst", 2: "kidney_cyst"}
    with pytest.raises(InputError, match="give lesions.nii.gz"):
        read_lesion_mask(folder / "label.nii.gz", scan.ct)


def segmentation(path, ct: Volume, names: dict[int, str]):
    """A Slicer segmentation file as Slicer writes it."""
    import SimpleITK as sitk

    labels = np.zeros(ct.array.shape, np.uint8)
    for value in names:
        labels[2:5, 2 * value : 2 * value + 2, 3:8] = value
    image = sitk.GetImageFromArray(labels)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.affine
    image.SetSpacing([1.0, 1.0, 2.0])
    image.SetOrigin(lps[:3, 3].tolist())
    for number, (value, name) in enumerate(names.items()):
        image.SetMetaData(f"Segment{number}_ID", f"Segment_{number + 1}")
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
    sitk.WriteImage(image, str(path))
    return path


def test_a_slicer_segmentation_tells_its_types_by_name(place, tmp_path):
    ct, _ = place
    named = segmentation(tmp_path / "a.seg.nrrd", ct, {1: "Liver tumour", 2: "kidney_stone 2", 3: "Liver"})
    assert read_lesion_mask(named, ct).types == {1: "liver_tumor", 2: "kidney_stone"}
    partly = segmentation(tmp_path / "b.seg.nrrd", ct, {1: "Mass", 2: "Liver", 3: "Liver cyst"})
    found = read_lesion_mask(partly, ct, "liver_tumor")
    assert found.types == {1: "liver_tumor", 3: "liver_cyst"} and "Liver" in found.notes[0]


def test_label_names_beside_a_mask_count(place, tmp_path):
    ct, mask = place
    path = mask("m.nii.gz", (1, 2))
    (tmp_path / "m_labels.json").write_text(json.dumps({"1": "Gallstone", "2": "gallbladder"}))
    assert read_lesion_mask(path, ct).types == {1: "gallstone"}


BAD_MASKS = {
    "empty": (lambda mask: mask("m.nii.gz"), {}, "empty"),
    "other grid": (lambda mask: mask("m.nii.gz", (12,), (12, 20, 21)), {}, "grid"),
    "organs only": (lambda mask: mask("m.nii.gz", (2, 8)), {}, "2 liver, 8 kidney"),
    "one value": (lambda mask: mask("m.nii.gz", (1,)), {}, "--lesion TYPE"),
    "organ map of other numbers": (lambda mask: mask("m.nii.gz", (12, 90)), {}, "end at 25"),
    "unknown type": (lambda mask: mask("m.nii.gz", (1,)), {"lesion": "wart"}, "use one of"),
    "value that is not there": (lambda mask: mask("m.nii.gz", (1,)), {"lesion": "liver_cyst", "lesion_value": 7}, "no voxel"),
    "value without type": (lambda mask: mask("m.nii.gz", (1, 2)), {"lesion_value": 2}, "--lesion TYPE"),
    "value out of range": (lambda mask: mask("m.nii.gz", (1,)), {"lesion_value": 0}, "1 to 65535"),
    "pasta labels with a type": (lambda mask: mask("m.nii.gz", (2, 12)), {"lesion": "liver_tumor"}, "leave --lesion out"),
    "case without lesion": (lambda mask: mask("Kidney/Stone/1/label.nii.gz", (1,)), {}, "organ (value 1) only"),
    "no file": (lambda mask: "nowhere.nii.gz", {}, "no such file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MASKS)
def test_bad_masks_are_refused_in_one_line(name, place):
    ct, mask = place
    make, more, wanted = BAD_MASKS[name]
    with pytest.raises(InputError) as caught:
        read_lesion_mask(make(mask), ct, **more)
    assert wanted in str(caught.value) and "\n" not in str(caught.value)


def test_a_ct_is_no_mask(place, tmp_path):
    ct, _ = place
    write_volume(ct, tmp_path / "other.nii.gz")
    for name in ("ct.nii.gz", "other.nii.gz"):
        with pytest.raises(InputError, match="CT") as caught:
            read_lesion_mask(tmp_path / name, ct, "liver_tumor")
        assert "give the mask" in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------
# Contrast phase


def test_phase_without_an_organ_map(phantom_enhanced, phantom_plain):
    for phantom, value in ((phantom_enhanced, taxonomy.ENHANCED), (phantom_plain, taxonomy.PLAIN)):
        found = scan_phase(phantom.ct)
        assert found.value == value and found.confidence == phase.IMAGE_CONFIDENCE and "estimated" in found.reason
        sure = scan_phase(phantom.ct, phantom.organs)
        assert sure.value == value and sure.confidence is None


def test_phase_of_real_scans(real_data):
    from PASTALib.volume import read_volume

    wanted = {
        "S01_ts_torso": taxonomy.PLAIN,
        "S02_hcc006": taxonomy.ENHANCED,
        "S03_cmbcrc01068": taxonomy.ENHANCED,
        "S06_sts002": None,
    }
    for name, value in wanted.items():
        assert scan_phase(read_volume(real_data / "cases" / name / "ct.nii.gz")).value == value, name


def test_a_small_scan_without_contrast_stays_open(phantom_plain):
    part = crop(phantom_plain.ct, (slice(60, 80), slice(None), slice(None)))
    assert scan_phase(part).value is None
    nothing, _ = scan_of(LPS, lambda ras: np.linalg.norm(ras, axis=-1) < 10, extent_mm=40)
    assert "only" in scan_phase(nothing).reason


@pytest.mark.parametrize(
    ("agent", "route", "value"),
    [
        ("APPLIED", "", taxonomy.ENHANCED),
        ("OMNIPAQUE & ORAL", "IV", taxonomy.ENHANCED),
        ("Non-ionic contrast 100 ml", "", taxonomy.ENHANCED),
        ("NONE", "", taxonomy.PLAIN),
        ("no contrast", "", taxonomy.PLAIN),
        ("ORAL", "", None),
        ("", "", None),
    ],
)
def test_phase_from_the_dicom_header(monkeypatch, agent, route, value):
    ct, _ = scan_of(LPS, lambda ras: np.linalg.norm(ras, axis=-1) < 10, extent_mm=40)
    monkeypatch.setattr(phase, "_dicom_text", lambda ct, tag: agent if tag == "0018|0010" else route)
    found = scan_phase(ct)
    assert found.value == value
    assert found.confidence == (None if value is None else phase.TAG_CONFIDENCE)


def test_header_and_image_together(monkeypatch, phantom_enhanced):
    for agent, value, confidence in (("APPLIED", taxonomy.ENHANCED, phase.BOTH_CONFIDENCE), ("NONE", None, None)):
        monkeypatch.setattr(phase, "_dicom_text", lambda ct, tag, said=agent: said if tag == "0018|0010" else "")
        found = scan_phase(phantom_enhanced.ct)
        assert (found.value, found.confidence) == (value, confidence)


# ---------------------------------------------------------------------------------------------------------------
# Reports


def prediction(trained: bool = True, **chosen: str) -> AttributePrediction:
    """The first option of each attribute, or the one chosen, at 70 %."""
    table = {}
    for key in LEARNED:
        options = TABLE[key].options
        best = chosen.get(key, options[0])
        table[key] = {option: 0.7 if option == best else 0.3 / (len(options) - 1) for option in options}
    return AttributePrediction(table, "starter", trained)


@pytest.mark.parametrize("lesion", ["liver_cyst", "kidney_cyst", "liver_tumor", "lung_tumor"])
def test_measured_reports_agree_with_the_generator(lesion, case, fresh_scan):
    scan, result = case(lesion, 1)
    scan = fresh_scan(scan)
    insert(scan, result)
    mask = LesionMask.of_pasta_labels(Volume(scan.lesion_labels(), scan.ct.affine))
    found = find_lesions(scan.ct, mask, organs=scan.organs)[0]
    assert found.measured is not None and found.report == found.measured
    assert found.size_zxy_mm == pytest.approx(result.measurement.size_zxy_mm)
    assert found.report.location_detail == result.report.location_detail
    assert found.report.value("enhancement") == scan.phase
    assert found.report.value("density") == result.report.value("density")
    assert {found.report.values[key].basis for key in found.report.values} == {"measured"}
    assert "density_delta_hu" in found.measured.values["density"].figure
    missing = set(LEARNED) - set(found.report.values)
    assert missing <= set(found.reasons)


def test_without_an_organ_map_only_what_is_known_is_said(case, fresh_scan):
    scan, result = case("kidney_cyst", 1)
    scan = fresh_scan(scan)
    insert(scan, result)
    mask = LesionMask.of_pasta_labels(Volume(scan.lesion_labels(), scan.ct.affine))
    (found,) = find_lesions(scan.ct, mask)
    assert set(found.report.values) == {"enhancement", "location", "size"} and found.measured is None
    assert found.report.location_detail == "" and found.place == "Kidney"
    (open_phase,) = find_lesions(scan.ct, mask, phase=phase.ScanPhase(None, "cannot be told"))
    assert "enhancement" not in open_phase.report.values


def test_prediction_and_measurement_stand_side_by_side(case, fresh_scan):
    scan, result = case("kidney_cyst", 1)
    scan = fresh_scan(scan)
    insert(scan, result)
    mask = LesionMask.of_pasta_labels(Volume(scan.lesion_labels(), scan.ct.affine))
    (plain,) = find_lesions(scan.ct, mask, organs=scan.organs)
    found = complete(plain, prediction(density="Hyperdense"))
    assert found.report.value("density") == "Hyperdense"
    entry = found.report.values["density"]
    assert (entry.basis, entry.confidence) == ("predicted", 0.7)
    assert found.measured.value("density") == "Hypodense"
    assert found.report.values["size"] == plain.report.values["size"]
    assert found.report.values["enhancement"].basis == "measured"
    assert complete(found, None).report == plain.report
    half = replace(prediction(), probabilities={"shape": prediction().probabilities["shape"]})
    mixed = complete(plain, half).report
    assert mixed.values["shape"].basis == "predicted" and mixed.values["density"].basis == "measured"


def test_neighbouring_lesions_are_no_healthy_tissue():
    """A dark lesion in a liver of 100 HU, surrounded at 2 mm by a bright one: it is held against the liver."""
    affine = LPS
    ct, _ = scan_of(affine, lambda ras: ras[..., 0] > 1e9)
    shape = ct.array.shape
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - (np.array(shape) - 1) / 2
    radius = np.linalg.norm(index, axis=-1)
    noise = np.random.default_rng(5).normal(0, 5, shape)
    liver = radius < 40
    dark, bright = radius < 9, (radius > 12) & (radius < 19) & (index[..., 2] > 0)
    hu = np.where(liver, 100, -100)
    hu[dark], hu[bright] = 40, 300
    ct.array[:] = (hu + noise).astype(np.int16)
    organs = from_labels(Volume(np.where(liver, 2, 0).astype(np.uint8), affine), "pasta")
    labels = np.where(dark, 12, np.where(bright, 21, 0)).astype(np.uint8)
    found = find_lesions(ct, LesionMask.of_pasta_labels(Volume(labels, affine)), organs=organs)[0]
    assert found.measured.values["density"].figure["reference_hu"] == pytest.approx(100, abs=3)
    assert found.measured.value("density") == "Hypodense"


def test_a_lesion_far_from_its_organ_is_pointed_out(prepared_enhanced):
    scan = prepared_enhanced
    labels = np.zeros(scan.ct.array.shape, np.uint8)
    labels[-8:-4, 30:34, 30:34] = 19  # a bladder cancer in the neck
    notes = []
    (found,) = find_lesions(
        scan.ct, LesionMask.of_pasta_labels(Volume(labels, scan.ct.affine)), organs=scan.organs, notes=notes
    )
    assert found.measured is None and "bladder" in notes[0] and "check its type" in notes[0]


BAD_PREDICTIONS = {
    "attribute that is not learned": ({"size": {"1x1x1 mm": 1.0}}, "only"),
    "option missing": ({"surface": {"Well-defined margin": 1.0}}, "Ill-defined"),
    "option unknown": ({"surface": {"Fuzzy": 1.0}}, "not known"),
    "not a probability": ({"surface": {"Well-defined margin": 2.0, "Ill-defined margin": -1.0}}, "add up"),
    "not adding up": ({"surface": {"Well-defined margin": 0.5, "Ill-defined margin": 0.2}}, "add up"),
    "not a number": ({"surface": {"Well-defined margin": "high", "Ill-defined margin": 0.2}}, "numbers"),
}


@pytest.mark.parametrize("name", BAD_PREDICTIONS)
def test_bad_predictions_are_refused(name):
    table, wanted = BAD_PREDICTIONS[name]
    with pytest.raises(InputError, match=wanted):
        AttributePrediction(table, "m", True)


def test_predictions_read_back():
    given = prediction(surface="Ill-defined margin")
    assert AttributePrediction.from_json(json.loads(json.dumps(given.to_json()))) == given
    assert given.best("surface") == ("Ill-defined margin", 0.7)
    assert AttributePrediction({}, "m", False).best("shape") is None


def test_what_is_measured_goes_before_a_weak_prediction():
    from dataclasses import make_dataclass

    from PASTALib.attributes import LEARNED, TABLE, AttributeValue, StructuredReport
    from PASTALib.findings import complete
    from PASTALib.findings.model import AttributePrediction

    likely = {key: {option: float(n == 0) for n, option in enumerate(TABLE[key].options)} for key in LEARNED}
    strong, weak = AttributePrediction(likely, "net", True), AttributePrediction(likely, "net", True, weak=True)
    assert (
        AttributePrediction.from_json(weak.to_json()) == weak
        and AttributePrediction.from_json(strong.to_json()) == strong
    )
    measured = StructuredReport("liver_cyst", {"density": AttributeValue(TABLE["density"].options[1], "measured")})

    kind = make_dataclass("Kind", ["lesion", "report", "measured", ("prediction", object, None)])
    item = kind("liver_cyst", StructuredReport("liver_cyst", {}), measured)
    assert complete(item, strong).report.value("density") == TABLE["density"].options[0]
    assert complete(item, weak).report.value("density") == TABLE["density"].options[1]
    assert complete(item, weak).report.value("shape") == TABLE["shape"].options[0]  # not measured
