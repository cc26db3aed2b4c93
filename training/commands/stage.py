"""``python -m training stage``: tumour staging and survival from the region round a point."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .downstream_options import (
    DATA,
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


def command(
    out: Out,
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="paper, fmcib, survival-2y, survival-3y or smoke.")
    ] = "paper",
    set_: Set = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV or TSV: id, patient, ct, point (R,A,S) or mask, label; for survival os_days and event instead of label.",
            rich_help_panel=DATA,
        ),
    ] = None,
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
    """Fine-tune staging or survival prediction from the region round the tumour, in cross-validation.

    Folds are by patient. Weights are chosen on patients set aside from the training folds, never on the fold that is reported.
    """
    from .downstream_work import Asked, classify

    asked = Asked(
        out, preset, set_ or [], cases, model, splits, folds, workers, threads, seed, device, resume, overwrite, as_json
    )
    classify("stage", asked)
