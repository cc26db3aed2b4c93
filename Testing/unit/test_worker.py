"""The worker as a whole, with real processes: jobs, cancelling, crashes of either side, and that nothing is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from PASTALib.errors import InputError
from PASTALib.progress import Cancelled
from PASTALib.worker import Worker, WorkerError, arrays
from Testing.bench.worker_figures import JOBS, ROOT, measure_worker, wait_for, worker_for_trials

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
SOON_S = 10.0  # generous: machines that test are busy


@pytest.fixture(scope="module")
def shared():
    """One worker for tests that leave it as it was."""
    with worker_for_trials() as worker:
        yield worker


@pytest.fixture
def worker():
    with worker_for_trials() as worker:
        yield worker


def gone(pid: int) -> bool:
    """Whether a process has ended (perhaps unburied, where nobody collects orphans)."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except FileNotFoundError:
        return (
            not Path("/proc").is_dir() and subprocess.run(["ps", "-p", str(pid)], capture_output=True).returncode != 0
        )


def soon(condition, *values) -> bool:
    until = time.monotonic() + SOON_S
    while time.monotonic() < until:
        if condition(*values):
            return True
        time.sleep(0.05)
    return False


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text and "\n" not in text and "Traceback" not in text, text
    return text


# --- jobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.int16).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::2, ::-1],
        np.array([[True, False]]),
        np.float32(2.5),
        np.zeros((0, 3), np.float32),
        np.arange(5, dtype=">i4"),
        np.array([np.nan, np.inf, -0.0], np.float16),
    ],
    ids=lambda array: f"{np.asarray(array).dtype}-{np.shape(array)}",
)
def test_arrays_there_and_back(shared, array):
    result, back = shared.run("echo", {"text": "Größe", "path": Path("a"), "number": np.float32(0.5)}, {"a": array})
    assert result["params"] == {"text": "Größe", "path": "a", "number": 0.5}
    assert result["writeable"] == [False]
    found = back["a"]
    assert found.dtype == np.asarray(array).dtype and found.shape == np.shape(array)
    np.testing.assert_array_equal(found, array)
    assert not found.flags.writeable


def test_results_are_mapped_and_outlive_their_worker():
    with worker_for_trials() as worker:
        _, back = worker.run("make", {"shape": [64, 64, 64]})
        base = back["made"]
        while base.base is not None and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)
    assert back["made"].sum() == 64**3


def test_two_jobs_one_process_and_what_is_warm_stays(worker):
    first, _ = worker.run("warm", {"key": "model"})
    pid = worker.pid
    second, _ = worker.run("warm", {"key": "model"})
    assert (first["made"], second["made"]) == (True, False) and first["id"] == second["id"]
    assert worker.pid == pid
    threads = {worker.run("echo")[0]["ident"] for _ in range(3)}
    assert len(threads) == 1  # libraries keep plans by thread


def test_only_so_many_models_stay():
    with worker_for_trials(keep=2) as worker:
        for key in "aba":
            worker.run("warm", {"key": key})
        result, _ = worker.run("warm", {"key": "c", "ask": ["a", "b", "c"]})
        assert result["kept"] == ["a", "c"]


def test_progress_counts_with_time_left(shared):
    calls = []
    handle = shared.start("sleep", {"steps": 40, "seconds": 0.02})
    assert handle.wait(SOON_S)
    events = handle.poll()
    assert [event["event"] for event in events[:1] + events[-1:]] == ["started", "result"]
    steps = [event for event in events if event["event"] == "progress"]
    assert (steps[0]["step"], steps[0]["of"], steps[0]["eta_s"]) == (0, 40, None)
    assert (steps[-1]["step"], steps[-1]["text"], steps[-1]["eta_s"]) == (40, "slept", 0)
    assert 3 <= len(steps) < 40  # held back to ten a second
    middle = [event["eta_s"] for event in steps[1:-1]]
    assert all(eta is not None for eta in middle) and middle[0] > middle[-1] > 0
    assert handle.poll() == [] and handle.done

    shared.run("sleep", {"steps": 3, "seconds": 0.01}, progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 3, "sleeping") and calls[-1] == (3, 3, "slept")


