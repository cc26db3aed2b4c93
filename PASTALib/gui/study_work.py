"""What the study lead's buttons do, without widgets: steps for ``jobs.Jobs.run``, each in a thread, and what a study's folder tells."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from ..errors import InputError
from ..progress import Progress
from ..study.close import TABLE, close_study, missing_ratings
from ..study.create import create_study, hand_out
from ..study.design import preset_design
from ..study.merge import current_chains, merge_ratings
from ..study.package import CLOSED, KEY, StudyPackage
from ..study.pools import read_pool
from ..study.seal import unlock
from .jobs import InThread, Steps

SEAL_PACKAGES = ("cryptography",)
ANALYSIS_PACKAGES = ("matplotlib",)
REPORT = "report"  # folder in that of the closed study


@dataclass(frozen=True)
class NewStudy:
    """What the form of a new study holds. ``real`` and ``synthetic``: folders of cases, or CSV lists."""

    title: str
    preset: str
    real: str
    synthetic: str
    readers: tuple[str, ...]
    passphrase: str


def new_steps(request: NewStudy, folder: Path) -> Steps:
    """Make a study in a new folder; gives the folder."""

    def make(progress: Progress) -> Path:
        real, synthetic = read_pool(request.real, "real"), read_pool(request.synthetic, "synthetic")
        both = {case.lesion_type for case in real} & {case.lesion_type for case in synthetic}
        if not both:
            raise InputError(_("The two folders have no lesion type in common; choose others."))
        design = preset_design(
            request.preset, sorted(both), name=folder.name, title=request.title, readers=request.readers
        )
        seed = secrets.randbelow(2**32)
        return create_study(
            folder, design, real, synthetic, seed=seed, passphrase=request.passphrase, progress=progress
        )

    return (yield InThread(make))


def sample_steps(folder: Path) -> Steps:
    """Make the sample study in a new folder; gives the folder."""

    def make(progress: Progress) -> Path:
        from ..study.sample import make_sample

        return make_sample(folder, progress=progress)

    return (yield InThread(make))


def copy_steps(study: StudyPackage, folder: Path) -> Steps:
    """Copy a study for a reader, without key and ratings; gives the folder."""

    def copy(progress: Progress) -> Path:
        return hand_out(study, folder, progress)

    return (yield InThread(copy))


def close_steps(study: StudyPackage, passphrase: str, key_file: Path | None = None) -> Steps:
    """Close a study, also where readers have not rated everything, and analyse it; gives the report's page.

    ``key_file``: where the lead keeps the key, for a study whose key was not sealed with a passphrase.
    """

    def close(progress: Progress) -> None:
        progress(0, 0, _("Opening the key"))
        key = unlock(study.folder, study.study_id, passphrase, key_file)
        close_study(study, key, incomplete=True)

    yield InThread(close)
    return (yield from analysis_steps(study))


def analysis_steps(study: StudyPackage) -> Steps:
    """Analyse a closed study and write its report; gives the page."""

    def work(progress: Progress) -> Path:
        from ..study.analysis import analyse, read_ratings, write_study_report

        rows = read_ratings(study.folder / CLOSED / f"{TABLE}.csv")
        progress(0, 0, _("Analysing"))
        results = analyse(rows, source=f"{TABLE}.csv", progress=progress)
        progress(0, 0, _("Writing the report"))
        return write_study_report(results, study.folder / CLOSED / REPORT, study.title)[0]

    return (yield InThread(work))


def is_sealed(study: StudyPackage) -> bool:
    """Whether the key lies in the study's folder, sealed with a passphrase."""
    return (study.folder / KEY).is_file()


def report_of(study: StudyPackage) -> Path | None:
    """The page of a closed study's report; None without one."""
    return next(iter(sorted((study.folder / CLOSED / REPORT).glob("*.html"))), None) if study.closed else None


def add_copy(study: StudyPackage, source: Path) -> str:
    """Take over the ratings of a reader's copy; one line that tells what came. InputError for ratings that do not belong here."""
    merged = merge_ratings(study, [source])
    return "; ".join(
        _("{reader}: {new} new of {events} ratings").format(reader=m.reader, new=m.new, events=m.events) for m in merged
    )


def standing(study: StudyPackage) -> str:
    """How far each reader is, a line each. InputError for a store that is not in order."""
    if study.closed:
        return _("This study is closed.")
    behind = missing_ratings(study, current_chains(study))
    lines = []
    for reader in study.readers:
        done, of = behind.get(reader, (len(study.items(reader)),) * 2)
        lines.append(_("{reader}: {done} of {of} rated").format(reader=reader, done=done, of=of))
    return "\n".join(lines)
