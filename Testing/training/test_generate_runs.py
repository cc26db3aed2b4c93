"""``python -m training generate`` end to end: the same bytes whatever the workers, whatever was killed; resuming, refusals, clusters."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.phantom import make_phantom
from PASTALib.volume import write_volume
from training.cli import app
from training.generate import clusters, making, schedule
from training.generate.manifest import MANIFEST, Lines

ROOT = Path(__file__).resolve().parents[2]
DIGESTED = ("dataset.json", "manifest.jsonl")
posix = pytest.mark.skipif(os.name == "nt", reason="kills by signal")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A table of an enhanced and a plain torso at 5 mm."""
    folder = tmp_path_factory.mktemp("scans")
    lines = ["ct,organs,organ_scheme,id"]
    for name, phase in (("enhanced", taxonomy.ENHANCED), ("plain", taxonomy.PLAIN)):
        made = make_phantom(5.0, phase)
        write_volume(made.ct, folder / f"{name}.nii.gz")
        write_volume(made.organs.structures, folder / f"{name}_organs.nii.gz")
        lines.append(f"{name}.nii.gz,{name}_organs.nii.gz,totalseg-v2,{name}")
    table = folder / "scans.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


def call(*arguments, out, code=0):
    """The command in this process; its stdout. ``code``: the exit code it must have."""
    done = CliRunner().invoke(app, ["generate", "--out", str(out), *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def start(*arguments, out, **more):
    """The command in a process of its own, in a group of its own."""
    command = [sys.executable, "-m", "training", "generate", "--out", str(out), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  tests in the background are deaf to it
    return subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, preexec_fn=heard if os.name == "posix" else None, **pipes, **more
    )


def cases_of(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in Path(out).glob("*/*/*/*")}


def same_set(out, reference):
    """Manifest, description and every file of every case are equal, and there is nothing else."""
    assert cases_of(out) == cases_of(reference)
    for name in DIGESTED:
        assert (out / name).read_bytes() == (reference / name).read_bytes(), name
    assert [path.name for path in out.glob("*/*/.*")] == []


@pytest.fixture(scope="module")
def reference(scans, tmp_path_factory):
    """An undisturbed run without Dask: three cases of four types."""
    out = tmp_path_factory.mktemp("reference") / "out"
    call("--table", scans, "--per-type", 3, "--types", WANTED, "--workers", 0, out=out)
    return out


WANTED = "liver_tumor,kidney_cyst,lung_tumor,gallstone"
COUNT = 12


class TestOneProcess:
    def test_the_set_is_whole(self, reference):
        data = json.loads((reference / "dataset.json").read_text())
        assert data["cases"] == COUNT and set(data["by_type"].values()) == {3} and not data["given_up"]
        lines = Lines(reference / MANIFEST).read()
        assert len({line["id"] for line in lines}) == COUNT
        assert (reference / "templates.csv").is_file() and (reference / "quality.html").is_file()
        assert "12 cases: every file" in call("--verify", out=reference)

    def test_the_smoke_preset_needs_no_data(self, tmp_path):
        answer = json.loads(call("--preset", "smoke", "--workers", 0, "--json", out=tmp_path / "out"))
        assert answer["cases"] == answer["made"] == 3 and answer["settings"]["phantom_mm"] == 5.0

    def test_resuming_a_finished_set_makes_nothing(self, reference, tmp_path):
        out = shutil.copytree(reference, tmp_path / "out")
        answer = json.loads(call("--resume", "--json", "--workers", 0, out=out))
        assert (answer["made"], answer["found"]) == (0, 0)
        same_set(out, reference)

    def test_a_set_can_grow_and_what_was_there_stays(self, reference, tmp_path):
        out = shutil.copytree(reference, tmp_path / "out")
        before = cases_of(out)
        answer = json.loads(call("--resume", "--per-type", 4, "--json", "--workers", 0, out=out))
        assert answer["made"] == 4 and answer["cases"] == 16
        assert before.items() <= cases_of(out).items()

    def test_after_any_accident_the_set_is_completed_to_the_same_bytes(self, reference, tmp_path):
        out = shutil.copytree(reference, tmp_path / "out")
        lines = Lines(out / MANIFEST).read()
        folders = [out / line["id"] for line in lines]
        shutil.rmtree(folders[0])  # a line without files
        (folders[1] / "img.nii.gz").write_bytes((folders[1] / "img.nii.gz").read_bytes()[:-9])  # cut, no line
        # 2 and 3: whole, no line; 4: another version of the case, no line
        record = json.loads((folders[4] / "case.json").read_text())
        record["options"]["key"] = "0" * 32
        (folders[4] / "case.json").write_text(json.dumps(record))
        (folders[5].parent / f".{folders[5].name}.0123456789ab.partial").mkdir()
        kept = [lines[0], *lines[5:], lines[6]]  # one doubled
        Lines(out / MANIFEST).replace(kept)
        with open(out / MANIFEST, "ab") as stream:
            stream.write(b'{"id": "torn')
        for name in ("dataset.json", "quality.html"):
            (out / name).unlink()
        answer = json.loads(call("--resume", "--json", "--workers", 0, out=out))
        assert (answer["made"], answer["found"]) == (3, 2)
        same_set(out, reference)

    def test_verify_with_resume_makes_wrong_files_again(self, reference, tmp_path):
        out = shutil.copytree(reference, tmp_path / "out")
        path = out / Lines(out / MANIFEST).read()[2]["id"] / "type.json"
        path.write_bytes(path.read_bytes().replace(b"C", b"X", 1))  # same length
        assert "1 files of 12 cases" in call("--verify", out=out, code=1)
        answer = json.loads(call("--resume", "--verify", "--json", "--workers", 0, out=out))
        assert answer["made"] == 1 and "wrong sums" in answer["notes"][0]
        same_set(out, reference)

    def test_a_screened_scan_is_not_judged_again(self, reference, tmp_path, monkeypatch):
        out = shutil.copytree(reference, tmp_path / "out")

        def never(*_):
            raise AssertionError("judged again")

        monkeypatch.setattr("training.generate.templates.screen", never)
        call("--resume", "--per-type", 3, "--workers", 0, out=out)

    def test_overwriting_removes_our_cases_only(self, reference, tmp_path, scans):
        out = shutil.copytree(reference, tmp_path / "out")
        (out / "Liver" / "notes.txt").write_text("mine")
        call("--overwrite", "--table", scans, "--types", "gallstone", "--per-type", 1, "--workers", 0, out=out)
        assert {name.rsplit("/", 1)[0] for name in cases_of(out)} == {"Gall/Stone/000000"}
        assert (out / "Liver" / "notes.txt").read_text() == "mine"

    def test_cases_that_cannot_be_made_are_counted_and_told(self, tmp_path, scans, monkeypatch):
        def never(scan, request):
            raise InputError("no place for it")

        monkeypatch.setattr("training.generate.make.synthesise", never)
        arguments = ("--table", scans, "--types", "gallstone", "--per-type", 2, "--workers", 0)
        assert "2 cases could not be made" in call(*arguments, out=tmp_path / "out", code=1)
        page = (tmp_path / "out" / "quality.html").read_text(encoding="utf-8")
        assert "Gall/Stone/000001" in page and "no place for it" in page
        call("--resume", "--workers", 0, out=tmp_path / "out", code=1)  # not tried again: it would come out the same


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ([], "--table FILE, or --phantom MM"),
            (["--phantom", "0.1"], "--phantom 0.1 is out of range"),
            (["--phantom", "5", "--per-type", "0"], "--per-type 0 is out of range"),
            (["--phantom", "5", "--types", "liver_tumr"], "did you mean liver_tumor"),
            (["--phantom", "5", "--cube", "7"], "--cube 7 is out of range"),
            (["--phantom", "5", "--rule", "strict"], "--rule 'strict'"),
            (["--phantom", "5", "--preset", "papr"], "no preset 'papr'"),
            (["--phantom", "5", "--set", "attemps=3"], "did you mean attempts"),
            (["--phantom", "5", "--workers", "-1"], "--workers -1"),
            (["--phantom", "5", "--slurm"], "--slurm needs --workers"),
            (["--phantom", "5", "--slurm", "--workers", "2", "--scheduler", "tcp://x:1"], "choose one"),
            (["--phantom", "5", "--memory", "0.1"], "--memory 0.1"),
            (["--resume"], "no run to resume"),
            (["--verify"], "no manifest"),
            (["--index", "x", "--phantom", "5"], "--index only lists"),
        ],
    )
    def test_bad_options_are_one_line(self, tmp_path, arguments, words):
        output = call(*arguments, out=tmp_path / "out", code=2)
        assert words in " ".join(output.split()) and output.strip().count("\n") == 0
        assert not (tmp_path / "out").exists()

    def test_table_and_phantom_exclude_each_other(self, tmp_path, scans):
        assert "choose one" in call("--table", scans, "--phantom", 5, out=tmp_path / "out", code=2)

    def test_a_run_is_not_mixed_with_another(self, reference, tmp_path, scans):
        out = shutil.copytree(reference, tmp_path / "out")
        assert "holds a run" in call("--table", scans, out=out, code=2)
        assert "seed was 0" in call("--resume", "--seed", 1, out=out, code=2)
        assert "cube was 0" in call("--resume", "--cube", 64, out=out, code=2)
        other = scans.with_name("other.csv")
        other.write_text(scans.read_text().replace("plain\n", "flat\n"))
        assert "table_sha256 was" in call("--resume", "--table", other, out=out, code=2)
        same_set(out, reference)

    def test_a_set_is_not_mixed_with_another_version_or_other_scans(self, reference, tmp_path, monkeypatch):
        out = shutil.copytree(reference, tmp_path / "out")
        config = json.loads((out / "config.json").read_text())
        config["templates"]["plain"] = "0"
        (out / "config.json").write_text(json.dumps(config))
        assert "scan plain is not what it was" in call("--resume", "--workers", 0, out=out, code=2)
        monkeypatch.setattr("PASTALib.__version__", "9.9")
        assert "this is 9.9" in call("--resume", "--workers", 0, out=out, code=2)
        same_set(out, reference)

    @posix
    def test_two_sessions_in_one_folder_are_refused(self, reference, tmp_path):
        from training.generate.locks import locked

        out = shutil.copytree(reference, tmp_path / "out")
        with locked(out / ".lock") as mine:
            assert mine
            assert "another process is generating there" in call("--resume", "--workers", 0, out=out, code=2)

    def test_a_type_without_template_and_a_bad_scan(self, tmp_path, scans):
        table = scans.with_name("few.csv")
        shutil.copy(scans.with_name("enhanced_organs.nii.gz"), scans.with_name("mask.nii.gz"))
        first = scans.read_text().splitlines()[:2]
        table.write_text("\n".join([*first, "mask.nii.gz,enhanced_organs.nii.gz,totalseg-v2,mask"]) + "\n")
        output = call("--table", table, "--types", "lung_tumor", "--workers", 0, out=tmp_path / "a", code=2)
        assert "lung_tumor: none of the 1 scans may carry it" in output and "needs Plain CT" in output
        arguments = ("--table", table, "--types", "gallstone", "--per-type", 1, "--workers", 0, "--json")
        answer = json.loads(call(*arguments, out=tmp_path / "b"))
        assert "1 of 2 scans cannot be used" in answer["notes"][0] and answer["cases"] == 1

    def test_a_disk_that_cannot_hold_it_stops_early_and_force_goes_on(self, tmp_path, scans, monkeypatch):
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(making.shutil, "disk_usage", lambda _: usage(10**9, 0, making.SPARE_BYTES + 2_000_000))
        arguments = ("--table", scans, "--types", "gallstone", "--per-type", 12, "--workers", 0)
        output = call(*arguments, out=tmp_path / "out", code=2)
        assert re.search(r"the \d+ cases still to make need about [\d.]+ MB, 2.0 MB are free", output)
        done = Lines(tmp_path / "out" / MANIFEST).read()
        assert making.PROBE_CASES <= len(done) < 12
        assert "free" in call("--resume", "--workers", 0, out=tmp_path / "out", code=2)
        answer = json.loads(call("--resume", "--force", "--workers", 0, "--json", out=tmp_path / "out"))
        assert answer["cases"] == 12 and answer["made"] == 12 - len(done)

    def test_an_unreachable_scheduler_is_one_line(self, tmp_path, monkeypatch):
        pytest.importorskip("distributed")
        monkeypatch.setattr(clusters, "CONNECT_S", 1)
        output = call("--phantom", 5, "--scheduler", "tcp://127.0.0.1:9", out=tmp_path / "out", code=2)
        assert "--scheduler tcp://127.0.0.1:9: cannot be reached" in output

    def test_without_dask_there_is_a_hint(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "distributed", None)
        assert "pip install" in call("--phantom", 5, "--workers", 2, out=tmp_path / "out", code=2)


