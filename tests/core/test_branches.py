"""Guesses behind runners-up: made while they are worth their time, gone on from where a commit takes their way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amusd_mp.core import draft_sequence
from amusd_mp.core.branches import AT_ONCE, BRANCHED, RUNNERS_UP
from amusd_mp.core.draft import DraftCore
from amusd_mp.core.effort import ONE_IN, PATIENCE_ROUNDS
from amusd_mp.core.limits import LOOKAHEAD_MAX, WINDOW_TREE
from amusd_mp.core.messages import Committed, Finish, Origin, SyncPage, Window
from amusd_mp.core.params import GenerationParams, Speculation, Strategy
from amusd_mp.core.proposals import ProposalStore
from amusd_mp.core.replica import Replica
from amusd_mp.core.step import PREFILL_CHUNK, Block
from amusd_mp.testing.stub import StubModel

PROMPT = (1, 2, 3)
SECOND = 100
"""The draft guesses that a token is its own position, and its runner-up so much more."""


class Bench:
    """A draft with one sequence, on a stub whose cache refuses what was not fed."""

    def __init__(
        self, lookahead: int = 2, strategy: Strategy = Strategy.AMUSD, per_token: float = 0.0, **params: float
    ) -> None:
        self.per_token = per_token
        self.model = StubModel(len, rows=2, vocabulary=1000, seconds=0.001, second=lambda ids: SECOND + len(ids))
        self.core = DraftCore(rows=2, max_length=5000, eos_ids=(0,))
        self.committed = list(PROMPT)
        page = SyncPage(
            "s", 0, 3, 3, 0, PROMPT, GenerationParams(**params), Speculation(strategy, lookahead)
        )  # fmt: skip
        replica = Replica(len(PROMPT))
        replica.merge(page)
        self.core.open(page, replica)
        self.windows: list[Window] = []

    def step(self) -> Block | None:
        """Run the next step; return what it fed, None if there was nothing to do."""
        step = self.core.plan()
        if step is None:
            return None
        fed = sum(len(block.tokens) for block in step.blocks)
        told = self.core.apply(replace(self.model.run(step), seconds=0.001 + self.per_token * fed))
        self.windows += [sequence.window() for sequence in told]
        sequence = self.core.sequences["s"]
        assert sequence.row is not None
        assert self.model.cache[sequence.row][: sequence.fed] == sequence.ids[: sequence.fed]
        return step.blocks[0]

    def rest(self) -> None:
        """Run until there is nothing to do."""
        while self.step() is not None:
            pass

    def commit(self, *tokens: int, origin: Origin = Origin.RECOVERED) -> None:
        start = len(self.committed)
        self.committed += tokens
        self.core.commit(Committed("s", start, start, tokens, len(self.committed), origin.value * len(tokens)))

    @property
    def lead(self) -> list[int]:
        return self.core.sequences["s"].ids[len(self.committed) :]


def test_a_step_guesses_behind_the_lead_and_behind_a_runner_up_at_once() -> None:
    bench = Bench()
    bench.step()
    block = bench.step()
    assert block is not None
    assert (block.start, block.tokens, block.parents, block.picks) == (3, (3, 103), (-1, -1), 2)
    assert bench.lead == [3, 4]
    window = bench.windows[-1]
    assert window.tokens == (3, 4, 103, 4, 104, 104), "the last but one stands beside the guess behind 103"
    assert window.parents == (-1, 0, -1, 2, 2, 0)
    assert [part.beside for part in bench.core.parts] == [1]
    assert bench.step() is None, "no guess beyond the lookahead"


def test_what_was_prepared_and_what_a_commit_left_are_news_to_be_told_before_resting() -> None:
    bench = Bench(lookahead=4, per_token=0.01)
    bench.core.news = False
    while not bench.core.sequences["s"].branches:
        bench.core.news = False
        assert bench.step() is not None
    assert bench.core.news, "a branch was made longer"
    bench.rest()
    bench.core.news = False
    assert bench.core.plan() is None
    assert not bench.core.news
    bench.commit(103, 4, 5)
    bench.core.sequences["s"].params = replace(bench.core.sequences["s"].params, max_tokens=4)
    assert bench.core.plan() is None, "one token is left, the verify model's own"
    assert bench.lead == [6]
    assert bench.core.news, "it builds on another commit"


def test_a_commit_that_takes_a_branch_goes_on_from_its_end_in_one_forward() -> None:
    bench = Bench()
    bench.rest()
    bench.commit(103)
    block = bench.step()
    assert block is not None
    assert (block.start, block.tokens[:2], bench.lead) == (3, (103, 4), [4, 5])
    bench.commit(4, 5, origin=Origin.ACCEPTED)
    bench.rest()
    assert bench.lead == [6, 7]


def test_what_was_committed_behind_the_runner_up_is_taken_off_the_branch() -> None:
    bench = Bench(lookahead=4)
    bench.rest()
    assert bench.core.sequences["s"].branches[3, 103].tokens == [4, 5, 6]
    bench.commit(103, 4)
    bench.core.plan()
    assert bench.lead == [5, 6]


def test_a_branch_that_the_commit_leaves_again_is_nothing() -> None:
    bench = Bench(lookahead=4)
    bench.rest()
    bench.commit(103, 50)
    block = bench.step()
    assert block is not None
    assert (block.start, block.tokens) == (3, (103, 50))
    assert bench.lead == [5]


def test_a_lead_that_was_right_keeps_the_branches_beside_what_is_left_of_it() -> None:
    bench = Bench(lookahead=4)
    bench.rest()
    before = dict(bench.core.sequences["s"].branches)
    bench.commit(3, origin=Origin.ACCEPTED)
    bench.core.plan()
    after = bench.core.sequences["s"].branches
    assert after
    assert after == {at: branch for at, branch in before.items() if at[0] > 3}


@pytest.mark.parametrize("per_token", [0.0, 0.01])
def test_where_a_token_is_dear_the_lead_comes_first_and_branches_when_it_is_full(per_token: float) -> None:
    bench = Bench(lookahead=8, per_token=per_token)
    beside: list[tuple[bool, int]] = []  # whether each step guessed behind the lead, and what it fed beside it
    while bench.step() is not None:
        beside.append((bench.core.parts[0].tip, bench.core.parts[0].beside))
    assert [tip for tip, _ in beside][:8] == [True] * 8
    early = sum(fed for tip, fed in beside if tip)
    late = sum(fed for tip, fed in beside if not tip)
    assert early > late if not per_token else early < late


def test_however_much_may_come_a_window_holds_no_more_than_a_message_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft_sequence, "LEAST_BRANCH", 0.001)
    monkeypatch.setattr(draft_sequence, "BRANCHED", most := 40)
    bench = Bench(lookahead=LOOKAHEAD_MAX)
    record = bench.core.sequences["s"].record
    for _ in range(2000):
        record.chain.judge(60, accepted=True)
        record.beside.judge(75, accepted=True)
    for accepted in (False, False, *[True] * 14):
        record.chain.judge(60, accepted)
    bench.rest()
    branches = bench.core.sequences["s"].branches.values()
    assert most - AT_ONCE < sum(len(branch.tokens) for branch in branches) <= most
    assert max(len(window.tokens) for window in bench.windows) <= 2 * (LOOKAHEAD_MAX + most), (
        "the stub tells one runner-up"
    )
    assert (1 + RUNNERS_UP) * (LOOKAHEAD_MAX + BRANCHED) <= WINDOW_TREE
    assert max(len(block.tokens) for step in bench.model.steps for block in step.blocks) <= PREFILL_CHUNK


@pytest.mark.parametrize(("strategy", "temperature"), [(Strategy.AMUSD, 1.0), (Strategy.ALTERNATING, 0.0)])
def test_nothing_is_prepared_where_no_tree_is_scored(strategy: Strategy, temperature: float) -> None:
    bench = Bench(strategy=strategy, temperature=temperature)
    bench.rest()
    assert bench.lead
    assert not bench.core.sequences["s"].prepared


def test_a_draft_that_nobody_uses_prepares_nothing_either_while_it_rests() -> None:
    bench = Bench()
    for token in range(PATIENCE_ROUNDS + 1):
        bench.commit(500 + token, origin=Origin.ALONE)
        bench.rest()
    before = bench.core.sequences["s"].prepared
    assert before, "it did while it worked"
    for token in range(ONE_IN - 2):
        bench.commit(600 + token, origin=Origin.ALONE)
        assert bench.step() is None
    assert bench.core.sequences["s"].prepared == before


def test_a_sequence_closed_during_such_a_step_leaves_only_what_its_row_still_holds() -> None:
    bench = Bench(lookahead=4)
    for _ in range(3):
        bench.step()
    step = bench.core.plan()
    assert step is not None
    assert step.blocks[0].start == 3, "it feeds the lead's beginning anew"
    result = bench.model.run(step)
    bench.core.commit(Committed("s", 9, 3, (3,), 4, Origin.RECOVERED.value, finish=Finish.STOP))
    bench.core.apply(result)
    held = bench.core._rows.free[step.blocks[0].row]
    assert list(held) == bench.model.cache[step.blocks[0].row][: len(held)]


def test_after_a_rejection_the_verify_node_holds_the_branch_already() -> None:
    bench = Bench(lookahead=4)
    bench.rest()
    store = ProposalStore()
    store.put("d", 1, bench.windows[-1], now=1.0)
    assert store.best([*PROMPT, 3], committed_at=2.0).tokens == (4, 5, 6)
    assert store.by_draft["d"].broken_at is None
    assert store.best([*PROMPT, 103], committed_at=3.0).tokens == (4, 5, 6)
    assert store.by_draft["d"].broken_at == 3.0, "the draft starts over, and is awaited like one that does"
    assert store.best([*PROMPT, 103, 4], committed_at=4.0).tokens == (5, 6)
    assert store.best([*PROMPT, 103, 50], committed_at=5.0).tokens == ()


def test_what_an_idle_step_takes_from_the_verify_model_must_be_saved_again() -> None:
    """Tokens are dear, so little is prepared but in steps without a lead to make longer."""
    free, modest, dear = [Bench(lookahead=8, per_token=0.01) for _ in range(3)]
    modest.core.toll, dear.core.toll = 0.01, 0.9
    for bench in (free, modest, dear):
        bench.rest()
    prepared = [bench.core.sequences["s"].prepared for bench in (free, modest, dear)]
    assert prepared[0] >= prepared[1] > prepared[2]
