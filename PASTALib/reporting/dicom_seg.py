"""Findings as a DICOM segmentation (SEG) on the slices of the CT series that they were found in."""

from __future__ import annotations

import hashlib
import warnings
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__, taxonomy
from ..errors import InputError
from ..findings import Finding
from ..volume import Volume
from .document import ReportDocument

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PIP_COMMAND = 'pip install "highdicom>=0.24" "pydicom>=3.0"'
MANUFACTURER, PRODUCT = "SlicerPASTA", "PASTA"
SERIES_NUMBER = 9100
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID",
           "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")  # fmt: skip
# Type 2 in patient and study modules: they must be there, but may be empty.
_MAY_BE_EMPTY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
                 "AccessionNumber", "ReferringPhysicianName")  # fmt: skip
_POSITION_TOLERANCE_MM = 0.2


def require_packages() -> None:
    """InputError with the pip command when highdicom or pydicom is missing."""
    try:
        import highdicom  # noqa: F401
        import pydicom  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"DICOM output needs highdicom and pydicom ({error}); install them with: {PIP_COMMAND}"
        ) from None


def source_images(ct: Volume) -> list[Dataset]:
    """Headers of the CT slices in array order, with empty values where the standard wants an attribute and the file has none.

    InputError, one line, when the CT was not read from a DICOM series, its slices do not lie where the volume says, or attributes are
    missing that SEG and SR cannot do without (they are named).
    """
    require_packages()
    files = ct.meta.get("dicom", {}).get("files")
    if not files:
        source = ct.meta.get("source", "the CT")
        raise InputError(
            f"{source}: not read from a DICOM series, which DICOM SEG and SR must refer to; give --ct the folder of the series, or write "
            ".json or .html"
        )
    if len(files) != ct.array.shape[0]:
        raise InputError(
            f"the CT has {ct.array.shape[0]} slices, its DICOM series {len(files)}; give the CT as it was read"
        )
    images = [_header(Path(file)) for file in files]
    missing = [name for name in _NEEDED if any(not _has(image, name) for image in images)]
    if missing:
        raise InputError(
            f"{Path(files[0]).parent}: the DICOM slices lack {', '.join(missing)}, which SEG and SR must refer to; export the series "
            "again with them (de-identified UIDs are fine), or write .json or .html"
        )
    _check_places(ct, images)
    for image in images:
        if not _has(image, "SliceThickness"):
            image.SliceThickness = f"{ct.spacing_zyx_mm[0]:.6g}"
    return images


def _header(file: Path) -> Dataset:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        image = pydicom.dcmread(file, stop_before_pixels=True)
    except (OSError, InvalidDicomError) as error:
        raise InputError(
            f"{file}: cannot be read again ({error}); the series must stay where it was read from"
        ) from None
    # Some tools blank these in the data set; the file's own header still has them.
    for name, stored in (("SOPInstanceUID", "MediaStorageSOPInstanceUID"), ("SOPClassUID", "MediaStorageSOPClassUID")):
        if not _has(image, name) and stored in image.file_meta:
            setattr(image, name, image.file_meta[stored].value)
    for name in _MAY_BE_EMPTY:
        if name not in image or image[name].value is None:
            setattr(image, name, "")
    if image.PatientSex not in ("", "M", "F", "O"):
        image.PatientSex = ""
    return image


def _has(image: Dataset, name: str) -> bool:
    return name in image and image[name].value not in (None, "")


def _check_places(ct: Volume, images: list[Dataset]) -> None:
    """Every slice lies where the volume says it does, so that the mask ends up on the right pixels."""
    wanted = ct.to_ras(np.array([[k, 0, 0] for k in range(len(images))])) * (-1, -1, 1)
    found = np.array([[float(v) for v in image.ImagePositionPatient] for image in images])
    apart = np.linalg.norm(wanted - found, axis=1)
    size = (int(images[0].Rows), int(images[0].Columns))
    if size != ct.array.shape[1:] or apart.max() > _POSITION_TOLERANCE_MM:
        raise InputError(
            f"the CT is not on the grid of its DICOM series (slices up to {apart.max():.2f} mm apart, {size} pixels against {ct.array.shape[1:]}); "
            "give the CT as it was read"
        )


def content_uid(*parts: bytes | str) -> str:
    """A UID (2.25.…) that is always the same for the same content."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return f"2.25.{int.from_bytes(digest.digest()[:16], 'big')}"


def tracking_uid(image: Dataset, item: Finding) -> str:
    """The UID that follows one lesion through SEG and SR: from its series, its type and its voxels."""
    place = repr([(side.start, side.stop) for side in item.box])
    return content_uid("tracking", str(image.SeriesInstanceUID), item.lesion, place, np.packbits(item.mask).tobytes())


def tracking_id(item: Finding) -> str:
    """The readable counterpart of ``tracking_uid``."""
    return f"Lesion {item.number} ({item.name})"


def moment(created: str) -> datetime:
    """The document's time; InputError when it is no ISO date and time."""
    try:
        return datetime.fromisoformat(created.replace("Z", "+00:00"))
    except ValueError:
        raise InputError(f"created {created!r} is no ISO date and time, such as 2025-03-04T10:20:00") from None


