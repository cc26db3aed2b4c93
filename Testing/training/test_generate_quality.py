"""The quality page: expectations that follow from the priors, what is marked as unusual, and a page that needs nothing beside it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from PASTALib import attributes
from PASTALib.synthesis.draw import density_label
from PASTALib.synthesis.priors import load_priors
from PASTALib.taxonomy import ENHANCED, LESION_KEYS
from training.generate import marginals, quality

SETTINGS = {"seed": 5, "spacing_mm": 1.0, "cube": 280, "phantom_mm": 0.0}


def lesion(kind, rng=None, **changes):
    """A manifest entry of one lesion, drawn from the priors where ``rng`` is given."""
    values = {key: attributes.options(key)[0] for key in attributes.ATTRIBUTES if attributes.options(key)}
    values |= {"enhancement": ENHANCED, "size": "20×20×20 mm"}
    item = {"type": kind, "size_zxy_mm": [20.0, 20.0, 20.0], "tries": 1, "major_axis_mm": 20.0, "reference_hu": 100.0}
    if rng is not None:
        priors = load_priors()[kind]
        shape, mm = priors.sample_shape_and_size(rng)
        part = priors.choose_density(ENHANCED, rng)
        value = part.value.sample(rng) - (100.0 if part.kind == "absolute" else 0.0)
        mixed = part.component or rng.random() < priors.heterogeneous.at(mm)
        item["major_axis_mm"] = mm
        values |= {
            "shape": shape,
            "density": density_label(value),
            "heterogeneity": attributes.options("heterogeneity")[int(bool(mixed))],
            "surface": attributes.options("surface")[int(rng.random() < priors.ill_defined.at(mm))],
            "invasion": attributes.options("invasion")[int(rng.random() < priors.close.at(mm))],
        }
    return item | {"attributes": values} | changes


def line(kind, number=0, **changes):
    names = {"id": f"X/{kind}/{number:06d}", "type": kind, "number": number, "template": "t", "patient": "p"}
    facts = {"attempts": 1, "phase": ENHANCED, "bytes": 1_500_000, "lesions": [lesion(kind)], "files": {}}
    return names | facts | changes


@pytest.mark.parametrize("kind", ["liver_tumor", "kidney_tumor", "liver_cyst"])
def test_lesions_drawn_from_the_priors_look_usual(kind):
    rng = np.random.default_rng(3)
    drawn = [lesion(kind, rng) for _ in range(1500)]
    for key, options in marginals.shares(drawn, kind).items():
        assert abs(sum(item.share for item in options) - 1) < 1e-9
        assert abs(sum(item.expected for item in options) - 1) < 1e-6
        for item in options:
            assert abs(item.share - item.expected) < 0.05, (key, item)
            assert not item.unusual(len(drawn))


def test_a_set_of_equal_lesions_is_marked():
    found = marginals.shares([lesion("liver_tumor") for _ in range(50)], "liver_tumor")
    round_like = found["shape"][0]
    assert round_like.share == 1.0 and round_like.unusual(50)
    assert not round_like.unusual(1)  # a single lesion says nothing


def test_lengths_drawn_from_the_priors_follow_the_curve():
    rng = np.random.default_rng(4)
    for kind in ("bone_metastasis", "lung_tumor", "kidney_stone"):
        edges = marginals.size_bins(kind)
        lengths = [load_priors()[kind].sample_shape_and_size(rng)[1] for _ in range(3000)]
        drawn = np.histogram(np.clip(lengths, edges[0], edges[-1]), edges)[0] / len(lengths)
        expected = marginals.size_expected(kind, edges)
        assert abs(expected.sum() - 1) < 1e-6
        assert np.abs(drawn - expected).max() < 0.06
        assert abs(np.median(lengths) / marginals.size_median(kind) - 1) < 0.15


def test_published_cases_have_no_expectation():
    bare = lesion("liver_tumor", major_axis_mm=None, reference_hu=None)
    assert all(
        item.expected is None for options in marginals.shares([bare], "liver_tumor").values() for item in options
    )


class Tags(HTMLParser):
    """Collects outside references and checks that tags are closed in order."""

    VOID = {"meta", "img", "br", "path", "rect", "polygon", "polyline"}

    def __init__(self):
        super().__init__()
        self.open, self.references, self.ids, self.links = [], [], set(), []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.references += [value for key, value in attrs.items() if key in ("src", "srcset") or tag == "link"]
        self.ids.add(attrs.get("id"))
        if tag == "a":
            self.links.append(attrs["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_shows_every_type_and_needs_nothing_beside_it(tmp_path):
    lines = [line(kind, number) for kind in LESION_KEYS for number in range(3)]
    times = {item["id"]: {"seconds": 2.0, "cpu_s": 2.0, "loading_s": 0.5} for item in lines}
    failed = [{"id": "Liver/Tumor/000009", "type": "liver_tumor", "reasons": ["a", "attempt 9: <no> place"]}]
    pictures = {lines[0]["id"]: "<figure>picture</figure>"}
    page = quality.write_page(tmp_path / "q.html", lines, failed, pictures, SETTINGS, times).read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert all(item.startswith("data:") for item in tags.references) and "http" not in page
    assert {link.removeprefix("#") for link in tags.links} == set(LESION_KEYS) <= tags.ids
    assert page.count("<article") == 15 and page.count("<figure>picture") == 1
    for words in (
        "45 cases",
        "1 given up",
        "67.5 MB",
        "1 mm, 280³ voxels",
        "seed 5",
        "&lt;no&gt; place",
        "2 min of work",
    ):
        assert words in page, words
    assert not list(tmp_path.glob(".*"))


def test_a_picture_shows_the_lesion(tmp_path):
    from training.generate import make
    from training.generate.plan import Job, Plan, Settings
    from training.generate.templates import phantom_templates

    plan = Plan(Settings(0), phantom_templates(6.0, 1, 0))
    case = plan.case("liver_tumor", 0)
    (made,) = make.make_job(str(tmp_path), Job(case.templates[0], (case,)), plan.templates, plan.settings, 1 << 30)
    name, figure = quality.picture(str(tmp_path), made.line)
    assert name == case.id
    assert figure.count("<polygon") >= 1 and "data:image/jpeg;base64," in figure
    assert made.line["lesions"][0]["attributes"]["density"] in figure
    x = [float(pair.split(",")[0]) for pair in re.search(r"points='([^']+)'", figure)[1].split()]
    assert 20 < np.mean(x) < 80  # the lesion is in the middle


def test_the_first_cases_of_each_type_are_shown():
    lines = [line(kind, number) for number in (7, 3, 5, 1, 4, 0) for kind in ("gallstone", "liver_tumor")]
    shown = [(item["type"], item["number"]) for item in quality.to_show(lines)]
    assert shown == [(kind, number) for kind in ("liver_tumor", "gallstone") for number in (0, 1, 3, 4)]
