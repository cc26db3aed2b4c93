"""Parameter nodes: typed values, two-way binding to widgets, and survival in a saved scene."""

import enum
from pathlib import Path
from typing import Annotated

import pytest


class Shape(enum.Enum):
    Round = 1
    Irregular = 2

    def label(self):
        return self.name.lower()


@pytest.fixture
def wrapper(host):
    from slicer import vtkMRMLModelNode, vtkMRMLScalarVolumeNode
    from slicer.parameterNodeWrapper import Choice, Decimals, Default, FloatRange, WithinRange, parameterNodeWrapper

    @parameterNodeWrapper
    class Parameters:
        volume: vtkMRMLScalarVolumeNode
        either: vtkMRMLScalarVolumeNode | vtkMRMLModelNode | None
        shape: Shape = Shape.Irregular
        radius: Annotated[float, WithinRange(1, 50), Decimals(1)] = 10
        count: Annotated[int, WithinRange(1, 9)] = 2
        organ: Annotated[str, Choice(["liver", "kidney"])] = "kidney"
        window: Annotated[FloatRange, WithinRange(-1000, 1000), Default(FloatRange(-160, 240))]
        note: str = "none"
        live: bool = True
        folder: Path
        seed: int | None
        history: list[str]

    return Parameters


@pytest.fixture
def parameters(wrapper):
    import slicer

    return wrapper(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "Parameters"))


def test_defaults(parameters):
    assert parameters.volume is None
    assert (parameters.shape, parameters.radius, parameters.count) == (Shape.Irregular, 10.0, 2)
    assert isinstance(parameters.radius, float)
    assert (parameters.note, parameters.live, parameters.folder) == ("none", True, Path())
    assert (parameters.seed, parameters.history) == (None, [])
    assert (parameters.window.minimum, parameters.window.maximum) == (-160, 240)
    assert parameters.default("count").value == 2


@pytest.mark.parametrize(
    "name,value,error",
    [
        ("radius", 51.0, ValueError),
        ("count", 0, ValueError),
        ("count", 2.5, TypeError),
        ("count", None, TypeError),
        ("organ", "spleen", ValueError),
        ("note", 3, TypeError),
        ("live", 1, TypeError),
        ("shape", "Round", TypeError),
        ("folder", "/tmp", TypeError),
        ("radios", 3.0, AttributeError),
    ],
)
def test_wrong_values_are_refused_and_change_nothing(parameters, name, value, error):
    before = getattr(parameters, name, None)
    with pytest.raises(error):
        setattr(parameters, name, value)
    assert getattr(parameters, name, None) == before


def test_nodes_are_references_of_their_type(parameters):
    import slicer

    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    parameters.volume = volume
    parameters.either = model
    assert parameters.volume is volume
    assert parameters.either is model
    with pytest.raises(TypeError):
        parameters.volume = model
    slicer.mrmlScene.RemoveNode(volume)
    assert parameters.volume is None


def test_unsupported_types_are_refused(host):
    from slicer.parameterNodeWrapper import FloatRange, parameterNodeWrapper

    for kind in (object, list, FloatRange, int | str):
        with pytest.raises(TypeError, match="parameter thing"):
            parameterNodeWrapper(type("Parameters", (), {"__annotations__": {"thing": kind}}))


def widgets():
    """A widget for each parameter that has one, by name."""
    import ctk
    import qt
    import slicer

    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    return {
        "volume": selector,
        "shape": qt.QComboBox(),
        "radius": ctk.ctkSliderWidget(),
        "count": qt.QSpinBox(),
        "organ": ctk.ctkComboBox(),
        "window": ctk.ctkRangeWidget(),
        "note": qt.QLineEdit(),
        "live": qt.QCheckBox(),
        "folder": ctk.ctkPathLineEdit(),
    }


