"""``pasta report``: a structured report of every lesion in a mask, as JSON, a web page, or DICOM SR with SEG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from . import options

if TYPE_CHECKING:
    from ..findings import Finding, LesionMask
    from ..organs import OrganMap
    from ..reporting.document import ModelFacts, ReportDocument
    from ..volume import Volume
    from .console import Steps

SUFFIXES = (".json", ".html", ".dcm")
STARTER = "starter"
_SCAN, _MODEL, _OUTPUT = "Scan", "Model", "Output"


def command(
    ct: Annotated[Path, typer.Option(help="CT: NIfTI, NRRD, MHA or a DICOM series folder.", rich_help_panel=_SCAN)],
    mask: Annotated[
        Path,
        typer.Option(
            help="Lesion mask on the CT's grid: PASTA labels (11-25), a Slicer .seg.nrrd, or any mask with --lesion.",
            rich_help_panel=_SCAN,
        ),
    ],
    out: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE.json|.html|.dcm",
            help="File to write; repeat for several. .dcm writes a structured report and FILE.seg.dcm.",
            rich_help_panel=_OUTPUT,
        ),
    ],
    lesion: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="What the mask outlines, such as liver_tumor.", rich_help_panel=_SCAN),
    ] = None,
    lesion_value: Annotated[
        int | None, typer.Option(metavar="N", help="Only this value of the mask is a lesion.", rich_help_panel=_SCAN)
    ] = None,
    organs: Annotated[
        Path | None,
        typer.Option(
            help="Organ map: tells place and contrast phase, and lets attributes be measured. [dim]A PASTA label map serves by itself.[/dim]",
            rich_help_panel=_SCAN,
        ),
    ] = None,
    organ_scheme: Annotated[
        str | None, typer.Option(metavar="SCHEME", help="pasta, totalseg-v2 or totalseg-v1.", rich_help_panel=_SCAN)
    ] = None,
    min_size: Annotated[
        float,
        typer.Option(metavar="MM", help="Leave out parts smaller than a ball of this diameter.", rich_help_panel=_SCAN),
    ] = 3.0,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE|none",
            help="Model that predicts attributes. [dim]Default: the starter model if there is one.[/dim]",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.", rich_help_panel=_MODEL)
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the report as JSON and no progress, for machines.", rich_help_panel=_OUTPUT),
    ] = False,
) -> None:
    """Report every lesion of a mask: size, place and the eight attributes, each with where it comes from.

    A model predicts five attributes; with an organ map they are measured in the image too.
    """
    kind = None if lesion is None else options.lesion_type(lesion)
    options.scheme(organ_scheme)
    options.number(min_size, "--min-size", 0, 100, "mm")
    files = _outputs(out, overwrite)
    options.existing(ct, "--ct")
    options.existing(mask, "--mask")
    if organs is not None:
        options.existing(organs, "--organs")
    if any(path.suffix == ".dcm" for path in out):
        _check_dicom(ct)

    from .console import note, print_json, steps

    with steps(quiet=as_json) as progress:
        scan, document = _document(
            ct, mask, kind, lesion_value, organs, organ_scheme, min_size, model, device, progress
        )
        written = _write(document, scan, files, progress)

    if as_json:
        print_json(document.to_json() | {"written": [str(path) for path in written]})
        return
    for line in document.notes:
        note(line)
    _print(document)
    typer.echo(f"Report: {', '.join(map(str, written))}")


def _outputs(out: list[Path], overwrite: bool) -> list[Path]:
    """The files to write, the segmentation beside each .dcm included."""
    files = []
    for path in out:
        files.append(options.output_file(path, "--out", SUFFIXES, overwrite))
        if path.name.endswith(".seg.dcm"):
            raise InputError(
                f"--out {path}: .seg.dcm is the segmentation, written beside the report; name the report, such as report.dcm"
            )
        if path.suffix == ".dcm":
            files.append(options.output_file(_seg_path(path), "--out", (".dcm",), overwrite))
    resolved = [path.resolve() for path in files]
    if len(set(resolved)) < len(resolved):
        raise InputError("--out names the same file twice; name each file once")
    return files


def _seg_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".dcm") + ".seg.dcm")


def _check_dicom(ct: Path) -> None:
    """DICOM output refers to DICOM slices; found out before the work."""
    if not ct.is_dir():
        raise InputError(
            f"--out .dcm needs a CT from DICOM, and --ct {ct} is none: give the folder of the DICOM series (the mask must be on its grid), "
            "or write .json or .html"
        )
    from ..reporting.dicom_seg import require_packages

    require_packages()


def _document(
    ct_path: Path,
    mask_path: Path,
    lesion: str | None,
    lesion_value: int | None,
    organs_path: Path | None,
    scheme: str | None,
    min_size: float,
    model: str | None,
    device: str,
    steps: Steps,
) -> tuple[Volume, ReportDocument]:
    from datetime import datetime

    from ..findings import find_lesions, read_lesion_mask, scan_phase
    from ..reporting.document import ReportDocument, ScanFacts
    from ..volume import read_volume

    steps.start("Reading the CT")
    ct = read_volume(ct_path, "ct")
    steps.start("Reading the mask")
    mask = read_lesion_mask(mask_path, ct, lesion, lesion_value)
    notes = [*ct.meta.get("notes", []), *mask.labels.meta.get("notes", []), *mask.notes]
    organs = _organs(organs_path, scheme, ct, mask, mask_path, steps, notes)
    update = steps.start("Finding lesions")
    phase = scan_phase(ct, organs)
    findings = find_lesions(ct, mask, organs=organs, phase=phase, min_size_mm=min_size, notes=notes, progress=update)
    facts = None
    if findings:
        findings, facts = _predict(findings, ct, model, device, organs is not None, notes, steps)
    else:
        notes.append(f"no lesion of at least {min_size:g} mm in {mask_path.name}; the report says so")
    created = datetime.now().astimezone().isoformat(timespec="seconds")
    return ct, ReportDocument(ScanFacts.of(ct, phase), findings, created, facts, mask_path.name, notes)


def _organs(
    path: Path | None, scheme: str | None, ct: Volume, mask: LesionMask, mask_path: Path, steps: Steps, notes: list[str]
) -> OrganMap | None:
    from ..organs import from_labels, read_organs

    if path is not None:
        steps.start("Reading the organ map")
        organs = read_organs(path, scheme, ct)
    elif mask.has_organs:
        organs = from_labels(mask.labels, "pasta", str(mask_path))
    else:
        return None
    notes += organs.notes
    return organs


def _predict(
    findings: list[Finding], ct: Volume, model: str | None, device: str, measured: bool, notes: list[str], steps: Steps
) -> tuple[list[Finding], ModelFacts | None]:
    """The findings with the model's answers, and which model that was; without a model as they are, with a note that says so."""
    network = None if model == "none" else _load(model, measured, notes, steps)
    if network is None:
        if model == "none":
            notes.append(f"no model was used: {_instead(measured)}")
        return findings, None
    from ..findings import complete
    from ..inference.attributes import predict_attributes
    from ..reporting.document import ModelFacts

    notes += network.card.notes
    if not network.card.trained:
        notes.append(f"{network.card.name}: predictions of random weights mean nothing; DICOM files leave them out")
    centres = [item.centre_ras for item in findings]
    answers = predict_attributes(ct, centres, network, device=device, progress=steps.start("Predicting attributes"))
    findings = [complete(item, answer) for item, answer in zip(findings, answers, strict=True)]
    return findings, ModelFacts(network.card.name, network.digest, network.card.trained)


