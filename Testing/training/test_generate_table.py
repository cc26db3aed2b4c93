"""The table of scans and which of them may carry which lesion type: bad tables in one line each, every exclusion with its reason."""

from __future__ import annotations

import csv
import os
from dataclasses import replace

import numpy as np
import pytest

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.taxonomy import ENHANCED, PLAIN
from PASTALib.volume import Volume, write_volume
from training.generate import templates
from training.generate.table import Row, digest, read_table


@pytest.fixture(scope="module")
def scans(tmp_path_factory, phantom_enhanced, phantom_plain):
    """Folder with the 4 mm torsos as files: enhanced.nii.gz, plain.nii.gz, organs.nii.gz (of the enhanced one, TotalSegmentator numbers)."""
    folder = tmp_path_factory.mktemp("scans")
    write_volume(phantom_enhanced.ct, folder / "enhanced.nii.gz")
    write_volume(phantom_plain.ct, folder / "plain.nii.gz")
    write_volume(phantom_enhanced.organs.structures, folder / "organs.nii.gz")
    write_volume(phantom_plain.organs.structures, folder / "organs_plain.nii.gz")
    return folder


def table(folder, *lines, head="ct,organs,organ_scheme", name="scans.csv"):
    path = folder / name
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def row(scans, ct="enhanced", organs="organs", **more):
    values = {"id": "a", "organ_scheme": "totalseg-v2", "patient": "a"} | more
    return Row(ct=str(scans / f"{ct}.nii.gz"), organs=str(scans / f"{organs}.nii.gz"), **values)


class TestReading:
    def test_paths_start_at_the_table_and_defaults_are_filled_in(self, scans):
        (scans / "note.txt").write_text("Impression: liver normal.", encoding="utf-8")
        path = table(
            scans,
            "enhanced.nii.gz,organs.nii.gz,totalseg-v2,note.txt,,P1",
            '',
            'plain.nii.gz,organs.nii.gz,,"Impression: cyst, left kidney",second,',
            head="CT,organs,organ_scheme,report,id,patient",
        )  # fmt: skip
        first, second = read_table(path)
        assert first.ct == str(scans / "enhanced.nii.gz") and first.organ_scheme == "totalseg-v2"
        assert (first.id, first.patient, first.report) == ("enhanced", "P1", "Impression: liver normal.")
        assert (second.id, second.patient, second.organ_scheme) == ("second", "second", None)
        assert second.report == "Impression: cyst, left kidney"

    def test_tabs_and_semicolons_separate_as_well(self, scans):
        for mark in "\t;":
            path = table(scans, mark.join(("enhanced.nii.gz", "organs.nii.gz")), head=f"ct{mark}organs")
            assert read_table(path)[0].id == "enhanced"

    def test_a_ct_called_like_all_others_is_named_after_its_folder(self, scans, tmp_path):
        for name in ("case 1", "case 2"):
            (tmp_path / name).mkdir()
            for file in ("ct.nii.gz", "organs.nii.gz"):
                os.link(scans / "organs.nii.gz", tmp_path / name / file)
        path = table(tmp_path, *(f"{n}/ct.nii.gz,{n}/organs.nii.gz" for n in ("case 1", "case 2")), head="ct,organs")
        assert [item.id for item in read_table(path)] == ["case_1", "case_2"]

    @pytest.mark.parametrize(
        ("head", "lines", "words"),
        [
            ("ct,scheme", ["a,b"], ["column organs missing", "found: ct, scheme"]),
            ("ct,organs", [], ["no scan in it"]),
            ("ct,organs", ["enhanced.nii.gz,nothing.nii.gz"], ["line 2", "nothing.nii.gz does not exist"]),
            ("ct,organs", ["enhanced.nii.gz,"], ["line 2", "no organs"]),
            ("ct,organs", ["enhanced.nii.gz,organs.nii.gz,extra"], ["line 2", "wanted 2 columns"]),
            ("ct,organs,organ_scheme", ["enhanced.nii.gz,organs.nii.gz,ts3"], ["line 2", "'ts3'", "totalseg-v2"]),
            ("ct,organs,report", ["enhanced.nii.gz,organs.nii.gz,gone.txt"], ["line 2", "gone.txt cannot be read"]),
            ("ct,organs,id", ["enhanced.nii.gz,organs.nii.gz,x", "plain.nii.gz,organs.nii.gz,x"], ["'x'", "more than once"]),
        ],
    )  # fmt: skip
    def test_a_bad_table_is_one_line_that_says_where(self, scans, head, lines, words):
        with pytest.raises(InputError) as caught:
            read_table(table(scans, *lines, head=head))
        message = str(caught.value)
        assert "\n" not in message and "scans.csv" in message
        assert all(word in message for word in words), message

    def test_a_missing_table_and_binary_data_are_refused(self, scans):
        with pytest.raises(InputError, match=r"none\.csv: no such file"):
            read_table(scans / "none.csv")
        with pytest.raises(InputError, match="not UTF-8 text"):
            read_table(scans / "enhanced.nii.gz")

    def test_the_digest_changes_with_every_entry(self, scans):
        base = row(scans)
        changed = [replace(base, report="x"), replace(base, organ_scheme=None), replace(base, id="b")]
        assert len({digest([item]) for item in (base, *changed)}) == 4


