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
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from amusd_mp.core import limits
from amusd_mp.core.messages import (
    Beat,
    Cancel,
    Cancelled,
    ChatMessage,
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
from amusd_mp.core.params import GenerationParams, Speculation, Strategy, problem
from amusd_mp.errors import AmusdError, OperationalError, RequestError, SequenceLost, TransportClosed
from amusd_mp.results import GenerationResult
from amusd_mp.runtime import Runtime
from amusd_mp.session.link import Link
from amusd_mp.session.sender import Sender
from amusd_mp.stream import Stream
from amusd_mp.tasks import task_group

log = logging.getLogger(__name__)

R = TypeVar("R")
Prompt = str | Sequence[int]
Messages = Sequence[Mapping[str, str]]

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

    def stream(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Messages | None = None,
        max_tokens: int | None = None,
        min_tokens: int = 0,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repetition_penalty: float = 1.0,
        logit_bias: Mapping[int, float] | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        stop_token_ids: Sequence[int] = (),
        ignore_eos: bool = False,
        logprobs: int | None = None,
        strategy: Strategy | str | None = None,
        lookahead: int | None = None,
        show_rejected: bool = False,
        timeout: float | None = None,
    ) -> Stream:
        """Return a stream for one response; nothing is sent before it is entered.

        prompt:     text, or token ids (then `messages` must be None)
        messages:   a conversation of {"role", "content"}, put through the verify model's chat template
        max_tokens: at most this many output tokens; None: up to the context length
        seed:       64 bits; None draws one, which the result returns
        strategy, lookahead: how draft and verify share the work of this response; None: the deployment's
        show_rejected: have the verify node tell, too, how the draft tokens that it refused would have read
        timeout:    seconds for the whole response; None: no limit

        Parameters are named and mean what they do in vLLM. Raises RequestError for a prompt that is none, and for a
        value that no request may have.
        """
        params = GenerationParams(
            max_tokens=max_tokens,
            min_tokens=min_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=max(top_k, 0),
            min_p=min_p,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            repetition_penalty=repetition_penalty,
            logit_bias=tuple(sorted((logit_bias or {}).items())),
            seed=self._runtime.new_seed() if seed is None else seed,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            stop_token_ids=tuple(stop_token_ids),
            ignore_eos=ignore_eos,
            logprobs=logprobs,
        )
        with suppress(TypeError):  # a value that cannot even be compared: the verify node's answer names its type
            wrong = problem(params, self.model.fingerprint.vocabulary)
            if wrong is not None:
                raise RequestError(wrong[1], parameter=wrong[0])
        text, ids, chat = _what_to_continue(prompt, messages)
        submit = Submit(
            sequence=self._runtime.new_id(),
            verify=self.incarnation,
            client=self._link.sender.incarnation,
            params=params,
            text=text,
            ids=ids,
            messages=chat,
            speculation=self._speculation(strategy, lookahead),
            show_rejected=show_rejected,
        )
        return Stream(self, submit, timeout, self._runtime.now)

    async def generate(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Messages | None = None,
        max_tokens: int | None = None,
        min_tokens: int = 0,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repetition_penalty: float = 1.0,
        logit_bias: Mapping[int, float] | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        stop_token_ids: Sequence[int] = (),
        ignore_eos: bool = False,
        logprobs: int | None = None,
        strategy: Strategy | str | None = None,
        lookahead: int | None = None,
        show_rejected: bool = False,
        timeout: float | None = None,
    ) -> GenerationResult:
        """Return one whole response. Arguments and errors are those of `stream` and of reading it."""
        async with self.stream(
            prompt,
            messages=messages,
            max_tokens=max_tokens,
            min_tokens=min_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            repetition_penalty=repetition_penalty,
            logit_bias=logit_bias,
            seed=seed,
            stop=stop,
            stop_token_ids=stop_token_ids,
            ignore_eos=ignore_eos,
            logprobs=logprobs,
            strategy=strategy,
            lookahead=lookahead,
            show_rejected=show_rejected,
            timeout=timeout,
        ) as stream:
            return await stream.result()

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

    def _speculation(self, strategy: Strategy | str | None, lookahead: int | None) -> Speculation | None:
        if strategy is None and lookahead is None:
            return None
        assert self._link.welcome is not None
        default = self._link.welcome.speculation
        try:
            chosen = default.strategy if strategy is None else Strategy(strategy)
        except ValueError:
            known = ", ".join(Strategy)
            raise RequestError(f"strategy {strategy!r} is unknown; one of {known}", parameter="strategy") from None
        ahead = default.lookahead if lookahead is None else lookahead
        if not 1 <= ahead <= limits.LOOKAHEAD_MAX:
            raise RequestError(
                f"lookahead={lookahead!r} must lie between 1 and {limits.LOOKAHEAD_MAX}", parameter="lookahead"
            )
        return Speculation(chosen, ahead)

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


def _what_to_continue(
    prompt: Prompt | None, messages: Messages | None
) -> tuple[str | None, tuple[int, ...] | None, tuple[ChatMessage, ...] | None]:
    """Return (text, ids, messages) with exactly one of them set. Raises RequestError otherwise."""
    if (prompt is None) == (messages is None):
        raise RequestError("give either a prompt or messages", parameter="prompt")
    if messages is not None:
        try:
            return None, None, tuple(ChatMessage(message["role"], message["content"]) for message in messages)
        except (KeyError, TypeError):
            raise RequestError(
                'messages must be a list of {"role": ..., "content": ...}', parameter="messages"
            ) from None
    if isinstance(prompt, str):
        return prompt, None, None
    if isinstance(prompt, bytes) or not isinstance(prompt, Iterable):
        raise RequestError(
            f"a prompt is text or token ids, not {type(prompt).__name__}; decode bytes first", parameter="prompt"
        )
    ids = tuple(prompt)
    if not all(isinstance(token, int) and 0 <= token < 1 << 31 for token in ids):
        raise RequestError("token ids must be non-negative integers of 31 bits", parameter="prompt")
    return None, ids, None
