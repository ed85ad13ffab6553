"""Rule: a verify process that is killed and started again by its launcher goes on with a response that asked for it."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from exactness import deployment

from amusd_mp import Client, GenerationResult, LocalCluster
from amusd_mp.core.messages import Finish

DEADLINE = 60.0
PROMPT = "def fibonacci(n):\n"
TOKENS, KILLED_AFTER = 400, 20
SAMPLED: dict[str, Any] = {
    "max_tokens": TOKENS, "ignore_eos": True, "temperature": 0.8, "top_p": 0.95, "seed": 11, "logprobs": 2,
    "repetition_penalty": 1.1, "frequency_penalty": 0.2, "presence_penalty": 0.1,
}  # fmt: skip


async def killed_on_the_way(cluster: LocalCluster, client: Client) -> GenerationResult:
    """Return a response in whose middle the verify process is killed."""
    text, pid = "", cluster.nodes["verify"].pid
    async with client.stream(PROMPT, resubmit=DEADLINE, **SAMPLED) as stream:
        told = 0
        async for chunk in stream:
            text += chunk.text
            told += len(chunk.tokens)
            if told >= KILLED_AFTER and pid:
                os.kill(pid, signal.SIGKILL)
                pid = 0
        result = await stream.result()
    assert text == result.text
    return result


@pytest.mark.slow
async def test_a_killed_verify_process_goes_on_where_it_was_and_its_draft_joins_it_again() -> None:
    made = deployment("bundled:draft")
    for node in made["nodes"].values():
        node["restart"] = "on-failure"
    async with LocalCluster(made) as cluster, cluster.connect() as client:
        await client.wait_for_draft(DEADLINE)
        whole = await client.generate(PROMPT, **SAMPLED)
        result = await killed_on_the_way(cluster, client)
        assert result.resubmissions == 1
        assert (result.token_ids, result.text) == (whole.token_ids, whole.text)
        assert [token.text for token in result.tokens] == [token.text for token in whole.tokens]
        assert len(result.tokens) == result.stats.output_tokens == TOKENS
        assert result.finish_reason is Finish.LENGTH
        for mine, theirs in zip(result.tokens, whole.tokens, strict=True):
            assert mine.logprob is not None
            assert theirs.logprob is not None
            assert mine.logprob.logprob == pytest.approx(theirs.logprob.logprob, abs=1e-3)
        status = await client.wait_for_draft(DEADLINE)
        assert [draft.node for draft in status.drafts] == ["draft"]
