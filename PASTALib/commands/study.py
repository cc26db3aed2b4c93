"""``pasta study``: the blinded reader study, from design to the table of ratings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from . import options, study_analysis, study_rate
from . import study_options as opt

app = typer.Typer(
    no_args_is_help=False,
    rich_markup_mode="rich",
    help="Blinded reader study: are synthetic lesions as realistic as real ones, and are their descriptions accurate?",
)


@app.callback(invoke_without_command=True)
def _study(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def new(
    real: Annotated[Path, typer.Option(metavar="POOL", help="Real cases: folder or CSV.", rich_help_panel=opt.POOLS)],
    synthetic: Annotated[Path, typer.Option(metavar="POOL", help="Synthetic cases: folder or CSV.", rich_help_panel=opt.POOLS)],
    out: Annotated[Path, typer.Option(metavar="STUDY", help="New folder for the study.")],
    preset: opt.Preset = "pilot",
    type_: opt.Types = None,
    per_type: opt.PerType = None,
    count: opt.Count = None,
    description: opt.Description = None,
    practice: opt.Practice = None,
    repeats: opt.Repeats = None,
    sessions: opt.Sessions = None,
    washout: opt.Washout = None,
    readers: opt.Readers = None,
    title: Annotated[str | None, typer.Option(help="Shown to readers; say nothing about the hypothesis.", rich_help_panel=opt.DESIGN)] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Draws cases and orders; kept in the key. [dim]Default: random.[/dim]", rich_help_panel=opt.DESIGN)] = None,
    shape: opt.Shape = None,
    spacing: opt.Spacing = None,
    passphrase_file: opt.PassphraseFile = None,
    key_file: opt.KeyFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the study asks of readers and disk; write nothing.")] = False,
    as_json: opt.Json = False,
) -> None:  # fmt: skip
    """Make a study from a pool of real and a pool of synthetic cases.

    A POOL is a folder with [bold]<Organ>/<Type>/<case>/{img,label,total}.nii.gz, type.json[/bold], as [bold]pasta synth[/bold] writes and PASTA-Gen-30K is published; or a [bold]CSV[/bold] with the columns image, mask, lesion_type and, if wanted, label (the lesion's value in the mask), id, report (a case folder).

    Every case is exported in the same way: resampled to one grid centred on the lesion, clipped to one range, written with the same header, size and time stamp under a random id. Real and synthetic cases are mixed 1:1 within each type, every reader gets an order of their own, and the key is sealed with your passphrase until [bold]close[/bold].

    Then: [bold]check[/bold] looks for leaks, [bold]hand-out[/bold] makes the readers' copies (without key), they rate in Slicer (module PASTAStudy) or with [bold]rate[/bold], [bold]merge[/bold] collects, [bold]close[/bold] unseals, [bold]analyse[/bold] writes the report.

    How many cases? [bold]--dry-run[/bold] and [bold]plan[/bold] give readings, hours (20 s per case) and disk, [bold]simulate[/bold] the power.
    """
    wanted = [options.lesion_type(item) for item in type_ or []]
    from ..study.pools import REAL, SYNTHETIC, read_pool

    pools = {truth: read_pool(place, truth) for truth, place in ((REAL, real), (SYNTHETIC, synthetic))}
    both = {case.lesion_type for case in pools[REAL]} & {case.lesion_type for case in pools[SYNTHETIC]}
    design = opt.design_of(
        preset, wanted or sorted(both), bool(wanted), per_type, count, description, practice, repeats, sessions, washout, readers, shape,
        spacing, name=out.resolve().name, title=title,
    )  # fmt: skip
    if dry_run:
        from ..study.design import draw_cases

        draw_cases(design, pools[REAL], pools[SYNTHETIC], 0 if seed is None else options.seed(seed))
        opt.show_plan(design, as_json)
        return
    import secrets

    from ..study.create import create_study
    from .console import print_json, steps

    seed = secrets.randbelow(2**32) if seed is None else options.seed(seed)
    passphrase = None if key_file else opt.passphrase(passphrase_file, confirm=True)
    with steps(as_json) as progress:
        update = progress.start("Exporting")
        folder = create_study(
            out, design, pools[REAL], pools[SYNTHETIC], seed=seed, passphrase=passphrase, key_file=key_file, progress=update
        )  # fmt: skip
    if as_json:
        print_json({"study": str(folder), "cases": design.case_count, "readers": list(design.readers)})
        return
    typer.echo(f"{folder}: {design.case_count} cases for {len(design.readers)} readers")
    where = f"kept in {key_file}" if key_file else "sealed with your passphrase; nobody can open it without"
    typer.echo(f"The key is {where}.")
    typer.echo(f"Next: pasta study check {folder}; pasta study hand-out {folder} --out COPY")


@app.command()
def plan(
    preset: opt.Preset = "pilot",
    type_: opt.Types = None,
    per_type: opt.PerType = None,
    count: opt.Count = None,
    description: opt.Description = None,
    practice: opt.Practice = None,
    repeats: opt.Repeats = None,
    sessions: opt.Sessions = None,
    washout: opt.Washout = None,
    readers: opt.Readers = None,
    shape: opt.Shape = None,
    spacing: opt.Spacing = None,
    as_json: opt.Json = False,
) -> None:
    """What a design asks of readers and disk, before there are any cases."""
    from ..taxonomy import LESION_KEYS

    wanted = [options.lesion_type(item) for item in type_ or []]
    design = opt.design_of(
        preset, wanted or list(LESION_KEYS), bool(wanted), per_type, count, description, practice, repeats, sessions, washout, readers,
        shape, spacing, name="plan", title=None,
    )  # fmt: skip
    opt.show_plan(design, as_json)


@app.command()
def sample(
    out: Annotated[Path, typer.Option(metavar="STUDY", help="New folder for the study.")],
    as_json: opt.Json = False,
) -> None:
    """Make the sample study of phantom cases, for the tutorial and for trying out."""
    from ..study.sample import make_sample, sample_passphrase
    from .console import print_json, steps

    with steps(as_json) as progress:
        folder = make_sample(out, progress.start("Making the sample study"))
    if as_json:
        print_json({"study": str(folder), "passphrase": sample_passphrase()})
        return
    typer.echo(f'{folder}: the sample study; its passphrase is "{sample_passphrase()}"')
    typer.echo(f"Next: pasta study status {folder}; pasta study rate {folder} --reader NAME")


@app.command("hand-out")
def hand_out_command(
    study: opt.Study,
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder for the reader's copy.")],
) -> None:
    """A copy of the study for a reader: without the key and without anybody's ratings."""
    from ..study.create import hand_out
    from .console import steps

    package = opt.open_package(study)
    with steps() as progress:
        folder = hand_out(package, out, progress.start("Copying"))
    typer.echo(f"{folder}: a copy for readers; the key is not in it")


@app.command()
def check(
    study: opt.Study,
    passphrase_file: opt.PassphraseFile = None,
    key_file: opt.KeyFile = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the folds and permutations.")] = 0,
    as_json: opt.Json = False,
) -> None:
    """Try to tell real from synthetic by everything but the lesion; needs the lead's key. Exit code 1 when something leaks."""
    package = opt.open_package(study)
    key = opt.unlocked(package, passphrase_file, key_file)
    from ..study.leaks import check_leaks
    from .console import note, print_json, steps

    with steps(as_json) as progress:
        report = check_leaks(package, key, options.seed(seed), progress.start("Looking at the cases"))
    if as_json:
        print_json(report.to_json())
    else:
        typer.echo(f"{report.cases} cases, {report.features} features that vary, lesions left out")
        typer.echo(f"best single feature  AUC {report.best_single:.2f}   gradient boosting  AUC {report.boosted:.2f}   (0.50 = no leak, limit {0.5 + report.limit:.2f})")  # fmt: skip
        for line in report.differences:
            typer.echo(f"differs: {line}")
        for one in report.suspects[:5]:
            typer.echo(f"leaks: {one.name} (AUC {one.auc:.2f}, p {one.p:.3f})")
        for line in report.notes:
            note(line)
        if report.leaks:
            typer.echo("Something tells real from synthetic. Differences of files: make the study again. Noise, edges, values: the pools come from "
                       "different scans or reconstructions; choose real and synthetic cases of the same kind.")  # fmt: skip
        else:
            typer.echo("No leak found.")
    if report.leaks:
        raise typer.Exit(1)


@app.command()
def status(
    study: opt.Study,
    passphrase_file: opt.PassphraseFile = None,
    key_file: opt.KeyFile = None,
    as_json: opt.Json = False,
) -> None:
    """How far each reader is, whether every chain of ratings is in order and, with the key, whether a closed study was changed."""
    package = opt.open_package(study)
    from ..study.chain import final_ratings, has_store, read_chain
    from .console import print_json

    readers = {}
    for reader in package.readers:
        path = package.store_path(reader)
        chain = read_chain(path) if has_store(path) else None
        readers[reader] = {
            "rated": len(final_ratings(chain.events)) if chain else 0,
            "of": len(package.data["readers"][reader]),
            "last": chain.events[-1].time if chain and chain.events else None,
            "hash": chain.head.hash if chain else None,
            "problems": chain.problems if chain else [],
        }
    changed = None
    if package.closed and (passphrase_file or key_file or os.environ.get(opt.PASSPHRASE)):
        from ..study.close import closure_problems

        changed = closure_problems(package, opt.unlocked(package, passphrase_file, key_file))
    problems = [f"{reader}: {line}" for reader, about in readers.items() for line in about["problems"]] + (
        changed or []
    )
    if as_json:
        print_json(
            {
                "study": package.name,
                "id": package.study_id,
                "closed": package.closed,
                "readers": readers,
                "problems": problems,
            }
        )
    else:
        state = "closed" if package.closed else "open"
        typer.echo(
            f"{package.title} ({package.name}, {state}): {len(package.data['cases'])} cases, parts {', '.join(package.parts)}"
        )
        for reader, about in readers.items():
            last = (
                f"last {about['last'][:16].replace('T', ' ')} UTC, receipt {about['hash'][:12]}"
                if about["last"]
                else "not begun"
            )
            typer.echo(f"  {reader:<20} {about['rated']:>5} of {about['of']:<5} {last}")
        for line in problems:
            typer.echo(f"problem: {line}")
        if changed == []:
            typer.echo("The signature fits: nothing was changed since the study was closed.")
    if problems:
        raise typer.Exit(1)


@app.command()
def merge(
    study: opt.Study,
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCES", help="Readers' copies of the study, or .sqlite files.")
    ],
    as_json: opt.Json = False,
) -> None:
    """Collect the ratings that readers made on their copies."""
    package = opt.open_package(study)
    from ..study.merge import merge_ratings
    from .console import print_json

    merged = merge_ratings(package, sources)
    if as_json:
        print_json({"merged": [vars(one) for one in merged]})
        return
    for one in merged:
        typer.echo(f"{one.reader}: {one.new} new of {one.events} events from {one.path}")


