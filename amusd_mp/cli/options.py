"""Arguments and flags that several commands share, declared once so that they read and mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amusd_mp.log import LogFormat

File = Annotated[Path, typer.Argument(help="A deployment file (TOML).", show_default=False)]
Config = Annotated[Path, typer.Option("--config", "-c", help="The deployment file (TOML).", show_default=False)]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one key, e.g. nodes.draft.device=cuda:1. Repeatable."),
]
Host = Annotated[
    str | None,
    typer.Option("--host", metavar="NAME", help="Which host of the file this machine is.", show_default=False),
]
Format = Annotated[LogFormat, typer.Option("--log-format", help="auto colours a terminal.")]
Debug = Annotated[bool, typer.Option("--debug", help="Log more, and show where an error came from.")]
DrainTimeout = Annotated[float, typer.Option("--drain-timeout", min=0, help="Seconds a graceful end may take.")]
