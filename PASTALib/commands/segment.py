"""``pasta segment``: organs and lesions of a CT with a PASTA network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import taxonomy
from ..errors import InputError
from . import options

_MODEL, _SPEED, _OUTPUT = "Model and region", "Speed", "Output"
ENGINES = ("auto", "fp32", "torch-fp32", "torch-bf16", "torch-half", "openvino-fp32", "openvino-bf16", "onnx-fp32")


def command(
    ct: Annotated[Path, typer.Option(help="CT: NIfTI, NRRD, MHA or a DICOM series folder.")],
    out: Annotated[
        Path,
        typer.Option(metavar="SEG.nii.gz", help="Label map to write, on the CT's own grid (.nii.gz, .nrrd, .mha)."),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="A name of `pasta models list`, a checkpoint file or an nnU-Net model folder.",
            rich_help_panel=_MODEL,
        ),
    ] = "starter",
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORGAN",
            help="Only this organ and 24 mm around it; repeatable; needs --organs.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    organs: Annotated[
        Path | None, typer.Option(help="Organ map that --region refers to.", rich_help_panel=_MODEL)
    ] = None,
    organ_scheme: Annotated[
        str | None, typer.Option(metavar="SCHEME", help="pasta, totalseg-v2 or totalseg-v1.", rich_help_panel=_MODEL)
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.", rich_help_panel=_SPEED)
    ] = "auto",
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"auto: the fastest, measured once; fp32: the fastest in full precision; or one of {', '.join(ENGINES[2:])}.",
            rich_help_panel=_SPEED,
        ),
    ] = "auto",
    step: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="From window to window, as a share of its side. [dim]Default: 0.5 on a GPU, 0.6 on a CPU.[/dim]",
            rich_help_panel=_SPEED,
        ),
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Average over eight mirror images: 8 times slower.", rich_help_panel=_SPEED)
    ] = False,
    all_windows: Annotated[
        bool, typer.Option("--all-windows", help="Compute windows of pure air, too.", rich_help_panel=_SPEED)
    ] = False,
    python: Annotated[
        Path | None,
        typer.Option(
            help="Python (or its environment's folder) that has torch, if this one has not.", rich_help_panel=_SPEED
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and no progress, for machines.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Segment ten organs and fifteen lesion types in a CT, or whatever the model was trained for.

    Ctrl-C stops at once and leaves nothing behind.
    """
    options.existing(ct, "--ct")
    target = options.output_file(out, "--out", (".nii.gz", ".nii", ".nrrd", ".mha"), overwrite)
    if engine not in ENGINES:
        options.refuse(f"--engine {engine!r} is not known; use one of {', '.join(ENGINES)}")
    options.number(step, "--step", 0.05, 1.0, "of a window")
    wanted = [_organ(name) for name in region or ()]
    if bool(wanted) != (organs is not None):
        options.refuse("--region and --organs belong together: the organ's name, and the map that shows where it is")
    if organs is not None:
        options.existing(organs, "--organs")
    options.scheme(organ_scheme)

    from .console import note, print_json, steps

    with steps(quiet=as_json) as progress:
        from ..worker import Worker
        from . import network_work, work

        progress.start("Reading the CT")
        scan = work.read_ct(ct)
        mask = network_work.region_mask(scan, organs, organ_scheme, wanted, progress) if wanted else None
        settings = {"engine": engine, "step": step, "mirroring": mirror, "skip_air": not all_windows, "device": device}
        with Worker(python) as worker:
            labels, told = network_work.segment_scan(worker, scan, model, settings, mask, progress)
        progress.start("Writing")
        network_work.write_labels(labels, told["names"], target)
    rows = _volumes(labels, told["names"])
    if as_json:
        print_json({"segmentation": str(target), **told, "volumes_ml": {name: ml for name, ml, _ in rows}})
        return
    for line in told["notes"]:
        note(line)
    if not told["trained"]:
        typer.echo("RANDOM WEIGHTS: what follows means nothing.")
    _print(rows)
    skipped = f", {told['skipped']} of pure air left out" if told["skipped"] else ""
    typer.echo(
        f"Segmentation: {target} ({told['model']}, {told['engine']} on {told['device']}, {told['windows']} windows{skipped}, "
        f"{sum(told['seconds'].values()):.1f} s)"
    )


def _organ(name: str) -> str:
    key = name.strip().lower()
    if key not in taxonomy.ORGAN_KEYS:
        raise InputError(f"--region {name!r} is not an organ; use one of {', '.join(taxonomy.ORGAN_KEYS)}")
    return key


def _volumes(labels, names: dict[int, str]) -> list[tuple[str, float, bool]]:
    """(name, ml, whether a lesion) of every label that has voxels."""
    import numpy as np

    from ..organs import voxel_volume_ml

    counts = np.bincount(labels.array.ravel(), minlength=256)
    ml = voxel_volume_ml(labels)
    return [
        (name, round(float(counts[value]) * ml, 2), name in taxonomy.LESION_KEYS)
        for value, name in names.items()
        if counts[value]
    ]


def _print(rows: list[tuple[str, float, bool]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not rows:
        typer.echo("Nothing found: every voxel is background.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Structure")
    table.add_column("Volume", justify="right")
    for name, ml, lesion in rows:
        table.add_row(name.replace("_", " "), f"{ml:,.1f} ml", style="yellow" if lesion else None)
    Console().print(table)
