"""Tables of cases: one row per scan (or per lesion), what they must hold, and what is wrong with them, in one line. No torch."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PASTALib import taxonomy
from PASTALib.attributes import LEARNED, TABLE, class_index, class_option
from PASTALib.errors import InputError
from PASTALib.organs import SCHEMES

ATTRIBUTES, DETECT, STAGE = TASKS = ("attributes", "detect", "stage")
DAYS_PER_YEAR = 365.25
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_LETTERS = "letters"  # the authors' label files: one letter per attribute, such as A,B,B,A,A


@dataclass(frozen=True)
class Case:
    """One row. ``labels``: group -> class number, -1 where unknown; ``point`` in RAS mm; ``stratum`` is what folds are balanced by."""

    id: str
    patient: str
    ct: Path
    mask: Path | None = None
    mask_value: int | None = None
    point: tuple[float, float, float] | None = None
    organs: Path | None = None
    scheme: str | None = None
    organ: str | None = None
    stratum: str = ""
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseTable:
    """The cases in the order of their ids; ``groups``: what is predicted -> its classes; ``digest`` over the table's contents."""

    path: Path
    cases: tuple[Case, ...]
    groups: Mapping[str, tuple[str, ...]]
    digest: str
    notes: tuple[str, ...] = ()

    def of(self, ids: Sequence[str]) -> list[Case]:
        """The cases of these ids, in their order."""
        by_id = {case.id: case for case in self.cases}
        return [by_id[name] for name in ids]