@app.command()
def close(
    study: opt.Study,
    passphrase_file: opt.PassphraseFile = None,
    key_file: opt.KeyFile = None,
    incomplete: Annotated[bool, typer.Option("--incomplete", help="Although not everything is rated.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Close the study: check every chain, sign it, join the ratings with the truth. Cannot be undone."""
    package = opt.open_package(study)
    key = opt.unlocked(package, passphrase_file, key_file)
    from ..study.close import TABLE, close_study
    from .console import print_json

    folder = close_study(package, key, incomplete=incomplete)
    table = folder / f"{TABLE}.csv"
    if as_json:
        print_json({"closed": str(folder), "ratings": str(table)})
        return
    typer.echo(f"{folder}: the study is closed. Ratings with truth: {table}")
    typer.echo(f"Next: pasta study analyse {study}")


@app.command()
def export(
    study: opt.Study,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Table: .csv or .parquet.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
) -> None:
    """Write the ratings collected so far as a table; the truth is in it only when the study is closed."""
    options.output_file(out, "--out", (".csv", ".parquet"), overwrite)
    package = opt.open_package(study)
    from ..study.close import closed_table, ratings_table, write_table

    rows = closed_table(package) if package.closed else ratings_table(package)
    if not rows:
        raise InputError(f"{study}: nothing is rated yet; collect the readers' ratings with: pasta study merge")
    write_table(rows, out)
    typer.echo(f"{out}: {len(rows)} rows, {'with' if package.closed else 'without'} truth")


app.command("rate")(study_rate.command)
app.command("analyse")(study_analysis.analyse)
app.command("simulate")(study_analysis.simulate)
