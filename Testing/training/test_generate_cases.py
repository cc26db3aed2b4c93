"""Plan and making of cases: pure functions of seed, type and number; cubes; cases found again; several lesions."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from PASTALib.cases import IMAGE, LABEL, read_case
from PASTALib.errors import InputError
from PASTALib.synthesis.generator import synthesise
from PASTALib.synthesis.spec import LesionRequest
from PASTALib.taxonomy import LESION_KEYS
from training.generate import make
from training.generate.manifest import is_complete, line_of
from training.generate.plan import Job, Plan, Settings, folder_of, jobs_of, seed_of
from training.generate.templates import phantom_templates

TEMPLATES = phantom_templates(5.0, 3, 0)
LARGE = 4 << 30


@pytest.fixture(scope="module")
def one_template():
    """A single 5 mm torso, so that it is generated once for all tests of this file."""
    return [TEMPLATES[0]]


def made(out, plan, *cases, **more):
    out.mkdir(exist_ok=True)
    return make.make_job(str(out), Job(cases[0].templates[0], cases), plan.templates, plan.settings, LARGE, **more)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


class TestPlan:
    def test_a_case_depends_on_seed_type_and_number_only(self):
        plan, again = Plan(Settings(3), TEMPLATES), Plan(Settings(3), TEMPLATES)
        few, many = plan.cases(["liver_tumor"], 3), again.cases(LESION_KEYS, 7)
        assert set(few) <= set(many)
        assert len({case.id for case in many}) == len({case.key for case in many}) == len(many) == 7 * 15

    def test_templates_are_dealt_evenly_and_only_to_types_they_may_carry(self):
        plan = Plan(Settings(0), TEMPLATES)
        for lesion in LESION_KEYS:
            usable = {item.id for item in TEMPLATES if item.usable(lesion)}
            deal = [plan.case(lesion, number).templates[0] for number in range(len(usable))]
            assert set(deal) == usable
        assert len({plan.case("liver_tumor", n).templates[0:2] for n in range(60)}) > 3

    def test_a_case_that_fails_in_its_template_may_go_to_two_others(self):
        case = Plan(Settings(0), TEMPLATES).case("liver_tumor", 5)
        assert len(set(case.templates)) == 3
        assert len(Plan(Settings(0), TEMPLATES[:1]).case("liver_tumor", 5).templates) == 1

    @pytest.mark.parametrize("change", [{"seed": 1}, {"cube": 64}, {"spacing_mm": 2.0}, {"multiple": True}])
    def test_the_key_changes_with_every_setting_and_template(self, change):
        base = Settings(0)
        key = Plan(base, TEMPLATES).case("gallstone", 0).key
        assert Plan(replace(base, **change), TEMPLATES).case("gallstone", 0).key != key
        other = [replace(item, fingerprint="x") for item in TEMPLATES]
        assert Plan(base, other).case("gallstone", 0).key != key

    def test_seeds_do_not_repeat(self):
        seeds = [
            seed_of(Settings(0), lesion, number, attempt)
            for lesion in LESION_KEYS
            for number in range(50)
            for attempt in range(3)
        ]
        assert len(set(seeds)) == len(seeds)

    def test_jobs_hold_every_case_once_and_one_template_each(self):
        cases = Plan(Settings(0), TEMPLATES).cases(LESION_KEYS, 9)
        for workers in (1, 2, 64):
            jobs = jobs_of(cases, workers)
            assert sorted(case.id for job in jobs for case in job.cases) == sorted(case.id for case in cases)
            assert all(case.templates[0] == job.template for job in jobs for case in job.cases)
            assert max(len(job.cases) for job in jobs) <= 8

    def test_folders_are_those_of_the_published_set(self):
        assert folder_of("gallstone", 12) == "Gall/Stone/000012"


class TestMaking:
    def test_the_same_bytes_alone_or_in_another_order(self, tmp_path, one_template):
        plan = Plan(Settings(1), one_template)
        cases = plan.cases(["liver_tumor", "kidney_cyst"], 2)
        first = [item.line for item in made(tmp_path / "a", plan, *cases)]
        for case in reversed(cases):
            made(tmp_path / "b", plan, case)
        assert [line_of(tmp_path / "b", tmp_path / "b" / case.id) for case in cases] == first
        for case in cases:
            assert contents(tmp_path / "a" / case.id) == contents(tmp_path / "b" / case.id)

    def test_a_complete_case_is_found_again_and_not_touched(self, tmp_path, one_template):
        plan = Plan(Settings(1), one_template)
        case = plan.case("liver_tumor", 0)
        (new,) = made(tmp_path, plan, case)
        before = (tmp_path / case.id / IMAGE).stat().st_mtime_ns
        (found,) = made(tmp_path, plan, case)
        assert found.found and not new.found and found.line == new.line
        assert (tmp_path / case.id / IMAGE).stat().st_mtime_ns == before

    @pytest.mark.parametrize("harm", ["cut", "other plan", "missing", "flipped"])
    def test_a_case_that_is_not_whole_is_made_again(self, tmp_path, one_template, harm):
        plan = Plan(Settings(1), one_template)
        case = plan.case("liver_tumor", 0)
        (new,) = made(tmp_path, plan, case)
        folder = tmp_path / case.id
        whole = contents(folder)
        if harm == "cut":
            (folder / IMAGE).write_bytes(whole[IMAGE][:-100])
        elif harm == "flipped":
            data = bytearray(whole[IMAGE])
            data[len(data) // 2] ^= 255
            (folder / IMAGE).write_bytes(data)
        elif harm == "missing":
            (folder / LABEL).unlink()
        else:
            record = json.loads(whole["case.json"])
            record["options"]["key"] = "0" * 32
            (folder / "case.json").write_text(json.dumps(record))
        assert not is_complete(folder, case.key)
        (again,) = made(tmp_path, plan, case)
        assert not again.found and again.line == new.line and contents(folder) == whole

    def test_the_line_says_what_is_on_disk(self, tmp_path, one_template):
        plan = Plan(Settings(1), one_template)
        case = plan.case("pancreas_cyst", 0)
        (result,) = made(tmp_path, plan, case)
        line, read = result.line, read_case(tmp_path / case.id)
        assert (line["id"], line["type"], line["key"]) == (case.id, "pancreas_cyst", case.key)
        assert line["lesions"][0]["attributes"]["density"] == read.reports[0].value("density")
        assert line["lesions"][0]["size_zxy_mm"] == list(read.reports[0].size_mm)
        assert line["bytes"] == sum(f.stat().st_size for f in (tmp_path / case.id).iterdir())
        assert line["template"] == one_template[0].id and line["phase"] == one_template[0].phase

    def test_a_case_that_nothing_can_carry_is_given_up_with_reasons(self, tmp_path, one_template, monkeypatch):
        def never(scan, request):
            raise InputError("no place")

        monkeypatch.setattr(make, "synthesise", never)
        plan = Plan(Settings(1, attempts=4), one_template)
        (result,) = made(tmp_path, plan, plan.case("liver_tumor", 0))
        assert result.line is None and len(result.reasons) == 4 and "no place" in result.reasons[0]
        assert not (tmp_path / "Liver").exists()

    def test_a_result_that_was_not_accepted_is_tried_with_another_seed(self, tmp_path, one_template, monkeypatch):
        seeds = []

        def picky(scan, request):
            seeds.append(request.seed)
            result = synthesise(scan, request)
            result.accepted = len(seeds) > 2
            return result

        monkeypatch.setattr(make, "synthesise", picky)
        plan = Plan(Settings(1), one_template)
        (result,) = made(tmp_path, plan, plan.case("liver_tumor", 0))
        assert len(set(seeds)) == 3 and result.line["attempts"] == 3 and result.line["seed"] == seeds[-1]

    def test_several_lesions_leave_the_cached_scan_as_it_was(self, tmp_path, one_template):
        plan = Plan(Settings(1, multiple=True), one_template)
        scan = make._CACHE.get(one_template[0], 0.0, LARGE)
        before = scan.ct.array.copy()
        cases = [plan.case("liver_cyst", number) for number in range(6)]
        lines = [item.line for item in made(tmp_path, plan, *cases)]
        counts = [len(line["lesions"]) for line in lines]
        assert max(counts) > 1
        assert np.array_equal(scan.ct.array, before) and not scan.lesions
        many = read_case(tmp_path / lines[int(np.argmax(counts))]["id"])
        assert set(np.unique(many.instances.array)) == set(range(max(counts) + 1))


class TestCube:
    def test_the_cube_holds_the_scan_around_the_lesion_unchanged(self, tmp_path, one_template):
        whole, cut = Plan(Settings(1), one_template), Plan(Settings(1, cube=40), one_template)
        case = whole.case("liver_tumor", 0)
        made(tmp_path / "whole", whole, case)
        made(tmp_path / "cut", cut, cut.case("liver_tumor", 0))
        full, cube = (read_case(tmp_path / name / case.id) for name in ("whole", "cut"))
        assert cube.ct.array.shape == (40, 40, 40)
        at = np.rint(full.ct.to_index(cube.ct.to_ras(np.zeros(3)))).astype(int)
        part = tuple(slice(start, start + 40) for start in at)
        for name in ("ct", "label"):
            assert np.array_equal(getattr(cube, name).array, getattr(full, name).array[part])
        assert np.array_equal(cube.organs.labels.array, full.organs.labels.array[part])
        assert (cube.label.array == 2).sum() == (full.label.array == 2).sum() > 0
        assert cube.reports[0].options == full.reports[0].options
        hit = np.argwhere(cube.label.array == 2)
        inside = (at > 0) & (at + 40 < full.ct.array.shape)  # axes along which the scan's border does not push it aside
        assert np.all(np.abs((hit.min(0) + hit.max(0)) / 2 - 19.5)[inside] <= 1)

    def test_a_cube_larger_than_the_scan_is_filled_with_air(self, tmp_path, one_template):
        plan = Plan(Settings(1, cube=128), one_template)
        case = plan.case("liver_tumor", 0)
        made(tmp_path, plan, case)
        cube = read_case(tmp_path / case.id)
        assert cube.ct.array.shape == (128, 128, 128)
        shape = np.array(make._CACHE.get(one_template[0], 0.0, LARGE).ct.array.shape)
        first = (128 - shape[1]) // 2
        assert (cube.ct.array[:, :first] == make.AIR_HU).all() and not cube.label.array[:, :first].any()
        assert (cube.organs.labels.array > 0).any()

    def test_a_lesion_larger_than_the_cube_is_no_case(self, one_template):
        scan = make._CACHE.get(one_template[0], 0.0, LARGE)
        result = synthesise(scan, LesionRequest("liver_tumor", seed=1, size_mm=(60.0, 60.0, 60.0)))
        assert make._cube(scan, result, 0) is None
        assert all(high - low == 32 for low, high in make._cube(scan, result, 32))
        with pytest.raises(InputError, match="voxels long, the cube has 8"):
            make._cube(scan, result, 8)


def test_the_cache_forgets_what_was_used_longest_ago(monkeypatch):
    loaded = []

    class Scan:
        def __init__(self, name):
            loaded.append(name)
            self.ct = self.organs = self.labels = self
            self.array, self.structures, self.geometry = np.zeros(1000, np.uint8), None, {}

    monkeypatch.setattr(make, "load", lambda template, spacing: Scan(template.id))
    small = [replace(item, shape_zyx=(5, 10, 10)) for item in TEMPLATES[:3]]
    cache = make.ScanCache()
    for template in (small[0], small[1], small[0], small[2], small[0], small[1]):
        cache.get(template, 0.0, 5000)
    assert loaded == [small[n].id for n in (0, 1, 2, 1)]
    cache.get(small[2], 0.0, 0)
    assert len(cache._kept) == 1  # the one in use, whatever the limit


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path, one_template):
    plan = Plan(Settings(1), one_template)
    with pytest.raises(InputError, match="is not there on the worker .*share the folder"):
        make.make_job(
            str(tmp_path / "none"), Job("x", (plan.case("liver_tumor", 0),)), plan.templates, plan.settings, 1
        )


def test_images_are_read_to_their_last_byte_before_a_case_counts(tmp_path, one_template):
    """A file that gzip can begin to read is not enough."""
    plan = Plan(Settings(1), one_template)
    case = plan.case("liver_tumor", 0)
    made(tmp_path, plan, case)
    path = tmp_path / case.id / LABEL
    with gzip.open(path) as stream:
        data = stream.read()
    path.write_bytes(gzip.compress(data)[:-4])  # all voxels there, the length at the end is not
    assert not is_complete(tmp_path / case.id, case.key)


def test_the_bench_measures_cases_and_projects_them():
    from Testing.bench import generate_figures as bench

    cases = bench.measure_cases(["liver_tumor"], per_type=3, spacing_mm=6.0, cube=40)
    assert (
        len(cases["cpu_s"]) == 2 and cases["given_up"] == [0.0] * 3
    )  # the first one reads the torso, too, and is not timed
    assert all(0 < value < 30 for value in cases["wall_s"] + cases["cpu_s"])
    template = {"judge_cpu_s": 3.0, "load_cpu_s": 7.0}
    found = bench.projection({"cpu_s": [2.0, 2.0], "mb": [40.0]}, template, count=32_000, cores=64)
    assert found["per_core"] == 1800 and abs(found["hours_cases"] - 1000 / 3600) < 1e-9
    assert abs(found["hours_templates"] - bench.PAPER_SCANS * 10 / 64 / 3600) < 1e-9
    assert abs(found["terabytes"] - 1.28) < 1e-9
