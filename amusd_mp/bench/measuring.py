"""The measurement: every contender on the same prompts, in turn, so that whatever disturbs one disturbs all.

A *block* is what one contender does before the next has its turn: one prompt, computed before all of them, or all
prompts, which each contender then computes itself. In every repeat each block is done by each contender, beginning with
another one each time. Knows no process and no file.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from amusd_mp.bench.prompts import BenchPrompt
from amusd_mp.bench.records import Answer
from amusd_mp.bench.writers import Writer
from amusd_mp.tasks import task_group

OnAnswer = Callable[[Answer], object]
Prime = Callable[[BenchPrompt], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Work:
    """What the verify node's device has done: steps, and the seconds that they took."""

    steps: int = 0
    seconds: float = 0.0

    def since(self, before: Work) -> Work:
        """Return what was done after `before`."""
        return Work(self.steps - before.steps, self.seconds - before.seconds)

    def __add__(self, other: Work) -> Work:
        return Work(self.steps + other.steps, self.seconds + other.seconds)


Meter = Callable[[], Awaitable[Work]]


@dataclass(slots=True)
class Measurement:
    """Answers and block times (seconds) by contender, in the same order of repeats and prompts for each; its `work`.

    concurrency:  prompts answered at once
    prime:        called before a prompt's first answer of a repeat, so that nobody alone pays for its prefill; None: a
                  block is all prompts
    meter:        read before and after each block, outside of its time
    """

    writers: Sequence[Writer]
    prompts: Sequence[BenchPrompt]
    repeats: int
    concurrency: int = 1
    prime: Prime | None = None
    meter: Meter | None = None
    on_answer: OnAnswer = lambda answer: None
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    walls: dict[str, list[float]] = field(default_factory=dict)
    work: dict[str, Work] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Answers there will be."""
        return len(self.writers) * len(self.prompts) * self.repeats

    async def run(self) -> None:
        """Measure. Raises what a writer raises."""
        blocks = [list(self.prompts)] if self.prime is None else [[prompt] for prompt in self.prompts]
        self.answers = {writer.label: [] for writer in self.writers}
        self.walls = {writer.label: [] for writer in self.writers}
        self.work = {writer.label: Work() for writer in self.writers}
        for repeat in range(self.repeats):
            for number, block in enumerate(blocks):
                if self.prime is not None:
                    await self.prime(block[0])
                first = (repeat + number) % len(self.writers)
                for writer in (*self.writers[first:], *self.writers[:first]):
                    before = await self._done()
                    began = time.perf_counter()
                    self.answers[writer.label] += await self._block(writer, block, repeat)
                    self.walls[writer.label].append(time.perf_counter() - began)
                    self.work[writer.label] += (await self._done()).since(before)

    async def _done(self) -> Work:
        return Work() if self.meter is None else await self.meter()

    async def _block(self, writer: Writer, block: Sequence[BenchPrompt], repeat: int) -> list[Answer]:
        """Answer a block's prompts, `concurrency` at a time, and return the answers in the order of the prompts."""
        waiting = list(reversed(list(enumerate(block))))
        done: dict[int, Answer] = {}

        async def work() -> None:
            while waiting:
                at, prompt = waiting.pop()
                done[at] = await writer.answer(prompt, repeat)
                self.on_answer(done[at])

        async with task_group() as tasks:
            for number in range(min(self.concurrency, len(block))):
                tasks.create_task(work(), name=f"{writer.label} {number}")
        return [done[at] for at in range(len(block))]


def spaced(prompts: Sequence[BenchPrompt], count: int) -> list[BenchPrompt]:
    """Return `count` prompts from all over the list, all of them if there are no more."""
    step = max(1.0, len(prompts) / count)
    return [prompts[int(at * step)] for at in range(min(count, len(prompts)))]
