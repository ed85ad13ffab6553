"""Rule: a million hostile messages end no process, let no exception escape, cost no memory and change no text.

Run by `make soak`, not by `make test`: it takes minutes. `AMUSD_MP_FUZZ` is how many messages (hardly 1 % of them are
dropped again: orders that would be obeyed), `AMUSD_MP_SEED` the seed; a failing batch is kept in a file, which
`AMUSD_MP_REPLAY=lane:FILE` sends again. Figures: docs/soak.md.
"""

from __future__ import annotations

import os
import time

from besieged import Siege

MESSAGES = int(os.environ.get("AMUSD_MP_FUZZ", "1010000"))
SEED = int(os.environ.get("AMUSD_MP_SEED", "1"))
SHARES = {"requests": 0.32, "windows": 0.3, "publications": 0.3, "subscriptions": 0.08}
ROUNDS = 20
GROWN = 64.0
"""MiB that a process may hold more at the end than after the first twentieth."""


async def test_a_million_hostile_messages() -> None:
    began = time.monotonic()
    async with Siege(SEED) as siege:
        if replay := os.environ.get("AMUSD_MP_REPLAY"):
            lane, _, file = replay.partition(":")
            await siege.replay(lane, file)
            return
        counts = {lane: int(MESSAGES * share) for lane, share in SHARES.items()}
        await siege.storm({lane: count // ROUNDS for lane, count in counts.items()})
        before = siege.memory()
        await siege.storm({lane: count - count // ROUNDS for lane, count in counts.items()}, ROUNDS)
        after, counted = siege.memory(), await siege.counters()
    lines = [
        f"seed {SEED}: {sum(siege.sent.values())} hostile messages in {time.monotonic() - began:.0f} s",
        "  sent: " + ", ".join(f"{count} {lane}" for lane, count in siege.sent.items()),
        f"  requests answered: {siege.answers['requests.answers']} of {siege.answers['requests.framed']} well framed,"
        f" {siege.answers['requests.refusals']} with a refusal",
        "  counted by the verify node: " + ", ".join(f"{count} {what}" for what, count in counted.items() if count),
        "  memory, MiB: " + ", ".join(f"{who} {before[who]:.0f} -> {after[who]:.0f}" for who in before),
        f"  texts read meanwhile: {siege.texts}, all exact ({siege.ties} near-ties excused);"
        f" {siege.interrupted} ended by a typed error",
    ]
    print("\n" + "\n".join(lines))  # noqa: T201  # the figures are what this file is run for
    assert siege.interrupted <= siege.texts / 20
    assert all(after[who] <= before[who] + GROWN for who in before), (before, after)
