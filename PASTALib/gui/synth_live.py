"""From a wish to a lesion on screen without waiting: a draft at once, then the measured lesion. What a newer wish overtakes is dropped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ..mrml.session import SynthesisSession
from ..synthesis.spec import LesionRequest, SynthesisResult


class Threads(Protocol):
    """What does work in threads: ``jobs.Jobs``, or a stand-in in tests."""

    def in_thread(self, work, *, done, failed, progress=None, cancelled=...) -> Any: ...


class LivePreview:
    """Shows one request after the other as the lesion being edited.

    While a control moves, each draft that is ready is shown before the next begins, so that the lesion follows; the measured one comes
    when the control rests. ``drafted()`` after each draft, ``made(result, token)`` after the measured lesion, ``failed(line)`` when there is none:
    the lesion shown before is then back.
    """

    def __init__(
        self,
        jobs: Threads,
        drafted: Callable[[], None],
        made: Callable[[SynthesisResult, int], None],
        failed: Callable[[str], None],
    ):
        self._jobs = jobs
        self._drafted, self._made, self._failed = drafted, made, failed
        self._session: SynthesisSession | None = None
        self._wanted: LesionRequest | None = None
        self._task: Any = None
        self._drafting = False
        self._good: SynthesisResult | None = None

    @property
    def busy(self) -> bool:
        """Whether a lesion is on its way."""
        return self._task is not None

    def ask(self, session: SynthesisSession, request: LesionRequest) -> None:
        """Show this lesion as soon as can be."""
        self._session, self._wanted = session, request
        if not self._drafting:
            self._begin()

    def stop(self) -> None:
        """Forget what is on its way. A draft that is shown gives way to the lesion before it, or to nothing."""
        self._forget()
        if self._session is not None and self._session.current is not None and self._session.current.is_draft:
            self._back(self._session)

    def drop(self) -> None:
        """The same without touching the scene, which goes away."""
        self._forget()
        self._session = None

    def _forget(self) -> None:
        if self._task is not None:
            self._task.forget()
        self._task, self._wanted, self._drafting = None, None, False

    def _begin(self) -> None:
        if self._task is not None:
            self._task.forget()
        session, request, self._wanted = self._session, self._wanted, None
        current = session.current
        if current is None or not current.is_draft:
            self._good = None if current is None else current.result
        token = session.begin()
        self._drafting = True
        self._task = self._jobs.in_thread(
            lambda tell: session.draft(request),
            done=partial(self._have_draft, session, request, token),
            failed=partial(self._fail, session),
        )

    def _have_draft(self, session: SynthesisSession, request: LesionRequest, token: int, draft) -> None:
        self._task, self._drafting = None, False
        if draft is not None and session.show(draft, token):
            self._drafted()
        if self._wanted is not None:
            self._begin()
            return
        self._task = self._jobs.in_thread(
            lambda tell: session.compute(request, lambda share, text: tell(round(100 * share), 100, text)),
            done=partial(self._have_lesion, session, token),
            failed=partial(self._fail, session),
        )

    def _have_lesion(self, session: SynthesisSession, token: int, result: SynthesisResult) -> None:
        self._task = None
        if session.show(result, token):
            self._made(result, token)

    def _fail(self, session: SynthesisSession, line: str, details: str) -> None:
        self._task, self._drafting = None, False
        if self._wanted is not None:
            self._begin()
            return
        if session.current is not None and session.current.is_draft:
            self._back(session)
        self._failed(line)

    def _back(self, session: SynthesisSession) -> None:
        if self._good is None:
            session.discard()
        else:
            session.show(self._good, session.begin())
