"""``pasta gallery``: one page with all fifteen lesion types in a scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import taxonomy
from ..errors import InputError
from . import options

if TYPE_CHECKING:
    from ..reporting.gallery import GalleryEntry
    from ..synthesis.scan import PreparedScan
    from .console import Steps


def command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for index.html and gallery.png.")],
    ct: Annotated[Path | None, typer.Option(help="CT. [dim]Without it: the built-in digital phantom.[/dim]")] = None,
    organs: Annotated[Path | None, typer.Option(help="Organ map of the CT.")] = None,
    organ_scheme: Annotated[
        str | None, typer.Option(metavar="SCHEME", help="pasta, totalseg-v2 or totalseg-v1.")
    ] = None,
    lesion: Annotated[list[str] | None, typer.Option(metavar="TYPE", help="Only this type; repeatable.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed and input, same lesions.")] = 0,
    spacing: Annotated[float, typer.Option(metavar="MM", help="Voxel size of the phantom.")] = 1.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of the same name in DIR.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and no progress, for machines.")] = False,
) -> None:
    """One page with every lesion type that the scan allows: before, after, outline, and the eight attributes.

    Writes index.html, which needs nothing else, and gallery.png, a small overview of all types.
    """
    kinds = tuple(dict.fromkeys(options.lesion_type(item) for item in lesion or [])) or taxonomy.LESION_KEYS
    options.scan_and_seed(ct, organs, organ_scheme, seed, spacing)

    from .console import print_json, steps
    from .output import OutputFolder

    target = OutputFolder(out, overwrite)
    with steps(quiet=as_json) as progress:
        from . import work

        entries: dict[str, GalleryEntry] = {}
        if ct is not None:
            scan = work.load_scan(ct, organs, organ_scheme, progress)
            draw_types(scan, kinds, seed, progress, entries)
            facts = [ct.resolve().name, f"{scan.phase} ({scan.phase_reason})", _voxels(scan)]
        else:
            for phase in (taxonomy.ENHANCED, taxonomy.PLAIN):
                here = [kind for kind in kinds if _preferred_phase(kind) == phase]
                if here:
                    scan = work.phantom_scan(phase, spacing, seed, progress)
                    draw_types(scan, here, seed, progress, entries)
            facts = ["Digital phantom, no patient", "each type in the phase the paper uses for it", _voxels(scan)]
        ordered = [entries[kind] for kind in kinds]
        made = [entry for entry in ordered if entry.report is not None]
        if not made:
            raise InputError(f"no lesion type could be placed; {ordered[0].lesion_key}: {ordered[0].skipped}")
        facts.append(f"{len(made)} of {len(kinds)} lesion types, seed {seed}")
        progress.start("Writing the page")
        with target as staging:
            write_pages(staging, ordered, "Synthetic lesions", facts)

    page, sheet = target.path / "index.html", target.path / "gallery.png"
    skipped = {entry.lesion_key: entry.skipped for entry in ordered if entry.report is None}
    if as_json:
        reports = [entry.report.to_json() for entry in made]
        print_json({"page": str(page), "picture": str(sheet), "lesions": reports, "skipped": skipped})
        return
    for kind, reason in skipped.items():
        typer.echo(f"left out {kind}: {reason}")
    typer.echo(f"{len(made)} of {len(kinds)} lesion types. Open {page}")


def draw_types(
    scan: PreparedScan, kinds: list[str] | tuple[str, ...], seed: int, steps: Steps, entries: dict[str, GalleryEntry]
) -> None:
    """Draw one lesion of each type, each into the untouched scan, and add it to ``entries``."""
    from ..reporting.gallery import GalleryEntry
    from ..reporting.rows import rows_of
    from . import work

    after = scan.ct.array.copy()
    for number, kind in enumerate(kinds, 1):
        update = steps.start(f"{taxonomy.lesion(kind).name} ({number} of {len(kinds)})")
        update(number - 1, len(kinds))
        try:
            result = work.worth_seeing(scan, kind, seed)
        except InputError as error:
            entries[kind] = GalleryEntry.skip(kind, str(error))
            continue
        remarks = [
            line.split(": ", 1)[1] for line in work.phase_warnings(scan, [kind]) + work.result_notes(scan, [result])
        ]
        after[result.region] = _rounded(result.after)
        entries[kind] = GalleryEntry.draw(
            scan.ct.array,
            after,
            work.full_label(scan, result),
            scan.ct.affine,
            result.report,
            rows=rows_of(result, scan.spacing.max()),
            remarks=remarks,
        )
        after[result.region] = scan.ct.array[result.region]


def write_pages(
    folder: Path,
    entries: list[GalleryEntry],
    title: str,
    facts: list[str],
    links: list[tuple[str, str]] | None = None,
) -> None:
    """index.html and gallery.png."""
    from ..reporting.contact_sheet import save_contact_sheet
    from ..reporting.gallery import write_gallery

    write_gallery(folder / "index.html", entries, title, facts, links)
    cells = []
    for entry in entries:
        if entry.report is not None:
            line = " · ".join(filter(None, (entry.report.value(key) for key in ("size", "shape", "density"))))
            cells.append((taxonomy.lesion(entry.lesion_key).name, line, entry.views["axial"]))
    save_contact_sheet(folder / "gallery.png", cells, columns=min(3, len(cells)))


def _preferred_phase(kind: str) -> str:
    return taxonomy.lesion(kind).phases[0]


def _voxels(scan: PreparedScan) -> str:
    return "voxels " + " × ".join(f"{value:.3g}" for value in scan.spacing[::-1]) + " mm"


def _rounded(hu):
    import numpy as np

    return np.clip(np.rint(hu), -32768, 32767).astype(np.int16)
