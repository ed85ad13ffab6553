"""Rule: the bundled pair's first tokens have exactly the distribution that the verify model's logits say.

16,000 answers of three tokens to one prompt, each with a seed of its own: the first is the prefill's, the second is
proposed by the draft model, the third is a bonus or comes after a rejection. Logits are those of the real models,
chosen and accepted by the real rules; what is expected is computed from the logits by plain softmax.

Power: the deviate of a chi-square statistic with f degrees of freedom grows by n * sum(d^2 / p) / sqrt(2 f) for a shift
d of the probabilities p. Here that is enough to see 60.0 % become 65.0 % in the second token alone, which the second
test plants; the published bias of 60.0 to 63.0 % is the business of `test_coupled.py`, with 120,000 draws.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest
import torch
from exactness import prompts
from torch import Tensor

from amusd_mp.core.messages import Origin
from amusd_mp.core.model import ModelSpec
from amusd_mp.core.output import Output
from amusd_mp.core.params import GenerationParams, Speculation
from amusd_mp.core.proposal import Proposal
from amusd_mp.core.step import Block, Picked, Step
from amusd_mp.core.verify_sequence import VerifySequence
from amusd_mp.engine.loading import LoadedModel, load
from amusd_mp.engine.sampling import choose
from amusd_mp.engine.wanted import Wanted
from amusd_mp.testing.stub import StubDetokenizer

DRAWS, TOGETHER = 16_000, 1000
TEMPERATURE, TOP_K = 0.9, 6
ALARM = 5.0
"""Standard normal deviate beyond which a distribution counts as wrong: by chance once in three million tests."""

Cells = dict[tuple[int, ...], Counter[int]]
"""How often each token followed each beginning of an answer."""


class Side:
    """One of the pair: its logits after the prompt and any beginning of an answer, computed once each."""

    def __init__(self, name: str, prompt: str) -> None:
        self.loaded: LoadedModel = load(ModelSpec(f"bundled:{name}", dtype="float32", max_sequences=1, threads=1))
        self.prompt = self.loaded.tokenizer.encode(prompt)
        self.size = self.loaded.model.card.fingerprint.vocabulary
        self._known: dict[tuple[int, ...], Tensor] = {}

    def logits(self, begun: tuple[int, ...]) -> Tensor:
        if begun not in self._known:
            ids, params = (*self.prompt, *begun), GenerationParams()
            start = len(self.prompt) - 1 if self._known else 0  # the prompt stays in the cache
            step = Step(0, (Block("s", 0, start, ids[start:], 1, params, len(self.prompt)),))
            self._known[begun] = self.loaded.model.score(step)[0, : self.size].clone()
        return self._known[begun]

    def choose(self, asked: Sequence[tuple[VerifySequence, tuple[int, ...]]]) -> list[Picked]:
        """Choose after every sequence's output and each of the tokens proposed for it."""
        rows, wanted = [], []
        for sequence, path in asked:
            begun = tuple(sequence.ids[sequence.prompt_length :])
            rows += [self.logits(begun + path[:at]) for at in range(len(path) + 1)]
            fed = (sequence.ids[-1], *path)
            block = Block("s", 0, sequence.length - 1, fed, len(fed), sequence.params, sequence.prompt_length)
            wanted.append(Wanted(block, sequence.ids))
        return choose(torch.stack(rows), wanted, self.size)


@pytest.fixture(scope="module")
def sides() -> tuple[Side, Side]:
    text = prompts(1)[0]
    return Side("verify", text), Side("draft", text)


def draw(verify: Side, draft: Side, seeds: Sequence[int]) -> list[VerifySequence]:
    """Write three tokens for every seed: prefill, then proposals as far as `usable` allows, and the real settling."""
    live = []
    for seed in seeds:
        params = GenerationParams(temperature=TEMPERATURE, top_k=TOP_K, seed=seed, max_tokens=3)
        output = Output(params, StubDetokenizer(), (), 3)
        ids = list(verify.prompt)
        live.append(VerifySequence("s", "c", params, Speculation(), ids, len(ids), 1024, output, opened=0.0))
    done = live
    for one, picked in zip(live, verify.choose([(one, ()) for one in live]), strict=True):
        one.commit(Proposal(), picked)
    while live:
        guesses = draft.choose([(one, ()) for one in live])
        paths = [guess.tokens[: one.usable()] for one, guess in zip(live, guesses, strict=True)]
        for one, path, picked in zip(live, paths, verify.choose(list(zip(live, paths, strict=True))), strict=True):
            one.commit(Proposal(tokens=path), picked)
        live = [one for one in live if one.outputs < 3]
    return done


