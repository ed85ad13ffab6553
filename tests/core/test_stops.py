"""Rule: output, finish reason and every count are those of decoding one token at a time, wherever a text stops.

1,000 random requests go through the real front desk and core, with drafts that guess well, badly, late and twice, and
clients that miss publications. The reference is slow and obvious: after every token it looks at the whole text again,
and it recounts the steps that were run against the output it found.
"""

from __future__ import annotations

import codecs
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest
from writer import Writer

from amusd_mp.core.messages import Committed, Draft, Finish, Opened, Origin, Submit, Sync, Window
from amusd_mp.core.params import GenerationParams, Speculation, Strategy
from amusd_mp.core.replica import Replica
from amusd_mp.core.step import Block, Picked, Step, TokenLogprob
from amusd_mp.core.verify import VerifyCore
from amusd_mp.core.verify_sequence import VerifySequence
from amusd_mp.desk import Desk
from amusd_mp.runtime import Runtime
from amusd_mp.testing.stub import StubModel, agreeing_rule, hash_rule

T = TypeVar("T")

PIECES = (
    b"a", b"b", b"ab", b"bca", b"c", b"", b"c a", "é".encode()[:1], "é".encode()[1:],
    "漢".encode()[:1], "漢".encode()[1:2], "漢".encode()[2:], "👍".encode()[:2], "👍".encode()[2:], "漢字".encode(),
)  # fmt: skip
"""What each id writes: letters that stop strings share, nothing at all, and parts of characters."""

STOPS = ("ab", "bc", "ca", "abab", "c a", "aa", "é", "漢", "a漢", "\ufffd", "字a", "bcabca")
VOCABULARY = len(PIECES)
TRUTH = hash_rule(VOCABULARY, salt=5)
CONTEXT = 60
CASES, AT_ONCE = 1000, 4


class Tokens:
    """Prompts here are ids already."""

    def encode(self, text: str) -> tuple[int, ...]:
        raise AssertionError(text)

    def encode_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        raise AssertionError(messages)

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(PIECES[token] for token in ids).decode("utf-8", "replace")

    def detokenizer(self, prompt: Sequence[int]) -> Writer:
        return Writer(PIECES)


class Telling(StubModel):
    """A stub that has an opinion of every token it picks, from what stands before it."""

    def _feed(self, block: Block, runners_up: int) -> Picked:
        picked = super()._feed(block, runners_up)
        if block.params.logprobs is None:
            return picked
        lines = [block.line(at) for at in range(len(block.tokens) - block.picks, len(block.tokens))]
        told = (opinion(block.start + len(line), own) for line, own in zip(lines, picked.tokens, strict=True))
        return replace(picked, logprobs=tuple(told))


def opinion(position: int, token: int) -> TokenLogprob:
    return TokenLogprob(-position - token / 100, ((token, -position / 2),))


