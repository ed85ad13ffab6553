"""What a response looks like in JSON: whole, and chunk by chunk, for completions and for chat, as OpenAI sends it.

A shape is told tokens and results and gives objects; it knows no HTTP. In a chunk every key is there, with null where
there is nothing to say.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from amusd_mp import __version__
from amusd_mp.client.results import Chunk, GenerationResult, Token
from amusd_mp.gateway.logprobs import Spelling, chat_logprobs, completion_logprobs
from amusd_mp.gateway.numbers import metrics, usage

Json = dict[str, object]


class Shape(ABC):
    """One response. `n` choices belong to each prompt; `usage` says whether every chunk has that key.

    `spelling` is there where log probabilities were asked for.
    """

    name: str
    whole: str
    chunked: str

    def __init__(self, identity: str, model: str, n: int, spelling: Spelling | None, *, usage: bool) -> None:
        self._head: Json = {
            "id": f"{self.name}-{identity}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"amusd-mp-{__version__}",
        }
        self._n = n
        self._spelling = spelling
        self._usage = usage

    def response(self, results: Sequence[GenerationResult]) -> Json:
        """Return the whole response."""
        choices = [self.choice(index, result) for index, result in enumerate(results)]
        ends = {"usage": usage(results, self._n), "metrics": metrics(results)}
        return {**self._head, "object": self.whole, "choices": choices, **ends}

    def beginning(self, index: int) -> Iterator[Json]:
        """Yield what comes before a choice's first token."""
        yield from ()

    def news(self, index: int, chunk: Chunk, offset: int) -> Iterator[Json]:
        """Yield what a choice decided; `offset` is where its text begins in the output."""
        if chunk.text or (self._spelling is not None and chunk.tokens):
            yield self._chunk([self.piece(index, chunk.text, self.scores(chunk.tokens, offset), None)])

    def ending(self, index: int, result: GenerationResult) -> Json:
        """Return the chunk that ends a choice."""
        return self._chunk([self.piece(index, "", None, result.finish_reason.value)])

    def last(self, results: Sequence[GenerationResult]) -> Json:
        """Return the chunk behind all choices: usage and metrics."""
        return {**self._chunk([]), "usage": usage(results, self._n), "metrics": metrics(results)}

    def scores(self, tokens: Sequence[Token], offset: int) -> Json | None:
        """Return the log probabilities of tokens, None if they were not asked for."""
        return None if self._spelling is None else self.told(tokens, offset, self._spelling)

    @abstractmethod
    def choice(self, index: int, result: GenerationResult) -> Json:
        """Return a whole choice."""

    @abstractmethod
    def piece(self, index: int, text: str, scores: Json | None, finish: str | None) -> Json:
        """Return a choice's part of a chunk."""

    @abstractmethod
    def told(self, tokens: Sequence[Token], offset: int, spelling: Spelling) -> Json:
        """Return log probabilities in this endpoint's shape."""

    def _chunk(self, choices: list[Json]) -> Json:
        nothing: Json = {"usage": None} if self._usage else {}
        return {**self._head, "object": self.chunked, "choices": choices, **nothing}


class CompletionShape(Shape):
    """`/v1/completions`."""

    name = "cmpl"
    whole = chunked = "text_completion"

    def choice(self, index: int, result: GenerationResult) -> Json:
        return self.piece(index, result.text, self.scores(result.tokens, 0), result.finish_reason.value)

    def piece(self, index: int, text: str, scores: Json | None, finish: str | None) -> Json:
        return {"index": index, "text": text, "logprobs": scores, "finish_reason": finish}

    def told(self, tokens: Sequence[Token], offset: int, spelling: Spelling) -> Json:
        return completion_logprobs(tokens, spelling, offset)


class ChatShape(Shape):
    """`/v1/chat/completions`."""

    name = "chatcmpl"
    whole = "chat.completion"
    chunked = "chat.completion.chunk"

    def choice(self, index: int, result: GenerationResult) -> Json:
        return {
            "index": index,
            "message": {"role": "assistant", "content": result.text, "refusal": None},
            "logprobs": self.scores(result.tokens, 0),
            "finish_reason": result.finish_reason.value,
        }

    def beginning(self, index: int) -> Iterator[Json]:
        delta = {"role": "assistant", "content": "", "refusal": None}
        yield self._chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])

    def piece(self, index: int, text: str, scores: Json | None, finish: str | None) -> Json:
        delta = {} if finish is not None else {"content": text}
        return {"index": index, "delta": delta, "logprobs": scores, "finish_reason": finish}

    def told(self, tokens: Sequence[Token], offset: int, spelling: Spelling) -> Json:
        return chat_logprobs(tokens, spelling)
