"""What readers get: ``study.json`` beside ``cases/`` and ``ratings/``. Nothing here tells a real case from a synthetic one."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from .. import taxonomy
from ..errors import InputError

STUDY, CASES, RATINGS, KEY, CLOSED = "study.json", "cases", "ratings", "key.sealed", "closed"
SCHEMA, SCHEMA_VERSION = "pasta-study", 1
REALISM, DESCRIPTION = "realism", "description"
PARTS = (REALISM, DESCRIPTION)
SCORES = range(1, 6)
_READER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


@dataclass(frozen=True)
class Question:
    """One Likert question: ``key`` as in the ratings table, ``text`` for the reader, ``anchors`` for the scores 1 to 5."""

    key: str
    text: str
    anchors: dict[int, str]


@dataclass(frozen=True)
class StudyItem:
    """One position in a reader's sequence.

    ``item``: position, 1 to n. ``case``: opaque id. ``part``: "realism" or "description". ``session``: 1 to n. ``repeat``: 0 for the
    first reading of a case, 1 for the second. ``lesion_type``: taxonomy key, ``title``: its name. ``pointer_ras``: centre of the lesion
    in RAS mm, ``extent_mm``: size (R, A, S) of the region to point at, the same for all cases of a type. ``window``: (level, width) in HU.
    ``report``: (attribute, text) pairs in the description part, else None. ``scores``: what this reader gave so far, by question.
    """

    item: int
    case: str
    part: str
    session: int
    practice: bool
    repeat: int
    lesion_type: str
    title: str
    image: Path
    pointer_ras: tuple[float, float, float]
    extent_mm: tuple[float, float, float]
    window: tuple[float, float]
    report: list[tuple[str, str]] | None = None
    scores: dict[str, int] = field(default_factory=dict)


class StudyPackage:
    """A study as its readers see it. Make one with ``open_study``."""

    def __init__(self, folder: Path, data: dict, digest: str):
        self.folder, self.data, self.digest = folder, data, digest

    @property
    def study_id(self) -> str:
        """Random id of the study; copies of it share it."""
        return self.data["study_id"]

    @property
    def name(self) -> str:
        return self.data["name"]

    @property
    def title(self) -> str:
        return self.data["title"]

    @property
    def readers(self) -> list[str]:
        return list(self.data["readers"])

    @property
    def parts(self) -> list[str]:
        """Parts of this study in the order in which they are read."""
        return [part for part in PARTS if part in self.data["parts"]]

    @property
    def practice(self) -> list[str]:
        """Ids of the practice cases."""
        return list(self.data["practice"])

    @property
    def sessions(self) -> int:
        """How many sittings the design has; ``washout_days`` lie between two of them."""
        return int(self.data["sessions"])

    @property
    def washout_days(self) -> float:
        return float(self.data["washout_days"])

    @property
    def closed(self) -> bool:
        """Whether the lead has closed the study; nothing can be rated any more."""
        return (self.folder / CLOSED / "closure.json").is_file()

    def part_title(self, part: str) -> str:
        return self.data["parts"][part]["title"]

    def instructions(self, part: str) -> str:
        """What the reader is told before a part begins."""
        return self.data["parts"][part]["instructions"]

    def questions(self, part: str) -> list[Question]:
        """The questions that every case of ``part`` is asked."""
        return [
            Question(q["key"], q["text"], {int(score): text for score, text in q["anchors"].items()})
            for q in self.data["parts"][part]["questions"]
        ]

    def image_path(self, case: str) -> Path:
        return self.folder / CASES / f"{case}.nrrd"

    def store_path(self, reader: str) -> Path:
        return self.folder / RATINGS / f"{reader}.sqlite"

    def check_reader(self, reader: str) -> str:
        """``reader`` if the study knows this name, else InputError with the names there are."""
        if reader in self.data["readers"]:
            return reader
        raise InputError(f"{self.folder}: no reader {reader!r} in this study; use one of {', '.join(self.readers)}")

    def items(self, reader: str) -> list[StudyItem]:
        """The whole sequence of one reader, without scores."""
        order = self.data["readers"][self.check_reader(reader)]
        return [self._item(number, *place) for number, place in enumerate(order, 1)]

    def _item(self, number: int, case: str, part: str, session: int, practice: int, repeat: int) -> StudyItem:
        about = self.data["cases"][case]
        kind = about["lesion_type"]
        report = [tuple(row) for row in about["report"]] if part == DESCRIPTION else None
        return StudyItem(
            number, case, part, session, bool(practice), repeat, kind, taxonomy.lesion(kind).name, self.image_path(case),
            tuple(about["pointer_ras"]), tuple(about["extent_mm"]), tuple(self.data["windows"][kind]), report,
        )  # fmt: skip


def open_study(folder: str | os.PathLike) -> StudyPackage:
    """Read the public side of a study; InputError (one line) when the folder holds none or it is damaged."""
    folder = Path(folder).expanduser()
    path = folder / STUDY
    if not path.is_file():
        wanted = f"give the folder that holds {STUDY}, made with: pasta study new"
        raise InputError(
            f"{folder} is not a study: {'no ' + STUDY + ' in it' if folder.is_dir() else 'no such folder'}; {wanted}"
        )
    raw = path.read_bytes()
    try:
        data = json.loads(raw.decode("utf-8"))
    except ValueError:
        raise InputError(f"{path} is damaged (not JSON); copy the study from the lead again") from None
    if not isinstance(data, dict) or (data.get("schema"), data.get("version")) != (SCHEMA, SCHEMA_VERSION):
        raise InputError(f"{path} is not a study of this version; wanted {SCHEMA} version {SCHEMA_VERSION}")
    _check(path, data)
    return StudyPackage(folder, data, hashlib.sha256(raw).hexdigest())


def _check(path: Path, data: dict) -> None:
    """Everything that ``StudyPackage`` relies on; a study.json that was edited by hand fails here rather than during reading."""
    try:
        for key in ("study_id", "name", "title", "sessions", "washout_days", "practice", "windows"):
            data[key]
        for reader, order in data["readers"].items():
            check_reader_name(reader)
            for case, part, session, practice, repeat in order:
                about = data["cases"][case]
                data["parts"][part]["questions"], data["windows"][about["lesion_type"]]
                taxonomy.lesion(about["lesion_type"])
                if part == DESCRIPTION:
                    about["report"]
                int(session), int(practice), int(repeat)
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} is damaged ({reason} is missing or wrong); copy the study from the lead again"
        ) from None


def check_reader_name(name: str) -> str:
    """``name`` if it can be a file name everywhere: letters, digits, ``_ . -``, at most 40, the first a letter or digit."""
    if _READER.fullmatch(name) and not name.endswith("."):
        return name
    raise InputError(f"reader {name!r}: use up to 40 letters, digits, _ . or -, beginning with a letter or digit")
