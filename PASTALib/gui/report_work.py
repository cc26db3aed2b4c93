"""Measuring lesions, and exporting a report, step by step. No Qt, no nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from slicer.i18n import tr as _

from .. import taxonomy
from ..errors import InputError
from ..findings import AttributePrediction, LesionMask, complete
from ..mrml.organ_source import LabelSource, SegmentName
from ..mrml.volumes import NodeImage
from ..organs import OrganMap
from ..progress import Progress
from ..reporting.document import ModelFacts, ReportDocument, write_json
from ..reporting.views import anatomical_axes
from ..volume import Volume
from ..worker.find import split_masks
from .job_steps import InThread, InWorker, Steps
from .report_state import ReportState


@dataclass(frozen=True)
class ReportRequest:
    """What to measure. ``lesions``: the segmentation; ``types``: name of a segment that tells nothing -> lesion type; ``organs``: an organ map,
    None for the organs of ``lesions``; ``model``: "" to measure only; ``created``: ISO date and time."""

    ct: NodeImage
    lesions: LabelSource
    created: str
    types: Mapping[str, str]
    organs: LabelSource | None = None
    model: str = ""
    device: str = "auto"


def untold(source: LabelSource) -> list[str]:
    """Names of the segments that tell neither a lesion type nor an organ nor a structure; the user says what they are."""
    names = [name for layer in source.layers for name in layer.names.values()]
    return [item.names[0] for item in names if item.lesion() is None and item.organ() is None and not item.canonical()]


def told_types(source: LabelSource, types: Mapping[str, str]) -> list[str]:
    """Lesion types in a segmentation, by its names and by what the user said of the rest."""
    names = [name for layer in with_types(source, types).layers for name in layer.names.values()]
    return [key for key in (name.lesion() for name in names) if key is not None]


def holds_organs(source: LabelSource) -> bool:
    """Whether a segmentation has organs beside its lesions, so that it serves as organ map."""
    names = [name for layer in source.layers for name in layer.names.values()]
    return any(item.lesion() is None and item.organ() is not None for item in names)


def with_types(source: LabelSource, types: Mapping[str, str]) -> LabelSource:
    """The source with the user's word on segments that tell nothing."""
    layers = [
        replace(
            layer,
            names={
                value: SegmentName(name.names, types[name.names[0]])
                if name.lesion() is None and types.get(name.names[0]) in taxonomy.LESION_KEYS
                else name
                for value, name in layer.names.items()
            },
        )
        for layer in source.layers
    ]
    return replace(source, layers=layers)


def report_steps(request: ReportRequest) -> Steps:
    """Steps that return a ``ReportState``. InputError for nodes that cannot be used and a segmentation without lesions."""
    read = yield InThread(lambda progress: _read(request, progress))
    arrays = {"ct": read.ct.array, "mask": read.mask.labels.array}
    params = {
        "affine": read.ct.affine,
        "meta": {key: value for key, value in read.ct.meta.items() if key != "notes"},
        "types": {str(value): key for value, key in read.mask.types.items()},
        "mask_name": request.lesions.name,
        "created": request.created,
    }
    if read.organs is not None:
        arrays["organs"] = read.organs.labels.array
        params["scheme"] = read.organs.scheme
        if read.organs.structures is not None:
            arrays["structures"] = read.organs.structures.array
            params["structure_names"] = {str(value): name for value, name in read.organs.structure_names.items()}
    found, masks = yield InWorker("findings", params, arrays)
    document = split_masks(ReportDocument.from_json(found["document"]), masks["masks"])
    document = replace(document, notes=[*read.notes, *document.notes])
    if request.model and document.findings:
        centres = [list(item.centre_ras) for item in document.findings]
        told, _none = yield InWorker(
            "attributes",
            {"affine": read.ct.affine, "model": request.model, "device": request.device, "centres_ras": centres},
            {"ct": read.ct.array},
        )
        document = _predicted(document, told)
    return ReportState(document)


@dataclass(frozen=True)
class _Read:
    ct: Volume
    mask: LesionMask
    organs: OrganMap | None
    notes: list[str]


def _read(request: ReportRequest, progress: Progress) -> _Read:
    progress(0, 0, _("reading the CT"))
    ct = request.ct.volume()
    progress(0, 0, _("reading the segmentation"))
    source = with_types(request.lesions, request.types)
    mask = source.lesion_mask(ct)
    notes = [*ct.meta.get("notes", []), *mask.notes]
    organs = None
    if request.organs is not None:
        progress(0, 0, _("reading the organ map"))
        organs = request.organs.organ_map(ct)
        notes += organs.notes
    elif holds_organs(source):
        organs = source.organ_map(ct)
    else:
        notes.append(_("without an organ map, shape, density and the like are not measured"))
    anatomical_axes(ct.affine)  # loads what key images need, which would hold up the GUI's thread at the first of them
    return _Read(ct, mask, organs, list(dict.fromkeys(notes)))


def _predicted(document: ReportDocument, told: Mapping) -> ReportDocument:
    answers = [AttributePrediction.from_json(item) for item in told["predictions"]]
    findings = [complete(item, answer) for item, answer in zip(document.findings, answers, strict=True)]
    model = ModelFacts(told["model"], told["digest"], told["trained"])
    return replace(document, findings=findings, model=model, notes=[*document.notes, *told["notes"]])


def trust(state: ReportState, stale: bool) -> list[str]:
    """How far a report may be trusted, the gravest first. ``stale``: the segmentation has changed since."""
    lines = []
    if not state.found.findings:
        lines.append(_("No lesion of 3 mm or more was found in the segmentation."))
    if stale:
        lines.append(_("The segmentation has changed since it was measured: measure again. Your changes are kept."))
    if state.found.untrained:
        lines.append(_("Random weights: the predictions mean nothing; only what is measured comes from the scan."))
    return [*lines, _("For research and teaching. Not for diagnosis.")]


# ---------------------------------------------------------------------------------------------------------------
# Export


def export_steps(kind: str, document: ReportDocument, ct: NodeImage | None, path: Path) -> Steps:
    """Steps that write the report as "json", "html" or "dicom" and return the files. ``ct``: the scan as ``snapshot`` took it, for pictures
    and for DICOM (there with the node's own geometry)."""

    def work(progress: Progress) -> list[Path]:
        if kind == "json":
            return [write_json(document, path)]
        progress(0, 0, _("reading the CT"))
        volume = ct.volume()
        if kind == "html":
            from ..reporting.report_page import write_page

            return [write_page(document, volume, path, progress=progress)]
        from ..reporting.dicom_sr import write_dicom

        progress(0, 0, _("writing DICOM"))
        return write_dicom(document, volume, path)

    return (yield InThread(work))


def reason_against_dicom(image: NodeImage) -> str:
    """Why this CT gives no DICOM; empty when it does."""
    if "dicom" not in image.meta:
        return _(
            "DICOM needs a CT that was loaded from DICOM, to refer to its slices. Save JSON or a web page instead."
        )
    if not image.meta["dicom"].get("files"):
        return _("The DICOM database no longer has all slices of this CT; import the series again, then export.")
    return ""


def same_grid(document: ReportDocument, shape: tuple[int, ...]) -> None:
    """InputError when the CT is no longer the one that was measured."""
    if tuple(document.scan.shape_zyx) != tuple(shape):
        raise InputError(
            _(
                "The CT has another size now than when it was measured ({now} against {then} voxels); measure again."
            ).format(now=" × ".join(map(str, shape[::-1])), then=" × ".join(map(str, document.scan.shape_zyx[::-1])))
        )
