"""The report document (JSON, text) and its page: what it says, what it draws and where, and that it needs nothing else."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from PASTALib.attributes import LEARNED, TABLE, AttributeValue
from PASTALib.errors import InputError
from PASTALib.findings import AttributePrediction, LesionMask, ScanPhase, complete, find_lesions
from PASTALib.progress import Cancelled
from PASTALib.reporting import views
from PASTALib.reporting.document import ModelFacts, ReportDocument, ScanFacts, json_bytes, read_document, write_json
from PASTALib.reporting.report_page import page, write_page
from PASTALib.reporting.staged import staged
from PASTALib.volume import Volume

CREATED = "2025-03-04T10:20:30+01:00"
PHASE = ScanPhase("Enhanced CT", "mean aorta 160 HU", None)


def prediction(trained: bool = True) -> AttributePrediction:
    table = {}
    for key in LEARNED:
        options = TABLE[key].options
        table[key] = dict(zip(options, [0.6, *[0.4 / (len(options) - 1)] * (len(options) - 1)]))
    return AttributePrediction(table, "starter", trained)


@pytest.fixture(scope="module")
def scan():
    """A tilted, anisotropic scan with an ellipsoid (50 x 26 x 36 mm) called liver tumour and a small ball called kidney cyst."""
    affine = np.eye(4)
    angle = np.radians(14)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine[:3, :3] = turn @ np.diag([-0.9, -1.1, -2.0])
    affine[:3, 3] = 40, -20, 700
    shape = np.array((60, 110, 120))
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - (shape - 1) / 2
    mm = index * np.array((2.0, 1.1, 0.9))
    labels = np.zeros(shape, np.uint8)
    labels[((mm / np.array((18.0, 25.0, 13.0))) ** 2).sum(-1) <= 1] = 12
    labels[np.linalg.norm(mm - (30, 40, 40), axis=-1) < 6] = 24
    ct = np.random.default_rng(0).normal(60, 12, shape)
    ct[labels == 12] -= 50
    return Volume(
        ct.astype(np.int16), affine, {"source": "/home/someone/secret/ct & co.nii.gz"}
    ), LesionMask.of_pasta_labels(Volume(labels, affine))


@pytest.fixture(scope="module")
def findings(scan):
    return find_lesions(*scan, phase=PHASE)


def document_of(scan, findings, **more) -> ReportDocument:
    return ReportDocument(ScanFacts.of(scan[0], PHASE), list(findings), CREATED, **more)


@pytest.fixture(scope="module")
def full(scan, findings):
    """Predicted values with measured ones beside the first, an edited one in the second, a model and notes."""
    first, second = (complete(item, prediction()) for item in findings)
    figure = {"density_delta_hu": -42.0, "gap_mm": 99.0}
    measured = replace(
        first.report,
        values={
            **first.report.values,
            "density": AttributeValue("Hypodense", "measured", figure=figure),
            "shape": AttributeValue("Irregular", "measured"),
        },
    )
    first = replace(first, measured=measured, reasons={"surface": "the <edge> is thin"})
    second = replace(second, report=second.report.with_value("shape", "Irregular"))
    return document_of(
        scan, [first, second], model=ModelFacts("starter", "ab" * 32), mask="m.nii.gz", notes=["odd <b>thing</b>"]
    )


# ---------------------------------------------------------------------------------------------------------------
# Document


def test_json_reads_back_whole(full, tmp_path):
    path = write_json(full, tmp_path / "report.json")
    back = read_document(path)
    assert back.to_json() == full.to_json()
    assert json_bytes(back) == path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]
    first, again = full.findings[0], back.findings[0]
    assert again.mask is None and again.box == first.box
    assert (again.report, again.measured, again.prediction, again.reasons) == (
        first.report,
        first.measured,
        first.prediction,
        first.reasons,
    )
    assert again.long_axis == first.long_axis and again.volume_ml == pytest.approx(first.volume_ml, rel=1e-8)
    assert back.scan.source == "ct & co.nii.gz"  # no folders


def test_json_holds_what_a_program_needs(full):
    data = json.loads(json_bytes(full))
    assert (data["schema"], data["version"], data["created"]) == ("pasta-report-document", 1, CREATED)
    lesion = data["findings"][0]
    assert lesion["prediction"]["probabilities"]["surface"] == {"Well-defined margin": 0.6, "Ill-defined margin": 0.4}
    assert lesion["report"]["attributes"]["shape"] == {"value": "Round-like", "basis": "predicted", "confidence": 0.6}
    assert lesion["measured"]["attributes"]["density"]["figure"]["density_delta_hu"] == -42
    line = lesion["long_axis"]
    length = np.linalg.norm(np.subtract(line["end_ras_mm"], line["start_ras_mm"]))
    assert length == pytest.approx(line["length_mm"], abs=1e-6)
    assert data["scan"]["phase"]["value"] == "Enhanced CT" and data["predictions_mean_nothing"] is False


BAD_DOCUMENTS = {
    "no json": ("{", "not valid JSON"),
    "other schema": ('{"schema": "pasta-case"}', "pasta-report-document"),
    "other version": ('{"schema": "pasta-report-document", "version": 9}', "version 9"),
    "cut": ('{"schema": "pasta-report-document", "version": 1, "created": ""}', "'scan' is missing"),
    "list": ("[]", "list"),
}


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
def test_bad_documents_are_refused_in_one_line(name, tmp_path):
    text, wanted = BAD_DOCUMENTS[name]
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_document(tmp_path / "a.json")
    assert wanted in str(caught.value) and "a.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_document_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_document(tmp_path / "nowhere.json")


def test_text_for_copying(full, scan):
    text = full.to_text()
    for wanted in (
        "Lesion 1: 50",
        "Liver tumor",
        "Kidney cyst",
        "Note: odd",
        "predicted",
        "edited",
        "0.60",
        "Not for diagnosis",
    ):
        assert wanted in text, wanted
    assert "WARNING" not in text
    assert "No lesion." in document_of(scan, []).to_text()
    untrained = document_of(scan, full.findings, model=ModelFacts("starter", trained=False))
    assert "mean nothing" in untrained.to_text() and untrained.to_json()["predictions_mean_nothing"] is True


def test_random_weights_show_even_without_a_model_record(scan, findings):
    assert document_of(scan, [complete(findings[0], prediction(trained=False))]).untrained
    assert not document_of(scan, [complete(findings[0], prediction())]).untrained


# ---------------------------------------------------------------------------------------------------------------
# Files that appear together


def test_staged_files_appear_together_or_not_at_all(tmp_path):
    files = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    files[0].write_text("old")
    with staged(files) as (a, b, _):
        a.write_text("new")
        b.write_text("b")
        assert files[0].read_text() == "old" and not files[1].exists()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "b"] and files[0].read_text() == "new"
    with pytest.raises(RuntimeError), staged(files) as (a, *_):
        a.write_text("half")
        raise RuntimeError
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "b"] and files[0].read_text() == "new"


def test_a_file_that_cannot_be_replaced_brings_the_others_back(tmp_path, monkeypatch):
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text("old")
    replace_file = os.replace

    def fail(source, target):
        if str(target).endswith("b") and ".part." in str(source):
            raise OSError(28, "No space left on device", str(source))
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=rf"{tmp_path}/b: cannot be written \(No space left"), staged(files) as names:
        for name in names:
            name.write_text("new")
    monkeypatch.undo()
    assert [file.read_text() for file in files] == ["old", "old"]
    assert len(list(tmp_path.iterdir())) == 2


# ---------------------------------------------------------------------------------------------------------------
# Page


class Page(HTMLParser):
    """What a page refers to, whether its tags close, and the marks drawn on each picture."""

    VOID = {"meta", "img", "br", "rect", "path", "polygon", "line", "input"}
    MAY_STAY_OPEN = {"th", "td", "tr", "tbody", "thead"}

    def __init__(self, text: str):
        super().__init__()
        self.links, self.open, self.images, self.marks = [], [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.images += tag == "img"
        self.links += [attrs[name] for name in ("src", "href") if attrs.get(name)]
        if tag == "figure":
            self.marks.append([])
        if tag in ("line", "polygon"):
            self.marks[-1].append((tag, attrs))
        if tag not in self.VOID | self.MAY_STAY_OPEN:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        if tag not in self.MAY_STAY_OPEN:
            assert self.open.pop() == tag


def test_page_is_whole_and_needs_nothing_else(full, scan, tmp_path):
    path = write_page(full, scan[0], tmp_path / "report.html")
    text = path.read_text("utf-8")
    found = Page(text)
    assert found.open == [] and found.images == 2 * 4
    assert all(link.startswith(("data:image/jpeg;base64,", "#lesion-")) for link in found.links)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "Odd &lt;b&gt;thing" in text and "<b>thing" not in text and "ct &amp; co" in text and "secret" not in text
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]
    assert page(full, scan[0]) == text  # the same report, the same bytes


def test_page_says_what_is_known_and_how(full, scan):
    text = page(full, scan[0])
    assert text.count("<article") == 2 and "#lesion-2" in text
    assert "measured: <span class=differs>Irregular</span>" in text
    assert "\u221242 HU to its surroundings" in text and "nothing near" in text
    assert "<span class='tag predicted'>predicted</span>" in text and "<span class='tag edited'>edited</span>" in text
    assert "60 %" in text and "20 %" in text  # every option's probability
    assert "role=alert" not in text and "starter, abababababab" in text


def test_unknown_attributes_give_their_reason(scan, findings):
    item = replace(findings[0], reasons={"surface": "the <edge> is thin"})
    text = page(document_of(scan, [item]), scan[0])
    assert "the &lt;edge&gt; is thin" in text and "needs a model" in text and text.count("not known") == 5


def test_random_weights_are_shouted(scan, findings):
    items = [complete(item, prediction(trained=False)) for item in findings]
    text = page(document_of(scan, items, model=ModelFacts("starter", trained=False)), scan[0])
    assert "role=alert" in text and "predictions mean nothing" in text
    assert text.count("random weights</span>") == 10 and "<td class='void'>" in text


def test_no_lesion_makes_a_page_that_says_so(scan):
    text = page(document_of(scan, [], notes=["all below 3 mm"]), scan[0])
    assert "No lesion" in text and "All below 3 mm" in text and "<article" not in text
    assert Page(text).open == []


def test_size_lines_are_drawn_where_they_were_measured(scan, findings):
    """In the axial picture both lines have their length in the picture's scale, and their ends lie on the outline."""
    text = page(document_of(scan, findings), scan[0])
    axial = Page(text).marks[0]
    lines = [attrs for tag, attrs in axial if tag == "line"]
    assert [attrs["class"] for attrs in lines] == ["long", "short"]
    outline = np.array(
        [
            float(v)
            for tag, attrs in axial
            if tag == "polygon"
            for pair in attrs["points"].split()
            for v in pair.split(",")
        ]
    ).reshape(-1, 2)
    field_mm = max(90.0, 2.3 * max(findings[0].size_zxy_mm))
    for attrs, line in zip(lines, (findings[0].long_axis, findings[0].short_axis)):
        ends = np.array([[float(attrs["x1"]), float(attrs["y1"])], [float(attrs["x2"]), float(attrs["y2"])]])
        assert np.linalg.norm(ends[1] - ends[0]) * field_mm / 100 == pytest.approx(line.length_mm, abs=0.05)
        for end in ends:
            assert np.linalg.norm(outline - end, axis=1).min() * field_mm / 100 < 0.7
        assert f"{line.length_mm:.1f} mm</text>" in text
    assert all(not any(tag == "line" for tag, _ in marks) for marks in Page(text).marks[1:4])


