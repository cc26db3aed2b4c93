"""The account of a set: lines survive a stop at any byte, sums are checked, other people's sets are listed as they are found."""

from __future__ import annotations

import json
import shutil

import pytest

from PASTALib.cases import TYPE, read_reports
from PASTALib.errors import InputError
from training.generate import make, manifest
from training.generate.manifest import FAILURES, MANIFEST, Lines
from training.generate.plan import Job, Plan, Settings
from training.generate.published import index, verify
from training.generate.templates import phantom_templates

PLAN = Plan(Settings(2), phantom_templates(6.0, 1, 0))
KINDS = ("liver_tumor", "gallstone", "kidney_cyst")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with three cases and their manifest, not to be written to: use ``copy``."""
    out = tmp_path_factory.mktemp("set") / "out"
    out.mkdir()
    file = Lines(out / MANIFEST)
    for kind in KINDS:
        case = PLAN.case(kind, 0)
        (made,) = make.make_job(str(out), Job(case.templates[0], (case,)), PLAN.templates, PLAN.settings, 1 << 30)
        file.append(made.line)
    file.close()
    return out


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "out")


class TestLines:
    def test_a_line_is_there_once_append_returns(self, tmp_path):
        file = Lines(tmp_path / "m.jsonl")
        for number in range(3):
            file.append({"id": str(number)})
            assert [line["id"] for line in manifest.read_lines(file.path)] == [str(n) for n in range(number + 1)]

    def test_a_stop_at_any_byte_costs_at_most_the_last_line(self, tmp_path):
        path = tmp_path / "m.jsonl"
        file = Lines(path)
        for number in range(3):
            file.append({"id": f"case {number}", "text": "ä" * number})
        file.close()
        whole = path.read_bytes()
        for length in range(len(whole) + 1):
            path.write_bytes(whole[:length])
            complete = whole[:length].count(b"\n")
            file = Lines(path)
            assert len(file.read()) == complete
            file.append({"id": "next"})
            file.close()
            assert [line["id"] for line in file.read()] == [f"case {n}" for n in range(complete)] + ["next"]

    def test_a_long_torn_line_is_taken_away_whole(self, tmp_path):
        path = tmp_path / "m.jsonl"
        path.write_bytes(b'{"id": 1}\n{"id": "' + b"x" * 200_000)
        file = Lines(path)
        file.append({"id": 2})
        assert path.read_bytes() == b'{"id": 1}\n{"id":2}\n'

    def test_replacing_is_all_or_nothing(self, tmp_path):
        file = Lines(tmp_path / "m.jsonl")
        file.append({"id": 1})
        with pytest.raises(TypeError):
            file.replace([{"id": 2}, {"id": object()}])
        assert file.read() == [{"id": 1}]

    def test_a_folder_that_cannot_be_written_is_one_line(self, tmp_path):
        with pytest.raises(InputError, match="cannot be written"):
            Lines(tmp_path / "none" / "m.jsonl").append({"id": 1})


class TestSettling:
    def test_a_sound_set_stays_as_it_is(self, copy):
        before = (copy / MANIFEST).read_bytes()
        assert len(manifest.settle(copy, PLAN.case)) == 3
        assert (copy / MANIFEST).read_bytes() == before

    def test_what_a_kill_leaves_behind_is_removed(self, copy):
        for name in (".000007.0123456789ab.partial", ".000007.0123456789ab.old"):
            (copy / "Liver" / "Tumor" / name).mkdir()
        (copy / "Liver" / "Tumor" / ".notes").mkdir()  # not ours
        manifest.settle(copy, PLAN.case)
        assert sorted(item.name for item in (copy / "Liver" / "Tumor").iterdir()) == [".notes", "000000"]

    @pytest.mark.parametrize("harm", ["no folder", "no file", "short file", "other key", "other place", "doubled"])
    def test_lines_that_do_not_hold_are_dropped(self, copy, harm):
        lines = Lines(copy / MANIFEST).read()
        folder = copy / lines[0]["id"]
        if harm == "no folder":
            shutil.rmtree(folder)
        elif harm == "no file":
            (folder / TYPE).unlink()
        elif harm == "short file":
            (folder / "img.nii.gz").write_bytes(b"")
        elif harm == "other key":
            lines[0]["key"] = "0"
        elif harm == "other place":
            lines[0]["id"] = lines[1]["id"]
        else:
            lines.append(lines[0])
        Lines(copy / MANIFEST).replace(lines)
        kept = [line["id"] for line in manifest.settle(copy, PLAN.case)]
        assert len(kept) == (3 if harm == "doubled" else 2) and len(set(kept)) == len(kept)
        assert [line["id"] for line in Lines(copy / MANIFEST).read()] == kept


class TestSums:
    def test_every_file_is_checked(self, copy):
        assert verify(copy) == (3, [])
        lines = Lines(copy / MANIFEST).read()
        path = copy / lines[1]["id"] / "label.nii.gz"
        data = bytearray(path.read_bytes())
        data[20] ^= 1
        path.write_bytes(data)
        (copy / lines[2]["id"] / TYPE).unlink()
        wrong = [f"{lines[1]['id']}/label.nii.gz", f"{lines[2]['id']}/{TYPE}"]
        assert verify(copy) == (3, wrong)

    def test_a_folder_without_manifest_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="no manifest"):
            verify(tmp_path)

    def test_the_digest_does_not_depend_on_the_order(self, copy):
        lines = Lines(copy / MANIFEST).read()
        one, other = (manifest.dataset(item, [], {"seed": 2}) for item in (lines, lines[::-1]))
        assert (
            one == other
            and one["cases"] == 3
            and one["by_type"] == dict.fromkeys(sorted(KINDS, key=list(one["by_type"]).index), 1)
        )
        lines[0]["seed"] += 1
        assert manifest.dataset(lines, [], {"seed": 2})["sha256"] != one["sha256"]


class TestPublished:
    @pytest.fixture
    def replica(self, copy):
        """The set as the authors publish theirs: no case.json, no manifest."""
        for folder in copy.glob("*/*/*"):
            (folder / "case.json").unlink()
        for file in copy.glob("*.json*"):
            file.unlink()
        return copy

    def test_cases_are_listed_as_they_are_found(self, replica):
        found = manifest.index(replica)
        first = next(found)  # before the others are looked at
        for folder in replica.glob("*/*/*"):
            if folder.relative_to(replica).as_posix() != first["id"]:
                shutil.rmtree(folder)
        assert list(found) == []
        assert first["type"] == "gallstone" and first["key"] is None and "sha256" not in first["files"][TYPE]
        report = read_reports(replica / first["id"])[0]
        assert first["lesions"][0]["attributes"]["shape"] == report.value("shape")

    def test_a_listing_has_a_manifest_a_page_and_the_reasons_of_what_is_unreadable(self, replica, tmp_path):
        (replica / "Kidney" / "Cyst" / "000000" / TYPE).write_text("{", encoding="utf-8")
        outcome = index(replica, tmp_path / "list", sums=True)
        assert outcome.dataset["cases"] == 2 and outcome.dataset["given_up"] == ["Kidney/Cyst/000000"]
        assert outcome.notes and "1 of 3 cases cannot be read" in outcome.notes[0]
        (failure,) = Lines(tmp_path / "list" / FAILURES).read()
        assert "not valid JSON" in failure["problem"]
        page = (tmp_path / "list" / "quality.html").read_text(encoding="utf-8")
        assert page.count("<article") == 2 and "not valid JSON" in page
        listed = Lines(tmp_path / "list" / MANIFEST).read()
        assert manifest.wrong_files(replica, listed) == []
        assert json.loads((tmp_path / "list" / "dataset.json").read_text())["settings"] == {"indexed": "out"}

    def test_a_set_without_a_readable_case_is_one_line(self, replica, tmp_path):
        for path in replica.glob(f"*/*/*/{TYPE}"):
            path.unlink()
        with pytest.raises(InputError, match=r"no readable case there; the first problem: .*type\.json missing"):
            index(replica, tmp_path / "list")
        assert not (tmp_path / "list").exists()
        with pytest.raises(InputError, match="no such folder"):
            index(tmp_path / "none", tmp_path / "list")
