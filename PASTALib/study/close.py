"""Closing a study: all ratings together, checked, countersigned, and only then joined with the truth. And the table of ratings."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path

from .. import __version__
from ..errors import InputError
from .chain import Chain, final_ratings
from .merge import current_chains
from .package import CLOSED, StudyPackage
from .seal import StudyKey

CLOSURE, TABLE = "closure.json", "ratings"
COLUMNS = (
    "reader", "part", "case", "lesion_type", "truth", "question", "score", "confidence", "seconds", "repeat", "session", "practice", "time"
)  # fmt: skip


def ratings_table(
    study: StudyPackage, key: StudyKey | None = None, chains: Iterable[Chain] | None = None
) -> list[dict]:
    """One row per final rating (the last of each reader, item and question), in the readers' and items' order.

    Columns: reader, part, case, lesion_type, truth ("real", "synthetic", or empty without ``key``), question, score (1 to 5), confidence
    (0 to 100 or None), seconds (on the image), repeat (0 first reading), session, practice (0 or 1), time (ISO, UTC).
    """
    rows = []
    for chain in current_chains(study) if chains is None else chains:
        for event in final_ratings(chain.events):
            truth = key.cases[event.case]["truth"] if key else ""
            for question, score in event.scores.items():
                values = (
                    chain.reader, event.part, event.case, study.data["cases"][event.case]["lesion_type"], truth, question, int(score),
                    event.confidence, event.seconds, event.repeat, event.session, int(event.practice), event.time,
                )  # fmt: skip
                rows.append(dict(zip(COLUMNS, values)))
    return rows


def closed_table(study: StudyPackage) -> list[dict]:
    """The rows of a closed study, with the truth, as ``close_study`` wrote them; InputError when it is not closed."""
    path = study.folder / CLOSED / f"{TABLE}.csv"
    if not path.is_file():
        raise InputError(f"{study.folder}: {path} is missing; close the study first: pasta study close")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= {name: int(row[name]) for name in ("score", "repeat", "session", "practice")}
        row |= {"seconds": float(row["seconds"]), "confidence": float(row["confidence"]) if row["confidence"] else None}
    return rows


def write_table(rows: Iterable[Mapping], path: Path) -> None:
    """Write rows as ``.csv`` or ``.parquet`` by extension; the file appears complete or not at all.

    InputError for another extension, for Parquet without pandas and pyarrow, and when the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        if path.suffix == ".csv":
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
        elif path.suffix == ".parquet":
            _parquet(rows, temporary)
        else:
            raise InputError(f"{path} must end in .csv or .parquet")
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def _parquet(rows: Iterable[Mapping], path: Path) -> None:
    try:
        import pandas as pd
        import pyarrow  # noqa: F401 - pandas would tell of it in three lines
    except ImportError as error:
        raise InputError(f'Parquet needs {error.name} (pip install "slicerpasta[study]"); or write .csv') from None
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    frame["confidence"] = frame["confidence"].astype("float64")
    frame.to_parquet(path, index=False)


def missing_ratings(study: StudyPackage, chains: Iterable[Chain]) -> dict[str, tuple[int, int]]:
    """Rated items and items of each reader who is not done, by reader."""
    rated = {chain.reader: len(final_ratings(chain.events)) for chain in chains}
    counts = {reader: (rated.get(reader, 0), len(study.data["readers"][reader])) for reader in study.readers}
    return {reader: pair for reader, pair in counts.items() if pair[0] < pair[1]}


def close_study(study: StudyPackage, key: StudyKey, *, incomplete: bool = False) -> Path:
    """Close the study and return ``closed/``: ratings.csv (and .parquet where pandas can) with the truth, and closure.json.

    closure.json repeats the head of every reader's chain and signs it with the lead's key, so that a later change of any rating shows
    (``closure_problems``). incomplete: close although readers have not rated everything.

    Raises InputError when it is closed already, the key is another study's, a chain is not in order, or ratings are missing.
    """
    if study.closed:
        raise InputError(f"{study.folder} is closed already; see {study.folder / CLOSED}")
    if set(key.cases) != set(study.data["cases"]):
        raise InputError(f"{study.folder}: key and study.json do not hold the same cases; take both from your backup")
    chains = current_chains(study)
    missing = missing_ratings(study, chains)
    if not any(chain.events for chain in chains):
        raise InputError(
            f"{study.folder}: nobody has rated anything; merge the readers' copies first: pasta study merge"
        )
    if missing and not incomplete:
        what = ", ".join(f"{reader} {done} of {of}" for reader, (done, of) in missing.items())
        raise InputError(
            f"{study.folder}: not everything is rated ({what}); merge their ratings first, or add --incomplete"
        )
    rows = ratings_table(study, key, chains)
    target = study.folder / CLOSED
    staging = study.folder / f".{CLOSED}.{secrets.token_hex(4)}.partial"
    try:
        staging.mkdir()
        write_table(rows, staging / f"{TABLE}.csv")
        try:
            write_table(rows, staging / f"{TABLE}.parquet")
        except InputError:
            pass  # the CSV holds the same
        closure = _closure(study, key, chains, missing, staging / f"{TABLE}.csv")
        (staging / CLOSURE).write_text(json.dumps(closure, indent=1) + "\n", encoding="utf-8")
        staging.rename(target)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); check space and permissions") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _closure(study: StudyPackage, key: StudyKey, chains: list[Chain], missing: dict, table: Path) -> dict:
    content = {
        "software": f"SlicerPASTA {__version__}",
        "study_id": study.study_id,
        "study_sha256": study.digest,
        "closed": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "readers": {chain.reader: {"events": chain.head.seq, "hash": chain.head.hash} for chain in chains},
        "missing": {reader: list(pair) for reader, pair in missing.items()},
        "ratings_sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
    }
    return {"content": content, "signature": key.sign(_canonical(content))}


def closure_problems(study: StudyPackage, key: StudyKey) -> list[str]:
    """What was changed since the study was closed, in words; empty when nothing was."""
    path = study.folder / CLOSED / CLOSURE
    try:
        closure = json.loads(path.read_bytes())
        content = closure["content"]
        signed = secrets.compare_digest(closure["signature"], key.sign(_canonical(content)))
        readers = dict(content["readers"])
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{path} is missing or damaged"]
    problems = [] if signed else [f"{path}: the lead's signature does not fit; it was changed after closing"]
    if content.get("study_sha256") != study.digest:
        problems.append("study.json was changed after closing")
    try:
        heads = {chain.reader: chain.head for chain in current_chains(study)}
    except InputError as error:
        return [*problems, str(error)]
    for reader, head in readers.items():
        now = heads.get(reader)
        if now is None:
            problems.append(f"the ratings of {reader} are gone")
        elif (now.seq, now.hash) != (head["events"], head["hash"]):
            problems.append(
                f"the ratings of {reader} were changed: {head['events']} events when closed, {now.seq} now, with another last one"
            )
    table = study.folder / CLOSED / f"{TABLE}.csv"
    if not table.is_file() or hashlib.sha256(table.read_bytes()).hexdigest() != content.get("ratings_sha256"):
        problems.append(f"{table} is not as it was written")
    return problems


def _canonical(content: dict) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
