"""Cancel a task at its i-th await, for every i: systematically, not by luck.

    with Interruption("user", at=17) as interruption:   # counts only, if `at` is None
        run(story())
    interruption.steps                                  # awaits of that task, so the range to try

A cancellation can meet an await in two ways, and both are bugs' favourite places: while what is awaited is still to
come, and (`late`) when it has just come but the task has not been told. Tasks are meant by name; where several bear it,
their awaits are counted on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import ContextVar, Token
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Final, Self

_PRESENT: Final[ContextVar[Interruption | None]] = ContextVar("interruption", default=None)


class Interruption:
    """Within it, virtual loops cancel the task of this name (or pattern: `sample *`) at its await number `at`, from 1.

    With `victim`, that task is cancelled instead while the one of this name awaits: a whole that is cancelled meets its
    parts wherever they are.
    """

    def __init__(self, name: str, at: int | None = None, *, late: bool = False, victim: str | None = None) -> None:
        self.steps = 0
        self.struck = False
        """True once the task has been cancelled; False if it was over by then."""
        self._name = name
        self._at = at
        self._late = late
        self.victim = victim
        self._token: Token[Interruption | None] | None = None

    def __enter__(self) -> Self:
        self._token = _PRESENT.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        _PRESENT.reset(self._token)

    def meant(self, task: asyncio.Task[Any]) -> bool:
        """Return whether this task is to be struck."""
        return fnmatchcase(task.get_name(), self._name)

    def _victims(self, task: asyncio.Task[Any]) -> list[asyncio.Task[Any]]:
        if self.victim is None:
            return [task]
        return [each for each in asyncio.all_tasks() if each.get_name() == self.victim]

    def awaits(self, awaited: object) -> None:
        """Take note that the current task begins to await something."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if task is None or not self.meant(task):
            return
        self.steps += 1
        if self.steps != self._at:
            return

        def strike(_: object = None) -> None:
            self.struck = any(each.cancel() for each in self._victims(task))

        if self._late and isinstance(awaited, asyncio.Future):
            awaited.add_done_callback(strike)  # before the task's own, so it is cancelled before it is told
        else:
            loop.call_soon(strike)


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine whose awaits are told."""

    def __init__(self, inner: Any, interruption: Interruption) -> None:
        self._inner = inner
        self._interruption = interruption

    def send(self, value: Any) -> Any:
        return self._told(self._inner.send(value))

    def throw(self, *error: Any) -> Any:
        return self._told(self._inner.throw(*error))

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, None, Any]:
        return (yield from self._inner.__await__())

    def _told(self, awaited: Any) -> Any:
        self._interruption.awaits(awaited)
        return awaited


def counted(coro: Any) -> Any:
    """Return a coroutine as it is or, within an interruption, one whose awaits are told (names come after tasks)."""
    interruption = _PRESENT.get()
    return coro if interruption is None else _Counted(coro, interruption)
