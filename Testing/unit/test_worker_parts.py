"""The parts of the worker without its process: lines, exits in words, array files, interpreters, time left, and the server on a wire."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from PASTALib.errors import InputError
from PASTALib.progress import Cancelled
from PASTALib.worker import WorkerError, arrays, interpreter, protocol
from PASTALib.worker.pace import Pace, Reporter
from PASTALib.worker.protocol import Events, Lines, death, failure
from PASTALib.worker.warm import WarmState
from Testing.bench.worker_figures import JOBS, ROOT

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


# --- protocol ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_come_together_from_any_pieces(size):
    data = b'{"event":"a"}\n\r\n{"event":"b"}\r\nrest'
    lines = Lines()
    found = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
    assert found == [b'{"event":"a"}', b'{"event":"b"}']
    assert lines.rest == b"rest"


def test_a_message_is_one_line_whatever_it_holds():
    message = {
        "text": "two\nlines, ü, \u2028, \x00",
        "list": np.arange(3),
        "number": np.float64(0.1),
        "path": Path("a/b"),
    }
    line = protocol.encode(message)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    back = protocol.decode(line)
    assert back == {"text": message["text"], "list": [0, 1, 2], "number": 0.1, "path": str(Path("a/b"))}
    with pytest.raises(TypeError, match="object has no JSON form"):
        protocol.encode({"x": object()})


def test_what_is_no_event_counts_as_a_remark():
    events = Events().feed(b'Welcome\n[1]\n{"no": "event"}\n\xff\n{"event": "pong", "ping": 1}\n')
    assert [event["event"] for event in events] == ["log"] * 4 + ["pong"]
    assert events[0]["text"] == "Welcome"


def test_failures_become_the_right_exceptions():
    event = {"event": "error", "run": "segment", "text": "no", "details": "trace"}
    assert isinstance(failure({"event": "cancelled"}), Cancelled)
    bad = failure(event | {"kind": "InputError"})
    assert type(bad) is InputError and str(bad) == "no"
    other = failure(event | {"kind": "KeyError"})
    assert type(other) is WorkerError and str(other) == "segment failed: KeyError: no" and other.details == "trace"
    assert "crop the scan" in str(failure(event | {"kind": "MemoryError"}))


@pytest.mark.parametrize(
    "code,words",
    [
        (-9, "was killed (out of memory"),
        (137, "was killed (out of memory"),
        (-11, "segmentation fault"),
        (-int(getattr(signal, "SIGBUS", 7)), "bus error"),
        (-4, "another processor"),
        (-64, "was ended"),
        (1, "ended (exit code 1)"),
        (0, "ended (exit code 0)"),
        (0xC0000005, "segmentation fault"),
        (0xC0000005 - 2**32, "segmentation fault"),
        (0xC0000017, "was killed (out of memory"),
        (None, "closed its output"),
    ],
)
@POSIX
def test_exits_in_words(code, words):
    text = str(death(code, [], "segment"))
    assert text.startswith("the worker process ") and words in text and "during segment; " in text
    assert "\n" not in text and "it last wrote" not in text


def test_the_line_that_says_most():
    trace = ["Traceback (most recent call last):", '  File "a.py", line 1', "ValueError: no", "", "  "]
    fatal = ["Fatal Python error: Segmentation fault", "", "Thread 0x01 (most recent call first):", '  File "a.py"']
    assert protocol.telling_line(trace) == "ValueError: no"
    assert protocol.telling_line([*fatal, "Extension modules: numpy (total: 1)"]) == fatal[0]
    assert protocol.telling_line([]) == ""
    assert 'it last wrote "ValueError: no"' in str(death(1, trace))


# --- arrays ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_files_only_from_inside_the_folder(temporary):
    folder = arrays.ArrayFolder()
    outside = temporary / "secret.npy"
    np.save(outside, np.arange(3))
    (folder.path / "link.npy").symlink_to(outside)
    for file in (str(outside), "../secret.npy", "link.npy", f"{folder.path.name}/../../secret.npy"):
        with pytest.raises(InputError, match="outside the private folder"):
            folder.take({"a": file})
    with pytest.raises(InputError, match="without --folder"):
        arrays.open_array(None, "a.npy")


def test_files_that_are_no_arrays(temporary):
    folder = arrays.ArrayFolder()
    np.save(folder.path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    (folder.path / "text.npy").write_text("hello")
    (folder.path / "empty.npy").write_bytes(b"")
    np.save(folder.path / "short.npy", np.zeros(1000))
    os.truncate(folder.path / "short.npy", 500)
    for file in ("pickle.npy", "text.npy", "empty.npy", "short.npy", "missing.npy", "."):
        with pytest.raises(InputError, match="cannot be read"):
            folder.take({"a": file})


def test_all_arrays_are_written_or_none(temporary):
    folder = arrays.ArrayFolder()
    with pytest.raises(ValueError, match="Python objects"):
        folder.put({"good": np.zeros(3), "bad": np.array([None])})
    with pytest.raises(Cancelled):
        folder.put({"good": np.zeros(3), "late": np.zeros(3)}, Stop(2))
    assert os.listdir(folder.path) == ["lock"]


class Stop:
    """A check that raises Cancelled when it is called for the ``n``-th time."""

    def __init__(self, n):
        self.left = n

    def __call__(self):
        self.left -= 1
        if self.left == 0:
            raise Cancelled


def test_the_folder_is_private_and_goes_when_told(temporary):
    folder = arrays.ArrayFolder()
    path = folder.path
    assert path.parent == temporary and (os.name != "posix" or path.stat().st_mode & 0o777 == 0o700)
    files = folder.put({"a": np.arange(4)})
    mapped = folder.take(files)["a"]
    folder.sweep()
    assert os.listdir(path) == ["lock"]
    folder.close()
    assert not path.exists() and mapped.tolist() == [0, 1, 2, 3]
    folder.close()


def test_a_forgotten_folder_goes_too(temporary):
    path = arrays.ArrayFolder().path
    assert not path.exists()


@POSIX
def test_a_forked_child_does_not_remove_it(temporary):
    folder = arrays.ArrayFolder()
    child = os.fork()
    if child == 0:
        folder.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.path.is_dir()


def test_folders_of_the_dead_go_at_the_next_start(temporary):
    code = (
        "import os, tempfile; from PASTALib.worker.arrays import ArrayFolder\n"
        "import numpy\nfolder = ArrayFolder(); folder.put({'a': numpy.zeros(9)}); print(folder.path, flush=True); os._exit(1)"
    )
    env = os.environ | {"TMPDIR": str(temporary), "TEMP": str(temporary)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    dead = Path(done.stdout.strip())
    assert dead.parent == temporary and dead.is_dir()
    living = arrays.ArrayFolder()
    unlocked, old = temporary / f"{arrays.PREFIX}new", temporary / f"{arrays.PREFIX}old"
    other = temporary / "pasta-something"
    for folder in (unlocked, old, other):
        folder.mkdir()
    os.utime(old, (0, 0))
    another = arrays.ArrayFolder()
    assert not dead.exists() and not old.exists()
    assert all(folder.is_dir() for folder in (living.path, another.path, unlocked, other))


def test_an_orphan_removes_only_what_a_client_made(temporary):
    folder = arrays.ArrayFolder()
    precious = temporary / "precious"
    precious.mkdir()
    (temporary / f"{arrays.PREFIX}unlocked").mkdir()
    for path in (precious, temporary / f"{arrays.PREFIX}unlocked", folder.path):
        arrays.remove_orphan(path)
    assert precious.is_dir() and (temporary / f"{arrays.PREFIX}unlocked").is_dir() and not folder.path.exists()


def test_no_temporary_folder_at_all(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(InputError, match="cannot write a temporary folder.*or set T"):
        arrays.ArrayFolder()


# --- interpreters --------------------------------------------------------------------------------------------------------


def test_another_python_gets_nothing_of_ours(monkeypatch, tmp_path):
    home = tmp_path / "Slicer"
    monkeypatch.setenv("SLICER_HOME", str(home))
    monkeypatch.setenv("LD_LIBRARY_PATH", os.pathsep.join([str(home / "lib"), "/opt/cuda/lib", ""]))
    monkeypatch.setenv("QT_PLUGIN_PATH", str(home / "plugins"))
    for name in ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE"):
        monkeypatch.setenv(name, str(home))
    env = interpreter.environment(tmp_path / "bin" / "python", {"EXTRA": "1", "LANG": None})
    assert env["LD_LIBRARY_PATH"] == "/opt/cuda/lib"
    assert not {"PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "QT_PLUGIN_PATH", "LANG"} & set(env)
    assert env["EXTRA"] == "1"
    ours = interpreter.environment(Path(sys.executable))
    assert ours["PYTHONHOME"] == str(home) and str(home / "lib") in ours["LD_LIBRARY_PATH"]


@POSIX
def test_inside_slicer_its_own_python_is_taken(monkeypatch, tmp_path):
    python = tmp_path / "PythonSlicer"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert interpreter.find() == Path(sys.executable)
    monkeypatch.setenv("SLICER_HOME", str(tmp_path))
    assert interpreter.find() == python
    assert "PYTHONPATH" in interpreter.environment(python, {"PYTHONPATH": "kept"})


@POSIX
def test_the_link_of_an_environment_is_not_followed(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    assert interpreter.find(tmp_path) == tmp_path / "bin" / "python3"
    assert interpreter.find(tmp_path / "bin" / "python3") == tmp_path / "bin" / "python3"


def test_a_worker_of_another_kind_is_refused():
    python = Path("python")
    interpreter.check_ready(python, {"python": "3.10.1", "protocol": protocol.VERSION})
    with pytest.raises(InputError, match="is Python 3.9; wanted 3.10"):
        interpreter.check_ready(python, {"python": "3.9.18", "protocol": protocol.VERSION})
    with pytest.raises(InputError, match="version 99 of the protocol"):
        interpreter.check_ready(python, {"python": "3.12.0", "protocol": 99})


# --- progress ------------------------------------------------------------------------------------------------------------


def test_time_left_of_even_steps_is_right():
    pace = Pace()
    assert pace(0, 100, 50.0) is None
    told = [pace(step, 100, 50.0 + 2.0 * step) for step in range(1, 101)]
    assert told == pytest.approx([2.0 * (100 - step) for step in range(1, 101)])


def test_a_slow_first_step_does_not_count_for_long():
    pace = Pace()
    pace(0, 50, 0.0)
    told = [pace(step, 50, 60.0 + step) for step in range(1, 50)]
    assert told[0] > 1000
    assert told[20] == pytest.approx(29, rel=0.3)


def test_time_left_falls_within_a_step_and_never_below_zero():
    pace = Pace()
    for step in range(4):
        pace(step, 10, 10.0 * step)
    told = [pace(3, 10, 30.0 + wait) for wait in (0, 5, 10, 500)]
    assert told == pytest.approx([70, 65, 60, 0])


def test_outliers_are_smoothed_and_stages_begin_anew():
    pace = Pace()
    for step in range(11):
        before = pace(step, 20, float(step))
    jump = pace(11, 20, 40.0)  # a step of 30 s
    assert jump < 0.5 * 9 * 40 / 11 and before == pytest.approx(10)
    assert pace(0, 5, 41.0) is None
    assert pace(1, 5, 42.0) == pytest.approx(4)
    assert pace(0, 5, 43.0) is None  # back to the beginning
    assert pace(0, 0, 44.0) is None  # of unknown length
    assert pace(3, 3, 45.0) == 0


def test_the_first_and_the_last_step_are_always_told(monkeypatch):
    clock = itertools.count(0, 0.001)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    told = []
    reporter = Reporter(told.append)
    for step in range(1001):
        reporter(np.int64(step), 1000, "working")
    reporter.flush(last=True)
    reporter.flush(last=True)
    steps = [event["step"] for event in told]
    assert steps[0] == 0 and steps[-1] == 1000 and len(set(steps)) == len(steps)
    assert 5 < len(steps) < 20
    assert json.dumps(told)


def test_the_end_of_a_stage_is_told_once(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    told = []
    reporter = Reporter(told.append)
    for step, of in ((0, 0), (0, 2), (1, 2), (2, 2), (2, 2), (0, 0)):
        reporter(step, of, "")
    assert [(event["step"], event["of"]) for event in told] == [(0, 0), (2, 2)]


def test_a_step_held_back_is_told_in_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    told = []
    reporter = Reporter(told.append)
    reporter(0, 0, "resampling")
    reporter(0, 0, "loading")
    reporter.flush()
    assert [event["text"] for event in told] == ["resampling"]
    now[0] = 0.1
    reporter.flush()
    assert [event["text"] for event in told] == ["resampling", "loading"]
    reporter.cancel()
    with pytest.raises(Cancelled):
        reporter(1, 2, "x")


# --- what stays warm -------------------------------------------------------------------------------------------------------


def test_the_one_unused_for_longest_goes_first():
    state = WarmState(2)
    assert state.get("a", lambda: 1) == 1 and state.get("b", lambda: 2) == 2
    assert state.get("a", lambda: 99) == 1
    assert state.get("c", lambda: "a" in state and "b" not in state) is True  # room is made before
    assert "a" in state and "c" in state and "b" not in state
    state.clear()
    assert "a" not in state
    with pytest.raises(ValueError):
        WarmState(0)


def test_what_cannot_be_made_is_not_kept():
    state = WarmState(2)
    with pytest.raises(ZeroDivisionError):
        state.get("a", lambda: 1 / 0)
    assert "a" not in state and state.get("a", lambda: 1) == 1


# --- the server, spoken to directly ------------------------------------------------------------------------------------------


class Wire:
    """A worker process without the client's help."""

    def __init__(self, *options: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "PASTALib.worker", "--jobs", JOBS, *options],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def say(self, *messages) -> None:
        for message in messages:
            line = message if isinstance(message, bytes) else protocol.encode(message)
            self.process.stdin.write(line)
        self.process.stdin.flush()

    def hear(self, kind: str) -> dict:
        for line in self.process.stdout:
            if line.strip():
                event = json.loads(line)  # nothing else may be on this channel
                if event["event"] == kind:
                    return event
        raise AssertionError(f"no {kind}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def test_the_protocol_as_it_is_written():
    with Wire() as wire:
        assert wire.hear("ready")["protocol"] == protocol.VERSION
        wire.say({"job": "first", "run": "sleep", "params": {"steps": 1000, "seconds": 0.01}})
        assert wire.hear("started")["job"] == "first"
        assert {"step", "of", "text", "eta_s", "elapsed_s"} <= set(wire.hear("progress"))
        wire.say({"ping": 7})
        assert wire.hear("pong")["ping"] == 7
        wire.say({"job": 2, "run": "echo"})
        assert "busy with job 'first'" in wire.hear("error")["text"]
        wire.say({"cancel": "another"}, {"cancel": "first"})
        assert wire.hear("cancelled")["job"] == "first"
        wire.say({"job": 3, "run": "shout"})
        result = wire.hear("result")
        assert result["job"] == 3 and result["result"] == {"read": ""}
        wire.say({"quit": True})
        assert wire.process.wait(10) == 0


def test_requests_that_make_no_sense_are_answered():
    with Wire() as wire:
        for request, words in (
            (b"not json\n", "no JSON object"),
            (b"[1, 2]\n", "no JSON object"),
            (b"\xff\xfe\n", "no JSON object"),
            ({"dance": 1}, "wanted run, cancel, ping or quit"),
            ({"job": 1, "run": "dance"}, "knows no job 'dance'"),
            ({"job": None, "run": "echo"}, "wanted a number or text"),
            ({"job": 1, "run": "echo", "params": []}, "must be objects"),
        ):
            wire.say(request)
            assert words in wire.hear("error")["text"]
        wire.say({"job": 1, "run": "echo", "params": {"a": 1}})
        assert wire.hear("result")["result"]["params"] == {"a": 1}


def test_arrays_from_elsewhere_are_refused(tmp_path):
    np.save(tmp_path / "secret.npy", np.arange(3))
    (tmp_path / "in").mkdir()
    with Wire("--folder", str(tmp_path / "in")) as wire:
        for number, file in enumerate(("../secret.npy", str(tmp_path / "secret.npy"), "/etc/passwd")):
            wire.say({"job": number, "run": "echo", "arrays": {"a": file}})
            event = wire.hear("error")
            assert event["kind"] == "InputError" and "outside the private folder" in event["text"]
    with Wire() as wire:
        wire.say({"job": 1, "run": "make", "params": {"shape": [1]}})
        assert "without --folder" in wire.hear("error")["text"]


@pytest.mark.parametrize("job", [None, "sleep", "stuck"])
def test_the_end_of_stdin_is_the_end(job):
    with Wire() as wire:
        wire.hear("ready")
        if job:
            wire.say({"job": 1, "run": job, "params": {"steps": 10000, "seconds": 0.01 if job == "sleep" else 600}})
            wire.hear("started")
        wire.process.stdin.close()
        wire.process.wait(10)
        wire.process.stdin = None
