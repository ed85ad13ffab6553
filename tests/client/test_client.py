"""Rule: a client gets the verify model's own output or a typed error, and whatever it does, nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

import pytest
from stubs import DEADLINE, TOKENIZER, TRUTH, VOCABULARY, Cluster, Held, answer, stubs, until

import amusd_mp
from amusd_mp import Client, Finish, GenerationTimeout, RequestError, SequenceLost, Strategy, TransportError
from amusd_mp.core.messages import Submitted
from amusd_mp.errors import NotReady, TransportClosed
from amusd_mp.testing.stub import Stub, StubModel, decode_alone

PROMPT = "hello"


# ------------------------------------------------------------------------------------------ what comes back


async def test_a_response_is_the_verify_models_and_its_counts_agree(client: Client) -> None:
    result = await client.generate(PROMPT, max_tokens=200, strategy="alternating", timeout=DEADLINE)
    assert result.token_ids == answer(PROMPT, 200)
    assert result.text == TOKENIZER.decode(result.token_ids)
    assert result.finish_reason is Finish.LENGTH
    assert result.prompt_tokens == len(PROMPT)
    stats = result.stats
    assert stats.output_tokens == 200
    assert stats.accepted == sum(token.origin.drafted for token in result.tokens) > 0
    assert stats.accepted == sum(j * times for j, times in enumerate(stats.histogram))
    assert stats.steps == sum(stats.histogram)
    assert stats.accepted + stats.steps + stats.alone == 200
    assert stats.drafted >= stats.proposed >= stats.accepted


async def test_chunks_join_to_the_result(client: Client) -> None:
    text, ids = "", []
    async with client.stream(PROMPT, max_tokens=150, timeout=DEADLINE) as stream:
        async for chunk in stream:
            text += chunk.text
            ids += chunk.token_ids
        result = await stream.result()
    assert tuple(ids) == result.token_ids == answer(PROMPT, 150)
    assert text == result.text


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_every_strategy_gives_the_same_text(client: Client, strategy: Strategy) -> None:
    result = await client.generate(PROMPT, max_tokens=60, strategy=strategy, lookahead=3, timeout=DEADLINE)
    assert result.token_ids == answer(PROMPT, 60)
    if strategy is Strategy.AUTOREGRESSIVE:
        assert result.stats.proposed == 0
    if strategy is Strategy.ALTERNATING:
        assert result.stats.proposed > 0  # under amusd a model that costs nothing may well go on alone


async def test_ids_and_conversations_are_prompts_too(client: Client) -> None:
    ids = TOKENIZER.encode(PROMPT)
    assert (await client.generate(ids, max_tokens=20, timeout=DEADLINE)).token_ids == answer(PROMPT, 20)
    chat = [{"role": "user", "content": "hi"}]
    assert (await client.generate(messages=chat, max_tokens=20, timeout=DEADLINE)).token_ids == answer("user: hi\n", 20)


async def test_a_prompt_of_several_pages_reaches_the_draft(client: Client) -> None:
    prompt = [token % VOCABULARY for token in range(20_000)]  # a page holds 8192
    result = await client.generate(prompt, max_tokens=40, timeout=DEADLINE)
    assert list(result.token_ids) == decode_alone(TRUTH, prompt, 40)


async def test_a_least_length_beyond_what_fits_keeps_no_draft_away() -> None:
    async with Cluster(models=stubs(max_length=64)) as cluster, cluster.client() as client:
        await client.wait_for_draft()
        prompt = list(range(24))
        result = await client.generate(prompt, min_tokens=60, strategy="alternating", timeout=DEADLINE)
    assert list(result.token_ids) == decode_alone(TRUTH, prompt, 40)
    assert result.stats.proposed > 0


async def test_a_reader_may_begin_late(client: Client, cluster: Cluster) -> None:
    async with client.stream(PROMPT, max_tokens=300, timeout=DEADLINE) as stream:
        await until(lambda: cluster.idle, "the end at the nodes")
        assert (await stream.result()).token_ids == answer(PROMPT, 300)


async def test_stop_strings_and_stop_tokens_end_exactly(client: Client) -> None:
    whole = TOKENIZER.decode(answer(PROMPT, 80))
    stop = whole[30:34]
    result = await client.generate(PROMPT, max_tokens=80, stop=stop, timeout=DEADLINE)
    assert result.text == whole[: whole.index(stop)]
    assert result.finish_reason is Finish.STOP
    token = answer(PROMPT, 80)[30]
    result = await client.generate(PROMPT, max_tokens=80, stop_token_ids=[token], timeout=DEADLINE)
    assert result.token_ids == answer(PROMPT, 80)[: answer(PROMPT, 80).index(token) + 1]


async def test_tasks_share_a_client_and_clients_share_a_node(cluster: Cluster, client: Client) -> None:
    async def one(which: Client, prompt: str) -> None:
        result = await which.generate(prompt, max_tokens=80, timeout=DEADLINE)
        assert result.token_ids == answer(prompt, 80)

    async with cluster.client() as other, asyncio.TaskGroup() as tasks:
        for number in range(8):  # twice what the node holds at once: the rest is told Busy, and comes again
            tasks.create_task(one(other if number % 2 else client, f"prompt {number}"))
    assert (await client.status()).finished == 8


async def test_more_samples_than_a_node_holds_follow_one_another(client: Client) -> None:
    results = await client.sample(PROMPT, 10, max_tokens=30)
    assert {result.token_ids for result in results} == {answer(PROMPT, 30)}
    seeds = [result.seed for result in results]
    assert seeds == [(seeds[0] + at) % 2**64 for at in range(10)]
    with pytest.raises(RequestError, match="n=0"):
        await client.sample(PROMPT, 0)


async def test_samples_that_find_the_tokenizers_queue_full_follow_too(alone: Client) -> None:
    many = (await alone.status()).max_sequences + 100  # far more at once than may wait to be read
    results = await alone.sample(PROMPT, many, max_tokens=2)
    assert {result.token_ids for result in results} == {answer(PROMPT, 2)}


async def test_a_stream_outside_its_block_says_so_instead_of_waiting(client: Client, cluster: Cluster) -> None:
    stream = client.stream(PROMPT, timeout=DEADLINE)
    with pytest.raises(RuntimeError, match="enter the stream before reading it"):
        await anext(stream)
    async with stream:
        await anext(stream)
        with pytest.raises(RuntimeError, match="entered once"):
            await stream.__aenter__()
    with pytest.raises(RuntimeError, match="left before its response was finished"):
        await stream.result()
    await until(lambda: cluster.idle)
    async with client.stream(PROMPT, max_tokens=3, timeout=DEADLINE) as finished:
        async for _ in finished:
            pass
    assert (await finished.result()).token_ids == answer(PROMPT, 3)


# ------------------------------------------------------------------------------------------ leaving early


async def test_leaving_the_loop_ends_the_sequence_on_both_nodes(client: Client, cluster: Cluster) -> None:
    async with client.stream(PROMPT) as stream:
        async for _ in stream:
            break
    await until(lambda: cluster.idle)
    assert (await client.status()).sequences == 0


async def test_cancelling_the_task_ends_the_sequence_on_both_nodes(client: Client, cluster: Cluster) -> None:
    task = asyncio.create_task(client.generate(PROMPT))
    await until(lambda: not cluster.idle)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: cluster.idle)


async def test_a_timeout_carries_what_had_arrived_and_ends_the_sequence(client: Client, cluster: Cluster) -> None:
    with pytest.raises(GenerationTimeout, match=r"not finished within 1 s") as caught:
        await client.generate(PROMPT, timeout=1)
    ids = caught.value.token_ids
    assert ids
    assert ids == answer(PROMPT, len(ids))
    assert caught.value.text == TOKENIZER.decode(ids)
    await until(lambda: cluster.idle)


async def test_cancelling_while_submitting_leaves_nothing(client: Client, cluster: Cluster) -> None:
    for turn in range(20):
        task = asyncio.create_task(client.generate(PROMPT))
        for _ in range(turn):  # as many turns of the loop further each time
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until(lambda: cluster.idle and not client._board._to_cancel)


async def test_closing_a_client_ends_its_streams_and_sequences(cluster: Cluster) -> None:
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(cluster.client())
        reading = asyncio.create_task(client.generate(PROMPT))
        await until(lambda: not cluster.idle)
        await stack.aclose()
        with pytest.raises(SequenceLost, match="client was closed"):
            await reading
    await until(lambda: cluster.idle)
    with pytest.raises(TransportClosed):
        await client.generate(PROMPT)


async def test_what_the_callers_code_raises_leaves_as_it_is(cluster: Cluster) -> None:
    both = ExceptionGroup("mine", [ValueError(1), KeyError(2)])
    with pytest.raises(ExceptionGroup) as caught:
        async with cluster.client():
            raise both
    assert caught.value is both


async def test_what_the_callers_code_raises_keeps_its_cause(cluster: Cluster) -> None:
    cause = KeyError("the reason")
    with pytest.raises(ValueError, match="mine") as caught:
        async with cluster.client():
            raise ValueError("mine") from cause
    assert caught.value.__cause__ is cause


async def test_no_task_thread_or_descriptor_is_left() -> None:
    async def visit() -> None:
        async with Cluster() as cluster, cluster.client() as client:
            await client.generate(PROMPT, max_tokens=5, timeout=DEADLINE)
            async with client.stream(PROMPT) as stream:
                await anext(stream)

    def left() -> tuple[int, int, list[str]]:
        tasks = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        return len(os.listdir("/proc/self/fd")), threading.active_count(), tasks

    await visit()  # what is made once per process
    await until(lambda: not left()[2])
    before = left()
    await visit()
    await until(
        lambda: all(now <= then for now, then in zip(left(), before, strict=True)), "everything to be released"
    )  # less is fine: a thread of the first visit may have been about to end


# ------------------------------------------------------------------------------------------ the other side ends


async def test_a_drain_finishes_what_runs_and_takes_nothing_new() -> None:
    truth = Held(TRUTH, 4, VOCABULARY)
    try:
        async with Cluster(0, models={"truth": lambda: Stub.of(truth)}) as cluster, cluster.client() as client:
            async with client.stream(PROMPT, max_tokens=50) as stream:
                assert await client.drain() == 1
                with pytest.raises(NotReady, match="draining"):
                    await client.generate(PROMPT)
                again = await client._link.call(stream.submit, Submitted)  # as when its first reply was lost
                assert again.sequence == stream.submit.sequence
                truth.go.set()
                assert (await stream.result()).token_ids == answer(PROMPT, 50)
            await cluster.ended("verify")
    finally:
        truth.go.set()


async def test_a_node_that_fails_tells_its_streams() -> None:
    class Broken(StubModel):
        def run(self, step):  # type: ignore[no-untyped-def]
            if self.steps:
                raise RuntimeError("device lost")
            return super().run(step)

    models = {"truth": lambda: Stub.of(Broken(TRUTH, 4, VOCABULARY))}
    async with Cluster(0, models=models) as cluster, cluster.client() as client:
        with pytest.raises(SequenceLost, match="failed") as caught:
            await client.generate(PROMPT, timeout=DEADLINE)
        assert caught.value.token_ids == answer(PROMPT, 1)
        with pytest.raises(RuntimeError, match="device lost"):
            await cluster.ended("verify")


async def test_the_next_life_of_a_node_is_used_by_the_same_client(client: Client, cluster: Cluster) -> None:
    async with client.stream(PROMPT) as stream:
        await anext(stream)
        before = client.incarnation
        await cluster.cut("verify")
        with pytest.raises(SequenceLost) as caught:
            await stream.result()
        ids = caught.value.token_ids
        assert ids
        assert ids == answer(PROMPT, len(ids))
    await cluster.start("verify")
    await until(lambda: client.incarnation != before)
    assert (await client.generate(PROMPT, max_tokens=30, timeout=DEADLINE)).token_ids == answer(PROMPT, 30)
    await client.wait_for_draft()  # the draft found the new life, too


async def test_nobody_answering_is_one_clear_error_within_the_deadline() -> None:
    with pytest.raises(TransportError, match=r"inproc://nobody within 0.3 s; is it running"):
        async with amusd_mp.connect("inproc://nobody", timeout=0.3):
            pass
