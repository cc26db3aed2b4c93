"""``pasta models``: what is there to load, what a file is, and adding, fetching and removing models."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from . import options

if TYPE_CHECKING:
    from ..networks.load import PastaModel

app = typer.Typer(
    no_args_is_help=False, rich_markup_mode="rich", help="Models: list, examine, add, fetch and remove them."
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON and no progress, for machines.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a model of the same name.")]
_Name = Annotated[
    str | None, typer.Option("--name", metavar="N", help="Name in the store. [dim]Default: the file's.[/dim]")
]


@app.callback(invoke_without_command=True)
def _models(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_command(as_json: _Json = False) -> None:
    """List the models of the store, and what the authors publish."""
    from .. import models
    from .console import print_json

    found, published = models.list_models(), models.published_models()
    if as_json:
        entries = [
            {"name": item.name, "path": item.path, "bytes": item.bytes, "bundled": item.bundled, "card": item.card}
            for item in found
        ]
        print_json(
            {"store": models.store_folder(), "models": entries, "published": [asdict(item) for item in published]}
        )
        return
    for item in found:
        what = _card_line(item.card) if item.card else "comes with this program"
        typer.echo(f"{item.name:<20} {item.bytes / 1e6:8.1f} MB  {what}")
    if not found:
        typer.echo("No model yet. Add one with: pasta models add FILE --name N")
    if not any(item.bundled for item in found):
        typer.echo(
            "No starter weights come with this build; the name random gives untrained ones, for trying things out."
        )
    typer.echo("\nPublished by the authors of PASTA, fetched only when you say so (pasta models fetch NAME):")
    for entry in published:
        typer.echo(
            f"{entry.name:<20} {entry.title}; {entry.size}\n{'':20} {entry.page}\n{'':20} licence: {entry.licence}"
        )


@app.command("info")
def info_command(
    source: Annotated[
        str, typer.Argument(metavar="FILE|NAME", help="Checkpoint, nnU-Net model folder, or name in the store.")
    ],
    as_json: _Json = False,
) -> None:
    """Say what a model is: network, classes, attributes, preparation of scans, and what its file lacks."""
    from .console import print_json

    model = _load(source, as_json)
    if as_json:
        print_json(model.to_json())
        return
    for name, text in _facts(model):
        typer.echo(f"{name:<12} {text}")


@app.command("add")
def add_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint or nnU-Net model folder.")],
    name: _Name = None,
    lesion: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="Lesion type of a background / organ / lesion model, such as liver_tumor."),
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option(metavar="LPS|LAS|RAS|RPS", help="Where the axes x, y, z of its training images ran to."),
    ] = None,
    overwrite: _Overwrite = False,
    as_json: _Json = False,
) -> None:
    """Copy a model into the store, so that --model takes its name."""
    from .. import models

    options.existing(file, "FILE")
    name = models.check_name(name or file.name.split(".")[0], overwrite)
    kind = options.lesion_type(lesion) if lesion else None
    model = _load(str(file.resolve()), as_json)
    _store(model, _model_files(file), name, kind, orientation, overwrite, as_json, move=False)


@app.command("fetch")
def fetch_command(
    published: Annotated[str, typer.Argument(metavar="NAME", help="Name of a published model, see pasta models list.")],
    name: _Name = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Another address of the same file.")] = None,
    yes: _Yes = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Refuse to connect; so does the variable PASTA_OFFLINE.")
    ] = False,
    overwrite: _Overwrite = False,
    as_json: _Json = False,
) -> None:
    """Fetch a published model and add it to the store. Asks first; an interrupted transfer is continued the next time."""
    from .. import models
    from ..download import download, require_online
    from .console import note, steps

    entry = next((item for item in models.published_models() if item.name == published), None)
    if entry is None:
        known = ", ".join(item.name for item in models.published_models())
        raise InputError(f"{published!r} is not a published model; known: {known}")
    address = url or entry.url
    if address is None:
        then = "no model" if entry.kind == "data set" else "then pasta models add FILE --name N"
        raise InputError(f"{entry.name} is a {entry.kind} that needs a browser: {entry.page}; {then}")
    name = models.check_name(name or entry.name, overwrite)
    require_online(offline)
    if not yes:
        if as_json:
            raise InputError(
                f"--json asks nothing; add --yes to fetch {entry.name} ({entry.size}; licence: {entry.licence})"
            )
        typer.echo(
            f"{entry.title}\nfrom     {address}\nsize     {entry.size}\nholds    {entry.contents}\nlicence  {entry.licence}"
        )
        typer.confirm("Fetch it?", abort=True, err=True)
    target = models.store_folder() / ".downloads" / entry.file
    with steps(quiet=as_json) as progress:
        digest = download(address, target, progress.start(f"Fetching {entry.name}"))
    if not as_json:
        note(f"sha256 {digest}")
    try:
        model = _load(str(target), as_json)
        card = replace(model.card, source=address, licence=entry.licence)
        _store(replace(model, card=card), target, name, None, None, overwrite, as_json, move=True, sha256=digest)
    finally:
        target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            target.parent.rmdir()  # unless another transfer waits in it


@app.command("clear")
def clear_command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]…", help="Models to remove. [dim]Default: all.[/dim]")
    ] = None,
    yes: _Yes = False,
    as_json: _Json = False,
) -> None:
    """Remove added models from the store. Those that come with this program stay."""
    from .. import models
    from .console import print_json

    if not yes:
        if as_json:
            raise InputError("--json asks nothing; add --yes to remove models")
        typer.confirm(
            f"Remove {', '.join(names) if names else 'all models'} from {models.store_folder()}?", abort=True, err=True
        )
    gone = models.remove_models(names or None)
    if as_json:
        print_json({"removed": gone})
    else:
        typer.echo(f"Removed: {', '.join(gone) or 'nothing, the store was empty'}")


# ---------------------------------------------------------------------------------------------------------------


def _load(source: str, quiet: bool) -> PastaModel:
    from .console import steps

    with steps(quiet=quiet) as progress:
        progress.start(f"Reading {Path(source).name}")
        try:
            from ..networks.load import load_model
        except ImportError as error:
            if error.name != "torch":
                raise
            raise InputError(
                'reading models needs PyTorch; install it with: pip install "slicerpasta[torch]"'
            ) from None
        return load_model(source)


def _model_files(file: Path) -> Path:
    """What to copy: a checkpoint, or the model folder itself where the folder around it was given."""
    if not file.is_dir():
        return file
    from ..networks.nnunet_folder import read_folder

    folder = read_folder(file).path
    if folder.resolve() != file.resolve() and file.name.startswith("fold_"):
        raise InputError(
            f"{file}: one fold of a model; add the whole folder {folder}, or the checkpoint file in the fold"
        )
    return folder.resolve()


def _store(
    model: PastaModel, files: Path, name: str, lesion: str | None, orientation: str | None, overwrite: bool, as_json: bool, *, move: bool,
    sha256: str | None = None,
) -> None:  # fmt: skip
    from .. import models
    from .console import note, print_json

    if lesion and len(model.card.labels) != 2:
        raise InputError(
            f"--lesion is for models of background, organ and lesion; this one segments {len(model.card.labels)} classes"
        )
    changes = {"lesion": lesion, "orientation": orientation.upper() if orientation else None}
    card = replace(model.card, name=name, **{key: value for key, value in changes.items() if value})
    stored = models.add_model(files, name, card.to_json(), overwrite=overwrite, move=move)
    if as_json:
        extra = {"sha256": sha256} if sha256 else {}
        print_json(
            {
                "name": name,
                "path": stored.path,
                "bytes": stored.bytes,
                **extra,
                "model": replace(model, card=card).to_json(),
            }
        )
        return
    for line in card.notes:
        note(line)
    typer.echo(f"Added: {name} ({_card_line(card.to_json())}), {stored.path}")


def _card_line(card: dict) -> str:
    labels = list(card.get("labels", {}).values())
    names = ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "")
    kind = f" ({card['lesion']})" if card.get("lesion") else ""
    return f"segments {names}{kind}" if labels else "does not segment"


def _intensity(found) -> str:
    if found.mean_std is not None:
        (low, high), (mean, std) = found.hu, found.mean_std
        return f"HU clipped to {low:g} … {high:g}, less {mean:g}, over {std:g}"
    return "HU " + ", ".join(f"{hu:g} to {value:g}" for hu, value in zip(found.hu, found.values))


def _facts(model: PastaModel) -> list[tuple[str, str]]:
    card, shape = model.card, model.shape
    folds = f", {len(model.networks)} folds" if len(model.networks) > 1 else ""
    heads = {True: "shape, density, heterogeneity, surface, invasion", False: "none"}[model.predicts_attributes]
    if shape.attribute_outputs:
        heads += f" (a head of {shape.attribute_outputs} outputs)"
    rows = [
        ("Model", f"{card.name}{folds}"),
        (
            "Network",
            f"{model.parameters:,} parameters, channels {'-'.join(map(str, shape.channels))}, {shape.in_channels} input",
        ),
        (
            "Segments",
            f"{shape.classes} classes: background, {', '.join(card.labels.values())}" if model.segments else "nothing",
        ),
        ("Attributes", heads),
        ("Features", f"vectors of {shape.feature_channels}"),
    ]
    if card.lesion:
        rows.append(("Lesion", card.lesion))
    if model.segments:
        window = "x".join(map(str, card.patch))
        rows += [
            (
                "Scan",
                f"{card.spacing_mm:g} mm, axes to {card.orientation}, windows of {window}, {_intensity(card.intensity)}",
            )
        ]
    rows += [("Source", card.source)] if card.source else []
    rows += [("Licence", card.licence)] if card.licence else []
    rows += [("Digest", model.digest), ("File", model.report.summary())]
    return rows + [("Note", line) for line in card.notes]
