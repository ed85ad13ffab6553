"""The client: what an asyncio application embeds to have text written by a deployment.

    async with amusd_mp.connect("tcp://10.0.0.1:5601") as client:
        result = await client.generate("The capital of France is", max_tokens=32)

One client serves any number of tasks over one connection. It loads no model library.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Literal, Unpack

from amusd_mp.client.options import Messages, Options, Prompt, to_params, to_prompt, to_resubmit, to_speculation
from amusd_mp.client.results import GenerationResult
from amusd_mp.client.stream import Stream
from amusd_mp.client.switchboard import Switchboard
from amusd_mp.client.watching import Steps, watching
from amusd_mp.core import limits
from amusd_mp.core.messages import (
    Detokenize,
    Detokenized,
    Drain,
    Draining,
    StatusReport,
    StatusRequest,
    Submit,
    Tokenize,
    Tokenized,
)
from amusd_mp.core.model import ModelCard
from amusd_mp.core.params import Speculation
from amusd_mp.errors import Busy, RequestError
from amusd_mp.runtime import Runtime
from amusd_mp.security.keys import for_dialling
from amusd_mp.tasks import task_group

CONNECT_TIMEOUT = 10.0
"""Seconds `connect` tries by default: longer than a small model takes to load."""


@asynccontextmanager
async def connect(
    url: str,
    *,
    timeout: float = CONNECT_TIMEOUT,
    key: str | Path | None = None,
    server_key: str | None = None,
    role: Literal["client", "observer"] = "client",
    runtime: Runtime | None = None,
) -> AsyncIterator[Client]:
    """Connect to the verify node at `url`, for as long as the `async with` block lasts.

    `timeout` in seconds bounds connecting alone. `key` is the file of this party's secret key and `server_key` the
    verify node's public key, where it asks for keys; an observer may only read. Raises ConfigError (a key that cannot
    be used), AddressError (malformed, does not resolve), Unreachable or RequestTimeout (nobody answers), RemoteError
    (it fails to answer), NotReady (still loading), AccessDenied (one side refuses the other's key or role),
    ProtocolError (another protocol version). When the block is left, running streams are cancelled on the nodes, and
    no task, thread or socket stays behind.
    """
    runtime = runtime or Runtime()
    board = Switchboard(url, runtime, role, for_dialling(key, server_key))
    try:
        await board.link.dial()
        async with task_group() as tasks:
            background = [
                tasks.create_task(work(), name=f"{board.name} {name}")
                for name, work in (("listens", board.listen), ("renews", board.renew), ("cancels", board.cancel))
            ]
            try:
                await board.link.open(timeout)
                yield Client(board, runtime)
            finally:
                await board.hang_up()
                for task in background:
                    task.cancel()
    finally:
        await board.link.close()


class Client:
    """Talks to one verify node. Made by `connect`; safe to use from many tasks of one loop."""

    def __init__(self, board: Switchboard, runtime: Runtime) -> None:
        self._board = board
        self._link = board.link
        self._runtime = runtime

    def __repr__(self) -> str:
        return f"<Client {self._board!r}>"

    @property
    def model(self) -> ModelCard:
        """The verify model's card."""
        assert self._link.welcome is not None
        return self._link.welcome.model

    @property
    def speculation(self) -> Speculation:
        """The deployment's own, for requests that do not say otherwise."""
        assert self._link.welcome is not None
        return self._link.welcome.speculation

    @property
    def incarnation(self) -> str:
        """The life of the verify node this client talks to."""
        return self._link.verify

    @property
    def alive(self) -> bool:
        """False while the verify node is silent. A request then fails, unless the node comes back in time."""
        return self._link.alive

    def stream(self, prompt: Prompt | None = None, **options: Unpack[Options]) -> Stream:
        """Return a stream for one response to a text, token ids, or `messages`; nothing is sent before it is entered.

        The options and their meaning: `amusd_mp.client.options.Options`. Raises RequestError for a prompt that is none
        and for a value that no request may have, TypeError for an unknown option.
        """
        text, ids, messages = to_prompt(prompt, options.get("messages"))
        assert self._link.welcome is not None
        submit = Submit(
            sequence=self._runtime.new_id(),
            verify=self.incarnation,
            client=self._link.sender.incarnation,
            params=to_params(options, self.model, self._runtime.new_seed()),
            text=text,
            ids=ids,
            messages=messages,
            speculation=to_speculation(options, self.speculation),
            show_rejected=options.get("show_rejected", False),
        )
        resubmit = to_resubmit(options.get("resubmit", False))
        return Stream(self._board, submit, options.get("timeout"), self._runtime.now, resubmit)

    async def generate(self, prompt: Prompt | None = None, **options: Unpack[Options]) -> GenerationResult:
        """Return one whole response. Options and errors are those of `stream` and of reading it."""
        async with self.stream(prompt, **options) as stream:
            return await stream.result()

    async def sample(
        self, prompt: Prompt | None = None, n: int = 1, **options: Unpack[Options]
    ) -> tuple[GenerationResult, ...]:
        """Return `n` responses to one prompt, written side by side; sample i uses `seed` + i.

        What finds no room beside its siblings follows them. If one fails, the others are cancelled and its error is
        raised.
        """
        if n < 1:
            raise RequestError(f"n={n} must be at least 1", parameter="n")
        first = options.get("seed")
        seed = self._runtime.new_seed() if first is None else first
        under_way = ended = 0  # samples that are submitted, or being so; and those that are written

        async def one(mine: Options) -> GenerationResult:
            nonlocal under_way, ended
            while True:
                under_way, before = under_way + 1, ended
                try:
                    result = await self.generate(prompt, **mine)
                    ended += 1
                    return result
                except Busy as busy:
                    full = busy
                finally:
                    under_way -= 1
                alone = not under_way and ended == before  # else a sibling took the room, and may have left it since
                if alone or mine.get("timeout") is not None:  # a stream with a timeout came again by itself
                    raise full
                await asyncio.sleep(full.retry_after)

        samples = []
        async with task_group() as tasks:
            for i in range(n):
                mine = options.copy()
                mine["seed"] = (seed + i) % 2**64
                samples.append(tasks.create_task(one(mine), name=f"sample {i}"))
        return tuple(task.result() for task in samples)

    async def status(self, timeout: float = limits.REQUEST_TIMEOUT) -> StatusReport:
        """Return how the verify node and its drafts are."""
        return await self._link.call(StatusRequest(), StatusReport, timeout)

    async def tokenize(
        self, text: str | None = None, *, messages: Messages | None = None, timeout: float = limits.REQUEST_TIMEOUT
    ) -> tuple[int, ...]:
        """Return the ids that a text or a conversation becomes. Raises RequestError."""
        plain, _, turns = to_prompt(text, messages)
        return (await self._board.ask(Tokenize(self.incarnation, plain, turns), Tokenized, timeout)).ids

    async def detokenize(self, ids: Sequence[int], *, timeout: float = limits.REQUEST_TIMEOUT) -> str:
        """Return how ids read, special tokens left out. Raises RequestError."""
        reply = await self._board.ask(Detokenize(self.incarnation, tuple(ids)), Detokenized, timeout, "tokens")
        return reply.texts[0]

    async def pieces(self, ids: Sequence[int], *, timeout: float = limits.REQUEST_TIMEOUT) -> tuple[str, ...]:
        """Return how each id reads by itself: "" for a special one, U+FFFD for a part of a character."""
        request = Detokenize(self.incarnation, tuple(ids), True)
        return (await self._board.ask(request, Detokenized, timeout, "tokens")).texts

    def watch(self) -> AbstractAsyncContextManager[Steps]:
        """Return a context that gives every step of every node as it ends, to be iterated."""
        return watching(self._link)

    async def drain(self, timeout: float = limits.REQUEST_TIMEOUT) -> int:
        """Have the verify node finish what runs and exit; return how many sequences still run."""
        return (await self._link.call(Drain(self.incarnation), Draining, timeout)).sequences

    async def wait_for_draft(self, timeout: float = 30.0) -> StatusReport:
        """Return the verify node's status once a draft has joined. Raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            await self._board.drafting.wait()
            return await self.status()
