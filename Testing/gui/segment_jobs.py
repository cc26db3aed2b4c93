"""Stand-ins for the worker's jobs that need a network, for tests of the panels: ``Worker(jobs="Testing.gui.segment_jobs")``.

The model's name says what happens: a ``.npy`` file holds the labels to give; "slow" goes on until it is cancelled; "stuck" never looks up;
"die" kills the process; "refuse" finds the input bad.
"""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from PASTALib import taxonomy
from PASTALib.attributes import LEARNED, TABLE
from PASTALib.errors import InputError

NAMES = {str(item.value): item.key for item in (*taxonomy.ORGANS, *taxonomy.LESIONS)}
SURE = 0.875


def _misbehave(model: str, progress) -> None:
    if model == "slow":
        for step in range(6000):
            progress(step, 6000, "segmenting")
            time.sleep(0.01)
    if model == "stuck":
        progress(1, 2, "segmenting")
        time.sleep(60)
    if model == "die":
        progress(1, 2, "segmenting")
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    if model == "refuse":
        raise InputError("refuse: this model does not segment; choose another")


def segment(params, arrays, progress, state):
    """Labels out of a file; outside ``region``, where there is one, nothing."""
    progress(0, 0, "loading the model")
    _misbehave(params["model"], progress)
    labels = np.load(params["model"])
    if "region" in arrays:
        labels = np.where(arrays["region"], labels, 0).astype(np.uint8)
    names = NAMES | ({"30": "spleen"} if (labels == 30).any() else {})
    for step in range(3):
        progress(step + 1, 3, "segmenting")
    notes = ["a stand-in for a network, not a result"]
    return {"names": names, "model": "stand-in", "trained": True, "notes": notes}, {"labels": labels}


def attributes(params, arrays, progress, state):
    """The last option of every attribute, with a probability of 0.875; "random" ones are not trained."""
    _misbehave(params["model"], progress)
    trained = not params["model"].startswith("random")
    table = {}
    for key in LEARNED:
        options = TABLE[key].options
        rest = (1 - SURE) / (len(options) - 1)
        table[key] = {option: rest for option in options[:-1]} | {options[-1]: SURE}
    one = {"model": "stand-in", "trained": trained, "probabilities": table}
    told = {"model": "stand-in", "trained": trained, "digest": "abc", "notes": ["a note of the model"]}
    return {"predictions": [one for _ in params["centres_ras"]], **told}, {}


JOBS = {"segment": segment, "attributes": attributes}
