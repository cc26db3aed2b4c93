"""Running a benchmark: data prepared once, units trained and tested one by one, here, on several cards, or as a SLURM array."""

from .prepare import Workplace, open_workplace, prepare
from .units import done_units, run_unit, run_units

__all__ = ["Workplace", "done_units", "open_workplace", "prepare", "run_unit", "run_units"]
