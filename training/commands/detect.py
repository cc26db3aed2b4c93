"""``python -m training detect``: is there a tumour in the organ? On plain CT, as the paper does."""

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
    preset: Annotated[str, typer.Option(metavar="NAME", help="paper, code, literal, scratch or smoke.")] = "paper",
    set_: Set = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV or TSV: id, patient, ct, organs (map; scheme, organ) or mask (of the organ), label (healthy or tumor).",
            rich_help_panel=DATA,
        ),
    ] = None,
    model: Model = None,
    organ: Annotated[
        str | None,
        typer.Option(
            metavar="ORGAN",
            help="Which organ of the maps, such as gallbladder, where the table has no column organ.",
            rich_help_panel=DATA,
        ),
    ] = None,
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
    """Fine-tune a detector of tumours in an organ on plain CT, in cross-validation.

    Folds are by patient. Weights are chosen on patients set aside from the training folds, never on the fold that is reported.
    """
    from .downstream_work import Asked, classify

    asked = Asked(
        out, preset, set_ or [], cases, model, splits, folds, workers, threads, seed, device, resume, overwrite, as_json
    )
    classify("detect", asked, organ)
