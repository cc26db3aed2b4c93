"""Preview pictures: orientation, proportions, windows, field of view, outline; the gallery page and the contact sheet."""

from __future__ import annotations

import itertools
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from PASTALib import taxonomy
from PASTALib.attributes import AttributeValue, StructuredReport
from PASTALib.reporting import contact_sheet, gallery, rows, views
from PASTALib.reporting.preview import save_preview

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_of(spacing_xyz=(1.0, 1.0, 1.0), order=(0, 1, 2), signs=(-1, -1, 1), tilt_degrees=0.0) -> np.ndarray:
    """Scan axis i runs along RAS axis ``order[i]``, towards ``signs[i]``; ``tilt_degrees`` turns everything about R."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis in range(3):
        affine[order[axis], axis] = signs[axis] * spacing_xyz[axis]
    angle = np.radians(tilt_degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = 11, -7, 5
    return affine


def marked_scan(affine: np.ndarray, extent_mm: float = 96.0):
    """A scan with bright balls to the patient's right (100 HU), in front (200 HU) and above (300 HU) of a lesion in its middle (50 HU)."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    shape = np.round(extent_mm / spacing).astype(int)
    middle = (shape - 1) / 2
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    ras = (index - middle)[..., ::-1] @ affine[:3, :3].T
    ct = np.full(shape, -200, np.int16)
    for centre, hu in (((0, 0, 0), 50), ((30, 0, 0), 100), ((0, 30, 0), 200), ((0, 0, 30), 300)):
        ct[np.linalg.norm(ras - centre, axis=-1) < 9] = hu
    return ct, np.linalg.norm(ras, axis=-1) < 9


def ball(picture: np.ndarray, grey: int) -> np.ndarray:
    """Centre (row, column) of what has this grey, as fractions of the picture."""
    return (np.argwhere(np.abs(picture.astype(int) - grey) <= 2).mean(axis=0) + 0.5) / picture.shape


ORIENTATIONS = [
    affine_of(order=order, signs=signs)
    for order in itertools.permutations(range(3))
    for signs in ((1, 1, 1), (-1, -1, 1), (1, -1, -1))
]
UNEVEN = affine_of((0.8, 0.9, 4.0))
OBLIQUE = affine_of((1.1, 0.9, 2.0), tilt_degrees=14)


@pytest.mark.parametrize("affine", [*ORIENTATIONS, UNEVEN, OBLIQUE])
def test_right_is_left_front_is_up_and_head_is_up(affine):
    ct, label = marked_scan(affine)
    shown = views.LesionViews(ct, ct, label, affine, "kidney_tumor", min_field_mm=100.0)
    width, level = shown.window
    grey = {hu: int(round(255 * (hu - level + width / 2) / width)) for hu in (50, 100, 200)}
    axial, coronal, sagittal = (shown.view(plane, 200) for plane in views.PLANES)
    distance = 30 / 100
    for view in (axial, coronal, sagittal):
        assert ball(view.after, grey[50]) == pytest.approx([0.5, 0.5], abs=0.03)
    # a tilted scan is shown along its own axes, so its balls appear a little off the axes
    near = 0.09 if affine is OBLIQUE else 0.03
    assert ball(axial.after, grey[100]) == pytest.approx([0.5, 0.5 - distance], abs=near)
    assert ball(coronal.after, grey[100]) == pytest.approx([0.5, 0.5 - distance], abs=near)
    assert ball(axial.after, grey[200]) == pytest.approx([0.5 - distance, 0.5], abs=near)
    assert ball(sagittal.after, grey[200]) == pytest.approx([0.5, 0.5 - distance], abs=near)
    top = np.argwhere(coronal.after == 255).mean(axis=0) / 200  # 300 HU is above the window
    assert top == pytest.approx([0.5 - distance, 0.5], abs=near)
    assert [view.letters for view in (axial, coronal, sagittal)] == ["RLAP", "RLSI", "APSI"]


