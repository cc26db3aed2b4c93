"""The report of a results folder: ``report.html``, ``report.csv`` (every cell) and ``report.tex`` (tables in the paper's form)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PASTALib.progress import Progress, silent

from ..registry import Task, read_tasks
from ..results import read_results
from .analysis import Policy, Row, analyse
from .page import write_page
from .tables import write_csv, write_latex

PAGE, TABLE, LATEX = "report.html", "report.csv", "report.tex"

__all__ = ["LATEX", "PAGE", "TABLE", "Policy", "Row", "write_report"]


def write_report(
    results: str | Path,
    out: str | Path | None = None,
    *,
    tasks: Sequence[Task] | None = None,
    policy: Policy | None = None,
    rivals: Mapping[str, Any] | None = None,
    warning: str = "",
    progress: Progress = silent,
) -> list[Path]:
    """Write the three files into ``out`` (default: the results folder) and return them.

    ``tasks``: those to show, default all 46; what was not run is stated. ``rivals``: key -> object with ``title`` and ``licence``, as
    ``training.benchmark.models.interface.rivals()`` gives. ``warning``: what readers must know before the figures. InputError for results that ``read_results`` refuses.
    """
    results, policy, rivals = Path(results), policy or Policy(), rivals or {}
    tasks = tuple(tasks) if tasks is not None else read_tasks()
    progress(0, 3, "reading and checking results")
    found = read_results(results, tasks)
    out = Path(out) if out is not None else results
    out.mkdir(parents=True, exist_ok=True)
    progress(1, 3, "intervals and tests")
    rows = analyse(found, tasks, policy)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.task.group, []).append(row)
    whole = {row.task.lesion: row for row in groups.get("full", ()) if row.best}
    progress(2, 3, "tables and plots")
    return [
        write_page(out / PAGE, groups, whole, found, policy, rivals, warning),
        write_csv(out / TABLE, rows),
        write_latex(out / LATEX, list(groups.values()), policy.correction, rivals),
    ]
