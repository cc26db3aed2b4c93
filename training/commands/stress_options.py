"""Options of ``benchmark --stress`` and what it does once they are read. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from PASTALib.errors import InputError

STRESS = "Stress test"

StressModel = Annotated[
    str | None,
    typer.Option(
        "--stress",
        metavar="MODEL",
        help="How small, faint and blurred a lesion MODEL still finds: a file, an nnU-Net folder, starter, or a rule such as threshold:25 or threshold:-20,40@liver,kidney (HU from the organ's median).",
        rich_help_panel=STRESS,
    ),
]
StressCt = Annotated[
    list[Path] | None,
    typer.Option(
        "--ct", help="Healthy CT to put lesions into; repeatable, each with its --organs.", rich_help_panel=STRESS
    ),
]
StressOrgans = Annotated[
    list[Path] | None, typer.Option("--organs", help="Organ map of the --ct at the same place.", rich_help_panel=STRESS)
]
StressScheme = Annotated[
    str | None,
    typer.Option(
        "--organ-scheme",
        metavar="SCHEME",
        help="Numbering of the organ maps: pasta, totalseg-v2 or totalseg-v1. [dim]Default: found out.[/dim]",
        rich_help_panel=STRESS,
    ),
]
StressPhantom = Annotated[
    float | None,
    typer.Option(
        "--phantom",
        metavar="MM",
        help="The digital phantom of this voxel size, too. [dim]Default without --ct: 2 mm.[/dim]",
        rich_help_panel=STRESS,
    ),
]
StressLesions = Annotated[
    list[str] | None,
    typer.Option(
        "--lesion",
        metavar="TYPE",
        help="Lesion type, repeatable. [dim]Default: liver_tumor.[/dim]",
        rich_help_panel=STRESS,
    ),
]
StressSweep = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="NAME[=A,B,…]",
        help="size (mm), density (HU), surface (multiples of a sharp edge) or location (TYPE or TYPE/SITE), with levels of your own; repeatable. [dim]Default: all four.[/dim]",
        rich_help_panel=STRESS,
    ),
]
StressRepeats = Annotated[
    int, typer.Option("--repeats", metavar="N", help="Places for each lesion.", rich_help_panel=STRESS)
]
StressGrid = Annotated[
    bool, typer.Option("--grid", help="All combinations of size, density and surface, too.", rich_help_panel=STRESS)
]
StressRefine = Annotated[
    Path | None,
    typer.Option(
        "--refine", metavar="FILE", help="Refine each lesion with this denoising network.", rich_help_panel=STRESS
    ),
]

StressBeside = Annotated[
    list[Path] | None,
    typer.Option(
        "--beside",
        metavar="DIR",
        help="A finished study of another model, to be drawn into the same figure; repeatable.",
        rich_help_panel=STRESS,
    ),
]


def sweeps(items: Sequence[str]) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Attributes and levels of ``NAME`` or ``NAME=A,B,…``; all four attributes for none. InputError for one that comes twice."""
    from ..benchmark.stress.design import ATTRIBUTES

    levels: dict[str, list[str]] = {}
    for item in items:
        name, equals, values = (part.strip() for part in item.partition("="))
        if name not in ATTRIBUTES:
            raise InputError(f"--sweep {item!r}: {name!r} is not swept; choose from {', '.join(ATTRIBUTES)}")
        if name in levels:
            raise InputError(f"--sweep {name} is given twice; give it once, with all its levels")
        levels[name] = [value.strip() for value in values.split(",") if value.strip()]
        if equals and not levels[name]:
            raise InputError(f"--sweep {item!r} has no levels; write {name}=A,B,… or {name} alone")
    names = tuple(name for name in ATTRIBUTES if name in levels) or ATTRIBUTES
    return names, {name: values for name, values in levels.items() if values}


def scans(ct: Sequence[Path], organs: Sequence[Path], scheme: str | None, phantom: float | None) -> list:
    """Hosts for ``run_stress``. InputError where CTs and organ maps do not pair up."""
    from PASTALib.commands import options

    if len(ct) != len(organs):
        raise InputError(
            f"{len(ct)} --ct and {len(organs)} --organs; give one organ map for each CT, in the same order"
        )
    options.scheme(scheme)
    options.number(phantom, "--phantom", 1.0, 6.0, "mm")
    files = [(image, labels, scheme) for image, labels in zip(ct, organs)]
    if phantom is None:
        return files or [2.0]
    return [phantom, *files]


def run(
    model: str,
    out: Path,
    *,
    ct: Sequence[Path] | None = None,
    organs: Sequence[Path] | None = None,
    scheme: str | None = None,
    phantom: float | None = None,
    lesions: Sequence[str] | None = None,
    sweep: Sequence[str] | None = None,
    repeats: int = 8,
    grid: bool = False,
    refine: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    beside: Sequence[Path] | None = None,
    as_json: bool = False,
) -> Path:
    """What ``benchmark --stress`` does: the study with progress, then its page's place on stdout."""
    from PASTALib.commands import options
    from PASTALib.commands.console import print_json, steps

    options.seed(seed)
    attributes, levels = sweeps(sweep or ())
    hosts = scans(ct or (), organs or (), scheme, phantom)

    from ..benchmark.stress import run_stress

    with steps(quiet=as_json) as progress:
        update = progress.start("Preparing")

        def tell(step: int, of: int, text: str) -> None:
            if of:
                update(step, of, text)
            else:
                update(text)

        page = run_stress(
            model,
            hosts,
            out,
            lesions=tuple(lesions or ("liver_tumor",)),
            attributes=attributes,
            levels=levels,
            repeats=repeats,
            seed=seed,
            grid=grid,
            refine=refine,
            device=device,
            resume=resume,
            overwrite=overwrite,
            beside=tuple(beside or ()),
            progress=tell,
        )
    if as_json:
        from ..benchmark.stress.outputs import read_summary

        summary = read_summary(page.parent)
        halves = [
            {key: curve[key] for key in ("scan", "lesion", "factor", "half", "spearman")}
            for curve in summary["curves"]
            if curve["measure"] == "found" and curve["half"] is not None
        ]
        print_json({"page": str(page), "model": summary["model"], "half_found": halves})
    else:
        typer.echo(f"Page: {page}")
    return page
