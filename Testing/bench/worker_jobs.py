"""Jobs for trying out the worker itself: ``python -m PASTALib.worker --jobs Testing.bench.worker_jobs``. Never part of a real worker."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np

from PASTALib.errors import InputError


def echo(params, arrays, progress, state):
    """Gives back what it got, and whether its arrays were writeable; "negate" turns the signs."""
    told = {"params": params, "writeable": [bool(array.flags.writeable) for array in arrays.values()]}
    told |= {"thread": threading.current_thread().name, "ident": threading.get_ident()}
    return told, {name: -array if params.get("negate") else array for name, array in arrays.items()}


def sleep(params, arrays, progress, state):
    """``steps`` steps of ``seconds`` each, looking for a cancel between them."""
    for step in range(params["steps"]):
        progress(step, params["steps"], "sleeping")
        time.sleep(params["seconds"])
    progress(params["steps"], params["steps"], "slept")
    return {}, {}


def stuck(params, arrays, progress, state):
    """Computes for ``seconds`` and never looks up; with "child" it has a child process that does the same."""
    if params.get("child"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        progress(0, 0, f"child {child.pid}")
    until = time.monotonic() + params.get("seconds", 600)
    while time.monotonic() < until:
        pass
    return {}, {}


def crash(params, arrays, progress, state):
    """Ends the process in the way that ``how`` names."""
    how = params["how"]
    if how == "exit":
        os.write(2, b"about to leave\n")
        os._exit(params.get("code", 3))
    if how == "segfault":
        ctypes.string_at(0)
    if how == "signal":
        os.kill(os.getpid(), getattr(signal, params["name"]))
        time.sleep(10)
    raise ValueError(how)


def fail(params, arrays, progress, state):
    """Raises what ``how`` names."""
    how = params["how"]
    if how == "input":
        raise InputError("ct.nii.gz: holds a cat; wanted a CT; scan a patient")
    if how == "memory":
        raise MemoryError("cannot allocate 8 EB")
    if how == "exit":
        sys.exit(5)
    if how == "json":
        return {"thing": object()}, {}
    raise RuntimeError("two\nlines")


def shout(params, arrays, progress, state):
    """Writes to what would be the protocol's own channel, in every way there is."""
    print("print from Python", '{"event": "result"}')
    sys.__stdout__.write("to the first stdout\n")
    os.write(1, b'{"event":"result","job":1,"result":{"fake":true},"arrays":{}}\n')
    ctypes.CDLL(None).puts(b"puts from C")
    ctypes.CDLL(None).fflush(None)
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    logging.getLogger("somewhere").warning("remark %d", 7)
    warnings.warn("a warning", stacklevel=1)
    return {"read": sys.stdin.read()}, {}


def warm(params, arrays, progress, state):
    """How often ``key`` had to be made so far, and what else is kept."""
    made = []
    value = state.get(params["key"], lambda: made.append(1) or object())
    return {"made": bool(made), "id": id(value), "kept": [key for key in params.get("ask", []) if key in state]}, {}


def pool(params, arrays, progress, state):
    """Squares numbers in processes that are started anew, as nnU-Net and TotalSegmentator do."""
    with multiprocessing.get_context("spawn").Pool(1) as processes:
        return {"squares": processes.map(square, params["numbers"])}, {}


def square(number):
    return number * number


def make(params, arrays, progress, state):
    """A result array of ``shape``, with no file of more than ``limit`` bytes allowed."""
    if "limit" in params:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (params["limit"],) * 2)
    return {}, {"made": np.ones(params["shape"], params.get("dtype", "uint8"))}


JOBS = {job.__name__: job for job in (echo, sleep, stuck, crash, fail, shout, warm, pool, make)}