def test_lung_and_bone_are_shown_in_soft_tissue_too(scan):
    ct, mask = scan
    lung = LesionMask(mask.labels, {12: "lung_tumor"})
    text = page(document_of(scan, find_lesions(ct, lung, phase=PHASE)), ct)
    assert Page(text).images == 5 and "Axial, soft tissue" in text


def test_page_refuses_what_it_cannot_draw(full, scan, tmp_path):
    back = read_document(write_json(full, tmp_path / "a.json"))
    with pytest.raises(InputError, match="no masks"):
        page(back, scan[0])
    with pytest.raises(InputError, match="give that scan"):
        page(full, Volume(scan[0].array[:-1], scan[0].affine))
    with pytest.raises(InputError, match="cannot be written"):
        write_page(full, scan[0], tmp_path / "no" / "folder.html")


def test_cancelling_the_page_leaves_nothing(full, scan, tmp_path):
    def stop(step, of, text=""):
        raise Cancelled

    with pytest.raises(Cancelled):
        write_page(full, scan[0], tmp_path / "a.html", progress=stop)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------
# What the views gained


@pytest.mark.parametrize("signs", [(-1, -1, 1), (1, 1, -1)])
def test_a_mask_in_its_box_gives_the_same_views(signs):
    affine = np.diag([*(np.array(signs) * (1.0, 1.2, 2.0)), 1.0])
    rng = np.random.default_rng(2)
    ct = rng.normal(50, 30, (20, 40, 44)).astype(np.int16)
    label = np.zeros(ct.shape, bool)
    label[3:11, 8:20, 25:33] = rng.random((8, 12, 8)) > 0.2
    box = (slice(3, 11), slice(8, 20), slice(25, 33))
    whole = views.LesionViews(ct, ct, label, affine, "liver_tumor")
    part = views.LesionViews(ct, ct, label[box], affine, "liver_tumor", box=box)
    for plane in views.PLANES:
        one, other = whole.view(plane, 60), part.view(plane, 60)
        assert (one.after == other.after).all()
        assert all((a == b).all() for a, b in zip(one.outlines, other.outlines, strict=True))
        assert whole.overview(plane).box == part.overview(plane).box


@pytest.mark.parametrize("signs", [(-1, -1, 1), (1, 1, -1)])
def test_a_named_axial_slice_and_a_place_in_it(signs):
    affine = np.diag([*(np.array(signs) * (1.0, 1.2, 2.0)), 1.0])
    ct = np.full((20, 40, 44), -200, np.int16)
    ct[5, 12, 30] = 3000
    label = np.zeros(ct.shape, bool)
    label[3:11, 8:20, 25:33] = True
    shown = views.LesionViews(ct, ct, label, affine, "liver_tumor", axial_index=5)
    picture = shown.view("axial", 300).after
    peak = np.argwhere(picture == picture.max()).mean(axis=0)[::-1] + 0.5
    assert np.array(shown.place("axial", (5, 12, 30))) * 300 == pytest.approx(peak, abs=1.0)
    with pytest.raises(ValueError, match="does not meet"):
        views.LesionViews(ct, ct, label, affine, "liver_tumor", axial_index=15)
