"""``python -m training pretrain-segmentation``: stage 1, the network that segments ten organs and fifteen lesion types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NAME = "pretrain-segmentation"
_DATA, _RUN = "Data", "Run"


def command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Run folder: settings, log, checkpoints, model.pth.")],
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="paper, code, paper-ft, code-ft, paper-fewshot, code-fewshot, regions; on the fly: synthesis, starter-cpu, smoke.",
        ),
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
            help="CSV of CTs to put lesions into on the fly: ct, organs, and if wanted scheme, use, ignore.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Checkpoint to start from, as far as it fits.", rich_help_panel=_DATA),
    ] = None,
    nnunet: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="nnU-Net's folders, to be shared by several trainings. [dim]Default: in the run folder.[/dim]",
            rich_help_panel=_DATA,
        ),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Cases to score the model on at the end.", rich_help_panel=_DATA),
    ] = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="What the model's card calls it.", rich_help_panel=_RUN)
    ] = "pretrained",
    workers: Annotated[
        int, typer.Option(metavar="N", help="Processes that make samples; 0: this one.", rich_help_panel=_RUN)
    ] = 1,
    threads: Annotated[
        int, typer.Option(metavar="N", help="Threads to compute with; 0: all cores.", rich_help_panel=_RUN)
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of weights, samples and lesions.", rich_help_panel=_RUN)] = 0,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.", rich_help_panel=_RUN)
    ] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in DIR.", rich_help_panel=_RUN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew where a run is.", rich_help_panel=_RUN)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and no progress, for machines.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Train the segmentation network (stage 1 of the paper's pretraining).

    On several cards: torchrun --nproc-per-node 8 -m training pretrain-segmentation … A run that was stopped, even killed, goes on with --resume.
    """
    from PASTALib.commands import options

    from ..presets import parse_changes
    from ..presets import preset as preset_of

    settings = preset_of(NAME, preset, parse_changes(set_ or []))
    options.seed(seed)
    for path, option in ((data, "--data"), (scans, "--scans"), (weights, "--weights"), (held_out, "--held-out")):
        if path is not None:
            options.existing(path, option)
    for number, option in ((workers, "--workers"), (threads, "--threads")):
        options.number(number, option, 0, 1024, "")

    import torch

    from PASTALib.commands.console import print_json, steps

    from ..runs import Run
    from ..segmentation.dataset import list_cases
    from ..segmentation.ranks import joined
    from ..segmentation.stage import check, pretrain, score

    check(settings, data, scans, weights)
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
            model = pretrain(
                run,
                settings,
                ranks=ranks,
                data=data,
                scans=scans,
                weights=weights,
                nnunet=nnunet,
                name=name,
                seed=seed,
                workers=workers,
                resume=resume,
                progress=shown.start("Training"),
            )
            scores = score(run, to_score, device, shown.start("Scoring")) if model and to_score else None
            last = run.metrics()
    if not ranks.first:
        return
    loss = next((line["loss"] for line in reversed(last) if line.get("loss") is not None), None)
    if as_json:
        print_json({"run": str(out), "model": model and str(model), "loss": loss, "scores": scores})
        return
    typer.echo(f"Run: {out} (loss {loss:.3f})" if loss is not None else f"Run: {out}")
    if model is None:
        typer.echo("Trained on regions: predict with nnU-Net, from the folder nnunet/results.")
        return
    typer.echo(f"Model: {model}; use it with `pasta segment --model {model}`")
    for key, value in (scores or {}).get("mean", {}).items():
        typer.echo(f"{key.replace('_', ' ')}: {value:.3f}")