def test_widgets_follow_parameters_and_parameters_widgets(parameters):
    import slicer

    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    w = widgets()
    tag = parameters.connectParametersToGui(w)
    assert (w["radius"].minimum, w["radius"].maximum, w["radius"].decimals) == (1.0, 50.0, 1)
    assert [w["shape"].itemText(i) for i in range(2)] == ["round", "irregular"]
    assert w["organ"].currentText == "kidney"

    w["volume"].setCurrentNode(volume)
    w["shape"].setCurrentIndex(0)
    w["radius"].value = 12.34
    w["count"].value = 7
    w["organ"].setCurrentText("liver")
    w["window"].setValues(0, 80)
    w["note"].text = "typed"
    w["live"].click()
    w["folder"].currentPath = "/data"
    assert parameters.volume is volume
    assert (parameters.shape, parameters.radius, parameters.count) == (Shape.Round, 12.3, 7)
    assert (parameters.organ, parameters.note, parameters.live) == ("liver", "typed", False)
    assert (parameters.window.minimum, parameters.window.maximum) == (0, 80)
    assert parameters.folder == Path("/data")

    with slicer.util.NodeModify(parameters):
        parameters.volume = None
        parameters.shape = Shape.Irregular
        parameters.count = 3
        assert w["count"].value == 7, "told once, at the end"
    assert (w["volume"].currentNode(), w["shape"].currentIndex, w["count"].value) == (None, 1, 3)

    parameters.disconnectGui(tag)
    parameters.count = 5
    w["note"].text = "unheard"
    assert (w["count"].value, parameters.note) == (3, "typed")


def test_a_panel_is_bound_by_dynamic_property(parameters):
    import qt

    panel = qt.QWidget()
    box = qt.QSpinBox(panel)
    box.setProperty("SlicerParameterName", "count")
    parameters.connectGui(panel)
    box.value = 6
    assert parameters.count == 6
    box.setProperty("SlicerParameterName", "counts")
    with pytest.raises(ValueError, match="no parameter 'counts'"):
        parameters.connectGui(panel)


@pytest.mark.parametrize(
    "name,make",
    [
        ("radius", lambda qt, ctk: qt.QSpinBox()),
        ("count", lambda qt, ctk: ctk.ctkSliderWidget()),
        ("note", lambda qt, ctk: qt.QComboBox()),
        ("live", lambda qt, ctk: qt.QPushButton()),  # not checkable
        ("count", lambda qt, ctk: type("Mine", (qt.QSpinBox,), {})()),  # a subclass is not connected
    ],
)
def test_pairs_that_slicer_does_not_connect_are_refused(parameters, name, make):
    import ctk
    import qt

    with pytest.raises(RuntimeError, match="cannot connect"):
        parameters.connectParametersToGui({name: make(qt, ctk)})


def test_observers_hear_each_change(parameters):
    import slicer
    import vtk

    class Listener(slicer.util.VTKObservationMixin):
        def __init__(self):
            super().__init__()
            self.heard = 0

        def hear(self, caller, event):
            self.heard += 1

    listener = Listener()
    listener.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, listener.hear)
    parameters.count = 4
    parameters.count = 4
    assert listener.heard == 1
    listener.removeObservers()
    parameters.count = 5
    assert listener.heard == 1


@pytest.mark.parametrize("ending", ["mrb", "mrml"])
def test_values_survive_a_saved_scene(parameters, wrapper, tmp_path, ending):
    import slicer

    from Testing.slicerhost import reset_scene

    parameters.shape, parameters.radius, parameters.seed = Shape.Round, 0.1 + 2, 1234567890123
    parameters.note, parameters.history = 'a "quoted" <note>\nof two lines', ["one", "zwei ä"]
    parameters.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    names = [n for n in wrapper.allParameters if n != "volume"]
    before = [parameters.getValue(n) for n in names]
    assert slicer.util.saveScene(str(tmp_path / f"scene.{ending}"))
    reset_scene()
    slicer.util.loadScene(str(tmp_path / f"scene.{ending}"))
    again = wrapper(slicer.util.getNode("Parameters"))
    assert [again.getValue(n) for n in names] == before
    assert again.volume.GetName() == "CT"
