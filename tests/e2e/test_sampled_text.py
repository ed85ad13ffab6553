"""Rule: a sampled text is the verify model's own sample for its seed, whatever the draft, the strategy and the company.

The truth is the verify model alone in this process, one token at a time, by the same choice; a near-tie between the
two best noisy scores has a chance of about one in 100,000 a token in float32, and none is met by these seeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from exactness import deployment, prompts

from amusd_mp import Client, GenerationResult, LocalCluster
from amusd_mp.core.model import ModelSpec
from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block, Step
from amusd_mp.engine.loading import LoadedModel, load

NEW_TOKENS = 32
TEXTS = prompts(1)
REQUESTS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.7, "seed": 11},
    {"temperature": 1.0, "seed": (1 << 64) - 1, "top_p": 0.9, "top_k": 100},
    {"temperature": 0.8, "seed": 5, "min_p": 0.02, "repetition_penalty": 1.2, "presence_penalty": 0.3, "logprobs": 2},
    {"temperature": 0.0, "seed": 5, "frequency_penalty": 0.4, "min_tokens": 30, "logit_bias": {50: 1.5}},
)
DRAFTS: dict[str, dict[str, Any]] = {"own": {}, "arg-max": {"draft_temperature": 0.0}}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def truth() -> dict[tuple[int, int], list[int]]:
    """The output of every (request, prompt) by the verify model alone."""
    verify = load(ModelSpec("bundled:verify", dtype="float32", max_sequences=1, max_length=1024, threads=1))
    return {
        (number, at): alone(verify, verify.tokenizer.encode(text), request)
        for number, request in enumerate(REQUESTS)
        for at, text in enumerate(TEXTS)
    }


def alone(verify: LoadedModel, prompt: tuple[int, ...], request: dict[str, Any]) -> list[int]:
    bias = tuple(request.get("logit_bias", {}).items())
    params = GenerationParams(**{**request, "logit_bias": bias, "ignore_eos": True})
    output: list[int] = []
    fed, start = prompt, 0
    for _ in range(NEW_TOKENS):
        block = Block("s", 0, start, fed, 1, params, len(prompt))
        token = verify.model.run(Step(0, (block,))).picked[0].tokens[0]
        start, fed = start + len(fed), (token,)
        output.append(token)
    return output


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(DRAFTS))
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    nodes: Any = deployment("bundled:draft")
    nodes["nodes"]["draft"] |= DRAFTS[request.param]
    async with LocalCluster(nodes) as cluster, cluster.connect() as client:
        await client.wait_for_draft()
        yield client


@pytest.mark.parametrize(("strategy", "lookahead"), [("alternating", 5), ("amusd", 16), ("amusd", 2)])
async def test_the_sample_is_the_verify_models(
    client: Client, truth: dict[tuple[int, int], list[int]], strategy: str, lookahead: int
) -> None:
    options: dict[str, Any] = {"strategy": strategy, "lookahead": lookahead, "timeout": 60, "ignore_eos": True}

    async def ask(number: int, at: int) -> GenerationResult:
        return await client.generate(TEXTS[at], max_tokens=NEW_TOKENS, **options, **REQUESTS[number])

    results = await asyncio.gather(*(ask(*key) for key in truth))
    for (key, expected), result in zip(truth.items(), results, strict=True):
        assert [token.id for token in result.tokens] == expected, (key, REQUESTS[key[0]])
    if strategy == "alternating":
        accepted = [0] * len(REQUESTS)
        for (number, _), result in zip(truth, results, strict=True):
            accepted[number] += result.stats.accepted
        assert min(accepted) > 0, accepted
