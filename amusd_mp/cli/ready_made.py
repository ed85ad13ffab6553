"""The ready-made deployment files, wherever they are: the repository's `configs/`, or the installed copy of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

PACKAGE: Final = "amusd_mp.configs"


@contextmanager
def ready_made(name: str) -> Iterator[Path]:
    """Give a file of `configs/` by its name, as a path that exists while the context lasts."""
    with as_file(files(PACKAGE).joinpath(name)) as path:
        yield path
