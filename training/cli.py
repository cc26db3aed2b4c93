"""``python -m training``. Only what ``--help`` needs is imported here; each command imports its own heavy parts when it runs."""

from __future__ import annotations

import importlib
import sys
import warnings

import typer

from PASTALib.cli import OneLineErrors

# In the order of a whole training; a command's module is named like it.
COMMANDS: tuple[str, ...] = (
    "generate",
    "train-ddpm",
    "pretrain-segmentation",
    "pretrain-attributes",
    "finetune",
    "fewshot",
    "detect",
    "stage",
    "attributes",
    "benchmark",
)

app = typer.Typer(
    cls=OneLineErrors,
    name="training",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback()
def _training() -> None:
    """Generate data and train PASTA's networks, headless, from a laptop to a cluster."""


def _register() -> None:
    for name in COMMANDS:
        module = importlib.import_module(f".commands.{name.replace('-', '_')}", __package__)
        app.command(name, epilog=getattr(module, "EPILOG", None))(module.command)


_register()


def main() -> None:
    """Entry point of ``python -m training``."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    app(prog_name="python -m training")
