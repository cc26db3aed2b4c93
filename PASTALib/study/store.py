"""The ratings of one reader in one SQLite file: append-only, hash-chained, on the disk before a rating is acknowledged.

Every event holds the hash of the one before it, so that a change, a deletion or another order shows. Whoever can write the file could
compute the chain anew; therefore its head (number and hash of the last event) is repeated in the receipt that the reader gets at the end
of each sitting, and is countersigned with the lead's key when the study is closed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import sys
from pathlib import Path

from ..errors import InputError
from .chain import (
    FIELDS,
    FORMAT,
    RECEIPT,
    Event,
    Head,
    chain_problems,
    event_hash,
    first_link,
    read_events,
    receipt_problems,
)

_NETWORK = "nfs nfs4 cifs smb smb2 smb3 smbfs afpfs sshfs fuse.sshfs 9p afs davfs lustre"

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
  seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, item INTEGER NOT NULL, case_id TEXT NOT NULL, part TEXT NOT NULL, session INTEGER NOT NULL,
  practice INTEGER NOT NULL, repeat INTEGER NOT NULL, scores TEXT NOT NULL, confidence REAL, comment TEXT NOT NULL, seconds REAL NOT NULL,
  view TEXT, time TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL UNIQUE);
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL);
CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'ratings are never changed, only added'); END;
CREATE TRIGGER events_remain BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'ratings are never deleted'); END;
CREATE TRIGGER events_in_order BEFORE INSERT ON events
  WHEN NEW.seq IS NOT (SELECT seq + 1 FROM head) OR NEW.prev IS NOT (SELECT hash FROM head)
  BEGIN SELECT RAISE(ABORT, 'this event does not follow the last one'); END;
CREATE TRIGGER head_follows AFTER INSERT ON events BEGIN UPDATE head SET seq = NEW.seq, hash = NEW.hash; END;
CREATE TRIGGER head_forward BEFORE UPDATE ON head WHEN NEW.seq <> OLD.seq + 1
  BEGIN SELECT RAISE(ABORT, 'the chain only grows'); END;
CREATE TRIGGER head_remains BEFORE DELETE ON head BEGIN SELECT RAISE(ABORT, 'the chain only grows'); END;
CREATE TRIGGER meta_stays BEFORE UPDATE ON meta BEGIN SELECT RAISE(ABORT, 'never changed'); END;
CREATE TRIGGER meta_remains BEFORE DELETE ON meta BEGIN SELECT RAISE(ABORT, 'never deleted'); END;
"""


