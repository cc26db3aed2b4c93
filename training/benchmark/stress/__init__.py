"""How small, faint, blurred a lesion may be before a model misses it, and where: ``benchmark --stress MODEL``."""

from __future__ import annotations

from .design import ATTRIBUTES, DEFAULT_LEVELS, DEFAULT_REPEATS
from .hosts import Host
from .study import run_stress

__all__ = ["ATTRIBUTES", "DEFAULT_LEVELS", "DEFAULT_REPEATS", "Host", "run_stress"]
