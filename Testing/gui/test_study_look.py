"""How the panel of PASTAStudy looks and speaks: nothing cut, everything named, every parameter there, few lines of code."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree

import pytest

from Testing.gui.study_support import ROOT, Hand, make_study
from Testing.gui.test_synth_panel import really_cut

SIZES = [(400, 1.0), (600, 1.0), (400, 1.5)]


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("look"), realism=1, description=1, practice=1)


@pytest.fixture
def hand(host, layout, open_module, template, tmp_path, monkeypatch):
    import shutil

    import qt

    from PASTALib.gui import study_login, study_reading

    monkeypatch.setattr(study_reading, "BOUNCE_S", 0.0)
    qt.QSettings().remove(study_login.FOLDER)
    hand = Hand(open_module("PASTAStudy"))
    hand.folder = shutil.copytree(template, tmp_path / "study")
    return hand


def check(hand) -> None:
    for width, scale in SIZES:
        assert really_cut(hand.module.parent, width, scale) == [], (width, scale)


def test_nothing_is_cut_before_a_study_and_for_its_lead(hand):
    check(hand)
    hand.open(hand.folder)
    hand.module.choose(hand.ui.readerBox, "anna")
    for section in (hand.ui.leadSection, hand.ui.newSection, hand.ui.closeSection):
        section.collapsed = False
    hand.module.wait_until(lambda: hand.ui.statusLabel.text != "")
    check(hand)


def test_nothing_is_cut_while_reading(hand):
    hand.log_in(hand.folder, "anna")
    check(hand)
    hand.start()
    hand.ui.optionalSection.collapsed = False
    check(hand)
    hand.key("P")
    check(hand)
    hand.key("Return")
    while hand.item.part == "realism":
        hand.start() if hand.reading.page is not None else hand.rate(3)
    hand.start()
    hand.ui.optionalSection.collapsed = False
    check(hand)
    while not hand.session.finished:
        hand.rate(4)
    check(hand)


def test_every_control_has_a_tip_and_a_name(hand):
    import ctk
    import qt

    hand.log_in(hand.folder, "anna")
    hand.start()
    kinds = (qt.QAbstractButton, qt.QComboBox, qt.QLineEdit, ctk.ctkPathLineEdit)
    for name, widget in vars(hand.ui).items():
        if not isinstance(widget, kinds) or isinstance(widget, ctk.ctkCollapsibleButton) or name.startswith("qt_"):
            continue
        named = widget.accessibleName or (isinstance(widget, qt.QAbstractButton) and widget.text)
        assert named, f"{name} has no name for screen readers"
        assert widget.toolTip, f"{name} has no tooltip"
    for row in hand.reading.form.buttons.values():
        assert all(button.accessibleName and button.toolTip for button in row)


def test_every_parameter_has_its_widget(hand):
    tree = ElementTree.parse(ROOT / "PASTAStudy" / "Resources" / "UI" / "PASTAStudy.ui")
    bound = {entry.find("string").text for entry in tree.iter("property") if entry.get("name") == "SlicerParameterName"}
    assert bound == set(hand.module.widget.parameters.allParameters) == {"marks", "crosshair"}


def test_the_module_is_small_and_translatable():
    path = ROOT / "PASTAStudy" / "PASTAStudy.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350
    wrong = []
    for file in (path, *(ROOT / "PASTALib" / "gui").glob("study_*.py")):
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 350, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
                plain = len(node.args) == 1 and isinstance(node.args[0], ast.Constant)
                wrong += [] if plain else [f"{file.name}:{node.lineno}"]
    assert wrong == []


def test_the_self_test_runs(hand, host):
    import slicer

    slicer.selfTests["PASTAStudy"]()
    assert host.texts("popup")[-1] == "Test passed"


def test_help_leads_to_a_page_that_is_there(hand):
    assert "Docs/PASTAStudy.md" in hand.module.module.helpText and (ROOT / "Docs" / "PASTAStudy.md").is_file()


@pytest.mark.parametrize("key", ["1", "Backspace", "S", "P", "R", "M", "Return"])
def test_keys_belong_to_slicer_while_nobody_reads(hand, key):
    with pytest.raises(ValueError, match="no enabled shortcut"):
        hand.module.press_keys(key)
