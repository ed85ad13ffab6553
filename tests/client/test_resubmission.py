"""Rule: a response whose verify node dies anywhere reads, with `resubmit`, exactly as if nothing had happened.

The real nodes and client in virtual time (`interrupted`). Stop strings lie across tokens.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from interrupted import (
    PROMPT,
    TOKENS,
    Deployment,
    check_counts,
    interrupted,
    play,
    seen,
)

from amusd_mp import Client, Finish, GenerationTimeout, OperationalError, RequestError, SequenceLost
from amusd_mp.testing.simulation.network import Weather

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
