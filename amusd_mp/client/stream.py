"""One response being written: submit on entering, chunks while iterating, cancellation on leaving.

Publications update the stream's replica as they arrive, whoever is or is not iterating, so a slow reader only gets
larger chunks. What a lost publication left out is fetched by `sync` when the reader needs it. Leaving early, a task's
cancellation and a timeout all end the sequence on both nodes. Which life of the verify node writes the response is
`admission`'s matter.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from amusd_mp.client.admission import Admission
from amusd_mp.client.asking import Asking
from amusd_mp.client.received import Received
from amusd_mp.client.results import Chunk, GenerationResult, with_earlier
from amusd_mp.client.switchboard import Switchboard
from amusd_mp.core.limits import BEAT, LEASE
from amusd_mp.core.messages import Committed, DigestEntry, Finish, Submit, Sync, SyncPage
from amusd_mp.core.replica import Contradiction, Replica
from amusd_mp.errors import (
    AmusdError,
    GenerationTimeout,
    NodeFailed,
    OperationalError,
    ProtocolError,
    SequenceLost,
    TransportClosed,
)

log = logging.getLogger(__name__)

IDLE_SYNC = 4 * BEAT
"""Seconds without news after which the stream asks by itself; the digest in the beats normally tells before."""


class _Life(enum.Enum):
    """Whether the stream's block has begun, and is over."""

    NEW = enum.auto()
    ENTERED = enum.auto()
    LEFT = enum.auto()