class TestQueue:
    def test_a_worker_keeps_its_template_and_others_take_what_is_left_most(self):
        pieces = [
            schedule.Piece(group, (), f"{group}{n}") for group, count in (("a", 4), ("b", 3)) for n in range(count)
        ]
        queue = schedule._Queue.of(pieces)
        taken = [(worker, queue.take(worker).group) for worker in ("x", "y", "x", "y", "x", "y", "x")]
        assert taken == [("x", "a"), ("y", "b"), ("x", "a"), ("y", "b"), ("x", "a"), ("y", "b"), ("x", "a")]
        assert not queue

    def test_a_worker_stays_idle_where_fetching_the_data_is_not_worth_it(self):
        queue = schedule._Queue.of([schedule.Piece("a", (), f"a{n}") for n in range(5)])
        few = lambda left: left > 3  # noqa: E731
        assert queue.take("x", "xy", few).group == "a"
        assert queue.take("y", "xy", few).group == "a"  # four are left
        assert queue.take("z", "xyz", few) is None
        assert queue.take("z", "z", few).group == "a", "the others are gone"
        assert queue.take("x", "xz", few).group == "a", "its own group"

    def test_a_piece_that_was_lost_is_halved_and_refused_in_the_end(self):
        single = schedule.Piece("a", (), "case 1")
        pair = schedule.Piece("a", (), "cases 1 and 2", halves=lambda: [single, schedule.Piece("a", (), "case 2")])
        assert [part.lost for part in schedule._again(pair, clusters.Workers(2))] == [1, 1]
        for _ in range(schedule.LOST_LIMIT - 1):
            assert schedule._again(single, clusters.Workers(2)) == [single]
        with pytest.raises(InputError, match="case 1: the workers die of it again and again"):
            schedule._again(single, clusters.Workers(2))


