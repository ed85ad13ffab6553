"""`amusd-mp keys new FILE`: a key pair for one party; and `keys show FILE`, its public key again.

The secret stays in the file. What is printed is the public key alone, which goes into other people's files.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Verb(StrEnum):
    """What to do with a key file."""

    NEW = "new"
    SHOW = "show"


def command(
    verb: Annotated[Verb, typer.Argument(help="new makes a key pair, show prints a public key.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="The secret key's file, e.g. laptop.key.", show_default=False)],
) -> None:
    """Make a key pair (the file is for its owner's eyes alone), or print the public key of one."""
    from amusd_mp.security import keys

    if verb is Verb.SHOW:
        typer.echo(keys.read(file).public)
        return
    pair = keys.create(file)
    typer.echo(f"secret key in {file} (mode 0600: keep it on this host); public key:", err=True)
    typer.echo(pair.public)
