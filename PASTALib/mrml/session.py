"""The state behind placing lesions: preview, refine, accept, undo, redo, several lesions, export, and going on after a reload. No widget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..attributes import StructuredReport
from ..cases import case_folder, write_case
from ..errors import InputError
from ..progress import Progress, silent
from ..synthesis.scan import PreparedScan
from ..synthesis.spec import LesionRequest, SynthesisResult
from . import session_state
from .inputs import SessionInputs
from .lesion_stack import LesionStack
from .placed_lesion import PlacedLesion, name_for
from .placing import Draft, draft_at, synthesise_at
from .session_nodes import SessionNodes
from .tables import fill_lesion_table, report_text
from .volumes import affine_of, mark_modified


class SynthesisSession:
    """Lesions in one CT.

    The lesion being edited (``current``) is in the output volume and the segmentation, but not in ``scan``; accepted ones (``lesions``, in
    the order in which they were placed) are in all three, so that the next lesion sees them. Points are scan coordinates (``place`` turns a
    click into them). Nodes are touched by every method but ``compute``, ``draft``, ``export_case`` and ``next_request``, which a thread may
    call; ``begin`` and the tokens that it gives see to it that what comes back late is dropped.

    Methods raise InputError for what the user can mend; the scene is then as before.
    """

    def __init__(self, inputs: SessionInputs):
        """``inputs`` must have been run. Makes the nodes, or finds those of a saved session and goes on with its lesions."""
        if inputs.scan is None:
            raise ValueError("SessionInputs.run has not been called")
        self.scan: PreparedScan = inputs.scan
        self.notes: list[str] = inputs.notes
        self.current: PlacedLesion | None = None
        self.last_request: LesionRequest | None = None
        self._facts = inputs.facts
        self._done: list[tuple[str, int, PlacedLesion]] = []
        self._undone: list[tuple[str, int, PlacedLesion]] = []
        self._generation = 0
        self._before = False
        self._source = inputs.ct_node.GetName()
        if inputs.output_node is None:
            self.nodes = SessionNodes.create(inputs.ct_node, inputs.organs_node, inputs.image)
            self._stack = LesionStack(self.scan, self.nodes)
        else:
            self.nodes = SessionNodes.find(inputs.output_node)
            self._stack = LesionStack(self.scan, self.nodes)
            self.current = session_state.reload(inputs.saved, self._stack)
            self._done = [("accept", index, lesion) for index, lesion in enumerate(self.lesions)]
            last = self.current or (self.lesions[-1] if self.lesions else None)
            self.last_request = last.asked if last is not None else None
        self._changed()

    @classmethod
    def create(cls, ct_node, organs_node, scheme: str | None = None, progress: Progress = silent) -> SynthesisSession:
        """A session in a CT with an organ map node (segmentation or label map), all in this thread; see ``SessionInputs`` for two."""
        return cls(SessionInputs(ct_node, organs_node, scheme).run(progress))

    @classmethod
    def reopen(cls, output_node, progress: Progress = silent) -> SynthesisSession:
        """Go on with the session that made ``output_node``, as after loading a saved scene: its lesions can be undone, more can be placed."""
        return cls(SessionInputs.of_output(output_node).run(progress))

    @property
    def lesions(self) -> list[PlacedLesion]:
        """The accepted lesions, in the order in which they were placed."""
        return self._stack.lesions

    # -- points ----------------------------------------------------------------------------------------------

    def place(self, ras) -> tuple[float, float, float]:
        """Scan coordinates (for ``LesionRequest.at_ras``) of a point in the world, RAS mm, under the output volume's transform of now.

        InputError outside the scan, and under a non-linear transform.
        """
        index = np.linalg.solve(affine_of(self.nodes.output), [*(float(c) for c in ras), 1.0])[:3][::-1]
        if (index < -0.5).any() or (index > np.array(self.scan.ct.array.shape) - 0.5).any():
            where = ", ".join(f"{float(c):.1f}" for c in ras)
            raise InputError(f"the point {where} mm (R, A, S) lies outside the scan; click inside it")
        return tuple(float(c) for c in self.scan.ct.to_ras(index))

    def world(self, ras) -> tuple[float, float, float]:
        """Where a point in scan coordinates, such as a result's ``center_ras``, lies in the world now, RAS mm."""
        index = self.scan.ct.to_index(np.asarray(ras, float))
        return tuple(float(c) for c in (affine_of(self.nodes.output) @ [*index[::-1], 1.0])[:3])

    # -- the lesion being edited -----------------------------------------------------------------------------

    def begin(self) -> int:
        """A new edit starts: the token that its results must bring. Whatever brings an older one is dropped."""
        self._generation += 1
        return self._generation

    def compute(self, request: LesionRequest, progress=None) -> SynthesisResult:
        """The lesion, centred on the point where its type may lie there (0.3 to 3 s; a thread may do it). ``progress(fraction, text)``."""
        return synthesise_at(self._snapshot(), request, progress)

    def draft(self, request: LesionRequest) -> Draft | None:
        """A quick version, built but not measured (some 0.1 s); None when only ``compute`` can tell. A thread may do it."""
        return draft_at(self._snapshot(), request)

    def preview(self, request: LesionRequest) -> SynthesisResult:
        """``begin``, ``compute`` and ``show`` in one. On InputError the lesion shown before stays."""
        token = self.begin()
        result = self.compute(request)
        self.show(result, token)
        return result

    def show(self, result: SynthesisResult | Draft, token: int | None = None) -> bool:
        """Put a result or draft into the scene as the lesion being edited, in place of the one before. False, and nothing done, when stale."""
        if not self._is_now(token):
            return False
        self.show_before(False)
        self._undone.clear()
        if self.current is None:
            self.current = PlacedLesion(result, "")
        else:
            self.current.erase_voxels(self.nodes)
            self.current.exchange(result)
        self.current.name = name_for(self.current.key, [item.name for item in self.lesions])
        self.current.write_voxels(self.nodes)
        self.current.write_segment(self.nodes)
        self.last_request = self.current.asked
        self._changed(table=False)
        return True

    def show_step(self, hu: np.ndarray, token: int | None = None) -> bool:
        """Show an intermediate image (HU, of ``current.result.region``) of the refinement. False when stale."""
        if not self._is_now(token) or self.current is None or hu.shape != self.current.result.after.shape:
            return False
        if not self._before:
            self.current.show_step(self.nodes, hu)
        return True

    def refined(self, result: SynthesisResult, token: int | None = None) -> bool:
        """Show a refined version of the lesion being edited, which changes the image and nothing else. False when stale."""
        if not self._is_now(token) or self.current is None or self.current.is_draft:
            return False
        was = self.current.result
        if result.region != was.region or not np.array_equal(result.label, was.label):
            return False
        self._exchange_voxels(result)
        return True

    def settle(self) -> None:
        """Show the lesion being edited as it is, after steps of a refinement that was cancelled."""
        if self.current is not None:
            self._exchange_voxels(self.current.result)

    def next_request(self) -> LesionRequest:
        """The last request with the next seed: another one like this, at the same place."""
        if self.last_request is None:
            raise InputError("there is no lesion to make another one like; place one first")
        return replace(self.last_request, seed=self.last_request.seed + 1)

    def another(self) -> SynthesisResult:
        """Preview of ``next_request``."""
        return self.preview(self.next_request())

    def discard(self) -> None:
        """Take the lesion being edited out for good."""
        self.begin()
        if self.current is not None:
            self.show_before(False)
            self._withdraw_current()
            self._changed(table=False)

    # -- accepted lesions ------------------------------------------------------------------------------------

    def accept(self) -> PlacedLesion:
        """Keep the lesion being edited: from now on it is part of the scan. InputError when there is none, or only a draft of it."""
        if self.current is None or self.current.is_draft:
            what = "there is no lesion to accept" if self.current is None else "the lesion is still being measured"
            raise InputError(
                f"{what}; click in a slice to place one" if self.current is None else f"{what}; wait a moment"
            )
        self.begin()
        self.show_before(False)
        if self.current.stepped:
            self.settle()
        lesion, self.current = self.current, None
        self._stack.push(lesion)
        self._done.append(("accept", len(self.lesions) - 1, lesion))
        self._undone.clear()
        self._changed()
        return lesion

    def remove(self, index: int) -> None:
        """Take an accepted lesion out, whatever was placed after it; can be undone.

        InputError while a lesion is being edited, and when a later lesion changed the same voxels.
        """
        if self.current is not None:
            raise InputError("a lesion is being edited; accept or discard it first")
        self._stack.check_free(index)
        self.begin()
        self.show_before(False)
        lesion = self._stack.take_out(index)
        self._done.append(("remove", index, lesion))
        self._undone.clear()
        self._changed()

    @property
    def undo_text(self) -> str:
        """What ``undo`` would take back ("place Liver tumor 1"); empty when there is nothing."""
        if self.current is not None:
            return f"place {self.current.name}"
        return f"{self._done[-1][0]} {self._done[-1][2].name}" if self._done else ""

    @property
    def redo_text(self) -> str:
        """What ``redo`` would do again; empty when there is nothing."""
        return f"{self._undone[-1][0]} {self._undone[-1][2].name}" if self._undone else ""

    def undo(self) -> str:
        """Take back the last thing: the lesion being edited, else the last accepting or removing. Returns what, "" for nothing."""
        text = self.undo_text
        if not text:
            return ""
        self.begin()
        self.show_before(False)
        if self.current is not None:
            lesion = self._withdraw_current()
            if not lesion.is_draft:
                self._undone.append(("place", 0, lesion))
        else:
            kind, index, lesion = step = self._done.pop()
            self._stack.take_out(index) if kind == "accept" else self._stack.put_in(index, lesion)
            self._undone.append(step)
        self._changed()
        return text

    def redo(self) -> str:
        """Do again what ``undo`` took back, bit for bit. Returns what, "" for nothing."""
        text = self.redo_text
        if not text:
            return ""
        self.begin()
        self.show_before(False)
        kind, index, lesion = step = self._undone.pop()
        if kind == "place":
            self.current = lesion
            lesion.write_voxels(self.nodes)
            lesion.put_segment(self.nodes)
            self.last_request = lesion.asked
        else:
            self._stack.put_in(index, lesion) if kind == "accept" else self._stack.take_out(index)
            self._done.append(step)
        self._changed()
        return text

    # -- looking ---------------------------------------------------------------------------------------------

    @property
    def before(self) -> bool:
        """Whether the output volume shows the scan without lesions."""
        return self._before

    def show_before(self, before: bool) -> None:
        """Show the scan without any lesion, or with all of them again (regions only are exchanged). Editing switches back by itself."""
        self.nodes.check()
        if before == self._before:
            return
        self._before = before
        everything = [*self.lesions, *([self.current] if self.current is not None else [])]
        for lesion in reversed(everything) if before else everything:
            lesion.erase_voxels(self.nodes) if before else lesion.write_voxels(self.nodes)
        mark_modified(self.nodes.output)

    def reports(self) -> list[StructuredReport]:
        """The reports of the accepted lesions."""
        return [lesion.result.report for lesion in self.lesions]

    def report_text(self) -> str:
        """The reports of the accepted lesions as text to copy."""
        return report_text(
            [lesion.name for lesion in self.lesions], self.reports(), f"{self._source}, {self.scan.phase}"
        )

    # -- out of the scene ------------------------------------------------------------------------------------

    def export_case(self, root: str | Path, name: str, overwrite: bool = False) -> Path:
        """Write the accepted lesions as one case ``<Organ>/<Type>/<name>`` below ``root``, with report.txt; returns its folder.

        Touches no node (a thread may do it, some seconds). InputError without an accepted lesion and for a folder that exists.
        """
        lesions = [lesion.result for lesion in self.lesions]
        if not lesions:
            raise InputError("no lesion has been accepted yet; accept one, then export")
        folder = case_folder(root, lesions[0].request.lesion, name)
        options = {"program": "PASTASynth", "phase_reason": self.scan.phase_reason}
        seed = lesions[0].request.seed
        write_case(
            folder,
            self.scan.ct,
            self.scan.organs,
            lesions,
            seed=seed,
            source=self._source,
            options=options,
            overwrite=overwrite,
        )
        (folder / "report.txt").write_text(self.report_text(), encoding="utf-8")
        return folder

    def discard_all(self) -> None:
        """End the session and take everything that it made out of the scene."""
        self.begin()
        self.nodes.remove()
        self.lesions.clear()
        self.current, self._done, self._undone = None, [], []

    # -- inside ----------------------------------------------------------------------------------------------

    def _snapshot(self) -> PreparedScan:
        """The scan with a list of lesions of its own, for a thread."""
        return replace(self.scan, lesions=list(self.scan.lesions))

    def _is_now(self, token: int | None) -> bool:
        return token is None or token == self._generation

    def _exchange_voxels(self, result: SynthesisResult | Draft) -> None:
        self.current.erase_voxels(self.nodes)
        if result is not self.current.result:
            self.current.exchange(result)
        if not self._before:
            self.current.write_voxels(self.nodes)
        self._changed(table=False)

    def _withdraw_current(self) -> PlacedLesion:
        lesion, self.current = self.current, None
        lesion.erase_voxels(self.nodes)
        lesion.take_segment(self.nodes)
        return lesion

    def _changed(self, table: bool = True) -> None:
        """Let the views draw, and keep in the scene what a reload needs."""
        mark_modified(self.nodes.output)
        if table:
            centres = [self.world(lesion.result.center_ras) for lesion in self.lesions]
            fill_lesion_table(self.nodes.table, [lesion.name for lesion in self.lesions], self.reports(), centres)
        self.nodes.state.SetText(session_state.dump(self._facts, self.lesions, self.current))
