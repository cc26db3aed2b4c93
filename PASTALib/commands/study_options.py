"""Options that the commands of ``pasta study`` share, and what they mean: the design, the lead's passphrase and key."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from . import options

if TYPE_CHECKING:
    from ..study.design import Design
    from ..study.package import StudyPackage
    from ..study.seal import StudyKey

PASSPHRASE = "PASTA_STUDY_PASSPHRASE"
DESIGN, POOLS, KEY_PANEL, EXPORT = "Design", "Pools", "Key", "Export"


Study = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and no progress, for machines.")]
Preset = Annotated[
    str,
    typer.Option(metavar="NAME", help="paper, pilot or sample; the options below change it.", rich_help_panel=DESIGN),
]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="Lesion type; repeat. [dim]Default: the preset's, or all that both pools hold.[/dim]", rich_help_panel=DESIGN),
]  # fmt: skip
PerType = Annotated[
    int | None,
    typer.Option("--per-type", metavar="N", help="Realism cases per type: N real and N synthetic.", rich_help_panel=DESIGN),
]  # fmt: skip
Count = Annotated[
    list[str] | None,
    typer.Option(metavar="TYPE=N", help="Another number for one type; repeat.", rich_help_panel=DESIGN),
]
Description = Annotated[
    int | None,
    typer.Option(metavar="N", help="Synthetic cases per type whose report is rated; 0 for none.", rich_help_panel=DESIGN),
]  # fmt: skip
Practice = Annotated[
    int | None, typer.Option(metavar="N", help="Practice pairs (real, synthetic) at the beginning.", rich_help_panel=DESIGN)
]  # fmt: skip
Repeats = Annotated[
    int | None, typer.Option(metavar="N", help="Cases that every reader reads twice, for agreement with oneself.", rich_help_panel=DESIGN)
]  # fmt: skip
Sessions = Annotated[int | None, typer.Option(metavar="N", help="Sittings.", rich_help_panel=DESIGN)]
Washout = Annotated[
    float | None, typer.Option(metavar="DAYS", help="Days between two sittings.", rich_help_panel=DESIGN)
]
Readers = Annotated[
    str | None,
    typer.Option(metavar="A,B,… or N", help="Names (letters, digits, _ . -) or a number of readers.", rich_help_panel=DESIGN),
]  # fmt: skip
Shape = Annotated[
    str | None, typer.Option(metavar="ZxYxX", help="Voxels of every exported case.", rich_help_panel=EXPORT)
]
Spacing = Annotated[
    str | None, typer.Option(metavar="MM or ZxYxX", help="Voxel size of every exported case.", rich_help_panel=EXPORT)
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help=f"File with the lead's passphrase. [dim]Default: {PASSPHRASE}, or asked for.[/dim]", rich_help_panel=KEY_PANEL),
]  # fmt: skip
KeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The key is kept in this file, unencrypted, and not in the study.",
        rich_help_panel=KEY_PANEL,
    ),
]


def open_package(folder: Path) -> StudyPackage:
    from ..study.package import open_study

    return open_study(folder)


def unlocked(package: StudyPackage, passphrase_file: Path | None, key_file: Path | None) -> StudyKey:
    from ..study.package import KEY
    from ..study.seal import unlock

    needed = key_file is None and (package.folder / KEY).is_file()
    return unlock(package.folder, package.study_id, passphrase(passphrase_file) if needed else None, key_file)


def passphrase(file: Path | None, confirm: bool = False) -> str:
    """The lead's passphrase: from a file (its first line), from the environment, or asked for without showing it."""
    if file is not None:
        try:
            lines = options.existing(file, "--passphrase-file").read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            raise InputError(
                f"--passphrase-file {file} cannot be read as text; write the passphrase into its first line"
            ) from None
        if not lines:
            raise InputError(f"--passphrase-file {file} is empty; write the passphrase into its first line")
        return lines[0]
    if os.environ.get(PASSPHRASE):
        return os.environ[PASSPHRASE]
    if not sys.stdin.isatty():
        raise InputError(f"the lead's passphrase is needed: give --passphrase-file or --key-file, or set {PASSPHRASE}")
    return typer.prompt("Passphrase of the study", hide_input=True, confirmation_prompt=confirm, err=True)


def design_of(
    preset, types, chosen, per_type, count, description, practice, repeats, sessions, washout, readers, shape, spacing, *, name, title
) -> Design:  # fmt: skip
    from ..study.design import preset_design

    counts = dict(_type_count(item) for item in count or [])
    changes = {
        "description": description, "practice": practice, "repeats": repeats, "sessions": sessions, "washout_days": washout,
        "shape_zyx": _triple(shape, "--shape", int), "spacing_mm": _triple(spacing, "--spacing", float),
    }  # fmt: skip
    return preset_design(
        preset, types, only=types if chosen else None, name=name, title=title, readers=_reader_names(readers), per_type=per_type,
        counts=counts, **changes,
    )  # fmt: skip


def _type_count(item: str) -> tuple[str, int]:
    kind, equals, number = item.partition("=")
    if not equals or not number.strip().isdecimal():
        raise InputError(f"--count {item!r} is not understood; write TYPE=N, such as --count liver_tumor=50")
    return options.lesion_type(kind), int(number)


def _triple(text: str | None, option: str, number: type) -> list | None:
    """``ZxYxX``, or one number for all three."""
    if text is None:
        return None
    try:
        values = [number(item) for item in text.lower().replace("×", "x").removesuffix("mm").split("x")]
    except ValueError:
        values = []
    if len(values) not in (1, 3):
        raise InputError(
            f"{option} {text!r} is not understood; give ZxYxX, such as {'128x256x256' if number is int else '1x1x1'}"
        )
    return values * 3 if len(values) == 1 else values


def _reader_names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    if text.isdecimal():
        if not 1 <= int(text) <= 200:
            raise InputError(f"--readers {text} is out of range; give 1 to 200, or names")
        return [f"reader{number}" for number in range(1, int(text) + 1)]
    return [name.strip() for name in text.split(",") if name.strip()]


def show_plan(design: Design, as_json: bool) -> None:
    from ..study.design import SD_SCORE, plan
    from .console import print_json

    data = plan(design)
    if as_json:
        print_json(data)
        return
    parts = ", ".join(f"{number} {name}" for name, number in data["by_part"].items() if number)
    typer.echo(f"{data['cases']} cases of {len(design.realism or design.description)} types, {data['readers']} readers")
    typer.echo(f"Each reader: {data['readings_per_reader']} readings ({parts}), about {data['hours_per_reader']:g} h at 20 s per case and 45 s per description")  # fmt: skip
    if design.sessions > 1:
        typer.echo(f"In {design.sessions} sessions, {design.washout_days:g} days apart")
    typer.echo(f"Disk: {data['disk_gb']:.3g} GB ({data['bytes_per_case'] / 1e6:.1f} MB per case), once for each copy")
    for what, width in data["ci_half_width"].items():
        typer.echo(
            f"95 % interval of real minus synthetic, {what}: +/- {width:.2f} points (standard deviation {SD_SCORE:g}, readers alike)"
        )
