"""Both state machines as a pair, under every order, loss and duplication of their messages.

Rule under test: whatever happens between them, what is committed is what the verify model alone writes, every cache row
holds exactly the ids that were fed, and nothing is left behind.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amusd_mp.core.draft import DraftCore
from amusd_mp.core.messages import Committed, Draft, Finish, Window
from amusd_mp.core.output import Output
from amusd_mp.core.params import GenerationParams, Speculation, Strategy
from amusd_mp.core.replica import Replica
from amusd_mp.core.verify import VerifyCore
from amusd_mp.core.verify_sequence import VerifySequence
from amusd_mp.testing.stub import StubDetokenizer, StubModel, agreeing_rule, decode_alone, hash_rule

VOCABULARY = 50
TRUTH = hash_rule(VOCABULARY)


class Pair:
    """A verify core, a draft core and two unreliable lines between them, stepped one event at a time."""

    def __init__(
        self,
        dice: random.Random,
        agreement: float,
        loss: float,
        sequences: int,
        speculation: Speculation,
        roomy: bool = False,
        branches: bool = False,
    ) -> None:
        self.dice, self.loss, self.roomy = dice, loss, roomy
        self.now = 0.0
        self.verify = VerifyCore(rows=sequences, vocabulary=VOCABULARY)
        self.verify_model = StubModel(TRUTH, sequences, VOCABULARY)
        self.draft_rule = agreeing_rule(TRUTH, agreement, VOCABULARY)
        self.second = agreeing_rule(TRUTH, 0.5, VOCABULARY, salt=2) if branches else None
        self.sequences: dict[str, VerifySequence] = {}
        self.to_draft: list[Committed] = []
        self.to_verify: list[tuple[str, int, Draft]] = []
        self.client = {}
        self.lives = 0
        self.number = 0
        self.start_draft()
        for i in range(sequences):
            prompt = [dice.randrange(VOCABULARY) for _ in range(dice.choice([1, 2, 7, 40, 300]))]
            params = GenerationParams(max_tokens=dice.choice([1, 2, 5, 30]))
            name = f"s{i}"
            self.sequences[name] = VerifySequence(
                name=name, client="c", params=params, speculation=speculation, ids=list(prompt),
                prompt_length=len(prompt), max_length=10_000,
                output=Output(params, StubDetokenizer(), (), params.max_tokens or 0), opened=self.now,
            )  # fmt: skip
            self.client[name] = Replica(len(prompt), offset=len(prompt))
            self.verify.open(self.sequences[name])

    def start_draft(self) -> None:
        self.lives += 1
        self.draft_name = f"d{self.lives}"
        rows = 8 if self.roomy else self.dice.choice([1, 2, 8])
        self.draft = DraftCore(rows, max_length=10_000 if self.roomy else self.dice.choice([20, 10_000]), eos_ids=())
        self.draft_model = StubModel(self.draft_rule, rows, VOCABULARY, second=self.second)
        self.draft_result = None
        self.verify.join_draft(self.draft_name)

    def sync(self, name: str) -> None:
        """What a draft does for an unknown sequence or a gap: the request path is reliable, but answers at its time."""
        sequence = self.sequences[name]
        page = sequence.page(0)
        replica = Replica(sequence.prompt_length)
        replica.merge(page)
        if name in self.draft.sequences:
            self.draft.commit(page)
        else:
            self.draft.open(page, replica)

    # each event below is one thing that may happen next

    def verify_starts(self) -> None:
        step = self.verify.plan(self.now)
        if step is not None:
            self.verify_result = self.verify_model.run(step)

    def verify_ends(self) -> None:
        if self.verify._in_flight is None:
            return
        for sequence in self.verify.apply(self.verify_result, self.now):
            message = sequence.committed()
            self.client[sequence.name].merge(message)
            self.to_draft.append(message)

    def draft_starts(self) -> None:
        step = self.draft.plan()
        if step is not None:
            self.draft_result = self.draft_model.run(step)
        self.check_caches()

    def draft_ends(self) -> None:
        if self.draft_result is not None:
            self.send_windows([told.window() for told in self.draft.apply(self.draft_result)])
            self.draft_result = None

    def draft_beats(self) -> None:
        self.send_windows(self.draft.windows())
        for name, sequence in self.sequences.items():
            if name in self.draft.sequences and sequence.finish is not None:
                self.draft.close(name)
            elif sequence.finish is None:
                self.sync(name)

    def send_windows(self, windows: list[Window]) -> None:
        for window in windows:
            self.number += 1
            self.to_verify.append((self.draft_name, self.number, Draft("v", (window,))))

    def deliver_commit(self) -> None:
        if self.to_draft:
            message = self.take(self.to_draft)
            if message is not None and self.draft.commit(message):
                self.sync(message.sequence)

    def deliver_window(self) -> None:
        if self.to_verify:
            message = self.take(self.to_verify)
            if message is not None:
                self.verify.propose(*message, now=self.now)

    def take(self, line: list):
        """Lose, duplicate, reorder or deliver one message."""
        message = line[self.dice.randrange(len(line))]
        fate = self.dice.random()
        if fate > self.loss / 2:
            line.remove(message)
        return None if fate > 1 - self.loss / 2 else message

    def draft_restarts(self) -> None:
        if self.dice.random() < 0.02:
            self.verify.drop_draft(self.draft_name)
            self.start_draft()

    def time_passes(self) -> None:
        self.now += self.dice.random() * 0.3

    def check_caches(self) -> None:
        for core, model in ((self.draft.sequences, self.draft_model), (self.verify.live, self.verify_model)):
            for sequence in core.values():
                if sequence.row is not None:
                    held = model.cache[sequence.row][: sequence.fed]
                    assert held == sequence.ids[: sequence.fed], f"{sequence.name}: the cache holds other tokens"

    def run(self) -> None:
        events: list[Callable[[], None]] = [
            self.verify_starts, self.verify_ends, self.draft_starts, self.draft_ends, self.draft_beats,
            self.deliver_commit, self.deliver_window, self.draft_restarts, self.time_passes,
        ]  # fmt: skip
        weights = [self.dice.choice([1, 3, 10]) for _ in events]
        for _ in range(20_000):
            self.dice.choices(events, weights)[0]()
            if not self.verify.live:
                break
        assert not self.verify.live, "sequences did not end"

    def check(self) -> None:
        for name, sequence in self.sequences.items():
            assert sequence.params.max_tokens is not None
            prompt = sequence.ids[: sequence.prompt_length]
            expected = decode_alone(TRUTH, prompt, sequence.params.max_tokens)
            assert sequence.ids[sequence.prompt_length :] == expected
            assert self.client[name].tokens == expected
            assert self.client[name].text == sequence.output.text == "".join(chr(97 + t % 26) for t in expected)
            assert sequence.finish is Finish.LENGTH
            counts = sequence.counts
            assert counts is not None
            assert counts.accepted <= counts.proposed <= counts.drafted
            assert counts.output_tokens == len(expected) == counts.accepted + self.own_tokens(sequence)
            assert sum(counts.histogram) == counts.steps
            assert sum(j * n for j, n in enumerate(counts.histogram)) == counts.accepted
        assert self.verify.free_rows == len(self.sequences)

    @staticmethod
    def own_tokens(sequence: VerifySequence) -> int:
        return sum(not origin.drafted for origin in sequence.origins)


@settings(max_examples=250, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    agreement=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    loss=st.sampled_from([0.0, 0.3]),
    sequences=st.sampled_from([1, 2, 5]),
    strategy=st.sampled_from(list(Strategy)),
    lookahead=st.sampled_from([1, 4, 16]),
    branches=st.booleans(),
)
def test_any_interleaving_commits_what_the_verify_model_alone_writes(
    seed: int, agreement: float, loss: float, sequences: int, strategy: Strategy, lookahead: int, branches: bool
) -> None:
    speculation = Speculation(strategy, lookahead)
    pair = Pair(random.Random(seed), agreement, loss, sequences, speculation, branches=branches)
    pair.run()
    pair.check()


@pytest.mark.parametrize("strategy", [Strategy.ALTERNATING, Strategy.AMUSD])
def test_a_perfect_draft_is_accepted_and_a_useless_one_never(strategy: Strategy) -> None:
    for agreement in (1.0, 0.0):
        pair = Pair(random.Random(7), agreement, 0.0, 2, Speculation(strategy, 4), roomy=True)
        while pair.verify.live:
            for event in (
                pair.draft_beats, pair.draft_starts, pair.draft_ends, pair.deliver_window, pair.time_passes,
                pair.verify_starts, pair.verify_ends, pair.deliver_commit, pair.deliver_commit,
            ):  # fmt: skip
                event()
        pair.check()
        accepted = sum(s.counts.accepted for s in pair.sequences.values() if s.counts)
        proposed = sum(s.counts.proposed for s in pair.sequences.values() if s.counts)
        assert proposed > 0
        assert accepted == (proposed if agreement else 0)
