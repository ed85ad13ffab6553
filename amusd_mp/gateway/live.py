"""The live page and its two streams: every step of every node as it happens, and a text as it is drafted and decided.

Steps of other callers' sequences show when and how much, never what: texts go to whoever asked for them. Times are
seconds of the verify node's clock, those of drafts on other hosts shifted onto it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from importlib.resources import files
from typing import Final, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from amusd_mp.client.client import Client
from amusd_mp.client.options import Options
from amusd_mp.client.results import GenerationResult, Token
from amusd_mp.core.messages import StepTrace
from amusd_mp.errors import OperationalError
from amusd_mp.gateway.completions import TIMEOUT, to_json
from amusd_mp.gateway.disconnection import Events, while_there
from amusd_mp.gateway.failures import failure_of
from amusd_mp.gateway.merged import Merged, Put
from amusd_mp.gateway.metrics import Account, Metrics
from amusd_mp.gateway.numbers import speculative_decoding
from amusd_mp.gateway.schema import Body, read
from amusd_mp.gateway.upstream import Upstream
from amusd_mp.runtime import Runtime

log = logging.getLogger(__name__)

FRAME: Final = 0.04  # seconds of steps in one event
SECOND: Final = 1.0  # between two tellings of the numbers
SAME_CLOCK: Final = 0.05  # seconds; a smaller lag is a message's way, not another clock


class LiveRequest(Body):
    """What the page asks for."""

    prompt: str = Field(min_length=1)
    chat: bool = False
    max_tokens: int = Field(128, ge=1)
    temperature: float = Field(0.0, ge=0, le=100)
    seed: int | None = Field(None, ge=0, lt=1 << 64)
    strategy: Literal["autoregressive", "alternating", "amusd"] | None = None


class Live:
    """Serves the page and what it shows."""

    def __init__(self, upstream: Upstream, metrics: Metrics, runtime: Runtime) -> None:
        self._upstream = upstream
        self._metrics = metrics
        self._runtime = runtime
        self._page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        self._policy = policy(self._page)
        self._ending = asyncio.Event()

    def routes(self) -> list[Route]:
        """Return the paths of the page."""
        return [
            Route("/", self.page, methods=["GET"]),
            Route("/live/steps", self.steps, methods=["GET"]),
            Route("/live/generate", self.generate, methods=["POST"]),
        ]

    def end(self) -> None:
        """End the streams that would never end by themselves."""
        self._ending.set()

    async def page(self, request: Request) -> Response:
        """`GET /`: one file, complete in itself."""
        return HTMLResponse(self._page, headers={"Content-Security-Policy": self._policy, "Cache-Control": "no-cache"})

    async def steps(self, request: Request) -> Response:
        """`GET /live/steps`: steps and numbers, for as long as somebody looks."""
        merged = Merged(self._ends, self._tell_steps, self._tell_numbers)
        return Events(_sent(merged.events()), merged.close)

    async def generate(self, request: Request) -> Response:
        """`POST /live/generate`: one text, with every guess about it."""
        body = await read(request, LiveRequest)
        # what cannot begin is refused before the stream begins
        await while_there(request, self._upstream.client.status())
        writing = Writing(self._upstream, self._metrics.request(), options_of(body), None if body.chat else body.prompt)
        merged = Merged(writing.write, writing.guess)

        async def leave() -> None:
            await merged.close()
            writing.account.end("cancelled")

        return Events(_sent(merged.events()), leave)

    # ------------------------------------------------------------------------------------------ sources

    async def _ends(self, put: Put) -> None:
        await self._ending.wait()

    async def _tell_steps(self, put: Put) -> None:
        """Put the steps of all nodes, a frame at a time, through all lives of the verify node."""
        while True:
            try:
                client = self._upstream.client
            except OperationalError:
                await asyncio.sleep(SECOND)
                continue
            frame: list[object] = []
            reading = asyncio.create_task(_collect(client, frame), name="live steps")
            try:
                while not reading.done():
                    await asyncio.sleep(FRAME)
                    if frame:
                        await put("steps", frame[:])
                        frame.clear()
            finally:
                reading.cancel()
                await asyncio.wait({reading})

    async def _tell_numbers(self, put: Put) -> None:
        while True:
            tokens = self._metrics.output_tokens
            await put("numbers", await self._numbers())
            await asyncio.sleep(SECOND)
            await put("speed", {"tokens_per_second": (self._metrics.output_tokens - tokens) / SECOND})

    async def _numbers(self) -> dict[str, object]:
        line = self._upstream.line
        told: dict[str, object] = {"running": line.running, "waiting": line.waiting}
        try:
            status = await self._upstream.client.status(timeout=SECOND)
        except OperationalError as error:
            return {**told, "up": False, "why": str(error)}
        return {
            **told,
            "up": True,
            "state": status.state,
            "degraded": status.degraded,
            "verify": {"node": status.node, "model": status.model.name, "device": status.model.device},
            "drafts": [{"node": each.node, "model": each.model, "device": each.device} for each in status.drafts],
            "sequences": status.sequences,
            "max_sequences": status.max_sequences,
        }


class Writing:
    """One text being written for the page: what was decided, and what the draft guesses meanwhile."""

    def __init__(self, upstream: Upstream, account: Account, options: Options, prompt: str | None) -> None:
        self.account = account
        self._upstream = upstream
        self._options = options
        self._prompt = prompt
        self._sequence = ""
        self._watched = asyncio.Event()

    async def write(self, put: Put) -> None:
        """Put what is decided, then the end; or the error."""
        try:
            async with asyncio.timeout(SECOND):
                await self._watched.wait()  # the first guesses are worth seeing; but nothing depends on them
        except TimeoutError:
            pass
        try:
            async with (
                self._upstream.place(),
                self._upstream.client.stream(self._prompt, **self._options) as stream,
            ):
                self._sequence = stream.submit.sequence
                await put("begin", {"sequence": self._sequence, "seed": str(stream.submit.params.seed)})
                async for chunk in stream:
                    self._upstream.made()
                    self.account.tokens(len(chunk.tokens))
                    await put("tokens", [_shown(token) for token in chunk.tokens])
                result = await stream.result()
            self.account.choice(result)
            self.account.end()
            await put("end", _summary(result))
        except Exception as error:
            self.account.end("failed")
            await put("error", failure_of(error).body()["error"])

    async def guess(self, put: Put) -> None:
        """Put what the draft guesses, until cancelled."""
        try:
            async with self._upstream.client.watch() as steps:
                self._watched.set()
                async for step in steps:
                    if step.role != "draft":
                        continue
                    for entry in step.entries:
                        if entry.sequence == self._sequence and entry.tokens:
                            await put("guess", {"at": entry.start + entry.fed, "text": entry.text, "n": step.number})
        except OperationalError as error:
            log.info("a text is shown without its guesses: %s", error)
        await asyncio.Event().wait()  # the text goes on; if the verify node is gone, `write` says so


def options_of(body: LiveRequest) -> Options:
    """Return what the client is asked."""
    options: Options = {
        "max_tokens": body.max_tokens,
        "temperature": body.temperature,
        "seed": body.seed,
        "strategy": body.strategy,
        "show_rejected": True,
        "timeout": TIMEOUT,
    }
    if body.chat:
        options["messages"] = [{"role": "user", "content": body.prompt}]
    return options


async def _collect(client: Client, into: list[object]) -> None:
    """Append every step, its times on the verify node's clock. Ends when the client is closed or nobody answers."""
    lag: dict[str, float] = {}
    try:
        async with client.watch() as steps:
            async for step in steps:
                if step.heard:
                    lag[step.node] = min(lag.get(step.node, float("inf")), step.heard - step.ended)
                into.append(_step(step, lag.get(step.node, 0.0)))
    except OperationalError:
        await asyncio.sleep(SECOND)


