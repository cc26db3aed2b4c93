"""The report of one scan as a document: scan, model, notes and findings; JSON out and in, and plain text for copying."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from .. import __version__
from ..attributes import StructuredReport
from ..errors import InputError
from ..findings import AttributePrediction, Finding, HuFigures, Line, ScanPhase
from ..volume import Volume
from .staged import staged

SCHEMA, SCHEMA_VERSION = "pasta-report-document", 1
DISCLAIMER = "For research and teaching. Not for diagnosis."


@dataclass(frozen=True)
class ScanFacts:
    """The scan that was reported. ``source``: file or folder name; ``shape_zyx`` voxels; ``spacing_zyx_mm``; UIDs only when it came from DICOM."""

    source: str
    shape_zyx: tuple[int, int, int]
    spacing_zyx_mm: tuple[float, float, float]
    phase: ScanPhase
    series_uid: str = ""
    study_uid: str = ""

    @classmethod
    def of(cls, ct: Volume, phase: ScanPhase) -> ScanFacts:
        """The facts of a volume as ``read_volume`` gives it; folders in front of the name are dropped."""
        dicom = ct.meta.get("dicom", {})
        return cls(
            PureWindowsPath(str(ct.meta.get("source", ""))).name,
            tuple(int(n) for n in ct.array.shape),
            tuple(float(h) for h in ct.spacing_zyx_mm),
            phase,
            dicom.get("series_uid", ""),
            dicom.get("study_uid", ""),
        )


@dataclass(frozen=True)
class ModelFacts:
    """The network behind predicted values. ``trained``: False for random weights; ``digest`` tells the weights apart."""

    name: str
    digest: str = ""
    trained: bool = True


@dataclass(frozen=True)
class ReportDocument:
    """Everything that is reported of one scan. ``created``: ISO date and time, given by the caller; ``mask``: name of the mask file."""

    scan: ScanFacts
    findings: list[Finding]
    created: str
    model: ModelFacts | None = None
    mask: str = ""
    notes: list[str] = field(default_factory=list)
    software: str = f"SlicerPASTA {__version__}"

    @property
    def untrained(self) -> bool:
        """Whether any predicted value comes from random weights, so that it means nothing."""
        random_model = self.model is not None and not self.model.trained
        return random_model or any(
            item.prediction is not None and not item.prediction.trained for item in self.findings
        )

    # -- JSON ------------------------------------------------------------------------------------------------

    def to_json(self) -> dict:
        """JSON-ready dictionary; ``from_json`` gives back the same document, its findings without masks."""
        return {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "software": self.software,
            "created": self.created,
            "scan": _plain(asdict(self.scan)),
            "mask": self.mask,
            "model": None if self.model is None else asdict(self.model),
            "predictions_mean_nothing": self.untrained,
            "notes": list(self.notes),
            "findings": [_finding_json(item) for item in self.findings],
        }

    @classmethod
    def from_json(cls, data: Mapping | str) -> ReportDocument:
        """The document of ``to_json``'s dictionary or its text; InputError that says what is wrong otherwise."""
        if isinstance(data, str):
            try:
                data = json.loads(data)
            except json.JSONDecodeError as error:
                raise InputError(f"report document: not valid JSON (line {error.lineno}: {error.msg})") from None
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise InputError(f'not a report document: "schema" is {found!r}, wanted "{SCHEMA}"')
        if data.get("version") != SCHEMA_VERSION:
            raise InputError(
                f"report document of version {data.get('version')!r}; this program reads version {SCHEMA_VERSION}"
            )
        try:
            scan = dict(data["scan"])
            scan["phase"] = ScanPhase(**scan["phase"])
            scan["shape_zyx"], scan["spacing_zyx_mm"] = tuple(scan["shape_zyx"]), tuple(scan["spacing_zyx_mm"])
            return cls(
                ScanFacts(**scan),
                [_finding_of(item) for item in data["findings"]],
                data["created"],
                None if data.get("model") is None else ModelFacts(**data["model"]),
                data.get("mask", ""),
                list(data.get("notes", [])),
                data.get("software", ""),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"report document is malformed: {what}") from None

    # -- text ------------------------------------------------------------------------------------------------

    def facts(self) -> list[str]:
        """Short lines about scan, mask, model and time."""
        spacing = " × ".join(f"{value:.3g}" for value in self.scan.spacing_zyx_mm[::-1])
        shape = " × ".join(str(value) for value in self.scan.shape_zyx[::-1])
        lines = [
            self.scan.source,
            f"{self.scan.phase.value or 'Contrast phase open'} ({self.scan.phase.reason})",
            f"{shape} voxels of {spacing} mm (x, y, z)",
        ]
        if self.mask:
            lines.append(f"Mask: {self.mask}")
        if self.model is not None:
            digest = f", {self.model.digest[:12]}" if self.model.digest else ""
            lines.append(f"Model: {self.model.name}{digest}" + ("" if self.model.trained else ", random weights"))
        return [line for line in (*lines, f"{self.created}, {self.software}") if line]

    def to_text(self) -> str:
        """The whole report as plain text: a block per lesion with figures, the eight attributes, and a sentence."""
        lines = [*self.facts(), *(f"Note: {note}" for note in self.notes)]
        if self.untrained:
            lines.append("WARNING: the model has random weights; its predictions mean nothing.")
        if not self.findings:
            lines += ["", "No lesion."]
        for item in self.findings:
            lines += ["", f"Lesion {item.number}: " + " · ".join(figure_lines(item)), item.report.to_text(), ""]
            lines.append(item.report.to_sentence())
        return "\n".join([*lines, "", DISCLAIMER, ""])


