"""What the verify model alone samples for a grid of requests, and the one rule for comparing with it.

Shared by the short comparison of every test run and the long one of `make sampling`. The truth is the verify model in
this process, one sequence, one token at a time; no draft, no block and no other sequence takes part in it. Two kernels
may flip a near-tie, so a first difference is excused where the two best noisy scores lie closer than 1e-4, and counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import Any

import torch
from exactness import NEAR_TIE, Run

from amusd_mp import Client, GenerationResult
from amusd_mp.core.model import ModelSpec
from amusd_mp.core.noise import key_words
from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block, Step
from amusd_mp.engine.loading import LoadedModel, load
from amusd_mp.engine.noise import gumbel
from amusd_mp.engine.processors import adjust, narrow
from amusd_mp.engine.wanted import Wanted

TEMPERATURES = (0.3, 0.7, 1.0)
SWITCHES: tuple[dict[str, Any], ...] = (
    {"top_p": 0.9},
    {"top_k": 40},
    {"min_p": 0.03},
    {"repetition_penalty": 1.2, "presence_penalty": 0.3, "frequency_penalty": 0.2},
)
ROWS = (
    (0.3, (0, 0, 0, 0)), (0.3, (1, 1, 1, 1)),
    (0.7, (0, 0, 1, 1)), (0.7, (1, 1, 0, 0)),
    (1.0, (0, 1, 0, 1)), (1.0, (1, 0, 1, 0)),
)  # fmt: skip
"""Temperature, and which of SWITCHES are on: every pair of two settings occurs in one row at least."""


def covers(rows: Iterable[tuple[float, tuple[int, ...]]]) -> bool:
    """True if every pair of settings of two parameters occurs together in a row."""
    found = {pair for t, on in rows for pair in combinations(enumerate((t, *on)), 2)}
    domains: list[list[tuple[int, float]]] = [
        [(0, t) for t in TEMPERATURES],
        *([(at + 1, off) for off in (0, 1)] for at in range(len(SWITCHES))),
    ]
    return all(pair in found for one, other in combinations(domains, 2) for pair in product(one, other))


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of the grid: prompt and options; the seed is its own."""

    prompt: str
    options: dict[str, Any]

    @property
    def params(self) -> GenerationParams:
        return GenerationParams(**self.options)


def grid(texts: Sequence[str], new_tokens: int) -> list[Ask]:
    """Return every row of the grid for every text, each with a seed of its own, all 64 bits of it in use."""
    asks = []
    for number, (temperature, on) in enumerate(ROWS):
        options: dict[str, Any] = {"temperature": temperature, "max_tokens": new_tokens, "ignore_eos": True}
        for switch, active in zip(SWITCHES, on, strict=True):
            options |= switch if active else {}
        for at, text in enumerate(texts):
            seed = (number * len(texts) + at + 1) * 0x9E3779B97F4A7C15 % 2**64
            asks.append(Ask(text, {**options, "seed": seed}))
    return asks


class Alone:
    """The verify model by itself, in float32 or another type, one token at a time."""

    def __init__(self, dtype: str = "float32", **spec: Any) -> None:
        self._spec = ModelSpec("bundled:verify", dtype=dtype, max_sequences=1, max_length=1024, threads=1, **spec)
        self._known: dict[tuple[str, str], tuple[int, ...]] = {}

    @cached_property
    def loaded(self) -> LoadedModel:
        return load(self._spec)

    def answer(self, ask: Ask) -> tuple[int, ...]:
        """Return the output ids; an answer is computed once."""
        key = ask.prompt, repr(ask.options)
        if key not in self._known:
            self._known[key] = self.write(self.loaded.tokenizer.encode(ask.prompt), ask.params)
        return self._known[key]

    def write(self, prompt: tuple[int, ...], params: GenerationParams) -> tuple[int, ...]:
        """Return the ids that follow a prompt, `params.max_tokens` of them."""
        output: list[int] = []
        fed, start = prompt, 0
        assert params.max_tokens is not None
        for _ in range(params.max_tokens):
            block = Block("s", 0, start, fed, 1, params, len(prompt))
            token = self.loaded.model.run(Step(0, (block,))).picked[0].tokens[0]
            start, fed = start + len(fed), (token,)
            output.append(token)
        return tuple(output)

    def gap(self, ask: Ask, output: Sequence[int]) -> float:
        """Return how far the two best scores, with their noise, of the token after `output` lie apart."""
        prompt, params = self.loaded.tokenizer.encode(ask.prompt), ask.params
        want = Wanted(Block("s", 0, 0, (*prompt, *output), 1, params, len(prompt)), ())
        card = self.loaded.model.card
        scores = self.loaded.model.score(Step(0, (want.block,)))[:, : card.fingerprint.vocabulary].float().clone()
        adjust(scores, want, card.eos_ids)
        if params.temperature > 0:
            narrow(scores, params)
            ids, at = torch.arange(scores.shape[1]), torch.tensor(want.positions())
            scores = scores.double() + gumbel(ids, at, key_words(params.seed))
        best = scores.topk(2).values[0]
        return float(best[0] - best[1])

    def differs(self, ask: Ask, got: Sequence[int]) -> str | None:
        """Return None where `got` is the answer, "tie" where the first difference is a near-tie, else what is wrong."""
        expected = self.answer(ask)
        if tuple(got) == expected:
            return None
        at = next((i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), None)
        if at is None:
            return f"{ask.options}: {len(got)} tokens, not {len(expected)}, and equal as far as they go"
        gap = self.gap(ask, expected[:at])
        if gap < NEAR_TIE:
            return "tie"
        return f"{ask.prompt[:30]!r} {ask.options}: token {at} is {got[at]}, not {expected[at]} (noisy gap {gap:.2g})"


async def compare_samples(
    client: Client, alone: Alone, asks: Sequence[Ask], at_once: int, what: str, **options: Any
) -> Run:
    """Have all requests written, `at_once` at a time, and compare each with the model alone."""
    room = asyncio.Semaphore(at_once)

    async def one(ask: Ask) -> GenerationResult:
        async with room:
            return await client.generate(ask.prompt, timeout=120, **ask.options, **options)  # type: ignore[misc]

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(ask)) for ask in asks]
    seconds = time.monotonic() - began
    results = tuple(task.result() for task in running)
    found = [
        await asyncio.to_thread(alone.differs, ask, result.token_ids) for ask, result in zip(asks, results, strict=True)
    ]
    wrong = tuple(each for each in found if each is not None and each != "tie")
    return Run(what, at_once, results, found.count("tie"), wrong, seconds)