class TestJudging:
    def test_an_enhanced_torso_carries_what_the_paper_puts_into_enhanced_scans(self, scans):
        found = templates.screen(row(scans), "literal", False)
        template = templates.from_screening(row(scans), found)
        assert template.phase == ENHANCED and template.study == "Thorax-abdomen-pelvis CT"
        usable = {item.key for item in taxonomy.LESIONS if template.usable(item.key)}
        assert usable == {item.key for item in taxonomy.LESIONS if ENHANCED in item.phases}
        assert "needs Plain CT" in template.reasons["lung_tumor"][0]

    def test_a_report_that_names_an_organ_excludes_it(self, scans):
        text = "Impression: No focal liver lesion. Cyst in the left kidney."
        literal = templates.screen(row(scans, report=text), "literal", False)["reasons"]
        aware = templates.screen(row(scans, report=text), "negation-aware", False)["reasons"]
        assert literal["liver_tumor"] and literal["kidney_tumor"] and not literal["pancreas_tumor"]
        assert not aware["liver_tumor"] and aware["kidney_tumor"]

    def test_a_scan_of_another_region_is_excluded_unless_wanted(self, tmp_path, phantom_enhanced):
        part = slice(60, 110)  # from the upper abdomen into the chest, without bladder and first thoracic vertebra
        for name, volume in (("ct", phantom_enhanced.ct), ("organs", phantom_enhanced.organs.structures)):
            write_volume(Volume(volume.array[part], volume.affine), tmp_path / f"{name}.nii.gz")
        item = row(tmp_path, "ct")
        strict, any_range = (templates.screen(item, "literal", loose) for loose in (False, True))
        assert all("no study type of the paper fits" in reasons[0] for reasons in strict["reasons"].values())
        assert not any_range["reasons"]["liver_tumor"]

    @pytest.mark.parametrize("kind", ["grid", "values", "damaged"])
    def test_a_scan_that_cannot_be_used_keeps_its_reason(self, scans, tmp_path, phantom_enhanced, kind):
        ct = phantom_enhanced.ct
        if kind == "grid":
            ct = Volume(ct.array[:-1], ct.affine)
        elif kind == "values":
            ct = Volume(np.clip(ct.array // 16 + 64, 0, 255).astype(np.int16), ct.affine)
        write_volume(ct, tmp_path / "ct.nii.gz")
        if kind == "damaged":
            (tmp_path / "ct.nii.gz").write_bytes((tmp_path / "ct.nii.gz").read_bytes()[:5000])
        item = replace(row(scans), ct=str(tmp_path / "ct.nii.gz"))
        found = templates.screen(item, "literal", False)
        words = {"grid": "grid", "values": "HU", "damaged": "ends too early"}[kind]
        assert words in found["problem"] and "\n" not in found["problem"]
        assert templates.from_screening(item, found) is None
        templates.write_csv(tmp_path / "t.csv", [item], {"a": found}, [])
        (line,) = csv.DictReader((tmp_path / "t.csv").open(encoding="utf-8"))
        assert line["usable"] == "no" and line["reasons"] == found["problem"]

    def test_the_csv_holds_a_verdict_for_every_type(self, scans, tmp_path):
        rows = [row(scans), row(scans, "plain", "organs_plain", id="b")]
        screened = {item.id: templates.screen(item, "literal", False) for item in rows}
        found = [templates.from_screening(item, screened[item.id]) for item in rows]
        templates.write_csv(tmp_path / "t.csv", rows, screened, found)
        lines = list(csv.DictReader((tmp_path / "t.csv").open(encoding="utf-8")))
        assert len(lines) == 2 * len(taxonomy.LESIONS)
        assert all((line["usable"] == "yes") == (line["reasons"] == "") for line in lines)
        assert {line["phase"] for line in lines if line["id"] == "b"} == {PLAIN}

    def test_a_type_without_a_template_is_one_line(self, scans):
        template = templates.from_screening(row(scans), templates.screen(row(scans), "literal", False))
        templates.require_usable([template], ["liver_tumor"], "templates.csv")
        with pytest.raises(InputError, match=r"lung_tumor: none of the 1 scans .*needs Plain CT.*--phantom") as caught:
            templates.require_usable([template], ["liver_tumor", "lung_tumor"], "templates.csv")
        assert "\n" not in str(caught.value)

    def test_a_verdict_stands_until_files_or_rule_change(self, scans, tmp_path):
        for name in ("enhanced", "organs"):
            (tmp_path / f"{name}.nii.gz").write_bytes((scans / f"{name}.nii.gz").read_bytes())
        item = row(tmp_path)
        found = templates.screen(item, "literal", False)
        assert templates.still_valid(found, item, "literal", False)
        assert not templates.still_valid(found, item, "negation-aware", False)
        assert not templates.still_valid(found, replace(item, report="Impression: liver"), "literal", False)
        os.utime(tmp_path / "organs.nii.gz", (1, 1))
        assert not templates.still_valid(found, item, "literal", False)

    def test_a_scan_that_changed_since_is_not_used(self, scans):
        template = templates.from_screening(row(scans), templates.screen(row(scans), "literal", False))
        templates.load(template, 0.0)
        with pytest.raises(InputError, match="has changed since it was judged"):
            templates.load(replace(template, fingerprint="0" * 64), 0.0)


def test_generated_torsos_differ_in_anatomy_grid_and_noise():
    found = templates.phantom_templates(3.0, 4, 7)
    assert len(found) == 8 and {item.phase for item in found} == {ENHANCED, PLAIN}
    assert len({item.phantom.seed for item in found}) == 8 and len({item.fingerprint for item in found}) == 8
    assert len({item.spacing_zyx_mm for item in found}) == 4
    assert found == templates.phantom_templates(3.0, 4, 7) != templates.phantom_templates(3.0, 4, 8)
    assert all(any(item.usable(key) for item in found) for key in taxonomy.LESION_KEYS)


def test_a_resampled_template_is_canonical_and_as_large_as_foretold(scans):
    template = templates.from_screening(row(scans), templates.screen(row(scans), "literal", False))
    scan = templates.load(template, 5.0)
    assert np.allclose(scan.spacing, 5.0)
    assert scan.organs.structures.array.shape == scan.ct.array.shape
    assert abs(scan.ct.array.size / template.voxels(5.0) - 1) < 0.05
    assert template.voxels(0.0) == np.prod(template.shape_zyx)
