"""Survival, stage and tumour centres from the tables that go with the public sets. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PASTALib.errors import InputError

from ...downstream.table import read_rows

EARLY, LATE = CLASSES = ("I-II", "III-IV")
NOTHING = ("", "na", "n/a", "nan", "'--", "--", "not reported", "unknown", "[not available]", "[not applicable]")
_STAGE = re.compile(r"(?:stage\s*)?(iv|i{1,3})[abc]?[0-9]?", re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    """Of one patient. ``os_days`` and ``event`` ("1" died) are "" when not known, as is ``stage`` (I, II, III, IV)."""

    os_days: str = ""
    event: str = ""
    stage: str = ""

    @property
    def early_late(self) -> str:
        """I-II or III-IV, "" when not known."""
        return "" if not self.stage else EARLY if self.stage in ("I", "II") else LATE


def table_beside(given: Path, found: Path, patterns: Sequence[str], wanted: str) -> Path:
    """The table that matches in the folder given, in the one found below it, or between; InputError saying what was ``wanted``."""
    places = [found]
    while places[-1] != given and given in places[-1].parents:
        places.append(places[-1].parent)
    for place in places:
        for pattern in patterns:
            files = sorted(path for path in place.glob(pattern) if path.is_file() and not path.name.startswith("."))
            if len(files) > 1:
                raise InputError(f"{place}: {files[0].name} and {files[1].name} both match; keep one, or name it")
            if files:
                return files[0]
    raise InputError(f"{given}: {wanted}")


def stage_of(text: str) -> str:
    """ "IIIa", "Stage IIIA" -> "III"; "" for anything else."""
    match = _STAGE.fullmatch(text.strip())
    return match[1].upper() if match else ""


def read_lung1(path: Path) -> dict[str, Outcome]:
    """TCIA's NSCLC-Radiomics-Lung1.clinical….csv by patient."""

    def outcome(row: dict[str, str], where: str) -> Outcome:
        event = row["deadstatus.event"]
        return Outcome(_days(row["survival.time"], where), _event(event, where), stage_of(row.get("overall.stage", "")))

    return _by_patient(path, ["patientid", "survival.time", "deadstatus.event"], "patientid", outcome)


def read_tcga(path: Path) -> dict[str, Outcome]:
    """The Genomic Data Commons' clinical.tsv (either naming of its columns) or BCR Biotab file, by patient.

    Several rows of a patient (one per treatment or diagnosis) are merged; InputError where they contradict one another in vital status.
    """
    rows = read_rows(path, ["cases.submitter_id|case_submitter_id|bcr_patient_barcode|submitter_id"])
    found: dict[str, dict[str, str]] = {}
    for number, row in rows:
        patient = _first(row, "cases.submitter_id", "case_submitter_id", "bcr_patient_barcode", "submitter_id").upper()
        if not patient.startswith("TCGA-"):
            continue  # the Biotab's two further lines of headings
        values = {
            "vital": _first(row, "demographic.vital_status", "vital_status").lower(),
            "death": _first(row, "demographic.days_to_death", "days_to_death", "death_days_to"),
            "seen": _first(row, "diagnoses.days_to_last_follow_up", "days_to_last_follow_up", "last_contact_days_to"),
            "stage": stage_of(
                _first(row, "diagnoses.ajcc_pathologic_stage", "ajcc_pathologic_stage", "ajcc_pathologic_tumor_stage")
            ),
        }
        known = found.setdefault(patient, {})
        for key, value in values.items():
            if value and known.setdefault(key, value) != value:
                if key == "vital":
                    raise InputError(
                        f"{path}, line {number}: {patient} is {value} here and {known[key]} above; correct one"
                    )
                if key == "seen" and float(_days(value, f"{path}, line {number}")) > float(known[key]):
                    known[key] = value
    return {patient: _tcga_outcome(values, f"{path}: {patient}") for patient, values in found.items()}


def read_points(path: Path) -> dict[str, tuple[str, str]]:
    """Patient -> (centre as "R,A,S" in mm, series UID or "").

    Columns: patient (or id, PatientID), and point ("R,A,S" in mm) or coordX, coordY, coordZ in mm (L, P, S: ITK's and FMCIB's); series_uid
    if wanted. InputError naming the line.
    """
    points: dict[str, tuple[str, str]] = {}
    for number, row in read_rows(path, ["patient|patientid|id", "point|coordx"]):
        where = f"{path}, line {number}"
        patient = _first(row, "patient", "patientid", "id")
        text = row.get("point", "")
        try:
            if text:
                values = [float(part) for part in text.strip(" ()[]").replace(";", ",").split(",")]
            else:
                values = [float(row.get(key, "")) for key in ("coordx", "coordy", "coordz")]
                values = [-values[0], -values[1], values[2]]
        except ValueError:
            values = []
        if len(values) != 3 or not all(map(math.isfinite, values)):
            raise InputError(f"{where}: no centre of {patient or 'a patient'}; wanted R,A,S or coordX, coordY, coordZ")
        if patient in points:
            raise InputError(f"{where}: patient {patient} is listed twice; keep the lesion that counts")
        points[patient] = ",".join(f"{value:.3f}" for value in values), _first(row, "series_uid", "seriesuid")
    return points


# ---------------------------------------------------------------------------------------------------------------


def _by_patient(path: Path, columns: Sequence[str], key: str, outcome: Callable) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for number, row in read_rows(path, columns):
        where = f"{path}, line {number}"
        if row[key] in found:
            raise InputError(f"{where}: patient {row[key]} is listed twice; keep one row")
        found[row[key]] = outcome(row, where)
    return found


def _first(row: dict[str, str], *names: str) -> str:
    """The first of these columns that says something."""
    for name in names:
        if row.get(name, "").lower() not in NOTHING:
            return row[name]
    return ""


def _days(text: str, where: str) -> str:
    if text.lower() in NOTHING:
        return ""
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not (math.isfinite(days) and days >= 0):
        raise InputError(f"{where}: {text!r} days; wanted a number from 0 on")
    return f"{days:g}"


def _event(text: str, where: str) -> str:
    if text.lower() in NOTHING:
        return ""
    if text not in ("0", "1", "0.0", "1.0"):
        raise InputError(f"{where}: event {text!r}; wanted 1 (died) or 0")
    return text[0]


def _tcga_outcome(values: dict[str, str], where: str) -> Outcome:
    vital, stage = values.get("vital", ""), values.get("stage", "")
    if vital not in ("", "alive", "dead"):
        raise InputError(f"{where}: vital status {vital!r}; wanted alive or dead")
    days = values.get("death" if vital == "dead" else "seen", "") if vital else ""
    if not days:
        return Outcome(stage=stage)
    try:
        if float(days) < 0:
            return Outcome(stage=stage)  # the Data Commons has a few follow-ups before the diagnosis: unknown
    except ValueError:
        pass
    return Outcome(_days(days, where), "1" if vital == "dead" else "0", stage)
