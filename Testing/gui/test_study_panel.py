"""PASTAStudy through its widgets and keys: logging in, rating, going back, pauses, what is shown, and what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest

from PASTALib.study.session import ReaderSession, open_study
from Testing.gui.study_support import KINDS, Hand, file_voxels, make_study, shown_voxels


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A study of 12 cases that nobody has rated; copied for each test."""
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def study(template, tmp_path):
    import shutil

    return shutil.copytree(template, tmp_path / "study")


@pytest.fixture
def hand(host, layout, open_module, monkeypatch, tmp_path):
    """The opened module. A key counts at once: nobody's finger slips here."""
    import qt

    from PASTALib.gui import study_login, study_reading

    monkeypatch.setattr(study_reading, "BOUNCE_S", 0.0)
    qt.QSettings().remove(study_login.FOLDER)
    return Hand(open_module("PASTAStudy"))


@pytest.fixture
def rating(hand, study):
    """Anna before her first case."""
    hand.log_in(study, "anna")
    hand.start()
    return hand


def scores_of(study, reader) -> list[dict]:
    from PASTALib.study.chain import read_chain

    return [event.scores for event in read_chain(study / "ratings" / f"{reader}.sqlite").events]


# --- finding the way ---------------------------------------------------------------------------------------------------


def test_the_next_step_is_always_said(hand, study, tmp_path, host):
    ui = hand.ui
    assert "Choose the study's folder" in ui.studyLabel.text and not ui.beginButton.enabled
    assert not ui.readingWidget.isVisible() and not ui.readerBox.isVisible()
    hand.open(tmp_path)
    assert "not a study" in ui.studyLabel.text and "study.json" in ui.studyLabel.text
    hand.open(study)
    assert ui.studyLabel.text == "A small study. Now choose your name." and not ui.beginButton.enabled
    hand.module.choose(ui.readerBox, "ben")
    assert ui.beginButton.enabled and ui.beginButton.text == "Begin"
    hand.module.press(ui.beginButton)
    assert hand.reading.page.kind == "start" and "Realism" in ui.messageTitle.text
    assert "Keys: 1 to 5" in ui.messageLabel.text and not ui.caseWidget.isVisible()
    assert not ui.studySection.isVisible() and not ui.leadSection.isVisible()
    hand.module.press(ui.messageButton)
    hand.wait()
    assert ui.caseWidget.isVisible() and ui.questionLabel.text == "How realistic is this lesion?"
    assert ui.progressLabel.text == "0 of 12 rated, 12 left"
    hand.module.press(ui.leaveButton)
    assert ui.studySection.isVisible() and not ui.readingWidget.isVisible()
    assert hand.module.widget.login.reader == ""  # the next reader chooses
    hand.module.choose(ui.readerBox, "ben")
    assert ui.beginButton.text == "Continue as ben"
    assert host.texts("error") == []


def test_a_closed_study_is_told(hand, study):
    (study / "closed").mkdir()
    (study / "closed" / "closure.json").write_text("{}")
    hand.open(study)
    assert "closed" in hand.ui.studyLabel.text and not hand.ui.beginButton.enabled


def test_a_study_that_is_closed_meanwhile(hand, study, host):
    hand.open(study)
    hand.module.choose(hand.ui.readerBox, "anna")
    (study / "closed").mkdir()
    (study / "closed" / "closure.json").write_text("{}")
    hand.ui.beginButton.click()
    assert hand.session is None and "closed" in hand.ui.studyLabel.text


def test_the_folder_is_remembered_the_name_is_not(hand, study, open_module):
    hand.log_in(study, "anna")
    hand.module.press(hand.ui.leaveButton)
    hand.module.close()
    again = Hand(open_module("PASTAStudy"))
    assert again.ui.folderPath.currentPath == str(study) and again.module.widget.login.reader == ""


# --- rating ------------------------------------------------------------------------------------------------------------


def test_a_key_stores_the_score_and_shows_the_next_case(rating, study):
    first, second = rating.item, rating.session.upcoming()[0]
    assert (shown_voxels(rating) == file_voxels(first.image)).all()
    rating.key("4")
    assert scores_of(study, "anna") == [{"realism": 4}]  # on the disk already
    rating.wait()
    assert rating.item.case == second.case and (shown_voxels(rating) == file_voxels(second.image)).all()
    assert rating.ui.progressLabel.text == "1 of 12 rated, 11 left"


