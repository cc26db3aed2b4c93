"""Placing and changing lesions in a session: brings the panel's wishes, the point in the views, preview and refinement together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

from slicer.util import NodeModify

from .. import taxonomy
from ..attributes import parse_size
from ..errors import InputError
from ..mrml.session import SynthesisSession
from ..mrml.volumes import affine_of
from ..synthesis.spec import SynthesisResult
from . import settings
from .jobs import Jobs
from .module_widget import jump_to
from .synth_choices import Wishes
from .synth_handles import SizeHandles, scan_axes
from .synth_live import LivePreview
from .synth_place import PlacePoint, Point
from .synth_refine import LiveRefinement, default_weights, what_is_missing
from .synth_texts import remarks

FIRST_SIZE_MM = 20.0


class Editor:
    """The lesion being edited and what is done to lesions. ``refresh()`` is called whenever the panel has something new to show.

    ``session`` and ``parameters`` are None while there is none. ``message``: a line about the last thing that went wrong; ``refining``: how the
    refinement gets on; ``notes``: remarks on the lesion shown. ``locked``: while a case is being written, lesions must stay as they are.
    """

    def __init__(self, jobs: Jobs, refresh: Callable[[], None]):
        self.session: SynthesisSession | None = None
        self.parameters = None
        self.message = self.refining = ""
        self.locked = False
        self._refresh = refresh
        self._at: Point | None = None  # in scan coordinates
        self._shown: Wishes | None = None
        self._jobs = jobs
        self.point = PlacePoint(self._placed, self._moved, lambda placing: self._refresh())
        self.handles = SizeHandles(self._sized)
        self.live = LivePreview(jobs, self._drafted, self._made, self._failed)
        self.refinement = LiveRefinement(jobs, self._say_refining, lambda result: self._refresh())

    # -- session -----------------------------------------------------------------------------------------------

    def open(self, session: SynthesisSession) -> None:
        """Work in this session from now on."""
        self.close()
        self.session = session
        self.message = self.refining = ""
        self._follow_current()
        self._refresh()

    def close(self, gone: bool = False) -> None:
        """Leave the session; its nodes stay. ``gone``: the scene is being closed, so nothing in it is touched."""
        self.refinement.forget()
        self.live.drop() if gone else self.live.stop()
        self.session, self._at, self._shown = None, None, None
        self.point.remove()
        self.handles.remove()

    def end(self) -> None:
        """Close, and let nothing call back any more."""
        self.close()
        self.point.close()

    def check_nodes(self) -> None:
        """Leave a session whose nodes were deleted."""
        if self.session is None:
            return
        try:
            self.session.nodes.check()
        except InputError as error:
            self.close(gone=True)
            self.message = str(error)
            self._refresh()

    @property
    def busy(self) -> bool:
        """Whether a lesion is being made."""
        return self.live.busy

    @property
    def current(self):
        """The lesion being edited, or None."""
        return self.session.current if self.session is not None else None

    @property
    def notes(self) -> list[str]:
        """Remarks on the lesion being edited."""
        if self.current is None or self.current.is_draft:
            return []
        return remarks(self.current.result, self.current.asked.at_ras, self.session.scan)

    # -- placing -----------------------------------------------------------------------------------------------

    def begin_placing(self) -> None:
        """The next click in a view places the lesion."""
        self.message = ""
        self.point.begin(self._name())

    def place_somewhere(self) -> None:
        """Have a place chosen by the priors of the type."""
        self.point.cancel()
        self._at = None
        self._ask()

    def edited(self) -> None:
        """The parameter node has changed: show the lesion that it asks for, if one is being edited."""
        if self.session is None or self.parameters is None or (self.current is None and not self.live.busy):
            return
        if Wishes.of(self.parameters) != self._shown:
            self._ask()

    def another(self) -> None:
        """Another one like this: the next seed."""
        self.parameters.seed += 1

    def _placed(self, world: Point) -> None:
        if self._take(world):
            jump_to(world)

    def _moved(self, world: Point) -> None:
        self._take(world)

    def _take(self, world: Point) -> bool:
        if self.session is None:
            self.point.hide()
            return False
        try:
            self._at = self.session.place(world)
        except InputError as error:
            self._failed(str(error))
            return False
        self._ask()
        return True

    def _sized(self, world: Point, size_zxy) -> None:
        """The box was dragged."""
        try:
            at = self.session.place(world)
        except InputError as error:
            self._failed(str(error))
            return
        self._at = at
        self.point.put(world, self._name())
        with self._quietly():
            sides = (float(min(max(round(side, 1), 1.0), 250.0)) for side in size_zxy)
            self.parameters.sizeZ, self.parameters.sizeX, self.parameters.sizeY = sides
        self._ask()

    def _ask(self) -> None:
        if self.locked:
            return
        self.message = self.refining = ""
        self.refinement.forget()
        self._shown = Wishes.of(self.parameters)
        self.live.ask(self.session, self._shown.request(self._at))
        self._refresh()

    def _drafted(self) -> None:
        self._mark()
        self._refresh()

    def _made(self, result: SynthesisResult, token: int) -> None:
        if self._at is None:  # it stays where it is, whatever is changed now
            self._at = result.center_ras
            jump_to(self.session.world(result.center_ras))
        self._mark()
        self._refine(result, token)
        self._refresh()

    def _failed(self, line: str) -> None:
        self.message = line
        if self.current is not None and not self.current.is_draft:
            self._at = self.current.asked.at_ras or self.current.result.center_ras
            self._mark()
        else:
            self._at = None
            self.point.hide()
        self._refresh()

    # -- size --------------------------------------------------------------------------------------------------

    def fill_in_size(self) -> None:
        """Begin with the size that the lesion has, when sizes are to be given from now on."""
        size = (FIRST_SIZE_MM,) * 3
        if self.current is not None and not self.current.is_draft:
            size = parse_size(self.current.result.report.value("size"))
        names = ("sizeZ", "sizeX", "sizeY")
        with NodeModify(self.parameters):
            for name, side in zip(names, size):
                setattr(self.parameters, name, float(max(1, round(side))))

    def show_handles(self, wanted: bool) -> None:
        """Show or hide the box by which the size can be dragged."""
        if not wanted or self.current is None:
            self.handles.remove()
            return
        size = (self.parameters.sizeZ, self.parameters.sizeX, self.parameters.sizeY)
        axes = scan_axes(affine_of(self.session.nodes.output), self.session.scan.patient_axes)
        self.handles.put(self.session.world(self._at or self.current.result.center_ras), size, axes)

    # -- refinement --------------------------------------------------------------------------------------------

    def _refine(self, result: SynthesisResult, token: int) -> None:
        if not self.parameters.refine:
            return
        weights = self.parameters.weights or default_weights()
        missing = what_is_missing(weights)
        if missing:
            return
        try:
            self._jobs.use(settings.worker_python())
            self.refinement.start(self.session, result, token, weights, settings.device())
        except InputError as error:
            self._say_refining(str(error))

    def refine_now(self) -> None:
        """Refine the lesion being edited, as when refining automatically was just switched on."""
        if self.current is not None and not self.current.is_draft and not self.live.busy:
            if "refinement" not in self.current.result.parameters:
                token = self.session.begin()
                self._refine(self.current.result, token)
                self._refresh()

    def _say_refining(self, text: str) -> None:
        self.refining = text
        self._refresh()

    # -- keeping and taking back -------------------------------------------------------------------------------

    def accept(self) -> None:
        """Keep the lesion; the next one gets another seed."""

        def keep() -> None:
            self.session.accept()
            with self._quietly():
                self.parameters.seed += 1

        self._do(keep)

    def undo(self) -> None:
        """Take back the last thing."""
        self._do(lambda: self.session.undo())

    def redo(self) -> None:
        """Do again what was taken back."""
        self._do(lambda: self.session.redo())

    def remove(self, index: int) -> None:
        """Take out an accepted lesion, or the one being edited (index behind the accepted ones)."""
        edited = self.session is not None and index == len(self.session.lesions)
        self._do(self.session.discard if edited else lambda: self.session.remove(index))

    def show_before(self, before: bool) -> None:
        """Show the scan without lesions, or with them."""
        if self.session is not None:
            self.session.show_before(before)
            self._refresh()

    def _do(self, action: Callable[[], object]) -> None:
        if self.session is None or self.locked:
            return
        self.message = self.refining = ""
        self.refinement.forget()
        self.live.stop()
        try:
            action()
        except InputError as error:
            self.message = str(error)
        self._follow_current()
        self._refresh()

    def _follow_current(self) -> None:
        """Point and panel show the lesion being edited as it is now, after it came or went by itself."""
        if self.current is None:
            self._at = self._shown = None
            self.point.hide()
            return
        request = self.current.asked
        self._at = request.at_ras or self.current.result.center_ras
        with self._quietly():
            Wishes.of_request(request).into(self.parameters)
        self._mark()

    @contextmanager
    def _quietly(self):
        """Change parameters without asking for another lesion."""
        with NodeModify(self.parameters):
            yield
            self._shown = Wishes.of(self.parameters)

    def _mark(self) -> None:
        if self._at is not None and self.session is not None:
            self.point.put(self.session.world(self._at), self._name())

    def _name(self) -> str:
        if self.current is not None:
            return self.current.name
        return taxonomy.lesion(self.parameters.lesion).name
