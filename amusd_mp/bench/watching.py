"""Having prompts answered under each contender while their steps are told: for the trace, the pictures, step times.

Apart from what is measured, because telling steps costs something until the nodes have noticed that nobody watches; but
between the measured prompts, because a machine's speed changes within minutes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from amusd_mp.bench.curves import tokens_over_time
from amusd_mp.bench.perfetto import trace
from amusd_mp.bench.picture import draw
from amusd_mp.bench.prompts import BenchPrompt
from amusd_mp.bench.timeline import VERIFY, Timeline, arrange, figures, step_times
from amusd_mp.bench.writers import NodeWriter
from amusd_mp.core import limits
from amusd_mp.core.params import Strategy
from amusd_mp.errors import AmusdError
from amusd_mp.tasks import task_group

if TYPE_CHECKING:
    from amusd_mp.client.client import Client
    from amusd_mp.core.messages import StepTrace

log = logging.getLogger(__name__)

STEPS_SHOWN: Final = 14
"""Steps of the verify model alone that the picture is as long as."""

TOKENS: Final = 96
"""At most so many tokens of each contender are watched: enough for a picture and for means of step times."""

RECORDINGS: Final = 8
"""Prompts at most that are recorded in a run, spread over all of it."""

UNWATCHED: Final = 2 * limits.WATCH + limits.BEAT
"""Seconds until no node tells its steps any more: the verify node first, then drafts, which learn from its beats."""


class Recorder:
    """Keeps the timelines of some prompts under each contender. `blocks`: how many the measurement has."""

    def __init__(self, client: Client, writers: Sequence[NodeWriter], blocks: int) -> None:
        self._client = client
        self._writers = writers
        every = max(1, -(-blocks // RECORDINGS))
        self._due = set(range(every // 2, blocks, every))
        self._blocks = 0
        self._recordings: list[dict[str, Timeline]] = []

    def __repr__(self) -> str:
        return f"<Recorder {len(self._recordings)} prompts>"

    async def between(self, prompt: BenchPrompt) -> None:
        """Record a prompt that is measured next, if it is time again; what cannot be recorded is left out."""
        self._blocks += 1
        if self._blocks - 1 not in self._due:
            return
        await self._try(prompt)
        await asyncio.sleep(UNWATCHED)

    async def _try(self, prompt: BenchPrompt) -> None:
        try:
            await self.record(prompt)
        except (AmusdError, ValueError) as error:
            log.warning("prompt %s was not recorded: %s", prompt.id, error)

    async def record(self, prompt: BenchPrompt) -> None:
        """Have a prompt's first turn answered under each contender and keep what was told."""
        first = replace(prompt, turns=prompt.turns[:1])
        timelines: dict[str, Timeline] = {}
        for writer in self._writers:
            told = [step for step in await _watched(self._client, writer, first) if step.entries]
            decided = [step for step in told if step.role == VERIFY]
            if decided:
                timelines[writer.label] = arrange(told, decided[-1].entries[0].sequence)
        if timelines:
            self._recordings.append(timelines)

    async def results(self, prompt: BenchPrompt, title: str) -> tuple[dict[str, str], dict[str, Any]]:
        """Return the files of a trace and its pictures, and what they show: step times, busy shares by contender.

        Trace, pictures and shares are of the first prompt recorded, step times of all prompts: of all contenders' steps
        together, and of each one's own (`contenders`). If none was recorded, `prompt` is now.
        """
        if not self._recordings:
            await self._try(prompt)
        if not self._recordings:
            return {}, {}
        timelines = self._recordings[0]
        times = step_times([each for found in self._recordings for each in found.values()])
        labels = dict.fromkeys(label for found in self._recordings for label in found)
        own = {label: step_times([found[label] for found in self._recordings if label in found]) for label in labels}
        shown = {label: timeline for label, timeline in timelines.items() if timeline.draft}
        verify_ms = own.get(Strategy.AUTOREGRESSIVE, times)["verify_ms"]
        alone = verify_ms.get("0") or max(verify_ms.values(), default=1.0)
        files = {
            "trace.json": trace(timelines, title),
            "timeline.svg": draw(shown, title, STEPS_SHOWN * alone / 1e3),
            "tokens.svg": tokens_over_time(timelines, title),
        }
        busy = {label: figures(timeline) for label, timeline in timelines.items()}
        return files, {**times, "contenders": own, "recorded": len(self._recordings), "busy": busy}


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
