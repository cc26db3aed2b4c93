"""``python -m training pretrain-attributes``: stage 2, the head that predicts five attributes of a lesion, on the frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NAME = "pretrain-attributes"
_DATA, _RUN = "Data", "Run"


def command(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Run folder: settings, log, features, checkpoints, model.pth.")
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The stage 1 model: model.pth of a run, or a name in the store.")
    ],
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="paper, code; lesions made on the fly: synthesis, starter-cpu, smoke.")
    ] = "paper",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the preset; repeatable.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Generated set (or PASTA-Gen-30K), for source=cases.", rich_help_panel=_DATA),
    ] = None,
    scans: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV of CTs to put lesions into on the fly: ct, organs, and if wanted scheme, use.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Cases to score the model on at the end.", rich_help_panel=_DATA),
    ] = None,
    workers: Annotated[
        int, typer.Option(metavar="N", help="Processes that cut crops; 0: this one.", rich_help_panel=_RUN)
    ] = 1,
    threads: Annotated[
        int, typer.Option(metavar="N", help="Threads to compute with; 0: all cores.", rich_help_panel=_RUN)
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of head, crops and lesions.", rich_help_panel=_RUN)] = 0,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.", rich_help_panel=_RUN)
    ] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the features and the checkpoint in DIR.", rich_help_panel=_RUN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew where a run is.", rich_help_panel=_RUN)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and no progress, for machines.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Train the attribute head (stage 2 of the paper's pretraining) and write one model that segments and predicts attributes.

    The encoder does not change, so its output for every lesion is computed once and kept in DIR/features. Torchrun works as for stage 1.
    """
    from PASTALib.commands import options

    from ..presets import parse_changes
    from ..presets import preset as preset_of

    settings = preset_of(NAME, preset, parse_changes(set_ or []))
    options.seed(seed)
    for path, option in ((data, "--data"), (scans, "--scans"), (held_out, "--held-out")):
        if path is not None:
            options.existing(path, option)
    for number, option in ((workers, "--workers"), (threads, "--threads")):
        options.number(number, option, 0, 1024, "")

    import torch

    from PASTALib.commands.console import print_json, steps
    from PASTALib.networks.load import load_model

    from ..attributes import BALANCE, check, pretrain_attributes, score
    from ..runs import Run
    from ..segmentation.dataset import list_cases
    from ..segmentation.ranks import joined

    base = load_model(model)
    check(settings, base, data, scans)
    to_score = list_cases(held_out) if held_out is not None else []
    if threads:
        torch.set_num_threads(threads)
    with joined(device) as ranks, steps(quiet=as_json or not ranks.first) as shown:
        if ranks.first:
            run = Run.open(out, NAME, settings, seed=seed, resume=resume, overwrite=overwrite)
        ranks.wait()
        if not ranks.first:
            run = Run.open(out, NAME, settings, seed=seed, resume=True)
        with run:
            path = pretrain_attributes(
                run,
                settings,
                base,
                ranks=ranks,
                data=data,
                scans=scans,
                seed=seed,
                workers=workers,
                resume=resume,
                progress=shown.start("Training"),
            )
            if path is None:
                return
            scores = score(run, to_score, device, shown.start("Scoring"))
    if as_json:
        print_json({"run": str(out), "model": str(path), **scores})
        return
    _print(scores, out / BALANCE)
    typer.echo(f"Model: {path}; use it with `pasta segment` and `pasta report --model {path}`")


def _print(scores: dict, balance: Path) -> None:
    import json

    from rich import box
    from rich.console import Console
    from rich.table import Table

    for key, options in json.loads(balance.read_text("utf-8"))["train"].items():
        typer.echo(f"{key}: " + ", ".join(f"{name} {count}" for name, count in options.items()))
    for title, part in scores.items():
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title.replace("_", " "), title_justify="left")
        for column in ("attribute", "lesions", "accuracy", "majority", "balanced"):
            table.add_column(column, justify="left" if column == "attribute" else "right")
        for key, entry in part.items():
            figures = [f"{entry[name]:.3f}" for name in ("accuracy", "majority", "balanced")]
            table.add_row(key, str(entry["lesions"]), *figures)
        Console().print(table)
