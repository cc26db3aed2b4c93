"""``python -m training generate``: a data set in PASTA-Gen-30K's layout, of any size, on any number of workers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_TEMPLATES, _CASES, _WORKERS, _SLURM, _RUN = "Templates", "Cases", "Workers", "SLURM", "Run"


def command(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the data set; also holds its account.", rich_help_panel=_RUN)
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV or TSV of scans: ct, organs, and if wanted organ_scheme, report, id, patient.",
            rich_help_panel=_TEMPLATES,
        ),
    ] = None,
    phantom: Annotated[
        float | None,
        typer.Option(
            metavar="MM", help="Generated torsos of about this voxel size instead.", rich_help_panel=_TEMPLATES
        ),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Reports exclude an organ when they name it (literal, as in the paper) or when they do not call it normal (negation-aware).",
            rich_help_panel=_TEMPLATES,
        ),
    ] = None,
    any_range: Annotated[
        bool | None,
        typer.Option(
            "--any-range", help="Also scans of other regions than the paper's three.", rich_help_panel=_TEMPLATES
        ),
    ] = None,
    per_type: Annotated[
        int | None, typer.Option("--per-type", metavar="N", help="Cases of each type.", rich_help_panel=_CASES)
    ] = None,
    types: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE,…", help="Lesion types, separated by commas. [dim]Default: all.[/dim]", rich_help_panel=_CASES
        ),
    ] = None,
    spacing: Annotated[
        float | None,
        typer.Option(metavar="MM", help="Resample scans to this first; 0: their own grid.", rich_help_panel=_CASES),
    ] = None,
    cube: Annotated[
        int | None,
        typer.Option(
            metavar="VOXELS",
            help="Keep a cube around the lesion (paper: 280 at 1 mm); 0: whole scans.",
            rich_help_panel=_CASES,
        ),
    ] = None,
    multiple: Annotated[
        bool | None,
        typer.Option("--multiple", help="As many lesions per case as the priors say, not one.", rich_help_panel=_CASES),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Processes; 0: this one. [dim]Default: one per core.[/dim]", rich_help_panel=_WORKERS
        ),
    ] = None,
    memory: Annotated[
        float | None, typer.Option(metavar="GB", help="Memory of each worker.", rich_help_panel=_WORKERS)
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A running Dask scheduler, tcp://host:port.", rich_help_panel=_WORKERS),
    ] = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Run the workers as SLURM jobs.", rich_help_panel=_SLURM)
    ] = False,
    slurm_queue: Annotated[str | None, typer.Option(metavar="NAME", help="Partition.", rich_help_panel=_SLURM)] = None,
    slurm_account: Annotated[str | None, typer.Option(metavar="NAME", help="Account.", rich_help_panel=_SLURM)] = None,
    slurm_time: Annotated[
        str, typer.Option(metavar="HH:MM:SS", help="Time limit of a job.", rich_help_panel=_SLURM)
    ] = "08:00:00",
    slurm_cores: Annotated[
        int, typer.Option(metavar="N", help="Cores, hence workers, per job.", rich_help_panel=_SLURM)
    ] = 1,
    slurm_arg: Annotated[
        list[str] | None,
        typer.Option(metavar="ARG", help="Further sbatch argument; repeatable.", rich_help_panel=_SLURM),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Same seed and scans, same bytes, whatever the workers.", rich_help_panel=_RUN),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(metavar="NAME", help="default, paper (2000 per type, 1 mm, 280³) or smoke.", rich_help_panel=_RUN),
    ] = "default",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a setting of the preset; repeatable.", rich_help_panel=_RUN
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the set in DIR; what is not given is as before.", rich_help_panel=_RUN
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove the generated cases in DIR first.", rich_help_panel=_RUN)
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Only check every file's sum; with --resume, make again what is wrong.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    index: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Only list a set in this layout (such as PASTA-Gen-30K) into DIR.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Begin even if the disk seems too small.", rich_help_panel=_RUN)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and no progress, for machines.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Generate cases with synthetic lesions in healthy scans, in PASTA-Gen-30K's layout.

    May be stopped at any moment, even killed; --resume goes on. Writes manifest.jsonl, dataset.json and quality.html beside the cases.
    """
    from PASTALib.errors import InputError

    from .generate_work import choose, list_published, make, only_verify

    if index is not None:
        if any((table, phantom, resume, overwrite, verify)):
            raise InputError(
                "--index only lists a set; leave --table, --phantom, --resume, --overwrite and --verify out"
            )
        list_published(index, out, as_json)
        return
    if verify and not resume and table is None and phantom is None:
        only_verify(out, as_json)
        return
    given: dict[str, Any] = {"phantom_mm": phantom, "rule": rule, "any_range": any_range, "per_type": per_type}
    given |= {"spacing_mm": spacing, "cube": cube, "multiple": multiple}
    chosen = choose(out, table, types, seed, preset, set_ or [], given, resume)
    if slurm_cores < 1:
        raise InputError(f"--slurm-cores {slurm_cores} is out of range; give 1 or more")
    slurm_options = {"queue": slurm_queue, "account": slurm_account, "time": slurm_time, "cores": slurm_cores}
    slurm_options["extra"] = tuple(slurm_arg or [])
    make(
        chosen,
        workers=(workers, memory, scheduler, slurm_options if slurm else None),
        flags={"resume": resume, "overwrite": overwrite, "verify": verify, "force": force},
        as_json=as_json,
    )
