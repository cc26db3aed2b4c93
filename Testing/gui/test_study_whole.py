"""A whole study through the panel: made by the lead, read by four readers by keys, closed, analysed; and what can go wrong for the lead."""

from __future__ import annotations

import csv
import json

import pytest

from Testing.gui.study_support import CAN_SEAL, KINDS, PASSPHRASE, READERS, Hand, make_pool, make_study


@pytest.fixture
def hand(host, layout, open_module, monkeypatch):
    import qt

    from PASTALib.gui import study_login, study_reading

    monkeypatch.setattr(study_reading, "BOUNCE_S", 0.0)
    qt.QSettings().remove(study_login.FOLDER)
    return Hand(open_module("PASTAStudy"))


def unfold(hand) -> None:
    for section in (hand.ui.leadSection, hand.ui.newSection, hand.ui.closeSection):
        section.collapsed = False


def finish(hand, timeout_s: float = 120.0) -> None:
    import slicer

    hand.module.wait_until(lambda: not hand.module.widget.lead.running, timeout_s)
    slicer.app.processEvents()  # after which the other buttons can be used again


def read_by_all(hand, folder) -> None:
    """Four readers, each with opinions of their own that do not depend on what a case is."""
    for number, reader in enumerate(READERS):
        hand.log_in(folder, reader)
        rated = hand.read_all(lambda item, number=number: 1 + (int(item.case[1:], 16) // (number + 1) + number) % 5)
        assert rated == 12 and hand.session.finished
        assert hand.reading.page.kind == "end" and "all 12 cases" in hand.ui.messageLabel.text
        hand.key("Return")


def close(hand, host, key_file) -> None:
    """Press Close; the key is opened by the passphrase in the panel, or by a file."""
    import qt

    if not CAN_SEAL:
        host.answer("QFileDialog.getOpenFileName", str(key_file))
    host.answer("messageDisplay", qt.QMessageBox.Yes)
    hand.module.press(hand.ui.closeButton)
    finish(hand)


@pytest.mark.slow
def test_twelve_cases_by_four_readers_closed_and_analysed(hand, tmp_path, host, monkeypatch):
    pytest.importorskip("matplotlib", reason="the report's figures are drawn with matplotlib")
    folder = make_study(tmp_path)
    read_by_all(hand, folder)
    unfold(hand)
    hand.module.wait_until(lambda: hand.ui.statusLabel.text != "")
    assert [line.split(": ")[1] for line in hand.ui.statusLabel.text.splitlines()] == ["12 of 12 rated"] * 4
    if CAN_SEAL:
        assert not hand.ui.closeButton.enabled  # without the passphrase
        hand.module.type_text(hand.ui.keyEdit, "not the passphrase")
    wrong_key = tmp_path / "wrong.json"
    wrong_key.write_text("{}")
    close(hand, host, wrong_key)
    assert ("passphrase" if CAN_SEAL else "is not the key") in host.texts("error")[-1] and not (
        folder / "closed"
    ).exists()
    host.clear()
    if CAN_SEAL:
        hand.module.type_text(hand.ui.keyEdit, PASSPHRASE)
    close(hand, host, tmp_path / "key.json")
    assert host.texts("error") == []
    page = folder / "closed" / "report" / "report.html"
    assert page.is_file() and "Realism" in page.read_text(encoding="utf-8")
    (opened,) = host.calls_of("QDesktopServices.openUrl")
    assert opened.arguments[0].toLocalFile() == str(page)
    with open(folder / "closed" / "ratings.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    realism = [row for row in rows if row["question"] == "realism"]
    assert len(realism) == 4 * 8 and len(rows) == 4 * (8 + 4 * 5)
    assert {row["truth"] for row in realism} == {"real", "synthetic"} and {row["lesion_type"] for row in rows} == set(
        KINDS
    )
    for row in realism:  # what was pressed is what is in the table
        number = READERS.index(row["reader"])
        assert int(row["score"]) == 1 + (int(row["case"][1:], 16) // (number + 1) + number) % 5
    assert "closed" in hand.ui.studyLabel.text and not hand.ui.closeButton.isVisible()
    results = json.loads((page.parent / "results.json").read_text())
    assert results
    hand.module.press(hand.ui.reportButton)  # shows it again
    assert len(host.calls_of("QDesktopServices.openUrl")) == 2


@pytest.mark.slow
def test_a_report_that_is_missing_is_made_without_the_key(hand, tmp_path, host):
    from PASTALib.study.close import close_study
    from PASTALib.study.seal import unlock
    from PASTALib.study.session import open_study

    pytest.importorskip("matplotlib", reason="the report's figures are drawn with matplotlib")
    folder = make_study(tmp_path, ("anna", "ben"), realism=1, description=0)
    for reader in ("anna", "ben"):
        hand.log_in(folder, reader)
        hand.read_all(lambda item: 1 + int(item.case[1:], 16) % 5)
        hand.key("Return")
    study = open_study(folder)
    key = {"passphrase": PASSPHRASE} if CAN_SEAL else {"key_file": tmp_path / "key.json"}
    close_study(study, unlock(folder, study.study_id, **key))
    hand.open(folder)
    hand.module.widget.login.look()
    unfold(hand)
    hand.module.press(hand.ui.reportButton)
    finish(hand)
    assert host.texts("error") == []
    assert (folder / "closed" / "report" / "report.html").is_file() and len(
        host.calls_of("QDesktopServices.openUrl")
    ) == 1


def test_a_study_is_made_from_two_folders(hand, tmp_path, host, monkeypatch):
    from PASTALib.study import design
    from PASTALib.study.session import open_study

    pytest.importorskip("cryptography", reason="the key of a study is sealed with cryptography")
    real, synthetic = make_pool(tmp_path / "a", "real", 3, 10), make_pool(tmp_path / "b", "synthetic", 5, 50)
    unfold(hand)
    ui = hand.ui
    assert not ui.newButton.enabled and "folders" in ui.newStatus.text
    ui.realPath.currentPath, ui.syntheticPath.currentPath = str(real), str(synthetic)
    assert "Name the readers" in ui.newStatus.text
    hand.module.type_text(ui.readersEdit, "eva, frank")
    hand.module.type_text(ui.passEdit, PASSPHRASE)
    assert "differ" in ui.newStatus.text
    hand.module.type_text(ui.againEdit, PASSPHRASE)
    assert ui.newButton.enabled and not ui.newStatus.isVisible()
    hand.module.choose(ui.presetBox, "paper")
    host.answer("QFileDialog.getExistingDirectory", str(tmp_path))
    hand.module.press(ui.newButton)
    finish(hand)
    assert "too few cases" in host.texts("error")[-1] and not (tmp_path / "study").exists()
    hand.module.choose(ui.presetBox, "sample")
    host.answer("QFileDialog.getExistingDirectory", str(tmp_path))
    hand.module.press(ui.newButton)
    assert not ui.sampleButton.enabled  # one after the other
    finish(hand)
    assert ui.folderPath.currentPath == str(tmp_path / "study") and "chosen above" in ui.newStatus.text
    assert open_study(tmp_path / "study").readers == ["eva", "frank"]
    assert ui.passEdit.text == ui.againEdit.text == "" and ui.sampleButton.enabled
    hand.module.choose(ui.readerBox, "frank")
    hand.module.press(ui.beginButton)
    hand.start()
    assert hand.reading.rating
    assert "sample" in design.load_presets()["presets"]


def test_making_can_be_cancelled(hand, tmp_path, host):
    pytest.importorskip("cryptography", reason="the key of a study is sealed with cryptography")
    unfold(hand)
    host.answer("QFileDialog.getExistingDirectory", str(tmp_path))
    hand.module.press(hand.ui.sampleButton)
    assert hand.ui.sampleButton.text == "Cancel"
    hand.module.press(hand.ui.sampleButton)
    finish(hand, 5)
    hand.module.wait_until(lambda: hand.ui.sampleButton.text == "Make the sample study")
    assert host.texts("error") == []


def test_copies_go_out_and_come_back(hand, tmp_path, host):
    folder = make_study(tmp_path, ("anna", "ben"), realism=1, description=0)
    hand.open(folder)
    unfold(hand)
    host.answer("QFileDialog.getExistingDirectory", str(tmp_path))
    hand.module.press(hand.ui.handOutButton)
    finish(hand)
    copy = tmp_path / "test-reader"
    assert sorted(path.name for path in copy.iterdir()) == ["cases", "ratings", "study.json"]
    hand.log_in(copy, "ben")
    hand.read_all(lambda item: 3)
    hand.key("Return")
    hand.open(folder)
    host.answer("QFileDialog.getExistingDirectory", str(copy))
    hand.module.press(hand.ui.copiesButton)
    assert "ben: 4 new of 4" in hand.ui.closeStatus.text
    hand.module.wait_until(lambda: "ben: 4 of 4 rated" in hand.ui.statusLabel.text)
    host.answer("QFileDialog.getExistingDirectory", str(tmp_path))
    hand.module.press(hand.ui.copiesButton)
    assert "holds no ratings" in host.texts("error")[-1]


def test_missing_packages_are_named(hand, tmp_path, host, monkeypatch):
    from PASTALib.gui import dependencies

    folder = make_study(tmp_path, ("anna",), realism=1, description=0)
    hand.open(folder)
    unfold(hand)
    if CAN_SEAL:
        hand.module.type_text(hand.ui.keyEdit, PASSPHRASE)
    else:
        host.answer("QFileDialog.getOpenFileName", str(tmp_path / "key.json"))
    monkeypatch.setattr(dependencies, "missing", lambda wanted: list(wanted))
    host.answer("pip_ensure", RuntimeError("refused by the user"))
    hand.module.press(hand.ui.closeButton)
    (error,) = host.texts("error")
    assert "matplotlib" in error and ("cryptography" in error or not CAN_SEAL) and not (folder / "closed").exists()
