"""Rule: a request runs once, and one that cannot run is refused with the parameter at fault."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from stubs import DEADLINE, TRUTH, VOCABULARY, Cluster, Held, answer, stubs, until

from amusd_mp import Busy, Client, Finish, RequestError, SequenceLost
from amusd_mp.core.messages import Cancel, Cancelled, Submit, Submitted
from amusd_mp.core.params import GenerationParams
from amusd_mp.testing.stub import Stub

PROMPT = "hello"


# ------------------------------------------------------------------------------------------ requests, once


def submit(client: Client, name: str, text: str = PROMPT) -> Submit:
    return Submit(name, client.incarnation, client._link.sender.incarnation, GenerationParams(max_tokens=5), text=text)


async def test_the_same_request_runs_once(alone: Client) -> None:
    wanted = submit(alone, "twice")
    replies = await asyncio.gather(*(alone._link.call(wanted, Submitted) for _ in range(5)))
    assert len(set(replies)) == 1
    await until(lambda: _finished(alone, 1))
    assert await alone._link.call(wanted, Submitted) == replies[0]
    assert (await alone.status()).finished == 1


async def _finished(client: Client, count: int) -> bool:
    return (await client.status()).finished == count


async def test_the_same_id_for_another_request_is_refused(alone: Client) -> None:
    await alone._link.call(submit(alone, "mine"), Submitted)
    with pytest.raises(RequestError, match="already used for another request"):
        await alone._link.call(submit(alone, "mine", "other"), Submitted)


async def test_a_cancelled_id_is_refused_when_its_submit_comes_late(alone: Client) -> None:
    reply = await alone._link.call(Cancel("late", alone.incarnation), Cancelled)
    assert not reply.known
    with pytest.raises(RequestError, match="cancelled before it arrived"):
        await alone._link.call(submit(alone, "late"), Submitted)


async def test_a_request_for_another_life_is_refused(alone: Client) -> None:
    with pytest.raises(SequenceLost, match="was restarted"):
        await alone._link.call(replace(submit(alone, "old"), verify="another"), Submitted)


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [VOCABULARY]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": b"bytes"}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": [1 << 70]}, "prompt"),
        ({"prompt": "half a pair \ud800"}, "prompt"),
        ({"prompt": "x" * 600_000}, "prompt"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages"),
        ({"messages": []}, "prompt"),
        ({"prompt": PROMPT, "max_tokens": 0}, "max_tokens"),
        ({"prompt": PROMPT, "max_tokens": "many"}, "max_tokens"),
        ({"prompt": PROMPT, "temperature": -1.0}, "temperature"),
        ({"prompt": PROMPT, "temperature": float("nan")}, "temperature"),
        ({"prompt": PROMPT, "seed": -1}, "seed"),
        ({"prompt": PROMPT, "logprobs": 1000}, "logprobs"),
        ({"prompt": PROMPT, "stop": ["x"] * 99}, "stop"),
        ({"prompt": PROMPT, "top_p": 0.0}, "top_p"),
        ({"prompt": PROMPT, "min_p": 2.0}, "min_p"),
        ({"prompt": PROMPT, "stop": [""]}, "stop"),
        ({"prompt": PROMPT, "stop_token_ids": [VOCABULARY]}, "stop_token_ids"),
        ({"prompt": PROMPT, "logit_bias": {VOCABULARY: 1.0}}, "logit_bias"),
        ({"prompt": PROMPT, "repetition_penalty": 0.0}, "repetition_penalty"),
        ({"prompt": PROMPT, "lookahead": 0}, "lookahead"),
        ({"prompt": PROMPT, "strategy": "sideways"}, "strategy"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_bad_request_is_answered_with_its_parameter(
    alone: Client, arguments: dict[str, object], parameter: str
) -> None:
    with pytest.raises(RequestError) as caught:
        await alone.generate(**arguments)  # type: ignore[arg-type]
    assert caught.value.parameter == parameter
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert (await alone.status()).sequences == 0


async def test_a_prompt_that_is_too_long_is_told_the_limit() -> None:
    async with Cluster(models=stubs(max_length=16)) as cluster, cluster.client() as client:
        with pytest.raises(RequestError, match=r"the prompt has 16 tokens, but stub takes at most 15 here"):
            await client.generate("x" * 16)
        assert (await client.generate("x" * 15, max_tokens=9, timeout=DEADLINE)).finish_reason is Finish.LENGTH


async def test_a_full_node_says_busy_and_when_to_come_again() -> None:
    truth = Held(TRUTH, 1, VOCABULARY)
    try:
        async with Cluster(0, models={"truth": lambda: Stub.of(truth)}) as cluster, cluster.client() as client:
            async with client.stream(PROMPT, max_tokens=5) as first:
                with pytest.raises(Busy, match="max_sequences") as caught:
                    await client.generate(PROMPT)
                assert caught.value.retry_after > 0
                second = asyncio.create_task(client.generate(PROMPT, max_tokens=5, timeout=DEADLINE))
                await until(lambda: _refused(client, 2))
                truth.go.set()
                assert (await first.result()).token_ids == answer(PROMPT, 5)
            assert (await second).token_ids == answer(PROMPT, 5)
    finally:
        truth.go.set()


async def _refused(client: Client, times: int) -> bool:
    return dict((await client.status()).counters).get("refused_busy", 0) >= times