def _load(model: str | None, measured: bool, notes: list[str], steps: Steps):
    """The model asked for, or the starter model; where there is none, a note says what happens instead."""
    from ..models import find_model

    if model is None and find_model(STARTER) is None:
        notes.append(f"no model was used, as there is no starter model: {_instead(measured)}")
        return None
    steps.start("Loading the model")
    try:
        from ..networks.load import load_model
    except ImportError as error:
        if error.name != "torch":
            raise
        if model is not None:
            raise InputError(
                f'--model {model} needs PyTorch; install it with: pip install "slicerpasta[torch]", or use --model none'
            ) from None
        notes.append(f"no model was used, as PyTorch is not installed: {_instead(measured)}")
        return None
    network = load_model(model or STARTER)
    if not network.predicts_attributes:
        raise InputError(
            f"--model {network.card.name} predicts no attributes; choose one with an attribute head, or use --model none"
        )
    return network


def _instead(measured: bool) -> str:
    return "attributes are measured" if measured else "attributes are left out; --organs MAP lets them be measured"


def _write(document: ReportDocument, ct: Volume, files: list[Path], steps: Steps) -> list[Path]:
    """Write all files or none; returns those that there are now."""
    from ..reporting.dicom_sr import make_dicom
    from ..reporting.document import json_bytes
    from ..reporting.report_page import page
    from ..reporting.staged import staged

    with staged(files) as temporary:
        name_of = dict(zip(files, temporary))
        for path, name in name_of.items():
            update = steps.start(f"Writing {path.name}")
            if path.suffix == ".json":
                name.write_bytes(json_bytes(document))
            elif path.suffix == ".html":
                name.write_text(page(document, ct, progress=update), encoding="utf-8")
            elif not path.name.endswith(".seg.dcm"):  # which is made together with its report
                report, segmentation = make_dicom(document, ct)
                report.save_as(name)
                if segmentation is not None:
                    segmentation.save_as(name_of[_seg_path(path)])
        written = [path for path, name in zip(files, temporary) if name.exists()]
    for path in set(files) - set(written):
        path.unlink(missing_ok=True)  # the segmentation of an earlier report that had lesions
    return written


def _print(document: ReportDocument) -> None:
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ..attributes import LEARNED

    if document.untrained:
        typer.echo("RANDOM WEIGHTS: the predicted attributes below mean nothing.")
    if not document.findings:
        typer.echo("No lesion.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("No.", "Lesion", "Place", "Size Z×X×Y", "Axial", "Attributes"):
        table.add_column(column)
    for item in document.findings:
        axial = f"{item.long_axis.length_mm:.1f} × {item.short_axis.length_mm:.1f} mm"
        entries = [item.report.values[key] for key in LEARNED if key in item.report.values]
        words = [
            f"{entry.value}" + (f" ({entry.confidence:.0%})" if entry.confidence is not None else "")
            for entry in entries
        ]
        basis = (
            f"[dim]{', '.join(dict.fromkeys(entry.basis for entry in entries))}:[/dim] "
            if entries
            else "[dim]not known[/dim]"
        )
        table.add_row(
            str(item.number), item.name, item.place, item.report.value("size"), axial, basis + " · ".join(words)
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)
