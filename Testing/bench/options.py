"""Settings of a benchmark run, shared by all sections."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from PASTALib import taxonomy

PHANTOM_CASES = 200
REAL_CASES = 20
SHAPE_CASES = 200
SIZED_CASES = 10


@dataclass(frozen=True)
class Options:
    """``cases`` per type on the phantom (None: each section's own default), ``real_cases`` per type and real CT.

    ``out`` holds plots and cached phantoms; ``workers`` processes (0: in this process); ``phantom_mm`` spacing of the phantom.
    """

    cases: int | None = None
    real_cases: int | None = None
    out: Path = Path("bench-output")
    workers: int = 2
    lesions: tuple[str, ...] = taxonomy.LESION_KEYS
    hosts: tuple[str, ...] = ()
    phantom_mm: float = 2.0
    large: bool = True  # the 512 x 512 x 300 scan of the speed section; False takes the phantom of phantom_mm
    memo: dict = field(default_factory=dict, compare=False)

    def count(self, host: str) -> int:
        """Cases per type in one host."""
        if host.startswith("phantom"):
            return PHANTOM_CASES if self.cases is None else self.cases
        if self.real_cases is not None:
            return self.real_cases
        return REAL_CASES if self.cases is None else min(REAL_CASES, self.cases)

    @property
    def sized(self) -> int:
        """Extra cases per solid type with a size asked for."""
        return SIZED_CASES if self.cases is None else min(SIZED_CASES, self.cases)
