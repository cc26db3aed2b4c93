"""The report as a DICOM structured report: TID 1500 "Measurement Report" that refers to the CT and to the segmentation of the lesions."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__, taxonomy
from ..attributes import TABLE
from ..errors import InputError
from ..findings import Finding, Line, complete
from ..volume import Volume
from .dicom_seg import (
    MANUFACTURER,
    PRODUCT,
    SERIES_NUMBER,
    code,
    content_uid,
    make_segmentation,
    moment,
    plain_text,
    source_images,
    stamp,
    tracking_id,
    tracking_uid,
)
from .document import ReportDocument
from .staged import staged

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SCHEME = "99PASTA"
# Short names of the attributes; with an ending they make the code values of names and options (at most 16 characters).
SHORT = {
    "enhancement": "ENHANCE", "shape": "SHAPE", "density": "DENSITY", "heterogeneity": "HETERO", "surface": "SURFACE", "invasion": "INVASION",
}  # fmt: skip
_BASES = {
    "requested": "Requested of a generator",
    "measured": "Measured in image and mask",
    "predicted": "Predicted by a network",
    "edited": "Edited by a person",
}
_EXTENTS = (
    ("EXTENT-Z", "Extent head to foot"),
    ("EXTENT-X", "Extent right to left"),
    ("EXTENT-Y", "Extent front to back"),
)


def seg_path(path: str | Path) -> Path:
    """The segmentation's file beside the report ``path``: ``a.dcm`` -> ``a.seg.dcm``."""
    path = Path(path)
    return path.with_name(path.name.removesuffix(".dcm") + ".seg.dcm")


def write_dicom(
    document: ReportDocument, ct: Volume, path: str | Path, segmenter: tuple[str, str] | None = None
) -> list[Path]:
    """Write SR at ``path`` (``.dcm``) and SEG beside it (``seg_path``), both complete or neither; returns the files, the SR first.

    ``ct`` must have been read from a DICOM series, which both refer to. Without findings there is an SR that says so and no SEG (DICOM
    has no empty one). Predictions of random weights are left out. The same document gives the same bytes. InputError as
    ``source_images`` and for files that cannot be written.
    """
    if not str(path).endswith(".dcm"):
        raise InputError(f"{path}: name the DICOM report .dcm")
    report, seg = make_dicom(document, ct, segmenter)
    files = [Path(path), seg_path(path)]
    with staged(files[::-1]) as (seg_file, report_file):
        if seg is not None:
            seg.save_as(seg_file)
        report.save_as(report_file)
    if seg is None:
        files.pop().unlink(missing_ok=True)  # of an earlier report that had lesions
    return files


def make_dicom(
    document: ReportDocument, ct: Volume, segmenter: tuple[str, str] | None = None
) -> tuple[Dataset, Dataset | None]:
    """The data sets of ``write_dicom``: SR, and SEG or None."""
    images = source_images(ct)
    seg = make_segmentation(document, images, segmenter) if document.findings else None
    return make_report(document, images, seg), seg


