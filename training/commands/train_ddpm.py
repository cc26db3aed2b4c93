"""``python -m training train-ddpm``: train the denoising network of the refinement."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from PASTALib.errors import InputError

_DATA, _RUN = "Scans", "Run"


def command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Run directory.", rich_help_panel=_RUN)],
    table: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Scans: columns ct, organs and, if wanted, scheme.", rich_help_panel=_DATA),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Scans: the cases of a generated set.", rich_help_panel=_DATA),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(metavar="NAME", help="paper, mixed (with phantoms), starter (CPU), smoke.", rich_help_panel=_RUN),
    ] = "paper",
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a setting of the preset; repeatable.", rich_help_panel=_RUN
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same run.", rich_help_panel=_RUN)] = 0,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="Where to train.", rich_help_panel=_RUN)
    ] = "auto",
    minutes: Annotated[
        float | None,
        typer.Option(metavar="M", help="Stop after this time, in good order; --resume goes on.", rich_help_panel=_RUN),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in DIR.", rich_help_panel=_RUN)] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew where DIR holds a run.", rich_help_panel=_RUN)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and no progress, for machines.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Train the 3-D conditional denoising network (DDPM) that refines lesions.

    Learns from healthy patches of scans, of digital phantoms, or of both. Writes ddpm.pth for [bold]pasta synth --refine[/bold], metrics, and
    a picture of lesions before and after. On several GPUs: torchrun --nproc-per-node N -m training train-ddpm …
    """
    from PASTALib.commands import options
    from PASTALib.commands.console import print_json, steps

    from .. import presets

    options.seed(seed)
    options.number(minutes, "--minutes", 0.0, 1e6, "minutes")
    values = presets.preset("train-ddpm", preset, presets.parse_changes(change or []))
    sources = {"table": str(table) if table else "", "cases": str(cases) if cases else ""}
    with steps(quiet=as_json) as shown:
        shown.start("Loading")
        from ..ddpm import Settings, size_mb, train
        from ..ddpm_scans import describe, training_scans
        from ..runs import Run

        settings = Settings.of(values)
        scans, held_out = training_scans(values, table, cases, seed)
        if not scans:
            raise InputError(
                "train-ddpm has no scans to learn from; give --table or --cases, or a preset with phantoms (mixed, starter)"
            )
        about = describe(values, scans, table, cases)
        with Run.of_first(out, "train-ddpm", values | sources, seed=seed, resume=resume, overwrite=overwrite) as run:
            update = shown.start("Training")
            made = train(
                run, settings, scans, held_out, seed=seed, device=device, minutes=minutes, about=about, progress=update
            )
            shown.start("Drawing lesions before and after")
            from ..ddpm_picture import save_picture

            picture = save_picture(run.folder / "samples.png", made.model, held_out[0], device) if run.writes else None
    told = {
        "run": str(out),
        "checkpoint": str(out / "ddpm.pth"),
        "picture": str(picture) if picture else None,
        "steps": made.step,
        "finished": made.finished,
        "steps_per_second": made.steps_per_second,
        "megabytes": size_mb(made.model),
        **made.validation,
    }
    if as_json:
        print_json(told)
        return
    typer.echo(
        f"{made.step} steps, {made.steps_per_second:.2f} a second; validation {made.validation.get('val_low', float('nan')):.4f} over steps 1-5"
    )
    if not made.finished:
        typer.echo("Not finished: the same command with --resume goes on.")
    typer.echo(f"Denoising network: {out / 'ddpm.pth'}")
