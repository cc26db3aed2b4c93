"""``python -m training benchmark``: the paper's 46 tasks, its rivals, and its statistics under one roof."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .downstream_options import RUN, Device, Threads, Workers
from .stress_options import (
    StressBeside,
    StressCt,
    StressGrid,
    StressLesions,
    StressModel,
    StressOrgans,
    StressPhantom,
    StressRefine,
    StressRepeats,
    StressScheme,
    StressSweep,
)

_WHAT, _HOW = "What", "How it is trained"

EPILOG = (
    "[b]Try it[/b], a few minutes on a CPU, made-up scans and tiny networks:  python -m training benchmark --suite smoke --out smoke\n\n"
    "[b]What it costs[/b], before anything is run:  … benchmark --suite paper --dry-run\n\n"
    "[b]One task[/b]:  … benchmark --task full-liver_tumor --model pasta,nnunet --weights pasta=PASTA_final.pth --data SETS --out liver --workers 8\n\n"
    "[b]A model of yours[/b] in the same folder later:  … --model mine --resume   (entry point slicerpasta.benchmark_models)\n\n"
    "[b]A cluster[/b]:  … --slurm '--partition=gpu --time=2-0', then sbatch DIR/slurm.sh, then … --out DIR --report\n\n"
    "[b]How small a lesion[/b] a model still finds:  … benchmark --stress MODEL --out stress"
)


def command(
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the benchmark: folds, results, report.html. Not for --dry-run."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY|GROUP|all",
            help="Task such as full-liver_tumor, or group: full, fewshot, plain, detect, stage, survival, report, mri. Repeatable, or commas between.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY|all|paper",
            help="pasta, nnunet, universal, genesis, suprem, fmcib, scratch, or one of yours, with options as in suprem:backbone=segresnet; all; or paper, the rows of the paper's tables. Guessing (majority class, empty mask) always runs beside them.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL=FILE",
            help="Published weights of a model, or MODEL=none for new values; repeatable.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="smoke|paper",
            help="smoke: every task and model, made-up scans, tiny networks. paper: every task with the rows of its table.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder with the data sets, each as its archive unpacks (Docs/benchmark-data.md).",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Table that does not lie beside its set: reannotation, clinical or points; repeatable.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Go on without cases that are missing or unsound.", rich_help_panel=_WHAT)
    ] = False,
    mode: Annotated[
        str,
        typer.Option(
            metavar="paper|native",
            help="Preprocessing: as the paper fed all models, or as each model's authors do.",
            rich_help_panel=_HOW,
        ),
    ] = "paper",
    budget: Annotated[
        str,
        typer.Option(
            metavar="STEPS|ExI",
            help="Length of every training: steps, or epochs x iterations. [dim]Default: the paper's.[/dim]",
            rich_help_panel=_HOW,
        ),
    ] = "",
    folds: Annotated[int | None, typer.Option(metavar="N", help="Default: 5.", rich_help_panel=_HOW)] = None,
    k: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…", help="Few-shot: scans to learn from. [dim]Default: 1,2,4,8,16.[/dim]", rich_help_panel=_HOW
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Few-shot: draws for each fold and K. [dim]Default: 5.[/dim]", rich_help_panel=_HOW
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of folds, draws, new weights and samples.", rich_help_panel=_HOW)
    ] = 0,
    keep_weights: Annotated[
        bool, typer.Option("--keep-weights", help="Keep the trained weights of every unit.", rich_help_panel=_HOW)
    ] = False,
    gpus: Annotated[
        int, typer.Option(metavar="N", help="Cards of this machine, one process each.", rich_help_panel=RUN)
    ] = 0,
    slurm: Annotated[
        str | None,
        typer.Option(
            metavar="OPTIONS",
            help="Prepare the data and write slurm.sh, an array, with these options of sbatch; run nothing.",
            rich_help_panel=RUN,
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only every N-th training, from the I-th.", rich_help_panel=RUN)
    ] = None,
    workers: Workers = 0,
    threads: Threads = 0,
    device: Device = "auto",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on in DIR, with more tasks or models if you like; what is done stays.",
            rich_help_panel=RUN,
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew where a benchmark is.", rich_help_panel=RUN)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan and its cost in GPU hours; run nothing.", rich_help_panel=RUN),
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Only write the report of what is in DIR.", rich_help_panel=RUN)
    ] = False,
    empty: Annotated[
        str,
        typer.Option(
            "--empty",
            metavar="skip|count",
            help="In the report, Dice of scans whose true mask is empty: left out, as in the authors' script, or counted.",
            rich_help_panel=RUN,
        ),
    ] = "skip",
    correction: Annotated[
        str,
        typer.Option(
            metavar="holm|bh|none",
            help="In the report, of p over all its tests, beside the plain one.",
            rich_help_panel=RUN,
        ),
    ] = "holm",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and no progress, for machines.", rich_help_panel=RUN)
    ] = False,
    stress: StressModel = None,
    ct: StressCt = None,
    organs: StressOrgans = None,
    organ_scheme: StressScheme = None,
    phantom: StressPhantom = None,
    lesion: StressLesions = None,
    sweep: StressSweep = None,
    repeats: StressRepeats = 8,
    grid: StressGrid = False,
    refine: StressRefine = None,
    beside: StressBeside = None,
) -> None:
    """Run the paper's comparison, or add a row to it: cross-validation, out-of-fold predictions, statistics and a report page.

    Folds are fixed by --seed and kept in DIR/splits; masks and probabilities of every test scan in DIR/units. A stopped run goes on with --resume.
    """
    from . import benchmark_work as work

    if stress is not None:
        from . import stress_options

        stress_options.run(
            stress,
            work.folder(out),
            ct=ct,
            organs=organs,
            scheme=organ_scheme,
            phantom=phantom,
            lesions=lesion,
            sweep=sweep,
            repeats=repeats,
            grid=grid,
            refine=refine,
            seed=seed,
            device=device,
            resume=resume,
            overwrite=overwrite,
            beside=beside,
            as_json=as_json,
        )
        return
    asked = work.Asked(
        out=out,
        tasks=work.listed(task),
        models=work.models(model),
        weights=work.pairs(weights, "--weights", "MODEL=FILE"),
        suite=suite,
        data=data,
        tables=work.pairs(table, "--table", "NAME=FILE"),
        partial=partial,
        mode=mode,
        budget=budget,
        folds=folds,
        k=k,
        draws=draws,
        seed=seed,
        keep_weights=keep_weights,
        gpus=gpus,
        workers=workers,
        threads=threads,
        device=device,
        empty=empty,
        correction=correction,
        as_json=as_json,
    )
    if report:
        work.report(asked)
    elif dry_run:
        work.dry_run(asked)
    else:
        work.run(asked, slurm=slurm, part=part, resume=resume, overwrite=overwrite)
