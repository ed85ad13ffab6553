"""The command line's frame: the list of commands, `--version`, and how an error becomes a line and an exit code.

A command is a module of this package with a function `command`; to add one, add its name to COMMANDS. Importing a
command's module must be cheap, because `--help` imports them all: what is heavy is imported inside the function.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Final

import typer

from amusd_mp import __version__
from amusd_mp.errors import AmusdError, UsageError

COMMANDS: Final = (
    "demo",
    "up",
    "serve",
    "node",
    "generate",
    "chat",
    "check",
    "status",
    "top",
    "bench",
    "report",
    "simulate",
    "keys",
    "env",
)
"""Module and command names, in the order of `--help`."""

HELP: Final = "Asynchronous multi-device speculative decoding, as message-passing nodes."


def show_version(wanted: bool) -> None:
    """Print the version and end, if the flag was given."""
    if wanted:
        typer.echo(f"amusd-mp {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Start, check and ask draft and verify nodes."""


def build() -> typer.Typer:
    """Return the application with every command."""
    app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(root)
    for name in COMMANDS:
        module = import_module(f"amusd_mp.cli.{name}")
        app.command(name.replace("_", "-"))(module.command)
    return app


def run() -> None:
    """Run the command line. An AmusdError becomes one line; the exit code is 2 for what the caller can fix, else 1."""
    try:
        build()(prog_name="amusd-mp")
    except AmusdError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
