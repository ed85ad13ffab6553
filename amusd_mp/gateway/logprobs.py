"""Log probabilities in OpenAI's two shapes. Tokens are told as text, so ids are looked up once and remembered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from amusd_mp.client.client import Client
from amusd_mp.client.results import Token
from amusd_mp.core.model import Fingerprint

LOWEST: Final = -9999.0
"""Stands for minus infinity, which JSON cannot say; vLLM's value."""

BROKEN: Final = "\N{REPLACEMENT CHARACTER}"


class Spellings:
    """How token ids read, remembered for all responses: at most one entry for each id of one vocabulary."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}
        self._fingerprint: Fingerprint | None = None

    def of(self, client: Client) -> Spelling:
        """Return the spelling for one response. Another vocabulary, after a restart, begins with nothing known."""
        if client.model.fingerprint != self._fingerprint:
            self._fingerprint, self._known = client.model.fingerprint, {}
        return Spelling(client, self._known)


class Spelling:
    """How token ids read, for one response: what it has learned it knows to its end, whatever becomes of the node."""

    def __init__(self, client: Client, known: dict[int, str]) -> None:
        self._client = client
        self._known = known

    async def learn(self, tokens: Iterable[Token]) -> None:
        """Ask for what is not known of these tokens and their alternatives."""
        wanted: dict[int, None] = {}
        for token in tokens:
            if token.logprob is not None:
                wanted.update(dict.fromkeys((token.id, *(each for each, _ in token.logprob.top))))
        missing = [each for each in wanted if each not in self._known]
        for at in range(0, len(missing), 4096):
            part = missing[at : at + 4096]
            self._known.update(zip(part, await self._client.pieces(part), strict=True))

    def __getitem__(self, token: int) -> str:
        return self._known[token]


def completion_logprobs(tokens: Sequence[Token], spelling: Spelling, offset: int) -> dict[str, object]:
    """Return the four lists of `/v1/completions`. `offset` is where the first token's text begins in the output."""
    told = [(token, token.logprob) for token in tokens if token.logprob is not None]
    offsets = []
    for token, _ in told:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "text_offset": offsets,
        "token_logprobs": [finite(own.logprob) for _, own in told],
        "tokens": [spelling[token.id] for token, _ in told],
        "top_logprobs": [
            {spelling[each]: finite(value) for each, value in reversed((*own.top, (token.id, own.logprob)))}
            for token, own in told
        ],
    }


def chat_logprobs(tokens: Sequence[Token], spelling: Spelling) -> dict[str, object]:
    """Return the object of `/v1/chat/completions`."""
    content = [
        {
            **_spelled(spelling[token.id], token.logprob.logprob),
            "top_logprobs": [_spelled(spelling[each], value) for each, value in token.logprob.top],
        }
        for token in tokens
        if token.logprob is not None
    ]
    return {"content": content, "refusal": None}


def _spelled(text: str, logprob: float) -> dict[str, object]:
    """Return one token. A part of a character has no bytes to tell here: null."""
    return {"token": text, "logprob": finite(logprob), "bytes": None if BROKEN in text else list(text.encode())}


def finite(logprob: float) -> float:
    """Return a log probability that JSON can say."""
    return max(logprob, LOWEST)
