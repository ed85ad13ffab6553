"""The versions a peer may want to compare: they go with every hello and every status."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version


@cache
def packages() -> tuple[tuple[str, str], ...]:
    """Return the names and versions of what decides here. Read once: it opens files."""
    return tuple((name, version(name)) for name in ("amusd-mp", "torch", "transformers", "pyzmq"))
