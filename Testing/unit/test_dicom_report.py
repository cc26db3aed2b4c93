"""DICOM SEG and SR read back with pydicom and highdicom: the same mask, the same place, the same values; nothing half-written."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from PASTALib import taxonomy
from PASTALib.attributes import LEARNED, TABLE, AttributeValue
from PASTALib.errors import InputError
from PASTALib.findings import AttributePrediction, LesionMask, complete, find_lesions, scan_phase
from PASTALib.reporting import dicom_seg
from PASTALib.reporting.dicom_sr import SCHEME, SHORT, make_dicom, option_code, seg_path, write_dicom
from PASTALib.reporting.document import ModelFacts, ReportDocument, ScanFacts
from PASTALib.volume import Volume, read_volume, write_volume

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom")

CREATED = "2025-03-04T10:20:30+01:00"
SHAPE, SPACING = (14, 48, 40), (2.5, 0.9, 1.1)  # slices, rows, columns; mm


def turn(x: float, z: float) -> np.ndarray:
    """Rotation by ``x`` degrees about the first axis, then ``z`` about the third."""
    a, b = np.radians((x, z))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_z @ about_x


# name: directions of columns, rows and slices in LPS (rows of the matrix), files written first slice last
SERIES = {
    "axial": (np.eye(3), False),
    "axial, files from head to foot": (np.eye(3), True),
    "upside down": (np.diag([1.0, -1.0, -1.0]), False),
    "coronal": (np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]), False),
    "oblique": (turn(17, 11).T, True),
}


def write_series(folder: Path, directions: np.ndarray, backwards: bool = False, **changes) -> Path:
    """A small CT series: a body of 50 HU in air, in any orientation. ``changes``: attribute -> value, or None to leave it out."""
    from pydicom.dataset import FileDataset, FileMetaDataset

    folder.mkdir()
    rng = np.random.default_rng(4)
    z, y, x = np.indices(SHAPE)
    body = ((y - 24) / 22) ** 2 + ((x - 20) / 18) ** 2 < 1
    hu = np.where(body, 50 + rng.normal(0, 10, SHAPE), -1000).astype(np.int16)
    columns, rows, slices = directions
    for k in range(SHAPE[0]):
        number = SHAPE[0] - k if backwards else k + 1
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.10.1.{k + 1}"
        meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        image = FileDataset(str(folder), {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.826.0.1.3680043.10.2", "1.2.826.0.1.3680043.10.3"
        image.FrameOfReferenceUID = "1.2.826.0.1.3680043.10.4"
        image.PatientID, image.PatientName, image.PatientBirthDate, image.PatientSex = "P1", "Nobody^Jos\u00e9", "", "O"
        image.SpecificCharacterSet = "ISO_IR 100"
        image.StudyID, image.StudyDate, image.StudyTime, image.AccessionNumber = "S1", "20250101", "101010", "A1"
        image.ReferringPhysicianName, image.Modality, image.ImageType = "", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.InstanceNumber, image.SliceThickness, image.PixelSpacing = number, "3.0", [SPACING[1], SPACING[2]]
        image.ImageOrientationPatient = [*map(float, np.round(columns, 8)), *map(float, np.round(rows, 8))]
        image.ImagePositionPatient = [
            float(v) for v in np.round(np.array((-30.0, 12.5, 100.0)) + k * SPACING[0] * slices, 6)
        ]
        image.Rows, image.Columns, image.SamplesPerPixel, image.PhotometricInterpretation = *SHAPE[1:], 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation, image.RescaleSlope, image.RescaleIntercept = 15, 1, "1", "0"
        image.PixelData = hu[k].tobytes()
        for name, value in changes.items():
            delattr(image, name) if value is None else setattr(image, name, value)
        image.save_as(folder / f"IM{number:04d}")
    return folder


def labels_for(ct: Volume) -> np.ndarray:
    """Three lesions without symmetry: a liver tumour, a kidney stone, and a second liver tumour of one slice."""
    z, y, x = np.indices(ct.array.shape)
    middle = np.array(ct.array.shape) / 2
    labels = np.zeros(ct.array.shape, np.uint8)
    labels[((z - middle[0] + 1) / 4) ** 2 + ((y - middle[1] - 3) / 9) ** 2 + ((x - middle[2] + 4) / 6) ** 2 < 1] = 12
    labels[2:6, -12:-7, 5:11] = 25
    labels[-3, 4:9, -14:-6] = 12
    return labels


def prediction(trained: bool = True) -> AttributePrediction:
    table = {}
    for key in LEARNED:
        options = TABLE[key].options
        table[key] = dict(zip(options, [0.125, *[0.875 / (len(options) - 1)] * (len(options) - 1)]))
    return AttributePrediction(table, "starter", trained)


def document_of(ct: Volume, labels: np.ndarray, predicted: bool = True) -> ReportDocument:
    findings = find_lesions(ct, LesionMask.of_pasta_labels(Volume(labels, ct.affine)))
    if predicted:
        findings = [complete(item, prediction()) for item in findings]
        first = findings[0]
        known = {key: first.report.values[key] for key in ("location", "size")}
        values = {**known, "density": AttributeValue("Hypodense", "measured")}
        findings[0] = replace(first, measured=replace(first.report, values=values))
    model = ModelFacts("starter", "abc123") if predicted else None
    return ReportDocument(ScanFacts.of(ct, scan_phase(ct)), findings, CREATED, model, "m.nii.gz")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Function: name -> (CT, document, SR path), written once."""
    made = {}

    def get(name: str):
        if name not in made:
            folder = tmp_path_factory.mktemp("series")
            ct = read_volume(write_series(folder / "ct", *SERIES[name]))
            document = document_of(ct, labels_for(ct))
            write_dicom(document, ct, folder / "report.dcm")
            made[name] = ct, document, folder / "report.dcm"
        return made[name]

    return get


