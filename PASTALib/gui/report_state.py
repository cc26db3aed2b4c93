"""The report of a scan while a reader works on it: what was found, what the reader changed, and both as text for the scene. No Qt, no nodes."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .. import attributes
from ..attributes import LEARNED, AttributeValue
from ..errors import InputError
from ..findings import Finding, Line, complete
from ..reporting.document import ReportDocument

SCHEMA, SCHEMA_VERSION = "pasta-report-state", 1
EDITABLE = tuple(key for key in attributes.ATTRIBUTES if key != "location")  # the place follows from the type
_RIGID_TOLERANCE = 1e-3


class ReportState:
    """A report document with the reader's changes kept apart from it, so that each can be taken back.

    ``found``: the document as measured and predicted, its findings with masks. ``edits``: for each finding, attribute key -> option string.
    """

    def __init__(self, found: ReportDocument, edits: list[dict[str, str]] | None = None):
        self.found = found
        self.edits = edits if edits is not None else [{} for _ in found.findings]

    # -- changing ------------------------------------------------------------------------------------------------

    def edit(self, row: int, key: str, text: str) -> None:
        """Set an attribute of a finding as the reader says; what was found anyway takes the change back. InputError for what is no option."""
        if key not in EDITABLE:
            raise InputError(f"{key}: cannot be changed here; it follows from the lesion's type")
        value = attributes.parse(key, text)
        entry = self.found.findings[row].report.values.get(key)
        if entry is not None and entry.value == value:
            self.edits[row].pop(key, None)
        else:
            self.edits[row][key] = value

    def take_back(self, row: int, key: str) -> None:
        """Forget the reader's change of one attribute."""
        self.edits[row].pop(key, None)

    def keep_edits_of(self, earlier: ReportState) -> int:
        """Take over the changes of an earlier report for lesions that are still there (same type, overlapping); how many lesions had some."""
        carried = 0
        for row, item in enumerate(self.found.findings):
            for old, edits in zip(earlier.found.findings, earlier.edits):
                if edits and old.lesion == item.lesion and _overlap(old, item):
                    self.edits[row] = {
                        key: value for key, value in edits.items() if item.report.value(key) != value
                    }  # what was measured anew may agree by now
                    carried += 1
                    break
        return carried

    # -- what is shown and written ---------------------------------------------------------------------------------

    def shown(self, row: int) -> Finding:
        """A finding with the reader's changes, marked "edited"."""
        return _edited(self.found.findings[row], self.edits[row])

    def document(self) -> ReportDocument:
        """The document to export: what was found, with the reader's changes marked "edited"."""
        findings = [self.shown(row) for row in range(len(self.found.findings))]
        return replace(self.found, findings=findings)

    def archive_document(self) -> ReportDocument:
        """The document for an archive: without the predictions of random weights, which nobody would recognise there as such."""
        if not self.found.untrained:
            return self.document()
        findings = [
            _edited(complete(item, None), edits) for item, edits in zip(self.found.findings, self.edits, strict=True)
        ]
        return replace(self.found, findings=findings, model=None)

    # -- text ------------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Everything as text; ``from_json`` gives back the same."""
        data = {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "document": self.found.to_json(),
            "masks": [_packed(item.mask) for item in self.found.findings],
            "edits": self.edits,
        }
        return json.dumps(data, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ReportState:
        """The state of ``to_json``; InputError when it is damaged or of another version."""
        try:
            data = json.loads(text)
            if (data["schema"], data["version"]) != (SCHEMA, SCHEMA_VERSION):
                raise InputError(
                    f"report of version {data['version']!r} ({data['schema']}); this program reads {SCHEMA} {SCHEMA_VERSION}: measure again"
                )
            document = ReportDocument.from_json(data["document"])
            pairs = zip(document.findings, data["masks"], strict=True)
            findings = [replace(item, mask=_unpacked(mask, item)) for item, mask in pairs]
            edits = [
                {key: attributes.parse(key, value) for key, value in one.items() if key in EDITABLE}
                for one in data["edits"]
            ]
            if len(edits) != len(findings):
                raise ValueError(f"{len(edits)} lists of changes for {len(findings)} lesions")
        except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the report kept in the scene is damaged ({error}); measure again") from None
        return cls(replace(document, findings=findings), edits)


def _edited(item: Finding, edits: Mapping[str, str]) -> Finding:
    report = item.report
    for key, value in edits.items():
        report = report.with_value(key, value)
    return replace(item, report=report)


def evidence(item: Finding, key: str) -> tuple[AttributeValue | None, tuple[str, float, bool] | None, str]:
    """What speaks for an attribute: what was measured; what was predicted (option, probability, whether the network is trained); why it could
    not be measured."""
    report = item.measured if item.measured is not None and key in LEARNED else item.report
    measured = report.values.get(key)
    if measured is not None and measured.basis != "measured":
        measured = None
    best = item.prediction.best(key) if item.prediction is not None else None
    predicted = None if best is None else (*best, item.prediction.trained)
    return measured, predicted, item.reasons.get(key, "")


def in_own_space(document: ReportDocument, to_own: np.ndarray) -> ReportDocument:
    """The document with points moved by a 4x4 matrix (world RAS mm to the CT's own), as DICOM wants them.

    InputError for a matrix that scales or shears: lengths would no longer be those of the slices.
    """
    turn = to_own[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > _RIGID_TOLERANCE:
        raise InputError(
            "the CT lies under a transform that scales or shears it, so that the report does not fit its DICOM slices; take the CT out of the "
            "transform and measure again"
        )

    def moved(point) -> tuple[float, ...]:
        return tuple(float(value) for value in turn @ np.asarray(point, float) + to_own[:3, 3])

    def line(old: Line) -> Line:
        return Line(moved(old.start_ras), moved(old.end_ras))

    findings = [
        replace(
            item,
            centre_ras=moved(item.centre_ras),
            long_axis=line(item.long_axis),
            short_axis=line(item.short_axis),
        )
        for item in document.findings
    ]
    return replace(document, findings=findings)


def _overlap(a: Finding, b: Finding) -> bool:
    """Whether two findings of one scan share a voxel."""
    both = [slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a.box, b.box)]
    if any(side.stop <= side.start for side in both):
        return False
    masks = [
        item.mask[tuple(slice(s.start - own.start, s.stop - own.start) for s, own in zip(both, item.box))]
        for item in (a, b)
    ]
    return bool((masks[0] & masks[1]).any())


def _packed(mask: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode("ascii")


def _unpacked(text: str, item: Finding) -> np.ndarray:
    shape = tuple(side.stop - side.start for side in item.box)
    count = int(np.prod(shape))
    bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8))
    if len(bits) < count:
        raise ValueError("a mask is cut short")
    return bits[:count].reshape(shape).astype(bool)