def stamp(dataset: Dataset, when: datetime) -> None:
    """Set every date and time of making to ``when``, so that the same report gives the same bytes."""
    for name in ("InstanceCreation", "Content", "Series"):
        if name != "Series" or f"{name}Date" in dataset:
            setattr(dataset, f"{name}Date", when.strftime("%Y%m%d"))
            setattr(dataset, f"{name}Time", when.strftime("%H%M%S"))
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in equipment:
            equipment.ContributionDateTime = when.strftime("%Y%m%d%H%M%S")


def code(item: taxonomy.Code) -> Any:
    """The taxonomy's code as highdicom wants it."""
    from highdicom.sr.coding import CodedConcept

    return CodedConcept(item.value, item.scheme, item.meaning)


def make_segmentation(
    document: ReportDocument, images: list[Dataset], segmenter: tuple[str, str] | None = None
) -> Dataset:
    """A binary SEG with one segment per finding, its frames at exactly the positions of the CT slices ``images`` (in array order).

    ``segmenter``: name and version of the model that drew the mask, when that is known. ValueError without findings (a SEG cannot be
    empty); InputError for findings without masks.
    """
    import highdicom as hd

    if not document.findings:
        raise ValueError("a DICOM segmentation needs at least one finding")
    labels = _labels(document.findings, (len(images), int(images[0].Rows), int(images[0].Columns)))
    uid_of = [
        content_uid(what, *_identity(document, images)) for what in ("seg series", "seg instance", "seg dimensions")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that old scanners wrote
        dataset = hd.seg.Segmentation(
            source_images=images,
            pixel_array=labels,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_segment(item, images[0], segmenter) for item in document.findings],
            series_instance_uid=uid_of[0],
            series_number=SERIES_NUMBER,
            sop_instance_uid=uid_of[1],
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=PRODUCT,
            software_versions=__version__,
            device_serial_number=__version__,
            pixel_measures=_pixel_measures(images),
            content_label="LESIONS",
            content_description="Lesions of a PASTA report",
            series_description="PASTA lesions",
        )
    organisation = dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID
    for sequence in (dataset.DimensionOrganizationSequence, dataset.DimensionIndexSequence):
        for entry in sequence:
            if entry.DimensionOrganizationUID == organisation:
                entry.DimensionOrganizationUID = uid_of[2]
    stamp(dataset, moment(document.created))
    return dataset


def _labels(findings: list[Finding], shape: tuple[int, int, int]) -> np.ndarray:
    """Map of segment numbers 1, 2, … on the slices of the CT."""
    labels = np.zeros(shape, np.uint8 if len(findings) < 256 else np.uint16)
    for number, item in enumerate(findings, 1):
        if item.mask is None:
            raise InputError(
                "the report has no masks (it was read from JSON); make the DICOM files from CT and mask with `pasta report`"
            )
        labels[item.box][item.mask] = number
    return labels


def _identity(document: ReportDocument, images: list[Dataset]) -> list[bytes | str]:
    """Everything that the segmentation depends on."""
    parts: list[bytes | str] = [document.created, document.software, *(str(image.SOPInstanceUID) for image in images)]
    return [*parts, *(tracking_uid(images[0], item) for item in document.findings)]


def _segment(item: Finding, image: Dataset, segmenter: tuple[str, str] | None) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    lesion = taxonomy.lesion(item.lesion)
    if segmenter is not None:
        kind, family, name, version = "AUTOMATIC", codes.cid7162.ArtificialIntelligence, *segmenter
    else:  # drawn by someone or something unknown, and divided into lesions here
        kind, family = "SEMIAUTOMATIC", codes.cid7162.MorphologicalOperations
        name, version = "Mask as given, connected components by SlicerPASTA", __version__
    segment = hd.seg.SegmentDescription(
        segment_number=item.number,
        segment_label=f"{item.number} {item.name}",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=code(lesion.code),
        algorithm_type=kind,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=plain_text(name, 64), family=family, version=plain_text(version, 64)
        ),
        tracking_uid=tracking_uid(image, item),
        tracking_id=tracking_id(item),
        anatomic_regions=[code(taxonomy.organ(lesion.organ).code)],
    )
    segment.RecommendedDisplayCIELabValue = _colour(lesion.value)
    return segment


def _colour(value: int) -> list[int]:
    """A bright colour of its own for each lesion type, CIELab as DICOM encodes it."""
    angle = 2 * np.pi * (value - taxonomy.LESIONS[0].value) / len(taxonomy.LESIONS)
    lightness, a, b = 70.0, 55.0 * np.cos(angle), 55.0 * np.sin(angle)
    return [round(lightness / 100 * 65535), round((a + 128) / 255 * 65535), round((b + 128) / 255 * 65535)]


def _pixel_measures(images: list[Dataset]) -> Any:
    """Pixel spacing and thickness of the CT, and the distance of its slices."""
    import highdicom as hd

    first, last = (np.array([float(v) for v in image.ImagePositionPatient]) for image in (images[0], images[-1]))
    return hd.PixelMeasuresSequence(
        pixel_spacing=[float(value) for value in images[0].PixelSpacing],
        slice_thickness=float(images[0].SliceThickness),
        spacing_between_slices=round(float(np.linalg.norm(last - first)) / (len(images) - 1), 6),
    )


def plain_text(text: str, longest: int) -> str:
    """ASCII that every character set of DICOM holds, at most ``longest`` characters, never empty."""
    return text.encode("ascii", "replace").decode("ascii")[:longest] or "unknown"
