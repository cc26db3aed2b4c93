"""The panel itself: nothing is cut at narrow widths and with large fonts, every control has a name and a tip, keys are bound."""

from __future__ import annotations

import pytest

from Testing.gui.synth_support import hand, started  # noqa: F401  fixtures


def really_cut(panel, width: int, scale: float) -> list[str]:
    """What is cut off once all has found its place; of a collapsed section only the header is there, which is as it should be."""
    import ctk
    import slicer

    from Testing.slicerhost.screenshot import cut_off, font_scale

    collapsed = {button.name for button in panel.findChildren(ctk.ctkCollapsibleButton) if button.collapsed}
    with font_scale(scale):
        for _turn in range(5):
            panel.resize(width, max(panel.heightForWidth(width), panel.sizeHint.height()))
            slicer.app.processEvents()
        return [name for name in cut_off(panel, width) if name not in collapsed]


@pytest.mark.parametrize("width,scale", [(400, 1.0), (600, 1.0), (400, 1.5), (600, 1.5)])
def test_nothing_is_cut(hand, width, scale):  # noqa: F811
    panel = hand().module.parent
    assert really_cut(panel, width, scale) == []


@pytest.mark.parametrize("width,scale", [(400, 1.0), (600, 1.0), (400, 1.5)])
def test_nothing_is_cut_with_a_lesion(started, width, scale):  # noqa: F811
    started.parameters.anyPhase = True
    started.choose_type("Kidney stone")
    started.give_size(8.0)
    started.module.choose(started.ui.densityBox, "by HU difference")
    started.place("kidney", started.session.scan.organs)
    assert started.ui.notesLabel.isVisible(), "a stone goes to the calyces, and that is said"
    started.ui.lesionList.setCurrentRow(0)
    for section in ("scanSection", "refinementSection", "saveSection"):
        getattr(started.ui, section).collapsed = False
    assert really_cut(started.module.parent, width, scale) == []


def test_every_control_has_a_tip_and_a_name(started):  # noqa: F811
    import ctk
    import qt
    import slicer

    kinds = (
        qt.QAbstractButton,
        qt.QComboBox,
        qt.QAbstractSpinBox,
        qt.QLineEdit,
        qt.QAbstractItemView,
        ctk.ctkSliderWidget,
        ctk.ctkPathLineEdit,
        slicer.qMRMLNodeComboBox,
    )
    for name, widget in vars(started.ui).items():
        if not isinstance(widget, kinds) or isinstance(widget, ctk.ctkCollapsibleButton) or name.startswith("qt_"):
            continue
        named = widget.accessibleName or (isinstance(widget, qt.QAbstractButton) and widget.text)
        assert named, f"{name} has no name for screen readers"
        assert widget.toolTip or name in ("resultTable",), f"{name} has no tooltip"


def test_parameters_and_widgets_belong_together(started):  # noqa: F811
    """Each parameter has a widget in the .ui file, or is one that the panel fills itself."""
    filled = {"lesion", "shape", "density", "heterogeneity", "surface", "invasion", "weights"}
    bound = {widget.property("SlicerParameterName") for widget in vars(started.ui).values()} - {None, ""}
    assert bound | filled == set(started.parameters.allParameters)
    assert not bound & filled


@pytest.mark.parametrize("key", ["Ctrl+Z", "Ctrl+Shift+Z", "Ctrl+Return", "Esc", "B"])
def test_keys_do_no_harm_before_there_is_anything(hand, key):  # noqa: F811
    opened = hand()
    opened.module.press_keys(key)
    assert opened.session is None


def test_the_self_test_runs(hand, host):  # noqa: F811
    import slicer

    hand()
    slicer.selfTests["PASTASynth"]()
    assert host.texts("popup")[-1] == "Test passed"
