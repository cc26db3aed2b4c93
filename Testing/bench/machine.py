"""The machine a benchmark ran on, in one line."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import PASTALib


def machine_line() -> str:
    """CPU model, cores, memory, load, Python and library versions."""
    import numpy
    import scipy
    import SimpleITK

    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    return (
        f"machine: {_cpu()}, {cores()} cores, {_memory_gb():.0f} GB RAM, {load}, {platform.system()} {platform.machine()}; "
        f"Python {platform.python_version()}, numpy {numpy.__version__}, scipy {scipy.__version__}, "
        f"SimpleITK {SimpleITK.Version_VersionString()}"
    )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def source_digest() -> str:
    """Digest of the library's source: when it differs at the end of a run, the figures are of no single version."""
    folder = Path(PASTALib.__file__).parent
    files = sorted(f for f in folder.rglob("*") if f.suffix in (".py", ".toml", ".json"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown CPU"


def _memory_gb() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return float("nan")
