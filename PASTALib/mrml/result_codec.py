"""A SynthesisResult as JSON, small and exact, so that a saved scene can be edited further. No slicer here."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict

import numpy as np

from ..attributes import StructuredReport
from ..synthesis.spec import LesionRequest, Measurement, SynthesisResult

_LEVEL = 1  # of compression: noise hardly shrinks, and this is done while the user drags


def to_json(result: SynthesisResult) -> str:
    """JSON text from which ``from_json`` makes the same result again, given the scan as it was before the lesion."""
    return json.dumps(
        {
            "request": request_to_dict(result.request),
            "region": [[part.start, part.stop] for part in result.region],
            "after": _packed(np.clip(result.after[result.changed], -32768, 32767).astype("<i2")),
            "changed": _packed(np.packbits(result.changed)),
            "label": _packed(np.packbits(result.label)),
            "organ": _packed(np.packbits(result.organ)),
            "moved_labels": None if result.moved_labels is None else _packed(result.moved_labels.astype(np.uint8)),
            "center_ras": list(result.center_ras),
            "requested": result.requested,
            "measurement": asdict(result.measurement),
            "report": result.report.to_json(),
            "tries": result.tries,
            "accepted": result.accepted,
            "log": result.log,
            "parameters": result.parameters,
        },
        default=_plain,
    )


def from_json(data: dict, ct: np.ndarray) -> SynthesisResult:
    """The result of a parsed ``to_json``. ``ct``: HU of the whole scan (z, y, x) as it was before the lesion; it is not changed."""
    region = tuple(slice(a, b) for a, b in data["region"])
    before = ct[region].astype(np.float32)
    shape = before.shape
    changed, label, organ = (_bits(data[name], shape) for name in ("changed", "label", "organ"))
    after = before.copy()
    after[changed] = _unpacked(data["after"], "<i2")
    moved = data["moved_labels"]
    measured = dict(data["measurement"])
    measured |= {"size_zxy_mm": tuple(measured["size_zxy_mm"]), "ambiguous": tuple(measured["ambiguous"])}
    requested = {key: tuple(item) if isinstance(item, list) else item for key, item in data["requested"].items()}
    return SynthesisResult(
        request=request_from_dict(data["request"]),
        region=region,
        before=before,
        after=after,
        label=label,
        organ=organ,
        changed=changed,
        center_ras=tuple(data["center_ras"]),
        requested=requested,
        measurement=Measurement(**measured),
        report=StructuredReport.from_json(data["report"]),
        tries=data["tries"],
        accepted=data["accepted"],
        moved_labels=None if moved is None else _unpacked(moved, np.uint8).reshape(shape).copy(),
        log=list(data["log"]),
        parameters=data["parameters"],
    )


def request_to_dict(request: LesionRequest) -> dict:
    """JSON-ready; ``request_from_dict`` gives back an equal request."""
    return asdict(request)


def request_from_dict(data: dict) -> LesionRequest:
    """The request of ``request_to_dict``."""
    fields = dict(data)
    for name in ("at_ras", "size_mm"):
        fields[name] = None if fields.get(name) is None else tuple(float(v) for v in fields[name])
    return LesionRequest(**fields)


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), _LEVEL)).decode("ascii")


def _unpacked(text: str, dtype) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def _bits(text: str, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    return np.unpackbits(_unpacked(text, np.uint8), count=count).reshape(shape).astype(bool)


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be kept in a scene")