def test_jobs_wait_for_their_turn(shared):
    first = shared.start("sleep", {"steps": 20, "seconds": 0.02})
    dropped, last = shared.start("echo", {"n": 1}), shared.start("echo", {"n": 2})
    wait_for(first, "started")
    dropped.cancel()
    assert dropped.done and not first.done
    assert last.result()[0]["params"] == {"n": 2} and first.done
    with pytest.raises(Cancelled):
        dropped.result()


def test_what_anyone_prints_never_reaches_the_protocol(shared):
    handle = shared.start("shout")
    result, _ = handle.result()
    assert result == {"read": ""}
    assert [event["text"] for event in handle.poll() if event["event"] == "log"] == ["remark 7"]
    with pytest.raises(WorkerError) as caught:
        shared.run("crash", {"how": "exit"})
    assert "print from Python" not in caught.value.details  # only what the job itself wrote


def test_jobs_can_use_processes_of_their_own(shared):
    assert shared.run("pool", {"numbers": [1, 2, 3]})[0] == {"squares": [1, 4, 9]}


def test_events_carry_what_the_design_promises(shared):
    handle = shared.start("sleep", {"steps": 2, "seconds": 0.01})
    handle.wait(SOON_S)
    for event in handle.poll():
        assert {"event", "job", "elapsed_s"} <= set(event)
        assert event["event"] != "progress" or {"step", "of", "text", "eta_s"} <= set(event)
    assert {"python", "pasta", "numpy", "torch", "pid", "protocol", "jobs"} <= set(shared.about)
    assert {"segment", "attributes", "features", "organs"} <= set(shared.about["jobs"])


# --- errors that a job raises ------------------------------------------------------------------------------------------


def test_bad_input_passes_as_it_is(shared):
    with pytest.raises(InputError) as caught:
        shared.run("fail", {"how": "input"})
    assert str(caught.value) == "ct.nii.gz: holds a cat; wanted a CT; scan a patient"


@pytest.mark.parametrize(
    "how,words",
    [
        ("other", ("RuntimeError", "two lines")),
        ("memory", ("out of memory", "8 EB", "crop")),
        ("exit", ("SystemExit", "5")),
        ("json", ("TypeError", "no JSON form")),
    ],
)
def test_other_errors_leave_the_worker_alive(shared, how, words):
    shared.run("echo")
    pid = shared.pid
    with pytest.raises(WorkerError) as caught:
        shared.run("fail", {"how": how})
    line = one_line(caught.value)
    assert all(word in line for word in ("fail", *words)), line
    assert "Traceback" in caught.value.details
    shared.run("echo")
    assert shared.pid == pid


def test_unknown_job_and_unsendable_requests(shared):
    with pytest.raises(WorkerError, match="knows no job 'dance'.*echo"):
        shared.run("dance")
    with pytest.raises(WorkerError, match="set has no JSON form"):
        shared.run("echo", {"a": {1}})
    with pytest.raises(WorkerError, match="Python objects"):
        shared.run("echo", {}, {"a": np.array([None])})
    with pytest.raises(WorkerError, match="'../a'"):
        shared.run("echo", {}, {"../a": np.zeros(1)})
    assert shared.run("echo", {"a": 1})[0]["params"] == {"a": 1}


def test_a_package_that_is_not_there_is_for_the_user_to_install(worker, tmp_path):
    (tmp_path / "lacking.py").write_text("def job(*_):\n    import surely_not_there.part\n\nJOBS = {'lacking': job}\n")
    with Worker(jobs="lacking", extra_env={"PYTHONPATH": str(tmp_path)}) as worker:
        with pytest.raises(InputError, match="has no surely_not_there, which the job lacking needs; install"):
            worker.run("lacking")


# --- full disks ------------------------------------------------------------------------------------------------------


@POSIX
def test_no_room_for_a_result(worker):
    with pytest.raises(InputError, match=r"cannot write 'made' \(4 MB\).*free some space") as caught:
        worker.run("make", {"shape": [2000, 2000], "limit": 1 << 20})
    one_line(caught.value)
    assert soon(lambda: os.listdir(worker.folder) == ["lock"])
    assert worker.run("make", {"shape": [10]})[1]["made"].sum() == 10


