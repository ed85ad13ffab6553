"""Rule: hostile bytes at every socket are refused and counted; a client streams its exact text meanwhile."""

from __future__ import annotations

import pytest
from besieged import Siege

pytestmark = pytest.mark.slow

COUNTS = {"requests": 1000, "windows": 1000, "subscriptions": 500, "publications": 1000}
GROWN = 40.0
"""MiB: far below what so many messages would leave if they were kept."""


async def test_hostile_bytes_change_nothing() -> None:
    async with Siege(seed=1) as siege:
        await siege.storm(dict.fromkeys(COUNTS, 250))  # what is allocated once
        before, counted = siege.memory(), await siege.counters()
        await siege.storm(COUNTS)
        after, now = siege.memory(), await siege.counters()
        assert all(after[who] <= before[who] + GROWN for who in before), (before, after)
        grown = {what: now[what] - counted.get(what, 0) for what in now}
        assert sum(grown.values()) >= 0.9 * siege.answers["requests.refusals"]
        for what in ("malformed", "other_protocol", "unknown_type", "stranger", "useless_window", "frames"):
            assert grown[what] > 0, (what, grown)
        assert siege.texts > 0
