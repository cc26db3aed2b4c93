"""``pasta demo``: a first look that needs no data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import taxonomy
from ..errors import InputError
from . import options

SHOWCASE = ("liver_tumor", "kidney_cyst", "pancreas_tumor")


def command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the case and index.html.")] = Path("pasta-demo"),
    ct: Annotated[Path | None, typer.Option(help="CT. [dim]Without it: the built-in digital phantom.[/dim]")] = None,
    organs: Annotated[Path | None, typer.Option(help="Organ map of the CT.")] = None,
    organ_scheme: Annotated[
        str | None, typer.Option(metavar="SCHEME", help="pasta, totalseg-v2 or totalseg-v1.")
    ] = None,
    lesion: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help=f"Lesion type; repeatable. [dim]Default: {', '.join(SHOWCASE)}.[/dim]"),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed and input, same lesions.")] = 0,
    spacing: Annotated[float, typer.Option(metavar="MM", help="Voxel size of the phantom.")] = 1.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of the same name in DIR.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and no progress, for machines.")] = False,
) -> None:
    """Make a case with a few lesions and a page to look at, in the digital phantom or in your own CT."""
    kinds = list(dict.fromkeys(options.lesion_type(item) for item in lesion or SHOWCASE))
    options.scan_and_seed(ct, organs, organ_scheme, seed, spacing)

    from .console import note, print_json, print_lesion, steps
    from .output import OutputFolder

    target = OutputFolder(out, overwrite)
    with steps(quiet=as_json) as progress:
        from ..reporting.gallery import GalleryEntry
        from ..reporting.rows import rows_of
        from . import work
        from .gallery import write_pages

        if ct is not None:
            scan = work.load_scan(ct, organs, organ_scheme, progress)
            source = ct.resolve().name
            if not lesion:
                kinds = _possible(scan, kinds)
        else:
            phase = (
                taxonomy.PLAIN
                if all(taxonomy.lesion(kind).phases == (taxonomy.PLAIN,) for kind in kinds)
                else taxonomy.ENHANCED
            )
            scan = work.phantom_scan(phase, spacing, seed, progress)
            source = "digital phantom"
        notes = work.scan_notes(scan, kinds)
        before = scan.ct.array.copy()
        results = work.make_lesions(
            scan, [work.worth_seeing(scan, kind, seed + n).request for n, kind in enumerate(kinds)], progress
        )
        notes += work.result_notes(scan, results)
        entries = [
            GalleryEntry.draw(
                before,
                scan.ct.array,
                work.full_label(scan, result),
                scan.ct.affine,
                result.report,
                rows=rows_of(result, scan.spacing.max()),
            )
            for result in results
        ]
        with target as staging:
            name = f"{work.scan_name(ct) if ct else 'phantom'}_seed{seed}"
            folder = work.write_scan_case(
                staging,
                name,
                scan,
                before,
                results,
                source=source,
                seed=seed,
                notes=notes,
                settings={"lesions": kinds},
                steps=progress,
            )
            facts = [source.capitalize() if ct is None else source, scan.phase, f"seed {seed}"]
            write_pages(staging, entries, "Synthetic lesions, a first look", [*facts, *notes])
            folder = target.path / folder.relative_to(staging)

    page = target.path / "index.html"
    if as_json:
        lesions = [work.lesion_json(result) for result in results]
        print_json({"page": str(page), "case": str(folder), "phase": scan.phase, "notes": notes, "lesions": lesions})
        return
    for line in notes:
        note(line)
    for result in results:
        print_lesion(taxonomy.lesion(result.request.lesion).name, rows_of(result, scan.spacing.max()))
    typer.echo(f"Open {page} in a browser. The case (CT, masks, report) is in {folder}")
    if ct is None:
        typer.echo("Next, with your own scan: pasta synth --ct CT --organs MAP --lesion liver_tumor --out DIR")


def _possible(scan, kinds: list[str]) -> list[str]:
    """Those of ``kinds`` whose organ the scan shows; if there is none, the first type of any organ that it shows."""
    shown = [kind for kind in kinds if taxonomy.lesion(kind).organ in scan.geometry]
    for kind in taxonomy.LESION_KEYS:
        if shown:
            break
        if taxonomy.lesion(kind).organ in scan.geometry:
            shown = [kind]
    if not shown:
        raise InputError("the organ map has none of the ten organs; run pasta organs or choose another map")
    return shown
