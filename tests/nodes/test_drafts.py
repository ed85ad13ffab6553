"""Rule: drafts may be slow, wrong, several, or another model from one moment to the next; only speed is theirs."""

from __future__ import annotations

import asyncio

import pytest
from stubs import DEADLINE, TRUTH, VOCABULARY, Cluster, Models, Slow, answer, until

from amusd_mp.core import limits
from amusd_mp.core.model import ModelCard
from amusd_mp.testing.cluster import deployment
from amusd_mp.testing.stub import Stub, StubModel, agreeing_rule

TOKENS = 60


class Slower(Slow):
    """Twenty-five verify steps per token."""

    pause = 0.05


RIGHT, WRONG = agreeing_rule(TRUTH, 1.0, VOCABULARY), agreeing_rule(TRUTH, 0.0, VOCABULARY)
MODELS: Models = {
    "truth": lambda: Stub.of(Slow(TRUTH, 4, VOCABULARY)),
    "right": lambda: Stub.of(StubModel(RIGHT, 4, VOCABULARY)),
    "wrong": lambda: Stub.of(StubModel(WRONG, 4, VOCABULARY)),
    "slow": lambda: Stub.of(Slower(RIGHT, 4, VOCABULARY)),
}


def cluster(*drafts: str, models: Models = MODELS) -> Cluster:
    return Cluster(made=deployment("truth", drafts), models=models)


@pytest.mark.parametrize("strategy", ["amusd", "alternating"])
@pytest.mark.parametrize("draft", ["wrong", "slow"])
async def test_a_wrong_or_a_slow_draft_changes_no_token(draft: str, strategy: str) -> None:
    async with cluster(draft) as nodes, nodes.client() as client:
        await client.wait_for_draft()
        result = await client.generate("hello", max_tokens=TOKENS, strategy=strategy, timeout=DEADLINE)
        assert result.token_ids == answer("hello", TOKENS)
        if draft == "wrong":
            assert result.stats.accepted == 0


async def test_of_several_drafts_the_one_that_is_right_is_used() -> None:
    async with cluster("wrong", "right", "wrong") as nodes, nodes.client() as client:
        await until(lambda: _joined(client, 3), "three drafts")
        accepted = 0
        async with asyncio.timeout(DEADLINE):
            while not accepted:
                result = await client.generate("hello", max_tokens=TOKENS, strategy="alternating")
                assert result.token_ids == answer("hello", TOKENS)
                accepted = result.stats.accepted
        await until(lambda: nodes.idle, "all nodes to have let go")


async def _joined(client, count: int) -> bool:  # type: ignore[no-untyped-def]
    return len((await client.status()).drafts) == count


@pytest.mark.parametrize("end", ["cut", "stop"])
async def test_a_draft_replaced_by_another_model_in_mid_sequence_is_used(end: str) -> None:
    lives = iter(("wrong", "right"))
    models = {"truth": MODELS["truth"], "either": lambda: MODELS[next(lives)]()}
    async with cluster("either", models=models) as nodes, nodes.client() as client:
        await client.wait_for_draft()
        ids: list[int] = []
        async with client.stream("hello", strategy="alternating") as stream, asyncio.timeout(DEADLINE):
            first = await anext(stream)
            ids += first.token_ids
            assert not any(token.origin.drafted for token in first.tokens)
            await getattr(nodes, end)("draft-0")
            await nodes.start("draft-0")
            while True:
                chunk = await anext(stream)
                ids += chunk.token_ids
                if any(token.origin.drafted for token in chunk.tokens):  # only the second model is ever right
                    break
        assert tuple(ids) == answer("hello", len(ids))
        await until(lambda: nodes.idle, "both nodes to have let go")


async def test_one_draft_too_many_waits_for_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DRAFTS", 1)
    monkeypatch.setattr("amusd_mp.nodes.draft.ASK_AGAIN", 0.5)
    async with cluster("right", "right") as nodes, nodes.client() as client:

        async def refused() -> bool:
            return dict((await client.status()).counters).get("refused_busy", 0) > 1

        await until(refused, "one of the two to be refused")
        first = (await client.wait_for_draft()).drafts
        assert len(first) == 1
        await nodes.cut(first[0].node)

        async def replaced() -> bool:
            return [each.node for each in (await client.status()).drafts] not in ([], [first[0].node])

        await until(replaced, "the other one to have the place")


async def test_a_draft_outlives_a_verify_node_that_fails_at_its_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [KeyError("a bug")] * 8

    def compare(ours: ModelCard, theirs: ModelCard) -> None:
        if left:
            raise left.pop()

    monkeypatch.setattr("amusd_mp.nodes.verify.compare", compare)
    monkeypatch.setattr("amusd_mp.nodes.draft.ASK_AGAIN", 0.2)  # so that the node itself is told of some failures
    async with cluster("right") as nodes, nodes.client() as client:
        await client.wait_for_draft()
        assert not left
