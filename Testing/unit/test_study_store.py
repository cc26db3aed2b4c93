"""The store of ratings: durable, append-only, chained; what tampering, a full disk, a network share and kill -9 do to it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from PASTALib.errors import InputError
from PASTALib.study import store as store_module
from PASTALib.study.chain import Head, event_hash, final_ratings, first_link, has_store, read_chain
from PASTALib.study.store import RatingStore, on_network_share

ROOT = Path(__file__).resolve().parents[2]


def values(item: int, score: int = 3, kind: str = "rating") -> dict:
    return {
        "kind": kind, "item": item, "case_id": f"c{item}", "part": "realism", "session": 1, "practice": False, "repeat": 0,
        "scores": {"realism": score} if kind == "rating" else {}, "confidence": None, "comment": "", "seconds": 1.25, "view": None,
        "time": f"2026-01-01T00:00:{item:02d}.000+00:00",
    }  # fmt: skip


def filled(path: Path, count: int = 6) -> Path:
    store = RatingStore(path, "study1", "ann", "digest")
    for item in range(1, count + 1):
        store.append(store.head, **values(item))
    store.close()
    return path


@pytest.fixture
def store_file(tmp_path) -> Path:
    return filled(tmp_path / "ann.sqlite")


def test_events_come_back_as_they_were_given(tmp_path):
    store = RatingStore(tmp_path / "ann.sqlite", "study1", "ann", "digest")
    given = values(1) | {"confidence": 70, "comment": "Süß “\n", "view": {"window": [40, 400]}, "seconds": 3}
    event = store.append(store.head, **given)
    store.append(store.head, **values(2, kind="skip"))
    store.append(store.head, **values(1, score=5))
    store.close()
    chain = read_chain(tmp_path / "ann.sqlite")
    assert chain.events[0] == event and event.view == {"window": [40, 400]} and event.comment == "Süß “\n"
    assert [e.seq for e in chain.events] == [1, 2, 3] and chain.problems == []
    assert chain.head == Head(3, chain.events[-1].hash)
    assert [(e.item, e.scores) for e in final_ratings(chain.events)] == [(1, {"realism": 5})]


def test_it_is_on_the_disk_before_it_is_acknowledged(tmp_path):
    store = RatingStore(tmp_path / "ann.sqlite", "study1", "ann", "digest")
    assert store.note is None
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    for item in range(1, 5):
        store.append(store.head, **values(item))
        # whoever copies only the main file gets every rating
        shutil.copy(tmp_path / "ann.sqlite", tmp_path / "copy.sqlite")
        assert len(read_chain(tmp_path / "copy.sqlite").events) == item
    store.close()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("ann")] == ["ann.sqlite"]


@pytest.mark.parametrize(
    "statement,told",
    [
        ("UPDATE events SET scores = '{}' WHERE seq = 2", "never changed"),
        ("DELETE FROM events WHERE seq = 6", "never deleted"),
        ("UPDATE head SET seq = 3", "only grows"),
        ("DELETE FROM head", "only grows"),
        ("UPDATE meta SET value = 'bob' WHERE key = 'reader'", "never changed"),
        ("INSERT INTO events SELECT 9, kind, item, case_id, part, session, practice, repeat, scores, confidence, comment, seconds, view, "
         "time, prev, 'x' FROM events WHERE seq = 6", "does not follow"),
    ],
)  # fmt: skip
def test_sqlite_itself_refuses_changes(store_file, statement, told):
    db = sqlite3.connect(store_file)
    with pytest.raises(sqlite3.IntegrityError, match=told):
        db.execute(statement)
    db.close()
    assert read_chain(store_file).problems == []


def tampered(path: Path, *statements: str) -> list[str]:
    """Problems of a store in which somebody switched the guards off, changed something, and put them back."""
    db = sqlite3.connect(path)
    guards = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in guards:
        db.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        db.execute(statement)
    for _, sql in guards:
        db.execute(sql)
    db.commit()
    db.close()
    return read_chain(path).problems


@pytest.mark.parametrize(
    "statements,told",
    [
        (["UPDATE events SET scores = '{\"realism\": 5}' WHERE seq = 3"], ["event 3 (item 3, case c3) was changed after it was stored"]),
        (["UPDATE events SET seconds = 1.3 WHERE seq = 6"], ["event 6 (item 6, case c6) was changed after it was stored"]),
        (["UPDATE events SET time = time || ' ' WHERE seq = 1"], ["event 1 (item 1, case c1) was changed"]),
        (["DELETE FROM events WHERE seq = 4"], ["event 4 missing before event 5 (item 5, case c5)"]),
        (["DELETE FROM events WHERE seq > 4"], ["events 5 to 6 missing at the end"]),
        (["DELETE FROM events WHERE seq > 4", "UPDATE head SET seq = 4"], ["the last event is 4, the store's own record says 4"]),
        (["UPDATE events SET seq = 99 WHERE seq = 2", "UPDATE events SET seq = 2 WHERE seq = 3", "UPDATE events SET seq = 3 WHERE seq = 99"],
         ["event 2 (item 3, case c3) does not follow the event before it", "event 2 (item 3, case c3) was changed"]),
        (["DELETE FROM events WHERE seq = 3", "UPDATE events SET seq = seq - 1 WHERE seq > 3", "UPDATE head SET seq = 5"],
         ["event 3 (item 4, case c4) does not follow the event before it", "event 3 (item 4, case c4) was changed"]),
    ],
)  # fmt: skip
def test_tampering_is_found_and_named(store_file, statements, told):
    problems = tampered(store_file, *statements)
    for line in told:
        assert any(problem.startswith(line) for problem in problems), problems


def test_missing_guards_are_told(store_file):
    db = sqlite3.connect(store_file)
    db.execute("DROP TRIGGER events_stay")
    db.commit()
    db.close()
    assert read_chain(store_file).problems == ["the guards against changes were removed"]


def test_a_chain_made_anew_does_not_fit_the_receipt(store_file):
    """Whoever can write the file can also compute hashes; the receipt that the reader kept finds it."""
    head = read_chain(store_file).head
    receipt = {"study": "study1", "reader": "ann", "events": head.seq, "hash": head.hash, "time": ""}
    (store_file.parent / "ann.receipt.json").write_text(json.dumps(receipt))
    assert read_chain(store_file).problems == []
    statements, prev = [], first_link("study1", "ann", "digest")
    for item in range(1, 7):
        row = values(item, 5 if item == 2 else 3) | {"practice": 0}
        row["scores"] = json.dumps(row["scores"])
        digest = event_hash(item, row, prev)
        statements.append(
            f"UPDATE events SET scores = '{row['scores']}', prev = '{prev}', hash = '{digest}' WHERE seq = {item}"
        )
        prev = digest
    problems = tampered(store_file, *statements, f"UPDATE head SET hash = '{prev}'")
    assert problems == ["event 6 is not the one in the receipt ann.receipt.json: events up to it were changed"]


def test_a_tail_cut_off_consistently_does_not_fit_the_receipt(store_file):
    chain = read_chain(store_file)
    receipt = {"events": chain.head.seq, "hash": chain.head.hash}
    (store_file.parent / "ann.receipt.json").write_text(json.dumps(receipt))
    problems = tampered(
        store_file, "DELETE FROM events WHERE seq > 4", f"UPDATE head SET seq = 4, hash = '{chain.events[3].hash}'"
    )
    assert problems == ["events 5 to 6 missing at the end: the receipt ann.receipt.json says 6"]
    (store_file.parent / "ann.receipt.json").write_text("{")
    assert read_chain(store_file).problems == ["the receipt ann.receipt.json is damaged"]


def test_a_full_disk_is_one_line_and_nothing_is_half_stored(tmp_path):
    store = RatingStore(tmp_path / "ann.sqlite", "study1", "ann", "digest")
    store.append(store.head, **values(1))
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to run out of space
    with pytest.raises(InputError) as caught:
        for item in range(2, 2000):
            store.append(store.head, **values(item) | {"comment": "x" * 500})
    assert "the disk is full: the last rating was NOT stored" in str(caught.value) and "\n" not in str(caught.value)
    stored = store.head.seq
    store._db.execute(f"PRAGMA max_page_count = {pages + 50}")
    assert store.append(store.head, **values(50)).seq == stored + 1
    assert store.problems() == []
    store.close()


def test_power_loss_leaves_a_beginning_of_the_chain(tmp_path):
    """The write-ahead log cut off anywhere, as by a power failure: the store opens, what is in it is in order, and rating goes on."""
    store = RatingStore(tmp_path / "ann.sqlite", "study1", "ann", "digest")
    store._db.execute("PRAGMA wal_autocheckpoint=0")  # so that the events are in the log only
    for item in range(1, 9):
        store.append(store.head, **values(item))
    main, log = (tmp_path / "ann.sqlite").read_bytes(), (tmp_path / "ann.sqlite-wal").read_bytes()
    kept = []
    for cut in np.linspace(0, len(log), 24).astype(int):
        place = tmp_path / f"cut{cut}"
        place.mkdir()
        (place / "ann.sqlite").write_bytes(main)
        (place / "ann.sqlite-wal").write_bytes(log[:cut])
        again = RatingStore(place / "ann.sqlite", "study1", "ann", "digest")
        assert again.problems() == []
        kept.append(again.head.seq)
        assert again.append(again.head, **values(50)).seq == kept[-1] + 1
        again.close()
        assert read_chain(place / "ann.sqlite").problems == []
    assert kept == sorted(kept) and kept[0] == 0 and kept[-1] == 8 and len(set(kept)) > 5
    store.close()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match="permissions"):
        RatingStore(tmp_path / "locked" / "ann.sqlite", "study1", "ann", "digest")


def test_an_empty_file_is_no_store_yet(tmp_path):
    path = tmp_path / "ann.sqlite"
    assert not has_store(path)
    path.touch()
    assert not has_store(path)
    sqlite3.connect(path).execute("PRAGMA journal_mode=WAL").connection.close()
    assert path.stat().st_size > 0 and not has_store(path)
    assert has_store(filled(path, 1))
    path.write_bytes(b"x" * 5000)
    assert has_store(path)


def test_a_file_that_is_no_store(tmp_path):
    (tmp_path / "ann.sqlite").write_bytes(b"not a database " * 400)
    with pytest.raises(InputError, match="the file is damaged"):
        RatingStore(tmp_path / "ann.sqlite", "study1", "ann", "digest")
    with pytest.raises(InputError, match="not a store of ratings, or damaged"):
        read_chain(tmp_path / "ann.sqlite")
    with pytest.raises(InputError, match="no such file"):
        read_chain(tmp_path / "bob.sqlite")
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE meta (key, value)").connection.close()
    with pytest.raises(InputError, match="not a store of ratings"):
        read_chain(tmp_path / "other.sqlite")


@pytest.mark.parametrize("study,reader,digest,what", [("s2", "ann", "digest", "study"), ("study1", "bob", "digest", "reader"),
                                                      ("study1", "ann", "other", "version of study.json")])  # fmt: skip
def test_ratings_of_something_else_are_refused(store_file, study, reader, digest, what):
    with pytest.raises(InputError, match=f"belong to another {what}"):
        RatingStore(store_file, study, reader, digest)


def test_a_network_share_gets_a_rollback_journal(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "on_network_share", lambda path: True)
    store = RatingStore(tmp_path / "ann.sqlite", "study1", "ann", "digest")
    assert "network share" in store.note and store._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    store.append(store.head, **values(1))
    store.close()
    assert len(read_chain(tmp_path / "ann.sqlite").events) == 1


def test_no_write_ahead_log_falls_back_with_a_note(tmp_path, monkeypatch):
    class NoWal(sqlite3.Connection):
        def execute(self, statement, *arguments):
            return super().execute(statement.replace("journal_mode=WAL", "journal_mode=DELETE"), *arguments)

    real = sqlite3.connect
    monkeypatch.setattr(store_module.sqlite3, "connect", lambda *a, **k: real(*a, factory=NoWal, **k))
    store = RatingStore(tmp_path / "ann.sqlite", "study1", "ann", "digest")
    assert "does not allow SQLite's write-ahead log" in store.note
    store.append(store.head, **values(1))
    store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows shares by their path")
@pytest.mark.parametrize(
    "path,expected",
    [
        ("/home/ann/s", False),
        ("/mnt/share/s/ann.sqlite", True),
        ("/mnt/share two/s", True),
        ("/mnt/share/disk/s", False),
        ("/mnt/sharex/s", False),
    ],
)
def test_network_shares_are_known_by_their_mount(path, expected):
    mounts = "/dev/sda1 / ext4 rw 0 0\n//nas/x /mnt/share cifs rw 0 0\nnas:/y /mnt/share\\040two nfs4 rw 0 0\n/dev/sdb1 /mnt/share/disk xfs rw 0 0\n"
    assert on_network_share(Path(path), mounts) is expected


KILLER = """
import os, random, signal, struct, sys, time
from PASTALib.study.chain import has_store, read_chain
from PASTALib.study.session import ReaderSession, open_study