def test_the_buttons_say_what_the_scores_mean_and_work(rating, study):
    labels = [rating.label(f"anchor_{score}").text for score in range(1, 6)]
    assert labels[0] == "completely unrealistic" and labels[4] == "indistinguishable from real CT images"
    rating.module.press(rating.reading.form.buttons["realism"][1])
    rating.wait()
    assert scores_of(study, "anna") == [{"realism": 2}]


def test_going_back_shows_the_score_and_changes_it(rating, study):
    first = rating.item
    rating.rate(4)
    rating.rate(3)
    rating.key("Backspace")
    rating.wait()
    rating.key("Backspace")
    rating.wait()
    assert rating.item.case == first.case and (shown_voxels(rating) == file_voxels(first.image)).all()
    assert [button.checked for button in rating.reading.form.buttons["realism"]] == [False, False, False, True, False]
    rating.key("Backspace")
    assert "first case" in rating.ui.problemLabel.text and rating.item.case == first.case
    rating.key("Backspace", "Shift")  # forward
    rating.wait()
    assert rating.item.scores == {"realism": 3}
    rating.key("Backspace")
    rating.wait()
    rating.rate(1)
    assert scores_of(study, "anna") == [{"realism": 4}, {"realism": 3}, {"realism": 1}]  # nothing is overwritten
    assert rating.session.progress == (2, 12) and rating.item.scores == {}


def test_a_held_or_bouncing_key_counts_once(rating, study, monkeypatch):
    import qt

    from PASTALib.gui import study_reading

    assert not any(
        s.autoRepeat for s in rating.module.parent.findChildren(qt.QShortcut) if s.key == qt.QKeySequence("3")
    )
    monkeypatch.setattr(study_reading, "BOUNCE_S", 60.0)
    rating.key("3")
    assert scores_of(study, "anna") == []


def test_nobody_rates_what_is_not_shown_yet(rating, study, layout, monkeypatch):
    import threading

    from PASTALib.gui import study_cases

    may_read, load = threading.Event(), study_cases.load_case
    monkeypatch.setattr(study_cases, "load_case", lambda *given: may_read.wait(20) and load(*given))
    rating.reading.cases.forget()  # the next case must be read first
    rating.key("5")
    assert (
        not rating.reading.rating and not rating.ui.caseWidget.isVisible() and "Reading" in rating.ui.problemLabel.text
    )
    assert backgrounds(layout) == {None}  # the old image is gone
    rating.key("5")
    rating.key("P")
    rating.key("Return")
    may_read.set()
    rating.wait()
    assert scores_of(study, "anna") == [{"realism": 5}]
    assert (shown_voxels(rating) == file_voxels(rating.item.image)).all()


def test_skipped_cases_come_at_the_end(rating):
    skipped = rating.item.case
    rating.key("S")
    rating.wait()
    seen = []
    while rating.item.part == "realism" and rating.reading.page is None:
        seen.append(rating.item.case)
        rating.rate(3)
    assert seen[-1] == skipped and len(seen) == 8


def test_the_description_part_is_rated_row_by_row(rating, study):
    while rating.item.part == "realism":
        rating.rate(3)
    assert rating.reading.page.kind == "start" and "Accuracy" in rating.ui.messageTitle.text
    rating.start()
    ui, form, item = rating.ui, rating.reading.form, rating.item
    assert list(form.buttons) == ["shape", "density", "heterogeneity", "surface", "invasion"]
    texts = dict(item.report)
    shape = rating.label("told_shape")
    assert shape.text.startswith("\u25b6") and texts["Shape"].split(",")[0] in shape.text
    rating.key("Return")
    assert rating.item.case == item.case  # nothing is confirmed before all rows have a score
    for row, score in enumerate((5, 4, 3)):
        assert form.row == row
        rating.key(str(score))
    rating.key("Up")
    rating.key("2")  # another score for the third row
    assert form.row == 3 and not ui.confirmButton.enabled
    rating.key("4")
    rating.key("5")
    assert form.scores == {"shape": 5, "density": 4, "heterogeneity": 2, "surface": 4, "invasion": 5}
    before = len(scores_of(study, "anna"))
    rating.module.press(ui.confirmButton)
    rating.wait()
    assert scores_of(study, "anna")[before:] == [
        {"shape": 5, "density": 4, "heterogeneity": 2, "surface": 4, "invasion": 5}
    ]
    assert form.scores == {} and rating.item.case != item.case


