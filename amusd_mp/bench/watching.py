"""Having one prompt answered under each contender while its steps are told, for the trace and the picture.

A pass of its own after the measurement, because telling steps costs something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from amusd_mp.bench.curves import tokens_over_time
from amusd_mp.bench.perfetto import trace
from amusd_mp.bench.picture import draw
from amusd_mp.bench.prompts import BenchPrompt
from amusd_mp.bench.timeline import Timeline, arrange, figures, step_times
from amusd_mp.bench.writers import NodeWriter
from amusd_mp.core import limits
from amusd_mp.tasks import task_group

if TYPE_CHECKING:
    from amusd_mp.client.client import Client
    from amusd_mp.core.messages import StepTrace

STEPS_SHOWN: Final = 14
"""Steps of the verify model alone that the picture is as long as."""

TOKENS: Final = 96
"""At most so many tokens of each contender are watched: enough for a picture and for medians of step times."""


async def record(
    client: Client, prompt: BenchPrompt, writers: Sequence[NodeWriter], title: str
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the files of a trace and its pictures, and what they show: step times, busy shares by contender."""
    timelines: dict[str, Timeline] = {}
    for writer in writers:
        steps = await _watched(client, writer, replace(prompt, turns=prompt.turns[:1]))
        told = [step for step in steps if step.entries]
        if told:
            timelines[writer.label] = arrange(told, told[-1].entries[0].sequence)
    if not timelines:
        return {}, {}
    times = step_times(list(timelines.values()))
    shown = {label: timeline for label, timeline in timelines.items() if timeline.draft}
    alone = times["verify_ms"].get("0") or max(times["verify_ms"].values(), default=1.0)
    files = {
        "trace.json": trace(timelines),
        "timeline.svg": draw(shown, title, STEPS_SHOWN * alone / 1e3),
        "tokens.svg": tokens_over_time(timelines, title),
    }
    return files, {**times, "busy": {label: figures(timeline) for label, timeline in timelines.items()}}


async def _watched(client: Client, writer: NodeWriter, prompt: BenchPrompt) -> list[StepTrace]:
    """Answer once while every step is told, and return the steps."""
    found: list[StepTrace] = []
    async with client.watch() as steps, task_group() as tasks:

        async def listen() -> None:
            async for step in steps:
                found.append(step)

        listening = tasks.create_task(listen(), name="records steps")
        await asyncio.sleep(2 * limits.BEAT)  # the drafts learn from a beat that somebody watches
        await writer.shortened(TOKENS).answer(prompt, 0)
        await asyncio.sleep(limits.BEAT)  # the last steps are under way
        listening.cancel()
    return found