def make_report(document: ReportDocument, images: list[Dataset], seg: Dataset | None) -> Dataset:
    """A Comprehensive 3D SR: per finding a volumetric ROI measurement group (TID 1411) on its segment of ``seg``, and, under the same
    tracking UID, a group (TID 1501) with the two axial diameters as lines in the patient, for which TID 1411 has no place."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=content_uid("device", __version__), name=PRODUCT, manufacturer_name=MANUFACTURER, model_name=PRODUCT, serial_number=__version__
    )  # fmt: skip
    observer = hd.sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    groups = [_group(item, document, images, seg) for item in document.findings]
    groups += [_size_lines(item, images) for item in document.findings]
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups or [_no_lesion(images)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    record = json.dumps(document.to_json(), sort_keys=True)
    sources = [str(image.SOPInstanceUID) for image in images]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that old scanners wrote
        dataset = hd.sr.Comprehensive3DSR(
            evidence=[*images, *([seg] if seg is not None else [])],
            content=content,
            series_instance_uid=content_uid("sr series", record, *sources),
            series_number=SERIES_NUMBER + 1,
            sop_instance_uid=content_uid("sr instance", record, *sources),
            instance_number=1,
            manufacturer=MANUFACTURER,
            is_complete=True,
            series_description="PASTA lesion report",
        )
    dataset.ManufacturerModelName, dataset.SoftwareVersions = PRODUCT, __version__
    dataset.CodingSchemeIdentificationSequence = [_own_scheme()]
    stamp(dataset, moment(document.created))
    return dataset


# ---------------------------------------------------------------------------------------------------------------
# One finding


def _group(item: Finding, document: ReportDocument, images: list[Dataset], seg: Dataset) -> Any:
    import highdicom as hd

    if document.untrained:
        item = complete(item, None)  # in an archive nobody would see the warning
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=tracking_uid(images[0], item), identifier=tracking_id(item)),
        referenced_segment=_segment_reference(item, images, seg),
        finding_type=code(taxonomy.lesion(item.lesion).code),
        algorithm_id=_algorithm(document),
        finding_sites=[_site(item)],
        measurements=_measurements(item),
        qualitative_evaluations=_evaluations(item),
    )


def _segment_reference(item: Finding, images: list[Dataset], seg: Dataset) -> Any:
    import highdicom as hd

    touched = images[item.box[0]]
    return hd.sr.ReferencedSegment(
        sop_class_uid=seg.SOPClassUID,
        sop_instance_uid=seg.SOPInstanceUID,
        segment_number=item.number,
        source_images=[
            hd.sr.SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID)
            for image, inside in zip(touched, item.mask.any(axis=(1, 2)))
            if inside
        ],
    )


def _algorithm(document: ReportDocument) -> Any:
    import highdicom as hd

    parameters = []
    if document.model is not None and not document.untrained:
        parameters = [
            f"model: {plain_text(document.model.name, 64)}",
            f"digest: {plain_text(document.model.digest, 64)}",
        ]
    return hd.sr.AlgorithmIdentification(name="SlicerPASTA report", version=__version__, parameters=parameters or None)


def _site(item: Finding) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    words = item.report.location_detail.lower().split()
    side = codes.SCT.Right if "right" in words else codes.SCT.Left if "left" in words else None
    return hd.sr.FindingSite(code(taxonomy.organ(taxonomy.lesion(item.lesion).organ).code), laterality=side)


def _size_lines(item: Finding, images: list[Dataset]) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    axes = ((codes.SCT.LongAxis, item.long_axis), (codes.SCT.ShortAxis, item.short_axis))
    frame_of_reference = str(images[0].FrameOfReferenceUID)
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=tracking_uid(images[0], item), identifier=tracking_id(item)),
        finding_type=code(taxonomy.lesion(item.lesion).code),
        finding_sites=[_site(item)],
        measurements=[
            _number(name, line.length_mm, codes.UCUM.Millimeter, line=(line, frame_of_reference)) for name, line in axes
        ],
    )


def _measurements(item: Finding) -> list:
    from pydicom.sr.codedict import codes

    mm, hu = codes.UCUM.Millimeter, codes.UCUM.HounsfieldUnit
    attenuation = codes.DCM.AttenuationCoefficient
    found = [
        _number(codes.SCT.LongAxis, item.long_axis.length_mm, mm),
        _number(codes.SCT.ShortAxis, item.short_axis.length_mm, mm),
        _number(codes.SCT.Volume, item.volume_ml, codes.UCUM.CubicCentimeter),
        _number(attenuation, item.hu.mean, hu, derivation=codes.SCT.Mean),
        _number(attenuation, item.hu.sd, hu, derivation=codes.SCT.StandardDeviation),
        _number(_own("HU-P05", "Attenuation, 5th percentile"), item.hu.p5, hu),
        _number(_own("HU-P95", "Attenuation, 95th percentile"), item.hu.p95, hu),
    ]
    found += [_number(_own(*name), value, mm) for name, value in zip(_EXTENTS, item.size_zxy_mm)]
    for key in SHORT:
        entry = item.report.values.get(key)
        if entry is not None and entry.confidence is not None:
            name = _own(f"{SHORT[key]}-CONF", f"{TABLE[key].title}, confidence")
            found.append(_number(name, entry.confidence, codes.UCUM.NoUnits))
    return found


def _number(name: Any, value: float, unit: Any, derivation: Any = None, line: tuple[Line, str] | None = None) -> Any:
    import highdicom as hd

    drawn = None
    if line is not None:
        ends = np.array([line[0].start_ras, line[0].end_ras]) * (-1, -1, 1)  # DICOM's patient axes run to L, P, S
        drawn = [hd.sr.CoordinatesForMeasurement3D("POLYLINE", ends, line[1])]
    return hd.sr.Measurement(
        name=name, value=float(f"{value:.7g}"), unit=unit, derivation=derivation, referenced_coordinates=drawn
    )


def _evaluations(item: Finding) -> list:
    """Value and basis of each attribute with options, and what was measured of those that a network predicted."""
    import highdicom as hd

    found = []
    for key, short in SHORT.items():
        title, entry = TABLE[key].title, item.report.values.get(key)
        if entry is None:
            continue
        found.append(hd.sr.QualitativeEvaluation(_own(short, title), option_code(key, entry.value)))
        basis = _own(entry.basis.upper(), _BASES[entry.basis])
        found.append(hd.sr.QualitativeEvaluation(_own(f"{short}-BASIS", f"{title}, basis"), basis))
        measured = item.measured.values.get(key) if item.measured is not None else None
        if measured is not None and entry.basis != "measured":
            name = _own(f"{short}-MEAS", f"{title}, measured in image and mask")
            found.append(hd.sr.QualitativeEvaluation(name, option_code(key, measured.value)))
    return found


def option_code(key: str, option: str) -> Any:
    """The 99PASTA code of one option of one attribute: its number in the paper's order, its meaning the paper's wording."""
    return _own(f"{SHORT[key]}-{TABLE[key].options.index(option) + 1}", option)


def _own_scheme() -> Dataset:
    from pydicom.dataset import Dataset

    scheme = Dataset()
    scheme.CodingSchemeDesignator = SCHEME
    scheme.CodingSchemeName = "Lesion attributes of PASTA, Extended Data Table 1"
    scheme.CodingSchemeVersion = "1"
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    return scheme


def _own(value: str, meaning: str) -> Any:
    from highdicom.sr.coding import CodedConcept

    return CodedConcept(value, SCHEME, meaning)


def _no_lesion(images: list[Dataset]) -> Any:
    """The one measurement group of a report without findings: it refers to the CT and says that there is no lesion."""
    import highdicom as hd

    middle = images[len(images) // 2]
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=content_uid("no lesion", str(middle.SeriesInstanceUID)), identifier="No lesion"
        ),
        source_images=[hd.sr.SourceImageForMeasurementGroup(middle.SOPClassUID, middle.SOPInstanceUID)],
        finding_type=_own("NO-LESION", "No lesion in the mask"),
    )
