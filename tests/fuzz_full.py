"""Rule: a million hostile messages end no process, let no exception escape, cost no memory and change no text.

Run by `make soak`, not by `make test`: it takes minutes. `AMUSD_MP_FUZZ` is how many messages (hardly 1 % of them are
dropped again: orders that would be obeyed), `AMUSD_MP_SEED` the seed; a failing batch is kept in a file, which
`AMUSD_MP_REPLAY=lane:FILE` sends again. Figures: docs/soak.md.
"""

from __future__ import annotations

import os
import time
from typing import Any

from besieged import Siege
from exactness import deployment
from honest import Honest
from rabble import Rabble
from system import resident

from amusd_mp import LocalCluster
from amusd_mp.log import Event

MESSAGES = int(os.environ.get("AMUSD_MP_FUZZ", "1010000"))
SEED = int(os.environ.get("AMUSD_MP_SEED", "1"))
SHARES = {"requests": 0.32, "windows": 0.3, "publications": 0.3, "subscriptions": 0.08}
CALLS = 0.02
"""Of the million, how many more go to a gateway's port."""

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


async def test_hostile_http() -> None:
    events: list[Event] = []
    made: dict[str, Any] = deployment("bundled:draft")
    made["nodes"]["gateway"] = {"role": "gateway", "dial": "verify", "listen": "http://127.0.0.1:0"}
    async with LocalCluster(made, on_event=events.append) as cluster:
        async with cluster.connect() as client:
            await client.wait_for_draft(60.0)
        gateway = cluster.nodes["gateway"]
        rabble, count = Rabble(str(gateway.url), SEED), int(MESSAGES * CALLS)
        async with Honest(str(gateway.url)) as honest:
            await rabble.send(count // ROUNDS)
            before = resident(gateway.pid)
            await rabble.send(count - count // ROUNDS)
            await honest.another_text()
            await honest.nothing_left()
        after = resident(gateway.pid)
        texts, memory = f"{honest.texts} texts, all exact", f"memory, MiB: {before:.0f} -> {after:.0f}"
        print(f"\nseed {SEED}: {count} calls, {rabble.seen}; {texts}; {memory}")  # noqa: T201  # the figures
        assert not rabble.wrong, "\n".join(rabble.wrong[:5])
        assert not (bad := [e for e in events if e.fatal or e.level in ("error", "critical")]), bad[:5]
        assert after <= before + GROWN