def test_no_room_for_the_scan(worker, monkeypatch):
    class Full:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays, "open", Full, raising=False)
    with pytest.raises(InputError, match=r"cannot write 'ct' \(2 MB\): No space left on device; free some"):
        worker.run("echo", {}, {"ct": np.zeros((100, 100, 100), np.int16)})
    monkeypatch.undo()
    assert worker.run("echo", {}, {"ct": np.ones(3)})[1]["ct"].sum() == 3


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_cancel_of_a_job_that_looks(worker):
    handle = worker.start("sleep", {"steps": 1000, "seconds": 0.02})
    wait_for(handle, "started")
    pid = worker.pid
    begun = time.monotonic()
    handle.cancel()
    with pytest.raises(Cancelled):
        handle.result()
    assert time.monotonic() - begun < 5
    assert handle.poll()[-1]["event"] == "cancelled"
    assert worker.run("echo")[0] and worker.pid == pid  # nothing had to be killed


@POSIX
def test_cancel_of_a_job_that_never_looks_kills_it_and_its_children(worker):
    handle = worker.start("stuck", {"child": True})
    child = int(wait_for(handle, "progress")["text"].split()[1])
    pid = worker.pid
    begun = time.monotonic()
    handle.cancel()
    with pytest.raises(Cancelled):
        handle.result()
    assert time.monotonic() - begun < 5
    assert soon(gone, pid) and soon(gone, child)
    assert worker.run("echo")[0] and worker.pid != pid


def test_progress_can_cancel_even_when_the_job_is_silent(worker):
    def impatient(step, of, text):
        raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        worker.run("stuck", progress=impatient)
    assert worker.run("echo")[0]


def test_an_error_in_progress_stops_the_job_too(worker):
    worker.run("echo")
    with pytest.raises(ZeroDivisionError):
        worker.run("sleep", {"steps": 1000, "seconds": 0.02}, progress=lambda *_: 1 / 0)
    begun = time.monotonic()
    worker.run("echo")
    assert time.monotonic() - begun < 5


@POSIX
def test_ctrl_c_cancels_and_is_passed_on(tmp_path):
    code = """
        import signal, time
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with worker_for_trials() as worker:
            worker.run("echo")
            try:
                worker.run("sleep", {"steps": 3000, "seconds": 0.02}, progress=lambda *_: print("working", flush=True))
            except KeyboardInterrupt:
                print("interrupted", worker.run("echo", {"still": worker.pid})[0]["params"]["still"] == worker.pid, flush=True)
    """
    with client(code) as process:
        assert process.stdout.readline() == "working\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of the group
        begun = time.monotonic()
        rest = process.communicate(timeout=SOON_S)[0].splitlines()
        assert time.monotonic() - begun < 5
    assert rest[-1] == "interrupted True" and process.returncode == 0


# --- crashes of the worker -----------------------------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize(
    "params,words",
    [
        ({"how": "exit"}, ("ended (exit code 3)", 'it last wrote "about to leave"')),
        ({"how": "exit", "code": 0}, ("ended (exit code 0)",)),
        ({"how": "segfault"}, ("segmentation fault", "SIGSEGV", "Fatal Python error")),
        ({"how": "signal", "name": "SIGKILL"}, ("was killed (out of memory", "smaller model")),
        ({"how": "signal", "name": "SIGABRT"}, ("aborted",)),
        ({"how": "signal", "name": "SIGTERM"}, ("told to stop",)),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_crash_is_one_line_and_the_next_job_works(shared, params, words):
    with pytest.raises(WorkerError) as caught:
        shared.run("crash", params)
    line = one_line(caught.value)
    assert line.startswith("the worker process ") and " during crash" in line
    assert all(word in line for word in words), line
    assert shared.run("echo", {"n": 1})[0]["params"] == {"n": 1}


@POSIX
def test_killed_in_the_middle_by_someone_else(worker):
    handle = worker.start("sleep", {"steps": 1000, "seconds": 0.02}, {"scan": np.zeros(1000)})
    wait_for(handle, "progress")
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="was killed .* during sleep"):
        handle.result()
    last = handle.poll()[-1]
    assert (last["event"], last["kind"]) == ("error", "WorkerError") and "was killed" in last["text"]
    assert soon(lambda: os.listdir(worker.folder) == ["lock"])


@POSIX
def test_killed_between_two_jobs_is_not_even_noticed(worker):
    for _ in range(5):
        worker.run("echo")
        os.kill(worker.pid, signal.SIGKILL)
        assert worker.run("echo", {"n": 2})[0]["params"] == {"n": 2}