def read_rows(path: str | Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Line number and values (stripped, by lower-case column) of the rows of a CSV or tab-separated table.

    InputError when it does not read, is empty, or one of ``columns`` is missing; "a|b" stands for either of two.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        head, _, _ = text.partition("\n")
        delimiter = max("\t;,", key=head.count)
        found = list(csv.reader(text.splitlines(), delimiter=delimiter, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); wanted a CSV or TSV file") from None
    names = [name.strip().lower() for name in found[0]] if found else []
    wanted = f"wanted {', '.join(item.replace('|', ' or ') for item in columns)}"
    for item in columns:
        if not set(item.split("|")) & set(names):
            raise InputError(
                f"{path}: no column {item.replace('|', ' or ')}; found {', '.join(names) or 'nothing'}, {wanted}"
            )
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice:
        raise InputError(f"{path}: two columns are called {twice}; {wanted}, each once")
    rows = []
    for number, values in enumerate(found[1:], 2):
        if not any(value.strip() for value in values):
            continue
        if len(values) > len(names):
            raise InputError(
                f"{path}, line {number}: {len(values)} values for {len(names)} columns; quote values that hold a {delimiter!r}"
            )
        row = dict(zip(names, (value.strip() for value in values)))
        rows.append((number, {name: row.get(name, "") for name in names}))
    if not rows:
        raise InputError(f"{path}: no rows below the header; {wanted} and a row per case")
    return rows


def read_cases(
    path: str | Path,
    task: str,
    *,
    classes: Sequence[str] = (),
    organ: str | None = None,
    survival_years: float = 0.0,
    censored: bool = False,
) -> CaseTable:
    """The cases of a table for one of ``TASKS``.

    Columns: id, ct, and patient (default: the id). Where: mask (and mask_value) or point (``R,A,S`` in mm); for "detect" organs (an organ
    map, with scheme and organ if wanted) or mask (of the organ). What: for "attributes" the five attributes, in any wording, blank where
    unknown, or the authors' letters (``A,B,B,A,A`` or a file that holds them); for "detect" and "stage" label, one of ``classes`` (a name or
    its number; () takes the values that there are, in order), or with ``survival_years`` os_days and event, see ``survival_class``. stratum:
    what folds are balanced by (default: the label, or the shape). Relative paths start at the table's folder. ``censored``: keep cases that were
    followed for less than ``survival_years``, with an unknown label, for tests that take them. InputError naming the line.
    """
    path = Path(path)
    columns = ["id", "ct", "organs|mask" if task == DETECT else "mask|point"]
    if task == ATTRIBUTES:
        columns.append("|".join((*LEARNED, _LETTERS)))
    else:
        columns += ["os_days", "event"] if survival_years else ["label"]
    if survival_years and not (survival_years > 0 and math.isfinite(survival_years)):
        raise InputError(f"survival_years {survival_years}; wanted the years that part short from long survival")
    rows = read_rows(path, columns)
    cases, lines, left_out = [], {}, 0
    groups = _groups(path, task, rows, classes, survival_years)
    for number, row in rows:
        where = f"{path}, line {number}"
        labels = _labels(row, task, groups, survival_years, where)
        if labels is None and censored:
            labels = {"survival": -1}
        if labels is None:
            left_out += 1
            continue
        case = _case(row, path.parent, task, organ, labels, groups, where)
        if case.id in lines:
            raise InputError(f"{where}: id {case.id!r} is that of line {lines[case.id]} too; give every row its own")
        lines[case.id] = number
        cases.append(case)
    notes = (f"{left_out} cases left out: alive, but followed for less than {survival_years:g} years",)
    if not cases:
        raise InputError(f"{path}: no case is left ({notes[0]})")
    cases.sort(key=lambda case: case.id)
    _check_classes(path, cases, groups)
    digest = hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
    return CaseTable(path, tuple(cases), groups, digest, notes if left_out else ())


def survival_class(days: str, event: str, years: float, where: str) -> int | None:
    """0 when the patient died within ``years``, 1 when the patient lived that long; None when the follow-up ended before."""
    try:
        lived, died = float(days), {"0": False, "1": True, "false": False, "true": True}[event.lower()]
    except (ValueError, KeyError):
        lived, died = math.nan, False
    if not (math.isfinite(lived) and lived >= 0):
        raise InputError(f"{where}: os_days {days!r}, event {event!r}; wanted a number of days, and 1 (died) or 0")
    if lived >= years * DAYS_PER_YEAR:
        return 1
    return 0 if died else None


# ---------------------------------------------------------------------------------------------------------------


def _groups(path: Path, task: str, rows, classes: Sequence[str], survival_years: float) -> dict[str, tuple[str, ...]]:
    if task == ATTRIBUTES:
        return {key: TABLE[key].options for key in LEARNED}
    if survival_years:
        return {"survival": (f"below {survival_years:g} years", f"{survival_years:g} years or more")}
    found = tuple(sorted({row["label"] for _, row in rows if row["label"]}))
    named = tuple(classes) or found
    if len(set(named)) != len(named) or len(named) < 2:
        raise InputError(f"{path}: classes {', '.join(named) or 'none'}; wanted at least two different ones")
    return {"label": named}


def _labels(row: Mapping[str, str], task: str, groups, survival_years: float, where: str) -> dict[str, int] | None:
    """Class numbers by group; None for a case to leave out."""
    if task == ATTRIBUTES:
        return _attributes(row, where)
    if survival_years:
        found = survival_class(row["os_days"], row["event"], survival_years, where)
        return None if found is None else {"survival": found}
    classes, text = groups["label"], row["label"]
    if text in classes:
        return {"label": classes.index(text)}
    if text.isdigit() and int(text) < len(classes):
        return {"label": int(text)}
    raise InputError(f"{where}: label {text!r} is not one of {', '.join(classes)} (nor their number from 0)")


def _attributes(row: Mapping[str, str], where: str) -> dict[str, int]:
    found = dict.fromkeys(LEARNED, -1)
    letters = row.get(_LETTERS, "")
    if letters:
        parts = [part.strip().upper() for part in letters.split(",")]
        if len(parts) != len(LEARNED) or any(len(part) != 1 for part in parts):
            raise InputError(f"{where}: letters {letters!r}; wanted one for each of {', '.join(LEARNED)}: A,B,B,A,A")
        for key, letter in zip(LEARNED, parts):
            found[key] = ord(letter) - ord("A")
            try:
                class_option(key, found[key])
            except InputError as error:
                raise InputError(f"{where}: letter {letter} for {key}: {error}") from None
    for key in LEARNED:
        if row.get(key):
            try:
                value = class_index(key, row[key])
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            if found[key] not in (-1, value):
                raise InputError(f"{where}: {key} {row[key]!r} contradicts the letters {letters}; give one of them")
            found[key] = value
    if set(found.values()) == {-1}:
        raise InputError(f"{where}: none of the five attributes is given; fill in {', '.join(LEARNED)} or letters")
    return found


def _case(row, folder: Path, task: str, organ: str | None, labels: dict, groups, where: str) -> Case:
    name = row["id"]
    if not _NAME.fullmatch(name):
        raise InputError(f"{where}: id {name!r}; wanted letters, digits, . _ and -, because files are named after it")
    mask, organs = row.get("mask", ""), row.get("organs", "") if task == DETECT else ""
    point = _point(row.get("point", ""), where)
    if task != DETECT and bool(mask) == (point is not None):
        both = "both are given" if mask else "neither is given"
        raise InputError(f"{where}: where is the lesion? mask or point, {both}; give one of them")
    if task == DETECT and bool(mask) == bool(organs):
        both = "both are given" if mask else "neither is given"
        raise InputError(f"{where}: where is the organ? organs or mask, {both}; give one of them")
    chosen = row.get("organ") or organ
    if organs and chosen not in taxonomy.ORGAN_KEYS:
        raise InputError(f"{where}: which organ? found {chosen!r}, wanted one of {', '.join(taxonomy.ORGAN_KEYS)}")
    scheme = row.get("scheme") or None
    if scheme is not None and scheme not in SCHEMES:
        raise InputError(f"{where}: scheme {scheme!r}; use one of {', '.join(SCHEMES)}")
    value = row.get("mask_value", "")
    if value and not (value.isdigit() and 0 < int(value) < 65536):
        raise InputError(f"{where}: mask_value {value!r}; wanted the whole number that marks the lesion in the mask")
    files = {"ct": row["ct"], "mask": mask, "organs": organs}
    places = {key: existing(folder, text, key, where) if text or key == "ct" else None for key, text in files.items()}
    first = next(iter(groups))
    return Case(
        id=name,
        patient=row.get("patient") or name,
        mask_value=int(value) if value else None,
        point=point,
        scheme=scheme,
        organ=chosen if organs else None,
        stratum=row.get("stratum") or str(labels[first]),
        labels=labels,
        **places,
    )


def existing(folder: Path, text: str, key: str, where: str) -> Path:
    """The file that a cell names, relative to the table's folder; InputError when it is not there."""
    place = folder / text
    if not text or not place.exists():
        raise InputError(f"{where}: {key} {text!r} does not exist in {folder}; check the path")
    return place


def _point(text: str, where: str) -> tuple[float, float, float] | None:
    if not text:
        return None
    try:
        values = tuple(float(part) for part in text.strip(" ()[]").replace(";", ",").split(","))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise InputError(f"{where}: point {text!r}; wanted R,A,S in mm (in quotes), such as -42.5,10,130")
    return values


def _check_classes(path: Path, cases: Sequence[Case], groups: Mapping[str, tuple[str, ...]]) -> None:
    """InputError when a single label's class has fewer than two patients: one to train on and one to test."""
    if len(groups) > 1:
        return  # attributes: rare options are reported, not refused
    ((group, names),) = groups.items()
    for number, name in enumerate(names):
        patients = {case.patient for case in cases if case.labels[group] == number}
        if len(patients) < 2:
            raise InputError(
                f"{path}: {len(patients)} patients are {name!r}; wanted at least two of every class ({', '.join(names)})"
            )
