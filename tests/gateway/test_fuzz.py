"""Rule: whatever is sent to the gateway's port is answered in OpenAI's shape; an honest caller notices nothing."""

from __future__ import annotations

import json
from typing import Any

from honest import Honest
from rabble import Rabble
from system import resident

CALLS = 300
GROWN = 24.0
"""MiB: a tenth of what the calls' bodies would take if they were kept."""


async def test_no_bytes_make_it_fail(server: Any) -> None:
    rabble = Rabble(server.http, seed=1)
    async with Honest(server.http) as honest:
        await rabble.send(CALLS // 3)  # what is allocated once
        before = resident(server.pid)
        await rabble.send(CALLS)
        await honest.another_text()
        await honest.nothing_left()
        assert not rabble.wrong, "\n".join(rabble.wrong[:5])
        assert resident(server.pid) <= before + GROWN
    assert {"200", "400", "404", "405", "413", "415", "left", "none"} <= rabble.seen.keys(), rabble.seen
    lines = [json.loads(line) for line in server.log.read_text("utf-8").splitlines()]
    assert not [line for line in lines if line.get("level") in ("error", "critical")]
