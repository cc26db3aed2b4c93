"""Reports and volumes as tables and text."""

from __future__ import annotations

import numpy as np
import slicer

from PASTALib import taxonomy
from PASTALib.attributes import StructuredReport
from PASTALib.mrml import tables

REPORT = StructuredReport.from_options(
    "kidney_cyst",
    {"enhancement": "Enhanced CT", "size": "20×21×22 mm", "shape": "Round-like", "density": "Hypodense"},
    "predicted",
    confidence={"shape": 0.876},
    location_detail="Left kidney",
    requested={"density": "Isodense"},
)


def cells(node) -> list[list]:
    table = node.GetTable()
    return [
        [table.GetValue(row, column).ToString() for column in range(table.GetNumberOfColumns())]
        for row in range(table.GetNumberOfRows())
    ]


def titles(node) -> list[str]:
    return [node.GetTable().GetColumnName(i) for i in range(node.GetTable().GetNumberOfColumns())]


def test_lesions(scene):
    node = tables.new_table_node(scene, "lesions")
    tables.fill_lesion_table(node, ["Kidney cyst 1"], [REPORT], [(1.25, -2.0, 3.04)])
    row = dict(zip(titles(node), cells(node)[0]))
    assert (row["Lesion"], row["Place"], row["Size Z×X×Y"]) == ("Kidney cyst 1", "Left kidney", "20×21×22 mm")
    assert [float(row[axis]) for axis in ("R (mm)", "A (mm)", "S (mm)")] == [1.2, -2.0, 3.0]
    assert (row["Shape"], row["Surface"]) == ("Round-like", "")
    assert node.GetTable().GetColumnByName("R (mm)").IsA("vtkDoubleArray")
    tables.fill_lesion_table(node, [], [], [])
    assert cells(node) == [] and "Lesion" in titles(node)


def test_report_rows_say_how_they_know(scene):
    node = tables.new_table_node(scene, "report")
    tables.fill_report_table(node, ["cyst"], [REPORT])
    rows = {row[1]: row for row in cells(node)}
    assert len(rows) == 8
    assert rows["Shape"][2:5] == ["Round-like", "predicted", "0.88"]
    assert rows["Density"][2] == "Hypodense" and rows["Density"][5] == "Isodense"
    assert rows["Surface"][2] == "not known"


def test_volumes(scene, phantom_enhanced):
    organs = phantom_enhanced.organs
    rows = tables.volume_rows(organs.labels)
    assert {name for name, _, _ in rows} == {organ.name for organ in taxonomy.ORGANS if organs.has(organ.key)}
    by_name = {name: volume for name, _, volume in rows}
    assert np.isclose(by_name["Liver"], organs.volume_ml("liver"), atol=0.01)
    node = tables.new_table_node(scene, "volumes")
    tables.fill_volume_table(node, rows)
    assert len(cells(node)) == len(rows)


def test_a_table_survives_saving(scene, tmp_path):
    node = tables.new_table_node(scene, "lesions")
    tables.fill_lesion_table(node, ["Kidney cyst 1"], [REPORT], [(1, 2, 3)])
    before = cells(node)
    assert slicer.util.saveScene(str(tmp_path / "t.mrb"))
    scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "t.mrb"))
    assert cells(slicer.util.getNode("lesions")) == before


def test_text():
    text = tables.report_text(["Kidney cyst 1"], [REPORT], "abdomen, Enhanced CT")
    assert text.startswith("Scan: abdomen, Enhanced CT\n\nKidney cyst 1\n")
    assert REPORT.to_sentence() in text and text.endswith("Not for diagnosis.\n")