study, rng = open_study(sys.argv[1]), random.Random(4)
path, acknowledged, problems, begun, stored = study.store_path("ann"), [], [], 0, {}
for number in range(100):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        session = ReaderSession(study, "ann")
        os.write(writing, struct.pack("ii", session.item.item, 0))
        while session.item is not None:
            event = session.rate({"realism": 1 + session.item.item % 5})
            os.write(writing, struct.pack("ii", event.item, event.seq))
        os._exit(0)
    os.close(writing)
    told, wanted = b"", 8 * rng.choice((0, 1, 1, 2, 3, 5, 8))  # opening, between the first ratings, later
    while len(told) < wanted:
        told += os.read(reading, wanted - len(told))
    time.sleep(rng.uniform(0, 0.01))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told += os.read(reading, 1 << 20)
    os.close(reading)
    pairs = [struct.unpack_from("ii", told, at) for at in range(0, len(told) - 7, 8)]
    if pairs:
        begun += 1
        if pairs[0][0] != len(stored) + 1:  # items are rated in order, so the next one is known
            problems.append(("resumed at", pairs[0][0], "with", len(stored), "stored"))
        acknowledged += pairs[1:]
    stored = {event.seq: event.item for event in read_chain(path).events} if has_store(path) else {}
    lost = [pair for pair in acknowledged if stored.get(pair[1]) != pair[0]]
    if lost or len(set(stored.values())) != len(stored):
        problems.append(("lost", lost, "twice", len(stored) - len(set(stored.values()))))
