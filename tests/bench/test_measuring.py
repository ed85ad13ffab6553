"""Rule: every contender answers every prompt in every repeat, each time another one first, some at once if asked."""

from __future__ import annotations

import asyncio

from amusd_mp.bench.measuring import Measurement, Work, spaced
from amusd_mp.bench.prompts import BenchPrompt
from amusd_mp.bench.records import Answer, Turn

PROMPTS = [BenchPrompt(name, (name,)) for name in "pqrst"]


class Scribe:
    """A contender that answers at once and writes down when."""

    def __init__(self, label: str, book: list[tuple[str, str, int]]) -> None:
        self.label = label
        self._book = book
        self.running = 0
        self.most = 0

    async def answer(self, prompt: BenchPrompt, repeat: int) -> Answer:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        self._book.append((self.label, prompt.id, repeat))
        return Answer(self.label, prompt.id, "", repeat, (Turn("", (1,), 1, 1.0, 0.5),))


async def test_the_order_rotates_and_everything_is_paired() -> None:
    book: list[tuple[str, str, int]] = []
    primed: list[str] = []

    async def prime(prompt: BenchPrompt) -> None:
        primed.append(prompt.id)

    measurement = Measurement([Scribe("a", book), Scribe("b", book)], PROMPTS[:2], 2, prime=prime)
    assert measurement.total == 8
    await measurement.run()
    assert [label for label, _, _ in book] == ["a", "b", "b", "a", "b", "a", "a", "b"]
    assert primed == ["p", "q", "p", "q"]
    for given in measurement.answers.values():
        assert [(each.prompt, each.repeat) for each in given] == [("p", 0), ("q", 0), ("p", 1), ("q", 1)]
    assert [len(walls) for walls in measurement.walls.values()] == [4, 4]


async def test_what_the_device_does_in_a_contenders_blocks_is_added_up() -> None:
    book: list[tuple[str, str, int]] = []

    async def meter() -> Work:
        return Work(10 * len(book), sum(0.5 if label == "a" else 2.0 for label, _, _ in book))

    async def prime(prompt: BenchPrompt) -> None:
        book.append(("primed", prompt.id, 0))

    scribes = [Scribe("a", book), Scribe("b", book)]
    measurement = Measurement(scribes, PROMPTS[:2], 2, prime=prime, meter=meter)
    await measurement.run()
    assert measurement.work == {"a": Work(40, 2.0), "b": Work(40, 8.0)}


async def test_several_prompts_at_once_are_one_block() -> None:
    book: list[tuple[str, str, int]] = []
    scribe = Scribe("a", book)
    measurement = Measurement([scribe], PROMPTS, 1, concurrency=3)
    await measurement.run()
    assert scribe.most == 3
    assert [each.prompt for each in measurement.answers["a"]] == list("pqrst")
    assert len(measurement.walls["a"]) == 1


def test_some_prompts_come_from_all_over_the_list() -> None:
    assert [each.id for each in spaced(PROMPTS, 2)] == ["p", "r"]
    assert spaced(PROMPTS, 9) == PROMPTS