# --- workers, kills, clusters ------------------------------------------------------------------------------------------


def dask_children(process):
    """Worker processes of a running command."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def kill(process):
    process.kill()
    process.communicate()


def finished(process, wait_s):
    """Whether the command has ended by itself within ``wait_s``; it must have ended well then."""
    try:
        _, err = process.communicate(timeout=wait_s)
    except subprocess.TimeoutExpired:
        return False
    assert process.returncode == 0, err
    return True


def killed_run(scans, out, rng, wanted, workers, per_type):
    """Run to the end while killing worker or main process at random moments; how many kills there were, up to ``wanted``."""
    kills = 0
    arguments = ["--table", scans, "--per-type", per_type, "--types", WANTED]
    while True:
        begun = (out / "config.json").is_file()
        process = start(*(["--resume"] if begun else arguments), "--workers", workers, out=out)
        try:
            while not finished(process, rng.uniform(0.3, 3.0) if kills < wanted else 120):
                victims = dask_children(process)
                if workers and victims and rng.random() < 0.7:
                    rng.choice(victims).kill()
                    kills += 1
                elif (out / "config.json").is_file() and rng.random() < 0.6:
                    kill(process)
                    kills += 1
                    break
            else:
                return kills
        finally:
            if process.poll() is None:
                kill(process)


@posix
class TestWorkers:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_same_bytes_whatever_the_workers(self, scans, reference, tmp_path, workers):
        pytest.importorskip("distributed")
        arguments = ("--table", scans, "--per-type", 3, "--types", WANTED, "--workers", workers)
        call(*arguments, out=tmp_path / "out")
        same_set(tmp_path / "out", reference)

    def test_an_existing_scheduler_serves_as_well(self, scans, reference, tmp_path):
        distributed = pytest.importorskip("distributed")
        options = {"threads_per_worker": 1, "dashboard_address": None}
        with distributed.LocalCluster(n_workers=1, processes=True, **options) as cluster:
            arguments = ("--table", scans, "--per-type", 3, "--types", WANTED)
            call(*arguments, "--scheduler", cluster.scheduler_address, out=tmp_path / "out")
            with distributed.Client(cluster, set_as_default=False) as client:
                assert len(client.scheduler_info(n_workers=-1)["workers"]) == 1  # still there
        same_set(tmp_path / "out", reference)

    def test_four_kills_of_the_process_leave_no_trace(self, scans, reference, tmp_path):
        out, rng, kills = tmp_path / "out", random.Random(1), 0
        first = ["--table", scans, "--per-type", 3, "--types", WANTED]
        while True:
            begun = (out / "config.json").is_file()
            process = start(*(["--resume"] if begun else first), "--workers", 0, out=out)
            seen = len(Lines(out / MANIFEST).read())
            until = time.monotonic() + 60
            while kills < 4 and len(Lines(out / MANIFEST).read()) <= seen and time.monotonic() < until:
                if process.poll() is not None:
                    break
                time.sleep(0.01)
            if kills < 4 and process.poll() is None:
                time.sleep(rng.uniform(0, 0.15))  # somewhere in the next case
                kill(process)
                kills += 1
            elif finished(process, 60):
                break
        assert kills == 4
        same_set(out, reference)

    def test_a_killed_worker_costs_nothing(self, scans, reference, tmp_path):
        pytest.importorskip("distributed")
        arguments = ("--table", scans, "--per-type", 3, "--types", WANTED, "--workers", 1)
        process = start(*arguments, out=tmp_path / "out")
        until = time.monotonic() + 60
        while not Lines(tmp_path / "out" / MANIFEST).read() and time.monotonic() < until:
            time.sleep(0.02)
        victims = dask_children(process)
        assert len(victims) == 1
        victims[0].kill()
        assert finished(process, 60)
        same_set(tmp_path / "out", reference)

    def test_ctrl_c_ends_in_one_line_and_resumes(self, scans, reference, tmp_path):
        pytest.importorskip("distributed")
        out = tmp_path / "out"
        process = start("--table", scans, "--per-type", 3, "--types", WANTED, "--workers", 1, out=out)
        until = time.monotonic() + 60
        while not Lines(out / MANIFEST).read() and time.monotonic() < until:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it, too
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 130 and stdout == ""
        assert re.fullmatch(r"pasta: interrupted; \d+ of 12 cases are complete, go on with --resume\n", stderr), stderr
        assert not list(out.glob("*/*/.*"))
        call("--resume", "--workers", 0, out=out)
        same_set(out, reference)

    @pytest.mark.slow
    def test_twenty_kills_of_workers_and_main_process(self, scans, tmp_path):
        pytest.importorskip("distributed")
        per_type = 12
        arguments = ("--table", scans, "--per-type", per_type, "--types", WANTED, "--workers", 0)
        call(*arguments, out=tmp_path / "reference")
        rng, kills, number = random.Random(2), 0, 0
        while kills < 20:
            out = tmp_path / f"out{number}"
            kills += killed_run(scans, out, rng, 20 - kills, 2, per_type)
            same_set(out, tmp_path / "reference")
            assert "48 cases: every file" in call("--verify", out=out)
            number += 1


@posix
class TestSlurm:
    @pytest.fixture
    def sbatch(self, tmp_path, monkeypatch):
        """Stand-ins for SLURM's commands that run a job script on this machine; returns the folder with a copy of each script."""
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "sbatch").write_text(
            f'#!/bin/sh\ncp "$1" "{folder}/job-$$.sh"\nsetsid sh "{folder}/job-$$.sh" >"{folder}/job-$$.log" 2>&1 &\n'
            f'echo $! >>"{folder}/pids"\necho "Submitted batch job $!"\n'
        )
        (folder / "scancel").write_text('#!/bin/sh\nfor job in "$@"; do kill -TERM -- "-$job"; done\n')
        for file in ("sbatch", "scancel"):
            (folder / file).chmod((folder / file).stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        yield folder
        for pid in (folder / "pids").read_text().split() if (folder / "pids").exists() else []:
            try:
                os.killpg(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass

    def test_jobs_are_submitted_and_make_the_same_set(self, sbatch, scans, reference, tmp_path):
        pytest.importorskip("dask_jobqueue")
        where = (
            "--slurm",
            "--workers",
            1,
            "--slurm-queue",
            "long",
            "--slurm-account",
            "lab",
            "--slurm-arg",
            "--nice=5",
        )
        options = (*where, "--slurm-time", "01:30:00", "--memory", 2)
        call("--table", scans, "--per-type", 3, "--types", WANTED, *options, out=tmp_path / "out")
        (script,) = [path.read_text() for path in sbatch.glob("job-*.sh")]
        for line in ("-p long", "-A lab", "-t 01:30:00", "--nice=5", "--mem=2G"):
            assert re.search(rf"^#SBATCH {line}", script, re.MULTILINE), script
        assert sys.executable in script and f'PYTHONPATH="{ROOT}' in script
        same_set(tmp_path / "out", reference)

    def test_jobs_of_several_cores_run_a_worker_on_each(self, sbatch, tmp_path):
        pytest.importorskip("dask_jobqueue")
        options = clusters.Slurm(cores=4)
        with clusters.quiet(), clusters.slurm_cluster(clusters.Workers(0, slurm=options, memory_gb=3.0)) as cluster:
            script = cluster.job_script()
        assert "--nworkers 4" in script and "--nthreads 1" in script and "--mem=12G" in script
        assert not list(sbatch.glob("job-*.sh"))
