"""A deployment in virtual time whose verify node dies and comes back, and a client that asks it to go on.

The stub's next token hangs on all that a resubmission must keep: every token before it, where the prompt ends, the seed
and every other parameter; its letters are halves of characters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

from writer import Writer

from amusd_mp import Client, GenerationResult
from amusd_mp.core.messages import Origin
from amusd_mp.core.step import Block, Picked, TokenLogprob
from amusd_mp.testing.cluster import deployment
from amusd_mp.testing.simulation.loop import run
from amusd_mp.testing.simulation.network import Network, Weather
from amusd_mp.testing.simulation.story import Nodes
from amusd_mp.testing.simulation.surroundings import VirtualRuntime
from amusd_mp.testing.stub import Stub, StubModel, hash_rule

PIECES = (
    b"a", b"b", b"ab", b"bca", b"", b"c a", "é".encode()[:1], "é".encode()[1:],
    "漢".encode()[:1], "漢".encode()[1:2], "漢".encode()[2:], "👍".encode()[:2], "👍".encode()[2:],
)  # fmt: skip
PROMPT = (1, 2, 3, 4, 5)
TOKENS = 150
"""Output tokens: more than two windows of 64."""


FAIR = Weather(delay=(0.001, 0.001))


class Pieces:
    """A tokenizer that writes PIECES; its template begins with a date."""

    def __init__(self, date: str = "1") -> None:
        self._date = date

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(ord(letter) % len(PIECES) for letter in text)

    def encode_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        return self.encode(self._date + "".join(content for _, content in messages))

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(PIECES[token] for token in ids).decode("utf-8", "replace")

    def detokenizer(self, prompt: Sequence[int]) -> Writer:
        return Writer(PIECES)


class Particular(StubModel):
    """Its token hangs on the prefix, the prompt's length and the parameters; a wrong one on a share of prefixes."""

    def __init__(self, wrong: float = 0.0, **card: Any) -> None:
        super().__init__(hash_rule(len(PIECES)), 2, len(PIECES), seconds=0.01)
        self._card = replace(self._card, **card)
        self._wrong = wrong

    def _feed(self, block: Block, runners_up: int) -> Picked:
        held = self.cache[block.row]
        picked = super()._feed(block, runners_up)
        first = len(held) - len(picked.tokens) + 1
        tokens = tuple(self._after(held[: first + at], block) for at in range(len(picked.tokens)))
        told = tuple(
            TokenLogprob(-(first + at) - token / 100, ((token, -first / 2),)) for at, token in enumerate(tokens)
        )
        return Picked(tokens, told if block.params.logprobs is not None else None)

    def _after(self, prefix: Sequence[int], block: Block) -> int:
        params = replace(block.params, max_tokens=None)
        mixed = crc32(repr((tuple(prefix), block.prompt_length, params)).encode())
        return (mixed + (mixed // 100 % 1000 < 1000 * self._wrong)) % len(PIECES)


class Deployment:
    """A verify node, a draft that is wrong now and then, and what may happen to them."""

    def __init__(self, weather: Weather) -> None:
        self.network = Network("resubmission", weather)
        self.runtime = VirtualRuntime("resubmission")
        self.card: dict[str, Any] = {}
        self.date = "1"
        models = {
            "truth": lambda: Stub(Particular(**self.card), Pieces(self.date)),
            "guess": lambda: Stub(Particular(0.3), Pieces()),
        }
        self.nodes = Nodes(deployment("truth", ["guess"], url="inproc://resubmission"), models, runtime=self.runtime)
        self.nodes.network = self.network

    async def die(self, quietly: bool = True) -> None:
        if quietly:
            self.network.crash("verify")
        await self.nodes.cut("verify")

    async def be_back(self, after: float = 0.3) -> None:
        await asyncio.sleep(after)
        await self.nodes.start("verify")


def play(story: Any, weather: Weather = FAIR) -> Any:
    async def within() -> Any:
        made = Deployment(weather)
        with made.network.open():
            async with made.nodes:
                with made.network.being("client"):
                    async with made.nodes.connect(runtime=VirtualRuntime("client")) as client:
                        await client.wait_for_draft()
                        return await story(made, client)

    return run(within(), until=2000.0)


async def interrupted(made: Deployment, client: Client, *after: int, **options: Any) -> GenerationResult:
    """Return a response whose verify node dies whenever that many tokens have been handed out; check its chunks."""
    waiting, losses = list(after), 0
    text, ids = "", []
    async with asyncio.TaskGroup() as tasks, client.stream(PROMPT, resubmit=True, **options) as stream:
        if waiting[:1] == [0]:
            waiting.pop(0)
            losses += 1
            await made.die()
            tasks.create_task(made.be_back())
        async for chunk in stream:
            text += chunk.text
            ids += chunk.token_ids
            if waiting and len(ids) >= waiting[0]:
                waiting.pop(0)
                losses += not stream._replica.complete  # a chunk may have been the last
                await made.die(quietly=len(ids) % 2 == 0)
                tasks.create_task(made.be_back())
        result = await stream.result()
    assert (text, tuple(ids)) == (result.text, result.token_ids)
    assert result.resubmissions == losses
    return result


def seen(result: GenerationResult) -> tuple[object, ...]:
    """Return all of a response that does not hang on timing."""
    tokens = tuple((token.id, token.text, token.logprob) for token in result.tokens)
    stats = (result.stats.prompt_tokens, result.stats.output_tokens)
    return result.text, tokens, result.finish_reason, result.prompt_tokens, result.seed, stats


def check_counts(result: GenerationResult) -> None:
    stats, origins = result.stats, [token.origin for token in result.tokens]
    assert stats.accepted == origins.count(Origin.ACCEPTED) == sum(j * n for j, n in enumerate(stats.histogram))
    assert stats.steps == sum(stats.histogram)
    assert stats.alone == origins.count(Origin.ALONE)
    assert stats.drafted >= stats.proposed >= stats.accepted