def check_segmentation(ct: Volume, document: ReportDocument, path: Path) -> None:
    """Every frame, by pydicom alone: it lies at a CT slice, to the last digit, and holds the mask of that slice and segment."""
    seg = pydicom.dcmread(path)
    images = [pydicom.dcmread(file, stop_before_pixels=True) for file in ct.meta["dicom"]["files"]]
    slice_at = {tuple(map(float, image.ImagePositionPatient)): k for k, image in enumerate(images)}
    shared = seg.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    assert [float(v) for v in measures.PixelSpacing] == [float(v) for v in images[0].PixelSpacing]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(ct.spacing_zyx_mm[0], abs=1e-4)
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert [float(v) for v in orientation] == [float(v) for v in images[0].ImageOrientationPatient]
    assert seg.FrameOfReferenceUID == images[0].FrameOfReferenceUID
    assert (seg.StudyInstanceUID, seg.PatientID) == (images[0].StudyInstanceUID, images[0].get("PatientID", ""))
    pixels = np.asarray(seg.pixel_array).reshape(-1, seg.Rows, seg.Columns)
    assert len(pixels) == len(seg.PerFrameFunctionalGroupsSequence)
    found = np.zeros((len(document.findings), *ct.array.shape), bool)
    for frame, group in zip(pixels, seg.PerFrameFunctionalGroupsSequence):
        k = slice_at[tuple(map(float, group.PlanePositionSequence[0].ImagePositionPatient))]
        identity = group if "SegmentIdentificationSequence" in group else shared  # shared when there is one segment
        number = identity.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[number - 1, k] |= frame.astype(bool)
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert source == dicom_seg.source_images(ct)[k].SOPInstanceUID
    for item, mask in zip(document.findings, found):
        wanted = np.zeros(ct.array.shape, bool)
        wanted[item.box] = item.mask
        assert (mask == wanted).all()
    for item, segment in zip(document.findings, seg.SegmentSequence, strict=True):
        lesion = taxonomy.lesion(item.lesion)
        assert segment.SegmentNumber == item.number and segment.SegmentLabel == f"{item.number} {item.name}"
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        assert (kind.CodeValue, kind.CodingSchemeDesignator) == (lesion.code.value, lesion.code.scheme)
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        organ = segment.AnatomicRegionSequence[0]
        assert organ.CodeValue == taxonomy.organ(lesion.organ).code.value
        assert len(segment.RecommendedDisplayCIELabValue) == 3
        assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion
    assert len({segment.TrackingUID for segment in seg.SegmentSequence}) == len(document.findings)


@pytest.mark.parametrize("name", SERIES)
def test_segmentation_lies_on_the_slices(name, series):
    ct, document, path = series(name)
    assert len(document.findings) == 3
    check_segmentation(ct, document, seg_path(path))


@pytest.mark.parametrize("name", SERIES)
def test_highdicom_gives_the_same_masks_back(name, series):
    ct, document, path = series(name)
    seg = hd.seg.segread(seg_path(path))
    uids = [image.SOPInstanceUID for image in dicom_seg.source_images(ct)]
    masks = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    for item in document.findings:
        wanted = np.zeros(ct.array.shape, bool)
        wanted[item.box] = item.mask
        assert (masks[..., item.number - 1].astype(bool) == wanted).all()