@POSIX
def test_twenty_kills_at_random_moments(worker):
    rng = np.random.default_rng(7)
    outcomes = []
    for number in range(20):
        handle = worker.start("sleep", {"steps": 5, "seconds": 0.01}, {"a": np.full(1000, number)})
        time.sleep(rng.uniform(0, 0.2))
        if (pid := worker.pid) is not None:
            os.kill(pid, signal.SIGKILL)
        try:
            handle.result()
            outcomes.append("result")
        except WorkerError as error:
            one_line(error)
            outcomes.append("killed")
        assert worker.run("echo", {"n": number})[0]["params"] == {"n": number}
    assert len(outcomes) == 20 and "killed" in outcomes


# --- starting ----------------------------------------------------------------------------------------------------------


def script(folder: Path, text: str) -> Path:
    path = folder / "python"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def test_a_crash_at_the_start(tmp_path):
    with Worker(jobs="no_such_module_at_all") as worker:
        with pytest.raises(
            WorkerError, match=r"exit code 1\) during its start; it last wrote .*no_such_module"
        ) as caught:
            worker.run("echo")
    one_line(caught.value)
    assert "Traceback" in caught.value.details


def test_paths_that_are_no_python(tmp_path):
    plain = tmp_path / "plain.txt"
    plain.write_text("hello")
    for wrong, words in ((tmp_path / "nothing", "no such Python"), (tmp_path, "holds no Python")):
        with pytest.raises(InputError, match=words):
            Worker(wrong)
    if os.name == "posix":
        with pytest.raises(InputError, match="cannot be run"):
            Worker(plain)


@POSIX
@pytest.mark.parametrize(
    "text,words",
    [
        ("exit 7", "no working Python"),
        ("echo I am a bird >&2; exit 1", 'no working Python interpreter .it wrote "I am a bird"'),
        ('case "$1" in -c) echo python 3.8;; *) exit 1;; esac', "is Python 3.8; wanted 3.10 or newer"),
        ("", "no working Python"),
    ],
)
def test_programs_that_are_no_use(tmp_path, text, words):
    with Worker(script(tmp_path, text)) as worker:
        with pytest.raises(InputError, match=words) as caught:
            worker.run("echo")
    one_line(caught.value)


@POSIX
def test_a_program_that_never_answers(tmp_path):
    with Worker(script(tmp_path, "exec sleep 600"), startup_timeout_s=0.3) as worker:
        with pytest.raises(WorkerError, match="did not start within 0.3 s"):
            worker.run("echo")
        handle = worker.start("echo")
        handle.cancel()
        assert handle.done


