"""Commands `pasta study analyse` and `pasta study simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from . import options

_TEST, _OUTPUT, _READERS, _DESIGN = "Analysis", "Output", "Readers", "Design"
RATINGS = ("closed/ratings.csv", "ratings.csv")


def analyse(
    ratings: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY|FILE", help="Closed study, or its ratings as CSV or Parquet.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the report. [dim]Default: report beside the ratings.[/dim]",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            metavar="POINTS",
            help="Margin of non-inferiority and equivalence, in points of the scale.",
            rich_help_panel=_TEST,
        ),
    ] = 0.5,
    alpha: Annotated[float, typer.Option(metavar="SHARE", help="Level of each test.", rich_help_panel=_TEST)] = 0.05,
    level: Annotated[float, typer.Option(metavar="SHARE", help="Level of intervals.", rich_help_panel=_TEST)] = 0.95,
    resamples: Annotated[
        int, typer.Option(metavar="N", help="Bootstrap resamples of cases.", rich_help_panel=_TEST)
    ] = 2000,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Same seed and ratings, same results.", rich_help_panel=_TEST)
    ] = 0,
    title: Annotated[
        str | None,
        typer.Option(help="Title of the report. [dim]Default: the study's title.[/dim]", rich_help_panel=_OUTPUT),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of the same name in DIR.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print all results as JSON and no progress, for machines.", rich_help_panel=_OUTPUT
        ),
    ] = False,
) -> None:
    """Analyse a closed study: means, non-inferiority, equivalence, AUC, agreement, times; HTML report, figures, CSV, methods text.

    Choose the margin before you look at the ratings: it is the loss of realism that you would still accept.
    """
    file = _ratings_file(ratings)
    options.number(margin, "--margin", 0.01, 3.99, "points")
    options.number(alpha, "--alpha", 0.001, 0.2, "")
    options.number(level, "--level", 0.5, 0.999, "")
    options.seed(seed)

    from .console import note, print_json, steps
    from .output import OutputFolder

    target = OutputFolder(out or file.parent / "report", overwrite, stale=())
    with steps(quiet=as_json) as progress:
        from ..study.analysis import analyse as run
        from ..study.analysis import read_ratings, write_study_report

        progress.start("Reading the ratings")
        rows = read_ratings(file)
        named, planned = _plan(file)
        update = progress.start("Analysing")
        results = run(
            rows,
            margin,
            level=level,
            alpha=alpha,
            resamples=resamples,
            seed=seed,
            planned=planned,
            source=file.name,
            progress=update,
        )
        progress.start("Writing the report")
        with target as staging:
            written = [target.path / path.name for path in write_study_report(results, staging, title or named)]
    if as_json:
        print_json(results.to_json() | {"written": [str(path) for path in written]})
        return
    from ..study.analysis.methods import headline

    for line in [*results.limits, *results.notes]:
        note(line)
    for line in headline(results):
        typer.echo(line)
    typer.echo(f"Report: {written[0]}")


def _ratings_file(path: Path) -> Path:
    """The file of ratings that ``path`` is or holds."""
    if path.is_dir():
        for name in RATINGS:
            if (path / name).is_file():
                return path / name
        hint = (
            "close it first: pasta study close"
            if (path / "study.json").is_file()
            else "give a closed study or a file of ratings"
        )
        raise InputError(f"{path}: no closed/ratings.csv in this folder; {hint}")
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; give a closed study, or its ratings as CSV or Parquet")
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"{path}: wanted ratings as .csv or .parquet")
    return path


def _plan(file: Path) -> tuple[str, dict[str, dict[str, int]] | None]:
    """Title of the study that the ratings are of, and how many first ratings it asked for, by part and reader; None without a study."""
    from ..study.package import STUDY, open_study

    folder = file.resolve().parent
    folder = folder.parent if folder.name == "closed" else folder
    if not (folder / STUDY).is_file():
        return "Reader study", None
    from ..study.analysis.table import QUESTIONS

    study = open_study(folder)
    planned: dict[str, dict[str, int]] = {}
    for reader in study.readers:
        for item in study.items(reader):
            if not item.practice and not item.repeat:
                counts = planned.setdefault(item.part, dict.fromkeys(study.readers, 0))
                counts[reader] += len(QUESTIONS[item.part])
    return study.title, planned


def simulate(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV to write the ratings of one study to.", rich_help_panel=_OUTPUT),
    ] = None,
    studies: Annotated[
        int | None,
        typer.Option(
            "--power",
            metavar="N",
            help="Instead, simulate N studies and tell how often each test's claim is shown: the power, to plan a study's size.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    readers: Annotated[int, typer.Option(metavar="N", help="Number of readers.", rich_help_panel=_READERS)] = 4,
    ability: Annotated[
        float,
        typer.Option(
            metavar="POINTS",
            help="How much lower readers see synthetic cases; 0: they cannot tell.",
            rich_help_panel=_READERS,
        ),
    ] = 0.15,
    ability_sd: Annotated[
        float,
        typer.Option(
            metavar="POINTS", help="Spread of this between readers (standard deviation).", rich_help_panel=_READERS
        ),
    ] = 0.1,
    bias_sd: Annotated[
        float, typer.Option(metavar="POINTS", help="Spread of leniency between readers.", rich_help_panel=_READERS)
    ] = 0.15,
    noise: Annotated[
        float,
        typer.Option(metavar="POINTS", help="Spread of one reader's readings of one case.", rich_help_panel=_READERS),
    ] = 0.4,
    mean: Annotated[
        float,
        typer.Option(
            metavar="POINTS", help="Typical look of a real case on the scale 1 to 5.", rich_help_panel=_DESIGN
        ),
    ] = 4.6,
    case_sd: Annotated[
        float, typer.Option(metavar="POINTS", help="Spread between cases.", rich_help_panel=_DESIGN)
    ] = 0.35,
    per_type: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Real cases of each of the fifteen types, and as many synthetic. [dim]Default: the paper's composition, 590 + 590.[/dim]",
            rich_help_panel=_DESIGN,
        ),
    ] = None,
    description: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Cases of each type in the description part (the paper: 50); 0: no such part.",
            rich_help_panel=_DESIGN,
        ),
    ] = 0,
    repeats: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of cases that each reader reads twice.", rich_help_panel=_DESIGN),
    ] = 0.1,
    missing: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of ratings not given.", rich_help_panel=_DESIGN)
    ] = 0.0,
    margin: Annotated[
        float, typer.Option(metavar="POINTS", help="Margin of the tests, with --power.", rich_help_panel=_TEST)
    ] = 0.5,
    alpha: Annotated[
        float, typer.Option(metavar="SHARE", help="Level of each test, with --power.", rich_help_panel=_TEST)
    ] = 0.05,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Same seed and settings, same ratings.", rich_help_panel=_OUTPUT)
    ] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.", rich_help_panel=_OUTPUT)] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and no progress, for machines.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Simulate readers with chosen bias, noise and ability: the ratings of one study, or the power of many.

    pasta study simulate --out ratings.csv, then pasta study analyse ratings.csv, shows what a report looks like before the study begins.
    """
    if (out is None) == (studies is None):
        raise InputError(
            "give either --out FILE for the ratings of one study, or --power N for the power over N studies"
        )
    options.seed(seed)
    options.number(margin, "--margin", 0.01, 3.99, "points")
    options.number(alpha, "--alpha", 0.001, 0.2, "")
    if out is not None:
        options.output_file(out, "--out", (".csv",), overwrite)
    for name, value in (("--per-type", per_type), ("--description", description)):
        if value is not None and not 0 <= value <= 1000:
            raise InputError(f"{name} {value} is out of range; give 0 to 1000")

    from ..study.simulate import PAPER_COMPOSITION, SimulatedDesign
    from ..taxonomy import LESION_KEYS

    design = SimulatedDesign(
        realism=PAPER_COMPOSITION if per_type is None else dict.fromkeys(LESION_KEYS, per_type),
        description=dict.fromkeys(LESION_KEYS, description) if description else {},
        readers=readers, repeats=repeats, mean=mean, ability=ability, ability_sd=ability_sd, bias_sd=bias_sd, case_sd=case_sd, noise=noise,
        missing=missing,
    )  # fmt: skip
    if studies is None:
        _write(design, out, seed, as_json)
    else:
        _power(design, studies, margin, alpha, seed, as_json)


