"""``slicer.packaging`` (Slicer 5.12 and later): checks requirements for real, records installs instead of running pip."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from packaging.requirements import Requirement

from Testing.slicerhost.record import RECORD


def load_requirements(path) -> list[Requirement]:
    """Requirements of a file, without comments and options."""
    lines = (line.split("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def pip_check(requirements) -> bool:
    """Whether all are installed in fitting versions. A test may queue the answer under "pip_check"."""
    answer = RECORD.take_answer("pip_check", None)
    return all(map(_installed, _as_list(requirements))) if answer is None else answer


def pip_ensure(
    requirements,
    constraints=None,
    skip_packages=None,
    prompt_install=True,
    prompt_restart=True,
    requester=None,
    skip_in_testing=True,
    show_progress=True,
    no_deps_requirements=None,
) -> None:
    """Install what is missing. Raises what a test queued under "pip_ensure", such as RuntimeError for a refusal."""
    requirements = [str(r) for r in _as_list(requirements)]
    RECORD.call("pip_ensure", requirements, constraints=constraints, skip_packages=skip_packages, requester=requester)
    answer = RECORD.take_answer("pip_ensure", None)
    if isinstance(answer, BaseException):
        raise answer


def pip_install(
    requirements,
    constraints=None,
    skip_packages=None,
    requester=None,
    show_progress=True,
    no_deps_requirements=None,
    blocking=True,
    logCallback=None,
    completedCallback=None,
) -> None:
    RECORD.call("pip_install", requirements, constraints=constraints, blocking=blocking)
    answer = RECORD.take_answer("pip_install", 0)
    if isinstance(answer, BaseException):
        raise answer
    if not blocking and completedCallback is not None:
        import qt

        qt.QTimer.singleShot(0, lambda: completedCallback(answer))


def pip_uninstall(requirements, **keywords) -> None:
    RECORD.call("pip_uninstall", requirements, **keywords)


def isPipInstallInProgress() -> bool:
    return False


def _as_list(requirements) -> list[Requirement]:
    single = isinstance(requirements, (str, Requirement))
    return [r if isinstance(r, Requirement) else Requirement(r) for r in ([requirements] if single else requirements)]


def _installed(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)
