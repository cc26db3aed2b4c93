"""Jobs of the worker, work in threads, and several steps as one: who is called, in which thread, and that the window stays alive."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from PASTALib.errors import InputError
from PASTALib.progress import Cancelled

JOBS = "Testing.bench.worker_jobs"


class Told:
    """Remembers what it is called with."""

    def __init__(self):
        self.calls: list[tuple] = []

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))

    def callbacks(self, *names):
        return {name: getattr(self, name) for name in names or ("done", "failed", "progress", "cancelled")}

    def names(self) -> list[str]:
        return [call[0] for call in self.calls if call[0] != "progress"]

    @property
    def ended(self) -> bool:
        return bool(self.names())


@pytest.fixture
def jobs(host):
    from PASTALib.gui.jobs import Jobs
    from PASTALib.worker import Worker
    from Testing.gui.segment_scene import ROOT

    jobs = Jobs(make_worker=lambda python: Worker(python, {"PYTHONPATH": str(ROOT)}, jobs=JOBS))
    yield jobs
    jobs.close()


@pytest.fixture
def wait():
    from Testing.slicerhost.event_loop import wait_until

    return wait_until


# --- the worker --------------------------------------------------------------------------------------------------------


def test_a_job_gives_its_result_in_the_gui_thread(jobs, wait):
    told, threads = Told(), []

    def done(result, arrays):
        threads.append(threading.current_thread())
        told.done(result, arrays)

    job = jobs.start("echo", {"negate": True}, {"a": np.arange(3)}, **told.callbacks("failed", "cancelled"), done=done)
    assert job.running and jobs.busy
    wait(lambda: told.ended)
    ((_, result, arrays),) = told.calls
    assert result["params"] == {"negate": True} and arrays["a"].tolist() == [0, -1, -2]
    assert threads == [threading.main_thread()] and not jobs.busy and not job.running


def test_progress_and_cancel_within_a_second(jobs, wait):
    told = Told()
    job = jobs.start("sleep", {"steps": 500, "seconds": 0.02}, {}, **told.callbacks())
    wait(lambda: told.calls)
    assert told.calls[0][:4] == ("progress", 0, 500, "sleeping")
    start = time.monotonic()
    job.cancel()
    wait(lambda: told.ended, 5)
    assert told.names() == ["cancelled"] and time.monotonic() - start < 1.3


def test_a_forgotten_job_calls_nobody(jobs, wait):
    told, other = Told(), Told()
    job = jobs.start("sleep", {"steps": 100, "seconds": 0.02}, {}, **told.callbacks())
    wait(lambda: told.calls)
    job.forget()
    count = len(told.calls)
    jobs.start("echo", {}, {}, **other.callbacks())
    wait(lambda: other.ended)
    assert other.names() == ["done"] and len(told.calls) == count


def test_a_crash_is_told_and_the_next_job_works(jobs, wait):
    told, other = Told(), Told()
    jobs.start("crash", {"how": "exit"}, {}, **told.callbacks())
    wait(lambda: told.ended)
    (_, line, details) = told.calls[-1]
    assert told.names() == ["failed"] and "exit code 3" in line and "about to leave" in line + details
    jobs.start("echo", {}, {}, **other.callbacks())
    wait(lambda: other.ended)
    assert other.names() == ["done"]


def test_closing_ends_what_runs(jobs, wait):
    told = Told()
    jobs.start("sleep", {"steps": 100, "seconds": 0.05}, {}, **told.callbacks())
    jobs.in_thread(lambda progress: time.sleep(3), **told.callbacks())
    wait(lambda: told.calls)
    jobs.close()
    assert told.names() == ["cancelled", "cancelled"] and not jobs.busy


def test_an_environment_that_is_none_changes_nothing(jobs, wait, tmp_path):
    with pytest.raises(InputError, match="holds no Python"):
        jobs.use(tmp_path)
    told = Told()
    jobs.start("echo", {}, {}, **told.callbacks())
    wait(lambda: told.ended)
    assert told.names() == ["done"]


# --- threads -----------------------------------------------------------------------------------------------------------


def test_work_in_a_thread(jobs, wait):
    told = Told()

    def work(progress):
        progress(1, 2, "half")
        return threading.current_thread().name

    jobs.in_thread(work, **told.callbacks())
    wait(lambda: told.ended)
    assert told.calls == [("progress", 1, 2, "half", None), ("done", "pasta-task")]


@pytest.mark.parametrize("error,line", [(InputError("bad scan"), "bad scan"), (KeyError("x"), "KeyError: 'x'")])
def test_errors_of_a_thread(jobs, wait, error, line):
    told = Told()

    def work(progress):
        raise error

    jobs.in_thread(work, **told.callbacks())
    wait(lambda: told.ended)
    (name, said, details) = told.calls[-1]
    assert (name, said) == ("failed", line) and ("Traceback" in details) == isinstance(error, KeyError)


def test_cancelling_a_thread_does_not_wait_for_it(jobs, wait):
    told, go, seen = Told(), threading.Event(), []

    def work(progress):
        go.wait(20)
        try:
            progress(0, 0, "goes on")
        except Cancelled:
            seen.append("stopped")
            raise

    task = jobs.in_thread(work, **told.callbacks())
    task.cancel()
    wait(lambda: told.ended, 2)
    assert told.names() == ["cancelled"] and not task.running
    go.set()
    wait(lambda: seen, 5)  # at its next progress it ends
    assert told.names() == ["cancelled"]


# --- steps -------------------------------------------------------------------------------------------------------------


def steps_of(log):
    from PASTALib.gui.jobs import InThread, InWorker

    number = yield InThread(lambda progress: 20)
    log.append(threading.current_thread() is threading.main_thread())
    result, arrays = yield InWorker("echo", {"number": number}, {"a": np.ones(2)})
    log.append(arrays["a"].tolist())
    more = yield InThread(lambda progress: result["params"]["number"] + 1)
    return more


def test_steps_hand_their_results_on(jobs, wait):
    told, log = Told(), []
    run = jobs.run(steps_of(log), **told.callbacks())
    wait(lambda: told.ended)
    assert [call for call in told.calls if call[0] != "progress"] == [("done", 21)]
    assert log == [True, [1.0, 1.0]] and not run.running


@pytest.mark.parametrize("kind", ["thread", "worker", "between"])
def test_what_fails_ends_the_steps(jobs, wait, kind):
    from PASTALib.gui.jobs import InThread, InWorker

    told, closed = Told(), []

    def refuse(progress):
        raise InputError("no")

    def steps():
        try:
            if kind == "between":
                yield InThread(lambda progress: None)
                raise InputError("no")
            yield InThread(refuse) if kind == "thread" else InWorker("crash", {"how": "raise"}, {})
            told.went_on()
        finally:
            closed.append(True)

    run = jobs.run(steps(), **told.callbacks())
    wait(lambda: told.ended)
    assert told.names() == ["failed"] and closed == [True] and not run.running


def test_a_mistake_between_steps_is_told(jobs, wait):
    from PASTALib.gui.jobs import InThread

    told = Told()

    def steps():
        yield InThread(lambda progress: None)
        raise ZeroDivisionError("oops")

    jobs.run(steps(), **told.callbacks())
    wait(lambda: told.ended)
    assert told.names() == ["failed"] and told.calls[-1][1] == "ZeroDivisionError: oops"


def test_cancelling_and_forgetting_steps(jobs, wait):
    from PASTALib.gui.jobs import InWorker

    def steps():
        yield InWorker("sleep", {"steps": 500, "seconds": 0.02}, {})
        raise AssertionError("goes on")

    told = Told()
    run = jobs.run(steps(), **told.callbacks())
    wait(lambda: told.calls)
    run.cancel()
    wait(lambda: told.ended, 5)
    assert told.names() == ["cancelled"]

    told = Told()
    run = jobs.run(steps(), **told.callbacks())
    wait(lambda: told.calls)
    run.forget()
    count = len(told.calls)
    other = Told()
    jobs.start("echo", {}, {}, **other.callbacks())
    wait(lambda: other.ended)
    assert len(told.calls) == count and not run.running


def test_the_event_loop_turns_while_work_goes_on(jobs):
    from PASTALib.gui.jobs import InThread, InWorker
    from Testing.slicerhost.event_loop import EventLoopWatch

    told = Told()

    def work(progress):
        for _ in range(20):
            np.sort(np.random.default_rng(0).random(200_000))

    def steps():
        yield InThread(work)
        yield InWorker("sleep", {"steps": 10, "seconds": 0.05}, {})

    with EventLoopWatch() as watch:
        jobs.run(steps(), **told.callbacks())
        watch.until(lambda: told.ended)
    assert told.names() == ["done"] and watch.longest_ms < 250  # 100 wanted; the machine that tests may be busy


def test_time_left(host):
    from PASTALib.gui.jobs import time_left

    said = [time_left(seconds) for seconds in (None, 0.2, 59.4, 60, 149, 3600)]
    assert said == ["", "1 s left", "59 s left", "1 min left", "2 min left", "60 min left"]
