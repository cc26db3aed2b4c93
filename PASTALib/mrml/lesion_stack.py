"""The accepted lesions of a session, in scan, volume and segmentation alike; any of them can be taken out and put back."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..synthesis.generator import insert, remove_last
from ..synthesis.scan import PreparedScan
from ..synthesis.spec import SynthesisResult
from .placed_lesion import PlacedLesion
from .session_nodes import SessionNodes


class LesionStack:
    """``lesions`` in the order in which they were placed. What a later one covers of an earlier one is put back before the earlier is touched."""

    def __init__(self, scan: PreparedScan, nodes: SessionNodes):
        self.scan, self.nodes = scan, nodes
        self.lesions: list[PlacedLesion] = []

    def push(self, lesion: PlacedLesion) -> None:
        """A lesion that is in the scene becomes part of the scan."""
        insert(self.scan, lesion.result)
        self.lesions.append(lesion)

    def check_free(self, index: int) -> None:
        """InputError when a later lesion lies on what this one changed, so that it cannot be taken out alone."""
        lesion = self.lesions[index]
        for later in self.lesions[index + 1 :]:
            if in_each_others_way(lesion.result, later.result):
                raise InputError(f"{later.name} lies on what {lesion.name} changed; remove {later.name} first")

    def take_out(self, index: int) -> PlacedLesion:
        """Take a lesion out of scan, volume and segmentation; those after it are taken out and put back round it."""
        lesion, later = self.lesions[index], self.lesions[index + 1 :]
        self._unstack(index)
        lesion.take_segment(self.nodes)
        self.stack(later)
        return lesion

    def put_in(self, index: int, lesion: PlacedLesion) -> None:
        """Put a lesion back where ``take_out`` took it."""
        later = self.lesions[index:]
        self._unstack(index)
        self.stack([lesion, *later])
        lesion.put_segment(self.nodes, later[0].segment_id if later else "")

    def stack(self, lesions: list[PlacedLesion]) -> None:
        """Put lesions on top, in scan and volume; their segments are not touched."""
        for lesion in lesions:
            lesion.result = lesion.refreshed(self.scan.ct.array)
            insert(self.scan, lesion.result)
            lesion.write_voxels(self.nodes)
            self.lesions.append(lesion)

    def _unstack(self, index: int) -> None:
        for lesion in reversed(self.lesions[index:]):
            remove_last(self.scan)
            lesion.erase_voxels(self.nodes)
        del self.lesions[index:]


def in_each_others_way(a: SynthesisResult, b: SynthesisResult) -> bool:
    """Whether two lesions changed the same voxels, or one moved organs where the other lies."""
    common = [slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a.region, b.region)]
    if any(part.start >= part.stop for part in common):
        return False
    if a.moved_labels is not None or b.moved_labels is not None:
        return True
    first, second = (
        r.changed[tuple(slice(c.start - p.start, c.stop - p.start) for c, p in zip(common, r.region))] for r in (a, b)
    )
    return bool(np.logical_and(first, second).any())
