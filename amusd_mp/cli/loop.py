"""How a command runs its asynchronous part: Ctrl-C cancels it, waits for it to clean up, and ends with 130."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import typer

T = TypeVar("T")

INTERRUPTED: Final = 130
"""What shells give for SIGINT."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine and return its result. Raises typer.Exit(130) after a Ctrl-C that it did not handle itself.

    Warnings that nobody configured a log for are not printed into the command's text: what matters ends it as an error.
    """
    logging.getLogger("amusd_mp").addHandler(logging.NullHandler())
    try:
        return asyncio.run(main)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