with ReaderSession(study, "ann") as session:
    final = read_chain(path)
    print(len(acknowledged), len(final.events), session.item.item, begun, len(final.problems), problems, sep=";")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill -9")
def test_killed_a_hundred_times(tmp_path):
    """kill -9 at random moments of opening, rating and acknowledging: nothing acknowledged is lost, nothing is there twice."""
    anchors = {str(n): "a" for n in range(1, 6)}
    question = {"key": "realism", "text": "?", "anchors": anchors}
    cases = {
        f"c{n}": {"lesion_type": "liver_tumor", "pointer_ras": [0, 0, 0], "extent_mm": [9, 9, 9]} for n in range(1500)
    }
    data = {
        "schema": "pasta-study", "version": 1, "study_id": "s", "name": "n", "title": "t", "sessions": 1, "washout_days": 0, "practice": [],
        "windows": {"liver_tumor": [80, 250]}, "parts": {"realism": {"title": "", "instructions": "", "questions": [question]}},
        "cases": cases, "readers": {"ann": [[name, "realism", 1, 0, 0] for name in cases]},
    }  # fmt: skip
    (tmp_path / "study.json").write_text(json.dumps(data))
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    acknowledged, stored, following, begun, broken, problems = done.stdout.strip().split(";")
    assert problems == "[]" and broken == "0"
    assert int(acknowledged) <= int(stored) <= int(acknowledged) + 100
    assert int(following) == int(stored) + 1
    assert int(begun) > 60 and int(acknowledged) > 100  # the kills did fall into the rating as well
