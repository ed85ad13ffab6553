"""What happened in a run, event by event, and what of it must not have happened."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from amusd_mp.testing.simulation.watch import Breach, Watch

Record = tuple[float, str, str, object]
"""(virtual time, who, what, payload or text)."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that explains a lost sequence: what happened to whom, and when."""

    who: str
    began: float
    ended: float


class Chronicle:
    """Keeps the record and shows the watch what it has to see.

    `breaches` are kept in order, because the code under test may catch what is raised inside it.
    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.record: list[Record] = []
        self.breaches: list[str] = []
        self.trouble: list[Trouble] = []
        self.messages = 0

    def now(self) -> float:
        """Return virtual seconds."""
        return asyncio.get_running_loop().time()

    def note(self, who: str, what: str) -> None:
        """Keep something that happened, in words."""
        self.record.append((self.now(), who, "", what))

    def logged(self, who: str, what: str, failed: bool) -> None:
        """Keep a log line of a node or client. An error among them is a breach: nothing here may fail inside."""
        self.record.append((self.now(), who, "logs", what))
        if failed:
            self.breaches.append(f"{who} logs an error: {what}")

    def told(self, who: str, what: str, payload: bytes) -> None:
        """Keep a message, and look at it."""
        self.messages += 1
        self.record.append((self.now(), who, what, payload))
        with self.looking():
            self.watch.told(who, what, payload)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Keep a breach that is found within."""
        try:
            yield
        except Breach as breach:
            self.breaches.append(str(breach))
            raise