def _step(step: StepTrace, lag: float) -> dict[str, object]:
    shift = lag if abs(lag) > SAME_CLOCK else 0.0
    return {
        "node": step.node,
        "role": step.role,
        "n": step.number,
        "from": round(step.began + shift, 6),
        "to": round(step.ended + shift, 6),
        "parts": [
            [each.sequence, each.start, each.fed, each.proposed, each.accepted, each.emitted, len(each.tokens)]
            for each in step.entries
        ],
    }


def _shown(token: Token) -> dict[str, object]:
    shown: dict[str, object] = {"t": token.text, "o": token.origin.name.lower()}
    if token.rejected_text:
        shown["x"] = token.rejected_text
    return shown


def _summary(result: GenerationResult) -> dict[str, object]:
    return {
        "tokens": len(result.tokens),
        "prompt_tokens": result.prompt_tokens,
        "seconds": result.seconds,
        "first": result.time_to_first_token,
        "tokens_per_second": result.tokens_per_second,
        "finish_reason": result.finish_reason.value,
        "text": result.text,
        "counts": {**asdict(result.stats), "histogram": list(result.stats.histogram)},
        "speculative_decoding": speculative_decoding(result.stats),
    }


async def _sent(events: AsyncIterator[tuple[str, object]]) -> AsyncIterator[dict[str, str]]:
    async for event, data in events:
        yield {"event": event, "data": to_json(data)}


def policy(page: str) -> str:
    """Return a content security policy under which this page's own script and style run, and nothing else."""
    found = {kind: re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL) for kind in ("script", "style")}
    hashes = {kind: " ".join(f"'sha256-{_hash(each)}'" for each in texts) for kind, texts in found.items()}
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