class Virtual(Runtime):
    """Time that moves when told, and work that is done at once."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def executor(self, name: str) -> Virtual:
        return self

    async def run(self, call: Callable[[], T]) -> T:
        return call()

    def close(self) -> None:
        pass


@dataclass
class Case:
    """One request, what was computed for it, and what its client heard."""

    submit: Submit
    replica: Replica
    steps: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)  # first output index, proposals

    @property
    def prompt(self) -> list[int]:
        return list(self.submit.ids or ())


class Bench:
    """A desk and a core with a model of rules, two drafts of different skill, and lines that lose every fourth word."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.runtime = Virtual()
        self.model = Telling(TRUTH, AT_ONCE, VOCABULARY, CONTEXT)
        eos = self.dice.choice([(), (3,), (0, 4)])
        card = replace(self.model.card, eos_ids=eos)
        self.core = VerifyCore(AT_ONCE, VOCABULARY)
        self.desk = Desk(
            self.core, card, Tokens(), self.runtime,
            speculation=Speculation(), publish=self.publish, on_work=lambda: None,
        )  # fmt: skip
        self.eos = eos
        self.cases: dict[str, Case] = {}
        self.guesses = {name: agreeing_rule(TRUTH, share, VOCABULARY) for name, share in (("good", 0.9), ("bad", 0.3))}
        self.number = 0
        for name in self.guesses:
            self.core.join_draft(name)

    async def admit(self, name: str) -> None:
        dice = self.dice
        most = dice.choice([None, 1, 2, 7, 30, 100])
        params = GenerationParams(
            max_tokens=most,
            min_tokens=min(dice.choice([0, 0, 0, 1, 3, 12]), 100 if most is None else most),
            stop=tuple(dice.sample(STOPS, dice.choice([0, 0, 1, 1, 3]))),
            stop_token_ids=tuple(dice.sample(range(VOCABULARY), dice.choice([0, 0, 1]))),
            ignore_eos=dice.random() < 0.5,
            logprobs=dice.choice([None, 1]),
        )
        prompt = tuple(dice.randrange(VOCABULARY) for _ in range(dice.choice([1, 2, 9, 40, CONTEXT - 1])))
        speculation = Speculation(dice.choice(list(Strategy)), dice.choice([1, 4, 16]))
        submit = Submit(name, "v", "c", params, ids=prompt, speculation=speculation)
        self.cases[name] = Case(submit, Replica(len(prompt), offset=len(prompt)))
        await self.desk.submit(submit)

    def publish(self, sequence: VerifySequence, message: Opened | Committed) -> None:
        if isinstance(message, Committed) and self.dice.random() < 0.75:
            self.cases[sequence.name].replica.merge(message)

    def propose(self) -> None:
        """Let a draft send a window: on the newest or an older state, as long as it likes."""
        if not self.core.live or self.dice.random() < 0.3:
            return
        sequence = self.dice.choice(list(self.core.live.values()))
        name = self.dice.choice(list(self.guesses))
        base = self.dice.randint(max(sequence.prompt_length, sequence.length - 3), sequence.length)
        known, tokens = sequence.ids[:base], []
        for _ in range(self.dice.randint(1, 20)):
            tokens.append(self.guesses[name]([*known, *tokens]))
        self.number += 1
        window = Window(sequence.name, sequence.version, base, tuple(tokens), drafted=self.number)
        self.core.propose(name, self.number, Draft("v", (window,), 0.001, self.runtime.time), self.runtime.time)

    def run(self) -> None:
        """Compute until nothing is left to do."""
        while self.core.live:
            self.propose()
            step = self.core.plan(self.runtime.time)
            if step is None:
                self.runtime.time = self.core.wake_at or self.runtime.time + 0.001
                continue
            self.note(step)
            self.propose()
            result = self.model.run(step)
            self.runtime.time += self.dice.choice([0.001, 0.003])
            for sequence in self.core.apply(result, self.runtime.time):
                self.publish(sequence, sequence.committed())

    def note(self, step: Step) -> None:
        for block in step.blocks:
            if block.picks:
                at = len(block.tokens) - block.picks + 1
                self.cases[block.sequence].steps.append((block.start + at - block.prompt_length, block.tokens[at:]))

    def catch_up(self, case: Case) -> Replica:
        """Have the client ask for what it missed."""
        while not case.replica.complete:
            case.replica.merge(self.desk.sync(Sync(case.submit.sequence, "v", case.replica.length)))
        return case.replica


def decode(ids: Sequence[int], final: bool) -> str:
    return codecs.getincrementaldecoder("utf-8")("replace").decode(b"".join(PIECES[i] for i in ids), final)


def cut(text: str, stops: Sequence[str], protected: int) -> int | None:
    """Return where the first stop string begins that does not lie in protected text."""
    return min((at for stop in stops if (at := text.find(stop, max(0, protected - len(stop) + 1))) >= 0), default=None)


def one_by_one(case: Case, eos: Sequence[int]) -> tuple[list[int], Finish, str]:
    """Return what decoding one token at a time gives: ids, why it ends, text."""
    params, prompt = case.submit.params, case.prompt
    ends = {*params.stop_token_ids, *(() if params.ignore_eos else eos)}
    room = CONTEXT - len(prompt)
    most = room if params.max_tokens is None else min(room, params.max_tokens)
    out: list[int] = []
    protected = 0
    while True:
        out.append(TRUTH([*prompt, *out]))
        may_stop = len(out) > params.min_tokens
        ended = may_stop and out[-1] in ends
        text = decode(out[:-1], True) if ended else decode(out, len(out) == most)
        at = cut(text, params.stop, protected) if may_stop else None
        if ended or at is not None:
            return out, Finish.STOP, text[:at]
        if len(out) == most:
            return out, Finish.LENGTH, text
        if not may_stop:
            protected = len(text)