def groups_of(path: Path) -> list:
    return hd.sr.srread(path).content.get_volumetric_roi_measurement_groups()


def numbers_of(group) -> dict:
    found = {}
    for item in group.get_measurements():
        name = item.name.meaning + (f" {item.derivation.meaning}" if item.derivation is not None else "")
        found[name] = (float(item.value), item.unit.value)
    return found


@pytest.mark.parametrize("name", SERIES)
def test_report_equals_the_document(name, series):
    ct, document, path = series(name)
    seg = pydicom.dcmread(seg_path(path))
    groups = groups_of(path)
    assert len(groups) == 3
    for item, group, segment in zip(document.findings, groups, seg.SegmentSequence):
        assert (
            group.tracking_uid == segment.TrackingUID
            and group.tracking_identifier == f"Lesion {item.number} ({item.name})"
        )
        assert group.finding_type.value == taxonomy.lesion(item.lesion).code.value
        assert group.finding_sites[0].value.value == taxonomy.organ(taxonomy.lesion(item.lesion).organ).code.value
        numbers = numbers_of(group)
        wanted = {
            "Long axis": (item.long_axis.length_mm, "mm"), "Short axis": (item.short_axis.length_mm, "mm"),
            "Volume": (item.volume_ml, "cm3"), "Attenuation Coefficient Mean": (item.hu.mean, "[hnsf'U]"),
            "Attenuation Coefficient Standard Deviation": (item.hu.sd, "[hnsf'U]"),
            "Attenuation, 5th percentile": (item.hu.p5, "[hnsf'U]"), "Attenuation, 95th percentile": (item.hu.p95, "[hnsf'U]"),
            "Extent head to foot": (item.size_zxy_mm[0], "mm"), "Extent right to left": (item.size_zxy_mm[1], "mm"),
            "Extent front to back": (item.size_zxy_mm[2], "mm"),
            **{f"{TABLE[key].title}, confidence": (entry.confidence, "1") for key, entry in item.report.values.items() if entry.confidence is not None},
        }  # fmt: skip
        assert set(numbers) == set(wanted)
        for what, (value, unit) in wanted.items():
            assert numbers[what] == (pytest.approx(value, rel=1e-6, abs=1e-6), unit), what
        said = {entry.name.meaning: entry.value.meaning for entry in group.get_qualitative_evaluations()}
        for key in LEARNED:
            assert said[TABLE[key].title] == item.report.value(key)
            assert said[f"{TABLE[key].title}, basis"] == "Predicted by a network"
    said = {entry.name.meaning: entry.value.meaning for entry in groups[0].get_qualitative_evaluations()}
    assert said["Density, measured in image and mask"] == "Hypodense"


def content_items(dataset):
    for item in dataset.get("ContentSequence", []):
        yield item
        yield from content_items(item)


@pytest.mark.parametrize("name", SERIES)
def test_report_refers_to_segments_and_slices_and_draws_its_lines(name, series):
    """By pydicom alone: segment numbers, source slices of each lesion, evidence, and the ends of the size lines in LPS."""
    ct, document, path = series(name)
    report, seg = pydicom.dcmread(path), pydicom.dcmread(seg_path(path))
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34" and report.CompletionFlag == "COMPLETE"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    images = dicom_seg.source_images(ct)
    containers = [
        item
        for item in content_items(report)
        if item.ValueType == "CONTAINER" and item.ConceptNameCodeSequence[0].CodeValue == "125007"
    ]
    assert len(containers) == 6  # a volume and two lines per lesion
    for item, container in zip(document.findings, containers[:3]):
        references = [c.ReferencedSOPSequence[0] for c in container.ContentSequence if c.ValueType == "IMAGE"]
        segment, sources = references[0], references[1:]
        assert (segment.ReferencedSOPInstanceUID, segment.ReferencedSegmentNumber) == (seg.SOPInstanceUID, item.number)
        inside = [images[item.box[0].start + k].SOPInstanceUID for k in np.flatnonzero(item.mask.any(axis=(1, 2)))]
        assert [source.ReferencedSOPInstanceUID for source in sources] == inside
    for item, container in zip(document.findings, containers[3:]):
        lines = [c for c in content_items(container) if c.ValueType == "SCOORD3D"]
        assert {c.ReferencedFrameOfReferenceUID for c in lines} == {images[0].FrameOfReferenceUID}
        for line, drawn in zip((item.long_axis, item.short_axis), lines, strict=True):
            ends = np.reshape(drawn.GraphicData, (2, 3)) * (-1, -1, 1)
            assert ends == pytest.approx(np.array([line.start_ras, line.end_ras]), abs=1e-3)
    evidence = {
        reference.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for one in study.ReferencedSeriesSequence
        for reference in one.ReferencedSOPSequence
    }
    touched = {
        images[k].SOPInstanceUID for item in document.findings for k in range(item.box[0].start, item.box[0].stop)
    }
    assert {seg.SOPInstanceUID, *touched} <= evidence  # older highdicom lists only slices that are referred to
    assert evidence <= {seg.SOPInstanceUID, *(image.SOPInstanceUID for image in images)}


