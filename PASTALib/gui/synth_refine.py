"""Refinement of the lesion being edited by the denoising network in the worker: each reverse step appears in the views. No Qt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ..errors import InputError
from ..models import DENOISER, bundled_folder
from ..mrml.session import SynthesisSession
from ..progress import Progress
from ..refinement.closed_loop import Refinement
from ..refinement.remote import LIVE, request
from ..synthesis.spec import SynthesisResult
from ..worker.arrays import open_array
from .jobs import InThread, InWorker, Jobs, Steps, time_left
from .network_panel import torch_is_here


def default_weights() -> str:
    """The denoising network that comes with the extension; empty without one."""
    path = bundled_folder() / DENOISER
    return str(path) if path.is_file() else ""


def what_is_missing(weights: str) -> str:
    """Why lesions cannot be refined here, in one line with what to do; empty where they can."""
    if not torch_is_here():
        return _("PyTorch is not here, so lesions are not refined; placing them works without. Get it below.")
    if not weights:
        return _("No denoising network came with this extension; choose a checkpoint below.")
    if not Path(weights).is_file():
        return _("{path} is not there; choose another checkpoint.").format(path=weights)
    return ""


class LiveRefinement:
    """One refinement at a time. ``said(text)`` says how it gets on; ``ended(result)`` brings the refined lesion, None when there is none."""

    def __init__(self, jobs: Jobs, said: Callable[[str], None], ended: Callable[[SynthesisResult | None], None]):
        self._jobs, self._said, self._ended = jobs, said, ended
        self._run: Any = None
        self._session: SynthesisSession | None = None
        self._token, self._shown, self._inner, self._folder = 0, 0, None, None

    @property
    def running(self) -> bool:
        """Whether a refinement is on its way."""
        return self._run is not None and self._run.running

    def start(
        self, session: SynthesisSession, result: SynthesisResult, token: int, weights: str, device: str = "auto"
    ) -> None:
        """Refine what ``session.show`` has just shown with ``token``. InputError when the worker cannot be started."""
        self.forget()
        self._session, self._token, self._shown, self._inner = session, token, 0, None
        self._said(_("Starting …"))
        self._run = self._jobs.run(
            self._steps(session, result, weights, device),
            done=self._done,
            failed=self._failed,
            progress=self._progress,
            cancelled=self._cancelled,
        )

    def stop(self) -> None:
        """Stop it at the user's wish: the lesion is then as it was before."""
        if self.running:
            self._said(_("Stopping …"))
            self._run.cancel()

    def forget(self) -> None:
        """Stop it because its lesion is no longer the one shown; nobody is called."""
        if self._run is not None:
            self._run.forget()
        self._run = self._session = self._inner = None

    def _steps(self, session: SynthesisSession, result: SynthesisResult, weights: str, device: str) -> Steps:
        scan = replace(session.scan, lesions=list(session.scan.lesions))
        task = yield InThread(lambda tell: Refinement(scan, result))
        if task.arguments is None:
            return task.left(task.limited)
        self._folder = self._jobs.folder
        self._inner = task.inner
        params, arrays = request(weights, **task.arguments)
        told, made = yield InWorker("refine", params | {"live": str(self._folder), "device": device}, arrays)
        self._inner = None
        self._said(_("Measuring what it changed …"))
        return (yield InThread(lambda tell: _judged(task, made["hu"], told["model"], tell)))

    def _progress(self, step: int, of: int, text: str, left_s: float | None) -> None:
        if self._inner is None:
            return
        if step > self._shown:
            self._shown = step
            with contextlib.suppress(InputError):  # gone with the job, when it ended while we were busy
                hu = open_array(self._folder, LIVE.format(step=step))[self._inner]
                self._session.show_step(hu, self._token)
        left = time_left(left_s)
        words = _("Step {step} of {of}").format(step=step, of=of) if step else text[:1].upper() + text[1:]
        self._said(_("{what}, {left}").format(what=words, left=left) if left else words)

    def _done(self, result: SynthesisResult) -> None:
        session, token = self._finish()
        record = result.parameters["refinement"]
        if not session.refined(result, token):
            result = None
        self._said(_("Refined.") if record["applied"] else _("Left as it is."))
        self._ended(result)

    def _failed(self, line: str, details: str) -> None:
        self._give_up(line)

    def _cancelled(self) -> None:
        self._give_up(_("Stopped; the lesion is as it was before the refinement."))

    def _give_up(self, text: str) -> None:
        session, _token = self._finish()
        session.settle()
        self._said(text)
        self._ended(None)

    def _finish(self) -> tuple[SynthesisSession, int]:
        session, token = self._session, self._token
        self._run = self._session = self._inner = None
        return session, token


def _judged(task: Refinement, hu, model: str, tell: Progress) -> SynthesisResult:
    for judged in task.judge(hu, model):
        tell(0, 0, "")
        if judged is not None:
            return judged
    raise AssertionError("a judgement ends with a result")
