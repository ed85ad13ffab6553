"""Rule: a response whose verify node dies anywhere reads, with `resubmit`, exactly as if nothing had happened.

The real nodes and client in virtual time. The stub's next token hangs on all that a resubmission must keep: every token
before it, where the prompt ends, the seed and every other parameter; its letters are halves of characters, and its
stop strings lie across tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import pytest
from writer import Writer

from amusd_mp import Client, Finish, GenerationResult, GenerationTimeout, OperationalError, RequestError, SequenceLost
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


GREEDY: dict[str, Any] = {"max_tokens": TOKENS, "seed": 5}
SAMPLED: dict[str, Any] = {
    "max_tokens": TOKENS, "min_tokens": 20, "temperature": 0.7, "top_k": 5, "seed": 9, "logprobs": 1,
    "presence_penalty": 0.5, "frequency_penalty": 0.25, "repetition_penalty": 1.2, "logit_bias": {3: 1.0},
    "stop": ["bcabcabca", "\ufffdab\ufffdca", "a漢bca"], "stop_token_ids": [], "show_rejected": True,
}  # fmt: skip
CUTS = {"autoregressive": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 64, 65, 66, 128, 149), "amusd": (0, 3, 40, 66, 130)}


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("strategy", CUTS)
def test_a_response_lost_after_any_number_of_tokens_goes_on_unchanged(options: dict[str, Any], strategy: str) -> None:
    async def story(made: Deployment, client: Client) -> None:
        asked = {**options, "strategy": strategy}
        whole = await client.generate(PROMPT, **asked)
        assert len(whole.tokens) > 100
        for after in CUTS[strategy]:
            result = await interrupted(made, client, after, **asked)
            assert seen(result) == seen(whole), after
            check_counts(result)
        assert seen(await interrupted(made, client, 10, 20, 90, **asked)) == seen(whole)

    play(story)


def test_a_stop_string_that_the_loss_lies_in_is_still_found() -> None:
    async def story(made: Deployment, client: Client) -> None:
        whole = await client.generate(PROMPT, max_tokens=TOKENS, seed=5)
        ends = [sum(len(token.text) for token in whole.tokens[: at + 1]) for at in range(TOKENS)]
        found = 0
        for at in range(70, 82):
            start = ends[at] - 1
            stop = whole.text[start : start + 4]
            if start < 0 or whole.text.index(stop) != start:
                continue
            asked = {"max_tokens": TOKENS, "seed": 5, "strategy": "autoregressive", "stop": stop}
            expected = await client.generate(PROMPT, **asked)
            if expected.finish_reason is not Finish.STOP or len(expected.tokens) < 3:
                continue  # the parameters are part of what the text hangs on
            found += 1
            for before in (1, 2):
                result = await interrupted(made, client, len(expected.tokens) - before, **asked)
                assert seen(result) == seen(expected)
        assert found

    play(story)


def test_what_was_known_by_sync_alone_goes_on_as_well() -> None:
    """Most publications are lost, so tokens come in pages, and the next life's windows begin far behind."""

    async def story(made: Deployment, client: Client) -> None:
        whole = await client.generate(PROMPT, **SAMPLED)
        for after in (5, 66, 120):
            assert seen(await interrupted(made, client, after, **SAMPLED)) == seen(whole)

    play(story, Weather(drop=0.15, delay=(0.001, 0.02), duplicate=0.2))


def test_texts_and_conversations_are_resubmitted_as_they_are() -> None:
    async def story(made: Deployment, client: Client) -> None:
        for prompt, more in (("hello", {}), (None, {"messages": [{"role": "user", "content": "hello"}]})):
            whole = await client.generate(prompt, max_tokens=80, seed=1, **more)  # type: ignore[arg-type]
            async with client.stream(prompt, max_tokens=80, seed=1, resubmit=True, **more) as stream:  # type: ignore[arg-type]
                await anext(stream)
                await made.die()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(made.be_back())
                    assert seen(await stream.result()) == seen(whole)

    play(story)


# ------------------------------------------------------------------------------------------ where it may not be


def test_without_the_option_a_loss_is_a_loss() -> None:
    async def story(made: Deployment, client: Client) -> None:
        async with client.stream(PROMPT, **GREEDY) as stream:
            await anext(stream)
            await made.die()
            await made.be_back()
            with pytest.raises(SequenceLost) as lost:
                await stream.result()
            assert lost.value.token_ids

    play(story)


def test_nobody_coming_back_is_told_in_time_with_what_had_arrived_and_again_when_asked_again() -> None:
    async def story(made: Deployment, client: Client) -> None:
        async with client.stream(PROMPT, resubmit=3, **GREEDY) as stream:
            first = await anext(stream)
            await made.die()
            began = made.runtime.now()
            for _ in range(2):
                with pytest.raises(SequenceLost, match=r"no longer|gone|nobody|silent") as lost:
                    await stream.result()
                assert lost.value.token_ids[: len(first.tokens)] == first.token_ids
            assert made.runtime.now() - began < 12
        async with asyncio.timeout(30):
            with pytest.raises(Exception, match=r"nobody answers|silent"):
                await client.status(timeout=1.0)

    play(story)