def test_codes_have_names_that_dicom_holds():
    seen = set()
    for key in SHORT:
        for option in TABLE[key].options:
            code = option_code(key, option)
            assert code.scheme_designator == SCHEME and len(code.value) <= 16 and len(code.meaning) <= 64
            seen.add(code.value)
    assert len(seen) == sum(len(TABLE[key].options) for key in SHORT)


def test_same_report_same_bytes_and_another_time_other_uids(series, tmp_path):
    ct, document, path = series("oblique")
    write_dicom(document, ct, tmp_path / "again.dcm")
    assert (tmp_path / "again.dcm").read_bytes() == path.read_bytes()
    assert (tmp_path / "again.seg.dcm").read_bytes() == seg_path(path).read_bytes()
    later, seg = make_dicom(replace(document, created="2026-01-01T00:00:00"), ct)
    first, first_seg = pydicom.dcmread(path), pydicom.dcmread(seg_path(path))
    assert later.SOPInstanceUID != first.SOPInstanceUID and seg.SOPInstanceUID != first_seg.SOPInstanceUID
    assert later.ContentDate == "20260101" and first.ContentDate == "20250304" and first.ContentTime == "102030"
    assert [s.TrackingUID for s in seg.SegmentSequence] == [s.TrackingUID for s in first_seg.SegmentSequence]
    assert all(
        uid.startswith("2.25.") and len(uid) <= 64
        for uid in (first.SOPInstanceUID, first.SeriesInstanceUID, seg.SOPInstanceUID)
    )


def test_no_lesion_is_a_report_without_a_segmentation(series, tmp_path):
    ct, document, _ = series("axial")
    (tmp_path / "none.seg.dcm").write_bytes(b"of an earlier report")
    assert write_dicom(replace(document, findings=[]), ct, tmp_path / "none.dcm") == [tmp_path / "none.dcm"]
    assert [item.name for item in tmp_path.iterdir()] == ["none.dcm"]
    content = hd.sr.srread(tmp_path / "none.dcm").content
    assert content.get_volumetric_roi_measurement_groups() == []
    (group,) = content.get_image_measurement_groups()
    assert group.finding_type.meaning == "No lesion in the mask"


def test_random_weights_do_not_reach_an_archive(series, tmp_path):
    ct, document, _ = series("axial")
    findings = [complete(item, prediction(trained=False)) for item in document.findings]
    write_dicom(
        replace(document, findings=findings, model=ModelFacts("starter", trained=False)), ct, tmp_path / "a.dcm"
    )
    said = [
        {e.name.meaning: e.value.meaning for e in group.get_qualitative_evaluations()}
        for group in groups_of(tmp_path / "a.dcm")
    ]
    assert said[0]["Density"] == "Hypodense" and said[0]["Density, basis"] == "Measured in image and mask"
    assert not any("Predicted by a network" in item.values() or "Surface" in item for item in said)


def test_the_model_that_drew_the_mask_is_named(series):
    ct, document, path = series("axial")
    _, seg = make_dicom(document, ct, ("PASTA", "1.0"))
    segment = seg.SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "AUTOMATIC" and segment.SegmentAlgorithmName == "PASTA"
    assert pydicom.dcmread(seg_path(path)).SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"


def test_attributes_that_may_be_empty_are_filled(tmp_path):
    changes = dict.fromkeys(
        ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime", "AccessionNumber",
         "ReferringPhysicianName", "SliceThickness")
    )  # fmt: skip
    ct = read_volume(write_series(tmp_path / "ct", np.eye(3), **changes))
    document = document_of(ct, labels_for(ct), predicted=False)
    write_dicom(document, ct, tmp_path / "a.dcm")
    check_segmentation(ct, document, tmp_path / "a.seg.dcm")
    report = pydicom.dcmread(tmp_path / "a.dcm")
    assert report.PatientID in ("", None) and "StudyDate" in report
    assert not {"Shape", "Density"} & {
        e.name.meaning for e in groups_of(tmp_path / "a.dcm")[0].get_qualitative_evaluations()
    }


