"""What the system tells of processes: their children, memory and open files (Linux)."""

from __future__ import annotations

import os
from pathlib import Path


def children(pid: int | str = "self") -> set[int]:
    """Return the processes that a process has started and not reaped yet."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text("ascii").split()}


def is_running(pid: int) -> bool:
    """Return whether a process is there, a zombie included."""
    return Path(f"/proc/{pid}").exists()


def resident(pid: int | str = "self") -> float:
    """Return the MiB of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def descriptors(pid: int | str = "self") -> int:
    """Return how many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