@dataclass
class Recount:
    """The counts of a response by their definitions."""

    steps: int = 0
    proposed: int = 0
    accepted: int = 0
    alone: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    origins: str = ""


def recount(case: Case, output: Sequence[int]) -> Recount:
    """Walk through the steps that were run, and judge every proposal against the output."""
    counts, total = Recount(), len(output)
    for first, path in case.steps:
        assert first == len(counts.origins), "a step decides what follows the one before"
        agreed = 0
        while agreed < len(path) and first + agreed < total and path[agreed] == output[first + agreed]:
            agreed += 1
        own = first + agreed < total  # the step's last token is the verify model's, unless the text ended before it
        counts.origins += Origin.ACCEPTED * agreed
        if own:
            counts.origins += Origin.ALONE if not path else Origin.RECOVERED if agreed < len(path) else Origin.BONUS
        if not path:
            counts.alone += 1
            continue
        ended = len(counts.origins) == total
        counts.steps += 1
        counts.proposed += min(len(path), total - first) if ended else len(path)
        counts.accepted += agreed
        counts.histogram[agreed] += 1
    return counts


@pytest.mark.parametrize("seed", range(10))
async def test_output_finish_and_counts_equal_a_slow_reference(seed: int) -> None:
    seen: Counter[str] = Counter()
    for number in range(CASES // 10 // AT_ONCE):
        bench = Bench(1000 * seed + number)
        for at in range(AT_ONCE):
            await bench.admit(f"s{at}")
        bench.run()
        for case in bench.cases.values():
            check(bench, case, seen)
    assert seen["requests"] == CASES // 10
    assert min(seen["stop"], seen["length"], seen["accepted"], seen["cut"], seen["empty"]) > 0, seen


def check(bench: Bench, case: Case, seen: Counter[str]) -> None:
    ids, finish, text = one_by_one(case, bench.eos)
    got = bench.catch_up(case)
    assert (got.tokens, got.finish, got.text) == (ids, finish, text), case.submit.params
    assert "".join(got.text_of(at) for at in range(len(ids))) == text
    expected, counts = recount(case, ids), got.counts
    assert counts is not None
    assert got.origins == expected.origins
    assert (counts.prompt_tokens, counts.output_tokens) == (len(case.prompt), len(ids))
    assert (counts.steps, counts.proposed, counts.accepted, counts.alone) == (
        expected.steps, expected.proposed, expected.accepted, expected.alone,
    )  # fmt: skip
    assert counts.histogram == tuple(expected.histogram[j] for j in range(max(expected.histogram, default=-1) + 1))
    assert counts.accepted + counts.steps + counts.alone - (got.origins[-1] == Origin.ACCEPTED) == len(ids)
    assert counts.drafted >= counts.proposed
    if case.submit.params.logprobs is not None:
        assert got.logprobs == [opinion(len(case.prompt) + at, token) for at, token in enumerate(ids)]
    seen.update({"requests": 1, finish.value: 1, "accepted": counts.accepted, "empty": not text,
                 "cut": got.origins[-1] == Origin.ACCEPTED})  # fmt: skip


@pytest.mark.parametrize("known", [1, 5])
async def test_a_resumed_text_goes_on_as_if_it_had_never_stopped(known: int) -> None:
    """What an earlier life had written counts as output, and log probabilities stay with their tokens."""
    bench = Bench(1)
    prompt = (1, 2, 3)
    params = GenerationParams(max_tokens=30, ignore_eos=True, logprobs=1, stop=("abab",))
    whole = Case(Submit("whole", "v", "c", params, ids=prompt), Replica(3, offset=3))
    ids, finish, text = one_by_one(whole, ())
    submit = Submit("s", "v", "c", params, ids=prompt, resumed=tuple(ids[:known]))
    bench.cases["s"] = Case(submit, Replica(3, offset=3))
    await bench.desk.submit(submit)
    bench.run()
    assert bench.desk.ledger.find("s").generated == len(ids) - known
    for start in range(len(ids)):
        page = bench.desk.sync(Sync("s", "v", len(prompt) + start))
        assert (page.tokens, page.finish) == (tuple(ids[start:]), finish)
        assert page.text == text[page.text_start :]
        if start >= known:
            assert page.logprobs == tuple(opinion(len(prompt) + at, ids[at]) for at in range(start, len(ids)))