def test_a_comment_is_typed_not_rated(rating, study):
    from PySide6.QtTest import QTest

    from PASTALib.study.chain import read_chain

    rating.ui.optionalSection.collapsed = False
    field = rating.ui.commentEdit
    rating.module.parent.activateWindow()
    field.setFocus()
    QTest.keyClicks(field, "12 mm, R side")
    assert field.text == "12 mm, R side" and scores_of(study, "anna") == []
    rating.module.choose(rating.ui.confidenceBox, "75 %")
    rating.ui.confidenceBox.setFocus()
    rating.key("4", widget=rating.ui.confidenceBox)
    rating.wait()
    (event,) = read_chain(study / "ratings" / "anna.sqlite").events
    assert (event.comment, event.confidence, event.scores) == ("12 mm, R side", 75.0, {"realism": 4})
    assert field.text == "" and rating.ui.confidenceBox.currentIndex == 0


def test_window_and_scrolling_are_stored_only_with_consent(hand, study):
    from PASTALib.study.chain import read_chain

    hand.log_in(study, "anna")
    hand.start()
    hand.rate(3)
    hand.module.press(hand.ui.leaveButton)
    hand.ui.viewsBox.checked = True
    hand.log_in(study, "ben")
    hand.start()
    hand.module.choose(hand.ui.windowBox, "Lung (1500 / -600 HU)")
    hand.rate(3)
    (anna,), (ben,) = (read_chain(study / "ratings" / f"{name}.sqlite").events for name in ("anna", "ben"))
    assert anna.view is None and ben.view["window"] == [1500.0, -600.0] and ben.view["windows"] == 2
    assert set(ben.view["slices"]) == {"axial", "coronal", "sagittal"}


def test_the_time_that_is_left_follows_the_readers_pace(rating):
    rating.session._timer = clock = Clock()
    for seconds in (60.0, 90.0, 600.0):  # one long look does not count for more
        rating.session.shown()
        clock.now += seconds
        assert "about" not in rating.ui.progressLabel.text
        rating.rate(3)
    assert rating.ui.progressLabel.text == "3 of 12 rated, 9 left (about 14 min)"


def test_long_times_are_told_in_hours():
    from PASTALib.gui.study_time import Pace, left_text

    pace = Pace()
    for _case in range(30):
        pace.add(20.0)
    assert left_text(30, 1930, pace.left_s(1900)) == "30 of 1930 rated, 1900 left (about 10.6 h)"
    assert left_text(5, 5, 0.0) == "5 of 5 rated, 0 left"


def test_a_share_is_remarked_on(hand, study, monkeypatch):
    from PASTALib.study import session

    original = session.RatingStore.__init__

    def noted(self, *given):
        original(self, *given)
        self.note = "ratings are kept on a network share"

    monkeypatch.setattr(session.RatingStore, "__init__", noted)
    hand.log_in(study, "anna")
    assert "Ratings are kept on a network share" in hand.ui.messageLabel.text


# --- the views ---------------------------------------------------------------------------------------------------------


def test_a_case_comes_with_its_window_at_its_lesion(rating, layout):
    window, level = rating.item.window[1], rating.item.window[0]
    assert rating.reading.view.window_now == (window, level)
    assert all(abs(view.ras_to_pixel(rating.item.pointer_ras)[2]) <= 0.51 for view in layout.slices.values())
    rating.module.choose(rating.ui.windowBox, "Bone (1800 / 400 HU)")
    assert rating.reading.view.window_now == (1800.0, 400.0)
    layout.jump_to((5.0, 6.0, 9.0))
    layout["Red"].zoom(20.0)
    rating.key("R")
    assert rating.reading.view.window_now == (window, level) and rating.ui.windowBox.currentIndex == 0
    assert all(abs(view.ras_to_pixel(rating.item.pointer_ras)[2]) <= 0.51 for view in layout.slices.values())
    assert layout["Red"].node.GetFieldOfView()[0] > 40.0


