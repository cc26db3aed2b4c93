"""``pasta features``: feature vectors of lesions with PASTA's encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import taxonomy
from . import options

if TYPE_CHECKING:
    from ..volume import Volume

_SUFFIXES = (".npz", ".csv")
_SCAN, _MODEL, _OUTPUT = "Scan", "Model", "Output"


def command(
    ct: Annotated[Path, typer.Option(help="CT: NIfTI, NRRD, MHA or a DICOM series folder.", rich_help_panel=_SCAN)],
    out: Annotated[
        list[Path],
        typer.Option(metavar="FILE.npz|.csv", help="File to write; repeat for both kinds.", rich_help_panel=_OUTPUT),
    ],
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Mask on the CT's grid; each connected part of each value is one lesion.", rich_help_panel=_SCAN
        ),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="R,A,S", help="Centre of a lesion in mm, instead of a mask; repeatable.", rich_help_panel=_SCAN
        ),
    ] = None,
    lesion_value: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            help="Value of the mask to use; repeatable. [dim]Default: all; organs of a PASTA label map are left out.[/dim]",
            rich_help_panel=_SCAN,
        ),
    ] = None,
    min_size: Annotated[
        float,
        typer.Option(
            metavar="MM",
            help="Leave out parts smaller than a ball of this diameter.",
            rich_help_panel=_SCAN,
        ),
    ] = 3.0,
    model: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Model whose encoder to use.", rich_help_panel=_MODEL)
    ] = "starter",
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="Where to compute.", rich_help_panel=_MODEL)
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and no progress, for machines.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Describe lesions by the feature vector of PASTA's encoder, for radiomics and survival analysis.

    One vector (1024 values with the published network) for the 96 mm cube round each lesion.
    """
    points = [options.point(text) for text in at or []]
    if (mask is None) == (not points):
        options.refuse("give either --mask MASK or --at R,A,S, which say where the lesions are" + _both(mask, points))
    if points and lesion_value:
        options.refuse("--lesion-value chooses among the values of --mask; leave it out with --at")
    options.number(min_size, "--min-size", 0, 100, "mm")
    for path in out:
        options.output_file(path, "--out", _SUFFIXES, overwrite)
    options.existing(ct, "--ct")
    if mask is not None:
        options.existing(mask, "--mask")

    from .console import note, print_json, steps

    with steps(quiet=as_json) as progress:
        from ..volume import read_volume

        progress.start("Reading the CT")
        scan = read_volume(ct, "ct")
        notes = list(scan.meta.get("notes", []))
        if mask is not None:
            progress.start("Finding the lesions")
            rows = _rows_of_mask(scan, mask, lesion_value or [], min_size, notes)
        else:
            rows = _rows_of_points(scan, points)
        progress.start("Loading the model")
        from ..inference.devices import pick_device
        from ..inference.features import extract_features, write_features
        from ..networks.load import load_model

        pick_device(device)
        network = load_model(model)
        notes += network.card.notes
        if not network.card.trained and not any("random" in line for line in network.card.notes):
            notes.append(f"{network.card.name} holds random weights: these features describe no lesion")
        update = progress.start("Reading lesions")
        vectors = extract_features(
            scan,
            [row["centre_ras"] for row in rows],
            network,
            device=device,
            progress=lambda step, of, text: update(step, of, text[:1].upper() + text[1:]),
        )
        about = {"scan": ct.resolve().name, "model": network.card.name, "trained": network.card.trained}
        rows = [row | about for row in rows]
        for path in out:
            write_features(path, vectors, rows)

    if as_json:
        print_json(
            {"features": [str(path) for path in out], "channels": vectors.shape[1], "notes": notes, "lesions": rows}
        )
        return
    for line in notes:
        note(line)
    count = f"{len(rows)} lesion{'s' if len(rows) > 1 else ''}, {vectors.shape[1]} values each"
    typer.echo(f"Features: {', '.join(map(str, out))} ({count})")


def _both(mask: Path | None, points: list) -> str:
    return "; both were given" if mask is not None and points else ""


def _rows_of_points(scan: Volume, points: list) -> list[dict]:
    from ..inference.crops import check_inside

    for point in points:
        check_inside(scan, point, "--at")
    return [{"number": number, "centre_ras": point} for number, point in enumerate(points, 1)]


def _rows_of_mask(scan: Volume, path: Path, wanted: list[int], min_size: float, notes: list[str]) -> list[dict]:
    """One row per connected part of the mask; what had to be decided is appended to ``notes``."""
    from ..inference.regions import find_regions

    labels = _read_mask(scan, path)
    values, types = _values(labels, path, wanted, notes)
    regions, small = find_regions(labels, values, min_size)
    if small:
        notes.append(f"{small} part{'s' if small > 1 else ''} of the mask below {min_size:g} mm left out")
    return [
        {
            "number": number,
            "lesion": types.get(region.value, ""),
            "value": region.value,
            "centre_ras": region.centre_ras,
            "volume_ml": round(region.volume_ml, 6),
        }
        for number, region in enumerate(regions, 1)
    ]


def _read_mask(scan: Volume, path: Path) -> Volume:
    from ..volume import read_volume, same_grid

    if path.name.lower().endswith(".seg.nrrd"):
        from ..anatomy.organ_classes import read_seg_nrrd

        labels, _ = read_seg_nrrd(path)
    else:
        labels = read_volume(path, "labels")
    difference = same_grid(scan, labels)
    if difference:
        options.refuse(f"--mask {path} is not on the grid of the CT ({difference}); give the mask drawn on this CT")
    return labels


def _values(labels: Volume, path: Path, wanted: list[int], notes: list[str]) -> tuple[list[int], dict[int, str]]:
    """The mask's values to use, and the lesion types of those that have PASTA's numbering."""
    import numpy as np

    from .. import cases
    from ..anatomy.organ_map import present_values

    found = present_values(labels.array) if labels.array.dtype == np.uint8 else np.unique(labels.array)
    present = [int(value) for value in found if value]
    if not present:
        options.refuse(f"--mask {path} is empty (every voxel is 0); give a mask with at least one lesion voxel")
    missing = [str(value) for value in wanted if value not in present]
    if missing:
        options.refuse(
            f"--lesion-value {', '.join(missing)} is not in {path}; it holds {', '.join(map(str, present[:12]))}"
        )
    keys = {lesion.value: lesion.key for lesion in taxonomy.LESIONS}
    pasta = max(present) <= max(keys) and any(value in keys for value in present)
    types = keys if pasta else {}
    if wanted:
        return wanted, types
    lesions = [value for value in present if value in keys] if pasta else present
    if path.name == cases.LABEL and set(present) == {cases.ORGAN_VALUE, cases.LESION_VALUE}:
        lesions = [cases.LESION_VALUE]
    if len(lesions) < len(present):
        organs = ", ".join(str(value) for value in present if value not in lesions)
        notes.append(f"values {organs} of {path.name} are organs and were left out; --lesion-value chooses them")
    return lesions, types
