"""Files that a command is to write, looked at before it works for minutes to have something to write there."""

from __future__ import annotations

import os
from pathlib import Path


def check_target(flag: str, file: Path | None, *, replaced: bool = False) -> None:
    """Raise UsageError for a file that cannot be written, or `replaced` by another one. None is none to write."""
    from amusd_mp.errors import UsageError

    if file is None:
        return
    folder = file.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{flag}: the folder {folder} does not exist")
    if file.is_dir():
        raise UsageError(f"{flag}: {file} is a folder; name a file in it")
    if not os.access(file if file.exists() and not replaced else folder, os.W_OK):
        raise UsageError(f"{flag}: {file} may not be written by this user")