def test_odd_values_do_not_stop_it(tmp_path):
    ct = read_volume(
        write_series(tmp_path / "ct", np.eye(3), PatientSex="UNKNOWN", PatientName="a very odd name of one part")
    )
    document = document_of(ct, labels_for(ct), predicted=True)
    document = replace(document, model=ModelFacts("mod\u00e8le \u2713", "x"))
    write_dicom(document, ct, tmp_path / "a.dcm")
    assert pydicom.dcmread(tmp_path / "a.dcm").PatientName == "a very odd name of one part"


@pytest.mark.parametrize("name", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_attributes_that_cannot_be_empty_are_named(name, tmp_path):
    ct = read_volume(write_series(tmp_path / "ct", np.eye(3), **{name: None}))
    document = document_of(ct, labels_for(ct))
    with pytest.raises(InputError, match=f"lack {name}") as caught:
        write_dicom(document, ct, tmp_path / "a.dcm")
    assert "\n" not in str(caught.value)
    assert [item.name for item in tmp_path.iterdir()] == ["ct"]


def test_a_ct_that_is_not_from_dicom_is_refused(series, tmp_path):
    ct, document, _ = series("axial")
    write_volume(Volume(ct.array, ct.affine), tmp_path / "ct.nii.gz")
    with pytest.raises(InputError, match="folder of the series"):
        write_dicom(document, read_volume(tmp_path / "ct.nii.gz"), tmp_path / "a.dcm")
    moved = ct.affine.copy()
    moved[:3, 3] += 3
    with pytest.raises(InputError, match="not on the grid of its DICOM series"):
        write_dicom(document, Volume(ct.array, moved, ct.meta), tmp_path / "a.dcm")
    with pytest.raises(InputError, match="14 slices|13 slices"):
        write_dicom(document, Volume(ct.array[1:], ct.affine, ct.meta), tmp_path / "a.dcm")
    with pytest.raises(InputError, match="name the DICOM report"):
        write_dicom(document, ct, tmp_path / "a.txt")
    with pytest.raises(InputError, match="no masks"):
        write_dicom(
            replace(document, findings=[replace(item, mask=None) for item in document.findings]), ct, tmp_path / "a.dcm"
        )
    with pytest.raises(InputError, match="ISO date"):
        write_dicom(replace(document, created="yesterday"), ct, tmp_path / "a.dcm")
    assert [item.name for item in tmp_path.iterdir()] == ["ct.nii.gz"]


def test_when_one_file_fails_neither_is_left(series, tmp_path, monkeypatch):
    ct, document, _ = series("axial")

    def fail(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hd.sr.Comprehensive3DSR, "save_as", fail)
    with pytest.raises(InputError, match="No space left"):
        write_dicom(document, ct, tmp_path / "a.dcm")
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named_with_the_command(series, tmp_path, monkeypatch):
    ct, document, _ = series("axial")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(InputError, match="pip install") as caught:
        write_dicom(document, ct, tmp_path / "a.dcm")
    assert "highdicom" in str(caught.value) and list(tmp_path.iterdir()) == []


def test_real_slices(real_data, tmp_path):
    """The de-identified fixture lacks its study and series UIDs: refused by name; with them it works."""
    source = real_data / "dicom_fixture" / "ts_ct_20slices"
    if not source.is_dir():
        pytest.skip(f"no DICOM series at {source}")
    ct = read_volume(source)
    labels = np.zeros(ct.array.shape, np.uint8)
    labels[5:12, 230:270, 180:230] = 12
    document = document_of(ct, labels)
    with pytest.raises(InputError, match="StudyInstanceUID, SeriesInstanceUID"):
        write_dicom(document, ct, tmp_path / "a.dcm")
    folder = tmp_path / "ct"
    shutil.copytree(source, folder)
    for file in folder.iterdir():
        image = pydicom.dcmread(file)
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3.4", "1.2.3.5"
        image.save_as(file)
    ct = read_volume(folder)
    document = document_of(ct, labels)
    write_dicom(document, ct, tmp_path / "a.dcm")
    check_segmentation(ct, document, tmp_path / "a.seg.dcm")
    assert numbers_of(groups_of(tmp_path / "a.dcm")[0])["Volume"][0] == pytest.approx(document.findings[0].volume_ml)
