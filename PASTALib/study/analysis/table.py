"""The table of ratings that the analysis works from: reading, checking, and arrays per part of the study."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from ... import taxonomy
from ...errors import InputError

REALISM, DESCRIPTION = PARTS = ("realism", "description")
REAL, SYNTHETIC = TRUTHS = ("real", "synthetic")
ATTRIBUTES = ("shape", "density", "heterogeneity", "surface", "invasion")
QUESTIONS = {REALISM: ("realism",), DESCRIPTION: ATTRIBUTES}
LEVELS = 5  # scores are 1 to 5
REQUIRED = ("reader", "part", "case", "lesion_type", "truth", "question", "score")
OPTIONAL = ("confidence", "seconds", "repeat", "session", "practice", "time")
COLUMNS = (
    "reader", "part", "case", "lesion_type", "truth", "question", "score", "confidence", "seconds", "repeat", "session",
    "practice", "time",
)  # fmt: skip


@dataclass
class Part:
    """One part of the study as arrays: Q questions, R readers, C cases; NaN where there is nothing.

    ``kinds``: lesion types in the order of the taxonomy; ``kind``: (C,) index into them; ``synthetic``: (C,) bool. ``scores``, ``second``:
    (Q, R, C) first and repeated reading, 1 to 5. ``seconds``, ``confidence``: (R, C) of the first reading.
    """

    name: str
    readers: tuple[str, ...]
    cases: tuple[str, ...]
    kinds: tuple[str, ...]
    kind: np.ndarray
    synthetic: np.ndarray
    questions: tuple[str, ...]
    scores: np.ndarray
    second: np.ndarray
    seconds: np.ndarray
    confidence: np.ndarray

    @property
    def strata(self) -> np.ndarray:
        """(C,) number of each case's lesion type and truth: what the design fixes, so what resampling keeps."""
        return 2 * self.kind + self.synthetic

    def mean_scores(self) -> np.ndarray:
        """(R, C) mean over the questions answered, NaN where none was."""
        asked = np.isfinite(self.scores)
        total, count = np.where(asked, self.scores, 0).sum(0), asked.sum(0)
        return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)

    def members(self, truth: str | None = None, kind: str | None = None) -> np.ndarray:
        """(C,) bool: the cases of this truth and lesion type; None stands for all."""
        chosen = np.ones(len(self.cases), bool)
        if truth is not None:
            chosen &= self.synthetic == (truth == SYNTHETIC)
        if kind is not None:
            chosen &= self.kind == self.kinds.index(kind)
        return chosen


@dataclass
class RatingTable:
    """All ratings: ``parts`` by name, and what was set aside on the way, in sentences."""

    parts: dict[str, Part]
    practice_rows: int = 0
    notes: list[str] = field(default_factory=list)


def kind_name(key: str) -> str:
    """Display name of a lesion type; a type that the taxonomy does not know keeps its key."""
    return taxonomy.lesion(key).name if key in taxonomy.LESION_KEYS else key.replace("_", " ").capitalize()


