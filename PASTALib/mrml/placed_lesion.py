"""One lesion of a session in the scene: its voxels in the output volume and its segment, put in and taken out without a trace."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np

from .. import taxonomy
from ..synthesis.spec import LesionRequest, SynthesisResult
from . import result_codec
from .placing import Draft
from .segmentations import add_segment, dress_segment, put_segment, take_segment, update_segment
from .session_nodes import SessionNodes
from .volumes import RegionBackup, restore_region, write_region


@dataclass
class PlacedLesion:
    """A lesion that is or was in the scene. ``result`` is a Draft only while it is being edited.

    ``name``: that of its segment ("Liver tumor 2"). ``backup``: the voxels under it while it is in the output volume, else None.
    ``stepped``: the volume shows a step of its refinement instead.
    """

    result: SynthesisResult | Draft
    name: str
    segment_id: str = ""
    backup: RegionBackup | None = None
    stepped: bool = False
    _segment: object = None
    _json: str | None = None

    @property
    def key(self) -> str:
        """Lesion type."""
        return self.result.request.lesion

    @property
    def is_draft(self) -> bool:
        """Whether it was not measured yet."""
        return isinstance(self.result, Draft)

    @property
    def asked(self) -> LesionRequest:
        """The request as the user made it (the result's own may aim beside the click, so that the centroid meets it)."""
        request = self.result.request
        clicked = None if self.is_draft else self.result.parameters.get("clicked_ras")
        return request if clicked is None else replace(request, at_ras=tuple(clicked))

    def exchange(self, result: SynthesisResult | Draft) -> None:
        """Another version of the same lesion; its voxels must be out of the scene."""
        self.result, self._json = result, None

    def write_voxels(self, nodes: SessionNodes) -> None:
        """Put it into the output volume; only voxels marked ``changed`` are written."""
        self.stepped = False
        self.backup = write_region(nodes.output, self.result.region, self.result.after, self.result.changed, show=False)

    def show_step(self, nodes: SessionNodes, hu: np.ndarray) -> None:
        """Show other HU (the region's shape) in its place; what lies under it stays known."""
        self.stepped = True
        write_region(nodes.output, self.result.region, hu, self.result.changed)

    def erase_voxels(self, nodes: SessionNodes) -> None:
        """Put back what lay under it."""
        if self.backup is not None:
            restore_region(nodes.output, self.backup, show=False)
            self.backup = None

    def write_segment(self, nodes: SessionNodes) -> None:
        """Put its segment in, or bring it up to date."""
        node, region, label = nodes.segmentation, self.result.region, self.result.label
        segmentation = node.GetSegmentation()
        segment = segmentation.GetSegment(self.segment_id) if self.segment_id else None
        if segment is None:
            self.segment_id = add_segment(node, nodes.output, self.key, region, label, self.name, "lesion_1")
            self._json = None
            return
        if segment.GetName() != self.name:
            dress_segment(segment, self.key, self.name)
        update_segment(node, self.segment_id, nodes.output, region, label)

    def put_segment(self, nodes: SessionNodes, before_id: str = "") -> None:
        """Put the segment back that ``take_segment`` took, exactly as it was, ahead of the segment ``before_id`` (last without one)."""
        if self._segment is None:  # it was deleted by hand
            self.write_segment(nodes)
        else:
            put_segment(nodes.segmentation, self.segment_id, self._segment, before_id)
        self._segment = None

    def take_segment(self, nodes: SessionNodes) -> None:
        """Take its segment out of the scene, and keep it."""
        self._segment = take_segment(nodes.segmentation, self.segment_id)

    def refreshed(self, ct: np.ndarray) -> SynthesisResult:
        """The result on the scan ``ct`` as it is now, for a lesion that goes back in after another was taken out."""
        before = ct[self.result.region].astype(np.float32)
        return replace(self.result, before=before, after=np.where(self.result.changed, self.result.after, before))

    def to_json(self) -> str:
        """For the scene; a draft is kept as the box that it covers."""
        if self.is_draft:
            box = [[part.start, part.stop] for part in self.result.region]
            return f'{{"draft": {box}, "segment": {json.dumps(self.segment_id)}}}'
        if self._json is None:
            self._json = (
                f'{{"name": {json.dumps(self.name)}, "segment": {json.dumps(self.segment_id)}, '
                f'"result": {result_codec.to_json(self.result)}}}'
            )
        return self._json


def name_for(key: str, taken: list[str]) -> str:
    """The first free "Liver tumor 1", "Liver tumor 2", …"""
    kind = taxonomy.lesion(key).name
    return next(name for number in range(1, len(taken) + 2) if (name := f"{kind} {number}") not in taken)