def figure_lines(item: Finding) -> list[str]:
    """The measured figures of one lesion in words, units included."""
    centre = ", ".join(f"{value:.0f}" for value in item.centre_ras)
    lines = [
        f"{item.long_axis.length_mm:.1f} × {item.short_axis.length_mm:.1f} mm axial",
        volume_text(item.volume_ml),
        f"{item.hu.mean:.0f} ± {item.hu.sd:.0f} HU".replace("-", "\u2212"),
        f"centre R,A,S {centre} mm".replace("-", "\u2212"),
    ]
    return lines + (["reaches the border of the scan: size is a lower bound"] if item.at_border else [])


def volume_text(volume_ml: float) -> str:
    """A volume as a reader wants it: "0.042 ml", "6.6 ml", "359 ml"."""
    return f"{volume_ml:.3g} ml" if volume_ml < 100 else f"{volume_ml:.0f} ml"


def write_json(document: ReportDocument, path: str | Path) -> Path:
    """Write the document as JSON, complete or not at all; the same document gives the same bytes. Returns the path."""
    with staged([path]) as (target,):
        target.write_bytes(json_bytes(document))
    return Path(path)


def json_bytes(document: ReportDocument) -> bytes:
    """The bytes of ``write_json``."""
    return (json.dumps(document.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def read_document(path: str | Path) -> ReportDocument:
    """The document of ``write_json``; its findings have no masks. InputError naming the file otherwise."""
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; give a report document (.json)") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    try:
        return ReportDocument.from_json(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


# ---------------------------------------------------------------------------------------------------------------
# One finding


def _finding_json(item: Finding) -> dict:
    return _plain(
        {
            "number": item.number,
            "lesion": item.lesion,
            "box_zyx": [[side.start, side.stop] for side in item.box],
            "centre_ras_mm": item.centre_ras,
            "volume_ml": item.volume_ml,
            "hu": asdict(item.hu),
            "size_zxy_mm": item.size_zxy_mm,
            "long_axis": _line_json(item.long_axis),
            "short_axis": _line_json(item.short_axis),
            "at_border": item.at_border,
            "report": item.report.to_json(),
            "measured": None if item.measured is None else item.measured.to_json(),
            "not_measured_because": item.reasons,
            "prediction": None if item.prediction is None else item.prediction.to_json(),
        }
    )


def _finding_of(data: Mapping) -> Finding:
    read = StructuredReport.from_json
    return Finding(
        number=data["number"],
        lesion=data["lesion"],
        box=tuple(slice(*side) for side in data["box_zyx"]),
        mask=None,
        centre_ras=tuple(data["centre_ras_mm"]),
        volume_ml=data["volume_ml"],
        hu=HuFigures(**data["hu"]),
        size_zxy_mm=tuple(data["size_zxy_mm"]),
        long_axis=_line_of(data["long_axis"]),
        short_axis=_line_of(data["short_axis"]),
        report=read(data["report"]),
        at_border=data["at_border"],
        measured=None if data["measured"] is None else read(data["measured"]),
        reasons=dict(data["not_measured_because"]),
        prediction=None if data["prediction"] is None else AttributePrediction.from_json(data["prediction"]),
    )


def _line_json(line: Line) -> dict:
    return {"length_mm": line.length_mm, "start_ras_mm": line.start_ras, "end_ras_mm": line.end_ras}


def _line_of(data: Mapping) -> Line:
    return Line(tuple(data["start_ras_mm"]), tuple(data["end_ras_mm"]))


def _plain(value: Any) -> Any:
    """``value`` for JSON: floats to 9 significant digits; tuples as lists."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
