"""The benchmark's progress bar: what is being done, how far, and the time left. On a terminal alone."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from amusd_mp.bench.records import Answer


class Bar:
    """A bar per part of the run; without a terminal, a line per part. Use as a context manager."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("starting the nodes", total=None)

    def __repr__(self) -> str:
        return f"<Bar {self._progress.tasks[self._task].description}>"

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def phase(self, what: str, answers: int) -> None:
        """Begin a new bar."""
        if self._progress.disable:
            typer.echo(f"{what}{f': {answers} responses' if answers else ''}", err=True)
            return
        self._progress.stop_task(self._task)
        self._task = self._progress.add_task(what, total=answers or None)

    def answered(self, answer: Answer) -> None:
        """Advance."""
        self._progress.advance(self._task)
