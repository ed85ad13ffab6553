"""Text to ids and back, for the verify node's clients: on a thread of its own, so that the loop never waits for a text.

Texts that are too long and ids that are none are refused, and so is what comes while too much is waiting already: who
asks again and again would else hold up everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from amusd_mp.core.ledger import Refusal
from amusd_mp.core.limits import PAGE_CHARACTERS, PAGE_TOKENS, PROMPT_TOKENS
from amusd_mp.core.messages import Detokenize, Detokenized, ErrorCode, Submit, Tokenize, Tokenized
from amusd_mp.core.model import ModelCard, Tokenizer
from amusd_mp.runtime import Executor, Runtime

BEHIND: Final = 8  # tokens that rejected ones are decoded behind
WAITING: Final = 32  # texts that may wait for the thread, beside one for each sequence there is room for
RETRY_AFTER: Final = 0.5  # seconds a refused client should wait: a short answer's length

R = TypeVar("R")


class Reader:
    """A tokenizer and its thread. `rows`: sequences that may all begin at once."""

    def __init__(self, tokenizer: Tokenizer, card: ModelCard, runtime: Runtime, rows: int) -> None:
        self._tokenizer = tokenizer
        self._card = card
        self._most = rows + WAITING
        self._waiting = 0
        self._executor: Executor = runtime.executor("tokenizer")

    def __repr__(self) -> str:
        return f"<Reader for {self._card.name}, {self._waiting} texts waiting>"

    async def encode(self, request: Submit | Tokenize) -> tuple[int, ...]:
        """Return a prompt's ids. Raises Refusal where too much is waiting, RequestError without a chat template."""
        return await self._run(partial(self._encode, request))

    async def tokenize(self, request: Tokenize) -> Tokenized:
        """Return a prompt's ids. Raises Refusal for more of them than an answer holds, too."""
        ids = await self.encode(request)
        if len(ids) > PROMPT_TOKENS:
            raise Refusal(
                ErrorCode.INVALID,
                f"the prompt has {len(ids)} tokens, and an answer holds {PROMPT_TOKENS}; ask for it in parts",
                field="prompt",
            )
        return Tokenized(ids)

    async def detokenize(self, request: Detokenize) -> Detokenized:
        """Return how ids read. Raises Refusal for ids that are none, and for more than an answer holds."""
        self.check("tokens", request.ids)
        if len(request.ids) > PAGE_TOKENS:
            raise Refusal(
                ErrorCode.INVALID, f"{len(request.ids)} tokens; at most {PAGE_TOKENS} at once", field="tokens"
            )
        parts = [(each,) for each in request.ids] if request.apart else [request.ids]
        texts = await self._run(lambda: tuple(map(self._tokenizer.decode, parts)))
        if sum(map(len, texts)) > PAGE_CHARACTERS:
            raise Refusal(ErrorCode.INVALID, f"the text has over {PAGE_CHARACTERS} characters", field="tokens")
        return Detokenized(texts)

    def check(self, field: str, ids: tuple[int, ...]) -> None:
        """Raise Refusal, naming the field, if some of the ids are not the model's."""
        vocabulary = self._card.fingerprint.vocabulary
        if ids and max(ids) >= vocabulary:
            raise Refusal(
                ErrorCode.INVALID,
                f"{field} holds id {max(ids)}; {self._card.name} has ids below {vocabulary}",
                field=field,
            )

    def read(self, context: Sequence[int], tokens: tuple[int, ...]) -> str:
        """Return how a few tokens read behind the last of `context`: decoders treat the first word of a text apart."""
        before = context[-BEHIND:]
        text = self._tokenizer.decode([*before, *tokens])
        lead = self._tokenizer.decode(before)
        return text.removeprefix(lead) if text.startswith(lead) else self._tokenizer.decode(tokens)

    def close(self) -> None:
        """Release the thread."""
        self._executor.close()

    async def _run(self, work: Callable[[], R]) -> R:
        if self._waiting >= self._most:
            raise Refusal(ErrorCode.BUSY, f"{self._waiting} texts wait for the tokenizer", retry_after=RETRY_AFTER)
        self._waiting += 1
        try:
            return await self._executor.run(work)
        finally:
            self._waiting -= 1

    def _encode(self, request: Submit | Tokenize) -> tuple[int, ...]:
        if isinstance(request, Submit) and request.ids is not None:
            return request.ids
        if request.text is not None:
            return self._tokenizer.encode(request.text)
        assert request.messages is not None
        return self._tokenizer.encode_chat([(message.role, message.content) for message in request.messages])
