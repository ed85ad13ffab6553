"""A client that asks without a pause and tells how each response ended: as a task, or as a process to be killed.

    python streaming.py URL SEED [{"prompt": ..., "options": {...}}, ...]

prints one line of JSON per response. It loads no model library. What it was handed and what an error carries must agree
here already; whether it is the right text is for whoever has a reference to say.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import amusd_mp
from amusd_mp.errors import OperationalError

PATIENCE = 90.0
"""Seconds without a chunk, an end or an error after which a stream counts as one that will not end: a next life of the
verify node is waited for for a minute, and may be killed while it loads."""

WHOLE = "whole"
ENDLESS, CONTRADICTED, BUG = "endless", "contradicted by its error", "an error that none may have"
PAUSE = 0.05  # seconds after an error: nobody asks a node that is away more often


@dataclass(frozen=True, slots=True)
class Ending:
    """How one response ended: whole, with an error's name, or in a way that none may. `waited`: its longest silence."""

    ask: int
    outcome: str
    ids: tuple[int, ...]
    waited: float
    accepted: int = 0
    resubmissions: int = 0


async def stream_on(url: str, asks: Sequence[dict[str, Any]], seed: int, tell: Callable[[Ending], None]) -> None:
    """Ask for one of `asks` after the other, over one connection as long as it holds, until cancelled."""
    dice = random.Random(seed)
    while True:
        try:
            async with amusd_mp.connect(url, timeout=PATIENCE) as client:
                while True:
                    number = dice.randrange(len(asks))
                    ending = await read(client, number, asks[number])
                    tell(ending)
                    if ending.outcome != WHOLE:
                        await asyncio.sleep(PAUSE)
        except OperationalError as error:
            tell(Ending(-1, f"connect: {type(error).__name__}", (), 0.0))
            await asyncio.sleep(PAUSE)


async def read(client: amusd_mp.Client, number: int, ask: dict[str, Any]) -> Ending:
    """Read one response to its end, whatever that is."""
    ids: list[int] = []
    waited, since = 0.0, time.monotonic()
    try:
        async with client.stream(ask["prompt"], **ask["options"]) as stream:
            chunks = aiter(stream)
            while True:
                try:
                    async with asyncio.timeout(PATIENCE):
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    break
                except TimeoutError:
                    return Ending(number, ENDLESS, tuple(ids), PATIENCE)
                waited, since = max(waited, time.monotonic() - since), time.monotonic()
                ids += chunk.token_ids
            result = await stream.result()
    except OperationalError as error:
        carried: tuple[int, ...] = getattr(error, "token_ids", None) or tuple(ids)
        right = list(carried[: len(ids)]) == ids
        waited = max(waited, time.monotonic() - since)
        return Ending(number, type(error).__name__ if right else CONTRADICTED, carried, waited)
    except Exception as error:  # told, since a task's own end would go unseen
        return Ending(number, f"{BUG}: {error!r}", tuple(ids), waited)
    waited = max(waited, time.monotonic() - since)
    return Ending(number, WHOLE, tuple(ids), waited, result.stats.accepted, result.resubmissions)


def print_ending(ending: Ending) -> None:
    """Write an ending as a line that `json.loads` reads back."""
    print(json.dumps(asdict(ending)), flush=True)  # noqa: T201  # what this program is for


async def main(url: str, seed: str, asks: str) -> None:
    """Stream until SIGTERM, which ends everything that runs on the nodes, too."""
    streaming = asyncio.create_task(stream_on(url, json.loads(asks), int(seed), print_ending), name="streams")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, streaming.cancel)
    await asyncio.wait({streaming})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