class RatingStore:
    """An open store of one reader; ``append`` returns only when the event is on the disk.

    WAL journal with synchronous=FULL; where WAL cannot be had or must not be used (network shares), a rollback journal, which ``note`` says.
    """

    def __init__(self, path: Path, study_id: str, reader: str, digest: str):
        self.path, self.reader = path, reader
        self.note: str | None = None
        self._start = first_link(study_id, reader, digest)
        with one_line(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
            try:
                self._prepare({"format": FORMAT, "study": study_id, "reader": reader, "digest": digest})
            except BaseException:
                self._db.close()
                raise

    def _prepare(self, meta: dict[str, str]) -> None:
        self._set_journal()
        self._db.execute("PRAGMA synchronous=FULL")
        with self._transaction():  # two windows that open a new store at once must not both create it
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone():
                for statement in _statements(_SCHEMA):
                    self._db.execute(statement)
                self._db.executemany("INSERT INTO meta VALUES (?, ?)", sorted(meta.items()))
                self._db.execute("INSERT INTO head VALUES (1, 0, ?)", (self._start,))
        check_meta(self.path, dict(self._db.execute("SELECT key, value FROM meta")), meta)

    def _set_journal(self) -> None:
        if on_network_share(self.path):
            self.note = f"{self.path.parent} is on a network share: ratings are kept with a rollback journal; do not rate from two computers at once"
            self._db.execute("PRAGMA journal_mode=DELETE")
            return
        mode = self._db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode.lower() == "wal":
            self._db.execute(
                "PRAGMA wal_autocheckpoint=1"
            )  # so that a copy of the .sqlite file alone holds every rating
        else:
            self._db.execute("PRAGMA journal_mode=DELETE")
            self.note = f"{self.path.parent} does not allow SQLite's write-ahead log: ratings are kept with a rollback journal (as safe, a little slower)"

    @property
    def head(self) -> Head:
        with one_line(self.path):
            return Head(*self._db.execute("SELECT seq, hash FROM head").fetchone())

    def events(self) -> list[Event]:
        """All events, oldest first."""
        with one_line(self.path):
            return read_events(self._db)

    def problems(self) -> list[str]:
        """What is wrong with the chain, in words that name the event; empty when nothing is."""
        with one_line(self.path):
            receipt = self.path.with_name(f"{self.path.stem}{RECEIPT}")
            return chain_problems(self._db, self._start) + receipt_problems(receipt, self._db)

    def append(self, after: Head, **values) -> Event:
        """Store one event behind ``after``; InputError when somebody else has added to this store meanwhile, or the disk refuses.

        values: kind, item, case_id, part, session, practice, repeat, scores, confidence, comment, seconds, view, time.
        """
        row = _columns(values)
        seq = after.seq + 1
        digest = event_hash(seq, row, after.hash)
        with self._transaction():
            if Head(*self._db.execute("SELECT seq, hash FROM head").fetchone()) != after:
                raise InputError(
                    f"{self.path}: {self.reader} is rating in another window as well; close one of them and log in again"
                )
            self._insert(seq, row, after.hash, digest)
        return Event(
            seq, row["kind"], row["item"], row["case_id"], row["part"], row["session"], bool(row["practice"]), row["repeat"],
            json.loads(row["scores"]), row["confidence"], row["comment"], row["seconds"], values["view"], row["time"], after.hash, digest,
        )  # fmt: skip

    def extend(self, events: list[Event]) -> None:
        """Add events of another copy of this store, as they are there; all of them or none."""
        with self._transaction():
            for event in events:
                values = {name: getattr(event, "case" if name == "case_id" else name) for name in FIELDS}
                self._insert(event.seq, _columns(values), event.prev, event.hash)

    def _insert(self, seq: int, row: dict, prev: str, digest: str) -> None:
        columns = ", ".join(("seq", *FIELDS, "prev", "hash"))
        marks = ", ".join("?" * (len(FIELDS) + 3))
        self._db.execute(f"INSERT INTO events ({columns}) VALUES ({marks})", (seq, *row.values(), prev, digest))

    @contextlib.contextmanager
    def _transaction(self):
        with one_line(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._rollback()
                raise

    def _rollback(self) -> None:
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # the error that led here is the one to tell
                self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file; nothing but the .sqlite file remains."""
        with one_line(self.path):
            self._db.close()


def _columns(values: dict) -> dict:
    """The columns of an event in the order of FIELDS, as SQLite will give them back: the hash must be reproduced from those."""
    row = {name: values[name] for name in FIELDS}
    row["scores"] = json.dumps(row["scores"], sort_keys=True)
    row["view"] = None if row["view"] is None else json.dumps(row["view"], sort_keys=True)
    row["practice"] = int(row["practice"])
    for name in ("seconds", "confidence"):
        row[name] = None if row[name] is None else float(row[name])
    return row


def check_meta(path: Path, found: dict[str, str], wanted: dict[str, str]) -> None:
    """InputError when a store belongs to another study, reader or version of study.json."""
    for key, what in (
        ("format", "format"),
        ("study", "study"),
        ("reader", "reader"),
        ("digest", "version of study.json"),
    ):
        if found.get(key) != wanted[key]:
            raise InputError(
                f"{path}: these ratings belong to another {what} ({_short(found.get(key))}, wanted {_short(wanted[key])}); "
                "use the study folder that they were made in"
            )


def _short(text: str | None) -> str:
    return "none" if text is None else text if len(text) <= 40 else text[:12] + "…"


def _statements(script: str) -> list[str]:
    statements, begun = [], ""
    for line in script.strip().splitlines():
        begun += line + "\n"
        if sqlite3.complete_statement(begun):
            statements.append(begun)
            begun = ""
    return statements


@contextlib.contextmanager
def one_line(path: Path):
    """SQLite's and the system's errors as InputError in one line: full disk, no permission, locked, damaged."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if "full" in text:
            what = "the disk is full: the last rating was NOT stored; free some space and rate the case again"
        elif "locked" in text or "busy" in text:
            what = "another program holds the file; close it and try again"
        elif "readonly" in text or "unable to open" in text:
            what = "it cannot be written; check the permissions of the folder"
        elif "malformed" in text or "not a database" in text:
            what = "the file is damaged; keep it, tell the study lead, and go on with a fresh copy of the study"
        else:
            what = f"the rating was not stored ({text}); check the disk and try again"
        raise InputError(f"{path}: {what}") from error
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror or type(error).__name__}; check the disk and the permissions"
        ) from error


def on_network_share(path: Path, mounts: str | None = None) -> bool:
    """Whether ``path`` lies on a network share, where SQLite's write-ahead log is not safe. Not known on macOS: False.

    mounts: a table as in /proc/mounts, instead of this computer's.
    """
    path = Path(os.path.abspath(path))
    if sys.platform == "win32":
        import ctypes

        return str(path).startswith("\\\\") or ctypes.windll.kernel32.GetDriveTypeW(path.anchor) == 4
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
    best, kind = "", ""
    for line in mounts.splitlines():
        _, place, found, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        if len(place) >= len(best) and (path == Path(place) or Path(place) in path.parents):
            best, kind = place, found
    return kind in _NETWORK.split()


def plain_number(value: float | None, low: float, high: float, what: str) -> float | None:
    """``value`` if it lies within ``low`` to ``high``, else InputError."""
    if value is None or (isinstance(value, (int, float)) and math.isfinite(value) and low <= value <= high):
        return value
    raise InputError(f"{what} is {value!r}; give a number from {low:g} to {high:g}")
