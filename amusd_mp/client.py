"""The client: what an asyncio application embeds to have text written by a deployment.

    async with amusd_mp.connect("tcp://10.0.0.1:5601") as client:
        result = await client.generate("The capital of France is", max_tokens=32)

One client serves any number of tasks over one connection: it introduces itself, hears its own topic, and hands what
arrives to the stream it belongs to. In the background it renews leases and sends the cancellations that streams left
behind. It loads no model library.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar, Unpack

from amusd_mp.core import limits
from amusd_mp.core.messages import (
    Beat,
    Cancel,
    Cancelled,
    Committed,
    Drain,
    Draining,
    Envelope,
    Message,
    Renew,
    Renewed,
    StatusReport,
    StatusRequest,
    Submit,
    Welcome,
    client_topic,
)
from amusd_mp.core.model import ModelCard
from amusd_mp.errors import AmusdError, OperationalError, RequestError, SequenceLost, TransportClosed
from amusd_mp.options import Options, Prompt, to_params, to_prompt, to_speculation
from amusd_mp.results import GenerationResult
from amusd_mp.runtime import Runtime
from amusd_mp.session.link import Link
from amusd_mp.session.sender import Sender
from amusd_mp.stream import Stream
from amusd_mp.tasks import task_group

log = logging.getLogger(__name__)

R = TypeVar("R")
CONNECT_TIMEOUT = 10.0
"""Seconds `connect` tries by default: longer than a small model takes to load."""


@asynccontextmanager
async def connect(
    url: str, *, timeout: float = CONNECT_TIMEOUT, runtime: Runtime | None = None
) -> AsyncIterator[Client]:
    """Connect to the verify node at `url`, for as long as the `async with` block lasts.

    `timeout` in seconds bounds connecting alone. Raises AddressError (malformed, does not resolve), Unreachable or
    RequestTimeout (nobody answers), NotReady (still loading), ProtocolError (another protocol version). When the block
    is left, running streams are cancelled on the nodes, and no task, thread or socket stays behind.
    """
    runtime = runtime or Runtime()
    client = Client(url, runtime)
    try:
        await client._link.dial()
        async with task_group() as tasks:
            background = [
                tasks.create_task(work(), name=f"{client.name} {name}")
                for name, work in (("link", client._run_link), ("renews", client._renew), ("cancels", client._cancel))
            ]
            try:
                await client._link.open(timeout)
                yield client
            finally:
                client._closing = True
                await client._flush()
                for task in background:
                    task.cancel()
    finally:
        await client._link.close()


class Client:
    """Talks to one verify node. Made by `connect`; safe to use from many tasks of one loop."""

    def __init__(self, url: str, runtime: Runtime) -> None:
        self._runtime = runtime
        identity = runtime.new_id()
        self.name = f"client-{identity[:8]}"
        self._link = Link(
            url,
            Sender(self.name, identity),
            runtime,
            role="client",
            prefixes=(client_topic(identity),),
            on_publication=self._hear,
            on_lost=self._lost,
        )
        self._streams: dict[str, Stream] = {}
        self._to_cancel: dict[str, Cancel] = {}
        self._cancel_now = asyncio.Event()
        self._drafts = asyncio.Event()  # set while the verify node's beats say that a draft is joined
        self._closing = False

    def __repr__(self) -> str:
        return f"<Client {self._link!r} {len(self._streams)} streams>"

    # ------------------------------------------------------------------------------------------ asking

    @property
    def model(self) -> ModelCard:
        """The verify model's card."""
        assert self._link.welcome is not None
        return self._link.welcome.model

    @property
    def incarnation(self) -> str:
        """The life of the verify node this client talks to."""
        return self._link.verify

    def stream(self, prompt: Prompt | None = None, **options: Unpack[Options]) -> Stream:
        """Return a stream for one response to a text, token ids, or `messages`; nothing is sent before it is entered.

        The options and their meaning: `amusd_mp.options.Options`. Raises RequestError for a prompt that is none and
        for a value that no request may have, TypeError for an unknown option.
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
            speculation=to_speculation(options, self._link.welcome.speculation),
            show_rejected=options.get("show_rejected", False),
        )
        return Stream(self, submit, options.get("timeout"), self._runtime.now)

    async def generate(self, prompt: Prompt | None = None, **options: Unpack[Options]) -> GenerationResult:
        """Return one whole response. Options and errors are those of `stream` and of reading it."""
        async with self.stream(prompt, **options) as stream:
            return await stream.result()

    async def sample(
        self, prompt: Prompt | None = None, n: int = 1, **options: Unpack[Options]
    ) -> tuple[GenerationResult, ...]:
        """Return `n` responses to one prompt, written side by side; sample i uses `seed` + i.

        If one fails, the others are cancelled and its error is raised.
        """
        if n < 1:
            raise RequestError(f"n={n} must be at least 1", parameter="n")
        first = options.get("seed")
        seed = self._runtime.new_seed() if first is None else first
        samples = []
        async with task_group() as tasks:
            for i in range(n):
                mine = options.copy()
                mine["seed"] = (seed + i) % 2**64
                samples.append(tasks.create_task(self.generate(prompt, **mine), name=f"sample {i}"))
        return tuple(task.result() for task in samples)

    async def status(self, timeout: float = limits.REQUEST_TIMEOUT) -> StatusReport:
        """Return how the verify node and its drafts are."""
        return await self._link.call(StatusRequest(), StatusReport, timeout)

    async def drain(self, timeout: float = limits.REQUEST_TIMEOUT) -> int:
        """Have the verify node finish what runs and exit; return how many sequences still run."""
        return (await self._link.call(Drain(self.incarnation), Draining, timeout)).sequences

    async def wait_for_draft(self, timeout: float = 30.0) -> StatusReport:
        """Return the verify node's status once a draft has joined. Raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            await self._drafts.wait()
            return await self.status()

    # ------------------------------------------------------------------------------------------ for streams

    async def _call(self, request: Message, expect: type[R], left: float | None) -> R:
        return await self._link.call(
            request, expect, limits.REQUEST_TIMEOUT if left is None else max(0.01, min(left, limits.REQUEST_TIMEOUT))
        )

    def _adopt(self, stream: Stream) -> None:
        if self._closing:
            raise TransportClosed("this client is closed", address=self._link.url)
        self._streams[stream.submit.sequence] = stream

    def _release(self, stream: Stream, cancel: bool) -> None:
        if self._streams.pop(stream.submit.sequence, None) is not None and cancel and self._link.alive:
            self._to_cancel[stream.submit.sequence] = stream.cancel_request(stream.submit.verify)
            self._cancel_now.set()

    # ------------------------------------------------------------------------------------------ what arrives

    def _hear(self, envelope: Envelope) -> None:
        match envelope.body:
            case Committed() as window:
                stream = self._streams.get(window.sequence)
                if stream is not None:
                    stream.hear(window)
            case Beat() as beat:
                if beat.drafts:
                    self._drafts.set()
                else:
                    self._drafts.clear()
                for entry in beat.digest:
                    stream = self._streams.get(entry.sequence)
                    if stream is not None:
                        stream.compare(entry)
            case _:
                pass

    def _lost(self, welcome: Welcome | None) -> None:
        """Every running stream is lost with the verify node's life."""
        what = "began another life" if welcome is not None else f"has been silent for {limits.LIVENESS:g} s"
        self._fail_all(SequenceLost(f"the verify node at {self._link.url} {what}"))

    def _fail_all(self, error: AmusdError) -> None:
        for stream in list(self._streams.values()):
            stream.fail(error)

    # ------------------------------------------------------------------------------------------ background

    async def _run_link(self) -> None:
        try:
            await self._link.run()
        except AmusdError as error:
            self._fail_all(error)
            raise

    async def _renew(self) -> None:
        """Extend the leases of all streams, three times per lease."""
        while True:
            await asyncio.sleep(limits.LEASE / 3)
            mine = tuple(self._streams)
            if not mine:
                continue
            try:
                renewed = await self._link.call(Renew(self.incarnation, mine), Renewed, limits.LEASE / 3)
            except OperationalError as error:
                log.debug("%s: leases not renewed: %s", self.name, error)
                continue
            for name in renewed.unknown:
                stream = self._streams.get(name)
                if stream is not None and stream.submitted:
                    stream.fail(SequenceLost(f"the verify node at {self._link.url} no longer has this sequence"))

    async def _cancel(self) -> None:
        """Send the cancellations that streams left behind."""
        while True:
            await self._cancel_now.wait()
            self._cancel_now.clear()
            await self._send_cancels()

    async def _send_cancels(self) -> None:
        while self._to_cancel:
            request = next(iter(self._to_cancel.values()))
            try:
                await self._link.call(request, Cancelled, limits.REQUEST_TIMEOUT)
            except OperationalError as error:  # its lease ends it
                log.debug("%s: %s not cancelled: %s", self.name, request.sequence, error)
            self._to_cancel.pop(request.sequence, None)

    async def _flush(self) -> None:
        """Cancel what still runs, before the connection goes."""
        for stream in list(self._streams.values()):
            stream.fail(TransportClosed("this client was closed", address=self._link.url))
            self._release(stream, cancel=True)
        try:
            async with asyncio.timeout(limits.REQUEST_TIMEOUT):
                await self._send_cancels()
        except TimeoutError:
            log.debug("%s: %d cancellations were not confirmed", self.name, len(self._to_cancel))
