"""The Python that a worker runs in: finding it, its command line and environment, and saying what is wrong with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from . import protocol

OLDEST = (3, 10)
# What would lead another Python to this one's packages.
_OURS_ALONE = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONNOUSERSITE",
    "PYTHONEXECUTABLE",
    "PYTHONPLATLIBDIR",
    "PYTHONSTARTUP",
    "__PYVENV_LAUNCHER__",
)
_SEARCH_PATHS = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FRAMEWORK_PATH", "QT_PLUGIN_PATH")
_IN_ENVIRONMENT = ("bin/python3", "bin/python", "Scripts/python.exe", "python.exe")
_DIAGNOSIS = "import sys; sys.stdout.write('python %d.%d\\n' % sys.version_info[:2]); import numpy"


def find(python: str | Path | None = None) -> Path:
    """The interpreter to use.

    ``python``: an interpreter, the folder of an environment, or the name of a command; None for the Python that runs this (inside Slicer
    its PythonSlicer). InputError when there is none.
    """
    if python is None:
        ours = shutil.which("PythonSlicer") if os.environ.get("SLICER_HOME") else None
        if not (ours or sys.executable):
            raise InputError(
                "this program does not know its own Python interpreter; give the path of one that has numpy and torch"
            )
        return Path(ours or sys.executable)
    path = Path(python).expanduser()
    if path.is_dir():
        for name in _IN_ENVIRONMENT:
            if (path / name).is_file():
                return path.absolute() / name
        raise InputError(
            f"{path}: holds no Python (no {_IN_ENVIRONMENT[0]} or {_IN_ENVIRONMENT[2]}); give an environment's folder"
        )
    if not path.is_file():
        named = shutil.which(str(python)) if path.name == str(python) else None
        if named is None:
            raise InputError(f"{path}: no such Python; give the path of an interpreter or of an environment's folder")
        path = Path(named)
    if not os.access(path, os.X_OK):
        raise InputError(f"{path}: cannot be run; wanted a Python interpreter, such as bin/python of an environment")
    return path.absolute()  # not resolved: a link is how a virtual environment is told


def command(python: Path, folder: Path | None = None, jobs: str | None = None, keep: int = 2) -> list[str]:
    """The command line of a worker. Started by path, so that PASTALib need not be installed where it runs."""
    line = [str(python), "-u", str(Path(__file__).resolve().with_name("__main__.py")), "--keep", str(keep)]
    return line + ([] if folder is None else ["--folder", str(folder)]) + ([] if jobs is None else ["--jobs", jobs])


def environment(python: Path, extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Environment variables for a worker in ``python``: ours, but without what ties another interpreter to ours or to Slicer's libraries.

    ``extra`` is added; a value of None takes a variable out.
    """
    env = dict(os.environ)
    if not _is_ours(python):
        for name in _OURS_ALONE:
            env.pop(name, None)
        home = env.get("SLICER_HOME")
        if home:
            for name in _SEARCH_PATHS:
                kept = [item for item in env.get(name, "").split(os.pathsep) if item and not _inside(item, home)]
                env.pop(name, None)
                if kept:
                    env[name] = os.pathsep.join(kept)
    env["PYTHONIOENCODING"] = "utf-8"
    for name, value in (extra or {}).items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = str(value)
    return env


def check_ready(python: Path, event: Mapping) -> None:
    """InputError when the worker that said "ready" cannot be worked with."""
    found = re.match(r"(\d+)\.(\d+)", str(event.get("python", "")))
    if found and (int(found[1]), int(found[2])) < OLDEST:
        raise InputError(_too_old(python, found[0]))
    if event.get("protocol") != protocol.VERSION:
        raise InputError(
            f"{python}: its worker speaks version {event.get('protocol')!r} of the protocol, wanted {protocol.VERSION}; use one version of PASTALib"
        )


def diagnose(python: Path, env: Mapping[str, str], timeout_s: float = 20.0) -> str | None:
    """One line on why ``python`` cannot be a worker's interpreter; None when nothing is wrong with it."""
    try:
        done = subprocess.run(
            [str(python), "-c", _DIAGNOSIS],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except subprocess.TimeoutExpired:
        return f"{python}: did not answer within {timeout_s:.0f} s; is it a Python interpreter?"
    except OSError as error:
        return f"{python}: cannot be run ({error.strerror}); wanted a Python interpreter"
    found = re.search(r"^python (\d+)\.(\d+)\s*$", done.stdout.decode(errors="replace"), re.MULTILINE)
    said = protocol.telling_line(done.stderr.decode(errors="replace").splitlines())
    if not found:
        return f"{python}: is no working Python interpreter" + (f' (it wrote "{said}")' if said else "")
    if (int(found[1]), int(found[2])) < OLDEST:
        return _too_old(python, f"{found[1]}.{found[2]}")
    if done.returncode:
        return f"{python}: numpy cannot be imported there ({said}); install what the worker needs: {python} -m pip install numpy scipy SimpleITK torch"
    return None


def _too_old(python: Path, version: str) -> str:
    return f"{python}: is Python {version}; wanted {OLDEST[0]}.{OLDEST[1]} or newer"


def _is_ours(python: Path) -> bool:
    ours: Sequence[str | None] = (
        sys.executable,
        shutil.which("PythonSlicer") if os.environ.get("SLICER_HOME") else None,
    )
    return any(item and os.path.normcase(os.path.abspath(item)) == os.path.normcase(python) for item in ours)


def _inside(path: str, home: str) -> bool:
    path, home = (os.path.normcase(os.path.abspath(item)) for item in (path, home))
    return path == home or path.startswith(home + os.sep)