class Stream:
    """An asynchronous context manager and iterator of `Chunk`. Made by `Client.stream`.

    Entering submits (RequestError, Busy, NotReady, Unreachable, RequestTimeout). Iterating raises SequenceLost when the
    verify node dies or forgets the sequence, GenerationTimeout when `timeout` seconds have passed since entering; both
    carry what had arrived. While the verify node is only silent the stream waits, as long as a lease may last. Reading
    a stream that was not entered, or that was left before its response was finished, raises RuntimeError.

    With `resubmit` seconds, a sequence that is lost is taken up by the verify node's next life, if it comes within that
    time, when the reader next waits for a chunk; chunks go on as if nothing had happened.
    """

    def __init__(
        self,
        board: Switchboard,
        submit: Submit,
        timeout: float | None,
        now: Callable[[], float],
        resubmit: float = 0.0,
    ) -> None:
        self._admission = Admission(board, submit, now, resubmit)
        self._board = board
        self._timeout = timeout
        self._now = now
        self._received = Received()
        self._news = asyncio.Event()
        self._began = 0.0
        self._first_at: float | None = None
        self._ended_at: float | None = None
        self._behind = False
        self._over: AmusdError | None = None
        self._asking = Asking(board)
        self._life = _Life.NEW
        self._submitted = False
        self._prompt_hash = ""

    def __repr__(self) -> str:
        state = self._replica.finish or ("lost" if self._over else "running")
        return f"<Stream {self.submit.sequence} {len(self._replica.tokens)} tokens, {state}>"

    # ------------------------------------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        if self._life is not _Life.NEW:
            raise RuntimeError("a stream is entered once; ask the client for another one")
        self._began = self._now()
        self._board.adopt(self)
        try:
            submitted = await self._admission.enter(self._left)
        except BaseException:
            self._leave()
            raise
        early = self._replica  # commits may have come before the reply told where output begins
        self._received = Received(submitted.prompt_length)
        self._prompt_hash = submitted.prompt_hash
        self._life, self._submitted = _Life.ENTERED, True
        self._behind = bool(early.tokens) or early.version > 0 or early.complete
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        """Let go of the stream; if it has not ended, have the client cancel it. Never blocks, so cancel-safe."""
        self._life = _Life.LEFT
        self._board.release(self, cancel=not self._replica.complete)

    def _left(self) -> float | None:
        return None if self._timeout is None else self._began + self._timeout - self._now()

    @property
    def _replica(self) -> Replica:
        return self._received.replica

    @property
    def submit(self) -> Submit:
        """The request as it was last submitted: after a resubmission under another id."""
        return self._admission.submit

    @property
    def submitted(self) -> bool:
        """True while the verify node has confirmed the sequence."""
        return self._submitted

    @property
    def resubmissions(self) -> int:
        """How often another life of the verify node had to take this response up."""
        return self._admission.resubmissions

    # ------------------------------------------------------------------------------------------ what arrives

    def hear(self, window: Committed) -> None:
        """Take a publication in."""
        if self._life is _Life.NEW:
            self._replica.version = window.version  # only a sign that something was missed: see `__aenter__`
            return
        self._merge(window)

    def compare(self, entry: DigestEntry) -> None:
        """Notice from the verify node's digest that something was missed."""
        if entry.version > self._replica.version or (entry.done and not self._replica.complete):
            self._behind = True
            self._news.set()

    def fail(self, error: AmusdError) -> None:
        """End the stream with an error; what arrived before is handed out first."""
        if isinstance(error, SequenceLost) and not self._submitted:
            return  # there is none yet; `admission` sees to it that the life which admits it is the present one
        if self._over is None and not self._replica.complete:
            self._over = error
            self._news.set()
            self._asking.stop()

    def _merge(self, window: Committed | SyncPage) -> None:
        try:
            delta = self._received.merge(window)
        except Contradiction as error:
            self.fail(ProtocolError(str(error)))
            return
        if delta.gap:
            self._behind = True
        if delta.tokens and self._first_at is None:
            self._first_at = self._now()
        if delta.finished:
            self._ended_at = self._now()
        if delta or delta.gap:
            self._news.set()
        if delta and not delta.gap:
            self._asking.stop()

    # ------------------------------------------------------------------------------------------ reading

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        self._check_life()
        while True:
            self._check_time()
            if self._behind:
                await self._catch_up()
            chunk = self._received.take()
            if chunk is not None:
                return chunk
            loss = self._loss()
            if loss is not None:
                await self._go_on(loss)
            elif self._replica.complete:
                raise StopAsyncIteration
            else:
                await self._wait()

    async def _go_on(self, loss: AmusdError) -> None:
        """Have another life of the verify node take the response up. Raises SequenceLost where that may not be."""
        known = self._replica.tokens
        if isinstance(loss, TransportClosed | ProtocolError) or not self._admission.may_resume:
            raise self._with_progress(loss) from loss
        log.info("stream %s: %s; resubmitted with %d tokens", self.submit.sequence, loss, len(known))
        self._replica.resume()
        self._over, self._submitted = None, False
        try:
            submitted = await self._admission.resume(self, tuple(known), self._left)
            if (submitted.prompt_length, submitted.prompt_hash) != (self._replica.prompt_length, self._prompt_hash):
                raise SequenceLost(
                    "the verify node came back and reads the prompt otherwise: another tokenizer or template"
                )
        except OperationalError as error:
            self._over = self._over or error
            self._admission.resubmit = 0.0
            self._check_time()
            raise self._with_progress(error, f"{loss}; ") from error
        except BaseException:  # the reader was cancelled, and may yet read on
            self._over = self._over or loss
            raise
        self._submitted = True

    def _check_life(self) -> None:
        """Raise RuntimeError where nothing would ever come: nobody submitted, or the rest was cancelled."""
        if self._life is _Life.NEW:
            raise RuntimeError("enter the stream before reading it: async with client.stream(...) as stream")
        if self._life is _Life.LEFT and not self._replica.complete:
            raise RuntimeError("this stream was left before its response was finished, which cancelled the rest")

    def _check_time(self) -> None:
        """Raise GenerationTimeout once the time is over, also for a slow reader who always finds something new."""
        left = self._left()
        if left is not None and left <= 0 and not self._replica.complete:
            raise GenerationTimeout(
                f"not finished within {self._timeout:g} s; {len(self._replica.tokens)} tokens had arrived",
                token_ids=tuple(self._replica.tokens),
                text=self._replica.text,
            )

    async def _wait(self) -> None:
        """Wait for news, for as long as the deadline leaves; ask by ourselves after a long silence."""
        self._news.clear()
        left = self._left()
        try:
            async with asyncio.timeout(IDLE_SYNC if left is None else min(IDLE_SYNC, left)):
                await self._news.wait()
        except TimeoutError:
            self._behind = left is None or left > IDLE_SYNC

    async def _catch_up(self) -> None:
        """Fetch what publications left out."""
        self._behind = False
        while not self._replica.complete and self._over is None:
            request = Sync(self.submit.sequence, self.submit.verify, self._replica.length)
            try:
                page = await self._asking.page(request, self._left())
            except TimeoutError:  # stopped
                return
            except SequenceLost as error:
                self.fail(error)
                return
            except OperationalError as error:  # the link decides when silence is a loss, and tells of each loss once
                log.debug("stream %s: sync failed: %s", self.submit.sequence, error)
                if self._board.link.lost:
                    self.fail(SequenceLost(f"the verify node at {self._board.link.url} {self._board.link.loss}"))
                return
            known = self._replica.length
            self._merge(page)
            self._behind = False
            if self._replica.length >= page.length:
                return
            if self._replica.length == known:
                self.fail(ProtocolError(f"{self._board.link.url} sent a page that brings nothing and is not the last"))

    def _loss(self) -> AmusdError | None:
        """Return why there will be no more of this sequence although its response is not finished, None if there is."""
        finish = self._replica.finish
        if finish is Finish.ERROR:
            return NodeFailed("the verify node failed while it wrote this response")
        if finish is Finish.CANCELLED:  # not by us: cancelling is the last that a stream does
            return SequenceLost(f"its lease of {LEASE:g} s ran out: this client was cut off, or stood still")
        return self._over if finish is None else None

    def _with_progress(self, error: AmusdError, before: str = "") -> SequenceLost:
        """Return the error that ends this stream, carrying what had arrived."""
        return SequenceLost(
            f"{before}{error} ({len(self._replica.tokens)} tokens had arrived)",
            sequence=self.submit.sequence,
            token_ids=tuple(self._replica.tokens),
            text=self._replica.text,
        )

    # ------------------------------------------------------------------------------------------ the end

    async def result(self) -> GenerationResult:
        """Read to the end and return the whole response. Raises what iterating raises."""
        async for _ in self:
            pass
        replica = self._replica
        assert replica.finish is not None
        assert replica.counts is not None
        tokens = self._received.tokens()
        ended = self._ended_at if self._ended_at is not None else self._now()
        return GenerationResult(
            text=replica.text,
            tokens=tokens,
            finish_reason=replica.finish,
            prompt_tokens=replica.prompt_length,
            seed=self.submit.params.seed,
            stats=with_earlier(replica.counts, tokens[: len(self.submit.resumed)]),
            time_to_first_token=(self._first_at if self._first_at is not None else ended) - self._began,
            seconds=ended - self._began,
            resubmissions=self.resubmissions,
        )
