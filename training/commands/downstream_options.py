"""Options that finetune, fewshot, detect, stage and attributes share. Nothing heavy is imported here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from PASTALib.errors import InputError

DATA, RUN = "Data", "Run"

Out = Annotated[Path, typer.Option(metavar="DIR", help="Run folder: splits, one folder per fold, summary.json.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the preset; repeatable.")
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Weights to start from; none or none:WIDTH for new values.",
        rich_help_panel=DATA,
    ),
]
SplitsFile = Annotated[
    Path | None,
    typer.Option(
        "--splits",
        metavar="FILE",
        help="Folds of another run (splits.json) or of nnU-Net (splits_final.json). [dim]Default: drawn by --seed.[/dim]",
        rich_help_panel=DATA,
    ),
]
Folds = Annotated[
    str | None,
    typer.Option(
        metavar="0,1,…",
        help="Only these folds now, such as one per card; --resume does others later. [dim]Default: all.[/dim]",
        rich_help_panel=RUN,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Processes that make samples; 0: this one. A graphics card needs several.",
        rich_help_panel=RUN,
    ),
]
Threads = Annotated[int, typer.Option(metavar="N", help="Threads to compute with; 0: all cores.", rich_help_panel=RUN)]
Seed = Annotated[int, typer.Option(metavar="N", help="Of splits, new weights and samples.", rich_help_panel=RUN)]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.", rich_help_panel=RUN)]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in DIR; finished folds stay.", rich_help_panel=RUN)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Begin anew where a run is.", rich_help_panel=RUN)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and no progress, for machines.", rich_help_panel=RUN)]


def numbers(text: str | None, known: list[int], option: str) -> list[int]:
    """The whole numbers in ``0,2-4``, each among ``known``; all of them for None."""
    if text is None:
        return known
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part)
        if match is None:
            raise InputError(f"{option} {text!r} is not understood; give numbers such as 0,2 or 0-4")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    unknown = [number for number in found if number not in known]
    if unknown or not found:
        raise InputError(f"{option} {text!r}: there is no {unknown[0] if unknown else 'number'}; there are {known}")
    return sorted(set(found))


def check_numbers(seed: int, workers: int, threads: int) -> None:
    """InputError for numbers out of range."""
    from PASTALib.commands import options

    options.seed(seed)
    for number, option in ((workers, "--workers"), (threads, "--threads")):
        options.number(number, option, 0, 1024, "")