def _write(design, out: Path, seed: int, as_json: bool) -> None:
    import csv

    from ..reporting.staged import staged
    from ..study.analysis import COLUMNS
    from ..study.simulate import simulate_ratings
    from .console import print_json, steps

    with steps(quiet=as_json) as progress:
        progress.start("Simulating readers")
        rows = simulate_ratings(design, seed)
        with staged([out]) as (target,), target.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if as_json:
        print_json({"ratings": str(out), "rows": len(rows)})
    else:
        typer.echo(f"{len(rows):,} simulated ratings: {out}")


def _power(design, studies: int, margin: float, alpha: float, seed: int, as_json: bool) -> None:
    from ..study.simulate import power
    from .console import print_json, steps

    with steps(quiet=as_json) as progress:
        found = power(
            design, studies, margin=margin, alpha=alpha, seed=seed, progress=progress.start("Simulating studies")
        )
    if as_json:
        print_json({"studies": studies, "margin": margin, "alpha": alpha, "power": found})
        return
    cases = sum(design.realism.values())
    typer.echo(
        f"{studies:,} studies of {design.readers} readers and {cases} real + {cases} synthetic cases, margin {margin:g}, α = {alpha:g}"
    )
    claims = {
        "Non-inferiority": f"non-inferior within {margin:g}",
        "Equivalence": f"equivalent within {margin:g}",
        "Difference": "a difference",
        "Telling apart": "readers can tell",
    }
    for name, share in found.items():
        typer.echo(f"  {claims[name]:<24} shown in {100 * share:5.1f} %")