@pytest.mark.parametrize("affine", [LPS, UNEVEN, OBLIQUE])
def test_a_ball_stays_round_and_the_outline_lies_on_its_edge(affine):
    ct, label = marked_scan(affine)
    shown = views.LesionViews(ct, ct, label, affine, "liver_tumor")
    for plane in views.PLANES:
        view = shown.view(plane, 240)
        points = np.concatenate(view.outlines)
        assert all(map(np.array_equal, shown.outlines(label, plane), view.outlines))  # of any mask on the scan's grid
        radii_mm = np.linalg.norm(points - 0.5, axis=1) * view.field_mm
        coarse = shown.spacing_mm.max()
        assert radii_mm.min() > 9 - coarse and radii_mm.max() < 9 + coarse
        size = np.ptp(points, axis=0) * view.field_mm
        assert size == pytest.approx([18, 18], abs=coarse + 0.5)


def test_field_of_view_and_scale_bar():
    ct, label = marked_scan(LPS, 120.0)
    assert views.LesionViews(ct, ct, label, LPS, "liver_tumor").field_mm == 120
    big = np.zeros_like(label)
    big[10:110, 50:60, 50:60] = True
    assert views.LesionViews(ct, ct, big, LPS, "liver_tumor").field_mm == pytest.approx(275)
    assert [views.scale_bar_mm(field) for field in (30, 80, 120, 199, 275, 500)] == [5, 20, 20, 20, 50, 100]


def test_windows_suit_the_type():
    assert views.window_of("lung_tumor") == (1500, -600)
    assert views.window_of("bone_metastasis") == (1800, 400)
    assert views.window_of("gastric_cancer") == (400, 40)
    for key in taxonomy.LESION_KEYS:
        assert views.window_of(key)[0] > 0
    assert views.window_grey(np.array([-160, 40, 240, 999]), (400, 40)).tolist() == [0, 128, 255, 255]


def test_beyond_the_scan_is_black():
    ct, label = marked_scan(LPS)
    corner = np.zeros_like(label)
    corner[1:4, 1:4, 1:4] = True
    view = views.LesionViews(ct + 400, ct + 400, corner, LPS, "liver_tumor").view("axial", 120)
    assert (view.after[:40] == 0).all() and (view.after[:, :40] == 0).all()
    assert view.after[-20:, -20:].min() > 0


def test_slice_shows_the_lesion_even_when_hollow():
    ct, _ = marked_scan(LPS)
    index = np.stack(np.meshgrid(*map(np.arange, ct.shape), indexing="ij"), -1) - np.array(ct.shape) // 2
    shell = np.abs(np.linalg.norm(index, axis=-1) - 20) < 3
    shown = views.LesionViews(ct, ct, shell, LPS, "gastric_cancer")
    for plane in views.PLANES:
        assert len(shown.view(plane, 60).outlines) >= 1


def test_empty_mask_is_refused():
    ct, label = marked_scan(LPS)
    with pytest.raises(ValueError, match="empty"):
        views.LesionViews(ct, ct, np.zeros_like(label), LPS, "liver_tumor")


def report(density: str = "Hypodense", lesion: str = "liver_tumor") -> StructuredReport:
    wanted = {
        "shape": "Irregular",
        "density": "Hypodense",
        "heterogeneity": "Homogeneous",
        "surface": "Ill-defined margin",
        "invasion": "no",
    }
    values = {key: AttributeValue(text, "measured") for key, text in wanted.items()}
    values["density"] = AttributeValue(density, "measured", figure={"density_delta_hu": -42.0})
    values["heterogeneity"] = AttributeValue("Homogeneous", "requested")
    values["enhancement"] = AttributeValue("Enhanced CT", "measured")
    values["size"] = AttributeValue("18x18x18 mm", "measured")
    return StructuredReport(lesion, values, "", wanted)


