"""What the modules need beyond Slicer: asked for when it is needed, never at start-up, and explained where it is missing.

Placing lesions needs nothing. Networks need torch, from the PyTorch extension or in an environment of the user's own; pages and DICOM need a
few small packages.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from subprocess import CalledProcessError

import slicer
from slicer.i18n import tr as _

from .settings import offline, worker_python

TORCH = ">=2.1"


def ensure_torch() -> bool:
    """Whether networks can run now: in the chosen environment, or with torch here, which is installed if the user agrees.

    False after a message that says what to do.
    """
    if worker_python() is not None or find_spec("torch") is not None:
        return True
    try:
        import PyTorchUtils
    except ModuleNotFoundError:
        slicer.util.errorDisplay(
            _(
                "The networks need PyTorch, which is not here. Install the extension PyTorch in the Extensions Manager and restart, "
                "or choose an environment that has torch under Networks. Placing lesions works without."
            )
        )
        return False
    if offline():
        slicer.util.errorDisplay(
            _(
                "PyTorch is not installed, and installing is switched off (Offline). Switch it on, or choose an environment."
            )
        )
        return False
    logic = PyTorchUtils.PyTorchUtilsLogic()
    if not logic.torchInstalled():
        logic.installTorch(askConfirmation=True, torchVersionRequirement=TORCH)
    return bool(logic.torchInstalled())


def ensure_packages(requirements: Path, requester: str, only: Collection[str] | None = None) -> bool:
    """Whether the packages listed in ``requirements`` are there; missing ones are installed if the user agrees.

    ``only``: names of those that are needed now. The environment variable PIP_FIND_LINKS may name a folder of wheels, for computers without
    a network. False after a message, or after the user has refused.
    """
    wanted = [line for line in _lines(requirements) if only is None or line.partition(">=")[0].strip() in only]
    if not missing(wanted):
        return True
    if offline():
        slicer.util.errorDisplay(
            _("{packages} is missing, and installing is switched off (Offline).").format(
                packages=", ".join(missing(wanted))
            )
        )
        return False
    try:
        import slicer.packaging as packaging
    except ImportError:  # Slicer 5.10
        install = partial(_ask_and_install, missing(wanted), requester)
    else:
        install = partial(packaging.pip_ensure, wanted, requester=requester, skip_in_testing=False)
    try:
        install()
    except (RuntimeError, CalledProcessError) as error:  # refused, or pip failed
        slicer.util.errorDisplay(
            _("{requester} cannot go on without {packages}: {reason}").format(
                requester=requester, packages=", ".join(missing(wanted)), reason=str(error) or _("not installed")
            )
        )
        return False
    return not missing(wanted)


def missing(requirements: Sequence[str]) -> list[str]:
    """Those of ``requirements`` that are not installed, or too old."""
    from importlib.metadata import PackageNotFoundError, version

    out = []
    for line in requirements:
        name, _at_least, wanted = line.partition(">=")
        try:
            found = version(name.strip())
        except PackageNotFoundError:
            out.append(line)
            continue
        if wanted and _numbers(found) < _numbers(wanted):
            out.append(line)
    return out


def _ask_and_install(requirements: Sequence[str], requester: str) -> None:
    names = ", ".join(requirements)
    question = _("{requester} needs {packages}. Install now?").format(requester=requester, packages=names)
    if slicer.util.confirmOkCancelDisplay(question):
        slicer.util.pip_install(list(requirements))


def _lines(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _numbers(version: str) -> tuple[int, ...]:
    digits = []
    for part in version.strip().split("."):
        number = "".join(c for c in part if c.isdigit())
        if not number:
            break
        digits.append(int(number))
    return tuple(digits)
