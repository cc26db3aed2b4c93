"""Analysis of a closed reader study: ``analyse`` turns its ratings into results, ``write_study_report`` into a page, figures and tables.

Means, differences and AUC are averages over readers who all read the same cases (``multireader``), with case variation from a cluster bootstrap
(``resample``); agreement is in ``agreement``. numpy and scipy only; matplotlib for the figures.
"""

from .analyse import analyse
from .results import StudyResults
from .table import COLUMNS, read_ratings

__all__ = ["COLUMNS", "StudyResults", "analyse", "read_ratings", "write_study_report"]


def write_study_report(results, folder, title="Reader study"):
    """See ``report.write_study_report``; matplotlib is loaded only here."""
    from .report import write_study_report as write

    return write(results, folder, title)
