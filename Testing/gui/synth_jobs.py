"""Stand-ins for the worker's jobs that PASTA Synth uses, for tests: ``Worker(jobs="Testing.gui.synth_jobs")``.

"refine": the weights' file name says what happens: "slow…" takes a fifth of a second per step, "stuck…" never looks up, "refuse…" finds them bad.
"organs" and "segment": labels out of the file that the environment variable PASTA_TEST_LABELS names.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.refinement.remote import LIVE
from PASTALib.worker.arrays import write_array

STEPS = 5


def refine(params, arrays, progress, state):
    """Each step makes the voxels that may change one HU denser."""
    name = Path(params["model"]).name
    if name.startswith("refuse"):
        raise InputError(f"{name}: holds no denoising network")
    progress(0, STEPS, "loading the denoising network")
    hu = np.array(arrays["hu"], np.float32)
    changed = arrays["changed"] != 0
    for step in range(1, STEPS + 1):
        hu[changed] += 1
        write_array(Path(params["live"]) / LIVE.format(step=step), "live", hu)
        progress(step, STEPS, "refining")
        time.sleep(60 if name.startswith("stuck") else 0.2)
    return {"model": "stand-in", "trained": True, "engine": "none", "device": "cpu"}, {"hu": hu}


def organs(params, arrays, progress, state):
    """As TotalSegmentator: structures with names."""
    labels = np.load(os.environ["PASTA_TEST_LABELS"])
    progress(1, 2, "running TotalSegmentator")
    names = {str(organ.value): organ.classes[0] for organ in taxonomy.ORGANS}
    told = {"structure_names": names, "scheme": "totalseg-v2", "notes": ["a note of TotalSegmentator"]}
    return told, {"labels": labels, "structures": labels}


def segment(params, arrays, progress, state):
    """As a PASTA model, which sees a tumor in the liver too."""
    labels = np.load(os.environ["PASTA_TEST_LABELS"])
    liver = np.argwhere(labels == taxonomy.organ("liver").value)
    middle = liver[len(liver) // 2]
    labels[tuple(slice(i, i + 2) for i in middle)] = taxonomy.lesion("liver_tumor").value
    names = {str(item.value): item.key for item in (*taxonomy.ORGANS, *taxonomy.LESIONS)}
    return {"names": names, "model": params["model"], "trained": True, "notes": []}, {"labels": labels}


JOBS = {"refine": refine, "organs": organs, "segment": segment}