def test_a_window_that_was_changed_does_not_stay_for_the_next_case(rating):
    rating.module.choose(rating.ui.windowBox, "Lung (1500 / -600 HU)")
    rating.rate(3)
    assert rating.reading.view.window_now == rating.item.window[::-1]


def amber(view) -> int:
    """Pixels in the colour of the marks."""
    return int((abs(view.render().astype(int) - [255, 209, 64]).sum(axis=-1) < 40).sum())


def test_marks_are_drawn_alike_for_all_cases_and_toggled(rating, layout):
    counts = []
    for _case in range(4):
        counts.append([amber(view) for view in layout.slices.values()])
        rating.rate(3)
    assert min(min(row) for row in counts) > 40
    by_type = {}
    items = {item.case: item for item in rating.session.study.items("anna")}
    for row, item in zip(counts, rating.session.study.items("anna"), strict=False):
        by_type.setdefault(items[item.case].lesion_type, []).append(row)
    assert all(len({tuple(row) for row in rows}) == 1 for rows in by_type.values())
    rating.key("M")
    assert [amber(view) for view in layout.slices.values()] == [0, 0, 0] and not rating.ui.crosshairBox.enabled
    rating.rate(3)
    assert amber(layout["Red"]) == 0  # stays off
    rating.key("M")
    rating.module.press(rating.ui.crosshairBox)
    assert amber(layout["Red"]) > 100


def test_the_layout_is_taken_and_given_back(hand, study, layout):
    import slicer

    from PASTALib.mrml.study_view import LAYOUT

    manager = slicer.app.layoutManager()
    other = slicer.util.addVolumeFromArray(np.zeros((8, 8, 8)), name="other")
    layout.show(other)
    before = manager.layout
    hand.log_in(study, "anna")
    assert manager.layout == LAYOUT
    hand.start()
    shown = {view.logic.GetSliceCompositeNode().GetBackgroundVolumeID() for view in layout.slices.values()}
    assert shown == {hand.reading.view.node.GetID()}
    hand.module.press(hand.ui.leaveButton)
    assert manager.layout == before
    shown = {view.logic.GetSliceCompositeNode().GetBackgroundVolumeID() for view in layout.slices.values()}
    assert shown == {other.GetID()} and hand.reading.view.node is None


# --- pauses ------------------------------------------------------------------------------------------------------------


def backgrounds(layout) -> set:
    return {view.logic.GetSliceCompositeNode().GetBackgroundVolumeID() for view in layout.slices.values()}


def test_a_pause_hides_the_image_and_stops_the_time(rating, layout, study):
    rating.session._timer = clock = Clock()
    rating.session.shown()
    item = rating.item
    rating.key("P")
    assert backgrounds(layout) == {None} and amber(layout["Red"]) == 0 and not rating.ui.caseWidget.isVisible()
    clock.now += 1000.0
    rating.key("4")  # not while nothing is seen
    assert scores_of(study, "anna") == []
    rating.key("Return")
    assert rating.item.case == item.case and backgrounds(layout) != {None} and amber(layout["Red"]) > 40
    clock.now += 3.0
    rating.key("4")
    from PASTALib.study.chain import read_chain

    assert read_chain(study / "ratings" / "anna.sqlite").events[0].seconds == 3.0


class Clock:
    """Seconds that pass only when told."""

    now = 100.0

    def __call__(self):
        return self.now


def test_scores_that_are_not_confirmed_survive_a_pause(rating):
    while rating.item.part == "realism":
        rating.rate(3)
    rating.start()
    rating.key("5")
    rating.key("P")
    rating.key("Return")
    assert rating.reading.form.scores == {"shape": 5} and rating.reading.form.row == 1


def test_leaving_the_module_pauses(rating, layout, study):
    import slicer

    rating.rate(2)
    rating.module.exit()
    assert rating.reading.page.kind == "pause" and backgrounds(layout) == {None} and not rating.reading.keys.enabled
    rating.key("5")
    assert scores_of(study, "anna") == [{"realism": 2}]
    rating.module.enter()
    slicer.app.processEvents()
    rating.key("Return")
    rating.wait()
    rating.rate(5)
    assert scores_of(study, "anna") == [{"realism": 2}, {"realism": 5}]


