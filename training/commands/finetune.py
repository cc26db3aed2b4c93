"""``python -m training finetune``: segmentation with all training scans, in cross-validation."""

from __future__ import annotations

from typing import Annotated

import typer

from .downstream_options import (
    AsJson,
    Device,
    Folds,
    Model,
    Out,
    Overwrite,
    Resume,
    Seed,
    Set,
    SplitsFile,
    Threads,
    Workers,
)
from .segmentation_options import Cases, Channels, Data, Labels, Patients


def command(
    out: Out,
    preset: Annotated[str, typer.Option(metavar="NAME", help="paper, code, plain-ct or smoke.")] = "paper",
    set_: Set = None,
    data: Data = None,
    cases: Cases = None,
    labels: Labels = None,
    channels: Channels = "CT",
    patients: Patients = None,
    model: Model = None,
    splits: SplitsFile = None,
    folds: Folds = None,
    workers: Workers = 0,
    threads: Threads = 0,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a segmentation network on labelled scans, in cross-validation.

    Every fold is tested by a network that saw nothing of it, intensity statistics included. Dice per scan and label is in dice.csv.
    """
    from .downstream_work import Asked
    from .segmentation_work import segmentation

    asked = Asked(
        out, preset, set_ or [], cases, model, splits, folds, workers, threads, seed, device, resume, overwrite, as_json
    )
    source = {"data": data, "cases": cases, "labels": labels, "channels": channels, "patients": patients}
    segmentation("finetune", asked, source)
