"""Copies of readers are merged, the study is closed, signed and joined with the truth; what is refused on the way."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sqlite3

import pytest

from PASTALib.errors import InputError
from PASTALib.study.chain import read_chain
from PASTALib.study.close import (
    COLUMNS,
    close_study,
    closed_table,
    closure_problems,
    missing_ratings,
    ratings_table,
    write_table,
)
from PASTALib.study.create import hand_out
from PASTALib.study.merge import current_chains, merge_ratings
from PASTALib.study.package import open_study
from PASTALib.study.seal import StudyKey
from PASTALib.study.session import ReaderSession
from PASTALib.study.store import RatingStore


@pytest.fixture
def copies(make_study, tmp_path):
    """Function: design fields -> (study, key, copy for ann, copy for bob)."""

    def make(**fields):
        study, key = make_study(**fields)
        return study, key, *(open_study(hand_out(study, tmp_path / name)) for name in ("for-ann", "for-bob"))

    return make


def test_copies_of_several_readers_come_together(copies, rate_all):
    study, key, ann, bob = copies(repeats=3, practice=1)
    rate_all(ann, "ann", score=2)
    rate_all(bob, "bob", 5)
    merged = merge_ratings(study, [ann.folder, bob.store_path("bob")])
    assert [(m.reader, m.events, m.new) for m in merged] == [("ann", 17, 17), ("bob", 5, 5)]
    assert missing_ratings(study, current_chains(study)) == {"bob": (5, 17)}
    rate_all(bob, "bob")
    assert [(m.reader, m.new) for m in merge_ratings(study, [ann.folder, bob.folder])] == [("ann", 0), ("bob", 12)]
    assert missing_ratings(study, current_chains(study)) == {}
    assert (study.folder / "ratings" / "ann.receipt.json").is_file()
    assert [chain.problems for chain in current_chains(study)] == [[], []]


def test_one_reader_on_two_copies(copies, rate_all):
    """One copy continues the other: merged, in whatever order. Both were rated on: refused, nothing changed."""
    study, _, first, second = copies()
    rate_all(first, "ann", 3)
    for end in ("ann.sqlite", "ann.receipt.json"):
        shutil.copy(first.folder / "ratings" / end, second.folder / "ratings" / end)
    rate_all(second, "ann", 4)
    merge_ratings(study, [second.folder, first.folder])
    assert len(current_chains(study)[0].events) == 7
    assert merge_ratings(study, [first.folder])[0].new == 0
    assert len(current_chains(study)[0].events) == 7
    rate_all(first, "ann", 1, score=1)
    with pytest.raises(InputError, match="fork at event 4 .cases") as caught:
        merge_ratings(study, [first.folder])
    assert "\n" not in str(caught.value) and "decide which one counts" in str(caught.value)
    assert len(current_chains(study)[0].events) == 7


def test_a_reader_may_go_on_in_the_merged_study(copies, rate_all):
    study, _, ann, _ = copies()
    rate_all(ann, "ann", 4)
    merge_ratings(study, [ann.folder])
    with ReaderSession(study, "ann") as session:
        assert session.progress == (4, 12)
    assert rate_all(study, "ann") == 8


def test_what_is_not_merged(copies, make_study, rate_all, tmp_path):
    study, _, ann, bob = copies()
    other, _ = make_study("other")
    rate_all(other, "ann", 2)
    rate_all(ann, "ann", 5)
    for sources, told in (
        ([other.folder], "ratings of another study"),
        ([bob.folder], "holds no ratings"),
        ([tmp_path / "nowhere"], "does not exist"),
        ([ann.folder / "study.json"], "not a store of ratings"),
        ([], "nothing to merge"),
    ):
        with pytest.raises(InputError, match=told):
            merge_ratings(study, sources)
    db = sqlite3.connect(ann.store_path("ann"))
    guards = db.execute("SELECT name, sql FROM sqlite_master WHERE name = 'events_stay'").fetchone()
    db.execute("DROP TRIGGER events_stay")
    db.execute("UPDATE events SET scores = '{\"realism\": 1}' WHERE seq = 2")
    db.execute(guards[1])
    db.commit()
    db.close()
    rate_all(bob, "bob", 5)
    with pytest.raises(
        InputError, match="tampered with or damaged: event 2 .item 2, case c.* was changed after it was stored"
    ):
        merge_ratings(study, [bob.folder, ann.folder])
    assert current_chains(study) == []  # nor was bob's taken: nothing is written unless all is in order


def test_a_chain_that_the_study_cannot_have_made(make_study, rate_all):
    """Right hashes, but another case than the reader's order has there, or a score nobody can give."""
    study, _ = make_study()
    rate_all(study, "ann", 2)
    for change, told in (
        ({"case_id": "c00000000"}, "event 3 is about item 3, case c00000000, which is not in the order of ann"),
        ({"item": 99}, "event 3 is about item 99"),
        ({"scores": {"realism": 9}}, "event 3 .item 3.* holds scores that were not asked for"),
        ({"scores": {"beauty": 3}}, "holds scores that were not asked for"),
    ):
        copy = study.store_path("ann").with_name("copy.sqlite")
        shutil.copy(study.store_path("ann"), copy)
        item = study.items("ann")[2]
        values = {
            "kind": "rating", "item": 3, "case_id": item.case, "part": item.part, "session": 1, "practice": False, "repeat": 0, "scores":
            {"realism": 3}, "confidence": None, "comment": "", "seconds": 1.0, "view": None, "time": "2026-01-01T00:00:00.000+00:00",
        }  # fmt: skip
        store = RatingStore(copy, study.study_id, "ann", study.digest)
        store.append(store.head, **(values | change))
        store.close()
        assert read_chain(copy).problems == []
        with pytest.raises(InputError, match=told):
            merge_ratings(study, [copy])


