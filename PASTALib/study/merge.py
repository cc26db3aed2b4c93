"""Bringing the ratings of readers, made on copies of a study, back to the lead's folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .chain import RATING, RECEIPT, Chain, has_store, read_chain
from .package import RATINGS, SCORES, StudyPackage
from .store import RatingStore


@dataclass(frozen=True)
class Merged:
    """What one store brought: events it holds, and how many of them were new."""

    path: Path
    reader: str
    events: int
    new: int


def merge_ratings(study: StudyPackage, sources: Iterable[str | os.PathLike]) -> list[Merged]:
    """Take over the ratings in ``sources``: ``.sqlite`` files, folders of them, or copies of the study.

    Readers never conflict. Two copies of one reader's ratings are merged when one continues the other. Nothing is written unless all
    sources are in order. Raises InputError for ratings of another study or reader, a chain that was tampered with, and copies that fork.
    """
    if study.closed:
        raise InputError(f"{study.folder}: the study is closed; ratings can no longer be added")
    found = [read_checked(study, path) for path in _stores(sources)]
    kept = {chain.reader: chain for chain in current_chains(study)}
    base = {reader: len(chain.events) for reader, chain in kept.items()}
    report = []
    for chain in found:
        known = kept.get(chain.reader)
        have = len(known.events) if known else 0
        report.append(Merged(chain.path, chain.reader, len(chain.events), max(0, len(chain.events) - have)))
        kept[chain.reader] = longer(known, chain) if known else chain
    for reader, chain in kept.items():
        new = chain.events[base.get(reader, 0) :]
        if new:
            store = RatingStore(study.store_path(reader), study.study_id, reader, study.digest)
            try:
                store.extend(new)
            finally:
                store.close()
        _take_receipt(study, chain)
    return report


def longer(one: Chain, other: Chain) -> Chain:
    """The chain that continues the other one; InputError when they fork."""
    short, long = sorted((one, other), key=lambda chain: len(chain.events))
    for mine, theirs in zip(short.events, long.events):
        if mine.hash != theirs.hash:
            raise InputError(
                f"{one.reader}: {one.path} and {other.path} fork at event {mine.seq} (cases {mine.case} and {theirs.case}): the reader rated "
                "on two copies; decide which one counts and merge only that"
            )
    return long if len(long.events) > len(short.events) else one


def current_chains(study: StudyPackage) -> list[Chain]:
    """The chains that the study's own folder holds, by reader; InputError when one is not in order."""
    return [read_checked(study, study.store_path(r)) for r in study.readers if has_store(study.store_path(r))]


def read_checked(study: StudyPackage, path: Path) -> Chain:
    """The chain in ``path``; InputError when it is another study's, of an unknown reader, or not in order."""
    chain = read_chain(path)
    if chain.study != study.study_id or chain.digest != study.digest:
        what = "another study" if chain.study != study.study_id else "another version of study.json"
        raise InputError(f"{path}: ratings of {what}; merge them into the study that they were made in")
    if chain.reader not in study.readers:
        raise InputError(f"{path}: {chain.reader!r} is no reader of this study; wanted {', '.join(study.readers)}")
    problems = chain.problems or _misplaced(study, chain)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{path}: tampered with or damaged: {problems[0]}{more}; ask {chain.reader} for the original")
    return chain


def _misplaced(study: StudyPackage, chain: Chain) -> list[str]:
    """Events that this study cannot have given rise to: another case than the reader's order has there, scores that were not asked for."""
    order = study.data["readers"][chain.reader]
    keys = {part: {question.key for question in study.questions(part)} for part in study.parts}
    problems = []
    for event in chain.events:
        place = order[event.item - 1] if 1 <= event.item <= len(order) else None
        if place != [event.case, event.part, event.session, int(event.practice), event.repeat]:
            problems.append(
                f"event {event.seq} is about item {event.item}, case {event.case}, which is not in the order of {chain.reader}"
            )
        elif event.kind == RATING and (
            set(event.scores) != keys[event.part] or not set(event.scores.values()) <= set(SCORES)
        ):
            problems.append(
                f"event {event.seq} (item {event.item}, case {event.case}) holds scores that were not asked for"
            )
    return problems


def _stores(sources: Iterable[str | os.PathLike]) -> list[Path]:
    paths: list[Path] = []
    for source in map(Path, sources):
        source = source.expanduser()
        if source.is_dir():
            place = source / RATINGS if (source / RATINGS).is_dir() else source
            inside = [path for path in sorted(place.glob("*.sqlite")) if has_store(path)]
            if not inside:
                raise InputError(f"{source} holds no ratings; give a reader's copy of the study or .sqlite files")
            paths += inside
        elif source.is_file():
            paths.append(source)
        else:
            raise InputError(f"{source} does not exist; give a reader's copy of the study or .sqlite files")
    if not paths:
        raise InputError("nothing to merge; give readers' copies of the study or .sqlite files")
    return paths


def _take_receipt(study: StudyPackage, chain: Chain) -> None:
    source = chain.path.with_name(f"{chain.reader}{RECEIPT}")
    target = study.folder / RATINGS / source.name
    if source.is_file() and source.resolve() != target.resolve():
        shutil.copyfile(source, target)
