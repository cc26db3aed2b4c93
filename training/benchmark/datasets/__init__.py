"""Data sets of the benchmark: what they are, checks, conversion into training's tables, and small replicas. No torch.

``describe(key)``, ``check(key, folder)``, ``convert(key, folder, out)``, ``table_of(task, data, out)``; ``replicas.write_replica`` writes tiny
sets in the same layouts.
"""

from .about import About, check_archive, describe, keys
from .convert import check, convert, set_folder, table_name, table_of
from .items import Found, Problem
from .tables import Converted, Table, read_note

__all__ = [
    "About",
    "Converted",
    "Found",
    "Problem",
    "Table",
    "check",
    "check_archive",
    "convert",
    "describe",
    "keys",
    "read_note",
    "set_folder",
    "table_name",
    "table_of",
]
