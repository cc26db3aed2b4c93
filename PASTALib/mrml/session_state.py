"""What a session keeps in the scene, so that it goes on after saving and loading: requests, seeds, order and results of its lesions."""

from __future__ import annotations

import json

from .. import __version__
from ..errors import InputError
from ..synthesis.spec import SynthesisResult
from . import result_codec
from .lesion_stack import LesionStack
from .placed_lesion import PlacedLesion
from .session_nodes import STATE
from .volumes import array_of

SCHEMA, SCHEMA_VERSION = "pasta-synthesis-session", 1


def dump(facts: dict, lesions: list[PlacedLesion], current: PlacedLesion | None) -> str:
    """JSON text for the scene. ``facts``: shape, checksum and affine of the CT, scheme of the organ map."""
    head = {"schema": SCHEMA, "version": SCHEMA_VERSION, "software": f"SlicerPASTA {__version__}", "scan": facts}
    placed = ", ".join(lesion.to_json() for lesion in lesions)
    edited = current.to_json() if current is not None else "null"
    return f'{json.dumps(head)[:-1]}, "lesions": [{placed}], "current": {edited}}}'


def read(output_node) -> dict:
    """What ``dump`` gave; InputError when ``output_node`` has none, or one of another version."""
    name = output_node.GetName() if output_node is not None else "nothing"
    node = output_node.GetNodeReference(STATE) if output_node is not None else None
    if node is None:
        raise InputError(f"{name}: no volume that PASTA placed lesions in; choose one called '… + lesions'")
    try:
        data = json.loads(node.GetText() or "")
        found = data["schema"], data["version"]
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{name}: what was kept about its lesions ({node.GetName()}) is damaged; start a new session with the CT"
        ) from None
    if found != (SCHEMA, SCHEMA_VERSION):
        raise InputError(
            f"{name}: its lesions are kept as {found[0]!r} version {found[1]}; this program reads {SCHEMA!r} version {SCHEMA_VERSION}"
        )
    return data


def reload(saved: dict, stack: LesionStack) -> PlacedLesion | None:
    """Put the lesions of a saved session into scan and volume again (the volume already shows them); returns the one that was being edited."""
    nodes, ct = stack.nodes, stack.scan.ct.array
    output, original = array_of(nodes.output), array_of(nodes.ct)
    current = saved["current"] or {}
    entries = [*saved["lesions"], *([current] if "result" in current else [])]
    results = []
    for entry in entries:  # first the scan as it was, so that each lesion knows what lies under it
        result = result_codec.from_json(entry["result"], ct)
        view = output[result.region]
        view[result.changed] = original[result.region][result.changed].astype(view.dtype)
        results.append(result)
    if "draft" in current:
        region = tuple(slice(a, b) for a, b in current["draft"])
        output[region] = original[region]
        nodes.segmentation.GetSegmentation().RemoveSegment(current["segment"])
    lesions = [_reloaded(entry, result, stack) for entry, result in zip(entries, results)]
    stack.stack(lesions[: len(saved["lesions"])])
    if len(lesions) == len(saved["lesions"]):
        return None
    edited = lesions[-1]
    edited.result = edited.refreshed(ct)
    edited.write_voxels(nodes)
    return edited


def _reloaded(entry: dict, result: SynthesisResult, stack: LesionStack) -> PlacedLesion:
    lesion = PlacedLesion(result, entry["name"], entry["segment"])
    segmentation = stack.nodes.segmentation.GetSegmentation()
    if segmentation.GetSegment(lesion.segment_id) is None:
        lesion.write_segment(stack.nodes)
    else:  # saving puts segments that do not overlap into one layer; quick updates want their own
        segmentation.SeparateSegmentLabelmap(lesion.segment_id)
    return lesion