def test_closing_the_scene_loses_nothing(rating, study):
    import slicer

    rating.rate(2)
    item = rating.item
    slicer.mrmlScene.Clear(0)
    assert rating.reading.page.kind == "pause"
    rating.key("Return")
    rating.wait()
    assert rating.item.case == item.case and (shown_voxels(rating) == file_voxels(item.image)).all()
    rating.rate(5)
    assert scores_of(study, "anna") == [{"realism": 2}, {"realism": 5}]


def test_the_module_opened_anew_goes_on_where_it_was_left(rating, study, open_module):
    rating.rate(2)
    rating.rate(3)
    item = rating.item
    rating.module.close()
    again = Hand(open_module("PASTAStudy"))
    again.log_in(study, "anna")
    assert "2 of 8 cases are rated" in again.ui.messageLabel.text and "Go on" in again.ui.messageButton.text
    again.start()
    assert again.item.item == item.item and (shown_voxels(again) == file_voxels(item.image)).all()


def test_practice_is_announced(hand, tmp_path):
    study = make_study(tmp_path, ("anna",), realism=1, description=0, practice=1)
    hand.log_in(study, "anna")
    assert "Practice" in hand.ui.messageTitle.text and "do not count" in hand.ui.messageLabel.text
    hand.start()
    assert "(practice)" in hand.ui.typeLabel.text
    for _case in range(2):
        hand.rate(3)
    assert hand.reading.page.kind == "start" and "Practice" not in hand.ui.messageTitle.text


def test_a_washout_is_waited_for(hand, tmp_path):
    study = make_study(tmp_path, ("anna",), realism=1, description=0, sessions=2, washout_days=14.0)
    hand.log_in(study, "anna")
    hand.start()
    for _case in range(2):
        hand.rate(3)
    assert hand.reading.page.kind == "wait" and "14 days" in hand.ui.messageLabel.text
    assert hand.reading.view.node is None or not hand.reading.rating
    hand.key("Return")  # leaves
    assert hand.session is None and hand.ui.studySection.isVisible()
    hand.log_in(study, "anna")
    assert hand.reading.page.kind == "wait"


# --- what goes wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["missing", "short"])
def test_a_case_that_cannot_be_read_is_skipped(hand, study, harm, host):
    with ReaderSession(open_study(study), "anna") as session:
        paths = [session.item.image, session.upcoming(2)[1].image]
    for path in paths:
        path.unlink() if harm == "missing" else path.write_bytes(path.read_bytes()[:1000])
    hand.log_in(study, "anna")
    hand.start()
    assert hand.reading.page.kind == "broken" and "tell the study lead" in hand.ui.messageLabel.text
    assert paths[0].name in hand.ui.messageLabel.text
    hand.module.press(hand.ui.secondButton)  # try again
    hand.wait()
    assert hand.reading.page.kind == "broken"
    hand.key("Return")
    hand.wait()
    assert hand.reading.rating and (shown_voxels(hand) == file_voxels(hand.item.image)).all()
    hand.rate(3)
    assert hand.reading.page.kind == "broken"  # the third one
    assert host.texts("error") == []


def test_a_full_disk_keeps_the_case(rating, study, host):
    item = rating.item
    database = rating.session._store._db
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    rating.session._store._db.execute("PRAGMA cache_size = 1")
    stored = 0
    while not host.texts("error"):
        case = rating.item.case
        rating.reading._ui.commentEdit.text = "a long remark " * 100  # fills the last page soon
        rating.key("4")
        rating.wait()
        stored += rating.item is not None and rating.item.case != case
        item = rating.item
        assert stored < 12
    assert "was not stored; the case stays" in host.texts("error")[0]
    assert rating.item.case == item.case and rating.reading.rating and "Not stored" in rating.ui.problemLabel.text
    assert not any(button.checked for button in rating.reading.form.buttons["realism"])
    database.execute("PRAGMA max_page_count = 100000")
    rating.key("2")
    rating.wait()
    assert scores_of(study, "anna") == [{"realism": 4}] * stored + [{"realism": 2}]


def test_two_types_have_their_windows(rating):
    windows = {item.lesion_type: item.window for item in rating.session.study.items("anna")}
    assert set(windows) == set(KINDS) and windows["liver_tumor"] != windows["kidney_cyst"]
