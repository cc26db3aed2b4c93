"""A reader at work: order of cases, going back, skipping, pauses, washout, taking up after leaving, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from PASTALib.errors import InputError
from PASTALib.study.session import ReaderSession, open_study

DAY = 86400.0


class Clock:
    def __init__(self):
        self.now = 1.7e9

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def public_study(folder: Path, order: list, **more) -> Path:
    """A study.json without images: what a session needs."""
    anchors = {str(n): f"anchor {n}" for n in range(1, 6)}
    part = {
        "title": "P",
        "instructions": "Rate.",
        "questions": [{"key": "realism", "text": "How?", "anchors": anchors}],
    }
    two = part | {"questions": [{"key": key, "text": key, "anchors": anchors} for key in ("shape", "density")]}
    about = {
        "lesion_type": "liver_tumor",
        "pointer_ras": [0, 0, 0],
        "extent_mm": [50, 50, 50],
        "report": [["Shape", "Irregular"]],
    }
    data = {
        "schema": "pasta-study", "version": 1, "study_id": "s1", "name": "n", "title": "t", "sessions": 3, "washout_days": 0, "practice": [],
        "windows": {"liver_tumor": [80, 250]}, "parts": {"realism": part, "description": two}, "cases": {row[0]: about for row in order},
        "readers": {"ann": order, "bob": order[::-1]},
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "study.json").write_text(json.dumps(data | more))
    return folder


def rows(count: int, part="realism", session=1, practice=0, first=0) -> list:
    return [[f"c{first + n}", part, session, practice, 0] for n in range(count)]


def case_of(session) -> str | None:
    return session.item and session.item.case


def test_cases_come_in_the_readers_own_order_and_end(tmp_path, clock):
    study = open_study(public_study(tmp_path / "s", rows(3)))
    with ReaderSession(study, "bob", clock) as session:
        seen = []
        while session.item:
            assert [item.case for item in session.upcoming(5)] == ["c2", "c1", "c0"][len(seen) + 1 :]
            seen.append(session.item.case)
            session.rate({"realism": 5})
        assert seen == ["c2", "c1", "c0"]
        assert session.finished and session.progress == (3, 3) and session.blocked is None and session.questions == []
        with pytest.raises(InputError, match="nothing to rate"):
            session.rate({"realism": 5})


def test_an_item_holds_what_a_viewer_needs(tmp_path, clock):
    study = open_study(public_study(tmp_path / "s", rows(1, "description")))
    with ReaderSession(study, "ann", clock) as session:
        item = session.item
        assert (item.title, item.window, item.extent_mm, item.report) == (
            "Liver tumor",
            (80, 250),
            (50, 50, 50),
            [("Shape", "Irregular")],
        )
        assert item.image == study.folder / "cases" / "c0.nrrd"
        assert [q.key for q in session.questions] == ["shape", "density"]
        assert session.questions[0].anchors[5] == "anchor 5"


def test_a_session_goes_on_where_it_was_left(tmp_path, clock):
    study = open_study(public_study(tmp_path / "s", rows(4)))
    with ReaderSession(study, "ann", clock) as session:
        session.rate({"realism": 2})
        session.rate({"realism": 3})
    with ReaderSession(study, "ann", clock) as session:
        assert case_of(session) == "c2" and session.progress == (2, 4)
        assert session.back() and session.item.scores == {"realism": 3}
        session.rate({"realism": 1})
        assert case_of(session) == "c2"  # a change does not send the reader back to what is rated
    with ReaderSession(study, "ann", clock) as session:
        session.back()
        assert session.item.scores == {"realism": 1} and session.progress == (2, 4)


def test_back_and_forward_stay_within_what_was_seen(tmp_path, clock):
    study = open_study(public_study(tmp_path / "s", rows(4)))
    with ReaderSession(study, "ann", clock) as session:
        assert not session.back() and not session.forward()
        session.rate({"realism": 2})
        session.rate({"realism": 2})
        assert session.back() and session.back() and case_of(session) == "c0" and not session.back()
        assert session.forward() and session.forward() and case_of(session) == "c2" and not session.forward()


def test_skipped_cases_come_at_the_end_of_their_part(tmp_path, clock):
    study = open_study(public_study(tmp_path / "s", rows(3) + rows(1, "description", first=3)))
    with ReaderSession(study, "ann", clock) as session:
        session.skip()
        assert case_of(session) == "c1"
    with ReaderSession(study, "ann", clock) as session:  # the skip is remembered
        assert case_of(session) == "c1"
        session.skip()
        session.rate({"realism": 3})
        assert case_of(session) == "c0"
        session.skip()
        assert case_of(session) == "c1"
        session.rate({"realism": 3})
        session.rate({"realism": 3})
        assert case_of(session) == "c3"


def test_what_a_later_part_tells_changes_nothing_in_an_earlier_one(tmp_path, clock):
    study = open_study(
        public_study(tmp_path / "s", rows(1, practice=1) + rows(2, first=1) + rows(1, "description", first=3))
    )
    with ReaderSession(study, "ann", clock) as session:
        for _ in range(3):
            session.rate({"realism": 3})
            assert case_of(session) != "c0" and (case_of(session) != "c3" or not session.back())
        assert session.session_progress == (0, 1)


def test_time_on_the_image_leaves_pauses_out(tmp_path, clock):
    study = open_study(public_study(tmp_path / "s", rows(3)))
    with ReaderSession(study, "ann", clock) as session:
        clock.now += 4
        session.pause()
        session.pause()
        clock.now += 100
        session.resume()
        clock.now += 1.5
        event = session.rate({"realism": 3})
        assert event.seconds == 5.5 and event.time == "2023-11-14T22:15:05.500+00:00"
        clock.now += 30
        session.shown()
        clock.now += 2
        assert session.rate({"realism": 3}).seconds == 2
        clock.now -= 50  # the computer's clock was set back
        assert session.rate({"realism": 3}).seconds == 0


def test_a_washout_must_be_over(tmp_path, clock):
    study = open_study(public_study(tmp_path / "s", rows(2) + rows(2, session=2, first=2), washout_days=14))
    with ReaderSession(study, "ann", clock) as session:
        assert session.blocked is None and [i.case for i in session.upcoming(3)] == ["c1", "c2", "c3"][:3]
        session.rate({"realism": 3})
        session.rate({"realism": 3})
        assert (
            session.item is None and not session.finished and "session 2 of 3 begins on 2023-11-28" in session.blocked
        )
        assert session.upcoming(3) == []
        with pytest.raises(InputError, match="14 days lie between"):
            session.rate({"realism": 3})
    clock.now += 13.9 * DAY
    with ReaderSession(study, "ann", clock) as session:
        assert session.item is None and session.blocked
        clock.now += 0.2 * DAY
        session.resume()
        assert case_of(session) == "c2" and session.blocked is None
        session.rate({"realism": 3})
        assert case_of(session) == "c3"


@pytest.mark.parametrize(
    "scores,problem",
    [
        ({}, "realism has no score"),
        ({"realism": 0}, "realism is 0; give a whole number from 1 to 5"),
        ({"realism": 6}, "realism is 6"),
        ({"realism": 3.5}, "realism is 3.5"),
        ({"realism": True}, "realism is True"),
        ({"realism": "4"}, "realism is '4'"),
        ({"realism": 4, "beauty": 2}, "beauty is not asked"),
    ],
)
def test_bad_scores_are_not_stored(tmp_path, clock, scores, problem):
    study = open_study(public_study(tmp_path / "s", rows(2)))
    with ReaderSession(study, "ann", clock) as session:
        with pytest.raises(InputError, match=problem):
            session.rate(scores)
        assert session.progress == (0, 2) and case_of(session) == "c0" and session.receipt()["events"] == 0


def test_confidence_comment_and_view(tmp_path, clock):
    study = open_study(public_study(tmp_path / "s", rows(4)))
    with ReaderSession(study, "ann", clock) as session:
        event = session.rate({"realism": 3}, confidence=80, comment="Ränder", view={"level": 40})
        assert (event.confidence, event.comment, event.view) == (80.0, "Ränder", None)  # not agreed to
        for bad in (101, -1, float("nan"), "high"):
            with pytest.raises(InputError, match="confidence"):
                session.rate({"realism": 3}, confidence=bad)
        with pytest.raises(InputError, match="2001 characters"):
            session.rate({"realism": 3}, comment="x" * 2001)
    with ReaderSession(study, "ann", clock, view_summaries=True) as session:
        assert session.rate({"realism": 3}, view={"window": [40, 400], "slices": 12}).view == {
            "window": [40, 400],
            "slices": 12,
        }
        with pytest.raises(InputError, match="summary of the view"):
            session.rate({"realism": 3}, view={"image": object()})


def test_two_windows_of_one_reader_do_not_mix(tmp_path, clock):
    study = open_study(public_study(tmp_path / "s", rows(4)))
    with ReaderSession(study, "ann", clock) as one, ReaderSession(study, "ann", clock) as other:
        one.rate({"realism": 3})
        with pytest.raises(InputError, match="ann is rating in another window"):
            other.rate({"realism": 4})
        one.rate({"realism": 3})
    with ReaderSession(study, "ann", clock) as session:
        assert session.progress == (2, 4)


def test_closed_unknown_damaged(tmp_path, clock):
    folder = public_study(tmp_path / "s", rows(2))
    study = open_study(folder)
    with pytest.raises(InputError, match="no reader 'eve' in this study; use one of ann, bob"):
        ReaderSession(study, "eve", clock)
    (folder / "closed").mkdir()
    (folder / "closed" / "closure.json").write_text("{}")
    with pytest.raises(InputError, match="the study is closed"):
        ReaderSession(study, "ann", clock)
    with pytest.raises(InputError, match="is not a study: no study.json in it"):
        open_study(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        open_study(tmp_path / "nowhere")
    for text in ("{", "[]", '{"schema": "pasta-study", "version": 99}', '{"schema": "pasta-study", "version": 1}'):
        (folder / "study.json").write_text(text)
        with pytest.raises(InputError, match="study.json is"):
            open_study(folder)


def test_the_receipt_is_left_beside_the_ratings(tmp_path, clock):
    study = open_study(public_study(tmp_path / "s", rows(2)))
    with ReaderSession(study, "ann", clock) as session:
        event = session.rate({"realism": 3})
    receipt = json.loads((study.folder / "ratings" / "ann.receipt.json").read_text())
    assert (receipt["reader"], receipt["events"], receipt["hash"]) == ("ann", 1, event.hash)
    assert sorted(path.name for path in (study.folder / "ratings").iterdir()) == ["ann.receipt.json", "ann.sqlite"]
    session.close()
    with pytest.raises(InputError, match="session of ann is closed"):
        session.rate({"realism": 3})
