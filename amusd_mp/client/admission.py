"""How a stream's request gets into a life of the verify node, and, where its caller wants that, into another one later.

A life that has ended took with it whatever it admitted, so the same request may go to the next life: under its own id
if nothing of it was handed out, else under a new id, with the output that is known told apart from the prompt. The seed
travels with it, and every rule of sampling, penalties and stopping depends on tokens alone: the next life goes on with
the same text. It knows no token's meaning; what has arrived is the stream's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from amusd_mp.client.switchboard import Subscriber, Switchboard
from amusd_mp.core import limits
from amusd_mp.core.messages import Submit, Submitted
from amusd_mp.core.model import ModelCard
from amusd_mp.errors import (
    Busy,
    NotReady,
    OperationalError,
    RemoteError,
    RequestError,
    RequestTimeout,
    SequenceLost,
    Unreachable,
)
from amusd_mp.session.refusals import Restarted

PAUSE: Final = 0.1
"""Seconds before a resubmission that failed is tried again; doubles."""

PAUSE_MAX: Final = 1.0

BARREN: Final = 3
"""Lives in a row that may end without one more token: after that, the request itself may be what ends them."""


class Admission:
    """The request of one stream. Times in seconds; `resubmit` bounds each wait for a next life, 0 is none."""

    def __init__(self, board: Switchboard, submit: Submit, now: Callable[[], float], resubmit: float) -> None:
        self.submit = submit
        self.resubmit = resubmit
        self.resubmissions = 0
        self._board = board
        self._now = now
        self._card: ModelCard | None = None
        self._barren = 0
        self._known = 0  # tokens at the last resubmission

    def __repr__(self) -> str:
        return f"<Admission {self.submit.sequence} into {self.submit.verify}, {self.resubmissions} before>"

    async def enter(self, left: Callable[[], float | None]) -> Submitted:
        """Submit, and again while the verify node is full or began another life, within what the stream has `left`.

        Without a timeout of the stream's own: within the time one request may take, and never while the node is full.
        Raises what submitting raises.
        """
        deadline = self._now() + limits.REQUEST_TIMEOUT
        while True:
            mine = left()
            ends = deadline if mine is None else self._now() + mine
            try:
                submitted = await self._board.call(self.submit, Submitted, mine)
                if self._current:
                    self._card = self._model()
                    return submitted
                over = Restarted(f"the verify node began another life while {self.submit.sequence} was admitted")
            except Busy as busy:
                mine = left()
                if mine is None or mine <= busy.retry_after:
                    raise
                await asyncio.sleep(busy.retry_after)
                continue
            except Restarted as error:
                over = error
            if not await self._board.another_life(self.submit.verify, ends - self._now()):
                raise over
            self.submit = replace(self.submit, verify=self._board.link.verify)

    @property
    def may_resume(self) -> bool:
        """Whether a stream that lost its sequence may have another life go on with it."""
        return self.resubmit > 0 and self._barren < BARREN

    async def resume(self, stream: Subscriber, known: tuple[int, ...], left: Callable[[], float | None]) -> Submitted:
        """Have a life of the verify node go on after the `known` tokens. Raises OperationalError with why none does."""
        deadline = self._now() + self.resubmit
        self._board.release(stream, cancel=True)
        self.submit = replace(self.submit, sequence=self._board.new_id(), resumed=known)
        self._board.adopt(stream)
        pause = PAUSE
        while True:
            self.submit = replace(self.submit, verify=self._board.link.verify)
            mine = left()
            try:
                self._check_model()
                rest = deadline - self._now()
                within = rest if mine is None else min(mine, rest)
                submitted = await self._board.call(self.submit, Submitted, within)
                if self._current:
                    self._barren = 0 if len(known) > self._known else self._barren + 1
                    self._known = len(known)
                    self.resubmissions += 1
                    return submitted
                failure: OperationalError = NotReady("the verify node began another life once more")
            except (Busy, NotReady, Restarted, Unreachable, RequestTimeout, RemoteError) as error:
                failure = error
            except RequestError as error:
                raise SequenceLost(f"the verify node does not take it up again: {error}") from error
            if isinstance(failure, Busy):
                pause = max(pause, failure.retry_after)
            mine = left()
            if self._now() + pause >= deadline or (mine is not None and pause >= mine):
                raise failure
            self._board.link.knock()
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_MAX)

    @property
    def _current(self) -> bool:
        """True while the life that is meant is the verify node's."""
        return self.submit.verify == self._board.link.verify

    def _model(self) -> ModelCard | None:
        return self._board.link.welcome.model if self._board.link.welcome is not None else None

    def _check_model(self) -> None:
        """Raise SequenceLost if the verify node has another model now, whose text would be another one."""
        before, now = self._card, self._model()
        if before is None or now is None:
            return
        for field in ("name", "fingerprint", "dtype", "attention", "eos_ids", "max_length"):
            if getattr(before, field) != getattr(now, field):
                raise SequenceLost(
                    f"the verify node came back with another model: {field} is {getattr(now, field)!r}, "
                    f"was {getattr(before, field)!r}"
                )
