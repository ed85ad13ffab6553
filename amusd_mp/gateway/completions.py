"""`/v1/completions` and `/v1/chat/completions`: read, ask, answer whole or as a stream; let go whatever happens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from amusd_mp.client.results import Chunk, Token
from amusd_mp.gateway.asking import asked
from amusd_mp.gateway.choices import Choices
from amusd_mp.gateway.disconnection import Events, Gone, while_there
from amusd_mp.gateway.failures import Failure, Refused, failure_of
from amusd_mp.gateway.logprobs import Spelling, Spellings
from amusd_mp.gateway.metrics import Account, Metrics
from amusd_mp.gateway.schema import ChatRequest, CompletionRequest, read
from amusd_mp.gateway.shapes import ChatShape, CompletionShape, Json, Shape
from amusd_mp.gateway.upstream import Upstream
from amusd_mp.runtime import Runtime

TIMEOUT: Final = 3600.0
"""Seconds for a whole response: a bound, not a promise."""


class Completions:
    """The two endpoints."""

    def __init__(self, upstream: Upstream, metrics: Metrics, runtime: Runtime) -> None:
        self._upstream = upstream
        self._metrics = metrics
        self._runtime = runtime
        self._spellings = Spellings()

    async def completions(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        return await self._answer(request, await read(request, CompletionRequest), CompletionShape)

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        return await self._answer(request, await read(request, ChatRequest), ChatShape)

    async def _answer(
        self, request: Request, body: CompletionRequest | ChatRequest, make: Callable[..., Shape]
    ) -> Response:
        client = self._upstream.client  # this request's, also while the verify node is silent
        card = client.model
        check_model(body.model, card.name)
        usage = body.stream_options is not None and body.stream_options.include_usage
        scored = body.logprobs is not None and body.logprobs is not False
        spelling = self._spellings.of(client) if scored else None
        shape = make(self._runtime.new_id(), card.name, body.n, spelling, usage=usage)
        choices = Choices(self._upstream, asked(body, card, TIMEOUT))
        answer = Answer(choices, shape, self._metrics.request(), spelling, usage)
        streaming = False
        try:
            await while_there(request, choices.open())
            if body.stream:
                streaming = True
                return Events(answer.events(), answer.close)
            return JSONResponse(await while_there(request, answer.whole()))
        except Gone:
            answer.account.end("cancelled")
            raise
        except Exception:
            answer.account.end("failed")
            raise
        finally:
            if not streaming:
                await answer.close()


class Answer:
    """One response being made: its choices, its shape and its account. `spelling`: log probabilities were asked for."""

    def __init__(
        self, choices: Choices, shape: Shape, account: Account, spelling: Spelling | None, usage: bool
    ) -> None:
        self.account = account
        self._choices = choices
        self._shape = shape
        self._spelling = spelling
        self._usage = usage

    async def whole(self) -> Json:
        """Return the whole response."""
        async for index, news in self._choices.events():
            if isinstance(news, Chunk):
                self.account.tokens(len(news.tokens))
                await self._spell(news.tokens)
            else:
                self.account.choice(self._choices.results[index])
        self.account.end()
        return self._shape.response(self._choices.ordered)

    async def events(self) -> AsyncIterator[dict[str, str]]:
        """Yield the response as server-sent events, to the end or to the error that ends it."""
        try:
            async for piece in self._pieces():
                yield {"data": to_json(piece)}
            self.account.end()
        except Exception as error:
            self.account.end("failed")
            yield {"data": to_json({**failure_of(error).body(), "usage": {"completion_tokens": self._choices.tokens}})}
        yield {"data": "[DONE]"}

    async def _pieces(self) -> AsyncIterator[Json]:
        choices, shape = self._choices, self._shape
        offsets = dict.fromkeys(choices.indices, 0)
        for index in choices.indices:
            for piece in shape.beginning(index):
                yield piece
        async for index, news in choices.events():
            if isinstance(news, Chunk):
                self.account.tokens(len(news.tokens))
                await self._spell(news.tokens)
                for piece in shape.news(index, news, offsets[index]):
                    yield piece
                offsets[index] += len(news.text)
                continue
            self.account.choice(news)
            ending = shape.ending(index, news)
            last = shape.last(choices.ordered) if choices.complete else None
            if last is not None and not self._usage:
                ending["metrics"] = last["metrics"]
            yield ending
            if last is not None and self._usage:
                yield last

    async def _spell(self, tokens: Iterable[Token]) -> None:
        if self._spelling is not None:
            await self._spelling.learn(tokens)

    async def close(self) -> None:
        """Let go of what still runs."""
        self.account.end("cancelled")
        await self._choices.close()


def check_model(asked_for: str, served: str) -> None:
    """Raise Refused for a model that is not served here."""
    if asked_for != served:
        message = f"the model {asked_for!r} is not served here; {served!r} is"
        raise Refused(Failure(404, message, param="model", code="model_not_found"))


def to_json(value: object) -> str:
    """Return compact JSON, as one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