def read_ratings(path: str | Path) -> list[dict]:
    """Rows of a CSV or Parquet file of ratings, as ``analyse`` takes them. InputError when it does not read or lacks columns."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the ratings.csv or ratings.parquet of a closed study")
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            names = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); wanted the ratings of a closed study") from None
    _check_columns(names, f"{path}")
    if not rows:
        raise InputError(f"{path}: no ratings below the header; nothing to analyse")
    return rows


def _read_parquet(path: Path) -> list[dict]:
    try:
        import pandas
    except ImportError:
        raise InputError(f"{path}: Parquet needs pandas and pyarrow; install them or give the CSV") from None
    try:
        frame = pandas.read_parquet(path)
    except ImportError:
        raise InputError(f"{path}: Parquet needs pyarrow; install it or give the CSV") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())[:120]})") from None
    _check_columns(list(frame.columns), f"{path}")
    if frame.empty:
        raise InputError(f"{path}: no ratings; nothing to analyse")
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _check_columns(names: Sequence[str], where: str) -> None:
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        close = get_close_matches(missing[0], [str(n) for n in names if n not in COLUMNS], n=1)
        hint = f"rename {close[0]!r}, " if close else ""
        raise InputError(
            f"{where}: no column {missing[0]!r}; found {', '.join(map(str, names)) or 'nothing'}; {hint}wanted {', '.join(REQUIRED)}"
        )


def build_table(rows: Iterable[Mapping] | RatingTable, source: str = "ratings") -> RatingTable:
    """Check rows (see ``COLUMNS``) and sort them into arrays. InputError names the row (1 is the first below the header).

    An empty score is a rating that is missing. Practice cases are left out. Columns that are not known are named in the notes.
    """
    if isinstance(rows, RatingTable):
        return rows
    if hasattr(rows, "to_dict"):  # a pandas DataFrame
        rows = rows.astype(object).where(rows.notna(), None).to_dict("records")
    rows = list(rows)
    if not rows:
        raise InputError(f"{source}: no ratings; nothing to analyse")
    _check_columns(list(rows[0]), source)
    extra = [str(name) for name in rows[0] if name not in COLUMNS]
    notes = [f"Columns not used: {', '.join(extra)}."] if extra else []
    practice = 0
    parsed: dict[str, list[tuple]] = {name: [] for name in PARTS}
    for number, row in enumerate(rows, 1):
        item = _parse(row, f"{source}, row {number}")
        if item is None:
            practice += 1
        else:
            parsed[item[0]].append(item[1:])
    parts = {name: _part(name, items, source) for name, items in parsed.items() if items}
    if not parts:
        raise InputError(f"{source}: only practice cases; nothing to analyse")
    return RatingTable(parts, practice, notes)


def _text(row: Mapping, name: str) -> str:
    value = row.get(name)
    return "" if value is None or value != value else str(value).strip()


def _parse(row: Mapping, where: str) -> tuple | None:
    """part, reader, case, kind, synthetic, question, repeat, score, seconds, confidence; None for a practice case."""
    reader, part, case = (_text(row, name) for name in ("reader", "part", "case"))
    kind, truth, question = (_text(row, name) for name in ("lesion_type", "truth", "question"))
    for name, value in (("reader", reader), ("case", case), ("lesion_type", kind)):
        if not value:
            raise InputError(f"{where}: {name} is empty; every rating needs one")
    where = f"{where} (reader {reader}, case {case})"
    if _number(row, "practice", where, 0.0) != 0:
        return None
    if part not in PARTS:
        raise InputError(f"{where}: part {part!r} is not known; wanted {' or '.join(PARTS)}")
    if truth not in TRUTHS:
        raise InputError(
            f"{where}: truth is {truth!r}, wanted real or synthetic; close the study (pasta study close), which adds the truth from its key"
        )
    if question not in QUESTIONS[part]:
        raise InputError(
            f"{where}: question {question!r} of part {part} is not known; wanted {', '.join(QUESTIONS[part])}"
        )
    score = _number(row, "score", where, math.nan)
    if not (math.isnan(score) or score in (1, 2, 3, 4, 5)):
        raise InputError(
            f"{where}: score {_text(row, 'score')!r}; wanted a whole number from 1 to 5, or nothing where it is missing"
        )
    repeat = _number(row, "repeat", where, 0.0)
    if repeat < 0 or repeat != int(repeat):
        raise InputError(f"{where}: repeat {_text(row, 'repeat')!r}; wanted 0 for the first reading, 1 for the second")
    seconds, confidence = (_number(row, name, where, math.nan) for name in ("seconds", "confidence"))
    return part, reader, case, kind, truth == SYNTHETIC, question, int(repeat), score, seconds, confidence


def _number(row: Mapping, name: str, where: str, empty: float) -> float:
    text = _text(row, name)
    if not text:
        return empty
    try:
        return float({"true": "1", "false": "0"}.get(text.lower(), text))
    except ValueError:
        raise InputError(f"{where}: {name} {text!r} is not a number") from None


def _part(name: str, items: list[tuple], source: str) -> Part:
    facts: dict[str, tuple] = {}
    for _, case, kind, synthetic, *_rest in items:
        if facts.setdefault(case, (kind, synthetic)) != (kind, synthetic):
            raise InputError(f"{source}: case {case} has two truths or lesion types; every case has one of each")
    found = {kind for kind, _ in facts.values()}
    kinds = tuple(k for k in taxonomy.LESION_KEYS if k in found) + tuple(sorted(found - set(taxonomy.LESION_KEYS)))
    readers, cases = tuple(sorted({item[0] for item in items})), tuple(sorted(facts))
    questions = tuple(q for q in QUESTIONS[name] if any(item[4] == q for item in items))
    at = [{key: n for n, key in enumerate(keys)} for keys in (questions, readers, cases)]
    shape = (len(questions), len(readers), len(cases))
    scores, second = np.full(shape, np.nan), np.full(shape, np.nan)
    seconds, confidence = np.full(shape[1:], np.nan), np.full(shape[1:], np.nan)
    seen = set()
    for reader, case, _, _, question, repeat, score, time, sure in items:
        q, r, c = at[0][question], at[1][reader], at[2][case]
        if (q, r, c, repeat) in seen:
            raise InputError(
                f"{source}: reader {reader}, case {case}, question {question} is there twice for repeat {repeat}; keep the final rating"
            )
        seen.add((q, r, c, repeat))
        if repeat == 0:
            scores[q, r, c] = score
            seconds[r, c] = np.fmax(seconds[r, c], time)  # one reading time per case, whatever the number of questions
            confidence[r, c] = np.fmax(confidence[r, c], sure)
        elif repeat == 1:
            second[q, r, c] = score
    kind = np.array([kinds.index(facts[case][0]) for case in cases])
    synthetic = np.array([facts[case][1] for case in cases])
    return Part(name, readers, cases, kinds, kind, synthetic, questions, scores, second, seconds, confidence)