def test_the_timeout_is_that_of_the_whole_response() -> None:
    async def story(made: Deployment, client: Client) -> None:
        async with client.stream(PROMPT, resubmit=True, timeout=2.0, **GREEDY) as stream:
            await anext(stream)
            began = made.runtime.now()
            await made.die()
            with pytest.raises((GenerationTimeout, SequenceLost)):
                await stream.result()
            assert made.runtime.now() - began < 2.1

    play(story)


def test_another_model_does_not_go_on_with_the_text_of_the_first() -> None:
    async def story(made: Deployment, client: Client) -> None:
        async with client.stream(PROMPT, resubmit=True, **GREEDY) as stream:
            await anext(stream)
            await made.die()
            made.card = {"dtype": "float8"}
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(made.be_back())
                with pytest.raises(SequenceLost, match="came back with another model: dtype is 'float8', was 'none'"):
                    await stream.result()

    play(story)


def test_nor_does_a_template_that_reads_the_conversation_otherwise() -> None:
    async def story(made: Deployment, client: Client) -> None:
        messages = [{"role": "user", "content": "hello"}]
        async with client.stream(messages=messages, resubmit=True, **GREEDY) as stream:
            await anext(stream)
            await made.die()
            made.date = "2"  # of the same length, as a date in a template is
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(made.be_back())
                with pytest.raises(SequenceLost, match="reads the prompt otherwise: another tokenizer or template"):
                    await stream.result()

    play(story)


def test_a_request_that_ends_every_life_is_not_resubmitted_for_ever() -> None:
    async def story(made: Deployment, client: Client) -> None:
        lives = 0

        async def begin_and_die() -> None:
            nonlocal lives
            while True:
                await made.be_back()
                lives += 1
                while not made.nodes.nodes["verify"]._core.live:  # type: ignore[attr-defined]  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                await made.die()

        async with client.stream(PROMPT * 100, resubmit=True, **GREEDY) as stream:
            await made.die()
            dying = asyncio.create_task(begin_and_die())
            with pytest.raises(SequenceLost):
                await stream.result()
            dying.cancel()
            await asyncio.wait([dying])
        assert 2 <= lives <= 4

    play(story)


def test_a_reader_whose_wait_is_cancelled_may_read_on() -> None:
    async def story(made: Deployment, client: Client) -> None:
        whole = await client.generate(PROMPT, **GREEDY)
        async with client.stream(PROMPT, resubmit=True, **GREEDY) as stream:
            await anext(stream)
            await made.die()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(made.be_back(5.0))
                for _ in range(20):
                    try:
                        async with asyncio.timeout(0.4):
                            result = await stream.result()
                            break
                    except TimeoutError:
                        pass
                else:
                    result = await stream.result()
            assert seen(result) == seen(whole)

    play(story)


def test_leaving_while_it_is_resubmitted_leaves_nothing() -> None:
    async def story(made: Deployment, client: Client) -> None:
        async with client.stream(PROMPT, resubmit=True, **GREEDY) as stream:
            await anext(stream)
            await made.die()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.4):
                    await stream.result()
            await made.be_back()
        async with asyncio.timeout(15):
            while any(_held(node) for node in made.nodes.nodes.values()):  # noqa: ASYNC110  # nodes tell nobody
                await asyncio.sleep(0.1)

    play(story)


def _held(node: Any) -> Any:
    return node._core.live if hasattr(node._core, "live") else node._core.sequences


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan"), "yes"])
def test_what_is_no_time_is_refused(value: Any) -> None:
    async def story(made: Deployment, client: Client) -> None:
        with pytest.raises(RequestError, match="resubmit="):
            client.stream(PROMPT, resubmit=value)

    play(story)


# ------------------------------------------------------------------------------------------ before it is admitted


def test_a_request_for_a_life_that_has_ended_goes_to_the_next_one_by_itself() -> None:
    async def story(made: Deployment, client: Client) -> None:
        before = client.incarnation
        await made.die()
        await made.be_back(0.0)
        assert client.incarnation == before, "the client has not heard of it yet"
        result = await client.generate(PROMPT, max_tokens=20)
        assert client.incarnation != before
        assert (len(result.tokens), result.resubmissions) == (20, 0)

    play(story)


def test_one_that_is_never_taken_ends_by_the_deadline_of_a_request() -> None:
    async def story(made: Deployment, client: Client) -> None:
        await made.die()
        began = made.runtime.now()
        with pytest.raises(OperationalError, match=r"nobody|restarted|loading"):
            await client.generate(PROMPT, max_tokens=20)
        assert made.runtime.now() - began < 7

    play(story)
