"""How the panels of PASTASegment and PASTAReport look and speak: nothing cut, everything named and explained."""

from __future__ import annotations

import pytest

from Testing.gui.segment_scene import ROOT, add_torso, use_stand_ins
from Testing.gui.test_report_panel import add_lesions, field, measure

MODULES = ("PASTASegment", "PASTAReport")
SIZES = [(400, 1.0), (600, 1.0), (400, 1.5), (600, 1.5)]
INTERACTIVE = ("QPushButton", "QToolButton", "QCheckBox", "QComboBox", "QTableWidget", "QLineEdit", "qMRMLNodeComboBox")


@pytest.fixture
def used(host, phantom_enhanced, layout, open_module, tmp_path):
    """Function: name -> the module with everything unfolded and a result shown."""

    def get(name: str):
        torso = add_torso(phantom_enhanced)
        add_lesions(torso)
        layout.show(torso.ct)
        module = open_module(name)
        use_stand_ins(module.widget)
        parameters = module.widget.parameters
        parameters.organMap = torso.organs
        module.widget.networks.button.collapsed = False
        if name == "PASTASegment":
            parameters.model, parameters.limited = torso.save_labels(tmp_path), True
            parameters.organs = ["liver", "kidney"]
            module.press(module.ui.applyButton)
            module.wait_until(lambda: not module.widget.bar.running)
            module.widget.lesions.pick(0)
        else:
            measure(module, "some-model")
            module.choose(field(module, "surface").field, "Well-defined margin")
        return module

    return get


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_cut(used, name):
    from Testing.slicerhost.screenshot import cut_off

    module = used(name)
    assert module.ui.lesionTable.isVisible()
    for width, scale in SIZES:
        assert cut_off(module.parent, width, scale) == [], (width, scale)


@pytest.mark.parametrize("name", MODULES)
def test_everything_is_named_and_explained(used, name):
    import qt

    module = used(name)
    unnamed = []
    for widget in module.parent.findChildren(qt.QWidget):
        inner = widget.name.startswith("qt_") or widget.parent().className() in (
            "qMRMLNodeComboBox",
            "ctkPathLineEdit",
            "QComboBox",
        )
        inner = inner or "ScrollBar" in widget.className() or "Header" in widget.className()
        if widget.className() in INTERACTIVE and not inner and widget.parent().className() != "QTableWidget":
            text = widget.accessibleName or getattr(widget, "text", "")
            unnamed += [widget.name or widget.className()] if not text or not widget.toolTip else []
    assert unnamed == []


@pytest.mark.parametrize("name", MODULES)
def test_self_tests_run(name, host, open_module):
    import slicer

    open_module(name)
    slicer.selfTests[name]()
    assert host.texts("popup") == ["Test passed"]


@pytest.mark.parametrize("name", MODULES)
def test_help_leads_to_a_page_that_is_there(name, host, open_module):
    module = open_module(name)
    assert f"Docs/{name}.md" in module.module.helpText and (ROOT / "Docs" / f"{name}.md").is_file()