def test_the_table_has_the_last_rating_and_its_truth(make_study, rate_all):
    study, key = make_study(practice=1, repeats=2)
    with ReaderSession(study, "ann") as session:
        first = session.item
        session.rate({"realism": 1}, comment="hm")
        session.back()
        session.rate({"realism": 5}, confidence=60)
        session.skip()
    rows = ratings_table(study)
    assert len(rows) == 1 and tuple(rows[0]) == COLUMNS
    assert rows[0] | {"seconds": 0, "time": ""} == {
        "reader": "ann", "part": "realism", "case": first.case, "lesion_type": first.lesion_type, "truth": "", "question": "realism",
        "score": 5, "confidence": 60.0, "seconds": 0, "repeat": 0, "session": 1, "practice": 1, "time": "",
    }  # fmt: skip
    rate_all(study, "ann")
    rows = ratings_table(study, key)
    assert len(rows) == 16 and {row["truth"] for row in rows} == {"real", "synthetic"}
    assert all(row["truth"] == key.cases[row["case"]]["truth"] for row in rows)
    assert sum(row["repeat"] for row in rows) == 2 and sum(row["practice"] for row in rows) == 2


def test_closing(make_study, rate_all):
    study, key = make_study(repeats=2)
    for reader in ("ann", "bob"):
        rate_all(study, reader)
    folder = close_study(study, key)
    assert study.closed and folder == study.folder / "closed"
    with (folder / "ratings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 28 and tuple(rows[0]) == COLUMNS and {row["truth"] for row in rows} == {"real", "synthetic"}
    assert closed_table(study) == ratings_table(study, key)
    assert closure_problems(study, key) == []
    assert [path.name for path in study.folder.iterdir() if path.name.startswith(".")] == []
    for action in (
        lambda: close_study(study, key),
        lambda: merge_ratings(study, [study.folder]),
        lambda: ReaderSession(study, "ann"),
    ):
        with pytest.raises(InputError, match="closed"):
            action()


def test_closing_waits_for_everybody(make_study, rate_all):
    study, key = make_study()
    with pytest.raises(InputError, match="nobody has rated anything"):
        close_study(study, key, incomplete=True)
    rate_all(study, "ann")
    rate_all(study, "bob", 3)
    with pytest.raises(InputError, match="not everything is rated .bob 3 of 12"):
        close_study(study, key)
    close_study(study, key, incomplete=True)
    assert json.loads((study.folder / "closed" / "closure.json").read_text())["content"]["missing"] == {"bob": [3, 12]}


def test_a_key_for_other_cases_does_not_close(make_study, rate_all):
    study, key = make_study()
    rate_all(study, "ann", 1)
    with pytest.raises(InputError, match="do not hold the same cases"):
        close_study(study, StudyKey(study.study_id, 1, {}), incomplete=True)


@pytest.mark.parametrize("what", ["rating made anew", "store gone", "tail cut", "table", "closure", "study.json"])
def test_changes_after_closing_are_found(make_study, rate_all, what):
    """Also by somebody who makes a chain that is right in itself: the lead's signature does not fit."""
    study, key = make_study()
    for reader in ("ann", "bob"):
        rate_all(study, reader)
    close_study(study, key)
    store = study.store_path("ann")
    told = "the ratings of ann were changed: 12 events when closed, {} now"
    if what == "rating made anew":
        store.unlink()
        (study.folder / "closed").rename(study.folder / "aside")
        (study.folder / "ratings" / "ann.receipt.json").unlink()
        rate_all(study, "ann", score=1)
        (study.folder / "aside").rename(study.folder / "closed")
        told = told.format(12)
        assert read_chain(store).problems == []
    elif what == "store gone":
        store.unlink()
        told = "the ratings of ann are gone"
    elif what == "tail cut":
        db = sqlite3.connect(store)
        db.execute("DROP TRIGGER events_remain")
        db.execute("DELETE FROM events WHERE seq > 10")
        db.commit()
        db.close()
        told = "events 11 to 12 missing at the end"
    elif what == "table":
        table = study.folder / "closed" / "ratings.csv"
        table.write_text(table.read_text().replace("synthetic", "real", 1))
        told = "ratings.csv is not as it was written"
    elif what == "closure":
        path = study.folder / "closed" / "closure.json"
        closure = json.loads(path.read_text())
        closure["content"]["readers"]["ann"]["events"] = 11
        path.write_text(json.dumps(closure))
        told = "the lead's signature does not fit"
    else:
        path = study.folder / "study.json"
        path.write_text(path.read_text().replace("A small study", "A large study"))
        study = open_study(study.folder)
        told = "study.json was changed after closing"
    assert any(told in problem for problem in closure_problems(study, key)), closure_problems(study, key)


def test_tables_are_written_whole_or_not_at_all(tmp_path):
    rows = [dict.fromkeys(COLUMNS, 1) | {"reader": "Änne", "confidence": None}]
    write_table(rows, tmp_path / "t.csv")
    assert "Änne" in (tmp_path / "t.csv").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="must end in .csv or .parquet"):
        write_table(rows, tmp_path / "t.xlsx")
    with pytest.raises(InputError, match="cannot be written"):
        write_table(rows, tmp_path / "no" / "t.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_parquet_holds_the_same(make_study, rate_all, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    study, key = make_study()
    rate_all(study, "ann")
    rows = ratings_table(study, key)
    write_table(rows, tmp_path / "t.parquet")
    frame = pandas.read_parquet(tmp_path / "t.parquet")
    assert list(frame.columns) == list(COLUMNS) and len(frame) == len(rows)
    assert frame["score"].tolist() == [row["score"] for row in rows] and frame["confidence"].isna().all()


def test_the_closed_table_is_bound_to_the_signature(make_study, rate_all):
    study, key = make_study()
    rate_all(study, "ann")
    folder = close_study(study, key, incomplete=True)
    content = json.loads((folder / "closure.json").read_text())["content"]
    assert content["ratings_sha256"] == hashlib.sha256((folder / "ratings.csv").read_bytes()).hexdigest()
    assert content["readers"]["ann"]["hash"] == read_chain(study.store_path("ann")).head.hash
