"""Rule: log probabilities, cached prefixes and numbers of a response are what they are said to be, over real nodes.

The bundled pair on the real nodes inside this process; the truth is a plain forward pass by transformers, or the
verify model alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
import torch
from exactness import Reference, prompts
from pair import DEADLINE, Pair
from sampled import Alone

from amusd_mp import Client, Finish, GenerationResult
from amusd_mp.core.messages import Origin
from amusd_mp.core.params import GenerationParams
from amusd_mp.core.rows import common_prefix

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT, QUESTION = prompts(1)
EOS = 0
ROUNDS: dict[str, Any] = {"strategy": "alternating", "lookahead": 4, "timeout": DEADLINE}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


@pytest.fixture(scope="module")
def alone() -> Alone:
    return Alone()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    async with Pair() as pair:
        yield pair


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(pair: Pair) -> AsyncIterator[Client]:
    async with pair.connect() as client:
        await pair.only(client, "draft-0")
        yield client


# ------------------------------------------------------------------------------------------ log probabilities

HOT = {"temperature": 0.8, "seed": 4, "top_k": 5, "repetition_penalty": 1.3, "logit_bias": {220: 2.0}}


def check_logprobs(reference: Reference, prompt: Sequence[int], result: GenerationResult, top: int) -> None:
    """Compare with the log-softmax of the raw logits before each token."""
    ids = [*prompt, *result.token_ids]
    with torch.inference_mode():
        logits = reference.net(input_ids=torch.tensor([ids[:-1]])).logits[0, len(prompt) - 1 :].float()
    truth = logits.log_softmax(-1)
    for token, row in zip(result.tokens, truth, strict=True):
        assert token.logprob is not None
        assert token.logprob.logprob == pytest.approx(float(row[token.id]), abs=1e-3)
        values = [value for _, value in token.logprob.top]
        assert values == pytest.approx(row.topk(top).values.tolist(), abs=1e-3)
        assert values == pytest.approx([float(row[each]) for each, _ in token.logprob.top], abs=1e-3)
        assert len({each for each, _ in token.logprob.top}) == top


@pytest.mark.parametrize("options", [HOT, {"temperature": 0.0, "frequency_penalty": 1.0}], ids=["sampled", "greedy"])
async def test_logprobs_are_the_verify_models_before_anything_is_done_to_them(
    client: Client, reference: Reference, options: dict[str, Any]
) -> None:
    result = await client.generate(TEXT, max_tokens=40, logprobs=3, **options, **ROUNDS)
    assert result.stats.accepted > 0
    check_logprobs(reference, reference.encode(TEXT), result, 3)


async def test_logprobs_stay_aligned_at_a_stop_and_without_alternatives(client: Client, reference: Reference) -> None:
    whole = await client.generate(TEXT, max_tokens=40, **HOT, **ROUNDS)
    stop = whole.text[60:63]
    for asked in (3, 0):
        result = await client.generate(TEXT, max_tokens=40, logprobs=asked, stop=stop, **HOT, **ROUNDS)
        assert (result.finish_reason, result.text) == (Finish.STOP, whole.text[: whole.text.index(stop)])
        check_logprobs(reference, reference.encode(TEXT), result, asked)
    assert whole.tokens[0].logprob is None


async def test_logprobs_come_whole_through_pages_alone(
    client: Client, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that hears no publication asks page by page."""
    monkeypatch.setattr("amusd_mp.core.verify_sequence.PAGE_LOGPROBS", 7)
    async with client.stream(TEXT, max_tokens=40, logprobs=2, **HOT, **ROUNDS) as stream:
        stream.hear = lambda window: None  # type: ignore[method-assign]
        result = await stream.result()
    check_logprobs(reference, reference.encode(TEXT), result, 2)
    assert result.token_ids == (await client.generate(TEXT, max_tokens=40, **HOT, **ROUNDS)).token_ids


# ------------------------------------------------------------------------------------------ conversations


async def test_a_second_turn_feeds_only_what_is_new_and_reads_as_a_fresh_run(
    pair: Pair, client: Client, alone: Alone
) -> None:
    tokenizer = alone.loaded.tokenizer
    turns = [("user", QUESTION)]
    held: tuple[int, ...] = ()
    options: dict[str, Any] = {"temperature": 0.7, "seed": 12, "max_tokens": 40}
    for number in range(3):
        prompt = tokenizer.encode_chat(turns)
        known = common_prefix(held, prompt)
        before = len(pair.watched.blocks)
        messages = [{"role": role, "content": content} for role, content in turns]
        result = await client.generate(messages=messages, **options, **ROUNDS)
        assert result.stats.cached == known
        assert result.token_ids == alone.write(prompt, GenerationParams(**options))
        fed = [block.tokens for block in pair.watched.blocks[before:] if block.start < len(prompt)]
        assert sum(map(len, fed)) == len(prompt) - known, "only what is new was computed"
        if number:
            assert known >= len(tokenizer.encode_chat(turns[:-2])), "the whole turn before was there"
        held = (*prompt, *result.token_ids[:-1])
        turns += [("assistant", result.text), ("user", "And why is that?")]
        if number == 1:  # another conversation in between takes another row
            await client.generate(messages=[{"role": "user", "content": "Who are you?"}], **options, **ROUNDS)