@pytest.mark.parametrize("affine", [LPS, UNEVEN])
def test_preview_picture(tmp_path, affine):
    ct, label = marked_scan(affine)
    after = ct.copy()
    after[label] = 0
    start = time.perf_counter()
    path = save_preview(tmp_path / "preview.png", ct, after, label, affine, "liver_tumor", report())
    assert time.perf_counter() - start < 6  # about 0.5 s; generous for a busy machine
    with Image.open(path) as picture:
        assert picture.size == (1560, 1384)
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    amber = (pixels[..., 0] > 220) & (abs(pixels[..., 1] - 180) < 25) & (abs(pixels[..., 2] - 84) < 40)
    assert amber.sum() > 300
    columns = np.flatnonzero(amber.any(axis=0))
    assert columns.min() > 840 and columns.max() < 1240  # only in the outline column
    before, shown = pixels[128:528, 24:424], pixels[128:528, 432:832]
    changed = np.abs(before - shown).max(axis=2)[60:340, 60:340] > 20
    assert 0.005 < changed.mean() < 0.1  # the lesion, and nothing else
    save_preview(tmp_path / "again.png", ct, after, label, affine, "liver_tumor", report())
    assert (tmp_path / "again.png").read_bytes() == path.read_bytes()


def test_preview_without_a_report(tmp_path):
    ct, label = marked_scan(LPS)
    assert save_preview(tmp_path / "a.png", ct, ct, label, LPS, "kidney_stone").stat().st_size > 10_000


def test_rows_tell_wishes_from_draws():
    found = {
        row.key: row for row in rows.attribute_rows(report("Isodense"), {"density"}, {"heterogeneity": "too small"})
    }
    assert list(found) == [
        "enhancement",
        "location",
        "size",
        "shape",
        "density",
        "heterogeneity",
        "surface",
        "invasion",
    ]
    assert found["density"].differs and found["density"].asked and found["density"].wanted == "Hypodense"
    assert found["density"].remark == "\N{MINUS SIGN}42 HU to its surroundings"
    assert not found["shape"].asked and not found["shape"].differs
    assert found["heterogeneity"].origin == "drawn, not measured" and found["heterogeneity"].remark == "too small"
    assert found["location"].reported == "Liver"


def test_a_wished_size_that_is_missed_stands_out():
    missed = StructuredReport(
        "liver_tumor", {"size": AttributeValue("24x21x24 mm", "measured")}, "", {"size": "30x28x26 mm"}
    )
    assert next(row for row in rows.attribute_rows(missed) if row.key == "size").differs
    assert not next(row for row in rows.attribute_rows(missed, ()) if row.key == "size").differs
    assert not rows.size_differs((30, 6, 6), (32.9, 8.9, 6))


class Page(HTMLParser):
    """Collects what a page refers to and whether its tags close."""

    VOID = {"meta", "img", "br", "rect", "path", "polygon"}

    def __init__(self):
        super().__init__()
        self.links, self.open, self.images = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.images += tag == "img"
        self.links += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def entries():
    ct, label = marked_scan(UNEVEN)
    after = ct.copy()
    after[label] = 0
    made = [
        gallery.GalleryEntry.draw(ct, after, label, UNEVEN, report(density), remarks=["<b>odd</b>"])
        for density in ("Hypodense", "Isodense")
    ]
    return [*made, gallery.GalleryEntry.skip("bladder_cancer", "the organ map has no bladder")]


def test_gallery_page_is_whole_and_needs_nothing_else(tmp_path, entries):
    text = gallery.write_gallery(tmp_path / "index.html", entries, "A <title>", ["ct.nii.gz & co"]).read_text("utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.images == 2 * (4 + 6)
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "A &lt;title&gt;" in text and "&lt;b&gt;odd" in text and "ct.nii.gz &amp; co" in text
    assert "requested: Hypodense" in text and "the organ map has no bladder" in text
    assert text.count("<article") == 2


def test_contact_sheet_is_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (15, 2, 440, 440)).astype(np.uint8)
    square = [np.array([[0.4, 0.4], [0.6, 0.4], [0.6, 0.6]])]
    cells = [
        (taxonomy.lesion(key).name, "12×12×12 mm · Punctate, nodular", views.View("axial", "RLAP", 80, *pair, square))
        for key, pair in zip(taxonomy.LESION_KEYS, noise)
    ]
    path = contact_sheet.save_contact_sheet(tmp_path / "gallery.png", cells)
    assert path.stat().st_size <= 600_000  # even for pure noise
    with Image.open(path) as picture:
        assert picture.size[0] > 600 and picture.size[1] > 600
