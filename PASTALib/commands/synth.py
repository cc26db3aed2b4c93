"""``pasta synth``: put lesions with chosen attributes into a CT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import taxonomy
from . import options

_SCAN, _LESION, _OUTPUT = "Scan", "Lesion", "Output"


def command(
    ct: Annotated[Path, typer.Option(help="CT: NIfTI, NRRD, MHA or a DICOM series folder.", rich_help_panel=_SCAN)],
    organs: Annotated[
        Path,
        typer.Option(
            help="Organ map on the same grid: a file, or TotalSegmentator's folder of masks.", rich_help_panel=_SCAN
        ),
    ],
    lesion: Annotated[
        list[str],
        typer.Option(
            metavar="TYPE",
            help="Lesion type, such as liver_tumor; repeat for several in one scan.",
            rich_help_panel=_LESION,
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the case, its report and previews.", rich_help_panel=_OUTPUT)
    ],
    organ_scheme: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="Numbering of the organ map: pasta, totalseg-v2 or totalseg-v1. [dim]Default: found out.[/dim]",
            rich_help_panel=_SCAN,
        ),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="How many of each type.", rich_help_panel=_LESION)] = 1,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="R,A,S", help="Centre in mm; the nearest possible place is used.", rich_help_panel=_LESION
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="ZxXxY",
            help="Extent in mm: head-to-foot x left-to-right x front-to-back. One number: all three.",
            rich_help_panel=_LESION,
        ),
    ] = None,
    attr: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=OPTION",
            help="shape, density, heterogeneity, surface or invasion, such as density=Hypodense; repeatable. What is left open is drawn.",
            rich_help_panel=_LESION,
        ),
    ] = None,
    delta_hu: Annotated[
        float | None,
        typer.Option("--delta-hu", metavar="HU", help="Difference to the surrounding tissue.", rich_help_panel=_LESION),
    ] = None,
    mass_effect: Annotated[
        float,
        typer.Option(
            "--mass-effect",
            metavar="MM",
            help="How far the lesion pushes its neighbourhood aside.",
            rich_help_panel=_LESION,
        ),
    ] = 0.0,
    prone: Annotated[
        bool,
        typer.Option(
            "--prone", help="The patient lies prone: stones settle towards the front.", rich_help_panel=_LESION
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Same seed and input, same result.", rich_help_panel=_LESION)
    ] = 0,
    refine: Annotated[
        str,
        typer.Option(
            metavar="auto|none|FILE",
            help="Diffusion refinement: with the starter weights if there are any, not at all, or with a checkpoint of train-ddpm.",
            rich_help_panel=_LESION,
        ),
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of the same name in DIR.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and no progress, for machines.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Put lesions with chosen attributes into a CT.

    Writes a PASTA-Gen-30K case, a readable report and previews. The report says what was measured in the image.
    """
    kinds = [options.lesion_type(item) for item in lesion]
    options.scheme(organ_scheme)
    options.count(count)
    options.seed(seed)
    place, extent = options.point(at), options.size(size)
    chosen = options.attributes(attr or [])
    options.number(delta_hu, "--delta-hu", -1500, 3000, "HU")
    options.number(mass_effect, "--mass-effect", 0, 8, "mm")
    if place is not None and count * len(kinds) > 1:
        options.refuse("--at is the place of one lesion; give one --lesion without --count, or leave --at out")
    if delta_hu is not None and "density" in chosen:
        options.refuse("--delta-hu and --attr density both set the density; give one of them")
    denoiser, missing = options.refinement(refine)
    notes = [missing] if missing else []

    from .console import note, print_json, print_lesion, steps
    from .output import OutputFolder

    options.existing(ct, "--ct")
    options.existing(organs, "--organs")
    target = OutputFolder(out, overwrite)

    from ..synthesis.draw import check_request
    from ..synthesis.spec import LesionRequest

    requests = [
        LesionRequest(kind, seed + number, place, extent, dict(chosen), delta_hu, mass_effect, prone)
        for number, kind in enumerate(kind for kind in kinds for _ in range(count))
    ]
    for request in requests:
        check_request(request)
    from . import work

    with steps(quiet=as_json) as progress, work.refining(denoiser, progress) as improve:
        scan = work.load_scan(ct, organs, organ_scheme, progress)
        work.check_point(scan, place)
        for kind in kinds:
            scan.organ_geometry(taxonomy.lesion(kind).organ)
        notes += work.scan_notes(scan, kinds)
        before = scan.ct.array.copy()
        results = work.make_lesions(scan, requests, progress, improve)
        notes += work.result_notes(scan, results)
        settings = {"lesions": kinds, "count": count, "at_ras_mm": place, "size_zxy_mm": extent, "attributes": chosen}
        settings |= {"density_delta_hu": delta_hu, "mass_effect_mm": mass_effect, "prone": prone}
        settings["refinement"] = denoiser.name if denoiser else "none"
        name = f"{work.scan_name(ct)}_seed{seed}"
        with target as staging:
            folder = work.write_scan_case(
                staging, name, scan, before, results,
                source=ct.resolve().name, seed=seed, notes=notes, settings=settings, steps=progress,
            )  # fmt: skip
            folder = target.path / folder.relative_to(staging)

    if as_json:
        previews = sorted(str(file) for file in folder.glob("preview*.png"))
        lesions = [work.lesion_json(result) for result in results]
        print_json({"case": str(folder), "previews": previews, "phase": scan.phase, "notes": notes, "lesions": lesions})
        return
    for line in notes:
        note(line)
    from ..reporting.rows import rows_of

    for number, result in enumerate(results, 1):
        heading = taxonomy.lesion(result.request.lesion).name + (
            f" ({number} of {len(results)})" if len(results) > 1 else ""
        )
        print_lesion(heading, rows_of(result, scan.spacing.max()))
    typer.echo(f"Case: {folder}")