def expected(side: Side, begun: tuple[int, ...]) -> dict[int, float]:
    """Return the processed distribution after a beginning, in float64: the best TOP_K, at the temperature."""
    best = side.logits(begun).double().topk(TOP_K)
    return dict(zip(best.indices.tolist(), (best.values / TEMPERATURE).softmax(-1).tolist(), strict=True))


def deviate(cells: Cells, side: Side) -> float:
    """Return the chi-square statistic over all beginnings as a standard normal deviate (Wilson and Hilferty, 1931).

    Entries of which fewer than five are expected count as one.
    """
    total, freedom = 0.0, 0
    for begun, counts in cells.items():
        n, bins, rest = sum(counts.values()), [], [0.0, 0.0]
        chances = expected(side, begun)
        assert counts.keys() <= chances.keys(), "an entry that the filter excludes"
        for token, p in chances.items():
            if n * p >= 5:
                bins.append((counts[token], n * p))
            else:
                rest = [rest[0] + counts[token], rest[1] + n * p]
        if rest[1] >= 5:
            bins.append((int(rest[0]), rest[1]))
        elif rest[1] and bins:
            bins[-1] = (int(bins[-1][0] + rest[0]), bins[-1][1] + rest[1])
        total += sum((seen - want) ** 2 / want for seen, want in bins)
        freedom += max(0, len(bins) - 1)
    assert freedom > 1
    return ((total / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))


@pytest.fixture(scope="module")
def drawn(sides: tuple[Side, Side]) -> list[VerifySequence]:
    seeds = [at * 0x9E3779B97F4A7C15 % 2**64 for at in range(DRAWS)]
    return [one for at in range(0, DRAWS, TOGETHER) for one in draw(*sides, seeds[at : at + TOGETHER])]


def counted(drawn: Sequence[VerifySequence]) -> list[Cells]:
    """Return, for each of the three positions, what followed which beginning."""
    tables: list[Cells] = [defaultdict(Counter) for _ in range(3)]
    for one in drawn:
        output = tuple(one.ids[one.prompt_length :])
        for at, cells in enumerate(tables):
            cells[output[:at]][output[at]] += 1
    return tables


def test_first_second_and_third_tokens_have_the_processed_distribution(
    sides: tuple[Side, Side], drawn: list[VerifySequence]
) -> None:
    assert sum(len(one.ids) - one.prompt_length for one in drawn) == 3 * DRAWS
    origins = Counter(one.origins[1] for one in drawn)
    assert min(origins[Origin.ACCEPTED], origins[Origin.RECOVERED]) > DRAWS // 10, "neither trivial agreement nor none"
    assert origins.keys() == {Origin.ACCEPTED, Origin.RECOVERED}
    deviates = [deviate(cells, sides[0]) for cells in counted(drawn)]
    assert max(deviates) < ALARM, deviates


def test_the_same_test_sees_a_shift_of_five_points_in_sixty(
    sides: tuple[Side, Side], drawn: list[VerifySequence]
) -> None:
    second = counted(drawn)[1]
    biased: Cells = {}
    for begun, counts in second.items():
        n, chances = sum(counts.values()), expected(sides[0], begun)
        top = max(chances, key=lambda token: chances[token])
        gain = min(5 / 60 * chances[top], 1 - chances[top])
        share = {token: p * (1 - gain / (1 - chances[top])) for token, p in chances.items()}
        share[top] = chances[top] + gain
        biased[begun] = Counter({token: round(n * p) for token, p in share.items()})
    assert deviate(biased, sides[0]) > ALARM


def test_the_drafts_own_tokens_would_not_pass(sides: tuple[Side, Side]) -> None:
    verify, draft = sides
    cells: Cells = defaultdict(Counter)
    for at in range(2000):
        params = GenerationParams(temperature=TEMPERATURE, top_k=TOP_K, seed=at)
        want = Wanted(Block("s", 0, len(verify.prompt) - 1, verify.prompt[-1:], 1, params, len(verify.prompt)), ())
        cells[()][choose(draft.logits(())[None], [want], draft.size)[0].tokens[0]] += 1
    chances = expected(verify, ())
    kept = {(): Counter({token: n for token, n in cells[()].items() if token in chances})}
    assert deviate(kept, verify) > ALARM
