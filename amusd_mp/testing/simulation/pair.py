"""What would this pair of models do at that delay? The real nodes in virtual time, with nothing else to pay for.

    simulate_pair(verify_ms=24, draft_ms=6, acceptance=0.8, delay_ms=5).ms_per_token

Only devices and messages cost time, so with `delay_ms=0` the answer is the bound of a schedule: what it would reach if
messages, event loops and everything else that is not a forward pass were free. Acceptance is independent from token to
token, which no real draft's is; so compare schedules with it, and measure to know a pair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from amusd_mp.client.results import GenerationResult
from amusd_mp.core.params import Speculation, Strategy
from amusd_mp.testing.cluster import InProcessCluster, deployment
from amusd_mp.testing.simulation.loop import run
from amusd_mp.testing.simulation.model import Recorded, SimulatedModel, StepCost, Tokens
from amusd_mp.testing.simulation.network import Network, Weather
from amusd_mp.testing.simulation.surroundings import VirtualRuntime
from amusd_mp.testing.stub import Stub

PROMPT: Final = tuple(range(100, 108))
WARM_UP: Final = 128
"""Tokens generated before anything is counted: the verify node measures step costs and acceptance as it goes."""


@dataclass(frozen=True, slots=True)
class PairResult:
    """How a pair did. Times in milliseconds of virtual time.

    ms_per_token:           of one sequence, from its first token to its last; over all sequences' tokens
    tokens_per_second:      of all sequences together
    overlap:                share of the time in which both devices computed
    steps:                  verify steps with proposals, per sequence
    mean_acceptance_length: tokens per such step
    """

    strategy: Strategy
    lookahead: int
    ms_per_token: float
    tokens_per_second: float
    overlap: float
    steps: float
    mean_acceptance_length: float


def simulate_pair(
    *,
    verify_ms: float,
    draft_ms: float,
    acceptance: float,
    verify_ms_per_token: float = 0.0,
    draft_ms_per_token: float = 0.0,
    delay_ms: float = 0.0,
    sequences: int = 1,
    drafts: int = 1,
    strategy: Strategy | str = Strategy.AMUSD,
    lookahead: int = 16,
    tokens: int = 512,
    seed: int = 1,
    agreement: Sequence[Sequence[int]] = (),
    second: float = 0.0,
    devices: tuple[str, str] = ("simulated", "simulated"),
) -> PairResult:
    """Run a pair in virtual time and return how it did; blocks, and may not be called from a running event loop.

    A verify step takes `verify_ms`, and `verify_ms_per_token` more for each proposal it scores (of the longest row); a
    draft step `draft_ms`. A proposal is accepted with probability `acceptance`. Every message takes `delay_ms` one way.
    Under `alternating`, `lookahead` is k. Where a guess is wrong, the draft's runner-up is right with probability
    `second`. With `agreement`, what a real draft guessed of real responses (`[response][token]`: 1 right, 2 with its
    runner-up, 0 wrong), those responses are what is generated, one after the other, and `acceptance`, `second`,
    `tokens` and `sequences` do not count. `devices` are what verify and draft node call theirs: two of "cpu" behave as
    if they shared memory, though here nothing becomes slower. Takes some tenths of a real second per 1000 tokens.
    """
    truth = Tokens(seed)
    guess = Tokens(seed, acceptance, dice=seed, second=second)
    if agreement:
        sequences, guess = 1, Recorded(seed, guessed=agreement, head=len(PROMPT) + 1)
    verify_cost = StepCost(verify_ms / 1e3, verify_ms_per_token / 1e3)
    draft_cost = StepCost(draft_ms / 1e3, draft_ms_per_token / 1e3)
    speculation = Speculation(Strategy(strategy), lookahead)
    models = {
        "truth": lambda: Stub.of(SimulatedModel(truth, verify_cost, sequences, device=devices[0])),
        "guess": lambda: Stub.of(SimulatedModel(guess, draft_cost, sequences, device=devices[1])),
    }
    nodes = deployment("truth", ["guess"] * drafts, url="inproc://pair", speculation=speculation)
    network = Network(f"{seed} network", Weather(delay=(delay_ms / 1e3, delay_ms / 1e3)))

    async def measure() -> list[GenerationResult]:
        async with (
            InProcessCluster(nodes, models, runtime=VirtualRuntime(f"{seed} nodes")) as cluster,
            cluster.connect() as client,
        ):
            if drafts:
                await client.wait_for_draft()
            if agreement:
                return [
                    await client.generate((*PROMPT, number), max_tokens=len(recorded))
                    for number, recorded in enumerate(agreement)
                ]
            out: list[GenerationResult] = []
            for length in (WARM_UP, tokens):
                prompts = [(*PROMPT, length, number) for number in range(sequences)]
                out = list(await asyncio.gather(*(client.generate(p, max_tokens=length) for p in prompts)))
            return out

    with network.open(), network.being("pair"):
        results = run(measure())
    return _summary(speculation, results, together=not agreement)


def _summary(speculation: Speculation, results: list[GenerationResult], together: bool) -> PairResult:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    decoding = [result.seconds - result.time_to_first_token for result in results]
    steps = [result.stats.steps for result in results]
    return PairResult(
        strategy=speculation.strategy,
        lookahead=speculation.lookahead,
        ms_per_token=1e3 * sum(decoding) / max(1, sum(len(r.tokens) - 1 for r in results)),
        tokens_per_second=sum(len(r.tokens) - 1 for r in results) / (max(decoding) if together else sum(decoding)),
        overlap=mean([result.stats.overlap for result in results]),
        steps=mean([float(each) for each in steps]),
        mean_acceptance_length=1 + sum(r.stats.accepted for r in results) / max(1, sum(steps)),
    )
