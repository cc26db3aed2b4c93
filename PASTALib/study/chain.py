"""The chain of events in a store of ratings: what an event is, how its hash is made, reading a store and finding what is wrong with it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

FORMAT = "pasta-ratings-1"
RATING, SKIP = "rating", "skip"
RECEIPT = ".receipt.json"  # after the reader's name
GUARDS = 8  # triggers of a store
FIELDS = (
    "kind", "item", "case_id", "part", "session", "practice", "repeat", "scores", "confidence", "comment", "seconds", "view", "time"
)  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One stored event. ``seconds``: time on the image, pauses left out. ``time``: ISO 8601, UTC. ``hash`` covers all else and ``prev``."""

    seq: int
    kind: str
    item: int
    case: str
    part: str
    session: int
    practice: bool
    repeat: int
    scores: dict[str, int]
    confidence: float | None
    comment: str
    seconds: float
    view: dict | None
    time: str
    prev: str
    hash: str


@dataclass(frozen=True)
class Head:
    """The end of a chain: how many events there are and the hash of the last (of none: the chain's first link)."""

    seq: int
    hash: str


def first_link(study_id: str, reader: str, digest: str) -> str:
    """What the first event of a chain follows: it binds the ratings to the reader and to every byte of study.json."""
    return hashlib.sha256("\n".join((FORMAT, study_id, reader, digest)).encode()).hexdigest()


def event_hash(seq: int, values: dict, prev: str) -> str:
    """Hash (hex) of one event from its stored columns."""
    text = json.dumps([seq, *(values[name] for name in FIELDS), prev], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Chain:
    """A store as read for merging and closing: whose it is, its events, and what is wrong with it (empty: nothing)."""

    path: Path
    study: str
    reader: str
    digest: str
    events: list[Event]
    head: Head
    problems: list[str]


def read_chain(path: Path) -> Chain:
    """Read a store without changing it and check its chain; InputError when it is no store of ratings at all."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the .sqlite file of a reader's ratings")
    problems: list[str] = []
    try:
        with _opened_to_read(path) as db:
            meta = dict(db.execute("SELECT key, value FROM meta"))
            if meta["format"] != FORMAT:
                raise InputError(f"{path}: ratings in the format {meta['format']!r}; wanted {FORMAT!r}")
            problems = chain_problems(db, first_link(meta["study"], meta["reader"], meta["digest"]))
            problems += receipt_problems(path.with_name(f"{path.stem}{RECEIPT}"), db)
            events = read_events(db)
            head = Head(*db.execute("SELECT seq, hash FROM head").fetchone())
    except InputError:
        raise
    except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
        reason = problems[0] if problems else error
        raise InputError(
            f"{path}: not a store of ratings, or damaged ({reason}); copy it from the reader again"
        ) from None
    return Chain(path, meta["study"], meta["reader"], meta["digest"], events, head, problems)


def has_store(path: Path) -> bool:
    """Whether there is a store to read; False also for the empty file that a program killed in its first moment leaves."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    try:
        with _opened_to_read(path) as db:
            return db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] > 0
    except sqlite3.Error:
        return True  # something is there; reading it will tell what is wrong


@contextlib.contextmanager
def _opened_to_read(path: Path):
    """The database as it is, left as it was found: no lock, no file beside it, and a torn write is undone in a copy only."""
    beside = {end: path.with_name(path.name + end) for end in ("-wal", "-journal")}
    with tempfile.TemporaryDirectory(prefix="pasta-") as folder:
        if beside["-journal"].exists():
            for file in (path, beside["-journal"]):
                shutil.copy(file, folder)
            address = (Path(folder) / path.name).as_uri()
        else:
            address = path.resolve().as_uri() + ("?mode=ro" if beside["-wal"].exists() else "?mode=ro&immutable=1")
        db = sqlite3.connect(address, uri=True, timeout=10)
        try:
            yield db
        finally:
            db.close()


def chain_problems(db: sqlite3.Connection, start: str) -> list[str]:
    """What is wrong with a store, in words that name the event; empty when nothing is."""
    rows = db.execute(f"SELECT seq, {', '.join(FIELDS)}, prev, hash FROM events ORDER BY seq").fetchall()
    problems = _row_problems(rows, start, Head(*db.execute("SELECT seq, hash FROM head").fetchone()))
    if db.execute("SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger'").fetchone()[0] < GUARDS:
        problems.append("the guards against changes were removed")
    return problems


def _row_problems(rows: list[tuple], start: str, head: Head) -> list[str]:
    """Every event that does not follow from the one before it, by its number and case; and a tail that is gone."""
    problems, prev, expected = [], start, 1
    for row in rows:
        seq, values = row[0], dict(zip(FIELDS, row[1:-2]))
        name = f"event {seq} (item {values['item']}, case {values['case_id']})"
        if seq != expected:
            problems.append(f"{_span(expected, seq - 1)} missing before {name}")
        elif row[-2] != prev:
            problems.append(f"{name} does not follow the event before it: deleted, exchanged or inserted")
        if event_hash(seq, values, row[-2]) != row[-1]:
            problems.append(f"{name} was changed after it was stored")
        prev, expected = row[-1], seq + 1
    if head.seq >= expected:
        problems.append(f"{_span(expected, head.seq)} missing at the end")
    elif (head.seq, head.hash) != (expected - 1, prev):
        problems.append(
            f"the last event is {expected - 1}, the store's own record says {head.seq}: events were added or changed"
        )
    return problems


def receipt_problems(path: Path, db: sqlite3.Connection) -> list[str]:
    """Whether a store holds what the reader's receipt says; empty when it does, or there is no receipt."""
    if not path.is_file():
        return []
    try:
        receipt = json.loads(path.read_bytes())
        count, digest = int(receipt["events"]), str(receipt["hash"])
    except (ValueError, KeyError, TypeError):
        return [f"the receipt {path.name} is damaged"]
    last = db.execute("SELECT seq FROM head").fetchone()[0]
    if last < count:
        return [f"{_span(last + 1, count)} missing at the end: the receipt {path.name} says {count}"]
    found = db.execute("SELECT hash FROM events WHERE seq = ?", (count,)).fetchone()
    if count and (found is None or found[0] != digest):
        return [f"event {count} is not the one in the receipt {path.name}: events up to it were changed"]
    return []


def _span(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first} to {last}"


def read_events(db: sqlite3.Connection) -> list[Event]:
    """All events of an open store, oldest first."""
    return [_event(row) for row in db.execute(f"SELECT seq, {', '.join(FIELDS)}, prev, hash FROM events ORDER BY seq")]


def _event(row: tuple) -> Event:
    v = dict(zip(FIELDS, row[1:-2]))
    view = None if v["view"] is None else json.loads(v["view"])
    return Event(
        row[0], v["kind"], v["item"], v["case_id"], v["part"], v["session"], bool(v["practice"]), v["repeat"], json.loads(v["scores"]),
        v["confidence"], v["comment"], v["seconds"], view, v["time"], row[-2], row[-1],
    )  # fmt: skip


def final_ratings(events: list[Event]) -> list[Event]:
    """The last rating of each item, by item."""
    last = {event.item: event for event in events if event.kind == RATING}
    return [last[item] for item in sorted(last)]
