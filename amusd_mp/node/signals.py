"""SIGINT and SIGTERM as a trigger: the first asks for a graceful end, the second ends at once.

Handlers of the interpreter, not of the event loop, so that the second signal works while the loop is stuck, and a
signal that comes before the loop runs is not lost. Outside the main thread, where no handler can be set, it does
nothing: the embedding program owns the signals then.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self


def exit_at_once(number: int) -> None:
    """End the process with the code shells give for a signal (130, 143), without running anything else."""
    os._exit(128 + number)


class StopSignals:
    """A context in which the two signals are ours. `second` is called with the number of every further signal."""

    def __init__(self, second: Callable[[int], None] = exit_at_once) -> None:
        self.received: int | None = None
        self._second = second
        self._notify: Callable[[], None] | None = None
        self._previous: dict[int, object] = {}

    def watch(self, notify: Callable[[], None]) -> None:
        """Call `notify` at the first signal; now, if it has already come."""
        self._notify = notify
        if self.received is not None:
            notify()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # exactly what signal.signal returned
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self._second(number)
            return
        self.received = number
        if self._notify is not None:
            self._notify()
