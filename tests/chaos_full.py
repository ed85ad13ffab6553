"""Rule: 100 random kills, stops and restarts of nodes and clients while eight clients stream change no token.

Run by `make soak`, not by `make test`: it takes minutes. Every seed is 25 events on a deployment of its own; a part of
them by `-k seed-1`. Prints what was drawn, what happened and how responses ended; docs/soak.md has a run's figures.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from chaos import Truth, arena, asks, at_rest, schedule

SEEDS, EVENTS, TOKENS = (1, 2, 3, 4), 25, 160
WARM = 3  # rounds of all requests before memory is looked at: caches and pools have their size then

GROWN, SLACK = 1.1, 16.0
"""Memory at rest, afterwards, is at most this factor and this many MiB above what it was before anything happened."""


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth(asks(TOKENS))


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_chaos(truth: Truth, seed: int) -> None:
    events = schedule(seed, EVENTS)
    began = time.monotonic()
    try:
        async with arena(truth.asks, seed) as field:
            before = await at_rest(field, WARM)
            await field.play(events)
            after = await at_rest(field, WARM)
        wrong = [found for each in field.endings if (found := await asyncio.to_thread(truth.wrong, each)) is not None]
        assert not wrong, wrong
        assert sum(field.happened.values()) == EVENTS
        assert all(after[who] <= GROWN * before[who] + SLACK for who in before), (before, after)
        assert any(each.accepted for each in field.endings)
    except BaseException:
        print(f"\nseed {seed}:\n" + "\n".join(map(str, events)))  # noqa: T201  # what happened, to do it again
        raise
    outcomes = Counter(each.outcome for each in field.endings)
    lines = [
        f"seed {seed}: {EVENTS} events in {time.monotonic() - began:.0f} s",
        "  happened: " + ", ".join(f"{count} {what}" for what, count in sorted(field.happened.items())),
        "  responses: " + ", ".join(f"{count} {what}" for what, count in outcomes.most_common()),
        f"  whole ones that went on in a next life: {sum(each.resubmissions > 0 for each in field.endings)}",
        f"  longest silence of a stream that went on or ended: {max(each.waited for each in field.endings):.1f} s",
        "  memory at rest, MiB: " + ", ".join(f"{who} {before[who]:.0f} -> {after[who]:.0f}" for who in before),
    ]
    print("\n" + "\n".join(lines))  # noqa: T201  # the figures are what this file is run for