@POSIX
def test_another_environment_given_by_its_folder(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    with Worker(tmp_path / "bare") as worker:
        with pytest.raises(InputError, match=r"bare.*numpy cannot be imported .*pip install numpy") as caught:
            worker.run("echo")
        one_line(caught.value)
    # the same environment, once it can see numpy: PASTALib itself is not installed there
    packages = next((tmp_path / "bare").glob("lib/python*/site-packages"))
    (packages / "numpy.pth").write_text(str(Path(np.__file__).parents[1]))
    with worker_for_trials(python=tmp_path / "bare") as worker:
        assert worker.run("echo", {}, {"a": np.arange(3)})[1]["a"].tolist() == [0, 1, 2]


@POSIX
def test_a_launcher_that_talks_first(tmp_path):
    launcher = script(tmp_path, f'echo Welcome; printf "and more"; exec "{sys.executable}" "$@"')
    with worker_for_trials(python=launcher) as worker:
        assert worker.run("echo", {"a": 1})[0]["params"] == {"a": 1}


def test_the_worker_starts_without_heavy_packages():
    code = (
        "import sys, PASTALib.worker.server as s; s.ready(s.JOBS);"
        "print(sorted({'torch', 'SimpleITK', 'scipy', 'openvino', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


# --- nothing stays behind ------------------------------------------------------------------------------------------------


def client(code: str) -> subprocess.Popen:
    """Another program that uses a worker; in a group of its own."""
    text = "from Testing.bench.worker_figures import worker_for_trials, wait_for\n" + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=os.name == "posix"
    )


def test_close_ends_everything(worker):
    worker.run("echo", {}, {"a": np.zeros(10)})
    folder, pid = worker.folder, worker.pid
    assert folder.is_dir()
    if os.name == "posix":
        assert folder.stat().st_mode & 0o777 == 0o700
    worker.close()
    assert not folder.exists() and soon(gone, pid)
    with pytest.raises(WorkerError, match="closed"):
        worker.run("echo")
    worker.close()


def test_close_in_the_middle_of_a_job(worker):
    running, waiting = worker.start("stuck"), worker.start("echo")
    wait_for(running, "started")
    pid = worker.pid
    worker.close()
    for handle in (running, waiting):
        with pytest.raises(Cancelled):
            handle.result()
    assert soon(gone, pid) and not worker.folder.exists()


def test_a_forgotten_worker_is_closed():
    worker = worker_for_trials()
    with pytest.raises(InputError):
        worker.run("fail", {"how": "input"})
    worker.run("echo", {}, {"a": np.zeros(10)})
    folder, pid = worker.folder, worker.pid
    del worker
    gc.collect()
    assert soon(lambda: not folder.exists()) and soon(gone, pid)


@pytest.mark.parametrize(
    "end", ["", "raise SystemExit(3)", "import os, threading; threading.Thread(target=print).start()"]
)
def test_the_end_of_the_program_ends_everything(end):
    with client(f"""
        worker = worker_for_trials()
        worker.run("echo")
        running = worker.start("stuck")
        wait_for(running, "started")
        print(worker.pid, worker.folder, flush=True)
        {end}
    """) as process:
        pid, folder = process.communicate(timeout=SOON_S)[0].split()[:2]
    assert soon(gone, int(pid)) and soon(lambda: not Path(folder).exists())


@POSIX
@pytest.mark.parametrize("job", ["stuck", "sleep"])
def test_the_worker_ends_when_its_client_is_killed(job):
    with client(f"""
        import time
        worker = worker_for_trials()
        running = worker.start("{job}", {{"child": True, "steps": 100000, "seconds": 0.01 if "{job}" == "sleep" else 600}})
        child = wait_for(running, "progress")["text"].split()[-1]
        print(worker.pid, worker.folder, child, flush=True)
        time.sleep(600)
    """) as process:
        pid, folder, child = process.stdout.readline().split()
        process.kill()
        process.wait()
        assert soon(gone, int(pid))
        assert not child.isdigit() or soon(gone, int(child))
        assert soon(lambda: not Path(folder).exists())  # pictures of a patient do not stay


@POSIX
def test_who_leaves_second_does_not_end_the_process_before_the_folder_is_gone():
    """Main thread, watch and job may all find out at the same time that the client is gone."""
    code = """
        import threading, time
        from pathlib import Path
        from PASTALib.worker import server
        left = []
        def slow(folder):
            left.append(folder)
            time.sleep(0.3)
            print(len(left), flush=True)
        server.remove_orphan = slow
        for _ in range(3):
            threading.Thread(target=server._leave, args=(Path("x"), True, False)).start()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@POSIX
def test_the_worker_ends_with_its_client_even_when_its_stdin_stays_open():
    inlet, outlet = os.pipe()
    code = f"""
        import subprocess, sys, time
        line = [sys.executable, "-m", "PASTALib.worker"]
        started = subprocess.Popen(line, stdin={inlet}, stdout=subprocess.PIPE)
        started.stdout.read(10)
        print(started.pid, flush=True)
        time.sleep(600)
    """
    middle = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.PIPE, text=True, pass_fds=(inlet,)
    )
    try:
        pid = int(middle.stdout.readline())
        middle.kill()
        middle.wait()
        assert soon(gone, pid)
    finally:
        os.close(inlet)
        os.close(outlet)
        middle.stdout.close()


def test_no_files_pile_up(shared):
    for _ in range(3):
        shared.run("echo", {}, {"a": np.zeros(1000)})
    assert soon(lambda: os.listdir(shared.folder) == ["lock"])


def test_the_figures_can_be_measured():
    figures = measure_worker(runs=1, shape=(8, 64, 64))
    assert set(figures) == {"start_s", "round_trip_s", "warm_start_s", "cancel_s", "hard_cancel_s"}
    assert all(len(values) == 1 and 0 <= values[0] < SOON_S for values in figures.values())
    assert JOBS == "Testing.bench.worker_jobs"