# ------------------------------------------------------------------------------------------ numbers


def check_numbers(result: GenerationResult) -> bool:
    """Recount a response from its tokens; return whether every rejection was heard, so that proposals were counted."""
    steps = proposed = accepted = alone = run = 0
    histogram: Counter[int] = Counter()
    heard = True
    for at, token in enumerate(result.tokens):
        if token.origin is Origin.ALONE:
            alone += 1
            continue
        last = at == len(result.tokens) - 1
        run += token.origin is Origin.ACCEPTED
        if token.origin is not Origin.ACCEPTED or last:
            steps += 1
            histogram[run] += 1
            accepted += run
            proposed += run
            if token.origin is Origin.RECOVERED:
                heard &= bool(token.rejected) or last
                proposed += max(1, len(token.rejected))
            run = 0
    stats, told = result.stats, result.speculative_decoding
    assert (stats.output_tokens, stats.steps, stats.accepted, stats.alone) == (
        len(result.tokens), steps, accepted, alone,
    )  # fmt: skip
    assert stats.histogram == tuple(histogram[j] for j in range(max(histogram, default=-1) + 1))
    assert (told.num_spec_steps, told.num_accepted_draft_tokens, told.num_draft_tokens) == (
        stats.steps, stats.accepted, stats.proposed,
    )  # fmt: skip
    assert told.acceptance_histogram == stats.histogram
    assert told.mean_acceptance_length == (1 + stats.accepted / stats.steps if stats.steps else None)
    assert told.draft_acceptance_rate == (stats.accepted / stats.proposed if stats.proposed else None)
    assert told.wasted == stats.drafted - stats.proposed >= 0
    assert 0 <= told.overlap <= 1
    assert not told.degraded
    assert stats.proposed == proposed or not heard
    return heard


async def test_numbers_are_exact_at_every_stop(client: Client, alone: Alone) -> None:
    hot: dict[str, Any] = {"temperature": 0.7, "seed": 3}
    whole = await client.generate(TEXT, max_tokens=48, **hot, **ROUNDS)
    long = alone.loaded.tokenizer.encode(TEXT * 20)[:1000]
    requests: list[tuple[Any, dict[str, Any], Finish]] = [
        (TEXT, {"max_tokens": 1}, Finish.LENGTH),
        (TEXT, {"max_tokens": 2}, Finish.LENGTH),
        (TEXT, {"max_tokens": 48}, Finish.LENGTH),
        (long, {}, Finish.LENGTH),  # the context's end
        *((TEXT, {"max_tokens": 48, "stop": whole.text[at : at + 3]}, Finish.STOP) for at in range(10, 100, 10)),
        *((TEXT, {"max_tokens": 48, "stop_token_ids": [id]}, Finish.STOP) for id in whole.token_ids[5:40:5]),
        *((TEXT, {"seed": seed, "temperature": 1.0, "logit_bias": {EOS: 18.0}}, Finish.STOP) for seed in range(8)),
        *((TEXT, {"max_tokens": 48, "strategy": way, "lookahead": 16}, Finish.LENGTH)
          for way in ("amusd", "autoregressive")),
    ]  # fmt: skip
    before = await client.status()
    results = await asyncio.gather(
        *(client.generate(prompt, **{**hot, **ROUNDS, **options}) for prompt, options, _ in requests)
    )
    after = await client.status()
    assert [result.finish_reason for result in results] == [finish for _, _, finish in requests]
    assert len(results[3].tokens) == 24
    assert all(result.token_ids[-1] == EOS for result in results[20:28])
    heard = [check_numbers(result) for result in results]
    assert sum(heard) > len(heard) // 2, "most streams hear every publication"
    assert any(result.tokens[-1].origin is Origin.ACCEPTED for result in results), "some stop inside an accepted block"
    assert after.finished - before.finished == len(results)
    assert after.output_tokens - before.output_tokens == sum(len(result.tokens) for result in results)


async def test_samples_of_one_prompt_use_seeds_in_a_row(client: Client, alone: Alone) -> None:
    first = (1 << 64) - 2
    options: dict[str, Any] = {"temperature": 1.0, "max_tokens": 12}
    results = await client.sample(TEXT, 4, seed=first, **options, **ROUNDS)
    prompt = alone.loaded.tokenizer.encode(TEXT)
    assert [result.seed for result in results] == [first, first + 1, 0, 1]
    for result in results:
        assert result.token_ids == alone.write(prompt, GenerationParams(seed=result.seed, **options))
    drawn = await client.sample(TEXT, 2, **options, **ROUNDS)
    again = await client.sample(TEXT, 2, seed=drawn[0].seed, **options, **ROUNDS)
    assert [each.token_ids for each in again] == [each.token_ids for each in drawn]
