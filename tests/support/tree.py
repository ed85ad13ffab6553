"""The project's own source tree, and a fresh interpreter to try it in."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FOLDERS = {
    "amusd_mp": ROOT / "amusd_mp",
    "amusd_mp.transports": ROOT / "transports",
    "amusd_mp.nodes": ROOT / "nodes",
    "amusd_mp.configs": ROOT / "configs",
}
"""Installed name of each source folder."""


def sources() -> dict[str, Path]:
    """Every module of the project by its installed name."""
    found: dict[str, Path] = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


SOURCES = sources()


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, timeout=60, check=False
    )
