"""The command ``pasta``. Only what ``--help`` needs is imported here; each command imports its own heavy parts when it runs."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from typing import Annotated

import typer
from typer.core import TyperGroup

from . import __version__
from .errors import InputError

# The base of everything that typer raises for a wrong command line, wherever this version keeps it.
_UsageError = typer.BadParameter.__mro__[1]


class OneLineErrors(TyperGroup):
    """Bad input: one line on stderr and exit code 2. Interrupted: 130. Anything unforeseen: 1, with a hint at ``--debug``."""

    def main(
        self, args=None, prog_name=None, complete_var=None, standalone_mode=True, windows_expand_args=True, **extra
    ):
        args = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in args or bool(os.environ.get("PASTA_DEBUG"))
        args = [item for item in args if item != "--debug"]
        try:
            code = super().main(args, prog_name or self.name, complete_var, False, windows_expand_args, **extra)
        except (KeyboardInterrupt, typer.Abort):
            code = _complain("interrupted; nothing was written", 130)
        except _UsageError as error:
            code = _complain(_usage_line(error), 2, debug)
        except InputError as error:
            code = _complain(str(error), 2, debug)
        except MemoryError:
            code = _complain("not enough memory; crop the scan to the region of interest", 1, debug)
        except Exception as error:
            code = _complain(_problem_line(error, debug), 1, debug)
        code = code if isinstance(code, int) else 0
        if standalone_mode:
            sys.exit(code)
        return code

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # some versions of typer would end silently here
            raise typer.Abort from None


def _complain(message: str, code: int, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    typer.echo("pasta: " + " ".join(message.split()), err=True)
    return code


def _problem_line(error: Exception, debug: bool) -> str:
    from .worker import WorkerError  # here, because a command that went well has no use for it

    if isinstance(error, WorkerError):
        if debug and error.details:
            typer.echo(error.details, err=True)
        return str(error)
    where = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"unexpected problem: {where}" + ("" if debug else " (the same command with --debug shows where)")


def _usage_line(error: Exception) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    command = error.ctx.command_path if getattr(error, "ctx", None) else "pasta"
    return f"{message} (see {command} --help)"


app = typer.Typer(
    cls=OneLineErrors,
    name="pasta",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pasta {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _pasta(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Synthetic lesions with eight chosen attributes in CT; segmentation of organs and lesions; structured reports.

    New here? [bold]pasta demo --out demo[/bold] needs no data.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _register() -> None:
    from .commands import demo, features, gallery, organs, report, segment, synth

    for module in (demo, synth, gallery, segment, report, features, organs):
        app.command(module.__name__.rsplit(".", 1)[-1])(module.command)
    from .commands import models, study

    app.add_typer(models.app, name="models")
    app.add_typer(study.app, name="study")


_register()


def main() -> None:
    """Entry point of the console script."""
    if (
        not sys.warnoptions
    ):  # as Python's own documentation advises for programs; ``python -W default -m PASTALib`` shows them
        warnings.simplefilter("ignore")
    app()


if __name__ == "__main__":
    main()
