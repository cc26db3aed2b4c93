"""Replicas of TCIA collections: real DICOM series with RTSTRUCT and SEG, in the NBIA Data Retriever's folders. No torch."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np

from .replica_bodies import Body, make_body, rounded

ROOT = "1.2.826.0.1.3680043.10.1338."  # of UIDs that mean nothing outside a replica
CT_CLASS, MR_CLASS = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
THICK = (3.0, 2.0, 2.0)  # Lung1's slices lie 3 mm apart
SURVIVED = (1300, 2200), (120, 600)  # days, of kind 0 and kind 1
CLINICAL = "NSCLC-Radiomics-Lung1.clinical-version3-Oct-2019.csv"


def write_lung1(folder: Path, cases: int, seed: int) -> None:
    """LUNG1-001 … with CT, RTSTRUCT and SEG each, LUNG1-128 with a CT alone, metadata.csv, and the clinical table."""
    top = folder / "manifest-1603198545583"
    numbers = [*[n for n in range(1, cases + 2) if n != 128][:cases], 128]
    rows, series = [], []
    for number in numbers:
        rng, kind, name = np.random.default_rng([seed, number]), number % 2, f"LUNG1-{number:03d}"
        body = make_body(rng, kind, spacing_zyx_mm=THICK, shape_zyx=(28, 40, 40), organ_hu=-750)
        study = top / "NSCLC-Radiomics" / name / f"01-01-2014-StudyID-NA-{number:05d}"
        slices = write_series(study / f"0.000000-NA-{number:05d}", name, body, [seed, number, 0])
        series.append((name, "CT", slices[0], study / f"0.000000-NA-{number:05d}"))
        if number != 128:
            outlines = study / f"3.000000-NA-{number:05d}"
            _write_structures(outlines / "1-1.dcm", slices, body, [seed, number, 1])
            _write_segmentation(study / "300.000000-Segmentation-9.554" / "1-1.dcm", slices, body, [seed, number, 2])
        low, high = SURVIVED[kind]
        rows.append(
            {
                "PatientID": name,
                "age": f"{rng.uniform(45, 85):.4f}",
                "clinical.T.Stage": 2 + kind,
                "Clinical.N.Stage": 2 * kind,
                "Clinical.M.Stage": 0,
                "Overall.Stage": ("I", "II", "IIIa", "IIIb")[2 * kind + number // 2 % 2],
                "Histology": "large cell",
                "gender": ("male", "female")[number // 2 % 2],
                "Survival.time": int(rng.integers(low, high)),
                "deadstatus.event": 1 if kind else number // 2 % 2,
            }
        )
    _write_csv(top / CLINICAL, rows)
    _write_csv(
        top / "metadata.csv",
        [
            {
                "Series UID": first.SeriesInstanceUID,
                "Collection": "NSCLC-Radiomics",
                "Subject ID": name,
                "Modality": modality,
                "File Location": f"./{place.relative_to(top).as_posix()}",
            }
            for name, modality, first, place in series
        ],
    )


def write_tcga(folder: Path, cases: int, seed: int) -> None:
    """TCGA-ZZ-A000 … with two CT series, a scout and an MR each, clinical.tsv with a row per treatment, and points.csv as FMCIB writes it."""
    top = folder / "manifest-1526918421480"
    rows, points = [], []
    for number in range(cases):
        rng, kind, name = np.random.default_rng([seed, number]), number % 2, f"TCGA-ZZ-A{number:03d}"
        body = make_body(rng, kind)
        study = top / "TCGA-BLCA" / name / f"05-02-2001-NA-CT ABD PEL-{number:05d}"
        write_series(study / "1.000000-SCOUT-00001", name, body, [seed, number, 3], every=40, localizer=True)
        write_series(study / "2.000000-Portal-00002", name, body, [seed, number, 4])
        write_series(study / "3.000000-Delayed 4mm-00003", name, body, [seed, number, 5], every=2)
        write_series(study / "4.000000-T2-00004", name, body, [seed, number, 6], every=4, modality="MR")
        r, a, s = body.centre_ras
        points.append({"PatientID": name, "coordX": f"{-r:.2f}", "coordY": f"{-a:.2f}", "coordZ": f"{s:.2f}"})
        low, high = SURVIVED[kind]
        days, dead = str(int(rng.integers(low, high))), bool(kind) or number // 2 % 2 == 0
        row = {
            "case_id": f"00000000-{number:04d}",
            "case_submitter_id": name,
            "project_id": "TCGA-BLCA",
            "days_to_death": days if dead else "'--",
            "vital_status": "Dead" if dead else "Alive",
            "ajcc_pathologic_stage": ("Stage I", "Stage II", "Stage III", "Stage IV")[2 * kind + number // 2 % 2],
            "days_to_last_follow_up": "'--" if dead else days,
        }
        rows += [row | {"treatment_type": kind} for kind in ("Pharmaceutical Therapy, NOS", "Radiation Therapy, NOS")]
    _write_csv(folder / "clinical.tsv", rows, "\t")
    _write_csv(folder / "points.csv", points)


def write_series(
    folder: Path, patient: str, body: Body, seed: list[int], *, every: int = 1, modality="CT", localizer=False
) -> list:
    """One file per (``every``-th) axial slice, from the feet up; the datasets."""
    from pydicom.dataset import Dataset

    folder.mkdir(parents=True, exist_ok=True)
    spacing, slices = body.spacing_zyx_mm, []
    voxels = (rounded(body.hu) + 1024).clip(0).astype(np.uint16)
    for number, k in enumerate(range(0, len(voxels), every), 1):
        data = Dataset()
        data.SOPClassUID, data.SOPInstanceUID = (CT_CLASS if modality == "CT" else MR_CLASS), _uid(*seed, number)
        data.StudyInstanceUID, data.SeriesInstanceUID = _uid(*seed[:2], 90), _uid(*seed)
        data.FrameOfReferenceUID, data.PatientID, data.PatientName = _uid(*seed[:2], 91), patient, patient
        data.PatientBirthDate = data.PatientSex = data.StudyID = data.AccessionNumber = data.StudyTime = ""
        data.ReferringPhysicianName, data.StudyDate, data.Modality = "", "20140101", modality
        data.SeriesNumber, data.InstanceNumber, data.SeriesDescription = seed[-1], number, folder.name
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if localizer else "AXIAL"]
        data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, k * spacing[0]]
        data.PixelSpacing, data.SliceThickness = [spacing[1], spacing[2]], spacing[0] * every
        data.Rows, data.Columns = voxels.shape[1:]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.RescaleIntercept, data.RescaleSlope = -1024, 1
        data.PixelData = voxels[k].tobytes()
        _save(data, folder / f"1-{number:03d}.dcm")
        slices.append(data)
    return slices


# ---------------------------------------------------------------------------------------------------------------


def _write_structures(path: Path, slices: list, body: Body, seed: list[int]) -> None:
    """An RTSTRUCT with the spinal cord first, and the tumour as GTV-1: one closed contour on every slice that shows it."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    cord = np.zeros_like(body.lesion)
    cord[:, -8:-5, 18:22] = True
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = RTSTRUCT_CLASS, _uid(*seed, 1)
    data.StudyInstanceUID, data.SeriesInstanceUID = slices[0].StudyInstanceUID, _uid(*seed)
    data.PatientID, data.PatientName, data.Modality = slices[0].PatientID, slices[0].PatientName, "RTSTRUCT"
    data.FrameOfReferenceUID, data.StudyDate, data.StructureSetLabel = slices[0].FrameOfReferenceUID, "20140101", "RT"
    data.StructureSetROISequence, data.ROIContourSequence = Sequence(), Sequence()
    for number, (name, mask) in enumerate((("Spinal-Cord", cord), ("GTV-1", body.lesion)), 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, slices[0].FrameOfReferenceUID
        drawn.ReferencedROINumber, drawn.ContourSequence = number, Sequence()
        for k in np.flatnonzero(mask.any(axis=(1, 2))):
            contour = Dataset()
            points = _outline(mask[k], body, k)
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{value:.3f}" for value in points.ravel()]
            drawn.ContourSequence.append(contour)
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(drawn)
    _save(data, path)


def _outline(mask: np.ndarray, body: Body, k: int) -> np.ndarray:
    """The border of a slice's mask in LPS mm: polygon between inside and outside voxels."""
    from skimage.measure import find_contours

    border = max(find_contours(np.pad(mask.astype(float), 1), 0.5), key=len)[:-1] - 1
    dz, dy, dx = body.spacing_zyx_mm
    return np.column_stack([border[:, 1] * dx, border[:, 0] * dy, np.full(len(border), k * dz)])


def _write_segmentation(path: Path, slices: list, body: Body, seed: list[int]) -> None:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    segment = hd.seg.SegmentDescription(
        1,
        "GTV-1",
        codes.SCT.MorphologicallyAbnormalStructure,
        codes.SCT.Neoplasm,
        hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seg = hd.seg.Segmentation(
            slices,
            body.lesion.astype(np.uint8),
            hd.seg.SegmentationTypeValues.BINARY,
            [segment],
            _uid(*seed),
            seed[-1],
            _uid(*seed, 1),
            1,
            "SlicerPASTA",
            "replica",
            "1",
            "0",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path)


def _save(data, path: Path) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def _uid(*numbers: int) -> str:
    return ROOT + ".".join(str(int(number)) for number in numbers)


def _write_csv(path: Path, rows: list[dict], delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
