"""How quick the worker is: start, warm second job, cancel, and a scan there and back."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from PASTALib.progress import Cancelled
from PASTALib.worker import Handle, Worker

JOBS = "Testing.bench.worker_jobs"
ROOT = Path(__file__).resolve().parents[2]
SCAN_SHAPE = (300, 512, 512)
PATIENCE_S = 30.0


def worker_for_trials(**options) -> Worker:
    """A worker that knows the jobs of ``worker_jobs``, too."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return Worker(jobs=JOBS, extra_env={"PYTHONPATH": path}, **options)


def wait_for(handle: Handle, kind: str) -> dict:
    """The first event of a kind; the events before it are dropped. AssertionError when the job ends without."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        event = handle.next_event(0.1)
        if event is not None and event["event"] == kind:
            return event
        assert event is not None or not handle.done, f"{handle.name} ended without {kind}"
    raise AssertionError(f"no {kind} of {handle.name} within {PATIENCE_S:g} s")


def measure_worker(runs: int = 5, shape: tuple[int, int, int] = SCAN_SHAPE) -> dict[str, list[float]]:
    """Seconds of each of ``runs`` trials; AssertionError when one does not do what it is timed for.

    ``start_s``: from asking for the first job to its begin, the start of the process included (one trial). ``round_trip_s``: an int16 scan
    of ``shape`` (z, y, x) written, mapped and negated by the worker, written, mapped here, all its values read. ``warm_start_s``: from asking
    a running worker for a job to its begin; the job must find what the one before it kept. ``cancel_s``: until a job that looks every 10 ms
    has ended; ``hard_cancel_s``: until a job that never looks has, by the end of its process.
    """
    scan = np.random.default_rng(0).integers(-1000, 1000, shape, np.int16)
    with worker_for_trials() as worker:
        figures = {"start_s": [_start(worker, made=True)]}
        figures["round_trip_s"] = [_round_trip(worker, scan) for _ in range(runs)]
        figures["warm_start_s"] = [_start(worker, made=False) for _ in range(runs)]
        figures["cancel_s"] = [_cancel(worker, "sleep") for _ in range(runs)]
        figures["hard_cancel_s"] = [_cancel(worker, "stuck") for _ in range(runs)]
    return {name: [round(value, 4) for value in values] for name, values in figures.items()}


def _round_trip(worker: Worker, scan: np.ndarray) -> float:
    begun = time.perf_counter()
    _, arrays = worker.run("echo", {"negate": True}, {"scan": scan})
    total = int(arrays["scan"].sum(dtype=np.int64))
    seconds = time.perf_counter() - begun
    assert total == -int(scan.sum(dtype=np.int64))
    return seconds


def _start(worker: Worker, made: bool) -> float:
    begun = time.perf_counter()
    handle = worker.start("warm", {"key": "model"})
    wait_for(handle, "started")
    seconds = time.perf_counter() - begun
    assert handle.result()[0]["made"] is made, "what was kept is gone" if not made else "it was kept before it was made"
    return seconds


def _cancel(worker: Worker, job: str) -> float:
    handle = worker.start(job, {"steps": 3000, "seconds": 0.01 if job == "sleep" else 30.0})
    wait_for(handle, "started")
    begun = time.perf_counter()
    handle.cancel()
    assert handle.wait(PATIENCE_S)
    seconds = time.perf_counter() - begun
    try:
        handle.result()
    except Cancelled:
        return seconds
    raise AssertionError(f"{job} was not cancelled")


if __name__ == "__main__":
    for name, values in measure_worker().items():
        print(f"{name:16} {' '.join(f'{value:.3f}' for value in values)}")
