"""What a synthesis session starts from, in two parts: quick ones that touch nodes, and heavy ones that a thread may do."""

from __future__ import annotations

import zlib

import numpy as np

from ..errors import InputError
from ..organs import check_organs
from ..progress import Progress, silent
from ..synthesis.scan import PreparedScan, prepare_scan
from . import session_state
from .organ_source import label_source
from .session_nodes import CT, ORGANS
from .volumes import allocate_image, snapshot

_HOLDS_HU = ("int16", "int32", "int64", "float32", "float64")


class SessionInputs:
    """CT and organ map of a session.

    Make it in the application's thread (quick: nothing is copied), call ``run`` in any thread while the nodes stay as they are, then hand it
    to ``SynthesisSession``. ``of_output`` makes one that goes on with a session of a saved scene.

    After ``run``: ``scan``; ``image``, the voxels of the output volume, None when it exists; ``notes``, one-line remarks for the user.
    Raises InputError for a node that cannot be used, see ``volumes.snapshot`` and ``organ_source.label_source``.
    """

    def __init__(self, ct_node, organs_node, scheme: str | None = None):
        self.ct_node, self.organs_node, self.scheme = ct_node, organs_node, scheme
        self.output_node = None
        self.saved: dict | None = None
        self.scan: PreparedScan | None = None
        self.image = None
        self.notes: list[str] = []
        self.facts: dict = {}
        self._ct = snapshot(ct_node)
        self._source = label_source(organs_node)

    @classmethod
    def of_output(cls, output_node) -> SessionInputs:
        """The inputs of the session that made ``output_node``. InputError when it was made by none, or the scene lacks its CT or organ map."""
        saved = session_state.read(output_node)
        name = output_node.GetName()
        ct, organs = (output_node.GetNodeReference(role) for role in (CT, ORGANS))
        for node, what in ((ct, "CT"), (organs, "organ map")):
            if node is None:
                raise InputError(
                    f"{name}: the {what} that it was made from is not in the scene; load it, or start anew"
                )
        inputs = cls(ct, organs, saved["scan"]["scheme"])
        inputs.output_node, inputs.saved = output_node, saved
        return inputs

    def run(self, progress: Progress = silent) -> SessionInputs:
        """Read CT and organ map and measure what every lesion needs (seconds on a large scan). Returns itself. ``Cancelled`` passes through."""
        progress(0, 100, "reading the CT")
        ct = self._ct.volume()
        facts = {"shape_zyx": list(ct.array.shape), "crc32": zlib.crc32(np.ascontiguousarray(self._ct.array))}
        if self.saved is not None and any(self.saved["scan"][key] != value for key, value in facts.items()):
            raise InputError(
                f"{self._ct.name}: changed since lesions were placed in it; load the CT as it was, or start a new session with this one"
            )
        progress(10, 100, "reading the organ map")
        organs = self._source.organ_map(ct, self.scheme)
        if self.saved is not None:  # points stay what they were, whatever became of the parent transform
            for volume in (ct, organs.labels, organs.structures):
                if volume is not None:
                    volume.affine = np.array(self.saved["scan"]["affine"])
        self.facts = {**facts, "affine": ct.affine.tolist(), "scheme": self.scheme}
        self.scan = prepare_scan(ct, organs, lambda share, text: progress(20 + round(70 * share), 100, text))
        self.notes = [*ct.meta.get("notes", []), *organs.notes, *check_organs(ct, organs)]
        if self.saved is None:
            progress(92, 100, "copying the CT")
            keeps = self._ct.array.dtype.name in _HOLDS_HU
            source = self._ct.array if keeps else ct.array
            self.image, target = allocate_image(source.shape, source.dtype)
            target[...] = source
        progress(100, 100, "ready")
        return self
