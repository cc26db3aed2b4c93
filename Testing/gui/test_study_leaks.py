"""What Slicer itself could tell: node names, subject hierarchy, saved scene, terminal, settings, the store. Nothing tells real from synthetic."""

from __future__ import annotations

import re
import sqlite3
import zipfile

import pytest

from Testing.gui.study_support import MARK, Hand, make_study

TELLING = re.compile(rf"\b(real|synthetic|fake|generated)\b|{MARK}", re.IGNORECASE)


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path, ("anna",))


def told_by_nodes() -> str:
    """Names, attributes, file names and descriptions of every node, and the items of the subject hierarchy."""
    import slicer
    import vtk

    lines = []
    for node in slicer.util.getNodesByClass("vtkMRMLNode"):
        attributes = [f"{name}={node.GetAttribute(name)}" for name in node.GetAttributeNames()]
        lines += [node.GetName() or "", node.GetDescription() or "", *attributes]
        if node.IsA("vtkMRMLStorageNode"):
            lines.append(node.GetFileName() or "")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    lines += [hierarchy.GetItemName(items.GetId(i)) for i in range(items.GetNumberOfIds())]
    return "\n".join(lines)


def test_nothing_that_slicer_keeps_or_prints_tells(host, layout, open_module, study, tmp_path, capfd, monkeypatch):
    import qt
    import slicer

    from PASTALib.gui import study_reading

    monkeypatch.setattr(study_reading, "BOUNCE_S", 0.0)
    hand = Hand(open_module("PASTAStudy"))
    hand.ui.viewsBox.checked = True
    hand.log_in(study, "anna")
    names, cases = [], [item.case for item in hand.session.study.items("anna")]
    while not hand.session.finished:
        if hand.reading.page is not None:
            hand.start()
        names.append(told_by_nodes())
        if len(names) in (2, 10):  # one of each part
            for kind in ("mrb", "mrml"):
                folder = tmp_path / f"saved-{len(names)}-{kind}"
                folder.mkdir()
                assert slicer.util.saveScene(str(folder / f"scene.{kind}"))
        hand.rate(1 + len(names) % 5)
    hand.key("Return")  # leaves
    assert hand.session is None
    printed = "".join(capfd.readouterr())
    settings = "\n".join(f"{key}={qt.QSettings().value(key)}" for key in qt.QSettings().allKeys())
    messages = "\n".join(message.text for message in host.messages)
    scenes = [path for path in tmp_path.glob("saved-*/**/*") if path.is_file()]
    assert len(scenes) >= 4
    saved = ""
    for path in scenes:
        if path.suffix == ".mrb":
            with zipfile.ZipFile(path) as archive:
                saved += "\n".join(archive.namelist())
                saved += "".join(archive.read(name).decode("latin-1") for name in archive.namelist())
        else:
            saved += f"{path.name}\n{path.read_bytes().decode('latin-1')}"
    assert "<MRML" in saved
    # Every case looks the same, in both parts; saving the scene notes a version in the hierarchy, once.
    assert len({re.sub(r"\d+|SubjectHierarchyVersion=\d\n", "", text) for text in names}) == 1
    paths = [str(tmp_path), str(study)]
    settings = settings.replace(str(study), "")  # the folder that the reader chose
    for what, text in (
        ("nodes", "".join(names)),
        ("scene", saved),
        ("terminal", printed),
        ("settings", settings),
        ("messages", messages),
    ):
        found = TELLING.search(text)
        assert not found, f"{what}: …{text[max(0, found.start() - 60) : found.end() + 60]}…"
        assert not any(case in text for case in cases), f"{what} names a case"
    assert not any(path in "".join(names) + saved for path in paths)
    with sqlite3.connect(
        study / "ratings" / "anna.sqlite"
    ) as database:  # not the file's bytes: REAL is a type of SQLite
        store = "\n".join(
            repr(row) for table in ("meta", "events") for row in database.execute(f"SELECT * FROM {table}")
        )
    assert "realism" in store and not TELLING.search(store)
    public = (study / "study.json").read_text()
    without_texts = public.replace("Real and synthetic lesions are mixed", "").replace("real CT images", "")
    assert not TELLING.search(without_texts)


def test_a_saved_scene_holds_no_voxels(host, layout, open_module, study, tmp_path):
    import slicer

    hand = Hand(open_module("PASTAStudy"))
    hand.log_in(study, "anna")
    hand.start()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    with zipfile.ZipFile(tmp_path / "scene.mrb") as archive:
        assert sum(info.file_size for info in archive.infolist()) < 300_000
        assert not [name for name in archive.namelist() if name.endswith((".nrrd", ".nii.gz"))]
