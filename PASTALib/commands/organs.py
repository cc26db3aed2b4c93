"""``pasta organs``: make an organ map with TotalSegmentator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..taxonomy import ORGAN_KEYS
from . import options


def command(
    ct: Annotated[Path, typer.Option(help="CT: NIfTI, NRRD, MHA or a DICOM series folder.")],
    out: Annotated[
        Path, typer.Option(metavar="MAP.nii.gz", help="Organ map to write, with all of TotalSegmentator's classes.")
    ],
    fast: Annotated[bool, typer.Option("--fast", help="TotalSegmentator's 3 mm model: much quicker on a CPU.")] = False,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and no progress, for machines.")] = False,
) -> None:
    """Segment the organs of a CT with TotalSegmentator, for use as --organs."""
    options.existing(ct, "--ct")
    target = options.output_file(out, "--out", (".nii.gz", ".nii"), overwrite)

    from .console import print_json, steps

    with steps(quiet=as_json) as progress:
        from ..organs import run_totalsegmentator

        update = progress.start("Segmenting with TotalSegmentator (minutes on a CPU)")
        organs = run_totalsegmentator(ct, target, fast=fast, device=device, progress=update)
    present = [key for key in ORGAN_KEYS if organs.has(key)]
    if as_json:
        print_json({"organs": str(target), "present": present})
    else:
        typer.echo(f"Organ map: {target} ({', '.join(present) or 'none of the ten organs found'})")
